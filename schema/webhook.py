"""Webhooks in the graph: endpoints, the events that they choose, deliveries and what became of them."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import strawberry

import models.webhook as stored
from models.webhook import WebhookDeliveryStatus, WebhookEvent, WebhookStatus
from planner.mapping import Connection, Node, column, entity, enum_type, input_type, to_many, to_one, value
from schema.common import UserError

if TYPE_CHECKING:
    from schema.tenancy import Tenant

enum_type(
    WebhookEvent,
    "What an endpoint can be told of: cards handed to a tenant; cards activated, suspended, resumed or terminated; "
    "an import or range that has ended; an API key that ends within 14 days; an endpoint that was switched off.",
)
enum_type(WebhookStatus, "Whether an endpoint is told of events; FAILING: switched off after deliveries failed.")
enum_type(WebhookDeliveryStatus, "How far a delivery has come.")


@entity(stored.WebhookEndpoint, prefix="whe", filters=("status",), sorts=("created_at",))
class WebhookEndpoint(Node):
    """An address of a tenant's systems that is told of events in its tenant's branch, over signed requests (S0-54)."""

    url: str
    events: list[WebhookEvent]
    status: WebhookStatus
    created_at: datetime
    last_succeeded_at: datetime | None = column("When it last took a delivery.")
    disabled_at: datetime | None = column("Since when it has been switched off.")
    previous_secret_until: datetime | None = column("Until when deliveries are signed with the previous secret too.")
    tenant: Tenant | None = to_one("Whose endpoint it is.")
    deliveries: Connection[WebhookDelivery] = to_many("What it was sent.", by=stored.WebhookDelivery.endpoint_id)


@entity(
    stored.WebhookDelivery,
    prefix="whd",
    filters=("status", "event_type", "event_key", "endpoint", "created_at"),
    sorts=("created_at",),
)
class WebhookDelivery(Node):
    """One event on its way to one endpoint."""

    event_key: str = column("The event's id, the same at every attempt.")
    event_type: str = column("Such as `sim.allocated`; `ping` for a trial.")
    body: str = column("What is sent, as it is signed.")
    status: WebhookDeliveryStatus
    attempts: int
    next_attempt_at: datetime = column("When it is sent again, as long as it is pending.")
    created_at: datetime
    finished_at: datetime | None
    endpoint: WebhookEndpoint | None = to_one("Where it goes.")
    log: Connection[WebhookAttempt] = to_many("Each attempt.", by=stored.WebhookAttempt.delivery_id)


@entity(stored.WebhookAttempt, prefix="wha", sorts=("at",))
class WebhookAttempt(Node):
    """One attempt to deliver."""

    at: datetime
    status_code: int | None = column("What the endpoint answered; 200 to 299 means that it has taken it.")
    duration_ms: int
    answer: str | None = column("The first 2 kB of the answer.")
    error: str | None = column("Why there was no answer: TIMEOUT, UNREACHABLE, HOST_NOT_FOUND, ADDRESS_NOT_ALLOWED.")


@input_type
class CreateWebhookEndpointInput:
    """An https address in the public Internet, and the events that it is told of."""

    url: str
    events: list[WebhookEvent]
    tenant: strawberry.ID | None = None
    idempotency_key: str | None = None


@input_type
class UpdateWebhookEndpointInput:
    """Changes to an endpoint; what is left out stays as it is."""

    id: strawberry.ID
    url: str | None = None
    events: list[WebhookEvent] | None = None
    active: bool | None = None


@value
class WebhookEndpointPayload:
    """The endpoint, or why nothing was changed. The secret is shown this once."""

    webhook_endpoint: WebhookEndpoint | None
    secret: str | None
    errors: list[UserError]


@value
class WebhookDeliveryPayload:
    """The delivery, or why there is none."""

    webhook_delivery: WebhookDelivery | None
    errors: list[UserError]
