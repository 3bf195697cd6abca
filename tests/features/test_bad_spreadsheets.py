"""Spreadsheets that are broken, hostile or half done: the whole file is refused by name, or entered exactly once."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import time
import zipfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import xlsxwriter
from celery import Celery
from stdnum import luhn

from services.sim.entering import ENTRY_LOCK, enter
from tests.conftest import Place
from tests.support.workers import CELERY, OURS, PATIENCE, key_of, process, until
from tests.support.world import World

IMPORT = """mutation($file: Upload!) { importSimCards(file: $file) { task { id } errors { code field } } }"""
TASK = """query($id: ID!) { task(id: $id) {
    status total done failed errorCode errorMessage finishedAt refusedFileUrl
    refusals(first: 9) { totalCount nodes { rowNumber code } } } }"""
HEADINGS = ["ICCID", "运营商", "供应商", "卡类型"]
MAIN = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
SHEET = "xl/worksheets/sheet1.xml"
OLE_MAGIC = bytes.fromhex("d0cf11e0a1b11ae1")


def iccid(number: int) -> str:
    body = str(8986001234567800000 + number)
    return body + str(luhn.calc_check_digit(body))


def good_rows(count: int) -> list[list[str]]:
    return [[iccid(n), "CMCC", "移动OneLink", "机械卡"] for n in range(count)]


def csv_of(rows: list[list[str]], headings: list[str] = HEADINGS, encoding: str = "utf-8") -> bytes:
    return "\n".join(",".join(row) for row in [headings, *rows]).encode(encoding)


def workbook(rows: list[list[str]], work: Callable[[Any], None] = lambda sheet: None) -> bytes:
    out = io.BytesIO()
    with xlsxwriter.Workbook(out) as book:
        sheet = book.add_worksheet()
        for number, row in enumerate(rows):
            for place, value in enumerate(row):
                sheet.write_string(number, place, value)
        work(sheet)
    return out.getvalue()


def packed(parts: dict[str, str], flag: int = 0) -> bytes:
    """A workbook with some parts of our own."""
    with zipfile.ZipFile(io.BytesIO(workbook([HEADINGS]))) as archive:
        whole: dict[str, str | bytes] = {name: archive.read(name) for name in archive.namelist()}
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in (whole | parts).items():
            archive.writestr(name, content)
    made = bytearray(out.getvalue())
    made[made.index(b"PK\x01\x02") + 8] |= flag
    return bytes(made)


def sheet_xml(rows: str) -> str:
    cells = "".join(f'<c r="{"ABCD"[n]}1" t="inlineStr"><is><t>{text}</t></is></c>' for n, text in enumerate(HEADINGS))
    return f'<worksheet {MAIN}><sheetData><row r="1">{cells}</row>{rows}</sheetData></worksheet>'


def merge(sheet: Any) -> None:
    sheet.merge_range("A2:B2", "merged")


BAD: dict[str, tuple[str, bytes, str]] = {
    "not a zip": ("cards.xlsx", b"PK\x03\x04 and then nothing of the kind", "BROKEN_FILE"),
    "a truncated workbook": ("cards.xlsx", workbook([HEADINGS, *good_rows(3)])[:-200], "BROKEN_FILE"),
    "a zip of something else": ("cards.xlsx", b"PK\x05\x06" + bytes(18), "NOT_A_SPREADSHEET"),
    "a zip bomb": (
        "cards.xlsx",
        packed({SHEET: sheet_xml(f'<row r="2"><c r="A2" t="inlineStr"><is><t>{"0" * 20_000_000}</t></is></c></row>')}),
        "ZIP_BOMB",
    ),
    "entities": (
        "cards.xlsx",
        packed({SHEET: '<!DOCTYPE x [<!ENTITY a "aaaa">]>' + sheet_xml("")}),
        "BROKEN_FILE",
    ),
    "merged cells": ("cards.xlsx", workbook([HEADINGS, *good_rows(3)], merge), "MERGED_CELLS"),
    "an encrypted part": ("cards.xlsx", packed({}, flag=1), "ENCRYPTED_WORKBOOK"),
    "an encrypted workbook": (
        "cards.xlsx",
        OLE_MAGIC + bytes(4_000) + "EncryptedPackage".encode("utf-16-le"),
        "ENCRYPTED_WORKBOOK",
    ),
    "a workbook of long ago": ("cards.xls", OLE_MAGIC + bytes(4_000) + "Workbook".encode("utf-16-le"), "LEGACY_XLS"),
    "wrong headings": ("cards.csv", csv_of(good_rows(2), ["Number", "运营商", "供应商", "卡类型"]), "MISSING_COLUMNS"),
    "a heading too few": ("cards.xlsx", workbook([HEADINGS[:3], *good_rows(2)]), "MISSING_COLUMNS"),
    "a heading twice": ("cards.csv", csv_of(good_rows(2), ["ICCID", "卡号", *HEADINGS[1:]]), "DUPLICATE_COLUMNS"),
    "headings below": ("cards.xlsx", workbook([[], HEADINGS, *good_rows(2)]), "MISSING_COLUMNS"),
    "an empty workbook": ("cards.xlsx", workbook([]), "EMPTY_FILE"),
    "blank lines": ("cards.csv", b"\r\n ,,\r\n", "EMPTY_FILE"),
    "a web page": ("cards.xls", b"<html><table><tr><td>ICCID</td></tr></table></html>", "NOT_A_SPREADSHEET"),
    "a picture": ("cards.csv", b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "NOT_A_SPREADSHEET"),
    "no encoding": ("cards.csv", b"ICCID\n\xff\xff\xff\n", "UNKNOWN_ENCODING"),
    "a quote never closed": ("cards.csv", csv_of(good_rows(3)) + b'\n"', "BROKEN_FILE"),
    "a cell too long": ("cards.csv", csv_of([*good_rows(3), ["1" * 40_000, "", "", ""]]), "CELL_TOO_LONG"),
    "far too many columns": ("cards.csv", csv_of([*good_rows(3), ["x"] * 400]), "TOO_WIDE"),
    "far too many rows": ("cards.csv", csv_of(good_rows(3)) + b"\n" * 1_100_000, "TOO_MANY_ROWS"),
    "two rows of one number": (
        "cards.xlsx",
        packed({SHEET: sheet_xml('<row r="3"/><row r="2"/>')}),
        "BROKEN_FILE",
    ),
}
"""(its name, its content, why it is refused); some faults stand behind rows that are good."""


async def upload(world: World, name: str, content: bytes) -> str:
    answer = await world.client.upload("admin", IMPORT, (name, content), await world.token("operations"))
    payload = answer.json()["data"]["importSimCards"]
    assert payload["errors"] == []
    id: str = payload["task"]["id"]
    return id


async def task_of(world: World, id: str) -> dict[str, Any]:
    found: dict[str, Any] = (await world.data("operations", TASK, {"id": id}))["task"]
    return found


async def entered(world: World) -> list[str]:
    rows = await world.sql(
        "SELECT iccid FROM sim_card WHERE iccid >= '8986001234567800000' AND iccid < '89860013' ORDER BY iccid, id"
    )
    return [row["iccid"] for row in rows]


async def assert_nothing_left(world: World) -> None:
    """No card, no refusal, no staging table, no lock, no open transaction, no file but what was uploaded."""
    assert await entered(world) == []
    assert (
        await world.sql(
            "SELECT 1 FROM sim_package_binding b JOIN sim_card c ON c.id = b.sim_card_id "
            "WHERE c.entry_mode = 'IMPORT' AND c.iccid LIKE '89860012345678%'"
        )
        == []
    )
    await assert_no_traces(world)
    sums = {row["sha256"] for row in await world.sql("SELECT sha256 FROM stored_file")}
    folder = world.client.application.runtime.files.folder
    assert {path.name for path in folder.rglob("*") if path.is_file()} == sums


async def assert_no_traces(world: World) -> None:
    assert await world.sql("SELECT 1 FROM pg_class WHERE relname = 'staging'") == []
    # locks are listed for the whole server, on which other tests run beside this one
    held = """SELECT 1 FROM pg_locks WHERE locktype = 'advisory'
              AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"""
    assert await world.sql(held) == []
    assert (
        await world.sql(
            "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in transaction%'"
        )
        == []
    )


@pytest.mark.feature("S0-05")
@pytest.mark.parametrize("fault", BAD)
async def test_a_bad_file_fails_by_name_and_a_good_one_follows(world: World, fault: str) -> None:
    name, content, code = BAD[fault]
    refusals = await world.sql("SELECT count(*) FROM task_refusal")
    id = await upload(world, name, content)
    assert await world.client.work_off() == 1
    task = await task_of(world, id)
    assert (task["status"], task["errorCode"]) == ("FAILED", code)
    assert task["errorMessage"]
    assert task["finishedAt"] is not None
    assert (task["done"], task["failed"], task["refusals"]["totalCount"], task["refusedFileUrl"]) == (0, 0, 0, None)
    assert await world.sql("SELECT count(*) FROM task_refusal") == refusals
    await assert_nothing_left(world)

    # a failed task is not begun again, and does not stand in the way of the next
    await world.sql("UPDATE outbox_event SET sent_at = now()")
    id = await upload(world, "good.csv", csv_of(good_rows(4)))
    assert await world.client.work_off() == 1
    task = await task_of(world, id)
    assert (task["status"], task["done"], task["failed"]) == ("SUCCEEDED", 4, 0)
    assert await entered(world) == [iccid(n) for n in range(4)]


@pytest.mark.feature("S0-05")
async def test_an_empty_upload_is_refused_at_once(world: World) -> None:
    before = await world.sql(
        "SELECT (SELECT count(*) FROM task) AS tasks, (SELECT count(*) FROM outbox_event) AS events"
    )
    answer = await world.client.upload("admin", IMPORT, ("cards.csv", b""), await world.token("operations"))
    assert answer.json()["data"]["importSimCards"] == {
        "task": None,
        "errors": [{"code": "EMPTY_FILE", "field": "file"}],
    }
    assert before == await world.sql(
        "SELECT (SELECT count(*) FROM task) AS tasks, (SELECT count(*) FROM outbox_event) AS events"
    )
    assert await world.client.work_off() == 0


@pytest.mark.feature("S0-05")
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030", "utf-16"])
async def test_a_csv_in_whatever_encoding(world: World, encoding: str) -> None:
    id = await upload(world, "cards.csv", csv_of(good_rows(3), encoding=encoding))
    await world.client.work_off()
    task = await task_of(world, id)
    assert (task["status"], task["errorCode"], task["done"]) == ("SUCCEEDED", None, 3)
    assert await entered(world) == [iccid(n) for n in range(3)]


@pytest.mark.feature("S0-05")
async def test_rows_at_fault_do_not_hold_up_the_others(world: World) -> None:
    """Formulas, unknown suppliers and carriers are faults of their row; the workbook is good."""

    def formulas(sheet: Any) -> None:
        sheet.write_formula("A2", '="8986" & "0012345678000001"', None, iccid(50))
        sheet.write_formula("C3", "=B3", None, "移动OneLink")

    rows = [HEADINGS, *good_rows(5)]
    rows[3][2], rows[4][1] = "Nobody", "Nowhere Telecom"
    id = await upload(world, "cards.xlsx", workbook(rows, formulas))
    await world.client.work_off()
    task = await task_of(world, id)
    assert (task["status"], task["total"], task["done"], task["failed"]) == ("SUCCEEDED", 5, 1, 4)
    assert [(r["rowNumber"], r["code"]) for r in task["refusals"]["nodes"]] == [
        (2, "FORMULA"),
        (3, "UNKNOWN_SUPPLIER"),
        (4, "UNKNOWN_SUPPLIER"),
        (5, "UNKNOWN_CARRIER"),
    ]
    assert await entered(world) == [iccid(4)]


@pytest.mark.feature("S0-05")
async def test_a_million_empty_rows_are_passed_over(world: World) -> None:
    last = "".join(
        f'<c r="{"ABCD"[n]}1000001" t="inlineStr"><is><t>{text}</t></is></c>' for n, text in enumerate(good_rows(1)[0])
    )
    # as a formatted sheet has them; drawn out, so that they are no bomb
    empty = "".join(f'<row r="{n}" x="{n * 2654435761 % 2**32:x}"/>' for n in range(2, 1_000_001))
    id = await upload(world, "cards.xlsx", packed({SHEET: sheet_xml(f'{empty}<row r="1000001">{last}</row>')}))
    started = time.monotonic()
    await world.client.work_off()
    task = await task_of(world, id)
    assert (task["status"], task["errorCode"], task["total"], task["done"]) == ("SUCCEEDED", None, 1, 1)
    assert await entered(world) == [iccid(0)]
    assert time.monotonic() - started < PATIENCE


# -- workers that die, and workers that meet --------------------------------------------------------------------------

WORKER = """
import asyncio, sys
from pathlib import Path
from authz.session import Database
from services.files import FileStore
from services.keys import Keys
from services.sim.entering import enter
from tasks.settings import TaskSettings

