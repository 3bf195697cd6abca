"""Network devices that a tenant manages: access points, switches, gateways."""

from __future__ import annotations

import enum
from datetime import datetime

from sqlalchemy import CheckConstraint, Index, SmallInteger, UniqueConstraint
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import Text

from models.base import Base, TenantOwned, Timestamped, stored_enum


class NetworkDeviceType(enum.Enum):
    ACCESS_POINT = "ACCESS_POINT"
    SWITCH = "SWITCH"
    GATEWAY = "GATEWAY"
    OTHER = "OTHER"


class NetworkDeviceStatus(enum.Enum):
    DISCONNECTED = "DISCONNECTED"
    CONNECTED = "CONNECTED"
    PENDING = "PENDING"
    HEARTBEAT_MISSED = "HEARTBEAT_MISSED"
    ISOLATED = "ISOLATED"


class NetworkDeviceLicense(enum.Enum):
    NOT_ACTIVATED = "NOT_ACTIVATED"
    UNBOUND = "UNBOUND"
    EXPIRED = "EXPIRED"
    ACTIVE = "ACTIVE"


class LinkDuplex(enum.Enum):
    AUTO = "AUTO"
    HALF = "HALF"
    FULL = "FULL"


class NetworkDevice(Timestamped, TenantOwned, Base):
    """A managed device: what it is, and how it was when it was last seen (S1-23).

    Of its tenant's devices no other has its MAC address or its serial number. Addresses are kept in one spelling:
    MAC addresses as ``d0:50:99:84:a2:a0``, IP addresses compressed.
    """

    __tablename__ = "network_device"
    __constraints__ = (
        UniqueConstraint("tenant_id", "mac_address"),
        UniqueConstraint("tenant_id", "serial_number"),
        CheckConstraint("cpu_utilisation BETWEEN 0 AND 100", name="cpu_in_percent"),
        CheckConstraint("memory_utilisation BETWEEN 0 AND 100", name="memory_in_percent"),
        CheckConstraint("uptime_seconds >= 0", name="uptime_not_negative"),
        CheckConstraint("link_speed_mbps > 0", name="link_speed_positive"),
        Index("ix_network_device_tenant_id_name", "tenant_id", "name"),
        Index("ix_network_device_tenant_id_status", "tenant_id", "status"),
    )

    name: Mapped[str]
    mac_address: Mapped[str]
    serial_number: Mapped[str | None]
    site_key: Mapped[str | None]
    device_type: Mapped[NetworkDeviceType] = mapped_column(stored_enum(NetworkDeviceType))
    subtype: Mapped[str | None]
    series: Mapped[str | None]
    model: Mapped[str | None]
    tag_name: Mapped[str | None]
    ip_address: Mapped[str | None]
    ipv6_addresses: Mapped[list[str]] = mapped_column(ARRAY(Text), default=list)
    public_ip_address: Mapped[str | None]
    firmware_version: Mapped[str | None]
    license_status: Mapped[NetworkDeviceLicense | None] = mapped_column(stored_enum(NetworkDeviceLicense))
    uplink_mac_address: Mapped[str | None]
    uplink_name: Mapped[str | None]
    uplink_port: Mapped[str | None]
    link_speed_mbps: Mapped[int | None]
    duplex: Mapped[LinkDuplex | None] = mapped_column(stored_enum(LinkDuplex))
    switch_consistent: Mapped[bool | None]
    status: Mapped[NetworkDeviceStatus] = mapped_column(
        stored_enum(NetworkDeviceStatus), default=NetworkDeviceStatus.PENDING
    )
    last_seen_at: Mapped[datetime | None]
    uptime_seconds: Mapped[int | None]
    cpu_utilisation: Mapped[int | None] = mapped_column(SmallInteger)
    memory_utilisation: Mapped[int | None] = mapped_column(SmallInteger)
