"""Monthly bills and settlement statements in the graph."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import strawberry

import models.bills as stored
from models.bills import CounterpartyKind, SettlementLineKind, StatementStatus
from planner.mapping import Connection, Node, column, entity, enum_type, input_type, live, to_many, to_one, value
from schema.common import UserError

if TYPE_CHECKING:
    from schema.catalog import Supplier
    from schema.identity import StaffAccount
    from schema.tenancy import Tenant

enum_type(CounterpartyKind, "With whom something is settled.")
enum_type(StatementStatus, "How far a settlement statement is.")
enum_type(SettlementLineKind, "What stands on a line: what was sold, given back or earned, or bought of a supplier.")


@entity(stored.MonthlyBill, prefix="mbl", filters=("month", "customer", "currency"), sorts=("month",))
class MonthlyBill(Node):
    """What a month came to on an enterprise's account (S0-66): the opening balance, and what was paid in, spent and
    given back, make the closing balance."""

    month: date = column("Its first day, by the enterprise's calendar.")
    currency: str = column("An ISO 4217 code.")
    opening_balance: Decimal = column("In ``currency``, as all amounts; below zero, what was owed.")
    paid_in: Decimal
    spent: Decimal = column("For orders.")
    refunded: Decimal
    closing_balance: Decimal
    order_count: int
    created_at: datetime
    customer: Tenant | None = to_one("Whose bill it is.", via="tenant")
    workbook_url: str | None = live(
        "The bill with its movements as xlsx, by a short-lived link; null until it is written.", needs=("xlsx_file_id",)
    )
    pdf_url: str | None = live("The same as PDF.", needs=("pdf_file_id",))


@entity(
    stored.SettlementStatement,
    prefix="sst",
    filters=("kind", "customer", "supplier", "status", "first_day", "last_day", "currency"),
    sorts=("first_day", "created_at"),
)
class SettlementStatement(Node):
    """What the platform settles with a customer or a supplier over some days (S0-67)."""

    kind: CounterpartyKind
    first_day: date = column("By the platform's calendar.")
    last_day: date = column("Included.")
    currency: str = column("An ISO 4217 code.")
    amount: Decimal = column("The sum of its lines.")
    status: StatementStatus
    created_at: datetime
    confirmed_at: datetime | None
    settled_at: datetime | None
    reference: str | None = column("By which the money moved.")
    customer: Tenant | None = to_one("With which customer.")
    supplier: Supplier | None = to_one("With which supplier.")
    generated_by: StaffAccount | None = to_one("Who drew it up.")
    confirmed_by: StaffAccount | None = to_one("Who agreed.")
    settled_by: StaffAccount | None = to_one("Who entered that it is settled.")
    lines: Connection[SettlementLine] = to_many("What it consists of.", by=stored.SettlementLine.statement_id)
    workbook_url: str | None = live("As xlsx, once it is confirmed.", needs=("xlsx_file_id",))
    pdf_url: str | None = live("As PDF, once it is confirmed.", needs=("pdf_file_id",))


@entity(stored.SettlementLine, prefix="sln", filters=("kind",), sorts=("name",))
class SettlementLine(Node):
    """One sort of thing on a settlement statement."""

    kind: SettlementLineKind
    name: str
    quantity: int
    amount: Decimal = column("In the statement's currency; below zero, what goes back or is owed to the customer.")


@input_type
class GenerateSettlementStatementInput:
    """Days of the platform's calendar, both included and over, with one customer or one supplier (S0-67)."""

    first_day: date
    last_day: date
    customer: strawberry.ID | None = None
    supplier: strawberry.ID | None = None
    currency: str = "CNY"


@input_type
class SettlementStatementInput:
    """A statement that is to be confirmed, drawn up anew or discarded."""

    id: strawberry.ID


@input_type
class SettleStatementInput:
    """A confirmed statement whose money has moved: by which reference."""

    id: strawberry.ID
    reference: str


@value
class SettlementStatementPayload:
    """The statement as it now is, or why nothing was changed."""

    settlement_statement: SettlementStatement | None
    errors: list[UserError]
