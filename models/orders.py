"""What customers buy: orders with their lines, and the packages that orders put on cards."""

from __future__ import annotations

import enum
from datetime import datetime
from decimal import Decimal

from sqlalchemy import BigInteger, CheckConstraint, Computed, ForeignKey, Index, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from models.base import AppendOnly, Base, Personal, TenantOwned, Timestamped, impersonal, personal, stored_enum
from models.catalog import DataPackage, PackagePeriod, PlanKind
from models.identity import EndUser, StaffAccount
from models.ledger import LedgerTransfer
from models.sim import SimCard
from models.system import Task
from models.tenancy import Tenant


class OrderKind(enum.Enum):
    PACKAGE = "PACKAGE"
    RENEWAL = "RENEWAL"
    SINGLE_ITEM = "SINGLE_ITEM"


class OrderStatus(enum.Enum):
    AWAITING_PAYMENT = "AWAITING_PAYMENT"
    PAID = "PAID"
    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"
    REFUNDED = "REFUNDED"


class PayType(enum.Enum):
    BALANCE = "BALANCE"
    WECHAT_PAY = "WECHAT_PAY"
    ALIPAY = "ALIPAY"
    CASH = "CASH"


class CommissionStatus(enum.Enum):
    """Whether an order's commission has been shared out (S2-13's 分潤狀態)."""

    NONE = "NONE"
    SHARED = "SHARED"
    TAKEN_BACK = "TAKEN_BACK"


class SubscriptionStatus(enum.Enum):
    WAITING = "WAITING"
    ACTIVE = "ACTIVE"
    USED_UP = "USED_UP"
    EXPIRED = "EXPIRED"
    WITHDRAWN = "WITHDRAWN"


BOOKS = "Kept with the books."
_SHUFFLED = "id::numeric * 3865470567 % 10000000000"
ORDER_NUMBER = f"lpad(({_SHUFFLED})::text, 10, '0') || lpad((98 - ({_SHUFFLED}) * 100 % 97)::text, 2, '0')"
"""Twelve digits to be read out in three fours: the key, shuffled so that it does not tell how much is sold, with two
check digits after ISO 7064 (mod 97-10)."""


class Order(Timestamped, AppendOnly, Personal, TenantOwned, Base):
    """What a customer has agreed to pay, and what became of it (S0-12, S2-13). Its owner is who pays, or who holds the
    card that an end user pays for; what it costs was fixed when it was made."""

    __tablename__ = "sales_order"
    __changeable__ = (
        "status",
        "pay_type",
        "paid_at",
        "closed_at",
        "close_reason",
        "commission_status",
        "transfer_id",
        "balance_after",
        "third_party_order_no",
        "updated_at",
    )
    __constraints__ = (
        UniqueConstraint("order_no"),
        UniqueConstraint("task_id", "task_part"),
        CheckConstraint("(task_id IS NULL) = (task_part IS NULL)", name="part_of_task"),
        CheckConstraint("amount >= 0", name="amount_not_negative"),
        CheckConstraint("(status IN ('PAID', 'REFUNDED')) = (paid_at IS NOT NULL)", name="paid_when_paid"),
        CheckConstraint(
            "(status IN ('CANCELLED', 'EXPIRED', 'REFUNDED')) = (closed_at IS NOT NULL)", name="closed_when_closed"
        ),
        CheckConstraint(
            "kind <> 'RENEWAL' OR num_nulls(end_user_id, sim_card_id, data_package_id) = 0", name="renewal_whole"
        ),
        CheckConstraint(
            "kind = 'SINGLE_ITEM' AND num_nulls(seller_id, discount) = 0 AND discount >= 0"
            " OR kind <> 'SINGLE_ITEM' AND num_nonnulls(seller_id, discount, coupon_id) = 0",
            name="item_order_whole",
        ),
        Index("ix_sales_order_created_at_id", "created_at", "id"),
        Index("ix_sales_order_paid_at_id", "paid_at", "id"),
        Index(
            "ix_sales_order_awaiting_expires_at",
            "expires_at",
            postgresql_where=text("status = 'AWAITING_PAYMENT'"),
        ),
    )

    kind: Mapped[OrderKind] = mapped_column(stored_enum(OrderKind))
    order_no: Mapped[str] = mapped_column(Text, Computed(ORDER_NUMBER, persisted=True), info=impersonal(BOOKS))
    status: Mapped[OrderStatus] = mapped_column(stored_enum(OrderStatus), default=OrderStatus.AWAITING_PAYMENT)
    amount: Mapped[Decimal]
    currency: Mapped[str] = mapped_column(info=impersonal("A currency."))
    source: Mapped[str] = mapped_column(info=impersonal("One of the installation's doors."))
    """The door that it came through."""
    pay_type: Mapped[PayType | None] = mapped_column(stored_enum(PayType))
    expires_at: Mapped[datetime]
    paid_at: Mapped[datetime | None]
    closed_at: Mapped[datetime | None]
    close_reason: Mapped[str | None] = mapped_column(info=impersonal(BOOKS))
    needs_commission: Mapped[bool] = mapped_column(default=True)
    commission_status: Mapped[CommissionStatus] = mapped_column(
        stored_enum(CommissionStatus), default=CommissionStatus.NONE
    )
    transfer_id: Mapped[int | None] = mapped_column(ForeignKey("ledger_transfer.id"), unique=True)
    balance_after: Mapped[Decimal | None]
    """What the paying account held after the payment."""
    third_party_order_no: Mapped[str | None] = mapped_column(info=impersonal(BOOKS))
    remark: Mapped[str | None] = mapped_column(info=personal())
    account_id: Mapped[int | None] = mapped_column(ForeignKey("staff_account.id"))
    task_id: Mapped[int | None] = mapped_column(ForeignKey("task.id"))
    task_part: Mapped[int | None]
    """Of a batch: which of its orders it is, so that none is made twice."""

    tenant: Mapped[Tenant] = relationship(lazy="raise", viewonly=True)
    task: Mapped[Task | None] = relationship(lazy="raise")
    account: Mapped[StaffAccount | None] = relationship(lazy="raise", foreign_keys="Order.account_id")
    transfer: Mapped[LedgerTransfer | None] = relationship(lazy="raise")
    end_user: Mapped[EndUser | None] = relationship(lazy="raise", foreign_keys="Order.end_user_id")

    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_abstract": True, "eager_defaults": True}


