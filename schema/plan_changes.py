"""Plan changes in the graph."""

from __future__ import annotations

from datetime import date, datetime
from typing import TYPE_CHECKING

import strawberry

import models.plan_changes as stored
from models.plan_changes import PlanChangeFailure, PlanChangeStatus
from planner.mapping import Node, column, entity, enum_type, input_type, to_one, value
from schema.common import UserError
from schema.sim import SimSelectionInput

if TYPE_CHECKING:
    from schema.catalog import DataPackage
    from schema.identity import StaffAccount
    from schema.sim import SimCard
    from schema.tenancy import Tenant

enum_type(PlanChangeStatus, "Whether a plan change is in force.")
enum_type(PlanChangeFailure, "Why a plan change could not be applied on its day.")


@entity(
    stored.SimPlanChange,
    prefix="spc",
    filters=("sim_card", "customer", "status", "to_package", "effective_on", "created_at"),
    sorts=("effective_on", "created_at"),
)
class SimPlanChange(Node):
    """Another plan for a card from the first of a month on; until then it keeps the old one (S0-16, S0-17)."""

    status: PlanChangeStatus
    failure: PlanChangeFailure | None = column("Null unless it failed.")
    effective_on: date = column("The first of the month after it was asked for, in the holder's time zone.")
    created_at: datetime = column("When it was asked for.")
    closed_at: datetime | None = column("When it was applied, taken back, or failed.")
    sim_card: SimCard | None = to_one("Of which card.")
    customer: Tenant | None = to_one("Who holds the card, or did when it was closed.", via="tenant")
    from_package: DataPackage | None = to_one("The plan when it was asked for; null where there was none.")
    to_package: DataPackage | None = to_one("The plan from that day on.")
    requested_by: StaffAccount | None = to_one("Who asked for it.")


@input_type
class RequestSimPlanChangeInput:
    """Another plan for some cards, from the first of next month on (S0-16)."""

    cards: SimSelectionInput
    package: strawberry.ID
    idempotency_key: str


@input_type
class CancelSimPlanChangeInput:
    """A plan change that is not to come into force."""

    id: strawberry.ID
    idempotency_key: str


@value
class SimPlanChangesPayload:
    """How many changes were noted, the first hundred of them, or why none was."""

    count: int
    plan_changes: list[SimPlanChange]
    errors: list[UserError]


@value
class SimPlanChangePayload:
    """The change as it now is, or why nothing was changed."""

    plan_change: SimPlanChange | None
    errors: list[UserError]
