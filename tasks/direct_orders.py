"""Direct recharge, later: telling upstreams, and asking after what they were told."""

from __future__ import annotations

from datetime import UTC, datetime

from services import direct_orders
from tasks.app import app, secret_keys, with_database


@app.task(name="tasks.direct_orders.submit", ignore_result=True)  # type: ignore[untyped-decorator]
def submit() -> None:
    """Tells upstreams of what is due. A repeat asks what became of what they were told (S2-19)."""
    with_database(lambda database: direct_orders.carry_out(database, secret_keys(), datetime.now(UTC)))
