"""Which cards an operation means: by id, by display ICCID, or by a range of display ICCIDs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select

from models.sim import SimCard
from services.refusal import Refusal
from services.runtime import Unit

MAX_CARDS = 10_000


@dataclass(frozen=True)
class Selection:
    ids: Sequence[int] | None = None
    display_iccids: Sequence[str] | None = None
    first_display_iccid: str | None = None
    last_display_iccid: str | None = None


async def locked_cards(work: Unit, selection: Selection) -> list[SimCard]:
    """The cards, locked in the order of their keys, so that two callers cannot wait for each other.

    SELECT_ONE unless the cards are chosen in exactly one way, TOO_MANY beyond ten thousand, CARDS_NOT_FOUND for
    cards that do not exist or lie out of reach.
    """
    ways = [
        selection.ids is not None,
        selection.display_iccids is not None,
        selection.first_display_iccid is not None and selection.last_display_iccid is not None,
    ]
    loose = (selection.first_display_iccid is None) != (selection.last_display_iccid is None)
    if sum(ways) != 1 or loose:
        raise Refusal("SELECT_ONE", "cards")
    query = select(SimCard).order_by(SimCard.id).with_for_update().limit(MAX_CARDS + 1)
    wanted: int | None = None
    if selection.ids is not None:
        chosen = set(selection.ids)
        query, wanted = query.where(SimCard.id.in_(chosen)), len(chosen)
    elif selection.display_iccids is not None:
        numbers = {"".join(number.split()) for number in selection.display_iccids}
        query, wanted = query.where(SimCard.display_iccid.in_(numbers)), len(numbers)
    else:
        first, last = selection.first_display_iccid or "", selection.last_display_iccid or ""
        if first > last:
            raise Refusal("RANGE_ORDER", "cards.lastDisplayIccid")
        query = query.where(SimCard.display_iccid >= first, SimCard.display_iccid <= last)
    if wanted == 0:
        raise Refusal("REQUIRED", "cards")
    if (wanted or 0) > MAX_CARDS:
        raise Refusal("TOO_MANY", "cards", limit=MAX_CARDS)
    cards = list(await work.session.scalars(query))
    if len(cards) > MAX_CARDS:
        raise Refusal("TOO_MANY", "cards", limit=MAX_CARDS)
    if wanted is not None and len(cards) < wanted:
        raise Refusal("CARDS_NOT_FOUND", "cards", count=wanted - len(cards))
    if not cards:
        raise Refusal("CARDS_NOT_FOUND", "cards", count=0)
    return cards
