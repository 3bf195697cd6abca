"""Staff who come in by a third party: WeChat official account (S0-20), Gitee (S2-28).

A login or a binding begins here, with a state that the third party hands back: it holds once, for ten minutes, at the
door and for the purpose that it was made for.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

import structlog
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from authz.principal import ROOT_PATH, Principal, system
from gateways.gitee import GrantRefusedError, gitee
from gateways.http import GatewayError
from gateways.wechat import CodeRefusedError, wechat
from models.identity import LoginApp, LoginMethod, LoginOutcome, LoginProvider, StaffAccount
from models.identity import LoginBinding as Binding
from models.tenancy import Tenant
from services import identity, login_apps, logins, validation
from services.conflicts import told_apart
from services.identity import Tokens
from services.login_apps import AppCredentials
from services.refusal import Refusal, not_found
from services.runtime import DoorRules, Origin, Runtime, Work

log = structlog.get_logger()

STATE_SECONDS = 600
METHODS = {
    LoginProvider.WECHAT_OFFICIAL_ACCOUNT: LoginMethod.WECHAT_OFFICIAL_ACCOUNT,
    LoginProvider.GITEE: LoginMethod.GITEE,
}
VISITOR = "visitor"
"""For whom a login is begun; a binding is begun for an account."""


@dataclass(frozen=True)
class Beginning:
    """Where to send the browser, and the state that it must come back with."""

    authorize_url: str
    state: str


async def begin(runtime: Runtime, door: DoorRules, origin: Origin, provider: LoginProvider, caller: str) -> Beginning:
    """Begins a login of a visitor, or the binding of the caller's account. LOGIN_NOT_OFFERED at another door."""
    _check_offered(door, provider)
    await logins.limit_attempts(runtime, origin)
    async with runtime.database.transaction(system("login")) as session:
        app = await _app(runtime, session, provider)
    state = secrets.token_urlsafe(32)
    await runtime.redis.set(_key(runtime, state), _purpose(door, provider, caller), ex=STATE_SECONDS)
    back = _redirect(runtime, door, provider)
    if provider is LoginProvider.GITEE:
        return Beginning(gitee().authorize_url(app.app_id, back, state), state)
    return Beginning(wechat().authorize_url(app.app_id, back, state), state)


async def log_in(
    runtime: Runtime, door: DoorRules, origin: Origin, provider: LoginProvider, login_code: str, state: str
) -> Tokens:
    """Logs in the account that is bound to whom the code stands for.

    INVALID_STATE, INVALID_CODE, LOGIN_UNAVAILABLE; NOT_BOUND where no account that may come in here is bound.
    """
    _check_offered(door, provider)
    await logins.limit_attempts(runtime, origin)
    app, subject = await _subject(runtime, door, provider, login_code, state, VISITOR)
    tokens = None
    async with runtime.database.transaction(system("login")) as session:
        account = await session.scalar(
            select(StaffAccount)
            .join(Binding, Binding.account_id == StaffAccount.id)
            .where(Binding.provider == provider, Binding.app_id == app.app_id, Binding.subject == subject)
            .with_for_update(of=StaffAccount)
        )
        outcome = await identity.judge(session, account, door, locked=False, right=True)
        await logins.record(
            session,
            account or app.tenant,
            login=account.login if account else app.app_id,
            door=door,
            method=METHODS[provider],
            outcome=outcome,
            origin=origin,
        )
        if account is not None and outcome is LoginOutcome.SUCCEEDED:
            tokens = identity.enter(runtime, session, account, door, origin)
    if tokens is None:
        raise Refusal("NOT_BOUND")
    return tokens


