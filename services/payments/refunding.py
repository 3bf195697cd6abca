"""Money on its way back to who paid it, through the channel by which it came.

A refund is asked for with the change that causes it. The worker tells the channel; where an answer does not come, it
asks what became of the refund before it asks for it again, under the same number.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog
from sqlalchemy import select

from authz.principal import system
from authz.session import Database
from gateways.http import GatewayError
from gateways.payment import ChannelRefund, PaymentState, RefusedError, Repayment
from models.ledger import LedgerAccountKind, TransferKind
from models.orders import Order
from models.payments import (
    Payment,
    PaymentChannel,
    PaymentRefund,
    PaymentStatus,
    RefundCause,
    RefundStatus,
)
from services import ledger, validation
from services.keys import Keys
from services.payments.collecting import speaking
from services.runtime import Unit
from services.transitions import StateMachine

TRANSITIONS = StateMachine(
    "REFUND_STATUS",
    ("SUCCEED", (RefundStatus.PENDING,), RefundStatus.SUCCEEDED),
    ("FAIL", (RefundStatus.PENDING,), RefundStatus.FAILED),
    ("RETRY", (RefundStatus.FAILED,), RefundStatus.PENDING),
    ("PAY_BY_HAND", (RefundStatus.FAILED,), RefundStatus.SUCCEEDED),
)
BATCH = 5
REFUSALS = 10
"""So often a channel may say no before somebody has to look at it."""
FIRST_PAUSE = timedelta(seconds=15)
LONGEST_PAUSE = timedelta(hours=1)
CLAIM = timedelta(minutes=2)
"""So long a worker has for the refunds that it took up."""


log = structlog.get_logger()


@dataclass(frozen=True)
class _Due:
    key: int
    attempts: int
    channel: PaymentChannel
    repayment: Repayment


async def ask(work: Unit, payment: Payment, cause: RefundCause) -> PaymentRefund:
    """The payment goes back, whole; the money for it stands on the account of what is due."""
    refund = PaymentRefund(
        tenant_id=payment.tenant_id,
        tenant_path=payment.tenant_path,
        end_user_id=payment.end_user_id,
        payment_id=payment.id,
        refund_no=f"R{datetime.now(UTC):%Y%m%d}{secrets.token_hex(10)}",
        amount=payment.amount,
        currency=payment.currency,
        cause=cause,
    )
    work.session.add(refund)
    await work.session.flush()
    work.later("payments.refund", {}, of=refund)
    return refund


async def ask_for_order(work: Unit, order: Order) -> None:
    """The payment that an order was paid with goes back."""
    paid = select(Payment).where(
        Payment.order_id == order.id,
        Payment.status == PaymentStatus.SUCCEEDED,
        Payment.transfer_id == order.transfer_id,
    )
    await ask(work, (await work.session.scalars(paid)).one(), RefundCause.ORDER_REFUNDED)


async def retry(work: Unit, key: int) -> PaymentRefund:
    """A refund that failed is tried again."""
    refund = await work.held(PaymentRefund, key)
    refund.status = TRANSITIONS.lead(refund.status, "RETRY")
    # the channel has heard of it: it is asked first what became of it
    refund.attempts, refund.next_attempt_at = 1, datetime.now(UTC)
    await work.session.flush()
    work.later("payments.refund", {}, of=refund)
    return refund


async def paid_by_hand(work: Unit, key: int, reference: str) -> PaymentRefund:
    """Finance has paid back by bank transfer what the channel would not."""
    refund = await work.held(PaymentRefund, key)
    refund.reference = validation.text(reference, "reference")
    refund.settled_by_id = work.principal.account_id
    await _settle(work, refund, "PAY_BY_HAND")
    return refund


async def carry_out(database: Database, keys: Keys, now: datetime) -> int:
    """Takes the refunds that are due to their channels; how many. A repeat, or another worker, does none twice."""
    done = 0
    while due := await _claim(database, now):
        for one in due:
            try:
                await _tell(database, keys, one)
            except Exception:
                # one refund must not keep the others waiting
                log.exception("a refund could not be carried out", refund=one.key)
        done += len(due)
    return done


async def _claim(database: Database, now: datetime) -> list[_Due]:
    async with database.transaction(system("refunds")) as session:
        rows = await session.execute(
            select(PaymentRefund, Payment, PaymentChannel)
            .join(Payment, Payment.id == PaymentRefund.payment_id)
            .join(PaymentChannel, PaymentChannel.id == Payment.channel_id)
            .where(PaymentRefund.status == RefundStatus.PENDING, PaymentRefund.next_attempt_at <= now)
            .order_by(PaymentRefund.next_attempt_at)
            .limit(BATCH)
            .with_for_update(skip_locked=True, of=PaymentRefund)
        )
        found = []
        for refund, payment, channel in rows:
            repayment = Repayment(
                payment.payment_no,
                refund.refund_no,
                refund.amount,
                payment.amount,
                refund.currency,
                refund.cause.name,
            )
            found.append(_Due(refund.id, refund.attempts, channel, repayment))
            refund.attempts += 1
            refund.next_attempt_at = now + max(CLAIM, _pause(refund.attempts))
        return found


async def _tell(database: Database, keys: Keys, due: _Due) -> None:
    found = await _asked(keys, due)
    principal = system("refunds")
    async with database.transaction(principal) as session:
        work = Unit(principal, session)
        refund = await work.held(PaymentRefund, due.key)
        if refund.status is not RefundStatus.PENDING:
            return
        refund.last_answer = found.word[:200]
        refund.channel_refund_no = found.channel_refund_no or refund.channel_refund_no
        if found.state is PaymentState.SUCCEEDED:
            await _settle(work, refund, "SUCCEED", found.at)
        elif found.state is PaymentState.CLOSED:
            refund.status = TRANSITIONS.lead(refund.status, "FAIL")


async def _asked(keys: Keys, due: _Due) -> ChannelRefund:
    """What the channel says of a refund, told of it again only where it has none of its number. A refusal to tell means
    nothing; a refusal to refund is final once it has been said often enough."""
    try:
        channel = speaking(keys, due.channel)
        # what was asked for before and not answered is asked after first
        if due.attempts:
            found = await channel.refunded(due.repayment)
            if found.state is not PaymentState.UNKNOWN:
                return found
    except GatewayError as error:
        return ChannelRefund(due.repayment.refund_no, PaymentState.PENDING, word=str(error))
    try:
        return await channel.refund(due.repayment)
    except RefusedError as error:
        final = due.attempts + 1 >= REFUSALS
        state = PaymentState.CLOSED if final else PaymentState.PENDING
        return ChannelRefund(due.repayment.refund_no, state, word=error.word)
    except GatewayError as error:
        return ChannelRefund(due.repayment.refund_no, PaymentState.PENDING, word=error.code)


async def _settle(work: Unit, refund: PaymentRefund, action: str, at: datetime | None = None) -> None:
    """The money has left."""
    status = TRANSITIONS.lead(refund.status, action)
    root = await ledger.platform(work)
    receipts, due = LedgerAccountKind.RECEIPTS, LedgerAccountKind.REFUNDS_DUE
    accounts = await ledger.accounts_of(work, [(root, receipts), (root, due)], refund.currency)
    amounts = {accounts[root.id, due]: -refund.amount, accounts[root.id, receipts]: refund.amount}
    moved = await ledger.transfer(
        work, root, TransferKind.REFUND, f"payment-refund:{refund.id}", amounts, refund.refund_no
    )
    refund.transfer_id, refund.status, refund.settled_at = moved.id, status, at or datetime.now(UTC)
    await work.session.flush()


def _pause(attempts: int) -> timedelta:
    return min(FIRST_PAUSE * int(2 ** min(attempts, 10)), LONGEST_PAUSE)
