"""Staff, end users, API keys, sessions and the caller in the graph."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import strawberry
from sqlalchemy import and_, func, text

import models.agreements as stored_agreements
import models.identity as stored
import models.sim
from models.identity import (
    AccountStatus,
    ApiKeyStatus,
    LoginMethod,
    LoginOutcome,
    LoginProvider,
    VerificationCodePurpose,
)
from models.permissions import (
    StaffPosition as StoredStaffPosition,
)
from models.tenancy import Language
from planner.mapping import (
    Connection,
    Node,
    column,
    computed,
    entity,
    enum_type,
    input_type,
    live,
    to_many,
    to_one,
    value,
)
from schema.common import UserError
from schema.masks import masked_email, masked_login, masked_phone

if TYPE_CHECKING:
    from models.tenancy import TenantKind
    from schema.agreements import AgreementConsent
    from schema.organisation import StaffPosition
    from schema.permissions import HeldRole, MenuItem, ModuleAccess
    from schema.sim import SimCard
    from schema.tenancy import Tenant

enum_type(AccountStatus, "Whether an account may be used.")
enum_type(ApiKeyStatus, "Whether an API key may be used.")
enum_type(VerificationCodePurpose, "What an end user asks for a code for.")
enum_type(LoginMethod, "How somebody came in.")
enum_type(LoginOutcome, "How a login ended.")
enum_type(LoginProvider, "A third party through which people log in.")


@entity(stored.Department, prefix="dep", filters=("name", "status"), sorts=("position", "name"))
class Department(Node):
    """A department of a tenant's staff (S1-22)."""

    name: str
    position: int = column("Its place among its siblings.")
    leader: str | None
    phone: str | None
    email: str | None
    status: AccountStatus
    parent: Department | None = to_one("The department above.")
    tenant: Tenant | None = to_one("Whose department it is.")
    children: Connection[Department] = to_many("The departments below.", by=stored.Department.parent_id)
    staff: Connection[StaffAccount] = to_many("Its members.", by=stored.StaffAccount.department_id)


@entity(stored.RoleAssignment, prefix="ras", filters=("role",))
class RoleAssignment(Node):
    """A role that an account holds."""

    role: str


@entity(stored.StaffAccount, prefix="acc", filters=("login", "name", "status", "department"), sorts=("login", "name"))
class StaffAccount(Node):
    """A member of a tenant's staff (S0-01, S0-19)."""

    login: str
    name: str
    email: str | None
    phone: str | None = column("Masked except for who may see it in full.", mask=masked_phone)
    status: AccountStatus
    locked_until: datetime | None = column("Until when too many wrong passwords keep it out.")
    last_login_at: datetime | None
    second_factor_at: datetime | None = column("Since when a login needs a one-time code as well; null where none.")
    language: Language | None = column(
        "In which it wants to be answered and written to; null: as its requests ask for."
    )
    created_at: datetime
    department: Department | None = to_one("Where it works.")
    tenant: Tenant | None = to_one("Whose staff it is.")
    roles: Connection[RoleAssignment] = to_many("What it may do.", by=stored.RoleAssignment.account_id)
    positions: Connection[StaffPosition] = to_many("Its positions.", by=StoredStaffPosition.account_id)
    login_bindings: Connection[LoginBinding] = to_many(
        "Through whom it may come in (S0-20, S2-28).", by=stored.LoginBinding.account_id
    )


@entity(stored.LoginBinding, prefix="lbd", filters=("provider",))
class LoginBinding(Node):
    """A third party that vouches for somebody who logs in as an account (S0-20, S2-28)."""

    provider: LoginProvider
    bound_at: datetime


