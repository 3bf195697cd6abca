"""Live answers of the graph: graphql-transport-ws against the application itself, over a real server."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import jwt
import pytest
import uvicorn
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from planner.ids import encode_id
from tests.support.world import CARDS_PER_TENANT, World

SHEET = Path(__file__).resolve().parent.parent / "data" / "sim_import_20k.xlsx"
EXPECTED = json.loads(SHEET.with_suffix(".expected.json").read_text())
IMPORT = "mutation($file: Upload!) { importSimCards(file: $file) { task { id } errors { code } } }"
PROGRESS = """subscription($task: ID!) { taskProgress(task: $task) {
    id status total done failed progress account { login } } }"""
COUNT = "{ simCards(first: 0) { totalCount } }"
SECONDS = 10


@pytest.fixture
async def address(world: World) -> AsyncIterator[str]:
    """Where the application listens for WebSockets."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(world.client.app, lifespan="off", log_level="warning"))
    running = asyncio.create_task(server.serve(sockets=[listener]))
    async with asyncio.timeout(SECONDS):
        while not server.started:  # noqa: ASYNC110 - the server has no event for it
            await asyncio.sleep(0.005)
    yield f"ws://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    await running
    listener.close()


@asynccontextmanager
async def opened(address: str, door: str, token: str | None) -> AsyncIterator[ClientConnection]:
    """A socket whose initialisation was sent and not yet answered."""
    protocol = Subprotocol("graphql-transport-ws")
    async with connect(f"{address}/{door}/graphql", subprotocols=[protocol], close_timeout=0.1) as client:
        payload = {} if token is None else {"authorization": f"Bearer {token}"}
        await client.send(json.dumps({"type": "connection_init", "payload": payload}))
        yield client


@asynccontextmanager
async def acknowledged(address: str, door: str, token: str | None) -> AsyncIterator[ClientConnection]:
    async with opened(address, door, token) as client:
        assert await receive(client) == {"type": "connection_ack"}
        yield client


async def receive(client: ClientConnection) -> dict[str, Any]:
    """The next message that is not the server's own ping."""
    while True:
        message: dict[str, Any] = json.loads(await asyncio.wait_for(client.recv(), SECONDS))
        if message["type"] != "ping":
            return message


async def subscribe(client: ClientConnection, query: str, variables: dict[str, Any] | None = None) -> None:
    payload = {"query": query, "variables": variables or {}}
    await client.send(json.dumps({"id": "1", "type": "subscribe", "payload": payload}))


async def refused(client: ClientConnection, query: str, variables: dict[str, Any] | None = None) -> list[str]:
    await subscribe(client, query, variables)
    message = await receive(client)
    assert (message["type"], message["id"]) == ("error", "1"), message
    return [error["extensions"]["code"] for error in message["payload"]]


async def ending(client: ClientConnection) -> tuple[int | None, list[dict[str, Any]]]:
    """The close code, and what was still said before it."""
    said = []
    with contextlib.suppress(ConnectionClosed):
        while True:
            said.append(await receive(client))
    return client.close_code, said


async def queued(world: World, sheet: Path | tuple[str, bytes] = ("cards.csv", b"ICCID\n1\n")) -> str:
    answer = await world.client.upload("admin", IMPORT, sheet, await world.token("operations"))
    payload = answer.json()["data"]["importSimCards"]
    assert payload["errors"] == []
    return str(payload["task"]["id"])


async def first_event(client: ClientConnection, task: str) -> None:
    await subscribe(client, PROGRESS, {"task": task})
    message = await receive(client)
    assert message["payload"]["data"]["taskProgress"]["status"] == "QUEUED"


@pytest.mark.feature("S0-05")
async def test_an_import_is_watched_from_the_queue_to_its_end(world: World, address: str) -> None:
    task = await queued(world, SHEET)
    async with acknowledged(address, "admin", await world.token("operations")) as client:
        await subscribe(client, PROGRESS, {"task": task})
        events = [(await receive(client))["payload"]["data"]["taskProgress"]]
        assert events[0] == {
            "id": task,
            "status": "QUEUED",
            "total": None,
            "done": 0,
            "failed": 0,
            "progress": None,
            "account": {"login": "operations"},
        }
        worker = asyncio.create_task(world.client.work_off())
        while (message := await receive(client))["type"] == "next":
            events.append(message["payload"]["data"]["taskProgress"])
        assert message == {"id": "1", "type": "complete"}
        await worker

    statuses = [event["status"] for event in events]
    assert sorted(set(statuses), key=statuses.index) == ["QUEUED", "RUNNING", "SUCCEEDED"]
    handled = [event["done"] + event["failed"] for event in events]
    assert handled == sorted(handled)
    last = events[-1]
    assert (last["total"], last["done"], last["failed"], last["progress"]) == (
        EXPECTED["rows"],
        EXPECTED["accepted"],
        EXPECTED["rejected"],
        1.0,
    )


