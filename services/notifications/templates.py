"""The wording: a tenant's own texts, checked against what a kind can fill in, and which text holds for whom."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Text, case, cast, delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from authz.principal import ROOT_PATH, system
from models.base import table_of
from models.notifications import Notification, NotificationChannel, NotificationTemplate
from models.tenancy import Language
from services import placeholders, validation
from services.identity import tenant_for
from services.notifications.kinds import KINDS, Kind
from services.refusal import Refusal, not_found
from services.runtime import Work

REGISTERED = frozenset({NotificationChannel.SMS, NotificationChannel.WECHAT_TEMPLATE})
"""Channels whose provider keeps the text itself, and is told the number of the template."""
FALLBACK = {
    Language.ZH_TW: (Language.ZH_TW, Language.ZH_CN, Language.EN),
    Language.ZH_CN: (Language.ZH_CN, Language.ZH_TW, Language.EN),
    Language.EN: (Language.EN, Language.ZH_CN, Language.ZH_TW),
}
"""In which languages a text is looked for, the best first."""
MAX_BODY = 5_000


@dataclass(frozen=True)
class Wording:
    subject: str
    body: str
    provider_template: str | None = None

    def filled(self, parameters: Mapping[str, str]) -> Wording:
        subject, body = (placeholders.filled(text, parameters) for text in (self.subject, self.body))
        return Wording(subject, body, self.provider_template)


def kind_of(key: str) -> Kind:
    """UNKNOWN_NOTIFICATION where there is no such kind."""
    if key not in KINDS:
        raise Refusal("UNKNOWN_NOTIFICATION", "kind", value=key[:60])
    return KINDS[key]


async def save(
    work: Work,
    *,
    kind: str,
    channel: NotificationChannel,
    language: Language,
    body: str,
    subject: str | None,
    provider_template: str | None,
) -> int:
    """The caller's tenant's own text from now on; gives its key.

    UNKNOWN_PLACEHOLDER names the first that the kind cannot fill in, MISSING_PLACEHOLDER one that must not be left
    out, SECURITY_NOTIFICATION where only the platform may choose the words.
    """
    tenant = await tenant_for(work, None)
    declared = kind_of(kind)
    if declared.security and tenant.path != ROOT_PATH:
        raise Refusal("SECURITY_NOTIFICATION", "kind")
    registered = channel in REGISTERED
    values = {
        "subject": validation.text(subject, "subject", required=not registered) or None,
        "body": validation.text(body, "body", limit=MAX_BODY),
        "provider_template": validation.text(provider_template, "providerTemplate", required=registered, limit=64)
        or None,
    }
    for field in ("subject", "body"):
        placeholders.check(values[field] or "", declared.placeholders, field)
    for name in sorted(declared.secrets):
        if f"{{{name}}}" not in (values["body"] or ""):
            raise Refusal("MISSING_PLACEHOLDER", "body", value=name)
    table = table_of(NotificationTemplate)
    saved = await work.session.execute(
        insert(table)
        .values(tenant_id=tenant.id, tenant_path=tenant.path, kind=kind, channel=channel, language=language, **values)
        .on_conflict_do_update(
            constraint="uq_notification_template_tenant_id_kind_channel_language",
            set_={**values, "updated_at": func.now()},
        )
        .returning(table.c.id)
    )
    return int(saved.scalar_one())


async def remove(work: Work, template_id: int) -> None:
    """The text of the nearest tenant above, or the built-in one, holds again."""
    removed = await work.session.scalar(
        delete(NotificationTemplate)
        .where(NotificationTemplate.id == template_id, NotificationTemplate.tenant_id == work.principal.tenant_id)
        .returning(NotificationTemplate.id)
    )
    if removed is None:
        raise not_found("id")


async def wording(session: AsyncSession, notification: Notification) -> Wording:
    """The text that holds for a recipient: its tenant's own, that of the nearest tenant above, or the built-in one.

    Where a provider keeps the text, there is no built-in one: a text in the next best language is better than none.
    """
    languages = FALLBACK[notification.language] if notification.channel in REGISTERED else (notification.language,)
    own = await session.scalar(
        select(NotificationTemplate)
        .where(
            NotificationTemplate.kind == notification.kind,
            NotificationTemplate.channel == notification.channel,
            NotificationTemplate.language.in_(languages),
            NotificationTemplate.tenant_path.in_(system("wording", notification.tenant_path).ancestors),
        )
        .order_by(
            case(
                {language.name: place for place, language in enumerate(languages)},
                value=cast(NotificationTemplate.language, Text),
            ),
            func.length(NotificationTemplate.tenant_path).desc(),
        )
        .limit(1)
    )
    if own is not None:
        return Wording(own.subject or "", own.body, own.provider_template)
    built_in = KINDS[notification.kind].texts[notification.language]
    return Wording(built_in.subject, built_in.body)
