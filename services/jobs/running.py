"""The runs of jobs, in a worker. A run holds an advisory lock as long as its worker lives, and so does its job.

The locks are those of a connection that does nothing else: a worker that dies lets go of them at once, whatever its
statements are waiting for.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog
from sqlalchemy import Integer, cast, exists, func, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import aliased

from authz.principal import Principal, system
from authz.session import Database
from models.jobs import JobConcurrency, JobRun, JobRunStatus, JobStatus, JobTrigger, ScheduledJob
from services.files import FileStore
from services.jobs.targets import TARGETS, Occasion

log = structlog.get_logger()

RUN_LOCK = 0x4A52554E
JOB_LOCK = 0x4A4F4253
PATIENCE = timedelta(minutes=15)
"""A run that has waited so long is sent again: the broker may have lost it."""
EXCEPTION_LIMIT = 2_000
DELETED = "Skipped: the job has been deleted."
PAUSED = "Skipped: the job has been paused."
GOING = "Skipped: another run of the job was going."
DIED = "The worker died during the run."


@dataclass(frozen=True)
class Begun:
    """A run that is going, and as whom it acts: the job's tenant."""

    run: JobRun
    owner: Principal
    at: datetime


async def carry_out(database: Database, files: FileStore, runs: Sequence[int]) -> None:
    """Does queued runs one after the other. A repeat finds them begun and leaves them alone."""
    async with _locks(database) as locks:
        for run_id in runs:
            begun = await _begin(database, locks, run_id)
            if begun is not None:
                await _go(database, files, begun)


async def bury_dead(database: Database) -> int:
    """Marks runs as failed whose worker has died: they are going by their status, and nobody holds their lock."""
    async with database.transaction(system("find dead job runs")) as session:
        dead = await session.scalars(
            update(JobRun)
            .where(
                JobRun.status == JobRunStatus.RUNNING,
                func.pg_try_advisory_xact_lock(RUN_LOCK, cast(JobRun.id, Integer)),
            )
            .values(status=JobRunStatus.FAILED, finished_at=func.now(), exception=DIED)
            .returning(JobRun.id)
            .execution_options(synchronize_session=False)
        )
        return len(dead.all())


async def forgotten(database: Database, now: datetime) -> list[list[int]]:
    """Runs that have waited long although no other of their job is going, by job and in order, to be sent again."""
    going = aliased(JobRun)
    async with database.transaction(system("find forgotten job runs")) as session:
        found = await session.execute(
            select(JobRun.id, JobRun.job_id)
            .where(
                JobRun.status == JobRunStatus.QUEUED,
                JobRun.created_at < now - PATIENCE,
                ~exists().where(going.job_id == JobRun.job_id, going.status == JobRunStatus.RUNNING),
            )
            .order_by(JobRun.id)
        )
    together: dict[int | None, list[int]] = {}
    for run_id, job_id in found:
        together.setdefault(job_id, []).append(run_id)
    return list(together.values())


@asynccontextmanager
async def _locks(database: Database) -> AsyncIterator[AsyncConnection]:
    """A connection that only holds locks, and lets go of all of them at the end."""
    async with database.engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        try:
            yield connection
        finally:
            await connection.execute(text("SELECT pg_advisory_unlock_all()"))


async def _begin(database: Database, locks: AsyncConnection, run_id: int) -> Begun | None:
    """Marks a queued run as going, or as skipped where its job does not allow it now."""
    # whoever was given the same runs waits here until they are done, and then finds nothing to do
    await locks.execute(select(func.pg_advisory_lock(RUN_LOCK, cast(run_id, Integer))))
    async with database.transaction(system("begin a job run")) as session:
        run = await session.scalar(select(JobRun).where(JobRun.id == run_id).with_for_update())
        if run is None or run.status is not JobRunStatus.QUEUED:
            return None
        job = await session.scalar(select(ScheduledJob).where(ScheduledJob.id == run.job_id))
        now = datetime.now(UTC)
        run.message = await _obstacle(locks, run, job)
        if run.message is not None:
            run.status, run.finished_at = JobRunStatus.SKIPPED, now
        else:
            run.status, run.started_at = JobRunStatus.RUNNING, now
    return None if run.message else Begun(run, system("job", run.tenant_path, run.tenant_id), now)


async def _obstacle(locks: AsyncConnection, run: JobRun, job: ScheduledJob | None) -> str | None:
    """Why the run may not begin; otherwise its job is locked, alone or together with its other runs."""
    if job is None:
        return DELETED
    if job.status is JobStatus.PAUSED and run.trigger is not JobTrigger.MANUAL:
        return PAUSED
    alone = job.concurrency is JobConcurrency.FORBID
    lock = func.pg_try_advisory_lock if alone else func.pg_try_advisory_lock_shared
    free = await locks.scalar(select(lock(JOB_LOCK, cast(job.id, Integer))))
    return GOING if alone and not free else None


async def _go(database: Database, files: FileStore, begun: Begun) -> None:
    run = begun.run
    try:
        occasion = Occasion(database, files, begun.owner, begun.at)
        message = await TARGETS[run.invoke_target].run(occasion, run.arguments)
        status, exception = JobRunStatus.SUCCEEDED, None
    except Exception as error:
        log.exception("a job failed", job=run.job_name, run=run.id)
        told = f"{type(error).__name__}: {error}".replace("\x00", "\ufffd")[:EXCEPTION_LIMIT]
        message, status, exception = None, JobRunStatus.FAILED, told
    now = datetime.now(UTC)
    async with database.transaction(system("end a job run")) as session:
        await session.execute(
            update(JobRun)
            .where(JobRun.id == run.id, JobRun.status == JobRunStatus.RUNNING)
            .values(
                status=status,
                message=message,
                exception=exception,
                finished_at=now,
                duration_ms=int((now - begun.at).total_seconds() * 1000),
            )
            .execution_options(synchronize_session=False)
        )
