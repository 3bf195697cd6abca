"""Packet gateways: kept by operations, read by the platform's staff, nobody else's business."""

from __future__ import annotations

from typing import Any

import pytest

from planner.ids import encode_id
from tests.support.commerce import said
from tests.support.world import World

FIELDS = "packetGateway { id code name gatewayType apn ipAddress status enterprise { name } remark }"
CREATE = f"""mutation($input: PacketGatewayInput!) {{ createPacketGateway(input: $input) {{
    {FIELDS} errors {{ code field }} }} }}"""
UPDATE = f"""mutation($input: UpdatePacketGatewayInput!) {{ updatePacketGateway(input: $input) {{
    {FIELDS} errors {{ code field }} }} }}"""
DELETE = "mutation($id: ID!) { deletePacketGateway(id: $id) { done errors { code field } } }"
LIST = "query($filter: PacketGatewayFilter) { packetGateways(filter: $filter) { nodes { code status } } }"
GATEWAY = {"code": "pgw-hz-1", "name": "Hangzhou", "gatewayType": "PGW"}


async def created(world: World, **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = (await world.data("operations", CREATE, {"input": {**GATEWAY, **more}}))[
        "createPacketGateway"
    ]
    return found


@pytest.mark.feature("S0-59")
async def test_gateways_are_kept_by_operations(world: World) -> None:
    made = await created(world, apn=" cmiot ", ipAddress="10.0.0.1", enterprise=world.id("acme"), remark="rack 7")
    gateway = made["packetGateway"]
    assert gateway | {"id": ""} == {
        "id": "",
        **GATEWAY,
        "apn": "cmiot",
        "ipAddress": "10.0.0.1",
        "status": "ACTIVE",
        "enterprise": {"name": world.tenants["acme"].name},
        "remark": "rack 7",
    }
    await created(world, code="lns-1", gatewayType="LNS")
    input = {"id": gateway["id"], "status": "DISABLED", "name": "Old"}
    changed = (await world.data("admin", UPDATE, {"input": input}))["updatePacketGateway"]["packetGateway"]
    assert (changed["status"], changed["name"], changed["apn"]) == ("DISABLED", "Old", "cmiot")
    for caller in ("operations", "finance", "sales", "admin"):
        nodes = (await world.data(caller, LIST, {"filter": {"status": {"eq": "ACTIVE"}}}))["packetGateways"]["nodes"]
        assert nodes == [{"code": "lns-1", "status": "ACTIVE"}], caller
    own = {"filter": {"enterprise": {"eq": world.id("acme")}}}
    assert (await world.data("sales", LIST, own))["packetGateways"]["nodes"] == [
        {"code": "pgw-hz-1", "status": "DISABLED"}
    ]
    assert (await world.data("operations", DELETE, {"id": gateway["id"]}))["deletePacketGateway"]["done"] is True
    assert said((await world.data("operations", DELETE, {"id": gateway["id"]}))["deletePacketGateway"]) == [
        ("NOT_FOUND", "id")
    ]


@pytest.mark.feature("S0-59")
async def test_gateways_that_are_refused(world: World) -> None:
    assert (await created(world))["errors"] == []
    before = await world.sql("SELECT * FROM packet_gateway")
    for more, code, field in (
        ({}, "TAKEN", "code"),
        ({"code": "two words"}, "INVALID", "code"),
        ({"code": "b", "name": " "}, "REQUIRED", "name"),
        ({"code": "b", "ipAddress": "10.0.0.256"}, "INVALID_ADDRESS", "ipAddress"),
        ({"code": "b", "enterprise": world.id("north")}, "NOT_FOUND", "enterprise"),
        ({"code": "b", "enterprise": encode_id("ten", 10**9)}, "NOT_FOUND", "enterprise"),
        ({"code": "b", "enterprise": world.card_ids("north")[0]}, "INVALID_ID", "enterprise"),
    ):
        assert said(await created(world, **more)) == [(code, field)], more
    for caller in ("finance", "sales", "north", "acme"):
        assert await world.codes(caller, CREATE, {"input": {**GATEWAY, "code": "mine"}}) == ["FORBIDDEN"], caller
        assert await world.codes(caller, DELETE, {"id": "x"}) == ["FORBIDDEN"], caller
    for caller in ("north", "acme"):
        assert await world.codes(caller, LIST) == ["FORBIDDEN"], caller
    assert await world.sql("SELECT * FROM packet_gateway") == before
