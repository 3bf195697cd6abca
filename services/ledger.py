"""Money moves here and nowhere else: accounts, transfers between them, credit lines, and top-ups confirmed by hand.

A transfer is written whole or not at all. Its entries lock their accounts in the order of the accounts' keys, so two
transfers never wait for each other; what would take an account below its floor is refused by the database.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import func, insert, select
from sqlalchemy.dialects.postgresql import insert as insert_if_new
from sqlalchemy.exc import IntegrityError

from models.base import table_of
from models.ledger import (
    LedgerAccount,
    LedgerAccountKind,
    LedgerEntry,
    LedgerTransfer,
    TopUp,
    TopUpStatus,
    TransferKind,
)
from models.tenancy import Enterprise, Platform, Tenant
from services import validation
from services.refusal import Refusal, not_found
from services.runtime import Work

FLOORS: Mapping[LedgerAccountKind, Decimal | None] = {
    LedgerAccountKind.PREPAYMENT: Decimal(0),
    LedgerAccountKind.RECEIPTS: None,
}
"""How far below zero an account of a kind may fall when it is opened; None: as far as it has to."""
NOT_BELOW_FLOOR = "ck_ledger_account_not_below_floor"


async def account_of(work: Work, tenant: Tenant, kind: LedgerAccountKind, currency: str) -> LedgerAccount:
    """A tenant's account of a kind, opened at its first use."""
    table = table_of(LedgerAccount)
    owner = {"tenant_id": tenant.id, "tenant_path": tenant.path}
    await work.session.execute(
        insert_if_new(table)
        .values(**owner, kind=kind, currency=currency, floor=FLOORS[kind])
        .on_conflict_do_nothing(index_elements=["tenant_id", "kind", "currency"])
    )
    found = await work.session.scalar(
        select(LedgerAccount).where(
            LedgerAccount.tenant_id == tenant.id, LedgerAccount.kind == kind, LedgerAccount.currency == currency
        )
    )
    assert found is not None
    return found


async def transfer(
    work: Work,
    owner: Tenant,
    kind: TransferKind,
    key: str,
    amounts: Mapping[LedgerAccount, Decimal],
    memo: str | None = None,
) -> LedgerTransfer:
    """Moves money between accounts; the amounts sum to zero. ``key`` names what it is done for: a second transfer
    with it is refused by the database, so whatever comes twice moves money once.

    INSUFFICIENT_FUNDS where an account would fall below its floor.
    """
    moved = LedgerTransfer(
        tenant_id=owner.id,
        tenant_path=owner.path,
        kind=kind,
        idempotency_key=key,
        memo=memo,
        account_id=work.principal.account_id,
    )
    work.session.add(moved)
    await work.session.flush()
    entries = [
        {
            "tenant_id": account.tenant_id,
            "tenant_path": account.tenant_path,
            "transfer_id": moved.id,
            "ledger_account_id": account.id,
            "amount": amount,
        }
        for account, amount in sorted(amounts.items(), key=lambda each: each[0].id)
    ]
    try:
        await work.session.execute(insert(table_of(LedgerEntry)).values(entries))
    except IntegrityError as error:
        if NOT_BELOW_FLOOR in str(error.orig):
            raise Refusal("INSUFFICIENT_FUNDS", "amount") from None
        raise
    return moved


async def _enterprise(work: Work, tenant_id: int) -> Enterprise:
    found = await work.session.scalar(select(Enterprise).where(Enterprise.id == tenant_id))
    if found is None:
        raise not_found("enterprise")
    return found


async def set_credit_limit(work: Work, tenant_id: int, limit: Decimal) -> Enterprise:
    """How much an enterprise may owe (S0-37). OWES_MORE where it owes more than that already."""
    enterprise = await _enterprise(work, tenant_id)
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


async def record_top_up(
    work: Work, tenant_id: int, *, amount: Decimal, received_on: date, reference: str | None
) -> TopUp:
    """Enters what an enterprise has paid in; nothing moves before it is confirmed (S0-53)."""
    enterprise = await _enterprise(work, tenant_id)
    amount = validation.money(amount, "amount", positive=True)
    if received_on > datetime.now(ZoneInfo(enterprise.time_zone)).date():
        raise Refusal("IN_FUTURE", "receivedOn")
    top_up = TopUp(
        tenant_id=enterprise.id,
        tenant_path=enterprise.path,
        amount=amount,
        currency=enterprise.currency,
        received_on=received_on,
        reference=validation.optional(reference, "reference"),
        recorded_by_id=work.principal.account_id,
    )
    work.session.add(top_up)
    await work.session.flush()
    return top_up


async def confirm_top_up(work: Work, key: int) -> TopUp:
    """The money is there: it is the enterprise's to spend from this moment, once (S0-53, S0-37)."""
    top_up = await _recorded(work, key)
    enterprise = await _enterprise(work, top_up.tenant_id)
    platform = await work.session.scalar(select(Platform))
    assert platform is not None
    receipts = await account_of(work, platform, LedgerAccountKind.RECEIPTS, top_up.currency)
    prepayment = await account_of(work, enterprise, LedgerAccountKind.PREPAYMENT, top_up.currency)
    amounts = {receipts: -top_up.amount, prepayment: top_up.amount}
    moved = await transfer(work, enterprise, TransferKind.TOP_UP, f"top-up:{top_up.id}", amounts, top_up.reference)
    _settle(work, top_up, TopUpStatus.CONFIRMED)
    top_up.transfer_id = moved.id
    await work.session.flush()
    return top_up


async def cancel_top_up(work: Work, key: int) -> TopUp:
    """What was entered was not paid, or entered twice. NOT_RECORDED once it is confirmed (S0-53)."""
    top_up = await _recorded(work, key)
    _settle(work, top_up, TopUpStatus.CANCELLED)
    await work.session.flush()
    return top_up


async def _recorded(work: Work, key: int) -> TopUp:
    found = await work.session.scalar(select(TopUp).where(TopUp.id == key).with_for_update())
    if found is None:
        raise not_found("id")
    if found.status is not TopUpStatus.RECORDED:
        raise Refusal("TOP_UP_SETTLED", "id", status=found.status.name)
    return found


def _settle(work: Work, top_up: TopUp, status: TopUpStatus) -> None:
    changes: dict[str, Any] = {
        "status": status,
        "settled_by_id": work.principal.account_id,
        "settled_at": func.now(),
    }
    for name, value in changes.items():
        setattr(top_up, name, value)
