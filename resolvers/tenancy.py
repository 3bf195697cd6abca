"""Customers and agents: lists, look-ups and the changes to the tree."""

from __future__ import annotations

from sqlalchemy import Select, select

import models.tenancy as stored
from planner.mapping import Connection, refer
from planner.registry import mutation, query
from resolvers.context import Context, given, key_of
from schema.tenancy import (
    Agent,
    CreateAgentInput,
    CreateEnterpriseInput,
    MoveTenantInput,
    SetTenantRateLimitInput,
    SetTenantStatusInput,
    Tenant,
    TenantPayload,
    UpdateTenantInput,
)
from services import tenancy


@query(Connection[Tenant])
def tenants() -> Select[stored.Tenant]:
    """The tenants within reach: one's own and all below (S0-10, S0-58, S3-01)."""
    return select(stored.Tenant)


@query(Tenant, by=("id",))
def tenant() -> Select[stored.Tenant]:
    """One tenant (S0-10)."""
    return select(stored.Tenant)


@query(Connection[Tenant])
def customers() -> Select[stored.Tenant]:
    """The platform's customers: enterprises and agents (S0-10)."""
    return select(stored.Tenant).where(stored.Tenant.kind.in_([stored.TenantKind.ENTERPRISE, stored.TenantKind.AGENT]))


@query(Connection[Agent])
def agents() -> Select[stored.Agent]:
    """Agents within reach, filtered by level or parent (S0-23)."""
    return select(stored.Agent)


@mutation
async def create_enterprise(ctx: Context, input: CreateEnterpriseInput) -> TenantPayload:
    """Takes on an enterprise customer, with its first account where one is given (S0-11, S0-36)."""
    made = await tenancy.create_enterprise(
        ctx.now,
        input.profile,
        business_licence=input.business_licence,
        landline=input.landline,
        account=input.account,
    )
    return TenantPayload(tenant=refer(made.id), errors=[])


@mutation
async def create_agent(ctx: Context, input: CreateAgentInput) -> TenantPayload:
    """Takes on an agent directly below the caller (S0-11, S0-21, S0-38)."""
    made = await tenancy.create_agent(ctx.now, input.profile, input.account)
    return TenantPayload(tenant=refer(made.id), errors=[])


@mutation
async def update_tenant(ctx: Context, input: UpdateTenantInput) -> TenantPayload:
    """Changes the profile of a tenant within reach (S0-24, S0-58)."""
    changed = await tenancy.update_profile(ctx.now, key_of(input.id, "ten", "id"), given(input))
    return TenantPayload(tenant=refer(changed.id), errors=[])


@mutation
async def set_tenant_status(ctx: Context, input: SetTenantStatusInput) -> TenantPayload:
    """Suspends a tenant from its next request on, or lets it do business again."""
    changed = await tenancy.set_status(ctx.now, key_of(input.id, "ten", "id"), input.status)
    return TenantPayload(tenant=refer(changed.id), errors=[])


@mutation
async def set_tenant_rate_limit(ctx: Context, input: SetTenantRateLimitInput) -> TenantPayload:
    """Limits what all of a tenant's callers ask together, from their next request on."""
    changed = await tenancy.set_rate_limit(ctx.now, key_of(input.id, "ten", "id"), input.requests_per_minute)
    return TenantPayload(tenant=refer(changed.id), errors=[])


@mutation
async def move_tenant(ctx: Context, input: MoveTenantInput) -> TenantPayload:
    """Moves a branch below another parent, with everything in it (S3-01)."""
    moved = await tenancy.move(ctx.now, key_of(input.id, "ten", "id"), key_of(input.parent, "ten", "parent"))
    return TenantPayload(tenant=refer(moved.id), errors=[])
