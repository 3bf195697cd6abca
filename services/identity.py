"""Logins, sessions, staff accounts, roles, departments and API keys."""

from __future__ import annotations

import asyncio
import hmac
import secrets
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache

import jwt
from argon2 import PasswordHasher
from argon2.exceptions import VerificationError
from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from authz.access import Holder
from authz.principal import system
from authz.standing import in_service, served
from models.identity import (
    AccountStatus,
    Department,
    EndUser,
    LoginMethod,
    LoginOutcome,
    LoginSession,
    RoleAssignment,
    StaffAccount,
)
from models.tenancy import Tenant
from services import granting, logins, one_time_codes, validation
from services.conflicts import told_apart
from services.refusal import Refusal, not_found
from services.runtime import DoorRules, Origin, Runtime, Work

ACCESS_MINUTES = 15
SESSION_DAYS = 30
PERSON = "person:"
"""Stands before the key of an end user in a token; a staff account's stands alone."""

_hasher = PasswordHasher()


@dataclass(frozen=True)
class Tokens:
    access_token: str
    refresh_token: str
    expires_at: datetime


@dataclass(frozen=True)
class AccessClaims:
    holder: Holder
    session_key: str
    door: str
    expires_at: float


async def hash_password(plain: str) -> str:
    return await asyncio.to_thread(_hasher.hash, plain)


async def matches(stored: str | None, given: str) -> bool:
    """Whether a password is the one of a stored hash; where there is none, the answer takes as long."""
    try:
        right = await asyncio.to_thread(lambda: _hasher.verify(stored or _of_nobody(), given[:1_000]))
    except VerificationError:
        return False
    return right and stored is not None


@cache
def _of_nobody() -> str:
    return _hasher.hash(secrets.token_hex(16))


# -- logging in ---------------------------------------------------------------------------------------------------


async def log_in(
    runtime: Runtime, door: DoorRules, origin: Origin, login: str, password: str, one_time_code: str | None = None
) -> Tokens:
    """Checks an account name and password at a door (S0-01, S0-19).

    Unknown accounts, wrong passwords, disabled accounts and accounts of another door are all told apart in the
    login log only; the caller hears WRONG_CREDENTIALS. ACCOUNT_LOCKED after five wrong passwords in a row.
    Who has the password right, and has a second factor, hears SECOND_FACTOR_REQUIRED without a one-time code, and
    WRONG_ONE_TIME_CODE for a wrong or used one, which counts like a wrong password.
    """
    if LoginMethod.PASSWORD.name not in door.login_methods:
        raise logins.refusal(None)
    login = logins.typed(login)
    await logins.limit_attempts(runtime, origin)
    tokens: Tokens | None = None
    async with runtime.database.transaction(system("login")) as session:
        account = await session.scalar(
            select(StaffAccount).where(func.lower(StaffAccount.login) == login.lower()).with_for_update()
        )
        now = datetime.now(UTC)
        refusal: str | None = None
        right = await matches(None if account is None else account.password_hash, password)
        until = await logins.locked_until(runtime, account, login.lower(), now)
        outcome = await judge(session, account, door, locked=until is not None, right=right)
        if account is not None and outcome is LoginOutcome.SUCCEEDED and account.second_factor_at is not None:
            given = (one_time_code or "").strip()
            if not given or not await one_time_codes.passes(runtime, session, account, given):
                outcome = LoginOutcome.SECOND_FACTOR
                refusal = "WRONG_ONE_TIME_CODE" if given else "SECOND_FACTOR_REQUIRED"
        await logins.record(
            session, account, login=login, door=door, method=LoginMethod.PASSWORD, outcome=outcome, origin=origin
        )
        if account is not None:
            if outcome is LoginOutcome.WRONG_CREDENTIALS or refusal == "WRONG_ONE_TIME_CODE":
                logins.failed(account, now)
            elif outcome is LoginOutcome.SUCCEEDED:
                logins.unlocked(account)
                tokens = enter(runtime, session, account, door, origin)
    if tokens is not None:
        return tokens
    if refusal is not None:
        raise Refusal(refusal, "oneTimeCode")
    raise logins.refusal(until)


async def judge(
    session: AsyncSession, account: StaffAccount | None, door: DoorRules, *, locked: bool, right: bool
) -> LoginOutcome:
    """How a try to log in ends, for an account or for none, at a door."""
    if locked:
        return LoginOutcome.LOCKED
    if account is None or not right:
        return LoginOutcome.WRONG_CREDENTIALS
    kind = await session.scalar(
        select(Tenant.kind)
        .join(StaffAccount, StaffAccount.tenant_id == Tenant.id)
        .where(StaffAccount.id == account.id, in_service())
    )
    if kind is None:
        return LoginOutcome.DISABLED
    roles = await session.scalars(select(RoleAssignment.role).where(RoleAssignment.account_id == account.id))
    if not door.admission.of(roles, kind.name):
        return LoginOutcome.WRONG_DOOR
    return LoginOutcome.SUCCEEDED


