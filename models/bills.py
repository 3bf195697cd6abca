"""Bills and settlement statements: what a month came to for each enterprise, and what is settled with whom."""

from __future__ import annotations

import enum
from datetime import date, datetime
from decimal import Decimal

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from models.base import AppendOnly, Base, TenantOwned, Timestamped, stored_enum
from models.catalog import Supplier
from models.identity import StaffAccount
from models.tenancy import Tenant


class CounterpartyKind(enum.Enum):
    CUSTOMER = "CUSTOMER"
    SUPPLIER = "SUPPLIER"


class StatementStatus(enum.Enum):
    DRAFT = "DRAFT"
    CONFIRMED = "CONFIRMED"
    SETTLED = "SETTLED"
    DISCARDED = "DISCARDED"


class SettlementLineKind(enum.Enum):
    SALES = "SALES"
    REFUNDS = "REFUNDS"
    COMMISSION = "COMMISSION"
    PURCHASES = "PURCHASES"


class MonthlyBill(AppendOnly, TenantOwned, Base):
    """What a month came to on an enterprise's account in one currency (S0-66): ``month`` is its first day, by the
    enterprise's calendar. The books do not change, nor does it."""

    __tablename__ = "monthly_bill"
    __changeable__ = ("xlsx_file_id", "pdf_file_id")
    __constraints__ = (
        UniqueConstraint("tenant_id", "month", "currency"),
        CheckConstraint(
            "opening_balance + paid_in - spent + refunded = closing_balance",
            name="adds_up",
        ),
        Index("ix_monthly_bill_month_id", "month", "id"),
        Index("ix_monthly_bill_undocumented", "id", postgresql_where=text("pdf_file_id IS NULL")),
    )

    month: Mapped[date]
    currency: Mapped[str]
    opening_balance: Mapped[Decimal]
    paid_in: Mapped[Decimal]
    spent: Mapped[Decimal]
    refunded: Mapped[Decimal]
    closing_balance: Mapped[Decimal]
    order_count: Mapped[int]
    xlsx_file_id: Mapped[int | None] = mapped_column(ForeignKey("stored_file.id"))
    pdf_file_id: Mapped[int | None] = mapped_column(ForeignKey("stored_file.id"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())

    tenant: Mapped[Tenant] = relationship(lazy="raise", viewonly=True)


class SettlementStatement(Timestamped, TenantOwned, Base):
    """What the platform settles with a customer or a supplier over some days (S0-67); it is the platform's own."""

    __tablename__ = "settlement_statement"
    __constraints__ = (
        CheckConstraint(
            "(kind = 'CUSTOMER') = (customer_id IS NOT NULL) AND (kind = 'SUPPLIER') = (supplier_id IS NOT NULL)",
            name="one_counterparty",
        ),
        CheckConstraint("first_day <= last_day", name="days_in_order"),
        CheckConstraint("(status = 'SETTLED') = (settled_at IS NOT NULL)", name="settled_when_settled"),
        Index("ix_settlement_statement_first_day_id", "first_day", "id"),
    )

    kind: Mapped[CounterpartyKind] = mapped_column(stored_enum(CounterpartyKind))
    customer_id: Mapped[int | None] = mapped_column(ForeignKey("tenant.id"), index=True)
    supplier_id: Mapped[int | None] = mapped_column(ForeignKey("supplier.id"), index=True)
    first_day: Mapped[date]
    last_day: Mapped[date]
    currency: Mapped[str]
    amount: Mapped[Decimal]
    status: Mapped[StatementStatus] = mapped_column(stored_enum(StatementStatus), default=StatementStatus.DRAFT)
    generated_by_id: Mapped[int | None] = mapped_column(ForeignKey("staff_account.id"))
    confirmed_by_id: Mapped[int | None] = mapped_column(ForeignKey("staff_account.id"))
    confirmed_at: Mapped[datetime | None]
    settled_by_id: Mapped[int | None] = mapped_column(ForeignKey("staff_account.id"))
    settled_at: Mapped[datetime | None]
    reference: Mapped[str | None]
    xlsx_file_id: Mapped[int | None] = mapped_column(ForeignKey("stored_file.id"))
    pdf_file_id: Mapped[int | None] = mapped_column(ForeignKey("stored_file.id"))

    customer: Mapped[Tenant | None] = relationship(lazy="raise", foreign_keys="SettlementStatement.customer_id")
    supplier: Mapped[Supplier | None] = relationship(lazy="raise")
    generated_by: Mapped[StaffAccount | None] = relationship(lazy="raise", foreign_keys=[generated_by_id])
    confirmed_by: Mapped[StaffAccount | None] = relationship(lazy="raise", foreign_keys=[confirmed_by_id])
    settled_by: Mapped[StaffAccount | None] = relationship(lazy="raise", foreign_keys=[settled_by_id])


class SettlementLine(TenantOwned, Base):
    """One sort of thing on a settlement statement: what was sold or bought, how many, and for how much."""

    __tablename__ = "settlement_line"
    __constraints__ = (
        UniqueConstraint("statement_id", "kind", "name"),
        CheckConstraint("quantity >= 0", name="quantity_not_negative"),
    )

    statement_id: Mapped[int] = mapped_column(ForeignKey("settlement_statement.id", ondelete="CASCADE"))
    kind: Mapped[SettlementLineKind] = mapped_column(stored_enum(SettlementLineKind))
    name: Mapped[str]
    quantity: Mapped[int]
    amount: Mapped[Decimal]

    statement: Mapped[SettlementStatement] = relationship(lazy="raise")