@entity(
    stored.EndUser,
    prefix="eus",
    filters=("name", "phone", "status", "tenant", "created_at"),
    sorts=("created_at",),
)
class EndUser(Node):
    """A person whom a tenant serves; logs in by WeChat (S0-40), by account name and password (S1-74), or by
    a code from the mail (S1-73)."""

    name: str | None
    phone: str | None = column("Masked except for who may see it in full.", mask=masked_phone)
    email: str | None = column("Masked except for who may see it in full.", mask=masked_email)
    email_verified_at: datetime | None = column("Since when it is known that the person reads what is sent there.")
    login: str | None = column("The account name, which is one person's within the tenant.")
    status: AccountStatus
    language: Language | None = column("In which the person wants to be answered; null: as its requests ask for.")
    erased_at: datetime | None = column("Since when nothing is known of the person any more.")
    created_at: datetime
    last_login_at: datetime | None
    tenant: Tenant | None = to_one("Who serves the person.")
    sim_cards: Connection[SimCard] = to_many(
        "The cards that the person uses (S0-26).", by=models.sim.SimCard.end_user_id
    )
    consents: Connection[AgreementConsent] = to_many(
        "What the person has signed (S1-72).", by=stored_agreements.AgreementConsent.end_user_id
    )


@entity(stored.LoginApp, prefix="lap", filters=("provider", "status"))
class LoginApp(Node):
    """An application registered with a third party, through which a tenant's people log in (S0-40)."""

    provider: LoginProvider
    app_id: str = column("As the third party knows it; its secret is never shown.")
    status: AccountStatus
    updated_at: datetime
    tenant: Tenant | None = to_one("Whose people log in through it.")


@entity(
    stored.ApiKey,
    prefix="key",
    filters=("key", "status", "expires_at", "expiry_notified_at"),
    sorts=("expires_at", "created_at"),
)
class ApiKey(Node):
    """A partner's key to the graph; its secret is shown once, when it is issued (S0-18, S0-54)."""

    key: str
    name: str
    status: ApiKeyStatus
    expires_at: datetime
    expires_soon: bool = computed(
        "Whether it may be used and ends within 14 days (S0-54).",
        lambda k: and_(
            k.status == ApiKeyStatus.ACTIVE,
            k.expires_at > func.now(),
            k.expires_at <= func.now() + text("interval '14 days'"),
        ),
    )
    expiry_notified_at: datetime | None = column("When its coming end was told; null again once it is extended.")
    previous_secret_until: datetime | None = column("Until when the secret before the last rotation holds as well.")
    scopes: list[str] = column(
        "The coordinates that it is limited to (`Query.simCards`, `SimCard.*`), each type's `id` with the first of its "
        "fields; empty: all that its roles grant."
    )
    allowed_networks: list[str] = column("The networks that requests may come from; empty: from anywhere.")
    created_at: datetime
    tenant: Tenant | None = to_one("Whose key it is.")
    last_used_at: datetime | None = live("When a request was last signed with it.", needs=("key",))


@entity(stored.LoginSession, prefix="ses", filters=("door",), sorts=("refreshed_at",))
class LoginSession(Node):
    """One login at one door, kept alive by a rotating refresh token."""

    door: str
    created_at: datetime
    refreshed_at: datetime
    expires_at: datetime
    revoked_at: datetime | None
    ip: str | None
    user_agent: str | None
    reason: str | None = column("Why the platform's staff acts as the account in this session; null where nobody does.")
    account: StaffAccount | None = to_one("The member of staff who logged in.")
    end_user: EndUser | None = to_one("The end user who logged in.")


@entity(
    stored.LoginRecord,
    prefix="lgr",
    filters=("login", "outcome", "at", "door", "method", "ip", "account", "real_account", "tenant"),
    sorts=("at",),
)
class LoginRecord(Node):
    """A login that was tried (S1-28, S3-65)."""

    at: datetime
    login: str = column(
        "The account name as it was typed; a mail address or phone number is masked except for who may see it in full.",
        mask=masked_login,
    )
    door: str
    method: LoginMethod
    outcome: LoginOutcome
    ip: str | None
    user_agent: str | None
    tenant: Tenant | None = to_one("Whose account or end user it was; the platform's where nobody is known.")
    account: StaffAccount | None = to_one("The member of staff; null where no account is known.")
    real_account: StaffAccount | None = to_one(
        "Who of the platform's staff began to act as the account; null where nobody did, or out of reach."
    )
    impersonated: bool = computed(
        "Whether the platform's staff began to act as the account.", lambda r: r.real_account_id.is_not(None)
    )
    reason: str | None = column("Why they did.")


