"""The language that somebody wants to be answered and written to in."""

from __future__ import annotations

from models.tenancy import Language
from services import end_users, identity
from services.refusal import Refusal
from services.runtime import Work


async def choose(work: Work, language: Language | None) -> None:
    """The caller's own language from the next request on, whatever the request asks for; None: as it asks for.

    NOT_POSSIBLE_HERE for who is neither a member of staff nor an end user.
    """
    if work.principal.account_id is not None:
        (await identity.account_within_reach(work, work.principal.account_id)).language = language
    elif work.principal.end_user_id is not None:
        (await end_users.caller(work)).language = language
    else:
        raise Refusal("NOT_POSSIBLE_HERE")
    work.access_changed = True
