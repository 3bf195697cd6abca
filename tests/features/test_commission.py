"""What agents are given of the sale price, and that none ever gives more than it has."""

from __future__ import annotations

import asyncio
import random
import uuid
from decimal import Decimal
from typing import Any

import pytest

from planner.ids import encode_id
from tests.support.world import World

SET = """mutation($input: SetCommissionRateInput!) { setCommissionRate(input: $input) {
    commissionRate { percent agent { name } package { code } creator { name } }
    lowered errors { code field message } } }"""
RATES = """{ commissionRates(orderBy: [{field: PERCENT}]) { totalCount nodes {
    percent agent { id } package { code } } } }"""
MOVE = "mutation($input: MoveTenantInput!) { moveTenant(input: $input) { errors { code } } }"
CHAIN = (("admin", "north"), ("north", "north-east"), ("north-east", "coast"))
"""Who gives, and who is given."""
PACKAGES = ("CM-M-1G", "CM-M-30M")
INVARIANT = """SELECT child.id FROM commission_rate child JOIN tenant t ON t.id = child.tenant_id
    JOIN tenant above ON above.id = t.parent_id AND above.kind = 'AGENT'
    LEFT JOIN commission_rate p ON p.tenant_id = above.id AND p.data_package_id = child.data_package_id
    WHERE child.percent > coalesce(p.percent, 0)"""


async def given(world: World, caller: str, agent: str, percent: str, package: str = "CM-M-1G", **more: Any) -> Any:
    input = {
        "agent": world.id(agent),
        "package": encode_id("pkg", world.packages[package].id),
        "percent": percent,
        "idempotencyKey": str(uuid.uuid4()),
        **more,
    }
    return (await world.data(caller, SET, {"input": input}))["setCommissionRate"]


async def rates(world: World, caller: str, package: str = "CM-M-1G") -> dict[str, str]:
    """By the agent's name in the world, what the caller is shown."""
    names = {world.id(name): name for name in world.tenants}
    nodes = (await world.data(caller, RATES))["commissionRates"]["nodes"]
    return {names[node["agent"]["id"]]: node["percent"] for node in nodes if node["package"]["code"] == package}


async def chain(world: World, *percents: str, package: str = "CM-M-1G") -> None:
    for (caller, agent), percent in zip(CHAIN, percents, strict=True):
        assert (await given(world, caller, agent, percent, package))["errors"] == []


@pytest.mark.feature("S0-22", "S0-46")
async def test_each_gives_those_directly_below_what_it_has_or_less(world: World) -> None:
    payload = await given(world, "admin", "north", "20.5")
    assert payload == {
        "commissionRate": {
            "percent": "20.5000",
            "agent": {"name": world.tenants["north"].name},
            "package": {"code": "CM-M-1G"},
            "creator": {"name": world.tenants["platform"].name},
        },
        "lowered": 0,
        "errors": [],
    }
    refused = await given(world, "north", "north-east", "20.5001")
    assert refused["errors"] == [
        {
            "code": "ABOVE_OWN_RATE",
            "field": "percent",
            "message": "Not more than your own rate for this package: 20.5 %.",
        }
    ]
    assert (await given(world, "north", "north-east", "20.5"))["errors"] == []
    assert (await given(world, "north-east", "coast", "10"))["errors"] == []
    of_another = await given(world, "north", "north-east", "0.0001", "CM-M-30M")
    assert [error["code"] for error in of_another["errors"]] == ["ABOVE_OWN_RATE"]
    assert await rates(world, "north") == {"north": "20.5000", "north-east": "20.5000", "coast": "10.0000"}
    assert await rates(world, "coast") == {"coast": "10.0000"}, "nobody is shown what those above it have"
    assert await rates(world, "finance") == await rates(world, "admin") == await rates(world, "north")
    assert await rates(world, "south") == {}


@pytest.mark.feature("S0-46")
async def test_a_lowered_rate_takes_down_what_stands_higher_below_it(world: World) -> None:
    await chain(world, "30", "20", "15")
    await chain(world, "30", "20", "15", package="CM-M-30M")
    assert (await given(world, "admin", "north", "25"))["lowered"] == 0
    assert await rates(world, "north") == {"north": "25.0000", "north-east": "20.0000", "coast": "15.0000"}
    assert (await given(world, "admin", "north", "17"))["lowered"] == 1
    assert await rates(world, "north") == {"north": "17.0000", "north-east": "17.0000", "coast": "15.0000"}
    assert (await given(world, "admin", "north", "5.25"))["lowered"] == 2
    assert await rates(world, "north") == {"north": "5.2500", "north-east": "5.2500", "coast": "5.2500"}
    assert (await given(world, "admin", "north", "50"))["lowered"] == 0
    assert await rates(world, "north") == {"north": "50.0000", "north-east": "5.2500", "coast": "5.2500"}
    assert await rates(world, "north", "CM-M-30M") == {"north": "30.0000", "north-east": "20.0000", "coast": "15.0000"}


