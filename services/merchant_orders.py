"""What merchants sell: their items, the orders of those who buy them, how these are paid, and what was sold.

An item's name, category and price are fixed on the order when it is made. What is paid through the platform's channels
is the merchant's funds; what is paid at the counter never comes by the platform's books.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import func, insert, select

from authz.principal import Principal
from models.base import table_of
from models.catalog import CatalogStatus
from models.identity import AccountStatus, StaffAccount
from models.merchant_orders import ItemOrder, ItemOrderLine, MerchantItem
from models.merchants import Merchant
from models.orders import OrderStatus, PayType
from models.tenancy import Tenant
from services import coupons, merchants, orders, pricing, validation
from services.conflicts import told_apart
from services.refusal import Refusal, not_found
from services.runtime import Runtime, Work
from services.sales import between, check_days

ITEM_CONSTRAINT, COUPON_CONSTRAINT = "uq_merchant_item_tenant_id_name", "uq_sales_order_coupon_taken"
MAX_LINES = 100
MAX_QUANTITY = 1_000


@dataclass(frozen=True)
class Wanted:
    """How many of an item somebody buys."""

    item_id: int
    quantity: int


@dataclass(frozen=True)
class Buyer:
    name: str
    phone: str | None


@dataclass(frozen=True)
class MerchantSales:
    """What one merchant sold for one currency on some days; refunds are left out."""

    merchant_id: int
    merchant: str
    currency: str
    orders: int
    amount: Decimal
    discount: Decimal


async def create_item(work: Work, *, name: str, category: str, price: Decimal) -> MerchantItem:
    """Something that the calling merchant sells, at a price in its currency (S4-05). TAKEN where it has the name."""
    merchant = await merchants.calling(work)
    item = MerchantItem(tenant_id=merchant.id, tenant_path=merchant.path, currency=merchant.currency)
    for field, value in _checked({"name": name, "category": category, "price": price}).items():
        setattr(item, field, value)
    work.session.add(item)
    async with told_apart(work.session, {ITEM_CONSTRAINT: ("name", item.name)}):
        await work.session.flush()
    return item


async def update_item(work: Work, key: int, changes: Mapping[str, Any]) -> MerchantItem:
    """Changes what is given; orders keep what they were made with."""
    item = await work.held(MerchantItem, key, MerchantItem.tenant_id == work.principal.tenant_id)
    for field, value in _checked(changes).items():
        setattr(item, field, value)
    async with told_apart(work.session, {ITEM_CONSTRAINT: ("name", item.name)}):
        await work.session.flush()
    return item


def _checked(values: Mapping[str, Any]) -> dict[str, Any]:
    checks: dict[str, Callable[[Any], Any]] = {
        "name": lambda v: validation.text(v, "name"),
        "category": lambda v: validation.text(v, "category"),
        "price": lambda v: validation.price(v, "price"),
        "status": lambda v: v,
    }
    return {name: checks[name](value) for name, value in values.items()}


async def place(
    work: Work,
    wanted: Sequence[Wanted],
    buyer: Buyer,
    *,
    seller_id: int | None,
    coupon_code: str | None,
    source: str,
    remark: str | None,
) -> ItemOrder:
    """An order of the calling merchant's items, which waits for its payment (S4-17). Who sells is the caller unless
    somebody else of its company is named.

    NOT_POSSIBLE_HERE, NOT_ONBOARDED; NOT_FOUND for an item or a seller of somebody else, NOT_ACTIVE for one that is not
    sold any more, what ``coupons.taken_off`` refuses, and COUPON_TAKEN.
    """
    merchant = await merchants.calling(work, onboarded=True)
    lines = await _lines(work, merchant, wanted)
    amount = sum((line.price * line.quantity for line in lines), start=Decimal(0))
    if amount >= pricing.LARGEST:
        raise Refusal("INVALID", "lines")
    coupon, off = None, Decimal(0)
    if coupon_code is not None:
        coupon, off = await coupons.taken_off(work, merchant, coupon_code, lines, datetime.now(UTC))
    order = ItemOrder(
        tenant_id=merchant.id,
        tenant_path=merchant.path,
        amount=amount - off,
        currency=merchant.currency,
        discount=off,
        coupon_id=coupon.id if coupon else None,
        source=source,
        remark=validation.optional(remark, "remark"),
        account_id=work.principal.account_id,
        seller_id=await _seller(work, merchant, seller_id),
        buyer_name=validation.text(buyer.name, "buyer.name"),
        buyer_phone=validation.compact_phone(buyer.phone, "buyer.phone"),
        needs_commission=False,
        expires_at=await orders.payable_until(work, merchant),
    )
    work.session.add(order)
    taken = {COUPON_CONSTRAINT: ("couponCode", coupon_code or "")}
    async with told_apart(work.session, taken, "COUPON_TAKEN"):
        await work.session.flush()
    await work.session.execute(
        insert(table_of(ItemOrderLine)).values(
            [
                {
                    "tenant_id": merchant.id,
                    "tenant_path": merchant.path,
                    "order_id": order.id,
                    "item_id": line.item_id,
                    "name": line.name,
                    "category": line.category,
                    "quantity": line.quantity,
                    "price": line.price,
                }
                for line in lines
            ]
        )
    )
    return order


@dataclass(frozen=True)
class _Line:
    item_id: int
    name: str
    category: str
    quantity: int
    price: Decimal


async def _lines(work: Work, merchant: Merchant, wanted: Sequence[Wanted]) -> list[_Line]:
    if not wanted:
        raise Refusal("REQUIRED", "lines")
    if len(wanted) > MAX_LINES:
        raise Refusal("TOO_MANY", "lines", limit=MAX_LINES)
    items = {
        item.id: item
        for item in await work.session.scalars(
            select(MerchantItem).where(
                MerchantItem.id.in_([one.item_id for one in wanted]), MerchantItem.tenant_id == merchant.id
            )
        )
    }
    found: list[_Line] = []
    for number, one in enumerate(wanted):
        item = items.get(one.item_id)
        if item is None:
            raise not_found(f"lines.{number}.item")
        if item.status is not CatalogStatus.ACTIVE:
            raise Refusal("NOT_ACTIVE", f"lines.{number}.item", value=item.name)
        if any(line.item_id == item.id for line in found):
            raise Refusal("TAKEN", f"lines.{number}.item", value=item.name)
        if not 1 <= one.quantity <= MAX_QUANTITY:
            raise Refusal("INVALID", f"lines.{number}.quantity")
        found.append(_Line(item.id, item.name, item.category, one.quantity, item.price))
    return found


async def _seller(work: Work, merchant: Merchant, seller_id: int | None) -> int:
    wanted = work.principal.account_id if seller_id is None else seller_id
    found = await work.session.scalar(
        select(StaffAccount.id).where(
            StaffAccount.id == wanted,
            StaffAccount.tenant_id == merchant.id,
            StaffAccount.status == AccountStatus.ACTIVE,
        )
    )
    if found is None:
        raise not_found("seller")
    return found


async def take_cash(work: Work, key: int) -> ItemOrder:
    """The buyer has paid at the counter: an order of the calling merchant's own is paid, and no money of the
    platform's moves. ORDER_STATUS, ORDER_EXPIRED."""
    order = await orders.held_to_pay(work, key)
    if not isinstance(order, ItemOrder):
        raise not_found("id")
    await orders.settle(work, order, await merchants.calling(work), ([], []), None, PayType.CASH)
    return order


