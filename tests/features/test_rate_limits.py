"""How often callers may ask: what they are told of it, and the limit that a tenant's callers share."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from planner.ids import encode_id
from server.http import RateLimit
from tests.support.partner import signed
from tests.support.world import World

HELLO = "{ viewer { door } }"
LEFT = "{ viewer { rateLimit { limit remaining resetAt } } }"
SET = """mutation($id: ID!, $limit: Int) { setTenantRateLimit(input: {id: $id, requestsPerMinute: $limit}) {
    tenant { id requestsPerMinute } errors { code field } } }"""
NAMES = ("ratelimit-limit", "ratelimit-remaining", "ratelimit-reset", "retry-after")


def told(answer: httpx.Response) -> list[int | None]:
    return [int(answer.headers[name]) if name in answer.headers else None for name in NAMES]


def limited(world: World, door: str, per_minute: int) -> None:
    doors = world.client.application.engine.doors
    assert isinstance(doors, dict)
    doors[door] = replace(doors[door], limits=replace(doors[door].limits, requests_per_minute=per_minute))


def stopped_clock(world: World) -> None:
    """Nothing comes back into a bucket, however long the machine takes."""
    world.client.application.endpoint.rates = RateLimit(clock=lambda: 0.0)


async def ask(world: World, account: str, query: str = HELLO) -> httpx.Response:
    return await world.client.post("agent", query, token=await world.token(account))


async def set_limit(world: World, tenant: str, limit: int | None, account: str = "operations") -> dict[str, Any]:
    payload: dict[str, Any] = (await world.data(account, SET, {"id": world.id(tenant), "limit": limit}))[
        "setTenantRateLimit"
    ]
    return payload


@pytest.mark.feature("S0-54")
async def test_a_caller_is_told_what_it_may_still_ask(world: World) -> None:
    await world.token("south")
    limited(world, "agent", 60)
    stopped_clock(world)
    for left in range(9, -1, -1):
        answer = await ask(world, "south", LEFT)
        limit, remaining, reset, after = told(answer)
        assert (answer.status_code, limit, remaining, after) == (200, 10, left, None)
        assert reset == 10 - left
        shown = answer.json()["data"]["viewer"]["rateLimit"]
        assert (shown["limit"], shown["remaining"]) == (10, left)
        ahead = (datetime.fromisoformat(shown["resetAt"]) - datetime.now(UTC)).total_seconds()
        assert reset - 2 <= ahead <= reset
    answer = await ask(world, "south")
    assert (answer.status_code, answer.json()["errors"][0]["extensions"]["code"]) == (429, "RATE_LIMITED")
    assert told(answer) == [10, 0, 10, 1]
    # the others count for themselves
    assert told(await ask(world, "north"))[1] == 9


async def test_every_answer_to_a_known_caller_tells_and_a_visitor_is_told_to_wait(world: World) -> None:
    for query, status in (("{ suppliers { totalCount } }", 403), ("{ nonsense }", 422), ("{", 400)):
        answer = await ask(world, "south", query)
        assert answer.status_code == status
        assert told(answer)[0] == 300
        assert told(answer)[3] is None
    assert told(await signed(world, HELLO, key="tk_south"))[:2] == [300, 299]
    assert told(await world.client.post("agent", HELLO)) == [None] * 4
    assert (await world.client.post("agent", LEFT)).json() == {"data": {"viewer": {"rateLimit": None}}}
    limited(world, "merchant", 60)
    stopped_clock(world)
    answers = [await world.client.post("merchant", HELLO) for _ in range(11)]
    assert [answer.status_code for answer in answers] == [200] * 10 + [429]
    assert told(answers[-1])[3] == 1


@pytest.mark.feature("S0-54")
async def test_a_tenants_limit_is_shared_by_all_its_callers_from_the_next_request_on(world: World) -> None:
    assert told(await ask(world, "south"))[0] == 300
    payload = await set_limit(world, "south", 60)
    assert payload == {"tenant": {"id": world.id("south"), "requestsPerMinute": 60}, "errors": []}
    stopped_clock(world)
    first = await ask(world, "south")
    assert told(first)[:2] == [10, 9]
    statuses = []
    for _ in range(6):
        statuses += [
            (await ask(world, "south")).status_code,
            (await signed(world, HELLO, key="tk_south")).status_code,
        ]
    assert statuses == [200] * 9 + [429] * 3
    # neither those below nor those beside share it
    for other in ("south-west", "north"):
        assert told(await ask(world, other))[0] == 300
    await set_limit(world, "south", None)
    assert told(await ask(world, "south"))[0] == 300
    assert (await signed(world, HELLO, key="tk_south")).status_code == 200


async def test_the_smaller_of_two_limits_is_told(world: World) -> None:
    await set_limit(world, "south", 600)
    assert told(await ask(world, "south"))[:2] == [60, 59]
    await set_limit(world, "south", 1_000_000)
    assert told(await ask(world, "south"))[0] == 300


async def test_only_the_platform_sets_limits_and_only_such_as_can_be(world: World) -> None:
    for account in ("sales", "finance", "south", "north", "acme"):
        assert await world.codes(account, SET, {"id": world.id("south"), "limit": 60}) == ["FORBIDDEN"]
    for limit in (0, -1, 1_000_001):
        payload = await set_limit(world, "south", limit)
        assert payload == {"tenant": None, "errors": [{"code": "INVALID", "field": "requestsPerMinute"}]}
    missing = {"id": encode_id("ten", 999_999), "limit": 60}
    assert (await world.data("operations", SET, missing))["setTenantRateLimit"]["errors"] == [
        {"code": "NOT_FOUND", "field": "id"}
    ]
    assert await world.sql("SELECT id FROM tenant WHERE requests_per_minute IS NOT NULL") == []
    await set_limit(world, "south", 60, account="admin")
    seen = "query($id: ID!) { tenant(id: $id) { requestsPerMinute } }"
    assert (await world.data("south", seen, {"id": world.id("south")}))["tenant"] == {"requestsPerMinute": 60}
    assert (await world.data("north", seen, {"id": world.id("south")}))["tenant"] is None
