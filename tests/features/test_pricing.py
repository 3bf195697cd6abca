"""Packages composed of billing products: cost times rate, and a markup; frozen on the order."""

from __future__ import annotations

import random
import uuid
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import pytest

from planner.ids import encode_id
from services import pricing
from tests.support.commerce import PAY, REFUND, bought, funded, ordered, package_id, rates, said, step
from tests.support.world import World

PRODUCT = "billingProduct { id kind service code name cost currency upstreamArticle status supplier { name } }"
CREATE = f"""mutation($input: BillingProductInput!) {{ createBillingProduct(input: $input) {{
    {PRODUCT} errors {{ code field }} }} }}"""
UPDATE = f"""mutation($input: UpdateBillingProductInput!) {{ updateBillingProduct(input: $input) {{
    {PRODUCT} errors {{ code field }} }} }}"""
RATE = """mutation($input: ExchangeRateInput!) { setExchangeRate(input: $input) {
    exchangeRate { id fromCurrency toCurrency rate effectiveFrom account { name } } errors { code field } } }"""
COMPOSE = """mutation($input: ComposeDataPackageInput!) { composeDataPackage(input: $input) {
    dataPackage { pricing salePrice markup components { nodes { quantity product { code } } } }
    errors { code field message } } }"""
PACKAGE = """mutation($input: DataPackageInput!) { createDataPackage(input: $input) {
    dataPackage { id planKind dataVolumeMb smsCount voiceMinutes } errors { code field } } }"""
CHANGE = """mutation($input: UpdateDataPackageInput!) { updateDataPackage(input: $input) {
    dataPackage { salePrice } errors { code field } } }"""
PROFIT = """query($level: ProfitLevel!, $first: Date!, $last: Date!) {
    estimatedProfit(level: $level, firstDay: $first, lastDay: $last) {
        timeZone profits { currency orders revenue cost profit } errors { code field } } }"""


async def product(world: World, code: str, cost: str, currency: str = "CNY", **more: Any) -> str:
    input = {"kind": "INTERNAL", "service": "DATA", "code": code, "name": code, "cost": cost, "currency": currency}
    made = (await world.data("operations", CREATE, {"input": {**input, **more}}))["createBillingProduct"]
    assert made["errors"] == []
    id: str = made["billingProduct"]["id"]
    return id


async def rate(world: World, given: str, into: str, value: str, caller: str = "finance", **more: Any) -> dict[str, Any]:
    input = {"fromCurrency": given, "toCurrency": into, "rate": value, "idempotencyKey": str(uuid.uuid4()), **more}
    found: dict[str, Any] = (await world.data(caller, RATE, {"input": input}))["setExchangeRate"]
    return found


async def composed(world: World, *parts: tuple[str, int], caller: str = "operations", **more: Any) -> dict[str, Any]:
    input = {
        "package": package_id(world, "CM-M-1G"),
        "components": [{"product": id, "quantity": quantity} for id, quantity in parts],
        **more,
    }
    found: dict[str, Any] = (await world.data(caller, COMPOSE, {"input": input}))["composeDataPackage"]
    return found


async def price(world: World, code: str = "CM-M-1G") -> Decimal:
    rows = await world.sql("SELECT sale_price FROM data_package WHERE code = $1", code)
    found: Decimal = rows[0]["sale_price"]
    return found


