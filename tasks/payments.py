"""Payments, later: asking after those that nobody told of, giving money back, and reconciliation."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime

from authz.session import Database
from services.keys import Keys
from services.payments import checking, reconciling, refunding
from tasks.app import app, run, settings


@app.task(name="tasks.payments.check", ignore_result=True)  # type: ignore[untyped-decorator]
def check() -> None:
    """Asks after payments that have not been told of. A repeat asks after the others."""
    _with_database(lambda database, keys: checking.check(database, keys, datetime.now(UTC)))


@app.task(name="tasks.payments.refund", ignore_result=True)  # type: ignore[untyped-decorator]
def refund() -> None:
    """Takes refunds to their channels. A repeat asks what became of those that were taken there."""
    _with_database(lambda database, keys: refunding.carry_out(database, keys, datetime.now(UTC)))


@app.task(name="tasks.payments.reconcile", ignore_result=True)  # type: ignore[untyped-decorator]
def reconcile(channel: int | None = None, day: str | None = None) -> None:
    """Holds a day against a channel's statement: a given one, or yesterday where that has not been done. A repeat finds
    the same."""

    async def work(database: Database, keys: Keys) -> object:
        if channel is None or day is None:
            return await reconciling.reconcile_due(database, keys, datetime.now(UTC))
        return await reconciling.reconcile(database, keys, channel, date.fromisoformat(day))

    _with_database(work)


def _with_database(work: Callable[[Database, Keys], Awaitable[object]]) -> None:
    async def whole() -> None:
        database = Database(settings.database_url, pooled=False)
        try:
            await work(database, Keys(settings.secret_key.get_secret_value()))
        finally:
            await database.close()

    run(whole)
