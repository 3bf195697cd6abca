"""Agents' commission: the rates and prices that they are given, and what they earned."""

from __future__ import annotations

from sqlalchemy import Select, select

import models.commission as stored
from planner.mapping import Connection, refer
from planner.registry import mutation, query
from resolvers.context import Context, key_of
from schema.commission import (
    CommissionEntry,
    CommissionRate,
    CommissionRatePayload,
    CommissionSettlement,
    CustomerPrice,
    CustomerPricePayload,
    SetCommissionRateInput,
    SetCustomerPriceInput,
)
from services import commission
from services.customer_prices import set_price


@query(Connection[CommissionRate])
def commission_rates() -> Select[stored.CommissionRate]:
    """The caller's own shares and those of the agents below (S0-22, S0-46)."""
    return select(stored.CommissionRate)


@query(CommissionRate, by=("id",))
def commission_rate() -> Select[stored.CommissionRate]:
    """One agent's share of one data package (S0-46)."""
    return select(stored.CommissionRate)


@query(Connection[CustomerPrice])
def customer_prices() -> Select[stored.CustomerPrice]:
    """What the caller's company and those below it have agreed to pay for packages by which agents earn their margin
    (S2-18)."""
    return select(stored.CustomerPrice)


@query(CustomerPrice, by=("id",))
def customer_price() -> Select[stored.CustomerPrice]:
    """What one customer has agreed to pay for one data package (S2-18)."""
    return select(stored.CustomerPrice)


@query(Connection[CommissionEntry])
def commission_entries() -> Select[stored.CommissionEntry]:
    """What an agent earned, order by order: its own for an agent, everybody's for the platform (S0-48)."""
    return select(stored.CommissionEntry)


@query(Connection[CommissionSettlement])
def commission_settlements() -> Select[stored.CommissionSettlement]:
    """What agents may draw on, month by month: its own for an agent, everybody's for the platform (S0-49)."""
    return select(stored.CommissionSettlement)


@mutation(idempotent=True)
async def set_commission_rate(ctx: Context, input: SetCommissionRateInput) -> CommissionRatePayload:
    """Gives an agent directly below its share of a data package's sale price, no greater than one's own; greater ones
    further below come down with it (S0-22, S0-46)."""
    key, lowered = await commission.set_rate(
        ctx.now, key_of(input.agent, "ten", "agent"), key_of(input.package, "pkg", "package"), input.percent
    )
    return CommissionRatePayload(commission_rate=refer(key), lowered=lowered, errors=[])


@mutation(idempotent=True)
async def set_customer_price(ctx: Context, input: SetCustomerPriceInput) -> CustomerPricePayload:
    """Agrees with a customer directly below what it pays for a data package, from one's own price up to the sale price;
    the difference is what one earns by its orders (S2-18)."""
    key = await set_price(
        ctx.now, key_of(input.customer, "ten", "customer"), key_of(input.package, "pkg", "package"), input.price
    )
    return CustomerPricePayload(customer_price=refer(key), errors=[])
