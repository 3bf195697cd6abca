"""Another plan from the first of next month on, and nothing before."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from planner.ids import encode_id
from services import plan_changes
from tests.support.commerce import bought, funded, package_id, said, step
from tests.support.world import World

FIELDS = """id status failure effectiveOn simCard { displayIccid } customer { name } fromPackage { code }
    toPackage { code } requestedBy { name }"""
REQUEST = f"""mutation($input: RequestSimPlanChangeInput!) {{ requestSimPlanChange(input: $input) {{
    count planChanges {{ {FIELDS} }} errors {{ code field message }} }} }}"""
CANCEL = f"""mutation($input: CancelSimPlanChangeInput!) {{ cancelSimPlanChange(input: $input) {{
    planChange {{ {FIELDS} }} errors {{ code field }} }} }}"""
HISTORY = f"""query($filter: SimPlanChangeFilter) {{ simPlanChanges(filter: $filter, orderBy: [{{field: ID}}]) {{
    nodes {{ {FIELDS} }} }} }}"""
PLAN = """query($id: ID!) { simCard(id: $id) { package { code }
    packageBindings(orderBy: [{field: ID}]) { nodes { package { code } unboundAt } }
    planChanges { nodes { status } } } }"""


async def asked(world: World, cards: list[str], code: str = "CM-M-30M", caller: str = "operations") -> dict[str, Any]:
    input = {"cards": {"ids": cards}, "package": package_id(world, code), "idempotencyKey": str(uuid.uuid4())}
    found: dict[str, Any] = (await world.data(caller, REQUEST, {"input": input}))["requestSimPlanChange"]
    return found


async def applied(world: World, now: datetime) -> int:
    return await plan_changes.apply_due(world.client.application.runtime.database, now)


def first_of_next_month(zone_hours: int = 8) -> datetime:
    """As the clocks of a zone without summer time have it."""
    local = datetime.now(UTC) + timedelta(hours=zone_hours)
    ahead = (local.replace(day=1) + timedelta(days=32)).replace(day=1)
    return ahead.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(hours=zone_hours)


@pytest.mark.feature("S0-16", "S0-17", "S0-57")
async def test_a_plan_changes_on_the_first_of_next_month(world: World) -> None:
    card = world.card_ids("coast")[1]
    made = await asked(world, [card])
    day = (first_of_next_month() + timedelta(hours=8)).date().isoformat()
    expected = {
        "status": "PENDING",
        "failure": None,
        "effectiveOn": day,
        "simCard": {"displayIccid": world.cards["coast"][1].display_iccid},
        "customer": {"name": world.tenants["coast"].name},
        "fromPackage": {"code": "CM-M-1G"},
        "toPackage": {"code": "CM-M-30M"},
        "requestedBy": {"name": "operations"},
    }
    assert (made["count"], made["errors"]) == (1, [])
    assert [{**change, "id": ""} for change in made["planChanges"]] == [{"id": "", **expected}]
    assert await applied(world, first_of_next_month() - timedelta(seconds=1)) == 0
    before = (await world.data("coast", PLAN, {"id": card}))["simCard"]
    assert before["package"] == {"code": "CM-M-1G"}, "the old plan is untouched until then"
    done = await asyncio.gather(*(applied(world, first_of_next_month()) for _ in range(4)))
    assert sum(done) == 1
    after = (await world.data("coast", PLAN, {"id": card}))["simCard"]
    assert after["package"] == {"code": "CM-M-30M"}
    assert [(one["package"]["code"], one["unboundAt"] is None) for one in after["packageBindings"]["nodes"]] == [
        ("CM-M-1G", False),
        ("CM-M-30M", True),
    ]
    assert after["planChanges"] == {"nodes": [{"status": "APPLIED"}]}
    assert await applied(world, first_of_next_month() + timedelta(days=90)) == 0


@pytest.mark.feature("S0-16")
@pytest.mark.parametrize(
    ("zone", "now", "day"),
    [
        ("Asia/Shanghai", "2026-01-31T15:59:59+00:00", "2026-02-01"),
        ("Asia/Shanghai", "2026-01-31T16:00:00+00:00", "2026-03-01"),
        ("America/New_York", "2026-12-31T23:00:00+00:00", "2027-01-01"),
        ("UTC", "2026-12-01T00:00:00+00:00", "2027-01-01"),
    ],
)
def test_next_month_is_one_of_the_holders_calendar(zone: str, now: str, day: str) -> None:
    assert plan_changes.first_of_next_month(datetime.fromisoformat(now), zone).isoformat() == day


@pytest.mark.feature("S0-16")
async def test_one_change_of_a_card_is_pending_at_most(world: World) -> None:
    card = world.card_ids("coast")[1]
    payloads = await asyncio.gather(*(asked(world, [card]) for _ in range(6)))
    assert sorted(payload["count"] for payload in payloads) == [0] * 5 + [1]
    assert {error["code"] for payload in payloads for error in payload["errors"]} == {"PLAN_CHANGE_PENDING"}
    (id,) = [payload["planChanges"][0]["id"] for payload in payloads if payload["count"]]
    cancelled = await step(world, "operations", CANCEL, id)
    assert cancelled["planChange"]["status"] == "CANCELLED"
    assert said(await step(world, "operations", CANCEL, id)) == [("PLAN_CHANGE_STATUS", "id")]
    assert (await asked(world, [card]))["count"] == 1
    await applied(world, first_of_next_month())
    assert said(await asked(world, [card])) == [("SAME_PACKAGE", "cards")]


@pytest.mark.feature("S0-16")
async def test_plan_changes_that_are_refused(world: World) -> None:
    cards = world.card_ids("coast")
    terminated = next(card for card in world.cards["coast"] if card.status.name == "TERMINATED")
    await funded(world, "coast")
    await bought(world, "coast", cards[:1])
    for some, code, refusal, field in (
        ([encode_id("sim", terminated.id)], "CM-M-30M", "WRONG_STATUS", "cards"),
        (cards[1:2], "CU-M-30M", "WRONG_CARRIER", "cards"),
        (cards[1:3], "CM-M-1G", "SAME_PACKAGE", "cards"),
        (cards[:2], "CM-M-30M", "PREPAID_PACKAGE", "cards"),
        ([], "CM-M-30M", "REQUIRED", "cards"),
        ([encode_id("sim", 10**9)], "CM-M-30M", "CARDS_NOT_FOUND", "cards"),
    ):
        assert said(await asked(world, some, code)) == [(refusal, field)], (some, code)
    await world.sql("UPDATE data_package SET status = 'DISABLED' WHERE code = 'CM-M-30M'")
    assert said(await asked(world, cards[1:2])) == [("NOT_ACTIVE", "package")]
    assert await world.sql("SELECT * FROM sim_plan_change") == []
    for caller in ("sales", "finance", "north", "coast", "acme"):
        input = {"cards": {"ids": cards[1:2]}, "package": package_id(world, "CM-M-30M"), "idempotencyKey": "x"}
        assert await world.codes(caller, REQUEST, {"input": input}) == ["FORBIDDEN"], caller
        assert await world.codes(caller, CANCEL, {"input": {"id": "x", "idempotencyKey": "x"}}) == ["FORBIDDEN"], caller


@pytest.mark.feature("S0-16")
async def test_a_change_that_cannot_be_applied_says_why(world: World) -> None:
    cards = world.card_ids("coast")
    assert (await asked(world, [cards[1], cards[2], cards[5]]))["count"] == 3
    await funded(world, "coast")
    await bought(world, "coast", cards[1:2])
    await world.sql("UPDATE sim_card SET status = 'TERMINATED' WHERE id = $1", world.cards["coast"][2].id)
    assert await applied(world, first_of_next_month()) == 3
    nodes = (await world.data("coast", HISTORY, {"filter": {}}))["simPlanChanges"]["nodes"]
    assert [(node["status"], node["failure"]) for node in nodes] == [
        ("FAILED", "PREPAID_PACKAGE"),
        ("FAILED", "CARD_TERMINATED"),
        ("APPLIED", None),
    ]


@pytest.mark.feature("S0-16")
async def test_a_disabled_package_does_not_come_into_force(world: World) -> None:
    await asked(world, world.card_ids("coast")[1:2])
    await world.sql("UPDATE data_package SET status = 'DISABLED' WHERE code = 'CM-M-30M'")
    assert await applied(world, first_of_next_month()) == 1
    (node,) = (await world.data("coast", HISTORY, {"filter": {}}))["simPlanChanges"]["nodes"]
    assert (node["status"], node["failure"]) == ("FAILED", "PACKAGE_DISABLED")


@pytest.mark.feature("S0-17")
async def test_the_history_is_read_by_card_customer_and_period_and_by_nobody_else(world: World) -> None:
    coast, north = world.card_ids("coast")[1], world.card_ids("north")[1]
    await asked(world, [coast])
    await asked(world, [north])
    now = datetime.now(UTC)

    async def found(caller: str, **filter: Any) -> int:
        return len((await world.data(caller, HISTORY, {"filter": filter}))["simPlanChanges"]["nodes"])

    for caller, all_of_them in (("finance", 2), ("sales", 2), ("north", 2), ("coast", 1), ("south", 0), ("acme", 0)):
        assert await found(caller) == all_of_them, caller
    assert await found("finance", simCard={"eq": coast}) == 1
    assert await found("finance", customer={"eq": world.id("north")}) == 1
    assert await found("finance", createdAt={"gte": (now - timedelta(minutes=5)).isoformat()}) == 2
    assert await found("finance", createdAt={"gt": now.isoformat()}) == 0
    assert await found("finance", effectiveOn={"lt": now.date().isoformat()}) == 0


@pytest.mark.feature("S0-16", "S0-17")
async def test_a_pending_change_goes_with_its_card(world: World) -> None:
    card = world.card_ids("north")[2]
    await asked(world, [card])
    allocate = "mutation($input: AllocateSimCardsInput!) { allocateSimCards(input: $input) { errors { code } } }"
    await world.sql("UPDATE sim_card SET status = 'ALLOCATED' WHERE id = $1", world.cards["north"][2].id)
    input = {"to": world.id("north-east"), "cards": {"ids": [card]}, "idempotencyKey": "down"}
    assert (await world.data("north", allocate, {"input": input}))["allocateSimCards"]["errors"] == []
    nodes = (await world.data("north-east", HISTORY, {"filter": {}}))["simPlanChanges"]["nodes"]
    assert [node["customer"]["name"] for node in nodes] == [world.tenants["north-east"].name]
    assert await applied(world, first_of_next_month()) == 1
