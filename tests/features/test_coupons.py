"""Coupons: asked for by merchants, issued by who decides on them, and taken off an order once."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.coupons import CouponApplication, CouponScope, CouponType
from services import orders
from services.coupons import amount_off
from tests.support.market import in_cash, item, once, refused, sold
from tests.support.world import World

FIELDS = "couponApplication { id status couponType threshold amountOff percentOff category quantity merchant { name } }"
TYPES = {
    "threshold": {"couponType": "THRESHOLD_OFF", "threshold": "100", "amountOff": "20"},
    "deduction": {"couponType": "DEDUCTION", "amountOff": "15"},
    "discount": {"couponType": "DISCOUNT", "percentOff": "12.5"},
    "discount from": {"couponType": "DISCOUNT", "percentOff": "20", "threshold": "50"},
}


async def applied(world: World, caller: str = "cafe", **more: Any) -> dict[str, Any]:
    now = datetime.now(UTC)
    input = {
        "name": "Spring",
        "scope": "ALL_CATEGORY",
        **TYPES["deduction"],
        "quantity": 3,
        "validFrom": (now - timedelta(hours=1)).isoformat(),
        "validUntil": (now + timedelta(days=1)).isoformat(),
        **more,
    }
    return await once(world, caller, "applyForCoupons", "ApplyForCouponsInput", FIELDS, **input)


async def decide(world: World, name: str, id: str, caller: str = "coupons", **more: Any) -> dict[str, Any]:
    kind = "RejectCouponApplicationInput" if name == "reject" else "CouponApplicationInput"
    selected = "couponApplication { status reason reviewedBy { login } }"
    return await once(world, caller, f"{name}CouponApplication", kind, selected, id=id, **more)


async def issued(world: World, caller: str = "cafe", **more: Any) -> list[str]:
    """Codes of coupons that a merchant has."""
    made = await applied(world, caller, **more)
    assert made["errors"] == []
    id = made["couponApplication"]["id"]
    assert (await decide(world, "approve", id))["errors"] == []
    listed = "query($id: ID!) { coupons(filter: {application: {eq: $id}}) { nodes { code } } }"
    return [node["code"] for node in (await world.data(caller, listed, {"id": id}))["coupons"]["nodes"]]


@pytest.mark.feature("S4-37")
@pytest.mark.feature("S4-65")
async def test_a_merchant_asks_and_the_bank_issues(world: World) -> None:
    made = await applied(world)
    application = made["couponApplication"]
    assert application | {"id": ""} == {
        "id": "",
        "status": "SUBMITTED",
        "couponType": "DEDUCTION",
        "threshold": None,
        "amountOff": "15.0000",
        "percentOff": None,
        "category": None,
        "quantity": 3,
        "merchant": {"name": world.tenants["cafe"].name},
    }
    payloads = await asyncio.gather(*(decide(world, "approve", application["id"]) for _ in range(3)))
    assert sorted(one["errors"] for one in payloads) == [[]] + [[("COUPON_APPLICATION_STATUS", "id")]] * 2
    query = "{ coupons { nodes { code application { name } } } }"
    for caller, count in (("cafe", 3), ("mall", 3), ("coupons", 3), ("gym", 0)):
        nodes = (await world.data(caller, query))["coupons"]["nodes"]
        assert len({node["code"] for node in nodes}) == count, caller
        assert all(len(node["code"]) == 12 and node["application"] == {"name": "Spring"} for node in nodes)
    second = (await applied(world))["couponApplication"]["id"]
    await world.sql("UPDATE tenant SET status = 'CLOSED' WHERE id = $1", world.tenants["cafe"].id)
    assert (await decide(world, "approve", second))["errors"] == [("NOT_ACTIVE", "id")]
    await world.sql("UPDATE tenant SET status = 'ACTIVE' WHERE id = $1", world.tenants["cafe"].id)
    assert (await decide(world, "reject", second, reason=""))["errors"] == [("REQUIRED", "reason")]
    rejected = await decide(world, "reject", second, reason="Too many this month.")
    assert rejected["couponApplication"] == {
        "status": "REJECTED",
        "reason": "Too many this month.",
        "reviewedBy": {"login": "coupons"},
    }
    third = (await applied(world))["couponApplication"]["id"]
    assert (await decide(world, "withdraw", third, "gym"))["errors"] == [("NOT_FOUND", "id")]
    assert (await decide(world, "withdraw", third, "cafe"))["couponApplication"]["status"] == "WITHDRAWN"
    assert (await decide(world, "approve", third))["errors"] == [("COUPON_APPLICATION_STATUS", "id")]
    text = "mutation($i: CouponApplicationInput!) { approveCouponApplication(input: $i) { errors { code } } }"
    for caller in ("cafe", "mall", "types", "contracts", "deposits", "operations"):
        assert await refused(world, caller, text, {"i": {"id": second, "idempotencyKey": "x"}}), caller
    for caller in ("types", "contracts", "deposits", "operations", "north"):
        assert await refused(world, caller, "{ couponApplications { totalCount } }"), caller


@pytest.mark.feature("S4-37")
async def test_what_a_type_of_coupon_does_not_have_is_refused(world: World) -> None:
    now = datetime.now(UTC)
    single = {"scope": "SINGLE_CATEGORY", "category": "drinks"}
    for more, error in (
        ({**TYPES["discount"], **single}, ("NOT_FOR_THIS_TYPE", "scope")),
        ({"scope": "SINGLE_CATEGORY"}, ("REQUIRED", "category")),
        ({"category": "drinks"}, ("NOT_FOR_THIS_TYPE", "category")),
        ({"couponType": "DEDUCTION", "threshold": "10"}, ("NOT_FOR_THIS_TYPE", "threshold")),
        ({"couponType": "THRESHOLD_OFF"}, ("REQUIRED", "threshold")),
        ({"couponType": "THRESHOLD_OFF", "threshold": "10"}, ("INVALID", "amountOff")),
        ({"couponType": "DISCOUNT"}, ("NOT_FOR_THIS_TYPE", "amountOff")),
        ({"couponType": "DISCOUNT", "amountOff": None}, ("REQUIRED", "percentOff")),
        ({**TYPES["discount"], "percentOff": "0", "amountOff": None}, ("NOT_POSITIVE", "percentOff")),
        ({**TYPES["discount"], "percentOff": "101", "amountOff": None}, ("INVALID", "percentOff")),
        ({"amountOff": "0"}, ("NOT_POSITIVE", "amountOff")),
        ({"quantity": 0}, ("NOT_POSITIVE", "quantity")),
        ({"quantity": 10_001}, ("TOO_MANY", "quantity")),
        ({"validUntil": (now - timedelta(hours=2)).isoformat()}, ("INVALID", "validUntil")),
        ({"name": " "}, ("REQUIRED", "name")),
        ({"amountOff": "0.0001"}, ("SMALLER_THAN_CENT", "amountOff")),
        ({"validFrom": "2026-01-01T00:00:00"}, ("INVALID", "validFrom")),
        ({"validUntil": "2099-01-01"}, ("INVALID", "validUntil")),
        ({"validFrom": "0001-01-01T00:00:00+14:00"}, ("INVALID", "validFrom")),
        ({"validUntil": "9999-12-31T23:59:59-12:00"}, ("INVALID", "validUntil")),
    ):
        if more.get("couponType") == "DISCOUNT" and "category" in more:
            more = {**more, "amountOff": None}
        assert (await applied(world, **more))["errors"] == [error], more
    await world.sql("UPDATE tenant SET onboarded_at = NULL WHERE id = $1", world.tenants["gym"].id)
    assert (await applied(world, "gym"))["errors"] == [("NOT_ONBOARDED", None)]


@pytest.mark.feature("S4-39")
@pytest.mark.feature("S4-40")
@pytest.mark.feature("S4-41")
@pytest.mark.parametrize(
    ("kind", "quantity", "expected"),
    [
        ("threshold", 3, None),
        ("threshold", 4, "20.0000"),
        ("deduction", 1, "15.0000"),
        ("discount", 1, "3.1200"),
        ("discount from", 1, None),
        ("discount from", 2, "10.0000"),
    ],
)
async def test_a_coupon_takes_off_what_it_says(world: World, kind: str, quantity: int, expected: str | None) -> None:
    tea = await item(world, "cafe", "Tea", "25")
    terms = {**TYPES[kind]} if "amountOff" in TYPES[kind] else {**TYPES[kind], "amountOff": None}
    (code, *_) = await issued(world, **terms)
    made = await sold(world, "cafe", (tea, quantity), couponCode=code.lower())
    if expected is None:
        assert made["errors"] == [("COUPON_THRESHOLD", "couponCode")]
    else:
        order = made["order"]
        assert (order["discount"], order["coupon"]) == (expected, {"code": code})
        assert Decimal(order["amount"]) == 25 * quantity - Decimal(expected)


async def test_a_coupon_of_one_category_holds_for_that_alone(world: World) -> None:
    tea, cup = await item(world, "cafe", "Tea", "8"), await item(world, "cafe", "Cup", "100", "things")
    first, second, *_ = await issued(world, scope="SINGLE_CATEGORY", category="drinks")
    assert (await sold(world, "cafe", (cup, 1), couponCode=first))["errors"] == [("COUPON_THRESHOLD", "couponCode")]
    assert (await sold(world, "cafe", (cup, 1), (tea, 1), couponCode=first))["order"]["amount"] == "100.0000"
    assert (await sold(world, "cafe", (cup, 1), (tea, 2), couponCode=second))["order"]["amount"] == "101.0000"


async def test_a_coupon_is_used_once_and_free_again_when_the_order_is_given_up(world: World) -> None:
    tea = await item(world, "cafe", "Tea", "25")
    code, other, _ = await issued(world)
    await item(world, "gym", "Hour", "30")
    assert (await sold(world, "cafe", (tea, 1), couponCode="NOSUCHCODE12"))["errors"] == [
        ("COUPON_NOT_FOUND", "couponCode")
    ]
    payloads = await asyncio.gather(*(sold(world, "cafe", (tea, 1), couponCode=code) for _ in range(5)))
    (good,) = [one["order"] for one in payloads if not one["errors"]]
    assert sorted(one["errors"] for one in payloads) == [[]] + [[("COUPON_TAKEN", "couponCode")]] * 4
    cancel = ("cancelOrder", "CancelOrderInput", "order { status }")
    assert (await once(world, "cafe", *cancel, id=good["id"]))["order"] == {"status": "CANCELLED"}
    again = (await sold(world, "cafe", (tea, 1), couponCode=code))["order"]
    await world.sql("UPDATE sales_order SET expires_at = now() - interval '1 minute' WHERE discount > 0")
    assert await orders.expire(world.client.application.runtime.database, datetime.now(UTC)) == 1
    third = (await sold(world, "cafe", (tea, 1), couponCode=code))["order"]
    assert len({good["id"], again["id"], third["id"]}) == 3
    assert (await in_cash(world, "cafe", third["id"]))["errors"] == []
    assert (await sold(world, "cafe", (tea, 1), couponCode=code))["errors"] == [("COUPON_TAKEN", "couponCode")]
    await world.sql(
        "UPDATE coupon_application SET valid_until = now() - interval '1 second', valid_from = now() - interval '1 day'"
    )
    assert (await sold(world, "cafe", (tea, 1), couponCode=other))["errors"] == [("COUPON_NOT_VALID", "couponCode")]


async def test_a_coupon_of_another_merchant_is_none(world: World) -> None:
    hour = await item(world, "gym", "Hour", "30")
    code, *_ = await issued(world)
    assert (await sold(world, "gym", (hour, 1), couponCode=code))["errors"] == [("COUPON_NOT_FOUND", "couponCode")]


@dataclass
class Line:
    category: str
    quantity: int
    price: Decimal


MONEY = st.decimals("0.01", "10000", places=2)
LINES = st.lists(st.builds(Line, st.sampled_from(["a", "b"]), st.integers(1, 50), MONEY), min_size=1, max_size=6)


@given(
    lines=LINES,
    kind=st.sampled_from(list(CouponType)),
    category=st.none() | st.just("a"),
    threshold=st.none() | MONEY,
    off=MONEY,
    percent=st.decimals("0.01", "100", places=2),
)
def test_no_coupon_takes_off_more_than_what_it_holds_for(
    lines: list[Line],
    kind: CouponType,
    category: str | None,
    threshold: Decimal | None,
    off: Decimal,
    percent: Decimal,
) -> None:
    terms = CouponApplication(
        scope=CouponScope.SINGLE_CATEGORY if category else CouponScope.ALL_CATEGORY,
        category=category,
        coupon_type=kind,
        threshold=threshold,
        amount_off=off,
        percent_off=percent,
    )
    base = sum((one.price * one.quantity for one in lines if category in (None, one.category)), start=Decimal(0))
    taken = amount_off(terms, lines)
    whole = base * percent / 100 if kind is CouponType.DISCOUNT else min(off, base)
    if not base or base < (threshold or 0) or whole < Decimal("0.01"):
        assert taken is None
        return
    assert taken is not None
    assert 0 <= taken <= base
    assert taken == taken.quantize(Decimal("0.01"))
    assert 0 <= whole - taken < Decimal("0.01")
    assert kind is CouponType.DISCOUNT or taken == whole
