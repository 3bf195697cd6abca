"""What every domain leaves behind or works with: long tasks, files, the operation log, events, repeats."""

from __future__ import annotations

import enum
import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, LargeBinary, UniqueConstraint, func, text
from sqlalchemy.dialects.postgresql import JSONB, UUID
from sqlalchemy.orm import Mapped, mapped_column, relationship

from models.base import (
    AppendOnly,
    Base,
    Entrusted,
    LogEntry,
    Partitioned,
    Personal,
    TenantOwned,
    Timestamped,
    impersonal,
    personal,
    stored_enum,
)
from models.identity import ApiKey, StaffAccount
from models.tenancy import Tenant


class TaskKind(enum.Enum):
    SIM_IMPORT = "SIM_IMPORT"
    SIM_RANGE = "SIM_RANGE"
    EXPORT = "EXPORT"
    BATCH_RECHARGE = "BATCH_RECHARGE"
    SESSION_IMPORT = "SESSION_IMPORT"


class TaskStatus(enum.Enum):
    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


class ExportFormat(enum.Enum):
    XLSX = "XLSX"
    CSV = "CSV"


class ChangeAction(enum.Enum):
    """What a mutation did to a row."""

    CREATED = "CREATED"
    CHANGED = "CHANGED"
    REMOVED = "REMOVED"


class FilePurpose(enum.Enum):
    """What a file is for, which decides of what types and how large it may be."""

    SPREADSHEET = "SPREADSHEET"
    IMAGE = "IMAGE"
    DOCUMENT = "DOCUMENT"


class StoredFile(TenantOwned, Base):
    """A tenant's file. Its content lies in the file store under its sha256, once for all who have the same.

    The MD5 is what other systems name content by; what was stored before it was kept has none.
    """

    __tablename__ = "stored_file"

    sha256: Mapped[str] = mapped_column(index=True)
    md5: Mapped[str | None] = mapped_column(index=True)
    name: Mapped[str]
    content_type: Mapped[str]
    size: Mapped[int]
    purpose: Mapped[FilePurpose] = mapped_column(
        stored_enum(FilePurpose), default=FilePurpose.SPREADSHEET, server_default=FilePurpose.SPREADSHEET.name
    )
    account_id: Mapped[int | None] = mapped_column(ForeignKey("staff_account.id"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())

    account: Mapped[StaffAccount | None] = relationship(lazy="raise")


class Task(Timestamped, TenantOwned, Base):
    """Long work with progress: how many items it has, how many are done, how many were refused.

    A staff account or an API key has started it.
    """

    __tablename__ = "task"
    __constraints__ = (
        CheckConstraint("done >= 0 AND failed >= 0", name="counts_not_negative"),
        Index("ix_task_created_at_id", "created_at", "id"),
        Index("ix_task_finished_at_id", "finished_at", "id"),
        Index("ix_task_account_id_created_at", "account_id", "created_at"),
    )

    kind: Mapped[TaskKind] = mapped_column(stored_enum(TaskKind))
    status: Mapped[TaskStatus] = mapped_column(stored_enum(TaskStatus), default=TaskStatus.QUEUED)
    name: Mapped[str | None]
    total: Mapped[int | None]
    done: Mapped[int] = mapped_column(default=0)
    failed: Mapped[int] = mapped_column(default=0)
    parameters: Mapped[dict[str, Any]] = mapped_column(JSONB, default=dict)
    error_code: Mapped[str | None]
    error_message: Mapped[str | None]
    source_file_id: Mapped[int | None] = mapped_column(ForeignKey("stored_file.id"))
    refused_file_id: Mapped[int | None] = mapped_column(ForeignKey("stored_file.id"))
    result_file_id: Mapped[int | None] = mapped_column(ForeignKey("stored_file.id"))
    account_id: Mapped[int | None] = mapped_column(ForeignKey("staff_account.id"))
    api_key_id: Mapped[int | None] = mapped_column(ForeignKey("api_key.id"))
    cancel_requested_at: Mapped[datetime | None]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]

    account: Mapped[StaffAccount | None] = relationship(lazy="raise")
    api_key: Mapped[ApiKey | None] = relationship(lazy="raise")


