"""Coupons in the graph."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import strawberry

import models.coupons as stored
import models.merchant_orders
from models.coupons import CouponApplicationStatus, CouponScope, CouponType
from planner.mapping import Connection, Node, column, entity, enum_type, input_type, to_many, to_one, value
from schema.common import UserError

if TYPE_CHECKING:
    from schema.identity import StaffAccount
    from schema.merchant_orders import ItemOrder
    from schema.tenancy import Tenant

enum_type(CouponScope, "Whether coupons hold for everything that a merchant sells or for one category of it.")
enum_type(CouponType, "What coupons take off.")
enum_type(CouponApplicationStatus, "What became of coupons that a merchant asked for.")


@entity(
    stored.CouponApplication,
    prefix="cpa",
    filters=("merchant", "status", "scope", "coupon_type", "created_at", "valid_until"),
    sorts=("created_at", "valid_until"),
)
class CouponApplication(Node):
    """Coupons that a merchant asks for: of which kind, how many, and when they hold (S4-37 to S4-41)."""

    name: str
    scope: CouponScope
    category: str | None = column("Which category of items they hold for; null: all.")
    coupon_type: CouponType
    threshold: Decimal | None = column("From how much on they hold, in ``currency``.")
    amount_off: Decimal | None = column("What they take off, in ``currency``.")
    percent_off: Decimal | None = column("What a discount takes off, in percent: 20 for what is called 八折.")
    currency: str = column("An ISO 4217 code.")
    quantity: int = column("How many coupons.")
    valid_from: datetime
    valid_until: datetime = column("They hold until then, and not any more.")
    status: CouponApplicationStatus
    created_at: datetime
    reviewed_at: datetime | None = column("When it was decided on.")
    reason: str | None = column("Why it was rejected.")
    merchant: Tenant | None = to_one("Who asks.", via="tenant")
    requested_by: StaffAccount | None = to_one("Who asked for the merchant.")
    reviewed_by: StaffAccount | None = to_one("Who decided; null where that is out of reach.")
    coupons: Connection[Coupon] = to_many("What was issued.", by=stored.Coupon.application_id)


@entity(stored.Coupon, prefix="cpn", filters=("code", "application"))
class Coupon(Node):
    """One coupon, by its code (S4-65). It is used while an order that is paid, or may still be, has taken it."""

    code: str = column("Twelve letters and digits.")
    issued_at: datetime
    application: CouponApplication | None = to_one("What it takes off, and when it holds.")
    orders: Connection[ItemOrder] = to_many(
        "The orders that took it, those that were given up, too.", by=models.merchant_orders.ItemOrder.coupon_id
    )


@input_type
class ApplyForCouponsInput:
    """Coupons that one's company wants to give its customers, in its own currency (S4-37).

    THRESHOLD_OFF: ``threshold`` and ``amountOff``. DEDUCTION: ``amountOff``. DISCOUNT: ``percentOff``, with a
    ``threshold`` or without, for all categories. SINGLE_CATEGORY: ``category``. At most 10,000.
    """

    name: str
    scope: CouponScope
    coupon_type: CouponType
    quantity: int
    valid_from: datetime
    valid_until: datetime
    category: str | None = None
    threshold: Decimal | None = None
    amount_off: Decimal | None = None
    percent_off: Decimal | None = None
    idempotency_key: str


@input_type
class CouponApplicationInput:
    """Coupons that are to be issued, or are not wanted any more."""

    id: strawberry.ID
    idempotency_key: str


@input_type
class RejectCouponApplicationInput:
    """Coupons that are not issued, and why."""

    id: strawberry.ID
    reason: str
    idempotency_key: str


@value
class CouponApplicationPayload:
    """What was asked for, as it now is, or why nothing was changed."""

    coupon_application: CouponApplication | None
    errors: list[UserError]
