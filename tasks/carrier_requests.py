"""Requests to carriers, later: telling them, and asking how they see what they were told of."""

from __future__ import annotations

from datetime import UTC, datetime

from services import carrier_requests
from tasks.app import app, secret_keys, with_database


@app.task(name="tasks.carrier_requests.submit", ignore_result=True)  # type: ignore[untyped-decorator]
def submit() -> None:
    """Tells carriers of what is due. A repeat asks how they see what they were told of (S0-24)."""
    with_database(lambda database: carrier_requests.carry_out(database, secret_keys(), datetime.now(UTC)))
