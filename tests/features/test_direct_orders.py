"""Direct recharge: packages that upstreams deliver are told to them once, whatever happens on the way."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gateways.http import Partner
from gateways.upstream import upstreams
from gateways.upstream.registry import FAMILIES
from gateways.upstream.sandbox import Sandbox
from planner.ids import encode_id
from services import direct_orders
from tests.support.commerce import REFUND, balances, funded, said, step
from tests.support.serving import serving
from tests.support.world import World

SUPPLIER = """mutation($input: SupplierInput!) { createSupplier(input: $input) {
    supplier { id } errors { code field } } }"""
PRODUCT = """mutation($input: BillingProductInput!) { createBillingProduct(input: $input) {
    billingProduct { id } errors { code field } } }"""
COMPOSE = """mutation($input: ComposeDataPackageInput!) { composeDataPackage(input: $input) {
    dataPackage { id salePrice } errors { code field } } }"""
CREATE = """mutation($input: OrderPackagesInput!) { createDirectOrder(input: $input) {
    order { id status amount } errors { code field } } }"""
LIST = """{ directOrders { nodes { id cardNo service status attempts lastResponse quantity
    simCard { displayIccid } order { orderNo } } } }"""
STAFF = "{ directOrders { nodes { family requestNo upstreamNo article product { code } } } }"
RESOLVE = """mutation($input: ResolveDirectOrderInput!) { resolveDirectOrder(input: $input) {
    directOrder { status } errors { code field } } }"""
RETRY = """mutation($input: RetryDirectOrderInput!) { retryDirectOrder(input: $input) {
    directOrder { status } errors { code field } } }"""
BOTH = pytest.mark.parametrize("channel", ["PID", "SMART"], indirect=True)
SERVICES = ("AIRTIME", "DATA", "VOICE", "SMS")


@dataclass
class Channel:
    """A package that an upstream delivers, the upstream behind it, and money to buy with."""

    world: World
    sandbox: Sandbox
    package: str
    family: str

    async def order(self, *numbers: int, caller: str = "north") -> dict[str, Any]:
        cards = [self.world.card_ids(caller)[number] for number in numbers or (0,)]
        input = {"package": self.package, "cards": {"ids": cards}, "idempotencyKey": str(uuid.uuid4())}
        found: dict[str, Any] = (await self.world.data(caller, CREATE, {"input": input}))["createDirectOrder"]
        return found

    async def work(self, later: timedelta = timedelta()) -> None:
        runtime = self.world.client.application.runtime
        await direct_orders.carry_out(runtime.database, runtime.keys, datetime.now(UTC) + later)

    async def listed(self, caller: str = "north") -> list[dict[str, Any]]:
        nodes: list[dict[str, Any]] = (await self.world.data(caller, LIST))["directOrders"]["nodes"]
        return nodes


@pytest.fixture
async def channel(
    world: World, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> AsyncIterator[Channel]:
    family = getattr(request, "param", "PID")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    sandbox = Sandbox()
    async with serving(sandbox.app) as url:
        monkeypatch.setenv(f"TRELLIS_UPSTREAM_{family}_URL", url)
        adapter = FAMILIES[family](url, Partner("UPSTREAM", family, timeout_seconds=0.5))
        monkeypatch.setitem(upstreams._known, (family, url), adapter)
        package = await a_package(world, family.lower())
        await funded(world, "north")
        await world.sql("UPDATE sim_card SET msisdn = '1064800000' || (id % 10) || '0' || (id % 9)")
        for number, card in enumerate(world.cards["north"]):
            await world.sql("UPDATE sim_card SET msisdn = $1 WHERE id = $2", f"10648000{number:03d}2", card.id)
        yield Channel(world, sandbox, package, family)
        await adapter.close()


async def a_package(world: World, interface: str, service: str = "AIRTIME") -> str:
    made = await world.data("operations", SUPPLIER, {"input": {
        "name": f"Upstream {service}", "interfaceName": interface, "apiKey": "8001:sandbox",
        "supplierType": "DISTRIBUTOR",
    }})  # fmt: skip
    supplier = made["createSupplier"]["supplier"]["id"]
    input = {
        "kind": "DIRECT_CHANNEL", "service": service, "code": f"UP-{service}", "name": service, "cost": "10",
        "currency": "CNY", "supplier": supplier, "upstreamArticle": "SKU-50",
    }  # fmt: skip
    made = await world.data("operations", PRODUCT, {"input": input})
    product = made["createBillingProduct"]["billingProduct"]["id"]
    compose = {
        "package": encode_id("pkg", world.packages["CM-M-1G"].id),
        "components": [{"product": product, "quantity": 2}],
        "markupType": "FIXED", "markupSign": "PLUS", "markup": "5",
    }  # fmt: skip
    made = (await world.data("operations", COMPOSE, {"input": compose}))["composeDataPackage"]
    assert made["errors"] == []
    id: str = made["dataPackage"]["id"]
    return id


@BOTH
@pytest.mark.feature("S2-01", "S2-02", "S2-19")
async def test_a_paid_order_is_told_to_the_upstream_and_its_answer_kept(channel: Channel) -> None:
    world = channel.world
    made = await channel.order(0, 1)
    assert (made["errors"], made["order"]["status"]) == ([], "PAID")
    assert [one["status"] for one in await channel.listed()] == ["PENDING", "PENDING"]
    assert channel.sandbox.recharges == {}
    await world.client.work_off()
    found = await channel.listed()
    assert [(one["cardNo"], one["status"], one["attempts"], one["quantity"]) for one in found] == [
        ("106480000002", "SUCCEEDED", 1, 2),
        ("106480000012", "SUCCEEDED", 1, 2),
    ]
    assert all(one["lastResponse"] for one in found)
    taken = list(channel.sandbox.recharges.values())
    assert [(one["card"], one["product"], int(one["n"])) for one in taken] == [
        ("106480000002", "SKU-50", 2),
        ("106480000012", "SKU-50", 2),
    ]
    staff = (await world.data("operations", STAFF))["directOrders"]["nodes"]
    assert {(one["family"], one["article"], one["product"]["code"]) for one in staff} == {
        (channel.family, "SKU-50", "UP-AIRTIME")
    }
    assert {one["upstreamNo"] for one in staff} == {one["id"] for one in taken}
    for customer in ("north", "north-east"):
        assert await world.codes(customer, STAFF) == ["FORBIDDEN"]
    for stranger in ("south", "acme", "north-east"):
        assert await channel.listed(stranger) == []


@pytest.mark.feature("S2-03")
@pytest.mark.parametrize("service", SERVICES)
async def test_each_service_is_recharged_as_what_it_is(channel: Channel, service: str) -> None:
    words = {"AIRTIME": "HF", "DATA": "LL", "VOICE": "YY", "SMS": "DX"}
    if service != "AIRTIME":
        channel.package = await a_package(channel.world, "pid", service)
    await channel.order()
    await channel.world.client.work_off()
    assert [one["service"] for one in channel.sandbox.recharges.values()] == [words[service]]
    assert [one["service"] for one in await channel.listed()] == [service]


@BOTH
@pytest.mark.feature("S2-19")
@pytest.mark.parametrize("fault", ["timeout", "http_500", "bad_json"])
async def test_an_unknown_outcome_is_asked_after_and_never_told_again(channel: Channel, fault: str) -> None:
    channel.sandbox.faults[fault] = 1
    await channel.order()
    await channel.world.client.work_off()
    (one,) = await channel.listed()
    assert (one["status"], one["lastResponse"]) == ("UNKNOWN", "UPSTREAM_UNAVAILABLE")
    retried = await step(channel.world, "north", RETRY, one["id"])
    assert said(retried) == [("DIRECT_ORDER_STATUS", "id")]
    await channel.work(timedelta(minutes=1))
    (one,) = await channel.listed()
    assert (one["status"], one["attempts"]) == ("SUCCEEDED", 1)
    assert list(channel.sandbox.submits.values()) == [1]


@pytest.mark.feature("S2-19")
@pytest.mark.parametrize("delivered", [True, False])
async def test_staff_closes_what_an_upstream_does_not_tell(channel: Channel, delivered: bool) -> None:
    channel.sandbox.faults["lost"] = 1
    await channel.order()
    input = {"delivered": delivered, "reason": "told by telephone"}
    (one,) = await channel.listed()
    assert said(await step(channel.world, "operations", RESOLVE, one["id"], **input)) == [("DIRECT_ORDER_STATUS", "id")]
    await channel.world.client.work_off()
    assert said(await step(channel.world, "operations", RESOLVE, one["id"], **input)) == [("UNDER_WAY", "id")]
    await channel.world.sql("UPDATE direct_order SET submitted_at = now() - interval '6 minutes'")
    refused = await step(channel.world, "operations", RESOLVE, one["id"], **{**input, "reason": " "})
    assert [code for code, _ in said(refused)] == ["REQUIRED"]
    for caller in ("north", "sales", "finance"):
        given = {"input": {"id": one["id"], "idempotencyKey": "r", **input}}
        assert await channel.world.codes(caller, RESOLVE, given) == ["FORBIDDEN"], caller
    assert said(await step(channel.world, "operations", RESOLVE, one["id"], **input)) == []
    await channel.work(timedelta(minutes=8))
    (one,) = await channel.listed()
    assert (one["status"], one["lastResponse"]) == ("SUCCEEDED" if delivered else "FAILED", "told by telephone")
    (order,) = await channel.world.sql("SELECT id FROM sales_order")
    back = await step(channel.world, "finance", REFUND, encode_id("ord", order["id"]), reason="complaint")
    assert said(back) == ([("RECHARGED", "id")] if delivered else [])


@BOTH
async def test_what_the_upstream_never_had_is_told_again_once_that_is_sure(channel: Channel) -> None:
    channel.sandbox.faults["lost"] = 1
    await channel.order()
    await channel.world.client.work_off()
    await channel.work(timedelta(minutes=2))
    (one,) = await channel.listed()
    assert (one["status"], one["attempts"], channel.sandbox.recharges) == ("UNKNOWN", 1, {})
    await channel.work(timedelta(minutes=8))
    (one,) = await channel.listed()
    assert (one["status"], one["attempts"], len(channel.sandbox.recharges)) == ("SUCCEEDED", 2, 1)


@BOTH
async def test_a_worker_that_dies_after_the_upstream_was_told_tells_it_nothing_twice(channel: Channel) -> None:
    await channel.order()
    runtime = channel.world.client.application.runtime
    now = datetime.now(UTC)
    (due,) = await direct_orders._claim(runtime.database, runtime.keys, now)
    await direct_orders._ask(due)  # the answer is lost with the worker
    for minutes in (1, 3, 10):
        await channel.work(timedelta(minutes=minutes))
    (one,) = await channel.listed()
    assert (one["status"], one["attempts"]) == ("SUCCEEDED", 1)
    assert list(channel.sandbox.submits.values()) == [1]


@BOTH
async def test_many_workers_tell_each_recharge_once(channel: Channel) -> None:
    await channel.order(0, 1, 2)
    await asyncio.gather(*(channel.work() for _ in range(5)))
    assert sorted(channel.sandbox.submits.values()) == [1, 1, 1]
    assert {one["status"] for one in await channel.listed()} == {"SUCCEEDED"}


@BOTH
@pytest.mark.feature("S2-19")
async def test_what_is_under_way_is_waited_for_and_what_failed_may_be_tried_again(channel: Channel) -> None:
    world = channel.world
    for number, last in ((0, "7"), (1, "4")):
        card = world.cards["north"][number]
        await world.sql("UPDATE sim_card SET msisdn = $1 WHERE id = $2", f"1064800099{number}{last}", card.id)
    await channel.order(0, 1)
    await world.client.work_off()
    assert [one["status"] for one in await channel.listed()] == ["ACCEPTED", "FAILED"]
    channel.sandbox.finish()
    await channel.work(timedelta(minutes=1))
    waited, failed = await channel.listed()
    assert waited["status"] == "SUCCEEDED"
    assert said(await step(world, "north", RETRY, waited["id"])) == [("DIRECT_ORDER_STATUS", "id")]
    assert said(await step(world, "south", RETRY, failed["id"])) == [("NOT_FOUND", "id")]
    assert (await step(world, "north", RETRY, failed["id"]))["directOrder"] == {"status": "PENDING"}
    await world.client.work_off()
    assert [(one["status"], one["attempts"]) for one in await channel.listed()] == [("SUCCEEDED", 1), ("FAILED", 2)]
    assert len(channel.sandbox.recharges) == 3  # the second try has a number of its own


async def test_what_may_have_been_delivered_is_not_given_back(channel: Channel) -> None:
    world = channel.world
    card = world.cards["north"][0]
    order = (await channel.order())["order"]["id"]
    assert said(await step(world, "admin", REFUND, order, reason="a mistake")) == [("RECHARGED", "id")]
    await world.client.work_off()
    assert said(await step(world, "admin", REFUND, order, reason="a mistake")) == [("RECHARGED", "id")]
    await world.sql("UPDATE sim_card SET msisdn = '10648000004' WHERE id = $1", card.id)
    before = await balances(world)
    failed = (await channel.order())["order"]["id"]
    await world.client.work_off()
    assert (await step(world, "admin", REFUND, failed, reason="refused"))["errors"] == []
    assert await balances(world) == before
    (refused,) = [one["id"] for one in await channel.listed() if one["status"] == "FAILED"]
    assert said(await step(world, "north", RETRY, refused)) == [("ORDER_STATUS", "id")]


async def under_way(channel: Channel) -> None:
    """A recharge that the upstream has taken and not finished."""
    card = channel.world.cards["north"][0]
    await channel.world.sql("UPDATE sim_card SET msisdn = '10648009907' WHERE id = $1", card.id)
    await channel.order()
    await channel.world.client.work_off()
    assert [one["status"] for one in await channel.listed()] == ["ACCEPTED"]


async def set_key(channel: Channel, key: str) -> None:
    world = channel.world
    (row,) = await world.sql("SELECT id FROM supplier WHERE name LIKE 'Upstream%'")
    update = "mutation($input: UpdateSupplierInput!) { updateSupplier(input: $input) { errors { code } } }"
    input = {"id": encode_id("sup", row["id"]), "apiKey": key}
    assert (await world.data("operations", update, {"input": input}))["updateSupplier"]["errors"] == []


@BOTH
@pytest.mark.feature("S2-19")
async def test_a_refusal_to_tell_is_no_failed_recharge(channel: Channel) -> None:
    await under_way(channel)
    await set_key(channel, "8001:mistyped")
    await channel.work(timedelta(hours=1))
    (one,) = await channel.listed()
    assert (one["status"], one["lastResponse"]) == ("ACCEPTED", "UPSTREAM_UNAVAILABLE")
    await set_key(channel, "8001:sandbox")
    channel.sandbox.finish()
    await channel.work(timedelta(hours=3))
    assert [one["status"] for one in await channel.listed()] == ["SUCCEEDED"]


@BOTH
@pytest.mark.feature("S2-19")
async def test_what_was_told_by_one_account_is_not_told_by_another(channel: Channel) -> None:
    await under_way(channel)
    channel.sandbox.recharges.clear()  # another account knows of nothing
    await set_key(channel, "9009:sandbox")
    for hours in (1, 3, 6):
        await channel.work(timedelta(hours=hours))
    (one,) = await channel.listed()
    assert (one["status"], one["lastResponse"], one["attempts"]) == ("ACCEPTED", "ACCOUNT_CHANGED", 1)
    assert channel.sandbox.recharges == {}


@BOTH
async def test_what_an_upstream_has_spoken_of_is_never_told_again(channel: Channel) -> None:
    await under_way(channel)
    channel.sandbox.recharges.clear()  # it has forgotten, or put it away
    for hours in (1, 3):
        await channel.work(timedelta(hours=hours))
    assert [(one["status"], one["attempts"]) for one in await channel.listed()] == [("ACCEPTED", 1)]
    assert list(channel.sandbox.submits.values()) == [1]


async def test_nothing_is_sold_that_no_upstream_delivers(channel: Channel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRELLIS_UPSTREAM_PID_URL")
    assert said(await channel.order()) == [("CHANNEL_CLOSED", "package")]
    assert await channel.world.sql("SELECT FROM sales_order") == []


async def test_an_order_that_cannot_be_paid_is_not_made(channel: Channel) -> None:
    await channel.world.sql("UPDATE ledger_account SET floor = floor")
    made = await channel.order(0, caller="south")
    assert said(made) == [("INSUFFICIENT_FUNDS", "amount")]
    assert await channel.world.sql("SELECT FROM sales_order") == []


async def test_an_upstream_that_does_not_take_our_calls_fails_the_recharge(channel: Channel) -> None:
    await channel.world.sql("UPDATE supplier SET api_key_encrypted = NULL")
    await channel.order()
    await channel.world.client.work_off()
    (one,) = await channel.listed()
    assert (one["status"], one["lastResponse"]) == ("FAILED", "UPSTREAM_REFUSED")
