"""The second factor of the platform's own staff: one-time codes by time (RFC 6238), and codes to recover by."""

from __future__ import annotations

import secrets
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime

import pyotp
from sqlalchemy import delete, func, select, update

from models.identity import LoginSession, RecoveryCode, StaffAccount
from models.tenancy import Tenant, TenantKind
from services import identity, one_time_codes
from services.refusal import Refusal
from services.runtime import Work

ISSUER = "Trellis"
RECOVERY_CODES = 10


@dataclass(frozen=True)
class Enrolment:
    """What an authenticator app is given, once: as text, and as the address that is shown as a picture."""

    secret: str
    uri: str


async def enrol(work: Work, password: str) -> Enrolment:
    """Begins to enrol the caller, who proves by the password to be who logged in; nothing is asked of a login before
    it is confirmed. ALREADY_ENROLLED, WRONG_CREDENTIALS (password), INVALID for who is not the platform's staff."""
    account = await work.held(StaffAccount, work.principal.account_id, field="account")
    kind = await work.session.scalar(select(Tenant.kind).where(Tenant.id == account.tenant_id))
    if kind is not TenantKind.PLATFORM:
        raise Refusal("INVALID")
    if account.second_factor_at is not None:
        raise Refusal("ALREADY_ENROLLED")
    if not await identity.matches(account.password_hash, password):
        raise Refusal("WRONG_CREDENTIALS", "password")
    secret = pyotp.random_base32()
    account.second_factor_secret = work.runtime.keys.encrypt(secret, one_time_codes.secret_binding(account.id))
    account.second_factor_step = None
    return Enrolment(secret, pyotp.TOTP(secret).provisioning_uri(name=account.login, issuer_name=ISSUER))


async def confirm(work: Work, code: str) -> list[str]:
    """Ends the caller's enrolment by a first code: from now on each login needs one, and other sessions, which had
    none, end. Gives the recovery codes, shown this once. WRONG_ONE_TIME_CODE, ALREADY_ENROLLED, NOT_ENROLLED."""
    account = await work.held(StaffAccount, work.principal.account_id, field="account")
    if account.second_factor_at is not None:
        raise Refusal("ALREADY_ENROLLED")
    if account.second_factor_secret is None:
        raise Refusal("NOT_ENROLLED")
    if not one_time_codes.takes(work.runtime, account, code):
        raise Refusal("WRONG_ONE_TIME_CODE", "oneTimeCode")
    account.second_factor_at = datetime.now(UTC)
    codes = [f"{secrets.token_hex(3)}-{secrets.token_hex(3)}" for _ in range(RECOVERY_CODES)]
    await work.session.execute(delete(RecoveryCode).where(RecoveryCode.account_id == account.id))
    work.session.add_all(
        RecoveryCode(
            tenant_id=account.tenant_id,
            tenant_path=account.tenant_path,
            account_id=account.id,
            code_hash=one_time_codes.recovery_digest(work.runtime, account.id, one.replace("-", "")),
        )
        for one in codes
    )
    await _end_sessions(work, account, but=work.principal.session_key)
    return codes


async def reset(work: Work, account_id: int) -> StaffAccount:
    """Takes the second factor from somebody who has lost it, and ends all of the account's sessions.

    INVALID for one's own: another administrator does it. ACCOUNT_ABOVE for one that may do more than the caller.
    """
    if account_id == work.principal.account_id:
        raise Refusal("INVALID", "account")
    account = await identity.account_to_manage(work, account_id)
    account.second_factor_secret = account.second_factor_at = account.second_factor_step = None
    await work.session.execute(delete(RecoveryCode).where(RecoveryCode.account_id == account.id))
    await _end_sessions(work, account)
    return account


async def _end_sessions(work: Work, account: StaffAccount, but: str | None = None) -> None:
    ended = (
        update(LoginSession)
        .values(revoked_at=func.now())
        .where(LoginSession.account_id == account.id, LoginSession.revoked_at.is_(None))
    )
    await work.session.execute(ended if but is None else ended.where(LoginSession.key != uuid.UUID(but)))
    work.access_changed = True
