"""Whose tasks somebody reaches, and how one is called off."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from authz.coordinates import Act
from authz.principal import Principal
from authz.scopes import Reach, Scope
from models.system import Task, TaskStatus
from services.refusal import Refusal, not_found
from services.runtime import Work
from services.tasks.running import ENDED, told_of


def reaches(principal: Principal, reach: Reach | None, task: Task) -> bool:
    """Whether a task that lies in the caller's branch is one of those that a grant opens."""
    if reach is None:
        return False
    if reach & {Scope.ALL, Scope.SUBTREE}:
        return True
    if Scope.TENANT in reach and task.tenant_id == principal.tenant_id:
        return True
    started = (principal.account_id is not None and task.account_id == principal.account_id) or (
        principal.api_key_id is not None and task.api_key_id == principal.api_key_id
    )
    return Scope.SELF in reach and started


async def watched(session: AsyncSession, principal: Principal, key: int) -> Task:
    """A task that the caller may read, as it stands now. NOT_FOUND otherwise."""
    task = await session.scalar(select(Task).where(Task.id == key))
    if task is None or not reaches(principal, principal.grants.reach_of("Task", "id", Act.READ), task):
        raise not_found("task")
    return task


async def cancel(work: Work, key: int) -> Task:
    """Calls a task off: one that waits at once, one that runs at its next batch, with nothing of it kept.

    For who started it, and for who manages its tenant's tasks; to others it does not exist. TASK_ENDED where it has
    come to its end already. A repeat changes nothing.
    """
    task = await work.session.scalar(select(Task).where(Task.id == key).with_for_update())
    reach = work.principal.grants.reach_of("Mutation", "cancelTask", Act.CALL)
    if task is None or not reaches(work.principal, reach, task):
        raise not_found("id")
    if task.status is TaskStatus.CANCELLED:
        return task
    if task.status in ENDED:
        raise Refusal("TASK_ENDED", "id")
    now = datetime.now(UTC)
    if task.cancel_requested_at is None:
        task.cancel_requested_at = now
    if task.status is TaskStatus.QUEUED:
        task.status, task.finished_at = TaskStatus.CANCELLED, now
        work.session.add(told_of(task))
        work.events += 1
    return task
