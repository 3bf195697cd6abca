"""What can be sold and from whom it comes: suppliers, data packages, sales outlets."""

from __future__ import annotations

import enum
from datetime import datetime
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


class PlanKind(enum.Enum):
    """What a package holds; only the use of data is metered (S2-05)."""

    DATA = "DATA"
    SMS = "SMS"
    VOICE = "VOICE"


class Pricing(enum.Enum):
    """Whether a package's price is given, or worked out of what it is composed of."""

    FIXED = "FIXED"
    COMPOSED = "COMPOSED"


class MarkupType(enum.Enum):
    FIXED = "FIXED"
    PERCENT = "PERCENT"


class MarkupSign(enum.Enum):
    PLUS = "PLUS"
    MINUS = "MINUS"


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


class CommissionBasis(enum.Enum):
    """What agents earn by a package: a share of its sale price (S0-46), or what their customers pay above their own
    price (S2-18)."""

    SALE_PRICE = "SALE_PRICE"
    MARGIN = "MARGIN"


class DataPackage(Timestamped, Published, Base):
    """A data plan sold for cards of one carrier, by period (S0-42)."""

    __tablename__ = "data_package"
    __constraints__ = (
        UniqueConstraint("tenant_id", "code"),
        CheckConstraint(
            "data_volume_mb >= 0 AND CASE plan_kind WHEN 'DATA' THEN data_volume_mb > 0 "
            "WHEN 'SMS' THEN coalesce(sms_count, 0) > 0 ELSE coalesce(voice_minutes, 0) > 0 END",
            name="holds_something",
        ),
        CheckConstraint("sms_count > 0 AND voice_minutes > 0", name="counts_positive"),
        CheckConstraint(
            "(pricing = 'COMPOSED') = (markup IS NOT NULL) AND num_nulls(markup, markup_type, markup_sign) IN (0, 3)",
            name="composed_with_markup",
        ),
        CheckConstraint("markup >= 0", name="markup_not_negative"),
        CheckConstraint("valid_until > valid_from", name="valid_in_order"),
        CheckConstraint("channel_price >= 0 AND sale_price >= 0", name="prices_not_negative"),
    )

    code: Mapped[str]
    name: Mapped[str]
    carrier: Mapped[Carrier] = mapped_column(stored_enum(Carrier))
    period_type: Mapped[PackagePeriod] = mapped_column(stored_enum(PackagePeriod))
    plan_kind: Mapped[PlanKind] = mapped_column(
        stored_enum(PlanKind), default=PlanKind.DATA, server_default=PlanKind.DATA.name
    )
    data_volume_mb: Mapped[int]
    sms_count: Mapped[int | None]
    voice_minutes: Mapped[int | None]
    carrier_plan: Mapped[str | None]
    """The carrier's own name of the plan, where a card that changes to it is to change at the carrier as well."""
    pricing: Mapped[Pricing] = mapped_column(
        stored_enum(Pricing), default=Pricing.FIXED, server_default=Pricing.FIXED.name
    )
    markup_type: Mapped[MarkupType | None] = mapped_column(stored_enum(MarkupType))
    markup_sign: Mapped[MarkupSign | None] = mapped_column(stored_enum(MarkupSign))
    markup: Mapped[Decimal | None]
    """An amount in the package's currency, or percent of the cost."""
    valid_from: Mapped[datetime | None]
    valid_until: Mapped[datetime | None]
    commission_basis: Mapped[CommissionBasis] = mapped_column(
        stored_enum(CommissionBasis), default=CommissionBasis.SALE_PRICE, server_default=CommissionBasis.SALE_PRICE.name
    )
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
