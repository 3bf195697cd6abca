"""Long tasks, later: giving those that a dead worker left to another."""

from __future__ import annotations

from authz.session import Database
from services.tasks.opening import TOPICS
from services.tasks.running import abandoned
from tasks.app import app, with_database
from tasks.outbox import CONSUMERS


@app.task(name="tasks.system.resume", ignore_result=True)  # type: ignore[untyped-decorator]
def resume() -> None:
    """Gives tasks whose worker has died to another; one that is given twice is done once."""

    async def work(database: Database) -> None:
        for kind, task in await abandoned(database):
            app.send_task(CONSUMERS[TOPICS[kind]], kwargs={"task": task})

    with_database(work)
