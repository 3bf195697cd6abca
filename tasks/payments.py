"""Payments, later: asking after those that nobody told of, giving money back, and reconciliation."""

from __future__ import annotations

from datetime import UTC, date, datetime

from authz.session import Database
from services.payments import checking, reconciling, refunding
from tasks.app import app, secret_keys, with_database


@app.task(name="tasks.payments.check", ignore_result=True)  # type: ignore[untyped-decorator]
def check() -> None:
    """Asks after payments that have not been told of. A repeat asks after the others."""
    with_database(lambda database: checking.check(database, secret_keys(), datetime.now(UTC)))


@app.task(name="tasks.payments.refund", ignore_result=True)  # type: ignore[untyped-decorator]
def refund() -> None:
    """Takes refunds to their channels. A repeat asks what became of those that were taken there."""
    with_database(lambda database: refunding.carry_out(database, secret_keys(), datetime.now(UTC)))


@app.task(name="tasks.payments.reconcile", ignore_result=True)  # type: ignore[untyped-decorator]
def reconcile(channel: int | None = None, day: str | None = None) -> None:
    """Holds a day against a channel's statement: a given one, or yesterday where that has not been done. A repeat finds
    the same."""

    async def work(database: Database) -> None:
        if channel is None or day is None:
            await reconciling.reconcile_due(database, secret_keys(), datetime.now(UTC))
        else:
            await reconciling.reconcile(database, secret_keys(), channel, date.fromisoformat(day))

    with_database(work)
