"""End users: logging in, registering, their own data; keeping them out; the apps through which they come."""

from __future__ import annotations

import strawberry
from sqlalchemy import Select, select

import models.identity as stored
from models.identity import AccountStatus, VerificationCodePurpose
from planner.mapping import Connection, refer
from planner.registry import mutation, query
from resolvers.agreements import signatures
from resolvers.context import Context, given, key_of, optional_key
from resolvers.identity import session_payload
from schema.agreements import RegisterEndUserInput
from schema.identity import (
    ConfirmMyPhoneInput,
    DonePayload,
    EmailLoginInput,
    EndUserLoginInput,
    EndUserPayload,
    LoginApp,
    LoginAppPayload,
    ResetEndUserPasswordInput,
    SendEmailCodeInput,
    SendSmsCodeInput,
    SessionPayload,
    SetLoginAppInput,
    SmsLoginInput,
    UpdateMyProfileInput,
    WechatLoginInput,
)
from services import end_users, identity, subscriber_accounts, verification_codes
from services import login_apps as apps
from services.verification_codes import MAIL, SMS, Way


@query(Connection[LoginApp])
def login_apps() -> Select[stored.LoginApp]:
    """The applications through which people log in, without their secrets (S0-40)."""
    return select(stored.LoginApp)


@mutation
async def set_login_app(ctx: Context, input: SetLoginAppInput) -> LoginAppPayload:
    """Sets up the application through which a tenant's people log in; its secret is kept encrypted (S0-40)."""
    tenant = await identity.tenant_for(ctx.now, optional_key(input.tenant, "ten", "tenant"))
    made = await apps.set_app(
        ctx.now, tenant, input.provider, app_id=input.app_id, secret=input.secret, status=input.status
    )
    return LoginAppPayload(login_app=refer(made.id), errors=[])


@mutation(public=True)
async def end_user_login(ctx: Context, input: EndUserLoginInput) -> SessionPayload:
    """Logs an end user in at this door with account and password (S1-74)."""
    tenant_id = key_of(input.tenant, "ten", "tenant")
    return session_payload(
        await end_users.log_in(ctx.runtime, ctx.door, ctx.origin, tenant_id, input.account, input.password)
    )


@mutation(public=True)
async def send_email_code(ctx: Context, input: SendEmailCodeInput) -> DonePayload:
    """Mails a code to the address, if it is somebody's whom the code is for; the answer does not tell (S1-73)."""
    return await _sent(ctx, MAIL, key_of(input.tenant, "ten", "tenant"), input.email, input.purpose)


@mutation(public=True)
async def send_sms_code(ctx: Context, input: SendSmsCodeInput) -> DonePayload:
    """Sends a code to log in by to a phone, if it is somebody's; the answer does not tell (S1-73)."""
    tenant_id = key_of(input.tenant, "ten", "tenant")
    return await _sent(ctx, SMS, tenant_id, input.phone, VerificationCodePurpose.LOGIN)


async def _sent(ctx: Context, way: Way, tenant_id: int, to: str, purpose: VerificationCodePurpose) -> DonePayload:
    await verification_codes.request(
        ctx.runtime,
        ctx.door,
        ctx.origin,
        way,
        tenant_id=tenant_id,
        to=to,
        purpose=purpose,
        language=ctx.principal.language,
    )
    await ctx.nudge()
    return DonePayload(done=True, errors=[])


@mutation(public=True)
async def end_user_email_login(ctx: Context, input: EmailLoginInput) -> SessionPayload:
    """Logs an end user in by a code from the mail (S1-73)."""
    return await _logged_in(ctx, MAIL, input.tenant, input.email, input.verification_code)


@mutation(public=True)
async def end_user_sms_login(ctx: Context, input: SmsLoginInput) -> SessionPayload:
    """Logs an end user in by a code that was sent to the phone (S1-73)."""
    return await _logged_in(ctx, SMS, input.tenant, input.phone, input.verification_code)


