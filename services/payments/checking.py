"""Payments that nobody told of: the channel is asked, and what is not to be paid any more is closed there first, so
that an order ends only when no money can come for it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from sqlalchemy import select

from authz.principal import system
from authz.session import Database
from gateways.http import GatewayError
from gateways.payment import ChannelPayment, PaymentState
from models.orders import Order, OrderStatus
from models.payments import Payment, PaymentChannel, PaymentStatus
from services.keys import Keys
from services.payments.booking import book
from services.payments.collecting import speaking

BATCH = 10
FIRST_PAUSE = timedelta(minutes=1)
LONGEST_PAUSE = timedelta(minutes=10)


log = structlog.get_logger()


@dataclass(frozen=True)
class _Due:
    payment_no: str
    over: bool
    """Whether nobody is to pay it any more."""
    channel: PaymentChannel


async def check(database: Database, keys: Keys, now: datetime) -> int:
    """Asks after the payments that are due to be asked after; how many. Two at once share them."""
    done = 0
    while due := await _claim(database, now):
        for one in due:
            try:
                await look(database, keys, one.channel, one.payment_no, over=one.over)
            except GatewayError:
                pass  # a channel that does not answer is asked again later
            except Exception:
                # one payment must not keep the others waiting
                log.exception("a payment could not be asked after", payment=one.payment_no)
        done += len(due)
    return done


async def look(database: Database, keys: Keys, channel: PaymentChannel, payment_no: str, *, over: bool) -> None:
    """Asks the channel what became of a payment, books it, and closes it where it is over."""
    speaks = speaking(keys, channel)
    told = await speaks.payment(payment_no)
    if over and told.state in (PaymentState.PENDING, PaymentState.UNKNOWN):
        await speaks.close(payment_no)
        told = ChannelPayment(payment_no, PaymentState.CLOSED)
    await book(database, channel.id, told)


async def _claim(database: Database, now: datetime) -> list[_Due]:
    async with database.transaction(system("check payments")) as session:
        rows = await session.execute(
            select(Payment, PaymentChannel, Order.status)
            .join(PaymentChannel, PaymentChannel.id == Payment.channel_id)
            .outerjoin(Order, Order.id == Payment.order_id)
            .where(Payment.status == PaymentStatus.PENDING, Payment.next_check_at <= now)
            .order_by(Payment.next_check_at)
            .limit(BATCH)
            .with_for_update(skip_locked=True, of=Payment)
        )
        found = []
        for payment, channel, status in rows:
            over = payment.expires_at <= now or status not in (None, OrderStatus.AWAITING_PAYMENT)
            found.append(_Due(payment.payment_no, over, channel))
            payment.checks += 1
            next_at = now + min(FIRST_PAUSE * 2 ** min(payment.checks, 10), LONGEST_PAUSE)
            # once its time is over it is asked after at once
            payment.next_check_at = min(next_at, payment.expires_at) if now < payment.expires_at else next_at
        return found
