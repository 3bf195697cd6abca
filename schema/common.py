"""What every payload has in common."""

from __future__ import annotations

from planner.mapping import value


@value
class UserError:
    """Why a mutation changed nothing: a code for programs, a message in the caller's language."""

    code: str
    field: str | None
    message: str
