"""Suppliers, data packages and outlets."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import strawberry
from sqlalchemy import Select, select

import models.catalog as stored
from models.catalog import CatalogStatus
from planner.mapping import Connection, refer
from planner.registry import loads, mutation, query
from resolvers.context import Context, given, key_of
from schema.catalog import (
    DataPackage,
    DataPackageInput,
    DataPackagePayload,
    Outlet,
    OutletInput,
    OutletPayload,
    Supplier,
    SupplierInput,
    SupplierPayload,
    UpdateDataPackageInput,
    UpdateOutletInput,
    UpdateSupplierInput,
)
from services import catalog, customer_prices


@query(Connection[Supplier])
def suppliers() -> Select[stored.Supplier]:
    """Upstream suppliers (S0-08)."""
    return select(stored.Supplier)


@query(Supplier, by=("id", "name"))
def supplier() -> Select[stored.Supplier]:
    """One supplier (S0-08)."""
    return select(stored.Supplier)


@query(Connection[DataPackage])
def data_packages() -> Select[stored.DataPackage]:
    """Data packages on offer (S0-07)."""
    return select(stored.DataPackage)


@query(DataPackage, by=("id", "code"))
def data_package() -> Select[stored.DataPackage]:
    """One data package (S0-07)."""
    return select(stored.DataPackage)


@loads(DataPackage, "own_price")
async def own_prices(ctx: Context, rows: Sequence[Any]) -> list[Decimal | None]:
    return await customer_prices.own_prices(ctx.runtime.database, ctx.principal, rows)


@query(Connection[Outlet])
def outlets() -> Select[stored.Outlet]:
    """Sales outlets (S0-39)."""
    return select(stored.Outlet)


@mutation
async def create_supplier(ctx: Context, input: SupplierInput) -> SupplierPayload:
    """A new supplier; its API key is kept encrypted (S0-08, S0-41)."""
    made = await catalog.create_supplier(ctx.now, **vars(input))
    return SupplierPayload(supplier=refer(made.id), errors=[])


@mutation
async def update_supplier(ctx: Context, input: UpdateSupplierInput) -> SupplierPayload:
    """Changes a supplier (S0-08)."""
    changed = await catalog.update_supplier(ctx.now, key_of(input.id, "sup", "id"), given(input))
    return SupplierPayload(supplier=refer(changed.id), errors=[])


@mutation
async def create_data_package(ctx: Context, input: DataPackageInput) -> DataPackagePayload:
    """A new data package (S0-07, S0-42)."""
    values = {name: value for name, value in vars(input).items() if name != "supplier"}
    made = await catalog.create_data_package(ctx.now, supplier_id=key_of(input.supplier, "sup", "supplier"), **values)
    return DataPackagePayload(data_package=refer(made.id), errors=[])


@mutation
async def update_data_package(ctx: Context, input: UpdateDataPackageInput) -> DataPackagePayload:
    """Changes a data package (S0-07)."""
    changed = await catalog.update_data_package(ctx.now, key_of(input.id, "pkg", "id"), given(input))
    return DataPackagePayload(data_package=refer(changed.id), errors=[])


@mutation
async def set_data_package_status(ctx: Context, id: strawberry.ID, status: CatalogStatus) -> DataPackagePayload:
    """Takes a data package off sale, or puts it back (S0-07)."""
    changed = await catalog.set_data_package_status(ctx.now, key_of(id, "pkg", "id"), status)
    return DataPackagePayload(data_package=refer(changed.id), errors=[])


@mutation
async def create_outlet(ctx: Context, input: OutletInput) -> OutletPayload:
    """A new outlet (S0-39)."""
    made = await catalog.create_outlet(ctx.now, dict(vars(input)))
    return OutletPayload(outlet=refer(made.id), errors=[])


@mutation
async def update_outlet(ctx: Context, input: UpdateOutletInput) -> OutletPayload:
    """Changes an outlet (S0-39)."""
    changed = await catalog.update_outlet(ctx.now, key_of(input.id, "out", "id"), given(input))
    return OutletPayload(outlet=refer(changed.id), errors=[])
