"""The Celery application: what happens later. A task is acknowledged when it is done, so that a worker's death
gives it to another; every task may therefore run twice and says how it bears that."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from celery import Celery

from authz.session import Database
from services import logs
from services.files import FileStore, open_store
from services.keys import Keys
from tasks.settings import TaskSettings

logs.configure()
settings = TaskSettings()

app = Celery(
    "trellis",
    broker=settings.redis_url,
    # exports read the graph: their task stands in the server, above it
    include=[
        "server.exporting",
        "tasks.bills",
        "tasks.carrier_requests",
        "tasks.commission",
        "tasks.direct_orders",
        "tasks.identity",
        "tasks.jobs",
        "tasks.notifications",
        "tasks.orders",
        "tasks.outbox",
        "tasks.payments",
        "tasks.sim",
        "tasks.system",
        "tasks.usage",
        "tasks.webhook",
    ],
)
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_ignore_result=True,
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
    broker_transport_options={"visibility_timeout": 3 * 3600},
    task_default_queue="trellis",
    timezone="UTC",
    beat_scheduler="tasks.jobs:Scheduler",
    beat_schedule={
        "relay the outbox": {"task": "tasks.outbox.relay", "schedule": 1.0},
        "resume what a dead worker left": {"task": "tasks.system.resume", "schedule": 15.0},
        "tell of keys about to end": {"task": "tasks.identity.tell_of_expiring", "schedule": 3600.0},
        # one that nobody had time for is left out: the next does its work
        "deliver webhooks": {"task": "tasks.webhook.deliver", "schedule": 2.0, "options": {"expires": 2}},
        "keep the partitions of logs": {"task": "tasks.jobs.keep_partitions", "schedule": 24 * 3600.0},
        "mend the runs of jobs": {"task": "tasks.jobs.mend", "schedule": 15.0},
        "settle commission": {"task": "tasks.commission.settle", "schedule": 3600.0},
        "credit margins": {"task": "tasks.commission.credit", "schedule": 60.0},
        "close orders that nobody pays": {"task": "tasks.orders.expire", "schedule": 30.0},
        "ask after payments": {"task": "tasks.payments.check", "schedule": 15.0},
        "give money back": {"task": "tasks.payments.refund", "schedule": 15.0},
        "count sessions": {"task": "tasks.usage.count", "schedule": 60.0},
        "count the present": {"task": "tasks.usage.count_present", "schedule": 300.0},
        "pull usage": {"task": "tasks.usage.pull", "schedule": 3600.0},
        "make bills": {"task": "tasks.bills.run", "schedule": 3600.0},
        "tell upstreams": {"task": "tasks.direct_orders.submit", "schedule": 15.0},
        "tell carriers": {"task": "tasks.carrier_requests.submit", "schedule": 5.0, "options": {"expires": 5}},
        "show carriers who uses cards": {"task": "tasks.sim.register", "schedule": 30.0},
        "reconcile payments": {"task": "tasks.payments.reconcile", "schedule": 1800.0},
        "hand cards over to their next package": {"task": "tasks.orders.hand_over", "schedule": 15.0},
        "put changes of plan in force": {"task": "tasks.orders.change_plans", "schedule": 60.0},
        "bring prices up to date": {"task": "tasks.orders.reprice", "schedule": 60.0},
        "send notifications that are due": {"task": "tasks.notifications.sweep", "schedule": 15.0},
        "write of keys about to end": {"task": "tasks.notifications.api_keys_expiring", "schedule": 24 * 3600.0},
    },
)


def secret_keys() -> Keys:
    """The keys of the installation."""
    return Keys(settings.secret_key.get_secret_value())


def file_store() -> FileStore:
    """The file store of the installation."""
    return open_store(settings.state_dir / "files", secret_keys(), settings.files)


def run(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Runs a coroutine in a worker process."""
    asyncio.run(work())


def with_database(work: Callable[[Database], Awaitable[object]]) -> None:
    """Runs a piece of work in a worker process, with a database of its own."""

    async def whole() -> None:
        database = Database(settings.database_url, pooled=False)
        try:
            await work(database)
        finally:
            await database.close()

    run(whole)
