"""Webhook endpoints and their deliveries."""

from __future__ import annotations

import strawberry
from sqlalchemy import Select, select

import models.webhook as stored
from planner.mapping import Connection, refer
from planner.registry import mutation, query
from resolvers.context import Context, key_of, optional_key
from schema.identity import DonePayload
from schema.webhook import (
    CreateWebhookEndpointInput,
    UpdateWebhookEndpointInput,
    WebhookDelivery,
    WebhookDeliveryPayload,
    WebhookEndpoint,
    WebhookEndpointPayload,
)
from services.identity import tenant_for
from services.webhook import endpoints


@query(Connection[WebhookEndpoint])
def webhook_endpoints() -> Select[stored.WebhookEndpoint]:
    """Webhook endpoints within reach; secrets are never shown again."""
    return select(stored.WebhookEndpoint)


@query(Connection[WebhookDelivery])
def webhook_deliveries() -> Select[stored.WebhookDelivery]:
    """What was sent to endpoints within reach, and what became of it."""
    return select(stored.WebhookDelivery)


@query(WebhookDelivery, by=("id",))
def webhook_delivery() -> Select[stored.WebhookDelivery]:
    """One delivery with its attempts."""
    return select(stored.WebhookDelivery)


@mutation
async def create_webhook_endpoint(ctx: Context, input: CreateWebhookEndpointInput) -> WebhookEndpointPayload:
    """Registers an address for events; the secret that signs them is shown this once (S0-54)."""
    tenant = await tenant_for(ctx.now, optional_key(input.tenant, "ten", "tenant"))
    made, secret = await endpoints.create(ctx.now, tenant, input.url, input.events)
    return WebhookEndpointPayload(webhook_endpoint=refer(made.id), secret=secret, errors=[])


@mutation
async def update_webhook_endpoint(ctx: Context, input: UpdateWebhookEndpointInput) -> WebhookEndpointPayload:
    """Changes an endpoint, or switches it off and on again."""
    key = key_of(input.id, "whe", "id")
    made = await endpoints.update(ctx.now, key, url=input.url, events=input.events, active=input.active)
    return WebhookEndpointPayload(webhook_endpoint=refer(made.id), secret=None, errors=[])


@mutation
async def delete_webhook_endpoint(ctx: Context, endpoint: strawberry.ID) -> DonePayload:
    """Removes an endpoint and the log of its deliveries."""
    await endpoints.remove(ctx.now, key_of(endpoint, "whe", "endpoint"))
    return DonePayload(done=True, errors=[])


@mutation
async def rotate_webhook_secret(
    ctx: Context, endpoint: strawberry.ID, overlap_hours: int = 24
) -> WebhookEndpointPayload:
    """A new secret; for another 0 to 168 hours deliveries are signed with the old one as well."""
    made, secret = await endpoints.rotate_secret(ctx.now, key_of(endpoint, "whe", "endpoint"), overlap_hours)
    return WebhookEndpointPayload(webhook_endpoint=refer(made.id), secret=secret, errors=[])


@mutation
async def ping_webhook_endpoint(ctx: Context, endpoint: strawberry.ID) -> WebhookDeliveryPayload:
    """Sends an event of the type `ping`, once, to try an endpoint out."""
    made = await endpoints.ping(ctx.now, key_of(endpoint, "whe", "endpoint"))
    return WebhookDeliveryPayload(webhook_delivery=refer(made.id), errors=[])


@mutation
async def redeliver_webhook(ctx: Context, id: strawberry.ID) -> WebhookDeliveryPayload:
    """Sends a finished delivery once more, with the same event id."""
    made = await endpoints.redeliver(ctx.now, key_of(id, "whd", "id"))
    return WebhookDeliveryPayload(webhook_delivery=refer(made.id), errors=[])
