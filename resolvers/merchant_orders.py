"""What merchants sell: items, orders, payment at the counter, and what was sold."""

from __future__ import annotations

from datetime import date

import strawberry
from sqlalchemy import Select, select

import models.merchant_orders as stored
from planner.ids import encode_id
from planner.mapping import Connection, refer
from planner.registry import mutation, query
from resolvers.context import Context, given, key_of, optional_key, user_error
from schema.merchant_orders import (
    CreateMerchantItemInput,
    ItemOrder,
    ItemOrderPayload,
    MerchantItem,
    MerchantItemPayload,
    MerchantSales,
    MerchantSalesLine,
    PlaceItemOrderInput,
    TakeCashInput,
    UpdateMerchantItemInput,
)
from services import merchant_orders as service
from services.refusal import Refusal


@query(Connection[MerchantItem])
def merchant_items() -> Select[stored.MerchantItem]:
    """What merchants within reach sell (S4-05)."""
    return select(stored.MerchantItem)


@query(Connection[ItemOrder])
def item_orders() -> Select[stored.ItemOrder]:
    """What was bought of merchants within reach: all for the platform, for an operator of those that it operates, a
    merchant's own (S4-17, S4-75)."""
    return select(stored.ItemOrder)


@query(MerchantSales, report=True)
async def merchant_sales(
    ctx: Context, first_day: date, last_day: date, merchant: strawberry.ID | None = None
) -> MerchantSales:
    """What merchants sold, both days included, by the days of the asker's time zone: each within reach, or one
    (S4-75)."""
    try:
        zone, found = await service.sales(
            ctx.runtime,
            ctx.principal,
            merchant_id=optional_key(merchant, "ten", "merchant"),
            first=first_day,
            last=last_day,
        )
    except Refusal as refusal:
        return MerchantSales(
            first_day=first_day, last_day=last_day, time_zone=None, merchants=[], errors=[user_error(refusal, ctx)]
        )
    return MerchantSales(
        first_day=first_day,
        last_day=last_day,
        time_zone=zone,
        merchants=[
            MerchantSalesLine(**{**vars(one), "merchant_id": strawberry.ID(encode_id("ten", one.merchant_id))})
            for one in found
        ],
        errors=[],
    )


@mutation
async def create_merchant_item(ctx: Context, input: CreateMerchantItemInput) -> MerchantItemPayload:
    """Offers something that one's company sells (S4-05)."""
    made = await service.create_item(ctx.now, name=input.name, category=input.category, price=input.price)
    return MerchantItemPayload(merchant_item=refer(made.id), errors=[])


@mutation
async def update_merchant_item(ctx: Context, input: UpdateMerchantItemInput) -> MerchantItemPayload:
    """Changes what one's company sells, or sells it no more (S4-05)."""
    changed = await service.update_item(ctx.now, key_of(input.id, "mit", "id"), given(input))
    return MerchantItemPayload(merchant_item=refer(changed.id), errors=[])


@mutation(idempotent=True)
async def place_item_order(ctx: Context, input: PlaceItemOrderInput) -> ItemOrderPayload:
    """Writes down what somebody buys, to be paid at the counter or by a code to scan (S4-17)."""
    made = await service.place(
        ctx.now,
        [
            service.Wanted(key_of(one.item, "mit", f"lines.{number}.item"), one.quantity)
            for number, one in enumerate(input.lines)
        ],
        service.Buyer(input.buyer.name, input.buyer.phone),
        seller_id=optional_key(input.seller, "acc", "seller"),
        coupon_code=input.coupon_code,
        source=ctx.door.name,
        remark=input.remark,
    )
    return ItemOrderPayload(order=refer(made.id), errors=[])


@mutation(idempotent=True)
async def take_cash(ctx: Context, input: TakeCashInput) -> ItemOrderPayload:
    """Enters that an order was paid at the counter (S4-17)."""
    paid = await service.take_cash(ctx.now, key_of(input.id, "ord", "id"))
    return ItemOrderPayload(order=refer(paid.id), errors=[])
