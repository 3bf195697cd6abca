"""Suppliers, data packages and outlets: what the platform buys, sells and where (S0-07, S0-08, S0-39)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from models.base import table_of
from models.catalog import CatalogStatus, DataPackage, Outlet, PlanKind, Pricing, Supplier
from services import dictionaries, validation
from services.conflicts import told_apart
from services.identity import tenant_for
from services.refusal import Refusal
from services.runtime import Work

T = TypeVar("T", Supplier, DataPackage, Outlet)

SUPPLIER_CONSTRAINTS = "uq_supplier_tenant_id_name"
PACKAGE_CONSTRAINTS = "uq_data_package_tenant_id_code"
PROVINCES = "province"


def api_key_binding(supplier_id: int) -> str:
    return f"supplier:{supplier_id}"


async def create_supplier(
    work: Work, *, api_key: str | None, name: str, interface_name: str, **values: Any
) -> Supplier:
    """A supplier; its API key is kept encrypted. TAKEN where the name is in use."""
    tenant = await tenant_for(work, None)
    supplier = Supplier(
        tenant_id=tenant.id,
        tenant_path=tenant.path,
        **_supplier({"name": name, "interface_name": interface_name, **values}),
    )
    work.session.add(supplier)
    async with told_apart(work.session, {SUPPLIER_CONSTRAINTS: ("name", supplier.name)}):
        await work.session.flush()
    if api_key is not None:
        supplier.api_key_encrypted = work.runtime.keys.encrypt(api_key, api_key_binding(supplier.id))
    return supplier


async def update_supplier(work: Work, key: int, changes: dict[str, Any]) -> Supplier:
    """Changes what is given and leaves the rest; a null API key is left as it is."""
    supplier = await work.held(Supplier, key)
    api_key = changes.pop("api_key", None)
    for name, value in _supplier(changes).items():
        setattr(supplier, name, value)
    if api_key is not None:
        supplier.api_key_encrypted = work.runtime.keys.encrypt(api_key, api_key_binding(supplier.id))
    async with told_apart(work.session, {SUPPLIER_CONSTRAINTS: ("name", supplier.name)}):
        await work.session.flush()
    return supplier


def _supplier(values: dict[str, Any]) -> dict[str, Any]:
    checks: dict[str, Callable[[Any], Any]] = {
        "name": lambda v: validation.text(v, "name"),
        "interface_name": lambda v: validation.text(v, "interfaceName", limit=64),
        "remark": lambda v: validation.optional(v, "remark", limit=2_000),
    }
    return {name: checks[name](value) if name in checks else value for name, value in values.items()}


HOLDS = {
    PlanKind.DATA: ("data_volume_mb", "dataVolumeMb"),
    PlanKind.SMS: ("sms_count", "smsCount"),
    PlanKind.VOICE: ("voice_minutes", "voiceMinutes"),
}
"""What a package of each kind holds at least one of."""


def _check_package(values: Mapping[str, Any]) -> None:
    """What a package holds, what it costs and when it is sold make sense."""
    for kind, (name, field) in HOLDS.items():
        amount = values.get(name)
        counted = kind is not PlanKind.DATA and amount is not None
        least = 1 if counted or kind is values["plan_kind"] else 0
        if (amount or 0) < least:
            raise Refusal("NOT_POSITIVE", field)
    for name, field in (("channel_price", "channelPrice"), ("sale_price", "salePrice")):
        validation.money(values[name], field)
    begins, ends = (
        None if (at := values.get(name)) is None else validation.moment(at, field)
        for name, field in (("valid_from", "validFrom"), ("valid_until", "validUntil"))
    )
    if begins is not None and ends is not None and ends <= begins:
        raise Refusal("INVALID", "validUntil")


async def create_data_package(work: Work, *, supplier_id: int, **values: Any) -> DataPackage:
    """A data package of a supplier (S0-07). WRONG_CARRIER where the supplier sells another carrier's cards."""
    tenant = await tenant_for(work, None)
    supplier = await work.held(Supplier, supplier_id, field="supplier")
    if supplier.carrier is not None and supplier.carrier is not values["carrier"]:
        raise Refusal("INVALID", "carrier")
    validation.currency(values["currency"], "currency")
    _check_package(values)
    values["code"] = validation.text(values["code"], "code", limit=64)
    values["name"] = validation.text(values["name"], "name")
    values["carrier_plan"] = validation.optional(values["carrier_plan"], "carrierPlan")
    package = DataPackage(tenant_id=tenant.id, tenant_path=tenant.path, supplier_id=supplier.id, **values)
    work.session.add(package)
    async with told_apart(work.session, {PACKAGE_CONSTRAINTS: ("code", package.code)}):
        await work.session.flush()
    return package


async def update_data_package(work: Work, key: int, changes: dict[str, Any]) -> DataPackage:
    """Changes what is given and leaves the rest. COMPOSED_PRICE where the price follows from what it is composed of."""
    package = await work.held(DataPackage, key)
    if package.pricing is Pricing.COMPOSED and "sale_price" in changes:
        raise Refusal("COMPOSED_PRICE", "salePrice")
    now = {column.name: getattr(package, column.name) for column in table_of(DataPackage).columns}
    _check_package({**now, **changes})
    if "name" in changes:
        changes["name"] = validation.text(changes["name"], "name")
    if "carrier_plan" in changes:
        changes["carrier_plan"] = validation.optional(changes["carrier_plan"], "carrierPlan")
    for name, value in changes.items():
        setattr(package, name, value)
    return package


async def set_data_package_status(work: Work, key: int, status: CatalogStatus) -> DataPackage:
    """A disabled package stays with the cards that have it and cannot be bound anew."""
    package = await work.held(DataPackage, key)
    package.status = status
    return package


async def create_outlet(work: Work, values: dict[str, Any]) -> Outlet:
    """A sales outlet (S0-39)."""
    tenant = await tenant_for(work, None)
    checked = await _outlet(work, values)
    outlet = Outlet(tenant_id=tenant.id, tenant_path=tenant.path, **checked)
    work.session.add(outlet)
    await work.session.flush()
    return outlet


async def update_outlet(work: Work, key: int, changes: dict[str, Any]) -> Outlet:
    outlet = await work.held(Outlet, key)
    for name, value in (await _outlet(work, changes)).items():
        setattr(outlet, name, value)
    return outlet


async def _outlet(work: Work, values: dict[str, Any]) -> dict[str, Any]:
    checks: dict[str, Callable[[Any], Any]] = {
        "name": lambda v: validation.text(v, "name"),
        "province": lambda v: validation.text(v, "province", limit=40),
        "contact_name": lambda v: validation.optional(v, "contactName"),
        "contact_phone": lambda v: validation.phone(v, "contactPhone"),
    }
    checked = {name: checks[name](value) if name in checks else value for name, value in values.items()}
    if "province" in checked:
        # which provinces there are is told by the platform's dictionary, where it keeps one
        await dictionaries.check(work, PROVINCES, checked["province"], "province")
    return checked