async def test_a_finished_task_is_told_once(world: World, address: str) -> None:
    task = await queued(world)
    await world.client.work_off()
    async with acknowledged(address, "admin", await world.token("operations")) as client:
        await subscribe(client, PROGRESS, {"task": task})
        assert (await receive(client))["payload"]["data"]["taskProgress"]["id"] == task
        assert await receive(client) == {"id": "1", "type": "complete"}


async def test_what_is_no_task_is_refused(world: World, address: str) -> None:
    async with acknowledged(address, "admin", await world.token("operations")) as client:
        assert await refused(client, PROGRESS, {"task": encode_id("tsk", 999_999)}) == ["NOT_FOUND"]
        assert await refused(client, PROGRESS, {"task": world.card_ids("north")[0]}) == ["INVALID_ID"]
        assert await refused(client, PROGRESS) == ["BAD_USER_INPUT"]
        assert await refused(client, "subscription { nothing }") == ["GRAPHQL_VALIDATION_FAILED"]
        assert await refused(client, "{") == ["GRAPHQL_PARSE_FAILED"]
        # a refusal ends one operation, not the socket
        await subscribe(client, COUNT)
        assert (await receive(client))["type"] == "next"


async def test_another_branchs_task_does_not_exist(world: World, address: str) -> None:
    tasks = {
        row["path"]: encode_id("tsk", row["id"]) for row in await world.sql("SELECT id, tenant_path AS path FROM task")
    }
    paths = {name: tenant.path for name, tenant in world.tenants.items()}
    query = "subscription($task: ID!) { taskProgress(task: $task) { id } }"
    async with acknowledged(address, "agent", await world.token("south")) as client:
        await subscribe(client, query, {"task": tasks[paths["south"]]})
        assert (await receive(client))["payload"] == {"data": {"taskProgress": {"id": tasks[paths["south"]]}}}
        assert (await receive(client))["type"] == "complete"
        for foreign in ("south-west", "north", "platform"):
            assert await refused(client, query, {"task": tasks[paths[foreign]]}) == ["NOT_FOUND"]

    await _may_watch(world, "south")
    async with acknowledged(address, "agent", await world.token("south")) as client:
        for own in ("south", "south-west"):
            await subscribe(client, query, {"task": tasks[paths[own]]})
            message = await receive(client)
            assert message["payload"] == {"data": {"taskProgress": {"id": tasks[paths[own]]}}}
            assert (await receive(client))["type"] == "complete"
        for foreign in ("north", "north-east", "acme", "platform"):
            assert await refused(client, query, {"task": tasks[paths[foreign]]}) == ["NOT_FOUND"]


async def _may_watch(world: World, tenant: str) -> None:
    """A role of a tenant's own making that lets its administrator watch imports."""
    owner = world.tenants[tenant]
    (role,) = await world.sql(
        "INSERT INTO role (tenant_id, tenant_path, name, status) VALUES ($1, $2, 'watcher', 'ACTIVE') RETURNING id",
        owner.id,
        owner.path,
    )
    for obj, act in (("Subscription.taskProgress", "call"), ("Task.*", "read")):
        await world.sql(
            "INSERT INTO role_policy (tenant_id, tenant_path, role_id, obj, act, scope, eft) "
            "VALUES ($1, $2, $3, $4, $5, 'subtree', 'allow')",
            owner.id,
            owner.path,
            role["id"],
            obj,
            act,
        )
    await world.sql(
        "INSERT INTO role_assignment (tenant_id, tenant_path, account_id, role) "
        "SELECT $1, $2, id, $3 FROM staff_account WHERE login = $4",
        owner.id,
        owner.path,
        f"role:{role['id']}",
        tenant,
    )
    await world.client.application.runtime.access.changed(policies=True)


