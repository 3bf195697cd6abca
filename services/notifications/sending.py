"""Sending what was written: the worker's side. At least once.

A message is locked from before it is handed over until it is marked, so that two workers never send it at once. A
worker that dies between the two leaves it queued, and it is sent again: a repeat carries the same reference, which
mail servers, WeChat and the SMS provider's receipts show.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from authz.principal import system
from authz.session import Database
from gateways.http import GatewayError
from gateways.messaging import Message, Messenger
from models.notifications import Notification, NotificationChannel, NotificationState
from services.keys import Keys
from services.notifications.kinds import KINDS
from services.notifications.templates import wording
from services.notifications.writing import secrets_binding

log = structlog.get_logger()

BACKOFF = (timedelta(minutes=1), timedelta(minutes=5), timedelta(minutes=30), timedelta(hours=2))
MAX_ATTEMPTS = len(BACKOFF) + 1
BATCH = 500


@dataclass(frozen=True)
class Post:
    """What a worker sends with: the installation's keys, and a way out for each channel but the application's own."""

    keys: Keys
    messengers: Mapping[NotificationChannel, Messenger]

    async def close(self) -> None:
        for messenger in self.messengers.values():
            await messenger.close()


async def deliver(database: Database, post: Post, notification_id: int) -> None:
    """Sends one message, unless it was sent, another worker is at it, or its next attempt is not yet due."""
    async with database.transaction(system("send a notification")) as session:
        notification = await session.scalar(
            select(Notification)
            .where(Notification.id == notification_id, Notification.state == NotificationState.QUEUED)
            .with_for_update(skip_locked=True)
        )
        now = datetime.now(UTC)
        if notification is None or (notification.attempts and notification.next_attempt_at > now):
            return
        if now > notification.created_at + KINDS[notification.kind].useful_for:
            _give_up(notification, "EXPIRED: It came too late to be of use.")
            return
        notification.attempts += 1
        try:
            message = await _message(session, post.keys, notification)
            if notification.channel is not NotificationChannel.IN_APP:
                await post.messengers[notification.channel].send(message)
        except GatewayError as error:
            _failed(notification, f"{error.code}: {error}", passing=error.code.endswith("_UNAVAILABLE"))
        except Exception as error:
            log.exception("a notification could not be handed over", notification=notification.id)
            _failed(notification, f"INTERNAL: {type(error).__name__}", passing=True)
        else:
            notification.state, notification.sent_at = NotificationState.SENT, datetime.now(UTC)
            notification.last_error, notification.secrets_encrypted = None, None
            notification.subject = message.subject
            notification.body = None if KINDS[notification.kind].secrets else message.body


async def _message(session: AsyncSession, keys: Keys, notification: Notification) -> Message:
    parameters = {**notification.parameters, **_secrets(keys, notification)}
    text = (await wording(session, notification)).filled(parameters)
    return Message(
        reference=f"notification-{notification.id}",
        address=notification.address or "",
        language=notification.language.value,
        subject=text.subject,
        body=text.body,
        provider_template=text.provider_template,
        parameters=parameters,
    )


def _secrets(keys: Keys, notification: Notification) -> dict[str, str]:
    if notification.secrets_encrypted is None:
        return {}
    found: dict[str, str] = json.loads(keys.decrypt(notification.secrets_encrypted, secrets_binding(notification.id)))
    return found


def _failed(notification: Notification, why: str, *, passing: bool) -> None:
    """Puts the next attempt off, longer each time; gives up where it would be no use, or after the last."""
    if not passing or notification.attempts >= MAX_ATTEMPTS:
        _give_up(notification, why)
        return
    notification.last_error = why
    notification.next_attempt_at = datetime.now(UTC) + BACKOFF[notification.attempts - 1]


def _give_up(notification: Notification, why: str) -> None:
    notification.state, notification.last_error = NotificationState.FAILED, why
    notification.secrets_encrypted = None


async def due(database: Database) -> list[int]:
    """Messages whose next attempt is due, or that no worker was told of; those being sent are left out."""
    async with database.transaction(system("find notifications that are due")) as session:
        found = await session.scalars(
            select(Notification.id)
            .where(Notification.state == NotificationState.QUEUED, Notification.next_attempt_at <= func.now())
            .order_by(Notification.next_attempt_at)
            .limit(BATCH)
            .with_for_update(skip_locked=True)
        )
        return list(found)
