"""Real-name activation of cards by the people who use them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Select, select
from strawberry.file_uploads import Upload

import models.real_name as stored
from planner.mapping import Connection, refer
from planner.registry import mutation, query
from resolvers.context import Context, key_of
from schema.real_name import RealNamePayload, RealNameRecord, SubmitRealNameInput
from services import real_name as service
from services.refusal import Refusal


@query(Connection[RealNameRecord])
def real_name_records() -> Select[stored.RealNameRecord]:
    """What end users have shown for their cards, and what carriers have decided: one's own, those of one's cards, all
    (S0-31)."""
    return select(stored.RealNameRecord)


@mutation
async def submit_real_name(ctx: Context, input: SubmitRealNameInput, front: Upload, back: Upload) -> RealNamePayload:
    """Shows who uses a card, with pictures of both sides of the identity card; once the carrier has agreed, the card is
    in service (S0-31)."""
    made = await service.submit(
        ctx.now,
        key_of(input.card, "sim", "card"),
        name=input.name,
        id_number=input.id_number,
        front=await _picture(front, "front"),
        back=await _picture(back, "back"),
    )
    return RealNamePayload(real_name_record=refer(made.id), errors=[])


async def _picture(upload: Any, field: str) -> bytes:
    if not hasattr(upload, "read"):
        raise Refusal("FILE_REQUIRED", field)
    content: bytes = await upload.read(service.MAX_PICTURE + 1)
    return content
