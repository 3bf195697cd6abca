"""Withdrawals in the graph."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import strawberry

import models.withdrawals as stored
from models.withdrawals import WithdrawalStatus
from planner.mapping import Node, column, entity, enum_type, input_type, to_one, value
from schema.common import UserError
from schema.masks import masked_account

if TYPE_CHECKING:
    from schema.identity import StaffAccount
    from schema.ledger import LedgerTransfer
    from schema.tenancy import Tenant

enum_type(WithdrawalStatus, "How far a withdrawal is.")


@entity(
    stored.Withdrawal,
    prefix="wdr",
    filters=("company", "status", "currency", "amount", "created_at", "paid_on"),
    sorts=("created_at",),
)
class Withdrawal(Node):
    """Settled income that an agent asks for, or funds that a merchant does; withheld until it is paid or given back
    (S0-50, S4-56)."""

    amount: Decimal = column("In ``currency``.")
    currency: str = column("An ISO 4217 code.")
    status: WithdrawalStatus
    payee: str = column("To whom the bank account belongs.")
    bank: str
    bank_account: str = column("Masked except for who may see it in full.", mask=masked_account)
    created_at: datetime = column("When it was asked for.")
    reviewed_at: datetime | None = column("When finance agreed.")
    closed_at: datetime | None = column("When it was paid, rejected or taken back.")
    reason: str | None = column("Why it was rejected.")
    paid_on: date | None = column("The bank's value date.")
    reference: str | None = column("The bank's reference.")
    company: Tenant | None = to_one("Who asks.", via="tenant")
    requested_by: StaffAccount | None = to_one("Who asked for the company.")
    reviewed_by: StaffAccount | None = to_one("Who agreed.")
    closed_by: StaffAccount | None = to_one("Who paid it, rejected it or took it back.")
    transfer: LedgerTransfer | None = to_one("The money that moved when it was paid or given back.")


@input_type
class RequestWithdrawalInput:
    """Some of one's settled income, or of a merchant's funds, in one's own currency unless another is named, to a bank
    account: 6 to 34 letters and digits (S0-50, S4-56)."""

    amount: Decimal
    payee: str
    bank: str
    bank_account: str
    idempotency_key: str
    currency: str | None = None


@input_type
class WithdrawalInput:
    """A withdrawal that is to be approved or taken back."""

    id: strawberry.ID
    idempotency_key: str


@input_type
class RejectWithdrawalInput:
    """A withdrawal that is not paid, and why."""

    id: strawberry.ID
    reason: str
    idempotency_key: str


@input_type
class MarkWithdrawalPaidInput:
    """A withdrawal that was paid by bank transfer: the bank's value date and reference."""

    id: strawberry.ID
    paid_on: date
    reference: str
    idempotency_key: str


@value
class WithdrawalPayload:
    """The withdrawal as it now is, or why nothing was changed."""

    withdrawal: Withdrawal | None
    errors: list[UserError]
