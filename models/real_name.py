"""Real names: who an end user is, as its card's carrier wants to know before the card goes into service."""

from __future__ import annotations

import enum
from datetime import datetime

from sqlalchemy import ForeignKey, Index, LargeBinary, func, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from models.base import AppendOnly, Base, Personal, TenantOwned, Timestamped, impersonal, personal, stored_enum
from models.identity import EndUser
from models.sim import SimCard
from models.tenancy import Tenant


class RealNameStatus(enum.Enum):
    PENDING = "PENDING"
    VERIFIED = "VERIFIED"
    REJECTED = "REJECTED"


class RealNameRecord(Timestamped, AppendOnly, Personal, TenantOwned, Base):
    """What an end user has shown to have a card put into service (S0-31). The number and the pictures of the document
    are encrypted; they go to the carrier and nowhere else, and what has been decided no longer holds them."""

    __tablename__ = "real_name_record"
    __changeable__ = (
        "status",
        "reason",
        "carrier_reference",
        "attempts",
        "next_attempt_at",
        "decided_at",
        "updated_at",
    )
    __constraints__ = (
        Index(
            "uq_real_name_record_pending", "sim_card_id", unique=True, postgresql_where=text("status = 'PENDING'")
        ),
        Index(
            "ix_real_name_record_pending_next_attempt_at",
            "next_attempt_at",
            postgresql_where=text("status = 'PENDING'"),
        ),
    )  # fmt: skip

    sim_card_id: Mapped[int] = mapped_column(ForeignKey("sim_card.id"), index=True)
    name: Mapped[str | None] = mapped_column(info=personal())
    id_number_tail: Mapped[str | None] = mapped_column(info=personal())
    """The last four characters, by which the person knows the document again."""
    id_number_encrypted: Mapped[bytes | None] = mapped_column(LargeBinary, info=personal(secret=True))
    front_encrypted: Mapped[bytes | None] = mapped_column(LargeBinary, info=personal(secret=True))
    back_encrypted: Mapped[bytes | None] = mapped_column(LargeBinary, info=personal(secret=True))
    status: Mapped[RealNameStatus] = mapped_column(stored_enum(RealNameStatus), default=RealNameStatus.PENDING)
    reason: Mapped[str | None] = mapped_column(info=impersonal("Why the carrier said no."))
    carrier_reference: Mapped[str | None] = mapped_column(info=impersonal("The carrier's number of it."))
    attempts: Mapped[int] = mapped_column(default=0, server_default="0")
    next_attempt_at: Mapped[datetime] = mapped_column(server_default=func.now())
    decided_at: Mapped[datetime | None]

    tenant: Mapped[Tenant] = relationship(lazy="raise", viewonly=True)
    sim_card: Mapped[SimCard] = relationship(lazy="raise")
    end_user: Mapped[EndUser] = relationship(lazy="raise", foreign_keys="RealNameRecord.end_user_id")
