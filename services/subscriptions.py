"""Packages on a card: one in use, the others waiting for their turn, each from where the one before it ended.

Whatever changes a card's queue holds the card, so that two changes of one card come one after the other. Periods are
counted by the database, by the calendar of the buyer's time zone: from the 31st on, a month lasts to its last day.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime

from sqlalchemy import BigInteger, DateTime, bindparam, select, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncSession

from authz.principal import system
from authz.session import Database
from models.orders import OrderLine, PackageSubscription, SubscriptionStatus
from models.sim import SimCard
from services.refusal import Refusal
from services.runtime import Unit
from services.sim import lifecycle
from services.sim.binding import rebind

BATCH = 500
OPEN = (SubscriptionStatus.WAITING, SubscriptionStatus.ACTIVE)
_CARDS = bindparam("cards", type_=ARRAY(BigInteger))
_NOW = bindparam("now", type_=DateTime(timezone=True))

END = text("""
UPDATE package_subscription SET
  status = CASE WHEN data_volume_mb > 0 AND used_kb >= data_volume_mb * 1024 THEN 'USED_UP' ELSE 'EXPIRED' END,
  ended_at = greatest(starts_at, least(ends_at, :now)), updated_at = now()
WHERE sim_card_id = ANY (:cards) AND status = 'ACTIVE'
  AND (ends_at <= :now OR data_volume_mb > 0 AND used_kb >= data_volume_mb * 1024)
RETURNING sim_card_id
""").bindparams(_CARDS, _NOW)
"""Those whose time or volume is over; their cards."""

BEGIN = text("""
WITH next AS (
  SELECT DISTINCT ON (w.sim_card_id, w.plan_kind) w.id, greatest(w.created_at, before.ended_at) AS begins, w.time_zone,
    CASE w.period_type WHEN 'MONTHLY' THEN 1 WHEN 'QUARTERLY' THEN 3 WHEN 'HALF_YEARLY' THEN 6 ELSE 12 END AS months
  FROM package_subscription w
  LEFT JOIN LATERAL (SELECT max(ended_at) AS ended_at FROM package_subscription p
                     WHERE p.sim_card_id = w.sim_card_id AND p.plan_kind = w.plan_kind
                       AND p.starts_at IS NOT NULL) before ON true
  WHERE w.sim_card_id = ANY (:cards) AND w.status = 'WAITING'
    AND NOT EXISTS (SELECT FROM package_subscription a WHERE a.sim_card_id = w.sim_card_id
                      AND a.plan_kind = w.plan_kind AND a.status = 'ACTIVE')
  ORDER BY w.sim_card_id, w.plan_kind, w.id
)
UPDATE package_subscription s SET status = 'ACTIVE', starts_at = next.begins, updated_at = now(),
  ends_at = (next.begins AT TIME ZONE next.time_zone + make_interval(months => next.months)) AT TIME ZONE next.time_zone
FROM next WHERE s.id = next.id RETURNING s.sim_card_id
""").bindparams(_CARDS)
"""The first of each kind that waits on a card where none of the kind is in use, from where the last one ended; the
cards."""

BIND = text("""
UPDATE sim_card c SET package_id = s.data_package_id, updated_at = now() FROM package_subscription s
WHERE s.sim_card_id = c.id AND s.status = 'ACTIVE' AND s.plan_kind = 'DATA' AND c.id = ANY (:cards)
  AND c.package_id IS DISTINCT FROM s.data_package_id
RETURNING c.id
""").bindparams(_CARDS)
"""The cards are bound to the package of data in use (S0-57); those that were bound to another."""

UNBIND = text("""
UPDATE sim_card c SET package_id = NULL, updated_at = now()
WHERE c.id = ANY (:cards) AND NOT EXISTS (
  SELECT FROM package_subscription o WHERE o.sim_card_id = c.id AND o.plan_kind = 'DATA'
    AND o.status IN ('WAITING', 'ACTIVE'))
  AND EXISTS (
  SELECT FROM package_subscription w WHERE w.sim_card_id = c.id AND w.order_line_id = ANY (:lines)
    AND w.data_package_id = c.package_id)
