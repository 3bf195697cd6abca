"""What merchants sell: items, orders paid at the counter or through a channel, and who sees how much was sold."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from planner.ids import encode_id
from tests.support.channels import Collecting, collecting
from tests.support.commerce import REFUND, balances, said, step
from tests.support.market import applied, decided, did, in_cash, item, refused, shop_type, sold
from tests.support.world import World

SALES = """query($first: Date!, $last: Date!, $merchant: ID) {
    merchantSales(firstDay: $first, lastDay: $last, merchant: $merchant) {
        timeZone merchants { merchantId merchant currency orders amount discount } errors { code field } } }"""
ORDERS = "{ itemOrders { totalCount nodes { amount customer { name } } } }"


@pytest.fixture
async def channels(world: World, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Collecting]:
    async with collecting(world, monkeypatch) as found:
        yield found


async def sales(world: World, caller: str, merchant: str | None = None, **days: Any) -> dict[str, Any]:
    today = datetime.now(ZoneInfo("Asia/Shanghai")).date().isoformat()
    variables = {"first": today, "last": today, "merchant": merchant and world.id(merchant), **days}
    found: dict[str, Any] = (await world.data(caller, SALES, variables))["merchantSales"]
    return found


async def paid(world: World, caller: str, *lines: tuple[str, int]) -> str:
    id: str = (await sold(world, caller, *lines))["order"]["id"]
    assert (await in_cash(world, caller, id))["errors"] == []
    return id


@pytest.mark.feature("S4-05")
async def test_a_merchant_offers_items_and_changes_them(world: World) -> None:
    tea = await item(world, "cafe", " Tea ", "25.50")
    fields = "name category price currency status"
    change = ("updateMerchantItem", "UpdateMerchantItemInput", f"merchantItem {{ {fields} }}")
    changed = await did(world, "cafe", *change, id=tea, price="26", status="DISABLED")
    expected = {"name": "Tea", "category": "drinks", "price": "26.0000", "currency": "CNY", "status": "DISABLED"}
    assert changed["merchantItem"] == expected
    await item(world, "cafe", "Coffee", "30")
    create = ("createMerchantItem", "CreateMerchantItemInput", "")
    for more, error in (
        ({"name": "Tea"}, ("TAKEN", "name")),
        ({"name": " "}, ("REQUIRED", "name")),
        ({"category": ""}, ("REQUIRED", "category")),
        ({"price": "-1"}, ("NEGATIVE", "price")),
        ({"price": "0.001"}, ("SMALLER_THAN_CENT", "price")),
    ):
        input = {"name": "New", "category": "drinks", "price": "1", **more}
        assert (await did(world, "cafe", *create, **input))["errors"] == [error]
    assert (await did(world, "cafe", *change, id=tea, name="Coffee"))["errors"] == [("TAKEN", "name")]
    assert (await did(world, "gym", *change, id=tea, name="Mine"))["errors"] == [("NOT_FOUND", "id")]
    listed = f"{{ merchantItems(orderBy: [{{field: NAME}}]) {{ nodes {{ {fields} }} }} }}"
    for caller, names in (("cafe", ["Coffee", "Tea"]), ("gym", []), ("mall", ["Coffee", "Tea"])):
        assert [one["name"] for one in (await world.data(caller, listed))["merchantItems"]["nodes"]] == names
    for caller in ("types", "contracts", "deposits", "coupons", "north"):
        assert await refused(world, caller, listed), caller
    text = "mutation($input: CreateMerchantItemInput!) { createMerchantItem(input: $input) { errors { code } } }"
    for caller in ("mall", "operations", "types"):
        assert await refused(world, caller, text, {"input": {"name": "x", "category": "x", "price": "1"}}), caller


@pytest.mark.feature("S4-17")
async def test_somebody_without_a_card_buys_and_pays_at_the_counter(world: World) -> None:
    tea, cake = await item(world, "cafe", "Tea", "25.50"), await item(world, "cafe", "Cake", "30", "food")
    made = await sold(world, "cafe", (tea, 2), (cake, 1))
    order = made["order"]
    assert order | {"id": "", "orderNo": ""} == {
        "id": "",
        "orderNo": "",
        "kind": "SINGLE_ITEM",
        "status": "AWAITING_PAYMENT",
        "amount": "81.0000",
        "discount": "0.0000",
        "currency": "CNY",
        "payType": None,
        "paidAt": None,
        "source": "merchant",
        "buyerName": "Wang",
        "buyerPhone": "13812345678",
        "customer": {"name": world.tenants["cafe"].name},
        "seller": {"login": "cafe"},
        "coupon": None,
        "items": {
            "nodes": [
                {"name": "Tea", "category": "drinks", "quantity": 2, "price": "25.5000"},
                {"name": "Cake", "category": "food", "quantity": 1, "price": "30.0000"},
            ]
        },
    }
    await did(world, "cafe", "updateMerchantItem", "UpdateMerchantItemInput", "", id=tea, price="99")
    before = await balances(world)
    payloads = await asyncio.gather(*(in_cash(world, "cafe", order["id"]) for _ in range(4)))
    (good,) = [one["order"] for one in payloads if not one["errors"]]
    assert good == {"status": "PAID", "payType": "CASH", "amount": "81.0000"}
    assert await balances(world) == before
    masked = "{ itemOrders { nodes { buyerName buyerPhone items { nodes { price } } } } }"
    for caller in ("mall", "finance"):
        (seen,) = (await world.data(caller, masked))["itemOrders"]["nodes"]
        assert (seen["buyerName"], seen["buyerPhone"]) == ("W**", "138****5678")
        assert [one["price"] for one in seen["items"]["nodes"]] == ["25.5000", "30.0000"]


@pytest.mark.feature("S4-17")
async def test_an_order_that_cannot_be_is_refused_by_field(world: World) -> None:
    tea, hour = await item(world, "cafe", "Tea", "25"), await item(world, "gym", "Hour", "50")
    off = await item(world, "cafe", "Old tea", "10")
    await did(world, "cafe", "updateMerchantItem", "UpdateMerchantItemInput", "", id=off, status="DISABLED")
    (account,) = await world.sql("SELECT id FROM staff_account WHERE login = 'gym'")
    for lines, more, error in (
        ((), {}, ("REQUIRED", "lines")),
        (((tea, 1), (hour, 1)), {}, ("NOT_FOUND", "lines.1.item")),
        (((off, 1),), {}, ("NOT_ACTIVE", "lines.0.item")),
        (((tea, 1), (tea, 1)), {}, ("TAKEN", "lines.1.item")),
        (((tea, 0),), {}, ("INVALID", "lines.0.quantity")),
        (((tea, 1_001),), {}, ("INVALID", "lines.0.quantity")),
        (((tea, 1),), {"seller": encode_id("acc", account["id"])}, ("NOT_FOUND", "seller")),
        (((tea, 1),), {"buyer": {"name": " "}}, ("REQUIRED", "buyer.name")),
        (((tea, 1),), {"buyer": {"name": "Wang", "phone": "x"}}, ("INVALID_PHONE", "buyer.phone")),
    ):
        assert (await sold(world, "cafe", *lines, **more))["errors"] == [error]
    assert (await world.data("cafe", ORDERS))["itemOrders"]["totalCount"] == 0
    order = (await sold(world, "cafe", (tea, 1)))["order"]["id"]
    assert (await in_cash(world, "gym", order))["errors"] == [("NOT_FOUND", "id")]
    await world.sql("UPDATE sales_order SET expires_at = now()")
    assert (await in_cash(world, "cafe", order))["errors"] == [("ORDER_EXPIRED", "id")]
    await world.sql("UPDATE tenant SET onboarded_at = NULL WHERE id = $1", world.tenants["gym"].id)
    assert (await sold(world, "gym", (hour, 1)))["errors"] == [("NOT_ONBOARDED", None)]
    text = "mutation($i: PlaceItemOrderInput!) { placeItemOrder(input: $i) { errors { code } } }"
    input = {"lines": [{"item": tea}], "buyer": {"name": "x"}, "idempotencyKey": "x"}
    for caller in ("mall", "operations", "coupons", "north"):
        assert await refused(world, caller, text, {"i": input}), caller


@pytest.mark.feature("S4-17")
async def test_what_is_paid_through_a_channel_is_the_merchants(channels: Collecting) -> None:
    world = channels.world
    tea = await item(world, "cafe", "Tea", "25.50")
    order = (await sold(world, "cafe", (tea, 2)))["order"]["id"]
    assert said(await channels.ask("gym", order)) == [("NOT_FOUND", "order")]
    payment = (await channels.ask("cafe", order))["payment"]
    assert payment["amount"] == "51.0000"
    assert payment["codeUrl"].startswith("weixin://")
    await channels.wechat.pay(payment["paymentNo"])
    for _ in range(2):
        await channels.wechat.tell(payment["paymentNo"])
    shown = "{ itemOrders { nodes { status payType paidAt } } }"
    (paid_order,) = (await world.data("cafe", shown))["itemOrders"]["nodes"]
    assert (paid_order["status"], paid_order["payType"]) == ("PAID", "WECHAT_PAY")
    books = await balances(world)
    assert (books["cafe", "FUNDS"], books["platform", "RECEIPTS"]) == (Decimal(51), Decimal(-51))
    assert ("platform", "SALES") not in books
    funds = "query($id: ID!) { merchant(id: $id) { funds } }"
    for caller in ("cafe", "finance"):
        assert (await world.data(caller, funds, {"id": world.id("cafe")}))["merchant"] == {"funds": "51.0000"}
    for caller in ("mall", "types", "deposits"):
        assert await refused(world, caller, funds, {"id": world.id("cafe")}), caller
    assert (await in_cash(world, "cafe", order))["errors"] == [("ORDER_STATUS", "id")]
    back = await step(world, "finance", REFUND, order, reason="The machine was broken.")
    assert back["errors"] == []
    books = await balances(world)
    assert ("cafe", "FUNDS") not in books
    assert books["platform", "REFUNDS_DUE"] == 51
    assert sum(books.values()) == 0
    assert (await sales(world, "cafe"))["merchants"] == []


async def test_what_was_paid_at_the_counter_is_given_back_there(world: World) -> None:
    tea = await item(world, "cafe", "Tea", "25.50")
    order = await paid(world, "cafe", (tea, 2))
    before = await balances(world)
    assert (await step(world, "finance", REFUND, order, reason="Cold."))["order"]["status"] == "REFUNDED"
    assert await balances(world) == before


@pytest.mark.feature("S4-75")
async def test_an_operator_sees_what_all_sold_and_a_merchant_its_own(world: World) -> None:
    tea, hour = await item(world, "cafe", "Tea", "25.50"), await item(world, "gym", "Hour", "50")
    await paid(world, "cafe", (tea, 2))
    await paid(world, "cafe", (tea, 1))
    await paid(world, "gym", (hour, 1))
    await sold(world, "gym", (hour, 7))
    given_back = await paid(world, "gym", (hour, 3))
    await step(world, "finance", REFUND, given_back, reason="Closed.")

    def line(name: str, orders: int, amount: str) -> dict[str, Any]:
        told = {"merchantId": world.id(name), "merchant": world.tenants[name].name, "currency": "CNY"}
        return {**told, "orders": orders, "amount": amount, "discount": "0.0000"}

    cafe, gym = line("cafe", 2, "76.5000"), line("gym", 1, "50.0000")
    for caller, expected in (
        ("mall", [cafe, gym]),
        ("finance", [cafe, gym]),
        ("admin", [cafe, gym]),
        ("cafe", [cafe]),
        ("gym", [gym]),
    ):
        found = await sales(world, caller)
        assert (found["errors"], found["merchants"]) == ([], expected), caller
    for caller, orders in (("mall", 5), ("finance", 5), ("cafe", 2), ("gym", 3)):
        assert (await world.data(caller, ORDERS))["itemOrders"]["totalCount"] == orders, caller
    assert (await sales(world, "mall", "gym"))["merchants"] == [gym]
    assert said(await sales(world, "gym", "cafe")) == [("NOT_FOUND", "merchant")]
    assert said(await sales(world, "mall", "north")) == [("NOT_FOUND", "merchant")]
    for caller in ("types", "contracts", "deposits", "coupons", "north", "acme"):
        assert await refused(world, caller, SALES, {"first": "2026-01-01", "last": "2026-01-01"}), caller
        assert await refused(world, caller, ORDERS), caller


@pytest.mark.feature("S4-75")
async def test_sales_are_told_by_the_days_of_who_asks(world: World) -> None:
    tea = await item(world, "cafe", "Tea", "10")
    for moment in ("2026-03-04 15:59:59+00", "2026-03-04 16:00:00+00", "2026-03-05 15:59:59.999+00"):
        order = await paid(world, "cafe", (tea, 1))
        key = (await world.sql("SELECT max(id) AS id FROM sales_order"))[0]["id"]
        await world.sql("UPDATE sales_order SET paid_at = $1 WHERE id = $2", datetime.fromisoformat(moment), key)
        assert order
    days = {"first": "2026-03-05", "last": "2026-03-05"}
    assert [one["orders"] for one in (await sales(world, "mall", **days))["merchants"]] == [2]
    await world.sql("UPDATE tenant SET time_zone = 'UTC' WHERE id = $1", world.tenants["mall"].id)
    found = await sales(world, "mall", **days)
    assert (found["timeZone"], [one["orders"] for one in found["merchants"]]) == ("UTC", [1])
    for first, last, error in (
        ("2026-03-05", "2026-03-04", ("INVALID", "lastDay")),
        ("2026-03-05", "2027-03-06", ("TOO_MANY", "lastDay")),
    ):
        assert said(await sales(world, "mall", first=first, last=last)) == [error]


@pytest.mark.feature("S4-76")
async def test_of_two_merchants_one_has_a_module_and_the_other_has_not(world: World) -> None:
    module = "mutation($input: SetTenantModuleInput!) { setTenantModule(input: $input) { errors { code } } }"
    off = {"tenant": world.id("cafe"), "module": "coupon", "enabled": False}
    assert (await world.data("admin", module, {"input": off}))["setTenantModule"]["errors"] == []
    drawn = "{ viewer { modules { key } menus { key } } }"
    asked = "{ couponApplications { totalCount } }"
    for caller, modules in (("cafe", ["shop"]), ("gym", ["coupon", "shop"])):
        viewer = (await world.data(caller, drawn))["viewer"]
        assert [one["key"] for one in viewer["modules"]] == modules
        assert ("shop:coupon" in {menu["key"] for menu in viewer["menus"]}) is (caller == "gym")
        assert await refused(world, caller, asked) is (caller == "cafe")
        assert not await refused(world, caller, ORDERS)


@pytest.mark.feature("S4-76")
async def test_merchants_of_different_types_draw_different_pages(world: World) -> None:
    drawn = "{ viewer { menus { key variant } } }"
    for name, app in (("cafe", "wx0000000000000001"), ("gym", "wx0000000000000002")):
        type = await shop_type(world, f"type-of-{name}", pageVariant={"cafe": "counter", "gym": None}[name])
        assert await decided(world, await applied(world, name, type, app)) == []
    for caller, variant in (("cafe", "counter"), ("gym", None)):
        menus = (await world.data(caller, drawn))["viewer"]["menus"]
        assert {menu["variant"] for menu in menus if menu["key"].startswith("shop")} == {variant}
    # what was chosen for one company goes before
    module = "mutation($input: SetTenantModuleInput!) { setTenantModule(input: $input) { errors { code } } }"
    chosen = {"tenant": world.id("cafe"), "module": "shop", "enabled": True, "pageVariant": "kiosk"}
    assert (await world.data("admin", module, {"input": chosen}))["setTenantModule"]["errors"] == []
    menus = (await world.data("cafe", drawn))["viewer"]["menus"]
    assert {menu["variant"] for menu in menus if menu["key"] == "shop:order"} == {"kiosk"}


async def test_who_bought_is_forgotten_with_the_person(world: World) -> None:
    """Wherever in the platform the person bought something under its phone number; the books stay."""
    tea = await item(world, "cafe", "Tea", "25")
    person = world.end_users["north"]
    await world.sql("UPDATE end_user SET phone = '13987654321' WHERE id = $1", person.id)
    for phone in ("139 8765-4321", "+8613987654321", "13811112222"):
        assert (await sold(world, "cafe", (tea, 1), buyer={"name": "Somebody", "phone": phone}))["errors"] == []
    erase = "mutation($i: EraseEndUserInput!) { eraseEndUser(input: $i) { errors { code } } }"
    asked = {"endUser": encode_id("eus", person.id), "reason": "asked for"}
    assert (await world.data("admin", erase, {"i": asked}))["eraseEndUser"]["errors"] == []
    left = await world.sql("SELECT buyer_name, buyer_phone, amount FROM sales_order ORDER BY id")
    assert [tuple(row) for row in left] == [(None, None, 25), (None, None, 25), ("Somebody", "13811112222", 25)]
    told = await world.sql("SELECT arguments::text || changes::text AS said FROM operation_record")
    assert told
    assert not any("Somebody" in row["said"] or "13987654321" in row["said"] for row in told)
