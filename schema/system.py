"""Long tasks and the operation log in the graph."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import strawberry
from sqlalchemy import Float, cast, func

import models.orders
import models.system as stored
from models.system import ChangeAction, ExportFormat, TaskKind, TaskStatus
from planner.mapping import (
    Connection,
    Node,
    column,
    computed,
    entity,
    enum_type,
    input_type,
    live,
    to_many,
    to_one,
    value,
)
from schema.common import UserError

if TYPE_CHECKING:
    from schema.identity import ApiKey, StaffAccount
    from schema.orders import Order
    from schema.tenancy import Tenant

enum_type(ChangeAction, "What a mutation did to a row.")
enum_type(TaskKind, "What a task does.")
enum_type(TaskStatus, "How far a task has come.")
enum_type(ExportFormat, "XLSX is a workbook; CSV is UTF-8 with a byte order mark, as spreadsheet programs open it.")


@entity(
    stored.Task,
    prefix="tsk",
    filters=("kind", "status", "name", "created_at", "finished_at", "account"),
    sorts=("created_at", "finished_at"),
)
class Task(Node):
    """Long work, with progress and results: cards entering the inventory (S0-03, S0-05), a list on its way into a
    file. Seen by who started it, and by who manages the tasks of its tenant."""

    kind: TaskKind
    name: str | None = column("What whoever started it called it; of an import, its file's name.")
    status: TaskStatus
    total: int | None = column("Items in all; null until they have been counted.")
    done: int = column("Items accepted, or rows written.")
    failed: int = column("Items refused.")
    progress: float | None = computed(
        "From 0 to 1.", lambda t: cast(t.done + t.failed, Float) / func.nullif(t.total, 0)
    )
    error_code: str | None = column("Why the whole task failed.")
    error_message: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    cancel_requested_at: datetime | None = column("When it was called off; it stops at its next batch.")
    account: StaffAccount | None = to_one("Who started it.")
    api_key: ApiKey | None = to_one("The key by which it was started.")
    refusals: Connection[TaskRefusal] = to_many("What was refused, row by row.", by=stored.TaskRefusal.task_id)
    orders: Connection[Order] = to_many(
        "Of a batch recharge: its orders, with the packages that they put on cards (S2-15).",
        by=models.orders.Order.task_id,
    )
    refused_file_url: str | None = live(
        "A short-lived link to the refused rows, ready to be corrected and imported again.",
        needs=("refused_file_id",),
    )
    result_file_url: str | None = live(
        "A short-lived link to what the task has made: for who started it, and for who manages the tasks of its "
        "tenant.",
        needs=("result_file_id",),
        confidential=True,
    )


@entity(stored.TaskRefusal, prefix="trf", filters=("code",), sorts=("row_number",))
class TaskRefusal(Node):
    """A row that was refused: where it stands, what it holds, and why."""

    row_number: int = column("The spreadsheet's own row, the header being row 1; of a batch, the card's place in it.")
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


@input_type
class StartExportInput:
    """A list or report to be written into a file, whole, for who may read it.

    ``operation``: a query with one list, whose columns are the fields selected under its ``nodes``, to-one rows
    included, or with one report, whose columns are those selected under its rows; at a door that runs no text of
    others, the sha256 of one that it ships. Page arguments are passed over.
    ``variables``: those of the query, as a JSON object. ``name``: what the task and its file are called.
    """

    operation: str
    format: ExportFormat
    name: str
    variables: str | None = None
    idempotency_key: str | None = None


@value
class TaskPayload:
    """The task that does the work, or why it was not begun."""

    task: Task | None
    errors: list[UserError]
