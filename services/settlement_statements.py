"""Settlement statements: what is settled with a customer or a supplier over some days (S0-67).

A statement is drawn up from orders and costs as they stand, confirmed by finance, and settled once the money has moved
outside. A draft is drawn up anew or discarded; what is confirmed stays as it is. No two that count cover one day of one
counterparty and currency.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from sqlalchemy import BigInteger, DateTime, Text, bindparam, delete, func, select, text

from models.bills import (
    CounterpartyKind,
    SettlementLine,
    SettlementLineKind,
    SettlementStatement,
    StatementStatus,
)
from models.catalog import Supplier
from models.tenancy import Tenant, TenantKind
from services import ledger, validation
from services.refusal import Refusal
from services.runtime import Work
from services.transitions import StateMachine

TRANSITIONS = StateMachine(
    "STATEMENT_STATUS",
    ("REGENERATE", (StatementStatus.DRAFT,), StatementStatus.DRAFT),
    ("CONFIRM", (StatementStatus.DRAFT,), StatementStatus.CONFIRMED),
    ("SETTLE", (StatementStatus.CONFIRMED,), StatementStatus.SETTLED),
    ("DISCARD", (StatementStatus.DRAFT,), StatementStatus.DISCARDED),
)
LONGEST = 366
LATE = timedelta(hours=1)
LOCK = 0x53544D54

_SPAN = (
    bindparam("counterparty", type_=BigInteger),
    bindparam("currency", type_=Text),
    bindparam("since", type_=DateTime(timezone=True)),
    bindparam("until", type_=DateTime(timezone=True)),
)

WITH_CUSTOMER = text("""
SELECT 'SALES' AS kind, l.name, count(*) AS quantity, sum(l.price) AS amount
FROM sales_order o JOIN order_line l ON l.order_id = o.id
WHERE o.kind = 'PACKAGE' AND o.tenant_id = :counterparty AND o.currency = :currency
  AND o.paid_at >= :since AND o.paid_at < :until
GROUP BY l.name
UNION ALL
SELECT 'REFUNDS', l.name, count(*), -sum(l.price)
FROM sales_order o JOIN order_line l ON l.order_id = o.id
WHERE o.kind = 'PACKAGE' AND o.tenant_id = :counterparty AND o.currency = :currency AND o.status = 'REFUNDED'
  AND o.closed_at >= :since AND o.closed_at < :until
GROUP BY l.name
UNION ALL
SELECT 'COMMISSION', p.name, count(*),
  -sum(CASE WHEN e.created_at >= :since AND e.created_at < :until THEN e.amount ELSE 0 END
  - CASE WHEN e.reversed_at >= :since AND e.reversed_at < :until THEN e.amount ELSE 0 END)
FROM commission_entry e JOIN order_line l ON l.id = e.order_line_id JOIN data_package p ON p.id = l.data_package_id
WHERE e.tenant_id = :counterparty AND e.currency = :currency
  AND (e.created_at >= :since AND e.created_at < :until OR e.reversed_at >= :since AND e.reversed_at < :until)
GROUP BY p.name
""").bindparams(*_SPAN)
"""What the customer bought itself, what of it was given back, and what it earned."""

WITH_SUPPLIER = text("""
WITH bought AS (
  SELECT o.id, o.status, o.paid_at, o.closed_at, k.name, k.cost, k.quantity * count(*) AS pieces
  FROM sales_order o
  JOIN order_component k ON k.order_id = o.id
  JOIN billing_product b ON b.id = k.billing_product_id
  JOIN order_line l ON l.order_id = o.id
  WHERE b.supplier_id = :counterparty AND k.currency = :currency
    AND (o.paid_at >= :since AND o.paid_at < :until OR o.closed_at >= :since AND o.closed_at < :until)
  GROUP BY o.id, k.id
)
SELECT 'PURCHASES' AS kind, name, sum(pieces) AS quantity, sum(pieces * cost) AS amount FROM bought
WHERE paid_at >= :since AND paid_at < :until GROUP BY name
UNION ALL
SELECT 'REFUNDS', name, sum(pieces), -sum(pieces * cost) FROM bought
WHERE status = 'REFUNDED' AND closed_at >= :since AND closed_at < :until GROUP BY name
""").bindparams(*_SPAN)
"""What was sold of the supplier's products, at what it cost then, and what of it was given back."""


