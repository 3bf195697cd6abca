"""Buying and selling over HTTP: money paid in, agents' rates, orders made and paid, and what the books say."""

from __future__ import annotations

import uuid
from decimal import Decimal
from typing import Any

from planner.ids import encode_id
from tests.support.world import World

FIELDS = """id orderNo kind status amount currency source payType expiresAt paidAt closedAt closeReason
    needsCommission commissionStatus balanceAfter remark customer { name } creator { name }
    ... on PackageOrder { lines { nodes { name price dataVolumeMb periodType
        simCard { displayIccid } subscriptions { nodes { status } } } } }"""
ORDER = f"""mutation($input: OrderPackagesInput!) {{ orderPackages(input: $input) {{
    order {{ {FIELDS} }} errors {{ code field message }} }} }}"""
PAY = f"""mutation($input: PayOrderInput!) {{ payOrder(input: $input) {{
    order {{ {FIELDS} }} errors {{ code field message }} }} }}"""
REFUND = """mutation($input: RefundOrderInput!) { refundOrder(input: $input) {
    order { status closeReason commissionStatus } errors { code field } } }"""
RATE = """mutation($input: SetCommissionRateInput!) { setCommissionRate(input: $input) { errors { code } } }"""
RECORD = "mutation($input: RecordTopUpInput!) { recordTopUp(input: $input) { topUp { id } errors { code } } }"
CONFIRM = "mutation($input: SettleTopUpInput!) { confirmTopUp(input: $input) { errors { code } } }"
PRICE = Decimal("20.48")
"""Of a gigabyte a month, by the world's catalogue: a fiftieth for each of 1024 MB."""
CHAIN = (("admin", "north"), ("north", "north-east"), ("north-east", "coast"))


async def rates(world: World, *percents: str, package: str = "CM-M-1G") -> None:
    """What the three agents of a chain are given of the price, from the top."""
    for (giver, agent), percent in zip(CHAIN, percents, strict=True):
        input = {"agent": world.id(agent), "package": package_id(world, package), "percent": percent}
        data = await world.data(giver, RATE, {"input": {**input, "idempotencyKey": str(uuid.uuid4())}})
        assert data["setCommissionRate"]["errors"] == []


def package_id(world: World, code: str) -> str:
    return encode_id("pkg", world.packages[code].id)


async def funded(world: World, tenant: str, amount: str = "1000") -> None:
    """Money that a customer has paid in."""
    input = {"customer": world.id(tenant), "amount": amount, "receivedOn": "2026-03-02"}
    made = await world.data("finance", RECORD, {"input": {**input, "idempotencyKey": str(uuid.uuid4())}})
    id = made["recordTopUp"]["topUp"]["id"]
    confirmed = await world.data("finance", CONFIRM, {"input": {"id": id, "idempotencyKey": id}})
    assert confirmed["confirmTopUp"]["errors"] == []


async def ordered(
    world: World, caller: str, ids: list[str] | None = None, code: str = "CM-M-1G", **more: Any
) -> dict[str, Any]:
    input = {
        "package": package_id(world, code),
        "cards": {"ids": world.card_ids(caller)[:2] if ids is None else ids},
        "idempotencyKey": str(uuid.uuid4()),
        **more,
    }
    found: dict[str, Any] = (await world.data(caller, ORDER, {"input": input}))["orderPackages"]
    return found


async def step(world: World, caller: str, mutation: str, id: str, **more: Any) -> dict[str, Any]:
    input = {"id": id, "idempotencyKey": str(uuid.uuid4()), **more}
    data = await world.data(caller, mutation, {"input": input})
    found: dict[str, Any] = next(iter(data.values()))
    return found


async def bought(world: World, caller: str, cards: list[str] | None = None, package: str = "CM-M-1G") -> str:
    """A paid order's id."""
    id: str = (await ordered(world, caller, cards, package))["order"]["id"]
    assert (await step(world, caller, PAY, id))["errors"] == []
    return id


def said(payload: dict[str, Any]) -> list[tuple[str, str | None]]:
    return [(error["code"], error["field"]) for error in payload["errors"]]


async def balances(world: World) -> dict[tuple[str, str], Decimal]:
    rows = await world.sql("SELECT tenant_id, kind, balance FROM ledger_account WHERE balance <> 0")
    names = {tenant.id: name for name, tenant in world.tenants.items()}
    return {(names[row["tenant_id"]], row["kind"]): row["balance"] for row in rows}