def open_session(
    runtime: Runtime, holder: StaffAccount | EndUser, door: DoorRules, origin: Origin, now: datetime
) -> tuple[LoginSession, str]:
    """A new session and the refresh token that it can be told to continue by."""
    refresh = secrets.token_urlsafe(32)
    opened = LoginSession(
        tenant_id=holder.tenant_id,
        tenant_path=holder.tenant_path,
        key=uuid.uuid4(),
        account_id=holder.id if isinstance(holder, StaffAccount) else None,
        end_user_id=holder.id if isinstance(holder, EndUser) else None,
        door=door.name,
        refresh_hash=runtime.keys.digest(refresh),
        expires_at=now + timedelta(days=SESSION_DAYS),
        ip=origin.ip,
        user_agent=(origin.user_agent or "")[:400],
    )
    return opened, refresh


def enter(
    runtime: Runtime, session: AsyncSession, holder: StaffAccount | EndUser, door: DoorRules, origin: Origin
) -> Tokens:
    """Opens a session for whoever was judged to be let in."""
    now = datetime.now(UTC)
    holder.last_login_at = now
    opened, refresh = open_session(runtime, holder, door, origin, now)
    session.add(opened)
    return tokens_of(runtime, opened, refresh, now)


def tokens_of(runtime: Runtime, session: LoginSession, refresh: str, now: datetime) -> Tokens:
    expires = now + timedelta(minutes=ACCESS_MINUTES)
    subject = str(session.account_id) if session.end_user_id is None else f"{PERSON}{session.end_user_id}"
    claims = {"sub": subject, "sid": str(session.key), "aud": session.door, "exp": expires, "iat": now}
    access = jwt.encode(claims, runtime.keys.signing, algorithm="HS256")
    return Tokens(access, f"{session.key}.{refresh}", expires)


def read_access_token(runtime: Runtime, token: str, door: str) -> AccessClaims | None:
    """The claims of a token that this installation signed for this door and that has not expired."""
    try:
        claims = jwt.decode(token, runtime.keys.signing, algorithms=["HS256"], audience=door)
    except jwt.InvalidTokenError:
        return None
    subject: str = claims["sub"]
    person = subject.removeprefix(PERSON)
    holder = Holder(account_id=int(subject)) if person == subject else Holder(end_user_id=int(person))
    return AccessClaims(holder, claims["sid"], door, float(claims["exp"]))


async def refresh(runtime: Runtime, door: DoorRules, token: str) -> Tokens:
    """New tokens for a refresh token, which works once. A second use means that somebody else has it: the whole
    session ends. Raises SESSION_ENDED."""
    key, _, given = token.partition(".")
    try:
        session_key = uuid.UUID(key)
    except ValueError:
        raise Refusal("SESSION_ENDED") from None
    now = datetime.now(UTC)
    tokens = None
    reused = False
    async with runtime.database.transaction(system("refresh")) as session:
        found = await session.scalar(
            select(LoginSession)
            .where(
                LoginSession.key == session_key,
                LoginSession.door == door.name,
                LoginSession.real_account_id.is_(None),
            )
            .with_for_update()
        )
        if found is not None and found.revoked_at is None and found.expires_at > now:
            active = await session.scalar(
                select(StaffAccount.id).where(StaffAccount.id == found.account_id, in_service())
                if found.end_user_id is None
                else select(EndUser.id).where(EndUser.id == found.end_user_id, served())
            )
            if not hmac.compare_digest(found.refresh_hash, runtime.keys.digest(given)):
                found.revoked_at, reused = now, True
            elif active is not None:
                fresh = secrets.token_urlsafe(32)
                found.refresh_hash, found.refreshed_at = runtime.keys.digest(fresh), now
                tokens = tokens_of(runtime, found, fresh, now)
    if reused:
        await runtime.access.changed()
    if tokens is None:
        raise Refusal("SESSION_ENDED")
    return tokens


async def log_out(work: Work, *, everywhere: bool = False) -> None:
    """Ends the caller's session, or all sessions of the account or end user."""
    ended = update(LoginSession).values(revoked_at=func.now()).where(LoginSession.revoked_at.is_(None))
    if everywhere and work.principal.account_id is not None:
        ended = ended.where(LoginSession.account_id == work.principal.account_id)
    elif everywhere and work.principal.end_user_id is not None:
        ended = ended.where(LoginSession.end_user_id == work.principal.end_user_id)
    elif work.principal.session_key is not None:
        ended = ended.where(LoginSession.key == uuid.UUID(work.principal.session_key))
    else:
        return
    await work.session.execute(ended)
    work.access_changed = True


async def revoke_sessions(work: Work, account_id: int) -> None:
    """Forces an account out everywhere."""
    await end_sessions(work, await account_to_manage(work, account_id))


async def end_sessions(work: Work, account: StaffAccount) -> None:
    """Ends every session of an account."""
    await work.session.execute(
        update(LoginSession)
        .values(revoked_at=func.now())
        .where(LoginSession.account_id == account.id, LoginSession.revoked_at.is_(None))
    )
    work.access_changed = True


# -- accounts -----------------------------------------------------------------------------------------------------


