"""Many cards entering the inventory in one transaction, from a spreadsheet or a range (S0-03, S0-05).

Rows stream through the checks that concern one row into a staging table by COPY; the checks that concern the set
(repeats, the inventory) are statements. Memory does not grow with the file. Nothing is entered before everything
has been checked: a worker that dies leaves nothing, and the task begins again.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import orjson
import structlog
from sqlalchemy import Integer, cast, func, select, update

from authz.principal import Principal, system
from authz.session import Database
from models.catalog import Carrier
from models.security import PATH_SETTING
from models.sim import SimEntryMode, SimType
from models.system import OutboxEvent, StoredFile, Task, TaskKind, TaskStatus
from services.files import FileStore
from services.messages import render
from services.sim import numbers
from services.spreadsheets import Column, Row, SpreadsheetError, read, write_rows
from services.webhook.events import TASK_FINISHED

log = structlog.get_logger()

COLUMNS = (
    Column("iccid", ("ICCID", "卡号"), required=True, compact=True),
    Column("imsi", ("IMSI",), compact=True),
    Column("msisdn", ("物联号码", "MSISDN", "号码"), compact=True),
    Column("carrier", ("运营商", "Carrier"), required=True),
    Column("supplier", ("供应商", "Supplier"), required=True),
    Column("sim_type", ("卡类型", "Card type"), required=True),
    Column("apn", ("APN",)),
    Column("package", ("套餐编码", "Package code")),
    Column("remark", ("备注", "Remark")),
)
HEADINGS = {column.name: column.headings[0] for column in COLUMNS}
IDENTIFIERS = ("iccid", "imsi", "msisdn")
SIM_TYPES = {
    "机械卡": SimType.M2M,
    "工业卡": SimType.M2M,
    "M2M": SimType.M2M,
    "消费卡": SimType.CONSUMER,
    "CONSUMER": SimType.CONSUMER,
}
CARRIERS = {
    **{carrier.name: carrier for carrier in Carrier},
    "中国移动": Carrier.CMCC,
    "移动": Carrier.CMCC,
    "中国联通": Carrier.CUCC,
    "联通": Carrier.CUCC,
    "中国电信": Carrier.CTCC,
    "电信": Carrier.CTCC,
}
PROGRESS_EVERY = 2_000
PROGRESS_SECONDS = 0.5
PATIENCE = timedelta(minutes=15)

STAGING = """
CREATE TEMP TABLE staging (
    row_number bigint NOT NULL, iccid text, imsi text, msisdn text, carrier text, supplier text, sim_type text,
    apn text, package text, remark text, supplier_id bigint, package_id bigint, at text, refusal text
) ON COMMIT DROP
"""
STAGED = (
    "row_number",
    "iccid",
    "imsi",
    "msisdn",
    "carrier",
    "supplier",
    "sim_type",
    "apn",
    "package",
    "remark",
    "supplier_id",
    "package_id",
    "at",
    "refusal",
)

REPEATED = """
UPDATE staging s SET at = '{column}', refusal = 'DUPLICATE_IN_FILE'
FROM (SELECT ctid AS place, row_number() OVER (PARTITION BY {column} ORDER BY row_number) AS n
      FROM staging WHERE refusal IS NULL AND {column} IS NOT NULL) r
WHERE s.ctid = r.place AND r.n > 1
"""
KNOWN = """
UPDATE staging s SET at = '{column}', refusal = 'ALREADY_IN_INVENTORY'
FROM sim_card c WHERE s.refusal IS NULL AND c.{column} = s.{column}
"""
ENTER = """
INSERT INTO sim_card (tenant_id, tenant_path, iccid, imsi, msisdn, carrier, sim_type, entry_mode, status, apn,
                      supplier_id, package_id, remark)
