"""What is counted from session records: five minutes, days and months of each tenant and all below it (S0-63 to S0-65).

A day is counted anew as a whole whenever records of it have come in since it was counted, so that late ones are not
lost and nothing is counted twice. Days are the platform's; a session belongs to the day on which it began.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import structlog
from sqlalchemy import DateTime, bindparam, func, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from authz.principal import system
from authz.session import Database
from models.tenancy import Platform
from models.usage import SessionDay

INTERVAL = timedelta(minutes=5)
RECENT = timedelta(minutes=30)
"""So much of the present is counted again each time."""
LONGEST_SESSION = timedelta(days=7)
COUNT_LOCK = 0x434F554E

_WINDOW = (bindparam("since", type_=DateTime(timezone=True)), bindparam("until", type_=DateTime(timezone=True)))

GATHER = """
CREATE TEMP TABLE seen ON COMMIT DROP AS
SELECT tenant_id, sim_card_id, count(*) AS connections, sum(upload_bytes) AS upload, sum(download_bytes) AS download,
  min(at) AS at
FROM session_record WHERE at >= '{since}' AND at < '{until}' GROUP BY tenant_id, sim_card_id
"""
"""What each card did in a window, for whoever held it: the records are read once, and all else is made of this."""

SEE_FIRST = text("""
INSERT INTO first_session AS f (tenant_id, tenant_path, sim_card_id, at)
SELECT DISTINCT ON (s.sim_card_id) t.id, t.path, s.sim_card_id, s.at
FROM seen s JOIN tenant t ON t.id = s.tenant_id
WHERE NOT EXISTS (SELECT FROM first_session k WHERE k.sim_card_id = s.sim_card_id AND k.at <= s.at)
ORDER BY s.sim_card_id, s.at
ON CONFLICT (sim_card_id) DO UPDATE SET at = excluded.at WHERE f.at > excluded.at
""")

UNSEE = text("""
UPDATE session_day d SET changed_at = clock_timestamp()
FROM (SELECT DISTINCT (f.at AT TIME ZONE :zone)::date AS day
      FROM seen s JOIN first_session f ON f.sim_card_id = s.sim_card_id AND s.at < f.at) m
WHERE d.day = m.day AND d.day <> :day AND NOT d.closed
""")
"""Days that lose a new user, because the card was seen before, are counted again."""

COUNT_DAY = text("""
INSERT INTO daily_statistic AS d (tenant_id, tenant_path, day, connections, active_cards, new_users, upload_bytes,
                                  download_bytes, counted_at)
SELECT a.id, a.path, :day, sum(connections), sum(cards), sum(new_users), sum(upload), sum(download), clock_timestamp()
FROM (
  SELECT tenant_id, sum(connections) AS connections, count(*) AS cards, 0 AS new_users, sum(upload) AS upload,
    sum(download) AS download
  FROM seen GROUP BY tenant_id
  UNION ALL
  SELECT tenant_id, 0, 0, count(*), 0, 0 FROM first_session WHERE at >= :since AND at < :until GROUP BY tenant_id
) held
JOIN tenant_closure c ON c.tenant_id = held.tenant_id
JOIN tenant a ON a.id = c.ancestor_id
GROUP BY a.id, a.path
ON CONFLICT (tenant_id, day) DO UPDATE SET connections = excluded.connections, active_cards = excluded.active_cards,
  new_users = excluded.new_users, upload_bytes = excluded.upload_bytes, download_bytes = excluded.download_bytes,
  counted_at = excluded.counted_at
""").bindparams(*_WINDOW)
"""A day of each tenant with sessions in its branch. What a tenant holds is summed first, and then up the tree."""

GROW = text("""
UPDATE daily_statistic d SET connection_growth = d.connections - coalesce(before.connections, 0)
FROM daily_statistic n LEFT JOIN daily_statistic before ON before.tenant_id = n.tenant_id AND before.day = n.day - 1
WHERE n.id = d.id AND d.day IN (:day, CAST(:day AS date) + 1)
""")
"""Growth against the day before: of the day that was counted, and of the next, which rests on it."""

COUNT_MONTH = text("""
INSERT INTO monthly_statistic AS m (tenant_id, tenant_path, month, connections, busiest_day_connections, new_users,
                                    upload_bytes, download_bytes, counted_at)
SELECT t.id, t.path, :month, sum(d.connections), max(d.connections), sum(d.new_users), sum(d.upload_bytes),
  sum(d.download_bytes), clock_timestamp()
FROM daily_statistic d JOIN tenant t ON t.id = d.tenant_id
WHERE d.day >= :month AND d.day < CAST(:month AS date) + interval '1 month' GROUP BY t.id, t.path
ON CONFLICT (tenant_id, month) DO UPDATE SET connections = excluded.connections,
  busiest_day_connections = excluded.busiest_day_connections, new_users = excluded.new_users,
  upload_bytes = excluded.upload_bytes, download_bytes = excluded.download_bytes, counted_at = excluded.counted_at
