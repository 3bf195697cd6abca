"""Direct recharge: orders whose packages an upstream delivers, and what became of each recharge."""

from __future__ import annotations

from sqlalchemy import Select, select

import models.direct_orders as stored
from planner.mapping import Connection, refer
from planner.registry import mutation, query
from resolvers.context import Context, key_of
from resolvers.sim import selection_of
from schema.direct_orders import DirectOrder, DirectOrderPayload, ResolveDirectOrderInput, RetryDirectOrderInput
from schema.orders import OrderPackagesInput, OrderPayload
from services import direct_orders as service
from services import orders


@query(Connection[DirectOrder])
def direct_orders() -> Select[stored.DirectOrder]:
    """Recharges by upstreams within reach: with card number, the upstream's status, attempts and answer (S2-19)."""
    return select(stored.DirectOrder)


@query(DirectOrder, by=("id",))
def direct_order() -> Select[stored.DirectOrder]:
    """One recharge by an upstream (S2-19)."""
    return select(stored.DirectOrder)


@mutation(idempotent=True)
async def create_direct_order(ctx: Context, input: OrderPackagesInput) -> OrderPayload:
    """Orders a package for each of some cards and pays it from one's balance, at once: what an upstream delivers is on
    its way (S2-01)."""
    made = await orders.order_packages(
        ctx.now,
        key_of(input.package, "pkg", "package"),
        selection_of(input.cards),
        source=ctx.door.name,
        remark=input.remark,
    )
    await orders.pay_from_balance(ctx.now, made.id)
    return OrderPayload(order=refer(made.id), errors=[])


@mutation(idempotent=True)
async def retry_direct_order(ctx: Context, input: RetryDirectOrderInput) -> DirectOrderPayload:
    """Tells an upstream anew what it has refused; never what may have been delivered (S2-19)."""
    changed = await service.retry(ctx.now, key_of(input.id, "dor", "id"))
    return DirectOrderPayload(direct_order=refer(changed.id), errors=[])


@mutation(idempotent=True)
async def resolve_direct_order(ctx: Context, input: ResolveDirectOrderInput) -> DirectOrderPayload:
    """Closes a recharge whose outcome is not known, as the upstream has told otherwise; one that was not delivered can
    be told anew, or its order given back (S2-19)."""
    key = key_of(input.id, "dor", "id")
    changed = await service.resolve(ctx.now, key, delivered=input.delivered, reason=input.reason)
    return DirectOrderPayload(direct_order=refer(changed.id), errors=[])
