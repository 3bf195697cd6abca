"""The graphql-transport-ws protocol as a client meets it: over a real server on the loopback."""

import asyncio
import json
import socket
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from server.websocket import GraphQLTransportWS, RequestRefused, SocketLimits

PROTOCOL = Subprotocol("graphql-transport-ws")
INIT: dict[str, object] = {"type": "connection_init", "payload": {"authorization": "Bearer good"}}
ACK = {"type": "connection_ack"}


@dataclass
class Token:
    expires_at: float | None = None


@dataclass
class Graph:
    """An executor that answers by the name in `query` and records what it is asked and what it closes."""

    expires_at: float | None = None
    requests: list[Mapping[str, object]] = field(default_factory=list)
    closed: list[object] = field(default_factory=list)
    release: asyncio.Event = field(default_factory=asyncio.Event)
    revoked: asyncio.Event = field(default_factory=asyncio.Event)

    async def authenticate(self, connection: WebSocket, params: Mapping[str, object]) -> Token:
        match params.get("authorization"):
            case "Bearer good":
                return Token(self.expires_at)
            case "Bearer slow":
                await self.release.wait()
                return Token()
            case "Bearer storm":
                raise ConnectionResetError("the session store is away")
        raise PermissionError(connection.path_params["door"])

    async def lost(self, subject: Token) -> None:
        await self.revoked.wait()

    def subscribe(self, subject: Token, request: Mapping[str, object]) -> AsyncIterator[Mapping[str, object]]:
        self.requests.append(request)
        return self._answer(str(request.get("query")))

    async def _answer(self, query: str) -> AsyncGenerator[Mapping[str, object], None]:
        try:
            match query:
                case "refused":
                    raise RequestRefused([{"message": "Not granted", "extensions": {"code": "FORBIDDEN"}}])
                case "broken":
                    raise ValueError("a password is in this text")
                case "revoked":
                    yield {"data": {"n": 1}}
                    raise PermissionError
                case "unwritable":
                    yield {"data": object()}
                case "flood":
                    while True:
                        yield {"data": "x" * 65_536}
            for n in range(1, 4):
                yield {"data": {"n": n}}
                if query == "forever":
                    await self.release.wait()
                elif query == "stubborn":
                    # Swallows its cancellation, as asyncio.wait_for of Python 3.11 may.
                    try:
                        await asyncio.sleep(30)
                    except asyncio.CancelledError:
                        continue
        finally:
            self.closed.append(query)


@asynccontextmanager
async def serving(graph: Graph, limits: SocketLimits = SocketLimits()) -> AsyncIterator[str]:  # noqa: B008
    endpoint = GraphQLTransportWS(graph, limits)
    app = Starlette(routes=[WebSocketRoute("/{door}/graphql", endpoint.__call__)])
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_level="warning"))
    running = asyncio.create_task(server.serve(sockets=[listener]))
    await until(lambda: server.started)
    try:
        yield f"ws://127.0.0.1:{listener.getsockname()[1]}/agent/graphql"
    finally:
        server.should_exit = True
        await running
        listener.close()


@pytest.fixture(scope="module")
async def door() -> AsyncIterator[str]:
    async with serving(Graph()) as url:
        yield url


async def send(client: ClientConnection, *messages: object) -> None:
    for message in messages:
        await client.send(json.dumps(message))


async def receive(client: ClientConnection) -> object:
    return json.loads(await asyncio.wait_for(client.recv(), 5))


async def closing(client: ClientConnection) -> tuple[int | None, str | None]:
    """The close code and reason, whatever messages come before."""
    with suppress(ConnectionClosed):
        while True:
            await asyncio.wait_for(client.recv(), 5)
    return client.close_code, client.close_reason


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - what is waited for belongs to others and has no event
            await asyncio.sleep(0.005)


def socket_tasks() -> list[str]:
    names = [getattr(task.get_coro(), "__qualname__", "") for task in asyncio.all_tasks()]
    return [name for name in names if name.startswith("_Connection.")]


@asynccontextmanager
async def acknowledged(url: str) -> AsyncIterator[ClientConnection]:
    async with connect(url, subprotocols=[PROTOCOL], close_timeout=0.1) as client:
        await send(client, INIT)
        assert await receive(client) == ACK
        assert await receive(client) == {"type": "ping"}
        yield client


def subscribe(operation: str, query: str) -> dict[str, object]:
    return {"id": operation, "type": "subscribe", "payload": {"query": query}}


