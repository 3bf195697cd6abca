"""What a resolver is given, and how a mutation is run: one transaction, repeats, the operation log, the outbox."""

from __future__ import annotations

import asyncio
import dataclasses
import random
import types
import typing
from collections.abc import Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import orjson
import structlog
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from authz.coordinates import Act
from authz.principal import Principal
from models.base import table_of
from models.system import IdempotentResult
from planner.errors import FieldFailure
from planner.ids import decode_id
from planner.mapping import Key, camel, registry
from planner.pool import Pool
from planner.registry import MutationRoot
from resolvers.operation_log import SUCCEEDED, OperationLog
from resolvers.redaction import SHOWN_ONCE, plain
from schema.common import UserError
from services.conflicts import given_up
from services.rates import Bucket
from services.refusal import Refusal, not_found
from services.runtime import DoorRules, Origin, Runtime, Work
from services.usage import ratios

log = structlog.get_logger()

TRIES = 3


@dataclass
class Context:
    """One request as resolvers see it."""

    runtime: Runtime
    principal: Principal
    door: DoorRules
    origin: Origin
    reader: Pool
    nudge: Callable[[], Awaitable[None]]
    work: Work | None = None
    budget: Bucket | None = None
    """What the caller may still ask; None for a visitor."""

    @property
    def now(self) -> Work:
        """The unit of work of the mutation that is being run."""
        if self.work is None:
            raise RuntimeError("only a mutation has a unit of work")
        return self.work


def key_of(text: str, prefix: str, field: str) -> int:
    """The key behind a global id in an input; another type's id, or none, is INVALID_ID."""
    found = decode_id(text)
    if found is None or found[0] != prefix:
        raise Refusal("INVALID_ID", field, value=text[:40])
    return found[1]


def optional_key(text: str | None, prefix: str, field: str) -> int | None:
    return None if text is None else key_of(text, prefix, field)


def given(input: Any, *, without: tuple[str, ...] = ("id", "idempotency_key")) -> dict[str, Any]:
    """The fields of an update that were given; null and left out both mean: leave as it is."""
    return {name: value for name, value in vars(input).items() if name not in without and value is not None}


def user_error(refusal: Refusal, context: Context) -> UserError:
    """A refusal as a payload tells it, in the caller's language."""
    message = refusal.message(context.principal.language)
    return UserError(code=refusal.code, field=refusal.field, message=message)


async def run_mutation(root: MutationRoot, context: Context, arguments: dict[str, Any]) -> Any:
    """Runs one mutation and gives its payload; a refusal becomes ``errors`` in it, and nothing has changed."""
    line = OperationLog(root, context, arguments)
    payload_type = _payload_type(root)
    outcome = SUCCEEDED
    try:
        payload = await _retried(lambda: _run(root, context, arguments, payload_type, line))
    except Refusal as refusal:
        outcome = refusal.code
        payload = _refused(payload_type, [user_error(refusal, context)])
    except Exception:
        outcome = "INTERNAL"
        raise
    finally:
        if not line.kept:
            await line.write_alone(outcome)
    return payload


async def _retried(run: Callable[[], Awaitable[Any]]) -> Any:
    """Runs again what PostgreSQL gave up in favour of another transaction: nothing of it has happened."""
    for attempt in range(1, TRIES + 1):
        try:
            return await run()
        except DBAPIError as error:
            if not given_up(error) or attempt == TRIES:
                raise
            await asyncio.sleep(random.uniform(0.01, 0.05) * attempt)  # noqa: S311 - nothing secret
    raise AssertionError


async def _run(
    root: MutationRoot, context: Context, arguments: dict[str, Any], payload_type: type, line: OperationLog
) -> Any:
    if root.public:
        return await root.function(context, **arguments)
    principal, runtime = context.principal, context.runtime
    async with runtime.database.transaction(principal, _permission(root)) as session:
        work = context.work = Work(principal, session, runtime=runtime, origin=context.origin)
        repeat = _Repeat(root, context, arguments)
        line.begin(session)
        payload = await repeat.first_result(session, payload_type)
        if payload is None:
            payload = await root.function(context, **arguments)
            await repeat.keep(session, payload)
        await line.end(session)
    line.committed()
    if work.access_changed or work.policies_changed:
        await runtime.access.changed(policies=work.policies_changed)
    if work.published_changed:
        await runtime.kept.changed()
    if work.usage_ratios_changed:
        await ratios.changed(runtime.redis)
    if work.events:
        await context.nudge()
    return payload


