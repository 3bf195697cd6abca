"""SIM cards, later: entering many at once, and showing carriers who uses them."""

from __future__ import annotations

from datetime import UTC, datetime

from services import real_name
from services.sim.entering import enter as enter_cards
from tasks.app import app, file_store, secret_keys, with_database


@app.task(name="tasks.sim.enter", ignore_result=True)  # type: ignore[untyped-decorator]
def enter(task: int) -> None:
    """Enters the cards of an import or a range. A repeat finds the task done, or begins it again (S0-03, S0-05)."""
    with_database(lambda database: enter_cards(database, file_store(), task))


@app.task(name="tasks.sim.register", ignore_result=True)  # type: ignore[untyped-decorator]
def register() -> None:
    """Shows carriers who uses cards, and puts these into service (S0-31). A repeat asks what they have decided."""
    with_database(lambda database: real_name.carry_out(database, secret_keys(), datetime.now(UTC)))
