"""Long tasks, whatever they do: called off, limited, taken up again, and seen by whom they concern."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from planner.ids import encode_id
from services.sim.entering import enter
from services.tasks.opening import OPEN_TASKS
from services.webhook.events import TASK_FINISHED
from tests.features.test_bad_spreadsheets import (
    STAGED,
    assert_nothing_left,
    csv_of,
    entered,
    good_rows,
    held_up,
    upload,
)
from tests.support.partner import signed
from tests.support.workers import key_of, until
from tests.support.world import World

CANCEL = """mutation($id: ID!) { cancelTask(id: $id) {
    task { id status done failed cancelRequestedAt finishedAt } errors { code field } } }"""
TASK = """query($id: ID!) { task(id: $id) {
    kind name status total done failed cancelRequestedAt finishedAt errorCode refusedFileUrl
    account { login } refusals(first: 1) { totalCount } } }"""
EXPORT = """mutation($name: String!) { startExport(input: {
    operation: "{ simCards { nodes { displayIccid } } }", format: CSV, name: $name}) {
    task { id status } errors { code field } } }"""


async def called_off(world: World, caller: str, id: str) -> dict[str, Any]:
    found: dict[str, Any] = (await world.data(caller, CANCEL, {"id": id}))["cancelTask"]
    return found


async def refused(world: World, caller: str, id: str) -> list[tuple[str, str]]:
    payload = await called_off(world, caller, id)
    assert payload["task"] is None
    return [(error["code"], error["field"]) for error in payload["errors"]]


async def task_of(world: World, caller: str, id: str) -> dict[str, Any]:
    found: dict[str, Any] = (await world.data(caller, TASK, {"id": id}))["task"]
    return found


async def export(world: World, caller: str, name: str = "Cards") -> str:
    payload = (await world.data(caller, EXPORT, {"name": name}))["startExport"]
    assert payload["errors"] == []
    id: str = payload["task"]["id"]
    return id


async def ended(world: World) -> list[str]:
    """The ends that webhooks are told of."""
    rows = await world.sql(
        "SELECT payload->>'status' AS s FROM outbox_event WHERE topic = $1 ORDER BY id", TASK_FINISHED
    )
    return [row["s"] for row in rows]


@pytest.mark.feature("S0-05")
async def test_an_import_that_waits_is_called_off_at_once(world: World) -> None:
    id = await upload(world, "cards.csv", csv_of(good_rows(3)))
    payload = await called_off(world, "operations", id)
    assert payload["errors"] == []
    assert payload["task"]["status"] == "CANCELLED"
    assert payload["task"]["finishedAt"] == payload["task"]["cancelRequestedAt"]
    assert await ended(world) == ["CANCELLED"]
    # what the broker was told before finds nothing to do
    await world.client.work_off()
    task = await task_of(world, "operations", id)
    assert (task["kind"], task["name"], task["status"], task["done"]) == ("SIM_IMPORT", "cards.csv", "CANCELLED", 0)
    assert task["account"] == {"login": "operations"}
    await assert_nothing_left(world)
    # a repeat changes nothing, and nobody is told twice
    assert await called_off(world, "operations", id) == payload
    assert await ended(world) == ["CANCELLED"]
    assert await world.sql("SELECT 1 FROM notification WHERE kind LIKE 'import.%'") == []


@pytest.mark.feature("S0-05")
async def test_an_import_that_runs_is_called_off_and_enters_nothing(world: World) -> None:
    id = await upload(world, "cards.csv", csv_of([*good_rows(4_000), ["1", "CMCC", "移动OneLink", "机械卡"]]))
    runtime = world.client.application.runtime
    async with held_up(world):
        worker = asyncio.create_task(enter(runtime.database, runtime.files, key_of(id)))
        await until(world, STAGED)
        payload = await called_off(world, "operations", id)
        assert payload["errors"] == []
        assert payload["task"]["status"] == "RUNNING"
        assert payload["task"]["cancelRequestedAt"] is not None
    await worker
    task = await task_of(world, "operations", id)
    assert (task["status"], task["done"], task["failed"], task["refusedFileUrl"]) == ("CANCELLED", 0, 0, None)
    assert task["finishedAt"] is not None
    assert task["refusals"]["totalCount"] == 0
    assert await ended(world) == ["CANCELLED"]
    await assert_nothing_left(world)

    # the same file can be imported afterwards
    await world.sql("UPDATE outbox_event SET sent_at = now()")
    id = await upload(world, "cards.csv", csv_of(good_rows(3)))
    await world.client.work_off()
    assert (await task_of(world, "operations", id))["status"] == "SUCCEEDED"
    assert await refused(world, "operations", id) == [("TASK_ENDED", "id")]
    assert len(await entered(world)) == 3


async def test_a_task_that_was_called_off_as_its_worker_died_ends_when_it_is_taken_up(world: World) -> None:
    id = await upload(world, "cards.csv", csv_of(good_rows(3)))
    await world.sql("UPDATE task SET status = 'RUNNING' WHERE id = $1", key_of(id))
    assert (await called_off(world, "operations", id))["task"]["status"] == "RUNNING"
    await world.client.work_off()
    assert (await task_of(world, "operations", id))["status"] == "CANCELLED"
    await assert_nothing_left(world)


async def test_who_may_call_a_task_off(world: World) -> None:
    """Who started it, and who manages the tasks of its tenant; for all others it does not exist."""
    imported = await upload(world, "cards.csv", csv_of(good_rows(1)))
    exported, below = await export(world, "finance"), await export(world, "north-east")
    nothing = [("NOT_FOUND", "id")]
    for caller, id in (
        ("finance", imported),
        ("sales", exported),
        ("north", imported),
        ("north", below),
        ("south", below),
        ("coast", below),
        ("north", encode_id("tsk", 999_999)),
    ):
        assert await refused(world, caller, id) == nothing, (caller, id)
    assert await refused(world, "north", world.card_ids("north")[0]) == [("INVALID_ID", "id")]
    assert {(await task_of(world, "admin", id))["status"] for id in (imported, exported, below)} == {"QUEUED"}
    for caller, id in (("finance", exported), ("north-east", below), ("admin", imported)):
        assert (await called_off(world, caller, id))["task"]["status"] == "CANCELLED"
    # operations manage the tasks of all
    other = await export(world, "south")
    assert (await called_off(world, "operations", other))["task"]["status"] == "CANCELLED"


async def test_whose_tasks_somebody_sees(world: World) -> None:
    await world.sql("DELETE FROM task_refusal")
    await world.sql("DELETE FROM task")
    mine = {caller: await export(world, caller) for caller in ("finance", "operations", "north", "north-east", "acme")}
    answer = await signed(world, EXPORT.replace("($name: String!)", "").replace("$name", '"By key"'), key="tk_north")
    by_key = answer.json()["data"]["startExport"]["task"]["id"]
    listed = "{ tasks(first: 20) { totalCount nodes { id } } }"
    expected = {
        "finance": {mine["finance"]},
        "sales": set(),
        "operations": {*mine.values(), by_key},
        "admin": {*mine.values(), by_key},
        "north": {mine["north"], by_key},
        "north-east": {mine["north-east"]},
        "acme": {mine["acme"]},
        "south": set(),
    }
    for caller, ids in expected.items():
        found = (await world.data(caller, listed))["tasks"]
        assert ({node["id"] for node in found["nodes"]}, found["totalCount"]) == (ids, len(ids)), caller
    assert (await signed(world, listed, key="tk_north")).json()["data"]["tasks"]["nodes"] == [{"id": by_key}]
    started = "query($id: ID!) { task(id: $id) { account { login } apiKey { key } } }"
    assert (await world.data("north", started, {"id": by_key}))["task"] == {
        "account": None,
        "apiKey": {"key": "tk_north"},
    }


async def test_tasks_are_found_by_kind_state_name_and_starter(world: World) -> None:
    waiting, gone = await export(world, "operations", "Cards of May"), await export(world, "operations", "Other")
    await called_off(world, "operations", gone)
    await export(world, "finance", "Cards of May")
    [account] = await world.sql("SELECT id FROM staff_account WHERE login = 'operations'")
    query = """query($filter: TaskFilter, $by: TaskOrderField!) {
        tasks(first: 20, filter: $filter, orderBy: [{field: $by, direction: DESC}]) { nodes { id } } }"""
    mine = {"account": {"eq": encode_id("acc", account["id"])}}
    for filter, by, expected in (
        (mine, "CREATED_AT", [gone, waiting]),
        ({**mine, "status": {"eq": "CANCELLED"}}, "FINISHED_AT", [gone]),
        ({**mine, "kind": {"eq": "EXPORT"}, "name": {"startsWith": "Cards"}}, "CREATED_AT", [waiting]),
    ):
        found = (await world.data("operations", query, {"filter": filter, "by": by}))["tasks"]["nodes"]
        assert [node["id"] for node in found] == expected, filter


async def test_a_tenant_has_five_open_tasks_of_any_kind(world: World) -> None:
    assert OPEN_TASKS == 5
    ids = [await upload(world, "cards.csv", csv_of(good_rows(1)))]
    started = await asyncio.gather(*(world.data("finance", EXPORT, {"name": f"{n}"}) for n in range(6)))
    payloads = [answer["startExport"] for answer in started]
    ids += [payload["task"]["id"] for payload in payloads if payload["task"]]
    assert len(ids) == 5
    assert [p["errors"] for p in payloads if p["errors"]] == [[{"code": "TOO_MANY_OPEN_TASKS", "field": None}]] * 2
    await export(world, "north")
    # one that is called off makes room
    await called_off(world, "operations", ids[0])
    await export(world, "finance")
