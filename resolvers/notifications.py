"""Notifications: texts, what was sent, what is declined; and the way back in after a forgotten password."""

from __future__ import annotations

import strawberry
from sqlalchemy import Select, select

import models.notifications as stored
from planner.mapping import Connection, refer
from planner.registry import mutation, query
from resolvers.context import Context, key_of
from schema.identity import DonePayload
from schema.notifications import (
    Notification,
    NotificationKind,
    NotificationOptOut,
    NotificationOptOutInput,
    NotificationsPayload,
    NotificationTemplate,
    NotificationTemplateInput,
    NotificationTemplatePayload,
    NotificationText,
    RequestPasswordResetInput,
    ResetPasswordInput,
)
from services import password_reset
from services.notifications import KINDS, inbox, templates


@query(Connection[Notification])
def notifications() -> Select[stored.Notification]:
    """What was sent, or is to be, to whom within reach: for everybody at least to themselves (S0-35)."""
    return select(stored.Notification)


@query(Connection[NotificationTemplate])
def notification_templates() -> Select[stored.NotificationTemplate]:
    """The tenants' own texts within reach; without one the built-in text holds (S0-35)."""
    return select(stored.NotificationTemplate)


@query(Connection[NotificationOptOut])
def notification_opt_outs() -> Select[stored.NotificationOptOut]:
    """What recipients within reach do not want (S0-35)."""
    return select(stored.NotificationOptOut)


@query("list[NotificationKind]")
async def notification_kinds(ctx: Context) -> list[NotificationKind]:
    """All that people are told of, with placeholders and built-in texts (S0-35)."""
    return [
        NotificationKind(
            kind=kind.key,
            channels=list(kind.channels),
            placeholders=sorted(kind.placeholders),
            security=kind.security,
            texts=[
                NotificationText(language=language, subject=text.subject, body=text.body)
                for language, text in kind.texts.items()
            ],
        )
        for kind in KINDS.values()
    ]


@mutation
async def save_notification_template(ctx: Context, input: NotificationTemplateInput) -> NotificationTemplatePayload:
    """The caller's company's own text for a kind, channel and language, for itself and all below it (S0-35)."""
    saved = await templates.save(ctx.now, **vars(input))
    return NotificationTemplatePayload(notification_template=refer(saved), errors=[])


@mutation
async def remove_notification_template(ctx: Context, id: strawberry.ID) -> DonePayload:
    """Gives up a text of one's own: the one above, or the built-in one, holds again (S0-35)."""
    await templates.remove(ctx.now, key_of(id, "ntt", "id"))
    return DonePayload(done=True, errors=[])


@mutation
async def mark_notifications_read(ctx: Context, ids: list[strawberry.ID]) -> NotificationsPayload:
    """Marks the caller's own messages in the application as read (S0-35)."""
    read = await inbox.mark_read(ctx.now, [key_of(id, "ntf", "ids") for id in ids])
    return NotificationsPayload(notifications=[refer(key) for key in read], errors=[])


@mutation
async def set_notification_opt_out(ctx: Context, input: NotificationOptOutInput) -> DonePayload:
    """Whether the caller gets a kind of notification over a channel (S0-35)."""
    await inbox.set_opt_out(ctx.now, input.kind, input.channel, declined=input.declined, own=True)
    return DonePayload(done=True, errors=[])


@mutation
async def set_tenant_notification_opt_out(ctx: Context, input: NotificationOptOutInput) -> DonePayload:
    """Whether the caller's company gets a kind of notification at its own address (S0-35)."""
    await inbox.set_opt_out(ctx.now, input.kind, input.channel, declined=input.declined, own=False)
    return DonePayload(done=True, errors=[])


@mutation(public=True)
async def request_password_reset(ctx: Context, input: RequestPasswordResetInput) -> DonePayload:
    """Mails a code to the account, if there is one; the answer does not tell (S1-73, S1-75)."""
    await password_reset.request(ctx.runtime, ctx.door, ctx.origin, input.account)
    await ctx.nudge()
    return DonePayload(done=True, errors=[])


@mutation(public=True)
async def reset_password(ctx: Context, input: ResetPasswordInput) -> DonePayload:
    """A new password for a code from the mail; all sessions of the account end (S1-73, S1-75)."""
    await password_reset.reset(ctx.runtime, ctx.door, ctx.origin, input.account, input.verification_code, input.new)
    return DonePayload(done=True, errors=[])
