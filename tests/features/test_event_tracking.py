"""What people do in the frontends: taken in cheaply and within limits, told by event, page and day."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import event as events_of

from planner.ids import encode_id
from services import tracking
from tests.authz.test_access import another_process
from tests.conftest import Place
from tests.support.client import Client
from tests.support.world import World

TRACK = "mutation($input: TrackEventsInput!) { trackEvents(input: $input) { stored errors { code field message } } }"
STATS = """query($firstDay: Date!, $lastDay: Date!, $tenant: ID, $event: String, $pageKey: String) {
    behaviourStats(firstDay: $firstDay, lastDay: $lastDay, tenant: $tenant, event: $event, pageKey: $pageKey) {
        timeZone counts { day event pageKey events callers } errors { code field } } }"""


def batch(*given: dict[str, Any], sent_at: datetime | None = None) -> dict[str, Any]:
    now = datetime.now(UTC) if sent_at is None else sent_at
    default = {"event": "page.open", "pageKey": "sim.cards", "at": now.isoformat()}
    return {"input": {"sentAt": now.isoformat(), "events": [{**default, **one} for one in given]}}


async def track(world: World, caller: str, *given: dict[str, Any], **more: Any) -> dict[str, Any]:
    payload: dict[str, Any] = (await world.data(caller, TRACK, batch(*given, **more)))["trackEvents"]
    return payload


async def visit(client: Client, *given: dict[str, Any], door: str = "agent") -> dict[str, Any]:
    """As somebody who has not logged in."""
    answer = (await client.post(door, TRACK, batch(*given))).json()
    assert "errors" not in answer, answer
    payload: dict[str, Any] = answer["data"]["trackEvents"]
    return payload


async def stored(world: World) -> list[Any]:
    return await world.sql("SELECT * FROM behaviour_event ORDER BY id")


def refused(code: str, field: str | None) -> dict[str, Any]:
    return {"stored": 0, "errors": [{"code": code, "field": field}]}


def told(payload: dict[str, Any]) -> dict[str, Any]:
    """A payload without the messages to people."""
    return {**payload, "errors": [{k: e[k] for k in ("code", "field")} for e in payload["errors"]]}


@contextmanager
def statements(world: World) -> Iterator[list[str]]:
    """The statements that services send meanwhile, but for what tells row-level security who asks."""
    sent: list[str] = []

    def note(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "set_config" not in statement:
            sent.append(" ".join(statement.split()[:3]))

    engine = world.client.application.database.engine.sync_engine
    events_of.listen(engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        events_of.remove(engine, "before_cursor_execute", note)


@pytest.mark.feature("S4-70")
@pytest.mark.parametrize("caller", ["admin", "operations", "finance", "sales", "acme", "north", "coast"])
async def test_a_batch_of_anybody_is_stored_in_one_statement(world: World, caller: str) -> None:
    await track(world, caller, {"event": "first.call"})
    at = datetime.now(UTC) - timedelta(minutes=2)
    given: list[dict[str, Any]] = [
        {"event": "card.export", "at": at.isoformat(), "properties": [{"name": "rows", "value": "“20”"}]},
        *({"event": f"button.press:{n}", "pageKey": "sim/cards", "at": at.isoformat()} for n in range(99)),
    ]
    with statements(world) as sent:
        assert await track(world, caller, *given) == {"stored": 100, "errors": []}
    assert sent == ["INSERT INTO behaviour_event"]
    _, row, *rest = await stored(world)
    [account] = await world.sql("SELECT id, tenant_id, tenant_path FROM staff_account WHERE login = $1", caller)
    assert {name: row[name] for name in ("event", "page_key", "properties", "door", "caller", "tenant_path")} == {
        "event": "card.export",
        "page_key": "sim.cards",
        "properties": '{"rows": "“20”"}',
        "door": "admin" if caller in ("admin", "operations", "finance", "sales") else "agent",
        "caller": f"account:{account['id']}",
        "tenant_path": account["tenant_path"],
    }
    assert row["tenant_id"] == account["tenant_id"]
    assert abs(row["at"] - at) < timedelta(seconds=10)
    assert [one["event"] for one in rest] == [f"button.press:{n}" for n in range(99)]
    # what is told here is not told once more in the operation log
    assert await world.sql("SELECT id FROM operation_record WHERE mutation = 'track_events'") == []


@pytest.mark.feature("S4-70")
async def test_a_visitor_reports_within_tight_limits(world: World) -> None:
    for door in ("agent", "merchant", "admin"):
        assert await visit(world.client, {}, door=door) == {"stored": 1, "errors": []}
    rows = await stored(world)
    assert [(row["door"], row["caller"], row["tenant_path"]) for row in rows] == [
        ("agent", "anonymous", ".0001."), ("merchant", "anonymous", ".0001."), ("admin", "anonymous", ".0001."),
    ]  # fmt: skip
    assert told(await visit(world.client, *[{}] * 21)) == refused("TOO_MANY", "events")
    # sixty a minute from one address, whatever the door
    for _ in range(2):
        assert await visit(world.client, *[{}] * 20) == {"stored": 20, "errors": []}
    assert await visit(world.client, *[{}] * 17) == {"stored": 17, "errors": []}
    assert told(await visit(world.client, {}, door="merchant")) == refused("TOO_MANY_ATTEMPTS", None)
    assert len(await stored(world)) == 60
    # those who are logged in have limits of their own
    assert (await track(world, "north", *[{}] * 21))["stored"] == 21


@pytest.fixture
async def elsewhere(world: World, place: Place) -> AsyncIterator[Client]:
    async with another_process(place.settings) as client:
        yield client


@pytest.mark.feature("S4-70")
async def test_the_rate_holds_over_all_processes_and_is_a_parameter(world: World, elsewhere: Client) -> None:
    [parameter] = await world.sql("SELECT id FROM system_parameter WHERE key = 'tracking.eventsPerMinute'")
    update = "mutation($input: UpdateParameterInput!) { updateParameter(input: $input) { errors { code } } }"
    input = {"id": encode_id("par", parameter["id"]), "version": 1, "value": "5"}
    assert (await world.data("admin", update, {"input": input}))["updateParameter"]["errors"] == []
    token = await world.token("north")

    async def there(*given: dict[str, Any]) -> dict[str, Any]:
        answer = (await elsewhere.post("agent", TRACK, batch(*given), token=token)).json()
        return told(answer["data"]["trackEvents"])

    assert (await track(world, "north", {}, {}))["stored"] == 2
    assert await there({}, {}, {}) == {"stored": 3, "errors": []}
    assert await there({}) == refused("TOO_MANY_ATTEMPTS", None)
    assert told(await track(world, "north", {})) == refused("TOO_MANY_ATTEMPTS", None)
    assert (await track(world, "south", {}))["stored"] == 1
    assert len(await stored(world)) == 6


@pytest.mark.feature("S4-70")
async def test_what_is_out_of_form_or_too_much_is_refused_whole(world: World) -> None:
    long = [{"name": f"p{n}", "value": "x" * 200} for n in range(10)]
    naive = datetime.now(UTC).replace(tzinfo=None).isoformat()
    for given, code, field in (
        ([], "REQUIRED", "events"),
        ([{}] * 101, "TOO_MANY", "events"),
        ([{}, {"event": "two words"}], "INVALID", "events.1.event"),
        ([{"event": ""}], "REQUIRED", "events.0.event"),
        ([{"event": "x" * 101}], "INVALID", "events.0.event"),
        ([{"pageKey": "<script>"}], "INVALID", "events.0.pageKey"),
        ([{"at": naive}], "INVALID", "events.0.at"),
        ([{"properties": [{"name": "a-b", "value": ""}]}], "INVALID", "events.0.properties"),
        ([{"properties": [{"name": "a", "value": "1"}] * 2}], "INVALID", "events.0.properties"),
        ([{"properties": [{"name": "a", "value": "x" * 201}]}], "INVALID", "events.0.properties"),
        ([{"properties": [{"name": "a", "value": "\x00"}]}], "INVALID", "events.0.properties"),
        ([{"properties": [{"name": f"p{n}", "value": ""} for n in range(11)]}], "TOO_MANY", "events.0.properties"),
        ([{"properties": long}] * 8, "BATCH_TOO_LARGE", "events"),
    ):
        assert told(await track(world, "north", *given)) == refused(code, field), (code, field)
    unsent = {"input": {"sentAt": naive, "events": [{"event": "a", "pageKey": "b", "at": "2026-01-01T00:00:00Z"}]}}
    payload = (await world.data("north", TRACK, unsent))["trackEvents"]
    assert told(payload) == refused("INVALID", "sentAt")
    assert await stored(world) == []
    # what was refused for its form does not count against the rate
    for _ in range(6):
        assert (await track(world, "north", *[{}] * 100))["stored"] == 100
    assert told(await track(world, "north", {})) == refused("TOO_MANY_ATTEMPTS", None)


@pytest.mark.feature("S4-70")
@pytest.mark.parametrize("skew", [timedelta(0), timedelta(hours=-30), timedelta(days=4_000)])
async def test_a_clock_that_is_wrong_moves_nothing(world: World, skew: timedelta) -> None:
    """How long ago an event was is told by one clock, the sender's; when that was, by ours."""
    theirs = datetime.now(UTC) + skew
    ages = [timedelta(0), timedelta(minutes=5), timedelta(days=6, hours=23), timedelta(days=7, seconds=1)]
    given = [{"at": (theirs - age).isoformat()} for age in ages]
    ahead = {"at": (theirs + timedelta(days=2)).isoformat()}
    assert await track(world, "north", *given, ahead, sent_at=theirs) == {"stored": 4, "errors": []}
    now = datetime.now(UTC)
    found = [now - row["at"] for row in await stored(world)]
    expected = [*ages[:3], timedelta(0)]
    assert all(abs(one - other) < timedelta(seconds=10) for one, other in zip(found, expected, strict=True))


