"""Usage of data: what suppliers say that cards used, how it is shown, what follows; and sessions by the file."""

from __future__ import annotations

import asyncio
import gzip
import random
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from gateways.carrier import Used, carriers
from gateways.carrier.onelink import OneLink
from gateways.carrier.sandbox import USAGE_PATH, Sandbox
from gateways.http import Partner
from models.catalog import Carrier
from planner.ids import encode_id
from services import parameters, retention
from services.usage import counting, pulling, ratios
from tests.support.commerce import bought, funded, said
from tests.support.serving import serving
from tests.support.world import World

CHINA = ZoneInfo("Asia/Shanghai")
DAY = date(2026, 3, 14)
TODAY = datetime.now(CHINA).date()
DAILY = """query($filter: DailyUsageFilter) { dailyUsages(filter: $filter) {
    nodes { day usedKb simCard { displayIccid } } } }"""
MONTHLY = "{ monthlyUsages { nodes { month usedKb simCard { id } holder { id } } } }"
RAW = "{ dailyUsages { nodes { rawUsedKb usedKb } } }"
USAGE = """query($card: ID, $user: ID, $first: Date!, $last: Date!) {
    dataUsage(simCard: $card, endUser: $user, firstDay: $first, lastDay: $last) {
        usedKb days { day usedKb } errors { code field } } }"""
BALANCE = "query($id: ID!) { simCard(id: $id) { dataBalance { totalMb usedKb remainingKb expiresAt } } }"
SET_RATIO = """mutation($input: SetUsageRatioInput!) { setUsageRatio(input: $input) {
    usageRatio { ratio customer { id } } effectiveRatio errors { code field } } }"""
EFFECTIVE = "query($id: ID!) { effectiveUsageRatio(customer: $id) }"
IMPORT = "mutation($file: Upload!) { importSessionRecords(file: $file) { task { id } errors { code field } } }"
TASK = """query($id: ID!) { task(id: $id) { status done failed total errorCode
    refusals(first: 50) { nodes { rowNumber column value code } } } }"""
SESSIONS = """query($filter: SessionRecordFilter) { sessionRecords(filter: $filter) { totalCount
    nodes { sessionNo at endedAt usedKb simCard { displayIccid } } } }"""
RETENTION = """mutation($input: SetRetentionInput!) { setRetention(input: $input) {
    retentionPolicy { table days mode } errors { code field } } }"""
HEAD = "网关编码,会话编号,ICCID,IMSI,开始时间,结束时间,上行字节,下行字节"


@pytest.fixture
async def onelink(world: World, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Sandbox]:
    """The supplier of China Mobile's cards speaks OneLink, and all cards of the world are its."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    sandbox = Sandbox()
    async with serving(sandbox.app) as url:
        monkeypatch.setenv("TRELLIS_CARRIER_ONELINK_URL", url)
        adapter = OneLink(url, Partner("CARRIER", "OneLink", timeout_seconds=0.5))
        monkeypatch.setitem(carriers._known, ("onelink", url), adapter)
        supplier = world.suppliers[Carrier.CMCC]
        update = (
            """mutation($input: UpdateSupplierInput!) { updateSupplier(input: $input) { errors { code field } } }"""
        )
        input = {"id": encode_id("sup", supplier.id), "interfaceName": "onelink", "apiKey": "app:sandbox"}
        assert (await world.data("operations", update, {"input": input}))["updateSupplier"]["errors"] == []
        await world.sql(
            "UPDATE sim_card SET supplier_id = $1, status = 'ACTIVE', activated_at = '2026-01-01'", supplier.id
        )
        yield sandbox
        await adapter.close()


async def pull(world: World, day: date = DAY) -> pulling.Pulled:
    runtime = world.client.application.runtime
    return await pulling.pull(runtime.database, runtime.keys, day)


async def used(world: World, caller: str, kb: int, day: date = DAY, number: int = 0) -> str:
    """A card of the caller's that used so much on a day; its id."""
    runtime = world.client.application.runtime
    card = world.cards[caller][number]
    await pulling.record(runtime.database, day, {card.id: Used(kb, since=day)})
    return encode_id("sim", card.id)


async def set_ratio(world: World, tenant: str, ratio: str | None) -> dict[str, Any]:
    input = {"customer": world.id(tenant), "ratio": ratio}
    found: dict[str, Any] = (await world.data("operations", SET_RATIO, {"input": input}))["setUsageRatio"]
    return found


# -- what suppliers say -----------------------------------------------------------------------------------------------


@pytest.mark.feature("S0-51")
async def test_what_cards_used_is_pulled_from_their_supplier_once(world: World, onelink: Sandbox) -> None:
    cards = [card for held in world.cards.values() for card in held]
    for number, card in enumerate(cards):
        onelink.used[card.iccid, "20260314"] = number if number % 3 else f"{number}.5"
    found = await pull(world)
    assert found == pulling.Pulled(told=len(cards))
    stored = {row["sim_card_id"]: row["used_kb"] for row in await world.sql("SELECT * FROM daily_usage")}
    assert stored == {
        card.id: number if number % 3 else int(Decimal(f"{number}.5").quantize(Decimal(1), ROUND_HALF_UP))
        for number, card in enumerate(cards)
    }
    calls = onelink.calls[USAGE_PATH]
    assert await pull(world) == pulling.Pulled()
    assert onelink.calls[USAGE_PATH] == calls
    shown = (await world.data("north", DAILY, {"filter": {"holder": {"eq": world.id("north")}}}))["dailyUsages"][
        "nodes"
    ]
    assert {one["simCard"]["displayIccid"] for one in shown} == {card.display_iccid for card in world.cards["north"]}


