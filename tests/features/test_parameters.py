"""System parameters: typed, some of them built in, some with values that tenants give for themselves and below."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest

from authz.principal import system
from planner.ids import encode_id
from services import parameters
from services.refusal import Refusal
from tests.authz.test_access import another_process, valkey, within  # noqa: F401 - a fixture
from tests.conftest import Place
from tests.support.client import Client
from tests.support.world import World, sow

PARAMETER = "id key name value valueType builtIn overridable version remark"
CREATE = f"""mutation($input: ParameterInput!) {{ createParameter(input: $input) {{
    parameter {{ {PARAMETER} }} errors {{ code field }} }} }}"""
UPDATE = f"""mutation($input: UpdateParameterInput!) {{ updateParameter(input: $input) {{
    parameter {{ {PARAMETER} }} errors {{ code field }} }} }}"""
DELETE = "mutation($id: ID!) { deleteParameter(id: $id) { done errors { code field } } }"
READ = f"query($key: String!) {{ systemParameter(key: $key) {{ {PARAMETER} }} }}"
OVERRIDE = """mutation($key: String!, $value: String!) { overrideParameter(input: {key: $key, value: $value}) {
    parameter { key value isOwn } errors { code field } } }"""
REMOVE = """mutation($key: String!) { removeParameterOverride(key: $key) {
    parameter { key value isOwn } errors { code field } } }"""
EFFECTIVE = "query($key: String!) { effectiveParameter(key: $key) { key name value valueType overridable isOwn } }"
ALL_EFFECTIVE = "{ effectiveParameters { key value isOwn } }"
TRACKED = "tracking.eventsPerMinute"


async def make(world: World, **changes: Any) -> dict[str, Any]:
    input = {"key": "usage.ratio", "name": "Ratio", "value": "1.5", "valueType": "DECIMAL", "overridable": True}
    payload = (await world.data("admin", CREATE, {"input": {**input, **changes}}))["createParameter"]
    assert payload["errors"] == []
    made: dict[str, Any] = payload["parameter"]
    return made


async def stored(world: World) -> list[Any]:
    tables = ("system_parameter", "parameter_override")
    return [await world.sql(f"SELECT * FROM {table} ORDER BY id") for table in tables]


async def install(world: World) -> None:
    await parameters.install(world.client.application.runtime.database)


async def effective(world: World, caller: str, key: str = "usage.ratio") -> tuple[str, bool] | None:
    found = (await world.data(caller, EFFECTIVE, {"key": key}))["effectiveParameter"]
    return None if found is None else (found["value"], found["isOwn"])


# -- the platform's parameters -------------------------------------------------------------------------------------


@pytest.mark.feature("S1-21")
async def test_a_parameter_is_made_changed_and_removed(world: World) -> None:
    made = await make(world, remark="For figures that end users see.")
    expected = {
        "id": made["id"], "key": "usage.ratio", "name": "Ratio", "value": "1.5", "valueType": "DECIMAL",
        "builtIn": False, "overridable": True, "version": 1, "remark": "For figures that end users see.",
    }  # fmt: skip
    assert made == expected
    for version, change in enumerate(
        ({"value": "2"}, {"key": "usage.factor"}, {"name": "Factor"}, {"overridable": False}, {"remark": "x"}), start=1
    ):
        input = {"id": made["id"], "version": version, **change}
        payload = (await world.data("admin", UPDATE, {"input": input}))["updateParameter"]
        expected |= {**change, "version": version + 1}
        assert payload == {"parameter": expected, "errors": []}
    for reader in ("operations", "finance", "sales"):
        assert (await world.data(reader, READ, {"key": "usage.factor"}))["systemParameter"] == expected
    for caller in ("north", "acme"):
        assert await world.codes(caller, READ, {"key": "usage.factor"}) == ["FORBIDDEN"]
        assert (await world.data(caller, f'{{ node(id: "{made["id"]}") {{ id }} }}')) == {"node": None}
    assert await world.data("admin", DELETE, {"id": made["id"]}) == {"deleteParameter": {"done": True, "errors": []}}
    assert await stored(world) == [[], []]


@pytest.mark.feature("S1-21")
@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("STRING", {"any text": "any text", " x ": "x", "": ""}, ["\x00", "x" * 10_001]),
        ("INTEGER", {"0": "0", " -42 ": "-42", "9" * 18: "9" * 18}, ["", "1.0", "1e3", "ten", "0x10", "9" * 19, "١"]),
        ("DECIMAL", {"1.50": "1.50", "-0.0001": "-0.0001"}, ["", "NaN", "Infinity", "1e3", "1,5", ".5", "1."]),
        ("BOOLEAN", {"true": "true", "false": "false"}, ["", "True", "1", "yes"]),
        ("JSON", {'{"a": [1, null]}': '{"a":[1,null]}', "3": "3"}, ["", "{", "NaN", "{'a': 1}", "[" * 5_000]),
    ],
)
async def test_a_value_is_checked_by_its_type(world: World, kind: str, good: dict[str, str], bad: list[str]) -> None:
    made = await make(world, valueType=kind, value=next(iter(good)))
    for version, (given, kept) in enumerate(good.items(), start=1):
        input = {"id": made["id"], "version": version, "value": given}
        assert (await world.data("admin", UPDATE, {"input": input}))["updateParameter"]["parameter"]["value"] == kept
        assert (await world.data("north", OVERRIDE, {"key": "usage.ratio", "value": given}))["overrideParameter"] == {
            "parameter": {"key": "usage.ratio", "value": kept, "isOwn": True},
            "errors": [],
        }
    before = await stored(world)
    for value in bad:
        refused = [{"code": "INVALID" if value else "REQUIRED", "field": "value"}]
        input = {"id": made["id"], "version": len(good) + 1, "value": value}
        assert (await world.data("admin", UPDATE, {"input": input}))["updateParameter"]["errors"] == refused, value
        new = {"key": "new", "name": "New", "valueType": kind, "value": value}
        assert (await world.data("admin", CREATE, {"input": new}))["createParameter"]["errors"] == refused, value
        own = (await world.data("north", OVERRIDE, {"key": "usage.ratio", "value": value}))["overrideParameter"]
        assert own == {"parameter": None, "errors": refused}, value
    assert await stored(world) == before


@pytest.mark.feature("S1-21")
async def test_what_is_built_in_stays_and_takes_values_only(world: World) -> None:
    await install(world)
    built_in = (await world.data("admin", READ, {"key": TRACKED}))["systemParameter"]
    assert built_in == {
        "id": built_in["id"], "key": TRACKED, "name": "Events that one caller may report in a minute", "value": "600",
        "valueType": "INTEGER", "builtIn": True, "overridable": False, "version": 1, "remark": None,
    }  # fmt: skip
    before = await stored(world)
    for change in ({"key": "other"}, {"name": "Other"}, {"overridable": True}, {"remark": "x"}):
        input = {"id": built_in["id"], "version": 1, "value": "7", **change}
        payload = (await world.data("admin", UPDATE, {"input": input}))["updateParameter"]
        assert payload == {"parameter": None, "errors": [{"code": "BUILT_IN", "field": next(iter(change))}]}
    refused = {"deleteParameter": {"done": False, "errors": [{"code": "BUILT_IN", "field": "id"}]}}
    assert await world.data("admin", DELETE, {"id": built_in["id"]}) == refused
    taken = {"key": "tracking.visitorEventsPerMinute", "name": "Mine", "value": "1", "valueType": "INTEGER"}
    payload = (await world.data("admin", CREATE, {"input": taken}))["createParameter"]
    assert payload["errors"] == [{"code": "TAKEN", "field": "key"}]
    assert await stored(world) == before

    input = {"id": built_in["id"], "version": 1, "value": "7"}
    payload = (await world.data("admin", UPDATE, {"input": input}))["updateParameter"]
    assert payload["parameter"] == {**built_in, "value": "7", "version": 2}
    # a process that starts brings back nothing that was changed
    await asyncio.gather(*(install(world) for _ in range(3)))
    [row] = await world.sql("SELECT value FROM system_parameter WHERE key = $1", TRACKED)
    assert row["value"] == "7"
    assert len((await stored(world))[0]) == len(parameters.BUILT_IN)


@pytest.mark.feature("S1-21")
async def test_refusals_change_nothing(world: World) -> None:
    made = await make(world)
    other = await make(world, key="other")
    fixed = await make(world, key="fixed", overridable=False)
    before = await stored(world)
    for change, code, field in (
        ({"key": "other"}, "TAKEN", "key"),
        ({"key": TRACKED}, "TAKEN", "key"),
        ({"key": "two words"}, "INVALID", "key"),
        ({"name": " "}, "REQUIRED", "name"),
        ({"remark": "x" * 2_001}, "INVALID", "remark"),
    ):
        refused = {"parameter": None, "errors": [{"code": code, "field": field}]}
        input = {"id": made["id"], "version": 1, **change}
        assert (await world.data("admin", UPDATE, {"input": input}))["updateParameter"] == refused, change
        new = {"key": "new", "name": "New", "value": "1", "valueType": "STRING", **change}
        assert (await world.data("admin", CREATE, {"input": new}))["createParameter"] == refused, change
    missing = {"id": encode_id("par", 10**9), "version": 1}
    payload = (await world.data("admin", UPDATE, {"input": missing}))["updateParameter"]
    assert payload["errors"] == [{"code": "NOT_FOUND", "field": "id"}]
    for caller in ("operations", "finance", "sales", "north", "acme"):
        new = {"key": "mine", "name": "Mine", "value": "1", "valueType": "STRING"}
        assert await world.codes(caller, CREATE, {"input": new}) == ["FORBIDDEN"], caller
        change = {"id": other["id"], "version": 1, "value": "9"}
        assert await world.codes(caller, UPDATE, {"input": change}) == ["FORBIDDEN"], caller
        assert await world.codes(caller, DELETE, {"id": other["id"]}) == ["FORBIDDEN"], caller
    for caller in ("operations", "finance", "sales"):
        assert await world.codes(caller, OVERRIDE, {"key": "usage.ratio", "value": "3"}) == ["FORBIDDEN"], caller
    # the platform's own value is the parameter's; a tenant is told of nothing that it may not have a value of
    for caller, key, code in (
        ("admin", "usage.ratio", "INVALID"),
        ("north", fixed["key"], "NOT_FOUND"),
        ("north", "unknown", "NOT_FOUND"),
    ):
        for mutation, variables in ((OVERRIDE, {"key": key, "value": "3"}), (REMOVE, {"key": key})):
            payload = (await world.data(caller, mutation, variables)).popitem()[1]
            assert payload == {"parameter": None, "errors": [{"code": code, "field": "key"}]}
    payload = (await world.data("north", REMOVE, {"key": "usage.ratio"}))["removeParameterOverride"]
    assert payload["errors"] == [{"code": "NOT_FOUND", "field": "key"}]
    assert await stored(world) == before


@pytest.mark.feature("S1-21")
async def test_of_two_changes_at_once_one_is_told_to_read_again(world: World) -> None:
    made = await make(world, value="0")
    inputs = [{"id": made["id"], "version": 1, "value": str(n)} for n in range(1, 7)]
    answers = await asyncio.gather(*(world.data("admin", UPDATE, {"input": input}) for input in inputs))
    payloads = [answer["updateParameter"] for answer in answers]
    won = [payload["parameter"] for payload in payloads if payload["parameter"] is not None]
    assert len(won) == 1
    assert [p["errors"] for p in payloads if p["parameter"] is None] == [[{"code": "STALE", "field": "version"}]] * 5
    assert (await world.data("admin", READ, {"key": "usage.ratio"}))["systemParameter"] == won[0]
    assert won[0]["version"] == 2


# -- tenants' own values -------------------------------------------------------------------------------------------


@pytest.mark.feature("S1-21")
async def test_a_tenants_own_value_holds_for_it_and_below_until_a_nearer_one(world: World) -> None:
    made = await make(world)
    everybody = ("north", "north-east", "coast", "south", "south-west", "acme")

    async def all_of_them() -> dict[str, tuple[str, bool] | None]:
        return {caller: await effective(world, caller) for caller in everybody}

    expected: dict[str, tuple[str, bool] | None] = dict.fromkeys(everybody, ("1.5", False))
    assert await all_of_them() == expected
    own = {"parameter": {"key": "usage.ratio", "value": "2", "isOwn": True}, "errors": []}
    assert (await world.data("north", OVERRIDE, {"key": "usage.ratio", "value": "2"}))["overrideParameter"] == own
    expected |= {"north": ("2", True), "north-east": ("2", False), "coast": ("2", False)}
    assert await all_of_them() == expected
    await world.data("coast", OVERRIDE, {"key": "usage.ratio", "value": "3"})
    await world.data("north-east", OVERRIDE, {"key": "usage.ratio", "value": "2.5"})
    await world.data("north-east", OVERRIDE, {"key": "usage.ratio", "value": "2.75"})
    expected |= {"north-east": ("2.75", True), "coast": ("3", True)}
    assert await all_of_them() == expected

    listed = (await world.data("coast", ALL_EFFECTIVE))["effectiveParameters"]
    assert listed == [{"key": "usage.ratio", "value": "3", "isOwn": True}]
    # the platform's staff sees the platform's value, and everybody's own
    assert await effective(world, "finance") == ("1.5", True)
    query = """query($key: String!) { systemParameter(key: $key) {
        overrides(first: 9, orderBy: [{field: ID, direction: ASC}]) { nodes { value tenant { id } } } } }"""
    found = (await world.data("finance", query, {"key": "usage.ratio"}))["systemParameter"]["overrides"]["nodes"]
    assert {(node["tenant"]["id"], node["value"]) for node in found} == {
        (world.id("north"), "2"), (world.id("north-east"), "2.75"), (world.id("coast"), "3"),
    }  # fmt: skip

    # each takes away its own only, and what is above holds again
    gone = (await world.data("coast", REMOVE, {"key": "usage.ratio"}))["removeParameterOverride"]
    assert gone == {"parameter": {"key": "usage.ratio", "value": "2.75", "isOwn": False}, "errors": []}
    again = (await world.data("coast", REMOVE, {"key": "usage.ratio"}))["removeParameterOverride"]
    assert again["errors"] == [{"code": "NOT_FOUND", "field": "key"}]
    expected |= {"coast": ("2.75", False)}
    assert await all_of_them() == expected
    await world.data("north", REMOVE, {"key": "usage.ratio"})
    assert await all_of_them() == expected | {"north": ("1.5", False)}

    # where tenants may no longer have values of their own, nobody's counts, and the parameter is none of their business
    input = {"id": made["id"], "version": 1, "overridable": False}
    await world.data("admin", UPDATE, {"input": input})
    assert await all_of_them() == dict.fromkeys(everybody)
    assert (await world.data("coast", ALL_EFFECTIVE))["effectiveParameters"] == []
    assert await effective(world, "finance") == ("1.5", True)
    found_now = await parameters.effective(
        world.client.application.runtime, "usage.ratio", world.tenants["north-east"].path
    )
    assert found_now.text == "1.5"
    # what goes takes them along
    await world.data("admin", DELETE, {"id": made["id"]})
    assert await stored(world) == [[], []]


@pytest.mark.feature("S1-21")
async def test_many_own_values_at_once_leave_one(world: World) -> None:
    await make(world)
    answers = await asyncio.gather(
        *(world.data("north", OVERRIDE, {"key": "usage.ratio", "value": str(n)}) for n in range(1, 9))
    )
    assert [answer["overrideParameter"]["errors"] for answer in answers] == [[]] * 8
    [row] = (await stored(world))[1]
    assert await effective(world, "north") == (row["value"], True)


async def test_programs_are_given_values_of_their_type(world: World) -> None:
    runtime = world.client.application.runtime
    for kind, text, value in (
        ("STRING", "x", "x"),
        ("INTEGER", "12", 12),
        ("DECIMAL", "1.50", Decimal("1.50")),
        ("BOOLEAN", "false", False),
        ("BOOLEAN", "true", True),
        ("JSON", '{"a":[1.5]}', {"a": [1.5]}),
    ):
        key = f"p.{kind}.{text[0]}".replace("{", "j")
        await make(world, key=key, value=text, valueType=kind)
        assert (await parameters.effective(runtime, key)).value == value
        async with runtime.database.transaction(system("test")) as session:
            found = await parameters.read_effective(session, key, world.tenants["coast"].path)
        assert found is not None
        assert found.value == value
    with pytest.raises(Refusal, match="Not found"):
        await parameters.effective(runtime, "unknown")
    # what is built in has its value also before an installation has its row
    assert (await world.sql("SELECT id FROM system_parameter WHERE built_in")) == []
    assert (await parameters.effective(runtime, TRACKED)).value == 600


@pytest.mark.feature("S1-21")
async def test_a_moved_branch_follows_those_above_it(world: World) -> None:
    await make(world)
    await world.data("south", OVERRIDE, {"key": "usage.ratio", "value": "9"})
    assert await effective(world, "coast") == ("1.5", False)
    move = "mutation($input: MoveTenantInput!) { moveTenant(input: $input) { errors { code } } }"
    moved = await world.data("admin", move, {"input": {"id": world.id("north-east"), "parent": world.id("south")}})
    assert moved == {"moveTenant": {"errors": []}}
    assert await effective(world, "coast") == ("9", False)


# -- in every process ----------------------------------------------------------------------------------------------


@pytest.fixture
async def elsewhere(world: World, place: Place) -> AsyncIterator[Client]:
    async with another_process(place.settings) as client:
        yield client


@pytest.mark.feature("S1-21")
async def test_a_change_acts_in_every_process_within_a_second(world: World, elsewhere: Client) -> None:
    made = await make(world)
    path = world.tenants["coast"].path

    async def told(client: Client) -> Any:
        return (await parameters.effective(client.application.runtime, "usage.ratio", path)).value

    async def becomes(expected: str) -> None:
        async def met() -> bool:
            return bool(await told(elsewhere) == Decimal(expected))

        assert await within(1, met), await told(elsewhere)
        assert await told(world.client) == Decimal(expected)

    await becomes("1.5")
    await world.sql("UPDATE system_parameter SET value = '99' WHERE key = 'usage.ratio'")
    assert await told(elsewhere) == Decimal("1.5")
    await world.data("admin", UPDATE, {"input": {"id": made["id"], "version": 1, "value": "4"}})
    await becomes("4")
    await world.data("north", OVERRIDE, {"key": "usage.ratio", "value": "5"})
    await becomes("5")
    await world.data("north", REMOVE, {"key": "usage.ratio"})
    await becomes("4")


async def test_a_process_that_starts_brings_what_is_built_in(world: World, elsewhere: Client) -> None:
    rows = await world.sql("SELECT key, value, tenant_path FROM system_parameter WHERE built_in")
    assert {row["key"]: row["value"] for row in rows} == {key: one.value for key, one in parameters.BUILT_IN.items()}
    assert {row["tenant_path"] for row in rows} == {world.tenants["platform"].path}


async def test_while_changes_cannot_be_heard_the_database_is_asked(place: Place, valkey: Any) -> None:  # noqa: F811
    settings = place.settings.model_copy(update={"redis_url": valkey.url})
    async with another_process(settings) as client:
        world = await sow(client, place.superuser_url)
        await make(world)
        kept = client.application.runtime.kept
        await asyncio.to_thread(valkey.stop)

        async def silent() -> bool:
            return not kept.listening

        assert await within(5, silent)
        for value in ("2", "3"):
            await world.sql("UPDATE system_parameter SET value = $1 WHERE key = 'usage.ratio'", value)
            assert (await parameters.effective(client.application.runtime, "usage.ratio")).text == value
        # a change is not lost on its way either: it is told when it can be
        await kept.changed()
        await asyncio.to_thread(valkey.start)

        async def heard() -> bool:
            return kept.listening

        assert await within(10, heard)
        assert (await parameters.effective(client.application.runtime, "usage.ratio")).text == "3"


@pytest.mark.feature("S2-29")
async def test_where_the_product_is_presented_is_told_to_everybody_who_is_logged_in(world: World) -> None:
    await install(world)
    query = "{ viewer { productPresentationUrl } }"
    assert (await world.data("north", query))["viewer"] == {"productPresentationUrl": None}
    await world.sql("UPDATE system_parameter SET value = 'https://a.example/ppt' WHERE key = 'product.presentationUrl'")
    await world.client.application.runtime.kept.changed()
    for caller in ("north", "acme", "admin"):
        assert (await world.data(caller, query))["viewer"] == {"productPresentationUrl": "https://a.example/ppt"}
    override = """mutation { overrideParameter(input: {key: "product.presentationUrl", value: "https://n.example"}) {
        errors { code field } } }"""
    assert (await world.data("north", override))["overrideParameter"]["errors"] == []
    assert (await world.data("coast", query))["viewer"] == {"productPresentationUrl": "https://n.example"}
    assert (await world.data("south", query))["viewer"] == {"productPresentationUrl": "https://a.example/ppt"}
