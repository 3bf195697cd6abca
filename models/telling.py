"""What partners outside are told, and how far they are with it."""

from __future__ import annotations

import enum
from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import CheckConstraint, Index, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import stored_enum


class RequestStatus(enum.Enum):
    """How far a request is at the partner. What it was told, and has not answered, is UNKNOWN: it is asked after, and
    not told again."""

    PENDING = "PENDING"
    UNKNOWN = "UNKNOWN"
    ACCEPTED = "ACCEPTED"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"


OPEN = (RequestStatus.PENDING, RequestStatus.UNKNOWN, RequestStatus.ACCEPTED)


class Told:
    """A request to a partner, under a number of ours, and what became of it."""

    __telling__: ClassVar[tuple[str, ...]] = (
        "status", "request_no", "attempts", "last_response", "next_attempt_at", "submitted_at", "finished_at",
        "updated_at",
    )  # fmt: skip
    """The columns that change on the way."""

    status: Mapped[RequestStatus] = mapped_column(stored_enum(RequestStatus), default=RequestStatus.PENDING)
    request_no: Mapped[str]
    attempts: Mapped[int] = mapped_column(default=0, server_default="0")
    last_response: Mapped[str | None]
    next_attempt_at: Mapped[datetime] = mapped_column(server_default=func.now())
    submitted_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


def told(table: str) -> tuple[Any, ...]:
    """The constraints of such a table."""
    return (
        UniqueConstraint("request_no"),
        CheckConstraint("(status IN ('SUCCEEDED', 'FAILED')) = (finished_at IS NOT NULL)", name="finished_when_over"),
        Index(
            f"ix_{table}_open_next_attempt_at",
            "next_attempt_at",
            postgresql_where=text("status IN ('PENDING', 'UNKNOWN', 'ACCEPTED')"),
        ),
    )
