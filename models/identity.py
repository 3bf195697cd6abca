"""Who may come in: staff, end users, API keys, their roles, sessions and the log of their logins."""

from __future__ import annotations

import enum
import uuid
from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy import CheckConstraint, ForeignKey, Index, SmallInteger, UniqueConstraint, func, text
from sqlalchemy.dialects.postgresql import ARRAY, INET, UUID
from sqlalchemy.orm import Mapped, mapped_column, relationship
from sqlalchemy.types import LargeBinary, Text

from models.base import (
    Base,
    LogEntry,
    Partitioned,
    Personal,
    TenantOwned,
    Timestamped,
    impersonal,
    personal,
    stored_enum,
)
from models.tenancy import Language, Tenant

if TYPE_CHECKING:
    from models.permissions import PermissionTemplate


class AccountStatus(enum.Enum):
    ACTIVE = "ACTIVE"
    DISABLED = "DISABLED"


class LoginMethod(enum.Enum):
    PASSWORD = "PASSWORD"  # noqa: S105 - the name of a way to log in
    API_KEY = "API_KEY"
    EMAIL_CODE = "EMAIL_CODE"
    SMS_CODE = "SMS_CODE"
    WECHAT_OFFICIAL_ACCOUNT = "WECHAT_OFFICIAL_ACCOUNT"
    WECHAT_MINI_PROGRAM = "WECHAT_MINI_PROGRAM"
    GITEE = "GITEE"
    IMPERSONATION = "IMPERSONATION"


class LoginOutcome(enum.Enum):
    SUCCEEDED = "SUCCEEDED"
    WRONG_CREDENTIALS = "WRONG_CREDENTIALS"
    LOCKED = "LOCKED"
    DISABLED = "DISABLED"
    WRONG_DOOR = "WRONG_DOOR"
    WRONG_ADDRESS = "WRONG_ADDRESS"
    SECOND_FACTOR = "SECOND_FACTOR"


class VerificationCodePurpose(enum.Enum):
    """What an end user asks for a code for."""

    REGISTRATION = "REGISTRATION"
    LOGIN = "LOGIN"
    PASSWORD_RESET = "PASSWORD_RESET"  # noqa: S105 - what a code is for
    CONFIRMATION = "CONFIRMATION"
    CLOSURE = "CLOSURE"


class DataScope(enum.Enum):
    """Which rows of departments and their staff a role reaches."""

    ALL = "ALL"
    CUSTOM = "CUSTOM"
    DEPARTMENT = "DEPARTMENT"
    DEPARTMENT_AND_BELOW = "DEPARTMENT_AND_BELOW"
    SELF = "SELF"


class LoginProvider(enum.Enum):
    WECHAT_MINI_PROGRAM = "WECHAT_MINI_PROGRAM"
    WECHAT_OFFICIAL_ACCOUNT = "WECHAT_OFFICIAL_ACCOUNT"
    GITEE = "GITEE"


class ApiKeyStatus(enum.Enum):
    ACTIVE = "ACTIVE"
    REVOKED = "REVOKED"


class Department(Timestamped, TenantOwned, Base):
    """A department of a tenant's staff (S1-22)."""

    __tablename__ = "department"
    __constraints__ = (UniqueConstraint("tenant_id", "parent_id", "name", postgresql_nulls_not_distinct=True),)

    parent_id: Mapped[int | None] = mapped_column(ForeignKey("department.id"), index=True)
    name: Mapped[str]
    position: Mapped[int] = mapped_column(SmallInteger, default=0)
    leader: Mapped[str | None]
    phone: Mapped[str | None]
    email: Mapped[str | None]
    status: Mapped[AccountStatus] = mapped_column(stored_enum(AccountStatus), default=AccountStatus.ACTIVE)

    tenant: Mapped[Tenant] = relationship(lazy="raise", viewonly=True)
    parent: Mapped[Department | None] = relationship(remote_side="Department.id", lazy="raise")