""")

COUNT_INTERVALS = text("""
WITH open AS MATERIALIZED (
  SELECT tenant_id, greatest(date_bin('5 minutes', at, '2000-01-01+00'), :since) AS at,
    date_bin('5 minutes', ended_at, '2000-01-01+00') AS ended, count(*) AS connections
  FROM session_record
  WHERE at >= :oldest AND at < :until AND coalesce(ended_at, 'infinity') >= :since
  GROUP BY 1, 2, 3
), change AS (
  SELECT tenant_id, at, connections, 0 AS new_users FROM open
  UNION ALL
  SELECT tenant_id, ended + interval '5 minutes', -connections, 0 FROM open
  WHERE ended + interval '5 minutes' < :until
  UNION ALL
  SELECT tenant_id, date_bin('5 minutes', at, '2000-01-01+00'), 0, 1
  FROM first_session WHERE at >= :since AND at < :until
), changes AS (
  SELECT a.id AS tenant_id, a.path, s.at, sum(s.connections) AS connections, sum(s.new_users) AS new_users
  FROM (SELECT tenant_id, at, sum(connections) AS connections, sum(new_users) AS new_users
        FROM change GROUP BY tenant_id, at) s
  JOIN tenant_closure c ON c.tenant_id = s.tenant_id JOIN tenant a ON a.id = c.ancestor_id
  GROUP BY a.id, a.path, s.at
), tenants AS (
  SELECT tenant_id, path FROM changes
  UNION
  SELECT t.id, t.path FROM interval_statistic k JOIN tenant t ON t.id = k.tenant_id
  WHERE k.at >= :since AND k.at < :until AND (k.connections <> 0 OR k.new_users <> 0)
)
INSERT INTO interval_statistic (tenant_id, tenant_path, at, connections, new_users)
SELECT t.tenant_id, t.path, i.at,
  sum(coalesce(c.connections, 0)) OVER (PARTITION BY t.tenant_id ORDER BY i.at), coalesce(c.new_users, 0)
FROM tenants t CROSS JOIN generate_series(:since, CAST(:until AS timestamptz) - interval '5 minutes',
                                          interval '5 minutes') AS i (at)
LEFT JOIN changes c ON c.tenant_id = t.tenant_id AND c.at = i.at
ON CONFLICT (tenant_id, at) DO UPDATE SET connections = excluded.connections, new_users = excluded.new_users
""").bindparams(*_WINDOW, bindparam("oldest", type_=DateTime(timezone=True)))
"""How many sessions were open at some time of each five minutes, from who came and who left; and that there are none
any more where some were counted before."""

log = structlog.get_logger()


async def count_due(database: Database, now: datetime) -> int:
    """Counts the days of which records have come in since they were counted, and the months that they are part of; how
    many days. One counts at a time; a day that cannot be counted keeps no other waiting."""
    done, failed = 0, set[date]()
    while True:
        async with database.transaction(system("count sessions")) as session:
            await session.execute(select(func.pg_advisory_xact_lock(COUNT_LOCK)))
            day = await session.scalar(
                select(SessionDay)
                .where(
                    (SessionDay.counted_at.is_(None)) | (SessionDay.counted_at <= SessionDay.changed_at),
                    ~SessionDay.closed,
                    SessionDay.day.not_in(failed),
                )
                .order_by(SessionDay.day)
                .limit(1)
                .with_for_update()
            )
            if day is None:
                return done
            try:
                async with session.begin_nested():
                    await count_day(session, day.day, now)
                day.counted_at = await session.scalar(select(func.clock_timestamp()))
                done += 1
            except DBAPIError:
                log.exception("a day of sessions cannot be counted", day=str(day.day))
                failed.add(day.day)


async def count_day(session: AsyncSession, day: date, now: datetime) -> None:
    """Counts a day from its records: its statistics, its intervals so far, and its month."""
    since, until = await roll_up(session, day)
    await _count_intervals(session, since, min(until, _binned(now)))


async def roll_up(session: AsyncSession, day: date) -> tuple[datetime, datetime]:
    """Counts the statistics of a day, and its month; when the day begins and ends."""
    zone = await _zone(session)
    since, until = (datetime.combine(one, time(), zone).astimezone(UTC) for one in (day, day + timedelta(days=1)))
    await _gather(session, since, until)
    await session.execute(UNSEE, {"zone": zone.key, "day": day})
    await session.execute(SEE_FIRST)
    await session.execute(COUNT_DAY, {"since": since, "until": until, "day": day})
    await session.execute(GROW, {"day": day})
    await session.execute(COUNT_MONTH, {"month": day.replace(day=1)})
    return since, until


async def count_present(database: Database, now: datetime) -> None:
    """Counts the last half hour in intervals of five minutes (S0-63)."""
    async with database.transaction(system("count sessions")) as session:
        await session.execute(select(func.pg_advisory_xact_lock(COUNT_LOCK)))
        until = _binned(now)
        await _gather(session, until - RECENT, until)
        await session.execute(SEE_FIRST)
        await _count_intervals(session, until - RECENT, until)


async def _gather(session: AsyncSession, since: datetime, until: datetime) -> None:
    # so many cards are summed in memory
    await session.execute(text("SET LOCAL work_mem = '256MB'"))
    # statements that make tables take no parameters
    await session.execute(text(GATHER.format(since=since.isoformat(), until=until.isoformat())))
    await session.execute(text("ANALYZE seen"))


async def _count_intervals(session: AsyncSession, since: datetime, until: datetime) -> None:
    if since < until:
        oldest = since - LONGEST_SESSION
        await session.execute(COUNT_INTERVALS, {"since": since, "until": until, "oldest": oldest})


def _binned(moment: datetime) -> datetime:
    """The end of the last whole interval."""
    seconds = int(INTERVAL.total_seconds())
    return datetime.fromtimestamp(int(moment.timestamp()) // seconds * seconds, UTC)


async def _zone(session: AsyncSession) -> ZoneInfo:
    return ZoneInfo((await session.scalars(select(Platform.time_zone))).one())
