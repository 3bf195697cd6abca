"""What came in is booked: once, whatever order and however often the channel tells of it.

Money is taken for what it is. Where the order that it was meant for can no longer be carried out, it is on its way back
in the same transaction. A notice of another amount books nothing; it is kept for somebody to look into.
"""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from authz.principal import system
from authz.session import Database
from gateways.payment import ChannelPayment, PaymentState
from models.base import table_of
from models.ledger import LedgerAccountKind, LedgerTransfer, TransferKind
from models.orders import Order, OrderStatus, PayType, RenewalOrder
from models.payments import (
    DifferenceKind,
    Payment,
    PaymentChannelKind,
    PaymentDifference,
    PaymentPurpose,
    PaymentStatus,
    RefundCause,
)
from models.sim import SimCard
from models.tenancy import Tenant
from services import ledger, orders
from services.payments import refunding
from services.refusal import Refusal
from services.renewals import bound_to_enterprise
from services.runtime import Unit

CHINA = ZoneInfo("Asia/Shanghai")
PAY_TYPES = {
    PaymentChannelKind.WECHAT_PAY: PayType.WECHAT_PAY,
    PaymentChannelKind.ALIPAY: PayType.ALIPAY,
}


async def book(database: Database, channel_id: int, told: ChannelPayment) -> bool:
    """Takes note of what a channel says of a payment. Whether there is such a payment; a repeat changes nothing."""
    principal = system("payment through a channel")
    async with database.transaction(principal) as session:
        work = Unit(principal, session)
        found = await session.scalar(
            select(Payment).where(Payment.channel_id == channel_id, Payment.payment_no == told.payment_no)
        )
        if found is None:
            return False
        if told.state not in (PaymentState.SUCCEEDED, PaymentState.CLOSED, PaymentState.REFUNDED):
            return True
        # the order first, as everybody does
        order = None if found.order_id is None else await orders.held(work, found.order_id, own=False)
        payment = await _held(work, found.id)
        if told.state is PaymentState.CLOSED:
            close(payment)
        elif told.state is PaymentState.REFUNDED:
            if payment.status is not PaymentStatus.SUCCEEDED:
                # it came and went back without us
                await differ(work, payment, told, DifferenceKind.MISSING_HERE)
                close(payment)
        elif payment.status is not PaymentStatus.SUCCEEDED:
            await _succeed(work, payment, order, told)
        elif told.transaction_no != payment.transaction_no:
            await differ(work, payment, told, DifferenceKind.MISSING_HERE)
        await session.flush()
        return True


def close(payment: Payment) -> None:
    """Nobody pays this any more."""
    if payment.status is PaymentStatus.PENDING:
        payment.status, payment.closed_at = PaymentStatus.CLOSED, datetime.now(UTC)


async def differ(work: Unit, payment: Payment, told: ChannelPayment, kind: DifferenceKind) -> None:
    """Keeps for somebody to look into that the channel and the books say different things of a payment."""
    root = await ledger.platform(work)
    await work.session.execute(
        insert(table_of(PaymentDifference))
        .values(
            tenant_id=root.id,
            tenant_path=root.path,
            channel_id=payment.channel_id,
            payment_id=payment.id,
            kind=kind,
            day=(told.paid_at or datetime.now(UTC)).astimezone(CHINA).date(),
            payment_no=payment.payment_no,
            transaction_no=told.transaction_no,
            amount_here=payment.amount,
            amount_at_channel=told.amount,
        )
        .on_conflict_do_nothing()
    )


async def _succeed(work: Unit, payment: Payment, order: Order | None, told: ChannelPayment) -> None:
    if told.transaction_no is None or (told.amount, told.currency) != (payment.amount, payment.currency):
        # what was asked for does not come any more; the truth still counts if it does
        await differ(work, payment, told, DifferenceKind.AMOUNT)
        close(payment)
        return
    if order is None:
        transfer = await _pay_in(work, payment)
    else:
        transfer = await _pay(work, payment, order, told.transaction_no)
    payment.transfer_id = transfer
    payment.status, payment.closed_at = PaymentStatus.SUCCEEDED, None
    payment.transaction_no, payment.paid_at = told.transaction_no, told.paid_at or datetime.now(UTC)


async def _pay_in(work: Unit, payment: Payment) -> int:
    """What was paid in advance is the customer's to spend (S2-27)."""
    assert payment.purpose is PaymentPurpose.PREPAYMENT
    return (await _received(work, payment, await work.owner_of(payment), LedgerAccountKind.PREPAYMENT)).id


async def _pay(work: Unit, payment: Payment, order: Order, transaction_no: str) -> int:
    """The order is paid, or the money goes back (S0-33)."""
    cause: RefundCause | None = await _why_not(work, order)
    if cause is None:
        try:
            async with work.session.begin_nested():
                buyer = await work.owner_of(payment)
                receipts = await ledger.account_of(
                    work, await ledger.platform(work), LedgerAccountKind.RECEIPTS, order.currency
                )
                content, pay_type = await orders.content(work, order), PAY_TYPES[payment.channel_kind]
                await orders.settle(work, order, buyer, content, receipts, pay_type, transaction_no)
                assert order.transfer_id is not None
                return order.transfer_id
        except Refusal:
            cause = RefundCause.CARDS_CHANGED
            await work.session.refresh(order)
    moved = await _received(work, payment, await ledger.platform(work), LedgerAccountKind.REFUNDS_DUE)
    await refunding.ask(work, payment, cause)
    return moved.id


async def _why_not(work: Unit, order: Order) -> RefundCause | None:
    """Why an order can no longer be carried out."""
    if order.status in (OrderStatus.PAID, OrderStatus.REFUNDED):
        return RefundCause.PAID_TWICE
    if order.status is not OrderStatus.AWAITING_PAYMENT:
        return RefundCause.ORDER_CLOSED
    _, cards = await orders.content(work, order)
    if isinstance(order, RenewalOrder):
        (card,) = cards
        if await bound_to_enterprise(work, card):
            return RefundCause.ENTERPRISE_CARD
        return None if card.end_user_id == order.end_user_id else RefundCause.CARDS_CHANGED
    return None if all(_within(card, order) for card in cards) else RefundCause.CARDS_CHANGED


def _within(card: SimCard, order: Order) -> bool:
    return card.tenant_path.startswith(order.tenant_path)


async def _received(work: Unit, payment: Payment, owner: Tenant, kind: LedgerAccountKind) -> LedgerTransfer:
    """Money from outside, to an account of the owner."""
    root = await ledger.platform(work)
    receipts = LedgerAccountKind.RECEIPTS
    accounts = await ledger.accounts_of(work, [(root, receipts), (owner, kind)], payment.currency)
    amounts = {accounts[root.id, receipts]: -payment.amount, accounts[owner.id, kind]: payment.amount}
    return await ledger.transfer(work, owner, TransferKind.TOP_UP, f"payment:{payment.id}", amounts, payment.payment_no)


async def _held(work: Unit, key: int) -> Payment:
    query = select(Payment).where(Payment.id == key).with_for_update().execution_options(populate_existing=True)
    return (await work.session.scalars(query)).one()
