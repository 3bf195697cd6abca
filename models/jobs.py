"""Scheduled jobs and the log of their runs."""

from __future__ import annotations

import enum
from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column, relationship

from models.base import Base, TenantOwned, Timestamped, stored_enum
from models.identity import StaffAccount
from models.tenancy import Tenant


class MisfirePolicy(enum.Enum):
    FIRE_NOW = "FIRE_NOW"
    FIRE_ONCE = "FIRE_ONCE"
    DISCARD = "DISCARD"


class JobConcurrency(enum.Enum):
    ALLOW = "ALLOW"
    FORBID = "FORBID"


class JobStatus(enum.Enum):
    NORMAL = "NORMAL"
    PAUSED = "PAUSED"


class JobTrigger(enum.Enum):
    SCHEDULE = "SCHEDULE"
    CATCH_UP = "CATCH_UP"
    MANUAL = "MANUAL"


class JobRunStatus(enum.Enum):
    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    SKIPPED = "SKIPPED"


class ScheduledJob(Timestamped, TenantOwned, Base):
    """What is to be done again and again, at the times of a cron expression in its tenant's time zone (S1-26)."""

    __tablename__ = "scheduled_job"
    __constraints__ = (
        UniqueConstraint("tenant_id", "job_group", "name"),
        CheckConstraint("status = 'NORMAL' OR next_run_at IS NULL", name="paused_is_never_due"),
        Index("ix_scheduled_job_next_run_at", "next_run_at"),
    )

    name: Mapped[str]
    group: Mapped[str] = mapped_column("job_group", default="DEFAULT")
    invoke_target: Mapped[str]
    arguments: Mapped[dict[str, Any]] = mapped_column(JSONB, default=dict)
    cron_expression: Mapped[str]
    misfire_policy: Mapped[MisfirePolicy] = mapped_column(stored_enum(MisfirePolicy))
    concurrency: Mapped[JobConcurrency] = mapped_column(stored_enum(JobConcurrency))
    status: Mapped[JobStatus] = mapped_column(stored_enum(JobStatus), default=JobStatus.NORMAL)
    next_run_at: Mapped[datetime | None]
    remark: Mapped[str | None]
    created_by_id: Mapped[int | None] = mapped_column(ForeignKey("staff_account.id"))
    updated_by_id: Mapped[int | None] = mapped_column(ForeignKey("staff_account.id"))

    tenant: Mapped[Tenant] = relationship(lazy="raise", viewonly=True)
    created_by: Mapped[StaffAccount | None] = relationship(foreign_keys=[created_by_id], lazy="raise")
    updated_by: Mapped[StaffAccount | None] = relationship(foreign_keys=[updated_by_id], lazy="raise")


class JobRun(TenantOwned, Base):
    """One run of a job, with a copy of what was to be done: the log outlives the job (S1-27)."""

    __tablename__ = "job_run"
    __constraints__ = (
        CheckConstraint(
            "(finished_at IS NOT NULL) = (status IN ('SUCCEEDED', 'FAILED', 'SKIPPED'))", name="finished_by_status"
        ),
        Index("ix_job_run_job_id_id", "job_id", "id"),
        Index("ix_job_run_created_at_id", "created_at", "id"),
        Index("ix_job_run_unfinished", "id", postgresql_where=text("finished_at IS NULL")),
    )

    job_id: Mapped[int | None] = mapped_column(ForeignKey("scheduled_job.id", ondelete="SET NULL"))
    job_name: Mapped[str]
    group: Mapped[str] = mapped_column("job_group")
    invoke_target: Mapped[str]
    arguments: Mapped[dict[str, Any]] = mapped_column(JSONB, default=dict)
    trigger: Mapped[JobTrigger] = mapped_column(stored_enum(JobTrigger))
    status: Mapped[JobRunStatus] = mapped_column(stored_enum(JobRunStatus), default=JobRunStatus.QUEUED)
    due_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    duration_ms: Mapped[int | None]
    message: Mapped[str | None]
    exception: Mapped[str | None]

    job: Mapped[ScheduledJob | None] = relationship(lazy="raise")
