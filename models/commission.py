"""What agents earn: the share of the sale price that each is given by the one above it."""

from __future__ import annotations

from decimal import Decimal

from sqlalchemy import CheckConstraint, ForeignKey, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from models.base import Base, TenantOwned, Timestamped
from models.catalog import DataPackage
from models.tenancy import Tenant


class CommissionRate(Timestamped, TenantOwned, Base):
    """An agent's share of the sale price of one data package, never above that of the agent who gave it (S0-46)."""

    __tablename__ = "commission_rate"
    __constraints__ = (
        UniqueConstraint("tenant_id", "data_package_id"),
        CheckConstraint("percent BETWEEN 0 AND 100", name="percent_in_range"),
    )

    data_package_id: Mapped[int] = mapped_column(ForeignKey("data_package.id"), index=True)
    percent: Mapped[Decimal]
    creator_id: Mapped[int] = mapped_column(ForeignKey("tenant.id"))

    tenant: Mapped[Tenant] = relationship(lazy="raise", viewonly=True, foreign_keys="CommissionRate.tenant_id")
    data_package: Mapped[DataPackage] = relationship(lazy="raise")
    creator: Mapped[Tenant] = relationship(lazy="raise", foreign_keys=[creator_id])
