"""Payments through channels: accounts with channels, paying, refunds, and reconciliation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import strawberry
from sqlalchemy import Select, select

import models.payments as stored
from gateways.http import GatewayError
from planner.mapping import Connection, refer
from planner.registry import loads, mutation, query, subscription
from resolvers.context import Context, given, key_of, reading
from schema.payments import (
    CreatePaymentChannelInput,
    CreatePaymentInput,
    CreatePrepaymentInput,
    MarkRefundPaidInput,
    MiniProgramPayment,
    Payment,
    PaymentChannel,
    PaymentChannelPayload,
    PaymentDifference,
    PaymentDifferencePayload,
    PaymentPayload,
    PaymentReconciliation,
    PaymentRefund,
    PaymentRefundPayload,
    ReconcilePaymentsInput,
    ReconcilePaymentsPayload,
    RenewSimCardInput,
    RenewSimCardPayload,
    ResolvePaymentDifferenceInput,
    RetryPaymentRefundInput,
    UpdatePaymentChannelInput,
)
from services import renewals
from services.payments import asking, collecting, reconciling, refunding
from services.refusal import not_found

WATCH_SECONDS = 1.0
KEYS = {"private_key": "private_key", "api_v3_key": "api_key", "channel_public_key": "channel_key"}
COLUMNS = {"certificate_serial_no": "serial_no", "channel_public_key_id": "channel_key_id"}


@query(Connection[PaymentChannel])
def payment_channels() -> Select[stored.PaymentChannel]:
    """Merchants' accounts with payment channels."""
    return select(stored.PaymentChannel)


@query(PaymentChannel, by=("id",))
def payment_channel() -> Select[stored.PaymentChannel]:
    """One merchant's account with a payment channel."""
    return select(stored.PaymentChannel)


@query(Connection[Payment])
def payments() -> Select[stored.Payment]:
    """Payments within reach: one's own, an agent's customers' by agent and time, the platform's all (S0-15, S0-55)."""
    return select(stored.Payment)


@query(Payment, by=("id", "payment_no"))
def payment() -> Select[stored.Payment]:
    """One payment, by its id or its number (S0-55)."""
    return select(stored.Payment)


@query(Connection[PaymentRefund])
def payment_refunds() -> Select[stored.PaymentRefund]:
    """Money on its way back through payment channels."""
    return select(stored.PaymentRefund)


@query(Connection[PaymentReconciliation])
def payment_reconciliations() -> Select[stored.PaymentReconciliation]:
    """Days of the channels' statements held against the books."""
    return select(stored.PaymentReconciliation)


@query(Connection[PaymentDifference])
def payment_differences() -> Select[stored.PaymentDifference]:
    """Where channels and the books do not agree."""
    return select(stored.PaymentDifference)


@loads(Payment, "code_url")
async def code_urls(ctx: Context, rows: Sequence[Any]) -> list[str | GatewayError | None]:
    """Asks the channel for each code; its number makes a repeat the same payment."""
    return await asking.qr_codes(ctx.runtime, [row.id for row in rows])


@loads(Payment, "mini_program")
async def mini_programs(ctx: Context, rows: Sequence[Any]) -> list[MiniProgramPayment | GatewayError | None]:
    found = await asking.mini_program_parameters(ctx.runtime, [row.id for row in rows])
    return [one if one is None or isinstance(one, GatewayError) else MiniProgramPayment(**vars(one)) for one in found]


@mutation
async def create_payment_channel(ctx: Context, input: CreatePaymentChannelInput) -> PaymentChannelPayload:
    """Sets up a merchant's account with a payment channel."""
    values, keys = _parts(given(input, without=("kind",)))
    made = await collecting.create(ctx.now, input.kind, values, keys)
    return PaymentChannelPayload(payment_channel=refer(made.id), errors=[])


@mutation
async def update_payment_channel(ctx: Context, input: UpdatePaymentChannelInput) -> PaymentChannelPayload:
    """Changes a merchant's account with a payment channel; keys that are left out stay as they are."""
    values, keys = _parts(given(input))
    changed = await collecting.update(ctx.now, key_of(input.id, "pch", "id"), values, keys)
    return PaymentChannelPayload(payment_channel=refer(changed.id), errors=[])