SELECT $1, $2, iccid, imsi, msisdn, carrier, sim_type, $3, 'STOCK', apn, supplier_id, package_id, remark
FROM staging WHERE refusal IS NULL ORDER BY row_number
"""
BIND = """
INSERT INTO sim_package_binding (tenant_id, tenant_path, sim_card_id, package_id)
SELECT c.tenant_id, c.tenant_path, c.id, c.package_id FROM sim_card c
JOIN staging s ON s.iccid = c.iccid WHERE s.refusal IS NULL AND c.package_id IS NOT NULL
"""
REFUSED_VALUE = " ".join(f"WHEN '{name}' THEN {name}" for name in HEADINGS)
REFUSED_HEADING = " ".join(f"WHEN '{name}' THEN '{heading}'" for name, heading in HEADINGS.items())
REFUSE = f"""
INSERT INTO task_refusal (tenant_id, tenant_path, task_id, row_number, column_name, value, code)
SELECT $1, $2, $3, row_number, CASE at {REFUSED_HEADING} END, CASE at {REFUSED_VALUE} END, refusal
FROM staging WHERE refusal IS NOT NULL ORDER BY row_number
"""  # noqa: S608 - our own column names
TELL = """
INSERT INTO outbox_event (tenant_id, tenant_path, key, topic, payload)
VALUES ($1, $2, gen_random_uuid(), $3, $4::jsonb)
"""
ENTRY_LOCK = 0x53494D  # one entry checks and inserts at a time, so that what it saw of the inventory still holds


@dataclass(frozen=True)
class Catalogue:
    """What rows may name: suppliers and packages in use, by name and code."""

    suppliers: dict[str, tuple[int, str | None]]
    packages: dict[str, tuple[int, str]]


@dataclass
class Counts:
    seen: int = 0
    accepted: int = 0
    refused: int = 0


class Progress:
    """Tells how far a task is, outside its transaction, a few times a second at most."""

    def __init__(self, connection: asyncpg.Connection[Any], task_id: int) -> None:
        self._connection = connection
        self._task_id = task_id
        self._told = time.monotonic()

    async def tell(self, counts: Counts, *, total: int | None = None) -> None:
        now = time.monotonic()
        if now - self._told < PROGRESS_SECONDS and total is None:
            return
        self._told = now
        await self._connection.execute(
            "UPDATE task SET done = $2, failed = $3, total = coalesce($4, total), updated_at = now() WHERE id = $1",
            self._task_id,
            counts.accepted,
            counts.refused,
            total,
        )


async def enter(database: Database, files: FileStore, task_id: int) -> None:
    """Runs a task that enters cards. Safe to repeat: a finished task is left alone, one that broke begins again."""
    everything = system("enter sim cards")
    async with database.transaction(everything) as session:
        task = await session.scalar(select(Task).where(Task.id == task_id).with_for_update())
        if task is None or task.status in (TaskStatus.SUCCEEDED, TaskStatus.FAILED):
            return
        task.status, task.started_at = TaskStatus.RUNNING, datetime.now(UTC)
        task.done = task.failed = 0
        source = None
        if task.source_file_id is not None:
            source = await session.scalar(select(StoredFile).where(StoredFile.id == task.source_file_id))
    owner = system("enter sim cards", task.tenant_path, task.tenant_id)
    try:
        # a second worker that was given the same task waits for the lock, then finds it done
        async with _raw(database, owner) as main, _raw(database, owner) as beside, _one_at_a_time(beside, task_id):
            if await beside.fetchval("SELECT status FROM task WHERE id = $1", task_id) != "RUNNING":
                return
            await _run(main, Progress(beside, task_id), files, task, source)
    except SpreadsheetError as error:
        params = {k: ", ".join(v) if isinstance(v, tuple) else v for k, v in error.params.items()}
        await _fail(database, owner, task_id, error.code, render(error.code, "en", params))
    except Exception as error:
        log.exception("a task that enters cards failed", task=task_id)
        await _fail(database, owner, task_id, "INTERRUPTED", render("INTERRUPTED", "en", {}))
        raise error


async def abandoned(database: Database) -> list[int]:
    """Tasks whose worker has died: they run by their status, and nobody holds their lock; or they have waited for a
    quarter of an hour, as when the broker lost what it was told."""
    async with database.transaction(system("find abandoned tasks")) as session:
        running = await session.scalars(
            select(Task.id)
            .where(
                Task.status == TaskStatus.RUNNING, func.pg_try_advisory_xact_lock(ENTRY_LOCK, cast(Task.id, Integer))
            )
            .order_by(Task.id)
        )
        waiting = await session.scalars(
            select(Task.id)
            .where(Task.status == TaskStatus.QUEUED, Task.created_at < func.now() - PATIENCE)
            .order_by(Task.id)
        )
        return [*running, *waiting]


async def _fail(database: Database, owner: Principal, task_id: int, code: str, message: str) -> None:
    async with database.transaction(owner) as session:
        await session.execute(
            update(Task)
            .where(Task.id == task_id)
            .values(
                status=TaskStatus.FAILED,
                error_code=code,
                error_message=message,
                done=0,
                failed=0,
                finished_at=datetime.now(UTC),
            )
        )
        session.add(
            OutboxEvent(
                tenant_id=owner.tenant_id,
                tenant_path=owner.path,
                topic=TASK_FINISHED,
                payload={"task": task_id, "status": "FAILED"},
            )
        )


@contextlib.asynccontextmanager
async def _raw(database: Database, owner: Principal) -> AsyncIterator[asyncpg.Connection[Any]]:
    """A driver connection of its own, for COPY, seeing the owner's rows only."""
    dsn = database.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    connection = await asyncpg.connect(dsn, ssl=False, server_settings={"TimeZone": "UTC"})
    try:
        await connection.execute(f"SELECT set_config('{PATH_SETTING}', $1, false)", owner.path)
        yield connection
    finally:
        await connection.close()