@pytest.mark.feature("S0-51")
@pytest.mark.parametrize("fault", ["timeout", "http_500", "bad_json", "unknown_card", "expired_token"])
async def test_what_a_supplier_did_not_tell_is_asked_for_again(world: World, onelink: Sandbox, fault: str) -> None:
    cards = [card for held in world.cards.values() for card in held]
    for card in cards:
        onelink.used[card.iccid, "20260314"] = 7
    onelink._faults[fault] = 1
    first = await pull(world)
    assert first.told + first.missing == len(cards) or fault in ("timeout", "http_500", "bad_json")
    second = await pull(world)
    assert first.told + second.told == len(cards)
    (total,) = await world.sql("SELECT count(*) AS n, sum(used_kb) AS kb FROM daily_usage")
    assert (total["n"], total["kb"]) == (len(cards), 7 * len(cards))


async def test_yesterday_is_pulled_once_suppliers_know_it(world: World, onelink: Sandbox) -> None:
    runtime = world.client.application.runtime
    early = datetime(2026, 3, 15, 1, 59, tzinfo=CHINA)
    days = "SELECT DISTINCT day FROM daily_usage ORDER BY day"
    before = [DAY - timedelta(days=back) for back in range(6, 0, -1)]
    await pulling.pull_due(runtime.database, runtime.keys, early)
    assert [row["day"] for row in await world.sql(days)] == before
    await pulling.pull_due(runtime.database, runtime.keys, early + timedelta(minutes=1))
    assert [row["day"] for row in await world.sql(days)] == [*before, DAY]


@pytest.mark.feature("S0-52")
async def test_months_are_rolled_up_from_days_and_for_each_who_held_the_card(world: World) -> None:
    runtime = world.client.application.runtime
    first = await used(world, "north", 100, date(2026, 3, 1))
    await used(world, "north", 250, date(2026, 3, 31))
    await used(world, "north", 999, date(2026, 4, 1))
    east = world.tenants["north-east"]
    await world.sql(
        "UPDATE sim_card SET tenant_id = $1, tenant_path = $2 WHERE id = $3",
        east.id, east.path, world.cards["north"][0].id,
    )  # fmt: skip
    await used(world, "north", 40, date(2026, 3, 30))
    for _ in range(2):
        await pulling.roll_up(runtime.database, date(2026, 3, 5))
    nodes = (await world.data("north", MONTHLY))["monthlyUsages"]["nodes"]
    assert {(one["month"], one["usedKb"], one["holder"]["id"], one["simCard"]["id"]) for one in nodes} == {
        ("2026-03-01", "350", world.id("north"), first),
        ("2026-03-01", "40", world.id("north-east"), first),
    }
    nodes = (await world.data("north-east", MONTHLY))["monthlyUsages"]["nodes"]
    assert [one["usedKb"] for one in nodes] == ["40"]


async def test_a_figure_that_changes_is_taken_for_what_it_is_now(world: World) -> None:
    await funded(world, "north")
    card = world.card_ids("north")[0]
    await bought(world, "north", [card])
    for kb in (500, 500, 800, 300):
        await used(world, "north", kb, TODAY)
        (package,) = await world.sql("SELECT used_kb FROM package_subscription")
        assert package["used_kb"] == kb
    await used(world, "north", 50, TODAY + timedelta(days=1))
    (package,) = await world.sql("SELECT used_kb FROM package_subscription")
    assert package["used_kb"] == 350


async def test_a_hundred_at_once_count_each_figure_once(world: World) -> None:
    await funded(world, "north")
    await bought(world, "north", [world.card_ids("north")[0]])
    days = [TODAY + timedelta(days=n) for n in range(10)]
    await asyncio.gather(*(used(world, "north", 10, day) for day in days for _ in range(5)))
    (package,) = await world.sql("SELECT used_kb FROM package_subscription")
    assert package["used_kb"] == 100


# -- how it is shown --------------------------------------------------------------------------------------------------


