"""Coupons: asked for by merchants, issued by those who decide on them."""

from __future__ import annotations

from sqlalchemy import Select, select

import models.coupons as stored
from planner.mapping import Connection, refer
from planner.registry import mutation, query
from resolvers.context import Context, key_of
from schema.coupons import (
    ApplyForCouponsInput,
    Coupon,
    CouponApplication,
    CouponApplicationInput,
    CouponApplicationPayload,
    RejectCouponApplicationInput,
)
from services import coupons as service


@query(Connection[CouponApplication])
def coupon_applications() -> Select[stored.CouponApplication]:
    """The coupons that merchants asked for: one's own, all for those who decide on them (S4-37)."""
    return select(stored.CouponApplication)


@query(CouponApplication, by=("id",))
def coupon_application() -> Select[stored.CouponApplication]:
    """Coupons that a merchant asked for (S4-37)."""
    return select(stored.CouponApplication)


@query(Connection[Coupon])
def coupons() -> Select[stored.Coupon]:
    """The coupons that were issued, by their code, too (S4-65)."""
    return select(stored.Coupon)


@mutation(idempotent=True)
async def apply_for_coupons(ctx: Context, input: ApplyForCouponsInput) -> CouponApplicationPayload:
    """Asks for coupons that one's company gives its customers (S4-37 to S4-41)."""
    made = await service.apply(ctx.now, vars(input))
    return CouponApplicationPayload(coupon_application=refer(made.id), errors=[])


@mutation(idempotent=True)
async def withdraw_coupon_application(ctx: Context, input: CouponApplicationInput) -> CouponApplicationPayload:
    """Takes back what nobody has decided on (S4-37)."""
    changed = await service.withdraw(ctx.now, key_of(input.id, "cpa", "id"))
    return CouponApplicationPayload(coupon_application=refer(changed.id), errors=[])


@mutation(idempotent=True)
async def approve_coupon_application(ctx: Context, input: CouponApplicationInput) -> CouponApplicationPayload:
    """Issues the coupons that a merchant asked for (S4-65, S4-74)."""
    changed = await service.approve(ctx.now, key_of(input.id, "cpa", "id"))
    return CouponApplicationPayload(coupon_application=refer(changed.id), errors=[])


@mutation(idempotent=True)
async def reject_coupon_application(ctx: Context, input: RejectCouponApplicationInput) -> CouponApplicationPayload:
    """Does not issue the coupons, and says why (S4-37)."""
    changed = await service.reject(ctx.now, key_of(input.id, "cpa", "id"), input.reason)
    return CouponApplicationPayload(coupon_application=refer(changed.id), errors=[])
