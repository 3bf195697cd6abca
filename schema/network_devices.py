"""Managed network devices in the graph."""

from __future__ import annotations

from datetime import datetime

import strawberry

import models.network_devices as stored
from models.network_devices import LinkDuplex, NetworkDeviceLicense, NetworkDeviceStatus, NetworkDeviceType
from planner.mapping import Node, column, entity, enum_type, input_type, value
from schema.common import UserError

enum_type(NetworkDeviceType, "What a network device does.")
enum_type(NetworkDeviceStatus, "How a network device stands to its controller.")
enum_type(NetworkDeviceLicense, "Whether the controller may manage a network device.")
enum_type(LinkDuplex, "Whether a link carries both directions at once.")


@entity(
    stored.NetworkDevice,
    prefix="nwd",
    filters=(
        "name",
        "mac_address",
        "serial_number",
        "site_key",
        "device_type",
        "model",
        "tag_name",
        "ip_address",
        "firmware_version",
        "license_status",
        "status",
        "last_seen_at",
        "cpu_utilisation",
        "memory_utilisation",
    ),
    sorts=("name", "model", "last_seen_at", "cpu_utilisation", "memory_utilisation", "created_at"),
)
class NetworkDevice(Node):
    """An access point, switch or gateway that a tenant manages: its identity, and how it was when it was last seen
    (S1-23)."""

    name: str
    mac_address: str = column("Six pairs of hexadecimal digits, such as ``d0:50:99:84:a2:a0``.")
    serial_number: str | None
    site_key: str | None = column("The controller's own id of the site where it stands.")
    device_type: NetworkDeviceType
    subtype: str | None
    series: str | None = column("The product series.")
    model: str | None
    tag_name: str | None
    ip_address: str | None = column("In the site's own network.")
    ipv6_addresses: list[str]
    public_ip_address: str | None = column("By which the site stands in the Internet.")
    firmware_version: str | None
    license_status: NetworkDeviceLicense | None
    uplink_mac_address: str | None = column("Of the device through which it reaches the network.")
    uplink_name: str | None
    uplink_port: str | None
    link_speed_mbps: int | None = column("Of its uplink, in Mbit/s.")
    duplex: LinkDuplex | None
    switch_consistent: bool | None = column("Whether a switch is configured as the controller has it.")
    status: NetworkDeviceStatus
    last_seen_at: datetime | None
    uptime_seconds: int | None = column("How long it had been running when it was last seen.")
    cpu_utilisation: int | None = column("When it was last seen, in percent.")
    memory_utilisation: int | None = column("When it was last seen, in percent.")
    created_at: datetime
    updated_at: datetime


@input_type
class NetworkDeviceInput:
    """A device to manage (S1-23). It is PENDING until it is seen."""

    name: str
    mac_address: str
    device_type: NetworkDeviceType
    serial_number: str | None = None
    site_key: str | None = None
    subtype: str | None = None
    series: str | None = None
    model: str | None = None
    tag_name: str | None = None
    ip_address: str | None = None
    ipv6_addresses: list[str] | None = None
    public_ip_address: str | None = None
    firmware_version: str | None = None
    license_status: NetworkDeviceLicense | None = None
    uplink_mac_address: str | None = None
    uplink_name: str | None = None
    uplink_port: str | None = None
    link_speed_mbps: int | None = None
    duplex: LinkDuplex | None = None
    switch_consistent: bool | None = None


@input_type
class UpdateNetworkDeviceInput:
    """Changes to a device; a field left out stays as it is (S1-23)."""

    id: strawberry.ID
    name: str | None = None
    mac_address: str | None = None
    device_type: NetworkDeviceType | None = None
    serial_number: str | None = None
    site_key: str | None = None
    subtype: str | None = None
    series: str | None = None
    model: str | None = None
    tag_name: str | None = None
    ip_address: str | None = None
    ipv6_addresses: list[str] | None = None
    public_ip_address: str | None = None
    firmware_version: str | None = None
    license_status: NetworkDeviceLicense | None = None
    uplink_mac_address: str | None = None
    uplink_name: str | None = None
    uplink_port: str | None = None
    link_speed_mbps: int | None = None
    duplex: LinkDuplex | None = None
    switch_consistent: bool | None = None


@input_type
class NetworkDeviceReportInput:
    """How a device was at a time (S1-23). What a report leaves out stays as it was; load is in percent."""

    id: strawberry.ID
    status: NetworkDeviceStatus
    seen_at: datetime
    uptime_seconds: int | None = None
    cpu_utilisation: int | None = None
    memory_utilisation: int | None = None
    firmware_version: str | None = None
    ip_address: str | None = None
    ipv6_addresses: list[str] | None = None
    public_ip_address: str | None = None


@value
class NetworkDevicePayload:
    """The device as it now is, or why nothing was changed."""

    network_device: NetworkDevice | None
    errors: list[UserError]
