"""Merchants: the companies that sell to the public, who operates them, what types of them there are, and how they are
taken on."""

from __future__ import annotations

import enum
from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, Text, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column, relationship

from models.base import Base, Published, TenantOwned, Timestamped, stored_enum
from models.catalog import CatalogStatus
from models.contracts import ContractTemplate
from models.reviews import Reviewed
from models.system import StoredFile
from models.tenancy import Tenant, TenantKind


class OnboardingStatus(enum.Enum):
    DRAFT = "DRAFT"
    SUBMITTED = "SUBMITTED"
    APPROVED = "APPROVED"
    REJECTED = "REJECTED"
    WITHDRAWN = "WITHDRAWN"


class MerchantType(Timestamped, Published, Base):
    """A sort of merchant: what it tells of itself, which documents it shows, and which contract it signs (S4-59 to
    S4-61)."""

    __tablename__ = "merchant_type"
    __constraints__ = (UniqueConstraint("tenant_id", "code"),)

    code: Mapped[str]
    name: Mapped[str]
    form_fields: Mapped[list[dict[str, Any]]] = mapped_column(JSONB, default=list, server_default=text("'[]'"))
    """What a merchant is asked: ``key``, ``label``, ``required`` of each."""
    required_documents: Mapped[list[str]] = mapped_column(ARRAY(Text), default=list)
    contract_template_id: Mapped[int | None] = mapped_column(ForeignKey("contract_template.id"), index=True)
    page_variant: Mapped[str | None]
    """Which variant of their pages its merchants draw (S4-76)."""
    status: Mapped[CatalogStatus] = mapped_column(stored_enum(CatalogStatus), default=CatalogStatus.ACTIVE)

    contract_template: Mapped[ContractTemplate | None] = relationship(lazy="raise")


class MerchantOperator(Tenant):
    """A company that operates merchants (运营方), which stand below it (S4-75)."""

    __mapper_args__ = {"polymorphic_identity": TenantKind.MERCHANT_OPERATOR}


class Merchant(Tenant):
    """A company that sells to the public (商户); it may once it has been taken on (S4-57)."""

    merchant_type_id: Mapped[int | None] = mapped_column(
        ForeignKey("merchant_type.id", use_alter=True), index=True, nullable=True
    )
    wechat_app_id: Mapped[str | None] = mapped_column(unique=True, nullable=True)
    onboarded_at: Mapped[datetime | None] = mapped_column(nullable=True)

    merchant_type: Mapped[MerchantType | None] = relationship(lazy="raise", foreign_keys=[merchant_type_id])

    __mapper_args__ = {"polymorphic_identity": TenantKind.MERCHANT, "polymorphic_load": "inline"}


class OnboardingApplication(Reviewed, Timestamped, TenantOwned, Base):
    """What a merchant tells of itself to be taken on, or when it changes its type, and what was said to it (S4-02)."""

    __tablename__ = "onboarding_application"
    __constraints__ = (
        CheckConstraint(
            "(status IN ('APPROVED', 'REJECTED')) = (reviewed_at IS NOT NULL)", name="reviewed_when_decided"
        ),
        Index(
            "uq_onboarding_application_open",
            "tenant_id",
            unique=True,
            postgresql_where=text("status IN ('DRAFT', 'SUBMITTED')"),
        ),
        Index("ix_onboarding_application_status_id", "status", "id"),
    )

    merchant_type_id: Mapped[int] = mapped_column(ForeignKey("merchant_type.id"), index=True)
    wechat_app_id: Mapped[str | None]
    answers: Mapped[dict[str, str]] = mapped_column(JSONB, default=dict, server_default=text("'{}'"))
    status: Mapped[OnboardingStatus] = mapped_column(stored_enum(OnboardingStatus), default=OnboardingStatus.DRAFT)
    submitted_at: Mapped[datetime | None]

    tenant: Mapped[Tenant] = relationship(lazy="raise", viewonly=True)
    merchant_type: Mapped[MerchantType] = relationship(lazy="raise")


class OnboardingDocument(TenantOwned, Base):
    """A file that a merchant shows with an application: which of the documents of its type it is (S4-60)."""

    __tablename__ = "onboarding_document"
    __constraints__ = (UniqueConstraint("application_id", "document"),)

    application_id: Mapped[int] = mapped_column(ForeignKey("onboarding_application.id", ondelete="CASCADE"))
    document: Mapped[str]
    file_id: Mapped[int] = mapped_column(ForeignKey("stored_file.id"), index=True)
    name: Mapped[str]

    application: Mapped[OnboardingApplication] = relationship(lazy="raise")
    file: Mapped[StoredFile] = relationship(lazy="raise")
