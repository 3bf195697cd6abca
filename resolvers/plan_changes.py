"""Plan changes: asked for, taken back, and their history."""

from __future__ import annotations

from sqlalchemy import Select, select

import models.plan_changes as stored
from planner.mapping import Connection, refer
from planner.registry import mutation, query
from resolvers.context import Context, key_of
from resolvers.sim import selection_of
from schema.plan_changes import (
    CancelSimPlanChangeInput,
    RequestSimPlanChangeInput,
    SimPlanChange,
    SimPlanChangePayload,
    SimPlanChangesPayload,
)
from services import plan_changes as service

SHOWN = 100


@query(Connection[SimPlanChange])
def sim_plan_changes() -> Select[stored.SimPlanChange]:
    """Changes of plan of cards within reach, by card, customer and period (S0-17)."""
    return select(stored.SimPlanChange)


@mutation(idempotent=True)
async def request_sim_plan_change(ctx: Context, input: RequestSimPlanChangeInput) -> SimPlanChangesPayload:
    """Gives cards another plan from the first of next month on; until then nothing changes (S0-16)."""
    made = await service.request(ctx.now, selection_of(input.cards), key_of(input.package, "pkg", "package"))
    return SimPlanChangesPayload(count=len(made), plan_changes=[refer(key) for key in made[:SHOWN]], errors=[])


@mutation(idempotent=True)
async def cancel_sim_plan_change(ctx: Context, input: CancelSimPlanChangeInput) -> SimPlanChangePayload:
    """Takes back a change of plan that is not in force yet."""
    changed = await service.cancel(ctx.now, key_of(input.id, "spc", "id"))
    return SimPlanChangePayload(plan_change=refer(changed.id), errors=[])
