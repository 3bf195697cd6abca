"""GraphQL over HTTP, as its specification has it: GET and POST, two media types, persisted documents, uploads."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

import orjson
import redis.asyncio as redis
from graphql import OperationType
from prometheus_client import Counter, Histogram
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request as StarletteRequest
from starlette.types import Message, Receive, Scope, Send

from authz.principal import Principal, PrincipalKind
from planner.errors import GraphRefusal, GraphRefusals, bad_input
from planner.pool import Pool
from resolvers.context import Context
from server.authentication import Authentication, unauthenticated
from server.doors import Door
from server.engine import Engine, Request, cancelled_safely, refusals_of
from services.runtime import Origin, Runtime

GRAPHQL_RESPONSE = "application/graphql-response+json"
JSON = "application/json"
ACCEPTED = (GRAPHQL_RESPONSE, JSON, "application/*", "*/*")
STATUS = {
    "UNAUTHENTICATED": 401,
    "FORBIDDEN": 403,
    "RATE_LIMITED": 429,
    "PAYLOAD_TOO_LARGE": 413,
    "METHOD_NOT_ALLOWED": 405,
    "UNSUPPORTED_MEDIA_TYPE": 415,
    "NOT_ACCEPTABLE": 406,
    "NOT_FOUND": 404,
    "TIMEOUT": 503,
    "INTERNAL": 500,
}
ALWAYS_BY_STATUS = frozenset({401, 405, 406, 413, 415, 429})
"""Said by the status even to a client that reads only ``application/json``: the graph was not asked at all."""
REMEMBERED_SECONDS = 24 * 3600
MAX_FILES = 4

REQUESTS = Counter("trellis_requests_total", "GraphQL requests.", ["door", "status"])
SECONDS = Histogram("trellis_request_seconds", "Time to answer a GraphQL request.", ["door"])


@dataclass
class Bucket:
    left: float
    at: float


class RateLimit:
    """A token bucket for each caller, in this process: so many requests a minute, a tenth of them at once."""

    def __init__(self) -> None:
        self._buckets: dict[tuple[str, str], Bucket] = {}

    def take(self, door: Door, caller: str) -> None:
        rate = door.limits.requests_per_minute / 60
        room = max(10.0, rate * 6)
        now = time.monotonic()
        bucket = self._buckets.get((door.name, caller))
        if bucket is None:
            if len(self._buckets) > 100_000:
                self._buckets.clear()
            bucket = self._buckets[door.name, caller] = Bucket(room, now)
        bucket.left = min(room, bucket.left + (now - bucket.at) * rate)
        bucket.at = now
        if bucket.left < 1:
            raise GraphRefusal("RATE_LIMITED", "Too many requests; wait a moment.")
        bucket.left -= 1


class GraphQLEndpoint:
    """``/{door}/graphql``: an ASGI application, since each layer in between would cost more than the work."""

    def __init__(
        self,
        engine: Engine,
        runtime: Runtime,
        authentication: Authentication,
        reader: Pool,
        nudge: Callable[[], Awaitable[None]],
    ) -> None:
        self.engine = engine
        self.runtime = runtime
        self.authentication = authentication
        self.reader = reader
        self.nudge = nudge
        self.rates = RateLimit()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        headers: dict[bytes, bytes] = dict(scope["headers"])
        request_id = _request_id(headers)
        door = self.engine.doors.get(scope["path_params"]["door"])
        accepts = headers.get(b"accept", b"").decode("latin-1")
        media = GRAPHQL_RESPONSE if GRAPHQL_RESPONSE in accepts else JSON
        status = 200
        if door is None:
            status, body = 404, _error_body([GraphRefusal("NOT_FOUND", "There is no such door.").formatted()])
        else:
            try:
                if accepts and not any(kind in accepts for kind in ACCEPTED):
                    raise GraphRefusal("NOT_ACCEPTABLE", f"Answers come as {GRAPHQL_RESPONSE} or {JSON}.")
                answer = await self._answer(door, scope, headers, receive, request_id)
                body = orjson.dumps(answer)
            except Exception as error:  # noqa: BLE001 - the outermost place: whatever it is, it is answered
                errors = refusals_of(error, request_id)
                status = _status(errors, media)
                body = _error_body(errors)
            REQUESTS.labels(door.name, status).inc()
            SECONDS.labels(door.name).observe(time.perf_counter() - started)
        sent = [
            (b"content-type", f"{media}; charset=utf-8".encode()),
            (b"content-length", b"%d" % len(body)),
            (b"x-request-id", request_id.encode()),
        ]
        if status == 405:
            sent.append((b"allow", b"GET, POST"))
        if status == 401:
            sent.append((b"www-authenticate", b"Bearer"))
        await send({"type": "http.response.start", "status": status, "headers": sent})
        await send({"type": "http.response.body", "body": body})

    # -- one request --------------------------------------------------------------------------------------

    async def _answer(
        self, door: Door, scope: Scope, headers: Mapping[bytes, bytes], receive: Receive, request_id: str
    ) -> dict[str, Any]:
        method = scope["method"]
        form: FormData | None = None
        body = b""
        content_type = headers.get(b"content-type", b"").decode("latin-1").partition(";")[0].strip().lower()
        if method == "GET":
            payload = _from_query(scope["query_string"])
        elif method == "POST":
            if content_type in (JSON, GRAPHQL_RESPONSE):
                body = await _read(receive, headers, door.limits.body_bytes)
                payload = _loads(body)
            elif content_type == "multipart/form-data":
                payload, form = await self._multipart(door, scope, receive, headers)
            else:
                raise GraphRefusal("UNSUPPORTED_MEDIA_TYPE", f"Send {JSON}, or multipart/form-data for uploads.")
        else:
            raise GraphRefusal("METHOD_NOT_ALLOWED", "Use GET or POST.")
        try:
            principal = await self._principal(door, scope, headers, body)
            self.rates.take(door, _caller(principal, scope))
            request = await self.request(door, payload, method=method)
            if (
                principal.kind is PrincipalKind.ANONYMOUS
                and request.operation.kind is OperationType.QUERY
                and not principal.grants.reach
            ):
                raise unauthenticated()
            context = self.context(door, principal, _origin(scope, headers, request_id))
            return await cancelled_safely(self.engine.answer(request, context), door.limits.seconds)
        except GraphRefusals as error:
            if _only_forbidden(error) and not headers.get(b"authorization"):
                raise unauthenticated() from None
            raise
        finally:
            if form is not None:
                await form.close()

    async def _principal(self, door: Door, scope: Scope, headers: Mapping[bytes, bytes], body: bytes) -> Principal:
        given = headers.get(b"authorization")
        authorization = None if given is None else given.decode("latin-1")
        language = _language(headers)
        if authorization is not None:
            known = self.authentication.remembered(authorization, door.name, language)
            if known is not None:
                return known
        return await self.authentication.principal(
            authorization, door, language, method=scope["method"], path=scope["path"], body=body
        )

    def context(self, door: Door, principal: Principal, origin: Origin) -> Context:
        return Context(self.runtime, principal, door.rules, origin, self.reader, self.nudge)

    async def request(self, door: Door, payload: Mapping[str, Any], *, method: str = "POST") -> Request:
        """The operation that a payload asks for; persisted documents by their sha256."""
        variables = payload.get("variables")
        if variables is not None and not isinstance(variables, dict):
            raise bad_input("variables must be an object.")
        name = payload.get("operationName")
        if name is not None and not isinstance(name, str):
            raise bad_input("operationName must be a string.")
        text = await self._text(door, payload)
        document = self.engine.documents[door.name].get(text)
        operation = document.operation(name or None)
        if operation.kind is OperationType.SUBSCRIPTION and method in ("GET", "POST"):
            raise bad_input("Subscriptions go over a WebSocket.")
        if method == "GET" and operation.kind is not OperationType.QUERY:
            raise GraphRefusal("METHOD_NOT_ALLOWED", "Mutations are sent with POST.")
        return Request(document, operation, variables or {})

    async def _text(self, door: Door, payload: Mapping[str, Any]) -> str:
        text = payload.get("query")
        digest = payload.get("id") or payload.get("documentId")
        extensions = payload.get("extensions")
        persisted = extensions.get("persistedQuery") if isinstance(extensions, dict) else None
        automatic = False
        if digest is None and isinstance(persisted, dict):
            digest, automatic = persisted.get("sha256Hash"), True
        if text is not None and not isinstance(text, str):
            raise bad_input("query must be a string.")
        if digest is None:
            if not text:
                raise bad_input("query is missing.")
            if not door.ad_hoc and hashlib.sha256(text.encode()).hexdigest() not in door.operations:
                raise GraphRefusal("FORBIDDEN", "This door runs its own operations only; send their sha256 as id.")
            return text
        if not isinstance(digest, str) or len(digest) != 64:
            raise bad_input("A persisted document is named by its sha256, in hexadecimal.")
        digest = digest.lower()
        shipped = door.operations.get(digest)
        if shipped is not None:
            return shipped
        key = f"trellis:document:{door.name}:{digest}"
        if text:
            if not (automatic and door.ad_hoc):
                raise GraphRefusal("FORBIDDEN", "This door remembers no documents.")
            if hashlib.sha256(text.encode()).hexdigest() != digest:
                raise bad_input("The sha256 is not that of the query.")
            self.engine.documents[door.name].get(text).operation(payload.get("operationName") or None)
            await self.runtime.redis.set(key, text, ex=REMEMBERED_SECONDS)
            return text
        found = await self._remembered(key) if door.ad_hoc else None
        if found is None:
            raise GraphRefusal("PERSISTED_QUERY_NOT_FOUND", "PersistedQueryNotFound")
        return found

    async def _remembered(self, key: str) -> str | None:
        try:
            found = await self.runtime.redis.get(key)
        except redis.RedisError:
            return None
        return None if found is None else found.decode()

    async def _multipart(
        self, door: Door, scope: Scope, receive: Receive, headers: Mapping[bytes, bytes]
    ) -> tuple[Mapping[str, Any], FormData]:
        """The GraphQL multipart request: ``operations``, ``map``, and the files that the map puts in place."""
        _check_length(headers, door.limits.upload_bytes)
        request = StarletteRequest(scope, _bounded(receive, door.limits.upload_bytes))
        parser = MultiPartParser(
            request.headers, request.stream(), max_files=MAX_FILES, max_fields=10, max_part_size=door.limits.body_bytes
        )
        try:
            form = await parser.parse()
        except MultiPartException as error:
            raise bad_input(error.message) from None
        try:
            return _placed(form), form
        except BaseException:
            await form.close()
            raise


def _placed(form: FormData) -> Mapping[str, Any]:
    operations, mapping = form.get("operations"), form.get("map")
    if not isinstance(operations, str) or not isinstance(mapping, str):
        raise bad_input("A multipart request has the parts operations and map before its files.")
    payload = _loads(operations.encode())
    places = _loads(mapping.encode())
    for name, paths in places.items():
        file = form.get(name)
        if not isinstance(file, UploadFile) or not isinstance(paths, list):
            raise bad_input(f"map names the file {name[:40]!r}, which was not sent.")
        for path in paths:
            _place(payload, str(path).split("."), file)
    return payload


def _place(payload: Any, path: list[str], file: UploadFile) -> None:
    try:
        if path[0] != "variables":
            raise KeyError(path[0])
        for step in path[:-1]:
            payload = payload[int(step)] if isinstance(payload, list) else payload[step]
        last: Any = int(path[-1]) if isinstance(payload, list) else path[-1]
        if payload[last] is not None:
            raise KeyError(last)
        payload[last] = file
    except (KeyError, IndexError, ValueError, TypeError):
        raise bad_input(f"map points at {'.'.join(path)[:80]!r}, which is not a null in operations.") from None


def _loads(body: bytes) -> Any:
    try:
        payload = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise bad_input("The body is not JSON.") from None
    if isinstance(payload, list):
        raise bad_input("Send one operation at a time, not a batch.")
    if not isinstance(payload, dict):
        raise bad_input("The body must be a JSON object.")
    return payload


def _from_query(query: bytes) -> Mapping[str, Any]:
    try:
        given = {k: v[-1] for k, v in parse_qs(query.decode(), max_num_fields=20).items()}
    except ValueError:
        raise bad_input("The query string is malformed.") from None
    payload: dict[str, Any] = dict(given)
    for name in ("variables", "extensions"):
        if name in given:
            payload[name] = _loads(given[name].encode())
    return payload


async def _read(receive: Receive, headers: Mapping[bytes, bytes], limit: int) -> bytes:
    _check_length(headers, limit)
    message = await receive()
    body: bytes = message.get("body", b"")
    if not message.get("more_body"):
        return body
    parts, size = [body], len(body)
    while message.get("more_body"):
        message = await receive()
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > limit:
            raise _too_large(limit)
    return b"".join(parts)


def _bounded(receive: Receive, limit: int) -> Receive:
    size = 0

    async def bounded() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > limit:
            raise _too_large(limit)
        return message

    return bounded


def _check_length(headers: Mapping[bytes, bytes], limit: int) -> None:
    length = headers.get(b"content-length", b"0")
    if length.isdigit() and int(length) > limit:
        raise _too_large(limit)


def _too_large(limit: int) -> GraphRefusal:
    return GraphRefusal("PAYLOAD_TOO_LARGE", f"The body may have {limit} bytes.", limit=limit)


def _request_id(headers: Mapping[bytes, bytes]) -> str:
    given = headers.get(b"x-request-id", b"").decode("latin-1")
    return given if 8 <= len(given) <= 64 and given.replace("-", "").isalnum() else secrets.token_hex(8)


def _language(headers: Mapping[bytes, bytes]) -> str:
    given = headers.get(b"accept-language", b"zh-CN").decode("latin-1").partition(",")[0].partition(";")[0].strip()
    return "zh-CN" if given.lower().startswith("zh") or given in ("", "*") else "en"


def _origin(scope: Scope, headers: Mapping[bytes, bytes], request_id: str) -> Origin:
    client = scope.get("client")
    agent = headers.get(b"user-agent", b"").decode("latin-1")[:400]
    return Origin(ip=client[0] if client else None, user_agent=agent, request_id=request_id)


def _caller(principal: Principal, scope: Scope) -> str:
    if principal.kind is PrincipalKind.ANONYMOUS:
        client = scope.get("client")
        return f"address:{client[0] if client else ''}"
    return principal.caller


def _only_forbidden(error: GraphRefusals) -> bool:
    return bool(error.refusals) and all(r.code == "FORBIDDEN" for r in error.refusals)


def _status(errors: list[dict[str, Any]], media: str) -> int:
    status = STATUS.get(errors[0]["extensions"]["code"], 400)
    if media == JSON and status not in ALWAYS_BY_STATUS and errors[0]["extensions"]["code"] != "BAD_REQUEST":
        return 200 if errors[0]["extensions"]["code"] in WELL_FORMED else status
    return status


WELL_FORMED = frozenset(
    {
        "GRAPHQL_PARSE_FAILED",
        "GRAPHQL_VALIDATION_FAILED",
        "FORBIDDEN",
        "LIMIT_EXCEEDED",
        "BAD_USER_INPUT",
        "OPERATION_RESOLUTION_FAILURE",
        "PERSISTED_QUERY_NOT_FOUND",
    }
)
"""What a client that reads only ``application/json`` is told with status 200, as older servers did."""


def _error_body(errors: list[dict[str, Any]]) -> bytes:
    return orjson.dumps({"errors": errors})
