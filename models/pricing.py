"""What packages are composed of and what that costs: billing products, exchange rates, and costs frozen on orders."""

from __future__ import annotations

import enum
from datetime import datetime
from decimal import Decimal

from sqlalchemy import CheckConstraint, ForeignKey, Index, Numeric, SmallInteger, UniqueConstraint, func
from sqlalchemy.orm import Mapped, mapped_column, relationship

from models.base import AppendOnly, Base, TenantOwned, Timestamped, stored_enum
from models.catalog import CatalogStatus, DataPackage, Supplier
from models.identity import StaffAccount
from models.orders import Order

RATE = Numeric(20, 10)


class BillingProductKind(enum.Enum):
    """Whether the platform meters a product itself or buys it through an upstream's recharge channel (S2-06, S2-07)."""

    INTERNAL = "INTERNAL"
    DIRECT_CHANNEL = "DIRECT_CHANNEL"


class ServiceKind(enum.Enum):
    AIRTIME = "AIRTIME"
    DATA = "DATA"
    VOICE = "VOICE"
    SMS = "SMS"


class BillingProduct(Timestamped, TenantOwned, Base):
    """What plans are built from, and what one of it costs (S2-06, S2-07). Its currency stays."""

    __tablename__ = "billing_product"
    __constraints__ = (
        UniqueConstraint("tenant_id", "code"),
        CheckConstraint("cost >= 0", name="cost_not_negative"),
        CheckConstraint(
            "kind <> 'DIRECT_CHANNEL' OR (supplier_id IS NOT NULL AND upstream_article IS NOT NULL)",
            name="channel_names_upstream",
        ),
    )

    kind: Mapped[BillingProductKind] = mapped_column(stored_enum(BillingProductKind))
    service: Mapped[ServiceKind] = mapped_column(stored_enum(ServiceKind))
    code: Mapped[str]
    name: Mapped[str]
    cost: Mapped[Decimal]
    currency: Mapped[str]
    supplier_id: Mapped[int | None] = mapped_column(ForeignKey("supplier.id"), index=True)
    upstream_article: Mapped[str | None]
    status: Mapped[CatalogStatus] = mapped_column(stored_enum(CatalogStatus), default=CatalogStatus.ACTIVE)

    supplier: Mapped[Supplier | None] = relationship(lazy="raise")


class ExchangeRate(AppendOnly, TenantOwned, Base):
    """How much of one currency another is worth from a moment on, until a later one (S2-10)."""

    __tablename__ = "exchange_rate"
    __constraints__ = (
        CheckConstraint("rate > 0", name="rate_positive"),
        CheckConstraint("from_currency <> to_currency", name="currencies_differ"),
        Index("ix_exchange_rate_pair", "from_currency", "to_currency", "effective_from", "id"),
    )

    from_currency: Mapped[str]
    to_currency: Mapped[str]
    rate: Mapped[Decimal] = mapped_column(RATE)
    effective_from: Mapped[datetime]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    account_id: Mapped[int | None] = mapped_column(ForeignKey("staff_account.id"))

    account: Mapped[StaffAccount | None] = relationship(lazy="raise")


class PackageComponent(TenantOwned, Base):
    """A billing product in a package, and how many of it (S2-08)."""

    __tablename__ = "package_component"
    __constraints__ = (
        UniqueConstraint("data_package_id", "billing_product_id"),
        CheckConstraint("quantity > 0", name="quantity_positive"),
    )

    data_package_id: Mapped[int] = mapped_column(ForeignKey("data_package.id"))
    billing_product_id: Mapped[int] = mapped_column(ForeignKey("billing_product.id"), index=True)
    quantity: Mapped[int]

    data_package: Mapped[DataPackage] = relationship(lazy="raise")
    billing_product: Mapped[BillingProduct] = relationship(lazy="raise")


class OrderLevelPrice(AppendOnly, TenantOwned, Base):
    """What one package of an order costs an agent between the buyer and the platform, as it was agreed when the order
    was made; of packages by which agents earn their margin (S2-18). Only the system reads it."""

    __tablename__ = "order_level_price"
    __constraints__ = (
        UniqueConstraint("order_id", "tenant_id"),
        CheckConstraint("price >= 0", name="price_not_negative"),
    )

    order_id: Mapped[int] = mapped_column(ForeignKey("sales_order.id"))
    depth: Mapped[int] = mapped_column(SmallInteger)
    """How far above the buyer, which is at 0."""
    price: Mapped[Decimal]


class OrderComponent(AppendOnly, TenantOwned, Base):
    """What one package of an order was composed of when it was ordered, and what that cost then (S2-10). It belongs to
    who sells: nobody is told what somebody above pays (S2-20)."""

    __tablename__ = "order_component"
    __constraints__ = (
        UniqueConstraint("order_id", "billing_product_id"),
        CheckConstraint("quantity > 0 AND cost >= 0 AND exchange_rate > 0", name="amounts_make_sense"),
    )

    order_id: Mapped[int] = mapped_column(ForeignKey("sales_order.id"))
    billing_product_id: Mapped[int] = mapped_column(ForeignKey("billing_product.id"), index=True)
    name: Mapped[str]
    quantity: Mapped[int]
    cost: Mapped[Decimal]
    currency: Mapped[str]
    exchange_rate: Mapped[Decimal] = mapped_column(RATE)

    order: Mapped[Order] = relationship(lazy="raise")
    billing_product: Mapped[BillingProduct] = relationship(lazy="raise")