class StaffAccount(Timestamped, TenantOwned, Base):
    """A member of a tenant's staff who logs in with an account name and a password (S0-01, S0-19)."""

    __tablename__ = "staff_account"
    __constraints__ = (Index("uq_staff_account_login", text("lower(login)"), unique=True),)

    login: Mapped[str]
    password_hash: Mapped[str]
    name: Mapped[str]
    email: Mapped[str | None]
    phone: Mapped[str | None]
    status: Mapped[AccountStatus] = mapped_column(stored_enum(AccountStatus), default=AccountStatus.ACTIVE)
    department_id: Mapped[int | None] = mapped_column(ForeignKey("department.id"), index=True)
    failed_logins: Mapped[int] = mapped_column(SmallInteger, default=0)
    locked_until: Mapped[datetime | None]
    password_changed_at: Mapped[datetime] = mapped_column(server_default=func.now())
    last_login_at: Mapped[datetime | None]
    second_factor_secret: Mapped[bytes | None] = mapped_column(LargeBinary)
    second_factor_at: Mapped[datetime | None]
    second_factor_step: Mapped[int | None]
    language: Mapped[Language | None] = mapped_column(stored_enum(Language))

    tenant: Mapped[Tenant] = relationship(lazy="raise", viewonly=True)
    department: Mapped[Department | None] = relationship(lazy="raise")
    roles: Mapped[list[RoleAssignment]] = relationship(lazy="raise", back_populates="account")


class RecoveryCode(TenantOwned, Base):
    """A code by which an account logs in once that has lost its second factor; only a keyed digest is kept."""

    __tablename__ = "recovery_code"
    __constraints__ = (UniqueConstraint("account_id", "code_hash"),)

    account_id: Mapped[int] = mapped_column(ForeignKey("staff_account.id", ondelete="CASCADE"))
    code_hash: Mapped[bytes] = mapped_column(LargeBinary)
    used_at: Mapped[datetime | None]


class Role(Timestamped, TenantOwned, Base):
    """A role that a tenant made for its own staff (S1-35). Built-in roles are policy files, not rows."""

    __tablename__ = "role"
    __constraints__ = (UniqueConstraint("tenant_id", "name"),)

    name: Mapped[str]
    template_id: Mapped[int | None] = mapped_column(ForeignKey("permission_template.id"), index=True)
    position: Mapped[int] = mapped_column(SmallInteger, default=0, server_default="0")
    data_scope: Mapped[DataScope] = mapped_column(
        stored_enum(DataScope), default=DataScope.ALL, server_default=DataScope.ALL.name
    )
    remark: Mapped[str | None]
    status: Mapped[AccountStatus] = mapped_column(stored_enum(AccountStatus), default=AccountStatus.ACTIVE)

    template: Mapped[PermissionTemplate | None] = relationship(lazy="raise")


class RolePolicy(TenantOwned, Base):
    """One line of policy of a tenant-made role, in the tenant's own domain."""

    __tablename__ = "role_policy"
    __constraints__ = (UniqueConstraint("role_id", "obj", "act", "scope", "eft"),)

    role_id: Mapped[int] = mapped_column(ForeignKey("role.id", ondelete="CASCADE"))
    obj: Mapped[str]
    act: Mapped[str]
    scope: Mapped[str]
    eft: Mapped[str] = mapped_column(default="allow")


class RoleAssignment(TenantOwned, Base):
    """A role held by an account: a built-in role's name, or ``role:<key>`` of a tenant-made one."""

    __tablename__ = "role_assignment"
    __constraints__ = (UniqueConstraint("account_id", "role"),)

    account_id: Mapped[int] = mapped_column(ForeignKey("staff_account.id", ondelete="CASCADE"))
    role: Mapped[str]

    account: Mapped[StaffAccount] = relationship(lazy="raise", back_populates="roles")


