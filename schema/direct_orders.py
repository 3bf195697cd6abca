"""Direct orders in the graph."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import strawberry

import models.direct_orders as stored
from models.direct_orders import UpstreamFamily
from models.pricing import ServiceKind
from models.telling import RequestStatus
from planner.mapping import Node, column, entity, enum_type, input_type, to_one, value
from schema.common import UserError

if TYPE_CHECKING:
    from schema.orders import Order
    from schema.pricing import BillingProduct
    from schema.sim import SimCard
    from schema.tenancy import Tenant

enum_type(UpstreamFamily, "A family of upstream recharge systems (PID/Smart).")


@entity(
    stored.DirectOrder,
    prefix="dor",
    filters=("status", "service", "card_no", "customer", "order", "sim_card", "created_at", "finished_at"),
    sorts=("created_at",),
)
class DirectOrder(Node):
    """What an order has bought for a card through an upstream's recharge channel (S2-01, S2-03, S2-19)."""

    card_no: str = column(
        "The number that is recharged (儲值卡號): the card's own in the network, or its display ICCID."
    )
    service: ServiceKind = column("Airtime, data, voice or messages (話費/流量/語音/簡訊).")
    quantity: int
    status: RequestStatus = column("What the upstream says (API返回狀態).")
    attempts: int = column("How often the upstream was told (調用次數).")
    last_response: str | None = column("What it said last (返回結果).")
    created_at: datetime
    submitted_at: datetime | None = column("When it was told last.")
    finished_at: datetime | None
    family: UpstreamFamily = column("For the platform's staff (S2-02).")
    request_no: str = column("Our number at the upstream; for the platform's staff.")
    upstream_no: str | None = column("The upstream's own; for the platform's staff.")
    article: str = column("What the upstream calls it; for the platform's staff.")
    customer: Tenant | None = to_one("Whose order it is.", via="tenant")
    order: Order | None = to_one("The order that it is part of.")
    sim_card: SimCard | None = to_one("For which card.")
    product: BillingProduct | None = to_one("What was bought; for the platform's staff.", via="billing_product")


@input_type
class RetryDirectOrderInput:
    """A recharge that the upstream has refused, to be told anew (S2-19)."""

    id: strawberry.ID
    idempotency_key: str


@input_type
class ResolveDirectOrderInput:
    """A recharge whose outcome the upstream's interface does not tell, whether it was delivered, and how that is known
    (S2-19)."""

    id: strawberry.ID
    delivered: bool
    reason: str
    idempotency_key: str


@value
class DirectOrderPayload:
    """The recharge as it now is, or why nothing was changed."""

    direct_order: DirectOrder | None
    errors: list[UserError]
