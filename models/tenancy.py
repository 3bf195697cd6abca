"""The tenant tree: adjacency, closure and path (S3-01), with one concrete kind per sort of customer."""

from __future__ import annotations

import enum

from sqlalchemy import CheckConstraint, ForeignKey, Index, SmallInteger, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from models.base import PATH, Base, TenantOwned, Timestamped, stored_enum


class TenantKind(enum.Enum):
    PLATFORM = "PLATFORM"
    ENTERPRISE = "ENTERPRISE"
    AGENT = "AGENT"
    WIFI_OPERATOR = "WIFI_OPERATOR"
    RESELLER = "RESELLER"
    DEALER = "DEALER"
    MERCHANT = "MERCHANT"
    MERCHANT_OPERATOR = "MERCHANT_OPERATOR"


class TenantStatus(enum.Enum):
    ACTIVE = "ACTIVE"
    SUSPENDED = "SUSPENDED"
    CLOSED = "CLOSED"


class Language(enum.Enum):
    """A language that people are written to in; its value is the BCP 47 tag."""

    ZH_CN = "zh-CN"
    ZH_TW = "zh-TW"
    EN = "en"


class Tenant(Timestamped, Base):
    """A company in the tree: the platform at its root, its customers and their agents below (S0-34)."""

    __tablename__ = "tenant"

    kind: Mapped[TenantKind] = mapped_column(stored_enum(TenantKind))
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("tenant.id"), index=True)
    path: Mapped[str] = mapped_column(PATH, unique=True)
    level: Mapped[int] = mapped_column(SmallInteger)
    next_child: Mapped[int] = mapped_column(default=1)
    name: Mapped[str]
    status: Mapped[TenantStatus] = mapped_column(stored_enum(TenantStatus), default=TenantStatus.ACTIVE)
    contact_name: Mapped[str | None]
    phone: Mapped[str | None]
    email: Mapped[str | None]
    time_zone: Mapped[str] = mapped_column(default="Asia/Shanghai")
    currency: Mapped[str] = mapped_column(default="CNY")
    language: Mapped[Language] = mapped_column(
        stored_enum(Language), default=Language.ZH_CN, server_default=Language.ZH_CN.name
    )
    remark: Mapped[str | None]
    requests_per_minute: Mapped[int | None]

    parent: Mapped[Tenant | None] = relationship(remote_side="Tenant.id", lazy="raise")

    __table_args__ = (
        UniqueConstraint("id", "path"),
        CheckConstraint("path ~ '^(\\.[0-9A-V]{4})+\\.$'", name="path_form"),
        CheckConstraint("level = length(path) / 5 - 1", name="level_is_depth"),
        CheckConstraint("requests_per_minute > 0", name="rate_positive"),
        Index("ix_tenant_kind_path", "kind", "path"),
    )
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_abstract": True}


class Platform(Tenant):
    """The operator itself, the root of the tree."""

    __mapper_args__ = {"polymorphic_identity": TenantKind.PLATFORM}


class Enterprise(Tenant):
    """A company that buys cards for its own use (S0-36)."""

    business_licence: Mapped[str | None] = mapped_column(nullable=True)
    landline: Mapped[str | None] = mapped_column(nullable=True)

    __mapper_args__ = {"polymorphic_identity": TenantKind.ENTERPRISE, "polymorphic_load": "inline"}


class Agent(Tenant):
    """A sales agent of level 1, 2 or 3 (S0-38)."""

    agent_level: Mapped[int | None] = mapped_column(SmallInteger, nullable=True)

    __mapper_args__ = {"polymorphic_identity": TenantKind.AGENT, "polymorphic_load": "inline"}


class TenantClosure(TenantOwned, Base):
    """Each tenant (the owner of the row) with each of its ancestors and itself, and how far up (S3-01)."""

    __tablename__ = "tenant_closure"
    __constraints__ = (UniqueConstraint("ancestor_id", "tenant_id"),)

    ancestor_id: Mapped[int] = mapped_column(ForeignKey("tenant.id"))
    depth: Mapped[int] = mapped_column(SmallInteger)
