"""Agents' commission in the graph."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import strawberry

import models.commission as stored
from planner.mapping import Node, column, entity, input_type, to_one, value
from schema.common import UserError

if TYPE_CHECKING:
    from schema.catalog import DataPackage
    from schema.tenancy import Tenant


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
