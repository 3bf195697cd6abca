"""What customers pay for the packages by which agents earn their margin, as each level agrees it with those directly
below it (S2-18).

An agreed price holds where every level above the customer has one, as the greatest of them, and never above the sale
price: nobody sells for less than it pays. That is worked out whenever it is asked for, so that nothing has to be
brought up to date below a price that is raised, a package that becomes cheaper, or a branch that moves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from sqlalchemy import BigInteger, bindparam, delete, func, select, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import insert as insert_or_change
from sqlalchemy.ext.asyncio import AsyncSession

from authz.principal import Principal, system
from authz.session import Database
from models.base import table_of
from models.catalog import CommissionBasis, DataPackage
from models.commission import CustomerPrice
from models.tenancy import Tenant, TenantKind
from services import validation
from services.refusal import Refusal, not_found
from services.runtime import Unit, Work

BUYERS = (TenantKind.AGENT, TenantKind.ENTERPRISE)

AGREED = text("""
SELECT g.data_package_id, max(g.price)
FROM tenant_closure c JOIN customer_price g ON g.tenant_id = c.ancestor_id
WHERE c.tenant_id = :buyer AND g.data_package_id = ANY (:packages)
GROUP BY g.data_package_id HAVING count(*) = (SELECT level FROM tenant WHERE id = :buyer)
""").bindparams(bindparam("packages", type_=ARRAY(BigInteger)), bindparam("buyer", type_=BigInteger))


async def set_price(work: Work, customer_id: int, package_id: int, price: Decimal | None) -> int | None:
    """Agrees with a customer directly below the caller what it pays for a package, or takes that back; the key of the
    price, where there is one now.

    NOT_OWN_CUSTOMER where the customer stands further below, NOT_BY_MARGIN where agents earn a share of the package's
    sale price, BELOW_OWN_PRICE, ABOVE_SALE_PRICE.
    """
    wanted = select(Tenant).where(Tenant.id == customer_id, Tenant.kind.in_(BUYERS)).with_for_update(read=True)
    customer = await work.session.scalar(wanted)
    if customer is None:
        raise not_found("customer")
    if customer.parent_id != work.principal.tenant_id:
        raise Refusal("NOT_OWN_CUSTOMER", "customer", value=customer.name)
    package = await work.session.scalar(select(DataPackage).where(DataPackage.id == package_id))
    if package is None:
        raise not_found("package")
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
    return await price_for(work, seller, package, package.sale_price)


async def price_for(work: Unit, buyer: Tenant | None, package: DataPackage, sale_price: Decimal) -> Decimal:
    """What a customer pays for a package whose sale price is as given; end users pay that."""
    if buyer is None or package.commission_basis is not CommissionBasis.MARGIN:
        return sale_price
    async with work.as_the_system("price of a customer"):
        agreed = await _agreed(work.session, buyer.id, [package.id])
    return min(sale_price, agreed.get(package.id, sale_price))


async def own_prices(database: Database, caller: Principal, packages: Sequence[Any]) -> list[Decimal | None]:
    """What the caller's company pays for each of some packages, which hold key, sale price and basis."""
    if caller.tenant_id is None or caller.tenant_kind not in {kind.name for kind in BUYERS}:
        return [None for _ in packages]
    by_margin = [package.id for package in packages if package.commission_basis == CommissionBasis.MARGIN.name]
    agreed: Mapping[int, Decimal] = {}
    if by_margin:
        async with database.transaction(system("prices of a customer")) as session:
            agreed = await _agreed(session, caller.tenant_id, by_margin)
    return [min(package.sale_price, agreed.get(package.id, package.sale_price)) for package in packages]


async def _agreed(session: AsyncSession, buyer: int, packages: Sequence[int]) -> Mapping[int, Decimal]:
    found = await session.execute(AGREED, {"buyer": buyer, "packages": list(packages)})
    return {row[0]: row[1] for row in found}
