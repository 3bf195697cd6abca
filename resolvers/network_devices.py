"""Managed network devices."""

from __future__ import annotations

import strawberry
from sqlalchemy import Select, select

import models.network_devices as stored
from planner.mapping import Connection, refer
from planner.registry import mutation, query
from resolvers.context import Context, given, key_of
from schema.identity import DonePayload
from schema.network_devices import (
    NetworkDevice,
    NetworkDeviceInput,
    NetworkDevicePayload,
    NetworkDeviceReportInput,
    UpdateNetworkDeviceInput,
)
from services import network_devices as devices


@query(Connection[NetworkDevice])
def network_devices() -> Select[stored.NetworkDevice]:
    """Managed network devices within reach (S1-23)."""
    return select(stored.NetworkDevice)


@query(NetworkDevice, by=("id",))
def network_device() -> Select[stored.NetworkDevice]:
    """One managed network device (S1-23)."""
    return select(stored.NetworkDevice)


@mutation
async def create_network_device(ctx: Context, input: NetworkDeviceInput) -> NetworkDevicePayload:
    """A device to manage (S1-23)."""
    made = await devices.create(ctx.now, dict(vars(input)))
    return NetworkDevicePayload(network_device=refer(made.id), errors=[])


@mutation
async def update_network_device(ctx: Context, input: UpdateNetworkDeviceInput) -> NetworkDevicePayload:
    """Changes what is known of a device (S1-23)."""
    changed = await devices.update(ctx.now, key_of(input.id, "nwd", "id"), given(input))
    return NetworkDevicePayload(network_device=refer(changed.id), errors=[])


@mutation
async def report_network_device(ctx: Context, input: NetworkDeviceReportInput) -> NetworkDevicePayload:
    """Takes down how a device was when it was seen; an older report than the last is refused (S1-23)."""
    changed = await devices.report(ctx.now, key_of(input.id, "nwd", "id"), given(input))
    return NetworkDevicePayload(network_device=refer(changed.id), errors=[])


@mutation
async def delete_network_device(ctx: Context, id: strawberry.ID) -> DonePayload:
    """Manages a device no longer (S1-23)."""
    await devices.delete(ctx.now, key_of(id, "nwd", "id"))
    return DonePayload(done=True, errors=[])