@pytest.mark.feature("S4-70")
async def test_what_was_stored_is_never_changed(world: World) -> None:
    rights = await world.sql(
        "SELECT privilege_type FROM information_schema.role_table_grants "
        "WHERE grantee = 'trellis_app' AND table_name = 'behaviour_event' ORDER BY 1"
    )
    assert [row["privilege_type"] for row in rights] == ["INSERT", "SELECT"]


# -- what is told --------------------------------------------------------------------------------------------------


async def happen(world: World, tenant: str, at: str, event: str, page: str, caller: str, times: int = 1) -> None:
    owner = world.tenants[tenant]
    await world.sql(
        "INSERT INTO behaviour_event (tenant_id, tenant_path, at, event, page_key, properties, door, caller) "
        "SELECT $1, $2, $3, $4, $5, '{}', 'agent', $6 FROM generate_series(1, $7)",
        owner.id,
        owner.path,
        datetime.fromisoformat(at),
        event,
        page,
        caller,
        times,
    )


async def stats(world: World, first: str, last: str, caller: str = "finance", **more: Any) -> dict[str, Any]:
    variables = {"firstDay": first, "lastDay": last, **more}
    found: dict[str, Any] = (await world.data(caller, STATS, variables))["behaviourStats"]
    return found


def count(day: str, event: str, page: str, events: int, callers: int) -> dict[str, Any]:
    return {"day": day, "event": event, "pageKey": page, "events": events, "callers": callers}


