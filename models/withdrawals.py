"""Withdrawals: money of its own that an agent or a merchant asks to be paid out."""

from __future__ import annotations

import enum
from datetime import date, datetime
from decimal import Decimal

from sqlalchemy import CheckConstraint, ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column, relationship

from models.base import AppendOnly, Base, TenantOwned, Timestamped, stored_enum
from models.identity import StaffAccount
from models.ledger import LedgerTransfer
from models.reviews import Reviewed
from models.tenancy import Tenant


class WithdrawalStatus(enum.Enum):
    REQUESTED = "REQUESTED"
    APPROVED = "APPROVED"
    REJECTED = "REJECTED"
    CANCELLED = "CANCELLED"
    PAID = "PAID"


class Withdrawal(Reviewed, Timestamped, AppendOnly, TenantOwned, Base):
    """Income that an agent asks for, or funds that a merchant does, withheld until it is paid or given back (S0-50)."""

    __tablename__ = "withdrawal"
    __changeable__ = (
        "status",
        "reviewed_by_id",
        "reviewed_at",
        "closed_by_id",
        "closed_at",
        "reason",
        "paid_on",
        "reference",
        "hold_transfer_id",
        "transfer_id",
        "updated_at",
    )
    __constraints__ = (
        CheckConstraint("amount > 0", name="amount_positive"),
        CheckConstraint(
            "(status IN ('REJECTED', 'CANCELLED', 'PAID')) = (transfer_id IS NOT NULL)", name="closed_by_transfer"
        ),
        CheckConstraint("(status = 'PAID') = (paid_on IS NOT NULL)", name="paid_on_a_day"),
        Index("ix_withdrawal_status_id", "status", "id"),
    )

    amount: Mapped[Decimal]
    currency: Mapped[str]
    status: Mapped[WithdrawalStatus] = mapped_column(stored_enum(WithdrawalStatus), default=WithdrawalStatus.REQUESTED)
    payee: Mapped[str]
    bank: Mapped[str]
    bank_account: Mapped[str]
    requested_by_id: Mapped[int | None] = mapped_column(ForeignKey("staff_account.id"))
    closed_by_id: Mapped[int | None] = mapped_column(ForeignKey("staff_account.id"))
    closed_at: Mapped[datetime | None]
    paid_on: Mapped[date | None]
    reference: Mapped[str | None]
    hold_transfer_id: Mapped[int | None] = mapped_column(ForeignKey("ledger_transfer.id"), unique=True)
    transfer_id: Mapped[int | None] = mapped_column(ForeignKey("ledger_transfer.id"), unique=True)

    tenant: Mapped[Tenant] = relationship(lazy="raise", viewonly=True)
    requested_by: Mapped[StaffAccount | None] = relationship(lazy="raise", foreign_keys=[requested_by_id])
    closed_by: Mapped[StaffAccount | None] = relationship(lazy="raise", foreign_keys=[closed_by_id])
    transfer: Mapped[LedgerTransfer | None] = relationship(lazy="raise", foreign_keys=[transfer_id])
