"""Logging in, the caller, staff, departments, API keys and the login log."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import strawberry
from sqlalchemy import Select, select

import models.identity as stored
from authz.principal import ROOT_PATH, PrincipalKind
from models.identity import AccountStatus
from models.tenancy import Language, TenantKind
from planner.errors import bad_input
from planner.mapping import Connection, refer
from planner.registry import loads, mutation, query
from resolvers.context import Context, key_of, node_key, optional_key
from schema.identity import (
    ApiKey,
    ApiKeyPayload,
    ChangePasswordInput,
    CreateStaffAccountInput,
    Department,
    DonePayload,
    EndUser,
    ExtendApiKeyInput,
    ImpersonateInput,
    Impersonation,
    ImpersonationPayload,
    Impersonator,
    IssueApiKeyInput,
    LogInInput,
    LoginRecord,
    LoginSession,
    RateLimit,
    RestrictApiKeyInput,
    Session,
    SessionPayload,
    SetRolesInput,
    StaffAccount,
    StaffAccountPayload,
    Viewer,
)
from services import api_keys as partners_keys
from services import end_users as people
from services import identity, impersonation, languages, parameters


@query(Viewer)
async def viewer(ctx: Context) -> Viewer:
    """The caller: its account, its tenant, what it may do here (S0-01)."""
    principal, budget = ctx.principal, ctx.budget
    rate_limit = None
    if budget is not None:
        rate_limit = RateLimit(limit=budget.limit, remaining=budget.remaining, reset_at=budget.full_at)
    acting = principal.impersonation
    impersonator = None
    if acting is not None:
        impersonator = Impersonator(name=acting.name, reason=acting.reason, write=acting.may_write)
    return Viewer(
        account=refer(principal.account_id),
        tenant=refer(principal.tenant_id),
        end_user=refer(principal.end_user_id),
        api_key=refer(principal.api_key_id),
        rate_limit=rate_limit,
        impersonated_by=impersonator,
        door=principal.door,
        roles=list(principal.roles),
        language=principal.language,
        tenant_kind=None if principal.tenant_kind is None else TenantKind[principal.tenant_kind],
    )


@loads(Viewer, "permissions")
async def permissions(ctx: Context, viewers: Sequence[Viewer]) -> list[list[str]]:
    held = sorted(f"{type_name}.{field}" for type_name, field, _ in ctx.principal.grants.reach)
    return [held for _ in viewers]


@loads(Viewer, "product_presentation_url")
async def product_presentation(ctx: Context, viewers: Sequence[Viewer]) -> list[str | None]:
    path = ctx.principal.path or ctx.principal.home or ROOT_PATH
    found = await parameters.effective(ctx.runtime, parameters.PRESENTATION, path)
    return [found.text or None for _ in viewers]


@query("Node | None")
async def node(ctx: Context, id: strawberry.ID) -> Any:
    """Anything by its global id; null where it does not exist or lies out of reach."""
    return node_key(id)


@query("list[Node | None]")
async def nodes(ctx: Context, ids: list[strawberry.ID]) -> Any:
    """Several by their global ids, in their order; at most a hundred."""
    if len(ids) > 100:
        raise bad_input("TOO_MANY", limit=100)
    return [node_key(id) for id in ids]


@query(Connection[StaffAccount])
def staff_accounts() -> Select[stored.StaffAccount]:
    """Staff within reach."""
    return select(stored.StaffAccount)


@query(Connection[Department])
def departments() -> Select[stored.Department]:
    """Departments within reach (S1-32)."""
    return select(stored.Department)


@query(Connection[EndUser])
def end_users() -> Select[stored.EndUser]:
    """The persons served within reach (S0-26, S0-40)."""
    return select(stored.EndUser)


@query(Connection[ApiKey])
def api_keys() -> Select[stored.ApiKey]:
    """API keys within reach; secrets are never shown again (S0-18, S0-54)."""
    return select(stored.ApiKey)


@query(Connection[LoginRecord])
def login_records() -> Select[stored.LoginRecord]:
    """The log of logins (S1-28)."""
    return select(stored.LoginRecord)


@query(Connection[LoginSession])
def login_sessions() -> Select[stored.LoginSession]:
    """Logins that are or were alive."""
    return select(stored.LoginSession)


@loads(ApiKey, "last_used_at")
async def last_used(ctx: Context, rows: Sequence[Any]) -> list[datetime | None]:
    found = await ctx.runtime.redis.hmget("trellis:api-key-used", [row.key for row in rows])
    return [None if at is None else datetime.fromtimestamp(float(at), UTC) for at in found]


def session_payload(tokens: identity.Tokens) -> SessionPayload:
    return SessionPayload(
        session=Session(
            access_token=tokens.access_token, refresh_token=tokens.refresh_token, expires_at=tokens.expires_at
        ),
        errors=[],
    )


@mutation(public=True)
async def log_in(ctx: Context, input: LogInInput) -> SessionPayload:
    """Logs a staff member in at this door with account and password (S0-01, S0-19)."""
    return session_payload(
        await identity.log_in(ctx.runtime, ctx.door, ctx.origin, input.account, input.password, input.one_time_code)
    )


@mutation(public=True)
async def refresh_session(ctx: Context, refresh_token: str) -> SessionPayload:
    """New tokens for a refresh token, which works once (S0-01)."""
    return session_payload(await identity.refresh(ctx.runtime, ctx.door, refresh_token))


@mutation
async def log_out(ctx: Context, everywhere: bool = False) -> DonePayload:
    """Ends this session, or all sessions of the account (S0-01)."""
    await identity.log_out(ctx.now, everywhere=everywhere)
    return DonePayload(done=True, errors=[])


@mutation
async def change_password(ctx: Context, input: ChangePasswordInput) -> DonePayload:
    """Changes the caller's password; its other sessions end (S1-32, S1-86)."""
    change = people.change_password if ctx.principal.kind is PrincipalKind.END_USER else identity.change_password
    await change(ctx.now, input.current, input.new)
    return DonePayload(done=True, errors=[])