@pytest.mark.feature("S0-56", "S0-27")
async def test_usage_is_shown_greater_by_the_nearest_ratio(world: World) -> None:
    for name in ("north", "north-east", "coast", "south", "acme"):
        await used(world, name, 1001)

    async def shown(caller: str) -> dict[str, str]:
        """What a caller is shown of each card."""
        names = {cards[0].display_iccid: name for name, cards in world.cards.items()}
        nodes = (await world.data(caller, DAILY))["dailyUsages"]["nodes"]
        return {names[one["simCard"]["displayIccid"]]: one["usedKb"] for one in nodes}

    assert await shown("north") == {"north": "1001", "north-east": "1001", "coast": "1001"}
    assert (await set_ratio(world, "north", "1.2"))["effectiveRatio"] == "1.2"
    assert await shown("north") == {"north": "1201", "north-east": "1201", "coast": "1201"}
    await set_ratio(world, "north-east", "1.5")
    assert await shown("north") == {"north": "1201", "north-east": "1502", "coast": "1502"}
    assert await shown("coast") == {"coast": "1502"}
    assert await shown("south") == {"south": "1001"}
    await parameters.install(world.client.application.runtime.database)
    await world.sql("UPDATE system_parameter SET value = '2' WHERE key = 'usage.amplification'")
    await world.client.application.runtime.kept.changed()
    await ratios.changed(world.client.application.runtime.redis)
    assert await shown("south") == {"south": "2002"}
    assert await shown("acme") == {"acme": "2002"}
    assert (await set_ratio(world, "north-east", None))["effectiveRatio"] == "1.2000"
    assert await shown("coast") == {"coast": "1201"}
    day = DAY.isoformat()
    variables = {"card": world.card_ids("coast")[0], "first": day, "last": day}
    found = (await world.data("coast", USAGE, variables))["dataUsage"]
    assert found == {"usedKb": "1201", "days": [{"day": day, "usedKb": "1201"}], "errors": []}


@pytest.mark.feature("S0-56")
async def test_what_was_used_indeed_is_known_to_the_platforms_staff_alone(world: World) -> None:
    await used(world, "north", 1000)
    await set_ratio(world, "north", "3")
    for staff in ("operations", "finance", "sales"):
        (node,) = (await world.data(staff, RAW))["dailyUsages"]["nodes"]
        assert node == {"rawUsedKb": "1000", "usedKb": "3000"}
    for customer in ("north", "acme"):
        assert await world.codes(customer, RAW) == ["FORBIDDEN"]
        assert await world.codes(customer, "{ usageRatios { nodes { ratio } } }") == ["FORBIDDEN"]
        assert await world.codes(customer, EFFECTIVE, {"id": world.id(customer)}) == ["FORBIDDEN"]
        input = {"customer": world.id(customer), "ratio": "1"}
        assert await world.codes(customer, SET_RATIO, {"input": input}) == ["FORBIDDEN"]
        filter = {"rawUsedKb": {"gt": "0"}}
        answer = await world.run(customer, DAILY, {"filter": filter})
        assert answer.get("data") is None


@pytest.mark.feature("S0-56")
@pytest.mark.parametrize(
    ("ratio", "refusal"),
    [("0.99", ("OUT_OF_RANGE", "ratio")), ("100.01", ("OUT_OF_RANGE", "ratio")), ("1.00001", ("INVALID", "ratio"))],
)
async def test_a_ratio_that_is_none_is_refused(world: World, ratio: str, refusal: tuple[str, str]) -> None:
    assert said(await set_ratio(world, "north", ratio)) == [refusal]
    assert await world.sql("SELECT FROM usage_ratio") == []


@pytest.mark.feature("S0-56")
async def test_ratios_are_kept_in_redis_and_forgotten_on_a_change(world: World) -> None:
    runtime = world.client.application.runtime
    north = world.tenants["north"].id
    await set_ratio(world, "north", "1.5")
    assert (await ratios.effective(runtime, [north]))[north] == Decimal("1.5")
    await world.sql("UPDATE usage_ratio SET ratio = 9")  # past the service: what is kept is not asked for again
    assert (await ratios.effective(runtime, [north]))[north] == Decimal("1.5")
    await set_ratio(world, "north", "2")
    assert (await ratios.effective(runtime, [north]))[north] == Decimal(2)
    # whoever worked it out before a change keeps it under a number that nobody asks for
    _, before = await ratios._kept(runtime.redis, [north])
    assert before is not None
    await set_ratio(world, "north", "4")
    await ratios._keep(runtime.redis, before, {north: Decimal(2)})
    assert (await ratios.effective(runtime, [north]))[north] == Decimal(4)


@pytest.mark.feature("S0-32")
async def test_an_end_user_sees_what_is_left_on_its_card(world: World) -> None:
    await funded(world, "north")
    card = world.card_ids("north")[0]
    await bought(world, "north", [card])
    await set_ratio(world, "north", "2")
    await used(world, "north", 100_000, TODAY)
    found = (await world.data("north", BALANCE, {"id": card}))["simCard"]["dataBalance"]
    assert found["totalMb"] == 1024
    assert (found["usedKb"], found["remainingKb"]) == ("200000", str(1024 * 1024 - 200_000))
    (package,) = await world.sql("SELECT ends_at FROM package_subscription")
    assert datetime.fromisoformat(found["expiresAt"]) == package["ends_at"]
    await used(world, "north", 600_000, TODAY)
    found = (await world.data("north", BALANCE, {"id": card}))["simCard"]["dataBalance"]
    assert (found["usedKb"], found["remainingKb"]) == (str(1024 * 1024), "0")
    other = (await world.data("north", BALANCE, {"id": world.card_ids("north")[1]}))["simCard"]
    assert other == {"dataBalance": None}
    assert (await world.data("south", BALANCE, {"id": card}))["simCard"] is None