async def generate(
    work: Work,
    *,
    customer_id: int | None,
    supplier_id: int | None,
    first: date,
    last: date,
    currency: str,
) -> SettlementStatement:
    """A draft over some days of the platform's calendar, both included.

    REQUIRED unless exactly one counterparty is named, NOT_FOUND, INVALID for days out of order, too many or not over,
    STATEMENT_OVERLAPS where one that counts covers some of the days.
    """
    if (customer_id is None) == (supplier_id is None):
        raise Refusal("REQUIRED", "customer")
    root = await ledger.platform(work)
    zone = ZoneInfo(root.time_zone)
    # an hour later, so that whatever was under way at midnight is in the books
    if not timedelta() <= last - first < timedelta(days=LONGEST) or last >= (datetime.now(zone) - LATE).date():
        raise Refusal("INVALID", "lastDay")
    kind = CounterpartyKind.SUPPLIER if customer_id is None else CounterpartyKind.CUSTOMER
    if kind is CounterpartyKind.CUSTOMER:
        await work.found(Tenant, customer_id, Tenant.kind != TenantKind.PLATFORM, field="customer")
    else:
        await work.found(Supplier, supplier_id, field="supplier")
    currency = validation.currency(currency, "currency")
    await work.session.execute(select(func.pg_advisory_xact_lock(LOCK)))
    overlapping = await work.session.scalar(
        select(SettlementStatement.id)
        .where(
            SettlementStatement.customer_id.is_not_distinct_from(customer_id),
            SettlementStatement.supplier_id.is_not_distinct_from(supplier_id),
            SettlementStatement.currency == currency,
            SettlementStatement.status != StatementStatus.DISCARDED,
            SettlementStatement.first_day <= last,
            SettlementStatement.last_day >= first,
        )
        .limit(1)
    )
    if overlapping is not None:
        raise Refusal("STATEMENT_OVERLAPS", "firstDay")
    statement = SettlementStatement(
        tenant_id=root.id,
        tenant_path=root.path,
        kind=kind,
        customer_id=customer_id,
        supplier_id=supplier_id,
        first_day=first,
        last_day=last,
        currency=currency,
        amount=Decimal(0),
        generated_by_id=work.principal.account_id,
    )
    work.session.add(statement)
    await work.session.flush()
    await _draw_up(work, statement, zone)
    return statement


async def confirm(work: Work, key: int) -> SettlementStatement:
    """Finance agrees: the statement stays as it is, and its documents are written."""
    statement = await work.held(SettlementStatement, key)
    statement.status = TRANSITIONS.lead(statement.status, "CONFIRM")
    statement.confirmed_by_id, statement.confirmed_at = work.principal.account_id, datetime.now(UTC)
    await work.session.flush()
    work.later("bills.document", {"statement": statement.id})
    return statement


async def settle(work: Work, key: int, reference: str) -> SettlementStatement:
    """The money has moved outside: by which reference."""
    statement = await work.held(SettlementStatement, key)
    status = TRANSITIONS.lead(statement.status, "SETTLE")
    statement.reference = validation.text(reference, "reference")
    statement.status, statement.settled_at = status, datetime.now(UTC)
    statement.settled_by_id = work.principal.account_id
    await work.session.flush()
    return statement


async def discard(work: Work, key: int) -> SettlementStatement:
    """A draft that is not wanted: its days are free again."""
    statement = await work.held(SettlementStatement, key)
    statement.status = TRANSITIONS.lead(statement.status, "DISCARD")
    await work.session.flush()
    return statement


async def regenerate(work: Work, key: int) -> SettlementStatement:
    """A draft drawn up anew, from what stands in the books now."""
    statement = await work.held(SettlementStatement, key)
    statement.status = TRANSITIONS.lead(statement.status, "REGENERATE")
    await work.session.execute(delete(SettlementLine).where(SettlementLine.statement_id == statement.id))
    await _draw_up(work, statement, ZoneInfo((await ledger.platform(work)).time_zone))
    return statement


async def _draw_up(work: Work, statement: SettlementStatement, zone: ZoneInfo) -> None:
    since, until = (
        datetime.combine(day, time(), zone) for day in (statement.first_day, statement.last_day + timedelta(days=1))
    )
    query = WITH_CUSTOMER if statement.kind is CounterpartyKind.CUSTOMER else WITH_SUPPLIER
    counterparty = statement.customer_id or statement.supplier_id
    values = {"counterparty": counterparty, "currency": statement.currency, "since": since, "until": until}
    async with work.as_the_system("settlement statement"):
        rows = (await work.session.execute(query, values)).all()
    lines = [
        SettlementLine(
            tenant_id=statement.tenant_id,
            tenant_path=statement.tenant_path,
            statement_id=statement.id,
            kind=SettlementLineKind[kind],
            name=name,
            quantity=int(quantity),
            amount=amount,
        )
        for kind, name, quantity, amount in sorted(rows, key=lambda row: (row[0], row[1]))
    ]
    work.session.add_all(lines)
    statement.amount = sum((line.amount for line in lines), Decimal(0))
    await work.session.flush()
