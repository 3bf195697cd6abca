"""Closing an account, erasing a person's data, and telling what is known."""

from __future__ import annotations

from planner.errors import FieldFailure
from planner.mapping import refer
from planner.registry import mutation, query
from resolvers.context import Context, key_of
from schema.identity import DonePayload, EndUserPayload
from schema.personal_data import CloseMyAccountInput, EraseEndUserInput, PersonalData
from services import personal_data


@query("PersonalData | None")
async def export_my_data(ctx: Context) -> PersonalData | FieldFailure:
    """All that is known of the calling end user, as a JSON document; NOT_POSSIBLE_HERE for anybody else."""
    document = await personal_data.export(ctx.runtime, ctx.principal)
    if document is None:
        return FieldFailure("NOT_POSSIBLE_HERE", "NOT_POSSIBLE_HERE")
    return PersonalData(document=document)


@mutation
async def close_my_account(ctx: Context, input: CloseMyAccountInput) -> DonePayload:
    """Closes the calling end user's account: its sessions end at once, and the personal data is erased."""
    await personal_data.close_own(
        ctx.now, password=input.password, verification_code=input.verification_code, login_code=input.login_code
    )
    return DonePayload(done=True, errors=[])


@mutation
async def erase_end_user(ctx: Context, input: EraseEndUserInput) -> EndUserPayload:
    """Erases a person's data for good; what must be kept stays with the person's key."""
    erased = await personal_data.erase(ctx.now, key_of(input.end_user, "eus", "endUser"), input.reason)
    return EndUserPayload(end_user=refer(erased), errors=[])
