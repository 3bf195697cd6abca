"""Live answers: the graphql-transport-ws protocol, over which a screen follows its orders and devices.

One socket carries one subject and any number of its operations. Everything that a socket does runs in one
task group: when the socket ends, whoever ends it, every operation on it has ended too.

Close codes a client sees besides the transport's own: 4400 invalid message, 4401 operation before the
acknowledgement, 4403 not authenticated or no longer, 4406 no common subprotocol, 4408 the client kept silent
too long, 4409 operation id in use, 4413 message too large, 4429 too many initialisations, messages or
operations. 1013 says that authentication failed on this side and may be tried again.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeGuard, TypeVar

import orjson
import structlog
from starlette.websockets import WebSocket, WebSocketDisconnect

SUBPROTOCOL = "graphql-transport-ws"
CLOSE_SECONDS = 5.0
"""How long a client that does not read may hold up its own close frame."""
REASON_BYTES = 123
"""What a close frame has room for."""
INTERNAL_ERROR = {"message": "Internal error", "extensions": {"code": "INTERNAL"}}

log = structlog.get_logger(__name__)


class Subject(Protocol):
    """Who speaks over a socket, from its acknowledgement on."""

    @property
    def expires_at(self) -> float | None:
        """When the subject's access ends, in seconds since the epoch; None for never."""


SubjectT = TypeVar("SubjectT", bound=Subject)


class RequestRefused(Exception):
    """An operation that is not run: it does not parse, does not validate or is not granted.

    `errors` are GraphQL errors as a client reads them.
    """

    def __init__(self, errors: list[dict[str, object]]) -> None:
        super().__init__(errors)
        self.errors = errors


class Executor(Protocol[SubjectT]):
    """The graph behind the socket."""

    async def authenticate(self, connection: WebSocket, params: Mapping[str, object]) -> SubjectT:
        """The subject that the payload of `connection_init` proves; raises PermissionError for none."""

    async def lost(self, subject: SubjectT) -> None:
        """Returns once the subject has lost its access, whether or not it is doing anything."""

    def subscribe(self, subject: SubjectT, request: Mapping[str, object]) -> AsyncIterator[Mapping[str, object]]:
        """The results of a subscription as they come, or the one result of a query or mutation.

        `request` holds `query`, `operationName`, `variables` and `extensions` as the client sent them, each
        possibly missing. Raises RequestRefused before the first result, and PermissionError at any time when
        the subject has lost its access: that ends the socket. A generator is closed when nobody listens.
        """


@dataclass(frozen=True)
class SocketLimits:
    """What one connection may ask of a process. Times are in seconds, sizes in bytes."""

    acknowledgement_seconds: float = 10.0
    """From the handshake to the acknowledged `connection_init`."""
    keep_alive_seconds: float = 20.0
    """Between two pings; a client that says nothing from one to the next is taken for gone."""
    operations: int = 50
    message_bytes: int = 262_144
    messages_per_second: int = 50


DEFAULT_LIMITS = SocketLimits()


