"""Orders: made with frozen prices, paid once, shared out along the chain of agents, cancelled, expired, taken back.

Which step leads from which status to which is data. Whoever takes a step holds the order first, then its cards in the
order of their keys, then the accounts in the order of the ledger: no two steps wait for each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import exists, func, insert, select, update

from authz.principal import system
from authz.session import Database
from models.base import table_of
from models.catalog import CatalogStatus, DataPackage
from models.ledger import LedgerAccount, LedgerAccountKind, LedgerEntry, TransferKind
from models.orders import CommissionStatus, Order, OrderKind, OrderLine, OrderStatus, PackageOrder, PayType
from models.payments import Payment, PaymentStatus
from models.sim import SimCard, SimStatus
from models.system import OutboxEvent
from models.tenancy import Tenant, TenantKind
from services import commission, direct_orders, ledger, parameters, pricing, subscriptions, validation
from services.payments import refunding
from services.refusal import Refusal
from services.runtime import Unit
from services.sim.selection import Selection, locked_cards
from services.transitions import StateMachine
from services.webhook.events import ORDER_CHANGED

MAX_LINES = 1_000
PAYMENT_MINUTES = "orders.paymentMinutes"
MAX_MINUTES = 365 * 24 * 60
BATCH = 1_000


TRANSITIONS = StateMachine(
    "ORDER_STATUS",
    ("PAY", (OrderStatus.AWAITING_PAYMENT,), OrderStatus.PAID),
    ("CANCEL", (OrderStatus.AWAITING_PAYMENT,), OrderStatus.CANCELLED),
    ("EXPIRE", (OrderStatus.AWAITING_PAYMENT,), OrderStatus.EXPIRED),
    ("REFUND", (OrderStatus.PAID,), OrderStatus.REFUNDED),
)


async def order_packages(
    work: Unit,
    package_id: int,
    selection: Selection,
    *,
    source: str,
    remark: str | None,
    batch: tuple[int, int] | None = None,
    quoted: pricing.Quote | None = None,
) -> PackageOrder:
    """An order of a package for each of some cards within the caller's reach, at today's price (S2-04, S0-28) or as it
    was quoted in this transaction; part of a batch where its task and the number of the part are given.

    NOT_POSSIBLE_HERE for the platform, which buys nothing of itself; NOT_ACTIVE, WRONG_CARRIER, WRONG_STATUS,
    TOO_MANY, and what ``locked_cards`` refuses.
    """
    buyer = await work.session.scalar(select(Tenant).where(Tenant.id == work.principal.tenant_id))
    if buyer is None or buyer.kind is TenantKind.PLATFORM:
        raise Refusal("NOT_POSSIBLE_HERE")
    package = await on_offer(work, package_id)
    cards = await locked_cards(work, selection)
    if len(cards) > MAX_LINES:
        raise Refusal("TOO_MANY", "cards", limit=MAX_LINES)
    order = PackageOrder(
        tenant_id=buyer.id,
        tenant_path=buyer.path,
        source=source,
        remark=validation.optional(remark, "remark"),
        account_id=work.principal.account_id,
        task_id=batch[0] if batch else None,
        task_part=batch[1] if batch else None,
    )
    await place(work, order, buyer, package, cards, quoted)
    return order


async def on_offer(work: Unit, package_id: int) -> DataPackage:
    """A package that can be ordered now. NOT_FOUND, NOT_ACTIVE."""
    package = await work.found(DataPackage, package_id, field="package")
    if not on_sale(package):
        raise Refusal("NOT_ACTIVE", "package", value=package.code)
    return package


async def place(
    work: Unit,
    order: Order,
    owner: Tenant,
    package: DataPackage,
    cards: Sequence[SimCard],
    quoted: pricing.Quote | None = None,
) -> None:
    """Writes an order of a package for each of some cards, which the caller holds, at today's price, which for an end
    user is the sale price; it waits for its payment. WRONG_CARRIER, WRONG_STATUS."""
    _check_in_service(cards)
    other = sum(card.carrier is not package.carrier for card in cards)
    if other:
        raise Refusal("WRONG_CARRIER", "cards", count=other)
    quoted = quoted or await pricing.quote(work, package, owner, retail=order.end_user_id is not None)
    order.amount, order.currency = quoted.price * len(cards), package.currency
    if order.amount >= pricing.LARGEST:
        raise Refusal("INVALID", "cards")
    order.expires_at = await payable_until(work, owner)
    work.session.add(order)
    await work.session.flush()
    frozen = {
        "tenant_id": owner.id,
        "tenant_path": owner.path,
        "order_id": order.id,
        "data_package_id": package.id,
        "name": package.name,
        "period_type": package.period_type,
        "plan_kind": package.plan_kind,
        "data_volume_mb": package.data_volume_mb,
        "sms_count": package.sms_count,
        "voice_minutes": package.voice_minutes,
        "price": quoted.price,
    }
    await work.session.execute(
        insert(table_of(OrderLine)).values([{**frozen, "sim_card_id": card.id} for card in cards])
    )
    await pricing.freeze(work, order.id, package, quoted)


async def payable_until(work: Unit, owner: Tenant) -> datetime:
    """Until when an order that is made now can be paid, as its owner or those above it have set."""
    minutes = await parameters.read_effective(work.session, PAYMENT_MINUTES, owner.path)
    assert minutes is not None
    return datetime.now(UTC) + timedelta(minutes=min(max(int(minutes.text), 1), MAX_MINUTES))


def on_sale(package: DataPackage) -> bool:
    """Whether a package can be ordered now."""
    now = datetime.now(UTC)
    return (
        package.status is CatalogStatus.ACTIVE
        and (package.valid_from is None or package.valid_from <= now)
        and (package.valid_until is None or now < package.valid_until)
    )


async def pay_from_balance(work: Unit, key: int) -> Order:
    """Pays an order of the caller's own from what it has paid in and its credit (S0-37).

    INSUFFICIENT_FUNDS where that is less, ORDER_EXPIRED after its time, CARDS_NOT_FOUND where cards have left the
    buyer's reach since it was made.
    """
    order = await held_to_pay(work, key)
    if order.kind is OrderKind.SINGLE_ITEM:
        raise Refusal("NOT_POSSIBLE_HERE", "id")
    buyer = await work.owner_of(order)
    lines, cards = await content(work, order)
    elsewhere = len(lines) - len(cards)
    if elsewhere:
        raise Refusal("CARDS_NOT_FOUND", "cards", count=elsewhere)
    async with work.as_the_system("payment of an order"):
        account = await ledger.account_of(work, buyer, LedgerAccountKind.PREPAYMENT, order.currency)
        await settle(work, order, buyer, (lines, cards), account, PayType.BALANCE)
    return order


Content = tuple[Sequence[OrderLine], Sequence[SimCard]]
"""An order's lines, and their cards, held."""


