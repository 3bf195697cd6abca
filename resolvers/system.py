"""Long tasks, their results, and the operation log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import orjson
import strawberry
from sqlalchemy import Select, select

import models.system as stored
from authz.coordinates import Act
from authz.scopes import within
from models.system import ChangeAction
from planner.ids import encode_id
from planner.mapping import (
    Connection,
    refer,
)
from planner.registry import (
    loads,
    mutation,
    query,
    subscription,
)
from resolvers.context import (
    Context,
    key_of,
    reading,
)
from resolvers.redaction import (
    REDACTED,
)
from schema.system import (
    OperationRecord,
    RecordedChange,
    StartExportInput,
    Task,
    TaskPayload,
    TaskRefusal,
)
from services import (
    exports,
)
from services.messages import render
from services.tasks import managing
from services.tasks.running import ENDED

PROGRESS_SECONDS = 0.5


@query(Connection[Task])
def tasks() -> Select[stored.Task]:
    """Long work within reach: one's own, and that of the tenants whose tasks one manages (S0-03, S0-05)."""
    return select(stored.Task)


@query(Task, by=("id",))
def task() -> Select[stored.Task]:
    """One task, with its progress and its results (S0-03, S0-05)."""
    return select(stored.Task)


@query(Connection[OperationRecord])
def operation_records() -> Select[stored.OperationRecord]:
    """The log of mutations within reach (S1-30)."""
    return select(stored.OperationRecord)


@mutation
async def start_export(ctx: Context, input: StartExportInput) -> TaskPayload:
    """Writes a list or a report into a file, as a task: exactly what the caller may read, masked as it is on a page.

    Refused at once where the caller may not read what is selected, and again when a worker takes it up.
    """
    made = await exports.start(
        ctx.now, operation=input.operation, variables=input.variables, format=input.format, name=input.name
    )
    return TaskPayload(task=refer(made.id), errors=[])


@mutation
async def cancel_task(ctx: Context, id: strawberry.ID) -> TaskPayload:
    """Calls a task off: at once while it waits, at its next batch once it runs. Nothing of it is kept: an import
    that is called off has entered no card."""
    found = await managing.cancel(ctx.now, key_of(id, "tsk", "id"))
    return TaskPayload(task=refer(found.id), errors=[])


@subscription(Task)
async def task_progress(ctx: Context, task: strawberry.ID) -> AsyncIterator[int]:
    """A task each time that it has come further, until it has ended (S0-03, S0-05)."""
    key = key_of(task, "tsk", "task")
    last: tuple[Any, ...] | None = None
    while True:
        async with reading(ctx) as session:
            found = await managing.watched(session, ctx.principal, key)
        state = (found.status, found.done, found.failed, found.total, found.cancel_requested_at)
        if state != last:
            last = state
            yield found.id
        if found.status in ENDED:
            return
        await asyncio.sleep(PROGRESS_SECONDS)


@loads(Task, "refused_file_url")
async def refused_file_urls(ctx: Context, rows: Sequence[Any]) -> list[str | None]:
    return [_link(ctx, row.refused_file_id) for row in rows]


@loads(Task, "result_file_url")
async def result_file_urls(ctx: Context, rows: Sequence[Any]) -> list[str | None]:
    return [_link(ctx, row.result_file_id) for row in rows]


def _link(ctx: Context, file: int | None) -> str | None:
    return None if file is None else f"/files/{encode_id('fil', file)}?{ctx.runtime.files.sign(file)}"


@loads(TaskRefusal, "message")
async def refusal_messages(ctx: Context, rows: Sequence[Any]) -> list[str]:
    return [render(row.code, ctx.principal.language, {"value": row.value or ""}) for row in rows]


@loads(OperationRecord, "arguments")
async def record_arguments(ctx: Context, rows: Sequence[Any]) -> list[str | None]:
    return [orjson.dumps(orjson.loads(row.arguments)).decode() for row in rows]


@loads(OperationRecord, "changes")
async def recorded_changes(ctx: Context, rows: Sequence[Any]) -> list[list[RecordedChange]]:
    """What was changed, less the values of fields that the reader may not read wherever it reads the log."""
    grants = ctx.principal.grants
    log = grants.reach_of("OperationRecord", "changes", Act.READ)

    def told(change: dict[str, Any]) -> RecordedChange:
        reach = grants.reach_of(change["type"], change["field"], Act.READ)
        readable = log is not None and reach is not None and within(log, reach)
        return RecordedChange(
            type=change["type"],
            id=change["id"],
            action=ChangeAction[change["action"]],
            field=change["field"],
            before=change["before"] if readable or change["before"] is None else REDACTED,
            after=change["after"] if readable or change["after"] is None else REDACTED,
            rows=change["rows"],
        )

    return [[told(change) for change in orjson.loads(row.changes)] for row in rows]