RETURNING c.id
""").bindparams(_CARDS, bindparam("lines", type_=ARRAY(BigInteger)))
"""Cards that were left with nothing are bound to what was taken off them no longer."""


STOPPED = text("""
SELECT c.id FROM sim_card c WHERE c.id = ANY (:cards) AND c.status = 'SUSPENDED'
  AND EXISTS (SELECT FROM package_subscription a WHERE a.sim_card_id = c.id AND a.plan_kind = 'DATA'
              AND a.status = 'ACTIVE')
  AND (SELECT h.action || ' ' || h.reason FROM sim_status_change h WHERE h.sim_card_id = c.id
       ORDER BY h.id DESC LIMIT 1) = 'SUSPEND ' || :reason
""").bindparams(_CARDS)
"""Cards that the system suspended for want of data, and that have some again."""


async def queue(work: Unit, cards: Sequence[SimCard], lines: Collection[OrderLine], time_zone: str) -> None:
    """Puts what was paid for on its cards, which the caller holds: in use where nothing is, else behind the rest."""
    holders = {card.id: card for card in cards}
    work.session.add_all(
        PackageSubscription(
            tenant_id=holders[line.sim_card_id].tenant_id,
            tenant_path=holders[line.sim_card_id].tenant_path,
            sim_card_id=line.sim_card_id,
            data_package_id=line.data_package_id,
            order_line_id=line.id,
            plan_kind=line.plan_kind,
            data_volume_mb=line.data_volume_mb,
            period_type=line.period_type,
            time_zone=time_zone,
        )
        for line in sorted(lines, key=lambda line: line.id)
    )
    await work.session.flush()
    await advance(work.session, list(holders), datetime.now(UTC))
    stopped = set(await work.session.scalars(STOPPED, {"cards": list(holders), "reason": lifecycle.USED_UP}))
    if stopped:
        await lifecycle.step(work, [card for card in cards if card.id in stopped], "RESUME", "data again")


async def withdraw(work: Unit, cards: Sequence[SimCard], lines: Collection[int]) -> None:
    """Takes what these order lines put on cards off again; the next in turn begins.

    PACKAGES_USED where the time or the volume of one is over.
    """
    now = datetime.now(UTC)
    keys = [card.id for card in cards]
    await advance(work.session, keys, now)
    found = list(
        await work.session.scalars(
            select(PackageSubscription)
            .where(PackageSubscription.order_line_id.in_(lines))
            .execution_options(populate_existing=True)
        )
    )
    used = sum(one.status not in OPEN for one in found)
    if used:
        raise Refusal("PACKAGES_USED", "id", count=used)
    for one in found:
        one.status, one.ended_at = SubscriptionStatus.WITHDRAWN, max(now, one.starts_at or now)
    await work.session.flush()
    await advance(work.session, keys, now)
    await rebind(work.session, list(await work.session.scalars(UNBIND, {"cards": keys, "lines": list(lines)})))


async def advance(session: AsyncSession, cards: Sequence[int], now: datetime) -> set[int]:
    """Ends what is over on the cards, which the caller holds, and begins what comes next, as often as it takes; the
    cards on which something changed."""
    ended: set[int] = set()
    begun: set[int] = set()
    while True:
        ended.update(await session.scalars(END, {"cards": cards, "now": now}))
        here = set(await session.scalars(BEGIN, {"cards": cards}))
        if not here:
            break
        begun |= here
    if begun:
        await rebind(session, list(await session.scalars(BIND, {"cards": sorted(begun)})))
    return ended | begun


async def hand_over(database: Database, now: datetime) -> int:
    """Ends the packages whose time is over and begins the next of each card (S2-15); of how many cards.

    A repeat finds nothing to do; two at once share the cards out.
    """
    done = 0
    while True:
        async with database.transaction(system("hand over packages")) as session:
            over = select(PackageSubscription.id).where(
                PackageSubscription.sim_card_id == SimCard.id,
                PackageSubscription.status == SubscriptionStatus.ACTIVE,
                PackageSubscription.ends_at <= now,
            )
            due = list(
                await session.scalars(
                    select(SimCard.id)
                    .where(over.exists())
                    .order_by(SimCard.id)
                    .limit(BATCH)
                    .with_for_update(skip_locked=True)
                )
            )
            if not due:
                return done
            done += len(await advance(session, due, now))
