"""Which package a card is bound to, and its history (S0-06, S0-57): for all cards that came to another at once."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import BigInteger, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncSession

_CARDS = bindparam("cards", type_=ARRAY(BigInteger))

END = text("""
UPDATE sim_package_binding b SET unbound_at = now() FROM sim_card c
WHERE c.id = b.sim_card_id AND c.id = ANY (:cards) AND b.unbound_at IS NULL
  AND b.package_id IS DISTINCT FROM c.package_id
""").bindparams(_CARDS)

BEGIN = text("""
INSERT INTO sim_package_binding (tenant_id, tenant_path, sim_card_id, package_id)
SELECT c.tenant_id, c.tenant_path, c.id, c.package_id FROM sim_card c
WHERE c.id = ANY (:cards) AND c.package_id IS NOT NULL
  AND NOT EXISTS (SELECT FROM sim_package_binding b WHERE b.sim_card_id = c.id AND b.unbound_at IS NULL)
ORDER BY c.id
""").bindparams(_CARDS)


async def rebind(session: AsyncSession, cards: Sequence[int]) -> None:
    """Writes the history of cards, which the caller holds, whose package has just been set to another or to none."""
    for statement in (END, BEGIN):
        await session.execute(statement, {"cards": cards})
