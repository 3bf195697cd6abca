"""Monthly bills of enterprises, from the books (S0-66), and the documents of bills and settlement statements.

A bill is made once, when the month is over by the enterprise's calendar and an hour has passed, so that whatever was
under way at midnight is in the books. Its documents are written afterwards; a run that dies leaves them to the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import structlog
from sqlalchemy import Date, DateTime, bindparam, select, text

from authz.principal import system
from authz.session import Database
from models.bills import MonthlyBill, SettlementLine, SettlementStatement
from models.catalog import Supplier
from models.ledger import LedgerAccount, LedgerAccountKind, LedgerEntry, LedgerTransfer
from models.tenancy import Tenant
from services import documents
from services.documents import Document
from services.files import FileStore
from services.messages import render
from services.retention import month_of

MONTHS_BACK = 12
MAX_ENTRIES = 2_000
"""So many movements stand on a document; the statement of the account has all of them."""

log = structlog.get_logger()

RUN = text("""
WITH due AS (
  SELECT t.id, t.path, a.id AS account, a.currency,
    CAST(:month AS timestamp) AT TIME ZONE t.time_zone AS since,
    (CAST(:month AS timestamp) + interval '1 month') AT TIME ZONE t.time_zone AS until
  FROM tenant t JOIN ledger_account a ON a.tenant_id = t.id AND a.kind = 'PREPAYMENT'
  WHERE t.kind = 'ENTERPRISE'
    AND NOT EXISTS (SELECT FROM monthly_bill b
                    WHERE b.tenant_id = t.id AND b.month = :month AND b.currency = a.currency)
)
INSERT INTO monthly_bill (tenant_id, tenant_path, month, currency, opening_balance, paid_in, spent, refunded,
                          closing_balance, order_count)
SELECT d.id, d.path, :month, d.currency, coalesce(sum(e.amount) FILTER (WHERE e.created_at < d.since), 0),
  coalesce(sum(e.amount) FILTER (WHERE e.created_at >= d.since AND x.kind NOT IN ('ORDER', 'REFUND')), 0),
  -coalesce(sum(e.amount) FILTER (WHERE e.created_at >= d.since AND x.kind = 'ORDER'), 0),
  coalesce(sum(e.amount) FILTER (WHERE e.created_at >= d.since AND x.kind = 'REFUND'), 0),
  coalesce(sum(e.amount), 0), count(*) FILTER (WHERE e.created_at >= d.since AND x.kind = 'ORDER')
