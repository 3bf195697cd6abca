"""A forgotten password of a member of staff: a code by mail, and with it a new password (S1-73, S1-75).

Whether an account exists shows nowhere: the request only counts and writes down what was asked; a worker looks for
the account. An account without a mail address gets no code.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import redis.asyncio as redis
from sqlalchemy import func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from authz.principal import ROOT_PATH, system
from authz.session import Database
from authz.standing import Admission, in_service
from models.identity import LoginMethod, LoginSession, RoleAssignment, StaffAccount
from models.system import OutboxEvent
from models.tenancy import Tenant
from services import codes, notifications, validation
from services.identity import hash_password
from services.keys import Keys
from services.notifications.kinds import PASSWORD_CHANGED, PASSWORD_RESET
from services.refusal import Refusal
from services.runtime import DoorRules, Origin, Runtime

PURPOSE = "password reset"
TOPIC = "account.password_reset"


def _asked(door: DoorRules, account: str) -> str:
    """The account as it was typed, in one spelling. NOT_POSSIBLE_HERE at a door without passwords."""
    if LoginMethod.PASSWORD.name not in door.login_methods:
        raise Refusal("NOT_POSSIBLE_HERE")
    return validation.text(account, "account").lower()


async def request(runtime: Runtime, door: DoorRules, origin: Origin, account: str) -> None:
    """Asks for a code. TOO_MANY_ATTEMPTS as ``codes.limit`` says, for accounts that do not exist too."""
    asked = _asked(door, account)
    await codes.limit(runtime.redis, runtime.keys, PURPOSE, asked, origin.ip)
    async with runtime.database.transaction(system("password reset")) as session:
        platform = await session.scalar(select(Tenant.id).where(Tenant.path == ROOT_PATH))
        session.add(
            OutboxEvent(
                tenant_id=platform,
                tenant_path=ROOT_PATH,
                topic=TOPIC,
                payload={
                    "account": asked,
                    "roles": sorted(door.admission.roles),
                    "tenant_kinds": sorted(door.admission.tenant_kinds),
                },
            )
        )


async def send_code(
    database: Database,
    server: redis.Redis,
    keys: Keys,
    *,
    account: str,
    roles: Sequence[str],
    tenant_kinds: Sequence[str],
) -> None:
    """Mails a code to the account that was asked for, where there is one that the door lets in. A repeat sends a new
    code, and the earlier one stops working."""
    async with database.transaction(system("password reset")) as session:
        found = await _account(session, Admission(frozenset(roles), frozenset(tenant_kinds)), account)
        if found is None or found.email is None:
            return
        code = await codes.issue(server, keys, PURPOSE, str(found.id))
        await notifications.send(
            session,
            kind=PASSWORD_RESET.key,
            to=await notifications.Recipient.account(session, found),
            parameters={"name": found.name, "code": code, "minutes": codes.MINUTES},
            keys=keys,
        )


async def reset(runtime: Runtime, door: DoorRules, origin: Origin, account: str, code: str, new: str) -> None:
    """Sets a new password for a code. The account is unlocked, all its sessions end, and it is told by mail.

    WEAK_PASSWORD uses no code up; WRONG_CODE whether or not the account exists. Of two at once with one code, one
    succeeds.
    """
    asked = _asked(door, account)
    password = validation.password(new, "new")
    async with runtime.database.transaction(system("password reset")) as session:
        found = await _account(session, door.admission, asked)
        whose = f"nobody {asked}" if found is None else str(found.id)
        await codes.redeem(runtime.redis, runtime.keys, PURPOSE, whose, code, origin.ip)
        assert found is not None, "a code is issued to accounts alone"
        found.password_hash = await hash_password(password)
        found.password_changed_at = datetime.now(UTC)
        found.failed_logins, found.locked_until = 0, None
        await session.execute(
            update(LoginSession)
            .values(revoked_at=func.now())
            .where(LoginSession.account_id == found.id, LoginSession.revoked_at.is_(None))
        )
        await notifications.send(
            session,
            kind=PASSWORD_CHANGED.key,
            to=await notifications.Recipient.account(session, found),
            parameters={"name": found.name},
        )
    await runtime.access.changed()


async def _account(session: AsyncSession, admission: Admission, asked: str) -> StaffAccount | None:
    """The account of a name, or else the only one with a mail address, if it is in service and let in at the door."""
    rows = list(
        await session.scalars(
            select(StaffAccount)
            .where(or_(func.lower(StaffAccount.login) == asked, func.lower(StaffAccount.email) == asked), in_service())
            .order_by(func.lower(StaffAccount.login) != asked, StaffAccount.id)
            .limit(3)
        )
    )
    named = [account for account in rows if account.login.lower() == asked]
    if not named and len(rows) != 1:
        return None
    found = (named or rows)[0]
    kind = await session.scalar(select(Tenant.kind).where(Tenant.id == found.tenant_id))
    roles = await session.scalars(select(RoleAssignment.role).where(RoleAssignment.account_id == found.id))
    if kind is None or not admission.of(roles, kind.name):
        return None
    await session.refresh(found, with_for_update=True)
    return found
