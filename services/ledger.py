"""Money moves here and nowhere else: accounts, transfers between them, credit lines, and top-ups confirmed by hand.

A transfer is written whole or not at all. Entries lock their accounts in one order, customers' first and the
platform's, in which all meet, last, so that two never wait for each other and none waits long; what would take an
account below its floor is refused by the database.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import func, insert, select, tuple_
from sqlalchemy.dialects.postgresql import insert as insert_if_new
from sqlalchemy.exc import IntegrityError

from models.base import table_of
from models.ledger import (
    FLOORLESS,
    PLATFORMS,
    LedgerAccount,
    LedgerAccountKind,
    LedgerEntry,
    LedgerTransfer,
    TopUp,
    TopUpStatus,
    TransferKind,
)
from models.tenancy import Enterprise, Platform, Tenant, TenantKind
from services import validation
from services.refusal import Refusal
from services.runtime import Unit

NOT_BELOW_FLOOR = "ck_ledger_account_not_below_floor"


@dataclass(frozen=True)
class Movement:
    """Money that is to move at once: whose doing it is, why, the key by which a repeat is known, and what each account
    is given or gives. The amounts sum to zero."""

    owner: Tenant
    kind: TransferKind
    key: str
    amounts: Mapping[LedgerAccount, Decimal]
    memo: str | None = None


async def accounts_of(
    work: Unit, wanted: Iterable[tuple[Tenant, LedgerAccountKind]], currency: str
) -> dict[tuple[int, LedgerAccountKind], LedgerAccount]:
    """Tenants' accounts of one currency, by tenant and kind, each opened at its first use."""
    pairs = {(tenant.id, kind): tenant for tenant, kind in wanted}
    found = await _accounts(work, pairs.keys(), currency)
    if found.keys() == pairs.keys():
        return found
    opened = [
        {
            "tenant_id": tenant.id,
            "tenant_path": tenant.path,
            "kind": kind,
            "currency": currency,
            "floor": None if kind in FLOORLESS else Decimal(0),
        }
        for (key, kind), tenant in sorted(pairs.items(), key=lambda pair: (pair[0][0], pair[0][1].name))
        if (key, kind) not in found
    ]
    await work.session.execute(
        insert_if_new(table_of(LedgerAccount))
        .values(opened)
        .on_conflict_do_nothing(index_elements=["tenant_id", "kind", "currency"])
    )
    found = await _accounts(work, pairs.keys(), currency)
    assert found.keys() == pairs.keys()
    return found


async def _accounts(
    work: Unit, wanted: Iterable[tuple[int, LedgerAccountKind]], currency: str
) -> dict[tuple[int, LedgerAccountKind], LedgerAccount]:
    found = await work.session.scalars(
        select(LedgerAccount)
        .where(
            LedgerAccount.currency == currency,
            tuple_(LedgerAccount.tenant_id, LedgerAccount.kind).in_(list(wanted)),
        )
        .execution_options(populate_existing=True)
    )
    return {(account.tenant_id, account.kind): account for account in found}


async def account_of(work: Unit, tenant: Tenant, kind: LedgerAccountKind, currency: str) -> LedgerAccount:
    """A tenant's account of a kind, opened at its first use."""
    return (await accounts_of(work, [(tenant, kind)], currency))[tenant.id, kind]


async def platform(work: Unit) -> Platform:
    """The tenant at the root of the tree, whose accounts are the other half of its customers'."""
    return (await work.session.scalars(select(Platform))).one()


async def move(work: Unit, movements: Sequence[Movement]) -> list[LedgerTransfer]:
    """Moves money between accounts, all of it or none, in a number of statements that does not depend on how many
    movements there are. A second transfer with a key is refused by the database, so whatever comes twice moves money
    once.

    INSUFFICIENT_FUNDS where an account would fall below its floor.
    """
    moved = [
        LedgerTransfer(
            tenant_id=movement.owner.id,
            tenant_path=movement.owner.path,
            kind=movement.kind,
            idempotency_key=movement.key,
            memo=movement.memo,
            account_id=work.principal.account_id,
        )
        for movement in movements
    ]
    work.session.add_all(moved)
    await work.session.flush()
    entries = [
        (account, transfer, amount)
        for movement, transfer in zip(movements, moved, strict=True)
        for account, amount in movement.amounts.items()
        if amount
    ]
    entries.sort(key=lambda entry: (entry[0].kind in PLATFORMS, entry[0].id, entry[1].id))
    values = [
        {
            "tenant_id": account.tenant_id,
            "tenant_path": account.tenant_path,
            "transfer_id": transfer.id,
            "ledger_account_id": account.id,
            "amount": amount,
        }
        for account, transfer, amount in entries
    ]
    try:
        await work.session.execute(insert(table_of(LedgerEntry)).values(values))
    except IntegrityError as error:
        if NOT_BELOW_FLOOR in str(error.orig):
            raise Refusal("INSUFFICIENT_FUNDS", "amount") from None
        raise
    return moved


