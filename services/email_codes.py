"""Verification codes by mail for end users: asked for by anybody, mailed by a worker to whom they are for (S1-73).

Whether somebody has an address shows nowhere: the request counts and writes down what was asked, whoever asks for
whom; a worker finds out who is meant. The address waits encrypted.
"""

from __future__ import annotations

import redis.asyncio as redis
from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from authz.access import END_USER
from authz.principal import ROOT_PATH, system
from authz.session import Database
from authz.standing import in_business, served
from models.identity import EmailCodePurpose, EndUser
from models.notifications import Notification
from models.system import OutboxEvent
from models.tenancy import Language, Tenant
from services import codes, notifications, validation
from services.keys import Keys
from services.notifications.kinds import EMAIL_CODE
from services.refusal import Refusal
from services.runtime import DoorRules, Origin, Runtime

TOPIC = "end_user.email_code"
BINDING = "email code"
TO_ANYBODY = frozenset({EmailCodePurpose.REGISTRATION, EmailCodePurpose.CONFIRMATION})
"""What a code is mailed for to an address that is nobody's yet."""


def address(email: str | None) -> str:
    """A mail address in one spelling. REQUIRED, INVALID_EMAIL."""
    found = validation.email(email, "email")
    if found is None:
        raise Refusal("REQUIRED", "email")
    return found.lower()


async def request(
    runtime: Runtime,
    door: DoorRules,
    origin: Origin,
    *,
    tenant_id: int,
    email: str,
    purpose: EmailCodePurpose,
    language: str,
) -> None:
    """Asks for a code. TOO_MANY_ATTEMPTS as ``codes.limit`` says, for addresses that nobody has too."""
    if END_USER not in door.admission.roles:
        raise Refusal("NOT_POSSIBLE_HERE")
    asked = address(email)
    await codes.limit(runtime.redis, runtime.keys, _place(purpose, tenant_id), asked, origin.ip)
    async with runtime.database.transaction(system("verification code")) as session:
        platform = await session.scalar(select(Tenant.id).where(Tenant.path == ROOT_PATH))
        session.add(
            OutboxEvent(
                tenant_id=platform,
                tenant_path=ROOT_PATH,
                topic=TOPIC,
                payload={
                    "tenant": tenant_id,
                    "purpose": purpose.name,
                    "language": language,
                    "encrypted": runtime.keys.encrypt(asked, BINDING).hex(),
                },
            )
        )


async def send(
    database: Database,
    server: redis.Redis,
    keys: Keys,
    *,
    tenant: int,
    purpose: str,
    language: str,
    encrypted: str,
) -> None:
    """Mails a code to the address that was asked for: to a stranger's only what strangers need. A repeat sends a new
    code, and the earlier one stops working."""
    asked, wanted = keys.decrypt(bytes.fromhex(encrypted), BINDING), EmailCodePurpose[purpose]
    async with database.transaction(system("verification code")) as session:
        serving = await session.scalar(select(Tenant).where(Tenant.id == tenant, in_business(Tenant.id)))
        if serving is None:
            return
        person = await holder(session, serving.id, asked)
        if person is None and wanted not in TO_ANYBODY:
            return
        await notifications.send(
            session,
            kind=EMAIL_CODE.key,
            to=notifications.Recipient.address(serving, asked, Language(language), person),
            parameters={
                "tenant": serving.name,
                "code": await codes.issue(server, keys, _place(wanted, serving.id), asked),
                "minutes": codes.MINUTES,
            },
            keys=keys,
        )


async def redeem(
    runtime: Runtime, origin: Origin, purpose: EmailCodePurpose, tenant_id: int, asked: str, given: str
) -> None:
    """Uses a code up, as ``codes.redeem`` does."""
    place = _place(purpose, tenant_id)
    await codes.redeem(runtime.redis, runtime.keys, place, asked, given, origin.ip)


async def holder(session: AsyncSession, tenant_id: int, asked: str) -> EndUser | None:
    """The person, locked, who has shown to read what is sent to an address, while the person is served."""
    found: EndUser | None = await session.scalar(
        select(EndUser)
        .where(
            EndUser.tenant_id == tenant_id,
            func.lower(EndUser.email) == asked,
            EndUser.email_verified_at.is_not(None),
            served(),
        )
        .with_for_update()
    )
    return found


async def claim(session: AsyncSession, person: EndUser) -> None:
    """What was sent to the address before it was known whose it is becomes part of what is known of the person."""
    await session.execute(
        update(Notification)
        .where(
            Notification.tenant_id == person.tenant_id,
            Notification.kind == EMAIL_CODE.key,
            Notification.end_user_id.is_(None),
            func.lower(Notification.address) == (person.email or "").lower(),
        )
        .values(end_user_id=person.id)
        .execution_options(synchronize_session=False)
    )


def _place(purpose: EmailCodePurpose, tenant_id: int) -> str:
    return f"end user {purpose.name} {tenant_id}"