async def settle(
    work: Unit,
    order: Order,
    owner: Tenant,
    content: Content,
    account: LedgerAccount | None,
    pay_type: PayType,
    transaction_no: str | None = None,
) -> None:
    """What follows from a payment out of an account, all of it or none: the proceeds, the shares of the agents, and the
    packages on their cards. What is paid at a counter comes out of no account. The order is held; but for cash, only
    the system may."""
    status = TRANSITIONS.lead(order.status, "PAY")
    lines, cards = content
    if lines:
        _check_in_service(cards)
        await subscriptions.queue(work, cards, lines, owner.time_zone)
    if account is not None:
        await _collect(work, order, owner, account, pay_type)
    order.status, order.pay_type, order.paid_at = status, pay_type, datetime.now(UTC)
    order.third_party_order_no = transaction_no
    await work.session.flush()
    _tell(work, order)
    if lines:
        await direct_orders.begin(work, order)


async def _collect(work: Unit, order: Order, owner: Tenant, account: LedgerAccount, pay_type: PayType) -> None:
    """Moves an order's money to its proceeds, and of these its share to each agent."""
    seller, kind = _proceeds(order, owner, await ledger.platform(work))
    proceeds = await ledger.account_of(work, seller, kind, order.currency)
    shares = await commission.earn(work, order, proceeds) if order.needs_commission else []
    transfer_id: int | None = None
    balance_after: Decimal | None = None
    if order.amount:
        sale = ledger.Movement(
            owner,
            TransferKind.ORDER,
            f"order:{order.id}:paid",
            {account: -order.amount, proceeds: order.amount},
            order.order_no,
        )
        transfer_id = (await ledger.move(work, [sale, *shares]))[0].id
        if pay_type is PayType.BALANCE:
            balance_after = await work.session.scalar(
                select(LedgerEntry.balance_after).where(
                    LedgerEntry.transfer_id == transfer_id, LedgerEntry.ledger_account_id == account.id
                )
            )
    # only now, so that the order is written once
    order.transfer_id, order.balance_after = transfer_id, balance_after
    if order.needs_commission:
        order.commission_status = CommissionStatus.SHARED if shares else CommissionStatus.NONE


