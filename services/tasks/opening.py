"""How a task is begun, and how many a tenant may have at once."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import func, select

from models.system import StoredFile, Task, TaskKind, TaskStatus
from models.tenancy import Tenant
from services.identity import tenant_for
from services.refusal import Refusal
from services.runtime import Work

OPEN_TASKS = 5
"""Tasks that one tenant may have waiting or running: nobody fills the workers alone."""
TOPICS = {
    TaskKind.SIM_IMPORT: "sim.enter",
    TaskKind.SIM_RANGE: "sim.enter",
    TaskKind.EXPORT: "export.run",
    TaskKind.BATCH_RECHARGE: "orders.recharge",
    TaskKind.SESSION_IMPORT: "usage.take_in",
}
"""The event by which a worker hears of a task."""


async def open_task(
    work: Work,
    kind: TaskKind,
    parameters: Mapping[str, object],
    *,
    name: str | None = None,
    source: StoredFile | None = None,
) -> Task:
    """A task of the caller's tenant, for a worker to take up. TOO_MANY_OPEN_TASKS where five are open."""
    tenant = await tenant_for(work, None)
    # one start after the other, so that each sees those before it
    await work.session.execute(select(Tenant.id).where(Tenant.id == tenant.id).with_for_update(key_share=True))
    waiting = await work.session.scalar(
        select(func.count())
        .select_from(Task)
        .where(Task.tenant_id == tenant.id, Task.status.in_([TaskStatus.QUEUED, TaskStatus.RUNNING]))
    )
    if (waiting or 0) >= OPEN_TASKS:
        raise Refusal("TOO_MANY_OPEN_TASKS")
    task = Task(
        tenant_id=tenant.id,
        tenant_path=tenant.path,
        kind=kind,
        name=name,
        parameters=dict(parameters),
        source_file_id=source.id if source else None,
        account_id=work.principal.account_id,
        api_key_id=work.principal.api_key_id,
    )
    work.session.add(task)
    await work.session.flush()
    work.later(TOPICS[kind], {"task": task.id})
    return task
