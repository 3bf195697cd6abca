"""Orders, later: closing what nobody pays, handing cards over to their next package, changes of plan, and prices."""

from __future__ import annotations

from datetime import UTC, datetime

from services import orders, plan_changes, pricing, subscriptions
from services import recharge as recharging
from tasks.app import app, with_database


@app.task(name="tasks.orders.expire", ignore_result=True)  # type: ignore[untyped-decorator]
def expire() -> None:
    """Closes the orders whose time to pay is over. A repeat finds none."""
    with_database(lambda database: orders.expire(database, datetime.now(UTC)))


@app.task(name="tasks.orders.hand_over", ignore_result=True)  # type: ignore[untyped-decorator]
def hand_over() -> None:
    """Ends packages whose time is over and begins the next of each card. A repeat finds none."""
    with_database(lambda database: subscriptions.hand_over(database, datetime.now(UTC)))


@app.task(name="tasks.orders.change_plans", ignore_result=True)  # type: ignore[untyped-decorator]
def change_plans() -> None:
    """Puts changes of plan in force on their day (S0-16). A repeat finds none."""
    with_database(lambda database: plan_changes.apply_due(database, datetime.now(UTC)))


@app.task(name="tasks.orders.reprice", ignore_result=True)  # type: ignore[untyped-decorator]
def reprice() -> None:
    """Brings the prices of composed packages up to date, as exchange rates come into force (S2-10). A repeat finds
    them so."""
    with_database(lambda database: pricing.reprice(database, datetime.now(UTC)))


@app.task(name="tasks.orders.recharge", ignore_result=True)  # type: ignore[untyped-decorator]
def recharge(task: int) -> None:
    """Recharges the cards of a batch. A repeat finds the task done, or goes on behind what is (S2-16)."""
    with_database(lambda database: recharging.recharge(database, task))
