"""Asking for money through a channel: for an order, or to be had in advance.

A payment is written before the channel hears of it, so that a notice finds it whenever it comes. What the payer needs,
a code or signed parameters, is asked of the channel when it is read, as often as it is: its number makes it the same.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TypeVar

from sqlalchemy import select

from authz.principal import system
from gateways.http import GatewayError
from gateways.payment import Channel, Charge, MiniProgramParameters
from models.identity import EndUser
from models.orders import Order, OrderStatus
from models.payments import (
    Payment,
    PaymentChannel,
    PaymentChannelKind,
    PaymentMethod,
    PaymentPurpose,
    PaymentStatus,
)
from models.tenancy import Tenant, TenantKind
from planner.ids import encode_id
from services import orders, validation
from services.payments.collecting import collecting, speaking
from services.refusal import Refusal
from services.runtime import Runtime, Unit

FIRST_CHECK = timedelta(minutes=1)
PREPAYMENT_TIME = timedelta(minutes=30)

T = TypeVar("T")


async def for_order(work: Unit, key: int, kind: PaymentChannelKind, method: PaymentMethod) -> Payment:
    """A payment through a channel for an order of the caller's own, as long as that may be paid.

    ORDER_STATUS, ORDER_EXPIRED, NO_CHANNEL, NO_WECHAT_LOGIN; NOTHING_TO_PAY for an order that costs nothing.
    """
    order = await orders.held_to_pay(work, key, "order")
    return await open_payment(work, order, kind, method)


async def open_payment(work: Unit, order: Order, kind: PaymentChannelKind, method: PaymentMethod) -> Payment:
    """The same, for an order that the caller holds."""
    if not order.amount:
        raise Refusal("NOTHING_TO_PAY", "order")
    validation.price(order.amount, "order")
    payer = await _payer(work, kind, method)
    async with work.as_the_system("payment through a channel"):
        channel = await collecting(work, kind, app_id=payer.wechat_app_id if payer else None)
        payment = _payment(work, channel, method, order.amount, order.currency, order.expires_at)
        payment.purpose, payment.order_id = PaymentPurpose.ORDER, order.id
        payment.tenant_id, payment.tenant_path, payment.end_user_id = (
            order.tenant_id,
            order.tenant_path,
            order.end_user_id,
        )
        payment.payer = payer.wechat_openid if payer else None
        payment.description = order.order_no
        work.session.add(payment)
        await work.session.flush()
    return payment


async def in_advance(work: Unit, amount: Decimal, kind: PaymentChannelKind) -> Payment:
    """Money that the calling customer pays in by scanning a code, to be spent later (S2-27)."""
    customer = await work.session.scalar(select(Tenant).where(Tenant.id == work.principal.tenant_id))
    if customer is None or customer.kind is TenantKind.PLATFORM:
        raise Refusal("NOT_POSSIBLE_HERE")
    amount = validation.price(amount, "amount", positive=True)
    async with work.as_the_system("payment through a channel"):
        channel = await collecting(work, kind)
        until = datetime.now(UTC) + PREPAYMENT_TIME
        payment = _payment(work, channel, PaymentMethod.QR_CODE, amount, customer.currency, until)
        payment.purpose = PaymentPurpose.PREPAYMENT
        payment.tenant_id, payment.tenant_path = customer.id, customer.path
        payment.description = payment.payment_no
        work.session.add(payment)
        await work.session.flush()
    return payment


async def qr_codes(runtime: Runtime, keys: Sequence[int]) -> list[str | GatewayError | None]:
    """The code of each payment that waits for one; None for the others (S2-27)."""

    async def ask(channel: Channel, charge: Charge, payment: Payment) -> str | None:
        return await channel.qr_code(charge) if payment.method is PaymentMethod.QR_CODE else None

    return await _asked(runtime, keys, ask)


async def mini_program_parameters(
    runtime: Runtime, keys: Sequence[int]
) -> list[MiniProgramParameters | GatewayError | None]:
    """What a mini-program pays each payment with that waits for it; None for the others (S0-33)."""

    async def ask(channel: Channel, charge: Charge, payment: Payment) -> MiniProgramParameters | None:
        return None if payment.payer is None else await channel.mini_program(charge, payment.payer)

    return await _asked(runtime, keys, ask)


async def _asked(
    runtime: Runtime, keys: Sequence[int], ask: Callable[[Channel, Charge, Payment], Awaitable[T | None]]
) -> list[T | GatewayError | None]:
    async with runtime.database.transaction(system("payment through a channel")) as session:
        rows = await session.execute(
            select(Payment, PaymentChannel)
            .join(PaymentChannel, PaymentChannel.id == Payment.channel_id)
            .outerjoin(Order, Order.id == Payment.order_id)
            .where(
                Payment.id.in_(keys),
                Order.id.is_(None) | (Order.status == OrderStatus.AWAITING_PAYMENT),
                Payment.status == PaymentStatus.PENDING,
                Payment.expires_at > datetime.now(UTC),
            )
        )
        waiting = {payment.id: (payment, channel) for payment, channel in rows}

    async def one(key: int) -> T | GatewayError | None:
        if key not in waiting:
            return None
        payment, channel = waiting[key]
        charge = Charge(
            payment.payment_no,
            payment.description,
            payment.amount,
            payment.currency,
            payment.expires_at,
            f"{runtime.public_url}/payments/{encode_id('pch', channel.id)}/notice",
        )
        try:
            return await ask(speaking(runtime.keys, channel), charge, payment)
        except GatewayError as error:
            return error

    return list(await asyncio.gather(*(one(key) for key in keys)))


async def _payer(work: Unit, kind: PaymentChannelKind, method: PaymentMethod) -> EndUser | None:
    """Who pays inside WeChat; None where anybody may who reads the code."""
    if method is PaymentMethod.QR_CODE:
        return None
    if kind is not PaymentChannelKind.WECHAT_PAY:
        raise Refusal("NOT_POSSIBLE_HERE", "method")
    person = await work.session.scalar(select(EndUser).where(EndUser.id == work.principal.end_user_id))
    if person is None or person.wechat_openid is None:
        raise Refusal("NO_WECHAT_LOGIN", "method")
    return person


def _payment(
    work: Unit, channel: PaymentChannel, method: PaymentMethod, amount: Decimal, currency: str, until: datetime
) -> Payment:
    now = datetime.now(UTC)
    return Payment(
        channel_id=channel.id,
        channel_kind=channel.kind,
        method=method,
        payment_no=f"{now:%Y%m%d}{secrets.token_hex(10)}",
        amount=amount,
        currency=currency,
        expires_at=until,
        next_check_at=now + FIRST_CHECK,
        account_id=work.principal.account_id,
    )
