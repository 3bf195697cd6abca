"""Direct recharge: what an order is to have through an upstream's channel is told to the upstream, once (S2-01, S2-19).

Before the upstream is told, it stands in the books that its outcome is unknown. Whoever finds that there, after a
timeout or a death, asks the upstream what became of it; only what the upstream has never had, or has refused, is told
again.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog
from sqlalchemy import BigInteger, bindparam, select, text

from authz.principal import system
from authz.session import Database
from gateways.http import GatewayError
from gateways.upstream import Account, Recharge, RechargeOutcome, RechargeState, upstreams
from models.catalog import Supplier
from models.direct_orders import DirectOrder
from models.orders import Order, OrderStatus
from models.pricing import BillingProduct
from models.telling import OPEN, RequestStatus
from services import validation
from services.catalog import api_key_binding
from services.keys import Keys
from services.refusal import Refusal
from services.runtime import Unit
from services.transitions import StateMachine

TRANSITIONS = StateMachine(
    "DIRECT_ORDER_STATUS",
    ("RETRY", (RequestStatus.FAILED,), RequestStatus.PENDING),
    ("DELIVERED", (RequestStatus.UNKNOWN, RequestStatus.ACCEPTED), RequestStatus.SUCCEEDED),
    ("NOT_DELIVERED", (RequestStatus.UNKNOWN, RequestStatus.ACCEPTED), RequestStatus.FAILED),
)
BATCH = 5
CLAIM = timedelta(minutes=2)
FIRST_PAUSE = timedelta(seconds=15)
LONGEST_PAUSE = timedelta(minutes=30)
SURE = timedelta(minutes=5)
"""What an upstream has not had so long after it was told, it never had."""

BEGIN = text("""
INSERT INTO direct_order (tenant_id, tenant_path, order_id, order_line_id, sim_card_id, billing_product_id, family,
                          service, article, target, card_no, quantity, status, request_no, next_attempt_at)
SELECT l.tenant_id, l.tenant_path, l.order_id, l.id, c.id, b.id, upper(s.interface_name), b.service, b.upstream_article,
  coalesce(c.msisdn, c.iccid), coalesce(c.msisdn, c.display_iccid), k.quantity, 'PENDING',
  'D' || l.id || '-' || b.id || '-1', now()
