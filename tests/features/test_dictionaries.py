"""Dictionaries: managed by the platform, read by everybody who is logged in, and the same in every process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from authz.principal import system
from planner.ids import decode_id, encode_id
from services import dictionaries
from tests.authz.test_access import another_process, valkey, within  # noqa: F401 - a fixture
from tests.conftest import Place
from tests.support.client import Client
from tests.support.world import World, sow

TYPE = "id key name status"
ITEM = "id value labelZhCn labelZhTw labelEn position cssClass listClass isDefault status"
CREATE_TYPE = f"""mutation($input: DictionaryTypeInput!) {{ createDictionaryType(input: $input) {{
    dictionaryType {{ {TYPE} }} errors {{ code field }} }} }}"""
UPDATE_TYPE = f"""mutation($input: UpdateDictionaryTypeInput!) {{ updateDictionaryType(input: $input) {{
    dictionaryType {{ {TYPE} }} errors {{ code field }} }} }}"""
DELETE_TYPE = "mutation($id: ID!) { deleteDictionaryType(id: $id) { done errors { code field } } }"
CREATE_ITEM = f"""mutation($input: DictionaryItemInput!) {{ createDictionaryItem(input: $input) {{
    dictionaryItem {{ {ITEM} }} errors {{ code field }} }} }}"""
UPDATE_ITEM = f"""mutation($input: UpdateDictionaryItemInput!) {{ updateDictionaryItem(input: $input) {{
    dictionaryItem {{ {ITEM} }} errors {{ code field }} }} }}"""
DELETE_ITEM = "mutation($id: ID!) { deleteDictionaryItem(id: $id) { done errors { code field } } }"
READ = """query($type: String!, $language: Language) { dictionary(type: $type, language: $language) {
    key name entries { value label position cssClass listClass isDefault } } }"""
VALUES = "query($type: String!) { dictionary(type: $type) { entries { value isDefault } } }"
MANAGED = f"query($key: String!) {{ dictionaryType(key: $key) {{ {TYPE} items(first: 50) {{ nodes {{ {ITEM} }} }} }} }}"


async def make_type(world: World, key: str = "card.usage", name: str = "Usage") -> str:
    payload = (await world.data("admin", CREATE_TYPE, {"input": {"key": key, "name": name}}))["createDictionaryType"]
    assert payload["errors"] == []
    id: str = payload["dictionaryType"]["id"]
    return id


async def make_item(world: World, type: str, value: str, **more: Any) -> str:
    input = {"type": type, "value": value, "labelZhCn": f"{value}的名称", **more}
    payload = (await world.data("admin", CREATE_ITEM, {"input": input}))["createDictionaryItem"]
    assert payload["errors"] == []
    id: str = payload["dictionaryItem"]["id"]
    return id


async def stored(world: World) -> list[Any]:
    return [await world.sql(f"SELECT * FROM {table} ORDER BY id") for table in ("dictionary_type", "dictionary_item")]


async def values(world: World, caller: str = "north", type: str = "card.usage") -> list[str] | None:
    found = (await world.data(caller, VALUES, {"type": type}))["dictionary"]
    return None if found is None else [entry["value"] for entry in found["entries"]]


# -- managing ------------------------------------------------------------------------------------------------------


@pytest.mark.feature("S1-24")
async def test_a_dictionary_is_made_changed_and_removed(world: World) -> None:
    id = await make_type(world)
    expected = {"id": id, "key": "card.usage", "name": "Usage", "status": "ACTIVE"}
    for change in ({"name": "Use of a card"}, {"status": "DISABLED"}, {"status": "ACTIVE"}):
        payload = await world.data("admin", UPDATE_TYPE, {"input": {"id": id, **change}})
        expected |= change
        assert payload["updateDictionaryType"] == {"dictionaryType": expected, "errors": []}
    query = f'{{ dictionaryTypes(first: 5, filter: {{key: {{eq: "card.usage"}}}}) {{ nodes {{ {TYPE} }} }} }}'
    for reader in ("operations", "finance", "sales"):
        assert (await world.data(reader, query))["dictionaryTypes"]["nodes"] == [expected]

    item = await make_item(world, id, "meter")
    refused = {"deleteDictionaryType": {"done": False, "errors": [{"code": "NOT_EMPTY", "field": "id"}]}}
    assert await world.data("admin", DELETE_TYPE, {"id": id}) == refused
    done = {"done": True, "errors": []}
    assert await world.data("admin", DELETE_ITEM, {"id": item}) == {"deleteDictionaryItem": done}
    assert await world.data("admin", DELETE_TYPE, {"id": id}) == {"deleteDictionaryType": done}
    assert await stored(world) == [[], []]


@pytest.mark.feature("S1-24", "S1-25")
async def test_refusals_change_nothing(world: World) -> None:
    type = await make_type(world)
    item = await make_item(world, type, "meter", isDefault=True)
    other = await make_item(world, type, "tracker")
    before = await stored(world)
    for input, code, field in (
        ({"key": "card.usage", "name": "Again"}, "TAKEN", "key"),
        ({"key": "two words", "name": "x"}, "INVALID", "key"),
        ({"key": "9lives", "name": "x"}, "INVALID", "key"),
        ({"key": "x" * 101, "name": "x"}, "INVALID", "key"),
        ({"key": " ", "name": "x"}, "REQUIRED", "key"),
        ({"key": "new", "name": " "}, "REQUIRED", "name"),
    ):
        payload = (await world.data("admin", CREATE_TYPE, {"input": input}))["createDictionaryType"]
        assert payload == {"dictionaryType": None, "errors": [{"code": code, "field": field}]}, input
    for change, code, field in (
        ({"value": "tracker"}, "TAKEN", "value"),
        ({"value": " "}, "REQUIRED", "value"),
        ({"labelZhCn": " "}, "REQUIRED", "labelZhCn"),
        ({"labelEn": "x" * 101}, "INVALID", "labelEn"),
        ({"position": -1}, "INVALID", "position"),
        ({"position": 32768}, "INVALID", "position"),
        ({"cssClass": 'red" onclick="x'}, "INVALID", "cssClass"),
        ({"listClass": "<b>"}, "INVALID", "listClass"),
    ):
        refused = {"dictionaryItem": None, "errors": [{"code": code, "field": field}]}
        input = {"type": type, "value": "new", "labelZhCn": "新", **change}
        assert (await world.data("admin", CREATE_ITEM, {"input": input}))["createDictionaryItem"] == refused, change
        update = {"input": {"id": item, **change}}
        assert (await world.data("admin", UPDATE_ITEM, update))["updateDictionaryItem"] == refused, change
    nowhere = {"type": encode_id("dct", 10**9), "value": "new", "labelZhCn": "新"}
    payload = (await world.data("admin", CREATE_ITEM, {"input": nowhere}))["createDictionaryItem"]
    assert payload["errors"] == [{"code": "NOT_FOUND", "field": "type"}]
    disabled = {"id": other, "status": "DISABLED", "isDefault": True}
    payload = (await world.data("admin", UPDATE_ITEM, {"input": disabled}))["updateDictionaryItem"]
    assert payload["errors"] == [{"code": "NOT_ACTIVE", "field": "isDefault"}]
    for mutation in (DELETE_ITEM, DELETE_TYPE):
        assert (await world.run("admin", mutation, {"id": encode_id("pkg", 1)}))["data"].popitem()[1]["errors"] == [
            {"code": "INVALID_ID", "field": "id"}
        ]
    for caller in ("operations", "finance", "sales", "north", "acme"):
        for mutation, variables in (
            (CREATE_TYPE, {"input": {"key": "mine", "name": "Mine"}}),
            (UPDATE_TYPE, {"input": {"id": type, "name": "Mine"}}),
            (DELETE_TYPE, {"id": type}),
            (CREATE_ITEM, {"input": {"type": type, "value": "mine", "labelZhCn": "我的"}}),
            (UPDATE_ITEM, {"input": {"id": item, "value": "mine"}}),
            (DELETE_ITEM, {"id": item}),
        ):
            assert await world.codes(caller, mutation, variables) == ["FORBIDDEN"], (caller, mutation)
    for caller in ("north", "acme"):
        assert await world.codes(caller, MANAGED, {"key": "card.usage"}) == ["FORBIDDEN"]
    assert await stored(world) == before


@pytest.mark.feature("S1-25")
async def test_items_with_order_labels_and_classes(world: World) -> None:
    type = await make_type(world)
    last = await make_item(world, type, "meter", position=2)
    first = await make_item(
        world, type, "tracker", labelZhTw="追蹤器", labelEn="Tracker", position=1, cssClass="tag blue", listClass="info"
    )
    third = await make_item(world, type, "camera", labelEn="Camera", position=2)
    entries = [
        {"value": "tracker", "position": 1, "cssClass": "tag blue", "listClass": "info", "isDefault": False},
        {"value": "meter", "position": 2, "cssClass": None, "listClass": None, "isDefault": False},
        {"value": "camera", "position": 2, "cssClass": None, "listClass": None, "isDefault": False},
    ]
    for language, labels in (
        ("ZH_CN", ["tracker的名称", "meter的名称", "camera的名称"]),
        ("ZH_TW", ["追蹤器", "meter的名称", "camera的名称"]),
        ("EN", ["Tracker", "meter的名称", "Camera"]),
    ):
        found = await world.data("coast", READ, {"type": "card.usage", "language": language})
        shown = [{**entry, "label": label} for entry, label in zip(entries, labels, strict=True)]
        assert found["dictionary"] == {"key": "card.usage", "name": "Usage", "entries": shown}
    # without a language it is the caller's own
    for accepted, label in (("en", "Tracker"), ("zh-CN", "tracker的名称")):
        answer = await world.run("north", READ, {"type": "card.usage"}, language=accepted)
        assert answer["data"]["dictionary"]["entries"][0]["label"] == label

    changed = {"id": last, "labelEn": "Meter", "position": 0, "cssClass": ""}
    payload = (await world.data("admin", UPDATE_ITEM, {"input": changed}))["updateDictionaryItem"]
    assert payload["dictionaryItem"] == {
        "id": last, "value": "meter", "labelZhCn": "meter的名称", "labelZhTw": None, "labelEn": "Meter", "position": 0,
        "cssClass": None, "listClass": None, "isDefault": False, "status": "ACTIVE",
    }  # fmt: skip
    assert await values(world) == ["meter", "tracker", "camera"]
    # what is disabled is not offered, but still there for those who manage it
    await world.data("admin", UPDATE_ITEM, {"input": {"id": first, "status": "DISABLED"}})
    assert await values(world) == ["meter", "camera"]
    managed = (await world.data("finance", MANAGED, {"key": "card.usage"}))["dictionaryType"]["items"]["nodes"]
    assert {node["value"]: node["status"] for node in managed} == {
        "meter": "ACTIVE", "tracker": "DISABLED", "camera": "ACTIVE",
    }  # fmt: skip
    await world.data("admin", DELETE_ITEM, {"id": third})
    assert await values(world) == ["meter"]
    await world.data("admin", UPDATE_TYPE, {"input": {"id": type, "status": "DISABLED"}})
    assert await values(world) is None
    assert await values(world, type="unknown") is None


@pytest.mark.feature("S1-25")
async def test_a_dictionary_has_one_default(world: World) -> None:
    type = await make_type(world)
    elsewhere = await make_type(world, "other")
    kept = await make_item(world, elsewhere, "x", isDefault=True)
    a = await make_item(world, type, "a", isDefault=True)
    b = await make_item(world, type, "b", isDefault=True)
    c = await make_item(world, type, "c")

    async def defaults() -> set[str]:
        rows = await world.sql("SELECT id FROM dictionary_item WHERE is_default")
        return {encode_id("dci", row["id"]) for row in rows}

    assert await defaults() == {kept, b}
    # many at once: one of them is it in the end, and none fails
    answers = await asyncio.gather(
        *(world.data("admin", UPDATE_ITEM, {"input": {"id": id, "isDefault": True}}) for id in (a, b, c) * 2)
    )
    assert [answer["updateDictionaryItem"]["errors"] for answer in answers] == [[]] * 6
    assert len(await defaults()) == 2
    await world.data("admin", UPDATE_ITEM, {"input": {"id": a, "isDefault": True}})
    assert await defaults() == {kept, a}
    disabled = await world.data("admin", UPDATE_ITEM, {"input": {"id": a, "status": "DISABLED"}})
    assert disabled["updateDictionaryItem"]["dictionaryItem"]["isDefault"] is False
    assert await defaults() == {kept}


@pytest.mark.feature("S1-25")
async def test_changes_of_different_fields_at_once_all_stay(world: World) -> None:
    id = await make_item(world, await make_type(world), "a")
    changes: list[dict[str, Any]] = [
        {"value": "b"}, {"labelZhCn": "乙"}, {"labelZhTw": "乙乙"}, {"labelEn": "B"}, {"position": 7},
        {"cssClass": "red"}, {"listClass": "warning"}, {"isDefault": True},
    ]  # fmt: skip
    await asyncio.gather(*(world.data("admin", UPDATE_ITEM, {"input": {"id": id, **change}}) for change in changes))
    managed = (await world.data("admin", MANAGED, {"key": "card.usage"}))["dictionaryType"]["items"]["nodes"]
    expected: dict[str, Any] = {"id": id, "status": "ACTIVE"}
    for change in changes:
        expected |= change
    assert managed == [expected]


# -- who reads -----------------------------------------------------------------------------------------------------


@pytest.mark.feature("S1-25", "S1-38")
async def test_everybody_who_is_logged_in_reads_the_platforms_dictionaries(world: World) -> None:
    await make_item(world, await make_type(world), "meter")
    for caller in ("admin", "operations", "finance", "sales", "acme", "north", "coast"):
        assert await values(world, caller) == ["meter"], caller
    refused = (await world.client.post("agent", VALUES, {"type": "card.usage"})).json()
    assert [error["extensions"]["code"] for error in refused["errors"]] == ["UNAUTHENTICATED"]
    # what anybody else may have stored under a key is nobody's dictionary
    north = world.tenants["north"]
    await world.sql(
        "INSERT INTO dictionary_type (tenant_id, tenant_path, key, name, status) "
        "VALUES ($1, $2, 'own', 'Own', 'ACTIVE')",
        north.id,
        north.path,
    )
    for caller in ("admin", "north", "coast"):
        assert await values(world, caller, "own") is None


@pytest.mark.feature("S1-38")
async def test_a_field_with_a_dictionary_takes_its_values_only(world: World) -> None:
    create = """mutation($input: OutletInput!) { createOutlet(input: $input) {
        outlet { id province } errors { code field message } } }"""
    update = """mutation($input: UpdateOutletInput!) { updateOutlet(input: $input) {
        outlet { province } errors { code field } } }"""
    outlet = {"name": "Lake Road", "province": "Atlantis", "outletType": "CMCC_OUTLET"}
    free = (await world.data("operations", create, {"input": outlet}))["createOutlet"]
    assert free["errors"] == []
    type = await make_type(world, "province", "Provinces")
    zhejiang = await make_item(world, type, "浙江")
    refused = (await world.data("operations", create, {"input": outlet}))["createOutlet"]
    message = "Atlantis is not one of the values of Provinces."
    assert refused == {
        "outlet": None,
        "errors": [{"code": "NOT_IN_DICTIONARY", "field": "province", "message": message}],
    }
    made = (await world.data("operations", create, {"input": {**outlet, "province": "浙江"}}))["createOutlet"]
    assert made["outlet"]["province"] == "浙江"
    input = {"id": made["outlet"]["id"], "province": "Atlantis"}
    assert (await world.data("operations", update, {"input": input}))["updateOutlet"] == {
        "outlet": None,
        "errors": [{"code": "NOT_IN_DICTIONARY", "field": "province"}],
    }
    # what was saved stays, and other changes need no value of the dictionary
    other = {"id": free["outlet"]["id"], "name": "Sea Road"}
    assert (await world.data("operations", update, {"input": other}))["updateOutlet"] == {
        "outlet": {"province": "Atlantis"},
        "errors": [],
    }
    await world.data("admin", UPDATE_ITEM, {"input": {"id": zhejiang, "status": "DISABLED"}})
    again = (await world.data("operations", create, {"input": {**outlet, "province": "浙江"}}))["createOutlet"]
    assert again["errors"][0]["code"] == "NOT_IN_DICTIONARY"


# -- in every process ----------------------------------------------------------------------------------------------


@pytest.fixture
async def elsewhere(world: World, place: Place) -> AsyncIterator[Client]:
    async with another_process(place.settings) as client:
        yield client


async def seen(client: Client, token: str) -> list[str] | None:
    answer = (await client.post("agent", VALUES, {"type": "card.usage"}, token=token)).json()
    found = answer["data"]["dictionary"]
    return None if found is None else [entry["value"] for entry in found["entries"]]


@pytest.mark.feature("S1-25", "S1-38")
async def test_a_change_acts_in_every_process_within_a_second(world: World, elsewhere: Client) -> None:
    token = await world.token("north")
    type = await make_type(world)
    item = await make_item(world, type, "meter")

    async def becomes(expected: list[str] | None) -> None:
        async def met() -> bool:
            return await seen(elsewhere, token) == expected

        assert await within(1, met), await seen(elsewhere, token)
        assert await seen(world.client, token) == expected

    await becomes(["meter"])
    # it is answered from memory: what is changed without a word is not seen
    await world.sql("UPDATE dictionary_item SET value = 'changed in silence'")
    assert await seen(elsewhere, token) == ["meter"]
    assert await seen(world.client, token) == ["meter"]
    await world.data("admin", UPDATE_ITEM, {"input": {"id": item, "value": "gauge"}})
    await becomes(["gauge"])
    await make_item(world, type, "tracker")
    await becomes(["gauge", "tracker"])
    await world.data("admin", DELETE_ITEM, {"id": item})
    await becomes(["tracker"])
    await world.data("admin", UPDATE_TYPE, {"input": {"id": type, "status": "DISABLED"}})
    await becomes(None)


async def test_while_changes_cannot_be_heard_the_database_is_asked(place: Place, valkey: Any) -> None:  # noqa: F811
    settings = place.settings.model_copy(update={"redis_url": valkey.url})
    async with another_process(settings) as client:
        world = await sow(client, place.superuser_url)
        token = await world.token("north")
        await make_item(world, await make_type(world), "a")
        assert await seen(client, token) == ["a"]
        await world.sql("UPDATE dictionary_item SET value = 'b'")
        assert await seen(client, token) == ["a"]
        await asyncio.to_thread(valkey.stop)

        async def silent() -> bool:
            return not client.application.runtime.kept.listening

        assert await within(5, silent)
        for value in ("c", "d"):
            await world.sql("UPDATE dictionary_item SET value = $1", value)
            assert await seen(client, token) == [value]
        await asyncio.to_thread(valkey.start)

        async def heard() -> bool:
            return client.application.runtime.kept.listening

        assert await within(10, heard)
        assert await seen(client, token) == ["d"]
        await world.sql("UPDATE dictionary_item SET value = 'e'")
        assert await seen(client, token) == ["d"]


async def test_nothing_is_missed_when_the_server_comes_back_at_once(place: Place, valkey: Any) -> None:  # noqa: F811
    """The client reconnects by itself; what was changed in between was announced to nobody."""
    settings = place.settings.model_copy(update={"redis_url": valkey.url})
    async with another_process(settings) as client:
        world = await sow(client, place.superuser_url)
        token = await world.token("north")
        await make_item(world, await make_type(world), "a")
        assert await seen(client, token) == ["a"]
        await world.sql("UPDATE dictionary_item SET value = 'b'")
        assert await seen(client, token) == ["a"]
        await client.application.redis.client_kill_filter(_type="pubsub")

        async def met() -> bool:
            return await seen(client, token) == ["b"]

        assert await within(1, met)


async def test_what_was_read_before_a_change_is_not_kept(world: World) -> None:
    """A reader that began before a change and ends after it must not bring the old value back."""
    runtime = world.client.application.runtime
    key = (decode_id(await make_item(world, await make_type(world), "old")) or ("", 0))[1]
    slow, go = asyncio.Event(), asyncio.Event()

    async def read() -> str:
        async with runtime.database.transaction(system("test")) as session:
            found = await dictionaries._read(session, "card.usage")
        slow.set()
        await go.wait()
        assert found is not None
        return found.entries[0].value

    reading = asyncio.create_task(runtime.kept.get("test", read))
    await slow.wait()
    await world.data("admin", UPDATE_ITEM, {"input": {"id": encode_id("dci", key), "value": "new"}})
    go.set()
    assert await reading == "old"
    assert await runtime.kept.get("test", read) == "new"