async def test_an_operation_is_answered_in_order_and_completed() -> None:
    graph = Graph()
    request = {"query": "count", "operationName": "Live", "variables": {"a": "é"}, "extensions": None}
    async with serving(graph) as url, acknowledged(url) as client:
        assert client.subprotocol == "graphql-transport-ws"
        await send(client, {"id": "1", "type": "subscribe", "payload": request})
        assert [await receive(client) for _ in range(4)] == [
            {"id": "1", "type": "next", "payload": {"data": {"n": 1}}},
            {"id": "1", "type": "next", "payload": {"data": {"n": 2}}},
            {"id": "1", "type": "next", "payload": {"data": {"n": 3}}},
            {"id": "1", "type": "complete"},
        ]
        assert graph.requests == [request]


async def test_operations_run_side_by_side_and_an_id_is_free_after_its_end(door: str) -> None:
    async with acknowledged(door) as client:
        await send(client, subscribe("live", "forever"), subscribe("one", "refused"))
        assert await receive(client) == {"id": "live", "type": "next", "payload": {"data": {"n": 1}}}
        refusal = {
            "id": "one",
            "type": "error",
            "payload": [{"message": "Not granted", "extensions": {"code": "FORBIDDEN"}}],
        }
        assert await receive(client) == refusal
        await send(client, subscribe("one", "refused"))
        assert await receive(client) == refusal


@pytest.mark.parametrize("query", ["broken", "unwritable"])
async def test_a_fault_ends_its_operation_only_and_tells_nothing(door: str, query: str) -> None:
    async with acknowledged(door) as client:
        await send(client, subscribe("1", query))
        assert await receive(client) == {
            "id": "1",
            "type": "error",
            "payload": [{"message": "Internal error", "extensions": {"code": "INTERNAL"}}],
        }
        await send(client, {"type": "ping"})
        assert await receive(client) == {"type": "pong"}


async def test_a_completed_operation_is_closed_silent_and_its_id_free() -> None:
    graph = Graph()
    async with serving(graph) as url, acknowledged(url) as client:
        await send(client, subscribe("1", "forever"))
        assert await receive(client) == {"id": "1", "type": "next", "payload": {"data": {"n": 1}}}
        await send(client, {"id": "1", "type": "complete"}, {"id": "unknown", "type": "complete"})
        await until(lambda: graph.closed == ["forever"])
        await send(client, subscribe("1", "refused"))
        answer = await receive(client)
        assert isinstance(answer, dict)
        assert (answer["id"], answer["type"]) == ("1", "error")


async def test_a_completed_operation_that_goes_on_is_not_heard() -> None:
    graph = Graph()
    async with serving(graph) as url, acknowledged(url) as client:
        await send(client, subscribe("1", "stubborn"))
        assert await receive(client) == {"id": "1", "type": "next", "payload": {"data": {"n": 1}}}
        await send(client, {"id": "1", "type": "complete"}, {"type": "ping", "payload": {"at": 7}})
        assert await receive(client) == {"type": "pong", "payload": {"at": 7}}
        await until(lambda: graph.closed == ["stubborn"])
        await send(client, {"type": "ping"})
        assert await receive(client) == {"type": "pong"}


async def test_a_disconnect_ends_every_operation_and_leaves_no_task() -> None:
    graph = Graph()
    async with serving(graph) as url:
        async with acknowledged(url) as client:
            await send(client, subscribe("1", "forever"), subscribe("2", "forever"), subscribe("3", "flood"))
            await until(lambda: len(graph.requests) == 3)
            assert len(socket_tasks()) >= 4
        await until(lambda: not socket_tasks())
        assert sorted(map(str, graph.closed)) == ["flood", "forever", "forever"]


async def test_a_torn_connection_ends_every_operation_and_leaves_no_task() -> None:
    graph = Graph()
    async with serving(graph) as url, acknowledged(url) as client:
        await send(client, subscribe("1", "forever"), subscribe("2", "flood"))
        await until(lambda: len(graph.requests) == 2)
        client.transport.abort()
        await until(lambda: not socket_tasks())
        assert sorted(map(str, graph.closed)) == ["flood", "forever"]


