"""SIM cards, later: entering many at once."""

from __future__ import annotations

from authz.session import Database
from services.sim.entering import enter as enter_cards
from tasks.app import app, file_store, run, settings


@app.task(name="tasks.sim.enter", ignore_result=True)  # type: ignore[untyped-decorator]
def enter(task: int) -> None:
    """Enters the cards of an import or a range. A repeat finds the task done, or begins it again (S0-03, S0-05)."""

    async def work() -> None:
        database = Database(settings.database_url, pooled=False)
        try:
            await enter_cards(database, file_store(), task)
        finally:
            await database.close()

    run(work)
