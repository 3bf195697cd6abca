"""Guides and documentation, which topic answers whom, and the memberships that open them (S2-21 to S2-26, S4-55)."""

from __future__ import annotations

import hashlib
import html
import re
from datetime import date

from sqlalchemy import case, cast, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.types import Date

from authz.principal import ROOT_PATH, Principal, system
from models.guidance import HelpKind, HelpStatus, HelpTopic, MembershipGrant, MembershipSource
from models.identity import EndUser
from models.tenancy import Language, Tenant
from services import validation
from services.refusal import Refusal
from services.runtime import Runtime, Work

MAX_BODY = 50_000
FALLBACK = (Language.ZH_CN, Language.ZH_TW, Language.EN)
"""Where there is no topic in the language that was asked for, these are tried in this order."""
SAFE_SCHEMES = frozenset({"http", "https", "mailto", "tel"})
_DESTINATIONS = (
    # [text](destination) and ![image](destination)
    re.compile(r"\]\(\s*(<[^>\n]{0,2000}|[^)]{0,2000})"),
    # [label]: destination
    re.compile(r"^[ >]*\[(?!\^)[^\]\n]+\]:\s*(\S+)", re.MULTILINE),
    # <scheme:destination>
    re.compile(r"<([a-z][a-z0-9+.-]*:[^<>\s]*)>", re.IGNORECASE),
    # attributes of markup that stands in the text
    re.compile(
        r"\b(?:href|src|srcset|action|formaction|poster|data|background)\s*=\s*(\"[^\"]{0,2000}|'[^']{0,2000}|[^\s>]{1,2000})",
        re.IGNORECASE,
    ),
)
_ESCAPED = re.compile(r"\\([!-/:-@\[-`{-~])")
_IGNORED = re.compile(r"[\x00-\x20\x7f-\xa0\u200b-\u200f\u2028\u2029\ufeff]")
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*):", re.IGNORECASE)


# -- which topic answers --------------------------------------------------------------------------------------------


async def topic(
    runtime: Runtime,
    principal: Principal,
    kind: HelpKind,
    page_key: str,
    block_key: str | None,
    language: Language | None,
) -> HelpTopic | None:
    """The topic that suits the caller best, or None. MEMBERSHIP_REQUIRED where the caller's tenant is no member.

    A block is answered by its own topics only, a page by those that name no block. Among them the language decides
    first (the one asked for, then zh-CN, zh-TW, en), then whether the topic is for one of the caller's roles rather
    than for everybody, then the newest version.
    """
    asked = language or Language(principal.language)
    languages = [asked, *(one for one in FALLBACK if one is not asked)]
    async with runtime.database.transaction(system("help")) as session:
        if principal.path != ROOT_PATH and not await is_member(session, await _tenant_of(session, principal)):
            raise Refusal("MEMBERSHIP_REQUIRED")
        found: HelpTopic | None = await session.scalar(
            select(HelpTopic)
            .where(
                HelpTopic.tenant_path == ROOT_PATH,
                HelpTopic.status == HelpStatus.PUBLISHED,
                HelpTopic.kind == kind,
                HelpTopic.page_key == page_key,
                HelpTopic.block_key.is_not_distinct_from(block_key),
                or_(HelpTopic.role.is_(None), HelpTopic.role.in_(principal.roles)),
            )
            .order_by(
                case(*((HelpTopic.language == one, place) for place, one in enumerate(languages))),
                HelpTopic.role.is_(None),
                HelpTopic.version.desc(),
                HelpTopic.role,
            )
            .limit(1)
        )
    return found


async def _tenant_of(session: AsyncSession, principal: Principal) -> int | None:
    """The caller's tenant; for an end user the one that serves the person."""
    if principal.tenant_id is not None:
        return principal.tenant_id
    found: int | None = await session.scalar(select(EndUser.tenant_id).where(EndUser.id == principal.end_user_id))
    return found


async def is_member(session: AsyncSession, tenant_id: int | None) -> bool:
    """Whether the tenant is a member today, by the calendar of its own time zone (S2-26)."""
    today = cast(func.timezone(Tenant.time_zone, func.now()), Date)
    found = await session.scalar(
        select(MembershipGrant.id)
        .join(Tenant, Tenant.id == MembershipGrant.tenant_id)
        .where(MembershipGrant.tenant_id == tenant_id, MembershipGrant.until >= today)
        .limit(1)
    )
    return found is not None


