"""A partner's system buys: with a key that may, once however often it asks, and is told how its orders stand."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from server.settings import PROJECT
from services import orders
from tasks.outbox import relay_events
from tests.support.commerce import PRICE, balances, funded, package_id
from tests.support.partner import signed
from tests.support.world import World

ISSUE = """mutation($input: IssueApiKeyInput!) { issueApiKey(input: $input) {
    apiKey { key } secret errors { code field } } }"""
ENDPOINT = """mutation($input: CreateWebhookEndpointInput!) { createWebhookEndpoint(input: $input) {
    errors { code field } } }"""
DELIVERIES = "{ webhookDeliveries(orderBy: [{field: ID}]) { nodes { eventType body } } }"


def shipped(path: str) -> str:
    """An operation as the partner's door ships it."""
    return (PROJECT / "frontends" / path).read_text("utf-8")


ORDER = shipped("shared/OrderPackages.graphql")
PAY = shipped("shared/PayOrder.graphql")
CANCEL = shipped("shared/CancelOrder.graphql")
BALANCE = shipped("partner/operations/Balance.graphql")


class Partner:
    """A system of a tenant's with a key of its own."""

    def __init__(self, world: World, key: str, secret: str) -> None:
        self.world, self.key, self.secret = world, key, secret

    async def ask(self, query: str, input: dict[str, Any] | None = None) -> dict[str, Any]:
        variables = {} if input is None else {"input": input}
        answer = await signed(self.world, query, key=self.key, secret=self.secret, variables=variables)
        found: dict[str, Any] = answer.json()
        return found

    async def call(self, query: str, input: dict[str, Any]) -> dict[str, Any]:
        """The payload of a mutation."""
        answer = await self.ask(query, input)
        assert "errors" not in answer, answer
        (payload,) = answer["data"].values()
        found: dict[str, Any] = payload
        return found

    async def codes(self, query: str, input: dict[str, Any]) -> list[str]:
        return [error["extensions"]["code"] for error in (await self.ask(query, input))["errors"]]


async def issued(world: World, tenant: str = "coast", role: str = "partner_buyer", **more: Any) -> Partner:
    input = {"tenant": world.id(tenant), "name": "Shop", "roles": [role], **more}
    made = (await world.data("admin", ISSUE, {"input": input}))["issueApiKey"]
    assert made["errors"] == []
    return Partner(world, made["apiKey"]["key"], made["secret"])


def wanted(world: World, key: str, tenant: str = "coast", cards: int = 1) -> dict[str, Any]:
    chosen = {"ids": world.card_ids(tenant)[:cards]}
    return {"package": package_id(world, "CM-M-1G"), "cards": chosen, "idempotencyKey": key}


@pytest.mark.feature("S0-54", "S2-04")
async def test_a_partner_buys_once_however_often_it_asks(world: World) -> None:
    await funded(world, "coast", "100")
    partner = await issued(world)
    asked = await asyncio.gather(*(partner.call(ORDER, wanted(world, "po-1")) for _ in range(4)))
    assert all(one == asked[0] for one in asked)
    order = asked[0]["order"]
    assert (order["status"], Decimal(order["amount"])) == ("AWAITING_PAYMENT", PRICE)
    pay = {"id": order["id"], "idempotencyKey": "pay-1"}
    paid = await asyncio.gather(*(partner.call(PAY, pay) for _ in range(4)))
    assert all(one["order"]["status"] == "PAID" and one["errors"] == [] for one in paid)
    assert len(await world.sql("SELECT id FROM sales_order")) == 1
    assert (await balances(world))["coast", "PREPAYMENT"] == 100 - PRICE
    (account,) = (await partner.ask(BALANCE))["data"]["ledgerAccounts"]["nodes"]
    assert (Decimal(account["balance"]), Decimal(account["available"])) == (100 - PRICE, 100 - PRICE)


