"""What the platform and an agent see first each day, against figures counted row by row."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from server.settings import PROJECT
from tests.support.commerce import REFUND, bought, funded, ordered, rates, said, step
from tests.support.world import World


def shipped(door: str) -> str:
    return (PROJECT / "frontends" / door / "operations" / "Dashboard.graphql").read_text("utf-8")


async def busy(world: World) -> None:
    """A day of business, of which two orders are a month old and one is given back."""
    await rates(world, "30", "20", "12.5")
    for name in ("north", "coast", "south"):
        await funded(world, name)
    old = [await bought(world, name, world.card_ids(name)[:1]) for name in ("north", "coast")]
    await world.sql("UPDATE sales_order SET paid_at = paid_at - interval '40 days'")
    await world.sql("UPDATE commission_entry SET created_at = created_at - interval '40 days'")
    assert len(old) == 2
    await bought(world, "coast")
    await bought(world, "south", world.card_ids("south")[:1])
    returned = await bought(world, "coast", world.card_ids("coast")[:1])
    assert said(await step(world, "finance", REFUND, returned, reason="complaint")) == []
    await ordered(world, "coast")
    await ordered(world, "south")
    await world.sql("UPDATE sim_card SET activated_at = now() WHERE id = $1", world.cards["coast"][0].id)


def sold(rows: list[Any], first: date, last: date, zone: ZoneInfo) -> list[Any]:
    return [row for row in rows if row["at"] is not None and first <= row["at"].astimezone(zone).date() <= last]


@pytest.mark.feature("S0-25")
@pytest.mark.parametrize(
    ("caller", "door", "top"),
    [("finance", "admin", "platform"), ("north", "agent", "north"), ("south", "agent", "south")],
)
async def test_a_dashboard_says_what_counting_row_by_row_says(world: World, caller: str, door: str, top: str) -> None:
    await busy(world)
    branch = [world.tenants[name].id for name in world.below(top)]
    zone = ZoneInfo(world.tenants[top].time_zone)
    today = datetime.now(zone).date()
    days = {"today": today.isoformat(), "monthBegins": (today - timedelta(days=60)).isoformat()}
    soon = {} if door == "admin" else {"soon": (datetime.now(UTC) + timedelta(days=7)).isoformat()}
    seen = await world.data(caller, shipped(door), {**days, **soon})

    cards = await world.sql("SELECT status, activated_at AS at FROM sim_card WHERE tenant_id = ANY($1)", branch)
    by_status = Counter(row["status"] for row in cards)
    assert seen["all"]["totalCount"] == len(cards)
    for name, status in (("waiting", "ALLOCATED"), ("active", "ACTIVE"), ("suspended", "SUSPENDED")):
        assert seen[name]["totalCount"] == by_status[status]

    paid = await world.sql(
        "SELECT amount, paid_at AS at FROM sales_order WHERE tenant_id = ANY($1) AND status = 'PAID'", branch
    )
    earners = branch if top == "platform" else [world.tenants[top].id]
    earned = await world.sql(
        "SELECT amount, created_at AS at FROM commission_entry WHERE tenant_id = ANY($1) AND status <> 'REVERSED'",
        earners,
    )
    for name, first in (("today", today), ("thisMonth", today - timedelta(days=60))):
        (figures,) = seen[name]["sales"]
        orders, shares = sold(paid, first, today, zone), sold(earned, first, today, zone)
        assert figures["orders"] == len(orders)
        assert Decimal(figures["amount"]) == sum(row["amount"] for row in orders)
        assert Decimal(figures["commission"]) == sum((row["amount"] for row in shares), Decimal(0))
        assert seen[name]["activations"] == len(sold(cards, first, today, zone))
    waiting = await world.sql(
        "SELECT id FROM sales_order WHERE tenant_id = ANY($1) AND status = 'AWAITING_PAYMENT'", branch
    )
    assert seen["awaitingPayment"]["totalCount"] == len(waiting) > 0
    if door == "agent":
        ending = await world.sql(
            "SELECT id FROM package_subscription WHERE tenant_id = ANY($1) AND status = 'ACTIVE' "
            "AND ends_at < now() + interval '7 days'",
            branch,
        )
        assert seen["endingSoon"]["totalCount"] == len(ending)
        held = {node["kind"]: Decimal(node["balance"]) for node in seen["ledgerAccounts"]["nodes"]}
        rows = await world.sql("SELECT kind, balance FROM ledger_account WHERE tenant_id = $1", world.tenants[top].id)
        assert held == {row["kind"]: row["balance"] for row in rows}
