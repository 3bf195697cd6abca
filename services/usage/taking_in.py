"""Session records taken in by the million, from a file of the packet gateways' (S0-61).

A file is CSV, one session a row: gateway, session, ICCID or IMSI, begin, end, bytes up and down. PostgreSQL reads it
itself, as text, into a staging table; one statement judges the rows and matches them with the inventory, another enters
them into their days. A session that is told of again only grows. What cannot be taken in is refused by row.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import unicodedata
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg

from authz.principal import system
from authz.session import Database
from models.system import StoredFile, Task, TaskKind
from services.files import FileStore, Stored
from services.identity import tenant_for
from services.messages import render
from services.retention import SESSIONS_LOCK
from services.runtime import Work
from services.tasks.opening import open_task
from services.tasks.running import Progress, Run, TaskFailure, carry_out, connected, succeed

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "gateway": ("网关编码", "gateway"),
    "session_no": ("会话编号", "session"),
    "iccid": ("iccid", "卡号"),
    "imsi": ("imsi",),
    "begun": ("开始时间", "begin"),
    "ended": ("结束时间", "end"),
    "upload": ("上行字节", "upload bytes"),
    "download": ("下行字节", "download bytes"),
}
"""The columns of a file, by any of their headings."""
OPTIONAL = frozenset({"iccid", "imsi", "ended"})
DELIMITERS = ",;\t|"
PIECE = 1024**2
MAX_HEADING = 4_096

MAKE_PARTITION = "SELECT make_partition('session_record', $1, 'day')"
PARTITION_TRIES = 12
STAGING = """
CREATE TEMP TABLE staging (
    row_number bigint GENERATED ALWAYS AS IDENTITY (START 2), gateway text, session_no text, iccid text, imsi text,
    begun text, ended text, upload text, download text
) ON COMMIT DROP
"""
MOMENT = r"^\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d(:?\d\d)?)$"
MAX_DIGITS = 15
MAX_NUMBER = 200


def _moment(column: str) -> str:
    """A moment, or null for what is none; that of most files is known by its shape, which is cheaper than a pattern."""
    plain = f"s.{column} LIKE '____-__-__T__:__:__Z' AND translate(s.{column}, '0123456789', '') = '--T::Z'"
    return (
        f"CASE WHEN ({plain} OR s.{column} ~ '{MOMENT}') AND pg_input_is_valid(s.{column}, 'timestamptz') "
        f"THEN s.{column}::timestamptz END"
    )


def _count(column: str) -> str:
    """A number of bytes, or null for what is none."""
    digits = f"translate(s.{column}, '0123456789', '') = '' AND length(s.{column}) BETWEEN 1 AND {MAX_DIGITS}"
    return f"CASE WHEN {digits} THEN s.{column}::bigint END"


JUDGE = f"""
CREATE TEMP TABLE judged ON COMMIT DROP AS
SELECT t.*, (begun AT TIME ZONE $1)::date AS day, CASE
    WHEN gateway_id IS NULL THEN 'gateway'
    WHEN session_no = '' OR length(session_no) > {MAX_NUMBER} THEN 'session_no'
    WHEN sim_card_id IS NULL THEN 'card'
    WHEN begun IS NULL OR begun < now() - interval '60 days' OR begun > now() + interval '1 hour' THEN 'begun'
    WHEN told_end <> '' AND (ended IS NULL OR ended < begun OR ended > now() + interval '1 hour') THEN 'ended'
    WHEN upload IS NULL THEN 'upload' WHEN download IS NULL THEN 'download'
    WHEN d.day IS NOT NULL THEN 'day'
    END AS fault
FROM (
    SELECT s.row_number, g.id AS gateway_id, coalesce(trim(s.session_no), '') AS session_no,
        coalesce(c.id, i.id) AS sim_card_id, coalesce(c.tenant_id, i.tenant_id) AS tenant_id,
        coalesce(c.tenant_path, i.tenant_path) AS tenant_path, coalesce(trim(s.ended), '') AS told_end,
        {_moment("begun")} AS begun, {_moment("ended")} AS ended,
        {_count("upload")} AS upload, {_count("download")} AS download
    FROM staging s
    LEFT JOIN packet_gateway g ON g.code = s.gateway AND g.status = 'ACTIVE'
    LEFT JOIN sim_card c ON c.iccid = s.iccid
    LEFT JOIN sim_card i ON i.imsi = s.imsi AND coalesce(s.iccid, '') = ''
    OFFSET 0 -- so that what is read of a row is read once
) t
LEFT JOIN session_day d ON d.closed AND d.day = (begun AT TIME ZONE $1)::date
"""  # noqa: S608 - our own patterns
ENTER = """
INSERT INTO session_record (tenant_id, tenant_path, at, ended_at, session_no, sim_card_id, packet_gateway_id,
                            upload_bytes, download_bytes)
