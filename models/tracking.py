"""What people do in the frontends, as the frontends report it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, LogEntry


class BehaviourEvent(LogEntry, Base):
    """One thing that somebody did on a page (S4-70). A visitor's, or an end user's, belongs to the platform."""

    __tablename__ = "behaviour_event"

    at: Mapped[datetime] = mapped_column(index=True)
    received_at: Mapped[datetime] = mapped_column(server_default=func.now())
    event: Mapped[str]
    page_key: Mapped[str]
    properties: Mapped[dict[str, Any]] = mapped_column(JSONB)
    door: Mapped[str]
    caller: Mapped[str]