async def work() -> None:
    settings = TaskSettings()
    files = FileStore(settings.state_dir / "files", Keys(settings.secret_key.get_secret_value()))
    await enter(Database(settings.database_url, pooled=False), files, int(sys.argv[1]))

asyncio.run(work())
"""


@asynccontextmanager
async def held_up(world: World) -> AsyncIterator[None]:
    """Nobody gets past the point where everything is staged and nothing entered."""
    connection = await asyncpg.connect(world.superuser_url, ssl=False)
    try:
        await connection.execute("SELECT pg_advisory_lock($1)", ENTRY_LOCK)
        yield
    finally:
        await connection.close()


STAGED = f"EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND {OURS})"


@pytest.mark.feature("S0-05")
@pytest.mark.timeout(90)
async def test_a_worker_killed_in_the_middle_leaves_nothing_and_the_next_enters_all(world: World, place: Place) -> None:
    id = await upload(world, "cards.csv", csv_of([*good_rows(5_000), ["1", "CMCC", "移动OneLink", "机械卡"]]))
    with process(place, "-c", WORKER, str(key_of(id))) as worker:
        async with held_up(world):
            await until(world, STAGED)
            assert (await task_of(world, id))["status"] == "RUNNING"
            worker.send_signal(signal.SIGKILL)
            worker.wait(10)
    assert worker.returncode == -signal.SIGKILL
    await until(world, f"NOT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND {OURS})")
    await assert_nothing_left(world)
    assert (await task_of(world, id))["status"] == "RUNNING"

    assert await world.client.work_off() == 1
    task = await task_of(world, id)
    assert (task["status"], task["total"], task["done"], task["failed"]) == ("SUCCEEDED", 5_001, 5_000, 1)
    assert [(r["rowNumber"], r["code"]) for r in task["refusals"]["nodes"]] == [(5_002, "TOO_SHORT")]
    assert await entered(world) == sorted(iccid(n) for n in range(5_000))
    # what is delivered a third time finds the task done
    await world.client.work_off()
    assert await task_of(world, id) | {"refusedFileUrl": None} == task | {"refusedFileUrl": None}
    assert len(await entered(world)) == 5_000
    await assert_no_traces(world)


@pytest.mark.feature("S0-05")
@pytest.mark.timeout(120)
async def test_a_celery_worker_gives_what_a_killed_process_held_to_another(world: World, place: Place) -> None:
    id = await upload(world, "cards.csv", csv_of(good_rows(500)))
    with process(place, *CELERY) as worker:
        async with held_up(world):
            # the relay itself is a task: it reads the outbox and hands the import to the queue
            broker = Celery(broker=place.settings.redis_url)
            broker.send_task("tasks.outbox.relay", queue="trellis", ignore_result=True)
            broker.close()
            await until(world, STAGED)
            [row] = await world.sql(
                "SELECT count(*) AS n FROM outbox_event WHERE sent_at IS NOT NULL AND topic = 'sim.enter'"
            )
            assert row["n"] == 1
            for child in Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split():
                os.kill(int(child), signal.SIGKILL)
        await until(world, "(SELECT status FROM task WHERE id = $1) = 'SUCCEEDED'", key_of(id))
    task = await task_of(world, id)
    assert (task["status"], task["total"], task["done"], task["failed"]) == ("SUCCEEDED", 500, 500, 0)
    assert await entered(world) == sorted(iccid(n) for n in range(500))


@pytest.mark.feature("S0-05")
async def test_two_workers_with_one_task_enter_its_cards_once(world: World) -> None:
    id = await upload(world, "cards.csv", csv_of([*good_rows(300), ["1", "CMCC", "移动OneLink", "机械卡"]]))
    runtime = world.client.application.runtime
    await asyncio.gather(*(enter(runtime.database, runtime.files, key_of(id)) for _ in range(3)))
    task = await task_of(world, id)
    assert (task["status"], task["total"], task["done"], task["failed"]) == ("SUCCEEDED", 301, 300, 1)
    assert task["refusals"]["totalCount"] == 1
    assert await entered(world) == sorted(iccid(n) for n in range(300))
    await assert_no_traces(world)


@pytest.mark.feature("S0-05")
async def test_two_files_with_the_same_cards_enter_them_once(world: World) -> None:
    ids = [await upload(world, f"{n}.csv", csv_of(good_rows(300)) + b"\n" * n) for n in range(2)]
    runtime = world.client.application.runtime
    await asyncio.gather(*(enter(runtime.database, runtime.files, key_of(id)) for id in ids))
    tasks = [await task_of(world, id) for id in ids]
    assert sorted((task["status"], task["done"], task["failed"]) for task in tasks) == [
        ("SUCCEEDED", 0, 300),
        ("SUCCEEDED", 300, 0),
    ]
    assert await entered(world) == sorted(iccid(n) for n in range(300))
