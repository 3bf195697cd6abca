"""Orders: lists, one by its id or number, payment, cancellation and refund; packages on cards; agents' sales."""

from __future__ import annotations

from datetime import date

import strawberry
from sqlalchemy import Select, select

import models.orders as stored
from planner.mapping import Connection, refer
from planner.registry import mutation, query
from resolvers.context import Context, key_of, optional_key, user_error
from resolvers.sim import selection_of
from schema.orders import (
    AgentSales,
    BatchRechargeInput,
    CancelOrderInput,
    CurrencySales,
    Order,
    OrderPackagesInput,
    OrderPayload,
    PackageSubscription,
    PayOrderInput,
    RefundOrderInput,
    RenewalOrder,
)
from schema.system import TaskPayload
from services import orders as service
from services import recharge, sales
from services.refusal import Refusal


@query(Connection[Order])
def orders() -> Select[stored.Order]:
    """Orders within reach: all customers' for the platform, one's own and those below for an agent or enterprise
    (S0-12, S0-28, S2-13)."""
    return select(stored.Order)


@query(Order, by=("id", "order_no"))
def order() -> Select[stored.Order]:
    """One order, by its id or by its number (S0-13, S0-29, S2-14)."""
    return select(stored.Order)


@query(Connection[RenewalOrder])
def renewals() -> Select[stored.RenewalOrder]:
    """What end users bought for their cards, with what they paid: one's own, those of one's cards, all (S0-47)."""
    return select(stored.RenewalOrder)


@query(Connection[PackageSubscription])
def package_subscriptions() -> Select[stored.PackageSubscription]:
    """The packages on cards within reach, and how far each is (S2-15)."""
    return select(stored.PackageSubscription)


@query(AgentSales, report=True)
async def agent_sales(ctx: Context, first_day: date, last_day: date, agent: strawberry.ID | None = None) -> AgentSales:
    """What an agent and all below it sold, both days included, by the days of its time zone; where none is named, the
    caller's own company: for the platform, what everybody sold, and all commission (S0-25)."""
    try:
        found = await sales.of_agent(
            ctx.runtime,
            ctx.principal,
            agent_id=optional_key(agent, "ten", "agent"),
            first=first_day,
            last=last_day,
        )
    except Refusal as refusal:
        return AgentSales(
            first_day=first_day,
            last_day=last_day,
            time_zone=None,
            activations=None,
            sales=[],
            errors=[user_error(refusal, ctx)],
        )
    return AgentSales(
        first_day=first_day,
        last_day=last_day,
        time_zone=found.time_zone,
        activations=found.activations,
        sales=[CurrencySales(**vars(one)) for one in found.sales],
        errors=[],
    )


@mutation(idempotent=True)
async def order_packages(ctx: Context, input: OrderPackagesInput) -> OrderPayload:
    """Orders a data package for each of some cards; what it costs is fixed from now on (S2-04, S0-28)."""
    made = await service.order_packages(
        ctx.now,
        key_of(input.package, "pkg", "package"),
        selection_of(input.cards),
        source=ctx.door.name,
        remark=input.remark,
    )
    return OrderPayload(order=refer(made.id), errors=[])


@mutation(idempotent=True)
async def start_batch_recharge(ctx: Context, input: BatchRechargeInput) -> TaskPayload:
    """Recharges very many cards as a task with progress: what cannot be recharged is told card by card (S2-16)."""
    task = await recharge.start(
        ctx.now,
        key_of(input.package, "pkg", "package"),
        selection_of(input.cards),
        source=ctx.door.name,
        remark=input.remark,
    )
    return TaskPayload(task=refer(task.id), errors=[])


@mutation(idempotent=True)
async def pay_order(ctx: Context, input: PayOrderInput) -> OrderPayload:
    """Pays an order from one's balance and credit: the packages are on their cards, and the agents have their shares
    (S0-37, S0-48, S2-18)."""
    paid = await service.pay_from_balance(ctx.now, key_of(input.id, "ord", "id"))
    return OrderPayload(order=refer(paid.id), errors=[])


@mutation(idempotent=True)
async def cancel_order(ctx: Context, input: CancelOrderInput) -> OrderPayload:
    """Gives up an order that has not been paid."""
    changed = await service.cancel(ctx.now, key_of(input.id, "ord", "id"), input.reason)
    return OrderPayload(order=refer(changed.id), errors=[])


@mutation(idempotent=True)
async def refund_order(ctx: Context, input: RefundOrderInput) -> OrderPayload:
    """Gives a paid order back: money, packages and the agents' shares (S2-18)."""
    changed = await service.refund(ctx.now, key_of(input.id, "ord", "id"), input.reason)
    return OrderPayload(order=refer(changed.id), errors=[])
