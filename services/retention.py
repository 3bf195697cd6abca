"""Partitions of logs and mass data: made before they are needed, dropped when their time is over.

How long something is kept is the platform's to say: of logs in a parameter for each table, in months; of sessions and
what is counted from them in a policy, in days, which may have the rows written into a file before they go (S0-62). What
has not been counted yet is never dropped. The partitions are made and dropped by functions of the database's owner; the
application may call them as the platform only.
"""

from __future__ import annotations

import gzip
import tempfile
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Date, Text, bindparam, func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from authz.principal import ROOT_PATH, system
from authz.session import Database
from models.partitions import SCHEMA, partitioned
from models.system import StoredFile
from models.tenancy import Platform
from models.usage import RetainedTable, RetentionMode, RetentionPolicy, SessionDay
from services import ledger, parameters
from services.files import FileStore
from services.refusal import Refusal
from services.runtime import Work
from services.tasks.running import connected

AHEAD = {"month": 3, "day": 7}
"""So many partitions stand ready."""
LEAST_MONTHS = 1
DEFAULT_DAYS = {RetainedTable.SESSION_RECORD: 15, RetainedTable.INTERVAL_STATISTIC: 180}
"""Half a month, and six months."""
MAX_DAYS = 3_650
GZIP = "application/gzip"
MAKE = text("SELECT make_partition(:table, :day, :period)").bindparams(
    bindparam("table", type_=Text), bindparam("day", type_=Date), bindparam("period", type_=Text)
)
DROP = text("SELECT drop_partitions(:table, :before, :period)").bindparams(
    bindparam("table", type_=Text), bindparam("before", type_=Date), bindparam("period", type_=Text)
)
SESSIONS_LOCK = 0x53455353
"""Held by whoever takes sessions in, and by whoever closes days."""
CLOSED = timedelta(days=90)
"""Of days before that nothing is taken in anyway."""
CLOSE = text("""
INSERT INTO session_day (tenant_id, tenant_path, day, changed_at, counted_at, closed)
SELECT :tenant, :path, day::date, now(), clock_timestamp(), true
FROM generate_series(CAST(:first AS date), CAST(:last AS date), interval '1 day') day
ON CONFLICT (day) DO UPDATE SET closed = true
""").bindparams(bindparam("first", type_=Date), bindparam("last", type_=Date))
STANDING = text(f"""
SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = to_regclass('public.' || :table) AND c.relnamespace = '{SCHEMA}'::regnamespace
  AND c.relname ~ '_[0-9]{{4}}(_[0-9]{{2}})+$' ORDER BY c.relname
""").bindparams(bindparam("table", type_=Text))  # noqa: S608


@dataclass(frozen=True)
class Kept:
    """How many partitions were made, how many dropped, and how many of these were written into files before."""

    made: int
    dropped: int
    written: int = 0