@pytest.mark.feature("S0-54", "S2-04")
async def test_what_a_partner_cannot_pay_leaves_nothing_behind(world: World) -> None:
    partner = await issued(world)
    order = (await partner.call(ORDER, wanted(world, "po-1")))["order"]
    refused = await partner.call(PAY, {"id": order["id"], "idempotencyKey": "pay-1"})
    assert [error["code"] for error in refused["errors"]] == ["INSUFFICIENT_FUNDS"]
    assert await balances(world) == {}
    again = await partner.call(ORDER, wanted(world, "po-1", cards=2))
    assert [(error["code"], error["field"]) for error in again["errors"]] == [("KEY_REUSED", "idempotencyKey")]
    given_up = await partner.call(CANCEL, {"id": order["id"], "idempotencyKey": "c"})
    assert given_up["order"]["status"] == "CANCELLED"


@pytest.mark.feature("S0-18", "S0-54")
async def test_a_key_spends_only_what_it_was_given_for(world: World) -> None:
    await funded(world, "coast", "100")
    reader = await issued(world, role="partner")
    narrow = await issued(world, scopes=["Query.simCards", "SimCard.*"])
    input = {"tenant": world.id("coast"), "name": "Shop", "roles": ["partner_buyer"]}
    refused = (await world.data("operations", ISSUE, {"input": input}))["issueApiKey"]
    assert [error["code"] for error in refused["errors"]] == ["ROLE_NOT_GRANTABLE"], "who may not buy lets nobody buy"
    for partner in (reader, narrow):
        assert await partner.codes(ORDER, wanted(world, "po")) == ["FORBIDDEN"]
    neighbour = await issued(world, "south")
    order = (await (await issued(world)).call(ORDER, wanted(world, "po")))["order"]
    for query in (PAY, CANCEL):
        refused = await neighbour.call(query, {"id": order["id"], "idempotencyKey": "x"})
        assert [error["code"] for error in refused["errors"]] == ["NOT_FOUND"]
    refused = await neighbour.call(ORDER, wanted(world, "po"))
    assert [error["code"] for error in refused["errors"]] == ["CARDS_NOT_FOUND"]
    above = await issued(world, "north")
    refused = await above.call(PAY, {"id": order["id"], "idempotencyKey": "x"})
    assert [error["code"] for error in refused["errors"]] == ["NOT_FOUND"], "who stands above pays nobody else's order"


@pytest.mark.feature("S0-54", "S2-13")
async def test_a_partner_is_told_how_its_orders_stand(world: World) -> None:
    await funded(world, "coast", "100")
    partner = await issued(world)
    for tenant in ("coast", "south"):
        input = {"url": "https://192.0.0.9/hook", "events": ["ORDER_STATUS_CHANGED"]}
        assert (await world.data(tenant, ENDPOINT, {"input": input}))["createWebhookEndpoint"]["errors"] == []
    made = [(await partner.call(ORDER, wanted(world, f"po-{n}")))["order"]["id"] for n in range(3)]
    await partner.call(PAY, {"id": made[0], "idempotencyKey": "pay"})
    await partner.call(CANCEL, {"id": made[1], "idempotencyKey": "cancel"})
    runtime = world.client.application.runtime
    assert await orders.expire(runtime.database, datetime.now(UTC) + timedelta(days=400)) == 1
    await relay_events(runtime.database, lambda *_: None)
    nodes = (await world.data("coast", DELIVERIES))["webhookDeliveries"]["nodes"]
    assert {node["eventType"] for node in nodes} == {"order.status_changed"}
    told = [json.loads(node["body"])["data"] for node in nodes]
    assert told == [
        {"tenant": world.id("coast"), "order": order, "status": status}
        for order, status in zip(made, ("PAID", "CANCELLED", "EXPIRED"), strict=True)
    ]
    assert (await world.data("south", DELIVERIES))["webhookDeliveries"]["nodes"] == []
