"""Contracts: templates in versions, kept by those who know the law, and what each merchant has been given to sign."""

from __future__ import annotations

import enum
from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from models.base import AppendOnly, Base, Published, TenantOwned, Timestamped, stored_enum
from models.identity import StaffAccount
from models.tenancy import Tenant


class ContractTemplateStatus(enum.Enum):
    DRAFT = "DRAFT"
    PUBLISHED = "PUBLISHED"
    WITHDRAWN = "WITHDRAWN"


class ContractStatus(enum.Enum):
    ISSUED = "ISSUED"
    SIGNED = "SIGNED"
    SUPERSEDED = "SUPERSEDED"


class ContractTemplate(Timestamped, Published, Base):
    """One version of a contract for one business scenario (S4-58). What is published stays as it is: a change is the
    next version."""

    __tablename__ = "contract_template"
    __constraints__ = (
        UniqueConstraint("tenant_id", "code", "version"),
        CheckConstraint("version > 0", name="version_positive"),
        CheckConstraint("(status = 'DRAFT') = (published_at IS NULL)", name="published_when_published"),
        Index(
            "uq_contract_template_draft", "tenant_id", "code", unique=True, postgresql_where=text("status = 'DRAFT'")
        ),
    )

    code: Mapped[str]
    version: Mapped[int]
    name: Mapped[str]
    scenario: Mapped[str]
    body: Mapped[str]
    status: Mapped[ContractTemplateStatus] = mapped_column(
        stored_enum(ContractTemplateStatus), default=ContractTemplateStatus.DRAFT
    )
    published_at: Mapped[datetime | None]


class Contract(Timestamped, AppendOnly, TenantOwned, Base):
    """A merchant's contract, worded as it was issued (S4-04). It names the template that it was made from, of the
    merchant's type or, for a special merchant, another one (S4-62)."""

    __tablename__ = "contract"
    __changeable__ = ("status", "signed_by_id", "signed_at", "updated_at")
    __constraints__ = (
        CheckConstraint("(signed_at IS NULL) = (signed_by_id IS NULL)", name="signed_by_somebody"),
        CheckConstraint("status <> 'SIGNED' OR signed_at IS NOT NULL", name="signed_when_signed"),
        Index("uq_contract_issued", "tenant_id", unique=True, postgresql_where=text("status = 'ISSUED'")),
    )

    template_id: Mapped[int] = mapped_column(ForeignKey("contract_template.id"), index=True)
    name: Mapped[str]
    body: Mapped[str]
    special: Mapped[bool] = mapped_column(default=False)
    status: Mapped[ContractStatus] = mapped_column(stored_enum(ContractStatus), default=ContractStatus.ISSUED)
    issued_by_id: Mapped[int | None] = mapped_column(ForeignKey("staff_account.id"))
    signed_by_id: Mapped[int | None] = mapped_column(ForeignKey("staff_account.id"))
    signed_at: Mapped[datetime | None]

    tenant: Mapped[Tenant] = relationship(lazy="raise", viewonly=True)
    template: Mapped[ContractTemplate] = relationship(lazy="raise")
    issued_by: Mapped[StaffAccount | None] = relationship(lazy="raise", foreign_keys=[issued_by_id])
    signed_by: Mapped[StaffAccount | None] = relationship(lazy="raise", foreign_keys=[signed_by_id])