def _parts(values: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """What is stored as it is, and the keys, which are not."""
    keys = {KEYS[name]: value for name, value in values.items() if name in KEYS}
    return {COLUMNS.get(name, name): value for name, value in values.items() if name not in KEYS}, keys


@mutation(idempotent=True)
async def create_payment(ctx: Context, input: CreatePaymentInput) -> PaymentPayload:
    """Asks for the price of an order through a channel; ``codeUrl`` or ``miniProgram`` is what the payer pays with
    (S2-27, S0-33)."""
    made = await asking.for_order(ctx.now, key_of(input.order, "ord", "order"), input.channel, input.method)
    return PaymentPayload(payment=refer(made.id), errors=[])


@mutation(idempotent=True)
async def create_prepayment(ctx: Context, input: CreatePrepaymentInput) -> PaymentPayload:
    """Asks for money in advance through a channel; once it has come it is on one's balance (S2-27)."""
    made = await asking.in_advance(ctx.now, input.amount, input.channel)
    return PaymentPayload(payment=refer(made.id), errors=[])


@mutation(idempotent=True)
async def renew_sim_card(ctx: Context, input: RenewSimCardInput) -> RenewSimCardPayload:
    """Orders a data package for a card of one's own and asks for its price; never for a card that an enterprise holds,
    which is looked at again when the money comes (S0-33)."""
    order, payment = await renewals.renew(
        ctx.now,
        key_of(input.card, "sim", "card"),
        key_of(input.package, "pkg", "package"),
        input.channel,
        input.method,
        source=ctx.door.name,
    )
    return RenewSimCardPayload(order=refer(order.id), payment=refer(payment.id), errors=[])


@mutation(idempotent=True)
async def retry_payment_refund(ctx: Context, input: RetryPaymentRefundInput) -> PaymentRefundPayload:
    """Has the channel asked again for a refund that failed."""
    changed = await refunding.retry(ctx.now, key_of(input.id, "prf", "id"))
    return PaymentRefundPayload(refund=refer(changed.id), errors=[])


@mutation(idempotent=True)
async def mark_refund_paid(ctx: Context, input: MarkRefundPaidInput) -> PaymentRefundPayload:
    """Enters that a refund that failed was paid back by bank transfer."""
    changed = await refunding.paid_by_hand(ctx.now, key_of(input.id, "prf", "id"), input.reference)
    return PaymentRefundPayload(refund=refer(changed.id), errors=[])


@mutation
async def reconcile_payments(ctx: Context, input: ReconcilePaymentsInput) -> ReconcilePaymentsPayload:
    """Has a day held against a channel's statement by the worker."""
    await reconciling.start(ctx.now, key_of(input.channel, "pch", "channel"), input.day)
    return ReconcilePaymentsPayload(started=True, errors=[])


@mutation
async def resolve_payment_difference(ctx: Context, input: ResolvePaymentDifferenceInput) -> PaymentDifferencePayload:
    """Says what a difference was."""
    changed = await reconciling.resolve(ctx.now, key_of(input.id, "pdf", "id"), input.remark)
    return PaymentDifferencePayload(difference=refer(changed.id), errors=[])


@subscription(Payment)
async def payment_progress(ctx: Context, payment: strawberry.ID) -> AsyncIterator[int]:
    """A payment when it is asked for, and again when it has come or nobody pays it any more (S2-27)."""
    key = key_of(payment, "pay", "payment")
    last: stored.PaymentStatus | None = None
    while True:
        async with reading(ctx) as session:
            status = await session.scalar(select(stored.Payment.status).where(stored.Payment.id == key))
        if status is None:
            raise not_found("payment")
        if status is not last:
            last = status
            yield key
        if status is not stored.PaymentStatus.PENDING:
            return
        await asyncio.sleep(WATCH_SECONDS)