def month_of(day: date, months: int) -> date:
    """The first day of the month so many months later, or earlier."""
    number = day.year * 12 + day.month - 1 + months
    return date(number // 12, number % 12 + 1, 1)


async def set_policy(work: Work, table: RetainedTable, days: int, mode: RetentionMode) -> RetentionPolicy:
    """For how many days rows are kept, and whether they are written into files before they go (S0-62)."""
    if not 1 <= days <= MAX_DAYS:
        raise Refusal("OUT_OF_RANGE", "days", value="days", least=1, most=MAX_DAYS)
    root = await ledger.platform(work)
    found = await work.session.scalar(
        select(RetentionPolicy)
        .where(RetentionPolicy.tenant_id == root.id, RetentionPolicy.retained_table == table)
        .with_for_update()
    )
    if found is None:
        found = RetentionPolicy(tenant_id=root.id, tenant_path=root.path, retained_table=table)
        work.session.add(found)
    found.days, found.mode = days, mode
    await work.session.flush()
    return found


async def install(database: Database) -> None:
    """The policies that every installation has, where they are missing."""
    async with database.transaction(system("retention policies")) as session:
        root = await session.scalar(select(Platform))
        if root is None:
            return
        await session.execute(select(func.pg_advisory_xact_lock(0x52455445)))
        known = set(
            await session.scalars(select(RetentionPolicy.retained_table).where(RetentionPolicy.tenant_id == root.id))
        )
        session.add_all(
            RetentionPolicy(
                tenant_id=root.id, tenant_path=root.path, retained_table=table, days=days, mode=RetentionMode.PURGE
            )
            for table, days in DEFAULT_DAYS.items()
            if table not in known
        )


async def keep(database: Database, files: FileStore, now: datetime) -> Kept:
    """Makes the partitions of now and the coming time, and drops what is over.

    A repeat finds nothing to do. Each table is done for itself, so that none waits long for a lock.
    """
    made = dropped = written = 0
    for model, table in partitioned():
        period = model.__period__
        for ahead in range(AHEAD[period] + 1):
            day = month_of(now, ahead) if period == "month" else now.date() + timedelta(days=ahead)
            async with database.transaction(system("partitions")) as session:
                values = {"table": table.name, "day": day, "period": period}
                made += bool(await session.scalar(MAKE, values))
        async with database.transaction(system("partitions")) as session:
            before, mode = await _end(session, model, now)
            if before is None:
                continue
        if mode is RetentionMode.MIGRATE:
            written += await _write(database, files, table.name, before)
        async with database.transaction(system("partitions")) as session:
            values = {"table": table.name, "before": before, "period": period}
            dropped += int(await session.scalar(DROP, values) or 0)
    return Kept(made, dropped, written)


async def _end(session: AsyncSession, model: Any, now: datetime) -> tuple[date | None, RetentionMode]:
    """The day before which nothing of a table is kept, and what becomes of it; None while sessions are being taken in,
    which may be of days that are about to go."""
    if model.__retention__ is not None:
        found = await parameters.read_effective(session, model.__retention__, ROOT_PATH)
        assert found is not None
        assert isinstance(found.value, int)
        return month_of(now, -max(found.value, LEAST_MONTHS)), RetentionMode.PURGE
    kind = RetainedTable[model.__tablename__.upper()]
    policy = await session.scalar(
        select(RetentionPolicy).where(RetentionPolicy.tenant_path == ROOT_PATH, RetentionPolicy.retained_table == kind)
    )
    days, mode = (DEFAULT_DAYS[kind], RetentionMode.PURGE) if policy is None else (policy.days, policy.mode)
    before = now.date() - timedelta(days=days)
    present = min(now, datetime.now(UTC))
    latest = present.date() - timedelta(days=1) if model.__period__ == "day" else month_of(present, -1)
    before = min(before, latest)
    if kind is RetainedTable.SESSION_RECORD:
        if not await session.scalar(select(func.pg_try_advisory_xact_lock(SESSIONS_LOCK))):
            return None, mode
        before = min(before, await _uncounted(session, before))
        await _close(session, before)
    return before, mode


async def _close(session: AsyncSession, before: date) -> None:
    """From now on nothing is taken in of the platform's days that begin before a day in UTC: they are about to go."""
    root = (await session.scalars(select(Platform))).one()
    midnight = datetime.combine(before, time(), UTC).astimezone(ZoneInfo(root.time_zone))
    last = midnight.date() if midnight.time() != time() else midnight.date() - timedelta(days=1)
    values = {"tenant": root.id, "path": root.path, "first": last - CLOSED, "last": last}
    await session.execute(CLOSE, values)


async def _uncounted(session: AsyncSession, before: date) -> date:
    """The first day, in UTC, of which something has not been counted; ``before`` where there is none."""
    day = await session.scalar(
        select(func.min(SessionDay.day)).where(
            (SessionDay.counted_at.is_(None)) | (SessionDay.counted_at <= SessionDay.changed_at),
            ~SessionDay.closed,
        )
    )
    if day is None:
        return before
    zone = ZoneInfo((await session.scalars(select(Platform.time_zone))).one())
    return datetime.combine(day, time(), zone).astimezone(UTC).date()


async def _write(database: Database, files: FileStore, table: str, before: date) -> int:
    """Writes the days that are about to go into files of the platform's, one for each; how many. What was written by a
    run that died is written again."""
    written = 0
    files.folder.mkdir(parents=True, exist_ok=True)
    async with connected(database, system("partitions")) as connection:
        async with database.transaction(system("partitions")) as session:
            standing = list(await session.scalars(STANDING, {"table": table}))
            root = (await session.scalars(select(Platform))).one()
        for partition in standing:
            day = _first_day(partition, table)
            until = day + timedelta(days=1) if len(partition) - len(table) == len("_2026_01_01") else month_of(day, 1)
            if until > before:
                continue
            name = f"{partition}.csv.gz"
            with tempfile.TemporaryDirectory(dir=files.folder) as folder:
                path = Path(folder) / name
                with path.open("wb") as target, gzip.GzipFile("", "wb", 6, target, mtime=0) as packed:
                    query = f"SELECT * FROM {table} WHERE at >= $1 AND at < $2 ORDER BY at, id"  # noqa: S608 - a model's
                    moments = [datetime.combine(one, time(), UTC) for one in (day, until)]
                    await connection.copy_from_query(query, *moments, output=packed, format="csv", header=True)
                moved = files.folder / f"{partition}-{root.id}"
                path.rename(moved)
            stored = files.keep_file(moved)
            async with database.transaction(system("partitions")) as session:
                known = select(StoredFile.id).where(StoredFile.name == name, StoredFile.sha256 == stored.sha256)
                if await session.scalar(known) is None:
                    session.add(
                        StoredFile(
                            tenant_id=root.id,
                            tenant_path=root.path,
                            sha256=stored.sha256,
                            md5=stored.md5,
                            name=name,
                            content_type=GZIP,
                            size=stored.size,
                        )
                    )
            written += 1
    return written


def _first_day(partition: str, table: str) -> date:
    parts = [int(part) for part in partition.removeprefix(f"{table}_").split("_")]
    return date(parts[0], parts[1], parts[2] if len(parts) > 2 else 1)
