"""The relay: events that were written with their change become tasks, at least once and in order."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import select

from authz.principal import system
from authz.session import Database
from models.system import OutboxEvent
from tasks.app import app, run, settings

CONSUMERS = {
    "sim.enter": "tasks.sim.enter",
    "notification.send": "tasks.notifications.send",
    "task.finished": "tasks.notifications.task_finished",
    "account.password_reset": "tasks.notifications.password_reset",
}
BATCH = 200


@app.task(name="tasks.outbox.relay", ignore_result=True)  # type: ignore[untyped-decorator]
def relay() -> None:
    """Sends what has not been sent. Two relays share the work; a repeat is the consumer's to bear."""
    run(_relay)


async def _relay() -> None:
    database = Database(settings.database_url, pooled=False)
    try:
        async with database.transaction(system("relay the outbox")) as session:
            events = await session.scalars(
                select(OutboxEvent)
                .where(OutboxEvent.sent_at.is_(None))
                .order_by(OutboxEvent.id)
                .limit(BATCH)
                .with_for_update(skip_locked=True)
            )
            for event in events:
                app.send_task(CONSUMERS[event.topic], kwargs=event.payload)
                event.sent_at = datetime.now(UTC)
    finally:
        await database.close()
