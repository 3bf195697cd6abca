"""End users: how they register, log in and keep their own data, and how those who serve them keep them out."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import structlog
from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from authz.access import END_USER
from authz.principal import system
from authz.standing import in_business, served
from gateways.http import GatewayError
from gateways.wechat import CodeRefusedError, WechatIdentity, wechat
from models.base import table_of
from models.identity import (
    AccountStatus,
    EndUser,
    LoginMethod,
    LoginOutcome,
    LoginProvider,
    LoginSession,
    VerificationCodePurpose,
)
from models.tenancy import Tenant
from services import agreements, identity, login_apps, logins, validation, verification_codes
from services.agreements import Signature
from services.conflicts import told_apart
from services.identity import Tokens
from services.refusal import Refusal
from services.runtime import DoorRules, Origin, Runtime, Work

log = structlog.get_logger()


def offered(door: DoorRules, method: LoginMethod) -> bool:
    """Whether end users may log in at a door in a way."""
    return method.name in door.login_methods and END_USER in door.admission.roles


# -- account and password -----------------------------------------------------------------------------------------


async def log_in(
    runtime: Runtime, door: DoorRules, origin: Origin, tenant_id: int | None, login: str, password: str
) -> Tokens:
    """Checks an end user's account name, which is one person's within a tenant, and password at a door (S1-74).

    As for staff: whatever is wrong, the caller hears WRONG_CREDENTIALS, and the login log tells why.
    ACCOUNT_LOCKED after five wrong passwords in a row, whether there is such an account or not.
    """
    if not offered(door, LoginMethod.PASSWORD):
        raise logins.refusal(None)
    login = logins.typed(login)
    await logins.limit_attempts(runtime, origin)
    tokens: Tokens | None = None
    async with runtime.database.transaction(system("login")) as session:
        tenant = await session.scalar(select(Tenant).where(Tenant.id == tenant_id))
        person = await session.scalar(
            select(EndUser)
            .where(EndUser.tenant_id == tenant_id, func.lower(EndUser.login) == login.lower())
            .with_for_update()
        )
        now = datetime.now(UTC)
        stored = None if person is None else person.password_hash
        right = await identity.matches(stored, password)
        until = await logins.locked_until(runtime, person, f"{tenant_id} {login.lower()}", now)
        outcome = LoginOutcome.WRONG_CREDENTIALS
        if until is not None:
            outcome = LoginOutcome.LOCKED
        elif person is not None and right:
            active = await session.scalar(select(EndUser.id).where(EndUser.id == person.id, served()))
            outcome = LoginOutcome.SUCCEEDED if active is not None else LoginOutcome.DISABLED
        elif person is not None:
            logins.failed(person, now)
        await logins.record(
            session,
            person or tenant,
            login=login,
            door=door,
            method=LoginMethod.PASSWORD,
            outcome=outcome,
            origin=origin,
        )
        if person is not None and outcome is LoginOutcome.SUCCEEDED:
            logins.unlocked(person)
            tokens = identity.enter(runtime, session, person, door, origin)
    if tokens is not None:
        return tokens
    raise logins.refusal(until)


async def register(
    runtime: Runtime,
    door: DoorRules,
    origin: Origin,
    tenant_id: int,
    *,
    login: str,
    password: str,
    email: str,
    name: str | None,
    signatures: Sequence[Signature],
    verification_code: str | None,
) -> Tokens:
    """A new end user of a tenant, logged in, who has signed all that is in force there (S1-72, S1-73, S1-74).

    REQUIRED (verificationCode) unless this installation takes people in without a code; REGISTRATION_CLOSED where
    the tenant takes nobody in, or has published nothing to sign; REQUIRED (agreements) unless each document in force
    is signed; TAKEN (account). Only who has the right code hears TAKEN (email). What is refused uses no code up.
    """
    if not offered(door, LoginMethod.PASSWORD):
        raise Refusal("REGISTRATION_CLOSED")
    if verification_code is None and not runtime.registration_without_code:
        raise Refusal("REQUIRED", "verificationCode")
    await logins.limit_attempts(runtime, origin)
    login = validation.text(login, "account", limit=64)
    hashed = await identity.hash_password(validation.password(password, "password"))
    address = verification_codes.address(email)
    name = validation.optional(name, "name")
    async with runtime.database.transaction(system("registration")) as session:
        tenant = await session.scalar(select(Tenant).where(Tenant.id == tenant_id, in_business(Tenant.id)))
        current = [] if tenant is None else await agreements.in_force(session, tenant.path)
        if tenant is None or not current:
            raise Refusal("REGISTRATION_CLOSED")
        agreed = agreements.chosen(current, signatures)
        if len({one.id for one in agreed}) < len(current):
            raise Refusal("REQUIRED", "agreements")
        person = EndUser(
            tenant_id=tenant.id,
            tenant_path=tenant.path,
            login=login,
            password_hash=hashed,
            password_changed_at=datetime.now(UTC),
            email=address,
            name=name,
        )
        session.add(person)
        async with told_apart(session, {"uq_end_user_login": ("account", login)}):
            await session.flush()
        if verification_code is not None:
            await verification_codes.redeem(
                runtime, origin, VerificationCodePurpose.REGISTRATION, tenant.id, address, verification_code
            )
            await verify_email(session, person)
            await verification_codes.claim(session, verification_codes.MAIL, person, address)
        await agreements.sign(session, person, agreed)
        await logins.record(
            session,
            person,
            login=login,
            door=door,
            method=LoginMethod.PASSWORD,
            outcome=LoginOutcome.SUCCEEDED,
            origin=origin,
        )
        return identity.enter(runtime, session, person, door, origin)


async def verify_email(session: AsyncSession, person: EndUser) -> None:
    """The person has shown to read what is sent to the address. TAKEN (email) where somebody else has."""
    person.email_verified_at = datetime.now(UTC)
    async with told_apart(session, {"uq_end_user_email": ("email", person.email or "")}):
        await session.flush()


# -- WeChat mini-program ------------------------------------------------------------------------------------------


async def log_in_by_mini_program(
    runtime: Runtime, door: DoorRules, origin: Origin, app_id: str, login_code: str
) -> Tokens:
    """Logs in whom a mini-program's login code stands for; the first time, the person becomes an end user of the
    tenant whose mini-program it is (S0-40).

    LOGIN_NOT_OFFERED for an app that nobody has set up, INVALID_CODE for a code that is wrong, too old or used,
    LOGIN_UNAVAILABLE while WeChat gives no usable answer, ACCOUNT_DISABLED for a person who is kept out.
    """
    if not offered(door, LoginMethod.WECHAT_MINI_PROGRAM):
        raise Refusal("LOGIN_NOT_OFFERED", "appId")
    app_id = validation.text(app_id, "appId", limit=64)
    login_code = validation.text(login_code, "loginCode")
    await logins.limit_attempts(runtime, origin)
    async with runtime.database.transaction(system("login")) as session:
        app = await login_apps.app_in_use(runtime, session, LoginProvider.WECHAT_MINI_PROGRAM, app_id)
    if app is None:
        raise Refusal("LOGIN_NOT_OFFERED", "appId")
    found: WechatIdentity | None = None
    try:
        found = await wechat().code_to_session(app.app_id, app.secret, login_code)
    except CodeRefusedError:
        pass
    except GatewayError as error:
        log.warning("a login by WeChat failed", tenant=app.tenant.id, code=error.code, reason=str(error))
        raise Refusal("LOGIN_UNAVAILABLE") from None
    tokens: Tokens | None = None
    async with runtime.database.transaction(system("login")) as session:
        outcome, person = LoginOutcome.WRONG_CREDENTIALS, None
        if found is not None:
            person = await _person_of(session, app, found)
            active = await session.scalar(select(EndUser.id).where(EndUser.id == person.id, served()))
            outcome = LoginOutcome.SUCCEEDED if active is not None else LoginOutcome.DISABLED
        await logins.record(
            session,
            person or app.tenant,
            login=app.app_id,
            door=door,
            method=LoginMethod.WECHAT_MINI_PROGRAM,
            outcome=outcome,
            origin=origin,
        )
        if person is not None and outcome is LoginOutcome.SUCCEEDED:
            tokens = identity.enter(runtime, session, person, door, origin)
    if tokens is not None:
        return tokens
    if person is not None:
        raise Refusal("ACCOUNT_DISABLED")
    raise Refusal("INVALID_CODE", "loginCode")


async def _person_of(session: AsyncSession, app: login_apps.AppCredentials, found: WechatIdentity) -> EndUser:
    """The end user whom WeChat means. Of two first logins at once one makes the row, the other waits and finds it."""
    table = table_of(EndUser)
    await session.execute(
        insert(table)
        .values(
            tenant_id=app.tenant.id,
            tenant_path=app.tenant.path,
            wechat_app_id=app.app_id,
            wechat_openid=found.openid,
            wechat_unionid=found.unionid,
            status=AccountStatus.ACTIVE,
        )
        .on_conflict_do_nothing(index_elements=["wechat_app_id", "wechat_openid"])
    )
    person = (
        await session.scalars(
            select(EndUser)
            .where(EndUser.wechat_app_id == app.app_id, EndUser.wechat_openid == found.openid)
            .with_for_update()
        )
    ).one()
    if found.unionid is not None:
        person.wechat_unionid = found.unionid
    return person


# -- one's own data -----------------------------------------------------------------------------------------------


async def caller(work: Work) -> EndUser:
    """The calling end user, locked."""
    return await within_reach(work, work.principal.end_user_id)


async def update_profile(work: Work, changes: dict[str, Any]) -> EndUser:
    """Changes what is given of the caller's own profile and leaves the rest (S1-85). A new mail address is taken for
    the person's own once it is confirmed."""
    person = await caller(work)
    if "name" in changes:
        person.name = validation.text(changes["name"], "name")
    if "email" in changes:
        validation.text(changes["email"], "email")
        given = validation.email(changes["email"], "email")
        if given != person.email:
            person.email, person.email_verified_at = given, None
    return person


