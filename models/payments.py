"""Payments through channels: who collects, what was asked for and came in, what went back, and where the channel's own
statement says something else."""

from __future__ import annotations

import enum
from datetime import date, datetime
from decimal import Decimal

from sqlalchemy import CheckConstraint, ForeignKey, Index, LargeBinary, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from models.base import AppendOnly, Base, Personal, TenantOwned, Timestamped, impersonal, personal, stored_enum
from models.catalog import CatalogStatus
from models.identity import EndUser, StaffAccount
from models.ledger import LedgerTransfer
from models.orders import Order
from models.tenancy import Tenant

BOOKS = "Kept with the books."


class PaymentChannelKind(enum.Enum):
    WECHAT_PAY = "WECHAT_PAY"
    ALIPAY = "ALIPAY"


class PaymentMethod(enum.Enum):
    QR_CODE = "QR_CODE"
    """The payer's phone reads a code off a screen (WeChat's Native, Alipay's face-to-face)."""
    MINI_PROGRAM = "MINI_PROGRAM"
    """The payer pays where it is, inside WeChat (JSAPI)."""


class PaymentPurpose(enum.Enum):
    ORDER = "ORDER"
    PREPAYMENT = "PREPAYMENT"


class PaymentStatus(enum.Enum):
    PENDING = "PENDING"
    SUCCEEDED = "SUCCEEDED"
    CLOSED = "CLOSED"


class RefundStatus(enum.Enum):
    PENDING = "PENDING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"


class RefundCause(enum.Enum):
    """Why money goes back: the order was refunded, or the money had nothing to buy when it came."""

    ORDER_REFUNDED = "ORDER_REFUNDED"
    ORDER_CLOSED = "ORDER_CLOSED"
    PAID_TWICE = "PAID_TWICE"
    ENTERPRISE_CARD = "ENTERPRISE_CARD"
    CARDS_CHANGED = "CARDS_CHANGED"
    """Cards of the order have changed hands or are at their end."""


class DifferenceKind(enum.Enum):
    """What the channel's statement and the books do not agree on."""

    MISSING_HERE = "MISSING_HERE"
    MISSING_AT_CHANNEL = "MISSING_AT_CHANNEL"
    AMOUNT = "AMOUNT"


class PaymentChannel(Timestamped, TenantOwned, Base):
    """A merchant's account with a payment channel, which collects for the tenant; its keys are encrypted."""

    __tablename__ = "payment_channel"
    __constraints__ = (UniqueConstraint("kind", "merchant_id", "app_id"),)

    kind: Mapped[PaymentChannelKind] = mapped_column(stored_enum(PaymentChannelKind))
    name: Mapped[str]
    app_id: Mapped[str]
    merchant_id: Mapped[str]
    serial_no: Mapped[str | None]
    """Of the merchant's certificate."""
    channel_key_id: Mapped[str | None]
    keys_encrypted: Mapped[bytes] = mapped_column(LargeBinary)
    status: Mapped[CatalogStatus] = mapped_column(stored_enum(CatalogStatus), default=CatalogStatus.ACTIVE)

    tenant: Mapped[Tenant] = relationship(lazy="raise", viewonly=True)


class Payment(Timestamped, AppendOnly, Personal, TenantOwned, Base):
    """Money that somebody was asked for through a channel, and whether it came (S0-55). Its owner is whose order or
    account it is for."""

    __tablename__ = "payment"
    __changeable__ = (
        "status",
        "transaction_no",
        "paid_at",
        "closed_at",
        "transfer_id",
        "next_check_at",
        "checks",
        "updated_at",
    )
    __constraints__ = (
        UniqueConstraint("payment_no"),
        UniqueConstraint("channel_id", "transaction_no"),
        CheckConstraint("amount > 0", name="amount_positive"),
        CheckConstraint("(purpose = 'ORDER') = (order_id IS NOT NULL)", name="order_of_purpose"),
        CheckConstraint(
            "(status = 'SUCCEEDED') = (paid_at IS NOT NULL) AND (status = 'SUCCEEDED') = (transaction_no IS NOT NULL)"
            " AND (status = 'SUCCEEDED') = (transfer_id IS NOT NULL)",
            name="paid_when_succeeded",
        ),
        CheckConstraint("(status = 'CLOSED') = (closed_at IS NOT NULL)", name="closed_when_closed"),
        Index("ix_payment_pending_next_check_at", "next_check_at", postgresql_where=text("status = 'PENDING'")),
        Index("ix_payment_created_at_id", "created_at", "id"),
        Index("ix_payment_channel_id_paid_at", "channel_id", "paid_at"),
    )

    channel_id: Mapped[int] = mapped_column(ForeignKey("payment_channel.id"))
    channel_kind: Mapped[PaymentChannelKind] = mapped_column(stored_enum(PaymentChannelKind))
    method: Mapped[PaymentMethod] = mapped_column(stored_enum(PaymentMethod))
    purpose: Mapped[PaymentPurpose] = mapped_column(stored_enum(PaymentPurpose))
    order_id: Mapped[int | None] = mapped_column(ForeignKey("sales_order.id"), index=True)
    payment_no: Mapped[str] = mapped_column(info=impersonal(BOOKS))
    description: Mapped[str] = mapped_column(info=impersonal("What is sold."))
    amount: Mapped[Decimal]
    currency: Mapped[str] = mapped_column(info=impersonal("A currency."))
    status: Mapped[PaymentStatus] = mapped_column(stored_enum(PaymentStatus), default=PaymentStatus.PENDING)
    payer: Mapped[str | None] = mapped_column(info=personal())
    """The openid of who is asked inside WeChat."""
    transaction_no: Mapped[str | None] = mapped_column(info=impersonal(BOOKS))
    """The channel's own number."""
    expires_at: Mapped[datetime]
    paid_at: Mapped[datetime | None]
    closed_at: Mapped[datetime | None]
    next_check_at: Mapped[datetime]
    checks: Mapped[int] = mapped_column(default=0, server_default="0")
    account_id: Mapped[int | None] = mapped_column(ForeignKey("staff_account.id"))
    transfer_id: Mapped[int | None] = mapped_column(ForeignKey("ledger_transfer.id"), unique=True)

    tenant: Mapped[Tenant] = relationship(lazy="raise", viewonly=True)
    order: Mapped[Order | None] = relationship(lazy="raise")
    account: Mapped[StaffAccount | None] = relationship(lazy="raise")
    end_user: Mapped[EndUser | None] = relationship(lazy="raise", foreign_keys="Payment.end_user_id")
    transfer: Mapped[LedgerTransfer | None] = relationship(lazy="raise")