async def _logged_in(ctx: Context, way: Way, tenant: str, to: str, verification_code: str) -> SessionPayload:
    return session_payload(
        await subscriber_accounts.log_in(
            ctx.runtime,
            ctx.door,
            ctx.origin,
            way,
            tenant_id=key_of(tenant, "ten", "tenant"),
            to=to,
            verification_code=verification_code,
        )
    )


@mutation(public=True)
async def reset_end_user_password(ctx: Context, input: ResetEndUserPasswordInput) -> DonePayload:
    """A new password for a code from the mail; all sessions of the person end (S1-73, S1-75)."""
    await subscriber_accounts.reset_password(
        ctx.runtime,
        ctx.door,
        ctx.origin,
        tenant_id=key_of(input.tenant, "ten", "tenant"),
        email=input.email,
        verification_code=input.verification_code,
        new=input.new,
    )
    await ctx.nudge()
    return DonePayload(done=True, errors=[])


@mutation(public=True)
async def register_end_user(ctx: Context, input: RegisterEndUserInput) -> SessionPayload:
    """A new end user, logged in, who has signed all that is in force (S1-72, S1-73, S1-74)."""
    return session_payload(
        await end_users.register(
            ctx.runtime,
            ctx.door,
            ctx.origin,
            key_of(input.tenant, "ten", "tenant"),
            login=input.account,
            password=input.password,
            email=input.email,
            name=input.name,
            signatures=signatures(input.agreements),
            verification_code=input.verification_code,
        )
    )


@mutation(public=True)
async def wechat_login(ctx: Context, input: WechatLoginInput) -> SessionPayload:
    """Logs in whom a mini-program's login code stands for; the first time makes the end user (S0-40)."""
    return session_payload(
        await end_users.log_in_by_mini_program(ctx.runtime, ctx.door, ctx.origin, input.app_id, input.login_code)
    )


@mutation
async def update_my_profile(ctx: Context, input: UpdateMyProfileInput) -> EndUserPayload:
    """Changes the calling end user's own profile (S1-85)."""
    changed = await end_users.update_profile(ctx.now, given(input))
    return EndUserPayload(end_user=refer(changed.id), errors=[])


@mutation
async def confirm_my_email(ctx: Context, verification_code: str) -> EndUserPayload:
    """The calling end user's mail address as one that the person reads, by a code from the mail (S1-73)."""
    confirmed = await subscriber_accounts.confirm_email(ctx.now, verification_code)
    return EndUserPayload(end_user=refer(confirmed.id), errors=[])


@mutation
async def send_my_phone_code(ctx: Context, phone: str) -> DonePayload:
    """Sends a code to a phone that the calling end user says is the person's own (S0-40)."""
    await verification_codes.request_confirmation(ctx.now, phone)
    return DonePayload(done=True, errors=[])


@mutation
async def confirm_my_phone(ctx: Context, input: ConfirmMyPhoneInput) -> EndUserPayload:
    """The calling end user's phone number, by a code that was sent there; by it the person can log in (S0-40)."""
    confirmed = await subscriber_accounts.confirm_phone(ctx.now, input.phone, input.verification_code)
    return EndUserPayload(end_user=refer(confirmed.id), errors=[])


@mutation
async def set_end_user_status(ctx: Context, end_user: strawberry.ID, status: AccountStatus) -> EndUserPayload:
    """Keeps an end user out from the next request on, or lets the person in again."""
    changed = await end_users.set_status(ctx.now, key_of(end_user, "eus", "endUser"), status)
    return EndUserPayload(end_user=refer(changed.id), errors=[])


@mutation
async def revoke_end_user_sessions(ctx: Context, end_user: strawberry.ID) -> DonePayload:
    """Forces an end user out everywhere."""
    await end_users.revoke_sessions(ctx.now, key_of(end_user, "eus", "endUser"))
    return DonePayload(done=True, errors=[])
