"""Suppliers, data packages and outlets in the graph."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import strawberry

import models.catalog as stored
import models.pricing
from models.catalog import (
    Carrier,
    CatalogStatus,
    CommissionBasis,
    MarkupSign,
    MarkupType,
    OutletType,
    PackagePeriod,
    PlanKind,
    Pricing,
    SupplierType,
)
from planner.mapping import (
    Connection,
    Node,
    column,
    computed,
    entity,
    enum_type,
    input_type,
    live,
    to_many,
    to_one,
    value,
)
from schema.common import UserError

if TYPE_CHECKING:
    from schema.pricing import PackageComponent

enum_type(Carrier, "A mobile network operator: China Mobile, China Unicom, China Telecom.")
enum_type(CatalogStatus, "Whether it can be chosen for something new.")
enum_type(PackagePeriod, "How long a data package lasts.")
enum_type(PlanKind, "What a package holds; only the use of data is metered (S2-05).")
enum_type(Pricing, "Whether a package's price is given, or worked out of what it is composed of.")
enum_type(
    CommissionBasis,
    "What agents earn by a package: a share of its sale price (S0-46), or the difference between what their customers "
    "pay and their own price (S2-18).",
)
enum_type(MarkupType, "Whether a markup is an amount or percent of the cost (S2-11).")
enum_type(MarkupSign, "Whether a markup is put on the cost or taken off it (S2-11).")
enum_type(SupplierType, "What sort of upstream a supplier is.")
enum_type(OutletType, "What sort of shop an outlet is.")


@entity(stored.Supplier, prefix="sup", filters=("name", "status", "carrier"), sorts=("name",))
class Supplier(Node):
    """An upstream that delivers cards and answers for them through its interface (S0-08, S0-41)."""

    supplier_type: SupplierType
    name: str
    carrier: Carrier | None
    interface_name: str = column("Which adapter speaks to it.")
    has_api_key: bool = computed(
        "Whether a key is stored; the key itself is never shown.", lambda s: s.api_key_encrypted.is_not(None)
    )
    status: CatalogStatus
    remark: str | None
    created_at: datetime


@entity(
    stored.DataPackage,
    prefix="pkg",
    filters=("code", "name", "carrier", "period_type", "plan_kind", "status", "supplier"),
    sorts=("code", "sale_price", "created_at"),
)
class DataPackage(Node):
    """A data plan for cards of one carrier (S0-07, S0-42)."""

    code: str
    name: str
    carrier: Carrier
    period_type: PackagePeriod
    plan_kind: PlanKind
    data_volume_mb: int = column("Data included in one period, in MB; 0 where it holds something else.")
    sms_count: int | None = column("Messages included in one period.")
    voice_minutes: int | None = column("Minutes included in one period.")
    carrier_plan: str | None = column(
        "The carrier's own name of the plan, told to it when a card changes plans (S0-16); for the platform's staff."
    )
    pricing: Pricing
    markup_type: MarkupType | None = column("Of a composed package.")
    markup_sign: MarkupSign | None = column("Of a composed package.")
    markup: Decimal | None = column("In ``currency``, or percent of the cost; of a composed package.")
    valid_from: datetime | None = column("From when on it can be ordered; null: at once.")
    valid_until: datetime | None = column("Until when it can be ordered; null: until it is taken off sale.")
    channel_price: Decimal | None = column("What an agent pays for one period, in ``currency``.")
    sale_price: Decimal = column("What the end customer pays for one period, in ``currency``.")
    own_price: Decimal | None = live(
        "What the caller's own company pays for one period, in ``currency``; null for the platform, which buys nothing "
        "of itself.",
        needs=("sale_price", "commission_basis"),
    )
    currency: str = column("An ISO 4217 code (S2-09).")
    commission_basis: CommissionBasis
    status: CatalogStatus
    created_at: datetime
    supplier: Supplier | None = to_one("Where it is bought.")
    components: Connection[PackageComponent] = to_many(
        "What it is composed of (S2-08).", by=models.pricing.PackageComponent.data_package_id
    )


@entity(stored.Outlet, prefix="out", filters=("province", "outlet_type", "status"), sorts=("name",))
class Outlet(Node):
    """A place where cards are sold over the counter (S0-39)."""

    name: str
    province: str
    outlet_type: OutletType
    contact_name: str | None
    contact_phone: str | None
    status: CatalogStatus


@input_type
class SupplierInput:
    """A supplier's data; the API key is kept encrypted and never shown again (S0-08)."""

    supplier_type: SupplierType
    name: str
    interface_name: str
    carrier: Carrier | None = None
    api_key: str | None = None
    status: CatalogStatus = CatalogStatus.ACTIVE
    remark: str | None = None


@input_type
class UpdateSupplierInput:
    """Changes to a supplier; a field left out stays as it is."""

    id: strawberry.ID
    supplier_type: SupplierType | None = None
    name: str | None = None
    interface_name: str | None = None
    carrier: Carrier | None = None
    api_key: str | None = None
    status: CatalogStatus | None = None
    remark: str | None = None


@value
class SupplierPayload:
    """The supplier as it now is, or why nothing was changed."""

    supplier: Supplier | None
    errors: list[UserError]


@input_type
class DataPackageInput:
    """A package (S0-07): of data in MB, of messages or of minutes (S2-05). Prices in ``currency`` (S2-09)."""

    code: str
    name: str
    carrier: Carrier
    period_type: PackagePeriod
    channel_price: Decimal
    sale_price: Decimal
    supplier: strawberry.ID
    data_volume_mb: int = 0
    plan_kind: PlanKind = PlanKind.DATA
    sms_count: int | None = None
    voice_minutes: int | None = None
    currency: str = "CNY"
    valid_from: datetime | None = None
    valid_until: datetime | None = None
    carrier_plan: str | None = None
    commission_basis: CommissionBasis = CommissionBasis.SALE_PRICE


@input_type
class UpdateDataPackageInput:
    """Changes to a data package; a field left out stays as it is (S0-07)."""

    id: strawberry.ID
    name: str | None = None
    data_volume_mb: int | None = None
    sms_count: int | None = None
    voice_minutes: int | None = None
    channel_price: Decimal | None = None
    sale_price: Decimal | None = None
    valid_from: datetime | None = None
    valid_until: datetime | None = None
    carrier_plan: str | None = None
    commission_basis: CommissionBasis | None = None
    status: CatalogStatus | None = None


@value
class DataPackagePayload:
    """The package as it now is, or why nothing was changed."""

    data_package: DataPackage | None
    errors: list[UserError]


@input_type
class OutletInput:
    """An outlet (S0-39)."""

    name: str
    province: str
    outlet_type: OutletType
    contact_name: str | None = None
    contact_phone: str | None = None


@input_type
class UpdateOutletInput:
    """Changes to an outlet; a field left out stays as it is."""

    id: strawberry.ID
    name: str | None = None
    province: str | None = None
    outlet_type: OutletType | None = None
    contact_name: str | None = None
    contact_phone: str | None = None
    status: CatalogStatus | None = None


@value
class OutletPayload:
    """The outlet as it now is, or why nothing was changed."""

    outlet: Outlet | None
    errors: list[UserError]
