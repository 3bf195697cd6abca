"""The relay: events that were written with their change become tasks and webhooks, at least once and in order."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import structlog
from sqlalchemy import select

from authz.principal import system
from authz.session import Database
from models.system import OutboxEvent
from services.webhook.events import CATALOGUE, fan_out
from tasks.app import app, run, settings

CONSUMERS = {
    "sim.enter": "tasks.sim.enter",
    "export.run": "tasks.exports.run",
    "commission.credit": "tasks.commission.credit",
    "orders.recharge": "tasks.orders.recharge",
    "usage.take_in": "tasks.usage.take_in",
    "direct_orders.submit": "tasks.direct_orders.submit",
    "bills.document": "tasks.bills.document",
    "real_name.submit": "tasks.sim.register",
    "payments.refund": "tasks.payments.refund",
    "payments.reconcile": "tasks.payments.reconcile",
    "job.run": "tasks.jobs.execute",
    "notification.send": "tasks.notifications.send",
    "task.finished": "tasks.notifications.task_finished",
    "webhook.disabled": "tasks.notifications.webhook_disabled",
    "account.password_reset": "tasks.notifications.password_reset",
    "end_user.verification_code": "tasks.notifications.verification_code",
}
KNOWN = frozenset(CONSUMERS) | frozenset(CATALOGUE)
BATCH = 200

log = structlog.get_logger()


@app.task(name="tasks.outbox.relay", ignore_result=True)  # type: ignore[untyped-decorator]
def relay() -> None:
    """Sends what has not been sent. Two relays share the work; a repeat is the consumer's to bear."""

    async def work() -> None:
        database = Database(settings.database_url, pooled=False)
        try:
            if await relay_events(database, lambda task, kwargs: app.send_task(task, kwargs=kwargs)):
                app.send_task("tasks.webhook.deliver")
        finally:
            await database.close()

    run(work)


async def relay_events(database: Database, send: Callable[[str, dict[str, Any]], object]) -> int:
    """Hands on each event that has not been sent: to its task, and to the webhooks that ask for it.

    Gives how many deliveries there are to make. What a newer version has written, of a topic that is not known here,
    waits for a worker of that version; what cannot be handed on is left, and keeps nothing else waiting.
    """
    deliveries = 0
    async with database.transaction(system("relay the outbox")) as session:
        events = await session.scalars(
            select(OutboxEvent)
            .where(OutboxEvent.sent_at.is_(None), OutboxEvent.topic.in_(KNOWN))
            .order_by(OutboxEvent.id)
            .limit(BATCH)
            .with_for_update(skip_locked=True)
        )
        for event in events:
            try:
                async with session.begin_nested():
                    if event.topic in CATALOGUE:
                        deliveries += await fan_out(session, event)
            except Exception:
                log.exception("an event cannot be handed on", key=str(event.key), topic=event.topic)
                continue
            if event.topic in CONSUMERS:
                send(CONSUMERS[event.topic], event.payload)
            event.sent_at = datetime.now(UTC)
    return deliveries