@value
class RateLimit:
    """What is left of what the caller may ask at this door, or all of its tenant's callers where that is less.

    Requests come from a bucket that fills evenly; each of the installation's processes has its own.
    """

    limit: int
    remaining: int
    reset_at: datetime


@value
class Impersonator:
    """Who of the platform's staff acts as the caller's account, why, and whether it may change anything."""

    name: str
    reason: str
    write: bool


@value
class Viewer:
    """The caller: who it is, where it stands, what it may do."""

    account: StaffAccount | None
    tenant: Tenant | None
    end_user: EndUser | None
    api_key: ApiKey | None
    rate_limit: RateLimit | None
    impersonated_by: Impersonator | None
    door: str
    roles: list[str]
    language: str
    tenant_kind: TenantKind | None
    permissions: list[str] = live("Every coordinate that it may use.")
    held_roles: list[HeldRole] = live("The same roles with their names and data scopes (S1-34, S1-36).")
    menus: list[MenuItem] = live("What the door's front end draws for it: menus and buttons, in order (S1-29).")
    product_presentation_url: str | None = live("Where the product is presented; null where nobody has said (S2-29).")
    modules: list[ModuleAccess] = live("The modules that its company may use (S4-76).")


@value
class Session:
    """The tokens of a login. The access token is short-lived; the refresh token works once."""

    access_token: str
    refresh_token: str
    expires_at: datetime


@value
class SessionPayload:
    """A session, or why there is none."""

    session: Session | None
    errors: list[UserError]


@value
class DonePayload:
    """Whether it was done, or why not."""

    done: bool
    errors: list[UserError]


@input_type
class LogInInput:
    """An account name and its password (S0-01, S0-19); with a second factor, a one-time or recovery code too."""

    account: str
    password: str
    one_time_code: str | None = None


@input_type
class EndUserLoginInput:
    """An end user's account name at the tenant that serves the person, and its password (S1-74)."""

    tenant: strawberry.ID
    account: str
    password: str


@input_type
class SendEmailCodeInput:
    """For whom and for what a code is asked for: a mail address at the tenant that serves the person (S1-73)."""

    tenant: strawberry.ID
    email: str
    purpose: VerificationCodePurpose


@input_type
class EmailLoginInput:
    """A mail address at the tenant that serves the person, and the code that was sent there (S1-73)."""

    tenant: strawberry.ID
    email: str
    verification_code: str


@input_type
class SendSmsCodeInput:
    """To whose phone a code to log in by is to be sent, at the tenant that serves the person (S1-73)."""

    tenant: strawberry.ID
    phone: str


@input_type
class ConfirmMyPhoneInput:
    """The calling end user's phone number from now on, and the code that was sent there (S0-40)."""

    phone: str
    verification_code: str


@input_type
class SmsLoginInput:
    """A phone at the tenant that serves the person, and the code that was sent there (S1-73)."""

    tenant: strawberry.ID
    phone: str
    verification_code: str


@input_type
class ResetEndUserPasswordInput:
    """A new password for who reads a mail address, by the code that was sent there (S1-75)."""

    tenant: strawberry.ID
    email: str
    verification_code: str
    new: str


@input_type
class WechatLoginInput:
    """A mini-program, and the login code that WeChat gave it for the person who uses it (S0-40)."""

    app_id: str
    login_code: str


@input_type
class UpdateMyProfileInput:
    """Changes to the calling end user's own profile; a field left out stays as it is (S1-85)."""

    name: str | None = None
    email: str | None = None


