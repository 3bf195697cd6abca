"""Commission, later: settling the months that are over."""

from __future__ import annotations

from datetime import UTC, datetime

from services import settlement
from tasks.app import app, with_database


@app.task(name="tasks.commission.settle", ignore_result=True)  # type: ignore[untyped-decorator]
def settle() -> None:
    """Settles what agents earned in each month that is over (S0-49). A repeat finds it settled."""
    with_database(lambda database: settlement.settle_due(database, datetime.now(UTC)))
