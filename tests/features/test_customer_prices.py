"""Packages by which agents earn their margin: what each customer pays, and what is left to each level (S2-18)."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Mapping
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest

from authz.principal import system
from models.catalog import DataPackage
from models.tenancy import Tenant
from services import pricing, settlement
from services.runtime import Unit
from tests.support.commerce import (
    PAY,
    PRICE,
    RATE,
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

PACKAGE = "CM-M-1G"
SET = """mutation($input: SetCustomerPriceInput!) { setCustomerPrice(input: $input) {
    customerPrice { price customer { name } package { code } creator { name } } errors { code field message } } }"""
PRICES = "{ customerPrices(orderBy: [{field: PRICE}]) { nodes { price customer { id } creator { id } } } }"
OWN = "query($id: ID!) { dataPackage(id: $id) { ownPrice salePrice } }"
BASIS = """mutation($input: UpdateDataPackageInput!) { updateDataPackage(input: $input) {
    dataPackage { commissionBasis } errors { code } } }"""
ENTRIES = """{ commissionEntries(orderBy: [{field: CREATED_AT}]) { nodes {
    status price percent percentBelow revenue cost amount settlement { month order { id } amount deducted } } } }"""
MOVE = "mutation($input: MoveTenantInput!) { moveTenant(input: $input) { errors { code } } }"
INCOME = "query($id: ID!) { tenant(id: $id) { ... on Agent { totalIncome incomeBalance withdrawableIncome } } }"
PROFIT = """query($level: ProfitLevel!) {
    estimatedProfit(level: $level, firstDay: "2020-01-01", lastDay: "2020-12-31") {
    profits { revenue cost profit } } }"""
PARENTS = {"north": "admin", "north-east": "north", "coast": "north-east", "south": "admin", "acme": "admin"}
"""Who sets a customer's price."""
CHAINS = {
    "north": ("north",),
    "north-east": ("north", "north-east"),
    "coast": ("north", "north-east", "coast"),
    "south": ("south",),
    "acme": ("acme",),
}


async def by_margin(world: World, basis: str = "MARGIN") -> None:
    changed = await world.data(
        "operations", BASIS, {"input": {"id": package_id(world, PACKAGE), "commissionBasis": basis}}
    )
    assert changed["updateDataPackage"] == {"dataPackage": {"commissionBasis": basis}, "errors": []}


async def agreed(world: World, customer: str, price: str | None, caller: str | None = None) -> dict[str, Any]:
    input = {
        "customer": world.id(customer),
        "package": package_id(world, PACKAGE),
        "price": price,
        "idempotencyKey": str(uuid.uuid4()),
    }
    data = await world.data(caller or PARENTS[customer], SET, {"input": input})
    found: dict[str, Any] = data["setCustomerPrice"]
    return found


async def all_agreed(world: World, prices: Mapping[str, str]) -> None:
    for customer, price in prices.items():
        assert (await agreed(world, customer, price))["errors"] == []


async def entries(world: World, agent: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await world.data(agent, ENTRIES))["commissionEntries"]["nodes"]
    return found


async def own_price(world: World, caller: str) -> str | None:
    found: str | None = (await world.data(caller, OWN, {"id": package_id(world, PACKAGE)}))["dataPackage"]["ownPrice"]
    return found


@pytest.mark.feature("S2-18")
async def test_each_level_keeps_what_the_one_below_pays_above_its_own_price(world: World) -> None:
    await by_margin(world)
    await all_agreed(world, {"north": "12", "north-east": "14", "coast": "17"})
    await funded(world, "coast", "100")
    order = await bought(world, "coast", world.card_ids("coast")[:1])
    assert await entries(world, "coast") == [], "it bought for itself, at its own price"
    (above,) = await entries(world, "north-east")
    assert above == {
        "status": "PENDING",
        "price": "17.0000",
        "percent": None,
        "percentBelow": None,
        "revenue": "17.0000",
        "cost": "14.0000",
        "amount": "3.0000",
        "settlement": None,
    }
    await world.client.work_off()
    (above,) = await entries(world, "north-east")
    assert above["status"] == "CREDITED"
    assert above["settlement"].pop("month") is not None
    assert above["settlement"] == {"order": {"id": order}, "amount": "3.0000", "deducted": "0.0000"}
    (top,) = await entries(world, "north")
    assert [top[name] for name in ("revenue", "cost", "amount")] == ["14.0000", "12.0000", "2.0000"]
    assert await balances(world) == {
        ("platform", "RECEIPTS"): Decimal(-100),
        ("coast", "PREPAYMENT"): Decimal(83),
        ("platform", "SALES"): Decimal(12),
        ("north-east", "INCOME"): Decimal(3),
        ("north", "INCOME"): Decimal(2),
    }
    income = (await world.data("north-east", INCOME, {"id": world.id("north-east")}))["tenant"]
    assert income == {"totalIncome": "3.0000", "incomeBalance": "3.0000", "withdrawableIncome": "3.0000"}
    assert await settlement.credit_margins(world.client.application.runtime.database) == 0, "once is enough"


