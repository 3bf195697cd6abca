"""GraphQL over HTTP as its specification has it, and what stands beside the graph: files, health, metrics."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import time
import tracemalloc
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import httpx
import pytest

from planner.ids import encode_id
from server.app import Application, build
from server.http import RateLimit
from tests.conftest import Place
from tests.support.client import Client
from tests.support.world import CARDS_PER_TENANT, World

GRAPHQL = "application/graphql-response+json"
JSON = "application/json"
COUNT = "query Count($first: Int!) { simCards(first: $first) { totalCount } }"
SEEN_BY_SOUTH = {"data": {"simCards": {"totalCount": 2 * CARDS_PER_TENANT}}}
IMPORT = "mutation($file: Upload!) { importSimCards(file: $file) { task { id } errors { code } } }"
CREATE = 'mutation { createDepartment(input: {name: "Made"}) { department { id } errors { code } } }'
MEGABYTE = 1 << 20


async def send(
    world: World,
    payload: object = None,
    *,
    account: str | None = "south",
    door: str = "agent",
    method: str = "POST",
    accept: str | None = GRAPHQL,
    content_type: str | None = JSON,
    headers: dict[str, str] | None = None,
    **more: Any,
) -> httpx.Response:
    """One request with full control over its headers; ``payload`` is bytes, or is sent as JSON."""
    given = {**(headers or {})}
    if account is not None:
        given["authorization"] = f"Bearer {await world.token(account)}"
    if payload is not None:
        more["content"] = payload if isinstance(payload, bytes) else json.dumps(payload)
        if content_type is not None:
            given["content-type"] = content_type
    request = world.client.http.build_request(method, f"/{door}/graphql", headers=given, **more)
    del request.headers["accept"]
    if accept is not None:
        request.headers["accept"] = accept
    return await world.client.http.send(request)


def code(answer: httpx.Response) -> str:
    """The one code that a refusal of a whole operation carries; it has no data at all."""
    body = answer.json()
    assert set(body) == {"errors"}, body
    codes = {error["extensions"]["code"] for error in body["errors"]}
    assert len(codes) == 1
    return str(codes.pop())


def limit(monkeypatch: pytest.MonkeyPatch, client: Client, door: str, **limits: Any) -> None:
    """Another configuration of a door for the length of a test."""
    doors: Any = client.application.doors
    changed = dataclasses.replace(doors[door], limits=dataclasses.replace(doors[door].limits, **limits))
    monkeypatch.setitem(doors, door, changed)


def ship(monkeypatch: pytest.MonkeyPatch, client: Client, door: str, text: str) -> str:
    """Ships a document with a door; gives its sha256."""
    doors: Any = client.application.doors
    digest = hashlib.sha256(text.encode()).hexdigest()
    monkeypatch.setitem(doors, door, dataclasses.replace(doors[door], operations={digest: text}))
    return digest


# -- media types and statuses -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accept", "media"),
    [
        (None, GRAPHQL),
        ("*/*", GRAPHQL),
        ("application/*", GRAPHQL),
        (GRAPHQL, GRAPHQL),
        (f"{GRAPHQL}; charset=utf-8, {JSON}; charset=utf-8", GRAPHQL),
        (f"{GRAPHQL}, {JSON};q=0.9", GRAPHQL),
        (f"{JSON}, {GRAPHQL}", GRAPHQL),
        (f"{JSON}, {GRAPHQL};q=0.5", JSON),
        (f"{GRAPHQL};q=0, */*", JSON),
        (JSON, JSON),
        ("Application/JSON", JSON),
        (f"{JSON}, text/plain, */*", JSON),
        (f"{JSON}, multipart/mixed", JSON),
    ],
)
async def test_the_answer_comes_in_the_media_type_that_the_client_prefers(
    shared_world: World, accept: str | None, media: str
) -> None:
    answer = await send(shared_world, {"query": COUNT, "variables": {"first": 1}}, accept=accept)
    assert (answer.status_code, answer.headers["content-type"]) == (200, f"{media}; charset=utf-8")
    assert answer.json() == SEEN_BY_SOUTH


@pytest.mark.parametrize("accept", ["text/html", "application/xml", f"{JSON};q=0", "*/*;q=0", "application/jsonp"])
async def test_a_client_that_takes_neither_media_type_is_refused(shared_world: World, accept: str) -> None:
    answer = await send(shared_world, {"query": COUNT, "variables": {"first": 1}}, accept=accept)
    assert (answer.status_code, code(answer)) == (406, "NOT_ACCEPTABLE")


REFUSED: dict[str, tuple[object, int, str]] = {
    "no JSON": (b'{"query":', 400, "BAD_REQUEST"),
    "not UTF-8": ('{"query": "{ viewer { door } }"}'.encode("utf-16"), 400, "BAD_REQUEST"),
    "an empty body": (b"", 400, "BAD_REQUEST"),
    "a string": (b'"{ viewer { door } }"', 422, "BAD_USER_INPUT"),
    "null": (b"null", 422, "BAD_USER_INPUT"),
    "a batch": ([{"query": "{ viewer { door } }"}], 422, "BAD_USER_INPUT"),
    "no query": ({"qeury": "{ viewer { door } }"}, 422, "BAD_USER_INPUT"),
    "an empty query": ({"query": ""}, 422, "BAD_USER_INPUT"),
    "a query that is a number": ({"query": 1}, 422, "BAD_USER_INPUT"),
    "a query that is an object": ({"query": {"a": 1}}, 422, "BAD_USER_INPUT"),
    "variables in a list": ({"query": COUNT, "variables": [7]}, 422, "BAD_USER_INPUT"),
    "variables in a string": ({"query": COUNT, "variables": '{"first": 1}'}, 422, "BAD_USER_INPUT"),
    "an operation name that is a number": ({"query": "{ viewer { door } }", "operationName": 1}, 422, "BAD_USER_INPUT"),
    "extensions in a list": ({"query": "{ viewer { door } }", "extensions": []}, 422, "BAD_USER_INPUT"),
    "extensions in a string": ({"query": "{ viewer { door } }", "extensions": "{}"}, 422, "BAD_USER_INPUT"),
    "an id that is a number": ({"id": 7}, 422, "BAD_USER_INPUT"),
    "an id that is no sha256": ({"id": "7"}, 422, "BAD_USER_INPUT"),
    "a document that does not parse": ({"query": "{"}, 400, "GRAPHQL_PARSE_FAILED"),
    "an unknown field": ({"query": "{ viewer { colour } }"}, 422, "GRAPHQL_VALIDATION_FAILED"),
    "an unknown operation": (
        {"query": "query A { viewer { door } }", "operationName": "B"},
        422,
        "OPERATION_RESOLUTION_FAILURE",
    ),
    "one of two operations": (
        {"query": "query A { viewer { door } } query B { viewer { door } }"},
        422,
        "OPERATION_RESOLUTION_FAILURE",
    ),
    "a missing variable": ({"query": COUNT}, 422, "BAD_USER_INPUT"),
    "a variable of another type": ({"query": COUNT, "variables": {"first": "x"}}, 422, "BAD_USER_INPUT"),
    "a subscription": (
        {"query": 'subscription { taskProgress(task: "tsk_1") { id } }'},
        422,
        "BAD_USER_INPUT",
    ),
    "a field that is not granted": ({"query": "{ simCards(first: 1) { nodes { remark } } }"}, 403, "FORBIDDEN"),
}


@pytest.mark.parametrize("what", REFUSED)
@pytest.mark.parametrize("accept", [GRAPHQL, JSON])
async def test_every_refusal_has_its_status_and_says_that_it_is_the_graphs(
    shared_world: World, what: str, accept: str
) -> None:
    payload, status, expected = REFUSED[what]
    answer = await send(shared_world, payload, accept=accept)
    assert (answer.status_code, code(answer)) == (status, expected)
    # an error in plain JSON might be a proxy's; older clients can read this one too
    assert answer.headers["content-type"] == f"{GRAPHQL}; charset=utf-8"


@pytest.mark.parametrize(
    "payload",
    [
        {"query": "{ viewer { door } }", "variables": None, "operationName": None, "extensions": None},
        {"query": "{ viewer { door } }", "operationName": ""},
        {"query": "query A { viewer { door } } query B { viewer { roles } }", "operationName": "A"},
        {"query": "{ viewer { door } }", "more": "of anything"},
        {"query": "# 注释\n{ viewer { door } }", "variables": {"unused": 1}},
    ],
)
async def test_what_is_optional_may_be_null_empty_or_missing(shared_world: World, payload: dict[str, Any]) -> None:
    answer = await send(shared_world, payload)
    assert (answer.status_code, answer.json()) == (200, {"data": {"viewer": {"door": "agent"}}})


async def test_a_wrong_variable_is_named(shared_world: World) -> None:
    answer = await send(
        shared_world,
        {
            "query": "query($first: Int!, $id: ID!) { simCards(first: $first) { totalCount } simCard(id: $id) { id } }",
            "variables": {"first": "three"},
        },
    )
    messages = sorted(error["message"] for error in answer.json()["errors"])
    assert (answer.status_code, len(messages)) == (422, 2)
    assert "$first" in messages[0] + messages[1]
    assert "$id" in messages[0] + messages[1]


async def test_an_error_says_where_in_the_document_and_where_in_the_answer(shared_world: World) -> None:
    answer = await send(shared_world, {"query": "{\n  viewer {\n    colour\n  }\n}"})
    assert [error["locations"] for error in answer.json()["errors"]] == [[{"line": 3, "column": 5}]]
    answer = await send(shared_world, {"query": "{ cards: simCards(first: 1) { nodes { remark } } }"})
    (error,) = answer.json()["errors"]
    assert (error["path"], error["extensions"]["code"]) == (["cards", "nodes", "remark"], "FORBIDDEN")


@pytest.mark.parametrize(("accept", "status"), [(GRAPHQL, 294), (JSON, 200)])
async def test_an_answer_with_holes_is_a_partial_success(shared_world: World, accept: str, status: int) -> None:
    answer = await send(
        shared_world,
        {
            "query": "query($id: ID!) { simCard(id: $id) { status carrierState { status } } }",
            "variables": {"id": shared_world.card_ids("south")[1]},
        },
        accept=accept,
    )
    body = answer.json()
    assert answer.headers["content-type"] == f"{accept}; charset=utf-8"
    assert body["data"] == {"simCard": {"status": "ACTIVE", "carrierState": None}}
    assert [error["path"] for error in body["errors"]] == [["simCard", "carrierState"]]
    assert answer.status_code == status


@pytest.mark.parametrize(
    "content_type", [None, "text/plain", "application/graphql", "application/x-www-form-urlencoded", "application/xml"]
)
async def test_a_body_in_another_media_type_is_refused(shared_world: World, content_type: str | None) -> None:
    answer = await send(
        shared_world, json.dumps({"query": COUNT, "variables": {"first": 1}}).encode(), content_type=content_type
    )
    assert (answer.status_code, code(answer)) == (415, "UNSUPPORTED_MEDIA_TYPE")


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "Application/JSON;charset=UTF-8"])
async def test_json_may_name_its_encoding(shared_world: World, content_type: str) -> None:
    answer = await send(shared_world, {"query": COUNT, "variables": {"first": 1}}, content_type=content_type)
    assert (answer.status_code, answer.json()) == (200, SEEN_BY_SOUTH)


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"])
async def test_other_methods_are_refused_and_told_which_are_not(shared_world: World, method: str) -> None:
    answer = await send(shared_world, {"query": COUNT, "variables": {"first": 1}}, method=method)
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, POST")


# -- GET ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "params",
    [
        {"query": COUNT, "variables": '{"first": 1}'},
        {"query": COUNT, "variables": '{"first": 1}', "operationName": "Count"},
        {"query": COUNT, "variables": '{"first": 1}', "operationName": "", "extensions": "{}"},
        {"query": "{ simCards(first: 1) { totalCount } }", "variables": "null", "extensions": "null"},
    ],
)
async def test_a_query_may_come_by_get(shared_world: World, params: dict[str, str]) -> None:
    answer = await send(shared_world, method="GET", params=params)
    assert (answer.status_code, answer.json()) == (200, SEEN_BY_SOUTH)


@pytest.mark.parametrize(
    ("params", "status", "expected"),
    [
        ({}, 422, "BAD_USER_INPUT"),
        ({"query": COUNT, "variables": "{"}, 400, "BAD_REQUEST"),
        ({"query": COUNT, "variables": "[1]"}, 422, "BAD_USER_INPUT"),
        ({"query": COUNT, "variables": '{"first": 1}', "extensions": "7"}, 422, "BAD_USER_INPUT"),
        ({"query": COUNT, "variables": '{"first": 1}', "operationName": "null"}, 422, "OPERATION_RESOLUTION_FAILURE"),
        ({str(n): "x" for n in range(30)}, 400, "BAD_REQUEST"),
    ],
)
async def test_a_get_that_is_wrong_is_refused(
    shared_world: World, params: dict[str, str], status: int, expected: str
) -> None:
    answer = await send(shared_world, method="GET", params=params)
    assert (answer.status_code, code(answer)) == (status, expected)


async def test_a_mutation_by_get_changes_nothing(world: World) -> None:
    digest = hashlib.sha256(CREATE.encode()).hexdigest()
    extensions = {"persistedQuery": {"version": 1, "sha256Hash": digest}}
    for params in ({"query": CREATE}, {"query": CREATE, "extensions": json.dumps(extensions)}, {"id": digest}):
        answer = await send(world, method="GET", params=params)
        assert (answer.status_code, code(answer)) == (405, "METHOD_NOT_ALLOWED")
        assert answer.headers["allow"] == "GET, POST"
    assert await world.sql("SELECT id FROM department WHERE name = 'Made'") == []
    assert (await send(world, {"query": CREATE})).json()["data"]["createDepartment"]["errors"] == []


async def test_nothing_of_a_batch_is_run(world: World) -> None:
    answer = await send(world, [{"query": CREATE}, {"query": CREATE}])
    assert (answer.status_code, code(answer)) == (422, "BAD_USER_INPUT")
    assert await world.sql("SELECT id FROM department WHERE name = 'Made'") == []


# -- documents by their sha256 ------------------------------------------------------------------------------------


async def test_a_shipped_document_is_run_by_its_sha256(shared_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = ship(monkeypatch, shared_world.client, "agent", COUNT)
    variables = {"first": 1}
    for payload in (
        {"id": digest, "variables": variables},
        {"id": digest.upper(), "variables": variables},
        {"documentId": f"sha256:{digest}", "variables": variables, "operationName": "Count"},
        {"extensions": {"persistedQuery": {"version": 1, "sha256Hash": digest}}, "variables": variables},
    ):
        answer = await send(shared_world, payload)
        assert (answer.status_code, answer.json()) == (200, SEEN_BY_SOUTH)
    params = {"documentId": f"sha256:{digest}", "variables": json.dumps(variables)}
    assert (await send(shared_world, method="GET", params=params)).json() == SEEN_BY_SOUTH
    answer = await send(shared_world, {"id": digest, "variables": variables}, door="admin", account="operations")
    assert (answer.status_code, code(answer)) == (422, "PERSISTED_QUERY_NOT_FOUND")


async def test_a_document_is_remembered_at_the_door_where_it_was_said(world: World) -> None:
    digest = hashlib.sha256(COUNT.encode()).hexdigest()
    only_hash = {"extensions": {"persistedQuery": {"version": 1, "sha256Hash": digest}}, "variables": {"first": 1}}

    missed = await send(world, only_hash)
    assert (missed.status_code, code(missed)) == (422, "PERSISTED_QUERY_NOT_FOUND")
    assert missed.json()["errors"][0]["message"] == "PersistedQueryNotFound"
    for _ in range(2):
        assert (await send(world, {**only_hash, "query": COUNT})).json() == SEEN_BY_SOUTH
        assert (await send(world, only_hash)).json() == SEEN_BY_SOUTH
        assert (await send(world, {"id": digest, "variables": {"first": 1}})).json() == SEEN_BY_SOUTH
    params = {"extensions": json.dumps(only_hash["extensions"]), "variables": '{"first": 1}'}
    assert (await send(world, method="GET", params=params)).json() == SEEN_BY_SOUTH
    elsewhere = await send(world, only_hash, door="admin", account="operations")
    assert code(elsewhere) == "PERSISTED_QUERY_NOT_FOUND"


async def test_a_document_is_not_remembered_under_anothers_sha256_nor_for_a_visitor(world: World) -> None:
    wrong = {"extensions": {"persistedQuery": {"version": 1, "sha256Hash": "0" * 64}}}
    answer = await send(world, {**wrong, "query": COUNT, "variables": {"first": 1}})
    assert (answer.status_code, code(answer)) == (422, "BAD_USER_INPUT")
    assert code(await send(world, wrong)) == "PERSISTED_QUERY_NOT_FOUND"

    broken = "{"
    digest = hashlib.sha256(broken.encode()).hexdigest()
    extensions = {"persistedQuery": {"version": 1, "sha256Hash": digest}}
    assert code(await send(world, {"query": broken, "extensions": extensions})) == "GRAPHQL_PARSE_FAILED"
    assert code(await send(world, {"extensions": extensions})) == "PERSISTED_QUERY_NOT_FOUND"

    hello = "{ viewer { door } }"
    extensions["persistedQuery"]["sha256Hash"] = hashlib.sha256(hello.encode()).hexdigest()
    answer = await send(world, {"query": hello, "extensions": extensions}, account=None)
    assert answer.json() == {"data": {"viewer": {"door": "agent"}}}
    assert code(await send(world, {"extensions": extensions}, account=None)) == "PERSISTED_QUERY_NOT_FOUND"
    assert await world.client.application.redis.keys("trellis:document:*") == []


async def test_a_door_without_text_runs_what_was_shipped_with_it_and_nothing_else(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped, other = "query Hello { viewer { door } }", "{ viewer { door roles } }"
    digest = ship(monkeypatch, world.client, "dealer", shipped)
    hello = {"data": {"viewer": {"door": "dealer"}}}
    assert (await send(world, {"id": digest}, door="dealer", account=None)).json() == hello
    assert (await send(world, {"query": shipped}, door="dealer", account=None)).json() == hello

    answer = await send(world, {"query": other}, door="dealer", account=None)
    assert (answer.status_code, code(answer)) == (403, "FORBIDDEN")
    extensions = {"persistedQuery": {"version": 1, "sha256Hash": hashlib.sha256(other.encode()).hexdigest()}}
    answer = await send(world, {"query": other, "extensions": extensions}, door="dealer", account=None)
    assert (answer.status_code, code(answer)) == (403, "FORBIDDEN")
    answer = await send(world, {"extensions": extensions}, door="dealer", account=None)
    assert (answer.status_code, code(answer)) == (422, "PERSISTED_QUERY_NOT_FOUND")


async def test_there_is_nothing_behind_an_unknown_door(shared_world: World) -> None:
    for method in ("POST", "GET"):
        answer = await send(shared_world, {"query": "{ viewer { door } }"}, door="cellar", account=None, method=method)
        assert (answer.status_code, code(answer)) == (404, "NOT_FOUND")


# -- sizes --------------------------------------------------------------------------------------------------------


class Flood:
    """A body of a hundred megabytes, made as it is read; ``taken`` says how much the server has asked for."""

    def __init__(self, head: bytes = b"") -> None:
        self.taken = 0
        self.head = head

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self.head
        for _ in range(1600):
            self.taken += 65_536
            yield b" " * 65_536


@pytest.mark.parametrize("declared", [True, False], ids=["content-length", "chunked"])
async def test_a_hundred_megabytes_are_refused_without_being_taken_in(shared_world: World, declared: bool) -> None:
    flood = Flood()
    headers = {"content-type": JSON}
    if declared:
        headers["content-length"] = str(1600 * 65_536)
    tracemalloc.start()
    try:
        started = time.monotonic()
        answer = await shared_world.client.http.post("/agent/graphql", content=flood, headers=headers)
        seconds = time.monotonic() - started
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (answer.status_code, code(answer)) == (413, "PAYLOAD_TOO_LARGE")
    assert answer.json()["errors"][0]["extensions"]["limit"] == MEGABYTE
    assert flood.taken <= (0 if declared else MEGABYTE + 65_536)
    assert peak < 4 * MEGABYTE
    assert seconds < 5


@pytest.mark.parametrize("declared", [True, False], ids=["content-length", "chunked"])
async def test_an_upload_beyond_the_doors_limit_is_refused(
    shared_world: World, monkeypatch: pytest.MonkeyPatch, declared: bool
) -> None:
    limit(monkeypatch, shared_world.client, "admin", upload_bytes=MEGABYTE)
    flood = Flood(b'--x\r\nContent-Disposition: form-data; name="0"; filename="a.csv"\r\n\r\n')
    headers = {
        "content-type": "multipart/form-data; boundary=x",
        "authorization": f"Bearer {await shared_world.token('operations')}",
    }
    if declared:
        headers["content-length"] = str(1600 * 65_536)
    answer = await shared_world.client.http.post("/admin/graphql", content=flood, headers=headers)
    assert (answer.status_code, code(answer)) == (413, "PAYLOAD_TOO_LARGE")
    assert flood.taken <= (0 if declared else MEGABYTE + 65_536)


async def test_of_a_visitors_upload_not_a_byte_is_read(shared_world: World) -> None:
    flood = Flood(b"--x\r\n")
    answer = await shared_world.client.http.post(
        "/admin/graphql", content=flood, headers={"content-type": "multipart/form-data; boundary=x"}
    )
    assert (answer.status_code, code(answer), flood.taken) == (401, "UNAUTHENTICATED", 0)


# -- uploads ------------------------------------------------------------------------------------------------------


async def upload(world: World, parts: dict[str, str], files: dict[str, bytes]) -> httpx.Response:
    return await world.client.http.post(
        "/admin/graphql",
        data=parts,
        files=[(name, (f"{name}.csv", content, "text/csv")) for name, content in files.items()],
        headers={"authorization": f"Bearer {await world.token('operations')}", "accept": GRAPHQL},
    )


NO_FILE = json.dumps({"query": IMPORT, "variables": {"file": None}})


@pytest.mark.parametrize(
    ("parts", "status", "expected"),
    [
        ({"operations": NO_FILE}, 422, "BAD_USER_INPUT"),
        ({"map": '{"0": ["variables.file"]}'}, 422, "BAD_USER_INPUT"),
        ({"operations": "{", "map": "{}"}, 400, "BAD_REQUEST"),
        ({"operations": NO_FILE, "map": "{"}, 400, "BAD_REQUEST"),
        ({"operations": NO_FILE, "map": "[]"}, 422, "BAD_USER_INPUT"),
        ({"operations": f"[{NO_FILE}]", "map": '{"0": ["0.variables.file"]}'}, 422, "BAD_USER_INPUT"),
        ({"operations": NO_FILE, "map": '{"0": "variables.file"}'}, 422, "BAD_USER_INPUT"),
        ({"operations": NO_FILE, "map": '{"0": ["variables.other"]}'}, 422, "BAD_USER_INPUT"),
        ({"operations": NO_FILE, "map": '{"0": ["variables.file.deeper"]}'}, 422, "BAD_USER_INPUT"),
        ({"operations": NO_FILE, "map": '{"0": ["query"]}'}, 422, "BAD_USER_INPUT"),
        ({"operations": NO_FILE, "map": '{"0": [""]}'}, 422, "BAD_USER_INPUT"),
        ({"operations": NO_FILE, "map": '{"7": ["variables.file"]}'}, 422, "BAD_USER_INPUT"),
        ({"operations": NO_FILE, "map": '{"0": ["variables.file", "variables.file"]}'}, 422, "BAD_USER_INPUT"),
        ({"operations": NO_FILE, "map": "{}"}, 422, "BAD_USER_INPUT"),
        (
            {"operations": NO_FILE.replace("null", '"a path"'), "map": '{"0": ["variables.file"]}'},
            422,
            "BAD_USER_INPUT",
        ),
    ],
)
async def test_a_wrong_map_puts_no_file_anywhere(
    shared_world: World, parts: dict[str, str], status: int, expected: str
) -> None:
    before = await shared_world.sql("SELECT count(*) FROM task")
    answer = await upload(shared_world, parts, {"0": b"ICCID\n"})
    assert (answer.status_code, code(answer)) == (status, expected)
    assert await shared_world.sql("SELECT count(*) FROM task") == before


async def test_a_file_cannot_come_in_a_json_body(shared_world: World) -> None:
    payload = {"query": IMPORT, "variables": {"file": "/etc/passwd"}}
    answer = await send(shared_world, payload, door="admin", account="operations")
    assert answer.json() == {"data": {"importSimCards": {"task": None, "errors": [{"code": "FILE_REQUIRED"}]}}}


async def test_two_files_go_to_their_two_places(world: World) -> None:
    query = """mutation($one: Upload!, $two: Upload!) {
        one: importSimCards(file: $one) { task { id } } two: importSimCards(file: $two) { task { id } } }"""
    answer = await upload(
        world,
        {
            "operations": json.dumps({"query": query, "variables": {"one": None, "two": None}}),
            "map": json.dumps({"a": ["variables.two"], "b": ["variables.one"]}),
        },
        {"a": b"first", "b": b"second!"},
    )
    assert answer.status_code == 200
    assert set(answer.json()["data"]) == {"one", "two"}
    stored = await world.sql(
        "SELECT f.name, f.size FROM task t JOIN stored_file f ON f.id = t.source_file_id ORDER BY t.id"
    )
    assert [tuple(row) for row in stored] == [("b.csv", 7), ("a.csv", 5)]


async def test_more_files_than_anyone_needs_are_refused(shared_world: World) -> None:
    files = {str(n): b"x" for n in range(5)}
    answer = await upload(shared_world, {"operations": NO_FILE, "map": '{"0": ["variables.file"]}'}, files)
    assert (answer.status_code, code(answer)) == (400, "BAD_REQUEST")


async def test_a_body_that_is_no_multipart_is_refused(shared_world: World) -> None:
    for content_type in ("multipart/form-data", "multipart/form-data; boundary=x"):
        answer = await send(
            shared_world, b"--y\r\nnonsense", door="admin", account="operations", content_type=content_type
        )
        assert (answer.status_code, code(answer)) == (400, "BAD_REQUEST")


# -- what goes wrong here -----------------------------------------------------------------------------------------


async def test_a_bug_is_masked_and_found_by_the_requests_id(world: World) -> None:
    await world.sql("ALTER TABLE department RENAME COLUMN position TO gone")
    answer = await send(
        world,
        {"query": "{ departments(first: 1) { nodes { position } } }"},
        headers={"x-request-id": "a-request-of-mine"},
    )
    assert answer.status_code == 500
    assert answer.headers["x-request-id"] == "a-request-of-mine"
    (error,) = answer.json()["errors"]
    assert error["extensions"] == {"code": "INTERNAL", "requestId": "a-request-of-mine"}
    assert "department" not in answer.text
    assert "position" not in answer.text
    # the process goes on
    assert (await send(world, {"query": COUNT, "variables": {"first": 1}})).json() == SEEN_BY_SOUTH


async def test_a_request_id_is_given_back_or_made(shared_world: World) -> None:
    async def told(given: str) -> str:
        answer = await send(shared_world, {"query": "{ viewer { door } }"}, headers={"x-request-id": given})
        return answer.headers["x-request-id"]

    assert await told("0194f1c2-7b1c-7000-8000-000000000001") == "0194f1c2-7b1c-7000-8000-000000000001"
    for unusable in ("", "short", "x" * 65, "with a space", 'quote"d-request'):
        assert re.fullmatch("[0-9a-f]{16}", await told(unusable))


async def test_a_statement_that_takes_too_long_ends_as_a_timeout(world: World) -> None:
    reader = world.client.application.reader
    for connection in reader._free:
        await connection.raw.execute("SET statement_timeout = '200ms'")
    await _locked_out(world, within=8)


async def test_an_operation_that_takes_too_long_ends_as_a_timeout(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(monkeypatch, world.client, "agent", seconds=0.2)
    await _locked_out(world, within=8)


async def _locked_out(world: World, within: float) -> None:
    """Reads a table that somebody else has locked, more often than there are connections, and then reads on."""
    count = {"query": COUNT, "variables": {"first": 1}}
    assert (await send(world, count)).status_code == 200
    other = await asyncpg.connect(world.superuser_url, ssl=False)
    try:
        async with other.transaction():
            await other.execute("LOCK TABLE sim_card IN ACCESS EXCLUSIVE MODE")
            started = time.monotonic()
            for _ in range(4):
                answer = await send(world, count)
                assert (answer.status_code, code(answer)) == (503, "TIMEOUT")
            assert time.monotonic() - started < within
    finally:
        await other.close()
    for _ in range(4):
        assert (await send(world, count)).json() == SEEN_BY_SOUTH


async def test_too_many_requests_wait_a_moment(shared_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    limit(monkeypatch, shared_world.client, "merchant", requests_per_minute=60)
    now = [0.0]
    monkeypatch.setattr(shared_world.client.application.endpoint, "rates", RateLimit(clock=lambda: now[0]))
    hello = {"query": "{ viewer { door } }"}
    statuses = [(await send(shared_world, hello, door="merchant", account=None)).status_code for _ in range(11)]
    assert statuses == [200] * 10 + [429]
    answer = await send(shared_world, hello, door="merchant", account=None, accept=JSON)
    assert (answer.status_code, code(answer)) == (429, "RATE_LIMITED")
    # another door counts for itself
    assert (await send(shared_world, hello, account=None)).status_code == 200
    # a moment later one more may come, and no two
    now[0] += 1
    statuses = [(await send(shared_world, hello, door="merchant", account=None)).status_code for _ in range(2)]
    assert statuses == [200, 429]


# -- who asks -----------------------------------------------------------------------------------------------------


async def test_a_visitor_is_told_to_log_in(shared_world: World) -> None:
    for authorization in (None, "Bearer nonsense", "Basic eDp5", "Bearer"):
        headers: dict[str, str] = {} if authorization is None else {"authorization": authorization}
        answer = await send(
            shared_world, {"query": COUNT, "variables": {"first": 1}}, account=None, headers=headers, accept=JSON
        )
        assert (answer.status_code, code(answer)) == (401, "UNAUTHENTICATED")
        assert answer.headers["www-authenticate"] == "Bearer"


INTROSPECTION = "{ __schema { types { name fields { name } } } }"


async def _visible(world: World, account: str, door: str) -> dict[str, set[str]]:
    answer = await send(world, {"query": INTROSPECTION}, account=account, door=door)
    types = answer.json()["data"]["__schema"]["types"]
    return {t["name"]: {f["name"] for f in t["fields"] or ()} for t in types}


async def test_introspection_shows_a_callers_part_of_the_graph(shared_world: World) -> None:
    admin = await _visible(shared_world, "admin", "admin")
    finance = await _visible(shared_world, "finance", "admin")
    south = await _visible(shared_world, "south", "agent")

    assert "iccid" in admin["SimCard"]
    assert "iccid" not in south["SimCard"]
    assert "remark" not in south["SimCard"]
    assert "displayIccid" in south["SimCard"]
    assert "createStaffAccount" in admin["Mutation"]
    assert "createStaffAccount" in south["Mutation"]
    assert "createStaffAccount" not in finance["Mutation"]
    assert "terminateSimCards" not in south["Mutation"]
    assert "Supplier" in admin
    assert "Supplier" not in south
    assert not any("upplier" in name for name in south["Query"])


async def test_introspection_shows_only_what_the_caller_may_search_and_sort_by(shared_world: World) -> None:
    asked = """{ searched: __type(name: "SimCardFilter") { inputFields { name } }
        sorted: __type(name: "SimCardOrderField") { enumValues { name } }
        keys: __type(name: "ApiKeyFilter") { inputFields { name } } }"""
    found = {}
    for account, door in (("operations", "admin"), ("south", "agent"), ("finance", "admin")):
        data = (await send(shared_world, {"query": asked}, account=account, door=door)).json()["data"]
        found[account] = {
            "searched": {one["name"] for one in data["searched"]["inputFields"]},
            "sorted": {one["name"] for one in data["sorted"]["enumValues"]},
            "keys": data["keys"] and {one["name"] for one in data["keys"]["inputFields"]},
        }
    assert found["operations"]["searched"] - found["south"]["searched"] == {"iccid", "supplier"}
    assert found["south"]["searched"] - found["operations"]["searched"] == set()
    assert "expiresAt" in found["south"]["keys"]
    assert found["finance"]["keys"] is None


@pytest.mark.parametrize(
    "query",
    [INTROSPECTION, '{ __type(name: "SimCard") { fields { name } } }', "{ viewer { door } __schema { description } }"],
)
async def test_a_visitor_reads_nothing_of_the_schema(shared_world: World, query: str) -> None:
    answer = await send(shared_world, {"query": query}, account=None)
    assert (answer.status_code, code(answer)) == (401, "UNAUTHENTICATED")
    answer = await send(shared_world, {"query": "{ __typename }"}, account=None)
    assert (answer.status_code, answer.json()) == (200, {"data": {"__typename": "Query"}})


async def test_no_other_origin_is_let_in_by_default(shared_world: World) -> None:
    origin = {"origin": "https://elsewhere.example"}
    preflight = await send(
        shared_world, method="OPTIONS", account=None, headers={**origin, "access-control-request-method": "POST"}
    )
    answer = await send(shared_world, {"query": COUNT, "variables": {"first": 1}}, headers=origin)
    assert (preflight.status_code, answer.status_code) == (405, 200)
    for found in (preflight, answer):
        assert [name for name in found.headers if name.startswith("access-control")] == []


# -- beside the graph ---------------------------------------------------------------------------------------------


async def test_health_readiness_and_metrics(shared_world: World) -> None:
    http = shared_world.client.http
    assert (await http.get("/healthz")).json() == {"healthy": True}
    ready = await http.get("/readyz")
    assert (ready.status_code, ready.json()) == (200, {"ready": True})

    async def counted() -> float:
        text = (await http.get("/metrics")).text
        found = re.search(r'^trellis_request_seconds_count\{door="agent",status="422"\} (\S+)$', text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    before = await counted()
    await send(shared_world, {"query": "{ nothing }"})
    assert await counted() == before + 1


@pytest.mark.parametrize("lost", ["database_url", "redis_url"])
async def test_a_process_that_lost_a_database_is_not_ready(place: Place, lost: str) -> None:
    nowhere = re.sub(r":\d+/", ":1/", getattr(place.settings, lost))
    application = Application(place.settings.model_copy(update={lost: nowhere}))
    transport = httpx.ASGITransport(app=build(application))
    async with httpx.AsyncClient(transport=transport, base_url="http://trellis.test") as http:
        answer = await http.get("/readyz")
        assert (answer.status_code, answer.json()["ready"]) == (503, False)
        assert (await http.get("/healthz")).status_code == 200
    await application.database.close()
    await application.redis.aclose()


async def test_a_file_is_had_by_a_signed_link_only(world: World) -> None:
    sheet = "ICCID,运营商,供应商,卡类型,套餐编码\n123,CMCC,移动OneLink,机械卡,CM-M-1G\n".encode()
    made = await world.client.upload("admin", IMPORT, ("cards.csv", sheet), await world.token("operations"))
    await world.client.work_off()
    task = made.json()["data"]["importSimCards"]["task"]["id"]
    found = await world.data("operations", "query($id: ID!) { task(id: $id) { refusedFileUrl } }", {"id": task})
    link = found["task"]["refusedFileUrl"]
    path, _, query = link.partition("?")
    expires, signature = re.fullmatch(r"expires=(\d+)&signature=([0-9a-f]{64})", query).groups()  # type: ignore[union-attr]
    assert 590 < int(expires) - time.time() <= 600

    http = world.client.http
    whole = await http.get(link)
    assert whole.status_code == 200
    assert whole.headers["x-content-type-options"] == "nosniff"
    assert whole.headers["cache-control"] == "private, no-store"
    assert whole.headers["content-disposition"].startswith("attachment")

    files = world.client.application.runtime.files
    (refused,) = await world.sql("SELECT refused_file_id AS id FROM task WHERE refused_file_id IS NOT NULL")
    (uploaded,) = await world.sql("SELECT source_file_id AS id FROM task WHERE source_file_id IS NOT NULL")
    assert path == f"/files/{encode_id('fil', refused['id'])}"
    for wrong in (
        path,
        f"{path}?expires={expires}",
        f"{path}?expires=soon&signature={signature}",
        f"{path}?expires={int(expires) + 1}&signature={signature}",
        f"{path}?expires={expires}&signature={signature[::-1]}",
        f"/files/{encode_id('fil', uploaded['id'])}?{query}",
        f"{path}?{files.sign(refused['id'], time.time() - 601)}",
        f"/files/{encode_id('tsk', refused['id'])}?{query}",
        f"/files/{encode_id('fil', 999_999)}?{files.sign(999_999)}",
        "/files/../secret_key",
    ):
        assert (await http.get(wrong)).status_code in (403, 404), wrong
    assert (await http.get(f"{path}?{files.sign(refused['id'], time.time() - 601)}")).status_code == 403