async def change_password(work: Work, current: str, new: str) -> EndUser:
    """The caller's own password; every other session of the caller ends (S1-86).

    WRONG_CREDENTIALS (current) also where there is no password yet, as of a person who comes by WeChat alone.
    """
    person = await caller(work)
    if person.password_hash is None or not await identity.matches(person.password_hash, current):
        raise Refusal("WRONG_CREDENTIALS", "current")
    person.password_hash = await identity.hash_password(validation.password(new, "new"))
    person.password_changed_at = datetime.now(UTC)
    await end_sessions(work.session, person, but=work.principal.session_key)
    work.access_changed = True
    return person


# -- by those who serve them --------------------------------------------------------------------------------------


async def within_reach(work: Work, end_user_id: int | None) -> EndUser:
    """A person on whom the caller may act, locked. NOT_FOUND otherwise."""
    return await work.held(EndUser, end_user_id, field="endUser")


async def end_sessions(session: AsyncSession, person: EndUser, *, but: str | None = None) -> None:
    """Ends a person's sessions; the one with the key ``but`` goes on."""
    ended = (
        update(LoginSession)
        .values(revoked_at=func.now())
        .where(LoginSession.end_user_id == person.id, LoginSession.revoked_at.is_(None))
    )
    if but is not None:
        ended = ended.where(LoginSession.key != uuid.UUID(but))
    await session.execute(ended)


async def set_status(work: Work, end_user_id: int, status: AccountStatus) -> EndUser:
    """Keeps an end user out, from the next request on, or lets the person in again. ERASED where nobody is left."""
    person = await within_reach(work, end_user_id)
    if person.erased_at is not None:
        raise Refusal("ERASED", "endUser")
    person.status = status
    work.access_changed = True
    return person


async def revoke_sessions(work: Work, end_user_id: int) -> None:
    """Forces an end user out everywhere."""
    person = await within_reach(work, end_user_id)
    await end_sessions(work.session, person)
    work.access_changed = True