@pytest.mark.feature("S2-06", "S2-07")
async def test_billing_products_are_kept_by_operations(world: World) -> None:
    supplier = encode_id("sup", next(iter(world.suppliers.values())).id)
    channel = {"kind": "DIRECT_CHANNEL", "service": "AIRTIME", "supplier": supplier, "upstreamArticle": " SKU-9 "}
    id = await product(world, "DC-1", "9.5", "USD", **channel)
    listed = "{ billingProducts(orderBy: [{field: CODE}]) { nodes { code cost upstreamArticle kind } } }"
    for caller in ("operations", "finance", "sales", "admin"):
        assert (await world.data(caller, listed))["billingProducts"]["nodes"] == [
            {"code": "DC-1", "cost": "9.5000", "upstreamArticle": "SKU-9", "kind": "DIRECT_CHANNEL"}
        ], caller
    changed = await world.data("operations", UPDATE, {"input": {"id": id, "name": "New", "status": "DISABLED"}})
    assert changed["updateBillingProduct"]["billingProduct"]["status"] == "DISABLED"
    base = {"kind": "INTERNAL", "service": "SMS", "code": "IN-1", "name": "Messages", "cost": "1"}
    for more, code, field in (
        ({"code": "DC-1"}, "TAKEN", "code"),
        ({"code": " "}, "REQUIRED", "code"),
        ({"cost": "-1"}, "NEGATIVE", "cost"),
        ({"cost": "0.00001"}, "INVALID", "cost"),
        ({"currency": "yuan"}, "INVALID", "currency"),
        ({"kind": "DIRECT_CHANNEL"}, "REQUIRED", "supplier"),
        ({"kind": "DIRECT_CHANNEL", "supplier": supplier}, "REQUIRED", "upstreamArticle"),
        ({"supplier": encode_id("sup", 10**9)}, "NOT_FOUND", "supplier"),
    ):
        refused = await world.data("operations", CREATE, {"input": {**base, **more}})
        assert said(refused["createBillingProduct"]) == [(code, field)], more
    for caller in ("finance", "sales", "north", "acme"):
        assert await world.codes(caller, CREATE, {"input": base}) == ["FORBIDDEN"], caller
    for caller in ("north", "acme"):
        assert await world.codes(caller, listed) == ["FORBIDDEN"], caller


@pytest.mark.feature("S2-10")
async def test_an_exchange_rate_holds_until_the_next(world: World) -> None:
    first = await rate(world, "USD", "CNY", "7.1234567891")
    assert first["exchangeRate"]["rate"] == "7.1234567891"
    assert first["exchangeRate"]["account"] == {"name": "finance"}
    await rate(world, "USD", "CNY", "7.2", caller="admin")
    ahead = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    assert (await rate(world, "USD", "CNY", "8", effectiveFrom=ahead))["errors"] == []
    listed = """{ exchangeRates(filter: {fromCurrency: {eq: "USD"}}, orderBy: [{field: EFFECTIVE_FROM}]) {
        nodes { rate } } }"""
    for caller in ("operations", "sales", "finance"):
        nodes = (await world.data(caller, listed))["exchangeRates"]["nodes"]
        assert [node["rate"] for node in nodes] == ["7.1234567891", "7.2000000000", "8.0000000000"], caller
    for more, code, field in (
        (("USD", "USD", "1"), "INVALID", "toCurrency"),
        (("dollar", "CNY", "1"), "INVALID", "fromCurrency"),
        (("USD", "CNY", "0"), "NOT_POSITIVE", "rate"),
        (("USD", "CNY", "-7"), "NOT_POSITIVE", "rate"),
        (("USD", "CNY", "1.00000000001"), "INVALID", "rate"),
        (("USD", "CNY", "1e10"), "INVALID", "rate"),
    ):
        assert said(await rate(world, *more)) == [(code, field)], more
    past = (datetime.now(UTC) - timedelta(days=1)).isoformat()
    assert said(await rate(world, "USD", "CNY", "7", effectiveFrom=past)) == [("IN_PAST", "effectiveFrom")]
    input = {"fromCurrency": "USD", "toCurrency": "CNY", "rate": "1", "idempotencyKey": "x"}
    for caller in ("operations", "sales", "north", "acme"):
        assert await world.codes(caller, RATE, {"input": input}) == ["FORBIDDEN"], caller
    for caller in ("north", "acme"):
        assert await world.codes(caller, listed) == ["FORBIDDEN"], caller


