"""Prices that are worked out: what a package is composed of, each at its cost and exchange rate, and a markup.

A composed package's price stands in the catalogue, where it is brought up to date whenever a part of it changes and,
for rates with a date ahead, by a job. An order works it out once more and freezes it with costs and rates.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal, localcontext
from typing import Any

from sqlalchemy import BigInteger, DateTime, Select, bindparam, delete, select, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncSession

from authz.principal import system
from authz.session import Database
from gateways.upstream import upstreams
from models.catalog import CatalogStatus, DataPackage, MarkupSign, MarkupType, Pricing, Supplier
from models.pricing import (
    BillingProduct,
    BillingProductKind,
    ExchangeRate,
    OrderComponent,
    OrderLevelPrice,
    PackageComponent,
)
from models.tenancy import Tenant
from services import validation
from services.conflicts import told_apart
from services.customer_prices import Level, levels_of
from services.identity import tenant_for
from services.refusal import Refusal, not_found
from services.runtime import Unit, Work

SMALLEST = Decimal("0.0001")
LARGEST = Decimal(10) ** 14
EXACT = 80
"""Digits in which nothing is rounded before the end."""
MAX_COMPONENTS = 50
MAX_QUANTITY = 1_000_000
RATE_DECIMALS = 10
MAX_RATE = Decimal(10) ** 9
PRODUCT_CONSTRAINTS = "uq_billing_product_tenant_id_code"

PARTS = text("""
SELECT p.id AS package, c.billing_product_id AS product, b.name, c.quantity, b.cost, b.currency,
  p.currency AS package_currency, CASE WHEN b.currency = p.currency THEN 1 ELSE r.rate END AS rate,
  b.kind = 'DIRECT_CHANNEL' AS channel, s.interface_name AS interface
FROM data_package p
JOIN package_component c ON c.data_package_id = p.id
JOIN billing_product b ON b.id = c.billing_product_id
LEFT JOIN supplier s ON s.id = b.supplier_id
LEFT JOIN LATERAL (
  SELECT x.rate FROM exchange_rate x
  WHERE x.from_currency = b.currency AND x.to_currency = p.currency AND x.effective_from <= :now
  ORDER BY x.effective_from DESC, x.id DESC LIMIT 1
) r ON true
WHERE p.id = ANY (:packages) ORDER BY p.id, c.id
""").bindparams(bindparam("packages", type_=ARRAY(BigInteger)), bindparam("now", type_=DateTime(timezone=True)))


@dataclass(frozen=True)
class Part:
    """A billing product in a package, at what it costs and is worth now."""

    product: int
    name: str
    quantity: int
    cost: Decimal
    currency: str
    package_currency: str
    rate: Decimal | None
    """How much of the package's currency one of the product's is worth; None where nobody has said."""
    channel: bool = False
    """Whether it is to be bought through an upstream's channel."""
    interface: str | None = None
    """Which adapter speaks to its supplier."""


@dataclass(frozen=True)
class Quote:
    """What one package costs now, and why."""

    price: Decimal
    parts: Sequence[Part] = ()
    levels: Sequence[Level] = ()
    """What it costs the buyer's company and each one above, where agents earn their margin by it."""


def price_of(parts: Sequence[Part], markup_type: MarkupType, sign: MarkupSign, markup: Decimal) -> Decimal:
    """Each part's cost times how many of it times its rate, and the markup on their sum (S2-11). It is rounded once.

    NO_EXCHANGE_RATE where a part's currency has none, NEGATIVE where the markup takes more than there is, INVALID where
    there is no part or the price is beyond what can be kept.
    """
    with localcontext() as exact:
        exact.prec = EXACT
        cost = Decimal(0)
        for part in parts:
            if part.rate is None:
                raise Refusal("NO_EXCHANGE_RATE", "components", currency=part.currency, into=part.package_currency)
            cost += part.cost * part.quantity * part.rate
        added = markup if markup_type is MarkupType.FIXED else cost * markup / 100
        price = (cost + added if sign is MarkupSign.PLUS else cost - added).quantize(SMALLEST, ROUND_HALF_UP)
    if price < 0:
        raise Refusal("NEGATIVE", "markup")
    if not parts or price >= LARGEST:
        raise Refusal("INVALID", "components")
    return price