class PackageOrder(Order):
    """Data packages for cards (S2-04): a line for each card."""

    __mapper_args__ = {"polymorphic_identity": OrderKind.PACKAGE}


class RenewalOrder(Order):
    """A data package that an end user buys for a card of its own (S0-33, S0-47), with what a list of renewals shows."""

    sim_card_id: Mapped[int | None] = mapped_column(ForeignKey("sim_card.id"), index=True)
    data_package_id: Mapped[int | None] = mapped_column(ForeignKey("data_package.id"))
    phone: Mapped[str | None] = mapped_column(info=personal())
    bound_at: Mapped[datetime | None]
    """Since when the card is the end user's."""

    sim_card: Mapped[SimCard | None] = relationship(lazy="raise")
    data_package: Mapped[DataPackage | None] = relationship(lazy="raise")

    __mapper_args__ = {"polymorphic_identity": OrderKind.RENEWAL}


class OrderLine(AppendOnly, TenantOwned, Base):
    """One package for one card, as it stood in the catalogue when it was ordered."""

    __tablename__ = "order_line"
    __constraints__ = (
        UniqueConstraint("order_id", "sim_card_id"),
        CheckConstraint("price >= 0", name="price_not_negative"),
    )

    order_id: Mapped[int] = mapped_column(ForeignKey("sales_order.id"))
    sim_card_id: Mapped[int] = mapped_column(ForeignKey("sim_card.id"), index=True)
    data_package_id: Mapped[int] = mapped_column(ForeignKey("data_package.id"), index=True)
    name: Mapped[str]
    period_type: Mapped[PackagePeriod] = mapped_column(stored_enum(PackagePeriod))
    plan_kind: Mapped[PlanKind] = mapped_column(stored_enum(PlanKind), default=PlanKind.DATA)
    data_volume_mb: Mapped[int]
    sms_count: Mapped[int | None]
    voice_minutes: Mapped[int | None]
    price: Mapped[Decimal]

    order: Mapped[Order] = relationship(lazy="raise")
    sim_card: Mapped[SimCard] = relationship(lazy="raise")
    data_package: Mapped[DataPackage] = relationship(lazy="raise")


class PackageSubscription(Timestamped, TenantOwned, Base):
    """A package on a card: bought, waiting for its turn, in use, over. Its owner is the card's holder.

    At most one of a card and kind is in use, and each begins where the one before it ended.
    """

    __tablename__ = "package_subscription"
    __constraints__ = (
        UniqueConstraint("order_line_id"),
        Index("ix_package_subscription_sim_card_id_id", "sim_card_id", "id"),
        Index(
            "uq_package_subscription_active",
            "sim_card_id",
            "plan_kind",
            unique=True,
            postgresql_where=text("status = 'ACTIVE'"),
        ),
        Index(
            "ix_package_subscription_active_ends_at",
            "ends_at",
            postgresql_where=text("status = 'ACTIVE'"),
        ),
        CheckConstraint("ends_at > starts_at AND ended_at >= starts_at", name="in_order"),
        CheckConstraint("status NOT IN ('ACTIVE', 'USED_UP', 'EXPIRED') OR ends_at IS NOT NULL", name="begun"),
        CheckConstraint("(status IN ('WAITING', 'ACTIVE')) = (ended_at IS NULL)", name="ended_when_over"),
        CheckConstraint("used_kb >= 0", name="use_not_negative"),
    )

    sim_card_id: Mapped[int] = mapped_column(ForeignKey("sim_card.id"))
    data_package_id: Mapped[int] = mapped_column(ForeignKey("data_package.id"), index=True)
    order_line_id: Mapped[int] = mapped_column(ForeignKey("order_line.id"))
    status: Mapped[SubscriptionStatus] = mapped_column(
        stored_enum(SubscriptionStatus), default=SubscriptionStatus.WAITING
    )
    plan_kind: Mapped[PlanKind] = mapped_column(stored_enum(PlanKind), default=PlanKind.DATA)
    data_volume_mb: Mapped[int]
    used_kb: Mapped[int] = mapped_column(BigInteger, default=0, server_default=text("0"))
    period_type: Mapped[PackagePeriod] = mapped_column(stored_enum(PackagePeriod))
    time_zone: Mapped[str]
    """By whose calendar its period is counted: the buyer's."""
    starts_at: Mapped[datetime | None]
    ends_at: Mapped[datetime | None]
    """When its period is over."""
    ended_at: Mapped[datetime | None]

    tenant: Mapped[Tenant] = relationship(lazy="raise", viewonly=True)
    sim_card: Mapped[SimCard] = relationship(lazy="raise")
    data_package: Mapped[DataPackage] = relationship(lazy="raise")
    order_line: Mapped[OrderLine] = relationship(lazy="raise")