@pytest.mark.feature("S4-70")
@pytest.mark.parametrize("caller", ["admin", "operations", "finance", "sales"])
async def test_statistics_by_day_event_and_page_in_the_tenants_time_zone(world: World, caller: str) -> None:
    await world.sql("UPDATE tenant SET time_zone = 'America/New_York' WHERE id = $1", world.tenants["north"].id)
    await happen(world, "platform", "2026-03-01T15:59:59+00:00", "open", "a", "anonymous", 3)
    await happen(world, "platform", "2026-03-01T16:00:00+00:00", "open", "a", "anonymous", 2)
    await happen(world, "north", "2026-03-01T16:00:00+00:00", "open", "a", "account:1", 2)
    await happen(world, "north-east", "2026-03-02T04:59:59+00:00", "open", "a", "account:2")
    await happen(world, "north", "2026-03-02T05:00:00+00:00", "open", "b", "account:1")
    await happen(world, "south", "2026-03-02T05:00:00+00:00", "press", "a", "account:3")
    await happen(world, "south", "2026-03-02T16:00:00+00:00", "press", "a", "account:3")

    # the platform's days are those of Shanghai, eight hours ahead
    assert await stats(world, "2026-03-01", "2026-03-02", caller) == {
        "timeZone": "Asia/Shanghai",
        "counts": [
            count("2026-03-01", "open", "a", 3, 0),
            count("2026-03-02", "open", "a", 5, 2),
            count("2026-03-02", "open", "b", 1, 1),
            count("2026-03-02", "press", "a", 1, 1),
        ],
        "errors": [],
    }
    # a tenant's, with all below it, are those of its own
    assert await stats(world, "2026-03-01", "2026-03-02", caller, tenant=world.id("north")) == {
        "timeZone": "America/New_York",
        "counts": [count("2026-03-01", "open", "a", 3, 2), count("2026-03-02", "open", "b", 1, 1)],
        "errors": [],
    }
    for field in ("event", "pageKey"):
        refusal = (await stats(world, "2026-03-01", "2026-03-02", caller, **{field: "a\x00"}))["errors"]
        assert [(one["code"], one["field"]) for one in refusal] == [("INVALID", field)]
    narrow = await stats(world, "2026-03-02", "2026-03-03", caller, event="press")
    assert narrow["counts"] == [count("2026-03-02", "press", "a", 1, 1), count("2026-03-03", "press", "a", 1, 1)]
    assert (await stats(world, "2026-03-02", "2026-03-02", caller, pageKey="b"))["counts"] == [
        count("2026-03-02", "open", "b", 1, 1)
    ]
    assert (await stats(world, "2026-03-04", "2026-03-04", caller))["counts"] == []


