"""Guides, documentation and memberships in the graph."""

from __future__ import annotations

from datetime import date, datetime
from typing import TYPE_CHECKING

import strawberry

import models.guidance as stored
from models.guidance import HelpKind, HelpStatus, MembershipSource
from models.tenancy import Language
from planner.mapping import Node, column, entity, enum_type, input_type, to_one, value
from schema.common import UserError

if TYPE_CHECKING:
    from schema.tenancy import Tenant

enum_type(HelpKind, "Whether it guides through a page or documents it.")
enum_type(HelpStatus, "Whether it answers.")
enum_type(MembershipSource, "Why a tenant is a member: renewed on the official site, or given.")


@entity(
    stored.HelpTopic,
    prefix="hlp",
    filters=("kind", "page_key", "block_key", "language", "role", "status"),
    sorts=("page_key", "updated_at"),
)
class HelpTopic(Node):
    """A version of a guide or of documentation, as it is managed (S2-25)."""

    kind: HelpKind
    page_key: str
    block_key: str | None = column("The block of the page; null for the page itself.")
    language: Language
    role: str | None = column("The role that it is written for; null for everybody.")
    version: int
    title: str
    body: str = column("Markdown; a frontend shows it without any markup of its own.")
    status: HelpStatus
    created_at: datetime
    updated_at: datetime


@entity(stored.MembershipGrant, prefix="mbg", filters=("source", "granted_at"), sorts=("granted_at",))
class MembershipGrant(Node):
    """That a tenant is a member up to and including a day; the latest day counts (S2-26)."""

    until: date
    source: MembershipSource
    remark: str | None
    granted_at: datetime
    tenant: Tenant | None = to_one("Who is a member.")


@value
class HelpText:
    """What a page shows when it is asked for help (S2-21 to S2-24, S4-55)."""

    kind: HelpKind
    page_key: str
    block_key: str | None
    language: Language
    version: int
    title: str
    body: str


@value
class HelpAnswer:
    """The topic, null where there is none; or why it is not shown, such as MEMBERSHIP_REQUIRED (S2-26)."""

    topic: HelpText | None
    errors: list[UserError]


@input_type
class HelpTopicInput:
    """A topic to publish: as the next version, or in place of the version that is named (S2-25)."""

    kind: HelpKind
    page_key: str
    language: Language
    title: str
    body: str
    block_key: str | None = None
    role: str | None = None
    version: int | None = None


@value
class HelpTopicPayload:
    """The topic as it now is, or why nothing was changed."""

    help_topic: HelpTopic | None
    errors: list[UserError]


@input_type
class GrantMembershipInput:
    """Until when a tenant is a member, that day included; a membership is only ever extended (S2-26)."""

    tenant: strawberry.ID
    until: date
    source: MembershipSource
    remark: str | None = None


@value
class MembershipPayload:
    """The membership, or why nothing was changed."""

    membership_grant: MembershipGrant | None
    errors: list[UserError]
