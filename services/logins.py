"""What every way to log in has in common, for staff and for end users: the log, the limits, and the lock."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from authz.principal import ROOT_PATH
from models.identity import EndUser, LoginMethod, LoginOutcome, LoginRecord, StaffAccount
from models.tenancy import Tenant
from services.refusal import Refusal
from services.runtime import DoorRules, Origin, Runtime

LOCK_AFTER = 5
LOCK_MINUTES = 15
NOBODY_SECONDS = 24 * 3600
"""How long failed attempts at a name that no account has are counted."""
ATTEMPTS_PER_ADDRESS = 60
"""Tries to log in from one address within a minute, whatever the account."""


def typed(login: str) -> str:
    """An account name as somebody typed it, fit to be looked for and logged."""
    return login.strip().replace("\x00", "\ufffd")


async def limit_attempts(runtime: Runtime, origin: Origin) -> None:
    """TOO_MANY_ATTEMPTS after sixty within a minute from one address."""
    key = f"trellis:login-attempts:{origin.ip}"
    async with runtime.redis.pipeline() as batch:
        batch.incr(key)
        batch.expire(key, 60, nx=True)
        count, _ = await batch.execute()
    if count > ATTEMPTS_PER_ADDRESS:
        raise Refusal("TOO_MANY_ATTEMPTS")


# -- the lock -----------------------------------------------------------------------------------------------------


async def locked_until(
    runtime: Runtime, holder: StaffAccount | EndUser | None, name: str, now: datetime
) -> datetime | None:
    """Until when an account is locked, or a name that nobody has; None where it is not.

    To be asked once for each try: of a name that nobody has it counts the try, so that such names lock like any
    other and a lock tells nothing. ``name`` is the place of the login, in one spelling.
    """
    if holder is None:
        return await _lock_of_nobody(runtime, name, now)
    return holder.locked_until if holder.locked_until is not None and holder.locked_until > now else None


async def _lock_of_nobody(runtime: Runtime, name: str, now: datetime) -> datetime | None:
    key = f"trellis:nobody-failed:{runtime.keys.digest(name).hex()}"
    failed = await runtime.redis.incr(key)
    if failed > LOCK_AFTER:
        return now + timedelta(seconds=await runtime.redis.ttl(key))
    await runtime.redis.expire(key, LOCK_MINUTES * 60 if failed == LOCK_AFTER else NOBODY_SECONDS)
    return None


def failed(holder: StaffAccount | EndUser, now: datetime) -> None:
    """Counts a wrong password; the fifth in a row locks the account."""
    holder.failed_logins += 1
    if holder.failed_logins >= LOCK_AFTER:
        holder.failed_logins, holder.locked_until = 0, now + timedelta(minutes=LOCK_MINUTES)


def unlocked(holder: StaffAccount | EndUser) -> None:
    """Forgets wrong passwords and what they have locked."""
    holder.failed_logins, holder.locked_until = 0, None


def refusal(until: datetime | None) -> Refusal:
    """What the caller hears of a login that failed: ACCOUNT_LOCKED, or else WRONG_CREDENTIALS whatever was wrong."""
    if until is not None:
        return Refusal("ACCOUNT_LOCKED", "account", until=until.isoformat(timespec="minutes"))
    return Refusal("WRONG_CREDENTIALS", "account")


# -- the log ------------------------------------------------------------------------------------------------------


async def record(
    session: AsyncSession,
    owner: StaffAccount | EndUser | Tenant | None,
    *,
    login: str,
    door: DoorRules,
    method: LoginMethod,
    outcome: LoginOutcome,
    origin: Origin,
) -> None:
    """Writes a try to log in (S1-28): of an account or a person, at a tenant that serves people, or of nobody's."""
    if isinstance(owner, StaffAccount | EndUser):
        tenant_id, path = owner.tenant_id, owner.tenant_path
    elif owner is not None:
        tenant_id, path = owner.id, owner.path
    else:
        tenant_id = (await session.scalars(select(Tenant.id).where(Tenant.path == ROOT_PATH))).one()
        path = ROOT_PATH
    session.add(
        LoginRecord(
            tenant_id=tenant_id,
            tenant_path=path,
            login=login[:200],
            account_id=owner.id if isinstance(owner, StaffAccount) else None,
            end_user_id=owner.id if isinstance(owner, EndUser) else None,
            door=door.name,
            method=method,
            outcome=outcome,
            ip=origin.ip,
            user_agent=(origin.user_agent or "")[:400],
        )
    )
