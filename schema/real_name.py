"""Real names in the graph."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import strawberry

import models.real_name as stored
from models.real_name import RealNameStatus
from planner.mapping import Node, column, entity, enum_type, input_type, to_one, value
from schema.common import UserError

if TYPE_CHECKING:
    from schema.identity import EndUser
    from schema.sim import SimCard
    from schema.tenancy import Tenant

enum_type(RealNameStatus, "Whether a card's carrier has accepted who uses it.")


@entity(
    stored.RealNameRecord, prefix="rnr", filters=("status", "sim_card", "end_user", "created_at"), sorts=("created_at",)
)
class RealNameRecord(Node):
    """What an end user has shown to have a card put into service (S0-31); the document itself is read by nobody."""

    status: RealNameStatus
    reason: str | None = column(
        "Why not: REFUSED_BY_CARRIER, CARD_MOVED (the card has another user), ERASED; or what the carrier said last."
    )
    id_number_tail: str | None = column("The last four characters of the document's number.")
    created_at: datetime
    decided_at: datetime | None
    sim_card: SimCard | None = to_one("For which card.")
    end_user: EndUser | None = to_one("Who uses it.")
    holder: Tenant | None = to_one("Who holds the card.", via="tenant")


@input_type
class SubmitRealNameInput:
    """Who uses a card of one's own that is not in service yet: as the identity card says."""

    card: strawberry.ID
    name: str
    id_number: str


@value
class RealNamePayload:
    """The record as it now is, or why nothing was changed."""

    real_name_record: RealNameRecord | None
    errors: list[UserError]
