"""What a recipient does: reads, and declines what it does not want."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert

from models.base import table_of
from models.notifications import Notification, NotificationChannel, NotificationOptOut, NotificationState
from services.notifications.templates import kind_of
from services.refusal import Refusal, not_found
from services.runtime import Work

MAX_READ = 200


async def mark_read(work: Work, keys: Sequence[int]) -> list[int]:
    """The caller's own messages in the application as read; the first time counts. All or none: NOT_FOUND."""
    if len(keys) > MAX_READ:
        raise Refusal("TOO_MANY", "ids", limit=MAX_READ)
    wanted = sorted(set(keys))
    found = list(
        await work.session.scalars(
            select(Notification)
            .where(
                Notification.id.in_(wanted),
                Notification.account_id == work.principal.account_id,
                Notification.channel == NotificationChannel.IN_APP,
                Notification.state == NotificationState.SENT,
            )
            .order_by(Notification.id)
            .with_for_update()
        )
    )
    if len(found) != len(wanted):
        raise not_found("ids")
    for notification in found:
        notification.read_at = notification.read_at or datetime.now(UTC)
    return wanted


async def set_opt_out(work: Work, kind: str, channel: NotificationChannel, *, declined: bool, own: bool) -> None:
    """Whether the caller's account, or its tenant at the tenant's own address, gets a kind over a channel.

    SECURITY_NOTIFICATION for what everybody must be told.
    """
    declared = kind_of(kind)
    if declared.security:
        raise Refusal("SECURITY_NOTIFICATION", "kind")
    if channel not in declared.channels:
        raise Refusal("INVALID", "channel")
    account = work.principal.account_id if own else None
    if not declined:
        await work.session.execute(
            delete(NotificationOptOut).where(
                NotificationOptOut.tenant_id == work.principal.tenant_id,
                NotificationOptOut.account_id.is_not_distinct_from(account),
                NotificationOptOut.kind == kind,
                NotificationOptOut.channel == channel,
            )
        )
        return
    await work.session.execute(
        insert(table_of(NotificationOptOut))
        .values(
            tenant_id=work.principal.tenant_id,
            tenant_path=work.principal.path,
            account_id=account,
            kind=kind,
            channel=channel,
        )
        .on_conflict_do_nothing()
    )
