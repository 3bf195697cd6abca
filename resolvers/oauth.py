"""Staff who come in by a third party, and the bindings by which they do."""

from __future__ import annotations

from models.identity import LoginProvider
from planner.mapping import refer
from planner.registry import mutation
from resolvers.context import Context
from resolvers.identity import session_payload
from schema.identity import OauthBeginningPayload, OauthInput, SessionPayload, StaffAccountPayload
from services import oauth


@mutation(public=True)
async def begin_oauth_login(ctx: Context, provider: LoginProvider) -> OauthBeginningPayload:
    """Begins a login by a third party at this door (S0-20, S2-28)."""
    begun = await oauth.begin(ctx.runtime, ctx.door, ctx.origin, provider, oauth.VISITOR)
    return OauthBeginningPayload(authorize_url=begun.authorize_url, state=begun.state, errors=[])


@mutation(public=True)
async def oauth_login(ctx: Context, input: OauthInput) -> SessionPayload:
    """Logs in the staff account that is bound to whom a third party vouches for (S0-20, S2-28)."""
    return session_payload(
        await oauth.log_in(ctx.runtime, ctx.door, ctx.origin, input.provider, input.login_code, input.state)
    )


@mutation
async def begin_login_binding(ctx: Context, provider: LoginProvider) -> OauthBeginningPayload:
    """Begins to bind the caller's account to a third party (S0-20, S2-28)."""
    begun = await oauth.begin(ctx.runtime, ctx.door, ctx.origin, provider, ctx.principal.caller)
    return OauthBeginningPayload(authorize_url=begun.authorize_url, state=begun.state, errors=[])


@mutation(public=True)
async def bind_login(ctx: Context, input: OauthInput) -> StaffAccountPayload:
    """Lets the caller's account come in by whom a third party vouches for (S0-20, S2-28)."""
    account_id = await oauth.bind(ctx.runtime, ctx.door, ctx.principal, input.provider, input.login_code, input.state)
    return StaffAccountPayload(account=refer(account_id), errors=[])


@mutation
async def unbind_login(ctx: Context, provider: LoginProvider) -> StaffAccountPayload:
    """The caller's account no longer comes in by this third party (S0-20, S2-28)."""
    account = await oauth.unbind(ctx.now, provider)
    return StaffAccountPayload(account=refer(account.id), errors=[])
