"""Agents' commission: each gives the agents directly below it a share of each data package's sale price, no greater
than its own (S0-22, S0-46); or earns the margin between its customers' prices and its own (see `customer_prices`).

The rule holds at every moment. Who gives a rate holds its own while it does, so that it cannot be lowered meanwhile;
and a rate that is lowered, or that comes under another agent, takes down with it what stands higher below it. Rows are
locked from the top of the tree downwards, so that no two changes wait for each other.

A paid order is shared out once: each agent from the buyer upwards keeps what the level below pays, less what it pays
itself. What a refund takes back may leave an agent owing; it is set off against what it earns next.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from sqlalchemy import BigInteger, bindparam, func, select, text, update
from sqlalchemy.dialects.postgresql import insert as insert_or_change

from models.base import table_of
from models.catalog import CommissionBasis, DataPackage
from models.commission import CommissionEntry, CommissionEntryStatus, CommissionRate, CommissionSettlement
from models.ledger import LedgerAccount, LedgerAccountKind, TransferKind
from models.orders import CommissionStatus, Order
from models.tenancy import Agent, Tenant, TenantKind
from services import ledger, validation
from services.refusal import Refusal
from services.runtime import Unit, Work

ALL = Decimal(100)
FIRST_BELOW_AGENTS = 2
"""The level in the tree from which on an agent's parent is an agent."""


async def set_rate(work: Work, agent_id: int, package_id: int, percent: Decimal) -> tuple[int, int]:
    """Gives an agent directly below the caller its share of a package's sale price: the key of the rate, and how many
    rates below it had to come down.

    ABOVE_OWN_RATE where it is more than the caller's own, NOT_OWN_CUSTOMER where the agent stands further below,
    NOT_BY_SHARE where agents earn their margin by the package.
    """
    percent = validation.percentage(percent, "percent")
    agent = await work.held(Agent, agent_id, field="agent", read=True)
    if agent.parent_id != work.principal.tenant_id:
        raise Refusal("NOT_OWN_CUSTOMER", "agent", value=agent.name)
    package = await work.found(DataPackage, package_id, field="package")
    if package.commission_basis is not CommissionBasis.SALE_PRICE:
        raise Refusal("NOT_BY_SHARE", "package", value=package.code)
    limit = await _own_rate(work, package.id)
    if percent > limit:
        raise Refusal("ABOVE_OWN_RATE", "percent", limit=f"{limit.normalize():f}")
    given = insert_or_change(table_of(CommissionRate)).values(
        tenant_id=agent.id,
        tenant_path=agent.path,
        data_package_id=package.id,
        percent=percent,
        creator_id=work.principal.tenant_id,
    )
    key = await work.session.scalar(
        given.on_conflict_do_update(
            index_elements=["tenant_id", "data_package_id"],
            set_={"percent": percent, "creator_id": given.excluded.creator_id, "updated_at": func.now()},
        ).returning(table_of(CommissionRate).c.id)
    )
    assert key is not None
    return key, await _fit(work, agent.path, agent.level + 1)


async def branch_moved(work: Work, tenant: Tenant) -> None:
    """An agent under another parent has no greater share than that one, nor have those below it."""
    await _fit(work, tenant.path, tenant.level)


async def _own_rate(work: Work, package_id: int) -> Decimal:
    """The caller's own share, held; the platform has all there is, and who was given nothing has nothing to give."""
    kind = await work.session.scalar(select(Tenant.kind).where(Tenant.id == work.principal.tenant_id))
    if kind is TenantKind.PLATFORM:
        return ALL
    own = await work.session.scalar(
        select(CommissionRate.percent)
        .where(CommissionRate.tenant_id == work.principal.tenant_id, CommissionRate.data_package_id == package_id)
        .with_for_update(read=True)
    )
    return own or Decimal(0)


async def _fit(work: Work, path: str, level: int) -> int:
    """Takes down, level by level from the given one, each rate in a branch that is above the parent's; how many."""
    rate, agent = table_of(CommissionRate), table_of(Tenant)
    above = rate.alias("above")
    parents = (
        select(above.c.percent)
        .where(above.c.tenant_id == agent.c.parent_id, above.c.data_package_id == rate.c.data_package_id)
        .scalar_subquery()
    )
    limit = func.coalesce(parents, 0)
    level, fitted = max(level, FIRST_BELOW_AGENTS), 0
    while True:
        lowered = await work.session.execute(
            update(rate)
            .where(
                rate.c.tenant_id == agent.c.id,
                rate.c.tenant_path >= path,
                rate.c.tenant_path < path.rstrip(".") + "/",
                agent.c.level == level,
                rate.c.percent > limit,
            )
            .values(percent=limit, updated_at=func.now())
            .returning(rate.c.id)
        )
        here = len(lowered.all())
        if not here:
            return fitted
        fitted, level = fitted + here, level + 1


