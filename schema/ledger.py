"""The ledger in the graph: accounts, what moved in them, and top-ups."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import strawberry

import models.ledger as stored
from models.ledger import LedgerAccountKind, TopUpStatus, TransferKind
from planner.mapping import Connection, Node, column, computed, entity, enum_type, input_type, to_many, to_one, value
from schema.common import UserError

if TYPE_CHECKING:
    from schema.identity import StaffAccount
    from schema.tenancy import Tenant

enum_type(LedgerAccountKind, "What sort of money an account holds.")
enum_type(TransferKind, "Why money moved.")
enum_type(TopUpStatus, "Whether money that was entered is there.")


@entity(stored.LedgerAccount, prefix="lac", filters=("kind", "currency", "tenant"), sorts=("balance",))
class LedgerAccount(Node):
    """One sort of a tenant's money in one currency (S0-37)."""

    kind: LedgerAccountKind
    currency: str = column("An ISO 4217 code.")
    balance: Decimal = column("What is there, in ``currency``; below zero, what is owed.")
    available: Decimal | None = computed(
        "What may be taken out now, credit included, in ``currency``; null: as much as it takes.",
        lambda a: a.balance - a.floor,
    )
    created_at: datetime
    tenant: Tenant | None = to_one("Whose money it is.")
    entries: Connection[LedgerEntry] = to_many(
        "What moved in it: its statement (S2-17).", by=stored.LedgerEntry.ledger_account_id
    )


@entity(stored.LedgerTransfer, prefix="ltr", filters=("kind", "created_at"), sorts=("created_at",))
class LedgerTransfer(Node):
    """Money that moved between accounts, at once; its entries sum to zero."""

    kind: TransferKind
    memo: str | None
    created_at: datetime
    entries: Connection[LedgerEntry] = to_many("What it did to each account.", by=stored.LedgerEntry.transfer_id)


@entity(stored.LedgerEntry, prefix="len", filters=("amount", "created_at"))
class LedgerEntry(Node):
    """What a transfer brought to an account, or took from it (S2-17)."""

    amount: Decimal = column("In the account's currency; negative where it was taken.")
    balance_after: Decimal = column("What was there afterwards.")
    created_at: datetime
    account: LedgerAccount | None = to_one("Where.", via="ledger_account")
    transfer: LedgerTransfer | None = to_one("Why.")


@entity(
    stored.TopUp,
    prefix="top",
    filters=("status", "customer", "received_on", "amount", "reference"),
    sorts=("received_on", "amount", "created_at"),
)
class TopUp(Node):
    """Money that a customer paid in by bank transfer, entered by hand and confirmed once it is there (S0-53)."""

    amount: Decimal = column("In ``currency``.")
    currency: str = column("An ISO 4217 code.")
    status: TopUpStatus
    received_on: date = column("The bank's value date.")
    reference: str | None = column("The bank's reference.")
    created_at: datetime
    settled_at: datetime | None = column("When it was confirmed or cancelled.")
    customer: Tenant | None = to_one("Who paid.", via="tenant")
    recorded_by: StaffAccount | None = to_one("Who entered it.")
    settled_by: StaffAccount | None = to_one("Who confirmed or cancelled it.")
    transfer: LedgerTransfer | None = to_one("What moved when it was confirmed.")


@input_type
class SetCreditLimitInput:
    """How much an enterprise may owe, in its currency (S0-37)."""

    enterprise: strawberry.ID
    credit_limit: Decimal
    idempotency_key: str


@input_type
class RecordTopUpInput:
    """Money that a customer has paid in: the amount in its currency, and the bank's value date (S0-53)."""

    customer: strawberry.ID
    amount: Decimal
    received_on: date
    reference: str | None = None
    idempotency_key: str


@input_type
class SettleTopUpInput:
    """A top-up that is to be confirmed or cancelled."""

    id: strawberry.ID
    idempotency_key: str


@value
class CreditLimitPayload:
    """The enterprise with its credit line as it now is, or why nothing was changed."""

    enterprise: Tenant | None
    errors: list[UserError]


@value
class TopUpPayload:
    """The top-up as it now is, or why nothing was changed."""

    top_up: TopUp | None
    errors: list[UserError]