async def tenant_for(work: Work, tenant_id: int | None) -> Tenant:
    """A tenant within reach; the caller's own where none is named."""
    return await work.found(Tenant, work.principal.tenant_id if tenant_id is None else tenant_id, field="tenant")


async def account_within_reach(work: Work, account_id: int, field: str = "account") -> StaffAccount:
    """An account that the caller may act on, locked. NOT_FOUND otherwise."""
    return await work.held(StaffAccount, account_id, field=field)


async def within_reach(work: Work, account: StaffAccount) -> bool:
    """Whether an account stands where the caller may act: who reaches the staff of some departments only makes and
    moves accounts there."""
    return await work.session.scalar(select(StaffAccount.id).where(StaffAccount.id == account.id)) is not None


async def account_to_manage(work: Work, account_id: int, field: str = "account") -> StaffAccount:
    """An account within reach that may do nothing that the caller may not; else who resets a password could become
    somebody greater. ACCOUNT_ABOVE otherwise."""
    account = await account_within_reach(work, account_id, field)
    await _check_not_above(work, account, field)
    return account


async def _check_not_above(work: Work, account: StaffAccount, field: str = "account") -> None:
    own = account.id == work.principal.account_id
    if not own and not await granting.covers_all(work, [account.id], account.tenant_path):
        raise Refusal("ACCOUNT_ABOVE", field)


async def create_account(
    work: Work,
    tenant: Tenant,
    *,
    login: str,
    password: str,
    name: str,
    roles: Sequence[str],
    email: str | None = None,
    phone: str | None = None,
    department_id: int | None = None,
    onboarding: bool = False,
) -> StaffAccount:
    """A new account of a tenant's staff. TAKEN, WEAK_PASSWORD, ROLE_NOT_GRANTABLE, NOT_FOUND (department), REQUIRED
    (department) by who reaches the staff of some departments only.

    ``onboarding``: the first account of a new tenant gets the role of its kind, which nobody chose.
    """
    login = validation.text(login, "login", limit=64)
    granted = list(roles) if onboarding else await granting.check_grantable(work, roles, tenant)
    hashed = await hash_password(validation.password(password, "password"))
    if department_id is not None:
        found = await work.session.scalar(
            select(Department.id).where(Department.id == department_id, Department.tenant_id == tenant.id)
        )
        if found is None:
            raise not_found("department")
    account = StaffAccount(
        tenant_id=tenant.id,
        tenant_path=tenant.path,
        login=login,
        password_hash=hashed,
        name=validation.text(name, "name"),
        email=validation.email(email, "email"),
        phone=validation.phone(phone, "phone"),
        department_id=department_id,
    )
    account.roles = [RoleAssignment(tenant_id=tenant.id, tenant_path=tenant.path, role=role) for role in granted]
    work.session.add(account)
    async with told_apart(work.session, {"uq_staff_account_login": ("login", login)}):
        await work.session.flush()
    if not onboarding and not await within_reach(work, account):
        raise Refusal("REQUIRED", "department")
    return account


async def set_roles(work: Work, account_id: int, roles: Sequence[str]) -> StaffAccount:
    """The roles of an account from now on; also what is taken away must be the caller's to give."""
    account = await account_within_reach(work, account_id)
    tenant = await tenant_for(work, account.tenant_id)
    held = list(await work.session.scalars(select(RoleAssignment).where(RoleAssignment.account_id == account.id)))
    wanted = set(roles)
    before = {assignment.role for assignment in held}
    await granting.check_takeable(work, sorted(before - wanted), tenant)
    await granting.check_grantable(work, sorted(wanted - before), tenant)
    await _check_not_above(work, account)
    for assignment in held:
        if assignment.role not in wanted:
            await work.session.delete(assignment)
    for role in sorted(wanted - before):
        work.session.add(RoleAssignment(tenant_id=tenant.id, tenant_path=tenant.path, account_id=account.id, role=role))
    work.access_changed = True
    return account


async def set_account_status(work: Work, account_id: int, status: AccountStatus) -> StaffAccount:
    """Disables an account, from the next request on, or enables it again."""
    account = await account_to_manage(work, account_id)
    if account.id == work.principal.account_id:
        raise Refusal("INVALID", "account")
    account.status = status
    work.access_changed = True
    return account


async def change_password(work: Work, current: str, new: str) -> StaffAccount:
    """The caller's own password; every other session of the account ends."""
    assert work.principal.account_id is not None
    account = await account_within_reach(work, work.principal.account_id)
    if not await matches(account.password_hash, current):
        raise Refusal("WRONG_CREDENTIALS", "current")
    account.password_hash = await hash_password(validation.password(new, "new"))
    account.password_changed_at = datetime.now(UTC)
    ended = (
        update(LoginSession)
        .values(revoked_at=func.now())
        .where(LoginSession.account_id == account.id, LoginSession.revoked_at.is_(None))
    )
    if work.principal.session_key is not None:
        ended = ended.where(LoginSession.key != uuid.UUID(work.principal.session_key))
    await work.session.execute(ended)
    work.access_changed = True
    return account