EARN = text("""
INSERT INTO commission_entry
  (tenant_id, tenant_path, order_id, order_line_id, status, price, currency, percent, percent_below, revenue, cost,
   amount)
WITH chain AS (
  SELECT a.id, a.path, c.depth, o.id AS order_id, o.currency, l.id AS line, l.price, coalesce(r.percent, 0) AS percent,
    NULL::numeric AS own_price
  FROM sales_order o
  JOIN order_line l ON l.order_id = o.id
  JOIN tenant_closure c ON c.tenant_id = o.tenant_id
  JOIN tenant a ON a.id = c.ancestor_id AND a.kind = 'AGENT'
  LEFT JOIN commission_rate r ON r.tenant_id = a.id AND r.data_package_id = l.data_package_id
  WHERE o.id = :order AND NOT EXISTS (SELECT FROM order_level_price WHERE order_id = o.id)
  UNION ALL
  SELECT a.id, a.path, f.depth, o.id, o.currency, l.id, l.price, NULL, f.price
  FROM sales_order o
  JOIN order_line l ON l.order_id = o.id
  JOIN order_level_price f ON f.order_id = o.id
  JOIN tenant a ON a.id = f.tenant_id
  WHERE o.id = :order
), costs AS (
  SELECT *, min(least(price, coalesce(own_price, price - round(price * percent / 100, 4))))
    OVER (PARTITION BY line ORDER BY depth) AS cost
  FROM chain
), levels AS (
  SELECT *, lag(cost, 1, price) OVER (PARTITION BY line ORDER BY depth) AS revenue,
    max(percent) OVER (PARTITION BY line ORDER BY depth ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS below
  FROM costs
)
SELECT id, path, order_id, line, 'PENDING', price, currency, percent,
  CASE WHEN percent IS NOT NULL THEN coalesce(below, 0) END, revenue, cost, revenue - cost
FROM levels WHERE revenue > cost
RETURNING tenant_id, amount, percent IS NULL AS margin
""").bindparams(bindparam("order", type_=BigInteger))
"""Each agent from the buyer upwards is paid what it costs the level below, of which the first is the line's price, and
pays what it costs itself: the price less its share, or its own price when the order was made. No level pays more than
the one below it."""


async def earn(work: Unit, order: Order, sales: LedgerAccount) -> list[ledger.Movement]:
    """What the agents above the buyer, and the buyer itself where it is one, earn by a paid order: one entry for each
    of them and line, and the money to be moved to each (S0-48, S2-18). A margin is credited as soon as the order is
    paid for, a share of the price with its month. Only the system may."""
    earned = (await work.session.execute(EARN, {"order": order.id})).all()
    shares = _summed((agent, amount) for agent, amount, _ in earned)
    if any(margin for *_, margin in earned):
        work.later("commission.credit", {"order": order.id}, of=order)
    return await _movements(work, order, TransferKind.COMMISSION, sales, shares)


async def take_back(work: Unit, order: Order, sales: LedgerAccount) -> list[ledger.Movement]:
    """Reverses what was earned by an order, settled or not; the money to be moved back (S2-18). Only the system may."""
    entry = table_of(CommissionEntry)
    reversed_ = await work.session.execute(
        update(entry)
        .where(entry.c.order_id == order.id, entry.c.status != CommissionEntryStatus.REVERSED)
        .values(status=CommissionEntryStatus.REVERSED, reversed_at=func.now())
        .returning(entry.c.tenant_id, entry.c.amount)
    )
    shares = {agent: -amount for agent, amount in _summed(reversed_).items()}
    if shares:
        order.commission_status = CommissionStatus.TAKEN_BACK
    return await _movements(work, order, TransferKind.REFUND, sales, shares)


async def owed(work: Unit, agent: Tenant, currency: str) -> Decimal:
    """What refunds have taken back of an agent's settled income, and no settlement has made up for yet."""
    taken = select(func.coalesce(func.sum(CommissionEntry.amount), 0)).where(
        CommissionEntry.tenant_id == agent.id,
        CommissionEntry.currency == currency,
        CommissionEntry.status == CommissionEntryStatus.REVERSED,
        CommissionEntry.settlement_id.is_not(None),
    )
    made_up = select(func.coalesce(func.sum(CommissionSettlement.deducted), 0)).where(
        CommissionSettlement.tenant_id == agent.id,
        CommissionSettlement.currency == currency,
        CommissionSettlement.deducted > 0,
    )
    return Decimal(await work.session.scalar(taken) or 0) - Decimal(await work.session.scalar(made_up) or 0)


def _summed(rows: Iterable[Any]) -> dict[int, Decimal]:
    sums: dict[int, Decimal] = {}
    for agent, amount in rows:
        sums[agent] = sums.get(agent, Decimal(0)) + amount
    return sums


async def _movements(
    work: Unit, order: Order, kind: TransferKind, sales: LedgerAccount, shares: Mapping[int, Decimal]
) -> list[ledger.Movement]:
    if not shares:
        return []
    agents = list(await work.session.scalars(select(Agent).where(Agent.id.in_(shares)).order_by(Agent.id)))
    earned = LedgerAccountKind.COMMISSION
    accounts = await ledger.accounts_of(work, [(agent, earned) for agent in agents], order.currency)
    return [
        ledger.Movement(
            agent,
            kind,
            f"order:{order.id}:{kind.name.lower()}:{agent.id}",
            {sales: -shares[agent.id], accounts[agent.id, earned]: shares[agent.id]},
            order.order_no,
        )
        for agent in agents
    ]
