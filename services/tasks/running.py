"""A task in the hands of a worker: taken up by one at a time, watched, ended once.

A worker holds an advisory lock on a connection that does little else, as long as it lives; a task that runs by its
status while nobody holds its lock was left by a worker that has died, and is given to another, which begins it again.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import orjson
import structlog
from sqlalchemy import Integer, cast, func, select

from authz.principal import Principal, system
from authz.session import Database
from models.security import PATH_SETTING
from models.system import OutboxEvent, StoredFile, Task, TaskKind, TaskStatus
from services.files import Stored
from services.messages import render
from services.webhook.events import TASK_FINISHED

log = structlog.get_logger()

TASK_LOCK = 0x5441534B
PROGRESS_SECONDS = 0.5
PATIENCE = timedelta(minutes=15)
IN_PARTS = frozenset({TaskKind.BATCH_RECHARGE})
"""Tasks of which the parts that are done stay done when the rest is called off."""
ENDED = frozenset({TaskStatus.SUCCEEDED, TaskStatus.FAILED, TaskStatus.CANCELLED})

SUCCEED = """
UPDATE task SET status = 'SUCCEEDED', done = $2, failed = $3, total = $4, refused_file_id = $5, result_file_id = $6,
                finished_at = now(), updated_at = now()
WHERE id = $1 AND status = 'RUNNING' AND cancel_requested_at IS NULL RETURNING id
"""
TELL = """
INSERT INTO outbox_event (tenant_id, tenant_path, key, topic, payload)
VALUES ($1, $2, gen_random_uuid(), $3, $4::jsonb)
"""
KEEP = """
INSERT INTO stored_file (tenant_id, tenant_path, sha256, name, content_type, size, md5)
VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING id
"""


class Cancelled(Exception):
    """The task was called off: the work stops, and nothing of it is kept."""


class TaskFailure(Exception):
    """The whole task fails, for a reason that whoever started it can do something about."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Progress:
    """Tells how far a task is, outside its transaction, a few times a second at most."""

    def __init__(self, connection: asyncpg.Connection[Any], task_id: int) -> None:
        self._connection = connection
        self._task_id = task_id
        self._told = time.monotonic()

    async def tell(self, done: int, failed: int = 0, *, total: int | None = None) -> None:
        """Raises Cancelled where the task was called off meanwhile."""
        now = time.monotonic()
        if now - self._told < PROGRESS_SECONDS and total is None:
            return
        self._told = now
        cancelled = await self._connection.fetchval(
            "UPDATE task SET done = $2, failed = $3, total = coalesce($4, total), updated_at = now() WHERE id = $1 "
            "RETURNING cancel_requested_at IS NOT NULL",
            self._task_id,
            done,
            failed,
            total,
        )
        if cancelled:
            raise Cancelled


@dataclass(frozen=True)
class Run:
    """A task that this worker alone is carrying out, as whom it acts, and the connection that holds its lock."""

    task: Task
    owner: Principal
    source: StoredFile | None
    progress: Progress
    connection: asyncpg.Connection[Any]


async def carry_out(database: Database, task_id: int, purpose: str, work: Callable[[Run], Awaitable[None]]) -> None:
    """Does a task. Safe to repeat: one that has ended is left alone, one that broke begins again.

    A second worker that was given the same task waits for the lock, then finds it done.
    """
    async with connected(database, system(purpose)) as connection, _alone(connection, task_id):
        begun = await _begin(database, purpose, task_id)
        if begun is None:
            return
        task, source = begun
        owner = system(purpose, task.tenant_path, task.tenant_id)
        await _act_as(connection, owner)
        try:
            await work(Run(task, owner, source, Progress(connection, task_id), connection))
        except Cancelled:
            await _end(database, owner, task_id, TaskStatus.CANCELLED)
        except TaskFailure as failure:
            await _end(database, owner, task_id, TaskStatus.FAILED, failure)
        except Exception as error:
            log.exception("a task failed", task=task_id, kind=task.kind.name)
            interrupted = TaskFailure("INTERRUPTED", render("INTERRUPTED", "en", {}))
            await _end(database, owner, task_id, TaskStatus.FAILED, interrupted)
            raise error


async def abandoned(database: Database) -> list[tuple[TaskKind, int]]:
    """Tasks whose worker has died: they run by their status, and nobody holds their lock; or they have waited for a
    quarter of an hour, as when the broker lost what it was told."""
    async with database.transaction(system("find abandoned tasks")) as session:
        running = await session.execute(
            select(Task.kind, Task.id)
            .where(Task.status == TaskStatus.RUNNING, func.pg_try_advisory_xact_lock(TASK_LOCK, cast(Task.id, Integer)))
            .order_by(Task.id)
        )
        waiting = await session.execute(
            select(Task.kind, Task.id)
            .where(Task.status == TaskStatus.QUEUED, Task.created_at < func.now() - PATIENCE)
            .order_by(Task.id)
        )
        return [(kind, key) for found in (running, waiting) for kind, key in found]


