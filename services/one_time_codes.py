"""One-time codes at a login: of the time (RFC 6238), or to recover by; each is used up by passing."""

from __future__ import annotations

import secrets
import time
from datetime import UTC, datetime

import pyotp
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from models.identity import RecoveryCode, StaffAccount
from services.runtime import Runtime

STEP_SECONDS = 30
TOLERATED_STEPS = 1
"""How many steps a phone's clock may be early or late."""


def secret_binding(account_id: int) -> str:
    return f"second_factor:{account_id}"


def recovery_digest(runtime: Runtime, account_id: int, code: str) -> bytes:
    return runtime.keys.digest(f"recovery:{account_id}:{code}")


async def passes(runtime: Runtime, session: AsyncSession, account: StaffAccount, code: str) -> bool:
    """Whether a code, of the time or to recover by, lets a locked account's login pass; it is used up then."""
    if takes(runtime, account, code):
        return True
    plain = "".join(code.split()).replace("-", "").lower()
    found = await session.scalar(
        select(RecoveryCode)
        .where(
            RecoveryCode.account_id == account.id,
            RecoveryCode.code_hash == recovery_digest(runtime, account.id, plain),
            RecoveryCode.used_at.is_(None),
        )
        .with_for_update()
    )
    if found is None:
        return False
    found.used_at = datetime.now(UTC)
    return True


def takes(runtime: Runtime, account: StaffAccount, code: str) -> bool:
    """Whether it is the code of a time step about now that is later than any that was used."""
    assert account.second_factor_secret is not None
    totp = pyotp.TOTP(runtime.keys.decrypt(account.second_factor_secret, secret_binding(account.id)))
    given, now = "".join(code.split()), int(time.time()) // STEP_SECONDS
    for step in range(now - TOLERATED_STEPS, now + TOLERATED_STEPS + 1):
        used = account.second_factor_step is not None and step <= account.second_factor_step
        if secrets.compare_digest(totp.generate_otp(step).encode(), given.encode()) and not used:
            account.second_factor_step = step
            return True
    return False