@mutation
async def set_my_language(ctx: Context, language: Language | None = None) -> DonePayload:
    """The language that the caller wants to be answered and written to in, whatever requests ask for; left out: as
    each request asks for."""
    await languages.choose(ctx.now, language)
    return DonePayload(done=True, errors=[])


@mutation(on=StaffAccount)
async def create_staff_account(ctx: Context, input: CreateStaffAccountInput) -> StaffAccountPayload:
    """A new member of staff, with roles that the caller may give (S0-01, S0-19)."""
    tenant = await identity.tenant_for(ctx.now, optional_key(input.tenant, "ten", "tenant"))
    made = await identity.create_account(
        ctx.now,
        tenant,
        login=input.login,
        password=input.password,
        name=input.name,
        roles=input.roles,
        email=input.email,
        phone=input.phone,
        department_id=optional_key(input.department, "dep", "department"),
    )
    return StaffAccountPayload(account=refer(made.id), errors=[])


@mutation(on=StaffAccount)
async def set_staff_roles(ctx: Context, input: SetRolesInput) -> StaffAccountPayload:
    """The roles of an account from now on, from its next request on."""
    changed = await identity.set_roles(ctx.now, key_of(input.account, "acc", "account"), input.roles)
    return StaffAccountPayload(account=refer(changed.id), errors=[])


@mutation(on=StaffAccount)
async def set_staff_status(ctx: Context, account: strawberry.ID, status: AccountStatus) -> StaffAccountPayload:
    """Disables an account from its next request on, or enables it again."""
    changed = await identity.set_account_status(ctx.now, key_of(account, "acc", "account"), status)
    return StaffAccountPayload(account=refer(changed.id), errors=[])


@mutation(on=StaffAccount)
async def revoke_sessions(ctx: Context, account: strawberry.ID) -> DonePayload:
    """Forces an account out everywhere."""
    await identity.revoke_sessions(ctx.now, key_of(account, "acc", "account"))
    return DonePayload(done=True, errors=[])


@mutation
async def impersonate(ctx: Context, input: ImpersonateInput) -> ImpersonationPayload:
    """Acts as an account of a customer's, reading only unless more is asked for and granted; on record."""
    begun = await impersonation.begin(
        ctx.now, key_of(input.account_id, "acc", "accountId"), input.reason, write=input.write
    )
    token = Impersonation(access_token=begun.access_token, door=begun.door, expires_at=begun.expires_at)
    return ImpersonationPayload(impersonation=token, errors=[])


@mutation
async def end_impersonation(ctx: Context) -> DonePayload:
    """Ends acting as somebody else; the token of it is worth nothing from now on."""
    await impersonation.end(ctx.now)
    return DonePayload(done=True, errors=[])


@mutation
async def issue_api_key(ctx: Context, input: IssueApiKeyInput) -> ApiKeyPayload:
    """A key for a partner; the secret is shown this once (S0-18, S0-54)."""
    tenant = await identity.tenant_for(ctx.now, optional_key(input.tenant, "ten", "tenant"))
    made, secret = await partners_keys.issue_api_key(
        ctx.now,
        tenant,
        name=input.name,
        valid_days=input.valid_days,
        roles=input.roles,
        scopes=input.scopes,
        allowed_networks=input.allowed_networks,
    )
    return ApiKeyPayload(api_key=refer(made.id), secret=secret, errors=[])


@mutation
async def rotate_api_key(ctx: Context, id: strawberry.ID, overlap_hours: int = 24) -> ApiKeyPayload:
    """A new secret for a key; the old one holds for another 0 to 168 hours, an older one ends at once (S0-18)."""
    made, secret = await partners_keys.rotate_api_key(ctx.now, key_of(id, "key", "id"), overlap_hours)
    return ApiKeyPayload(api_key=refer(made.id), secret=secret, errors=[])


@mutation
async def revoke_api_key(ctx: Context, id: strawberry.ID) -> ApiKeyPayload:
    """Ends a key at once (S0-18)."""
    made = await partners_keys.revoke_api_key(ctx.now, key_of(id, "key", "id"))
    return ApiKeyPayload(api_key=refer(made.id), secret=None, errors=[])


@mutation
async def extend_api_key(ctx: Context, input: ExtendApiKeyInput) -> ApiKeyPayload:
    """Moves a key's end to so many days from now (S0-18)."""
    made = await partners_keys.extend_api_key(ctx.now, key_of(input.id, "key", "id"), input.valid_days)
    return ApiKeyPayload(api_key=refer(made.id), secret=None, errors=[])


@mutation
async def restrict_api_key(ctx: Context, input: RestrictApiKeyInput) -> ApiKeyPayload:
    """Limits what a key may ask for and from where, from its next request on (S0-18, S0-54)."""
    made = await partners_keys.restrict_api_key(
        ctx.now, key_of(input.id, "key", "id"), scopes=input.scopes, allowed_networks=input.allowed_networks
    )
    return ApiKeyPayload(api_key=refer(made.id), secret=None, errors=[])
