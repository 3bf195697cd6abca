"""What merchants sell, in the graph."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import strawberry

import models.merchant_orders as stored
from models.catalog import CatalogStatus
from planner.mapping import Connection, Node, column, entity, input_type, to_many, to_one, value
from schema.common import UserError
from schema.masks import masked_name, masked_phone
from schema.orders import SEARCHABLE, Order

if TYPE_CHECKING:
    from schema.coupons import Coupon
    from schema.identity import StaffAccount
    from schema.tenancy import Tenant


@entity(
    stored.MerchantItem, prefix="mit", filters=("merchant", "name", "category", "status"), sorts=("name", "created_at")
)
class MerchantItem(Node):
    """A single service or thing that a merchant sells (S4-05)."""

    name: str
    category: str
    price: Decimal = column("Of one, in ``currency``.")
    currency: str = column("An ISO 4217 code.")
    status: CatalogStatus
    created_at: datetime
    merchant: Tenant | None = to_one("Who sells it.", via="tenant")


@entity(
    stored.ItemOrder,
    prefix="ord",
    filters=(*SEARCHABLE, "seller", "coupon"),
    sorts=("created_at", "paid_at"),
)
class ItemOrder(Order):
    """Items that somebody buys of a merchant, without a card of its own (S4-15, S4-17)."""

    buyer_name: str | None = column("Who buys; masked except for who may see it in full.", mask=masked_name)
    buyer_phone: str | None = column("Masked except for who may see it in full.", mask=masked_phone)
    discount: Decimal | None = column("What the coupon took off, in ``currency``.")
    seller: StaffAccount | None = to_one("Who of its staff sold it (销售人员).")
    coupon: Coupon | None = to_one("Which coupon was used.")
    items: Connection[ItemOrderLine] = to_many("What was bought.", by=stored.ItemOrderLine.order_id)


@entity(stored.ItemOrderLine, prefix="mol", filters=("category",))
class ItemOrderLine(Node):
    """One item of a merchant's order, as it was sold."""

    name: str
    category: str
    quantity: int
    price: Decimal = column("Of one, in the order's currency.")
    item: MerchantItem | None = to_one("What it is by now.")


@input_type
class CreateMerchantItemInput:
    """Something that one's company sells, at a price in its currency (S4-05)."""

    name: str
    category: str
    price: Decimal
    idempotency_key: str | None = None


@input_type
class UpdateMerchantItemInput:
    """Changes to an item; a field left out stays as it is, and so does what was ordered."""

    id: strawberry.ID
    name: str | None = None
    category: str | None = None
    price: Decimal | None = None
    status: CatalogStatus | None = None


@input_type
class ItemOrderLineInput:
    """How many of an item somebody buys: 1 to 1,000."""

    item: strawberry.ID
    quantity: int = 1


@input_type
class BuyerInput:
    """Who buys."""

    name: str
    phone: str | None = None


@input_type
class PlaceItemOrderInput:
    """Items that somebody buys, at today's prices, less what a coupon takes off (S4-17). Who sells is the caller unless
    somebody else of the company is named."""

    lines: list[ItemOrderLineInput]
    buyer: BuyerInput
    seller: strawberry.ID | None = None
    coupon_code: str | None = None
    remark: str | None = None
    idempotency_key: str


@input_type
class TakeCashInput:
    """An order of one's own company that was paid at the counter."""

    id: strawberry.ID
    idempotency_key: str


@value
class MerchantItemPayload:
    """The item as it now is, or why nothing was changed."""

    merchant_item: MerchantItem | None
    errors: list[UserError]


@value
class ItemOrderPayload:
    """The order as it now is, or why nothing was changed."""

    order: ItemOrder | None
    errors: list[UserError]


@value
class MerchantSalesLine:
    """What one merchant sold for one currency; refunds are left out (S4-75)."""

    merchant_id: strawberry.ID
    merchant: str = strawberry.field(description="What it is called.")
    currency: str
    orders: int
    amount: Decimal = strawberry.field(description="What was paid, in ``currency``.")
    discount: Decimal = strawberry.field(description="What coupons took off, in ``currency``.")


@value
class MerchantSales:
    """What the merchants within reach sold on some days of the asker's time zone, best first; or why it is not told
    (S4-75)."""

    first_day: date
    last_day: date
    time_zone: str | None
    merchants: list[MerchantSalesLine]
    errors: list[UserError]
