"""What usage costs: taking session records in against a bare COPY into the same table, and counting a day of them
against the bare aggregate."""

from __future__ import annotations

import asyncio
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg

from authz.principal import system
from authz.session import Database
from bench import tables
from bench.data import FULL
from bench.money import plant
from bench.services import Place
from services.files import FileSettings, open_store
from services.keys import Keys
from services.usage import counting, taking_in

DATABASE = "bench_usage"
CARDS = 100_000
DAYS = 10
"""So many times the sessions of the file are counted."""
SIX = (datetime.now(UTC) - timedelta(days=2)).replace(hour=6, minute=0, second=0, microsecond=0)

CATALOGUE = """
INSERT INTO packet_gateway (id, tenant_id, tenant_path, code, name, gateway_type, status)
VALUES (1, 1, '.0001.', 'pgw-1', 'Gateway', 'PGW', 'ACTIVE');
INSERT INTO sim_card (tenant_id, tenant_path, iccid, carrier, sim_type, entry_mode, status, supplier_id)
SELECT t.id, t.path, '8986019' || lpad(n::text, 13, '0'), 'CMCC', 'M2M', 'IMPORT', 'ACTIVE', 1
FROM generate_series(1, $1::int) n
JOIN (SELECT id, path, row_number() OVER (ORDER BY id) AS k FROM tenant WHERE level = 3) t ON t.k = 1 + n % 200
"""
FILE = """
SELECT 'pgw-1', 's' || n, c.iccid, '', to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
  to_char((at + interval '9 minutes') AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), 1000 + n % 977, 5000 + n % 991
FROM (SELECT n, CAST('{at}' AS timestamptz) + n * interval '40 milliseconds' AS at FROM generate_series(1, {count}) n) s
JOIN (SELECT iccid, row_number() OVER (ORDER BY id) AS k FROM sim_card WHERE iccid LIKE '8986019%') c
  ON c.k = 1 + s.n::bigint * 7919 % {cards} ORDER BY n
"""
MORE = """
INSERT INTO session_record (tenant_id, tenant_path, at, ended_at, session_no, sim_card_id, packet_gateway_id,
                            upload_bytes, download_bytes)
SELECT tenant_id, tenant_path, at, ended_at, session_no || '-' || $1, sim_card_id, packet_gateway_id, upload_bytes,
  download_bytes
FROM session_record WHERE session_no NOT LIKE '%-%'
"""
AGGREGATE = """
SELECT tenant_id, count(*), count(DISTINCT sim_card_id), sum(upload_bytes), sum(download_bytes) FROM session_record
WHERE at >= $1 AND at < $2 GROUP BY tenant_id
"""
COLUMNS = (
    "tenant_id", "tenant_path", "at", "ended_at", "session_no", "sim_card_id", "packet_gateway_id", "upload_bytes",
    "download_bytes",
)  # fmt: skip
TASK = """
WITH f AS (
  INSERT INTO stored_file (tenant_id, tenant_path, sha256, name, content_type, size, md5)
  VALUES (1, '.0001.', $1, 'sessions.csv', 'text/csv', $2, $3) RETURNING id
)
INSERT INTO task (tenant_id, tenant_path, kind, parameters, status, done, failed, source_file_id)
SELECT 1, '.0001.', 'SESSION_IMPORT', '{}', 'QUEUED', 0, 0, id FROM f RETURNING id
"""


async def run(place: Place, cards: int, rounds: int, seconds: float) -> dict[str, Any]:  # noqa: ARG001
    count = min(cards, FULL)
    await asyncio.to_thread(place.create_migrated, DATABASE)
    connection = await place.superuser(DATABASE)
    database = Database(place.application_url(DATABASE))
    try:
        await plant(connection)
        for statement in CATALOGUE.split(";"):
            await connection.execute(statement, *((min(CARDS, count),) if "$1" in statement else ()))
        await connection.execute("SELECT set_config('trellis.path', '.0001.', false)")
        await connection.execute("SELECT make_partition('session_record', $1, 'day')", SIX.date())
        taken = await _taking_in(connection, database, count)
        counted = await _counting(connection, database)
    finally:
        await database.close()
        await connection.close()
    place.drop(DATABASE)
    return {"taking_in": taken, "counting": counted}


async def _taking_in(
    connection: asyncpg.Connection[asyncpg.Record], database: Database, count: int
) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        files = open_store(Path(folder) / "files", Keys("bench"), FileSettings())
        files.folder.mkdir(parents=True, exist_ok=True)
        source = files.folder / "sessions"
        query = FILE.format(at=SIX.isoformat(), count=count, cards=min(CARDS, count))
        head = "网关编码,会话编号,ICCID,IMSI,开始时间,结束时间,上行字节,下行字节\n"
        with source.open("wb") as target:
            target.write(head.encode())
            await connection.copy_from_query(query, output=target, format="csv")
        kept = files.keep_file(source)
        task = await connection.fetchval(TASK, kept.sha256, kept.size, kept.md5)
        await connection.execute("VACUUM ANALYZE")
        started = time.perf_counter()
        await taking_in.take_in(database, files, task)
        ours = time.perf_counter() - started
        if await connection.fetchval("SELECT count(*) FROM session_record") != count:
            raise RuntimeError(await connection.fetchval("SELECT error_message FROM task WHERE id = $1", task))
        rows = Path(folder) / "rows"
        await connection.copy_from_query(f"SELECT {', '.join(COLUMNS)} FROM session_record", output=rows)
        await connection.execute("TRUNCATE session_record")
        started = time.perf_counter()
        await connection.copy_to_table("session_record", source=rows, columns=COLUMNS)
        bare = time.perf_counter() - started
    tables.show([f"{count:,} sessions", "seconds"], [["COPY", f"{bare:.1f}"], ["taken in from a file", f"{ours:.1f}"]])
    return {
        "sessions": count,
        "seconds": round(ours, 1),
        "copy": round(bare, 1),
        "ratio_to_copy": round(bare / ours, 2),
    }


async def _counting(connection: asyncpg.Connection[asyncpg.Record], database: Database) -> dict[str, float]:
    for number in range(1, DAYS):
        await connection.execute(MORE, str(number))
    await connection.execute("VACUUM ANALYZE session_record")
    count = await connection.fetchval("SELECT count(*) FROM session_record")
    day = SIX.date()
    since = datetime(day.year, day.month, day.day, tzinfo=UTC)
    started = time.perf_counter()
    await connection.fetch(AGGREGATE, since, since + timedelta(days=1))
    bare = time.perf_counter() - started
    started = time.perf_counter()
    async with database.transaction(system("bench")) as session:
        await counting.roll_up(session, day)
    ours = time.perf_counter() - started
    started = time.perf_counter()
    done = await counting.count_due(database, datetime.now(UTC))
    whole = time.perf_counter() - started
    total = await connection.fetchval("SELECT connections FROM daily_statistic WHERE tenant_id = 1 AND day = $1", day)
    if done == 0 or total != count:
        raise RuntimeError(f"{total} of {count} sessions were counted")
    tables.show(
        [f"a day of {count:,} sessions", "seconds"],
        [
            ["the bare aggregate", f"{bare:.1f}"],
            ["rolled up, with its month", f"{ours:.1f}"],
            ["the same and its intervals of five minutes", f"{whole:.1f}"],
        ],
    )
    return {
        "sessions": count,
        "seconds": round(ours, 1),
        "with_intervals": round(whole, 1),
        "aggregate": round(bare, 1),
        "ratio_to_aggregate": round(ours / bare, 2),
    }
