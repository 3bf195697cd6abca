"""A task whose worker has died is given to another; one that is being worked on is left alone."""

from __future__ import annotations

import asyncpg

from models.system import TaskKind
from services.tasks.running import TASK_LOCK, abandoned
from tests.support.world import World


async def test_a_running_task_that_nobody_holds_is_found(world: World) -> None:
    database = world.client.application.runtime.database
    [task] = await world.sql("SELECT id FROM task ORDER BY id LIMIT 1")
    assert await abandoned(database) == []
    await world.sql("UPDATE task SET status = 'RUNNING' WHERE id = $1", task["id"])
    holder = await asyncpg.connect(world.superuser_url, ssl=False)
    await holder.execute("SELECT pg_advisory_lock($1, $2)", TASK_LOCK, task["id"])
    assert await abandoned(database) == []
    await holder.close()
    assert await abandoned(database) == [(TaskKind.SIM_IMPORT, task["id"])]
    assert await abandoned(database) == [(TaskKind.SIM_IMPORT, task["id"])]


async def test_a_task_that_was_never_begun_is_found_after_a_quarter_of_an_hour(world: World) -> None:
    database = world.client.application.runtime.database
    [task] = await world.sql("SELECT id FROM task ORDER BY id LIMIT 1")
    await world.sql("UPDATE task SET status = 'QUEUED', created_at = now() WHERE id = $1", task["id"])
    assert await abandoned(database) == []
    await world.sql("UPDATE task SET created_at = now() - interval '16 minutes' WHERE id = $1", task["id"])
    assert await abandoned(database) == [(TaskKind.SIM_IMPORT, task["id"])]
