"""GraphQL over HTTP, as its specification has it: GET and POST, two media types, persisted documents, uploads."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Awaitable, Callable, Hashable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from random import getrandbits
from typing import Any, TypeVar
from urllib.parse import parse_qs

import orjson
import redis.asyncio as redis
from graphql import OperationType
from prometheus_client import Histogram
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request as StarletteRequest
from starlette.types import Message, Receive, Scope, Send

from authz.principal import Principal, PrincipalKind
from planner.errors import GraphRefusal, GraphRefusals, bad_input
from planner.pool import Pool
from resolvers.context import Context
from server.authentication import Authentication, unauthenticated
from server.deadlines import Deadlines
from server.doors import Door
from server.engine import Engine, Request, refusals_of
from server.languages import language_of
from services import logs
from services.rates import Bucket
from services.runtime import Origin, Runtime

GRAPHQL_RESPONSE = "application/graphql-response+json"
JSON = "application/json"
STATUS = {
    "BAD_REQUEST": 400,
    "GRAPHQL_PARSE_FAILED": 400,
    "UNAUTHENTICATED": 401,
    "FORBIDDEN": 403,
    "NOT_FOUND": 404,
    "METHOD_NOT_ALLOWED": 405,
    "NOT_ACCEPTABLE": 406,
    "PAYLOAD_TOO_LARGE": 413,
    "UNSUPPORTED_MEDIA_TYPE": 415,
    "RATE_LIMITED": 429,
    "INTERNAL": 500,
    "TIMEOUT": 503,
}
UNPROCESSABLE = 422
"""Every other refusal: what was asked can be read, and cannot be run as it is."""
PARTIAL_SUCCESS = 294
"""Data and errors, as the specification has it; older clients, which read ``application/json``, are told 200."""
REMEMBERED_SECONDS = 24 * 3600
MAX_FILES = 4
MAX_BUCKETS = 100_000
_WEIGHT = re.compile(r";\s*q=([01](?:\.\d{0,3})?)", re.IGNORECASE)

K = TypeVar("K", bound=Hashable)

SECONDS = Histogram("trellis_request_seconds", "Time to answer a GraphQL request.", ["door", "status"])


@cache
def _seconds(door: str, status: int) -> Histogram:
    return SECONDS.labels(door, status)


class RateLimited(GraphRefusal):
    """The bucket is empty."""

    def __init__(self, bucket: Bucket) -> None:
        super().__init__("RATE_LIMITED", "RATE_LIMITED")
        self.bucket = bucket


class RateLimit:
    """A bucket for each caller, and one for each tenant that has a limit of its own, in this process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._callers: dict[tuple[str, str], Bucket] = {}
        self._tenants: dict[tuple[int | None, int], Bucket] = {}

    def stranger(self, door: Door, address: str | None) -> Bucket:
        """The bucket of those at an address who have not shown who they are; raises RateLimited where it is empty, so
        that nobody may try tokens and signatures as often as he likes."""
        limit = door.limits.requests_per_minute
        bucket = _bucket(self._callers, (door.name, f"address:{address}"), limit, self._clock())
        if bucket.left < 1:
            raise RateLimited(bucket)
        return bucket

    def take(self, door: Door, principal: Principal, address: str | None) -> Bucket:
        """Takes one request from the caller's bucket and its tenant's; gives the one in which less is left.

        Raises RateLimited, and takes nothing, where either is empty.
        """
        now = self._clock()
        own = _bucket(self._callers, (door.name, caller_of(principal, address)), door.limits.requests_per_minute, now)
        least = own
        limit = principal.tenant_requests_per_minute
        shared = None if limit is None else _bucket(self._tenants, (principal.tenant_id, limit), limit, now)
        if shared is not None and shared.left < own.left:
            least = shared
        if least.left < 1:
            raise RateLimited(least)
        own.left -= 1
        if shared is not None:
            shared.left -= 1
        return least


def _bucket(buckets: dict[K, Bucket], key: K, per_minute: int, now: float) -> Bucket:
    bucket = buckets.get(key)
    if bucket is None:
        if len(buckets) > MAX_BUCKETS:
            buckets.clear()
        bucket = buckets[key] = Bucket.full(per_minute, now)
    else:
        bucket.fill(now)
    return bucket


