"""Merchants' security deposits: set and released by those who keep them, paid by merchants."""

from __future__ import annotations

from sqlalchemy import Select, select

import models.deposits as stored
from planner.mapping import Connection, refer
from planner.registry import mutation, query
from resolvers.context import Context, key_of
from schema.deposits import (
    DepositMovement,
    DepositMovementPayload,
    DepositTerms,
    DepositTermsPayload,
    PayDepositInput,
    ReleaseDepositInput,
    SetDepositTermsInput,
)
from services import deposits as service


@query(Connection[DepositTerms])
def deposit_terms() -> Select[stored.DepositTerms]:
    """How much each merchant within reach has to leave (S4-67)."""
    return select(stored.DepositTerms)


@query(Connection[DepositMovement])
def deposit_movements() -> Select[stored.DepositMovement]:
    """What merchants within reach left and had back (S4-67)."""
    return select(stored.DepositMovement)


@mutation
async def set_deposit_terms(ctx: Context, input: SetDepositTermsInput) -> DepositTermsPayload:
    """Says how much a merchant has to leave (S4-67)."""
    saved = await service.set_terms(
        ctx.now, key_of(input.merchant, "ten", "merchant"), input.required_amount, input.reason
    )
    return DepositTermsPayload(deposit_terms=refer(saved.id), errors=[])


@mutation(idempotent=True)
async def pay_deposit(ctx: Context, input: PayDepositInput) -> DepositMovementPayload:
    """Leaves some of what one has paid in as a security (S4-67)."""
    made = await service.pay(ctx.now, input.amount)
    return DepositMovementPayload(deposit_movement=refer(made.id), errors=[])


@mutation(idempotent=True)
async def release_deposit(ctx: Context, input: ReleaseDepositInput) -> DepositMovementPayload:
    """Gives a merchant some of its deposit back to withdraw (S4-67, S4-74)."""
    made = await service.release(ctx.now, key_of(input.merchant, "ten", "merchant"), input.amount, input.reason)
    return DepositMovementPayload(deposit_movement=refer(made.id), errors=[])