# -- writing topics -------------------------------------------------------------------------------------------------


async def upsert(
    work: Work,
    *,
    kind: HelpKind,
    page_key: str,
    block_key: str | None,
    language: Language,
    role: str | None,
    version: int | None,
    title: str,
    body: str,
) -> HelpTopic:
    """Publishes a topic: the next version where none is named, or that version anew (S2-25).

    INVALID for a role that no door admits; UNSAFE_LINK where the text links to anything but web, mail or telephone.
    """
    tenant_id = work.principal.tenant_id
    page_key = validation.key(page_key, "pageKey")
    block_key = None if block_key is None else validation.key(block_key, "blockKey")
    title = validation.text(title, "title")
    body = _body(body)
    if role is not None and all(role not in door.admission.roles for door in work.runtime.doors.values()):
        raise Refusal("INVALID", "role")
    if version is not None and version < 1:
        raise Refusal("NOT_POSITIVE", "version")
    await _hold(work, kind, page_key, block_key, language, role)
    same = (
        HelpTopic.tenant_id == tenant_id,
        HelpTopic.kind == kind,
        HelpTopic.page_key == page_key,
        HelpTopic.block_key.is_not_distinct_from(block_key),
        HelpTopic.language == language,
        HelpTopic.role.is_not_distinct_from(role),
    )
    if version is None:
        version = 1 + (await work.session.scalar(select(func.max(HelpTopic.version)).where(*same)) or 0)
    found = await work.session.scalar(select(HelpTopic).where(*same, HelpTopic.version == version))
    if found is None:
        found = HelpTopic(
            tenant_id=tenant_id,
            tenant_path=work.principal.path,
            kind=kind,
            page_key=page_key,
            block_key=block_key,
            language=language,
            role=role,
            version=version,
        )
        work.session.add(found)
    found.title, found.body, found.status = title, body, HelpStatus.PUBLISHED
    await work.session.flush()
    return found


async def _hold(work: Work, *identity: object) -> None:
    """Two who write a version of one topic do so one after the other."""
    digest = hashlib.sha256(repr(identity).encode()).digest()
    await work.session.execute(select(func.pg_advisory_xact_lock(int.from_bytes(digest[:8], "big", signed=True))))


async def withdraw(work: Work, key: int) -> HelpTopic:
    """Takes a version out of sight: the one before answers again (S2-25)."""
    found = await work.held(HelpTopic, key)
    found.status = HelpStatus.WITHDRAWN
    return found


def _body(body: str) -> str:
    found = validation.text(body, "body", limit=MAX_BODY)
    for form in _DESTINATIONS:
        for match in form.finditer(found):
            destination = _IGNORED.sub("", html.unescape(_ESCAPED.sub(r"\1", match[1].lstrip("<\"'"))))
            scheme = _SCHEME.match(destination)
            if scheme is not None and scheme[1].lower() not in SAFE_SCHEMES:
                raise Refusal("UNSAFE_LINK", "body", value=destination[:40])
    return found


# -- memberships ----------------------------------------------------------------------------------------------------


async def grant_membership(
    work: Work, tenant_id: int, *, until: date, source: MembershipSource, remark: str | None
) -> MembershipGrant:
    """Makes a tenant a member up to and including a day; what was granted before stays as history (S2-26).

    PAST for a day that is over in the tenant's time zone, NOT_LATER where the membership already lasts as long. Two
    grants at once come one after the other: the tenant's row is held.
    """
    tenant = await work.held(Tenant, tenant_id, field="tenant", key_share=True)
    today = await work.session.scalar(select(cast(func.timezone(tenant.time_zone, func.now()), Date)))
    assert today is not None
    if until < today:
        raise Refusal("PAST", "until")
    latest = await work.session.scalar(
        select(func.max(MembershipGrant.until)).where(MembershipGrant.tenant_id == tenant.id)
    )
    if latest is not None and until <= latest:
        raise Refusal("NOT_LATER", "until", until=latest.isoformat())
    made = MembershipGrant(
        tenant_id=tenant.id,
        tenant_path=tenant.path,
        until=until,
        source=source,
        remark=validation.optional(remark, "remark"),
        account_id=work.principal.account_id,
    )
    work.session.add(made)
    await work.session.flush()
    return made
