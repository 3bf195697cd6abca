"""When jobs are due. Schedulers may be many, die and come back: what is due stands in the database.

A scheduler locks the due jobs that no other has locked, writes their runs and the event that sends them to a worker,
and moves each job to its next time, all in one transaction.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm.attributes import flag_modified

from authz.principal import system
from authz.session import Database
from models.jobs import JobConcurrency, JobRun, JobRunStatus, JobTrigger, MisfirePolicy, ScheduledJob
from models.system import OutboxEvent
from models.tenancy import Tenant
from services.jobs import cron

RUN_TOPIC = "job.run"
BATCH = 100
MISSED_AFTER = timedelta(minutes=1)
"""A run that begins later than this after its time was missed, and the job's misfire policy decides."""
CAUGHT_UP = 100
"""So many missed runs of one job are caught up at most, the latest ones."""
LEFT_OUT = f"Missed, and left out: at most {CAUGHT_UP} runs are caught up."
DISCARDED = "Missed, and discarded as the job's misfire policy says."


@dataclass(frozen=True)
class Due:
    """What is to be run of a job that is due: on time, to catch up, and what the log says of the rest."""

    on_time: list[datetime]
    missed: list[datetime]
    given_up: datetime | None = None
    reason: str | None = None


def new_run(job: ScheduledJob, trigger: JobTrigger, due_at: datetime | None = None) -> JobRun:
    return JobRun(
        tenant_id=job.tenant_id,
        tenant_path=job.tenant_path,
        job_id=job.id,
        job_name=job.name,
        group=job.group,
        invoke_target=job.invoke_target,
        arguments=job.arguments,
        trigger=trigger,
        due_at=due_at,
    )


def due_of(job: ScheduledJob, time_zone: str, now: datetime) -> Due:
    """The runs that a due job owes, as its misfire policy says (S1-26).

    FIRE_NOW owes each missed run, the last ``CAUGHT_UP`` at most; FIRE_ONCE one run for all, which is one on time
    where there is one; DISCARD none of them.
    """
    first = job.next_run_at
    assert first is not None
    times = cron.last_until(job.cron_expression, time_zone, first, now, CAUGHT_UP)
    left_out = len(times) == CAUGHT_UP
    if not left_out:
        times = [first, *times]
    on_time = [time for time in times if now - time <= MISSED_AFTER]
    missed = [time for time in times if now - time > MISSED_AFTER]
    if job.misfire_policy is MisfirePolicy.FIRE_NOW:
        return Due(on_time, missed, *((first, LEFT_OUT) if left_out else ()))
    if job.misfire_policy is MisfirePolicy.DISCARD:
        return Due(on_time, [], *((first, DISCARDED) if missed else ()))
    if on_time and missed:
        return Due(on_time[-1:], [])
    return Due(on_time, missed[-1:])


async def queue_due(database: Database, now: datetime) -> int:
    """Queues the runs of all jobs that are due and not in another scheduler's hands; gives how many runs."""
    count = 0
    async with database.transaction(system("queue due jobs")) as session:
        found = await session.execute(
            select(ScheduledJob, Tenant.time_zone)
            .join(Tenant, Tenant.id == ScheduledJob.tenant_id)
            .where(ScheduledJob.next_run_at <= now)
            .order_by(ScheduledJob.next_run_at)
            .limit(BATCH)
            .with_for_update(of=ScheduledJob, skip_locked=True)
        )
        for job, time_zone in found.all():
            due = due_of(job, time_zone, now)
            runs = [new_run(job, JobTrigger.CATCH_UP, time) for time in due.missed]
            runs += [new_run(job, JobTrigger.SCHEDULE, time) for time in due.on_time]
            session.add_all(runs)
            if due.given_up is not None:
                session.add(_given_up(job, due, now))
            job.next_run_at = cron.next_after(job.cron_expression, time_zone, now)
            # the time of the last change is that of a person's, not of a run
            flag_modified(job, "updated_at")
            await session.flush()
            session.add_all(_sent(job, [run.id for run in runs]))
            count += len(runs)
    return count


def _given_up(job: ScheduledJob, due: Due, now: datetime) -> JobRun:
    run = new_run(job, JobTrigger.SCHEDULE, due.given_up)
    run.status, run.finished_at, run.message = JobRunStatus.SKIPPED, now, due.reason
    return run


def _sent(job: ScheduledJob, runs: list[int]) -> list[OutboxEvent]:
    """The events that send runs to the workers. Where only one may be going, one worker does them in turn."""
    together = [runs] if job.concurrency is JobConcurrency.FORBID else [[run] for run in runs]
    return [
        OutboxEvent(tenant_id=job.tenant_id, tenant_path=job.tenant_path, topic=RUN_TOPIC, payload={"runs": turn})
        for turn in together
        if turn
    ]
