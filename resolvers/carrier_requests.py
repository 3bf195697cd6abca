"""What carriers are asked to make of cards, and what became of it."""

from __future__ import annotations

from sqlalchemy import Select, select

import models.carrier_requests as stored
from planner.mapping import Connection, refer
from planner.registry import mutation, query
from resolvers.context import Context, key_of
from schema.carrier_requests import CarrierRequest, CarrierRequestPayload, RetryCarrierRequestInput
from services import carrier_requests as service


@query(Connection[CarrierRequest])
def carrier_requests() -> Select[stored.CarrierRequest]:
    """What carriers are to make of cards within reach, as it was done here: suspended, resumed, on another plan
    (S0-24)."""
    return select(stored.CarrierRequest)


@query(CarrierRequest, by=("id",))
def carrier_request() -> Select[stored.CarrierRequest]:
    """One request to a carrier (S0-24)."""
    return select(stored.CarrierRequest)


@mutation(idempotent=True)
async def retry_carrier_request(ctx: Context, input: RetryCarrierRequestInput) -> CarrierRequestPayload:
    """Tells a carrier anew what it has refused, or has not done (S0-24)."""
    changed = await service.retry(ctx.now, key_of(input.id, "crq", "id"))
    return CarrierRequestPayload(carrier_request=refer(changed.id), errors=[])
