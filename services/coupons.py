"""Coupons: merchants ask for them, those who decide on it issue them, and an order takes one off its price.

A coupon that an order has taken is free again as soon as that order is neither paid nor to be paid: the database keeps
one such order for each coupon, so that two at once cannot take the same.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import ROUND_DOWN, Decimal
from typing import Any, Protocol

from sqlalchemy import insert, select

from models.base import table_of
from models.coupons import Coupon, CouponApplication, CouponApplicationStatus, CouponScope, CouponType
from models.merchants import Merchant
from models.tenancy import TenantStatus
from services import merchants, validation
from services.refusal import Refusal
from services.runtime import Work
from services.transitions import StateMachine

TRANSITIONS = StateMachine(
    "COUPON_APPLICATION_STATUS",
    ("WITHDRAW", (CouponApplicationStatus.SUBMITTED,), CouponApplicationStatus.WITHDRAWN),
    ("APPROVE", (CouponApplicationStatus.SUBMITTED,), CouponApplicationStatus.APPROVED),
    ("REJECT", (CouponApplicationStatus.SUBMITTED,), CouponApplicationStatus.REJECTED),
)
MAX_QUANTITY = 10_000
CODE_LENGTH = 12
ALPHABET = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"
"""Of what codes are made: nothing that is taken for something else when it is read out."""
FIELDS = {"threshold": "threshold", "amount_off": "amountOff", "percent_off": "percentOff", "category": "category"}
NEEDS: Mapping[CouponType | CouponScope, frozenset[str]] = {
    CouponType.THRESHOLD_OFF: frozenset({"threshold", "amount_off"}),
    CouponType.DEDUCTION: frozenset({"amount_off"}),
    CouponType.DISCOUNT: frozenset({"percent_off"}),
    CouponScope.SINGLE_CATEGORY: frozenset({"category"}),
    CouponScope.ALL_CATEGORY: frozenset(),
}
"""What coupons of a type and a scope must have; of the same fields they have no others."""
MAY_HAVE = {CouponType.DISCOUNT: frozenset({"threshold"})}
"""What they have besides where it is given."""


class Priced(Protocol):
    """Something on an order: how much of it, of which category, at which price each."""

    @property
    def category(self) -> str: ...
    @property
    def quantity(self) -> int: ...
    @property
    def price(self) -> Decimal: ...


async def apply(work: Work, values: Mapping[str, Any]) -> CouponApplication:
    """Coupons that the calling merchant asks for, in its own currency (S4-37 to S4-41).

    NOT_POSSIBLE_HERE, NOT_ONBOARDED; by field REQUIRED, INVALID, NOT_POSITIVE, TOO_MANY, and NOT_FOR_THIS_TYPE for what
    a type of coupon does not have: a discount holds for all categories, a deduction has no threshold.
    """
    merchant = await merchants.calling(work, onboarded=True)
    kind: CouponType = values["coupon_type"]
    scope: CouponScope = values["scope"]
    if kind is CouponType.DISCOUNT and scope is not CouponScope.ALL_CATEGORY:
        raise Refusal("NOT_FOR_THIS_TYPE", "scope", type=kind.name)
    _check_fields(values, kind, scope)
    threshold, amount_off, percent_off, category = (values[name] for name in FIELDS)
    application = CouponApplication(
        tenant_id=merchant.id,
        tenant_path=merchant.path,
        name=validation.text(values["name"], "name"),
        scope=scope,
        category=None if category is None else validation.text(category, "category"),
        coupon_type=kind,
        threshold=None if threshold is None else validation.price(threshold, "threshold", positive=True),
        amount_off=None if amount_off is None else validation.price(amount_off, "amountOff", positive=True),
        percent_off=None if percent_off is None else _percent(percent_off),
        currency=merchant.currency,
        quantity=values["quantity"],
        valid_from=validation.moment(values["valid_from"], "validFrom"),
        valid_until=validation.moment(values["valid_until"], "validUntil"),
        requested_by_id=work.principal.account_id,
    )
    if application.quantity < 1:
        raise Refusal("NOT_POSITIVE", "quantity")
    if application.quantity > MAX_QUANTITY:
        raise Refusal("TOO_MANY", "quantity", limit=MAX_QUANTITY)
    if application.valid_until <= max(application.valid_from, datetime.now(UTC)):
        raise Refusal("INVALID", "validUntil")
    if threshold is not None and amount_off is not None and amount_off > threshold:
        raise Refusal("INVALID", "amountOff")
    work.session.add(application)
    await work.session.flush()
    return application


def _check_fields(values: Mapping[str, Any], kind: CouponType, scope: CouponScope) -> None:
    needed = NEEDS[kind] | NEEDS[scope]
    possible = needed | MAY_HAVE.get(kind, frozenset())
    for name, field in FIELDS.items():
        if values[name] is None and name in needed:
            raise Refusal("REQUIRED", field)
        if values[name] is not None and name not in possible:
            raise Refusal("NOT_FOR_THIS_TYPE", field, type=kind.name)


def _percent(value: Decimal) -> Decimal:
    if not validation.percentage(value, "percentOff"):
        raise Refusal("NOT_POSITIVE", "percentOff")
    return value


async def withdraw(work: Work, key: int) -> CouponApplication:
    """The merchant does not want them any more, as long as nobody has decided."""
    application = await work.held(CouponApplication, key, CouponApplication.tenant_id == work.principal.tenant_id)
    application.status = TRANSITIONS.lead(application.status, "WITHDRAW")
    await work.session.flush()
    return application


async def approve(work: Work, key: int) -> CouponApplication:
    """Issues what was asked for: so many coupons, each with a code of its own (S4-65). INVALID once their time is
    over, NOT_ACTIVE for a merchant that does no business."""
    application = await work.held(CouponApplication, key)
    merchant = await work.owner_of(application)
    if merchant.status is not TenantStatus.ACTIVE:
        raise Refusal("NOT_ACTIVE", "id", value=merchant.name)
    application.status = TRANSITIONS.lead(application.status, "APPROVE")
    if application.valid_until <= datetime.now(UTC):
        raise Refusal("INVALID", "validUntil")
    application.review(work.principal.account_id, datetime.now(UTC))
    await work.session.flush()
    owner = {"tenant_id": application.tenant_id, "tenant_path": application.tenant_path}
    codes: set[str] = set()
    while len(codes) < application.quantity:
        codes.add("".join(secrets.choice(ALPHABET) for _ in range(CODE_LENGTH)))
    await work.session.execute(
        insert(table_of(Coupon)), [{**owner, "application_id": application.id, "code": code} for code in sorted(codes)]
    )
    return application


async def reject(work: Work, key: int, reason: str) -> CouponApplication:
    """Nothing is issued; the merchant is told why."""
    application = await work.held(CouponApplication, key)
    application.status = TRANSITIONS.lead(application.status, "REJECT")
    application.review(work.principal.account_id, datetime.now(UTC), validation.text(reason, "reason"))
    await work.session.flush()
    return application


async def taken_off(
    work: Work, merchant: Merchant, code: str, lines: Sequence[Priced], now: datetime
) -> tuple[Coupon, Decimal]:
    """A coupon of a merchant's, and what it takes off an order (S4-39 to S4-41).

    COUPON_NOT_FOUND for another merchant's code, too; COUPON_NOT_VALID outside its time, COUPON_THRESHOLD below its
    threshold or without anything that it holds for.
    """
    code = validation.text(code, "couponCode").upper()
    found = (
        await work.session.execute(
            select(Coupon, CouponApplication)
            .join(CouponApplication, CouponApplication.id == Coupon.application_id)
            .where(Coupon.tenant_id == merchant.id, Coupon.code == code)
        )
    ).first()
    if found is None:
        raise Refusal("COUPON_NOT_FOUND", "couponCode")
    coupon, terms = found
    if not terms.valid_from <= now < terms.valid_until:
        raise Refusal("COUPON_NOT_VALID", "couponCode")
    off = amount_off(terms, lines)
    if off is None:
        raise Refusal("COUPON_THRESHOLD", "couponCode")
    return coupon, off


def amount_off(terms: CouponApplication, lines: Sequence[Priced]) -> Decimal | None:
    """What coupons of some terms take off: to the cent, in the merchant's favour, never more than what they hold for
    costs; None where they do not hold, or would take off nothing."""
    held_for = sum(
        (line.price * line.quantity for line in lines if terms.category in (None, line.category)), start=Decimal(0)
    )
    if not held_for or held_for < (terms.threshold or 0):
        return None
    if terms.coupon_type is CouponType.DISCOUNT:
        assert terms.percent_off is not None
        return (held_for * terms.percent_off / 100).quantize(validation.CENT, ROUND_DOWN) or None
    assert terms.amount_off is not None
    return min(terms.amount_off, held_for)
