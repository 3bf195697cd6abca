"""Withdrawals: asked for by agents and merchants, decided and paid by the platform's finance."""

from __future__ import annotations

from sqlalchemy import Select, select

import models.withdrawals as stored
from planner.mapping import Connection, refer
from planner.registry import mutation, query
from resolvers.context import Context, key_of
from schema.withdrawals import (
    MarkWithdrawalPaidInput,
    RejectWithdrawalInput,
    RequestWithdrawalInput,
    Withdrawal,
    WithdrawalInput,
    WithdrawalPayload,
)
from services import withdrawals as service


@query(Connection[Withdrawal])
def withdrawals() -> Select[stored.Withdrawal]:
    """Withdrawals: a company's own, all for the platform's finance (S0-50, S4-56)."""
    return select(stored.Withdrawal)


@query(Withdrawal, by=("id",))
def withdrawal() -> Select[stored.Withdrawal]:
    """One withdrawal (S0-50)."""
    return select(stored.Withdrawal)


@mutation(idempotent=True)
async def request_withdrawal(ctx: Context, input: RequestWithdrawalInput) -> WithdrawalPayload:
    """Asks for settled income, or a merchant's funds, no more than there is; it is withheld from now on (S0-50,
    S4-56)."""
    made = await service.request(
        ctx.now,
        input.amount,
        currency=input.currency,
        payee=input.payee,
        bank=input.bank,
        bank_account=input.bank_account,
    )
    return WithdrawalPayload(withdrawal=refer(made.id), errors=[])


@mutation(idempotent=True)
async def cancel_withdrawal(ctx: Context, input: WithdrawalInput) -> WithdrawalPayload:
    """Takes a request back that nobody has decided on."""
    changed = await service.cancel(ctx.now, key_of(input.id, "wdr", "id"))
    return WithdrawalPayload(withdrawal=refer(changed.id), errors=[])


@mutation(idempotent=True)
async def approve_withdrawal(ctx: Context, input: WithdrawalInput) -> WithdrawalPayload:
    """Agrees to a withdrawal (S0-50)."""
    changed = await service.approve(ctx.now, key_of(input.id, "wdr", "id"))
    return WithdrawalPayload(withdrawal=refer(changed.id), errors=[])


@mutation(idempotent=True)
async def reject_withdrawal(ctx: Context, input: RejectWithdrawalInput) -> WithdrawalPayload:
    """Rejects a withdrawal: the company has its money back (S0-50)."""
    changed = await service.reject(ctx.now, key_of(input.id, "wdr", "id"), input.reason)
    return WithdrawalPayload(withdrawal=refer(changed.id), errors=[])


@mutation(idempotent=True)
async def mark_withdrawal_paid(ctx: Context, input: MarkWithdrawalPaidInput) -> WithdrawalPayload:
    """Enters that a withdrawal was paid by bank transfer (S0-50)."""
    changed = await service.paid(
        ctx.now, key_of(input.id, "wdr", "id"), paid_on=input.paid_on, reference=input.reference
    )
    return WithdrawalPayload(withdrawal=refer(changed.id), errors=[])
