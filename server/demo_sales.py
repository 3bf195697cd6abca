"""What the demo's agents have sold: a share of the sale price and a margin at each of three levels, and a few orders.

The lowest agent buys packages for its cards from what it has paid in, so that every level has something of its own to
look at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from authz.principal import Principal, system
from models.catalog import CommissionBasis, DataPackage
from models.commission import CommissionRate, CustomerPrice
from models.ledger import LedgerAccountKind, TransferKind
from models.sim import SimCard, SimStatus
from models.tenancy import Tenant
from services import ledger, orders
from services.runtime import Unit
from services.sim.selection import Selection

BY_SHARE, BY_MARGIN = "CM-M-1G", "CM-Q-3G"
SHARES = (Decimal(30), Decimal(20), Decimal(10))
PRICES = (Decimal(40), Decimal(46), Decimal(54))
"""What the agents of a chain have of a package's price, and what they pay for another, from the top."""
PAID_IN = Decimal(2_000)


async def sell(session: AsyncSession, platform: Tenant, chain: Sequence[Tenant]) -> None:
    """Fills the books of a chain of agents, the topmost first."""
    packages = {one.code: one for one in await session.scalars(select(DataPackage))}
    packages[BY_MARGIN].commission_basis = CommissionBasis.MARGIN
    for giver, agent, share, price in zip((platform, *chain), chain, SHARES, PRICES, strict=False):
        owner = {"tenant_id": agent.id, "tenant_path": agent.path, "creator_id": giver.id}
        session.add_all(
            [
                CommissionRate(**owner, data_package_id=packages[BY_SHARE].id, percent=share),
                CustomerPrice(**owner, data_package_id=packages[BY_MARGIN].id, price=price),
            ]
        )
    await session.flush()
    buyer = chain[-1]
    await pay_in(session, platform, buyer)
    in_service = select(SimCard.id).where(SimCard.tenant_id == buyer.id, SimCard.status == SimStatus.ACTIVE)
    cards = list(await session.scalars(in_service.order_by(SimCard.id).limit(6)))
    await _buy(session, buyer, packages, {BY_SHARE: cards[:4], BY_MARGIN: cards[4:]})


async def pay_in(session: AsyncSession, platform: Tenant, customer: Tenant) -> None:
    """Money that a customer has brought from elsewhere."""
    principal = system("demo")
    work = Unit(principal, session)
    receipts = (platform.id, LedgerAccountKind.RECEIPTS)
    prepayment = (customer.id, LedgerAccountKind.PREPAYMENT)
    accounts = await ledger.accounts_of(work, [(platform, receipts[1]), (customer, prepayment[1])], customer.currency)
    amounts = {accounts[receipts]: -PAID_IN, accounts[prepayment]: PAID_IN}
    await ledger.transfer(work, customer, TransferKind.OPENING, f"demo:opening:{customer.id}", amounts)


async def _buy(
    session: AsyncSession, buyer: Tenant, packages: Mapping[str, DataPackage], wanted: Mapping[str, Sequence[int]]
) -> None:
    principal: Principal = system("demo", buyer.path, buyer.id)
    work = Unit(principal, session)
    for code, cards in wanted.items():
        made = await orders.order_packages(
            work, packages[code].id, Selection(ids=list(cards)), source="demo", remark=None
        )
        await orders.pay_from_balance(work, made.id)