@input_type
class SetLoginAppInput:
    """The application through which people of the caller's own tenant, or of one below, log in (S0-40).

    The secret is kept encrypted and never shown again; one left out stays as it is.
    """

    tenant: strawberry.ID | None = None
    provider: LoginProvider
    app_id: str
    secret: str | None = None
    status: AccountStatus = AccountStatus.ACTIVE


@value
class SecondFactorPayload:
    """What an authenticator app is to be given, shown this once, or why there is nothing."""

    secret: str | None
    uri: str | None
    errors: list[UserError]


@value
class RecoveryCodesPayload:
    """Codes by which to log in once each without the second factor, shown this once, or why there are none."""

    recovery_codes: list[str]
    errors: list[UserError]


@value
class OauthBeginningPayload:
    """Where to send the browser, and the state that it must come back with, or why not."""

    authorize_url: str | None
    state: str | None
    errors: list[UserError]


@input_type
class OauthInput:
    """What the browser came back with from a third party (S0-20, S2-28)."""

    provider: LoginProvider
    login_code: str
    state: str


@value
class LoginAppPayload:
    """The application as it now is, or why nothing was changed."""

    login_app: LoginApp | None
    errors: list[UserError]


@value
class EndUserPayload:
    """The end user as the person now is, or why nothing was changed."""

    end_user: EndUser | None
    errors: list[UserError]


@input_type
class CreateStaffAccountInput:
    """A new member of the caller's own staff, or of a tenant below."""

    tenant: strawberry.ID | None = None
    login: str
    password: str
    name: str
    roles: list[str]
    email: str | None = None
    phone: str | None = None
    department: strawberry.ID | None = None
    idempotency_key: str | None = None


@input_type
class SetRolesInput:
    """The roles that an account holds from now on; nobody can grant what they do not hold."""

    account: strawberry.ID
    roles: list[str]


@value
class StaffAccountPayload:
    """The account as it now is, or why nothing was changed."""

    account: StaffAccount | None
    errors: list[UserError]


@input_type
class IssueApiKeyInput:
    """A new key for a tenant: what it is for, how long it is valid, which roles it has (S0-18).

    ``scopes`` limits it to some of the coordinates that its roles grant (`Query.simCards`, `SimCard.*`),
    ``allowedNetworks`` to where its requests may come from (`192.0.2.7`, `2001:db8::/32`). Empty: no limit.
    """

    tenant: strawberry.ID | None = None
    name: str
    valid_days: int = 365
    roles: list[str] = strawberry.field(default_factory=lambda: ["partner"])
    scopes: list[str] = strawberry.field(default_factory=list)
    allowed_networks: list[str] = strawberry.field(default_factory=list)
    idempotency_key: str | None = None


@value
class ApiKeyPayload:
    """The key, or why nothing was changed. The secret is shown this once."""

    api_key: ApiKey | None
    secret: str | None
    errors: list[UserError]


@input_type
class ExtendApiKeyInput:
    """A later end for a key, in days from now (S0-18)."""

    id: strawberry.ID
    valid_days: int


@input_type
class RestrictApiKeyInput:
    """The limits of a key from its next request on; one left out stays, an empty list lifts it (S0-18)."""

    id: strawberry.ID
    scopes: list[str] | None = None
    allowed_networks: list[str] | None = None


@input_type
class ImpersonateInput:
    """As whom of a customer's staff to act, and why; reading only, unless ``write`` is asked for and granted."""

    account_id: strawberry.ID
    reason: str
    write: bool = False


@value
class Impersonation:
    """An access token that acts as the account at its door, until it expires; nothing continues it."""

    access_token: str
    door: str
    expires_at: datetime


@value
class ImpersonationPayload:
    """The token, or why there is none."""

    impersonation: Impersonation | None
    errors: list[UserError]


@input_type
class ChangePasswordInput:
    """The caller's password, old and new."""

    current: str
    new: str