class SocketClosed(Exception):
    """This side ends the socket with a close code and a reason for the client."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


class GraphQLTransportWS(Generic[SubjectT]):
    """The endpoint. Starlette takes only a function or method for one: route to its `__call__`."""

    def __init__(self, executor: Executor[SubjectT], limits: SocketLimits = DEFAULT_LIMITS) -> None:
        self._executor = executor
        self._limits = limits

    async def __call__(self, websocket: WebSocket) -> None:
        try:
            if SUBPROTOCOL not in websocket.scope["subprotocols"]:
                await websocket.accept()
                raise SocketClosed(4406, "Subprotocol not acceptable")
            await websocket.accept(subprotocol=SUBPROTOCOL)
            await _Connection(websocket, self._executor, self._limits).run()
        except* SocketClosed as closings:
            first = closings.exceptions[0]
            assert isinstance(first, SocketClosed)
            await _close(websocket, first)
        except* WebSocketDisconnect:
            pass


async def _close(websocket: WebSocket, closing: SocketClosed) -> None:
    reason = closing.reason.encode()[:REASON_BYTES].decode(errors="ignore")
    # RuntimeError is how servers answer a close frame after a close frame.
    with contextlib.suppress(RuntimeError, WebSocketDisconnect, TimeoutError):
        async with asyncio.timeout(CLOSE_SECONDS):
            await websocket.close(closing.code, reason)


class _Connection(Generic[SubjectT]):
    def __init__(self, websocket: WebSocket, executor: Executor[SubjectT], limits: SocketLimits) -> None:
        self._websocket = websocket
        self._executor = executor
        self._limits = limits
        self._tasks = asyncio.TaskGroup()
        self._initialised = False
        self._subject: SubjectT | None = None
        self._operations: dict[str, asyncio.Task[None]] = {}
        self._received = 0
        self._allowance = float(limits.messages_per_second)
        self._allowed_at = time.monotonic()

    async def run(self) -> None:
        """Serves the socket until one side ends it, which is always by an exception."""
        async with self._tasks:
            self._tasks.create_task(self._await_acknowledgement())
            while True:
                await self._handle(self._decode(await self._receive()))

    async def _receive(self) -> str:
        event = await self._websocket.receive()
        if event["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(event.get("code") or 1005)
        self._received += 1
        self._spend_allowance()
        text = event.get("text")
        if not isinstance(text, str):
            raise SocketClosed(4400, "Only text messages are understood")
        return text

    def _spend_allowance(self) -> None:
        rate, now = self._limits.messages_per_second, time.monotonic()
        self._allowance = min(float(rate), self._allowance + (now - self._allowed_at) * rate)
        self._allowed_at = now
        if self._allowance < 1:
            raise SocketClosed(4429, f"Too many messages: at most {rate} per second")
        self._allowance -= 1

    def _decode(self, text: str) -> dict[str, Any]:
        raw = text.encode()
        if len(raw) > self._limits.message_bytes:
            raise SocketClosed(4413, f"Message too large: at most {self._limits.message_bytes} bytes")
        try:
            message = orjson.loads(raw)
        except orjson.JSONDecodeError:
            message = None
        if not isinstance(message, dict):
            raise SocketClosed(4400, "Message is not a JSON object")
        return message

    async def _handle(self, message: dict[str, Any]) -> None:
        payload = message.get("payload")
        match message:
            case {"type": "connection_init"} if _is_optional_object(payload):
                if self._initialised:
                    raise SocketClosed(4429, "Too many initialisation requests")
                self._initialised = True
                self._tasks.create_task(self._acknowledge(payload or {}))
            case {"type": "ping"} if _is_optional_object(payload):
                await self._send({"type": "pong"} | ({} if payload is None else {"payload": payload}))
            case {"type": "pong"} if _is_optional_object(payload):
                pass
            case {"type": "subscribe", "id": str(operation)} if _is_request(payload):
                self._subscribe(operation, payload)
            case {"type": "complete", "id": str(operation)}:
                if task := self._operations.pop(operation, None):
                    task.cancel()
            case {"type": str(kind)}:
                raise SocketClosed(4400, f"Invalid message of type {kind}")
            case _:
                raise SocketClosed(4400, "Message without a type")

    async def _await_acknowledgement(self) -> None:
        await asyncio.sleep(self._limits.acknowledgement_seconds)
        if self._subject is None:
            raise SocketClosed(4408, "Connection initialisation timeout")

    async def _acknowledge(self, params: Mapping[str, object]) -> None:
        try:
            self._subject = await self._executor.authenticate(self._websocket, params)
        except PermissionError:
            raise SocketClosed(4403, "Forbidden") from None
        except Exception:
            log.exception("socket_authentication_failed")
            raise SocketClosed(1013, "Try again later") from None
        await self._send({"type": "connection_ack"})
        self._tasks.create_task(self._keep_alive())
        self._tasks.create_task(self._watch(self._subject))
        if self._subject.expires_at is not None:
            self._tasks.create_task(self._expire(self._subject.expires_at))

    async def _keep_alive(self) -> None:
        while True:
            received = self._received
            # A task, since sending waits for as long as a client does not read.
            ping = self._tasks.create_task(self._send({"type": "ping"}))
            await asyncio.sleep(self._limits.keep_alive_seconds)
            if self._received == received or not ping.done():
                raise SocketClosed(4408, "Keep-alive timeout")

    async def _watch(self, subject: SubjectT) -> None:
        await self._executor.lost(subject)
        raise SocketClosed(4403, "Forbidden")

    async def _expire(self, expires_at: float) -> None:
        await asyncio.sleep(expires_at - time.time())
        raise SocketClosed(4403, "Access expired")

    def _subscribe(self, operation: str, request: Mapping[str, object]) -> None:
        if self._subject is None:
            raise SocketClosed(4401, "Unauthorized")
        if operation in self._operations:
            raise SocketClosed(4409, f"Subscriber for {operation} already exists")
        if len(self._operations) >= self._limits.operations:
            raise SocketClosed(4429, f"Too many operations: at most {self._limits.operations} at a time")
        run = self._run_operation(operation, self._subject, request)
        self._operations[operation] = self._tasks.create_task(run)

    async def _run_operation(self, operation: str, subject: SubjectT, request: Mapping[str, object]) -> None:
        ending: dict[str, object] = {"id": operation, "type": "complete"}
        try:
            results = self._executor.subscribe(subject, request)
            try:
                async for result in results:
                    if not self._is_listened_to(operation):
                        return
                    await self._send({"id": operation, "type": "next", "payload": dict(result)})
                    # Sending waits only for a slow client: a source that is ever ready would starve the rest.
                    await asyncio.sleep(0)
            finally:
                if isinstance(results, AsyncGenerator):
                    await results.aclose()
        except WebSocketDisconnect:
            raise
        except PermissionError:
            raise SocketClosed(4403, "Forbidden") from None
        except RequestRefused as refused:
            ending = {"id": operation, "type": "error", "payload": refused.errors}
        except Exception:
            log.exception("socket_operation_failed")
            ending = {"id": operation, "type": "error", "payload": [INTERNAL_ERROR]}
        if self._is_listened_to(operation):
            del self._operations[operation]
            await self._send(ending)

    def _is_listened_to(self, operation: str) -> bool:
        """Whether the running task is still what the client means by this id, which it may have used anew."""
        return self._operations.get(operation) is asyncio.current_task()

    async def _send(self, message: Mapping[str, object]) -> None:
        text = orjson.dumps(message).decode()
        try:
            await self._websocket.send_text(text)
        except RuntimeError:
            # How servers answer a message on a socket that has just been closed.
            raise WebSocketDisconnect(1006) from None


def _is_optional_object(value: object) -> bool:
    return value is None or isinstance(value, dict)


def _is_request(payload: object) -> TypeGuard[Mapping[str, object]]:
    """Whether the parts of a request have their types; a missing query may be named in `extensions`."""
    return (
        isinstance(payload, dict)
        and isinstance(payload.get("query"), str | None)
        and isinstance(payload.get("operationName"), str | None)
        and _is_optional_object(payload.get("variables"))
        and _is_optional_object(payload.get("extensions"))
    )