FROM due d
JOIN ledger_entry e ON e.ledger_account_id = d.account AND e.created_at < d.until
JOIN ledger_transfer x ON x.id = e.transfer_id
WHERE d.until <= :now
GROUP BY d.id, d.path, d.currency
ON CONFLICT (tenant_id, month, currency) DO NOTHING
RETURNING id
""").bindparams(bindparam("month", type_=Date), bindparam("now", type_=DateTime(timezone=True)))
"""The bills of a month of all enterprises whose account had moved by its end."""


async def run(database: Database, files: FileStore, now: datetime) -> int:
    """Makes the bills of the months that are over, and their documents; how many bills. A repeat finds them made."""
    made, settled = 0, now - timedelta(hours=1)
    for back in range(MONTHS_BACK, 0, -1):
        async with database.transaction(system("bill run")) as session:
            month = month_of(now.date() + timedelta(days=1), -back)
            made += len((await session.scalars(RUN, {"month": month, "now": settled})).all())
    await _document(database, files)
    return made


async def _document(database: Database, files: FileStore) -> None:
    """Writes the documents that are missing, each for itself, so that one that cannot be written stops no other."""
    last = 0
    while True:
        async with database.transaction(system("bill run")) as session:
            waiting = select(MonthlyBill.id).where(MonthlyBill.pdf_file_id.is_(None), MonthlyBill.id > last)
            key = await session.scalar(waiting.order_by(MonthlyBill.id).limit(1))
        if key is None:
            break
        last = key
        try:
            await _document_bill(database, files, key)
        except Exception:
            log.exception("a bill's documents could not be written", bill=key)
    async with database.transaction(system("bill run")) as session:
        confirmed = select(SettlementStatement.id).where(
            SettlementStatement.pdf_file_id.is_(None), SettlementStatement.confirmed_at.is_not(None)
        )
        statements = list(await session.scalars(confirmed))
    for statement in statements:
        try:
            await document_statement(database, files, statement)
        except Exception:
            log.exception("a statement's documents could not be written", statement=statement)


async def _document_bill(database: Database, files: FileStore, key: int) -> None:
    async with database.transaction(system("bill run")) as session:
        found = await session.execute(
            select(MonthlyBill, Tenant)
            .join(Tenant, Tenant.id == MonthlyBill.tenant_id)
            .where(MonthlyBill.id == key, MonthlyBill.pdf_file_id.is_(None))
            .with_for_update(skip_locked=True, of=MonthlyBill)
        )
        row = found.one_or_none()
        if row is None:
            return
        bill, customer = row
        moved = await session.execute(
            select(
                LedgerEntry.created_at,
                LedgerTransfer.kind,
                LedgerTransfer.memo,
                LedgerEntry.amount,
                LedgerEntry.balance_after,
            )
            .join(LedgerTransfer, LedgerTransfer.id == LedgerEntry.transfer_id)
            .join(LedgerAccount, LedgerAccount.id == LedgerEntry.ledger_account_id)
            .where(
                LedgerAccount.tenant_id == customer.id,
                LedgerAccount.kind == LedgerAccountKind.PREPAYMENT,
                LedgerAccount.currency == bill.currency,
                LedgerEntry.created_at >= _begin(bill.month, customer),
                LedgerEntry.created_at < _begin(month_of(bill.month, 1), customer),
            )
            .order_by(LedgerEntry.id)
            .limit(MAX_ENTRIES)
        )
        name = f"bill-{bill.month:%Y-%m}-{bill.id}"
        kept = documents.keep(files, customer, _page(bill, customer, moved.all()), name)
        session.add_all(kept)
        await session.flush()
        bill.xlsx_file_id, bill.pdf_file_id = (one.id for one in kept)


async def document_statement(database: Database, files: FileStore, statement_id: int) -> None:
    """Writes the documents of a settlement statement that is confirmed. A repeat finds them written (S0-67)."""
    async with database.transaction(system("settlement statement")) as session:
        statement = (
            await session.scalars(
                select(SettlementStatement).where(SettlementStatement.id == statement_id).with_for_update()
            )
        ).one()
        if statement.pdf_file_id is not None or statement.confirmed_at is None:
            return
        root = (await session.scalars(select(Tenant).where(Tenant.id == statement.tenant_id))).one()
        customer, supplier = statement.customer_id, statement.supplier_id
        name = await session.scalar(
            select(Tenant.name).where(Tenant.id == customer)
            if customer is not None
            else select(Supplier.name).where(Supplier.id == supplier)
        )
        lines = await session.scalars(
            select(SettlementLine).where(SettlementLine.statement_id == statement.id).order_by(SettlementLine.id)
        )
        page = _statement_page(statement, root.language.value, name or "", lines.all())
        kept = documents.keep(files, root, page, f"settlement-{statement.first_day}-{statement.id}")
        session.add_all(kept)
        await session.flush()
        statement.xlsx_file_id, statement.pdf_file_id = (one.id for one in kept)


def _statement_page(
    statement: SettlementStatement, language: str, counterparty: str, lines: Sequence[SettlementLine]
) -> Document:
    def word(code: str, **params: str) -> str:
        return render(f"DOCUMENT_{code}", language, params)

    return Document(
        word("STATEMENT", first=statement.first_day.isoformat(), last=statement.last_day.isoformat()),
        [
            (word("COUNTERPARTY"), counterparty),
            (word("CURRENCY"), statement.currency),
            (word("AMOUNT"), money(statement.amount)),
        ],
        [word("KIND"), word("MEMO"), word("QUANTITY"), word("AMOUNT")],
        [[word(f"LINE_{line.kind.name}"), line.name, str(line.quantity), money(line.amount)] for line in lines],
    )


def _begin(month: date, customer: Tenant) -> datetime:
    return datetime.combine(month, time(), ZoneInfo(customer.time_zone))


def _page(bill: MonthlyBill, customer: Tenant, moved: Sequence[Any]) -> Document:
    language, zone = customer.language.value, ZoneInfo(customer.time_zone)

    def word(code: str, **params: str) -> str:
        return render(f"DOCUMENT_{code}", language, params)

    return Document(
        word("BILL", month=f"{bill.month:%Y-%m}"),
        [
            (word("CUSTOMER"), customer.name),
            (word("CURRENCY"), bill.currency),
            (word("OPENING_BALANCE"), money(bill.opening_balance)),
            (word("PAID_IN"), money(bill.paid_in)),
            (word("SPENT"), money(bill.spent)),
            (word("REFUNDED"), money(bill.refunded)),
            (word("CLOSING_BALANCE"), money(bill.closing_balance)),
            (word("ORDERS"), str(bill.order_count)),
        ],
        [word("TIME"), word("KIND"), word("MEMO"), word("AMOUNT"), word("BALANCE")],
        [
            [
                f"{at.astimezone(zone):%Y-%m-%d %H:%M}",
                word(f"TRANSFER_{kind.name}"),
                memo or "",
                money(amount),
                money(balance),
            ]
            for at, kind, memo, amount, balance in moved
        ],
    )


def money(amount: Decimal) -> str:
    """An amount with two places, or as many as it has."""
    places = max(2, -int(amount.normalize().as_tuple().exponent))
    return f"{amount:,.{places}f}"
