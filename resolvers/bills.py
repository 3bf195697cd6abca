"""Monthly bills and settlement statements: lists, documents, and what finance does with statements."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Any

from sqlalchemy import Select, select

import models.bills as stored
from planner.ids import encode_id
from planner.mapping import Connection, refer
from planner.registry import loads, mutation, query
from resolvers.context import Context, key_of, optional_key
from schema.bills import (
    GenerateSettlementStatementInput,
    MonthlyBill,
    SettlementStatement,
    SettlementStatementInput,
    SettlementStatementPayload,
    SettleStatementInput,
)
from services import settlement_statements as statements


@query(Connection[MonthlyBill])
def monthly_bills() -> Select[stored.MonthlyBill]:
    """Monthly bills: an enterprise's own, all for the platform's finance (S0-66)."""
    return select(stored.MonthlyBill)


@query(MonthlyBill, by=("id",))
def monthly_bill() -> Select[stored.MonthlyBill]:
    """One monthly bill (S0-66)."""
    return select(stored.MonthlyBill)


@query(Connection[SettlementStatement])
def settlement_statements() -> Select[stored.SettlementStatement]:
    """Settlement statements with customers and suppliers (S0-67)."""
    return select(stored.SettlementStatement)


@query(SettlementStatement, by=("id",))
def settlement_statement() -> Select[stored.SettlementStatement]:
    """One settlement statement (S0-67)."""
    return select(stored.SettlementStatement)


@loads(MonthlyBill, "workbook_url")
async def bill_workbooks(ctx: Context, rows: Sequence[Any]) -> list[str | None]:
    return [_link(ctx, row.xlsx_file_id) for row in rows]


@loads(MonthlyBill, "pdf_url")
async def bill_pages(ctx: Context, rows: Sequence[Any]) -> list[str | None]:
    return [_link(ctx, row.pdf_file_id) for row in rows]


@loads(SettlementStatement, "workbook_url")
async def statement_workbooks(ctx: Context, rows: Sequence[Any]) -> list[str | None]:
    return [_link(ctx, row.xlsx_file_id) for row in rows]


@loads(SettlementStatement, "pdf_url")
async def statement_pages(ctx: Context, rows: Sequence[Any]) -> list[str | None]:
    return [_link(ctx, row.pdf_file_id) for row in rows]


def _link(ctx: Context, file: int | None) -> str | None:
    return None if file is None else f"/files/{encode_id('fil', file)}?{ctx.runtime.files.sign(file)}"


@mutation
async def generate_settlement_statement(
    ctx: Context, input: GenerateSettlementStatementInput
) -> SettlementStatementPayload:
    """Draws a settlement statement up as a draft (S0-67)."""
    return await _changed(
        statements.generate(
            ctx.now,
            customer_id=optional_key(input.customer, "ten", "customer"),
            supplier_id=optional_key(input.supplier, "sup", "supplier"),
            first=input.first_day,
            last=input.last_day,
            currency=input.currency,
        )
    )


@mutation
async def regenerate_settlement_statement(ctx: Context, input: SettlementStatementInput) -> SettlementStatementPayload:
    """Draws a draft up anew (S0-67)."""
    return await _changed(statements.regenerate(ctx.now, key_of(input.id, "sst", "id")))


@mutation
async def confirm_settlement_statement(ctx: Context, input: SettlementStatementInput) -> SettlementStatementPayload:
    """Agrees to a draft: it stays as it is, and its documents are written (S0-67)."""
    return await _changed(statements.confirm(ctx.now, key_of(input.id, "sst", "id")))


@mutation
async def settle_settlement_statement(ctx: Context, input: SettleStatementInput) -> SettlementStatementPayload:
    """Enters that the money of a confirmed statement has moved (S0-67)."""
    return await _changed(statements.settle(ctx.now, key_of(input.id, "sst", "id"), input.reference))


@mutation
async def discard_settlement_statement(ctx: Context, input: SettlementStatementInput) -> SettlementStatementPayload:
    """Discards a draft: its days are free again (S0-67)."""
    return await _changed(statements.discard(ctx.now, key_of(input.id, "sst", "id")))


async def _changed(step: Awaitable[stored.SettlementStatement]) -> SettlementStatementPayload:
    return SettlementStatementPayload(settlement_statement=refer((await step).id), errors=[])
