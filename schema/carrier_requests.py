"""Requests to carriers in the graph."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import strawberry

import models.carrier_requests as stored
from models.carrier_requests import CarrierAction
from models.telling import RequestStatus
from planner.mapping import Node, column, entity, enum_type, input_type, to_one, value
from schema.common import UserError

if TYPE_CHECKING:
    from schema.sim import SimCard
    from schema.tenancy import Tenant

enum_type(CarrierAction, "What a carrier is to make of a card (停机, 复机, 变更套餐).")


@entity(
    stored.CarrierRequest,
    prefix="crq",
    filters=("action", "status", "sim_card", "customer", "created_at", "finished_at"),
    sorts=("created_at",),
)
class CarrierRequest(Node):
    """A change of a card that its carrier is to make, because it was made here (S0-24, S0-16)."""

    action: CarrierAction
    plan: str | None = column("The carrier's own name of the plan that the card is to have; for the platform's staff.")
    status: RequestStatus
    attempts: int = column("How often the carrier was told.")
    last_response: str | None = column(
        "What came of it last: ACCEPTED, DONE, NOT_DONE, SUPERSEDED by a later wish, NOT_KNOWN where the carrier never "
        "said, or the code of an error."
    )
    answer: str | None = column(
        "What the carrier answered last, as it came, or why there is no answer; for the platform's staff."
    )
    created_at: datetime
    submitted_at: datetime | None = column("When the carrier was told last.")
    finished_at: datetime | None
    request_no: str = column("Our number of it; for the platform's staff.")
    carrier_no: str | None = column("The carrier's own; for the platform's staff.")
    customer: Tenant | None = to_one("Who held the card.", via="tenant")
    sim_card: SimCard | None = to_one("For which card.")


@input_type
class RetryCarrierRequestInput:
    """A request to a carrier that has failed, to be told anew (S0-24)."""

    id: strawberry.ID
    idempotency_key: str


@value
class CarrierRequestPayload:
    """The request as it now is, or why nothing was changed."""

    carrier_request: CarrierRequest | None
    errors: list[UserError]
