"""The platform's staff act as a customer's account, to help: for a reason, for a quarter of an hour, and on record.

Access is the account's own and never more. Without the right to write, nothing can be changed; with it, still nothing
that takes or gives a secret. The account's own log names the platform's staff and the reason.
"""

from __future__ import annotations

import secrets
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import jwt
from sqlalchemy import select, update

from authz.access import IMPERSONATE_TO_WRITE
from authz.principal import ROOT_PATH
from authz.standing import in_service
from models.identity import (
    LoginMethod,
    LoginOutcome,
    LoginRecord,
    LoginSession,
    RoleAssignment,
    StaffAccount,
)
from models.tenancy import Tenant
from services import validation
from services.identity import ACCESS_MINUTES, account_to_manage
from services.refusal import Refusal, not_found
from services.runtime import DoorRules, Work

REASON_LIMIT = 500


@dataclass(frozen=True)
class Begun:
    """The token by which somebody acts as an account, and the door that it opens."""

    access_token: str
    door: str
    expires_at: datetime


async def begin(work: Work, account_id: int, reason: str, *, write: bool) -> Begun:
    """Opens a session as an account of a customer's.

    REQUIRED without a reason; NOT_GRANTED to write without that right; NOT_FOUND, ACCOUNT_ABOVE where the account may
    do what the caller may not; OWN_STAFF for an account of the platform's; NOT_ACTIVE where the account cannot log in.
    """
    principal = work.principal
    reason = validation.text(reason, "reason", limit=REASON_LIMIT)
    if principal.session_key is None or principal.impersonation is not None:
        raise Refusal("NOT_POSSIBLE_HERE")
    if write and not principal.grants.allows(*IMPERSONATE_TO_WRITE):
        raise Refusal("WRITE_NOT_GRANTED", "write")
    account = await account_to_manage(work, account_id, "accountId")
    if account.tenant_path == ROOT_PATH:
        raise Refusal("OWN_STAFF", "accountId")
    door = await _door_of(work, account)
    serving = await work.session.scalar(select(StaffAccount.id).where(StaffAccount.id == account.id, in_service()))
    if door is None or serving is None:
        raise Refusal("NOT_ACTIVE", "accountId", value=account.login)
    now = datetime.now(UTC)
    opened = LoginSession(
        tenant_id=account.tenant_id,
        tenant_path=account.tenant_path,
        key=uuid.uuid4(),
        account_id=account.id,
        real_account_id=principal.account_id,
        real_session_key=uuid.UUID(principal.session_key),
        reason=reason,
        may_write=write,
        door=door.name,
        # nobody is given what this is the digest of
        refresh_hash=work.runtime.keys.digest(secrets.token_urlsafe(32)),
        expires_at=now + timedelta(minutes=ACCESS_MINUTES),
        ip=work.origin.ip,
        user_agent=(work.origin.user_agent or "")[:400],
    )
    work.session.add(opened)
    work.session.add(
        LoginRecord(
            tenant_id=account.tenant_id,
            tenant_path=account.tenant_path,
            login=account.login,
            account_id=account.id,
            real_account_id=principal.account_id,
            reason=reason,
            door=door.name,
            method=LoginMethod.IMPERSONATION,
            outcome=LoginOutcome.SUCCEEDED,
            ip=work.origin.ip,
            user_agent=(work.origin.user_agent or "")[:400],
        )
    )
    return Begun(_token(work, opened, now), door.name, opened.expires_at)


async def _door_of(work: Work, account: StaffAccount) -> DoorRules | None:
    """The door at which the account itself would come in."""
    kind = await work.session.scalar(select(Tenant.kind).where(Tenant.id == account.tenant_id))
    if kind is None:
        raise not_found("accountId")
    roles = list(await work.session.scalars(select(RoleAssignment.role).where(RoleAssignment.account_id == account.id)))
    return next(
        (
            door
            for door in work.runtime.doors.values()
            if LoginMethod.PASSWORD.name in door.login_methods and door.admission.of(roles, kind.name)
        ),
        None,
    )


def _token(work: Work, opened: LoginSession, now: datetime) -> str:
    """An access token that says in its claims who really acts, and that nothing continues it."""
    claims = {
        "sub": str(opened.account_id),
        "sid": str(opened.key),
        "aud": opened.door,
        "exp": opened.expires_at,
        "iat": now,
        "act": {"sub": str(opened.real_account_id)},
        "write": opened.may_write,
        "refresh": False,
    }
    return jwt.encode(claims, work.runtime.keys.signing, algorithm="HS256")


async def end(work: Work) -> None:
    """Ends the session in which somebody else acts as the caller. NOT_IMPERSONATED in any other."""
    principal = work.principal
    if principal.impersonation is None or principal.session_key is None:
        raise Refusal("NOT_IMPERSONATED")
    await work.session.execute(
        update(LoginSession)
        .values(revoked_at=datetime.now(UTC))
        .where(LoginSession.key == uuid.UUID(principal.session_key), LoginSession.revoked_at.is_(None))
    )
    work.access_changed = True
