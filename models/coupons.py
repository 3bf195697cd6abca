"""Coupons: what merchants ask for, and what those who decide on it have issued."""

from __future__ import annotations

import enum
from datetime import datetime
from decimal import Decimal

from sqlalchemy import CheckConstraint, ForeignKey, ForeignKeyConstraint, Index, UniqueConstraint, func
from sqlalchemy.orm import Mapped, mapped_column, relationship

from models.base import AppendOnly, Base, TenantOwned, Timestamped, stored_enum
from models.identity import StaffAccount
from models.reviews import Reviewed
from models.tenancy import Tenant


class CouponScope(enum.Enum):
    ALL_CATEGORY = "ALL_CATEGORY"
    SINGLE_CATEGORY = "SINGLE_CATEGORY"


class CouponType(enum.Enum):
    THRESHOLD_OFF = "THRESHOLD_OFF"
    """An amount off from a threshold on (满减券)."""
    DEDUCTION = "DEDUCTION"
    """An amount off (抵扣券)."""
    DISCOUNT = "DISCOUNT"
    """A share off, from a threshold on where there is one (折扣券)."""


class CouponApplicationStatus(enum.Enum):
    SUBMITTED = "SUBMITTED"
    APPROVED = "APPROVED"
    REJECTED = "REJECTED"
    WITHDRAWN = "WITHDRAWN"


class CouponApplication(Reviewed, Timestamped, AppendOnly, TenantOwned, Base):
    """Coupons that a merchant asks for: of which kind, how many, and when they hold (S4-37 to S4-41)."""

    __tablename__ = "coupon_application"
    __changeable__ = ("status", "reviewed_by_id", "reviewed_at", "reason", "updated_at")
    __constraints__ = (
        UniqueConstraint("id", "tenant_id"),
        CheckConstraint("quantity > 0", name="quantity_positive"),
        CheckConstraint("valid_from < valid_until", name="valid_in_order"),
        CheckConstraint("(scope = 'SINGLE_CATEGORY') = (category IS NOT NULL)", name="category_of_scope"),
        CheckConstraint("coupon_type <> 'DISCOUNT' OR scope = 'ALL_CATEGORY'", name="discount_for_all"),
        CheckConstraint("(coupon_type = 'DISCOUNT') = (percent_off IS NOT NULL)", name="percent_of_type"),
        CheckConstraint("(coupon_type <> 'DISCOUNT') = (amount_off IS NOT NULL)", name="amount_of_type"),
        CheckConstraint("coupon_type <> 'THRESHOLD_OFF' OR threshold IS NOT NULL", name="threshold_of_type"),
        CheckConstraint("coupon_type <> 'DEDUCTION' OR threshold IS NULL", name="deduction_without_threshold"),
        CheckConstraint(
            "(status IN ('APPROVED', 'REJECTED')) = (reviewed_at IS NOT NULL)", name="reviewed_when_decided"
        ),
        Index("ix_coupon_application_status_id", "status", "id"),
    )

    name: Mapped[str]
    scope: Mapped[CouponScope] = mapped_column(stored_enum(CouponScope))
    category: Mapped[str | None]
    coupon_type: Mapped[CouponType] = mapped_column(stored_enum(CouponType))
    threshold: Mapped[Decimal | None]
    amount_off: Mapped[Decimal | None]
    percent_off: Mapped[Decimal | None]
    currency: Mapped[str]
    quantity: Mapped[int]
    valid_from: Mapped[datetime]
    valid_until: Mapped[datetime]
    status: Mapped[CouponApplicationStatus] = mapped_column(
        stored_enum(CouponApplicationStatus), default=CouponApplicationStatus.SUBMITTED
    )
    requested_by_id: Mapped[int | None] = mapped_column(ForeignKey("staff_account.id"))

    tenant: Mapped[Tenant] = relationship(lazy="raise", viewonly=True)
    requested_by: Mapped[StaffAccount | None] = relationship(lazy="raise", foreign_keys=[requested_by_id])


class Coupon(AppendOnly, TenantOwned, Base):
    """One coupon of those that were asked for, by its code (S4-65). An order that takes it says so itself."""

    __tablename__ = "coupon"
    __constraints__ = (
        UniqueConstraint("tenant_id", "code"),
        ForeignKeyConstraint(
            ["application_id", "tenant_id"],
            ["coupon_application.id", "coupon_application.tenant_id"],
            name="fk_coupon_application",
        ),
    )

    application_id: Mapped[int] = mapped_column(index=True)
    code: Mapped[str]
    issued_at: Mapped[datetime] = mapped_column(server_default=func.now())

    application: Mapped[CouponApplication] = relationship(lazy="raise", viewonly=True)