@pytest.mark.feature("S2-18", "S2-20")
async def test_profit_is_the_margin_and_nobody_sees_what_it_costs_above(world: World) -> None:
    await by_margin(world)
    await all_agreed(world, {"north": "12", "north-east": "14", "coast": "17"})
    await funded(world, "coast", "100")
    await bought(world, "coast", world.card_ids("coast")[:2])
    await world.sql("UPDATE sales_order SET paid_at = '2020-06-01'")

    async def profit(caller: str, level: str) -> list[list[Decimal]]:
        told = (await world.data(caller, PROFIT, {"level": level}))["estimatedProfit"]["profits"]
        return [[Decimal(one[name]) for name in ("revenue", "cost", "profit")] for one in told]

    assert await profit("north", "CHILD") == [[28, 24, 4]]
    assert await profit("north-east", "CHILD") == [[34, 28, 6]]
    assert await profit("coast", "SELF") == []
    names = {world.id(name): name for name in world.tenants}
    for caller, seen in (("north", {"north", "north-east", "coast"}), ("coast", {"coast"})):
        nodes = (await world.data(caller, PRICES))["customerPrices"]["nodes"]
        assert {names[node["customer"]["id"]] for node in nodes} == seen
    (own,) = (await world.data("coast", PRICES))["customerPrices"]["nodes"]
    assert own["creator"] is None, "who stands above is out of reach"


@pytest.mark.feature("S2-18")
async def test_a_price_holds_where_every_level_above_has_one(world: World) -> None:
    await by_margin(world)
    sale = f"{PRICE:.4f}"
    assert await own_price(world, "admin") is None
    assert (await agreed(world, "north-east", "15"))["errors"][0]["code"] == "BELOW_OWN_PRICE"
    await all_agreed(world, {"north": "12", "north-east": "14", "coast": "17"})
    assert [await own_price(world, name) for name in ("north", "north-east", "coast")] == [
        "12.0000",
        "14.0000",
        "17.0000",
    ]
    assert await own_price(world, "acme") == sale, "an enterprise with which nothing was agreed"
    await all_agreed(world, {"acme": "13", "north": "15"})
    assert [await own_price(world, name) for name in ("north-east", "coast", "acme")] == [sale, sale, "13.0000"], (
        "what is below the price above lapses, and nobody learns what that is"
    )
    await all_agreed(world, {"north-east": "15", "coast": "15"})
    assert [await own_price(world, name) for name in ("north-east", "coast")] == ["15.0000", "15.0000"]
    assert await agreed(world, "north", None) == {"customerPrice": None, "errors": []}
    assert {await own_price(world, name) for name in ("north", "north-east", "coast")} == {sale}
    await by_margin(world, "SALE_PRICE")
    assert await own_price(world, "acme") == sale


@pytest.mark.feature("S2-18")
async def test_prices_that_are_refused(world: World) -> None:
    refused = await agreed(world, "north", "10")
    assert said(refused) == [("NOT_BY_MARGIN", "package")]
    await by_margin(world)
    await all_agreed(world, {"north": "12"})
    assert (await agreed(world, "north-east", "11.9999"))["errors"] == [
        {
            "code": "BELOW_OWN_PRICE",
            "field": "price",
            "message": "Not less than you pay for this package yourself: 12.",
        }
    ]
    assert said(await agreed(world, "north-east", "20.4801")) == [("ABOVE_SALE_PRICE", "price")]
    assert said(await agreed(world, "north-east", "-1")) == [("NEGATIVE", "price")]
    assert said(await agreed(world, "coast", "18", "north")) == [("NOT_OWN_CUSTOMER", "customer")]
    assert said(await agreed(world, "south", "18", "north")) == [("NOT_FOUND", "customer")]
    assert said(await agreed(world, "north", "13", "north")) == [("NOT_OWN_CUSTOMER", "customer")]
    input = {"agent": world.id("north"), "package": package_id(world, PACKAGE), "percent": "5", "idempotencyKey": "r"}
    rate = (await world.data("admin", RATE, {"input": input}))["setCommissionRate"]
    assert [error["code"] for error in rate["errors"]] == ["NOT_BY_SHARE"]


