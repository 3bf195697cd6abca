"""End users: logging in, registering, their own data; keeping them out; the apps through which they come."""

from __future__ import annotations

import strawberry
from sqlalchemy import Select, select

import models.identity as stored
from models.identity import AccountStatus
from planner.mapping import Connection, refer
from planner.registry import mutation, query
from resolvers.agreements import signatures
from resolvers.context import Context, given, key_of, optional_key
from resolvers.identity import session_payload
from schema.agreements import RegisterEndUserInput
from schema.identity import (
    DonePayload,
    EndUserLoginInput,
    EndUserPayload,
    LoginApp,
    LoginAppPayload,
    SessionPayload,
    SetLoginAppInput,
    UpdateMyProfileInput,
    WechatLoginInput,
)
from services import end_users, identity
from services import login_apps as apps


@query(Connection[LoginApp])
def login_apps() -> Select[stored.LoginApp]:
    """The applications through which people log in, without their secrets (S0-40)."""
    return select(stored.LoginApp)


@mutation
async def set_login_app(ctx: Context, input: SetLoginAppInput) -> LoginAppPayload:
    """Sets up the application through which a tenant's people log in; its secret is kept encrypted (S0-40)."""
    tenant = await identity.tenant_for(ctx.now, optional_key(input.tenant, "ten", "tenant"))
    made = await apps.set_app(
        ctx.now, tenant, input.provider, app_id=input.app_id, secret=input.secret, status=input.status
    )
    return LoginAppPayload(login_app=refer(made.id), errors=[])


@mutation(public=True)
async def end_user_login(ctx: Context, input: EndUserLoginInput) -> SessionPayload:
    """Logs an end user in at this door with account and password (S1-74)."""
    tenant_id = key_of(input.tenant, "ten", "tenant")
    return session_payload(
        await end_users.log_in(ctx.runtime, ctx.door, ctx.origin, tenant_id, input.account, input.password)
    )


@mutation(public=True)
async def register_end_user(ctx: Context, input: RegisterEndUserInput) -> SessionPayload:
    """A new end user, logged in, who has signed all that is in force (S1-72, S1-74)."""
    return session_payload(
        await end_users.register(
            ctx.runtime,
            ctx.door,
            ctx.origin,
            key_of(input.tenant, "ten", "tenant"),
            login=input.account,
            password=input.password,
            email=input.email,
            name=input.name,
            signatures=signatures(input.agreements),
        )
    )


@mutation(public=True)
async def wechat_login(ctx: Context, input: WechatLoginInput) -> SessionPayload:
    """Logs in whom a mini-program's login code stands for; the first time makes the end user (S0-40)."""
    return session_payload(
        await end_users.log_in_by_mini_program(ctx.runtime, ctx.door, ctx.origin, input.app_id, input.login_code)
    )


@mutation
async def update_my_profile(ctx: Context, input: UpdateMyProfileInput) -> EndUserPayload:
    """Changes the calling end user's own profile (S1-85)."""
    changed = await end_users.update_profile(ctx.now, given(input))
    return EndUserPayload(end_user=refer(changed.id), errors=[])


@mutation
async def set_end_user_status(ctx: Context, end_user: strawberry.ID, status: AccountStatus) -> EndUserPayload:
    """Keeps an end user out from the next request on, or lets the person in again."""
    changed = await end_users.set_status(ctx.now, key_of(end_user, "eus", "endUser"), status)
    return EndUserPayload(end_user=refer(changed.id), errors=[])


@mutation
async def revoke_end_user_sessions(ctx: Context, end_user: strawberry.ID) -> DonePayload:
    """Forces an end user out everywhere."""
    await end_users.revoke_sessions(ctx.now, key_of(end_user, "eus", "endUser"))
    return DonePayload(done=True, errors=[])
