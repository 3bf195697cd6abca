"""What people are told and how: texts by kind, what was or is to be sent, and what somebody does not want."""

from __future__ import annotations

import enum
from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, LargeBinary, SmallInteger, UniqueConstraint, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column, relationship

from models.base import Base, Personal, TenantOwned, Timestamped, impersonal, personal, stored_enum
from models.identity import StaffAccount
from models.tenancy import Language, Tenant


class NotificationChannel(enum.Enum):
    EMAIL = "EMAIL"
    SMS = "SMS"
    DINGTALK_ROBOT = "DINGTALK_ROBOT"
    WECHAT_TEMPLATE = "WECHAT_TEMPLATE"
    IN_APP = "IN_APP"


class NotificationState(enum.Enum):
    QUEUED = "QUEUED"
    SENT = "SENT"
    FAILED = "FAILED"
    SUPPRESSED = "SUPPRESSED"


class NotificationTemplate(Timestamped, TenantOwned, Base):
    """A tenant's own text for a kind of notification: it goes before the built-in one, for the tenant and all below
    it, until one of those has its own (S0-35).

    ``provider_template`` is the number under which SMS and WeChat providers have registered the text.
    """

    __tablename__ = "notification_template"
    __constraints__ = (UniqueConstraint("tenant_id", "kind", "channel", "language"),)

    kind: Mapped[str]
    channel: Mapped[NotificationChannel] = mapped_column(stored_enum(NotificationChannel, "channel"))
    language: Mapped[Language] = mapped_column(stored_enum(Language))
    subject: Mapped[str | None]
    body: Mapped[str]
    provider_template: Mapped[str | None]

    tenant: Mapped[Tenant] = relationship(lazy="raise", viewonly=True)


class Notification(Personal, Timestamped, TenantOwned, Base):
    """One message to one recipient over one channel, and what became of it (S0-35).

    It belongs to the recipient's tenant. Parameters that are secret, such as codes, are kept encrypted until the
    message has been sent or given up; its text is kept unless it holds one.
    """

    __tablename__ = "notification"
    __constraints__ = (
        Index("ix_notification_account_id_id", "account_id", "id"),
        Index("ix_notification_created_at_id", "created_at", "id"),
        Index(
            "ix_notification_repeat", "tenant_id", "kind", "dedupe_key", postgresql_where=text("dedupe_key IS NOT NULL")
        ),
        Index("ix_notification_queued", "next_attempt_at", postgresql_where=text("state = 'QUEUED'")),
    )

    kind: Mapped[str] = mapped_column(info=impersonal("What the message is about."))
    channel: Mapped[NotificationChannel] = mapped_column(stored_enum(NotificationChannel, "channel"))
    language: Mapped[Language] = mapped_column(stored_enum(Language))
    address: Mapped[str | None] = mapped_column(info=personal())
    account_id: Mapped[int | None] = mapped_column(ForeignKey("staff_account.id"))
    parameters: Mapped[dict[str, Any]] = mapped_column(JSONB, info=personal({}))
    secrets_encrypted: Mapped[bytes | None] = mapped_column(LargeBinary, info=personal())
    state: Mapped[NotificationState] = mapped_column(stored_enum(NotificationState, "state"))
    attempts: Mapped[int] = mapped_column(SmallInteger, default=0)
    next_attempt_at: Mapped[datetime]
    last_error: Mapped[str | None] = mapped_column(info=personal())
    dedupe_key: Mapped[str | None] = mapped_column(info=personal())
    subject: Mapped[str | None] = mapped_column(info=personal())
    body: Mapped[str | None] = mapped_column(info=personal())
    sent_at: Mapped[datetime | None]
    read_at: Mapped[datetime | None]

    tenant: Mapped[Tenant] = relationship(lazy="raise", viewonly=True)
    account: Mapped[StaffAccount | None] = relationship(lazy="raise")


class NotificationOptOut(TenantOwned, Base):
    """A kind of notification that a recipient does not want over a channel: an account, or, where none is named, the
    tenant at its own address."""

    __tablename__ = "notification_opt_out"
    __constraints__ = (
        UniqueConstraint("tenant_id", "account_id", "kind", "channel", postgresql_nulls_not_distinct=True),
    )

    account_id: Mapped[int | None] = mapped_column(ForeignKey("staff_account.id", ondelete="CASCADE"), index=True)
    kind: Mapped[str]
    channel: Mapped[NotificationChannel] = mapped_column(stored_enum(NotificationChannel, "channel"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())

    account: Mapped[StaffAccount | None] = relationship(lazy="raise")