async def test_a_stopping_server_ends_every_operation() -> None:
    graph = Graph()
    async with serving(graph) as url:
        client = await connect(url, subprotocols=[PROTOCOL])
        await send(client, INIT, {"type": "pong"})
        assert await receive(client) == ACK
        await send(client, subscribe("1", "forever"))
        await until(lambda: len(graph.requests) == 1)
    assert await closing(client) == (1012, "")
    assert graph.closed == ["forever"]
    assert socket_tasks() == []


@pytest.mark.parametrize("offered", [None, [Subprotocol("graphql-ws")]])
async def test_another_subprotocol_is_refused(door: str, offered: list[Subprotocol] | None) -> None:
    async with connect(door, subprotocols=offered) as client:
        assert client.subprotocol is None
        assert await closing(client) == (4406, "Subprotocol not acceptable")


@pytest.mark.parametrize(
    ("messages", "code", "reason"),
    [
        ([{"type": "connection_init"}], 4403, "Forbidden"),
        ([{"type": "connection_init", "payload": {"authorization": "Bearer bad"}}], 4403, "Forbidden"),
        (
            [{"type": "connection_init", "payload": {"authorization": "Bearer storm"}}],
            1013,
            "Try again later",
        ),
        ([INIT, INIT], 4429, "Too many initialisation requests"),
        ([subscribe("1", "count")], 4401, "Unauthorized"),
        (
            [
                {"type": "connection_init", "payload": {"authorization": "Bearer slow"}},
                subscribe("1", "count"),
            ],
            4401,
            "Unauthorized",
        ),
        ([INIT, {"type": "start", "id": "1"}], 4400, "Invalid message of type start"),
        ([INIT, {"type": "next", "id": "1", "payload": {}}], 4400, "Invalid message of type next"),
        ([{"type": "connection_init", "payload": []}], 4400, "Invalid message of type connection_init"),
        ([{"type": "ping", "payload": 3}], 4400, "Invalid message of type ping"),
        ([{"type": "pong", "payload": "x"}], 4400, "Invalid message of type pong"),
        ([{"type": "complete"}], 4400, "Invalid message of type complete"),
        ([{"type": "x" * 500}], 4400, "Invalid message of type " + "x" * 99),
        ([{"type": 3}], 4400, "Message without a type"),
        ([["type", "ping"]], 4400, "Message is not a JSON object"),
    ],
)
async def test_a_breach_of_protocol_closes_the_socket(
    door: str, messages: list[object], code: int, reason: str
) -> None:
    async with connect(door, subprotocols=[PROTOCOL]) as client:
        await send(client, *messages)
        assert await closing(client) == (code, reason)


@pytest.mark.parametrize(
    "message",
    [
        {"type": "subscribe", "payload": {"query": "count"}},
        {"id": 1, "type": "subscribe", "payload": {"query": "count"}},
        {"id": "1", "type": "subscribe"},
        {"id": "1", "type": "subscribe", "payload": {"query": 1}},
        {"id": "1", "type": "subscribe", "payload": {"query": "count", "operationName": 1}},
        {"id": "1", "type": "subscribe", "payload": {"query": "count", "variables": []}},
        {"id": "1", "type": "subscribe", "payload": {"query": "count", "extensions": "x"}},
    ],
)
async def test_a_malformed_request_closes_the_socket(door: str, message: dict[str, object]) -> None:
    async with acknowledged(door) as client:
        await send(client, message)
        assert await closing(client) == (4400, "Invalid message of type subscribe")


@pytest.mark.parametrize(
    ("frame", "reason"),
    [("{", "Message is not a JSON object"), (b'{"type":"ping"}', "Only text messages are understood")],
)
async def test_what_is_not_json_text_closes_the_socket(door: str, frame: str | bytes, reason: str) -> None:
    async with connect(door, subprotocols=[PROTOCOL]) as client:
        await client.send(frame)
        assert await closing(client) == (4400, reason)


async def test_a_request_without_a_query_is_the_executors_to_judge() -> None:
    graph = Graph()
    persisted = {"extensions": {"persistedQuery": {"version": 1, "sha256Hash": "00"}}}
    async with serving(graph) as url, acknowledged(url) as client:
        await send(client, {"id": "1", "type": "subscribe", "payload": persisted})
        assert await receive(client) == {"id": "1", "type": "next", "payload": {"data": {"n": 1}}}
    assert graph.requests == [persisted]


