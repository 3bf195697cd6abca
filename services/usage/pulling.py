"""What cards used on a day, pulled from their suppliers, and what follows from it (S0-51, S0-52).

A day is pulled until every card in service has a figure: what a supplier did not answer is asked for again by the next
run, and what it answered is not. A figure that changes is taken for what it is now. Days are China's, as carriers
count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import structlog
from sqlalchemy import BigInteger, Date, DateTime, bindparam, select, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncSession

from authz.principal import system
from authz.session import Database
from gateways.carrier import CarrierQuery, Used, carriers
from gateways.http import GatewayError
from models.catalog import CatalogStatus, Supplier
from models.sim import SimCard, SimStatus
from models.usage import DailyUsage
from services import parameters, subscriptions
from services.catalog import api_key_binding
from services.keys import Keys
from services.runtime import Unit
from services.sim import lifecycle
from services.usage import thresholds

CHINA = ZoneInfo("Asia/Shanghai")
DAYS_BACK = 7
"""So far back suppliers are asked."""
READY_HOUR = 2
"""From then on, of China's day, suppliers know the day before."""
BATCH = 500
IN_SERVICE = (SimStatus.ACTIVE, SimStatus.SUSPENDED)
SUSPEND = "usage.suspendWhenUsedUp"

_CARDS = bindparam("cards", type_=ARRAY(BigInteger))

RECORD = text("""
WITH told AS (
  SELECT c.id AS card, c.tenant_id, c.tenant_path, c.end_user_id, t.used, t.counter, t.began
  FROM unnest(:cards, :used, :counters, :begins) AS t (card, used, counter, began) JOIN sim_card c ON c.id = t.card
), before AS (
  SELECT sim_card_id AS card, used_kb FROM daily_usage WHERE at = :at AND sim_card_id = ANY (:cards)
), kept AS (
  INSERT INTO daily_usage AS d (tenant_id, tenant_path, end_user_id, sim_card_id, at, day, used_kb, counter_kb,
                                counter_since)
  SELECT tenant_id, tenant_path, end_user_id, card, :at, :day, used, counter, began FROM told
  ON CONFLICT (sim_card_id, at) DO UPDATE SET used_kb = excluded.used_kb, counter_kb = excluded.counter_kb,
    counter_since = excluded.counter_since, pulled_at = now()
)
UPDATE package_subscription s SET updated_at = now(),
  used_kb = greatest(0, s.used_kb + t.used - coalesce(b.used_kb, 0))
FROM told t LEFT JOIN before b USING (card)
JOIN LATERAL (
  SELECT p.id FROM package_subscription p
  WHERE p.sim_card_id = t.card AND p.plan_kind = 'DATA' AND p.starts_at < :until
    AND coalesce(p.ended_at, 'infinity') > :since AND p.status <> 'WITHDRAWN'
  ORDER BY p.starts_at DESC LIMIT 1
) of_day ON true
WHERE s.id = of_day.id AND t.used <> coalesce(b.used_kb, 0)
RETURNING s.sim_card_id
""").bindparams(
    _CARDS,
    bindparam("used", type_=ARRAY(BigInteger)),
    bindparam("counters", type_=ARRAY(BigInteger)),
    bindparam("begins", type_=ARRAY(Date)),
    bindparam("at", type_=DateTime(timezone=True)),
    bindparam("day", type_=Date),
    bindparam("since", type_=DateTime(timezone=True)),
    bindparam("until", type_=DateTime(timezone=True)),
)
"""The day of each card, and what it adds to the package that was in use on that day, over by now or not; the cards
whose package counts something new."""

ROLL_UP = text("""
INSERT INTO monthly_usage AS m (tenant_id, tenant_path, end_user_id, sim_card_id, month, used_kb)
SELECT t.id, t.path, d.end_user_id, d.sim_card_id, :month, sum(d.used_kb)
FROM daily_usage d JOIN tenant t ON t.id = d.tenant_id
WHERE d.at >= :since AND d.at < :until GROUP BY t.id, t.path, d.end_user_id, d.sim_card_id
ON CONFLICT (sim_card_id, month, tenant_id, coalesce(end_user_id, 0)) DO UPDATE
  SET used_kb = excluded.used_kb, rolled_up_at = now() WHERE m.used_kb <> excluded.used_kb
""").bindparams(
    bindparam("month", type_=Date),
    bindparam("since", type_=DateTime(timezone=True)),
    bindparam("until", type_=DateTime(timezone=True)),
)

