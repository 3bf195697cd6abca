"""The second factor of the platform's own staff."""

from __future__ import annotations

import strawberry

from planner.mapping import refer
from planner.registry import mutation
from resolvers.context import Context, key_of
from schema.identity import RecoveryCodesPayload, SecondFactorPayload, StaffAccount, StaffAccountPayload
from services import second_factor


@mutation
async def enrol_second_factor(ctx: Context, password: str) -> SecondFactorPayload:
    """Begins to enrol the caller's second factor; it counts once it is confirmed."""
    begun = await second_factor.enrol(ctx.now, password)
    return SecondFactorPayload(secret=begun.secret, uri=begun.uri, errors=[])


@mutation
async def confirm_second_factor(ctx: Context, one_time_code: str) -> RecoveryCodesPayload:
    """Ends the enrolment: each login needs a code from now on, and the caller's other sessions end."""
    return RecoveryCodesPayload(recovery_codes=await second_factor.confirm(ctx.now, one_time_code), errors=[])


@mutation(on=StaffAccount)
async def reset_second_factor(ctx: Context, account: strawberry.ID) -> StaffAccountPayload:
    """Takes the second factor from another member of staff who has lost it, and ends the account's sessions."""
    changed = await second_factor.reset(ctx.now, key_of(account, "acc", "account"))
    return StaffAccountPayload(account=refer(changed.id), errors=[])
