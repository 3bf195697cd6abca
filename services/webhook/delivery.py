"""Deliveries: taken up, signed, sent, and tried again until they arrive or are given up.

A delivery is taken by pushing its next attempt into the future in a transaction of its own; a worker that dies while
sending leaves one that is due again half a minute later. So each arrives at least once, always with the same event id.
Deliveries of one endpoint may overtake each other.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import random
import time
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog
from sqlalchemy import func, select

from authz.principal import system
from authz.session import Database
from authz.standing import in_business
from gateways.webhook import Answer, post
from models.system import OutboxEvent
from models.webhook import WebhookAttempt, WebhookDelivery, WebhookDeliveryStatus, WebhookEndpoint, WebhookStatus
from services.keys import Keys
from services.webhook.endpoints import webhook_binding
from services.webhook.events import DISABLED, MAX_ATTEMPTS

log = structlog.get_logger()

SIGNATURE_HEADER = "Trellis-Signature"
AT_ONCE, OF_ONE = 8, 2
LEASE = timedelta(seconds=30)
"""Longer than an attempt can take."""
FIRST_PAUSE = 10.0
LONGEST_PAUSE = 6 * 3600.0
RUN_SECONDS = 15.0


@dataclass(frozen=True)
class Taken:
    """A delivery that this worker is about to send, for the ``attempt``-th time."""

    id: int
    endpoint_id: int
    attempt: int
    url: str
    secrets: tuple[str, ...]
    event_key: str
    event_type: str
    body: str


def signature(secrets: tuple[str, ...], timestamp: int, body: str) -> str:
    """``t=<seconds>,v1=<hex>``: HMAC-SHA256 of ``<seconds>.<body>``, one ``v1`` for each secret that holds."""
    signed = f"{timestamp}.{body}".encode()
    parts = [f"v1={hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()}" for secret in secrets]
    return ",".join([f"t={timestamp}", *parts])


def pause(attempts: int) -> timedelta:
    """How long to wait after so many attempts: ten seconds, four times as long after each, give or take a quarter."""
    seconds = min(LONGEST_PAUSE, FIRST_PAUSE * 4 ** (attempts - 1))
    return timedelta(seconds=seconds * random.uniform(0.75, 1.25))  # noqa: S311 - nothing secret


async def deliver_due(database: Database, keys: Keys, *, inside: bool) -> int:
    """Sends what is due, a few at a time, for some seconds at most; gives how many attempts were made.

    Two workers share what is due. An endpoint that lets everybody wait holds up no more than ``OF_ONE`` of what is
    under way at once. ``inside``: see ``gateways.webhook.checked``.
    """
    ends, made = time.monotonic() + RUN_SECONDS, 0
    under_way: Counter[int] = Counter()
    taking = asyncio.Lock()

    async def line() -> None:
        nonlocal made
        while time.monotonic() < ends:
            async with taking:
                waited_for = [endpoint for endpoint, deliveries in under_way.items() if deliveries >= OF_ONE]
                one = await _take(database, keys, waited_for)
                if one is None:
                    return
                under_way[one.endpoint_id] += 1
            try:
                await _attempt(database, one, inside=inside)
            except Exception:
                # it could not be written down: it is due again when its time is up
                log.exception("a delivery's attempt was lost", delivery=one.id)
            finally:
                under_way[one.endpoint_id] -= 1
            made += 1

    await asyncio.gather(*(line() for _ in range(AT_ONCE)))
    return made


async def _take(database: Database, keys: Keys, waited_for: Collection[int]) -> Taken | None:
    """The delivery that has been due for longest, but of no endpoint that is waited for; its attempt begins."""
    async with database.transaction(system("deliver webhooks")) as session:
        due = (
            await session.execute(
                select(WebhookDelivery, WebhookEndpoint)
                .join(WebhookEndpoint, WebhookEndpoint.id == WebhookDelivery.endpoint_id)
                .where(
                    WebhookDelivery.status == WebhookDeliveryStatus.PENDING,
                    WebhookDelivery.next_attempt_at <= func.now(),
                    WebhookEndpoint.status == WebhookStatus.ACTIVE,
                    WebhookEndpoint.id.not_in(waited_for),
                    in_business(WebhookEndpoint.tenant_id),
                )
                .order_by(WebhookDelivery.next_attempt_at, WebhookDelivery.id)
                .limit(1)
                .with_for_update(skip_locked=True, of=WebhookDelivery)
            )
        ).one_or_none()
        if due is None:
            return None
        delivery, endpoint = due
        delivery.attempts += 1
        delivery.next_attempt_at = datetime.now(UTC) + LEASE
        return Taken(
            delivery.id,
            endpoint.id,
            delivery.attempts,
            endpoint.url,
            _secrets(keys, endpoint),
            delivery.event_key,
            delivery.event_type,
            delivery.body,
        )


def _secrets(keys: Keys, endpoint: WebhookEndpoint) -> tuple[str, ...]:
    stored = [endpoint.secret_encrypted]
    until = endpoint.previous_secret_until
    if endpoint.previous_secret_encrypted is not None and until is not None and until > datetime.now(UTC):
        stored.append(endpoint.previous_secret_encrypted)
    return tuple(keys.decrypt(one, webhook_binding(endpoint.id)) for one in stored)


async def _attempt(database: Database, taken: Taken, *, inside: bool) -> None:
    started = datetime.now(UTC)
    headers = {
        "content-type": "application/json",
        "user-agent": "Trellis-Webhooks/1",
        "trellis-event-id": taken.event_key,
        "trellis-event-type": taken.event_type,
        SIGNATURE_HEADER: signature(taken.secrets, int(started.timestamp()), taken.body),
    }
    answer = await post(taken.url, taken.body, headers, inside=inside)
    async with database.transaction(system("deliver webhooks")) as session:
        found = (
            await session.execute(
                select(WebhookDelivery, WebhookEndpoint)
                .join(WebhookEndpoint, WebhookEndpoint.id == WebhookDelivery.endpoint_id)
                .where(WebhookDelivery.id == taken.id)
                .with_for_update()
            )
        ).one_or_none()
        if found is None:
            return
        delivery, endpoint = found
        session.add(
            WebhookAttempt(
                tenant_id=delivery.tenant_id,
                tenant_path=delivery.tenant_path,
                delivery_id=delivery.id,
                at=started,
                status_code=answer.status_code,
                duration_ms=answer.duration_ms,
                answer=answer.text,
                error=answer.error,
            )
        )
        # one that came back so late that another worker had taken it says nothing about how it stands now
        if delivery.attempts == taken.attempt and delivery.status is WebhookDeliveryStatus.PENDING:
            event = _judge(delivery, endpoint, answer)
            if event is not None:
                session.add(event)


def _judge(delivery: WebhookDelivery, endpoint: WebhookEndpoint, answer: Answer) -> OutboxEvent | None:
    """How a delivery stands after an attempt. Gives the notice, where its failure switches the endpoint off."""
    now = datetime.now(UTC)
    if answer.accepted:
        delivery.status, delivery.finished_at, endpoint.last_succeeded_at = WebhookDeliveryStatus.SUCCEEDED, now, now
        return None
    if delivery.attempts < delivery.attempt_limit:
        delivery.next_attempt_at = now + pause(delivery.attempts)
        return None
    delivery.status, delivery.finished_at = WebhookDeliveryStatus.FAILED, now
    reached = endpoint.last_succeeded_at
    answers = reached is not None and reached > delivery.created_at
    if endpoint.status is not WebhookStatus.ACTIVE or answers or delivery.attempt_limit != MAX_ATTEMPTS:
        return None
    log.warning("a webhook endpoint is switched off", endpoint=endpoint.id, tenant=endpoint.tenant_id)
    endpoint.status, endpoint.disabled_at = WebhookStatus.FAILING, now
    return OutboxEvent(
        tenant_id=endpoint.tenant_id,
        tenant_path=endpoint.tenant_path,
        topic=DISABLED,
        payload={"endpoint": endpoint.id},
    )
