"""Direct recharge: what an order is to have through an upstream's channel is told to the upstream, once (S2-01, S2-19).

Before the upstream is told, it stands in the books that its outcome is unknown. Whoever finds that there, after a
timeout or a death, asks the upstream what became of it; only what the upstream has never had, or has refused, is told
again.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import BigInteger, bindparam, select, text

from authz.principal import system
from authz.session import Database
from gateways.http import GatewayError
from gateways.upstream import Account, Recharge, RechargeOutcome, RechargeState, upstreams
from models.catalog import Supplier
from models.direct_orders import DirectOrder, DirectOrderStatus
from models.orders import Order
from models.pricing import BillingProduct
from services.catalog import api_key_binding
from services.keys import Keys
from services.refusal import Refusal, not_found
from services.runtime import Unit
from services.transitions import StateMachine

TRANSITIONS = StateMachine(
    "DIRECT_ORDER_STATUS",
    ("RETRY", (DirectOrderStatus.FAILED,), DirectOrderStatus.PENDING),
)
BATCH = 50
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
RETURNING id
""").bindparams(bindparam("order", type_=BigInteger))
"""A recharge for each card of an order and each product of its package that an upstream delivers."""


@dataclass(frozen=True)
class _Due:
    key: int
    status: DirectOrderStatus
    family: str
    api_key: bytes | None
    supplier: int
    submitted_at: datetime | None
    recharge: Recharge


async def begin(work: Unit, order: Order) -> None:
    """What a paid order is to have through upstreams, to be told to them by the worker. Only the system may."""
    if (await work.session.scalars(BEGIN, {"order": order.id})).all():
        work.later("direct_orders.submit", {}, of=order)


async def check_untouched(work: Unit, order: Order) -> None:
    """RECHARGED where an upstream has delivered something of an order, or may have: it cannot be given back."""
    delivered = await work.session.scalar(
        select(DirectOrder.id)
        .where(DirectOrder.order_id == order.id, DirectOrder.status != DirectOrderStatus.FAILED)
        .limit(1)
    )
    if delivered is not None:
        raise Refusal("RECHARGED", "id")


async def retry(work: Unit, key: int) -> DirectOrder:
    """A recharge that the upstream has refused is told anew, under a number of its own (S2-19).

    DIRECT_ORDER_STATUS for what has succeeded, is under way, or whose outcome is not known.
    """
    found = await work.session.scalar(select(DirectOrder).where(DirectOrder.id == key).with_for_update())
    if found is None:
        raise not_found("id")
    found.status = TRANSITIONS.lead(found.status, "RETRY")
    found.finished_at, found.next_attempt_at = None, datetime.now(UTC)
    found.request_no = f"D{found.order_line_id}-{found.billing_product_id}-{found.attempts + 1}"
    await work.session.flush()
    work.later("direct_orders.submit", {}, of=found)
    return found


async def carry_out(database: Database, keys: Keys, now: datetime) -> int:
    """Tells upstreams of what is due, and asks after what they have been told; how many. Two at once share them."""
    done = 0
    while due := await _claim(database, now):
        for one in due:
            await _settle(database, one, await _ask(keys, one), now)
        done += len(due)
    return done


async def _claim(database: Database, now: datetime) -> list[_Due]:
    async with database.transaction(system("direct orders")) as session:
        rows = await session.execute(
            select(DirectOrder, Supplier)
            .join(BillingProduct, BillingProduct.id == DirectOrder.billing_product_id)
            .join(Supplier, Supplier.id == BillingProduct.supplier_id)
            .where(
                DirectOrder.status.in_(
                    (DirectOrderStatus.PENDING, DirectOrderStatus.UNKNOWN, DirectOrderStatus.ACCEPTED)
                ),
                DirectOrder.next_attempt_at <= now,
            )
            .order_by(DirectOrder.next_attempt_at, DirectOrder.id)
            .limit(BATCH)
            .with_for_update(skip_locked=True, of=DirectOrder)
        )
        found = []
        for order, supplier in rows:
            recharge = Recharge(order.request_no, order.service.name, order.article, order.target, order.quantity)
            found.append(
                _Due(
                    order.id,
                    order.status,
                    order.family.name,
                    supplier.api_key_encrypted,
                    supplier.id,
                    order.submitted_at,
                    recharge,
                )
            )
            order.next_attempt_at = now + CLAIM
            if order.status is DirectOrderStatus.PENDING:
                order.status, order.attempts, order.submitted_at = DirectOrderStatus.UNKNOWN, order.attempts + 1, now
        return found


async def _ask(keys: Keys, due: _Due) -> RechargeOutcome | GatewayError:
    try:
        key = None if due.api_key is None else keys.decrypt(due.api_key, api_key_binding(due.supplier))
        account, upstream = Account.of(key), upstreams.of(due.family)
        if due.status is DirectOrderStatus.PENDING:
            return await upstream.submit(account, due.recharge)
        return await upstream.find(account, due.recharge.request_no)
    except GatewayError as error:
        return error


async def _settle(database: Database, due: _Due, outcome: RechargeOutcome | GatewayError, now: datetime) -> None:
    async with database.transaction(system("direct orders")) as session:
        order = (await session.scalars(select(DirectOrder).where(DirectOrder.id == due.key).with_for_update())).one()
        if order.request_no != due.recharge.request_no or order.finished_at is not None:
            return
        order.next_attempt_at = now + min(FIRST_PAUSE * int(2 ** min(order.attempts, 8)), LONGEST_PAUSE)
        if isinstance(outcome, GatewayError):
            order.last_response = outcome.code
            if due.status is DirectOrderStatus.PENDING and outcome.code == "UPSTREAM_REFUSED":
                # it did not take the call at all
                _finish(order, DirectOrderStatus.FAILED, now)
            return
        order.last_response = outcome.answer
        order.upstream_no = outcome.upstream_no or order.upstream_no
        if outcome.state is RechargeState.SUCCEEDED:
            _finish(order, DirectOrderStatus.SUCCEEDED, now)
        elif outcome.state is RechargeState.FAILED:
            _finish(order, DirectOrderStatus.FAILED, now)
        elif outcome.state is RechargeState.ACCEPTED:
            order.status = DirectOrderStatus.ACCEPTED
        elif due.submitted_at is not None and now - due.submitted_at >= SURE:
            # it never had it: it is told again, under the same number
            order.status, order.next_attempt_at = DirectOrderStatus.PENDING, now


def _finish(order: DirectOrder, status: DirectOrderStatus, now: datetime) -> None:
    order.status, order.finished_at = status, now
