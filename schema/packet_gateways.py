"""Packet gateways in the graph."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import strawberry

import models.packet_gateways as stored
from models.catalog import CatalogStatus
from models.packet_gateways import PacketGatewayType
from planner.mapping import Node, column, entity, enum_type, input_type, to_one, value
from schema.common import UserError

if TYPE_CHECKING:
    from schema.tenancy import Tenant

enum_type(
    PacketGatewayType, "A gateway of an LTE network, of a GPRS network, or the end of an enterprise's own tunnel."
)


@entity(
    stored.PacketGateway,
    prefix="pgw",
    filters=("code", "name", "gateway_type", "status", "enterprise"),
    sorts=("code", "created_at"),
)
class PacketGateway(Node):
    """A gateway by which cards reach the internet or an enterprise's own network (S0-59)."""

    code: str = column("By which session records name it.")
    name: str
    gateway_type: PacketGatewayType
    apn: str | None = column("The access point name that leads to it.")
    ip_address: str | None
    status: CatalogStatus
    remark: str | None
    created_at: datetime
    enterprise: Tenant | None = to_one("Whose own network it leads to; null: everybody's.")


@input_type
class PacketGatewayInput:
    """A packet gateway (S0-59)."""

    code: str
    name: str
    gateway_type: PacketGatewayType
    apn: str | None = None
    ip_address: str | None = None
    enterprise: strawberry.ID | None = None
    remark: str | None = None


@input_type
class UpdatePacketGatewayInput:
    """Changes to a packet gateway; a field left out stays as it is."""

    id: strawberry.ID
    code: str | None = None
    name: str | None = None
    gateway_type: PacketGatewayType | None = None
    apn: str | None = None
    ip_address: str | None = None
    enterprise: strawberry.ID | None = None
    status: CatalogStatus | None = None
    remark: str | None = None


@value
class PacketGatewayPayload:
    """The gateway as it now is, or why nothing was changed."""

    packet_gateway: PacketGateway | None
    errors: list[UserError]
