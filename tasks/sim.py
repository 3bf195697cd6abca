"""SIM cards, later: entering many at once."""

from __future__ import annotations

from services.sim.entering import enter as enter_cards
from tasks.app import app, file_store, with_database


@app.task(name="tasks.sim.enter", ignore_result=True)  # type: ignore[untyped-decorator]
def enter(task: int) -> None:
    """Enters the cards of an import or a range. A repeat finds the task done, or begins it again (S0-03, S0-05)."""
    with_database(lambda database: enter_cards(database, file_store(), task))