async def test_a_query_and_a_mutation_are_answered_once(world: World, address: str) -> None:
    async with acknowledged(address, "agent", await world.token("south")) as client:
        await subscribe(client, COUNT)
        assert await receive(client) == {
            "id": "1",
            "type": "next",
            "payload": {"data": {"simCards": {"totalCount": 2 * CARDS_PER_TENANT}}},
        }
        assert await receive(client) == {"id": "1", "type": "complete"}
        await subscribe(client, 'mutation { createDepartment(input: {name: "Live"}) { errors { code } } }')
        assert (await receive(client))["payload"] == {"data": {"createDepartment": {"errors": []}}}
        assert await receive(client) == {"id": "1", "type": "complete"}
    assert len(await world.sql("SELECT id FROM department WHERE name = 'Live'")) == 1


async def test_a_visitor_gets_nothing(world: World, address: str) -> None:
    task = await queued(world)
    async with acknowledged(address, "admin", None) as client:
        assert await refused(client, PROGRESS, {"task": task}) == ["FORBIDDEN"]
        assert await refused(client, COUNT) == ["FORBIDDEN"]
        assert await refused(client, "{ __schema { description } }") == ["UNAUTHENTICATED"]


async def test_a_token_that_does_not_hold_here_opens_no_socket(world: World, address: str) -> None:
    south = await world.token("south")
    for door, token in (("admin", "nonsense"), ("admin", south), ("cellar", south), ("partner", south)):
        async with opened(address, door, token) as client:
            assert await ending(client) == (4403, [])


async def test_a_token_that_expires_ends_the_socket(world: World, address: str) -> None:
    signing = world.client.application.runtime.keys.signing
    claims = jwt.decode(await world.token("operations"), signing, algorithms=["HS256"], audience="admin")
    ends = int(time.time()) + 2
    token = jwt.encode({**claims, "exp": ends}, signing, algorithm="HS256")
    task = await queued(world)
    async with acknowledged(address, "admin", token) as client:
        await first_event(client, task)
        assert await ending(client) == (4403, [])
        assert 0 <= time.time() - ends < 1


REVOKE = "mutation($account: ID!) { revokeSessions(account: $account) { done errors { code } } }"


async def _account_id(world: World, login: str) -> str:
    (row,) = await world.sql("SELECT id FROM staff_account WHERE login = $1", login)
    return encode_id("acc", row["id"])


async def test_a_revoked_session_hears_of_no_event_any_more(world: World, address: str) -> None:
    task = await queued(world)
    async with acknowledged(address, "admin", await world.token("operations")) as client:
        await first_event(client, task)
        done = await world.data("admin", REVOKE, {"account": await _account_id(world, "operations")})
        assert done["revokeSessions"] == {"done": True, "errors": []}
        await world.client.work_off()
        assert await ending(client) == (4403, [])


async def test_a_revoked_session_ends_its_idle_sockets_within_a_second(world: World, address: str) -> None:
    task = await queued(world)
    async with (
        acknowledged(address, "admin", await world.token("operations")) as watching,
        acknowledged(address, "admin", await world.token("operations")) as idle,
        acknowledged(address, "admin", await world.token("admin")) as another,
    ):
        await first_event(watching, task)
        await world.data("admin", REVOKE, {"account": await _account_id(world, "operations")})
        revoked = time.monotonic()
        assert await ending(watching) == (4403, [])
        assert await ending(idle) == (4403, [])
        assert time.monotonic() - revoked < 1
        # whoever is not concerned stays
        await subscribe(another, COUNT)
        assert (await receive(another))["type"] == "next"


async def test_a_revoked_session_asks_nothing_any_more(world: World, address: str) -> None:
    async with acknowledged(address, "agent", await world.token("south")) as client:
        await world.data("admin", REVOKE, {"account": await _account_id(world, "south")})
        await subscribe(client, COUNT)
        assert await ending(client) == (4403, [])


async def test_a_role_that_is_taken_away_ends_the_subscription(world: World, address: str) -> None:
    task = await queued(world)
    # somebody else's: one's own task is one's to watch in any role
    await world.sql("UPDATE task SET account_id = NULL")
    async with acknowledged(address, "admin", await world.token("operations")) as client:
        await first_event(client, task)
        changed = await world.data(
            "admin",
            "mutation($input: SetRolesInput!) { setStaffRoles(input: $input) { errors { code } } }",
            {"input": {"account": await _account_id(world, "operations"), "roles": ["platform_finance"]}},
        )
        assert changed["setStaffRoles"]["errors"] == []
        await world.client.work_off()
        message = await receive(client)
        assert message["type"] == "error"
        assert {error["extensions"]["code"] for error in message["payload"]} == {"NOT_FOUND"}
        # the person is still logged in, with another role
        await subscribe(client, COUNT)
        assert (await receive(client))["type"] == "next"
