"""Packet gateways."""

from __future__ import annotations

from typing import Any

import strawberry
from sqlalchemy import Select, select

import models.packet_gateways as stored
from planner.mapping import Connection, refer
from planner.registry import mutation, query
from resolvers.context import Context, given, key_of, optional_key
from schema.identity import DonePayload
from schema.packet_gateways import (
    PacketGateway,
    PacketGatewayInput,
    PacketGatewayPayload,
    UpdatePacketGatewayInput,
)
from services import packet_gateways as gateways


@query(Connection[PacketGateway])
def packet_gateways() -> Select[stored.PacketGateway]:
    """Packet gateways (S0-59)."""
    return select(stored.PacketGateway)


@mutation
async def create_packet_gateway(ctx: Context, input: PacketGatewayInput) -> PacketGatewayPayload:
    """A new packet gateway (S0-59)."""
    made = await gateways.create(ctx.now, _values(dict(vars(input))))
    return PacketGatewayPayload(packet_gateway=refer(made.id), errors=[])


@mutation
async def update_packet_gateway(ctx: Context, input: UpdatePacketGatewayInput) -> PacketGatewayPayload:
    """Changes a packet gateway (S0-59)."""
    changed = await gateways.update(ctx.now, key_of(input.id, "pgw", "id"), _values(given(input)))
    return PacketGatewayPayload(packet_gateway=refer(changed.id), errors=[])


@mutation
async def delete_packet_gateway(ctx: Context, id: strawberry.ID) -> DonePayload:
    """Removes a packet gateway (S0-59)."""
    await gateways.delete(ctx.now, key_of(id, "pgw", "id"))
    return DonePayload(done=True, errors=[])


def _values(values: dict[str, Any]) -> dict[str, Any]:
    if "enterprise" in values:
        values["enterprise_id"] = optional_key(values.pop("enterprise"), "ten", "enterprise")
    return values
