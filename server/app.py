"""The ASGI application: the graph at its doors, GraphiQL, files, health and metrics."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import socket
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from urllib.parse import quote

import redis.asyncio as redis
import structlog
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from sqlalchemy import select, text
from sqlalchemy.exc import SQLAlchemyError
from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

import resolvers
import schema
from authz.access import IMPERSONATE_TO_WRITE, Access
from authz.coordinates import Act, Catalog, Coordinate
from authz.principal import Principal, PrincipalKind, system
from authz.session import Database
from models.system import StoredFile
from planner.assemble import Graph, assemble
from planner.errors import GraphRefusal, GraphRefusals
from planner.ids import decode_id
from planner.introspection import ROOTS
from planner.mapping import camel, registry
from planner.pool import Pool
from planner.tables import Tables
from server import graphiql
from server.authentication import Authentication
from server.doors import Door, load_doors
from server.engine import Engine, refusals_of
from server.http import GraphQLEndpoint
from server.languages import language_of
from server.settings import Settings
from server.websocket import GraphQLTransportWS, RequestRefused
from services import logs, parameters, retention
from services.files import open_store
from services.files.judging import KNOWN_TYPES
from services.kept import Kept
from services.keys import Keys
from services.payments import notices
from services.runtime import Origin, Runtime

POLICIES = Path(__file__).resolve().parent.parent / "authz" / "policies"
GRANTABLE = {
    "PLATFORM": frozenset(
        {
            "platform_admin",
            "platform_finance",
            "platform_operations",
            "platform_sales",
            "bank_coupon",
            "bank_deposit",
            "bank_merchant",
            "bank_contract",
        }
    ),
    "ENTERPRISE": frozenset({"enterprise_admin", "partner", "partner_buyer"}),
    "AGENT": frozenset({"agent_admin", "partner", "partner_buyer"}),
    "MERCHANT_OPERATOR": frozenset({"merchant_operator"}),
    "MERCHANT": frozenset({"merchant_admin"}),
}
"""Which built-in roles the staff and keys of a kind of tenant may be given."""
DOWNLOAD = {
    "x-content-type-options": "nosniff",
    "content-security-policy": "sandbox; default-src 'none'",
    "cache-control": "private, no-store",
}
"""What stands on every file that leaves: whatever is in it, a browser runs nothing of it."""

READY_SECONDS = 3.0
"""A process whose databases do not answer within this is not ready."""
SPREAD_SECONDS = 0.3
"""Over so long the sockets of a process ask whether they still may, when something about access has changed."""

log = structlog.get_logger()
assert resolvers
assert schema


@cache
def the_graph() -> Graph:
    """The schema with everything that answers it; made once a process."""
    return assemble(registry)


@cache
def the_catalog() -> Catalog:
    """What policies may speak of: fields of entities, roots, the masks that can be lifted, and the special inputs.

    Payloads, connections and other plain values are reached through a granted root only and are not listed.
    """
    graph = the_graph()
    everything = Catalog.from_schema(graph.schema, graph.confidential)
    kept = [c for c in everything if c.type in registry.entities or c.type in ROOTS]
    masks = [
        Coordinate(entity.name, field.unmasked, Act.READ, confidential=True)
        for entity in registry.entities.values()
        for field in entity.fields.values()
        if field.spec.mask is not None
    ]
    type_name, field, act = IMPERSONATE_TO_WRITE
    return Catalog([*kept, *masks, Coordinate(type_name, field, act, confidential=True)])


def _row_types() -> dict[str, type]:
    """The model behind each type of the graph that has rows, and behind each mutation that says on which it acts."""
    acting = {f"Mutation.{camel(name)}": root.on for name, root in registry.mutations.items() if root.on is not None}
    return {
        **{entity.name: entity.model for entity in registry.entities.values()},
        **{name: registry.entities[on.__name__].model for name, on in acting.items()},
    }


class _Sockets:
    """The graph behind a WebSocket."""

    def __init__(self, endpoint: GraphQLEndpoint) -> None:
        self.endpoint = endpoint

    async def authenticate(self, connection: WebSocket, params: Mapping[str, object]) -> _Subject:
        door = self.endpoint.engine.doors.get(connection.path_params["door"])
        if door is None:
            raise PermissionError("no such door")
        origin = connection.headers.get("origin")
        if origin is not None and door.origins and origin not in door.origins and not _same_host(connection, origin):
            raise PermissionError("this origin may not come in here")
        authorization = params.get("authorization") or params.get("Authorization")
        given = authorization if isinstance(authorization, str) else connection.headers.get("authorization")
        headers = {k.lower().encode(): v.encode() for k, v in connection.headers.items()}
        subject = _Subject(self.endpoint, door, given, language_of(headers), _client(connection))
        await subject.refresh()
        return subject

    async def lost(self, subject: _Subject) -> None:
        while True:
            await self.endpoint.runtime.access.moved(subject.generation)
            # not all sockets of a process at once
            await asyncio.sleep(random.uniform(0, SPREAD_SECONDS))  # noqa: S311 - nothing secret
            try:
                await subject.refresh()
            except PermissionError:
                return
            except (SQLAlchemyError, redis.RedisError, OSError) as error:
                log.warning("whether a socket may stay could not be asked; trying again", error=str(error))

    async def subscribe(self, subject: _Subject, request: Mapping[str, object]) -> AsyncIterator[Mapping[str, object]]:
        engine = self.endpoint.engine
        try:
            principal = await subject.refresh()
            logs.name_impersonator(principal)
            bucket = self.endpoint.rates.take(subject.door, principal, subject.ip)
            asked = await self.endpoint.request(subject.door, request, method="WEBSOCKET")
            budget = None if principal.kind is PrincipalKind.ANONYMOUS else bucket
            context = self.endpoint.context(subject.door, principal, Origin(ip=subject.ip, request_id="socket"), budget)
            if asked.operation.kind.value == "subscription":
                stream = engine.subscribe(asked, context, subject.refresh)
                try:
                    async for answer in stream:
                        yield answer
                finally:
                    await stream.aclose()  # type: ignore[attr-defined]
            else:
                yield await self.endpoint.deadlines.within(subject.door.limits.seconds, engine.answer(asked, context))
        except (GraphRefusal, GraphRefusals, TimeoutError) as error:
            raise RequestRefused(refusals_of(error, "socket", subject.language)) from None


class _Subject:
    """Who speaks over a socket; asked again at every event whether it still may."""

    def __init__(self, endpoint: GraphQLEndpoint, door: Door, authorization: str | None, language: str, ip: str | None):
        self.endpoint = endpoint
        self.door = door
        self.authorization = authorization
        self.language = language
        self.ip = ip
        self.expires_at: float | None = None
        self.generation = -1
        """As of which change of access it was found to be allowed."""

    async def refresh(self) -> Principal:
        generation = self.endpoint.runtime.access.generation
        try:
            principal = await self.endpoint.authentication.principal(
                self.authorization, self.door, self.language, method="GET", path="", body=b"", address=self.ip
            )
        except GraphRefusal as refusal:
            raise PermissionError(refusal.text) from None
        self.expires_at, self.language = principal.expires_at, principal.language
        self.generation = generation
        return principal


def _same_host(connection: WebSocket, origin: str) -> bool:
    return origin.partition("//")[2] == connection.headers.get("host")


def _client(connection: WebSocket) -> str | None:
    return connection.client.host if connection.client else None


class Application:
    """Everything that one API process holds."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.doors = load_doors()
        self.engine = Engine(the_graph(), self.doors)
        # a pooled connection that died with a restart of the server must not fail the request that draws it
        self.redis: redis.Redis = redis.Redis.from_url(
            settings.redis_url,
            retry=Retry(ExponentialBackoff(cap=0.2, base=0.02), retries=3),
            # a peer that vanished without a word is noticed within five seconds, also by who only listens
            socket_keepalive=True,
            socket_keepalive_options={socket.TCP_KEEPIDLE: 2, socket.TCP_KEEPINTVL: 1, socket.TCP_KEEPCNT: 3},
        )
        self.database = Database(settings.database_url)
        self.reader = Pool(settings.database_url, settings.pool_size)
        keys = Keys(settings.secret_key.get_secret_value())
        self.runtime = Runtime(
            database=self.database,
            redis=self.redis,
            access=Access(self.database, self.redis, POLICIES, the_catalog()),
            keys=keys,
            files=open_store(settings.state_dir / "files", keys, settings.files),
            doors={name: door.rules for name, door in self.doors.items()},
            kept=Kept(self.redis),
            tables=Tables(self.engine.graph, {name: door.accepts for name, door in self.doors.items()}),
            grantable=GRANTABLE,
            row_types=_row_types(),
            webhooks_inside=settings.webhooks_inside,
            public_url=settings.public_url,
            registration_without_code=settings.registration_without_code,
        )
        self.endpoint = GraphQLEndpoint(
            self.engine, self.runtime, Authentication(self.runtime), self.reader, self.nudge
        )

    async def nudge(self) -> None:
        """Wakes the relay, so that a task begins at once; if that fails, the scheduler wakes it a second later."""
        from tasks.outbox import relay

        with contextlib.suppress(Exception):
            await asyncio.to_thread(relay.delay)

    async def start(self) -> None:
        await self.reader.start()
        await self.runtime.access.start()
        await self.runtime.kept.start()
        await parameters.install(self.database)
        await retention.install(self.database)
        # uploads that an earlier process of this machine did not live to finish
        await asyncio.to_thread(self.runtime.files.remove_passing, datetime.now(UTC) - timedelta(days=1))

    async def stop(self) -> None:
        await self.runtime.kept.stop()
        await self.runtime.access.stop()
        await self.reader.close()
        await self.database.close()
        await self.redis.aclose()

    # -- beside the graph ---------------------------------------------------------------------------------

    async def file(self, request: Request) -> Response:
        """A stored file by a signed, short-lived link."""
        found = decode_id(request.path_params["id"])
        query = request.query_params
        expires, signature = query.get("expires", ""), query.get("signature", "")
        if found is None or found[0] != "fil" or not expires.isdigit():
            return JSONResponse({"error": "not found"}, 404)
        if not self.runtime.files.verify(found[1], int(expires), signature):
            return JSONResponse({"error": "the link has expired"}, 403)
        async with self.database.transaction(system("signed link")) as session:
            stored = await session.scalar(select(StoredFile).where(StoredFile.id == found[1]))
        content = None if stored is None else await self.runtime.files.content(stored.sha256)
        if stored is None or content is None:
            return JSONResponse({"error": "not found"}, 404)
        kind = stored.content_type if stored.content_type in KNOWN_TYPES else "application/octet-stream"
        return StreamingResponse(
            content.pieces,
            headers={
                **DOWNLOAD,
                "content-type": kind,
                "content-disposition": f"attachment; filename*=utf-8''{quote(stored.name, safe='')}",
                "content-length": str(content.size),
            },
        )

    async def payment_notice(self, request: Request) -> Response:
        """What a payment channel tells of a payment, at the address that it was given with it."""
        found = decode_id(request.path_params["id"])
        body = bytearray()
        async for piece in request.stream():
            body += piece
            if len(body) > notices.MAX_BYTES:
                return JSONResponse({"error": "too large"}, 413)
        answer = None
        if found is not None and found[0] == "pch":
            answer = await notices.take(self.runtime, found[1], request.headers, bytes(body))
        if answer is None:
            return JSONResponse({"error": "not found"}, 404)
        return Response(answer.body, answer.status, media_type=answer.content_type)

    async def ready(self, _: Request) -> Response:
        """Whether this process can answer: its databases do."""
        try:
            async with asyncio.timeout(READY_SECONDS):
                async with self.database.engine.connect() as connection:
                    await connection.execute(text("SELECT 1"))
                async with self.reader.lease() as reading:
                    await reading.raw.execute("SELECT 1")
                await self.redis.ping()
        except Exception as error:  # noqa: BLE001 - whatever it is, the process is not ready
            return JSONResponse({"ready": False, "reason": type(error).__name__}, 503)
        return JSONResponse({"ready": True})


