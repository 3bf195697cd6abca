"""Security deposits: what a merchant has to leave with the platform, and what it has paid and had back."""

from __future__ import annotations

import enum
from datetime import datetime
from decimal import Decimal

from sqlalchemy import CheckConstraint, ForeignKey, UniqueConstraint, func
from sqlalchemy.orm import Mapped, mapped_column, relationship

from models.base import AppendOnly, Base, TenantOwned, Timestamped, stored_enum
from models.identity import StaffAccount
from models.ledger import LedgerTransfer
from models.tenancy import Tenant


class DepositMovementKind(enum.Enum):
    PAID = "PAID"
    RELEASED = "RELEASED"


class DepositTerms(Timestamped, TenantOwned, Base):
    """How much a merchant has to leave as a security; nothing for one that trades without (S4-67)."""

    __tablename__ = "deposit_terms"
    __constraints__ = (
        UniqueConstraint("tenant_id"),
        CheckConstraint("required_amount >= 0", name="amount_not_negative"),
    )

    required_amount: Mapped[Decimal]
    currency: Mapped[str]
    reason: Mapped[str | None]
    set_by_id: Mapped[int | None] = mapped_column(ForeignKey("staff_account.id"))

    tenant: Mapped[Tenant] = relationship(lazy="raise", viewonly=True)
    set_by: Mapped[StaffAccount | None] = relationship(lazy="raise")


class DepositMovement(AppendOnly, TenantOwned, Base):
    """Some of a merchant's money that became its deposit, or was released from it (S4-67)."""

    __tablename__ = "deposit_movement"
    __constraints__ = (
        UniqueConstraint("transfer_id"),
        CheckConstraint("amount > 0", name="amount_positive"),
        CheckConstraint("kind <> 'RELEASED' OR reason IS NOT NULL", name="released_for_a_reason"),
    )

    kind: Mapped[DepositMovementKind] = mapped_column(stored_enum(DepositMovementKind))
    amount: Mapped[Decimal]
    currency: Mapped[str]
    reason: Mapped[str | None]
    transfer_id: Mapped[int] = mapped_column(ForeignKey("ledger_transfer.id"))
    account_id: Mapped[int | None] = mapped_column(ForeignKey("staff_account.id"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())

    tenant: Mapped[Tenant] = relationship(lazy="raise", viewonly=True)
    transfer: Mapped[LedgerTransfer] = relationship(lazy="raise")
    account: Mapped[StaffAccount | None] = relationship(lazy="raise")