class EndUser(Timestamped, TenantOwned, Base):
    """A person whom one tenant serves: known by phone, by WeChat openid (S0-40), or by an account name and a
    password (S1-74). An account name is one person's within its tenant; so is a mail address once the
    person has shown to read what is sent there. From ``erased_at`` on nobody is behind the row: its key stays for
    what must be kept."""

    __tablename__ = "end_user"
    __constraints__ = (
        UniqueConstraint("tenant_id", "phone"),
        UniqueConstraint("wechat_app_id", "wechat_openid"),
        Index("uq_end_user_login", "tenant_id", text("lower(login)"), unique=True),
        Index(
            "uq_end_user_email",
            "tenant_id",
            text("lower(email)"),
            unique=True,
            postgresql_where=text("email_verified_at IS NOT NULL"),
        ),
    )

    name: Mapped[str | None] = mapped_column(info=personal())
    phone: Mapped[str | None] = mapped_column(info=personal())
    email: Mapped[str | None] = mapped_column(info=personal())
    email_verified_at: Mapped[datetime | None] = mapped_column(info=personal())
    login: Mapped[str | None] = mapped_column(info=personal())
    password_hash: Mapped[str | None] = mapped_column(info=personal(secret=True))
    failed_logins: Mapped[int] = mapped_column(SmallInteger, default=0, server_default="0")
    locked_until: Mapped[datetime | None]
    password_changed_at: Mapped[datetime | None]
    last_login_at: Mapped[datetime | None]
    wechat_app_id: Mapped[str | None] = mapped_column(info=impersonal("It names the mini-program."))
    wechat_openid: Mapped[str | None] = mapped_column(info=personal())
    wechat_unionid: Mapped[str | None] = mapped_column(info=personal())
    language: Mapped[Language | None] = mapped_column(stored_enum(Language))
    status: Mapped[AccountStatus] = mapped_column(stored_enum(AccountStatus), default=AccountStatus.ACTIVE)
    erased_at: Mapped[datetime | None]

    tenant: Mapped[Tenant] = relationship(lazy="raise", viewonly=True)


class ApiKey(Timestamped, TenantOwned, Base):
    """A partner's key to the graph, with a validity and a secret shown once (S0-18, S0-54).

    After a rotation the previous secret holds until ``previous_secret_until``. Empty ``allowed_networks`` and
    ``scopes`` narrow nothing.
    """

    __tablename__ = "api_key"
    __constraints__ = (
        CheckConstraint(
            "(previous_secret_encrypted IS NULL) = (previous_secret_until IS NULL)", name="previous_secret_ends"
        ),
        Index("ix_api_key_unnoticed", "expires_at", postgresql_where=text("expiry_notified_at IS NULL")),
    )

    key: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    secret_encrypted: Mapped[bytes] = mapped_column(LargeBinary)
    previous_secret_encrypted: Mapped[bytes | None] = mapped_column(LargeBinary)
    previous_secret_until: Mapped[datetime | None]
    status: Mapped[ApiKeyStatus] = mapped_column(stored_enum(ApiKeyStatus), default=ApiKeyStatus.ACTIVE)
    expires_at: Mapped[datetime]
    expiry_notified_at: Mapped[datetime | None]
    roles: Mapped[list[str]] = mapped_column(ARRAY(Text))
    scopes: Mapped[list[str]] = mapped_column(ARRAY(Text), default=list)
    allowed_networks: Mapped[list[str]] = mapped_column(ARRAY(Text), default=list)

    tenant: Mapped[Tenant] = relationship(lazy="raise", viewonly=True)


class LoginApp(Timestamped, TenantOwned, Base):
    """An application that a tenant registered with a third party, so that people log in through it (S0-40)."""

    __tablename__ = "login_app"
    __constraints__ = (UniqueConstraint("tenant_id", "provider"), UniqueConstraint("provider", "app_id"))

    provider: Mapped[LoginProvider] = mapped_column(stored_enum(LoginProvider))
    app_id: Mapped[str]
    secret_encrypted: Mapped[bytes] = mapped_column(LargeBinary)
    status: Mapped[AccountStatus] = mapped_column(stored_enum(AccountStatus), default=AccountStatus.ACTIVE)

    tenant: Mapped[Tenant] = relationship(lazy="raise", viewonly=True)


