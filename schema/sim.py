"""The SIM inventory in the graph."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import strawberry
from sqlalchemy import ColumnElement, case, func, select

import models.orders
import models.plan_changes
import models.sim as stored
from models.catalog import Carrier
from models.sim import SimEntryMode, SimHolding, SimStatus, SimType
from planner.mapping import (
    Connection,
    Node,
    column,
    computed,
    entity,
    enum_type,
    input_type,
    live,
    to_many,
    to_one,
    value,
)
from schema.common import UserError

if TYPE_CHECKING:
    from schema.catalog import DataPackage, Outlet, Supplier
    from schema.identity import EndUser
    from schema.orders import PackageSubscription
    from schema.plan_changes import SimPlanChange
    from schema.tenancy import Tenant
    from schema.usage import DataBalance

enum_type(SimType, "M2M is an industrial card (机械卡), CONSUMER an ordinary one (消费卡) (S0-04).")
enum_type(SimStatus, "Where a card is in its life.")
enum_type(SimEntryMode, "How a card came into the inventory.")
enum_type(SimHolding, "Whether a customer has a card for itself or to pass it on (S0-45).")


@value
class CarrierState:
    """A card as its carrier sees it now."""

    status: str
    online: bool


@entity(
    stored.SimCard,
    prefix="sim",
    filters=(
        "id",
        "iccid",
        "display_iccid",
        "imsi",
        "msisdn",
        "carrier",
        "sim_type",
        "status",
        "holder",
        "supplier",
        "package",
        "activated_at",
    ),
    sorts=("activated_at",),
)
class SimCard(Node):
    """A SIM in stock or in service (S0-09, S0-43, S0-60). Customers know it by its display ICCID."""

    iccid: str = column("The carrier's number, for the platform's staff only (S0-44).", confidential=True)
    display_iccid: str = column("The number that everybody else knows the card by (S0-44).")
    imsi: str | None
    msisdn: str | None = column("The number that the network calls it by (物联号码).")
    carrier: Carrier
    sim_type: SimType = column("(S0-04)")
    entry_mode: SimEntryMode
    status: SimStatus
    apn: str | None
    activated_at: datetime | None
    created_at: datetime
    remark: str | None
    holder: Tenant | None = to_one("Who holds the card now, deepest in the tree (S0-57).", via="tenant")
    supplier: Supplier | None = to_one("Where it came from.")
    package: DataPackage | None = to_one("The data package that it is bound to (S0-06, S0-57).")
    outlet: Outlet | None = to_one("Where it was sold.")
    end_user: EndUser | None = to_one("Who uses it (S0-40, S0-57).")
    allocations: Connection[SimAllocation] = to_many("Who held it (S0-14, S0-30).", by=stored.SimAllocation.sim_card_id)
    status_changes: Connection[SimStatusChange] = to_many("Its life so far.", by=stored.SimStatusChange.sim_card_id)
    package_bindings: Connection[SimPackageBinding] = to_many(
        "The packages it was bound to.", by=stored.SimPackageBinding.sim_card_id
    )
    subscriptions: Connection[PackageSubscription] = to_many(
        "The packages that were bought for it: in use, waiting, over (S2-15).",
        by=models.orders.PackageSubscription.sim_card_id,
    )
    plan_changes: Connection[SimPlanChange] = to_many(
        "Its changes of plan, past and to come (S0-17).", by=models.plan_changes.SimPlanChange.sim_card_id
    )
    data_balance: DataBalance | None = live(
        "What is left of the data package in use, as it is shown to customers; null where none is (S0-32).",
        needs=("tenant_id",),
    )
    real_name_registered: bool | None = live(
        "Whether the carrier knows who uses the card; asked of it now (S0-31).", needs=("iccid", "supplier_id")
    )
    carrier_state: CarrierState | None = live(
        "Asked of the supplier now, through its interface (S0-41).", needs=("iccid", "supplier_id")
    )


@entity(stored.SimStatusChange, prefix="ssc", filters=("to_status", "at"), sorts=("at",))
class SimStatusChange(Node):
    """One step of a card's life."""

    action: str
    from_status: SimStatus | None
    to_status: SimStatus
    reason: str | None
    at: datetime


