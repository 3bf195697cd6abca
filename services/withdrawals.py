"""Withdrawals: an agent asks for settled income, a merchant for what its customers have paid; it is withheld until the
platform's finance pays it or says no.

The money moves when it is asked for, so that nobody asks twice for the same; whoever decides holds the withdrawal.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

from sqlalchemy import select

from models.ledger import LedgerAccountKind, LedgerTransfer, TransferKind
from models.tenancy import Agent, Tenant, TenantKind
from models.withdrawals import Withdrawal, WithdrawalStatus
from services import commission, ledger, validation
from services.refusal import Refusal
from services.runtime import Work
from services.transitions import StateMachine

TRANSITIONS = StateMachine(
    "WITHDRAWAL_STATUS",
    ("APPROVE", (WithdrawalStatus.REQUESTED,), WithdrawalStatus.APPROVED),
    ("REJECT", (WithdrawalStatus.REQUESTED, WithdrawalStatus.APPROVED), WithdrawalStatus.REJECTED),
    ("CANCEL", (WithdrawalStatus.REQUESTED,), WithdrawalStatus.CANCELLED),
    ("PAY", (WithdrawalStatus.APPROVED,), WithdrawalStatus.PAID),
)
SOURCES = {TenantKind.AGENT: LedgerAccountKind.INCOME, TenantKind.MERCHANT: LedgerAccountKind.FUNDS}
"""What a company of a kind may ask for."""
WITHHELD, RECEIPTS = LedgerAccountKind.WITHHELD, LedgerAccountKind.RECEIPTS


async def request(
    work: Work, amount: Decimal, *, currency: str | None, payee: str, bank: str, bank_account: str
) -> Withdrawal:
    """The calling agent asks for some of its settled income (S0-50), a merchant for some of its funds (S4-56), in its
    own currency or another that it has.

    INSUFFICIENT_FUNDS where it is more than is settled, not asked for yet, and not taken back by refunds.
    """
    company = await work.session.scalar(
        select(Tenant).where(Tenant.id == work.principal.tenant_id, Tenant.kind.in_(SOURCES))
    )
    if company is None:
        raise Refusal("NOT_POSSIBLE_HERE")
    asked = Withdrawal(
        tenant_id=company.id,
        tenant_path=company.path,
        amount=validation.money(amount, "amount", positive=True),
        currency=company.currency if currency is None else validation.currency(currency, "currency"),
        payee=validation.text(payee, "payee"),
        bank=validation.text(bank, "bank"),
        bank_account=validation.bank_account(bank_account, "bankAccount"),
        requested_by_id=work.principal.account_id,
    )
    work.session.add(asked)
    await work.session.flush()
    if asked.amount > await _free(work, company, asked.currency):
        raise Refusal("INSUFFICIENT_FUNDS", "amount")
    asked.hold_transfer_id = (await _move(work, asked, company, "held", SOURCES[company.kind], WITHHELD)).id
    await work.session.flush()
    return asked


async def _free(work: Work, company: Tenant, currency: str) -> Decimal:
    """What a company may ask for: its own, held until the end of the transaction, less what an agent owes."""
    source = await ledger.account_of(work, company, SOURCES[company.kind], currency)
    await work.session.refresh(source, with_for_update=True)
    owed = await commission.owed(work, company, currency) if isinstance(company, Agent) else Decimal(0)
    return source.balance - owed


async def cancel(work: Work, key: int) -> Withdrawal:
    """The company takes its request back, as long as nobody has decided."""
    asked = await work.held(Withdrawal, key, Withdrawal.tenant_id == work.principal.tenant_id)
    return await _close(work, asked, "CANCEL")


async def approve(work: Work, key: int) -> Withdrawal:
    """The platform's finance agrees; the money is still to be paid."""
    asked = await work.held(Withdrawal, key)
    asked.status = TRANSITIONS.lead(asked.status, "APPROVE")
    asked.review(work.principal.account_id, datetime.now(UTC))
    await work.session.flush()
    return asked


async def reject(work: Work, key: int, reason: str) -> Withdrawal:
    """The platform's finance says no, or cannot pay what it agreed to: the company has its money back."""
    asked = await work.held(Withdrawal, key)
    return await _close(work, asked, "REJECT", reason=validation.text(reason, "reason"))


async def paid(work: Work, key: int, *, paid_on: date, reference: str) -> Withdrawal:
    """The money has left by bank transfer: of what day, and by which reference. IN_FUTURE for a day to come."""
    asked = await work.held(Withdrawal, key)
    if paid_on > datetime.now(ZoneInfo((await ledger.platform(work)).time_zone)).date():
        raise Refusal("IN_FUTURE", "paidOn")
    reference = validation.text(reference, "reference")
    return await _close(work, asked, "PAY", paid_on=paid_on, reference=reference)


async def _close(work: Work, asked: Withdrawal, action: str, **told: date | str) -> Withdrawal:
    """The last step of a withdrawal: what was withheld leaves when it is paid, and else goes back."""
    status = TRANSITIONS.lead(asked.status, action)
    company = await work.owner_of(asked)
    target = RECEIPTS if action == "PAY" else SOURCES[company.kind]
    moved = await _move(work, asked, company, "closed", WITHHELD, target)
    asked.status, asked.transfer_id = status, moved.id
    asked.closed_by_id, asked.closed_at = work.principal.account_id, datetime.now(UTC)
    for name, value in told.items():
        setattr(asked, name, value)
    await work.session.flush()
    return asked


async def _move(
    work: Work, asked: Withdrawal, company: Tenant, step: str, source: LedgerAccountKind, target: LedgerAccountKind
) -> LedgerTransfer:
    """What was asked for, from one account to another; the platform's is where money leaves."""
    receiver = await ledger.platform(work) if target is RECEIPTS else company
    accounts = await ledger.accounts_of(work, [(company, source), (receiver, target)], asked.currency)
    amounts = {accounts[company.id, source]: -asked.amount, accounts[receiver.id, target]: asked.amount}
    key = f"withdrawal:{asked.id}:{step}"
    return await ledger.transfer(work, company, TransferKind.WITHDRAWAL, key, amounts)