FROM order_line l
JOIN order_component k ON k.order_id = l.order_id
JOIN billing_product b ON b.id = k.billing_product_id AND b.kind = 'DIRECT_CHANNEL'
JOIN supplier s ON s.id = b.supplier_id
JOIN sim_card c ON c.id = l.sim_card_id
WHERE l.order_id = :order
""").bindparams(bindparam("order", type_=BigInteger))
"""A recharge for each card of an order and each product of its package that an upstream delivers."""

INTERFACES = text("""
SELECT DISTINCT s.interface_name FROM order_component k
JOIN billing_product b ON b.id = k.billing_product_id AND b.kind = 'DIRECT_CHANNEL'
JOIN supplier s ON s.id = b.supplier_id WHERE k.order_id = :order
""").bindparams(bindparam("order", type_=BigInteger))


log = structlog.get_logger()


@dataclass(frozen=True)
class _Due:
    key: int
    status: RequestStatus
    attempts: int
    family: str
    account: Account
    submitted_at: datetime | None
    recharge: Recharge


async def begin(work: Unit, order: Order) -> None:
    """What a paid order is to have through upstreams, to be told to them by the worker. Only the system may.

    CHANNEL_CLOSED where no adapter speaks to one of them any more.
    """
    interfaces = (await work.session.scalars(INTERFACES, {"order": order.id})).all()
    if any(upstreams.family(one) is None for one in interfaces):
        raise Refusal("CHANNEL_CLOSED", "package")
    if interfaces:
        await work.session.execute(BEGIN, {"order": order.id})
        work.later("direct_orders.submit", {}, of=order)


async def check_untouched(work: Unit, order: Order) -> None:
    """RECHARGED where an upstream has delivered something of an order, or may have: it cannot be given back."""
    delivered = await work.session.scalar(
        select(DirectOrder.id)
        .where(DirectOrder.order_id == order.id, DirectOrder.status != RequestStatus.FAILED)
        .limit(1)
    )
    if delivered is not None:
        raise Refusal("RECHARGED", "id")


async def retry(work: Unit, key: int) -> DirectOrder:
    """A recharge that the upstream has refused is told anew, under a number of its own (S2-19).

    DIRECT_ORDER_STATUS for what has succeeded, is under way, or whose outcome is not known; ORDER_STATUS for an order
    that was given back.
    """
    order_id = await work.session.scalar(select(DirectOrder.order_id).where(DirectOrder.id == key))
    # the order first, as whoever gives it back does
    order = await work.held(Order, order_id)
    found = await work.held(DirectOrder, key)
    if order.status is not OrderStatus.PAID:
        raise Refusal("ORDER_STATUS", "id", status=order.status.name, action="RETRY")
    found.status = TRANSITIONS.lead(found.status, "RETRY")
    found.finished_at, found.next_attempt_at = None, datetime.now(UTC)
    found.request_no = f"D{found.order_line_id}-{found.billing_product_id}-{found.attempts + 1}"
    await work.session.flush()
    work.later("direct_orders.submit", {}, of=found)
    return found


async def resolve(work: Unit, key: int, *, delivered: bool, reason: str) -> DirectOrder:
    """What became of a recharge that the upstream's interface does not tell of, as somebody has learnt otherwise
    (S2-19).

    DIRECT_ORDER_STATUS for what is decided or was not told yet, UNDER_WAY for what was told only just now.
    """
    found = await work.held(DirectOrder, key)
    why = validation.text(reason, "reason", limit=500)
    now = datetime.now(UTC)
    status = TRANSITIONS.lead(found.status, "DELIVERED" if delivered else "NOT_DELIVERED")
    if found.submitted_at is None or now - found.submitted_at < SURE:
        raise Refusal("UNDER_WAY", "id")
    found.last_response = why
    _finish(found, status, now)
    await work.session.flush()
    return found


async def carry_out(database: Database, keys: Keys, now: datetime) -> int:
    """Tells upstreams of what is due, and asks after what they have been told; how many. Two at once share them."""
    done, ahead = 0, now - datetime.now(UTC)
    while due := await _claim(database, keys, datetime.now(UTC) + ahead):
        for one in due:
            try:
                await _settle(database, one, await _ask(one), datetime.now(UTC) + ahead)
            except Exception:
                # one recharge must not keep the others waiting
                log.exception("a recharge could not be carried out", direct_order=one.key)
        done += len(due)
    return done


async def _claim(database: Database, keys: Keys, now: datetime) -> list[_Due]:
    async with database.transaction(system("direct orders")) as session:
        rows = await session.execute(
            select(DirectOrder, Supplier)
            .join(BillingProduct, BillingProduct.id == DirectOrder.billing_product_id)
            .join(Supplier, Supplier.id == BillingProduct.supplier_id)
            .where(
                DirectOrder.status.in_(OPEN),
                DirectOrder.next_attempt_at <= now,
            )
            .order_by(DirectOrder.next_attempt_at, DirectOrder.id)
            .limit(BATCH)
            .with_for_update(skip_locked=True, of=DirectOrder)
        )
        found = []
        for order, supplier in rows:
            order.next_attempt_at = now + CLAIM
            account = _account(keys, supplier)
            before = order.status
            if account is None or (order.upstream_account is not None and order.upstream_account != account.number):
                # another account at the upstream knows nothing of what this one was told
                order.last_response = "ACCOUNT_CHANGED" if account is not None else "UPSTREAM_REFUSED"
                if before is RequestStatus.PENDING and order.upstream_account is None:
                    order.attempts += 1
                    _finish(order, RequestStatus.FAILED, now)
                continue
            if before is RequestStatus.PENDING:
                order.status, order.attempts, order.submitted_at = RequestStatus.UNKNOWN, order.attempts + 1, now
                order.upstream_account = account.number
            recharge = Recharge(order.request_no, order.service.name, order.article, order.target, order.quantity)
            found.append(
                _Due(order.id, before, order.attempts, order.family.name, account, order.submitted_at, recharge)
            )
        return found


def _account(keys: Keys, supplier: Supplier) -> Account | None:
    """Our account at an upstream; None where its key is none."""
    try:
        stored = supplier.api_key_encrypted
        return Account.of(None if stored is None else keys.decrypt(stored, api_key_binding(supplier.id)))
    except (GatewayError, ValueError):
        return None


async def _ask(due: _Due) -> RechargeOutcome | GatewayError:
    try:
        upstream = upstreams.of(due.family)
        if due.status is RequestStatus.PENDING:
            return await upstream.submit(due.account, due.recharge)
        return await upstream.find(due.account, due.recharge.request_no)
    except GatewayError as error:
        return error


async def _settle(database: Database, due: _Due, outcome: RechargeOutcome | GatewayError, now: datetime) -> None:
    async with database.transaction(system("direct orders")) as session:
        order = (await session.scalars(select(DirectOrder).where(DirectOrder.id == due.key).with_for_update())).one()
        if (order.request_no, order.attempts) != (due.recharge.request_no, due.attempts):
            return  # it has been told anew meanwhile
        if order.finished_at is not None:
            return
        order.next_attempt_at = now + min(FIRST_PAUSE * int(2 ** min(order.attempts, 8)), LONGEST_PAUSE)
        if isinstance(outcome, GatewayError):
            order.last_response = outcome.code
            return
        order.last_response = outcome.answer
        order.upstream_no = outcome.upstream_no or order.upstream_no
        if outcome.state is RechargeState.SUCCEEDED:
            _finish(order, RequestStatus.SUCCEEDED, now)
        elif outcome.state is RechargeState.FAILED:
            _finish(order, RequestStatus.FAILED, now)
        elif outcome.state is RechargeState.ACCEPTED:
            order.status = RequestStatus.ACCEPTED
        elif _never_had(order, due, now):
            # it is told again, under the same number
            order.status, order.next_attempt_at = RequestStatus.PENDING, now


def _never_had(order: DirectOrder, due: _Due, now: datetime) -> bool:
    """Whether an upstream that does not know a recharge never had it: it has not spoken of it before, and was told long
    enough ago."""
    unknown = due.status is RequestStatus.UNKNOWN and order.upstream_no is None
    return unknown and due.submitted_at is not None and now - due.submitted_at >= SURE


def _finish(order: DirectOrder, status: RequestStatus, now: datetime) -> None:
    order.status, order.finished_at = status, now
