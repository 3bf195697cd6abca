"""Orders from the price in the catalogue to each agent's share of it, and the packages that they put on cards."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import pytest
from sqlalchemy import event

from authz.principal import system
from planner.ids import decode_id, encode_id
from services import orders as service
from services import subscriptions
from tests.support.commerce import (
    ORDER,
    PAY,
    PRICE,
    REFUND,
    balances,
    bought,
    funded,
    ordered,
    package_id,
    rates,
    said,
    step,
)
from tests.support.world import World

CANCEL = """mutation($input: CancelOrderInput!) { cancelOrder(input: $input) {
    order { status closeReason } errors { code field } } }"""
ENTRIES = """{ commissionEntries { nodes {
    agent { id } status price percent percentBelow amount order { orderNo } } } }"""
SALES = """query($first: Date!, $last: Date!, $agent: ID) {
    agentSales(firstDay: $first, lastDay: $last, agent: $agent) {
        timeZone activations sales { currency orders amount commission } errors { code field } } }"""
INCOME = "query($id: ID!) { tenant(id: $id) { ... on Agent { totalIncome incomeBalance } } }"
QUEUE = """query($card: ID!) { packageSubscriptions(filter: {simCard: {eq: $card}}) { nodes {
    status startsAt endsAt endedAt package { code } holder { id } } } }"""


async def shares(world: World, caller: str) -> list[tuple[str, str, str]]:
    """What the caller is shown of what was earned: by whom, how much, and what became of it."""
    names = {world.id(name): name for name in world.tenants}
    nodes = (await world.data(caller, ENTRIES))["commissionEntries"]["nodes"]
    return sorted((names[node["agent"]["id"]], node["amount"], node["status"]) for node in nodes)


async def everything(world: World) -> list[Any]:
    """All that a refused step must leave as it was."""
    tables = (
        "sales_order", "order_line", "package_subscription", "commission_entry", "ledger_account", "ledger_entry",
        "sim_package_binding",
    )  # fmt: skip
    return [await world.sql(f"SELECT * FROM {table} ORDER BY id") for table in tables]


async def queue(world: World, card: str, caller: str = "admin") -> list[Any]:
    nodes = (await world.data(caller, QUEUE, {"card": card}))["packageSubscriptions"]["nodes"]
    return sorted(nodes, key=lambda node: node["startsAt"] or "9999")


# -- making orders ------------------------------------------------------------------------------------------------


@pytest.mark.feature("S0-12", "S0-13", "S0-28", "S0-29", "S2-04", "S2-13", "S2-14")
async def test_an_order_is_read_by_its_customer_those_above_and_the_platform(world: World) -> None:
    payload = await ordered(world, "coast", remark=" for March ")
    order = payload["order"]
    numbers = [world.cards["coast"][n].display_iccid for n in range(2)]
    assert order | {"id": "", "orderNo": "", "expiresAt": ""} == {
        "id": "",
        "orderNo": "",
        "kind": "PACKAGE",
        "status": "AWAITING_PAYMENT",
        "amount": "40.9600",
        "currency": "CNY",
        "source": "agent",
        "payType": None,
        "expiresAt": "",
        "paidAt": None,
        "closedAt": None,
        "closeReason": None,
        "needsCommission": True,
        "commissionStatus": "NONE",
        "balanceAfter": None,
        "remark": "for March",
        "customer": {"name": world.tenants["coast"].name},
        "creator": {"name": "coast"},
        "lines": {
            "nodes": [
                {
                    "name": world.packages["CM-M-1G"].name,
                    "price": "20.4800",
                    "dataVolumeMb": 1024,
                    "periodType": "MONTHLY",
                    "simCard": {"displayIccid": number},
                    "subscriptions": {"nodes": []},
                }
                for number in numbers
            ]
        },
    }
    assert payload["errors"] == []
    number = order["orderNo"]
    assert (len(number), int(number) % 97) == (12, 1), "its last two digits are check digits"
    late = datetime.fromisoformat(order["expiresAt"]) - datetime.now(UTC)
    assert timedelta(minutes=29) < late <= timedelta(minutes=30)

    by_number = "query($no: String!) { order(orderNo: $no) { id status } }"
    listed = "{ orders { nodes { id } } }"
    for caller in ("coast", "north-east", "north", "sales", "operations", "finance", "admin"):
        assert (await world.data(caller, by_number, {"no": number}))["order"]["id"] == order["id"], caller
        assert [node["id"] for node in (await world.data(caller, listed))["orders"]["nodes"]] == [order["id"]], caller
    for caller in ("south", "south-west", "acme"):
        assert (await world.data(caller, by_number, {"no": number}))["order"] is None, caller
        assert (await world.data(caller, listed))["orders"]["nodes"] == [], caller


@pytest.mark.feature("S0-12", "S0-28")
async def test_orders_are_filtered_and_sorted(world: World) -> None:
    await funded(world, "coast")
    await funded(world, "north")
    paid = await bought(world, "coast")
    waiting = (await ordered(world, "coast"))["order"]["id"]
    other = await bought(world, "north", world.card_ids("north")[:1], "CM-M-30M")

    async def found(condition: str, order: str = "CREATED_AT") -> list[str]:
        query = f"{{ orders(filter: {condition}, orderBy: [{{field: {order}}}]) {{ nodes {{ id }} }} }}"
        return [node["id"] for node in (await world.data("finance", query))["orders"]["nodes"]]

    today = datetime.now(UTC)
    assert await found("{status: {eq: PAID}}") == [paid, other]
    assert await found("{status: {eq: AWAITING_PAYMENT}}") == [waiting]
    assert await found(f'{{customer: {{eq: "{world.id("coast")}"}}}}') == [paid, waiting]
    assert await found(f'{{createdAt: {{gte: "{today.isoformat()}"}}}}') == []
    assert await found(f'{{paidAt: {{lte: "{today.isoformat()}"}}}}', "PAID_AT") == [paid, other]
    assert await found('{amount: {lt: "10"}}') == [other]


@pytest.mark.feature("S2-04", "S0-28")
async def test_what_an_order_costs_is_fixed_when_it_is_made(world: World) -> None:
    await funded(world, "coast")
    order = (await ordered(world, "coast"))["order"]
    change = "mutation($input: UpdateDataPackageInput!) { updateDataPackage(input: $input) { errors { code } } }"
    input = {"id": package_id(world, "CM-M-1G"), "salePrice": "99", "name": "Another"}
    assert (await world.data("admin", change, {"input": input}))["updateDataPackage"]["errors"] == []
    paid = (await step(world, "coast", PAY, order["id"]))["order"]
    assert (paid["amount"], paid["balanceAfter"]) == ("40.9600", "959.0400")
    assert [line["name"] for line in paid["lines"]["nodes"]] == [world.packages["CM-M-1G"].name] * 2
    assert (await ordered(world, "coast"))["order"]["amount"] == "198.0000"


@pytest.mark.feature("S2-04")
async def test_orders_that_are_refused(world: World) -> None:
    own = world.card_ids("coast")
    terminated = [card for card in world.cards["coast"] if card.status.name == "TERMINATED"]
    before = await everything(world)
    for more, code, field in (
        ({"package": encode_id("pkg", 10**9)}, "NOT_FOUND", "package"),
        ({"package": world.id("north")}, "INVALID_ID", "package"),
        ({"package": package_id(world, "CU-M-30M")}, "WRONG_CARRIER", "cards"),
        ({"cards": {"ids": []}}, "REQUIRED", "cards"),
        ({"cards": {}}, "SELECT_ONE", "cards"),
        ({"cards": {"ids": world.card_ids("south")[:1]}}, "CARDS_NOT_FOUND", "cards"),
        ({"cards": {"ids": [*own[:1], *world.card_ids("north-east")[:1]]}}, "CARDS_NOT_FOUND", "cards"),
        ({"cards": {"ids": [encode_id("sim", terminated[0].id)]}}, "WRONG_STATUS", "cards"),
        ({"remark": "x" * 201}, "INVALID", "remark"),
    ):
        assert said(await ordered(world, "coast", **more)) == [(code, field)], more
    await world.sql("UPDATE data_package SET status = 'DISABLED' WHERE code = 'CM-M-1G'")
    assert said(await ordered(world, "coast")) == [("NOT_ACTIVE", "package")]
    assert said(await ordered(world, "admin", own[:1])) == [("NOT_POSSIBLE_HERE", None)]
    for caller in ("finance", "operations", "sales"):
        input = {"package": package_id(world, "CM-M-1G"), "cards": {"ids": own[:1]}, "idempotencyKey": "mine"}
        assert await world.codes(caller, ORDER, {"input": input}) == ["FORBIDDEN"], caller
    assert await everything(world) == before


# -- paying -------------------------------------------------------------------------------------------------------


@pytest.mark.feature("S0-48", "S2-18", "S0-46")
async def test_each_agent_of_the_chain_has_its_share_once_and_sees_no_other(world: World) -> None:
    await rates(world, "30", "20", "12.5")
    await funded(world, "coast")
    order = (await ordered(world, "coast"))["order"]
    paid = await step(world, "coast", PAY, order["id"])
    assert paid["errors"] == []
    assert (paid["order"]["status"], paid["order"]["payType"]) == ("PAID", "BALANCE")
    assert (paid["order"]["commissionStatus"], paid["order"]["balanceAfter"]) == ("SHARED", "959.0400")
    # of 20.48 a card: 30 % is 6.144, 20 % is 4.096, 12.5 % is 2.56
    each = {"north": "2.0480", "north-east": "1.5360", "coast": "2.5600"}
    assert await shares(world, "finance") == sorted(
        (name, amount, "PENDING") for name in each for amount in [each[name]] * 2
    )
    for name, amount in each.items():
        assert await shares(world, name) == [(name, amount, "PENDING")] * 2, "nobody sees what another earns"
    assert await balances(world) == {
        ("platform", "RECEIPTS"): Decimal(-1000),
        ("coast", "PREPAYMENT"): Decimal("959.04"),
        ("platform", "SALES"): Decimal("40.96") - 2 * Decimal("6.144"),
        ("north", "COMMISSION"): Decimal("4.096"),
        ("north-east", "COMMISSION"): Decimal("3.072"),
        ("coast", "COMMISSION"): Decimal("5.12"),
    }
    # what is earned is told to whoever earned it and to the platform
    for caller in ("coast", "finance", "sales", "admin"):
        found = await world.data(caller, INCOME, {"id": world.id("coast")})
        assert found["tenant"] == {"totalIncome": "5.1200", "incomeBalance": "5.1200"}, caller
    found = await world.data("north", INCOME, {"id": world.id("coast")})
    assert found["tenant"] == {"totalIncome": None, "incomeBalance": None}, "nobody is told what another earns"
    for caller in ("sales", "operations", "acme"):
        assert await world.codes(caller, ENTRIES) == ["FORBIDDEN"], caller


@pytest.mark.feature("S0-48")
@pytest.mark.parametrize(
    ("buyer", "percents", "expected"),
    [
        ("north", ("30", "20", "10"), {"north": "30"}),
        ("north-east", ("30", "20", "10"), {"north": "10", "north-east": "20"}),
        ("coast", ("30", "30", "30"), {"coast": "30"}),
        ("coast", ("30", "0", "0"), {"north": "30"}),
        ("coast", ("0", "0", "0"), {}),
        ("acme", ("30", "20", "10"), {}),
    ],
)
async def test_whose_share_an_order_is(
    world: World, buyer: str, percents: tuple[str, str, str], expected: dict[str, str]
) -> None:
    await rates(world, *percents)
    await funded(world, buyer)
    await bought(world, buyer, world.card_ids(buyer)[:1])
    earned = {name: PRICE * Decimal(percent) / 100 for name, percent in expected.items()}
    rows = await world.sql("SELECT tenant_id, amount FROM commission_entry ORDER BY tenant_id")
    names = {tenant.id: name for name, tenant in world.tenants.items()}
    assert {names[row["tenant_id"]]: row["amount"] for row in rows} == earned
    statuses = await world.sql("SELECT commission_status FROM sales_order")
    assert [row["commission_status"] for row in statuses] == ["SHARED" if expected else "NONE"]


@pytest.mark.feature("S0-48", "S0-46")
async def test_shares_are_rounded_so_that_nothing_is_lost(world: World) -> None:
    """Whatever the rates and the price, what the agents have together is the share of the topmost, to the digit."""
    await funded(world, "coast", "1000000")
    chance = random.Random(48)
    for _ in range(12):
        price = Decimal(chance.randrange(1, 10**7)) / 10**4
        percents = sorted((Decimal(chance.randrange(10**6 + 1)) / 10**4 for _ in range(3)), reverse=True)
        await world.sql("UPDATE data_package SET sale_price = $1 WHERE code = 'CM-M-1G'", price)
        await rates(world, *map(str, percents))
        order = decode_id(await bought(world, "coast", world.card_ids("coast")[:1]))
        assert order is not None
        rows = await world.sql("SELECT amount FROM commission_entry WHERE order_id = $1", order[1])
        whole = (price * percents[0] / 100).quantize(Decimal("0.0001"), rounding=ROUND_HALF_UP)
        assert sum((row["amount"] for row in rows), Decimal(0)) == whole
    assert (await world.sql("SELECT sum(amount) FROM ledger_entry"))[0]["sum"] == 0


@pytest.mark.feature("S0-37")
async def test_an_enterprise_pays_from_what_it_has_and_its_credit(world: World) -> None:
    await world.sql("UPDATE data_package SET sale_price = 400 WHERE code = 'CM-M-1G'")
    cards = world.card_ids("acme")
    first = await bought(world, "acme", cards[:2])
    order = (await ordered(world, "acme", cards[:1]))["order"]["id"]
    before = await everything(world)
    refused = await step(world, "acme", PAY, order)
    assert said(refused) == [("INSUFFICIENT_FUNDS", "amount")]
    assert await everything(world) == before
    await funded(world, "acme", "200")
    assert (await step(world, "acme", PAY, order))["order"]["balanceAfter"] == "-1000.0000"
    money = "query($id: ID!) { tenant(id: $id) { ... on Enterprise { availableAmount } } }"
    assert (await world.data("acme", money, {"id": world.id("acme")}))["tenant"] == {"availableAmount": "0.0000"}
    statement = """{ ledgerAccounts { nodes { entries { nodes { amount balanceAfter transfer { kind memo } } } } } }"""
    (account,) = (await world.data("acme", statement))["ledgerAccounts"]["nodes"]
    number = (await world.data("acme", "query($id: ID!) { order(id: $id) { orderNo } }", {"id": first}))["order"]
    assert account["entries"]["nodes"][0] == {
        "amount": "-800.0000",
        "balanceAfter": "-800.0000",
        "transfer": {"kind": "ORDER", "memo": number["orderNo"]},
    }


@pytest.mark.feature("S0-48", "S0-37")
async def test_ten_who_pay_at_once_pay_once(world: World) -> None:
    await rates(world, "30", "20", "10")
    await funded(world, "coast")
    order = (await ordered(world, "coast"))["order"]["id"]
    payloads = await asyncio.gather(*(step(world, "coast", PAY, order) for _ in range(10)))
    assert sorted(len(payload["errors"]) for payload in payloads) == [0] + [1] * 9
    assert {code for payload in payloads for code, _ in said(payload)} == {"ORDER_STATUS"}
    assert (await balances(world))["coast", "PREPAYMENT"] == Decimal("959.04")
    assert len(await shares(world, "finance")) == 6
    assert len(await queue(world, world.card_ids("coast")[0])) == 1


@pytest.mark.feature("S0-37")
async def test_of_many_orders_paid_at_once_those_are_paid_that_the_balance_covers(world: World) -> None:
    await funded(world, "coast", "102.4")
    cards = world.card_ids("coast")
    made = [(await ordered(world, "coast", cards[:1]))["order"]["id"] for _ in range(9)]
    payloads = await asyncio.gather(*(step(world, "coast", PAY, id) for id in made))
    assert sum(payload["errors"] == [] for payload in payloads) == 5
    assert {code for payload in payloads for code, _ in said(payload)} == {"INSUFFICIENT_FUNDS"}
    rows = await world.sql("SELECT balance FROM ledger_account WHERE tenant_id = $1", world.tenants["coast"].id)
    assert [row["balance"] for row in rows] == [0]
    assert len(await queue(world, cards[0])) == 5


@pytest.mark.feature("S0-37", "S0-29")
async def test_who_may_not_pay_an_order(world: World) -> None:
    await funded(world, "coast")
    order = (await ordered(world, "coast"))["order"]["id"]
    before = await everything(world)
    for caller in ("north", "north-east", "south", "acme", "admin"):
        assert said(await step(world, caller, PAY, order)) == [("NOT_FOUND", "id")], caller
    for caller in ("finance", "operations", "sales"):
        input = {"input": {"id": order, "idempotencyKey": "mine"}}
        assert await world.codes(caller, PAY, input) == ["FORBIDDEN"], caller
    await world.sql("UPDATE sales_order SET expires_at = now()")
    assert said(await step(world, "coast", PAY, order)) == [("ORDER_EXPIRED", "id")]
    await world.sql("UPDATE sales_order SET expires_at = now() + interval '1 hour'")
    await world.sql("UPDATE sim_card SET status = 'TERMINATED' WHERE id = $1", world.cards["coast"][0].id)
    assert said(await step(world, "coast", PAY, order)) == [("WRONG_STATUS", "cards")]
    after = await everything(world)
    assert after[1:] == before[1:]
    assert [row["status"] for row in after[0]] == ["AWAITING_PAYMENT"]


@pytest.mark.feature("S0-28", "S2-15")
async def test_a_card_that_has_left_is_not_paid_for(world: World) -> None:
    """Between order and payment it went to another branch, whose packages are none of the buyer's business."""
    await funded(world, "coast")
    order = (await ordered(world, "coast"))["order"]["id"]
    south, card = world.tenants["south"], world.cards["coast"][1]
    await world.sql("UPDATE sim_card SET tenant_id = $1, tenant_path = $2 WHERE id = $3", south.id, south.path, card.id)
    before = await everything(world)
    assert said(await step(world, "coast", PAY, order)) == [("CARDS_NOT_FOUND", "cards")]
    assert await everything(world) == before