@pytest.mark.feature("S2-08", "S2-09", "S2-11", "S2-12")
@pytest.mark.parametrize(
    ("markup", "expected"),
    [
        (("FIXED", "PLUS", "1.5"), "22.9000"),
        (("FIXED", "MINUS", "1.4"), "20.0000"),
        (("PERCENT", "PLUS", "10"), "23.5400"),
        (("PERCENT", "MINUS", "50"), "10.7000"),
        (("FIXED", "PLUS", "0"), "21.4000"),
        (("FIXED", "MINUS", "21.4"), "0.0000"),
    ],
)
async def test_a_composed_package_costs_its_parts_and_the_markup(
    world: World, markup: tuple[str, str, str], expected: str
) -> None:
    """Two of 3.5 yuan and two dollars at 7.2: 21.4 yuan."""
    await rate(world, "USD", "CNY", "7.2")
    first, second = await product(world, "A", "3.5"), await product(world, "B", "1", "USD")
    kind, sign, amount = markup
    made = await composed(world, (first, 2), (second, 2), markupType=kind, markupSign=sign, markup=amount)
    assert made["errors"] == []
    assert (made["dataPackage"]["pricing"], made["dataPackage"]["salePrice"]) == ("COMPOSED", expected)
    assert made["dataPackage"]["components"]["nodes"] == [
        {"quantity": 2, "product": {"code": "A"}},
        {"quantity": 2, "product": {"code": "B"}},
    ]
    shown = '{ dataPackages(filter: {code: {eq: "CM-M-1G"}}) { nodes { salePrice currency } } }'
    for caller in ("coast", "acme"):
        nodes = (await world.data(caller, shown))["dataPackages"]["nodes"]
        assert nodes == [{"salePrice": expected, "currency": "CNY"}], caller
    for field in ("markup", "markupType", "components { totalCount }"):
        assert await world.codes("north", f"{{ dataPackages {{ nodes {{ {field} }} }} }}") == ["FORBIDDEN"], field


@pytest.mark.feature("S2-08", "S2-12")
async def test_compositions_that_are_refused(world: World) -> None:
    a, b = await product(world, "A", "3.5"), await product(world, "B", "1", "EUR")
    gone = await product(world, "C", "1")
    await world.data("operations", UPDATE, {"input": {"id": gone, "status": "DISABLED"}})
    before = await world.sql("SELECT * FROM data_package ORDER BY id")
    for parts, more, code, field in (
        ([(b, 1)], {}, "NO_EXCHANGE_RATE", "components"),
        ([(a, 0)], {}, "NOT_POSITIVE", "components.0.quantity"),
        ([(a, 1), (a, 2)], {}, "TAKEN", "components.1.product"),
        ([(a, 1), (gone, 1)], {}, "NOT_ACTIVE", "components.1.product"),
        ([(encode_id("bpr", 10**9), 1)], {}, "NOT_FOUND", "components.0.product"),
        ([(world.id("north"), 1)], {}, "INVALID_ID", "components.0.product"),
        ([(a, 1)], {"markup": "-1"}, "NEGATIVE", "markup"),
        ([(a, 1)], {"markup": "3.6", "markupSign": "MINUS"}, "NEGATIVE", "markup"),
        ([(a, 1)], {"package": encode_id("pkg", 10**9)}, "NOT_FOUND", "package"),
    ):
        assert said(await composed(world, *parts, **more)) == [(code, field)], (parts, more)
    assert await world.sql("SELECT * FROM data_package ORDER BY id") == before
    assert await world.sql("SELECT * FROM package_component") == []
    for caller in ("finance", "sales", "north", "acme"):
        input = {"package": package_id(world, "CM-M-1G"), "components": []}
        assert await world.codes(caller, COMPOSE, {"input": input}) == ["FORBIDDEN"], caller
    assert (await composed(world, (a, 1)))["errors"] == []
    change = {"input": {"id": package_id(world, "CM-M-1G"), "salePrice": "5"}}
    refused = (await world.data("operations", CHANGE, change))["updateDataPackage"]
    assert said(refused) == [("COMPOSED_PRICE", "salePrice")]
    assert (await composed(world))["dataPackage"] == {
        "pricing": "FIXED", "salePrice": "3.5000", "markup": None, "components": {"nodes": []},
    }  # fmt: skip
    assert (await world.data("operations", CHANGE, change))["updateDataPackage"]["errors"] == []