@dataclass
class _Caller:
    """What an answer must know of who asked: the language, what may still be asked (None for a visitor), and whether
    somebody else is really asking."""

    language: str
    budget: Bucket | None = None
    impersonated: bool = False


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
        self.deadlines = Deadlines()

    async def answer(self, door_name: str, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        headers: dict[bytes, bytes] = dict(scope["headers"])
        request_id = _request_id(headers)
        door = self.engine.doors.get(door_name)
        media = _preferred(headers.get(b"accept", b""))
        status = 200
        caller = _Caller(language_of(headers))
        if door is None:
            missing = GraphRefusal("NOT_FOUND", "NO_SUCH_DOOR")
            status, body = 404, _error_body(refusals_of(missing, request_id, caller.language))
        else:
            try:
                if media is None:
                    raise GraphRefusal("NOT_ACCEPTABLE", "NOT_ACCEPTABLE", newer=GRAPHQL_RESPONSE, older=JSON)
                answer = await self._answer(door, scope, headers, receive, request_id, caller)
                body = orjson.dumps(answer)
                if "errors" in answer and media == GRAPHQL_RESPONSE:
                    status = PARTIAL_SUCCESS
            except Exception as error:  # noqa: BLE001 - the outermost place: whatever it is, it is answered
                if isinstance(error, RateLimited):
                    caller.budget = error.bucket
                errors = refusals_of(error, request_id, caller.language)
                status = STATUS.get(errors[0]["extensions"]["code"], UNPROCESSABLE)
                body = _error_body(errors)
            finally:
                if caller.impersonated:
                    logs.forget_impersonator()
            _seconds(door.name, status).observe(time.perf_counter() - started)
        # a status that is no success may be some proxy's, unless the media type says whose answer it is
        kind = JSON if media == JSON and status == 200 else GRAPHQL_RESPONSE
        sent = [
            (b"content-type", f"{kind}; charset=utf-8".encode()),
            (b"content-length", b"%d" % len(body)),
            (b"x-request-id", request_id.encode()),
        ]
        if status == 405:
            sent.append((b"allow", b"GET, POST"))
        if status == 401:
            sent.append((b"www-authenticate", b"Bearer"))
        if (left := caller.budget) is not None:
            if status == 429:
                sent.append((b"retry-after", b"%d" % left.next_in))
            sent += (
                (b"ratelimit-limit", b"%d" % left.limit),
                (b"ratelimit-remaining", b"%d" % left.remaining),
                (b"ratelimit-reset", b"%d" % left.full_in),
            )
        await send({"type": "http.response.start", "status": status, "headers": sent})
        await send({"type": "http.response.body", "body": body})

    # -- one request --------------------------------------------------------------------------------------

    async def _answer(
        self,
        door: Door,
        scope: Scope,
        headers: Mapping[bytes, bytes],
        receive: Receive,
        request_id: str,
        caller: _Caller,
    ) -> dict[str, Any]:
        """The answer to one request. What became known of the caller is left in ``caller``, whatever happens."""
        method = scope["method"]
        form: FormData | None = None
        principal: Principal | None = None
        body = b""
        content_type = headers.get(b"content-type", b"").decode("latin-1").partition(";")[0].strip().lower()
        if method == "GET":
            payload = _from_query(scope["query_string"])
        elif method == "POST":
            if content_type == JSON:
                body = await _read(receive, headers, door.limits.body_bytes)
                payload = _object(body, "body")
            elif content_type == "multipart/form-data":
                principal = await self._uploader(door, scope, headers)
                payload, form = await self._multipart(door, scope, receive, headers)
            else:
                raise GraphRefusal("UNSUPPORTED_MEDIA_TYPE", "UNSUPPORTED_MEDIA_TYPE", kind=JSON)
        else:
            raise GraphRefusal("METHOD_NOT_ALLOWED", "METHOD_NOT_ALLOWED")
        try:
            if principal is None:
                principal = await self._principal(door, scope, headers, body)
            caller.language = principal.language
            if principal.impersonation is not None:
                caller.impersonated = True
                logs.name_impersonator(principal)
            origin = _origin(scope, headers, request_id)
            known = principal.kind is not PrincipalKind.ANONYMOUS
            bucket = self.rates.take(door, principal, origin.ip)
            if known:
                caller.budget = bucket
            request = await self.request(door, payload, method=method, remember=known)
            context = self.context(door, principal, origin, bucket if known else None)
            return await self.deadlines.within(door.limits.seconds, self.engine.answer(request, context))
        except GraphRefusals as error:
            if _only_forbidden(error) and not headers.get(b"authorization"):
                raise unauthenticated() from None
            raise
        finally:
            if form is not None:
                await form.close()

    async def _uploader(self, door: Door, scope: Scope, headers: Mapping[bytes, bytes]) -> Principal:
        """Who sends files is asked before they are taken in: a visitor may fill no disk."""
        principal = await self._principal(door, scope, headers, None)
        if principal.kind is PrincipalKind.ANONYMOUS:
            raise unauthenticated()
        return principal

    async def _principal(
        self, door: Door, scope: Scope, headers: Mapping[bytes, bytes], body: bytes | None
    ) -> Principal:
        given = headers.get(b"authorization")
        authorization = None if given is None else given.decode("latin-1")
        language = language_of(headers)
        if authorization is not None:
            known = self.authentication.remembered(authorization, door.name, language)
            if known is not None:
                return known
        query = scope["query_string"].decode("latin-1")
        path = f"{scope['path']}?{query}" if query else scope["path"]
        address = _address(scope)
        stranger = self.rates.stranger(door, address)
        try:
            return await self.authentication.principal(
                authorization, door, language, method=scope["method"], path=path, body=body, address=address
            )
        except GraphRefusal:
            stranger.left -= 1
            raise

    def context(self, door: Door, principal: Principal, origin: Origin, budget: Bucket | None = None) -> Context:
        return Context(self.runtime, principal, door.rules, origin, self.reader, self.nudge, budget=budget)

    async def request(
        self, door: Door, payload: Mapping[str, Any], *, method: str = "POST", remember: bool = False
    ) -> Request:
        """The operation that a payload asks for; persisted documents by their sha256.

        ``remember``: whether a document that comes with its sha256 is kept for the next time.
        """
        variables = payload.get("variables")
        if variables is not None and not isinstance(variables, dict):
            raise bad_input("MUST_BE_OBJECT", name="variables")
        name = payload.get("operationName")
        if name is not None and not isinstance(name, str):
            raise bad_input("MUST_BE_STRING", name="operationName")
        text = await self._text(door, payload, remember=remember)
        document = self.engine.documents[door.name].get(text)
        operation = document.operation(name or None)
        if operation.kind is OperationType.SUBSCRIPTION and method in ("GET", "POST"):
            raise bad_input("SUBSCRIPTION_NEEDS_SOCKET")
        if method == "GET" and operation.kind is not OperationType.QUERY:
            raise GraphRefusal("METHOD_NOT_ALLOWED", "MUTATION_NEEDS_POST")
        return Request(document, operation, variables or {})

    async def _text(self, door: Door, payload: Mapping[str, Any], *, remember: bool) -> str:
        text = payload.get("query")
        digest = payload.get("id") or payload.get("documentId")
        extensions = payload.get("extensions")
        if extensions is not None and not isinstance(extensions, dict):
            raise bad_input("MUST_BE_OBJECT", name="extensions")
        persisted = extensions.get("persistedQuery") if extensions else None
        automatic = False
        if digest is None and isinstance(persisted, dict):
            digest, automatic = persisted.get("sha256Hash"), True
        if text is not None and not isinstance(text, str):
            raise bad_input("MUST_BE_STRING", name="query")
        if digest is None:
            if not text:
                raise bad_input("QUERY_MISSING")
            if not door.ad_hoc and hashlib.sha256(text.encode()).hexdigest() not in door.operations:
                raise GraphRefusal("FORBIDDEN", "SHIPPED_OPERATIONS_ONLY")
            return text
        digest = digest.removeprefix("sha256:").lower() if isinstance(digest, str) else ""
        if len(digest) != 64:
            raise bad_input("NOT_A_SHA256")
        shipped = door.operations.get(digest)
        if shipped is not None:
            return shipped
        key = f"trellis:document:{door.name}:{digest}"
        if text:
            if not (automatic and door.ad_hoc):
                raise GraphRefusal("FORBIDDEN", "NO_DOCUMENTS_KEPT")
            if hashlib.sha256(text.encode()).hexdigest() != digest:
                raise bad_input("SHA256_DIFFERS")
            self.engine.documents[door.name].get(text).operation(payload.get("operationName") or None)
            if remember:
                await self.runtime.redis.set(key, text, ex=REMEMBERED_SECONDS)
            return text
        found = await self._remembered(key) if door.ad_hoc else None
        if found is None:
            raise GraphRefusal("PERSISTED_QUERY_NOT_FOUND", "PersistedQueryNotFound")
        return found

    async def _remembered(self, key: str) -> str | None:
        try:
            found: bytes | None = await self.runtime.redis.get(key)  # type: ignore[assignment]
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
            raise bad_request(error.message) from None
        try:
            return _placed(form), form
        except BaseException:
            await form.close()
            raise


def _placed(form: FormData) -> Mapping[str, Any]:
    operations, mapping = form.get("operations"), form.get("map")
    if not isinstance(operations, str) or not isinstance(mapping, str):
        raise bad_input("MULTIPART_PARTS")
    payload = _object(operations.encode(), "operations")
    places = _object(mapping.encode(), "map")
    for name, paths in places.items():
        file = form.get(name)
        if not isinstance(file, UploadFile) or not isinstance(paths, list):
            raise bad_input("MULTIPART_FILE_MISSING", name=repr(name[:40]))
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
        raise bad_input("MULTIPART_PLACE", place=repr(".".join(path)[:80])) from None


def bad_request(text: str, **params: Any) -> GraphRefusal:
    """What was sent cannot even be read."""
    return GraphRefusal("BAD_REQUEST", text, **params)


def _object(text: bytes, name: str) -> dict[str, Any]:
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise bad_request("NOT_JSON", name=name) from None
    if isinstance(found, list):
        raise bad_input("NO_BATCHES")
    if not isinstance(found, dict):
        raise bad_input("MUST_BE_JSON_OBJECT", name=name)
    return found


def _from_query(query: bytes) -> Mapping[str, Any]:
    try:
        given = {k: v[-1] for k, v in parse_qs(query.decode(), max_num_fields=20).items()}
    except ValueError:
        raise bad_request("QUERY_STRING_MALFORMED") from None
    payload: dict[str, Any] = dict(given)
    for name in ("variables", "extensions"):
        if name in given:
            payload[name] = None if given[name] == "null" else _object(given[name].encode(), name)
    return payload


async def _read(receive: Receive, headers: Mapping[bytes, bytes], limit: int) -> bytes:
    _check_length(headers, limit)
    message = await receive()
    body: bytes = message.get("body", b"")
    if len(body) > limit:
        raise _too_large(limit)
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
    return GraphRefusal("PAYLOAD_TOO_LARGE", "BODY_TOO_LARGE", extensions={"limit": limit}, limit=limit)


def _request_id(headers: Mapping[bytes, bytes]) -> str:
    given = headers.get(b"x-request-id", b"").decode("latin-1")
    if 8 <= len(given) <= 64 and given.replace("-", "").isalnum():
        return given
    return f"{getrandbits(64):016x}"


def _origin(scope: Scope, headers: Mapping[bytes, bytes], request_id: str) -> Origin:
    agent = headers.get(b"user-agent", b"").decode("latin-1")[:400]
    return Origin(ip=_address(scope), user_agent=agent, request_id=request_id)


def _address(scope: Scope) -> str | None:
    client = scope.get("client")
    return client[0] if client else None


def caller_of(principal: Principal, address: str | None) -> str:
    """Whom a rate limit counts: an account, a key, a person; visitors by their address."""
    return f"address:{address}" if principal.kind is PrincipalKind.ANONYMOUS else principal.caller


def _only_forbidden(error: GraphRefusals) -> bool:
    return bool(error.refusals) and all(r.code == "FORBIDDEN" for r in error.refusals)


@lru_cache(maxsize=256)
def _preferred(accept: bytes) -> str | None:
    """The media type that an Accept header prefers; the newer where it says nothing, None where it takes neither.

    Who names ``application/json`` and the newer only by a wildcard does not know the newer.
    """
    weights = {}
    for part in accept.decode("latin-1").lower().split(","):
        weight = _WEIGHT.search(part)
        weights[part.partition(";")[0].strip()] = float(weight[1]) if weight else 1.0
    if not any(weights):
        return GRAPHQL_RESPONSE
    wildcard = weights.get("application/*", weights.get("*/*", 0.0))
    newer, older = ((weights.get(kind, wildcard), kind in weights) for kind in (GRAPHQL_RESPONSE, JSON))
    if newer[0] == older[0] == 0:
        return None
    return GRAPHQL_RESPONSE if newer >= older else JSON


def _error_body(errors: list[dict[str, Any]]) -> bytes:
    return orjson.dumps({"errors": errors})
