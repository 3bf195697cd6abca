"""The catalogue of events, and how each is told to those who may see it.

An event is a row of the outbox, written in the transaction of the change, owned by the tenant that it happened to.
The relay hands it to every endpoint of that tenant and of those above it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from authz.principal import system
from authz.standing import in_business
from models.sim import SimCard
from models.system import OutboxEvent
from models.webhook import WebhookDelivery, WebhookEndpoint, WebhookEvent, WebhookStatus
from planner.ids import encode_id
from services.api_keys import EXPIRING
from services.runtime import Unit

API_VERSION = "2026-11"
"""The form of a payload; a change that a receiver could notice gets another."""
CARDS_PER_EVENT = 100
MAX_ATTEMPTS = 8
"""Of a delivery that nobody asked for by hand: about fifteen hours, with the pauses between them."""

ALLOCATED = "sim.allocated"
STATUS_CHANGED = "sim.status-changed"
ORDER_CHANGED = "order.status-changed"
TASK_FINISHED = "task.finished"
DISABLED = "webhook.disabled"


@dataclass(frozen=True)
class Told:
    """How an event of the outbox is told."""

    event: WebhookEvent
    subject: str
    """The type of the graph that it is about: who may not read its ids may not ask to be told."""
    data: Callable[[Mapping[str, Any]], dict[str, Any]]
    """What is said of it: global ids and states, nothing that only some of the readers may see."""


CATALOGUE: dict[str, Told] = {
    ALLOCATED: Told(
        WebhookEvent.SIM_ALLOCATED,
        "SimCard",
        lambda p: {"tenant": encode_id("ten", p["tenant"]), "simCards": _cards(p)},
    ),
    STATUS_CHANGED: Told(
        WebhookEvent.SIM_STATUS_CHANGED,
        "SimCard",
        lambda p: {
            "tenant": encode_id("ten", p["tenant"]),
            "action": p["action"],
            "status": p["status"],
            "simCards": _cards(p),
        },
    ),
    ORDER_CHANGED: Told(
        WebhookEvent.ORDER_STATUS_CHANGED,
        "PackageOrder",
        lambda p: {
            "tenant": encode_id("ten", p["tenant"]),
            "order": encode_id("ord", p["order"]),
            "status": p["status"],
        },
    ),
    TASK_FINISHED: Told(
        WebhookEvent.TASK_FINISHED,
        "Task",
        lambda p: {"task": encode_id("tsk", p["task"]), "status": p["status"]},
    ),
    EXPIRING: Told(WebhookEvent.API_KEY_EXPIRING, "ApiKey", lambda p: {"apiKey": encode_id("key", p["api_key"])}),
    DISABLED: Told(
        WebhookEvent.WEBHOOK_DISABLED,
        "WebhookEndpoint",
        lambda p: {"webhookEndpoint": encode_id("whe", p["endpoint"])},
    ),
}
"""By the topic of the outbox."""
SUBJECTS = {told.event: told.subject for told in CATALOGUE.values()}


def _cards(payload: Mapping[str, Any]) -> list[str]:
    return [encode_id("sim", key) for key in payload["cards"]]


def cards_changed(work: Unit, topic: str, cards: Sequence[SimCard], **more: str) -> None:
    """Tells each holder of its cards, a hundred in one event."""
    held: dict[tuple[int, str], list[int]] = {}
    for card in cards:
        held.setdefault((card.tenant_id, card.tenant_path), []).append(card.id)
    for (tenant_id, path), keys in held.items():
        for start in range(0, len(keys), CARDS_PER_EVENT):
            some = keys[start : start + CARDS_PER_EVENT]
            work.session.add(
                OutboxEvent(
                    tenant_id=tenant_id,
                    tenant_path=path,
                    topic=topic,
                    payload={"tenant": tenant_id, "cards": some, **more},
                )
            )
            work.events += 1


def body_of(key: str, kind: str, time: str, data: Mapping[str, Any]) -> str:
    """What is sent: the same bytes at every attempt."""
    return orjson.dumps({"id": key, "type": kind, "time": time, "apiVersion": API_VERSION, "data": data}).decode()


async def fan_out(session: AsyncSession, event: OutboxEvent) -> int:
    """A delivery for each endpoint that asked for the event and whose tenant may see it; gives how many.

    Called once for each event, in the transaction that marks it as sent.
    """
    told = CATALOGUE[event.topic]
    above = system("tell of an event", event.tenant_path).ancestors
    endpoints = await session.scalars(
        select(WebhookEndpoint)
        .where(
            WebhookEndpoint.tenant_path.in_(above),
            WebhookEndpoint.status == WebhookStatus.ACTIVE,
            WebhookEndpoint.events.contains([told.event.name]),
            in_business(WebhookEndpoint.tenant_id),
        )
        .order_by(WebhookEndpoint.id)
    )
    key = str(event.key)
    body = body_of(key, told.event.value, event.created_at.isoformat(), told.data(event.payload))
    made = [delivery(endpoint, key, told.event.value, body) for endpoint in endpoints]
    session.add_all(made)
    return len(made)


def delivery(
    endpoint: WebhookEndpoint, key: str, kind: str, body: str, *, attempt_limit: int = MAX_ATTEMPTS
) -> WebhookDelivery:
    return WebhookDelivery(
        tenant_id=endpoint.tenant_id,
        tenant_path=endpoint.tenant_path,
        endpoint_id=endpoint.id,
        event_key=key,
        event_type=kind,
        body=body,
        attempt_limit=attempt_limit,
    )
