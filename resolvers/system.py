"""Long tasks, their results, and the operation log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from sqlalchemy import Select, select

import models.system as stored
from authz.coordinates import Act
from models.system import ChangeAction
from planner.ids import encode_id
from planner.mapping import Connection
from planner.registry import loads, query
from resolvers.context import Context
from resolvers.redaction import REDACTED
from schema.system import ImportTask, OperationRecord, RecordedChange, TaskRefusal
from services.messages import render


@query(Connection[ImportTask])
def import_tasks() -> Select[stored.Task]:
    """Imports and ranges within reach (S0-03, S0-05)."""
    return select(stored.Task)


@query(ImportTask, by=("id",))
def import_task() -> Select[stored.Task]:
    """One import or range, with its progress (S0-03, S0-05)."""
    return select(stored.Task)


@query(Connection[OperationRecord])
def operation_records() -> Select[stored.OperationRecord]:
    """The log of mutations within reach (S1-30)."""
    return select(stored.OperationRecord)


@loads(ImportTask, "refused_file_url")
async def refused_file_urls(ctx: Context, rows: Sequence[Any]) -> list[str | None]:
    files = ctx.runtime.files
    return [
        None
        if row.refused_file_id is None
        else f"/files/{encode_id('fil', row.refused_file_id)}?{files.sign(row.refused_file_id)}"
        for row in rows
    ]


@loads(TaskRefusal, "message")
async def refusal_messages(ctx: Context, rows: Sequence[Any]) -> list[str]:
    return [render(row.code, ctx.principal.language, {"value": row.value or ""}) for row in rows]


@loads(OperationRecord, "arguments")
async def record_arguments(ctx: Context, rows: Sequence[Any]) -> list[str | None]:
    return [orjson.dumps(orjson.loads(row.arguments)).decode() for row in rows]


@loads(OperationRecord, "changes")
async def recorded_changes(ctx: Context, rows: Sequence[Any]) -> list[list[RecordedChange]]:
    """What was changed, less the values of fields that the reader may not read."""
    grants = ctx.principal.grants

    def told(change: dict[str, Any]) -> RecordedChange:
        readable = grants.allows(change["type"], change["field"], Act.READ)
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
