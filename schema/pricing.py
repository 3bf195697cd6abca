"""Billing products, exchange rates and the composition of packages in the graph."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import strawberry

import models.pricing as stored
from models.catalog import CatalogStatus, MarkupSign, MarkupType
from models.pricing import BillingProductKind, ServiceKind
from planner.mapping import Node, column, entity, enum_type, input_type, to_one, value
from schema.common import UserError

if TYPE_CHECKING:
    from schema.catalog import DataPackage, Supplier
    from schema.identity import StaffAccount

enum_type(BillingProductKind, "Whether the platform meters a product itself or buys it through an upstream's channel.")
enum_type(ServiceKind, "What a billing product brings.")


@entity(
    stored.BillingProduct,
    prefix="bpr",
    filters=("kind", "service", "code", "name", "status", "supplier", "currency"),
    sorts=("code", "created_at"),
)
class BillingProduct(Node):
    """What plans are built from: metered by the platform (S2-06), or bought through a direct channel (S2-07)."""

    kind: BillingProductKind
    service: ServiceKind
    code: str
    name: str
    cost: Decimal = column("What one costs the platform, in ``currency``.")
    currency: str = column("An ISO 4217 code; it stays.")
    upstream_article: str | None = column("The upstream's own number for it; of a direct channel.")
    status: CatalogStatus
    created_at: datetime
    updated_at: datetime
    supplier: Supplier | None = to_one("The upstream.")


@entity(
    stored.ExchangeRate,
    prefix="fxr",
    filters=("from_currency", "to_currency", "effective_from"),
    sorts=("effective_from",),
)
class ExchangeRate(Node):
    """How much of one currency another is worth from a moment on, until a later one (S2-10)."""

    from_currency: str = column("An ISO 4217 code.")
    to_currency: str = column("An ISO 4217 code.")
    rate: Decimal = column("How much of ``toCurrency`` one of ``fromCurrency`` is worth, to ten decimals.")
    effective_from: datetime
    created_at: datetime
    account: StaffAccount | None = to_one("Who entered it.")


@entity(stored.PackageComponent, prefix="pco")
class PackageComponent(Node):
    """A billing product in a package (S2-08, S2-12)."""

    quantity: int = column("How many of it one package holds.")
    product: BillingProduct | None = to_one("Which.", via="billing_product")
    package: DataPackage | None = to_one("In which package.", via="data_package")


@entity(stored.OrderComponent, prefix="oco")
class OrderComponent(Node):
    """What one package of an order was composed of when it was ordered, and what that cost then (S2-10)."""

    name: str
    quantity: int
    cost: Decimal = column("What one cost, in ``currency``.")
    currency: str = column("An ISO 4217 code.")
    exchange_rate: Decimal = column("How much of the order's currency one of ``currency`` was worth.")
    product: BillingProduct | None = to_one("Which.", via="billing_product")


@input_type
class BillingProductInput:
    """A billing product (S2-06); one of a direct channel names its upstream and the upstream's number for it (S2-07).
    Cost in ``currency``."""

    kind: BillingProductKind
    service: ServiceKind
    code: str
    name: str
    cost: Decimal
    currency: str = "CNY"
    supplier: strawberry.ID | None = None
    upstream_article: str | None = None


@input_type
class UpdateBillingProductInput:
    """Changes to a billing product; a field left out stays as it is. Packages composed of it are priced anew."""

    id: strawberry.ID
    name: str | None = None
    cost: Decimal | None = None
    upstream_article: str | None = None
    status: CatalogStatus | None = None


@input_type
class ExchangeRateInput:
    """How much of one currency another is worth, from now on or from a moment ahead (S2-10)."""

    from_currency: str
    to_currency: str
    rate: Decimal
    effective_from: datetime | None = None
    idempotency_key: str


@input_type
class PackageComponentInput:
    """A billing product, and how many of it."""

    product: strawberry.ID
    quantity: int = 1


@input_type
class ComposeDataPackageInput:
    """What a package is composed of, and what is put on its cost or taken off it: an amount in the package's currency,
    or percent (S2-08, S2-11). No component: the price is given by hand from now on."""

    package: strawberry.ID
    components: list[PackageComponentInput]
    markup_type: MarkupType = MarkupType.FIXED
    markup_sign: MarkupSign = MarkupSign.PLUS
    markup: Decimal = Decimal(0)


@value
class BillingProductPayload:
    """The product as it now is, or why nothing was changed."""

    billing_product: BillingProduct | None
    errors: list[UserError]


@value
class ExchangeRatePayload:
    """The rate, or why it was not taken."""

    exchange_rate: ExchangeRate | None
    errors: list[UserError]


@value
class CurrencyProfit:
    """What is likely to be left of the orders of one currency (S2-20)."""

    currency: str
    orders: int
    revenue: Decimal = strawberry.field(
        description="What the buyer, or the level below, pays: after its own share, or its own price."
    )
    cost: Decimal = strawberry.field(description="What they cost the caller itself; nobody's above.")
    profit: Decimal


@value
class EstimatedProfit:
    """What the caller is likely to keep of paid orders on some days of its time zone; or why it is not told (S2-20). Of
    an agent, the orders by which it earned something; of the platform, those whose cost is known."""

    first_day: date
    last_day: date
    time_zone: str | None
    profits: list[CurrencyProfit]
    errors: list[UserError]
