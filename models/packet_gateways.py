"""Packet gateways: where the data of cards leaves the mobile network."""

from __future__ import annotations

import enum

from sqlalchemy import ForeignKey, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from models.base import Base, TenantOwned, Timestamped, stored_enum
from models.catalog import CatalogStatus
from models.tenancy import Tenant


class PacketGatewayType(enum.Enum):
    PGW = "PGW"
    GGSN = "GGSN"
    LNS = "LNS"


class PacketGateway(Timestamped, TenantOwned, Base):
    """A gateway by which cards reach the internet or an enterprise's own network (S0-59). Session records name it by
    its code."""

    __tablename__ = "packet_gateway"
    __constraints__ = (UniqueConstraint("tenant_id", "code"),)

    code: Mapped[str]
    name: Mapped[str]
    gateway_type: Mapped[PacketGatewayType] = mapped_column(stored_enum(PacketGatewayType))
    apn: Mapped[str | None]
    ip_address: Mapped[str | None]
    enterprise_id: Mapped[int | None] = mapped_column(ForeignKey("tenant.id"), index=True)
    """Whose own network it leads to; null: everybody's."""
    status: Mapped[CatalogStatus] = mapped_column(stored_enum(CatalogStatus), default=CatalogStatus.ACTIVE)
    remark: Mapped[str | None]

    enterprise: Mapped[Tenant | None] = relationship(lazy="raise", foreign_keys=[enterprise_id])