@pytest.mark.feature("S2-10", "S2-08", "S2-11")
async def test_costs_and_rates_are_frozen_on_the_order(world: World) -> None:
    await rate(world, "USD", "CNY", "7")
    await rates(world, "30", "0", "0")
    await funded(world, "north")
    a, b = await product(world, "A", "3"), await product(world, "B", "1", "USD")
    await composed(world, (a, 2), (b, 1), markupType="PERCENT", markup="10")
    made = (await ordered(world, "north"))["order"]
    assert made["amount"] == "28.6000"
    await world.data("operations", UPDATE, {"input": {"id": a, "cost": "30"}})
    assert await price(world) == Decimal("73.7")
    await rate(world, "USD", "CNY", "8")
    assert await price(world) == Decimal("74.8")
    paid = (await step(world, "north", PAY, made["id"]))["order"]
    assert (paid["amount"], [line["price"] for line in paid["lines"]["nodes"]]) == ("28.6000", ["14.3000"] * 2)
    parts = """query($id: ID!) { order(id: $id) { ... on PackageOrder { components { nodes {
        name quantity cost currency exchangeRate product { code } } } } } }"""
    for caller in ("finance", "operations", "sales", "admin"):
        assert (await world.data(caller, parts, {"id": made["id"]}))["order"]["components"]["nodes"] == [
            {"name": "A", "quantity": 2, "cost": "3.0000", "currency": "CNY", "exchangeRate": "1.0000000000",
             "product": {"code": "A"}},
            {"name": "B", "quantity": 1, "cost": "1.0000", "currency": "USD", "exchangeRate": "7.0000000000",
             "product": {"code": "B"}},
        ], caller  # fmt: skip
    for caller in ("north", "acme"):
        assert await world.codes(caller, parts, {"id": made["id"]}) == ["FORBIDDEN"], caller
    assert (await ordered(world, "north", world.card_ids("north")[:1]))["order"]["amount"] == "74.8000"


@pytest.mark.feature("S2-10")
async def test_a_rate_ahead_comes_into_force_on_its_day(world: World) -> None:
    await rate(world, "USD", "CNY", "7")
    await composed(world, (await product(world, "B", "1", "USD"), 1))
    ahead = datetime.now(UTC) + timedelta(hours=5)
    await rate(world, "USD", "CNY", "9", effectiveFrom=ahead.isoformat())
    database = world.client.application.runtime.database
    assert await pricing.reprice(database, ahead - timedelta(seconds=1)) == 0
    assert await price(world) == 7
    assert await pricing.reprice(database, ahead) == 1
    assert await pricing.reprice(database, ahead) == 0
    assert await price(world) == 9