async def succeed(
    connection: asyncpg.Connection[Any],
    task: Task,
    *,
    done: int,
    failed: int,
    total: int,
    refused_file_id: int | None = None,
    result_file_id: int | None = None,
) -> None:
    """Ends a task in the transaction that did its work. Raises Cancelled where it was called off before."""
    ended = await connection.fetchval(SUCCEED, task.id, done, failed, total, refused_file_id, result_file_id)
    if ended is None:
        raise Cancelled
    told = orjson.dumps({"task": task.id, "status": "SUCCEEDED"}).decode()
    await connection.execute(TELL, task.tenant_id, task.tenant_path, TASK_FINISHED, told)


async def keep_file(
    connection: asyncpg.Connection[Any], task: Task, stored: Stored, *, name: str, content_type: str
) -> int:
    """A file that a task has made, as its tenant's; gives its key."""
    return int(
        await connection.fetchval(
            KEEP, task.tenant_id, task.tenant_path, stored.sha256, name, content_type, stored.size, stored.md5
        )
    )


async def still_wanted(run: Run) -> None:
    """Holds the task as it is until the transaction ends. Raises Cancelled where it was called off."""
    wanted = await run.connection.fetchval(
        "SELECT cancel_requested_at IS NULL FROM task WHERE id = $1 FOR UPDATE", run.task.id
    )
    if not wanted:
        raise Cancelled


def told_of(task: Task) -> OutboxEvent:
    """The event that a task has ended."""
    return OutboxEvent(
        tenant_id=task.tenant_id,
        tenant_path=task.tenant_path,
        topic=TASK_FINISHED,
        payload={"task": task.id, "status": task.status.name},
    )


@contextlib.asynccontextmanager
async def connected(database: Database, owner: Principal) -> AsyncIterator[asyncpg.Connection[Any]]:
    """A driver connection of its own, seeing the owner's rows only."""
    connection = await asyncpg.connect(database.dsn, ssl=False, server_settings={"TimeZone": "UTC"})
    try:
        await _act_as(connection, owner)
        yield connection
    finally:
        await connection.close()


async def _act_as(connection: asyncpg.Connection[Any], owner: Principal) -> None:
    await connection.execute(f"SELECT set_config('{PATH_SETTING}', $1, false)", owner.path)


@contextlib.asynccontextmanager
async def _alone(connection: asyncpg.Connection[Any], task_id: int) -> AsyncIterator[None]:
    await connection.execute("SELECT pg_advisory_lock($1, $2::int)", TASK_LOCK, task_id)
    try:
        yield
    finally:
        await connection.execute("SELECT pg_advisory_unlock($1, $2::int)", TASK_LOCK, task_id)


async def _begin(database: Database, purpose: str, task_id: int) -> tuple[Task, StoredFile | None] | None:
    """Marks a task as running; None where there is nothing to do, also since it was called off."""
    async with database.transaction(system(purpose)) as session:
        task = await session.scalar(select(Task).where(Task.id == task_id).with_for_update())
        if task is None or task.status in ENDED:
            return None
        if task.kind not in IN_PARTS:
            task.done = task.failed = 0
        now = datetime.now(UTC)
        if task.cancel_requested_at is not None:
            # it was called off while the worker that ran it died
            task.status, task.finished_at = TaskStatus.CANCELLED, now
            session.add(told_of(task))
            return None
        task.status, task.started_at = TaskStatus.RUNNING, now
        source = None
        if task.source_file_id is not None:
            source = await session.scalar(select(StoredFile).where(StoredFile.id == task.source_file_id))
        return task, source


async def _end(
    database: Database, owner: Principal, task_id: int, status: TaskStatus, failure: TaskFailure | None = None
) -> None:
    """Ends a task of which nothing is kept, or the parts that are done."""
    async with database.transaction(owner) as session:
        task = await session.scalar(
            select(Task).where(Task.id == task_id, Task.status == TaskStatus.RUNNING).with_for_update()
        )
        if task is None:
            return
        task.status, task.finished_at = status, datetime.now(UTC)
        if task.kind not in IN_PARTS:
            task.done = task.failed = 0
        if failure is not None:
            task.error_code, task.error_message = failure.code, failure.message
        session.add(told_of(task))
