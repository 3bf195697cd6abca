"""Verification codes for end users, by mail or SMS: asked for by anybody, sent by a worker to those for whom they are
meant (S1-73).

Whether somebody has an address shows nowhere: the request counts and writes down what was asked, whoever asks for
whom; a worker finds out who is meant. The address waits encrypted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import redis.asyncio as redis
from sqlalchemy import ColumnElement, and_, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from authz.access import END_USER
from authz.principal import ROOT_PATH, system
from authz.session import Database
from authz.standing import in_business, served
from models.identity import EndUser, LoginMethod, VerificationCodePurpose
from models.notifications import Notification, NotificationChannel
from models.system import OutboxEvent
from models.tenancy import Language, Tenant
from services import codes, notifications, validation
from services.keys import Keys
from services.notifications.kinds import EMAIL_CODE, SMS_CODE, Kind
from services.refusal import Refusal
from services.runtime import DoorRules, Origin, Runtime, Work

TOPIC = "end_user.verification_code"
BINDING = "verification code"


def address(email: str | None) -> str:
    """A mail address in one spelling. REQUIRED, INVALID_EMAIL."""
    found = validation.email(email, "email")
    if found is None:
        raise Refusal("REQUIRED", "email")
    return found.lower()


def number(phone: str | None) -> str:
    """A phone number in one spelling. REQUIRED, INVALID_PHONE."""
    found = validation.phone(phone, "phone")
    if found is None:
        raise Refusal("REQUIRED", "phone")
    return validation.bare_number(found)


@dataclass(frozen=True)
class Way:
    """How a code reaches somebody, and whose an address is."""

    kind: Kind
    channel: NotificationChannel
    method: LoginMethod
    spelled: Callable[[str | None], str]
    belongs: Callable[[str], ColumnElement[bool]]
    """Which end users have shown to read what is sent to an address, or were entered under it."""
    to_anybody: frozenset[VerificationCodePurpose] = frozenset()
    """What a code is sent for to an address that is nobody's yet."""


MAIL = Way(
    EMAIL_CODE,
    NotificationChannel.EMAIL,
    LoginMethod.EMAIL_CODE,
    address,
    lambda asked: and_(func.lower(EndUser.email) == asked, EndUser.email_verified_at.is_not(None)),
    frozenset({VerificationCodePurpose.REGISTRATION, VerificationCodePurpose.CONFIRMATION}),
)
SMS = Way(
    SMS_CODE,
    NotificationChannel.SMS,
    LoginMethod.SMS_CODE,
    number,
    lambda asked: EndUser.phone.in_(validation.spellings(asked)),
    frozenset({VerificationCodePurpose.CONFIRMATION}),
)
WAYS = {way.channel.name: way for way in (MAIL, SMS)}


async def request(
    runtime: Runtime,
    door: DoorRules,
    origin: Origin,
    way: Way,
    *,
    tenant_id: int,
    to: str,
    purpose: VerificationCodePurpose,
    language: str,
) -> None:
    """Asks for a code. TOO_MANY_ATTEMPTS as ``codes.limit`` says, for addresses that nobody has too; LOGIN_NOT_OFFERED
    where the door lets nobody in by it."""
    if END_USER not in door.admission.roles:
        raise Refusal("NOT_POSSIBLE_HERE")
    if purpose is VerificationCodePurpose.LOGIN and way.method.name not in door.login_methods:
        raise Refusal("LOGIN_NOT_OFFERED")
    asked = way.spelled(to)
    await codes.limit(runtime.redis, runtime.keys, _place(purpose, tenant_id), asked, origin.ip)
    async with runtime.database.transaction(system("verification code")) as session:
        platform = await session.scalar(select(Tenant.id).where(Tenant.path == ROOT_PATH))
        payload = _asked(runtime, way, tenant_id, asked, purpose, language)
        session.add(OutboxEvent(tenant_id=platform, tenant_path=ROOT_PATH, topic=TOPIC, payload=payload))


async def request_confirmation(work: Work, to: str) -> None:
    """Asks for a code to a phone that the calling end user says is the person's own. TOO_MANY_ATTEMPTS after ten an
    hour from one person, too: each costs money."""
    person, tenant_id = work.principal.end_user_id, work.principal.tenant_id
    purpose = VerificationCodePurpose.CONFIRMATION
    if person is None or tenant_id is None:
        raise Refusal("NOT_POSSIBLE_HERE")
    asked, runtime = SMS.spelled(to), work.runtime
    place = _place(purpose, tenant_id)
    await codes.limit(runtime.redis, runtime.keys, place, asked, work.origin.ip, by=f"end user {person}")
    work.later(TOPIC, _asked(runtime, SMS, tenant_id, asked, purpose, work.principal.language))


def _asked(
    runtime: Runtime, way: Way, tenant_id: int, asked: str, purpose: VerificationCodePurpose, language: str
) -> dict[str, Any]:
    return {
        "channel": way.channel.name,
        "tenant": tenant_id,
        "purpose": purpose.name,
        "language": language,
        "encrypted": runtime.keys.encrypt(asked, BINDING).hex(),
    }


async def send(
    database: Database,
    server: redis.Redis,
    keys: Keys,
    *,
    channel: str,
    tenant: int,
    purpose: str,
    language: str,
    encrypted: str,
) -> None:
    """Sends a code to the address that was asked for: to a stranger's only what strangers need. A repeat sends a new
    code, and the earlier one stops working."""
    way = WAYS[channel]
    asked, wanted = keys.decrypt(bytes.fromhex(encrypted), BINDING), VerificationCodePurpose[purpose]
    async with database.transaction(system("verification code")) as session:
        serving = await session.scalar(select(Tenant).where(Tenant.id == tenant, in_business(Tenant.id)))
        if serving is None:
            return
        person = await holder(session, way, serving.id, asked)
        if person is None and wanted not in way.to_anybody:
            return
        await notifications.send(
            session,
            kind=way.kind.key,
            to=notifications.Recipient.address(serving, way.channel, asked, Language(language), person),
            parameters={
                "tenant": serving.name,
                "code": await codes.issue(server, keys, _place(wanted, serving.id), asked),
                "minutes": codes.MINUTES,
            },
            keys=keys,
        )


async def redeem(
    runtime: Runtime, origin: Origin, purpose: VerificationCodePurpose, tenant_id: int, asked: str, given: str
) -> None:
    """Uses a code up, as ``codes.redeem`` does."""
    place = _place(purpose, tenant_id)
    await codes.redeem(runtime.redis, runtime.keys, place, asked, given, origin.ip)


async def holder(session: AsyncSession, way: Way, tenant_id: int, asked: str) -> EndUser | None:
    """The one person, locked, whose an address is, while the person is served."""
    found = (
        await session.scalars(
            select(EndUser).where(EndUser.tenant_id == tenant_id, way.belongs(asked), served()).with_for_update()
        )
    ).all()
    return found[0] if len(found) == 1 else None


async def claim(session: AsyncSession, way: Way, person: EndUser, asked: str) -> None:
    """What was sent to the address before it was known whose it is becomes part of what is known of the person."""
    await session.execute(
        update(Notification)
        .where(
            Notification.tenant_id == person.tenant_id,
            Notification.kind == way.kind.key,
            Notification.end_user_id.is_(None),
            func.lower(Notification.address) == asked.lower(),
        )
        .values(end_user_id=person.id)
        .execution_options(synchronize_session=False)
    )


def _place(purpose: VerificationCodePurpose, tenant_id: int) -> str:
    return f"end user {purpose.name} {tenant_id}"
