"""Closing an account, erasing a person's data, and telling what is known, in the graph."""

from __future__ import annotations

import strawberry

from planner.mapping import input_type, value


@input_type
class CloseMyAccountInput:
    """What confirms that the person asks: exactly one of the password, a code from the mail (``CLOSURE``), and a
    fresh login code of the mini-program."""

    password: str | None = None
    verification_code: str | None = None
    login_code: str | None = None


@input_type
class EraseEndUserInput:
    """Whose data is to be erased, and why."""

    end_user: strawberry.ID
    reason: str


@value
class PersonalData:
    """All that is known of the calling end user."""

    document: str = strawberry.field(
        description="JSON: for each kind of record its rows, with personal data and times."
    )
