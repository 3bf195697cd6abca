"""Guides and documentation that the platform publishes, and the memberships that open them."""

from __future__ import annotations

import enum
from datetime import date, datetime

from sqlalchemy import ForeignKey, UniqueConstraint, func
from sqlalchemy.orm import Mapped, mapped_column, relationship

from models.base import AppendOnly, Base, Published, TenantOwned, Timestamped, stored_enum
from models.tenancy import Language, Tenant


class HelpKind(enum.Enum):
    GUIDE = "GUIDE"
    DOC = "DOC"


class HelpStatus(enum.Enum):
    PUBLISHED = "PUBLISHED"
    WITHDRAWN = "WITHDRAWN"


class MembershipSource(enum.Enum):
    RENEWAL = "RENEWAL"
    GIFT = "GIFT"


class HelpTopic(Timestamped, Published, Base):
    """One version of a guide to, or the documentation of, a page or a block of it (S2-21 to S2-25, S4-55)."""

    __tablename__ = "help_topic"
    __constraints__ = (
        UniqueConstraint(
            "tenant_id",
            "page_key",
            "block_key",
            "kind",
            "language",
            "role",
            "version",
            name="uq_help_topic_version",
            postgresql_nulls_not_distinct=True,
        ),
    )

    kind: Mapped[HelpKind] = mapped_column(stored_enum(HelpKind))
    page_key: Mapped[str]
    block_key: Mapped[str | None]
    language: Mapped[Language] = mapped_column(stored_enum(Language))
    role: Mapped[str | None]
    version: Mapped[int]
    title: Mapped[str]
    body: Mapped[str]
    status: Mapped[HelpStatus] = mapped_column(stored_enum(HelpStatus), default=HelpStatus.PUBLISHED)


class MembershipGrant(AppendOnly, TenantOwned, Base):
    """That a tenant is a member up to and including a day, and why; the latest day counts (S2-26)."""

    __tablename__ = "membership_grant"

    until: Mapped[date]
    source: Mapped[MembershipSource] = mapped_column(stored_enum(MembershipSource))
    remark: Mapped[str | None]
    granted_at: Mapped[datetime] = mapped_column(server_default=func.now())
    account_id: Mapped[int | None] = mapped_column(ForeignKey("staff_account.id"))

    tenant: Mapped[Tenant] = relationship(lazy="raise", viewonly=True)