def _proceeds(order: Order, owner: Tenant, platform: Tenant) -> tuple[Tenant, LedgerAccountKind]:
    """Where the money of an order goes: what a merchant sells is the merchant's funds, all else the platform's
    sales."""
    if order.kind is OrderKind.SINGLE_ITEM:
        return owner, LedgerAccountKind.FUNDS
    return platform, LedgerAccountKind.SALES


async def cancel(work: Unit, key: int, reason: str | None) -> Order:
    """Gives up an order that has not been paid: the buyer its own, the platform any (S0-13)."""
    root = work.principal.tenant_kind == TenantKind.PLATFORM.name
    order = await held(work, key, own=not root)
    order.status = TRANSITIONS.lead(order.status, "CANCEL")
    order.closed_at = datetime.now(UTC)
    order.close_reason = validation.optional(reason, "reason")
    await work.session.flush()
    _tell(work, order)
    return order


async def refund(work: Unit, key: int, reason: str) -> Order:
    """Gives a paid order back whole: the money to the account or the channel that it came from, the packages off their
    cards, the shares from the agents, who owe what they have drawn already (S2-18). What was paid at a merchant's
    counter is given back there.

    INSUFFICIENT_FUNDS where a merchant has drawn what it was paid; PACKAGES_USED where the time or the volume of one
    is over, RECHARGED where an upstream has delivered something, or may have.
    """
    order = await held(work, key, own=False)
    order.status = TRANSITIONS.lead(order.status, "REFUND")
    order.closed_at, order.close_reason = datetime.now(UTC), validation.text(reason, "reason")
    owner = await work.owner_of(order)
    lines, cards = await content(work, order)
    if lines:
        await direct_orders.check_untouched(work, order)
        await subscriptions.withdraw(work, cards, [line.id for line in lines])
    async with work.as_the_system("refund of an order"):
        if order.amount and order.pay_type is not PayType.CASH:
            await _give_back(work, order, owner)
    _tell(work, order)
    return order


async def _give_back(work: Unit, order: Order, owner: Tenant) -> None:
    """Moves an order's money from its proceeds back to where it came from, and the agents' shares with it."""
    platform = await ledger.platform(work)
    seller, kind = _proceeds(order, owner, platform)
    from_balance = order.pay_type is PayType.BALANCE
    payee = owner if from_balance else platform
    target = LedgerAccountKind.PREPAYMENT if from_balance else LedgerAccountKind.REFUNDS_DUE
    accounts = await ledger.accounts_of(work, [(seller, kind), (payee, target)], order.currency)
    proceeds = accounts[seller.id, kind]
    back = ledger.Movement(
        owner,
        TransferKind.REFUND,
        f"order:{order.id}:refunded",
        {proceeds: -order.amount, accounts[payee.id, target]: order.amount},
        order.order_no,
    )
    shares = await commission.take_back(work, order, proceeds) if order.needs_commission else []
    await ledger.move(work, [back, *shares])
    if not from_balance:
        await refunding.ask_for_order(work, order)


