"""Managed network devices: identity, and how they were when last seen (S1-23)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from models.network_devices import NetworkDevice
from services import validation
from services.conflicts import told_apart
from services.identity import tenant_for
from services.refusal import Refusal
from services.runtime import Work

MAC_CONSTRAINT = "uq_network_device_tenant_id_mac_address"
SERIAL_CONSTRAINT = "uq_network_device_tenant_id_serial_number"
MAX_ADDRESSES = 16
CLOCKS_DIFFER = timedelta(minutes=5)
"""So far a reporter's clock may be ahead of ours."""
MAX_LINK_SPEED = 1_000_000
DETAIL = 64


async def create(work: Work, values: dict[str, Any]) -> NetworkDevice:
    """A device of the caller's own tenant. TAKEN where the tenant has its MAC address or serial number already."""
    tenant = await tenant_for(work, None)
    given = {name: value for name, value in values.items() if value is not None}
    device = NetworkDevice(tenant_id=tenant.id, tenant_path=tenant.path, **_checked(given))
    work.session.add(device)
    await _flush(work, device)
    return device


async def update(work: Work, key: int, changes: dict[str, Any]) -> NetworkDevice:
    """Changes what is given and leaves the rest."""
    return await _changed(work, await work.held(NetworkDevice, key), changes)


async def report(work: Work, key: int, seen: dict[str, Any]) -> NetworkDevice:
    """Takes down how a device was at ``seen_at``. PAST_REPORT where it has been seen later, INVALID for the future.

    Reports wait for each other, so that the latest stays whichever comes last.
    """
    device = await work.held(NetworkDevice, key)
    seen_at = validation.moment(seen.pop("seen_at"), "seenAt")
    if seen_at > datetime.now(UTC) + CLOCKS_DIFFER:
        raise Refusal("INVALID", "seenAt")
    if device.last_seen_at is not None and seen_at < device.last_seen_at:
        raise Refusal("PAST_REPORT", "seenAt")
    device.last_seen_at = seen_at
    return await _changed(work, device, seen)


async def delete(work: Work, key: int) -> None:
    await work.session.delete(await work.held(NetworkDevice, key))


async def _changed(work: Work, device: NetworkDevice, changes: dict[str, Any]) -> NetworkDevice:
    for name, value in _checked(changes).items():
        setattr(device, name, value)
    await _flush(work, device)
    return device


async def _flush(work: Work, device: NetworkDevice) -> None:
    taken = {
        MAC_CONSTRAINT: ("macAddress", device.mac_address),
        SERIAL_CONSTRAINT: ("serialNumber", device.serial_number or ""),
    }
    async with told_apart(work.session, taken):
        await work.session.flush()


def _checked(values: dict[str, Any]) -> dict[str, Any]:
    checks: dict[str, Callable[[Any], Any]] = {
        "name": lambda v: validation.text(v, "name", limit=DETAIL),
        "mac_address": lambda v: validation.mac_address(v, "macAddress"),
        "serial_number": lambda v: validation.text(v, "serialNumber", limit=DETAIL),
        "site_key": lambda v: validation.optional(v, "siteKey", limit=DETAIL),
        "subtype": lambda v: validation.optional(v, "subtype", limit=DETAIL),
        "series": lambda v: validation.optional(v, "series", limit=DETAIL),
        "model": lambda v: validation.optional(v, "model", limit=DETAIL),
        "tag_name": lambda v: validation.optional(v, "tagName", limit=DETAIL),
        "ip_address": lambda v: validation.ip_address(v, "ipAddress"),
        "ipv6_addresses": _ipv6_addresses,
        "public_ip_address": lambda v: validation.ip_address(v, "publicIpAddress"),
        "firmware_version": lambda v: validation.optional(v, "firmwareVersion", limit=DETAIL),
        "uplink_mac_address": lambda v: validation.mac_address(v, "uplinkMacAddress"),
        "uplink_name": lambda v: validation.optional(v, "uplinkName", limit=DETAIL),
        "uplink_port": lambda v: validation.optional(v, "uplinkPort", limit=DETAIL),
        "link_speed_mbps": lambda v: _between(v, "linkSpeedMbps", 1, MAX_LINK_SPEED),
        "uptime_seconds": lambda v: _between(v, "uptimeSeconds", 0),
        "cpu_utilisation": lambda v: _between(v, "cpuUtilisation", 0, 100),
        "memory_utilisation": lambda v: _between(v, "memoryUtilisation", 0, 100),
    }
    return {name: checks[name](value) if name in checks else value for name, value in values.items()}


def _ipv6_addresses(given: Sequence[str]) -> list[str]:
    if len(given) > MAX_ADDRESSES:
        raise Refusal("TOO_MANY", "ipv6Addresses", limit=MAX_ADDRESSES)
    return list(dict.fromkeys(validation.ip_address(one, "ipv6Addresses", version=6) for one in given))


def _between(value: int, field: str, least: int, most: int | None = None) -> int:
    if value < least or (most is not None and value > most):
        raise Refusal("INVALID", field)
    return value
