"""Packet gateways: kept by the platform's operations, each for everybody or for one enterprise (S0-59)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import select

from models.packet_gateways import PacketGateway
from models.tenancy import Enterprise
from services import validation
from services.conflicts import told_apart
from services.identity import tenant_for
from services.refusal import not_found
from services.runtime import Work

CODE_CONSTRAINT = "uq_packet_gateway_tenant_id_code"


async def create(work: Work, values: dict[str, Any]) -> PacketGateway:
    """A gateway. TAKEN where its code is in use, NOT_FOUND (enterprise) for what is no enterprise."""
    tenant = await tenant_for(work, None)
    gateway = PacketGateway(tenant_id=tenant.id, tenant_path=tenant.path, **await _checked(work, values))
    work.session.add(gateway)
    async with told_apart(work.session, {CODE_CONSTRAINT: ("code", gateway.code)}):
        await work.session.flush()
    return gateway


async def update(work: Work, key: int, changes: dict[str, Any]) -> PacketGateway:
    """Changes what is given and leaves the rest."""
    gateway = await work.held(PacketGateway, key)
    for name, value in (await _checked(work, changes)).items():
        setattr(gateway, name, value)
    async with told_apart(work.session, {CODE_CONSTRAINT: ("code", gateway.code)}):
        await work.session.flush()
    return gateway


async def delete(work: Work, key: int) -> None:
    await work.session.delete(await work.held(PacketGateway, key))


async def _checked(work: Work, values: dict[str, Any]) -> dict[str, Any]:
    checks: dict[str, Callable[[Any], Any]] = {
        "code": lambda v: validation.key(v, "code"),
        "name": lambda v: validation.text(v, "name"),
        "apn": lambda v: validation.optional(v, "apn", limit=64),
        "ip_address": lambda v: None if v is None else validation.ip_address(v, "ipAddress"),
        "remark": lambda v: validation.optional(v, "remark", limit=2_000),
    }
    if values.get("enterprise_id") is not None:
        enterprise = select(Enterprise.id).where(Enterprise.id == values["enterprise_id"])
        if await work.session.scalar(enterprise) is None:
            raise not_found("enterprise")
    return {name: checks[name](value) if name in checks else value for name, value in values.items()}