async def quote(work: Unit, package: DataPackage, owner: Tenant, *, retail: bool = False) -> Quote:
    """What one package costs a customer now, or ``retail`` an end user whom it serves; and what that is made of, which
    only the system may know.

    PACKAGE_NOT_PRICED where its price cannot be worked out, CHANNEL_CLOSED where a part of it is to be bought through
    an upstream's channel to which no adapter speaks.
    """
    if package.pricing is Pricing.FIXED:
        return await _quoted(work, package, owner, package.sale_price, retail=retail)
    async with work.as_the_system("quote of a package"):
        # held, so that price and parts are of one moment
        held = select(DataPackage).where(DataPackage.id == package.id).with_for_update(read=True)
        await work.session.scalars(held.execution_options(populate_existing=True))
        parts = (await _parts(work.session, [package.id], datetime.now(UTC)))[package.id]
        if any(part.channel and upstreams.family(part.interface) is None for part in parts):
            # nothing is sold that nobody delivers
            raise Refusal("CHANNEL_CLOSED", "package")
        try:
            sale_price = _priced(package, parts)
        except Refusal:
            # a buyer is not told of what, and in which currency, a package is made
            raise Refusal("PACKAGE_NOT_PRICED", "package") from None
        return replace(await _quoted(work, package, owner, sale_price, retail=retail), parts=parts)


async def _quoted(work: Unit, package: DataPackage, owner: Tenant, sale_price: Decimal, *, retail: bool) -> Quote:
    levels = await levels_of(work, owner, package, sale_price)
    return Quote(levels[0].price if levels and not retail else sale_price, levels=levels)


async def freeze(work: Unit, order_id: int, package: DataPackage, quoted: Quote) -> None:
    """Keeps with an order what its packages are composed of and what that cost (S2-10), and what they cost each agent
    (S2-18)."""
    if not quoted.parts and not quoted.levels:
        return
    async with work.as_the_system("costs of an order"):
        work.session.add_all(
            OrderLevelPrice(
                tenant_id=level.tenant,
                tenant_path=level.path,
                order_id=order_id,
                depth=level.depth,
                price=level.price,
            )
            for level in quoted.levels
            if level.agent
        )
        work.session.add_all(
            OrderComponent(
                tenant_id=package.tenant_id,
                tenant_path=package.tenant_path,
                order_id=order_id,
                billing_product_id=part.product,
                name=part.name,
                quantity=part.quantity,
                cost=part.cost,
                currency=part.currency,
                exchange_rate=part.rate,
            )
            for part in quoted.parts
        )


def _priced(package: DataPackage, parts: Sequence[Part]) -> Decimal:
    assert package.markup_type is not None
    assert package.markup_sign is not None
    assert package.markup is not None
    return price_of(parts, package.markup_type, package.markup_sign, package.markup)


async def _parts(session: AsyncSession, packages: Sequence[int], now: datetime) -> Mapping[int, list[Part]]:
    found: dict[int, list[Part]] = defaultdict(list)
    for package, *part in await session.execute(PARTS, {"packages": packages, "now": now}):
        found[package].append(Part(*part))
    return found


# -- what changes prices -------------------------------------------------------------------------------------------


async def compose(
    work: Work,
    package_id: int,
    components: Sequence[tuple[int, int]],
    markup: tuple[MarkupType, MarkupSign, Decimal],
) -> DataPackage:
    """Composes a package of billing products, so many of each, with a markup (S2-08, S2-11, S2-12); of none, its price
    stays as it is and is given by hand from now on.

    NOT_FOUND and NOT_ACTIVE name the component; NO_EXCHANGE_RATE where its currency cannot be converted.
    """
    package = await work.held(DataPackage, package_id, field="package")
    if len(components) > MAX_COMPONENTS:
        raise Refusal("TOO_MANY", "components", limit=MAX_COMPONENTS)
    products = {
        product.id: product
        for product in await work.session.scalars(
            select(BillingProduct).where(BillingProduct.id.in_([key for key, _ in components]))
        )
    }
    await work.session.execute(delete(PackageComponent).where(PackageComponent.data_package_id == package.id))
    seen: set[int] = set()
    for place, (key, quantity) in enumerate(components):
        field = f"components.{place}"
        product = products.get(key)
        if product is None:
            raise not_found(f"{field}.product")
        if product.status is not CatalogStatus.ACTIVE:
            raise Refusal("NOT_ACTIVE", f"{field}.product", value=product.code)
        if key in seen:
            raise Refusal("TAKEN", f"{field}.product", value=product.code)
        if not 0 < quantity <= MAX_QUANTITY:
            raise Refusal("NOT_POSITIVE" if quantity <= 0 else "INVALID", f"{field}.quantity")
        seen.add(key)
        work.session.add(
            PackageComponent(
                tenant_id=package.tenant_id,
                tenant_path=package.tenant_path,
                data_package_id=package.id,
                billing_product_id=key,
                quantity=quantity,
            )
        )
    if not components:
        package.pricing = Pricing.FIXED
        package.markup_type = package.markup_sign = package.markup = None
        await work.session.flush()
        return package
    package.pricing = Pricing.COMPOSED
    package.markup_type, package.markup_sign = markup[:2]
    amount = validation.money(markup[2], "markup")
    package.markup = amount
    await work.session.flush()
    parts = (await _parts(work.session, [package.id], datetime.now(UTC)))[package.id]
    package.sale_price = _priced(package, parts)
    await work.session.flush()
    return package