async def bind(
    runtime: Runtime, door: DoorRules, principal: Principal, provider: LoginProvider, login_code: str, state: str
) -> int:
    """Lets the caller's account come in by whom the code stands for, from now on; gives the account's key.

    TAKEN (loginCode) where another account does so already. A binding that the account had is replaced. The third
    party is asked before the transaction begins: nothing waits for it that others need.
    """
    _check_offered(door, provider)
    if principal.account_id is None:
        raise Refusal("SESSION_ENDED")
    app, subject = await _subject(runtime, door, provider, login_code, state, principal.caller)
    async with runtime.database.transaction(principal) as session:
        account = await _account(session, principal.account_id)
        await _remove(session, account, provider)
        session.add(
            Binding(
                tenant_id=account.tenant_id,
                tenant_path=account.tenant_path,
                account_id=account.id,
                provider=provider,
                app_id=app.app_id,
                subject=subject,
            )
        )
        async with told_apart(session, {"uq_login_binding_provider_app_id_subject": ("loginCode", provider.name)}):
            await session.flush()
        return account.id


async def unbind(work: Work, provider: LoginProvider) -> StaffAccount:
    """The caller's account no longer comes in by this third party. NOT_FOUND where it does not."""
    account = await _account(work.session, work.principal.account_id)
    if not await _remove(work.session, account, provider):
        raise not_found("provider")
    return account


async def _account(session: AsyncSession, account_id: int | None) -> StaffAccount:
    found = await session.scalar(select(StaffAccount).where(StaffAccount.id == account_id).with_for_update())
    if found is None:
        raise not_found("account")
    return found


async def _remove(session: AsyncSession, account: StaffAccount, provider: LoginProvider) -> bool:
    found = await session.scalar(select(Binding).where(Binding.account_id == account.id, Binding.provider == provider))
    if found is None:
        return False
    await session.delete(found)
    await session.flush()
    return True


def _check_offered(door: DoorRules, provider: LoginProvider) -> None:
    method = METHODS.get(provider)
    if method is None or method.name not in door.login_methods:
        raise Refusal("LOGIN_NOT_OFFERED", "provider")


async def _app(runtime: Runtime, session: AsyncSession, provider: LoginProvider) -> AppCredentials:
    """The installation's own application: staff of all tenants come through the platform's."""
    app_id = await session.scalar(
        select(LoginApp.app_id)
        .join(Tenant, Tenant.id == LoginApp.tenant_id)
        .where(LoginApp.provider == provider, Tenant.path == ROOT_PATH)
    )
    found = None if app_id is None else await login_apps.app_in_use(runtime, session, provider, app_id)
    if found is None:
        raise Refusal("LOGIN_NOT_OFFERED", "provider")
    return found


def _key(runtime: Runtime, state: str) -> str:
    return f"trellis:login-state:{runtime.keys.digest(state).hex()}"


def _purpose(door: DoorRules, provider: LoginProvider, caller: str) -> str:
    return f"{door.name} {provider.name} {caller}"


def _redirect(runtime: Runtime, door: DoorRules, provider: LoginProvider) -> str:
    """The page of the door's frontend that the third party sends the browser back to."""
    return f"{runtime.public_url}/{door.name}/login/{provider.name.lower()}"


async def _subject(
    runtime: Runtime, door: DoorRules, provider: LoginProvider, login_code: str, state: str, caller: str
) -> tuple[AppCredentials, str]:
    """Whom a code stands for that came back with a state of ours."""
    login_code = validation.text(login_code, "loginCode")
    # read and taken away in one step: of two who come with it, one is let on
    begun = await runtime.redis.getdel(_key(runtime, state))
    if begun is None or begun != _purpose(door, provider, caller).encode():
        raise Refusal("INVALID_STATE", "state")
    async with runtime.database.transaction(system("login")) as session:
        app = await _app(runtime, session, provider)
    try:
        if provider is LoginProvider.GITEE:
            back = _redirect(runtime, door, provider)
            return app, await gitee().user_of(app.app_id, app.secret, login_code, back)
        return app, (await wechat().code_to_openid(app.app_id, app.secret, login_code)).openid
    except (CodeRefusedError, GrantRefusedError):
        raise Refusal("INVALID_CODE", "loginCode") from None
    except GatewayError as error:
        log.warning("a login by a third party failed", provider=provider.name, code=error.code, reason=str(error))
        raise Refusal("LOGIN_UNAVAILABLE") from None