@pytest.mark.feature("S0-27")
async def test_usage_of_a_card_or_a_person_is_told_over_some_days(world: World) -> None:
    person = world.end_users["north"]
    for number in (0, 1):
        await world.sql(
            "UPDATE sim_card SET end_user_id = $1 WHERE id = $2", person.id, world.cards["north"][number].id
        )
        for days in range(3):
            await used(world, "north", 10 ** (number + 1) + days, DAY + timedelta(days=days), number)
    window = {"first": DAY.isoformat(), "last": (DAY + timedelta(days=1)).isoformat()}
    found = (await world.data("north", USAGE, {"card": world.card_ids("north")[0], **window}))["dataUsage"]
    assert [one["usedKb"] for one in found["days"]] == ["10", "11"]
    user = encode_id("eus", person.id)
    found = (await world.data("north", USAGE, {"user": user, **window}))["dataUsage"]
    assert (found["usedKb"], [one["usedKb"] for one in found["days"]]) == ("222", ["110", "112"])
    assert (await world.data("south", USAGE, {"user": user, **window}))["dataUsage"]["usedKb"] == "0"
    stranger = {"card": world.card_ids("south")[0], **window}
    assert said((await world.data("north", USAGE, stranger))["dataUsage"]) == [("NOT_FOUND", "simCard")]
    assert said((await world.data("north", USAGE, window))["dataUsage"]) == [("REQUIRED", "simCard")]
    turned = {"card": world.card_ids("north")[0], "first": window["last"], "last": window["first"]}
    assert said((await world.data("north", USAGE, turned))["dataUsage"]) == [("INVALID", "lastDay")]


# -- what follows from it ---------------------------------------------------------------------------------------------


async def in_service(world: World) -> None:
    """The first card of north's."""
    card = world.cards["north"][0]
    await world.sql("UPDATE sim_card SET status = 'ACTIVE', activated_at = now() WHERE id = $1", card.id)


async def status(world: World) -> str:
    (row,) = await world.sql("SELECT status FROM sim_card WHERE id = $1", world.cards["north"][0].id)
    found: str = row["status"]
    return found


SENT = "SELECT kind FROM notification WHERE kind LIKE 'data.%' AND state <> 'SUPPRESSED'"


