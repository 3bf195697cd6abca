"""What people do in the frontends."""

from __future__ import annotations

from datetime import date

import strawberry

from planner.registry import mutation, query
from resolvers.context import Context, optional_key, user_error
from schema.tracking import BehaviourCount, BehaviourStats, TrackEventsInput, TrackEventsPayload
from services import tracking
from services.refusal import Refusal


@mutation(public=True, logged=False)
async def track_events(ctx: Context, input: TrackEventsInput) -> TrackEventsPayload:
    """Takes in what a frontend has seen somebody do, logged in or not (S4-70)."""
    events = [
        tracking.Event(one.event, one.page_key, one.at, [(p.name, p.value) for p in one.properties])
        for one in input.events
    ]
    stored = await tracking.track(
        ctx.runtime, ctx.principal, ctx.door.name, ctx.origin, sent_at=input.sent_at, events=events
    )
    return TrackEventsPayload(stored=stored, errors=[])


@query(BehaviourStats, report=True)
async def behaviour_stats(
    ctx: Context,
    first_day: date,
    last_day: date,
    tenant: strawberry.ID | None = None,
    event: str | None = None,
    page_key: str | None = None,
) -> BehaviourStats:
    """How often what was done on which page, by day; both days included. Of a tenant and all below it, by the days
    of its time zone; the caller's own where none is named (S4-70)."""
    try:
        zone, counts = await tracking.stats(
            ctx.runtime,
            ctx.principal,
            first=first_day,
            last=last_day,
            tenant_id=optional_key(tenant, "ten", "tenant"),
            event=event,
            page_key=page_key,
        )
    except Refusal as refusal:
        return BehaviourStats(time_zone=None, counts=[], errors=[user_error(refusal, ctx)])
    return BehaviourStats(time_zone=zone, counts=[BehaviourCount(**vars(one)) for one in counts], errors=[])
