"""Endpoints: registered, changed, their secrets rotated, tried out; and deliveries sent once more."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy import func, select

from authz.coordinates import Act
from authz.scopes import Scope, within
from gateways.webhook import AddressError, checked
from models.tenancy import Tenant
from models.webhook import WebhookDelivery, WebhookDeliveryStatus, WebhookEndpoint, WebhookEvent, WebhookStatus
from services.api_keys import check_overlap
from services.refusal import Refusal
from services.runtime import Work
from services.webhook.events import SUBJECTS, body_of, delivery

MAX_ENDPOINTS = 20
PING = "ping"


def webhook_binding(endpoint_id: int) -> str:
    return f"webhook_endpoint:{endpoint_id}"


async def create(work: Work, tenant: Tenant, url: str, events: Sequence[WebhookEvent]) -> tuple[WebhookEndpoint, str]:
    """An endpoint and the secret that its deliveries are signed with, shown this once.

    INVALID_URL, HOST_NOT_FOUND, ADDRESS_NOT_ALLOWED (url), REQUIRED, EVENT_NOT_READABLE (events), TOO_MANY.
    """
    await _hold(work, tenant)
    endpoint = WebhookEndpoint(
        tenant_id=tenant.id,
        tenant_path=tenant.path,
        url=await _url(work, url),
        events=_events(work, events),
        secret_encrypted=b"",
    )
    work.session.add(endpoint)
    await work.session.flush()
    secret = _new_secret()
    endpoint.secret_encrypted = work.runtime.keys.encrypt(secret, webhook_binding(endpoint.id))
    return endpoint, secret


async def _hold(work: Work, tenant: Tenant) -> None:
    # one after the other, so that each counts those before it
    await work.session.execute(select(Tenant.id).where(Tenant.id == tenant.id).with_for_update(key_share=True))
    held = await work.session.scalar(
        select(func.count()).select_from(WebhookEndpoint).where(WebhookEndpoint.tenant_id == tenant.id)
    )
    if (held or 0) >= MAX_ENDPOINTS:
        raise Refusal("TOO_MANY", limit=MAX_ENDPOINTS)


def _new_secret() -> str:
    return f"whsec_{secrets.token_urlsafe(32)}"


async def _url(work: Work, url: str) -> str:
    url = url.strip()
    try:
        await checked(url, inside=work.runtime.webhooks_inside)
    except AddressError as error:
        raise Refusal(error.code, "url", value=error.host) from None
    return url


def _events(work: Work, events: Sequence[WebhookEvent]) -> list[str]:
    if not events:
        raise Refusal("REQUIRED", "events")
    for event in events:
        # endpoints are told of all that happens below, so all of it must be the caller's to read
        reach = work.principal.grants.reach_of(SUBJECTS[event], "id", Act.READ)
        if reach is None or not within(frozenset({Scope.SUBTREE}), reach):
            raise Refusal("EVENT_NOT_READABLE", "events", value=event.value)
    return sorted({event.name for event in events})


async def update(
    work: Work, key: int, *, url: str | None, events: Sequence[WebhookEvent] | None, active: bool | None
) -> WebhookEndpoint:
    """Changes what is given. Switched on again, it is sent first what was waiting for it."""
    endpoint = await work.held(WebhookEndpoint, key)
    if url is not None:
        endpoint.url = await _url(work, url)
    if events is not None:
        endpoint.events = _events(work, events)
    if active is not None:
        endpoint.status = WebhookStatus.ACTIVE if active else WebhookStatus.DISABLED
        endpoint.disabled_at = None if active else datetime.now(UTC)
    return endpoint


async def remove(work: Work, key: int) -> None:
    """Ends an endpoint, with the log of its deliveries."""
    await work.session.delete(await work.held(WebhookEndpoint, key, field="endpoint"))


async def rotate_secret(work: Work, key: int, overlap_hours: int) -> tuple[WebhookEndpoint, str]:
    """A new secret; for so many hours deliveries are signed with the one before as well."""
    overlap = check_overlap(overlap_hours)
    endpoint = await work.held(WebhookEndpoint, key, field="endpoint")
    secret = _new_secret()
    endpoint.previous_secret_encrypted = endpoint.secret_encrypted if overlap else None
    endpoint.previous_secret_until = datetime.now(UTC) + overlap if overlap else None
    endpoint.secret_encrypted = work.runtime.keys.encrypt(secret, webhook_binding(endpoint.id))
    return endpoint, secret


async def ping(work: Work, key: int) -> WebhookDelivery:
    """Sends an event that means nothing, to try an endpoint out. NOT_ACTIVE where it is switched off."""
    endpoint = await _active(work, key, "endpoint")
    event = str(uuid.uuid4())
    made = delivery(endpoint, event, PING, body_of(event, PING, datetime.now(UTC).isoformat(), {}), attempt_limit=1)
    work.session.add(made)
    await work.session.flush()
    return made


async def _active(work: Work, key: int, field: str) -> WebhookEndpoint:
    endpoint = await work.held(WebhookEndpoint, key, field=field)
    if endpoint.status is not WebhookStatus.ACTIVE:
        raise Refusal("NOT_ACTIVE", field, value=endpoint.url)
    return endpoint


async def redeliver(work: Work, key: int) -> WebhookDelivery:
    """Sends a finished delivery once more, with the same event id. STILL_PENDING, NOT_ACTIVE."""
    found = await work.held(WebhookDelivery, key)
    await _active(work, found.endpoint_id, "id")
    if found.status is WebhookDeliveryStatus.PENDING:
        raise Refusal("STILL_PENDING", "id")
    found.status, found.finished_at = WebhookDeliveryStatus.PENDING, None
    found.next_attempt_at, found.attempt_limit = datetime.now(UTC), found.attempts + 1
    return found
