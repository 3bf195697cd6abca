"""The ledger: accounts, transfers, credit lines and top-ups."""

from __future__ import annotations

from sqlalchemy import Select, select

import models.ledger as stored
from planner.mapping import Connection, refer
from planner.registry import mutation, query
from resolvers.context import Context, key_of
from schema.ledger import (
    CreditLimitPayload,
    LedgerAccount,
    LedgerTransfer,
    RecordTopUpInput,
    SetCreditLimitInput,
    SettleTopUpInput,
    TopUp,
    TopUpPayload,
)
from services import ledger


@query(Connection[LedgerAccount])
def ledger_accounts() -> Select[stored.LedgerAccount]:
    """Accounts within reach, with their balances (S0-37)."""
    return select(stored.LedgerAccount)


@query(LedgerAccount, by=("id",))
def ledger_account() -> Select[stored.LedgerAccount]:
    """One account and its statement (S2-17)."""
    return select(stored.LedgerAccount)


@query(Connection[LedgerTransfer])
def ledger_transfers() -> Select[stored.LedgerTransfer]:
    """What moved between accounts within reach."""
    return select(stored.LedgerTransfer)


@query(Connection[TopUp])
def top_ups() -> Select[stored.TopUp]:
    """Money that customers paid in (S0-53)."""
    return select(stored.TopUp)


@query(TopUp, by=("id",))
def top_up() -> Select[stored.TopUp]:
    """One top-up (S0-53)."""
    return select(stored.TopUp)


@mutation(idempotent=True)
async def set_credit_limit(ctx: Context, input: SetCreditLimitInput) -> CreditLimitPayload:
    """Sets how much an enterprise may owe (S0-37)."""
    changed = await ledger.set_credit_limit(ctx.now, key_of(input.enterprise, "ten", "enterprise"), input.credit_limit)
    return CreditLimitPayload(enterprise=refer(changed.id), errors=[])


@mutation(idempotent=True)
async def record_top_up(ctx: Context, input: RecordTopUpInput) -> TopUpPayload:
    """Enters what a customer has paid in, to be confirmed (S0-53)."""
    made = await ledger.record_top_up(
        ctx.now,
        key_of(input.customer, "ten", "customer"),
        amount=input.amount,
        received_on=input.received_on,
        reference=input.reference,
    )
    return TopUpPayload(top_up=refer(made.id), errors=[])


@mutation(idempotent=True)
async def confirm_top_up(ctx: Context, input: SettleTopUpInput) -> TopUpPayload:
    """Confirms that the money is there: the customer may spend it from now on (S0-53, S0-37)."""
    changed = await ledger.confirm_top_up(ctx.now, key_of(input.id, "top", "id"))
    return TopUpPayload(top_up=refer(changed.id), errors=[])


@mutation(idempotent=True)
async def cancel_top_up(ctx: Context, input: SettleTopUpInput) -> TopUpPayload:
    """Takes back what was entered and is not there (S0-53)."""
    changed = await ledger.cancel_top_up(ctx.now, key_of(input.id, "top", "id"))
    return TopUpPayload(top_up=refer(changed.id), errors=[])