log = structlog.get_logger()


@dataclass(frozen=True)
class Pulled:
    """How many cards a supplier told of, and how many it did not."""

    told: int = 0
    missing: int = 0


async def pull_due(database: Database, keys: Keys, now: datetime) -> Pulled:
    """Pulls yesterday, once suppliers know it, and the week before, for the cards that have no figure of them yet."""
    here = now.astimezone(CHINA)
    told = missing = 0
    for back in range(DAYS_BACK, 0, -1):
        if back == 1 and here.hour < READY_HOUR:
            break
        found = await pull(database, keys, here.date() - timedelta(days=back))
        told, missing = told + found.told, missing + found.missing
    return Pulled(told, missing)


async def pull(database: Database, keys: Keys, day: date) -> Pulled:
    """Pulls a day for all cards in service that have no figure of it yet."""
    async with database.transaction(system("pull usage")) as session:
        suppliers = list(await session.scalars(select(Supplier).where(Supplier.status == CatalogStatus.ACTIVE)))
    told = missing = 0
    for supplier in suppliers:
        try:
            async with database.alone(f"pull usage of supplier {supplier.id}") as alone:
                found = await _pull_from(database, keys, supplier, day) if alone else Pulled()
        except Exception:
            # one supplier must not keep the others waiting
            log.exception("usage could not be pulled", supplier=supplier.id, day=str(day))
            continue
        told, missing = told + found.told, missing + found.missing
    await roll_up(database, day)
    return Pulled(told, missing)


async def roll_up(database: Database, day: date) -> None:
    """Brings the month of a day up to date (S0-52)."""
    month = day.replace(day=1)
    until = (month + timedelta(days=32)).replace(day=1)
    async with database.transaction(system("roll usage up")) as session:
        await session.execute(ROLL_UP, {"month": month, "since": _midnight(month), "until": _midnight(until)})


async def _pull_from(database: Database, keys: Keys, supplier: Supplier, day: date) -> Pulled:
    key = None
    if supplier.api_key_encrypted is not None:
        key = keys.decrypt(supplier.api_key_encrypted, api_key_binding(supplier.id))
    told = missing = last = 0
    while True:
        async with database.transaction(system("pull usage")) as session:
            cards = await _without(session, supplier.id, day, last)
        if not cards:
            return Pulled(told, missing)
        last = max(cards)
        answers = await carriers.usage(CarrierQuery(supplier.interface_name, key, list(cards.values())), day)
        used = {
            card: answer for card, answer in zip(cards, answers, strict=True) if not isinstance(answer, GatewayError)
        }
        failures = [answer for answer in answers if isinstance(answer, GatewayError)]
        told, missing = told + len(used), missing + len(failures)
        if failures:
            log.warning(
                "a supplier did not tell usage", supplier=supplier.id, cards=len(failures), why=str(failures[0])
            )
        if used:
            await record(database, day, used)
        elif failures and failures[0].code in ("CARRIER_UNAVAILABLE", "NOT_SUPPORTED"):
            # the next cards would fare no better
            return Pulled(told, missing)


async def _without(session: AsyncSession, supplier: int, day: date, after: int) -> Mapping[int, str]:
    """The next cards of a supplier that have no figure of the day, by key."""
    known = select(DailyUsage.id).where(DailyUsage.sim_card_id == SimCard.id, DailyUsage.at == _midnight(day))
    rows = await session.execute(
        select(SimCard.id, SimCard.iccid)
        .where(
            SimCard.supplier_id == supplier,
            SimCard.id > after,
            SimCard.status.in_(IN_SERVICE)
            | ((SimCard.status == SimStatus.TERMINATED) & (SimCard.updated_at >= _midnight(day))),
            SimCard.activated_at < _midnight(day) + timedelta(days=1),
            ~known.exists(),
        )
        .order_by(SimCard.id)
        .limit(BATCH)
    )
    return {row.id: row.iccid for row in rows}


