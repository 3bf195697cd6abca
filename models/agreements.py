"""What people agree to before they are served, and that they did."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, UniqueConstraint, func
from sqlalchemy.orm import Mapped, mapped_column, relationship

from models.base import AppendOnly, Base, Personal, Published, TenantOwned, impersonal
from models.identity import EndUser
from models.tenancy import Tenant


class Agreement(AppendOnly, Published, Base):
    """One version of a document that a tenant lays before its own end users and those below it (S1-72).

    A version stays as it was published: a change is a new version.
    """

    __tablename__ = "agreement"
    __constraints__ = (UniqueConstraint("tenant_id", "document", "version"),)

    document: Mapped[str]
    version: Mapped[str]
    title: Mapped[str]
    text: Mapped[str]
    published_at: Mapped[datetime] = mapped_column(server_default=func.now())

    tenant: Mapped[Tenant] = relationship(lazy="raise", viewonly=True)


class AgreementConsent(AppendOnly, Personal, TenantOwned, Base):
    """A version of a document, signed by an end user (S1-72)."""

    __tablename__ = "agreement_consent"
    __constraints__ = (
        UniqueConstraint("end_user_id", "agreement_id"),
        CheckConstraint("end_user_id IS NOT NULL", name="signed_by_somebody"),
    )

    agreement_id: Mapped[int] = mapped_column(ForeignKey("agreement.id"))
    document: Mapped[str] = mapped_column(info=impersonal("What was signed must be kept."))
    version: Mapped[str] = mapped_column(info=impersonal("What was signed must be kept."))
    signed_at: Mapped[datetime] = mapped_column(server_default=func.now())

    agreement: Mapped[Agreement] = relationship(lazy="raise")
    end_user: Mapped[EndUser] = relationship(lazy="raise", foreign_keys="AgreementConsent.end_user_id")
