"""Commission, later: settling the months that are over, and margins as soon as they are earned."""

from __future__ import annotations

from datetime import UTC, datetime

from services import settlement
from tasks.app import app, with_database


@app.task(name="tasks.commission.settle", ignore_result=True)  # type: ignore[untyped-decorator]
def settle() -> None:
    """Settles what agents earned in each month that is over (S0-49). A repeat finds it settled."""
    with_database(lambda database: settlement.settle_due(database, datetime.now(UTC)))


@app.task(name="tasks.commission.credit", ignore_result=True)  # type: ignore[untyped-decorator]
def credit(order: int | None = None) -> None:
    """Credits the margins earned by an order, or what is left of any (S2-18). A repeat finds them credited."""
    with_database(lambda database: settlement.credit_margins(database, order))