COUNTED = text("""
SELECT t.card, last.counter_kb, here.booked, c.activated_at >= t.since OR earlier.told AS whole
FROM unnest(:cards, :since) AS t (card, since)
JOIN sim_card c ON c.id = t.card
LEFT JOIN LATERAL (
  SELECT d.counter_kb FROM daily_usage d
  WHERE d.sim_card_id = t.card AND d.at >= t.since AND d.at < :at AND d.counter_since = t.since::date
  ORDER BY d.at DESC LIMIT 1
) last ON true
CROSS JOIN LATERAL (
  SELECT EXISTS (SELECT FROM daily_usage d WHERE d.sim_card_id = t.card AND d.at >= t.since AND d.at < :at) AS booked
) here
CROSS JOIN LATERAL (
  SELECT EXISTS (SELECT FROM daily_usage d WHERE d.sim_card_id = t.card AND d.at < t.since) AS told
) earlier
""").bindparams(
    _CARDS,
    bindparam("since", type_=ARRAY(DateTime(timezone=True))),
    bindparam("at", type_=DateTime(timezone=True)),
)
"""Of cards that are counted by cycle: the counter as it was last seen in the cycle, whether something is booked on a
day of it, and whether all that the cycle counts was used with us."""


async def _of_the_day(session: AsyncSession, day: date, used: Mapping[int, Used]) -> dict[int, int]:
    """What cards used on a day, in KB: of those that are counted by cycle, what their counters have gained.

    The counter of a card that is seen in the middle of a cycle for the first time, or was asked for by another
    interface before, counts from now on; so does one that the supplier has set back.
    """
    found = {card: one.kb for card, one in used.items()}
    by_cycle = [card for card, one in used.items() if one.since < day]
    if by_cycle:
        since = [_midnight(used[card].since) for card in by_cycle]
        values = {"cards": by_cycle, "since": since, "at": _midnight(day)}
        for card, last, booked, whole in await session.execute(COUNTED, values):
            if last is not None and last > used[card].kb:
                log.warning("a supplier set a counter back", card=card, day=str(day), before=last, now=used[card].kb)
            if last is not None:
                found[card] = max(0, used[card].kb - last)
            elif booked or not whole:
                found[card] = 0
    return found


async def record(database: Database, day: date, used: Mapping[int, Used]) -> None:
    """Writes down what cards have used until the end of a day; packages that are used up make room for the next, and
    where none comes the card is stopped. A repeat changes nothing."""
    principal = system("record usage")
    cards = sorted(used)
    async with database.transaction(principal) as session:
        work = Unit(principal, session)
        # whoever changes the queue of a card holds the card
        held = list(
            await session.scalars(select(SimCard).where(SimCard.id.in_(cards)).order_by(SimCard.id).with_for_update())
        )
        since = datetime.combine(day, time(), CHINA)
        of_the_day = await _of_the_day(session, day, used)
        values = {
            "cards": cards,
            "used": [of_the_day[card] for card in cards],
            "counters": [used[card].kb for card in cards],
            "begins": [used[card].since for card in cards],
            "at": _midnight(day),
            "day": day,
            "since": since,
            "until": since + timedelta(days=1),
        }
        counted = list(await session.scalars(RECORD, values))
        if not counted:
            return
        await thresholds.tell(work, counted)
        changed = await subscriptions.advance(session, counted, datetime.now(UTC))
        await _stop(work, [card for card in held if card.id in changed and card.status is SimStatus.ACTIVE])


LEFT_WITH_NOTHING = text("""
SELECT c.id FROM sim_card c WHERE c.id = ANY (:cards)
  AND (SELECT u.status FROM package_subscription u WHERE u.sim_card_id = c.id AND u.plan_kind = 'DATA'
         AND u.ended_at IS NOT NULL ORDER BY u.ended_at DESC, u.id DESC LIMIT 1) = 'USED_UP'
  AND NOT EXISTS (SELECT FROM package_subscription a WHERE a.sim_card_id = c.id AND a.plan_kind = 'DATA'
                  AND a.status = 'ACTIVE')
""").bindparams(_CARDS)


async def _stop(work: Unit, cards: Sequence[SimCard]) -> None:
    """Suspends the cards that have used up all that was bought for them, where their holders want that."""
    if not cards:
        return
    spent = set(await work.session.scalars(LEFT_WITH_NOTHING, {"cards": [card.id for card in cards]}))
    wanted: dict[str, bool] = {}
    for path in sorted({card.tenant_path for card in cards if card.id in spent}):
        found = await parameters.read_effective(work.session, SUSPEND, path)
        wanted[path] = found is not None and found.value is True
    stopped = [card for card in cards if card.id in spent and wanted[card.tenant_path]]
    if stopped:
        await lifecycle.step(work, stopped, "SUSPEND", lifecycle.USED_UP)


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