SELECT tenant_id, tenant_path, begun, ended, session_no, sim_card_id, gateway_id, upload, download
FROM judged WHERE fault IS NULL
ON CONFLICT (packet_gateway_id, session_no, at) DO NOTHING
"""
GROW = """
UPDATE session_record r SET ended_at = greatest(r.ended_at, t.ended),
    upload_bytes = greatest(r.upload_bytes, t.upload), download_bytes = greatest(r.download_bytes, t.download)
FROM (SELECT gateway_id, session_no, begun, max(ended) AS ended, max(upload) AS upload, max(download) AS download
      FROM judged WHERE fault IS NULL GROUP BY gateway_id, session_no, begun) t
WHERE r.packet_gateway_id = t.gateway_id AND r.session_no = t.session_no AND r.at = t.begun
    AND (r.ended_at IS DISTINCT FROM greatest(r.ended_at, t.ended) OR r.upload_bytes < t.upload
         OR r.download_bytes < t.download)
"""
DAYS = """
SELECT (begun AT TIME ZONE 'UTC')::date AS stored, day, count(*) AS rows,
    max((coalesce(ended, now()) AT TIME ZONE $1)::date) AS last
FROM judged WHERE fault IS NULL GROUP BY stored, day
"""
"""The days of the rows that are taken in, as records are stored and as they are counted, and until when sessions of
each last."""
MARK_DAYS = """
INSERT INTO session_day AS d (tenant_id, tenant_path, day, changed_at)
SELECT $1::bigint, $2, day, now() FROM unnest($3::date[]) AS t (day) ORDER BY day
ON CONFLICT (day) DO UPDATE SET changed_at = clock_timestamp()
"""
"""Once whoever counts a day has let go of it, so that it is counted again."""
MARK_LATER_DAYS = """
UPDATE session_day d SET changed_at = clock_timestamp()
FROM unnest($1::date[], $2::date[]) AS t (day, last) WHERE d.day > t.day AND d.day <= t.last AND NOT d.closed
"""
"""Days into which sessions last are counted again too ..."""
THOUGHT_TO_LAST = """
SELECT min(j.day) FROM judged j
JOIN session_record r ON r.packet_gateway_id = j.gateway_id AND r.session_no = j.session_no AND r.at = j.begun
WHERE j.fault IS NULL AND r.ended_at IS NULL
"""
"""... and those into which they were thought to, as their end was not known before."""
REFUSE = f"""
INSERT INTO task_refusal (tenant_id, tenant_path, task_id, row_number, column_name, value, code)
SELECT $1, $2, $3, j.row_number,
    CASE j.fault {" ".join(f"WHEN '{name}' THEN '{names[0]}'" for name, names in COLUMNS.items())}
        WHEN 'day' THEN '{COLUMNS["begun"][0]}' ELSE 'ICCID' END,
    left(CASE j.fault {" ".join(f"WHEN '{name}' THEN s.{name}" for name in COLUMNS)} WHEN 'day' THEN s.begun
         ELSE coalesce(nullif(s.iccid, ''), s.imsi) END, 200),
    CASE j.fault WHEN 'gateway' THEN 'UNKNOWN_GATEWAY' WHEN 'session_no' THEN 'SESSION_MISSING'
        WHEN 'card' THEN 'UNKNOWN_CARD' WHEN 'begun' THEN 'NO_TIME' WHEN 'ended' THEN 'NO_TIME'
        WHEN 'day' THEN 'DAY_CLOSED' ELSE 'NO_COUNT' END
