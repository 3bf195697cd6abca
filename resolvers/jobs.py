"""Scheduled jobs and the log of their runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
import strawberry
from sqlalchemy import Select, select

import models.jobs as stored
from planner.mapping import Connection, refer
from planner.registry import loads, mutation, query
from resolvers.context import Context, given, key_of, optional_key
from schema.identity import DonePayload
from schema.jobs import (
    ClearJobRunsInput,
    ClearJobRunsPayload,
    InvokeParameter,
    InvokeTarget,
    JobArgument,
    JobArgumentInput,
    JobRun,
    JobRunPayload,
    RunScheduledJobInput,
    ScheduledJob,
    ScheduledJobInput,
    ScheduledJobPayload,
    UpdateScheduledJobInput,
)
from services.jobs import managing
from services.jobs.targets import TARGETS
from services.messages import render


@query(Connection[ScheduledJob])
def scheduled_jobs() -> Select[stored.ScheduledJob]:
    """Scheduled jobs within reach (S1-26)."""
    return select(stored.ScheduledJob)


@query(ScheduledJob, by=("id",))
def scheduled_job() -> Select[stored.ScheduledJob]:
    """One scheduled job (S1-26)."""
    return select(stored.ScheduledJob)


@query(Connection[JobRun])
def job_runs() -> Select[stored.JobRun]:
    """The log of runs within reach (S1-27)."""
    return select(stored.JobRun)


@query("list[InvokeTarget]")
async def invoke_targets(ctx: Context) -> list[InvokeTarget]:
    """What a job may do (S1-26)."""
    return [
        InvokeTarget(
            name=target.name,
            description=render(target.description, ctx.principal.language, {}),
            parameters=[InvokeParameter(name=p.name, least=p.least, most=p.most) for p in target.parameters],
        )
        for target in TARGETS.values()
    ]


@loads(ScheduledJob, "arguments")
@loads(JobRun, "arguments")
async def arguments_of(ctx: Context, rows: Sequence[Any]) -> list[list[JobArgument]]:
    return [
        [JobArgument(name=name, value=value) for name, value in orjson.loads(row.arguments).items()] for row in rows
    ]


def _pairs(arguments: Sequence[JobArgumentInput] | None) -> list[tuple[str, int]] | None:
    return None if arguments is None else [(argument.name, argument.value) for argument in arguments]


@mutation
async def create_scheduled_job(ctx: Context, input: ScheduledJobInput) -> ScheduledJobPayload:
    """A new job, due from now on unless it is made paused (S1-26, S1-69)."""
    values = {**given(input), "arguments": _pairs(input.arguments) or []}
    made = await managing.create_job(ctx.now, values)
    return ScheduledJobPayload(scheduled_job=refer(made.id), errors=[])


@mutation
async def update_scheduled_job(ctx: Context, input: UpdateScheduledJobInput) -> ScheduledJobPayload:
    """Changes a job; the scheduler obeys within seconds (S1-26, S1-69)."""
    changes = given(input)
    if input.arguments is not None:
        changes["arguments"] = _pairs(input.arguments)
    changed = await managing.update_job(ctx.now, key_of(input.id, "job", "id"), changes)
    return ScheduledJobPayload(scheduled_job=refer(changed.id), errors=[])


@mutation
async def delete_scheduled_job(ctx: Context, id: strawberry.ID) -> DonePayload:
    """Removes a job; a run that is going ends in peace, and the log stays (S1-26, S1-69)."""
    await managing.delete_job(ctx.now, key_of(id, "job", "id"))
    return DonePayload(done=True, errors=[])


@mutation
async def pause_scheduled_job(ctx: Context, id: strawberry.ID) -> ScheduledJobPayload:
    """No more runs until it is resumed, except those asked for by hand (S1-26)."""
    changed = await managing.pause_job(ctx.now, key_of(id, "job", "id"))
    return ScheduledJobPayload(scheduled_job=refer(changed.id), errors=[])


@mutation
async def resume_scheduled_job(ctx: Context, id: strawberry.ID) -> ScheduledJobPayload:
    """Due again from now on; what fell into the pause was not missed (S1-26)."""
    changed = await managing.resume_job(ctx.now, key_of(id, "job", "id"))
    return ScheduledJobPayload(scheduled_job=refer(changed.id), errors=[])


@mutation
async def run_scheduled_job(ctx: Context, input: RunScheduledJobInput) -> JobRunPayload:
    """Runs a job now, even a paused one; its schedule stays as it is (S1-26)."""
    run = await managing.run_now(ctx.now, key_of(input.id, "job", "id"))
    return JobRunPayload(job_run=refer(run.id), errors=[])


@mutation
async def clear_job_runs(ctx: Context, input: ClearJobRunsInput) -> ClearJobRunsPayload:
    """Removes ended runs from the log (S1-27, S1-69)."""
    count = await managing.clear_runs(
        ctx.now, job_id=optional_key(input.job, "job", "job"), older_than_days=input.older_than_days
    )
    return ClearJobRunsPayload(count=count, errors=[])
