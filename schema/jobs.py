"""Scheduled jobs and the log of their runs in the graph."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import strawberry

import models.jobs as stored
from models.jobs import JobConcurrency, JobRunStatus, JobStatus, JobTrigger, MisfirePolicy
from planner.mapping import Connection, Node, column, entity, enum_type, input_type, live, to_many, to_one, value
from schema.common import UserError

if TYPE_CHECKING:
    from schema.identity import StaffAccount
    from schema.tenancy import Tenant

enum_type(
    MisfirePolicy,
    "What becomes of runs that were missed by more than a minute: each is caught up at once (FIRE_NOW: the last "
    "hundred at most), one stands for all (FIRE_ONCE), or none is (DISCARD).",
)
enum_type(JobConcurrency, "Whether a run may begin while another of the same job is going; FORBID skips it.")
enum_type(JobStatus, "Whether a job runs by its schedule.")
enum_type(JobTrigger, "Why a run was begun: it was due, it had been missed, or somebody asked for it.")
enum_type(JobRunStatus, "How far a run has come, or how it ended.")


@value
class JobArgument:
    """A number that a job hands to its target."""

    name: str
    value: int


@value
class InvokeParameter:
    """A number that a target must be given, within inclusive bounds."""

    name: str
    least: int
    most: int


@value
class InvokeTarget:
    """What a job may do; nothing else can be invoked (S1-26)."""

    name: str
    description: str
    parameters: list[InvokeParameter]


@entity(
    stored.ScheduledJob,
    prefix="job",
    filters=("name", "group", "invoke_target", "status", "next_run_at"),
    sorts=("name", "next_run_at"),
)
class ScheduledJob(Node):
    """What is done again and again, by a cron expression in the time zone of its tenant (S1-26)."""

    name: str
    group: str = column("Names are unique within it.")
    invoke_target: str = column("What it does: the name of one of ``invokeTargets``.")
    arguments: list[JobArgument] = live("What the target is given.", needs=("arguments",))
    cron_expression: str = column("Minute, hour, day of the month, month, day of the week.")
    misfire_policy: MisfirePolicy
    concurrency: JobConcurrency
    status: JobStatus
    next_run_at: datetime | None = column("When it is due next; null while it is paused, or if that never comes.")
    remark: str | None
    created_at: datetime
    updated_at: datetime
    tenant: Tenant | None = to_one("Whose job it is; its time zone counts.")
    created_by: StaffAccount | None = to_one("Who made it.")
    updated_by: StaffAccount | None = to_one("Who changed it last.")
    runs: Connection[JobRun] = to_many("The log of its runs (S1-27).", by=stored.JobRun.job_id)


@entity(
    stored.JobRun,
    prefix="jrn",
    filters=("job", "job_name", "group", "invoke_target", "trigger", "status", "created_at"),
    sorts=("created_at",),
)
class JobRun(Node):
    """One run of a job; it stays in the log when the job is gone (S1-27)."""

    job_name: str
    group: str
    invoke_target: str
    arguments: list[JobArgument] = live("What the target was given.", needs=("arguments",))
    trigger: JobTrigger
    status: JobRunStatus
    due_at: datetime | None = column("The time of the schedule that it stands for; null where somebody asked for it.")
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    duration_ms: int | None = column("From its start to its end, in milliseconds.")
    message: str | None = column("What it did, or why it did not.")
    exception: str | None = column("The error that it failed with.")
    job: ScheduledJob | None = to_one("The job; null once it has been deleted.")


@input_type
class JobArgumentInput:
    """A number that the target is given."""

    name: str
    value: int


@input_type
class ScheduledJobInput:
    """A job of the caller's tenant: a cron expression of five fields, and a target with its arguments (S1-26)."""

    name: str
    invoke_target: str
    cron_expression: str
    group: str = "DEFAULT"
    arguments: list[JobArgumentInput] | None = None
    misfire_policy: MisfirePolicy = MisfirePolicy.DISCARD
    concurrency: JobConcurrency = JobConcurrency.FORBID
    status: JobStatus = JobStatus.NORMAL
    remark: str | None = None
    idempotency_key: str | None = None


@input_type
class UpdateScheduledJobInput:
    """Changes to a job; a field left out stays as it is. The arguments are replaced as a whole (S1-26)."""

    id: strawberry.ID
    name: str | None = None
    group: str | None = None
    invoke_target: str | None = None
    arguments: list[JobArgumentInput] | None = None
    cron_expression: str | None = None
    misfire_policy: MisfirePolicy | None = None
    concurrency: JobConcurrency | None = None
    remark: str | None = None


@input_type
class RunScheduledJobInput:
    """A run of a job now, whatever its schedule says (S1-26)."""

    id: strawberry.ID
    idempotency_key: str | None = None


@input_type
class ClearJobRunsInput:
    """Which ended runs leave the log: those of one job or of all, that ended before so many days (S1-27)."""

    job: strawberry.ID | None = None
    older_than_days: int = 0


@value
class ScheduledJobPayload:
    """The job as it now is, or why nothing was changed."""

    scheduled_job: ScheduledJob | None
    errors: list[UserError]


@value
class JobRunPayload:
    """The run that was asked for, or why there is none."""

    job_run: JobRun | None
    errors: list[UserError]


@value
class ClearJobRunsPayload:
    """How many runs have left the log, or why none has."""

    count: int
    errors: list[UserError]
