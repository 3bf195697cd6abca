"""Many cards entering the inventory in one transaction, from a spreadsheet or a range (S0-03, S0-05).

Rows stream through the checks that concern one row into a staging table by COPY; the checks that concern the set
(repeats, the inventory) are statements. Memory does not grow with the file. Nothing is entered before everything
has been checked: a worker that dies leaves nothing, and the task begins again.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

from authz.session import Database
from models.catalog import Carrier
from models.sim import SimEntryMode, SimType
from models.system import Task, TaskKind
from services.files import FileStore
from services.messages import render
from services.sim import numbers
from services.spreadsheets import CONTENT_TYPES, Column, Row, SpreadsheetError, read, write_rows
from services.tasks.running import Progress, Run, TaskFailure, carry_out, connected, keep_file, succeed

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


async def enter(database: Database, files: FileStore, task_id: int) -> None:
    """Carries out a task that enters cards. One that is called off, or fails, has entered none."""
    await carry_out(database, task_id, "enter sim cards", lambda run: _enter(database, files, run))


async def _enter(database: Database, files: FileStore, run: Run) -> None:
    try:
        async with contextlib.AsyncExitStack() as opened:
            path = None
            if run.source is not None:
                path = await opened.enter_async_context(files.local(run.source.sha256))
            main = await opened.enter_async_context(connected(database, run.owner))
            await _check_and_insert(main, files, run, path)
    except SpreadsheetError as error:
        params = {k: ", ".join(v) if isinstance(v, tuple) else v for k, v in error.params.items()}
        raise TaskFailure(error.code, render(error.code, "en", params)) from None


async def _check_and_insert(main: asyncpg.Connection[Any], files: FileStore, run: Run, path: Path | None) -> None:
    task, progress = run.task, run.progress
    counts = Counts()
    catalogue = await _catalogue(main)
    rows: Iterable[tuple[Any, ...]]
    if task.kind is TaskKind.SIM_IMPORT:
        assert run.source is not None
        assert path is not None
        rows = (staged(row, catalogue) for row in read(path, run.source.name, COLUMNS))
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
        await progress.tell(counts.accepted, counts.refused, total=counts.seen)
        await main.execute(ENTER, task.tenant_id, task.tenant_path, mode.name)
        await main.execute(BIND)
        await main.execute(REFUSE, task.tenant_id, task.tenant_path, task.id)
        refused = await _refused_file(main, files, task) if counts.refused else None
        await succeed(
            main,
            task,
            done=counts.accepted,
            failed=counts.refused,
            total=counts.seen,
            refused_file_id=refused,
        )


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
            await progress.tell(counts.accepted, counts.refused)
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
    return await keep_file(
        connection, task, files.keep_file(moved), name=f"refused-{task.id}.xlsx", content_type=CONTENT_TYPES["xlsx"]
    )


def _shown(row: asyncpg.Record, name: str) -> str | None:
    """A cell of the refused rows. A damaged number is left out: as text it might pass for a real one."""
    damaged = row["at"] == name and row["refusal"] == "NUMBER_LOST_PRECISION"
    value: str | None = None if damaged else row[name]
    return value


def _reasons(code: str, value: str | None) -> tuple[str, str]:
    params = {"value": value or ""}
    return render(code, "zh-CN", params), render(code, "en", params)
