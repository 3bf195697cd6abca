"""Managed network devices: identity, status, load and firmware (S1-23)."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from planner.ids import encode_id
from tests.support.world import World

IDENTITY = """id name macAddress serialNumber siteKey deviceType subtype series model tagName ipAddress ipv6Addresses
    publicIpAddress firmwareVersion licenseStatus uplinkMacAddress uplinkName uplinkPort linkSpeedMbps duplex
    switchConsistent"""
STATE = "status lastSeenAt uptimeSeconds cpuUtilisation memoryUtilisation"
DEVICE = f"{IDENTITY} {STATE}"
CREATE = f"""mutation($input: NetworkDeviceInput!) {{ createNetworkDevice(input: $input) {{
    networkDevice {{ {DEVICE} }} errors {{ code field }} }} }}"""
UPDATE = f"""mutation($input: UpdateNetworkDeviceInput!) {{ updateNetworkDevice(input: $input) {{
    networkDevice {{ {DEVICE} }} errors {{ code field }} }} }}"""
REPORT = f"""mutation($input: NetworkDeviceReportInput!) {{ reportNetworkDevice(input: $input) {{
    networkDevice {{ {DEVICE} }} errors {{ code field }} }} }}"""
DELETE = "mutation($id: ID!) { deleteNetworkDevice(id: $id) { done errors { code field } } }"
ONE = f"query($id: ID!) {{ networkDevice(id: $id) {{ {DEVICE} }} }}"
LIST = """query($filter: NetworkDeviceFilter, $orderBy: [NetworkDeviceOrder!]) {
    networkDevices(first: 50, filter: $filter, orderBy: $orderBy) { totalCount nodes { name } } }"""
MAC = "d0:50:99:84:a2:a0"
SEEN_AT = "2026-02-01T08:30:00+00:00"
FULL = {
    "name": " Hall 1 ",
    "macAddress": "D0-50-99-84-A2-A0",
    "serialNumber": "223A4567",
    "siteKey": "6512ab",
    "deviceType": "ACCESS_POINT",
    "subtype": "ceiling",
    "series": "EAP6",
    "model": "EAP670",
    "tagName": "hall",
    "ipAddress": "192.168.1.7",
    "ipv6Addresses": ["2001:0DB8:0:0:0:0:0:1", "fe80::1", "2001:db8::1"],
    "publicIpAddress": "198.51.100.4",
    "firmwareVersion": "1.0.3",
    "licenseStatus": "ACTIVE",
    "uplinkMacAddress": "2:0:0:0:0:1",
    "uplinkName": "Switch 1",
    "uplinkPort": "7",
    "linkSpeedMbps": 1000,
    "duplex": "FULL",
    "switchConsistent": True,
}
NORMAL = {
    **FULL,
    "name": "Hall 1",
    "macAddress": MAC,
    "ipv6Addresses": ["2001:db8::1", "fe80::1"],
    "uplinkMacAddress": "02:00:00:00:00:01",
}
UNSEEN = {
    "status": "PENDING",
    "lastSeenAt": None,
    "uptimeSeconds": None,
    "cpuUtilisation": None,
    "memoryUtilisation": None,
}
PLAIN = {"name": "Plain", "macAddress": "02:00:00:00:00:99", "deviceType": "SWITCH"}


async def stored(world: World) -> list[Any]:
    """All that a refused change must leave as it was."""
    return await world.sql("SELECT * FROM network_device ORDER BY id")


async def made(world: World, caller: str, input: dict[str, Any] | None = None) -> dict[str, Any]:
    payload = (await world.data(caller, CREATE, {"input": input or FULL}))["createNetworkDevice"]
    assert payload["errors"] == []
    found: dict[str, Any] = payload["networkDevice"]
    return found


async def said(world: World, caller: str, mutation: str, input: dict[str, Any]) -> list[tuple[str, str]]:
    """The refusals of a mutation of one device; it shows none then."""
    (payload,) = (await world.data(caller, mutation, {"input": input})).values()
    assert (payload["networkDevice"] is None) is bool(payload["errors"])
    return [(error["code"], error["field"]) for error in payload["errors"]]


@pytest.mark.feature("S1-23")
@pytest.mark.parametrize("caller", ["acme", "north", "admin"])
async def test_a_device_is_made_changed_and_removed(world: World, caller: str) -> None:
    device = await made(world, caller)
    expected = {"id": device["id"], **NORMAL, **UNSEEN}
    assert device == expected
    changes: tuple[dict[str, Any], ...] = (
        {"name": "Hall 2"},
        {"macAddress": "d0:50:99:84:a2:a1", "serialNumber": "223A4568"},
        {"deviceType": "GATEWAY", "model": "ER605", "series": "ER6", "subtype": "desk", "tagName": "cellar"},
        {"ipAddress": "10.0.0.1", "ipv6Addresses": [], "publicIpAddress": "2001:db8::2"},
        {"firmwareVersion": "2.0", "licenseStatus": "EXPIRED", "switchConsistent": False},
        {"uplinkMacAddress": "02:00:00:00:00:02", "uplinkName": "Switch 2", "uplinkPort": "8"},
        {"linkSpeedMbps": 10, "duplex": "HALF", "siteKey": "other"},
    )
    for change in changes:
        payload = await world.data(caller, UPDATE, {"input": {"id": device["id"], **change}})
        expected |= change
        assert payload["updateNetworkDevice"] == {"networkDevice": expected, "errors": []}
    assert (await world.data(caller, ONE, {"id": device["id"]}))["networkDevice"] == expected
    removed = (await world.data(caller, DELETE, {"id": device["id"]}))["deleteNetworkDevice"]
    assert removed == {"done": True, "errors": []}
    assert (await world.data(caller, ONE, {"id": device["id"]}))["networkDevice"] is None
    assert await stored(world) == []
    again = (await world.data(caller, DELETE, {"id": device["id"]}))["deleteNetworkDevice"]
    assert again == {"done": False, "errors": [{"code": "NOT_FOUND", "field": "id"}]}
    # what was removed is in nobody's way
    assert (await made(world, caller))["macAddress"] == MAC


@pytest.mark.feature("S1-23")
async def test_a_device_needs_a_name_a_mac_address_and_a_type(world: World) -> None:
    device = await made(world, "acme", PLAIN)
    nothing = {name: None for name in FULL if name not in PLAIN}
    assert device == {"id": device["id"], **PLAIN, **nothing, "ipv6Addresses": [], **UNSEEN}


@pytest.mark.feature("S1-23")
async def test_how_a_device_was_when_it_was_seen(world: World) -> None:
    device = await made(world, "acme")
    report: dict[str, Any] = {
        "id": device["id"],
        "status": "CONNECTED",
        "seenAt": "2026-02-01T16:30:00+08:00",
        "uptimeSeconds": 86_400,
        "cpuUtilisation": 100,
        "memoryUtilisation": 0,
        "firmwareVersion": "1.0.4",
        "ipAddress": "192.168.1.8",
        "ipv6Addresses": ["FE80::2"],
        "publicIpAddress": "198.51.100.5",
    }
    expected = device | {name: value for name, value in report.items() if name != "seenAt"}
    expected |= {"lastSeenAt": SEEN_AT, "ipv6Addresses": ["fe80::2"]}
    payload = (await world.data("acme", REPORT, {"input": report}))["reportNetworkDevice"]
    assert payload == {"networkDevice": expected, "errors": []}
    # a report leaves what it does not tell; one from the same moment is as good, an older one is not
    for status, seen_at, errors in (
        ("HEARTBEAT_MISSED", SEEN_AT, []),
        ("DISCONNECTED", "2026-02-01T08:29:59Z", [("PAST_REPORT", "seenAt")]),
        ("ISOLATED", "2026-02-01T08:30:01Z", []),
    ):
        input = {"id": device["id"], "status": status, "seenAt": seen_at}
        assert await said(world, "acme", REPORT, input) == errors, status
    expected |= {"status": "ISOLATED", "lastSeenAt": "2026-02-01T08:30:01+00:00"}
    assert (await world.data("acme", ONE, {"id": device["id"]}))["networkDevice"] == expected


@pytest.mark.feature("S1-23")
async def test_of_reports_that_come_at_once_the_latest_stays(world: World) -> None:
    device = await made(world, "acme")
    await world.token("acme")
    start = datetime(2026, 2, 1, tzinfo=UTC)
    order = [7, 2, 9, 0, 5, 1, 8, 3, 6, 4]
    answers = await asyncio.gather(
        *(
            said(
                world,
                "acme",
                REPORT,
                {
                    "id": device["id"],
                    "status": "CONNECTED",
                    "seenAt": (start + timedelta(seconds=n)).isoformat(),
                    "uptimeSeconds": n,
                },
            )
            for n in order
        )
    )
    assert all(errors in ([], [("PAST_REPORT", "seenAt")]) for errors in answers)
    found = (await world.data("acme", ONE, {"id": device["id"]}))["networkDevice"]
    assert (found["uptimeSeconds"], found["lastSeenAt"]) == (9, "2026-02-01T00:00:09+00:00")


@pytest.mark.feature("S1-23")
async def test_what_is_wrong_is_refused_by_its_field(world: World) -> None:
    taken = await made(world, "acme")
    other = await made(world, "acme", PLAIN | {"serialNumber": "B"})
    before = await stored(world)
    for change, code, field in (
        ({"name": " "}, "REQUIRED", "name"),
        ({"name": "x" * 65}, "INVALID", "name"),
        ({"macAddress": "D0:50:99:84:A2:A0"}, "TAKEN", "macAddress"),
        ({"macAddress": " "}, "REQUIRED", "macAddress"),
        ({"macAddress": "d0:50:99:84:a2"}, "INVALID_MAC_ADDRESS", "macAddress"),
        ({"macAddress": "d0:50:99:84:a2:g0"}, "INVALID_MAC_ADDRESS", "macAddress"),
        ({"macAddress": "ff:ff:ff:ff:ff:ff"}, "INVALID_MAC_ADDRESS", "macAddress"),
        ({"macAddress": "01:00:5e:00:00:01"}, "INVALID_MAC_ADDRESS", "macAddress"),
        ({"serialNumber": taken["serialNumber"]}, "TAKEN", "serialNumber"),
        ({"serialNumber": " "}, "REQUIRED", "serialNumber"),
        ({"model": "bad\x00text"}, "INVALID", "model"),
        ({"firmwareVersion": "x" * 65}, "INVALID", "firmwareVersion"),
        ({"siteKey": "x" * 65}, "INVALID", "siteKey"),
        ({"ipAddress": "192.168.1.256"}, "INVALID_ADDRESS", "ipAddress"),
        ({"ipAddress": "192.168.1.0/24"}, "INVALID_ADDRESS", "ipAddress"),
        ({"publicIpAddress": "example.com"}, "INVALID_ADDRESS", "publicIpAddress"),
        ({"ipv6Addresses": ["fe80::1", "192.168.1.7"]}, "INVALID_ADDRESS", "ipv6Addresses"),
        ({"ipv6Addresses": [f"fe80::{n}" for n in range(17)]}, "TOO_MANY", "ipv6Addresses"),
        ({"uplinkMacAddress": "x"}, "INVALID_MAC_ADDRESS", "uplinkMacAddress"),
        ({"linkSpeedMbps": 0}, "INVALID", "linkSpeedMbps"),
    ):
        new = {**PLAIN, "macAddress": "02:00:00:00:00:98", **change}
        assert await said(world, "acme", CREATE, new) == [(code, field)], change
        assert await said(world, "acme", UPDATE, {"id": other["id"], **change}) == [(code, field)], change
    soon = (datetime.now(UTC) + timedelta(minutes=6)).isoformat()
    for change, code, field in (
        ({"seenAt": soon}, "INVALID", "seenAt"),
        ({"cpuUtilisation": 101}, "INVALID", "cpuUtilisation"),
        ({"cpuUtilisation": -1}, "INVALID", "cpuUtilisation"),
        ({"memoryUtilisation": 101}, "INVALID", "memoryUtilisation"),
        ({"uptimeSeconds": -1}, "INVALID", "uptimeSeconds"),
        ({"ipAddress": "here"}, "INVALID_ADDRESS", "ipAddress"),
    ):
        report = {"id": other["id"], "status": "CONNECTED", "seenAt": SEEN_AT, **change}
        assert await said(world, "acme", REPORT, report) == [(code, field)], change
    for mutation, input in ((UPDATE, {"name": "x"}), (REPORT, {"status": "CONNECTED", "seenAt": SEEN_AT})):
        for id, code in ((encode_id("nwd", 10**9), "NOT_FOUND"), (world.id("acme"), "INVALID_ID")):
            assert await said(world, "acme", mutation, {"id": id, **input}) == [(code, "id")]
    assert await stored(world) == before


@pytest.mark.feature("S1-23")
async def test_two_at_once_cannot_have_one_mac_address_but_two_tenants_can(world: World) -> None:
    await world.token("acme")
    answers = await asyncio.gather(*(said(world, "acme", CREATE, FULL | {"serialNumber": str(n)}) for n in range(4)))
    assert sorted(answers) == [[], *[[("TAKEN", "macAddress")]] * 3]
    assert (await made(world, "north"))["macAddress"] == MAC


@pytest.mark.feature("S1-23")
async def test_devices_are_listed_filtered_and_sorted(world: World) -> None:
    for n, (type, status) in enumerate(
        (("ACCESS_POINT", "CONNECTED"), ("SWITCH", "DISCONNECTED"), ("ACCESS_POINT", "DISCONNECTED"))
    ):
        device = await made(
            world, "acme", {"name": f"Device {n}", "macAddress": f"02:00:00:00:00:0{n}", "deviceType": type}
        )
        report = {"id": device["id"], "status": status, "seenAt": f"2026-02-0{3 - n}T00:00:00Z", "cpuUtilisation": n}
        assert await said(world, "acme", REPORT, report) == []

    async def names(filter: dict[str, Any] | None = None, field: str = "NAME", direction: str = "ASC") -> list[str]:
        variables = {"filter": filter, "orderBy": [{"field": field, "direction": direction}]}
        found = (await world.data("acme", LIST, variables))["networkDevices"]
        assert found["totalCount"] == len(found["nodes"])
        return [node["name"][-1] for node in found["nodes"]]

    assert await names() == ["0", "1", "2"]
    assert await names({"deviceType": {"eq": "ACCESS_POINT"}, "status": {"eq": "DISCONNECTED"}}) == ["2"]
    assert await names({"cpuUtilisation": {"gte": 1}}, "CPU_UTILISATION", "DESC") == ["2", "1"]
    assert await names({"macAddress": {"eq": "02:00:00:00:00:01"}}) == ["1"]
    assert await names({"lastSeenAt": {"lt": "2026-02-03T00:00:00Z"}}, "LAST_SEEN_AT") == ["2", "1"]


@pytest.mark.feature("S1-23")
async def test_who_sees_a_device_and_who_does_not(world: World) -> None:
    device = await made(world, "north-east")
    before = await stored(world)
    change = {"id": device["id"], "name": "Taken"}
    report = {"id": device["id"], "status": "ISOLATED", "seenAt": SEEN_AT}
    # the platform's other staff look on
    for caller in ("operations", "finance", "sales"):
        assert (await world.data(caller, ONE, {"id": device["id"]}))["networkDevice"] == device
        for mutation, input in ((CREATE, PLAIN), (UPDATE, change), (REPORT, report)):
            assert await world.codes(caller, mutation, {"input": input}) == ["FORBIDDEN"], caller
        assert await world.codes(caller, DELETE, {"id": device["id"]}) == ["FORBIDDEN"], caller
    # who stands beside or below sees nothing of it
    for caller in ("south", "acme", "coast"):
        assert (await world.data(caller, ONE, {"id": device["id"]}))["networkDevice"] is None
        assert (await world.data(caller, LIST))["networkDevices"] == {"totalCount": 0, "nodes": []}
        for mutation, input in ((UPDATE, change), (REPORT, report)):
            assert await said(world, caller, mutation, input) == [("NOT_FOUND", "id")], caller
        removed = (await world.data(caller, DELETE, {"id": device["id"]}))["deleteNetworkDevice"]
        assert removed == {"done": False, "errors": [{"code": "NOT_FOUND", "field": "id"}]}
    assert await stored(world) == before
    # who stands above has it in its branch
    assert await said(world, "north", REPORT, report) == []
    assert (await world.data("north", ONE, {"id": device["id"]}))["networkDevice"]["status"] == "ISOLATED"
