"""Notifications in the graph: texts, what was sent to whom, and what somebody does not want."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import models.notifications as stored
from models.notifications import NotificationChannel, NotificationState
from models.tenancy import Language
from planner.mapping import Node, column, entity, enum_type, input_type, to_one, value
from schema.common import UserError
from schema.masks import masked_address

if TYPE_CHECKING:
    from schema.identity import StaffAccount
    from schema.tenancy import Tenant

enum_type(NotificationChannel, "By what way a notification reaches somebody.")
enum_type(NotificationState, "What became of a notification.")


@entity(
    stored.NotificationTemplate,
    prefix="ntt",
    filters=("kind", "channel", "language", "tenant"),
    sorts=("kind",),
)
class NotificationTemplate(Node):
    """A tenant's own text for a kind of notification, for itself and all below it (S0-35)."""

    kind: str = column("Which event it tells of; see ``notificationKinds``.")
    channel: NotificationChannel
    language: Language
    subject: str | None = column("The subject of a mail, the heading of other messages.")
    body: str = column("The text, with placeholders such as ``{count}``.")
    provider_template: str | None = column("Under which the SMS or WeChat provider has registered the text.")
    updated_at: datetime
    tenant: Tenant | None = to_one("Whose text it is.")


@entity(
    stored.Notification,
    prefix="ntf",
    filters=("kind", "channel", "state", "account", "created_at", "read_at"),
    sorts=("created_at",),
)
class Notification(Node):
    """One message to one recipient, and what became of it (S0-35)."""

    kind: str
    channel: NotificationChannel
    language: Language
    address: str | None = column(
        "The mail address, phone number or the like; masked except for who may see it in full.", mask=masked_address
    )
    state: NotificationState
    attempts: int = column("How often it was tried.")
    last_error: str | None = column("Why it was not sent, or not yet: a code, then words.")
    subject: str | None = column("As it was sent.")
    body: str | None = column("As it was sent; not kept of messages that hold a code.")
    created_at: datetime
    sent_at: datetime | None
    read_at: datetime | None = column("When the recipient marked it as read.")
    account: StaffAccount | None = to_one("The recipient, where it is a member of staff.")
    tenant: Tenant | None = to_one("The recipient, or whose staff the recipient is.")


@entity(stored.NotificationOptOut, prefix="nto", filters=("kind", "channel", "account"))
class NotificationOptOut(Node):
    """A kind of notification that somebody does not want over a channel (S0-35)."""

    kind: str
    channel: NotificationChannel
    created_at: datetime
    account: StaffAccount | None = to_one("Who does not want it; null for the tenant at its own address.")


@value
class NotificationText:
    """The built-in text of a kind in one language."""

    language: Language
    subject: str
    body: str


@value
class NotificationKind:
    """Something that people are told of (S0-35)."""

    kind: str
    channels: list[NotificationChannel]
    placeholders: list[str]
    security: bool
    texts: list[NotificationText]


@input_type
class NotificationTemplateInput:
    """The caller's own text for a kind, channel and language; it replaces an earlier one (S0-35)."""

    kind: str
    channel: NotificationChannel
    language: Language
    body: str
    subject: str | None = None
    provider_template: str | None = None


@value
class NotificationTemplatePayload:
    """The text as it now is, or why nothing was changed."""

    notification_template: NotificationTemplate | None
    errors: list[UserError]


@value
class NotificationsPayload:
    """The notifications as they now are, or why nothing was changed."""

    notifications: list[Notification]
    errors: list[UserError]


@input_type
class NotificationOptOutInput:
    """A kind of notification over a channel, and whether it is declined from now on or wanted again."""

    kind: str
    channel: NotificationChannel
    declined: bool


@input_type
class RequestPasswordResetInput:
    """Whose password was forgotten: the account's name, or the mail address of one account alone (S1-75)."""

    account: str


@input_type
class ResetPasswordInput:
    """The code from the mail and the password from now on; ``account`` as it was given before (S1-75)."""

    account: str
    verification_code: str
    new: str