class LoginBinding(TenantOwned, Base):
    """Whom a third party must vouch for to log in as a staff account (S0-20, S2-28)."""

    __tablename__ = "login_binding"
    __constraints__ = (
        UniqueConstraint("account_id", "provider"),
        UniqueConstraint("provider", "app_id", "subject"),
    )

    account_id: Mapped[int] = mapped_column(ForeignKey("staff_account.id", ondelete="CASCADE"))
    provider: Mapped[LoginProvider] = mapped_column(stored_enum(LoginProvider))
    app_id: Mapped[str]
    subject: Mapped[str]
    bound_at: Mapped[datetime] = mapped_column(server_default=func.now())


class LoginSession(Personal, TenantOwned, Base):
    """One login of a staff account or of an end user at one door, kept alive by a rotating refresh token.

    Where the platform's staff act as the account, the session is named by who really acts: which account, in which
    session of its own, for what reason, and whether it may change anything. Such a session is never refreshed.
    """

    __tablename__ = "login_session"
    __constraints__ = (
        CheckConstraint("num_nonnulls(account_id, end_user_id) = 1", name="one_holder"),
        CheckConstraint(
            "num_nonnulls(real_account_id, real_session_key, reason, may_write) IN (0, 4)", name="impersonated_wholly"
        ),
    )

    key: Mapped[uuid.UUID] = mapped_column(UUID, unique=True)
    account_id: Mapped[int | None] = mapped_column(ForeignKey("staff_account.id", ondelete="CASCADE"), index=True)
    real_account_id: Mapped[int | None] = mapped_column(ForeignKey("staff_account.id", ondelete="CASCADE"), index=True)
    real_session_key: Mapped[uuid.UUID | None] = mapped_column(UUID)
    reason: Mapped[str | None] = mapped_column(info=impersonal("Why the platform's staff acted as an account."))
    may_write: Mapped[bool | None]
    door: Mapped[str] = mapped_column(info=impersonal("One of the installation's doors."))
    refresh_hash: Mapped[bytes] = mapped_column(LargeBinary, info=personal(b""))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    refreshed_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]
    ip: Mapped[str | None] = mapped_column(INET, info=personal())
    user_agent: Mapped[str | None] = mapped_column(info=personal())

    account: Mapped[StaffAccount | None] = relationship(lazy="raise", foreign_keys="LoginSession.account_id")
    end_user: Mapped[EndUser | None] = relationship(lazy="raise", foreign_keys="LoginSession.end_user_id")


class LoginRecord(Personal, Partitioned, LogEntry, Base):
    """The log of logins, successful or not (S1-28, S3-65). An attempt of nobody who is known belongs to the tenant
    whose end user it would be, and to the platform where no tenant was named. Where the platform's staff begin to act
    as an account, that account's tenant reads that they did, and for what reason."""

    __tablename__ = "login_record"
    __retention__ = "logs.loginMonths"
    __constraints__ = (Index("ix_login_record_account_id_at", "account_id", "at"),)

    login: Mapped[str] = mapped_column(info=personal(""))
    account_id: Mapped[int | None]
    real_account_id: Mapped[int | None]
    reason: Mapped[str | None] = mapped_column(info=impersonal("Why the platform's staff acted as an account."))
    door: Mapped[str] = mapped_column(info=impersonal("One of the installation's doors."))
    method: Mapped[LoginMethod] = mapped_column(stored_enum(LoginMethod))
    outcome: Mapped[LoginOutcome] = mapped_column(stored_enum(LoginOutcome))
    ip: Mapped[str | None] = mapped_column(info=personal())
    user_agent: Mapped[str | None] = mapped_column(info=personal())

    tenant: Mapped[Tenant] = relationship(lazy="raise", viewonly=True)
    account: Mapped[StaffAccount | None] = relationship(
        lazy="raise", viewonly=True, primaryjoin="foreign(LoginRecord.account_id) == StaffAccount.id"
    )
    real_account: Mapped[StaffAccount | None] = relationship(
        lazy="raise", viewonly=True, primaryjoin="foreign(LoginRecord.real_account_id) == StaffAccount.id"
    )
