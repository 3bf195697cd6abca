"""Guides, documentation and memberships."""

from __future__ import annotations

import strawberry
from sqlalchemy import Select, select

import models.guidance as stored
from models.guidance import HelpKind
from models.tenancy import Language
from planner.mapping import Connection, refer
from planner.registry import mutation, query
from resolvers.context import Context, key_of, user_error
from schema.guidance import (
    GrantMembershipInput,
    HelpAnswer,
    HelpText,
    HelpTopic,
    HelpTopicInput,
    HelpTopicPayload,
    MembershipGrant,
    MembershipPayload,
)
from services import guidance
from services.refusal import Refusal


@query(HelpAnswer)
async def help_topic(
    ctx: Context, kind: HelpKind, page_key: str, block_key: str | None = None, language: Language | None = None
) -> HelpAnswer:
    """The guide or the documentation of a page, or of one block of it, that suits the caller best: by language (the
    one asked for, then zh-CN, zh-TW, en), then for the caller's roles before everybody's, then by the newest
    version (S2-21 to S2-25, S4-55). MEMBERSHIP_REQUIRED where the caller's tenant is no member (S2-26)."""
    try:
        found = await guidance.topic(ctx.runtime, ctx.principal, kind, page_key, block_key, language)
    except Refusal as refusal:
        return HelpAnswer(topic=None, errors=[user_error(refusal, ctx)])
    if found is None:
        return HelpAnswer(topic=None, errors=[])
    topic = HelpText(
        kind=found.kind,
        page_key=found.page_key,
        block_key=found.block_key,
        language=found.language,
        version=found.version,
        title=found.title,
        body=found.body,
    )
    return HelpAnswer(topic=topic, errors=[])


@query(Connection[HelpTopic])
def help_topics() -> Select[stored.HelpTopic]:
    """All versions of all topics, for those who write them (S2-25)."""
    return select(stored.HelpTopic)


@query(Connection[MembershipGrant])
def membership_grants() -> Select[stored.MembershipGrant]:
    """The history of memberships: everybody's for the platform's staff, a tenant's own for its staff (S2-26)."""
    return select(stored.MembershipGrant)


@mutation
async def upsert_help_topic(ctx: Context, input: HelpTopicInput) -> HelpTopicPayload:
    """Publishes a topic, as its next version or in place of one (S2-25)."""
    made = await guidance.upsert(ctx.now, **vars(input))
    return HelpTopicPayload(help_topic=refer(made.id), errors=[])


@mutation
async def withdraw_help_topic(ctx: Context, id: strawberry.ID) -> HelpTopicPayload:
    """Takes a version of a topic out of sight (S2-25)."""
    changed = await guidance.withdraw(ctx.now, key_of(id, "hlp", "id"))
    return HelpTopicPayload(help_topic=refer(changed.id), errors=[])


@mutation
async def grant_membership(ctx: Context, input: GrantMembershipInput) -> MembershipPayload:
    """Makes a tenant a member, or extends its membership (S2-26)."""
    made = await guidance.grant_membership(
        ctx.now,
        key_of(input.tenant, "ten", "tenant"),
        until=input.until,
        source=input.source,
        remark=input.remark,
    )
    return MembershipPayload(membership_grant=refer(made.id), errors=[])