@pytest.mark.feature("S2-11", "S2-12")
def test_a_price_is_what_exact_arithmetic_says() -> None:
    """Against the sum written out, rounded once, for random parts, rates and markups."""
    huge = pricing.Part(1, "", 10**6, Decimal(10) ** 10, "USD", "CNY", Decimal(10) ** 8)
    for nothing in ([], [huge]):
        with pytest.raises(pricing.Refusal) as refused:
            pricing.price_of(nothing, pricing.MarkupType.FIXED, pricing.MarkupSign.PLUS, Decimal(5))
        assert refused.value.code == "INVALID"
    chance = random.Random(13)
    for _ in range(500):
        parts = [
            pricing.Part(
                n, "", chance.randrange(1, 50), Decimal(chance.randrange(10**7)) / 10**4, "USD", "CNY",
                Decimal(chance.randrange(1, 10**12)) / 10**10,
            )
            for n in range(chance.randrange(1, 6))
        ]  # fmt: skip
        kind, sign = chance.choice(list(pricing.MarkupType)), chance.choice(list(pricing.MarkupSign))
        markup = Decimal(chance.randrange(10**6)) / 10**4
        cost = sum((part.cost * part.quantity * (part.rate or 0) for part in parts), Decimal(0))
        added = markup if kind is pricing.MarkupType.FIXED else cost * markup / 100
        expected = cost + added if sign is pricing.MarkupSign.PLUS else cost - added
        rounded = expected.quantize(Decimal("0.0001"), ROUND_HALF_UP)
        if rounded < 0:
            with pytest.raises(pricing.Refusal):
                pricing.price_of(parts, kind, sign, markup)
        else:
            assert pricing.price_of(parts, kind, sign, markup) == rounded


@pytest.mark.feature("S2-05")
async def test_a_package_holds_data_messages_or_minutes(world: World) -> None:
    supplier = encode_id("sup", next(s.id for c, s in world.suppliers.items() if c.name == "CMCC"))
    base = {
        "name": "Plan", "carrier": "CMCC", "periodType": "MONTHLY", "channelPrice": "1", "salePrice": "2",
        "supplier": supplier,
    }  # fmt: skip
    for code, more, expected in (
        ("D-1", {"dataVolumeMb": 10}, ("DATA", 10, None, None)),
        ("S-1", {"planKind": "SMS", "smsCount": 100}, ("SMS", 0, 100, None)),
        ("V-1", {"planKind": "VOICE", "voiceMinutes": 60, "smsCount": 5}, ("VOICE", 0, 5, 60)),
    ):
        made = (await world.data("operations", PACKAGE, {"input": {**base, "code": code, **more}}))["createDataPackage"]
        assert made["errors"] == []
        found = made["dataPackage"]
        shown = (found["planKind"], found["dataVolumeMb"], found["smsCount"], found["voiceMinutes"])
        assert shown == expected, code
    for more, code, field in (
        ({}, "NOT_POSITIVE", "dataVolumeMb"),
        ({"dataVolumeMb": -1}, "NOT_POSITIVE", "dataVolumeMb"),
        ({"planKind": "SMS"}, "NOT_POSITIVE", "smsCount"),
        ({"planKind": "SMS", "smsCount": 0}, "NOT_POSITIVE", "smsCount"),
        ({"planKind": "VOICE", "dataVolumeMb": 5}, "NOT_POSITIVE", "voiceMinutes"),
        ({"dataVolumeMb": 5, "voiceMinutes": 0}, "NOT_POSITIVE", "voiceMinutes"),
        ({"dataVolumeMb": 5, "validFrom": "2026-02-01T00:00:00Z", "validUntil": "2026-01-01T00:00:00Z"}, "INVALID",
         "validUntil"),
    ):  # fmt: skip
        refused = await world.data("operations", PACKAGE, {"input": {**base, "code": "X", **more}})
        assert said(refused["createDataPackage"]) == [(code, field)], more
    # an SMS plan is bought and lasts its month; nobody meters it
    await world.sql("UPDATE data_package SET sale_price = 0.5 WHERE code = 'S-1'")
    rows = await world.sql("SELECT id FROM data_package WHERE code = 'S-1'")
    await funded(world, "coast")
    card = world.card_ids("coast")[0]
    order = (await ordered(world, "coast", [card], package=encode_id("pkg", rows[0]["id"])))["order"]
    assert said(await step(world, "coast", PAY, order["id"])) == []
    state = await world.sql("SELECT status, data_volume_mb FROM package_subscription")
    assert [tuple(row) for row in state] == [("ACTIVE", 0)]


