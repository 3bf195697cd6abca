"""What every payload has in common, and what several domains speak of."""

from __future__ import annotations

from models.telling import RequestStatus
from models.tenancy import Language
from planner.mapping import enum_type, value

enum_type(Language, "A language that people are written to in.")
enum_type(
    RequestStatus,
    "How far a partner outside is with what it was told; UNKNOWN: it has not answered, and is asked what became of it.",
)


@value
class UserError:
    """Why a mutation changed nothing: a code for programs, a message in the caller's language."""

    code: str
    field: str | None
    message: str