class PaymentRefund(Timestamped, AppendOnly, Personal, TenantOwned, Base):
    """A payment that goes back, whole, to where it came from."""

    __tablename__ = "payment_refund"
    __changeable__ = (
        "status",
        "channel_refund_no",
        "attempts",
        "last_answer",
        "next_attempt_at",
        "settled_at",
        "settled_by_id",
        "reference",
        "transfer_id",
        "updated_at",
    )
    __constraints__ = (
        UniqueConstraint("payment_id"),
        UniqueConstraint("refund_no"),
        CheckConstraint("amount > 0", name="amount_positive"),
        CheckConstraint(
            "(status = 'SUCCEEDED') = (settled_at IS NOT NULL) AND (status = 'SUCCEEDED') = (transfer_id IS NOT NULL)",
            name="settled_when_succeeded",
        ),
        Index(
            "ix_payment_refund_pending_next_attempt_at",
            "next_attempt_at",
            postgresql_where=text("status = 'PENDING'"),
        ),
        Index("ix_payment_refund_settled_at", "settled_at"),
    )

    payment_id: Mapped[int] = mapped_column(ForeignKey("payment.id"))
    refund_no: Mapped[str] = mapped_column(info=impersonal(BOOKS))
    amount: Mapped[Decimal]
    currency: Mapped[str] = mapped_column(info=impersonal("A currency."))
    cause: Mapped[RefundCause] = mapped_column(stored_enum(RefundCause))
    status: Mapped[RefundStatus] = mapped_column(stored_enum(RefundStatus), default=RefundStatus.PENDING)
    channel_refund_no: Mapped[str | None] = mapped_column(info=impersonal(BOOKS))
    attempts: Mapped[int] = mapped_column(default=0, server_default="0")
    last_answer: Mapped[str | None] = mapped_column(info=impersonal("What the channel said."))
    next_attempt_at: Mapped[datetime] = mapped_column(server_default=func.now())
    settled_at: Mapped[datetime | None]
    settled_by_id: Mapped[int | None] = mapped_column(ForeignKey("staff_account.id"))
    reference: Mapped[str | None] = mapped_column(info=impersonal(BOOKS))
    """Where finance paid it back by hand: by which reference."""
    transfer_id: Mapped[int | None] = mapped_column(ForeignKey("ledger_transfer.id"), unique=True)

    tenant: Mapped[Tenant] = relationship(lazy="raise", viewonly=True)
    payment: Mapped[Payment] = relationship(lazy="raise")
    settled_by: Mapped[StaffAccount | None] = relationship(lazy="raise")
    transfer: Mapped[LedgerTransfer | None] = relationship(lazy="raise")


class PaymentReconciliation(Timestamped, TenantOwned, Base):
    """A day of a channel's statement held against the books."""

    __tablename__ = "payment_reconciliation"
    __constraints__ = (UniqueConstraint("channel_id", "day"),)

    channel_id: Mapped[int] = mapped_column(ForeignKey("payment_channel.id"))
    day: Mapped[date]
    """Of China's calendar, as the channels count."""
    entries: Mapped[int]
    matched: Mapped[int]
    differing: Mapped[int]

    channel: Mapped[PaymentChannel] = relationship(lazy="raise")


class PaymentDifference(Timestamped, AppendOnly, TenantOwned, Base):
    """Where a channel and the books do not agree, until somebody has looked into it."""

    __tablename__ = "payment_difference"
    __changeable__ = ("resolved_at", "resolved_by_id", "remark", "updated_at")
    __constraints__ = (
        Index(
            "uq_payment_difference",
            "channel_id",
            "payment_no",
            text("coalesce(refund_no, '')"),
            "kind",
            unique=True,
        ),
        Index("ix_payment_difference_unresolved", "id", postgresql_where=text("resolved_at IS NULL")),
    )

    channel_id: Mapped[int] = mapped_column(ForeignKey("payment_channel.id"))
    payment_id: Mapped[int | None] = mapped_column(ForeignKey("payment.id"), index=True)
    kind: Mapped[DifferenceKind] = mapped_column(stored_enum(DifferenceKind))
    day: Mapped[date]
    payment_no: Mapped[str]
    transaction_no: Mapped[str | None]
    refund_no: Mapped[str | None]
    amount_here: Mapped[Decimal | None]
    amount_at_channel: Mapped[Decimal | None]
    resolved_at: Mapped[datetime | None]
    resolved_by_id: Mapped[int | None] = mapped_column(ForeignKey("staff_account.id"))
    remark: Mapped[str | None]

    channel: Mapped[PaymentChannel] = relationship(lazy="raise")
    payment: Mapped[Payment | None] = relationship(lazy="raise")
    resolved_by: Mapped[StaffAccount | None] = relationship(lazy="raise")
