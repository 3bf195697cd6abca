"""Writing notifications with the change that causes them; nothing is sent before that is committed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from models.notifications import (
    Notification,
    NotificationChannel,
    NotificationOptOut,
    NotificationState,
)
from models.system import OutboxEvent
from services.keys import Keys
from services.notifications.kinds import KINDS, Kind
from services.notifications.recipients import Recipient
from services.runtime import Work

TOPIC = "notification.send"
SWEPT_AFTER = timedelta(minutes=1)
"""How long the outbox has to bring a new message to a worker before it is looked for."""


async def send(
    by: Work | AsyncSession,
    *,
    kind: str,
    to: Recipient,
    parameters: Mapping[str, Any],
    dedupe_key: str | None = None,
    keys: Keys | None = None,
) -> list[int]:
    """Writes one message for each channel of the kind on which the recipient has an address; gives their keys.

    ``by`` is the unit of work or the transaction of the change. ``parameters`` are exactly the kind's placeholders;
    a kind with secrets needs ``keys`` where there is no unit of work. What the recipient has declined, and what has
    the same ``dedupe_key`` as a message that was sent or queued within the kind's window, is kept as SUPPRESSED. Two
    transactions with one dedupe key wait for each other.
    """
    declared = KINDS[kind]
    if set(parameters) != declared.placeholders:
        raise ValueError(f"{kind} has the placeholders {sorted(declared.placeholders)}")
    session, keys = (by.session, by.runtime.keys) if isinstance(by, Work) else (by, keys)
    made = []
    for channel in declared.channels:
        address = to.addresses.get(channel)
        if address is None and (channel is not NotificationChannel.IN_APP or to.account_id is None):
            continue
        why_not = await _suppressed(session, declared, to, channel, dedupe_key)
        queued = why_not is None
        notification = Notification(
            tenant_id=to.tenant_id,
            tenant_path=to.tenant_path,
            kind=kind,
            channel=channel,
            language=to.language,
            address=address,
            account_id=to.account_id,
            end_user_id=to.end_user_id,
            parameters={name: str(value) for name, value in parameters.items() if name not in declared.secrets},
            state=NotificationState.QUEUED if queued else NotificationState.SUPPRESSED,
            last_error=why_not,
            next_attempt_at=datetime.now(UTC) + SWEPT_AFTER,
            dedupe_key=dedupe_key,
        )
        session.add(notification)
        await session.flush()
        if queued and declared.secrets:
            assert keys is not None, "a kind with secrets needs keys"
            notification.secrets_encrypted = keys.encrypt(
                json.dumps({name: str(parameters[name]) for name in declared.secrets}), secrets_binding(notification.id)
            )
        if queued:
            _later(by, session, notification)
        made.append(notification.id)
    return made


def secrets_binding(notification_id: int) -> str:
    return f"notification:{notification_id}"


def _later(by: Work | AsyncSession, session: AsyncSession, notification: Notification) -> None:
    session.add(
        OutboxEvent(
            tenant_id=notification.tenant_id,
            tenant_path=notification.tenant_path,
            topic=TOPIC,
            payload={"notification": notification.id},
        )
    )
    if isinstance(by, Work):
        by.events += 1


async def _suppressed(
    session: AsyncSession, kind: Kind, to: Recipient, channel: NotificationChannel, dedupe_key: str | None
) -> str | None:
    """Why a message is not sent at all: DECLINED or DUPLICATE."""
    if not kind.security:
        declined = await session.scalar(
            select(NotificationOptOut.id).where(
                NotificationOptOut.tenant_id == to.tenant_id,
                NotificationOptOut.account_id.is_not_distinct_from(to.account_id),
                NotificationOptOut.kind == kind.key,
                NotificationOptOut.channel == channel,
            )
        )
        if declined is not None:
            return "DECLINED"
    if dedupe_key is None:
        return None
    place = f"{to.tenant_id}|{kind.key}|{channel.name}|{to.account_id}|{to.addresses.get(channel)}|{dedupe_key}"
    await session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(place, 0))))
    same = await session.scalar(
        select(Notification.id)
        .where(
            Notification.tenant_id == to.tenant_id,
            Notification.kind == kind.key,
            Notification.dedupe_key == dedupe_key,
            Notification.channel == channel,
            Notification.account_id.is_not_distinct_from(to.account_id),
            Notification.address.is_not_distinct_from(to.addresses.get(channel)),
            Notification.state.in_([NotificationState.QUEUED, NotificationState.SENT]),
            Notification.created_at > func.now() - kind.window,
        )
        .limit(1)
    )
    return None if same is None else "DUPLICATE"