async def test_who_is_concerned_is_told_once_and_a_spent_card_is_stopped(world: World) -> None:
    await funded(world, "north")
    card = world.card_ids("north")[0]
    await world.sql(
        "UPDATE sim_card SET status = 'ACTIVE', activated_at = now() WHERE id = $1", world.cards["north"][0].id
    )
    await world.sql("UPDATE tenant SET email = 'office@north.example' WHERE id = $1", world.tenants["north"].id)
    await bought(world, "north", [card])
    size = 1024 * 1024

    async def told() -> Counter[str]:
        return Counter(row["kind"] for row in await world.sql(SENT))

    await used(world, "north", size * 79 // 100, TODAY)
    assert await told() == {}
    for kb in (size * 81 // 100, size * 85 // 100):
        await used(world, "north", kb, TODAY)
    assert (await told())["data.nearly_used"] >= 1
    first = await told()
    await used(world, "north", size * 90 // 100, TODAY)
    assert (await told())["data.used_up"] == 0
    await used(world, "north", size, TODAY)
    assert (await told())["data.used_up"] == first["data.nearly_used"]
    assert await status(world) == "SUSPENDED"
    (package,) = await world.sql("SELECT status FROM package_subscription")
    assert package["status"] == "USED_UP"
    (step,) = await world.sql("SELECT action, reason FROM sim_status_change WHERE action = 'SUSPEND'")
    assert step["reason"] == "used up"


async def test_with_data_again_a_stopped_card_goes_on_and_one_stopped_by_hand_does_not(world: World) -> None:
    await funded(world, "north")
    card = world.card_ids("north")[0]
    await in_service(world)
    await bought(world, "north", [card])
    await used(world, "north", 1024 * 1024, TODAY)
    assert await status(world) == "SUSPENDED"
    await bought(world, "north", [card])
    assert await status(world) == "ACTIVE"
    suspend = """mutation($input: ChangeSimStatusInput!) { suspendSimCards(input: $input) { errors { code } } }"""
    await world.data("north", suspend, {"input": {"cards": {"ids": [card]}, "idempotencyKey": "k", "reason": "lost"}})
    await bought(world, "north", [card])
    assert await status(world) == "SUSPENDED"


async def test_usage_of_a_day_before_a_package_is_not_its_own(world: World) -> None:
    await funded(world, "north")
    await bought(world, "north", [world.card_ids("north")[0]])
    await used(world, "north", 500, TODAY - timedelta(days=1))
    (package,) = await world.sql("SELECT used_kb FROM package_subscription")
    assert package["used_kb"] == 0


async def test_the_next_package_begins_and_the_card_goes_on(world: World) -> None:
    await funded(world, "north")
    card = world.card_ids("north")[0]
    await world.sql(
        "UPDATE sim_card SET status = 'ACTIVE', activated_at = now() WHERE id = $1", world.cards["north"][0].id
    )
    for _ in range(2):
        await bought(world, "north", [card])
    await used(world, "north", 1024 * 1024 + 5, TODAY)
    states = [row["status"] for row in await world.sql("SELECT status FROM package_subscription ORDER BY id")]
    assert states == ["USED_UP", "ACTIVE"]
    assert await status(world) == "ACTIVE"


async def test_a_holder_may_want_its_spent_cards_to_go_on(world: World) -> None:
    await funded(world, "north")
    card = world.card_ids("north")[0]
    await world.sql(
        "UPDATE sim_card SET status = 'ACTIVE', activated_at = now() WHERE id = $1", world.cards["north"][0].id
    )
    await bought(world, "north", [card])
    await parameters.install(world.client.application.runtime.database)
    override = """mutation { overrideParameter(input: {key: "usage.suspendWhenUsedUp", value: "false"}) {
        errors { code field } } }"""
    assert (await world.data("north", override))["overrideParameter"]["errors"] == []
    await used(world, "north", 1024 * 1024, TODAY)
    assert await status(world) == "ACTIVE"


# -- sessions by the file ---------------------------------------------------------------------------------------------


@pytest.fixture
async def gateway(world: World) -> str:
    """The code of a packet gateway."""
    root = world.tenants["platform"]
    await world.sql(
        """INSERT INTO packet_gateway (tenant_id, tenant_path, code, name, gateway_type, status)
           VALUES ($1, $2, 'pgw-1', 'PGW', 'PGW', 'ACTIVE')""",
        root.id,
        root.path,
    )
    return "pgw-1"


NOW = datetime.now(UTC).replace(microsecond=0)
MIDDAY = datetime.combine(NOW.astimezone(CHINA).date() - timedelta(days=2), time(12), CHINA)
"""Noon in China, the day before yesterday."""


def session_row(card: Any, at: datetime, minutes: float | None = 5, *, number: str = "", **more: Any) -> str:
    ended = "" if minutes is None else (at + timedelta(minutes=minutes)).isoformat()
    values = {
        "gateway": "pgw-1", "session": number or uuid.uuid4().hex, "iccid": card.iccid, "imsi": "",
        "begun": at.isoformat(), "ended": ended, "up": "1000", "down": "2000", **more,
    }  # fmt: skip
    return ",".join(str(value) for value in values.values())


async def take_in(world: World, *rows: str, head: str = HEAD, content: bytes | None = None) -> dict[str, Any]:
    """The task of a file of these rows, done."""
    file = ("sessions.csv", "\n".join([head, *rows]).encode() if content is None else content)
    answer = await world.client.upload("admin", IMPORT, file, await world.token("operations"))
    id = answer.json()["data"]["importSessionRecords"]["task"]["id"]
    await world.client.work_off()
    found: dict[str, Any] = (await world.data("operations", TASK, {"id": id}))["task"]
    return found


async def count(world: World, now: datetime = NOW) -> int:
    return await counting.count_due(world.client.application.runtime.database, now)


@pytest.mark.feature("S0-61")
async def test_sessions_are_taken_in_and_shown_to_staff_and_to_the_enterprise_that_held_the_card(
    world: World, gateway: str
) -> None:
    acme, north = world.cards["acme"][0], world.cards["north"][0]
    done = await take_in(
        world,
        session_row(acme, MIDDAY, number="a"),
        session_row(acme, MIDDAY + timedelta(hours=2), None, number="b"),
        session_row(north, MIDDAY, number="c", iccid="", imsi=north.imsi),
    )
    assert (done["status"], done["done"], done["failed"], done["total"]) == ("SUCCEEDED", 3, 0, 3)
    found = (await world.data("operations", SESSIONS))["sessionRecords"]
    assert sorted(one["sessionNo"] for one in found["nodes"]) == ["a", "b", "c"]
    await set_ratio(world, "acme", "2")
    hers = await world.data("acme", SESSIONS, {"filter": {"at": {"lt": (MIDDAY + timedelta(hours=1)).isoformat()}}})
    (node,) = hers["sessionRecords"]["nodes"]
    assert node == {
        "sessionNo": "a",
        "at": node["at"],
        "endedAt": node["endedAt"],
        "usedKb": "6",
        "simCard": {"displayIccid": acme.display_iccid},
    }
    assert datetime.fromisoformat(node["endedAt"]) - datetime.fromisoformat(node["at"]) == timedelta(minutes=5)
    assert await world.codes("acme", "{ sessionRecords { nodes { uploadBytes } } }") == ["FORBIDDEN"]
    assert await world.codes("north", SESSIONS) == ["FORBIDDEN"]
    answer = await world.client.upload("admin", IMPORT, ("x.csv", b"x"), await world.token("finance"))
    assert answer.json()["errors"][0]["extensions"]["code"] == "FORBIDDEN"


@pytest.mark.feature("S0-61")
async def test_a_file_twice_enters_nothing_twice_and_a_session_grows(world: World, gateway: str) -> None:
    card = world.cards["north"][0]
    rows = [session_row(card, MIDDAY + timedelta(minutes=n), number=f"s{n}") for n in range(50)]
    for _ in range(2):
        done = await take_in(world, *rows)
        assert (done["done"], done["failed"]) == (50, 0)
    assert len(await world.sql("SELECT FROM session_record")) == 50
    grown = session_row(card, MIDDAY, 9, number="s0", up="5000", down="1")
    await take_in(world, grown, grown, session_row(card, MIDDAY, 7, number="s0", up="4000", down="9000"))
    (row,) = await world.sql("SELECT * FROM session_record WHERE session_no = 's0'")
    assert (row["upload_bytes"], row["download_bytes"]) == (5000, 9000)
    assert row["ended_at"] == MIDDAY + timedelta(minutes=9)
    assert len(await world.sql("SELECT FROM session_record")) == 50


@pytest.mark.feature("S0-61")
async def test_what_cannot_be_taken_in_is_refused_by_row(world: World, gateway: str) -> None:
    card = world.cards["north"][0]
    wrong = [
        (session_row(card, MIDDAY, gateway="pgw-9"), "网关编码", "pgw-9", "UNKNOWN_GATEWAY"),
        (session_row(card, MIDDAY, number=" "), "会话编号", " ", "SESSION_MISSING"),
        (session_row(card, MIDDAY, iccid="89860000000000000000"), "ICCID", "89860000000000000000", "UNKNOWN_CARD"),
        (session_row(card, MIDDAY, iccid="", imsi="1"), "ICCID", "1", "UNKNOWN_CARD"),
        (session_row(card, MIDDAY, begun="2026-02-31T00:00:00Z"), "开始时间", "2026-02-31T00:00:00Z", "NO_TIME"),
        (session_row(card, MIDDAY, begun="yesterday"), "开始时间", "yesterday", "NO_TIME"),
        (session_row(card, MIDDAY, begun="2026-03-01T00:00:00"), "开始时间", "2026-03-01T00:00:00", "NO_TIME"),
        (session_row(card, NOW - timedelta(days=61)), "开始时间", (NOW - timedelta(days=61)).isoformat(), "NO_TIME"),
        (session_row(card, NOW + timedelta(hours=2)), "开始时间", (NOW + timedelta(hours=2)).isoformat(), "NO_TIME"),
        (session_row(card, MIDDAY, -1), "结束时间", (MIDDAY - timedelta(minutes=1)).isoformat(), "NO_TIME"),
        (session_row(card, MIDDAY, up="-1"), "上行字节", "-1", "NO_COUNT"),
        (session_row(card, MIDDAY, down="1e3"), "下行字节", "1e3", "NO_COUNT"),
        (session_row(card, MIDDAY, down="9" * 19), "下行字节", "9" * 19, "NO_COUNT"),
    ]
    right = session_row(card, MIDDAY, number="right")
    done = await take_in(world, *(row for row, *_ in wrong), right)
    assert (done["status"], done["done"], done["failed"]) == ("SUCCEEDED", 1, len(wrong))
    assert [(one["rowNumber"], one["column"], one["value"], one["code"]) for one in done["refusals"]["nodes"]] == [
        (number, *fault[1:]) for number, fault in enumerate(wrong, 2)
    ]
    assert [row["session_no"] for row in await world.sql("SELECT session_no FROM session_record")] == ["right"]


@pytest.mark.feature("S0-61")
@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"\xff\xfe\x00", "BROKEN_FILE"),
        (b"PK\x03\x04 no text at all", "HEADINGS_MISSING"),
        ("网关编码,会话编号\n1,2\n".encode(), "HEADINGS_MISSING"),
        (f"{HEAD},颜色\n".encode(), "HEADINGS_UNKNOWN"),
        (f"{HEAD},ICCID\n".encode(), "HEADINGS_UNKNOWN"),
        (f'{HEAD}\npgw-1,"s,1,,2026-01-01T00:00:00Z,,1,1\n'.encode(), "BROKEN_FILE"),
        (f"{HEAD}\npgw-1,s\n".encode(), "BROKEN_FILE"),
        (f"{HEAD}\npgw-1,s\x00,1,,2026-01-01T00:00:00Z,,1,1\n".encode(), "BROKEN_FILE"),
    ],
)
async def test_a_file_that_is_none_is_refused_whole(world: World, gateway: str, content: bytes, code: str) -> None:
    done = await take_in(world, content=content)
    assert (done["status"], done["errorCode"]) == ("FAILED", code)
    assert await world.sql("SELECT FROM session_record") == []


