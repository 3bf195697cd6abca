"""Long tasks and the operation log in the graph."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import strawberry
from sqlalchemy import Float, cast, func

import models.system as stored
from models.system import ChangeAction, TaskKind, TaskStatus
from planner.mapping import Connection, Node, column, computed, entity, enum_type, live, to_many, to_one, value

if TYPE_CHECKING:
    from schema.identity import StaffAccount
    from schema.tenancy import Tenant

enum_type(ChangeAction, "What a mutation did to a row.")
enum_type(TaskKind, "What a task does.")
enum_type(TaskStatus, "How far a task has come.")


@entity(stored.Task, prefix="tsk", filters=("kind", "status", "created_at"), sorts=("created_at",))
class ImportTask(Node):
    """Cards on their way into the inventory, with progress and per-row results (S0-03, S0-05)."""

    kind: TaskKind
    status: TaskStatus
    total: int | None = column("Items in all; null until they have been counted.")
    done: int = column("Items accepted.")
    failed: int = column("Items refused.")
    progress: float | None = computed(
        "From 0 to 1.", lambda t: cast(t.done + t.failed, Float) / func.nullif(t.total, 0)
    )
    error_code: str | None = column("Why the whole task failed.")
    error_message: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    account: StaffAccount | None = to_one("Who started it.")
    refusals: Connection[TaskRefusal] = to_many("What was refused, row by row.", by=stored.TaskRefusal.task_id)
    refused_file_url: str | None = live(
        "A short-lived link to the refused rows, ready to be corrected and imported again.",
        needs=("refused_file_id",),
    )


@entity(stored.TaskRefusal, prefix="trf", filters=("code",), sorts=("row_number",))
class TaskRefusal(Node):
    """A row that was refused: where it stands, what it holds, and why."""

    row_number: int = column("The spreadsheet's own row; the header is row 1.")
    column: str = column("The heading of the column at fault.")
    value: str | None
    code: str
    message: str | None = live("Why, in the caller's language.", needs=("code", "value"))


@value
class RecordedChange:
    """One value of a row before and after, as the graph would show it; without a field, so many rows of a type.

    What the reader may not read, and what nobody may, is `[redacted]`. A row that was created has no value before, one
    that was removed has none after.
    """

    type: str
    id: strawberry.ID | None
    action: ChangeAction
    field: str | None
    before: str | None
    after: str | None
    rows: int | None


@entity(
    stored.OperationRecord,
    prefix="opr",
    filters=("at", "account", "real_account", "mutation", "outcome", "door", "ip", "request_id", "tenant"),
    sorts=("at",),
)
class OperationRecord(Node):
    """One mutation that was run: by whom, through which door, what it changed, how it ended (S1-30)."""

    at: datetime
    request_id: str
    door: str
    mutation: str
    outcome: str = column("SUCCEEDED, or the code that it was refused by.")
    duration_ms: int = column("In milliseconds.")
    ip: str | None
    tenant: Tenant | None = to_one("Whose staff, key or end user it was.")
    account: StaffAccount | None = to_one("The member of staff; null for keys and end users.")
    real_account: StaffAccount | None = to_one(
        "Who of the platform's staff acted as the account; null where nobody did, or out of reach."
    )
    impersonated: bool = computed(
        "Whether the platform's staff acted as the account.", lambda r: r.real_account_id.is_not(None)
    )
    reason: str | None = column("Why they did.")
    arguments: str | None = live(
        "What it was given, as JSON, secrets left out.", needs=("arguments",), confidential=True
    )
    changes: list[RecordedChange] = live("What it changed.", needs=("changes",))
    changes_cut: bool = column("Whether more was changed than is kept.")
