"""Jobs made, changed, paused and run by hand; their log cleared (S1-26, S1-27)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import CursorResult, delete

from models.jobs import JobRun, JobStatus, JobTrigger, ScheduledJob
from models.tenancy import Tenant
from services import validation
from services.conflicts import told_apart
from services.identity import tenant_for
from services.jobs import cron, targets
from services.jobs.scheduling import RUN_TOPIC, new_run
from services.refusal import Refusal
from services.runtime import Work

JOB_CONSTRAINTS = "uq_scheduled_job_tenant_id_job_group_name"
NAME_LIMIT = 64
MOST_DAYS = 3_650


async def create_job(work: Work, values: dict[str, Any]) -> ScheduledJob:
    """A job of the caller's tenant. TAKEN where its group has the name already."""
    tenant = await tenant_for(work, None)
    values["arguments"] = targets.checked(values["invoke_target"], values["arguments"])
    job = ScheduledJob(
        tenant_id=tenant.id, tenant_path=tenant.path, created_by_id=work.principal.account_id, **_checked(values)
    )
    if job.status is JobStatus.NORMAL:
        job.next_run_at = _next(job, tenant)
    work.session.add(job)
    await _kept(work, job)
    return job


async def update_job(work: Work, key: int, changes: dict[str, Any]) -> ScheduledJob:
    """Changes what is given and leaves the rest. Another expression is due from now on."""
    job = await work.held(ScheduledJob, key)
    if "arguments" in changes or "invoke_target" in changes:
        given = changes.get("arguments", list(job.arguments.items()))
        changes["arguments"] = targets.checked(changes.get("invoke_target", job.invoke_target), given)
    for name, value in _checked(changes).items():
        setattr(job, name, value)
    if "cron_expression" in changes and job.status is JobStatus.NORMAL:
        job.next_run_at = _next(job, await _tenant_of(work, job))
    await _kept(work, job)
    return job


async def delete_job(work: Work, key: int) -> None:
    """Removes the job; its log stays."""
    await work.session.delete(await work.held(ScheduledJob, key))


async def pause_job(work: Work, key: int) -> ScheduledJob:
    """No more runs by its schedule."""
    job = await work.held(ScheduledJob, key)
    job.status, job.next_run_at = JobStatus.PAUSED, None
    await _kept(work, job)
    return job


async def resume_job(work: Work, key: int) -> ScheduledJob:
    """Due again from now on. One that is not paused keeps what it has missed."""
    job = await work.held(ScheduledJob, key)
    if job.status is JobStatus.PAUSED:
        job.status, job.next_run_at = JobStatus.NORMAL, _next(job, await _tenant_of(work, job))
        await _kept(work, job)
    return job


async def run_now(work: Work, key: int) -> JobRun:
    """A run out of turn; it too is skipped while another is going, where the job forbids that."""
    job = await work.held(ScheduledJob, key)
    run = new_run(job, JobTrigger.MANUAL)
    work.session.add(run)
    await work.session.flush()
    work.later(RUN_TOPIC, {"runs": [run.id]})
    return run


async def clear_runs(work: Work, *, job_id: int | None, older_than_days: int) -> int:
    """Removes ended runs from the log; those that wait or are going stay."""
    if not 0 <= older_than_days <= MOST_DAYS:
        raise Refusal("OUT_OF_RANGE", "olderThanDays", value="olderThanDays", least=0, most=MOST_DAYS)
    ended = delete(JobRun).where(JobRun.finished_at <= datetime.now(UTC) - timedelta(days=older_than_days))
    if job_id is not None:
        ended = ended.where(JobRun.job_id == (await work.held(ScheduledJob, job_id, field="job")).id)
    result = await work.session.execute(ended.execution_options(synchronize_session=False))
    assert isinstance(result, CursorResult)
    return result.rowcount


def _next(job: ScheduledJob, tenant: Tenant) -> datetime:
    found = cron.next_after(job.cron_expression, tenant.time_zone, datetime.now(UTC))
    if found is None:
        raise Refusal("CRON_NEVER", "cronExpression", value=job.cron_expression)
    return found


async def _tenant_of(work: Work, job: ScheduledJob) -> Tenant:
    return await tenant_for(work, job.tenant_id)


async def _kept(work: Work, job: ScheduledJob) -> None:
    job.updated_by_id = work.principal.account_id
    async with told_apart(work.session, {JOB_CONSTRAINTS: ("name", job.name)}):
        await work.session.flush()


def _checked(values: dict[str, Any]) -> dict[str, Any]:
    checks: dict[str, Callable[[Any], Any]] = {
        "name": lambda v: validation.text(v, "name", limit=NAME_LIMIT),
        "group": lambda v: validation.text(v, "group", limit=NAME_LIMIT),
        "cron_expression": lambda v: cron.checked(v, "cronExpression"),
        "remark": lambda v: validation.optional(v, "remark", limit=500),
    }
    return {name: checks[name](value) if name in checks else value for name, value in values.items()}
