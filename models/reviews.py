"""What waits for somebody's decision: who decided, when, and why not."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, declared_attr, mapped_column, relationship

from models.identity import StaffAccount


class Reviewed:
    """A row that waits for a decision: of who wants to be taken on, have coupons, be paid out. A withdrawal, which can
    still be refused after it was agreed to, notes who closed it apart."""

    reviewed_by_id: Mapped[int | None] = mapped_column(ForeignKey("staff_account.id"))
    reviewed_at: Mapped[datetime | None]
    reason: Mapped[str | None]

    @declared_attr
    @classmethod
    def reviewed_by(cls) -> Mapped[StaffAccount | None]:
        return relationship(lazy="raise", foreign_keys=[cls.reviewed_by_id])

    def review(self, account_id: int | None, now: datetime, reason: str | None = None) -> None:
        """Notes a decision; the status is the caller's to lead on."""
        self.reviewed_by_id, self.reviewed_at, self.reason = account_id, now, reason
