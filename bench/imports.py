"""A million rows through the import, as CSV and as a workbook, against a bare COPY of the same cards."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import asyncpg
from stdnum import luhn

from bench import tables
from bench.data import FULL
from bench.services import SECRET, Place
from server.settings import PROJECT
from services.files import FileStore
from services.keys import Keys
from services.sim.entering import HEADINGS
from services.spreadsheets import write_rows

DATABASE = "bench_import"
Format = Literal["csv", "xlsx"]

CATALOGUE = """
INSERT INTO tenant (id, kind, path, level, next_child, name, status, time_zone, currency)
VALUES (1, 'PLATFORM', '.0001.', 0, 1, 'Platform', 'ACTIVE', 'Asia/Shanghai', 'CNY');
INSERT INTO tenant_closure (tenant_id, tenant_path, ancestor_id, depth) VALUES (1, '.0001.', 1, 0);
INSERT INTO supplier (id, tenant_id, tenant_path, supplier_type, name, carrier, interface_name, status)
VALUES (1, 1, '.0001.', 'CARRIER', 'Carrier', 'CMCC', 'sandbox', 'ACTIVE');
INSERT INTO data_package (id, tenant_id, tenant_path, code, name, carrier, period_type, data_volume_mb,
                          channel_price, sale_price, currency, supplier_id, status)
VALUES (1, 1, '.0001.', 'P-1', 'Plan 1', 'CMCC', 'MONTHLY', 1024, 10, 20, 'CNY', 1, 'ACTIVE');
"""
TASK = """
WITH file AS (
    INSERT INTO stored_file (tenant_id, tenant_path, sha256, name, content_type, size)
    VALUES (1, '.0001.', $1, $2, 'application/octet-stream', $3) RETURNING id
)
INSERT INTO task (tenant_id, tenant_path, kind, status, done, failed, parameters, source_file_id)
SELECT 1, '.0001.', 'SIM_IMPORT', 'QUEUED', 0, 0, '{}', id FROM file RETURNING id
"""
COPIED = (
    "tenant_id, tenant_path, iccid, imsi, msisdn, carrier, sim_type, entry_mode, status, apn, supplier_id, "
    "package_id, remark"
)
EMPTY = "TRUNCATE sim_card, sim_package_binding, task, task_refusal, stored_file CASCADE"
LIKE = "CREATE TABLE copied (LIKE sim_card INCLUDING DEFAULTS INCLUDING GENERATED INCLUDING IDENTITY {more})"
BARE = {"no index": "", "all indexes": "INCLUDING INDEXES INCLUDING CONSTRAINTS"}


def _rows(count: int) -> Iterator[list[str | None]]:
    for n in range(count):
        body = f"8986009{n:012d}"
        yield [
            body + luhn.calc_check_digit(body), f"46001{n:010d}", f"1065{n:09d}", "中国移动", "Carrier",
            "机械卡" if n % 2 else "消费卡", "cmiot", "P-1", None,
        ]  # fmt: skip


def _spreadsheet(folder: Path, format: Format, count: int) -> Path:
    """Made once and kept: a workbook of a million rows takes a minute."""
    made = folder / f"cards-{count}.{format}"
    if not made.exists():
        print(f"writing {made.name} (once) ...", flush=True)
        draft = made.with_suffix(".draft")
        write_rows(draft, format, list(HEADINGS.values()), _rows(count))
        draft.rename(made)
    return made


async def _imported(place: Place, source: Path, count: int) -> tuple[float, float]:
    """Seconds and peak megabytes of a process that imports a file into an empty inventory."""
    store = FileStore(place.state.path / "files", Keys(SECRET))
    copy = store.folder / "incoming"
    store.folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, copy)
    stored = store.keep_file(copy)
    connection = await place.superuser(DATABASE)
    try:
        await connection.execute(EMPTY)
        task = await connection.fetchval(TASK, stored.sha256, source.name, stored.size)
        done = subprocess.run(  # noqa: ASYNC221 - nothing else happens meanwhile
            [sys.executable, "-m", "bench.import_once", str(task)],
            env=place.environment(DATABASE),
            cwd=PROJECT,
            capture_output=True,
            text=True,
            check=True,
            preexec_fn=lambda: os.sched_setaffinity(0, place.cores.server),
        )
        state = await connection.fetchrow("SELECT status, done, failed, error_message FROM task WHERE id = $1", task)
        entered = await connection.fetchval("SELECT count(*) FROM sim_card")
    finally:
        await connection.close()
        store.path(stored.sha256).unlink(missing_ok=True)
    if entered != count or state is None or state["status"] != "SUCCEEDED":
        raise RuntimeError(f"the import entered {entered} of {count} cards: {state} {done.stderr[-1000:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    return found["seconds"], found["peak_mb"]


async def _copied(connection: asyncpg.Connection[asyncpg.Record], file: Path, more: str) -> float:
    """Seconds of a COPY of the same cards into an equal table, in one transaction."""
    await connection.execute("DROP TABLE IF EXISTS copied")
    await connection.execute(LIKE.format(more=more))
    started = time.perf_counter()
    await connection.copy_to_table("copied", source=file, columns=COPIED.split(", "), format="csv")
    taken = time.perf_counter() - started
    await connection.execute("DROP TABLE copied")
    return taken


async def run(place: Place, cards: int, rounds: int, seconds: float) -> dict[str, Any]:  # noqa: ARG001
    count = min(cards, FULL)
    folder = place.state.path / "spreadsheets"
    folder.mkdir(exist_ok=True)
    sources: dict[Format, Path] = {
        "csv": _spreadsheet(folder, "csv", count),
        "xlsx": _spreadsheet(folder, "xlsx", count),
    }
    await _prepare(place)
    rows = []
    imports = {}
    for format, source in sources.items():
        taken, peak = imports[format] = await _imported(place, source, count)
        rows.append([f"import of {format}", f"{taken:.1f}", f"{peak:.0f}"])
    copies = {}
    connection = await place.superuser(DATABASE)
    try:
        dump = folder / "copied.csv"
        await connection.copy_from_query(f"SELECT {COPIED} FROM sim_card ORDER BY id", output=dump, format="csv")
        for name, more in BARE.items():
            taken = copies[name] = await _copied(connection, dump, more)
            rows.append([f"COPY, {name}", f"{taken:.1f}", ""])
        dump.unlink()
    finally:
        await connection.close()
    place.drop(DATABASE)
    tables.show([f"{count:,} cards", "seconds", "peak MB"], rows)
    return {"import": {"rows": count, **{f: _against(copies, *found) for f, found in imports.items()}}}


def _against(copies: dict[str, float], taken: float, peak: float) -> dict[str, float]:
    ratios = {f"ratio_to_copy_{name.replace(' ', '_')}": round(taken / copy, 2) for name, copy in copies.items()}
    return {"seconds": round(taken, 1), "peak_mb": round(peak), **ratios}


async def _prepare(place: Place) -> None:
    await asyncio.to_thread(place.create_migrated, DATABASE)
    connection = await place.superuser(DATABASE)
    try:
        await connection.execute(CATALOGUE)
    finally:
        await connection.close()
