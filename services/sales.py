"""What agents sell: orders, activations and commission of a span of days (S0-25)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import ColumnElement, DateTime, SQLColumnExpression, and_, cast, func, select, true
from sqlalchemy.ext.asyncio import AsyncSession

from authz.principal import ROOT_PATH, Principal
from models.commission import CommissionEntry, CommissionEntryStatus
from models.orders import Order, OrderKind, OrderStatus
from models.sim import SimCard
from models.tenancy import Agent, Tenant, TenantKind
from services.refusal import Refusal, not_found
from services.runtime import Runtime

MAX_DAYS = 366


@dataclass(frozen=True)
class CurrencySales:
    """What was sold for one currency, refunds left out; the commission is None where it is not for the asker."""

    currency: str
    orders: int
    amount: Decimal
    commission: Decimal | None


@dataclass(frozen=True)
class AgentSales:
    time_zone: str
    activations: int
    sales: Sequence[CurrencySales]


def check_days(first: date, last: date, most: int = MAX_DAYS) -> None:
    """INVALID where the days are in the wrong order, TOO_MANY for more than a year, or than so many."""
    if last < first:
        raise Refusal("INVALID", "lastDay")
    if (last - first).days >= most:
        raise Refusal("TOO_MANY", "lastDay", limit=most)


def between(moment: SQLColumnExpression[Any], first: date, last: date, zone: str) -> ColumnElement[bool]:
    """Whether a moment lies in a span of days, both included, by the days of a time zone."""
    begins, ends = (cast(datetime.combine(day, time()), DateTime) for day in (first, last))
    return and_(moment >= func.timezone(zone, begins), moment < func.timezone(zone, ends + timedelta(days=1)))


async def of_agent(
    runtime: Runtime, principal: Principal, *, agent_id: int | None, first: date, last: date
) -> AgentSales:
    """Of an agent and all below it, both days included, by the days of its time zone; where none is named, of the
    caller's own company, which for the platform is everybody, and the commission that of all agents.

    What others than the asker earned is told to the platform alone. INVALID where the days are in the wrong order,
    TOO_MANY for more than a year.
    """
    check_days(first, last)
    async with runtime.database.transaction(principal) as session:
        if agent_id is None:
            own = (Tenant.id == principal.tenant_id, Tenant.kind.in_((TenantKind.AGENT, TenantKind.PLATFORM)))
            agent = await session.scalar(select(Tenant).where(*own))
        else:
            agent = await session.scalar(select(Agent).where(Agent.id == agent_id))
        if agent is None:
            raise not_found("agent")

        def within(
            moment: SQLColumnExpression[Any], path: SQLColumnExpression[str] | None = None
        ) -> ColumnElement[bool]:
            span = between(moment, first, last, agent.time_zone)
            end = agent.path.rstrip(".") + "/"
            return span if path is None else and_(span, path >= agent.path, path < end)

        sold = await session.execute(
            select(Order.currency, func.count(), func.sum(Order.amount))
            .where(
                within(Order.paid_at, Order.tenant_path),
                Order.status == OrderStatus.PAID,
                Order.kind.in_((OrderKind.PACKAGE, OrderKind.RENEWAL)),
            )
            .group_by(Order.currency)
            .order_by(Order.currency)
        )
        activations = await session.scalar(
            select(func.count(SimCard.id)).where(within(SimCard.activated_at, SimCard.tenant_path))
        )
        told = principal.path == ROOT_PATH or agent.id == principal.tenant_id
        earned = await _earned(session, agent, within(CommissionEntry.created_at)) if told else None
        sales = [
            CurrencySales(
                currency, orders, amount, None if earned is None else earned.get(currency, Decimal(0).quantize(amount))
            )
            for currency, orders, amount in sold
        ]
        return AgentSales(agent.time_zone, activations or 0, sales)


async def _earned(session: AsyncSession, agent: Tenant, within: ColumnElement[bool]) -> dict[str, Decimal]:
    """By currency, what an agent, or for the platform all of them, earned by orders that were not taken back."""
    whose = true() if agent.kind is TenantKind.PLATFORM else CommissionEntry.tenant_id == agent.id
    found = await session.execute(
        select(CommissionEntry.currency, func.sum(CommissionEntry.amount))
        .where(whose, within, CommissionEntry.status != CommissionEntryStatus.REVERSED)
        .group_by(CommissionEntry.currency)
    )
    return {row[0]: row[1] for row in found}