class TaskRefusal(AppendOnly, TenantOwned, Base):
    """An item that a task refused: where it stood, what it held, and why."""

    __tablename__ = "task_refusal"
    __constraints__ = (Index("ix_task_refusal_task_id_id", "task_id", "id"),)

    task_id: Mapped[int] = mapped_column(ForeignKey("task.id", ondelete="CASCADE"))
    row_number: Mapped[int]
    column: Mapped[str] = mapped_column("column_name")
    value: Mapped[str | None]
    code: Mapped[str]

    task: Mapped[Task] = relationship(lazy="raise")


class OperationRecord(Personal, Partitioned, LogEntry, Base):
    """One mutation (S1-30): who did what through which door, what it changed, how long it took and how it ended.

    Where the platform's staff acted as somebody else, ``account_id`` is whom they acted as and ``real_account_id`` who
    did it, for the ``reason`` that was given. ``changes`` holds rows as the graph would show them: secrets are left
    out, personal data is masked; ``changes_cut`` says that there were more than are kept.
    """

    __tablename__ = "operation_record"
    __retention__ = "logs.operationMonths"
    __constraints__ = (
        Index("ix_operation_record_account_id_at", "account_id", "at"),
        Index("ix_operation_record_mutation_at", "mutation", "at"),
    )

    request_id: Mapped[str] = mapped_column(info=impersonal("One request's name."))
    door: Mapped[str] = mapped_column(info=impersonal("One of the installation's doors."))
    account_id: Mapped[int | None]
    real_account_id: Mapped[int | None]
    reason: Mapped[str | None] = mapped_column(info=impersonal("Why the platform's staff acted as an account."))
    api_key_id: Mapped[int | None]
    mutation: Mapped[str] = mapped_column(info=impersonal("One of the graph's mutations."))
    arguments: Mapped[dict[str, Any]] = mapped_column(JSONB, info=personal({}))
    changes: Mapped[list[dict[str, Any]]] = mapped_column(
        JSONB, default=list, server_default=text("'[]'"), info=personal([])
    )
    changes_cut: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    outcome: Mapped[str] = mapped_column(info=impersonal("A code."))
    duration_ms: Mapped[int]
    ip: Mapped[str | None] = mapped_column(info=personal())

    tenant: Mapped[Tenant] = relationship(lazy="raise", viewonly=True)
    account: Mapped[StaffAccount | None] = relationship(
        lazy="raise", viewonly=True, primaryjoin="foreign(OperationRecord.account_id) == StaffAccount.id"
    )
    real_account: Mapped[StaffAccount | None] = relationship(
        lazy="raise", viewonly=True, primaryjoin="foreign(OperationRecord.real_account_id) == StaffAccount.id"
    )


class OutboxEvent(Entrusted, TenantOwned, Base):
    """What must happen later, written with the change that causes it, relayed by the worker."""

    __tablename__ = "outbox_event"
    __constraints__ = (Index("ix_outbox_event_unsent", "id", postgresql_where=text("sent_at IS NULL")),)

    key: Mapped[uuid.UUID] = mapped_column(UUID, unique=True, default=uuid.uuid4)
    topic: Mapped[str]
    payload: Mapped[dict[str, Any]] = mapped_column(JSONB)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    sent_at: Mapped[datetime | None]


class IdempotentResult(Personal, TenantOwned, Base):
    """The first result of a mutation that may be repeated: a repeat by the same caller returns it."""

    __tablename__ = "idempotent_result"
    __constraints__ = (UniqueConstraint("caller", "mutation", "idempotency_key"),)

    caller: Mapped[str] = mapped_column(info=impersonal("The caller's kind and key."))
    mutation: Mapped[str] = mapped_column(info=impersonal("One of the graph's mutations."))
    idempotency_key: Mapped[str] = mapped_column(info=impersonal("A program's name for its request."))
    request_digest: Mapped[bytes] = mapped_column(LargeBinary, info=personal(b""))
    result: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True), info=personal())
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