async def transfer(
    work: Unit,
    owner: Tenant,
    kind: TransferKind,
    key: str,
    amounts: Mapping[LedgerAccount, Decimal],
    memo: str | None = None,
) -> LedgerTransfer:
    """Moves money between accounts, once for each key; see ``move``."""
    (moved,) = await move(work, [Movement(owner, kind, key, amounts, memo)])
    return moved


async def set_credit_limit(work: Unit, tenant_id: int, limit: Decimal) -> Enterprise:
    """How much an enterprise may owe (S0-37). OWES_MORE where it owes more than that already."""
    enterprise = await work.found(Enterprise, tenant_id, field="enterprise")
    limit = validation.money(limit, "creditLimit")
    account = await account_of(work, enterprise, LedgerAccountKind.PREPAYMENT, enterprise.currency)
    account.floor = -limit
    try:
        await work.session.flush()
    except IntegrityError as error:
        if NOT_BELOW_FLOOR in str(error.orig):
            raise Refusal("OWES_MORE", "creditLimit") from None
        raise
    return enterprise


async def _customer(work: Unit, tenant_id: int) -> Tenant:
    return await work.found(Tenant, tenant_id, Tenant.kind != TenantKind.PLATFORM, field="customer")


async def record_top_up(
    work: Unit, tenant_id: int, *, amount: Decimal, received_on: date, reference: str | None
) -> TopUp:
    """Enters what a customer has paid in; nothing moves before it is confirmed (S0-53, S2-17)."""
    customer = await _customer(work, tenant_id)
    amount = validation.money(amount, "amount", positive=True)
    if received_on > datetime.now(ZoneInfo(customer.time_zone)).date():
        raise Refusal("IN_FUTURE", "receivedOn")
    top_up = TopUp(
        tenant_id=customer.id,
        tenant_path=customer.path,
        amount=amount,
        currency=customer.currency,
        received_on=received_on,
        reference=validation.optional(reference, "reference"),
        recorded_by_id=work.principal.account_id,
    )
    work.session.add(top_up)
    await work.session.flush()
    return top_up


async def confirm_top_up(work: Unit, key: int) -> TopUp:
    """The money is there: it is the customer's to spend from this moment, once (S0-53, S0-37)."""
    top_up = await _recorded(work, key)
    customer, root = await _customer(work, top_up.tenant_id), await platform(work)
    accounts = await accounts_of(
        work, [(root, LedgerAccountKind.RECEIPTS), (customer, LedgerAccountKind.PREPAYMENT)], top_up.currency
    )
    amounts = {
        accounts[root.id, LedgerAccountKind.RECEIPTS]: -top_up.amount,
        accounts[customer.id, LedgerAccountKind.PREPAYMENT]: top_up.amount,
    }
    moved = await transfer(work, customer, TransferKind.TOP_UP, f"top-up:{top_up.id}", amounts, top_up.reference)
    _settle(work, top_up, TopUpStatus.CONFIRMED)
    top_up.transfer_id = moved.id
    await work.session.flush()
    return top_up


async def cancel_top_up(work: Unit, key: int) -> TopUp:
    """What was entered was not paid, or entered twice. NOT_RECORDED once it is confirmed (S0-53)."""
    top_up = await _recorded(work, key)
    _settle(work, top_up, TopUpStatus.CANCELLED)
    await work.session.flush()
    return top_up


async def _recorded(work: Unit, key: int) -> TopUp:
    found = await work.held(TopUp, key)
    if found.status is not TopUpStatus.RECORDED:
        raise Refusal("TOP_UP_SETTLED", "id", status=found.status.name)
    return found


def _settle(work: Unit, top_up: TopUp, status: TopUpStatus) -> None:
    changes: dict[str, Any] = {
        "status": status,
        "settled_by_id": work.principal.account_id,
        "settled_at": func.now(),
    }
    for name, value in changes.items():
        setattr(top_up, name, value)