@pytest.mark.feature("S2-18")
@pytest.mark.parametrize("caller", ["acme", "operations", "sales", "finance"])
async def test_who_may_not_set_prices(world: World, caller: str) -> None:
    input = {"customer": world.id("north"), "package": package_id(world, PACKAGE), "price": "1", "idempotencyKey": "p"}
    assert await world.codes(caller, SET, {"input": input}) == ["FORBIDDEN"]
    if caller != "finance":
        assert await world.codes(caller, PRICES) == ["FORBIDDEN"]


@pytest.mark.feature("S2-18")
async def test_a_margin_that_was_given_back_is_made_up_for_by_the_next(world: World) -> None:
    await by_margin(world)
    await all_agreed(world, {"north": "12", "north-east": "14"})
    await funded(world, "north-east")
    card = world.card_ids("north-east")[:1]
    first = await bought(world, "north-east", card)
    await world.client.work_off()
    assert said(await step(world, "finance", REFUND, first, reason="complaint")) == []
    income = (await world.data("north", INCOME, {"id": world.id("north")}))["tenant"]
    assert (income["totalIncome"], income["withdrawableIncome"]) == ("0.0000", "0.0000")
    # two at once: one of them makes up for it
    await bought(world, "north-east", card)
    await bought(world, "north-east", card)
    database = world.client.application.runtime.database
    await asyncio.gather(*(settlement.credit_margins(database) for _ in range(3)))
    found = await entries(world, "north")
    assert [one["status"] for one in found] == ["REVERSED", "CREDITED", "CREDITED"]
    assert sorted(one["settlement"]["deducted"] for one in found[1:]) == ["0.0000", "2.0000"]
    held = await balances(world)
    assert held["north", "INCOME"] == Decimal(4)
    assert ("north", "COMMISSION") not in held
    income = (await world.data("north", INCOME, {"id": world.id("north")}))["tenant"]
    assert income == {"totalIncome": "4.0000", "incomeBalance": "4.0000", "withdrawableIncome": "4.0000"}


@pytest.mark.feature("S2-18")
async def test_an_order_given_back_before_its_margin_is_credited_leaves_nothing(world: World) -> None:
    await by_margin(world)
    await all_agreed(world, {"north": "12", "north-east": "14"})
    await funded(world, "north-east", "100")
    order = await bought(world, "north-east", world.card_ids("north-east")[:1])
    database = world.client.application.runtime.database
    await asyncio.gather(
        step(world, "finance", REFUND, order, reason="complaint"),
        *(settlement.credit_margins(database) for _ in range(3)),
    )
    await world.client.work_off()
    held = await balances(world)
    assert held["north-east", "PREPAYMENT"] == Decimal(100)
    assert ("platform", "SALES") not in held
    assert held.get(("north", "INCOME"), 0) + held.get(("north", "COMMISSION"), 0) == 0


@pytest.mark.feature("S2-18")
@pytest.mark.parametrize("change", ["lowered", "raised", "taken back", "by share", "cheaper"])
async def test_an_order_keeps_what_each_level_pays(world: World, change: str) -> None:
    """Whatever is agreed between order and payment is for later orders."""
    await rates(world, "50", "40", "30")
    await by_margin(world)
    await all_agreed(world, {"north": "12", "north-east": "14", "coast": "17"})
    await funded(world, "coast", "100")
    order = (await ordered(world, "coast", world.card_ids("coast")[:1]))["order"]
    if change == "lowered":
        await all_agreed(world, {"coast": "14"})
    elif change == "raised":
        await all_agreed(world, {"north-east": "20"})
    elif change == "taken back":
        assert (await agreed(world, "north", None))["errors"] == []
    elif change == "by share":
        await by_margin(world, "SALE_PRICE")
    else:
        await world.sql("UPDATE data_package SET sale_price = 13 WHERE code = $1", PACKAGE)
    assert (await step(world, "coast", PAY, order["id"]))["errors"] == []
    await world.client.work_off()
    held = await balances(world)
    assert {name: held.get((name, "INCOME"), 0) for name in ("north", "north-east", "coast")} == {
        "north": 2,
        "north-east": 3,
        "coast": 0,
    }
    assert held["platform", "SALES"] == 12