def _activated(allocation: Any) -> ColumnElement[Any]:
    card = stored.SimCard.__table__
    held = func.starts_with(card.c.tenant_path, allocation.tenant_path)
    at = select(card.c.activated_at).where(card.c.id == allocation.sim_card_id, held).scalar_subquery()
    return case((allocation.ended_at.is_(None), at))


@entity(stored.SimAllocation, prefix="sal", filters=("holder",), sorts=("allocated_at",))
class SimAllocation(Node):
    """A card bound to a customer, now or in the past (S0-45)."""

    level: int = column("How far below the platform its holder stands.")
    holding: SimHolding
    allocated_at: datetime
    ended_at: datetime | None
    activated_at: datetime | None = computed(
        "When the card was first put into service, as long as the customer has it.", lambda a: _activated(a)
    )
    holder: Tenant | None = to_one("Who received the card.", via="tenant")
    from_tenant: Tenant | None = to_one("Who gave it.")


@entity(stored.SimPackageBinding, prefix="spb")
class SimPackageBinding(Node):
    """A card bound to a data package, now or in the past (S0-57)."""

    bound_at: datetime
    unbound_at: datetime | None
    package: DataPackage | None = to_one("What it was bound to.")


@input_type
class CreateSimCardInput:
    """One card, entered by hand (S0-02)."""

    iccid: str
    sim_type: SimType
    supplier: strawberry.ID
    imsi: str | None = None
    msisdn: str | None = None
    package: strawberry.ID | None = None
    apn: str | None = None
    remark: str | None = None
    idempotency_key: str | None = None


@input_type
class CreateSimCardRangeInput:
    """Cards with consecutive ICCIDs (S0-03): first and last differ only after a common prefix.

    ``with_check_digit``: the last digit of both is a check digit and is computed for each card between them.
    """

    first_iccid: str
    last_iccid: str
    sim_type: SimType
    supplier: strawberry.ID
    package: strawberry.ID | None = None
    apn: str | None = None
    with_check_digit: bool = True
    idempotency_key: str | None = None


@input_type
class SimSelectionInput:
    """Which cards: by id, by display ICCID, or an inclusive range of display ICCIDs. Exactly one is given."""

    ids: list[strawberry.ID] | None = None
    display_iccids: list[str] | None = None
    first_display_iccid: str | None = None
    last_display_iccid: str | None = None


@input_type
class AllocateSimCardsInput:
    """Cards handed down to a customer directly below their holder (S0-14, S0-30)."""

    to: strawberry.ID
    cards: SimSelectionInput
    holding: SimHolding = SimHolding.AGENCY
    idempotency_key: str


@input_type
class RecallSimCardsInput:
    """Cards taken back from below, as long as they have not been activated (S0-30)."""

    cards: SimSelectionInput
    idempotency_key: str


@input_type
class ChangeSimStatusInput:
    """A step in the life of some cards, with its reason."""

    cards: SimSelectionInput
    reason: str | None = None
    idempotency_key: str


@input_type
class BindSimPackageInput:
    """A data package for some cards; null unbinds them (S0-06, S0-57)."""

    cards: SimSelectionInput
    package: strawberry.ID | None = None


@input_type
class BindSimEndUserInput:
    """A card for an end user (S0-40, S0-57)."""

    card: strawberry.ID
    end_user: strawberry.ID | None = None


@value
class SimCardPayload:
    """The card, or why nothing was changed."""

    sim_card: SimCard | None
    errors: list[UserError]


@value
class SimCardsPayload:
    """How many cards were changed, the first hundred of them, or why none was."""

    count: int
    sim_cards: list[SimCard]
    errors: list[UserError]
