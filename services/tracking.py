"""What people do in the frontends: taken in by the batch, told by event, page and day (S4-70)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import orjson
from sqlalchemy import cast, distinct, func, select, text
from sqlalchemy.types import Date

from authz.principal import ROOT_PATH, Principal, PrincipalKind, system
from models.tenancy import Tenant
from models.tracking import BehaviourEvent
from services import parameters, validation
from services.refusal import Refusal, not_found
from services.runtime import Origin, Runtime
from services.sales import between, check_days

MAX_BATCH = 100
MAX_VISITOR_BATCH = 20
MAX_PROPERTIES = 10
MAX_PROPERTY = 200
MAX_BATCH_BYTES = 16_384
OLDEST = timedelta(days=7)
"""A frontend may keep events so long while it is offline; older ones are left out."""
MAX_DAYS = 92
MAX_ROWS = 5_000
_PROPERTY = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,39}")

STORE = text("""
INSERT INTO behaviour_event (tenant_id, tenant_path, at, event, page_key, properties, door, caller)
SELECT tenant.id, tenant.path, e.at, e.event, e.page_key, e.properties, :door, :caller
FROM tenant CROSS JOIN jsonb_to_recordset(CAST(:events AS jsonb))
    AS e (at timestamptz, event text, page_key text, properties jsonb)
WHERE tenant.path = :path
""")


@dataclass(frozen=True)
class Event:
    event: str
    page_key: str
    at: datetime
    properties: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Count:
    day: date
    event: str
    page_key: str
    events: int
    callers: int


async def track(
    runtime: Runtime, principal: Principal, door: str, origin: Origin, *, sent_at: datetime, events: Sequence[Event]
) -> int:
    """Stores a batch in one statement and gives how many of it were stored.

    How long ago an event was is told by the sender's clock alone, so that a clock that is wrong moves nothing: what
    would lie ahead is of now. TOO_MANY for a batch, BATCH_TOO_LARGE for a payload beyond the limits, TOO_MANY_ATTEMPTS
    for more events in a minute than the parameters of tracking allow.
    """
    visitor = principal.kind is PrincipalKind.ANONYMOUS
    limit = MAX_VISITOR_BATCH if visitor else MAX_BATCH
    if not events:
        raise Refusal("REQUIRED", "events")
    if len(events) > limit:
        raise Refusal("TOO_MANY", "events", limit=limit)
    validation.moment(sent_at, "sentAt")
    now = datetime.now(UTC)
    rows = [row for place, event in enumerate(events) if (row := _row(event, place, sent_at, now)) is not None]
    stored = orjson.dumps(rows)
    if len(stored) > MAX_BATCH_BYTES:
        raise Refusal("BATCH_TOO_LARGE", "events", limit=MAX_BATCH_BYTES)
    await _take(runtime, principal, origin, len(events))
    scope = principal if principal.path else system("tracking")
    async with runtime.database.transaction(scope) as session:
        await session.execute(
            STORE,
            {
                "events": stored.decode(),
                "door": door,
                "caller": principal.caller,
                "path": principal.path or ROOT_PATH,
            },
        )
    return len(rows)


def _row(event: Event, place: int, sent_at: datetime, now: datetime) -> dict[str, object] | None:
    field = f"events.{place}"
    validation.moment(event.at, f"{field}.at")
    row = {
        "event": validation.key(event.event, f"{field}.event"),
        "page_key": validation.key(event.page_key, f"{field}.pageKey"),
        "properties": _properties(event.properties, f"{field}.properties"),
    }
    age = max(sent_at - event.at, timedelta(0))
    return None if age > OLDEST else {**row, "at": now - age}


def _properties(properties: Sequence[tuple[str, str]], field: str) -> dict[str, str]:
    if len(properties) > MAX_PROPERTIES:
        raise Refusal("TOO_MANY", field, limit=MAX_PROPERTIES)
    found: dict[str, str] = {}
    for name, value in properties:
        if name in found or not _PROPERTY.fullmatch(name):
            raise Refusal("INVALID", field)
        found[name] = validation.text(value, field, required=False, limit=MAX_PROPERTY)
    return found


async def _take(runtime: Runtime, principal: Principal, origin: Origin, events: int) -> None:
    """Counts the events of a caller within a minute, for all processes; visitors by their address."""
    visitor = principal.kind is PrincipalKind.ANONYMOUS
    allowed = await parameters.effective(
        runtime, "tracking.visitorEventsPerMinute" if visitor else "tracking.eventsPerMinute"
    )
    key = f"trellis:tracked:{origin.ip if visitor else principal.caller}"
    async with runtime.redis.pipeline() as batch:
        batch.incrby(key, events)
        batch.expire(key, 60, nx=True)
        count, _ = await batch.execute()
    if count > int(allowed.text):
        raise Refusal("TOO_MANY_ATTEMPTS")


async def stats(
    runtime: Runtime,
    principal: Principal,
    *,
    first: date,
    last: date,
    tenant_id: int | None,
    event: str | None,
    page_key: str | None,
) -> tuple[str, list[Count]]:
    """The time zone, and how often each event happened on each page on each day of it.

    Of a tenant and all below it, in its time zone; the caller's own where none is named. INVALID where the days are in
    the wrong order, TOO_MANY for more days or rows than can be told at once.
    """
    check_days(first, last, MAX_DAYS)
    for field, value in (("event", event), ("pageKey", page_key)):
        validation.optional(value, field)
    async with runtime.database.transaction(principal) as session:
        tenant = await session.scalar(
            select(Tenant).where(Tenant.id == (principal.tenant_id if tenant_id is None else tenant_id))
        )
        if tenant is None:
            raise not_found("tenant")
        zone = tenant.time_zone
        path, end = tenant.path, tenant.path.rstrip(".") + "/"
        asked = (
            select(
                cast(func.timezone(zone, BehaviourEvent.at), Date),
                BehaviourEvent.event,
                BehaviourEvent.page_key,
                func.count(),
                func.count(distinct(BehaviourEvent.caller)).filter(BehaviourEvent.caller != "anonymous"),
            )
            .where(
                BehaviourEvent.tenant_path >= path,
                BehaviourEvent.tenant_path < end,
                between(BehaviourEvent.at, first, last, zone),
            )
            .group_by(text("1, 2, 3"))
            .order_by(text("1, 2, 3"))
            .limit(MAX_ROWS + 1)
        )
        if event is not None:
            asked = asked.where(BehaviourEvent.event == event)
        if page_key is not None:
            asked = asked.where(BehaviourEvent.page_key == page_key)
        found = [Count(*row) for row in await session.execute(asked)]
    if len(found) > MAX_ROWS:
        raise Refusal("TOO_MANY", "lastDay", limit=MAX_ROWS)
    return zone, found