@pytest.mark.feature("S2-18", "S3-01")
async def test_what_another_parent_agreed_does_not_hold(world: World) -> None:
    await by_margin(world)
    await all_agreed(world, {"north": "12", "north-east": "12", "south": "5"})
    for parent, price in (("platform", f"{PRICE:.4f}"), ("south", f"{PRICE:.4f}"), ("north", "12.0000")):
        input = {"id": world.id("north-east"), "parent": world.id(parent)}
        assert (await world.data("admin", MOVE, {"input": input}))["moveTenant"]["errors"] == []
        assert await own_price(world, "north-east") == price, parent


@pytest.mark.feature("S2-16", "S2-18")
async def test_an_end_user_pays_the_sale_price_and_the_holder_keeps_its_margin(world: World) -> None:
    await by_margin(world)
    await all_agreed(world, {"north": "12", "north-east": "14", "coast": "17"})
    database = world.client.application.runtime.database
    package = world.packages[PACKAGE].id
    async with database.transaction(system("test")) as session:
        work = Unit(system("test"), session)
        coast = await session.get_one(Tenant, world.tenants["coast"].id)
        found = await session.get_one(DataPackage, package)
        retail = await pricing.quote(work, found, coast, retail=True)
        own = await pricing.quote(work, found, coast)
    assert (retail.price, own.price) == (PRICE, 17)
    assert [level.price for level in retail.levels] == [17, 14, 12]


def expected(prices: Mapping[str, Decimal], buyer: str, sale: Decimal) -> tuple[Decimal, dict[str, Decimal]]:
    """What a buyer pays and what is left to each agent above it, worked out level by level."""
    paid: list[tuple[str, Decimal]] = []
    above: Decimal | None = Decimal(0)
    for name in CHAINS[buyer]:
        agreed = prices.get(name)
        above = agreed if above is not None and agreed is not None and agreed >= above else None
        paid.append((name, sale if above is None else min(sale, above)))
    left = {seller: theirs - own for (seller, own), (_, theirs) in pairwise(paid) if theirs > own}
    return paid[-1][1], left


@pytest.mark.feature("S2-18")
@pytest.mark.parametrize("seed", range(4))
async def test_prices_and_margins_are_those_of_a_computation_level_by_level(world: World, seed: int) -> None:
    draw = random.Random(seed)
    await by_margin(world)
    for name in CHAINS:
        await funded(world, name, "10000")
    package = world.packages[PACKAGE].id
    for _ in range(8):
        await world.sql("DELETE FROM customer_price")
        prices = {name: Decimal(draw.randrange(300_000)) / 10_000 for name in CHAINS if draw.random() < 0.8}
        for name, price in prices.items():
            await world.sql(
                "INSERT INTO customer_price (tenant_id, tenant_path, data_package_id, price, creator_id) "
                "SELECT id, path, $2, $3, parent_id FROM tenant WHERE id = $1",
                world.tenants[name].id,
                package,
                price,
            )
        buyer = draw.choice(list(CHAINS))
        amount, left = expected(prices, buyer, PRICE)
        made = await ordered(world, buyer, world.card_ids(buyer)[:1])
        assert Decimal(made["order"]["amount"]) == amount
        before = await balances(world)
        assert (await step(world, buyer, PAY, made["order"]["id"]))["errors"] == []
        await world.client.work_off()
        after = await balances(world)
        for agent in ("north", "north-east", "coast", "south"):
            earned = after.get((agent, "INCOME"), Decimal(0)) - before.get((agent, "INCOME"), Decimal(0))
            assert earned == left.get(agent, 0), (agent, prices, buyer)
        assert sum(after.values()) == 0