@contextlib.asynccontextmanager
async def _one_at_a_time(connection: asyncpg.Connection[Any], task_id: int) -> AsyncIterator[None]:
    await connection.execute("SELECT pg_advisory_lock($1, $2::int)", ENTRY_LOCK, task_id)
    try:
        yield
    finally:
        await connection.execute("SELECT pg_advisory_unlock($1, $2::int)", ENTRY_LOCK, task_id)


async def _run(
    main: asyncpg.Connection[Any], progress: Progress, files: FileStore, task: Task, source: StoredFile | None
) -> None:
    counts = Counts()
    catalogue = await _catalogue(main)
    rows: Iterable[tuple[Any, ...]]
    if task.kind is TaskKind.SIM_IMPORT:
        assert source is not None
        rows = (staged(row, catalogue) for row in read(files.path(source.sha256), source.name, COLUMNS))
        mode = SimEntryMode.IMPORT
    else:
        rows = _range_rows(task.parameters)
        mode = SimEntryMode.RANGE
    async with main.transaction():
        await main.execute(STAGING)
        await main.copy_records_to_table("staging", records=_counted(rows, counts, progress), columns=STAGED)
        await main.execute("CREATE INDEX ON staging (iccid)")
        await main.execute("ANALYZE staging")
        await main.execute("SELECT pg_advisory_xact_lock($1)", ENTRY_LOCK)
        for column in ("iccid", "imsi"):
            await main.execute(REPEATED.format(column=column))
        for column in ("iccid", "imsi"):
            await main.execute(KNOWN.format(column=column))
        counts.refused = await main.fetchval("SELECT count(*) FROM staging WHERE refusal IS NOT NULL")
        counts.accepted = counts.seen - counts.refused
        await progress.tell(counts, total=counts.seen)
        await main.execute(ENTER, task.tenant_id, task.tenant_path, mode.name)
        await main.execute(BIND)
        await main.execute(REFUSE, task.tenant_id, task.tenant_path, task.id)
        refused = await _refused_file(main, files, task) if counts.refused else None
        await main.execute(
            "UPDATE task SET status = 'SUCCEEDED', done = $2, failed = $3, total = $4, refused_file_id = $5, "
            "finished_at = now(), updated_at = now() WHERE id = $1",
            task.id,
            counts.accepted,
            counts.refused,
            counts.seen,
            refused,
        )
        told = orjson.dumps({"task": task.id, "status": "SUCCEEDED"}).decode()
        await main.execute(TELL, task.tenant_id, task.tenant_path, TASK_FINISHED, told)


async def _catalogue(connection: asyncpg.Connection[Any]) -> Catalogue:
    suppliers = await connection.fetch("SELECT id, name, carrier FROM supplier WHERE status = 'ACTIVE'")
    packages = await connection.fetch("SELECT id, code, carrier FROM data_package WHERE status = 'ACTIVE'")
    return Catalogue(
        {row["name"]: (row["id"], row["carrier"]) for row in suppliers},
        {row["code"]: (row["id"], row["carrier"]) for row in packages},
    )


async def _counted(
    rows: Iterable[tuple[Any, ...]], counts: Counts, progress: Progress
) -> AsyncIterator[tuple[Any, ...]]:
    for row in rows:
        counts.seen += 1
        if row[-1] is None:
            counts.accepted += 1
        else:
            counts.refused += 1
        if counts.seen % PROGRESS_EVERY == 0:
            await progress.tell(counts)
        yield row


def staged(row: Row, catalogue: Catalogue) -> tuple[Any, ...]:
    """A row of the spreadsheet as it is staged, with the first fault found in it."""
    values = row.values
    supplier_id, package_id, carrier, sim_type = None, None, None, None
    at, refusal = _identifier_fault(row)
    if refusal is None:
        for check in (_carrier, _sim_type, _supplier, _package):
            found = check(values, catalogue)
            if isinstance(found, str):
                at, refusal = check.__name__.removeprefix("_"), found
                break
            if check is _carrier:
                carrier = found
            elif check is _sim_type:
                sim_type = found
            elif check is _supplier:
                supplier_id = found
            else:
                package_id = found
    return (
        row.number,
        values["iccid"],
        values["imsi"],
        values["msisdn"],
        values["carrier"] if carrier is None else carrier.name,
        values["supplier"],
        values["sim_type"] if sim_type is None else sim_type.name,
        values["apn"],
        values["package"],
        values["remark"],
        supplier_id,
        package_id,
        at,
        refusal,
    )