def _tell(work: Unit, order: Order) -> None:
    """Tells the partners' systems of a company how its own orders stand."""
    if order.kind is OrderKind.PACKAGE:
        work.later(ORDER_CHANGED, _told(order.tenant_id, order.id, order.status), of=order)


def _told(tenant: int, order: int, status: OrderStatus) -> dict[str, Any]:
    return {"tenant": tenant, "order": order, "status": status.name}


async def expire(database: Database, now: datetime) -> int:
    """Closes the orders whose time to pay is over; how many. A repeat finds none; one that is being paid is left, and
    so is one with a payment that the channel has not closed."""
    order, payment, done = table_of(Order), table_of(Payment), 0
    asked_for = exists().where(payment.c.order_id == order.c.id, payment.c.status == PaymentStatus.PENDING)
    while True:
        async with database.transaction(system("expire orders")) as session:
            due = (
                select(order.c.id)
                .where(order.c.status == OrderStatus.AWAITING_PAYMENT, order.c.expires_at <= now, ~asked_for)
                .order_by(order.c.expires_at)
                .limit(BATCH)
                .with_for_update(skip_locked=True)
            )
            closed = await session.execute(
                update(order)
                .where(order.c.id.in_(due))
                .values(status=TRANSITIONS["EXPIRE"].target, closed_at=now, updated_at=func.now())
                .returning(order.c.id, order.c.tenant_id, order.c.tenant_path, order.c.kind)
            )
            rows = closed.all()
            session.add_all(
                OutboxEvent(
                    tenant_id=tenant,
                    tenant_path=path,
                    topic=ORDER_CHANGED,
                    payload=_told(tenant, key, TRANSITIONS["EXPIRE"].target),
                )
                for key, tenant, path, kind in rows
                if kind is OrderKind.PACKAGE
            )
            here = len(rows)
        done += here
        if here < BATCH:
            return done


async def held_to_pay(work: Unit, key: int, field: str = "id") -> Order:
    """An order of the caller's own that can still be paid, held. ORDER_STATUS, ORDER_EXPIRED."""
    order = await held(work, key, own=True, field=field)
    TRANSITIONS.lead(order.status, "PAY", field)
    if order.expires_at <= datetime.now(UTC):
        raise Refusal("ORDER_EXPIRED", field)
    return order


async def held(work: Unit, key: int, *, own: bool, field: str = "id") -> Order:
    """An order within reach, of the caller's own company where it has to be, held until the end of the transaction."""
    if not own:
        return await work.held(Order, key, field=field)
    person = work.principal.end_user_id
    if person is not None:
        return await work.held(Order, key, Order.end_user_id == person, field=field)
    company = work.principal.tenant_id
    return await work.held(Order, key, Order.tenant_id == company, Order.end_user_id.is_(None), field=field)


async def content(work: Unit, order: Order) -> Content:
    """What is on an order, as far as its cards are within reach."""
    lines = list(await work.session.scalars(select(OrderLine).where(OrderLine.order_id == order.id)))
    if not lines:
        return [], []
    cards = await work.session.scalars(
        select(SimCard)
        .where(SimCard.id.in_([line.sim_card_id for line in lines]))
        .order_by(SimCard.id)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    return lines, list(cards)


def _check_in_service(cards: Sequence[SimCard]) -> None:
    ended = sum(card.status is SimStatus.TERMINATED for card in cards)
    if ended:
        raise Refusal("WRONG_STATUS", "cards", count=ended, status=SimStatus.TERMINATED.name, action="ORDER")