async def create_product(work: Work, *, supplier_id: int | None, **values: Any) -> BillingProduct:
    """A billing product (S2-06, S2-07). REQUIRED where a direct channel does not name upstream and article."""
    tenant = await tenant_for(work, None)
    supplier = None
    if supplier_id is not None:
        supplier = await work.found(Supplier, supplier_id, field="supplier")
    article = validation.optional(values.pop("upstream_article"), "upstreamArticle", limit=100)
    if values["kind"] is BillingProductKind.DIRECT_CHANNEL:
        if supplier is None:
            raise Refusal("REQUIRED", "supplier")
        if article is None:
            raise Refusal("REQUIRED", "upstreamArticle")
    product = BillingProduct(
        tenant_id=tenant.id,
        tenant_path=tenant.path,
        kind=values["kind"],
        service=values["service"],
        code=validation.text(values["code"], "code", limit=64),
        name=validation.text(values["name"], "name"),
        cost=validation.money(values["cost"], "cost"),
        currency=validation.currency(values["currency"], "currency"),
        supplier_id=supplier_id,
        upstream_article=article,
    )
    work.session.add(product)
    async with told_apart(work.session, {PRODUCT_CONSTRAINTS: ("code", product.code)}):
        await work.session.flush()
    return product


async def update_product(work: Work, key: int, changes: dict[str, Any]) -> BillingProduct:
    """Changes what is given and leaves the rest; packages composed of it are priced anew (S2-06)."""
    product = await work.held(BillingProduct, key)
    if "name" in changes:
        product.name = validation.text(changes["name"], "name")
    if "cost" in changes:
        product.cost = validation.money(changes["cost"], "cost")
    if "upstream_article" in changes:
        product.upstream_article = validation.text(changes["upstream_article"], "upstreamArticle", limit=100)
    if "status" in changes:
        product.status = changes["status"]
    await work.session.flush()
    if "cost" in changes:
        await _reprice(work.session, datetime.now(UTC), product_id=product.id)
    return product


async def set_exchange_rate(
    work: Work, from_currency: str, to_currency: str, rate: Decimal, effective_from: datetime | None
) -> ExchangeRate:
    """What one currency is worth in another from now on, or from a moment ahead (S2-10). Nothing earlier changes.

    IN_PAST for a moment that is over.
    """
    tenant = await tenant_for(work, None)
    given = validation.currency(from_currency, "fromCurrency")
    asked = validation.currency(to_currency, "toCurrency")
    if given == asked:
        raise Refusal("INVALID", "toCurrency")
    if not rate.is_finite() or rate >= MAX_RATE or rate != round(rate, RATE_DECIMALS):
        raise Refusal("INVALID", "rate")
    if rate <= 0:
        raise Refusal("NOT_POSITIVE", "rate")
    now = datetime.now(UTC)
    if effective_from is not None and effective_from < now:
        raise Refusal("IN_PAST", "effectiveFrom")
    made = ExchangeRate(
        tenant_id=tenant.id,
        tenant_path=tenant.path,
        from_currency=given,
        to_currency=asked,
        rate=rate,
        effective_from=effective_from or now,
        account_id=work.principal.account_id,
    )
    work.session.add(made)
    await work.session.flush()
    await _reprice(work.session, datetime.now(UTC))
    return made


async def reprice(database: Database, now: datetime) -> int:
    """Brings the prices of composed packages up to date, as rates come into force; how many changed."""
    async with database.transaction(system("prices of packages")) as session:
        return await _reprice(session, now)


async def _reprice(session: AsyncSession, now: datetime, *, product_id: int | None = None) -> int:
    """What cannot be priced keeps the price that it has, and is refused when it is ordered. Only packages whose price
    changes are held, so that orders of the others do not wait."""
    composed = select(DataPackage).where(DataPackage.pricing == Pricing.COMPOSED).order_by(DataPackage.id)
    if product_id is not None:
        made_of = select(PackageComponent.data_package_id).where(PackageComponent.billing_product_id == product_id)
        composed = composed.where(DataPackage.id.in_(made_of))
    changed = [package.id for package, _ in await _new_prices(session, composed, now)]
    if not changed:
        return 0
    held = composed.where(DataPackage.id.in_(changed)).with_for_update(key_share=True)
    prices = await _new_prices(session, held.execution_options(populate_existing=True), now)
    for package, price in prices:
        package.sale_price = price
    await session.flush()
    return len(prices)


async def _new_prices(
    session: AsyncSession, composed: Select[DataPackage], now: datetime
) -> list[tuple[DataPackage, Decimal]]:
    packages = list(await session.scalars(composed))
    parts = await _parts(session, [package.id for package in packages], now)
    found = []
    for package in packages:
        try:
            price = _priced(package, parts[package.id])
        except Refusal:
            continue
        if price != package.sale_price:
            found.append((package, price))
    return found
