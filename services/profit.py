"""What is likely to be left of orders, for one's own level or those below (S2-20).

Of the orders below, an agent is paid what the level below pays, and pays what it costs itself, after its share or at
its own price: both stand in its own commission entries, so nothing of what others earn or pay above is looked at. The
platform is paid prices less all commission, and pays what the orders' components cost when they were made.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from sqlalchemy import Date, bindparam, select, text

from authz.principal import ROOT_PATH, Principal
from models.tenancy import Tenant
from services.refusal import not_found
from services.runtime import Runtime
from services.sales import check_days


class ProfitLevel(enum.Enum):
    SELF = "SELF"
    CHILD = "CHILD"


@dataclass(frozen=True)
class Profit:
    currency: str
    orders: int
    revenue: Decimal
    cost: Decimal


_DAYS = (bindparam("first", type_=Date), bindparam("last", type_=Date))
_WITHIN = """o.status = 'PAID' AND o.paid_at >= CAST(:first AS timestamp) AT TIME ZONE :zone
  AND o.paid_at < (:last + interval '1 day') AT TIME ZONE :zone"""

OF_AGENT = text(f"""
SELECT o.currency, count(DISTINCT o.id) AS orders,
  sum(e.revenue) AS revenue, sum(e.cost) AS cost
FROM commission_entry e JOIN sales_order o ON o.id = e.order_id
WHERE e.tenant_id = :tenant AND e.status <> 'REVERSED' AND (o.tenant_id = :tenant) = :own AND {_WITHIN}
GROUP BY o.currency ORDER BY o.currency
""").bindparams(*_DAYS)  # noqa: S608 - constants

OF_PLATFORM = text(f"""
SELECT o.currency, count(*) AS orders, sum(o.amount - coalesce(e.amount, 0)) AS revenue, sum(c.cost * l.cards) AS cost
FROM sales_order o
JOIN LATERAL (SELECT round(sum(cost * quantity * exchange_rate), 4) AS cost FROM order_component
              WHERE order_id = o.id HAVING count(*) > 0) c ON true
JOIN LATERAL (SELECT count(*) AS cards FROM order_line WHERE order_id = o.id) l ON true
LEFT JOIN LATERAL (SELECT sum(amount) AS amount FROM commission_entry
                   WHERE order_id = o.id AND status <> 'REVERSED') e ON true
WHERE {_WITHIN} GROUP BY o.currency ORDER BY o.currency
""").bindparams(*_DAYS)  # noqa: S608 - constants
"""Of the orders whose cost is known: those of composed packages."""


async def estimate(
    runtime: Runtime, principal: Principal, *, level: ProfitLevel, first: date, last: date
) -> tuple[str, Sequence[Profit]]:
    """The caller's time zone, and what is likely to be left for each currency, both days included.

    INVALID where the days are in the wrong order, TOO_MANY for more than a year.
    """
    check_days(first, last)
    async with runtime.database.transaction(principal) as session:
        tenant = await session.scalar(select(Tenant).where(Tenant.id == principal.tenant_id))
        if tenant is None:
            raise not_found("tenant")
        days = {"first": first, "last": last, "zone": tenant.time_zone}
        if tenant.path != ROOT_PATH:
            whose = {"tenant": tenant.id, "own": level is ProfitLevel.SELF}
            found = await session.execute(OF_AGENT, {**days, **whose})
        elif level is ProfitLevel.SELF:
            return tenant.time_zone, []  # the platform buys nothing of itself
        else:
            found = await session.execute(OF_PLATFORM, days)
        return tenant.time_zone, [Profit(*row) for row in found]