def _permission(root: MutationRoot) -> tuple[str, str, Act]:
    return "Mutation", camel(root.function.__name__), Act.CALL


class _Repeat:
    """A mutation with an idempotency key: the first result is kept, a repeat by the same caller is given it."""

    def __init__(self, root: MutationRoot, context: Context, arguments: Mapping[str, Any]) -> None:
        input = arguments.get("input")
        self.key: str | None = getattr(input, "idempotency_key", None)
        self.name = root.function.__name__
        self.context = context
        if self.key is not None and not 1 <= len(self.key) <= 200:
            raise Refusal("INVALID", "idempotencyKey")
        if self.key is None and root.idempotent:
            raise Refusal("REQUIRED", "idempotencyKey")
        # keyed, since an input may hold a password
        text = orjson.dumps(plain(input), option=orjson.OPT_SORT_KEYS).decode()
        self.digest = context.runtime.keys.digest(text)

    async def first_result(self, session: AsyncSession, payload_type: type) -> Any:
        """The kept payload of an earlier run. A concurrent one is waited for: its row is locked until it ends."""
        if self.key is None:
            return None
        principal = self.context.principal
        table = table_of(IdempotentResult)
        made = await session.execute(
            insert(table)
            .values(
                tenant_id=principal.tenant_id,
                tenant_path=principal.path or principal.home,
                end_user_id=principal.end_user_id,
                caller=principal.caller,
                mutation=self.name,
                idempotency_key=self.key,
                request_digest=self.digest,
            )
            .on_conflict_do_nothing()
            .returning(table.c.id)
        )
        if made.scalar() is not None:
            return None
        kept = await session.scalar(self._mine())
        if kept is None:
            raise not_found("idempotencyKey")
        if kept.request_digest != self.digest:
            raise Refusal("KEY_REUSED", "idempotencyKey")
        return _payload_from(payload_type, kept.result or {})

    async def keep(self, session: AsyncSession, payload: Any) -> None:
        if self.key is not None:
            kept = await session.scalar(self._mine())
            assert kept is not None
            kept.result = _plain_payload(payload)

    def _mine(self) -> Any:
        return select(IdempotentResult).where(
            IdempotentResult.caller == self.context.principal.caller,
            IdempotentResult.mutation == self.name,
            IdempotentResult.idempotency_key == self.key,
        )


def _payload_type(root: MutationRoot) -> type:
    found = typing.get_type_hints(root.function).get("return")
    assert isinstance(found, type)
    return found


def _refused(payload_type: type, errors: list[UserError]) -> Any:
    """A payload that says no: nothing in it but the errors."""
    values: dict[str, Any] = {}
    for field in dataclasses.fields(payload_type):
        kind = payload_type.__annotations__[field.name]
        origin: Any = typing.get_origin(kind)
        if origin is list:
            values[field.name] = []
        elif origin in (typing.Union, types.UnionType):
            values[field.name] = None
        else:
            values[field.name] = kind()
    values["errors"] = errors
    return payload_type(**values)


def _plain_payload(payload: Any) -> dict[str, Any]:
    """A payload as it is kept for repeats: keys of rows and plain values; what is shown once is not kept."""
    kept = {}
    for field in dataclasses.fields(payload):
        if field.name != "errors" and field.name not in SHOWN_ONCE:
            kept[field.name] = plain(getattr(payload, field.name))
    return kept


def _payload_from(payload_type: type, kept: Mapping[str, Any]) -> Any:
    values = {f.name: kept.get(f.name) for f in dataclasses.fields(payload_type) if f.name != "errors"}
    return payload_type(**{**values, "errors": []})


@asynccontextmanager
async def reading(context: Context) -> typing.AsyncIterator[AsyncSession]:
    """A transaction for a live resolver that reads through the ORM."""
    async with context.runtime.database.transaction(context.principal) as session:
        yield session


def node_key(text: str) -> Key | FieldFailure:
    """The reference behind a global id of any type; the failure of its own field, BAD_USER_INPUT, for what is none."""
    found = decode_id(text)
    entity = registry.by_prefix.get(found[0]) if found else None
    if found is None or entity is None:
        return FieldFailure("BAD_USER_INPUT", "NOT_AN_ID", value=repr(text[:40]))
    return Key(entity.name, found[1])
