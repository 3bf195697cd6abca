"""What can be sold and from whom it comes: suppliers, data packages, sales outlets."""

from __future__ import annotations

import enum
from decimal import Decimal

from sqlalchemy import CheckConstraint, ForeignKey, LargeBinary, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from models.base import Base, Published, TenantOwned, Timestamped, stored_enum


class Carrier(enum.Enum):
    CMCC = "CMCC"
    CUCC = "CUCC"
    CTCC = "CTCC"


class CatalogStatus(enum.Enum):
    ACTIVE = "ACTIVE"
    DISABLED = "DISABLED"


class PackagePeriod(enum.Enum):
    MONTHLY = "MONTHLY"
    QUARTERLY = "QUARTERLY"
    HALF_YEARLY = "HALF_YEARLY"
    YEARLY = "YEARLY"


class SupplierType(enum.Enum):
    CARRIER = "CARRIER"
    DISTRIBUTOR = "DISTRIBUTOR"
    PLATFORM = "PLATFORM"


class OutletType(enum.Enum):
    CONVENIENCE_STORE = "CONVENIENCE_STORE"
    CMCC_OUTLET = "CMCC_OUTLET"
    CUCC_OUTLET = "CUCC_OUTLET"
    CTCC_OUTLET = "CTCC_OUTLET"


class Supplier(Timestamped, TenantOwned, Base):
    """An upstream that delivers cards and answers for them through its interface (S0-41)."""

    __tablename__ = "supplier"
    __constraints__ = (UniqueConstraint("tenant_id", "name"),)

    supplier_type: Mapped[SupplierType] = mapped_column(stored_enum(SupplierType))
    name: Mapped[str]
    carrier: Mapped[Carrier | None] = mapped_column(stored_enum(Carrier))
    interface_name: Mapped[str]
    api_key_encrypted: Mapped[bytes | None] = mapped_column(LargeBinary)
    status: Mapped[CatalogStatus] = mapped_column(stored_enum(CatalogStatus), default=CatalogStatus.ACTIVE)
    remark: Mapped[str | None]


class DataPackage(Timestamped, Published, Base):
    """A data plan sold for cards of one carrier, by period (S0-42)."""

    __tablename__ = "data_package"
    __constraints__ = (
        UniqueConstraint("tenant_id", "code"),
        CheckConstraint("data_volume_mb > 0", name="volume_positive"),
        CheckConstraint("channel_price >= 0 AND sale_price >= 0", name="prices_not_negative"),
    )

    code: Mapped[str]
    name: Mapped[str]
    carrier: Mapped[Carrier] = mapped_column(stored_enum(Carrier))
    period_type: Mapped[PackagePeriod] = mapped_column(stored_enum(PackagePeriod))
    data_volume_mb: Mapped[int]
    channel_price: Mapped[Decimal]
    sale_price: Mapped[Decimal]
    currency: Mapped[str] = mapped_column(default="CNY")
    supplier_id: Mapped[int] = mapped_column(ForeignKey("supplier.id"), index=True)
    status: Mapped[CatalogStatus] = mapped_column(stored_enum(CatalogStatus), default=CatalogStatus.ACTIVE)

    supplier: Mapped[Supplier] = relationship(lazy="raise")


class Outlet(Timestamped, TenantOwned, Base):
    """A place where cards are sold over the counter (S0-39)."""

    __tablename__ = "outlet"

    name: Mapped[str]
    province: Mapped[str]
    outlet_type: Mapped[OutletType] = mapped_column(stored_enum(OutletType))
    contact_name: Mapped[str | None]
    contact_phone: Mapped[str | None]
    status: Mapped[CatalogStatus] = mapped_column(stored_enum(CatalogStatus), default=CatalogStatus.ACTIVE)
