"""What customers pay for the packages by which agents earn their margin, as each level agrees it with those directly
below it (S2-18).

A price holds where every level above has one, none of them above the next one's, and it is not above the sale price:
nobody sells for less than it pays. Where a price above is raised or taken back, what was agreed below it lapses, and
the sale price is paid, from which nobody learns what somebody above pays. That is worked out whenever it is asked for,
so that nothing has to be brought up to date below; an order keeps what each level pays when it is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sqlalchemy import BigInteger, bindparam, delete, func, select, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import insert as insert_or_change

from authz.principal import Principal, system
from authz.session import Database
from models.base import table_of
from models.catalog import CommissionBasis, DataPackage
from models.commission import CustomerPrice
from models.tenancy import Tenant, TenantKind
from services import validation
from services.refusal import Refusal
from services.runtime import Unit, Work

BUYERS = (TenantKind.AGENT, TenantKind.ENTERPRISE)

LEVELS = text("""
WITH levels AS (
  SELECT p.id AS package, a.id, a.path, a.kind = 'AGENT' AS agent, c.depth, g.price,
    lag(g.price, 1, 0) OVER (PARTITION BY p.id ORDER BY c.depth DESC) AS above
  FROM tenant_closure c
  JOIN tenant a ON a.id = c.ancestor_id AND a.kind <> 'PLATFORM'
  CROSS JOIN unnest(:packages) AS p (id)
  LEFT JOIN customer_price g ON g.tenant_id = a.id AND g.data_package_id = p.id AND g.creator_id = a.parent_id
  WHERE c.tenant_id = :buyer
)
SELECT package, id, path, agent, depth,
  CASE WHEN bool_and(coalesce(price >= above, false)) OVER (PARTITION BY package ORDER BY depth DESC) THEN price END
FROM levels ORDER BY package, depth
""").bindparams(bindparam("packages", type_=ARRAY(BigInteger)), bindparam("buyer", type_=BigInteger))
"""The buyer and each level above it, and what it has agreed with the level above, as far as that holds: what somebody
who is not its parent any more has set does not."""


@dataclass(frozen=True)
class Level:
    """What a package costs a company on the way from the buyer, which is at depth 0, to the platform."""

    tenant: int
    path: str
    agent: bool
    depth: int
    price: Decimal


async def set_price(work: Work, customer_id: int, package_id: int, price: Decimal | None) -> int | None:
    """Agrees with a customer directly below the caller what it pays for a package, or takes that back; the key of the
    price, where there is one now.

    NOT_OWN_CUSTOMER where the customer stands further below, NOT_BY_MARGIN where agents earn a share of the package's
    sale price, BELOW_OWN_PRICE, ABOVE_SALE_PRICE.
    """
    customer = await work.held(Tenant, customer_id, Tenant.kind.in_(BUYERS), field="customer", read=True)
    if customer.parent_id != work.principal.tenant_id:
        raise Refusal("NOT_OWN_CUSTOMER", "customer", value=customer.name)
    package = await work.found(DataPackage, package_id, field="package")
    if package.commission_basis is not CommissionBasis.MARGIN:
        raise Refusal("NOT_BY_MARGIN", "package", value=package.code)
    stored = table_of(CustomerPrice)
    if price is None:
        await work.session.execute(
            delete(stored).where(stored.c.tenant_id == customer.id, stored.c.data_package_id == package.id)
        )
        return None
    price = validation.money(price, "price")
    own = await _own_price(work, package)
    if price < own:
        raise Refusal("BELOW_OWN_PRICE", "price", limit=f"{own.normalize():f}")
    if price > package.sale_price:
        raise Refusal("ABOVE_SALE_PRICE", "price", limit=f"{package.sale_price.normalize():f}")
    given = insert_or_change(stored).values(
        tenant_id=customer.id,
        tenant_path=customer.path,
        data_package_id=package.id,
        price=price,
        creator_id=work.principal.tenant_id,
    )
    key: int | None = await work.session.scalar(
        given.on_conflict_do_update(
            index_elements=["tenant_id", "data_package_id"],
            set_={"price": price, "creator_id": given.excluded.creator_id, "updated_at": func.now()},
        ).returning(stored.c.id)
    )
    assert key is not None
    return key


async def _own_price(work: Work, package: DataPackage) -> Decimal:
    """What the caller's own company pays; the platform buys nothing of itself."""
    seller = await work.session.scalar(select(Tenant).where(Tenant.id == work.principal.tenant_id))
    if seller is None or seller.kind is TenantKind.PLATFORM:
        return Decimal(0)
    return (await levels_of(work, seller, package, package.sale_price))[0].price


async def levels_of(work: Unit, buyer: Tenant, package: DataPackage, sale_price: Decimal) -> list[Level]:
    """What a package of a given sale price costs a customer, first, and each level above it; none at all where agents
    earn a share of the sale price."""
    if package.commission_basis is not CommissionBasis.MARGIN:
        return []
    async with work.as_the_system("prices of a customer"):
        found = await work.session.execute(LEVELS, {"buyer": buyer.id, "packages": [package.id]})
    return [
        Level(tenant, path, agent, depth, _price(agreed, sale_price)) for _, tenant, path, agent, depth, agreed in found
    ]


async def own_prices(database: Database, caller: Principal, packages: Sequence[Any]) -> list[Decimal | None]:
    """What the caller's company pays for each of some packages, which hold key, sale price and basis."""
    if caller.tenant_id is None or caller.tenant_kind not in {kind.name for kind in BUYERS}:
        return [None for _ in packages]
    by_margin = [package.id for package in packages if package.commission_basis == CommissionBasis.MARGIN.name]
    agreed: dict[int, Decimal | None] = {}
    if by_margin:
        async with database.transaction(system("prices of a customer")) as session:
            found = await session.execute(LEVELS, {"buyer": caller.tenant_id, "packages": by_margin})
            agreed = {package: price for package, _, _, _, depth, price in found if depth == 0}
    return [_price(agreed.get(package.id), package.sale_price) for package in packages]


def _price(agreed: Decimal | None, sale_price: Decimal) -> Decimal:
    return sale_price if agreed is None else min(agreed, sale_price)
