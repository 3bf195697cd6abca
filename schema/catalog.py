"""Suppliers, data packages and outlets in the graph."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

import strawberry

import models.catalog as stored
from models.catalog import Carrier, CatalogStatus, OutletType, PackagePeriod, SupplierType
from planner.mapping import Node, column, computed, entity, enum_type, input_type, to_one, value
from schema.common import UserError

enum_type(Carrier, "A mobile network operator: China Mobile, China Unicom, China Telecom.")
enum_type(CatalogStatus, "Whether it can be chosen for something new.")
enum_type(PackagePeriod, "How long a data package lasts.")
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
    filters=("code", "name", "carrier", "period_type", "status", "supplier"),
    sorts=("code", "sale_price", "created_at"),
)
class DataPackage(Node):
    """A data plan for cards of one carrier (S0-07, S0-42)."""

    code: str
    name: str
    carrier: Carrier
    period_type: PackagePeriod
    data_volume_mb: int = column("Data included in one period, in MB.")
    channel_price: Decimal | None = column("What an agent pays for one period, in ``currency``.")
    sale_price: Decimal = column("What the end customer pays for one period, in ``currency``.")
    currency: str
    status: CatalogStatus
    created_at: datetime
    supplier: Supplier | None = to_one("Where it is bought.")


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
    """A data package (S0-07). Prices in ``currency``, volume in MB."""

    code: str
    name: str
    carrier: Carrier
    period_type: PackagePeriod
    data_volume_mb: int
    channel_price: Decimal
    sale_price: Decimal
    supplier: strawberry.ID
    currency: str = "CNY"


@input_type
class UpdateDataPackageInput:
    """Changes to a data package; a field left out stays as it is (S0-07)."""

    id: strawberry.ID
    name: str | None = None
    data_volume_mb: int | None = None
    channel_price: Decimal | None = None
    sale_price: Decimal | None = None
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
