"""Agents' commission: each gives the agents directly below it a share of each data package's sale price, no greater
than its own (S0-22, S0-46).

The rule holds at every moment. Who gives a rate holds its own while it does, so that it cannot be lowered meanwhile;
and a rate that is lowered, or that comes under another agent, takes down with it what stands higher below it. Rows are
locked from the top of the tree downwards, so that no two changes wait for each other.
"""

from __future__ import annotations

from decimal import Decimal

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert as insert_or_change

from models.base import table_of
from models.catalog import DataPackage
from models.commission import CommissionRate
from models.tenancy import Agent, Tenant, TenantKind
from services import validation
from services.refusal import Refusal, not_found
from services.runtime import Work

ALL = Decimal(100)
FIRST_BELOW_AGENTS = 2
"""The level in the tree from which on an agent's parent is an agent."""


async def set_rate(work: Work, agent_id: int, package_id: int, percent: Decimal) -> tuple[int, int]:
    """Gives an agent directly below the caller its share of a package's sale price: the key of the rate, and how many
    rates below it had to come down.

    ABOVE_OWN_RATE where it is more than the caller's own, NOT_OWN_CUSTOMER where the agent stands further below.
    """
    percent = validation.percentage(percent, "percent")
    agent = await work.session.scalar(select(Agent).where(Agent.id == agent_id).with_for_update(read=True))
    if agent is None:
        raise not_found("agent")
    if agent.parent_id != work.principal.tenant_id:
        raise Refusal("NOT_OWN_CUSTOMER", "agent", value=agent.name)
    package = await work.session.scalar(select(DataPackage.id).where(DataPackage.id == package_id))
    if package is None:
        raise not_found("package")
    limit = await _own_rate(work, package)
    if percent > limit:
        raise Refusal("ABOVE_OWN_RATE", "percent", limit=f"{limit.normalize():f}")
    given = insert_or_change(table_of(CommissionRate)).values(
        tenant_id=agent.id,
        tenant_path=agent.path,
        data_package_id=package,
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
