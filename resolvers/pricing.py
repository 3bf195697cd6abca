"""Billing products, exchange rates, the composition of packages, and what is likely to be left of orders."""

from __future__ import annotations

from datetime import date

from sqlalchemy import Select, select

import models.pricing as stored
from planner.mapping import Connection, enum_type, refer
from planner.registry import mutation, query
from resolvers.context import Context, given, key_of, optional_key, user_error
from schema.catalog import DataPackagePayload
from schema.pricing import (
    BillingProduct,
    BillingProductInput,
    BillingProductPayload,
    ComposeDataPackageInput,
    CurrencyProfit,
    EstimatedProfit,
    ExchangeRate,
    ExchangeRateInput,
    ExchangeRatePayload,
    UpdateBillingProductInput,
)
from services import pricing, profit
from services.profit import ProfitLevel
from services.refusal import Refusal

enum_type(ProfitLevel, "Whose orders: one's own, or those of everybody below (S2-20).")


@query(Connection[BillingProduct])
def billing_products() -> Select[stored.BillingProduct]:
    """What plans are built from (S2-06, S2-07)."""
    return select(stored.BillingProduct)


@query(Connection[ExchangeRate])
def exchange_rates() -> Select[stored.ExchangeRate]:
    """Exchange rates with their history (S2-10)."""
    return select(stored.ExchangeRate)


@query(EstimatedProfit, report=True)
async def estimated_profit(ctx: Context, level: ProfitLevel, first_day: date, last_day: date) -> EstimatedProfit:
    """What is likely to be left for the caller of the orders of its own or of those below, both days included, by the
    days of its time zone (S2-20)."""
    try:
        zone, rows = await profit.estimate(ctx.runtime, ctx.principal, level=level, first=first_day, last=last_day)
    except Refusal as refusal:
        told = [user_error(refusal, ctx)]
        return EstimatedProfit(first_day=first_day, last_day=last_day, time_zone=None, profits=[], errors=told)
    profits = [CurrencyProfit(**vars(row), profit=row.revenue - row.cost) for row in rows]
    return EstimatedProfit(first_day=first_day, last_day=last_day, time_zone=zone, profits=profits, errors=[])


@mutation
async def create_billing_product(ctx: Context, input: BillingProductInput) -> BillingProductPayload:
    """A new billing product (S2-06, S2-07)."""
    values = {name: value for name, value in vars(input).items() if name != "supplier"}
    supplier = optional_key(input.supplier, "sup", "supplier")
    made = await pricing.create_product(ctx.now, supplier_id=supplier, **values)
    return BillingProductPayload(billing_product=refer(made.id), errors=[])


@mutation
async def update_billing_product(ctx: Context, input: UpdateBillingProductInput) -> BillingProductPayload:
    """Changes a billing product; packages composed of it are priced anew (S2-06)."""
    changed = await pricing.update_product(ctx.now, key_of(input.id, "bpr", "id"), given(input))
    return BillingProductPayload(billing_product=refer(changed.id), errors=[])


@mutation(idempotent=True)
async def set_exchange_rate(ctx: Context, input: ExchangeRateInput) -> ExchangeRatePayload:
    """Says what a currency is worth from now on; what was ordered before keeps its rate (S2-10)."""
    made = await pricing.set_exchange_rate(
        ctx.now, input.from_currency, input.to_currency, input.rate, input.effective_from
    )
    return ExchangeRatePayload(exchange_rate=refer(made.id), errors=[])


@mutation
async def compose_data_package(ctx: Context, input: ComposeDataPackageInput) -> DataPackagePayload:
    """Composes a package of billing products: its price is their cost at today's rates, and the markup (S2-08, S2-11,
    S2-12)."""
    components = [
        (key_of(one.product, "bpr", f"components.{place}.product"), one.quantity)
        for place, one in enumerate(input.components)
    ]
    markup = (input.markup_type, input.markup_sign, input.markup)
    changed = await pricing.compose(ctx.now, key_of(input.package, "pkg", "package"), components, markup)
    return DataPackagePayload(data_package=refer(changed.id), errors=[])