@pytest.mark.feature("S0-46")
async def test_a_branch_that_moves_comes_under_its_new_parents_rates(world: World) -> None:
    await chain(world, "30", "20", "15")
    await chain(world, "30", "20", "15", package="CM-M-30M")
    assert (await given(world, "admin", "south", "18"))["errors"] == []
    input = {"id": world.id("north-east"), "parent": world.id("south")}
    assert (await world.data("admin", MOVE, {"input": input}))["moveTenant"]["errors"] == []
    assert await rates(world, "south") == {"south": "18.0000", "north-east": "18.0000", "coast": "15.0000"}
    assert await rates(world, "admin", "CM-M-30M") == {"north": "30.0000", "north-east": "0.0000", "coast": "0.0000"}
    assert await world.sql(INVARIANT) == []


@pytest.mark.feature("S0-22")
async def test_rates_that_are_refused(world: World) -> None:
    await chain(world, "30", "20", "15")
    before = await world.sql("SELECT * FROM commission_rate ORDER BY id")
    for caller, agent, percent, code, field in (
        ("admin", "north", "-1", "NEGATIVE", "percent"),
        ("admin", "north", "100.0001", "INVALID", "percent"),
        ("admin", "north", "1.00001", "INVALID", "percent"),
        ("admin", "north", "NaN", "INVALID", "percent"),
        ("admin", "north-east", "1", "NOT_OWN_CUSTOMER", "agent"),
        ("admin", "acme", "1", "NOT_FOUND", "agent"),
        ("north", "coast", "1", "NOT_OWN_CUSTOMER", "agent"),
        ("north", "north", "1", "NOT_OWN_CUSTOMER", "agent"),
        ("north", "south", "1", "NOT_FOUND", "agent"),
        ("north", "south-west", "1", "NOT_FOUND", "agent"),
        ("coast", "north-east", "1", "NOT_FOUND", "agent"),
    ):
        errors = (await given(world, caller, agent, percent))["errors"]
        assert [(error["code"], error["field"]) for error in errors] == [(code, field)], (caller, agent, percent)
    unknown = {"agent": world.id("north"), "package": encode_id("pkg", 10**9), "percent": "1", "idempotencyKey": "x"}
    errors = (await world.data("admin", SET, {"input": unknown}))["setCommissionRate"]["errors"]
    assert [(error["code"], error["field"]) for error in errors] == [("NOT_FOUND", "package")]
    assert await world.sql("SELECT * FROM commission_rate ORDER BY id") == before


@pytest.mark.feature("S0-22", "S0-46")
async def test_who_may_neither_see_nor_set_rates(world: World) -> None:
    input = {"agent": world.id("north"), "package": encode_id("pkg", world.packages["CM-M-1G"].id), "percent": "1"}
    variables = {"input": {**input, "idempotencyKey": "mine"}}
    for caller in ("finance", "operations", "sales", "acme"):
        assert await world.codes(caller, SET, variables) == ["FORBIDDEN"], caller
    for caller in ("operations", "sales", "acme"):
        assert set(await world.codes(caller, RATES)) == {"FORBIDDEN"}, caller


@pytest.mark.feature("S0-46")
@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_no_rate_is_ever_above_its_creators_whoever_changes_them_at_once(world: World, seed: int) -> None:
    """Each level sets rates while the levels above lower theirs; the answer of each is the rule or a refusal."""
    chance = random.Random(seed)
    await chain(world, "50", "50", "50")

    async def one(step: int) -> None:
        caller, agent = chance.choice(CHAIN)
        package = chance.choice(PACKAGES)
        percent = str(Decimal(chance.randrange(0, 600)) / 10)
        errors = (await given(world, caller, agent, percent, package, idempotencyKey=f"{seed}-{step}"))["errors"]
        assert {error["code"] for error in errors} <= {"ABOVE_OWN_RATE"}, errors

    for turn in range(6):
        await asyncio.gather(*(one(turn * 12 + n) for n in range(12)))
        assert await world.sql(INVARIANT) == []