async def test_an_id_in_use_closes_the_socket() -> None:
    graph = Graph()
    async with serving(graph) as url, acknowledged(url) as client:
        await send(client, subscribe("7", "forever"))
        assert await receive(client) == {"id": "7", "type": "next", "payload": {"data": {"n": 1}}}
        await send(client, subscribe("7", "count"))
        assert await closing(client) == (4409, "Subscriber for 7 already exists")
        assert graph.closed == ["forever"]


async def test_silence_before_the_initialisation_closes_the_socket() -> None:
    limits = SocketLimits(acknowledgement_seconds=0.05)
    async with serving(Graph(), limits) as url, connect(url, subprotocols=[PROTOCOL]) as client:
        assert await closing(client) == (4408, "Connection initialisation timeout")


async def test_an_acknowledged_socket_outlives_the_initialisation_timeout() -> None:
    async with (
        serving(Graph(), SocketLimits(acknowledgement_seconds=0.05)) as url,
        acknowledged(url) as client,
    ):
        await asyncio.sleep(0.1)
        await send(client, {"type": "ping"})
        assert await receive(client) == {"type": "pong"}


async def test_a_client_is_pinged_and_closed_when_it_stays_silent() -> None:
    async with serving(Graph(), SocketLimits(keep_alive_seconds=0.1)) as url, acknowledged(url) as client:
        for _ in range(2):
            await send(client, {"type": "pong"})
            assert await receive(client) == {"type": "ping"}
        assert await closing(client) == (4408, "Keep-alive timeout")


async def test_a_client_that_does_not_read_is_closed() -> None:
    graph = Graph()
    limits = SocketLimits(keep_alive_seconds=0.2)
    async with serving(graph, limits) as url, acknowledged(url) as client:
        client.transport.pause_reading()
        await send(client, subscribe("1", "flood"))
        await until(lambda: graph.closed == ["flood"] and not socket_tasks())
        client.transport.abort()


async def test_access_that_ends_closes_the_socket() -> None:
    graph = Graph(expires_at=time.time() + 0.2)
    async with serving(graph) as url, acknowledged(url) as client:
        await send(client, subscribe("1", "forever"))
        assert await receive(client) == {"id": "1", "type": "next", "payload": {"data": {"n": 1}}}
        assert await closing(client) == (4403, "Access expired")
        assert graph.closed == ["forever"]


async def test_a_subject_that_loses_its_access_while_nothing_happens_is_closed() -> None:
    graph = Graph()
    async with serving(graph) as url, acknowledged(url) as client:
        await send(client, subscribe("1", "forever"))
        assert await receive(client) == {"id": "1", "type": "next", "payload": {"data": {"n": 1}}}
        graph.revoked.set()
        assert await closing(client) == (4403, "Forbidden")
        assert graph.closed == ["forever"]


async def test_a_subject_that_loses_its_access_is_closed() -> None:
    graph = Graph()
    async with serving(graph) as url, acknowledged(url) as client:
        await send(client, subscribe("1", "forever"), subscribe("2", "revoked"))
        assert await closing(client) == (4403, "Forbidden")
        assert sorted(map(str, graph.closed)) == ["forever", "revoked"]


async def test_more_operations_than_allowed_close_the_socket() -> None:
    async with serving(Graph(), SocketLimits(operations=2)) as url, acknowledged(url) as client:
        await send(client, *(subscribe(str(n), "forever") for n in range(3)))
        assert await closing(client) == (4429, "Too many operations: at most 2 at a time")


async def test_a_message_larger_than_allowed_closes_the_socket() -> None:
    async with serving(Graph(), SocketLimits(message_bytes=100)) as url, acknowledged(url) as client:
        fitting = {"type": "ping", "payload": {"a": "x" * 62}}
        assert len(json.dumps(fitting)) == 100
        await send(client, fitting)
        assert await receive(client) == {"type": "pong", "payload": {"a": "x" * 62}}
        await client.send(json.dumps({"type": "ping", "payload": {"a": "é" * 32}}, ensure_ascii=False) + " ")
        assert await closing(client) == (4413, "Message too large: at most 100 bytes")


async def test_more_messages_than_allowed_close_the_socket() -> None:
    async with serving(Graph(), SocketLimits(messages_per_second=5)) as url, acknowledged(url) as client:
        await asyncio.sleep(0.25)
        await send(client, *({"type": "ping"} for _ in range(5)))
        assert [await receive(client) for _ in range(5)] == [{"type": "pong"}] * 5
        await send(client, *({"type": "ping"} for _ in range(3)))
        assert await closing(client) == (4429, "Too many messages: at most 5 per second")
