"""What merchants sell: single items, and the orders of those who buy them."""

from __future__ import annotations

from decimal import Decimal

from sqlalchemy import CheckConstraint, ForeignKey, ForeignKeyConstraint, Index, SmallInteger, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from models.base import AppendOnly, Base, TenantOwned, Timestamped, impersonal, personal, stored_enum
from models.catalog import CatalogStatus
from models.coupons import Coupon
from models.identity import StaffAccount
from models.orders import Order, OrderKind
from models.tenancy import Tenant


class MerchantItem(Timestamped, TenantOwned, Base):
    """A single service or thing that a merchant sells, at a price in its own currency (S4-05)."""

    __tablename__ = "merchant_item"
    __constraints__ = (
        UniqueConstraint("tenant_id", "name"),
        UniqueConstraint("id", "tenant_id"),
        CheckConstraint("price >= 0", name="price_not_negative"),
    )

    name: Mapped[str]
    category: Mapped[str]
    price: Mapped[Decimal]
    currency: Mapped[str]
    status: Mapped[CatalogStatus] = mapped_column(stored_enum(CatalogStatus), default=CatalogStatus.ACTIVE)

    tenant: Mapped[Tenant] = relationship(lazy="raise", viewonly=True)


class ItemOrder(Order):
    """Items that somebody buys of a merchant, without a card of its own (S4-15, S4-17). Its owner is the merchant; a
    coupon is taken by at most one order that is paid or may still be."""

    seller_id: Mapped[int | None] = mapped_column(ForeignKey("staff_account.id"), index=True)
    buyer_name: Mapped[str | None] = mapped_column(info=personal())
    buyer_phone: Mapped[str | None] = mapped_column(info=personal())
    discount: Mapped[Decimal | None]
    coupon_id: Mapped[int | None] = mapped_column(ForeignKey("coupon.id"), info=impersonal("Which coupon was used."))

    seller: Mapped[StaffAccount | None] = relationship(lazy="raise", foreign_keys=[seller_id])
    coupon: Mapped[Coupon | None] = relationship(lazy="raise")

    __mapper_args__ = {"polymorphic_identity": OrderKind.SINGLE_ITEM}


Index(
    "uq_sales_order_coupon_taken",
    ItemOrder.coupon_id,
    unique=True,
    postgresql_where=text("status IN ('AWAITING_PAYMENT', 'PAID')"),
)
Index(
    "ix_sales_order_buyer_phone",
    ItemOrder.buyer_phone,
    postgresql_where=text("buyer_phone IS NOT NULL"),
)


class ItemOrderLine(AppendOnly, TenantOwned, Base):
    """One item of a merchant's order, as it was sold."""

    __tablename__ = "item_order_line"
    __constraints__ = (
        UniqueConstraint("order_id", "item_id"),
        ForeignKeyConstraint(
            ["item_id", "tenant_id"], ["merchant_item.id", "merchant_item.tenant_id"], name="fk_item_order_line_item"
        ),
        CheckConstraint("quantity > 0", name="quantity_positive"),
        CheckConstraint("price >= 0", name="price_not_negative"),
    )

    order_id: Mapped[int] = mapped_column(ForeignKey("sales_order.id"))
    item_id: Mapped[int] = mapped_column(index=True)
    name: Mapped[str]
    category: Mapped[str]
    quantity: Mapped[int] = mapped_column(SmallInteger)
    price: Mapped[Decimal]
    """Of one, in the order's currency."""

    order: Mapped[ItemOrder] = relationship(lazy="raise")
    item: Mapped[MerchantItem] = relationship(lazy="raise", viewonly=True)