async def sales(
    runtime: Runtime, principal: Principal, *, merchant_id: int | None, first: date, last: date
) -> tuple[str, Sequence[MerchantSales]]:
    """The asker's time zone, and what each merchant within reach sold on some of its days, both included: all of them
    for the platform and for an operator those that it operates, for a merchant its own (S4-75).

    INVALID where the days are in the wrong order, TOO_MANY for more than a year, NOT_FOUND for a merchant out of reach.
    """
    check_days(first, last)
    async with runtime.database.transaction(principal) as session:
        zone = (await session.scalars(select(Tenant.time_zone).where(Tenant.id == principal.tenant_id))).one()
        query = (
            select(
                Merchant.id,
                Merchant.name,
                ItemOrder.currency,
                func.count(),
                func.sum(ItemOrder.amount),
                func.sum(ItemOrder.discount),
            )
            .join(Merchant, Merchant.id == ItemOrder.tenant_id)
            .where(ItemOrder.status == OrderStatus.PAID, between(ItemOrder.paid_at, first, last, zone))
            .group_by(Merchant.id, Merchant.name, ItemOrder.currency)
            .order_by(func.sum(ItemOrder.amount).desc(), Merchant.id, ItemOrder.currency)
        )
        if merchant_id is not None:
            if await session.scalar(select(Merchant.id).where(Merchant.id == merchant_id)) is None:
                raise not_found("merchant")
            query = query.where(Merchant.id == merchant_id)
        found = await session.execute(query)
        return zone, [
            MerchantSales(key, name, currency, count, amount, Decimal(0) if discount is None else discount)
            for key, name, currency, count, amount, discount in found
        ]