# -- what is counted --------------------------------------------------------------------------------------------------


@pytest.mark.feature("S0-63", "S0-64", "S0-65")
async def test_what_is_counted_is_what_brute_force_counts(world: World, gateway: str) -> None:
    rng = random.Random(20261129)
    held = [(name, card) for name, cards in world.cards.items() for card in cards if name != "platform"]
    told = []
    for number in range(400):
        name, card = rng.choice(held)
        begun = MIDDAY + timedelta(seconds=rng.randint(-36 * 3600, 12 * 3600))
        minutes = rng.choice([None, *(rng.uniform(0, 300) for _ in range(4))])
        ended = None if minutes is None else begun + timedelta(minutes=minutes)
        told.append((name, card, begun, ended, f"n{number}"))
    rows = [session_row(card, begun, None if ended is None else (ended - begun) / timedelta(minutes=1), number=no)
            for _, card, begun, ended, no in told]  # fmt: skip
    told = [(name, card, begun, ended and datetime.fromisoformat(row.split(",")[5]), no)
            for (name, card, begun, ended, no), row in zip(told, rows, strict=True)]  # fmt: skip
    done = await take_in(world, *rows[:300])
    assert done["failed"] == 0
    assert await count(world) > 0
    await take_in(world, *rows[300:])  # late ones
    await count(world)
    assert await count(world) == 0
    first = {}
    for _, card, begun, _, _ in told:
        first[card.id] = min(begun, first.get(card.id, begun))
    zone = ZoneInfo(world.tenants["platform"].time_zone)
    days: dict[tuple[str, date], Counter[str]] = {}
    for name, card, begun, _, _ in told:
        day = begun.astimezone(zone).date()
        for tenant in world.tenants:
            if name in world.below(tenant):
                bucket = days.setdefault((tenant, day), Counter())
                bucket["connections"] += 1
                bucket["upload"] += 1000
                bucket[f"card {card.id}"] = 1
                bucket["new"] += begun == first[card.id]
                first_here = first[card.id]
                assert first_here <= begun
    names = {tenant.id: name for name, tenant in world.tenants.items()}
    stored = await world.sql("SELECT * FROM daily_statistic")
    found = {
        (names[row["tenant_id"]], row["day"]): (
            row["connections"], row["active_cards"], row["new_users"], row["upload_bytes"]
        )
        for row in stored
    }  # fmt: skip
    assert found == {
        at: (b["connections"], sum(key.startswith("card ") for key in b), b["new"], b["upload"])
        for at, b in days.items()
    }
    for row in stored:
        before = days.get((names[row["tenant_id"]], row["day"] - timedelta(days=1)), Counter())
        assert row["connection_growth"] == row["connections"] - before["connections"]
    months = await world.sql("SELECT * FROM monthly_statistic")
    for row in months:
        mine = [
            b
            for (tenant, day), b in days.items()
            if tenant == names[row["tenant_id"]] and day.month == row["month"].month
        ]
        assert row["connections"] == sum(b["connections"] for b in mine)
        assert row["busiest_day_connections"] == max(b["connections"] for b in mine)
        assert row["new_users"] == sum(b["new"] for b in mine)
    step = timedelta(minutes=5)
    intervals = await world.sql("SELECT * FROM interval_statistic")
    assert intervals
    for row in rng.sample(intervals, 300):
        below = world.below(names[row["tenant_id"]])
        open_then = [
            1 for name, _, begun, ended, _ in told
            if name in below and begun < row["at"] + step and (ended is None or ended >= row["at"])
        ]  # fmt: skip
        assert row["connections"] == len(open_then), row
        new = {c.id for n, c, b, _, _ in told if n in below and b == first[c.id] and row["at"] <= b < row["at"] + step}
        assert row["new_users"] == len(new), row