FROM judged j JOIN staging s USING (row_number) WHERE j.fault IS NOT NULL ORDER BY j.row_number
"""  # noqa: S608 - our own column names


async def start(work: Work, kept: Stored, name: str) -> Task:
    """A task that takes in a file of session records."""
    tenant = await tenant_for(work, None)
    source = StoredFile(
        tenant_id=tenant.id,
        tenant_path=tenant.path,
        sha256=kept.sha256,
        md5=kept.md5,
        name=name,
        content_type="text/csv",
        size=kept.size,
    )
    work.session.add(source)
    await work.session.flush()
    return await open_task(work, TaskKind.SESSION_IMPORT, {}, source=source, name=name)


async def take_in(database: Database, files: FileStore, task_id: int) -> None:
    """Carries out a task that takes session records in. A repeat begins again, and enters nothing twice."""
    await carry_out(database, task_id, "take in session records", lambda run: _take_in(database, files, run))


async def _take_in(database: Database, files: FileStore, run: Run) -> None:
    assert run.source is not None
    async with contextlib.AsyncExitStack() as opened:
        path = await opened.enter_async_context(files.local(run.source.sha256))
        main = await opened.enter_async_context(connected(database, run.owner))
        await _enter(database, main, run, path)


async def _enter(database: Database, main: asyncpg.Connection[Any], run: Run, path: Path) -> None:
    task = run.task
    zone = await main.fetchval("SELECT time_zone FROM tenant WHERE id = $1", task.tenant_id)
    async with main.transaction():
        await main.execute("SET LOCAL work_mem = '256MB'")
        await main.execute(STAGING)
        await _stage(main, path, run.progress)
        await main.execute("ANALYZE staging")
        # one file after the other, and none while days are closed: what is judged now still holds when it enters
        await main.execute("SELECT pg_advisory_xact_lock($1)", SESSIONS_LOCK)
        seen = _count_of(await main.execute(JUDGE.replace("$1", _quoted(zone))))
        await run.progress.tell(0, total=seen)
        days = await main.fetch(DAYS, zone)
        taken = sum(row["rows"] for row in days)
        refused = seen - taken
        if refused:
            await main.execute(REFUSE, task.tenant_id, task.tenant_path, task.id)
        await _open_partitions(database, sorted({row["stored"] for row in days}))
        lasting = {row["day"]: max(one["last"] for one in days if one["day"] == row["day"]) for row in days}
        entered = _count_of(await main.execute(ENTER))
        if entered < taken:
            since = await main.fetchval(THOUGHT_TO_LAST)
            if since is not None:
                lasting[since] = datetime.now(UTC).date() + timedelta(days=1)
            await main.execute(GROW)
        await main.execute(MARK_LATER_DAYS, list(lasting), list(lasting.values()))
        await main.execute(MARK_DAYS, task.tenant_id, task.tenant_path, sorted({row["day"] for row in days}))
        await succeed(main, task, done=seen - refused, failed=refused, total=seen)


async def _open_partitions(database: Database, days: Sequence[date]) -> None:
    """The days' partitions, in a transaction of their own, so that nobody waits for the file."""
    async with connected(database, system("partitions")) as connection:
        for day in days:
            for attempt in range(PARTITION_TRIES):
                try:
                    await connection.execute(MAKE_PARTITION, day)
                    break
                except asyncpg.LockNotAvailableError:
                    if attempt == PARTITION_TRIES - 1:
                        raise


def _quoted(text: str) -> str:
    """A time zone as SQL writes it: statements that make tables take no parameters."""
    return "'" + text.replace("'", "''") + "'"


async def _stage(main: asyncpg.Connection[Any], path: Path, progress: Progress) -> None:
    """The file as it is, into the staging table. TaskFailure where it is no such file."""
    columns, delimiter, begin = _headings(path)
    rows = 0

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal rows
        with path.open("rb") as file:
            file.seek(begin)
            while piece := file.read(PIECE):
                rows += piece.count(b"\n")
                await progress.tell(rows)
                yield piece

    try:
        await main.copy_to_table(
            "staging", source=pieces(), columns=columns, format="csv", delimiter=delimiter, encoding="utf-8"
        )
    except (asyncpg.DataError, asyncpg.BadCopyFileFormatError) as error:
        raise _failure("BROKEN_FILE", filename=path.name, line=str(error)[:200]) from None


def _headings(path: Path) -> tuple[list[str], str, int]:
    """Which columns a file has, by what they are divided, and where its rows begin."""
    with path.open("rb") as file:
        line = file.readline(MAX_HEADING)
    try:
        text = line.removeprefix(codecs.BOM_UTF8).decode().strip()
    except UnicodeDecodeError:
        raise _failure("BROKEN_FILE", filename=path.name) from None
    delimiter = max(DELIMITERS, key=text.count)
    cells = next(csv.reader([text], delimiter=delimiter), [])
    names = [unicodedata.normalize("NFKC", cell).strip().lower() for cell in cells]
    known = {heading: column for column, headings in COLUMNS.items() for heading in headings}
    found = {known.get(name) for name in names}
    missing = [headings[0] for column, headings in COLUMNS.items() if column not in found | OPTIONAL]
    if missing or not found & {"iccid", "imsi"}:
        raise _failure("HEADINGS_MISSING", headings=", ".join(missing or ["ICCID"]))
    unknown = [name for name in names if name not in known]
    if unknown or len(found) < len(names):
        raise _failure("HEADINGS_UNKNOWN", headings=", ".join(unknown or names)[:200])
    return [known[name] for name in names], delimiter, len(line)


def _failure(code: str, **params: str) -> TaskFailure:
    return TaskFailure(code, render(code, "en", params))


def _count_of(status: str) -> int:
    """How many rows a statement touched, from what PostgreSQL says of it."""
    return int(status.rsplit(" ", 1)[1])