def _identifier_fault(row: Row) -> tuple[str | None, str | None]:
    for name in IDENTIFIERS:
        if name in row.formulas:
            return name, "FORMULA"
    iccid = row.values["iccid"]
    if iccid is None:
        return "iccid", "ICCID_MISSING"
    if "iccid" in row.numeric:
        return "iccid", "NUMBER_LOST_PRECISION"
    wrong = numbers.fault(iccid)
    if wrong is not None:
        return "iccid", wrong
    for name in ("imsi", "msisdn"):
        value = row.values[name]
        if value is not None and not (value.isascii() and value.isdigit() and 5 <= len(value) <= 20):
            return name, "NOT_DIGITS"
    return None, None


def _carrier(values: dict[str, str | None], _: Catalogue) -> Any:
    named = CARRIERS.get((values["carrier"] or "").upper())
    if named is None:
        return "UNKNOWN_CARRIER"
    return named if numbers.PREFIXES[(values["iccid"] or "")[:6]] is named else "CARRIER_DIFFERS"


def _sim_type(values: dict[str, str | None], _: Catalogue) -> Any:
    return SIM_TYPES.get((values["sim_type"] or "").upper(), "UNKNOWN_TYPE")


def _supplier(values: dict[str, str | None], catalogue: Catalogue) -> Any:
    found = catalogue.suppliers.get(values["supplier"] or "")
    if found is None:
        return "UNKNOWN_SUPPLIER"
    return found[0] if found[1] in (None, numbers.PREFIXES[(values["iccid"] or "")[:6]].name) else "SUPPLIER_CARRIER"


def _package(values: dict[str, str | None], catalogue: Catalogue) -> Any:
    if values["package"] is None:
        return None
    found = catalogue.packages.get(values["package"])
    if found is None:
        return "UNKNOWN_PACKAGE"
    return found[0] if found[1] == numbers.PREFIXES[(values["iccid"] or "")[:6]].name else "PACKAGE_CARRIER"


def _range_rows(parameters: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
    carrier = numbers.PREFIXES[parameters["first"][:6]].name
    cards = numbers.between(parameters["first"], parameters["last"], with_check_digit=parameters["with_check_digit"])
    for number, iccid in enumerate(cards, 1):
        yield (
            number,
            iccid,
            None,
            None,
            carrier,
            None,
            parameters["sim_type"],
            parameters["apn"],
            None,
            None,
            parameters["supplier_id"],
            parameters["package_id"],
            None,
            None,
        )


async def _refused_file(connection: asyncpg.Connection[Any], files: FileStore, task: Task) -> int:
    """The refused rows as a spreadsheet with the same headings, and why: ready to be corrected and imported."""
    names = [column.name for column in COLUMNS]
    headings = [HEADINGS[name] for name in names] + ["行号", "原因", "Reason"]
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "refused.xlsx"
        rows = [
            [*(_shown(row, name) for name in names), str(row["row_number"]), *_reasons(row["refusal"], row[row["at"]])]
            async for row in connection.cursor(
                "SELECT * FROM staging WHERE refusal IS NOT NULL ORDER BY row_number", prefetch=5_000
            )
        ]
        write_rows(made, "xlsx", headings, rows)
        files.folder.mkdir(parents=True, exist_ok=True)
        moved = files.folder / f"refused-{task.id}"
        moved.write_bytes(made.read_bytes())
    stored = files.keep_file(moved)
    return int(
        await connection.fetchval(
            "INSERT INTO stored_file (tenant_id, tenant_path, sha256, name, content_type, size) "
            "VALUES ($1, $2, $3, $4, $5, $6) RETURNING id",
            task.tenant_id,
            task.tenant_path,
            stored.sha256,
            f"refused-{task.id}.xlsx",
            "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
            stored.size,
        )
    )


def _shown(row: asyncpg.Record, name: str) -> str | None:
    """A cell of the refused rows. A damaged number is left out: as text it might pass for a real one."""
    damaged = row["at"] == name and row["refusal"] == "NUMBER_LOST_PRECISION"
    value: str | None = None if damaged else row[name]
    return value


def _reasons(code: str, value: str | None) -> tuple[str, str]:
    params = {"value": value or ""}
    return render(code, "zh", params), render(code, "en", params)