@pytest.mark.feature("S2-07")
async def test_what_no_upstream_delivers_yet_is_priced_and_not_sold(world: World) -> None:
    supplier = encode_id("sup", next(iter(world.suppliers.values())).id)
    channel = {"kind": "DIRECT_CHANNEL", "supplier": supplier, "upstreamArticle": "SKU-9"}
    made = await composed(world, (await product(world, "DC", "5", **channel), 2), markup="1")
    assert made["dataPackage"]["salePrice"] == "11.0000"
    assert said(await ordered(world, "north")) == [("CHANNEL_CLOSED", "package")]
    assert await world.sql("SELECT id FROM sales_order") == []


@pytest.mark.feature("S2-08", "S2-20")
async def test_a_buyer_is_not_told_why_a_package_has_no_price(world: World) -> None:
    await rate(world, "USD", "CNY", "7")
    await composed(world, (await product(world, "B", "1", "USD"), 1))
    await world.sql("UPDATE exchange_rate SET to_currency = 'EUR'")
    refused = await ordered(world, "north")
    assert said(refused) == [("PACKAGE_NOT_PRICED", "package")]
    assert "USD" not in str(refused)


@pytest.mark.feature("S2-08")
async def test_a_package_is_sold_while_it_is_valid(world: World) -> None:
    now = datetime.now(UTC)
    for begins, ends, sold in (
        (now + timedelta(hours=1), None, False),
        (None, now - timedelta(hours=1), False),
        (now - timedelta(hours=1), now + timedelta(hours=1), True),
    ):
        await world.sql(
            "UPDATE data_package SET valid_from = $1, valid_until = $2 WHERE code = 'CM-M-1G'", begins, ends
        )
        expected = [] if sold else [("NOT_ACTIVE", "package")]
        assert said(await ordered(world, "coast")) == expected


@pytest.mark.feature("S2-20")
async def test_what_is_likely_to_be_left_for_each_level(world: World) -> None:
    await rate(world, "USD", "CNY", "7")
    await rates(world, "30", "20", "10")
    for name in ("north", "coast"):
        await funded(world, name)
    await composed(world, (await product(world, "B", "2", "USD"), 1), markup="6")  # 14 + 6 = 20
    card = world.card_ids("coast")[:1]
    await bought(world, "coast", card)
    await bought(world, "north", world.card_ids("north")[:1])
    returned = await bought(world, "coast", card)
    assert said(await step(world, "finance", REFUND, returned, reason="complaint")) == []
    zone = await world.sql("SELECT (now() AT TIME ZONE 'Asia/Shanghai')::date AS today")
    today = zone[0]["today"].isoformat()

    async def estimate(caller: str, level: str) -> list[tuple[str, int, str, str, str]]:
        found = await world.data(caller, PROFIT, {"level": level, "first": today, "last": today})
        assert found["estimatedProfit"]["errors"] == []
        rows = found["estimatedProfit"]["profits"]
        return [(row["currency"], row["orders"], row["revenue"], row["cost"], row["profit"]) for row in rows]

    assert await estimate("coast", "SELF") == [("CNY", 1, "20.0000", "18.0000", "2.0000")]
    assert await estimate("coast", "CHILD") == []
    assert await estimate("north-east", "CHILD") == [("CNY", 1, "18.0000", "16.0000", "2.0000")]
    assert await estimate("north", "CHILD") == [("CNY", 1, "16.0000", "14.0000", "2.0000")]
    assert await estimate("north", "SELF") == [("CNY", 1, "20.0000", "14.0000", "6.0000")]
    assert await estimate("finance", "CHILD") == [("CNY", 2, "28.0000", "28.0000", "0.0000")]
    assert await estimate("finance", "SELF") == []
    variables = {"level": "SELF", "first": today, "last": today}
    for caller in ("acme", "operations", "sales"):
        assert await world.codes(caller, PROFIT, variables) == ["FORBIDDEN"], caller
    late = await world.data("north", PROFIT, {**variables, "first": "2026-02-01", "last": "2026-01-01"})
    assert said(late["estimatedProfit"]) == [("INVALID", "lastDay")]
