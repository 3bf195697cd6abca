"""Agents' commission in the graph."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import strawberry

import models.commission as stored
from models.commission import CommissionEntryStatus
from planner.mapping import Connection, Node, column, entity, enum_type, input_type, to_many, to_one, value
from schema.common import UserError

if TYPE_CHECKING:
    from schema.catalog import DataPackage
    from schema.ledger import LedgerTransfer
    from schema.orders import Order, OrderLine
    from schema.tenancy import Tenant

enum_type(CommissionEntryStatus, "Whether an agent may draw on what it earned, or an order was taken back.")


@entity(
    stored.CommissionRate,
    prefix="cmr",
    filters=("agent", "package", "percent", "updated_at"),
    sorts=("percent", "updated_at"),
)
class CommissionRate(Node):
    """An agent's share of the sale price of one data package (S0-22, S0-46)."""

    percent: Decimal = column("Of the sale price: 12.5 is 12.5 %. Never above the creator's own for the package.")
    created_at: datetime
    updated_at: datetime
    agent: Tenant | None = to_one("Whose share it is.", via="tenant")
    package: DataPackage | None = to_one("Of what.", via="data_package")
    creator: Tenant | None = to_one("Who gave it: the platform, or the agent above; null where that is out of reach.")


@entity(
    stored.CustomerPrice,
    prefix="cpr",
    filters=("customer", "package", "price", "updated_at"),
    sorts=("price", "updated_at"),
)
class CustomerPrice(Node):
    """What a customer pays for a data package, as agreed with the one above it; of a package by which agents earn their
    margin (S2-18).

    It holds where each level above the customer has a price, too, none of them above the next one's, and it is not
    above the sale price; otherwise it has lapsed, and the customer pays the sale price.
    """

    price: Decimal = column("For one period, in the package's currency.")
    created_at: datetime
    updated_at: datetime
    customer: Tenant | None = to_one("Who pays it.", via="tenant")
    package: DataPackage | None = to_one("For what.", via="data_package")
    creator: Tenant | None = to_one("Who set it: the platform, or the agent above; null where that is out of reach.")


@entity(
    stored.CommissionEntry,
    prefix="cme",
    filters=("agent", "status", "order", "currency", "amount", "created_at"),
    sorts=("created_at",),
)
class CommissionEntry(Node):
    """What an agent earned by one line of a paid order (S0-48, S2-18): what the level below it pays, less what it costs
    the agent itself."""

    status: CommissionEntryStatus
    price: Decimal = column("What the line cost, in ``currency``.")
    currency: str = column("An ISO 4217 code.")
    percent: Decimal | None = column("The agent's own rate when the order was paid; null where it earns a margin.")
    percent_below: Decimal | None = column("The greatest rate below it, 0 where there is none; null for a margin.")
    revenue: Decimal = column("What the level below pays, in ``currency``: the price less its share, or its own price.")
    cost: Decimal = column("What the agent pays, in ``currency``: the price less its own share, or its own price.")
    amount: Decimal = column("What it earned, in ``currency``: revenue less cost.")
    created_at: datetime
    reversed_at: datetime | None = column("When the order was refunded.")
    agent: Tenant | None = to_one("Who earned it.", via="tenant")
    order: Order | None = to_one("By which order.")
    order_line: OrderLine | None = to_one("By which line of it.")
    settlement: CommissionSettlement | None = to_one("With which month it was settled; null as long as it is not.")


@entity(
    stored.CommissionSettlement,
    prefix="cms",
    filters=("agent", "month", "order", "currency", "amount"),
    sorts=("month",),
)
class CommissionSettlement(Node):
    """What an agent earned in a month of its calendar, or as its margin by one order, and may draw on from now on
    (S0-49, S2-18)."""

    month: date = column("Its first day; of a margin, of the month in which it was earned.")
    currency: str = column("An ISO 4217 code.")
    entry_count: int = column("How many lines of orders it was earned by.")
    earned: Decimal = column("In ``currency``.")
    deducted: Decimal = column("What refunds of settled orders have taken back, as far as this month makes up for it.")
    amount: Decimal = column("What it may draw on: earned less deducted.")
    created_at: datetime = column("When it was settled.")
    agent: Tenant | None = to_one("Who earned it.", via="tenant")
    order: Order | None = to_one("By which it was earned as a margin; null for what a whole month brought.")
    transfer: LedgerTransfer | None = to_one("The money as it became income; null where nothing was left.")
    entries: Connection[CommissionEntry] = to_many("Line by line.", by=stored.CommissionEntry.settlement_id)


@input_type
class SetCommissionRateInput:
    """An agent directly below the caller, a data package, and the agent's share of its sale price in percent, from 0
    to the caller's own, to the ten-thousandth (S0-22)."""

    agent: strawberry.ID
    package: strawberry.ID
    percent: Decimal
    idempotency_key: str


@value
class CommissionRatePayload:
    """The rate as it now is and how many further below came down with it, since none may be above its creator's
    (S0-46); or why nothing was changed."""

    commission_rate: CommissionRate | None
    lowered: int | None
    errors: list[UserError]


@input_type
class SetCustomerPriceInput:
    """A customer directly below the caller, a data package by which agents earn their margin, and what the customer
    pays for one period: from the caller's own price up to the sale price; null takes the agreement back, so that the
    sale price holds (S2-18)."""

    customer: strawberry.ID
    package: strawberry.ID
    price: Decimal | None
    idempotency_key: str


@value
class CustomerPricePayload:
    """The price as it now is, null where it was taken back; or why nothing was changed."""

    customer_price: CustomerPrice | None
    errors: list[UserError]
