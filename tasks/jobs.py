"""Scheduled jobs: the scheduler that finds what is due, and the tasks that do it."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import structlog
from celery.beat import PersistentScheduler

from authz.session import Database
from services import retention
from services.jobs.running import bury_dead, carry_out, forgotten
from services.jobs.scheduling import queue_due
from tasks.app import app, file_store, with_database

log = structlog.get_logger()
LOOK_EVERY = 1.0


class Scheduler(PersistentScheduler):  # type: ignore[misc]
    """Celery's own schedule, and every second the jobs of the database that are due (S1-26).

    It queues them itself, so that busy workers do not make a run late; any number of schedulers may look at once.
    """

    looked = 0.0

    def tick(self, *args: Any, **kwargs: Any) -> float:
        if time.monotonic() - self.looked >= LOOK_EVERY:
            self.looked = time.monotonic()
            try:
                with_database(lambda database: queue_due(database, datetime.now(UTC)))
            except Exception:
                # the next second may find the database again; until then nothing is lost
                log.exception("due jobs could not be queued")
        wait: float = super().tick(*args, **kwargs)
        return min(wait, LOOK_EVERY)


@app.task(name="tasks.jobs.execute", ignore_result=True)  # type: ignore[untyped-decorator]
def execute(runs: list[int]) -> None:
    """Does runs one after the other. A repeat leaves alone what has begun: a job is not begun twice (S1-26)."""
    with_database(lambda database: carry_out(database, file_store(), runs))


@app.task(name="tasks.jobs.mend", ignore_result=True)  # type: ignore[untyped-decorator]
def mend() -> None:
    """Ends runs whose worker has died, and sends again what the broker may have lost. A repeat finds nothing."""

    async def work(database: Database) -> None:
        await bury_dead(database)
        for runs in await forgotten(database, datetime.now(UTC)):
            app.send_task("tasks.jobs.execute", kwargs={"runs": runs})

    with_database(work)


@app.task(name="tasks.jobs.keep_partitions", ignore_result=True)  # type: ignore[untyped-decorator]
def keep_partitions() -> None:
    """Makes the coming partitions, and drops those past their time. A repeat finds nothing to do (S0-62)."""
    with_database(lambda database: retention.keep(database, file_store(), datetime.now(UTC)))