@pytest.mark.feature("S0-63")
async def test_the_present_is_counted_every_five_minutes_and_watched(world: World, gateway: str) -> None:
    card = world.cards["north"][0]
    now = datetime.now(UTC).replace(microsecond=0)
    await take_in(world, session_row(card, now - timedelta(minutes=20), None))
    database = world.client.application.runtime.database
    for _ in range(2):
        await counting.count_present(database, now)
    query = """{ intervalStatistics(orderBy: [{field: AT, direction: DESC}], first: 1) {
        nodes { connections newUsers tenant { name } } } }"""
    (latest,) = (await world.data("north", query))["intervalStatistics"]["nodes"]
    assert latest == {"connections": 1, "newUsers": 0, "tenant": {"name": world.tenants["north"].name}}
    assert (await world.data("south", query))["intervalStatistics"]["nodes"] == []
    whole = "{ intervalStatistics(first: 50) { nodes { newUsers } } }"
    nodes = (await world.data("north", whole))["intervalStatistics"]["nodes"]
    assert (len(nodes), sum(one["newUsers"] for one in nodes)) == (6, 1)


# -- how long it is kept ----------------------------------------------------------------------------------------------


async def days_kept(world: World) -> set[date]:
    return {row["at"].date() for row in await world.sql("SELECT at FROM session_record")}


async def old_sessions(world: World, *days: int) -> None:
    card = world.cards["north"][0]
    noon = NOW.replace(hour=12, minute=0, second=0)
    done = await take_in(world, *(session_row(card, noon - timedelta(days=ago)) for ago in days))
    assert done["failed"] == 0


async def keep(world: World) -> retention.Kept:
    runtime = world.client.application.runtime
    return await retention.keep(runtime.database, runtime.files, NOW)


