"""Security deposits: what a merchant has to leave with the platform, paid from what it has paid in, and released to its
funds, from which it withdraws (S4-67)."""

from __future__ import annotations

import uuid
from decimal import Decimal

from sqlalchemy import select

from models.deposits import DepositMovement, DepositMovementKind, DepositTerms
from models.ledger import LedgerAccountKind, TransferKind
from models.merchants import Merchant
from services import ledger, merchants, validation
from services.runtime import Work

PAID_IN, HELD, FREE = LedgerAccountKind.PREPAYMENT, LedgerAccountKind.DEPOSIT, LedgerAccountKind.FUNDS


async def set_terms(work: Work, merchant_id: int, required_amount: Decimal, reason: str | None) -> DepositTerms:
    """How much a merchant has to leave, in its own currency; zero for one that trades without a deposit. What it has
    paid already stays until it is released."""
    merchant = await work.held(Merchant, merchant_id, field="merchant")
    terms = await work.session.scalar(
        select(DepositTerms).where(DepositTerms.tenant_id == merchant.id).with_for_update()
    )
    if terms is None:
        terms = DepositTerms(tenant_id=merchant.id, tenant_path=merchant.path, currency=merchant.currency)
        work.session.add(terms)
    terms.required_amount = validation.money(required_amount, "requiredAmount")
    terms.reason = validation.optional(reason, "reason")
    terms.set_by_id = work.principal.account_id
    await work.session.flush()
    return terms


async def pay(work: Work, amount: Decimal) -> DepositMovement:
    """The calling merchant leaves some of what it has paid in, at first or when more is asked of it.

    INSUFFICIENT_FUNDS where it has not paid in as much.
    """
    return await _move(work, await merchants.calling(work), DepositMovementKind.PAID, amount)


async def release(work: Work, merchant_id: int, amount: Decimal, reason: str) -> DepositMovement:
    """Gives a merchant some of its deposit back to withdraw. INSUFFICIENT_FUNDS where it is not as much."""
    merchant = await work.held(Merchant, merchant_id, field="merchant")
    return await _move(work, merchant, DepositMovementKind.RELEASED, amount, validation.text(reason, "reason"))


async def _move(
    work: Work, merchant: Merchant, kind: DepositMovementKind, amount: Decimal, reason: str | None = None
) -> DepositMovement:
    amount = validation.money(amount, "amount", positive=True)
    source, target = (PAID_IN, HELD) if kind is DepositMovementKind.PAID else (HELD, FREE)
    accounts = await ledger.accounts_of(work, [(merchant, source), (merchant, target)], merchant.currency)
    moved = await ledger.transfer(
        work,
        merchant,
        TransferKind.DEPOSIT,
        f"deposit:{uuid.uuid4()}",
        {accounts[merchant.id, source]: -amount, accounts[merchant.id, target]: amount},
        reason,
    )
    movement = DepositMovement(
        tenant_id=merchant.id,
        tenant_path=merchant.path,
        kind=kind,
        amount=amount,
        currency=merchant.currency,
        reason=reason,
        transfer_id=moved.id,
        account_id=work.principal.account_id,
    )
    work.session.add(movement)
    await work.session.flush()
    return movement
