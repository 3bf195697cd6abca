"""Workers that die while they write a list, that meet, and that are told to stop: the file is there once, or not."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from models.system import TaskKind
from services import exports
from services.tasks.running import abandoned
from tests.conftest import Place
from tests.support.exported import cards_of, fetched, more_cards, rows_of, started, task_of
from tests.support.workers import CELERY, OURS, PATIENCE, key_of, process, until
from tests.support.world import World

CARDS = "{ simCards { nodes { displayIccid imsi msisdn carrier simType status activatedAt holder { name } } } }"
MANY = 20_000
WORKER = "import sys; from server.exporting import run_export; run_export(int(sys.argv[1]))"


def folder_of(world: World, id: str) -> Path:
    """Where a worker writes."""
    return world.client.application.runtime.files.folder / f"task-{key_of(id)}"


async def writing(world: World, id: str) -> None:
    """Waits until a worker writes."""
    deadline = time.monotonic() + PATIENCE
    while not folder_of(world, id).is_dir() or not any(folder_of(world, id).iterdir()):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


async def assert_written_once(world: World, id: str) -> None:
    task = await task_of(world, "north", id)
    assert (task["status"], task["total"], task["done"]) == ("SUCCEEDED", MANY + 18, MANY + 18)
    rows = rows_of(await fetched(world, task["resultFileUrl"]), "CSV")[1:]
    assert sorted(row[0] for row in rows) == sorted(await cards_of(world, "north"))
    await assert_files_are(world, 1)


async def assert_files_are(world: World, count: int) -> None:
    """So many files are kept, each known by its row, and nothing of what was being written is left."""
    sums = [row["sha256"] for row in await world.sql("SELECT sha256 FROM stored_file")]
    assert len(sums) == count
    folder = world.client.application.runtime.files.folder
    assert sorted(path.name for path in folder.rglob("*") if path.is_file()) == sorted(sums)
    assert list(folder.glob("task-*")) == []


@pytest.mark.timeout(120)
async def test_a_worker_killed_while_it_writes_leaves_the_list_to_another(world: World, place: Place) -> None:
    await more_cards(world, "north", MANY)
    id = await started(world, "north", CARDS)
    database = world.client.application.runtime.database
    with process(place, "-c", WORKER, str(key_of(id))) as worker:
        await writing(world, id)
        worker.send_signal(signal.SIGSTOP)
        assert (await task_of(world, "north", id))["status"] == "RUNNING"
        assert await abandoned(database) == []
        worker.send_signal(signal.SIGKILL)
        worker.wait(10)
    assert worker.returncode == -signal.SIGKILL
    await until(world, f"NOT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND {OURS})")
    task = await task_of(world, "north", id)
    assert (task["status"], task["resultFileUrl"]) == ("RUNNING", None)
    assert folder_of(world, id).is_dir()
    assert await abandoned(database) == [(TaskKind.EXPORT, key_of(id))]

    await world.client.work_off()
    await assert_written_once(world, id)
    # what is delivered a third time finds it done
    await world.client.work_off()
    await assert_written_once(world, id)


@pytest.mark.timeout(120)
async def test_a_celery_worker_gives_what_a_killed_process_wrote_to_another(world: World, place: Place) -> None:
    await more_cards(world, "north", MANY)
    id = await started(world, "north", CARDS)
    with process(place, *CELERY) as worker:
        broker = Celery(broker=place.settings.redis_url)
        broker.send_task("tasks.outbox.relay", queue="trellis", ignore_result=True)
        broker.close()
        await writing(world, id)
        for child in Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split():
            os.kill(int(child), signal.SIGKILL)
        await until(world, "(SELECT status FROM task WHERE id = $1) = 'SUCCEEDED'", key_of(id))
    await assert_written_once(world, id)


async def test_workers_with_one_export_write_it_once(world: World) -> None:
    await more_cards(world, "north", MANY)
    id = await started(world, "north", CARDS)
    runtime = world.client.application.runtime
    await asyncio.gather(*(exports.carry_out(runtime, key_of(id)) for _ in range(3)))
    await assert_written_once(world, id)


@pytest.mark.parametrize("format", ["CSV", "XLSX"])
async def test_an_export_that_runs_is_called_off_and_leaves_no_file(world: World, format: str) -> None:
    await more_cards(world, "north", MANY)
    id = await started(world, "north", CARDS, format=format)
    worker = asyncio.create_task(exports.carry_out(world.client.application.runtime, key_of(id)))
    await writing(world, id)
    cancel = "mutation($id: ID!) { cancelTask(id: $id) { task { status cancelRequestedAt } errors { code } } }"
    payload: dict[str, Any] = (await world.data("north", cancel, {"id": id}))["cancelTask"]
    assert payload["errors"] == []
    assert payload["task"]["cancelRequestedAt"] is not None
    await worker
    task = await task_of(world, "north", id)
    assert (task["status"], task["done"], task["errorCode"], task["resultFileUrl"]) == ("CANCELLED", 0, None, None)
    assert task["finishedAt"] is not None
    await assert_files_are(world, 0)