@pytest.mark.feature("S0-62")
async def test_sessions_go_after_half_a_month_but_never_before_they_are_counted(world: World, gateway: str) -> None:
    today = NOW.date()
    await old_sessions(world, 3, 14, 17, 30)
    assert (await keep(world)).dropped == 0  # nothing of it has been counted
    await count(world)
    await old_sessions(world, 25)
    await keep(world)
    assert await days_kept(world) == {today - timedelta(days=ago) for ago in (3, 14, 17, 25)}
    await count(world)
    await keep(world)
    assert await days_kept(world) == {today - timedelta(days=ago) for ago in (3, 14)}
    counted = {row["day"] for row in await world.sql("SELECT day FROM daily_statistic")}
    assert len(counted) == 5
    assert (await keep(world)).dropped == 0


@pytest.mark.feature("S0-62")
async def test_a_day_that_is_gone_takes_nothing_in_and_keeps_what_was_counted(world: World, gateway: str) -> None:
    await old_sessions(world, 20)
    await count(world)
    before = await world.sql("SELECT tenant_id, day, connections, new_users FROM daily_statistic ORDER BY 1, 2")
    assert before
    await keep(world)
    late = session_row(world.cards["north"][1], NOW.replace(hour=12, minute=0, second=0) - timedelta(days=20))
    done = await take_in(world, late)
    assert [one["code"] for one in done["refusals"]["nodes"]] == ["DAY_CLOSED"]
    await count(world)
    after = await world.sql("SELECT tenant_id, day, connections, new_users FROM daily_statistic ORDER BY 1, 2")
    assert after == before


@pytest.mark.feature("S0-64")
async def test_a_card_seen_before_it_was_thought_is_new_once(world: World, gateway: str) -> None:
    card = world.cards["north"][0]
    await take_in(world, session_row(card, MIDDAY))
    await count(world)
    await take_in(world, session_row(card, MIDDAY - timedelta(days=1)))
    await count(world)
    north = world.tenants["north"].id
    rows = await world.sql("SELECT day, new_users FROM daily_statistic WHERE tenant_id = $1 ORDER BY day", north)
    assert [row["new_users"] for row in rows] == [1, 0]


@pytest.mark.feature("S0-63")
async def test_a_session_that_has_ended_meanwhile_is_counted_no_longer(world: World, gateway: str) -> None:
    card, begun = world.cards["north"][0], MIDDAY + timedelta(hours=10)
    await take_in(world, session_row(card, begun, None, number="s"))
    await count(world)
    await take_in(world, session_row(card, MIDDAY + timedelta(days=1), 1, number="t"))
    await count(world)
    open_next_day = "SELECT count(*) AS n FROM interval_statistic WHERE at > $1 AND connections > 0"
    (row,) = await world.sql(open_next_day, begun + timedelta(hours=3))
    assert row["n"] > 100
    await take_in(world, session_row(card, begun, 10, number="s"))
    await count(world)
    (row,) = await world.sql(open_next_day, begun + timedelta(hours=3))
    assert row["n"] <= 4 * 2  # the short session of the next day, for each of the branch


async def test_files_at_once_are_taken_in_one_after_the_other_and_counted_whole(world: World, gateway: str) -> None:
    card = world.cards["north"][0]
    rows = [session_row(card, MIDDAY + timedelta(minutes=n), number=f"s{n}") for n in range(60)]
    await asyncio.gather(*(take_in(world, *rows[n : n + 30]) for n in (0, 15, 30)), count(world))
    await asyncio.gather(*(count(world) for _ in range(3)))
    (row,) = await world.sql(
        "SELECT sum(connections) AS n FROM daily_statistic WHERE tenant_id = $1", world.tenants["north"].id
    )
    assert row["n"] == 60


@pytest.mark.feature("S0-62")
async def test_how_long_is_a_matter_of_policy_and_what_goes_may_be_written_down_first(
    world: World, gateway: str
) -> None:
    await old_sessions(world, 3, 9, 10)
    await count(world)
    input = {"table": "SESSION_RECORD", "days": 5, "mode": "MIGRATE"}
    for stranger in ("finance", "north"):
        assert await world.codes(stranger, RETENTION, {"input": input}) == ["FORBIDDEN"]
    refused = await world.data("admin", RETENTION, {"input": {**input, "days": 0}})
    assert said(refused["setRetention"]) == [("OUT_OF_RANGE", "days")]
    changed = (await world.data("admin", RETENTION, {"input": input}))["setRetention"]
    assert changed == {"retentionPolicy": input, "errors": []}
    rows = {
        str(row["session_no"])
        for row in await world.sql("SELECT session_no FROM session_record WHERE at < $1", NOW - timedelta(days=6))
    }
    kept = await keep(world)
    assert kept.written >= 2
    assert await days_kept(world) == {NOW.date() - timedelta(days=3)}
    files = await world.sql(
        "SELECT name, sha256 FROM stored_file WHERE name LIKE 'session_record_%.csv.gz' ORDER BY name"
    )
    runtime = world.client.application.runtime
    written = ""
    for file in files:
        content = await runtime.files.content(file["sha256"])
        assert content is not None
        packed = b"".join([piece async for piece in content.pieces])
        written += gzip.decompress(packed).decode()
    assert rows == {number for number in rows if number in written}
    assert len(rows) == 2
