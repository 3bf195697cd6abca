"""What an end user does with a code that was sent: log in, set a forgotten password anew, confirm the address."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import select

from authz.principal import system
from models.identity import EndUser, LoginMethod, LoginOutcome, VerificationCodePurpose
from models.tenancy import Tenant
from services import end_users, identity, logins, notifications, validation, verification_codes
from services.conflicts import told_apart
from services.identity import Tokens
from services.notifications.kinds import PASSWORD_CHANGED, PHONE_CHANGED
from services.refusal import Refusal
from services.runtime import DoorRules, Origin, Runtime, Work
from services.verification_codes import MAIL, SMS, Way

PHONE_CONSTRAINT = "uq_end_user_tenant_id_phone"


async def log_in(
    runtime: Runtime, door: DoorRules, origin: Origin, way: Way, *, tenant_id: int, to: str, verification_code: str
) -> Tokens:
    """Logs in whoever reads what is sent to an address, by a code that was sent there (S1-73).

    WRONG_CODE whether or not anybody has the address; LOGIN_NOT_OFFERED at another door. A lock of the password does
    not hold here: codes have limits of their own.
    """
    if not end_users.offered(door, way.method):
        raise Refusal("LOGIN_NOT_OFFERED")
    asked = way.spelled(to)
    await logins.limit_attempts(runtime, origin)
    refused: Refusal | None = None
    try:
        await verification_codes.redeem(
            runtime, origin, VerificationCodePurpose.LOGIN, tenant_id, asked, verification_code
        )
    except Refusal as refusal:
        refused = refusal
    tokens: Tokens | None = None
    async with runtime.database.transaction(system("login")) as session:
        person = await verification_codes.holder(session, way, tenant_id, asked)
        tenant = await session.scalar(select(Tenant).where(Tenant.id == tenant_id))
        right = refused is None and person is not None
        await logins.record(
            session,
            person or tenant,
            login=asked,
            door=door,
            method=way.method,
            outcome=LoginOutcome.SUCCEEDED if right else LoginOutcome.WRONG_CREDENTIALS,
            origin=origin,
        )
        if person is not None and right:
            tokens = identity.enter(runtime, session, person, door, origin)
    if tokens is None:
        raise refused or Refusal("WRONG_CODE", "verificationCode")
    return tokens


async def reset_password(
    runtime: Runtime, door: DoorRules, origin: Origin, *, tenant_id: int, email: str, verification_code: str, new: str
) -> None:
    """Sets a new password for a code (S1-75). The account is unlocked, all its sessions end, and it is told by mail.

    WEAK_PASSWORD uses no code up; WRONG_CODE whether or not anybody has the address. Of two at once with one code,
    one succeeds.
    """
    if not end_users.offered(door, LoginMethod.PASSWORD):
        raise Refusal("NOT_POSSIBLE_HERE")
    asked = verification_codes.address(email)
    password = validation.password(new, "new")
    async with runtime.database.transaction(system("password reset")) as session:
        await verification_codes.redeem(
            runtime, origin, VerificationCodePurpose.PASSWORD_RESET, tenant_id, asked, verification_code
        )
        person = await verification_codes.holder(session, MAIL, tenant_id, asked)
        if person is None:
            raise Refusal("WRONG_CODE", "verificationCode")
        person.password_hash = await identity.hash_password(password)
        person.password_changed_at = datetime.now(UTC)
        logins.unlocked(person)
        await end_users.end_sessions(session, person)
        await notifications.send(
            session,
            kind=PASSWORD_CHANGED.key,
            to=await notifications.Recipient.person(session, person),
            parameters={"name": person.name or person.login or asked},
        )
    await runtime.access.changed()


async def confirm_email(work: Work, verification_code: str) -> EndUser:
    """The caller's mail address as one that the caller reads (S1-73).

    REQUIRED (email) where the caller has none, WRONG_CODE, TAKEN (email) where it is another person's.
    """
    person = await end_users.caller(work)
    asked = verification_codes.address(person.email)
    purpose = VerificationCodePurpose.CONFIRMATION
    await verification_codes.redeem(work.runtime, work.origin, purpose, person.tenant_id, asked, verification_code)
    await end_users.verify_email(work.session, person)
    return person


async def confirm_phone(work: Work, phone: str, verification_code: str) -> EndUser:
    """A phone number as the caller's own, by which the person can log in from now on, and is told so by mail (S0-40).

    REQUIRED, INVALID_PHONE, WRONG_CODE; TAKEN (phone) where it is another person's of the same company.
    """
    person = await end_users.caller(work)
    asked = verification_codes.number(phone)
    purpose = VerificationCodePurpose.CONFIRMATION
    await verification_codes.redeem(work.runtime, work.origin, purpose, person.tenant_id, asked, verification_code)
    anothers = select(EndUser.id).where(
        EndUser.tenant_id == person.tenant_id,
        EndUser.phone.in_(validation.spellings(asked)),
        EndUser.id != person.id,
    )
    async with work.as_the_system("confirmation of a phone number"):
        if await work.session.scalar(anothers.limit(1)) is not None:
            raise Refusal("TAKEN", "phone", value=asked)
        await verification_codes.claim(work.session, SMS, person, asked)
        if asked != person.phone:
            await notifications.send(
                work.session,
                kind=PHONE_CHANGED.key,
                to=await notifications.Recipient.person(work.session, person),
                parameters={"tenant": (await work.owner_of(person)).name, "phone": f"****{asked[-4:]}"},
            )
    person.phone = asked
    async with told_apart(work.session, {PHONE_CONSTRAINT: ("phone", asked)}):
        await work.session.flush()
    return person
