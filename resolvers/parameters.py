"""System parameters, and what they are for a tenant."""

from __future__ import annotations

import strawberry
from sqlalchemy import Select, select

import models.parameters as stored
from authz.principal import ROOT_PATH
from planner.mapping import Connection, refer
from planner.registry import mutation, query
from resolvers.context import Context, given, key_of, reading
from schema.identity import DonePayload
from schema.parameters import (
    EffectiveParameter,
    EffectiveParameterPayload,
    OverrideParameterInput,
    ParameterInput,
    ParameterPayload,
    SystemParameter,
    UpdateParameterInput,
)
from services import parameters
from services.refusal import Refusal


@query(Connection[SystemParameter])
def system_parameters() -> Select[stored.SystemParameter]:
    """The platform's parameters (S1-21)."""
    return select(stored.SystemParameter)


@query(SystemParameter, by=("id", "key"))
def system_parameter() -> Select[stored.SystemParameter]:
    """One parameter of the platform (S1-21)."""
    return select(stored.SystemParameter)


@query("EffectiveParameter | None")
async def effective_parameter(ctx: Context, key: str) -> EffectiveParameter | None:
    """What a parameter is for the caller's tenant. Outside of the platform's staff, null for one that tenants may
    not have values of their own of, as for one that does not exist (S1-21)."""
    try:
        found = await parameters.effective(ctx.runtime, key, ctx.principal.path)
    except Refusal:
        return None
    return _shown(ctx, found) if found.overridable or ctx.principal.path == ROOT_PATH else None


@query("list[EffectiveParameter]")
async def effective_parameters(ctx: Context) -> list[EffectiveParameter]:
    """All parameters that tenants may have values of their own of, as they are for the caller's tenant (S1-21)."""
    async with reading(ctx) as session:
        found = await parameters.overridable(session, ctx.principal.path)
    return [_shown(ctx, one) for one in found]


def _shown(ctx: Context, found: parameters.Effective) -> EffectiveParameter:
    return EffectiveParameter(
        key=found.key,
        name=found.name,
        value=found.text,
        value_type=found.value_type,
        overridable=found.overridable,
        is_own=found.owner_path == ctx.principal.path,
    )


@mutation
async def create_parameter(ctx: Context, input: ParameterInput) -> ParameterPayload:
    """A new parameter of the platform (S1-21)."""
    made = await parameters.create(ctx.now, **vars(input))
    return ParameterPayload(parameter=refer(made.id), errors=[])


@mutation
async def update_parameter(ctx: Context, input: UpdateParameterInput) -> ParameterPayload:
    """Changes a parameter; of a built-in one the value alone (S1-21)."""
    changes = given(input, without=("id", "version"))
    changed = await parameters.update(ctx.now, key_of(input.id, "par", "id"), input.version, changes)
    return ParameterPayload(parameter=refer(changed.id), errors=[])


@mutation
async def delete_parameter(ctx: Context, id: strawberry.ID) -> DonePayload:
    """Removes a parameter that is not built in, and all tenants' own values of it (S1-21)."""
    await parameters.remove(ctx.now, key_of(id, "par", "id"))
    return DonePayload(done=True, errors=[])


@mutation
async def override_parameter(ctx: Context, input: OverrideParameterInput) -> EffectiveParameterPayload:
    """Gives the caller's tenant a value of its own, for itself and for those below it (S1-21)."""
    found = await parameters.override(ctx.now, input.key, input.value)
    return EffectiveParameterPayload(parameter=_shown(ctx, found), errors=[])


@mutation
async def remove_parameter_override(ctx: Context, key: str) -> EffectiveParameterPayload:
    """Takes the caller's tenant's own value away, so that those above it decide again (S1-21)."""
    found = await parameters.remove_override(ctx.now, key)
    return EffectiveParameterPayload(parameter=_shown(ctx, found), errors=[])
