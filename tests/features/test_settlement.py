"""What agents earned in a month becomes theirs to draw on, once, whatever is refunded meanwhile."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import event

from planner.ids import decode_id
from services import settlement
from tests.support.commerce import REFUND, balances, bought, funded, rates, said, step
from tests.support.world import World

SETTLEMENTS = """{ commissionSettlements(orderBy: [{field: MONTH}]) { nodes {
    agent { id } month currency entryCount earned deducted amount transfer { kind memo }
    entries { nodes { status amount } } } } }"""
INCOME = "query($id: ID!) { tenant(id: $id) { ... on Agent { totalIncome incomeBalance withdrawableIncome } } }"
LATER = datetime(2026, 5, 1, 12, tzinfo=UTC)


async def settled(world: World, now: datetime = LATER) -> int:
    return await settlement.settle_due(world.client.application.runtime.database, now)


async def earned_at(world: World, moment: str, order: str | None = None) -> None:
    """As if orders had been paid at another time; all of them, or one."""
    key = decode_id(order) if order else None
    await world.sql(
        "UPDATE commission_entry SET created_at = $1 WHERE $2::bigint IS NULL OR order_id = $2",
        datetime.fromisoformat(moment),
        key[1] if key else None,
    )


async def of(world: World, caller: str) -> list[tuple[str, str, str, str, str, int]]:
    """By agent and month: earned, deducted, what may be drawn on, and by how many lines."""
    names = {world.id(name): name for name in world.tenants}
    nodes = (await world.data(caller, SETTLEMENTS))["commissionSettlements"]["nodes"]
    return sorted(
        (names[n["agent"]["id"]], n["month"], n["earned"], n["deducted"], n["amount"], n["entryCount"]) for n in nodes
    )


@pytest.mark.feature("S0-49", "S0-48")
async def test_a_month_that_is_over_is_settled_once(world: World) -> None:
    await rates(world, "30", "20", "12.5")
    await funded(world, "coast")
    first = await bought(world, "coast")
    second = await bought(world, "coast", world.card_ids("coast")[:1])
    await earned_at(world, "2026-03-05T10:00:00+00:00", first)
    await earned_at(world, "2026-04-05T10:00:00+00:00", second)
    assert await settled(world, datetime(2026, 3, 20, tzinfo=UTC)) == 0
    done = await asyncio.gather(*(settled(world, datetime(2026, 4, 2, tzinfo=UTC)) for _ in range(4)))
    assert sum(done) == 3
    march = [
        ("coast", "2026-03-01", "5.1200", "0.0000", "5.1200", 2),
        ("north", "2026-03-01", "4.0960", "0.0000", "4.0960", 2),
        ("north-east", "2026-03-01", "3.0720", "0.0000", "3.0720", 2),
    ]
    assert await of(world, "finance") == march
    for name in ("north", "north-east", "coast"):
        assert await of(world, name) == [row for row in march if row[0] == name], "nobody sees what another earned"
    found = await balances(world)
    assert (found["coast", "INCOME"], found["coast", "COMMISSION"]) == (Decimal("5.12"), Decimal("2.56"))
    own = (await world.data("coast", INCOME, {"id": world.id("coast")}))["tenant"]
    assert own == {"totalIncome": "7.6800", "incomeBalance": "7.6800", "withdrawableIncome": "5.1200"}
    nodes = (await world.data("coast", SETTLEMENTS))["commissionSettlements"]["nodes"]
    assert [node["transfer"] for node in nodes] == [{"kind": "SETTLEMENT", "memo": "2026-03"}]
    assert nodes[0]["entries"]["nodes"] == [{"status": "CREDITED", "amount": "2.5600"}] * 2
    assert await settled(world) == 3
    assert await settled(world) == 0
    assert [row[1] for row in await of(world, "coast")] == ["2026-03-01", "2026-04-01"]
    assert sum((await balances(world)).values()) == 0
    for caller in ("acme", "sales", "operations"):
        assert await world.codes(caller, SETTLEMENTS) == ["FORBIDDEN"], caller


@pytest.mark.feature("S0-49")
@pytest.mark.parametrize(
    ("zone", "moment", "month", "ends"),
    [
        ("Asia/Shanghai", "2026-03-31T15:59:59+00:00", "2026-03-01", "2026-03-31T16:00:00+00:00"),
        ("Asia/Shanghai", "2026-03-31T16:00:00+00:00", "2026-04-01", "2026-04-30T16:00:00+00:00"),
        ("America/New_York", "2026-04-01T03:59:59+00:00", "2026-03-01", "2026-04-01T04:00:00+00:00"),
    ],
)
async def test_a_month_is_one_of_the_agents_calendar(
    world: World, zone: str, moment: str, month: str, ends: str
) -> None:
    await rates(world, "30", "0", "0")
    await funded(world, "north")
    await bought(world, "north")
    await world.sql("UPDATE tenant SET time_zone = $1 WHERE id = $2", zone, world.tenants["north"].id)
    await earned_at(world, moment)
    over = datetime.fromisoformat(ends)
    assert await settled(world, over) == 0, "it is over, but payments that began before may still be under way"
    assert await settled(world, over + settlement.GRACE) == 1
    assert [row[:2] for row in await of(world, "finance")] == [("north", month)]


@pytest.mark.feature("S0-49", "S2-18")
async def test_what_is_refunded_after_its_settlement_is_made_up_for_by_the_next(world: World) -> None:
    await rates(world, "50", "0", "0")
    await funded(world, "north")
    card = world.card_ids("north")[:1]
    orders = [await bought(world, "north", card) for _ in range(4)]  # each earns 10.24
    for order, moment in zip(orders, ("2026-01-05", "2026-01-06", "2026-02-05", "2026-03-05"), strict=True):
        await earned_at(world, f"{moment}T10:00:00+00:00", order)
    assert await settled(world, datetime(2026, 2, 2, tzinfo=UTC)) == 1
    for order in orders[:2]:
        assert said(await step(world, "finance", REFUND, order, reason="complaint")) == []
    found = await balances(world)
    assert found["north", "INCOME"] == Decimal("20.48")
    assert ("north", "COMMISSION") not in found, "what was refunded is owed, what is pending makes up for it"
    assert await settled(world) == 2
    assert await of(world, "north") == [
        ("north", "2026-01-01", "20.4800", "0.0000", "20.4800", 2),
        ("north", "2026-02-01", "10.2400", "10.2400", "0.0000", 1),
        ("north", "2026-03-01", "10.2400", "10.2400", "0.0000", 1),
    ]
    assert await balances(world) == {
        ("platform", "RECEIPTS"): Decimal(-1000),
        ("north", "PREPAYMENT"): 1000 - 2 * Decimal("20.48"),
        ("platform", "SALES"): Decimal("20.48"),
        ("north", "INCOME"): Decimal("20.48"),
    }
    own = (await world.data("north", INCOME, {"id": world.id("north")}))["tenant"]
    assert own == {"totalIncome": "20.4800", "incomeBalance": "20.4800", "withdrawableIncome": "20.4800"}


@pytest.mark.feature("S0-49")
async def test_an_entry_that_came_too_late_goes_with_the_next_month(world: World) -> None:
    await rates(world, "50", "0", "0")
    await funded(world, "north")
    card = world.card_ids("north")[:1]
    orders = [await bought(world, "north", card) for _ in range(3)]
    await earned_at(world, "2026-01-05T10:00:00+00:00", orders[0])
    await earned_at(world, "2026-04-25T10:00:00+00:00", orders[1])
    await earned_at(world, "2026-04-26T10:00:00+00:00", orders[2])
    assert await settled(world, datetime(2026, 2, 2, tzinfo=UTC)) == 1
    await earned_at(world, "2026-01-06T10:00:00+00:00", orders[1])
    assert await settled(world, datetime(2026, 2, 20, tzinfo=UTC)) == 0, "the next month is not over"
    assert await settled(world) == 2
    assert [row[1:3] for row in await of(world, "north")] == [
        ("2026-01-01", "10.2400"),
        ("2026-02-01", "10.2400"),
        ("2026-04-01", "10.2400"),
    ]


@pytest.mark.feature("S0-49", "S2-18")
async def test_refunds_while_a_month_is_settled_leave_the_books_right(world: World) -> None:
    """Orders are refunded while their month is settled; what is settled is what was earned and not taken back."""
    await rates(world, "40", "20", "10")
    await funded(world, "coast", "5000")
    card = world.card_ids("coast")[:1]
    orders = [await bought(world, "coast", card) for _ in range(10)]
    await earned_at(world, "2026-03-05T10:00:00+00:00")

    async def refunded(order: str) -> None:
        assert said(await step(world, "finance", REFUND, order, reason="chance")) == []

    await asyncio.gather(*(refunded(order) for order in orders[:6]), *(settled(world) for _ in range(3)))
    await settled(world)
    rows: list[Any] = await world.sql(
        """SELECT s.tenant_id, s.earned, s.entry_count,
             (SELECT sum(amount) FROM commission_entry e WHERE e.settlement_id = s.id) AS amount,
             (SELECT count(*) FROM commission_entry e WHERE e.settlement_id = s.id) AS entries
           FROM commission_settlement s"""
    )
    assert len(rows) == 3
    assert all(row["earned"] == row["amount"] and row["entry_count"] == row["entries"] for row in rows)
    found = await balances(world)
    each = Decimal("20.48")
    for name, percent in (("north", 20), ("north-east", 10), ("coast", 10)):
        held = found.get((name, "COMMISSION"), Decimal(0)) + found.get((name, "INCOME"), Decimal(0))
        assert held == 4 * each * percent / 100, name
    assert sum(found.values()) == 0


@pytest.mark.feature("S0-49")
async def test_settlement_takes_the_same_statements_for_many_as_for_few(world: World) -> None:
    """What a settlement costs does not grow with its entries: it is done to sets."""
    engine = world.client.application.runtime.database.engine.sync_engine
    await rates(world, "40", "20", "10")
    await funded(world, "coast", "5000")
    counts = []
    for month, times in ((1, 1), (2, 5)):
        made = [await bought(world, "coast", world.card_ids("coast")[:2]) for _ in range(times)]
        for order in made:
            await earned_at(world, f"2026-0{month}-05T10:00:00+00:00", order)
        seen: list[str] = []

        def note(_: Any, __: Any, statement: str, *___: Any, seen: list[str] = seen) -> None:
            seen.append(statement)

        event.listen(engine, "before_cursor_execute", note)
        try:
            assert await settled(world, datetime(2026, month + 1, 3, tzinfo=UTC)) == 3
        finally:
            event.remove(engine, "before_cursor_execute", note)
        counts.append(len(seen))
    assert counts[0] == counts[1] <= 12, counts