@pytest.mark.feature("S4-70")
async def test_a_day_that_the_clock_changes_is_counted_once(world: World) -> None:
    """Twenty-three hours on the day when summer time begins."""
    await world.sql("UPDATE tenant SET time_zone = 'Europe/Berlin' WHERE id = $1", world.tenants["platform"].id)
    for at in ("2026-03-28T22:59:59+00:00", "2026-03-28T23:00:00+00:00", "2026-03-29T21:59:59+00:00"):
        await happen(world, "platform", at, "open", "a", "anonymous")
    await happen(world, "platform", "2026-03-29T22:00:00+00:00", "open", "a", "anonymous")
    found = await stats(world, "2026-03-28", "2026-03-30")
    assert [(one["day"], one["events"]) for one in found["counts"]] == [
        ("2026-03-28", 1), ("2026-03-29", 2), ("2026-03-30", 1),
    ]  # fmt: skip
    assert (await stats(world, "2026-03-29", "2026-03-29"))["counts"] == [count("2026-03-29", "open", "a", 2, 0)]


@pytest.mark.feature("S4-70")
async def test_statistics_that_are_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for first, last, more, code, field in (
        ("2026-03-02", "2026-03-01", {}, "INVALID", "lastDay"),
        ("2026-01-01", "2026-04-03", {}, "TOO_MANY", "lastDay"),
        ("0001-01-01", "9999-12-31", {}, "TOO_MANY", "lastDay"),
        ("2026-03-01", "2026-03-01", {"tenant": encode_id("ten", 10**9)}, "NOT_FOUND", "tenant"),
        ("2026-03-01", "2026-03-01", {"tenant": encode_id("sim", 1)}, "INVALID_ID", "tenant"),
    ):
        expected = {"timeZone": None, "counts": [], "errors": [{"code": code, "field": field}]}
        assert await stats(world, first, last, **more) == expected, (first, last, more)
    # the first and the last of all days can be asked for
    for day in (date.min, date.max):
        assert (await stats(world, str(day), str(day)))["errors"] == []
    for n in range(3):
        await happen(world, "platform", "2026-03-01T00:00:00+00:00", f"event{n}", "a", "anonymous")
    monkeypatch.setattr(tracking, "MAX_ROWS", 3)
    assert len((await stats(world, "2026-03-01", "2026-03-31"))["counts"]) == 3
    await happen(world, "platform", "2026-03-01T00:00:00+00:00", "event3", "a", "anonymous")
    assert (await stats(world, "2026-03-01", "2026-03-31"))["errors"] == [{"code": "TOO_MANY", "field": "lastDay"}]
    for caller in ("north", "coast", "acme"):
        days = {"firstDay": "2026-03-01", "lastDay": "2026-03-01"}
        assert await world.codes(caller, STATS, days) == ["FORBIDDEN"], caller
    answer = (await world.client.post("agent", STATS, {"firstDay": "2026-03-01", "lastDay": "2026-03-01"})).json()
    assert [error["extensions"]["code"] for error in answer["errors"]] == ["UNAUTHENTICATED"]
