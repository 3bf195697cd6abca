"""What agents earn: the share of the sale price, or the price, that each is given by the one above it, and what it
brought."""

from __future__ import annotations

import enum
from datetime import date, datetime
from decimal import Decimal

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from models.base import AppendOnly, Base, TenantOwned, Timestamped, stored_enum
from models.catalog import DataPackage
from models.ledger import LedgerTransfer
from models.orders import Order, OrderLine
from models.tenancy import Tenant


class CommissionRate(Timestamped, TenantOwned, Base):
    """An agent's share of the sale price of one data package, never above that of the agent who gave it (S0-46)."""

    __tablename__ = "commission_rate"
    __constraints__ = (
        UniqueConstraint("tenant_id", "data_package_id"),
        CheckConstraint("percent BETWEEN 0 AND 100", name="percent_in_range"),
    )

    data_package_id: Mapped[int] = mapped_column(ForeignKey("data_package.id"), index=True)
    percent: Mapped[Decimal]
    creator_id: Mapped[int] = mapped_column(ForeignKey("tenant.id"))

    tenant: Mapped[Tenant] = relationship(lazy="raise", viewonly=True, foreign_keys="CommissionRate.tenant_id")
    data_package: Mapped[DataPackage] = relationship(lazy="raise")
    creator: Mapped[Tenant] = relationship(lazy="raise", foreign_keys=[creator_id])


class CustomerPrice(Timestamped, TenantOwned, Base):
    """What a customer pays for a data package whose agents earn their margin, as agreed with the one above it."""

    __tablename__ = "customer_price"
    __constraints__ = (
        UniqueConstraint("tenant_id", "data_package_id"),
        CheckConstraint("price >= 0", name="price_not_negative"),
    )

    data_package_id: Mapped[int] = mapped_column(ForeignKey("data_package.id"), index=True)
    price: Mapped[Decimal]
    creator_id: Mapped[int] = mapped_column(ForeignKey("tenant.id"))

    tenant: Mapped[Tenant] = relationship(lazy="raise", viewonly=True, foreign_keys="CustomerPrice.tenant_id")
    data_package: Mapped[DataPackage] = relationship(lazy="raise")
    creator: Mapped[Tenant] = relationship(lazy="raise", foreign_keys=[creator_id])


class CommissionEntryStatus(enum.Enum):
    PENDING = "PENDING"
    CREDITED = "CREDITED"
    REVERSED = "REVERSED"


class CommissionEntry(AppendOnly, TenantOwned, Base):
    """What an agent earned by one line of a paid order, once: what the level below it pays, less what it costs the
    agent itself (S0-48, S2-18). The cost is the price less the agent's share, or the agent's own price."""

    __tablename__ = "commission_entry"
    __changeable__ = ("status", "settlement_id", "reversed_at")
    __constraints__ = (
        UniqueConstraint("order_line_id", "tenant_id"),
        CheckConstraint("amount > 0", name="amount_positive"),
        CheckConstraint("amount = revenue - cost", name="adds_up"),
        CheckConstraint(
            "num_nulls(percent, percent_below) IN (0, 2) "
            "AND (percent > percent_below AND percent_below >= 0 AND percent <= 100) IS NOT FALSE",
            name="differential",
        ),
        CheckConstraint("(status = 'REVERSED') = (reversed_at IS NOT NULL)", name="reversed_when_reversed"),
        CheckConstraint("status <> 'CREDITED' OR settlement_id IS NOT NULL", name="credited_by_settlement"),
        Index("ix_commission_entry_order_id", "order_id"),
        Index("ix_commission_entry_tenant_id_created_at", "tenant_id", "created_at"),
        Index("ix_commission_entry_reversed", "tenant_id", "currency", postgresql_where=text("status = 'REVERSED'")),
        Index(
            "ix_commission_entry_margin_pending",
            "order_id",
            postgresql_where=text("status = 'PENDING' AND percent IS NULL"),
        ),
        Index(
            "ix_commission_entry_pending",
            "created_at",
            "tenant_id",
            postgresql_where=text("status = 'PENDING'"),
        ),
    )

    order_id: Mapped[int] = mapped_column(ForeignKey("sales_order.id"))
    order_line_id: Mapped[int] = mapped_column(ForeignKey("order_line.id"))
    status: Mapped[CommissionEntryStatus] = mapped_column(
        stored_enum(CommissionEntryStatus), default=CommissionEntryStatus.PENDING
    )
    price: Mapped[Decimal]
    currency: Mapped[str]
    percent: Mapped[Decimal | None]
    """Of a share of the price; a margin has none."""
    percent_below: Mapped[Decimal | None]
    revenue: Mapped[Decimal]
    cost: Mapped[Decimal]
    amount: Mapped[Decimal]
    settlement_id: Mapped[int | None] = mapped_column(ForeignKey("commission_settlement.id"), index=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    reversed_at: Mapped[datetime | None]

    tenant: Mapped[Tenant] = relationship(lazy="raise", viewonly=True)
    order: Mapped[Order] = relationship(lazy="raise")
    order_line: Mapped[OrderLine] = relationship(lazy="raise")
    settlement: Mapped[CommissionSettlement | None] = relationship(lazy="raise")


class CommissionSettlement(AppendOnly, TenantOwned, Base):
    """What an agent earned in a month of its calendar, or as its margin by one order, and may draw on from now on
    (S0-49, S2-18)."""

    __tablename__ = "commission_settlement"
    __changeable__ = ("entry_count", "earned", "deducted", "amount", "transfer_id")
    __constraints__ = (
        Index(
            "uq_commission_settlement_month",
            "tenant_id",
            "month",
            "currency",
            unique=True,
            postgresql_where=text("order_id IS NULL"),
        ),
        UniqueConstraint("tenant_id", "order_id"),
        Index(
            "ix_commission_settlement_deducted",
            "tenant_id",
            "currency",
            postgresql_include=["deducted"],
            postgresql_where=text("deducted > 0"),
        ),
        CheckConstraint("extract(day FROM month) = 1", name="month_begins"),
        CheckConstraint("deducted BETWEEN 0 AND earned AND amount = earned - deducted", name="adds_up"),
    )

    month: Mapped[date]
    """Its first day."""
    order_id: Mapped[int | None] = mapped_column(ForeignKey("sales_order.id"), index=True)
    """By which it was earned, where that is a margin, which is not kept for the end of the month."""
    currency: Mapped[str]
    entry_count: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    earned: Mapped[Decimal] = mapped_column(server_default=text("0"))
    deducted: Mapped[Decimal] = mapped_column(server_default=text("0"))
    """What refunds of settled orders have taken back, as far as this month makes up for it."""
    amount: Mapped[Decimal] = mapped_column(server_default=text("0"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    transfer_id: Mapped[int | None] = mapped_column(ForeignKey("ledger_transfer.id"), unique=True)

    tenant: Mapped[Tenant] = relationship(lazy="raise", viewonly=True)
    order: Mapped[Order | None] = relationship(lazy="raise")
    transfer: Mapped[LedgerTransfer | None] = relationship(lazy="raise")