@pytest.mark.feature("S1-30", "S0-48")
async def test_the_buyers_log_tells_nothing_of_what_others_earn(world: World) -> None:
    """Not even how many rows the system wrote for others; the platform's staff see all of them."""
    await rates(world, "30", "20", "10")
    await funded(world, "coast")
    await bought(world, "coast")
    log = """{ operationRecords(filter: {mutation: {eq: "pay_order"}}) { nodes { changes { type rows } } } }"""
    (own,) = (await world.data("coast", log))["operationRecords"]["nodes"]
    told = {change["type"] for change in own["changes"]}
    assert "PackageOrder" in told
    transfers = await world.sql("SELECT DISTINCT id FROM ledger_transfer WHERE kind IN ('ORDER', 'COMMISSION')")
    shown = {change["type"] for change in own["changes"] if change["rows"] is not None}
    assert (len(transfers), shown & {"CommissionEntry", "LedgerEntry"}) == (4, set())


@pytest.mark.feature("S0-48")
async def test_a_payment_takes_the_same_statements_for_one_card_as_for_many(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await rates(world, "30", "20", "10")
    await funded(world, "coast")
    counts = []
    engine = world.client.application.runtime.database.engine.sync_engine
    cards = world.card_ids("coast")
    await bought(world, "coast", cards[:1])  # accounts are opened once

    for some in (cards[1:2], [cards[0], cards[1], cards[2], cards[5]]):
        order = (await ordered(world, "coast", some))["order"]["id"]
        seen: list[str] = []

        def note(_: Any, __: Any, statement: str, *___: Any, seen: list[str] = seen) -> None:
            seen.append(statement)

        event.listen(engine, "before_cursor_execute", note)
        try:
            assert (await step(world, "coast", PAY, order))["errors"] == []
        finally:
            event.remove(engine, "before_cursor_execute", note)
        counts.append(len(seen))
    assert counts[0] == counts[1] <= 45, counts


# -- closing ------------------------------------------------------------------------------------------------------


@pytest.mark.feature("S0-13", "S0-29")
async def test_an_order_is_given_up_by_its_customer_or_the_platform(world: World) -> None:
    for caller in ("coast", "finance", "operations", "admin"):
        order = (await ordered(world, "coast"))["order"]["id"]
        payload = await step(world, caller, CANCEL, order, reason=" not needed ")
        assert payload == {"order": {"status": "CANCELLED", "closeReason": "not needed"}, "errors": []}, caller
        for mutation, more in ((CANCEL, {}), (PAY, {}), (REFUND, {"reason": "again"})):
            who = "admin" if mutation is REFUND else "coast"
            assert said(await step(world, who, mutation, order, **more)) == [("ORDER_STATUS", "id")]
    order = (await ordered(world, "coast"))["order"]["id"]
    for caller in ("north-east", "north", "south"):
        assert said(await step(world, caller, CANCEL, order)) == [("NOT_FOUND", "id")], caller
    assert await world.codes("sales", CANCEL, {"input": {"id": order, "idempotencyKey": "x"}}) == ["FORBIDDEN"]


@pytest.mark.feature("S0-28")
async def test_what_nobody_pays_is_closed_by_itself(world: World) -> None:
    await funded(world, "coast")
    paid = await bought(world, "coast")
    waiting = (await ordered(world, "coast"))["order"]["id"]
    database = world.client.application.runtime.database
    assert await service.expire(database, datetime.now(UTC)) == 0
    later = datetime.now(UTC) + timedelta(hours=1)
    done = await asyncio.gather(*(service.expire(database, later) for _ in range(4)))
    assert sum(done) == 1
    status = "query($id: ID!) { order(id: $id) { status } }"
    assert (await world.data("coast", status, {"id": waiting}))["order"] == {"status": "EXPIRED"}
    assert (await world.data("coast", status, {"id": paid}))["order"] == {"status": "PAID"}
    assert said(await step(world, "coast", PAY, waiting)) == [("ORDER_STATUS", "id")]


@pytest.mark.feature("S2-18", "S0-48")
async def test_a_refund_takes_everything_back(world: World) -> None:
    await rates(world, "30", "20", "12.5")
    await funded(world, "coast")
    before = await balances(world)
    order = await bought(world, "coast")
    for caller in ("coast", "north", "operations", "sales"):
        input = {"input": {"id": order, "reason": "mine", "idempotencyKey": "x"}}
        assert await world.codes(caller, REFUND, input) == ["FORBIDDEN"], caller
    assert said(await step(world, "finance", REFUND, order, reason=" ")) == [("REQUIRED", "reason")]
    payloads = await asyncio.gather(*(step(world, "finance", REFUND, order, reason="complaint") for _ in range(6)))
    good = [payload for payload in payloads if not payload["errors"]]
    assert good == [
        {
            "order": {"status": "REFUNDED", "closeReason": "complaint", "commissionStatus": "TAKEN_BACK"},
            "errors": [],
        }
    ]
    assert await balances(world) == before
    assert {status for _, _, status in await shares(world, "finance")} == {"REVERSED"}
    assert [one["status"] for one in await queue(world, world.card_ids("coast")[0])] == ["WITHDRAWN"]
    found = await world.data("coast", INCOME, {"id": world.id("coast")})
    assert found["tenant"] == {"totalIncome": "0.0000", "incomeBalance": "0.0000"}


# -- packages on cards --------------------------------------------------------------------------------------------


@pytest.mark.feature("S2-15", "S0-57")
async def test_packages_follow_each_other_without_gap_or_overlap(world: World) -> None:
    await funded(world, "coast")
    card = world.card_ids("coast")[0]
    for package in ("CM-M-1G", "CM-M-30M", "CM-M-1G"):
        await bought(world, "coast", [card], package)
    first, second, third = await queue(world, card)
    assert [one["status"] for one in (first, second, third)] == ["ACTIVE", "WAITING", "WAITING"]
    begins, ends = (datetime.fromisoformat(first[name]) for name in ("startsAt", "endsAt"))
    database = world.client.application.runtime.database
    assert await subscriptions.hand_over(database, ends - timedelta(seconds=1)) == 0
    done = await asyncio.gather(*(subscriptions.hand_over(database, ends) for _ in range(4)))
    assert sum(done) == 1
    first, second, third = await queue(world, card)
    assert (first["status"], first["endedAt"]) == ("EXPIRED", first["endsAt"])
    assert (second["status"], second["startsAt"]) == ("ACTIVE", first["endsAt"])
    bound = "query($id: ID!) { simCard(id: $id) { package { code } subscriptions { nodes { status } } } }"
    found = (await world.data("coast", bound, {"id": card}))["simCard"]
    assert found["package"] == {"code": "CM-M-30M"}
    # after a long silence the rest is caught up with, each from where the one before it ended
    assert await subscriptions.hand_over(database, ends + timedelta(days=200)) == 1
    first, second, third = await queue(world, card)
    assert [one["status"] for one in (first, second, third)] == ["EXPIRED"] * 3
    assert third["startsAt"] == second["endsAt"] == second["endedAt"]
    assert begins < ends
    rows = await world.sql(
        "SELECT count(*) FILTER (WHERE unbound_at IS NULL) AS current FROM sim_package_binding WHERE sim_card_id = $1",
        world.cards["coast"][0].id,
    )
    assert rows[0]["current"] == 1


@pytest.mark.feature("S2-15")
async def test_a_package_that_is_used_up_makes_room_at_once(world: World) -> None:
    await funded(world, "coast")
    card, key = world.card_ids("coast")[0], world.cards["coast"][0].id
    for package in ("CM-M-1G", "CM-M-30M"):
        await bought(world, "coast", [card], package)
    await world.sql("UPDATE package_subscription SET used_kb = data_volume_mb * 1024 WHERE status = 'ACTIVE'")
    now = datetime.now(UTC)
    async with world.client.application.runtime.database.transaction(system("use")) as session:
        await subscriptions.advance(session, [key], now)
    first, second = await queue(world, card)
    assert (first["status"], second["status"]) == ("USED_UP", "ACTIVE")
    assert first["endedAt"] == second["startsAt"] != first["endsAt"]


@pytest.mark.feature("S2-15")
@pytest.mark.parametrize(
    ("zone", "begins", "ends"),
    [
        ("Asia/Shanghai", "2026-01-30T16:30:00+00:00", "2026-02-27T16:30:00+00:00"),
        ("Europe/Berlin", "2026-03-28T12:00:00+00:00", "2026-04-28T11:00:00+00:00"),
        ("UTC", "2024-01-31T00:00:00+00:00", "2024-02-29T00:00:00+00:00"),
    ],
)
async def test_a_month_is_one_of_the_customers_calendar(world: World, zone: str, begins: str, ends: str) -> None:
    """From the 31st of January it lasts to the end of February; where clocks change, to the same hour by the clock."""
    await world.sql("UPDATE tenant SET time_zone = $1 WHERE id = $2", zone, world.tenants["coast"].id)
    await funded(world, "coast")
    card, key = world.card_ids("coast")[0], world.cards["coast"][0].id
    await bought(world, "coast", [card])
    await world.sql(
        "UPDATE package_subscription SET status = 'WAITING', starts_at = NULL, ends_at = NULL, created_at = $1",
        datetime.fromisoformat(begins),
    )
    async with world.client.application.runtime.database.transaction(system("use")) as session:
        await session.scalars(subscriptions.BEGIN, {"cards": [key]})
    (found,) = await queue(world, card)
    assert (found["startsAt"], found["endsAt"]) == (begins, ends)


@pytest.mark.feature("S2-18", "S2-15")
async def test_a_refund_makes_room_for_the_next_package_and_none_is_given_back_that_is_over(world: World) -> None:
    await funded(world, "coast")
    card = world.card_ids("coast")[0]
    first, second = [await bought(world, "coast", [card]) for _ in range(2)]
    assert said(await step(world, "finance", REFUND, first, reason="complaint")) == []
    withdrawn, active = await queue(world, card)
    assert (withdrawn["status"], active["status"]) == ("WITHDRAWN", "ACTIVE")
    assert active["startsAt"] == withdrawn["endedAt"]
    ends = datetime.fromisoformat(active["endsAt"])
    await subscriptions.hand_over(world.client.application.runtime.database, ends)
    before = await everything(world)
    assert said(await step(world, "finance", REFUND, second, reason="late")) == [("PACKAGES_USED", "id")]
    assert await everything(world) == before


@pytest.mark.feature("S2-18", "S0-57")
async def test_after_a_refund_a_card_is_not_bound_to_what_was_taken_off_it(world: World) -> None:
    await funded(world, "coast")
    card = world.card_ids("coast")[0]
    order = await bought(world, "coast", [card], "CM-M-30M")
    assert said(await step(world, "finance", REFUND, order, reason="complaint")) == []
    bound = "query($id: ID!) { simCard(id: $id) { package { code } packageBindings { nodes { unboundAt } } } }"
    found = (await world.data("coast", bound, {"id": card}))["simCard"]
    assert found["package"] is None
    assert all(binding["unboundAt"] for binding in found["packageBindings"]["nodes"])


@pytest.mark.feature("S2-18")
async def test_what_is_over_is_not_refunded_even_where_nobody_has_noticed(world: World) -> None:
    await funded(world, "coast")
    order = await bought(world, "coast", world.card_ids("coast")[:1])
    await world.sql("UPDATE package_subscription SET starts_at = '2026-01-01', ends_at = '2026-02-01'")
    assert said(await step(world, "finance", REFUND, order, reason="late")) == [("PACKAGES_USED", "id")]


@pytest.mark.feature("S2-05", "S2-15")
async def test_packages_of_different_kinds_do_not_wait_for_each_other(world: World) -> None:
    await funded(world, "coast")
    card = world.card_ids("coast")[0]
    await bought(world, "coast", [card])
    await world.sql(
        "UPDATE data_package SET plan_kind = 'SMS', data_volume_mb = 0, sms_count = 100 WHERE code = 'CM-M-30M'"
    )
    for _ in range(2):
        await bought(world, "coast", [card], "CM-M-30M")
    found = [(one["package"]["code"], one["status"]) for one in await queue(world, card)]
    assert sorted(found) == [("CM-M-1G", "ACTIVE"), ("CM-M-30M", "ACTIVE"), ("CM-M-30M", "WAITING")]
    plan = "query($id: ID!) { simCard(id: $id) { package { code } } }"
    assert (await world.data("coast", plan, {"id": card}))["simCard"]["package"] == {"code": "CM-M-1G"}


@pytest.mark.feature("S2-15")
async def test_what_waits_on_a_card_goes_with_it_and_what_is_over_stays(world: World) -> None:
    await funded(world, "north")
    card = world.card_ids("north")[0]
    for _ in range(2):
        await bought(world, "north", [card])
    (first, _) = await queue(world, card)
    ends = datetime.fromisoformat(first["endsAt"])
    await subscriptions.hand_over(world.client.application.runtime.database, ends)
    allocate = "mutation($input: AllocateSimCardsInput!) { allocateSimCards(input: $input) { errors { code } } }"
    input = {"to": world.id("north-east"), "cards": {"ids": [card]}, "idempotencyKey": "down"}
    assert (await world.data("north", allocate, {"input": input}))["allocateSimCards"]["errors"] == []
    below = await queue(world, card, "north-east")
    assert [(one["status"], one["holder"]["id"]) for one in below] == [("ACTIVE", world.id("north-east"))]
    above = await queue(world, card, "north")
    assert [one["holder"]["id"] for one in above] == [world.id("north"), world.id("north-east")]


@pytest.mark.feature("S0-60")
async def test_a_card_is_one_record_for_those_who_sell_and_those_who_bill(world: World) -> None:
    """What sales hands out, what the customer buys and what finance reads is the same row, whoever asks."""
    await funded(world, "north")
    card = world.card_ids("north")[0]
    await bought(world, "north", [card], "CM-M-30M")
    allocate = "mutation($input: AllocateSimCardsInput!) { allocateSimCards(input: $input) { errors { code } } }"
    input = {"to": world.id("north-east"), "cards": {"ids": [card]}, "idempotencyKey": "down"}
    assert (await world.data("north", allocate, {"input": input}))["allocateSimCards"]["errors"] == []
    record = """query($id: ID!) { simCard(id: $id) { id displayIccid imsi msisdn carrier simType status apn
        holder { id } package { code } subscriptions { nodes { status package { code } } } } }"""
    ordered_for = """{ orders { nodes { ... on PackageOrder { lines { nodes { simCard { id displayIccid } } } } } } }"""
    seen = [
        (await world.data(caller, record, {"id": card}))["simCard"] for caller in ("sales", "finance", "north-east")
    ]
    assert seen[0] == seen[1] == seen[2]
    assert (seen[0]["holder"], seen[0]["package"]) == ({"id": world.id("north-east")}, {"code": "CM-M-30M"})
    assert seen[0]["subscriptions"] == {"nodes": [{"status": "ACTIVE", "package": {"code": "CM-M-30M"}}]}
    (order,) = (await world.data("finance", ordered_for))["orders"]["nodes"]
    assert order["lines"]["nodes"] == [{"simCard": {"id": card, "displayIccid": seen[0]["displayIccid"]}}]


# -- sales --------------------------------------------------------------------------------------------------------


@pytest.mark.feature("S0-25")
async def test_what_an_agent_and_those_below_it_sold(world: World) -> None:
    await rates(world, "30", "20", "12.5")
    for name in ("north", "coast"):
        await funded(world, name)
    await bought(world, "coast")
    await bought(world, "north", world.card_ids("north")[:1])
    returned = await bought(world, "coast", world.card_ids("coast")[:1])
    assert said(await step(world, "finance", REFUND, returned, reason="complaint")) == []
    await ordered(world, "coast")
    zone = await world.sql("SELECT (now() AT TIME ZONE 'Asia/Shanghai')::date AS today")
    today: date = zone[0]["today"]

    async def sold(caller: str, agent: str | None, first: date = today, last: date = today) -> Any:
        variables = {"first": first.isoformat(), "last": last.isoformat(), "agent": agent and world.id(agent)}
        return (await world.data(caller, SALES, variables))["agentSales"]

    def of(orders: int, amount: str, commission: str | None) -> list[dict[str, Any]]:
        return [{"currency": "CNY", "orders": orders, "amount": amount, "commission": commission}]

    # north: 30 % of its own 20.48, and 10 % of 40.96
    assert (await sold("north", None))["sales"] == of(2, "61.4400", "10.2400")
    assert (await sold("finance", "north"))["sales"] == of(2, "61.4400", "10.2400")
    assert (await sold("coast", None))["sales"] == of(1, "40.9600", "5.1200")
    assert (await sold("north", "coast"))["sales"] == of(1, "40.9600", None), "what another earned is not told"
    assert (await sold("north", None, today - timedelta(9), today - timedelta(1)))["sales"] == []
    january = await sold("north", None, date(2026, 1, 1), date(2026, 1, 31))
    assert (january["timeZone"], january["activations"]) == ("Asia/Shanghai", 15)
    assert (await sold("coast", None, date(2026, 1, 1), date(2026, 1, 31)))["activations"] == 5
    for caller, agent, first, last, code, field in (
        ("north", "south", today, today, "NOT_FOUND", "agent"),
        ("coast", "north", today, today, "NOT_FOUND", "agent"),
        ("finance", "acme", today, today, "NOT_FOUND", "agent"),
        ("north", None, today, today - timedelta(1), "INVALID", "lastDay"),
        ("north", None, today - timedelta(366), today, "TOO_MANY", "lastDay"),
    ):
        refused = await sold(caller, agent, first, last)
        assert said(refused) == [(code, field)], (caller, agent)
    variables = {"first": today.isoformat(), "last": today.isoformat()}
    for caller in ("acme", "operations", "sales"):
        assert await world.codes(caller, SALES, variables) == ["FORBIDDEN"], caller


Step = Callable[[], Awaitable[None]]


@pytest.mark.feature("S0-48", "S2-18")
async def test_whatever_is_paid_and_refunded_at_once_the_books_agree(world: World) -> None:
    """Orders of three buyers are paid and refunded by many at once; each account holds what its orders say."""
    await rates(world, "33.3333", "20", "12.5")
    buyers = ("north", "north-east", "coast")
    for name in buyers:
        await funded(world, name, "150")
    made = {
        (await ordered(world, name, world.card_ids(name)[:1]))["order"]["id"]: name for name in buyers for _ in range(8)
    }

    async def one(id: str, name: str, turn: int) -> None:
        payload = await step(world, name, PAY, id)
        assert {code for code, _ in said(payload)} <= {"ORDER_STATUS", "INSUFFICIENT_FUNDS"}
        if turn % 3 == 0:
            payload = await step(world, "finance", REFUND, id, reason="chance")
            assert {code for code, _ in said(payload)} <= {"ORDER_STATUS"}

    for _ in range(2):
        await asyncio.gather(*(one(id, name, turn) for turn, (id, name) in enumerate(made.items())))
    rows = await world.sql(
        """SELECT t.id,
             (SELECT coalesce(sum(amount), 0) FROM sales_order o WHERE o.tenant_id = t.id AND status = 'PAID') AS spent,
             (SELECT coalesce(sum(amount), 0) FROM commission_entry e WHERE e.tenant_id = t.id AND status = 'PENDING')
             AS earned FROM tenant t"""
    )
    names = {tenant.id: name for name, tenant in world.tenants.items()}
    found = await balances(world)
    for row in rows:
        name = names[row["id"]]
        if name in buyers:
            assert found.get((name, "PREPAYMENT"), Decimal(0)) == 150 - row["spent"]
            assert found.get((name, "COMMISSION"), Decimal(0)) == row["earned"]
    assert sum(found.values()) == 0
    (paid,) = await world.sql("SELECT count(*) FROM sales_order WHERE status = 'PAID'")
    (on_cards,) = await world.sql("SELECT count(*) FROM package_subscription WHERE status IN ('ACTIVE', 'WAITING')")
    assert paid["count"] == on_cards["count"] > 0