async def _healthy(_: Request) -> Response:
    return JSONResponse({"healthy": True})


async def _metrics(_: Request) -> Response:
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


class _Front:
    """The way in: the graph's requests go straight to it, all others to the routes beside it."""

    def __init__(self, graph: GraphQLEndpoint, beside: ASGIApp) -> None:
        self.graph = graph
        self.beside = beside

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            door, _, rest = scope["path"][1:].partition("/")
            if rest == "graphql":
                await self.graph.answer(door, scope, receive, send)
                return
        await self.beside(scope, receive, send)


def build(application: Application) -> ASGIApp:
    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await application.start()
        # what is alive now lives as long as the process: the collector need not walk it
        gc.freeze()
        gc.set_threshold(100_000, 50, 100)
        yield
        await application.stop()

    transport = GraphQLTransportWS(_Sockets(application.endpoint))
    origins = sorted({origin for door in application.doors.values() for origin in door.origins})
    starlette = Starlette(
        lifespan=lifespan,
        routes=[
            WebSocketRoute("/{door}/graphql", transport.__call__),
            *graphiql.routes(),
            Route("/files/{id}", application.file),
            Route("/payments/{id}/notice", application.payment_notice, methods=["POST"]),
            Route("/healthz", _healthy),
            Route("/readyz", application.ready),
            Route("/metrics", _metrics),
        ],
    )
    front = _Front(application.endpoint, starlette)
    if not origins:
        return front
    return CORSMiddleware(
        front,
        allow_origins=origins,
        allow_methods=["GET", "POST"],
        allow_headers=["authorization", "content-type", "accept-language", "x-request-id"],
        max_age=600,
    )
