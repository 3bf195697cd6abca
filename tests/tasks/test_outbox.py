"""The relay hands on what it knows, and lets nothing that it does not know stand in the way."""

from __future__ import annotations

from typing import Any

from tasks.outbox import relay_events
from tests.support.world import World

WRITE = """INSERT INTO outbox_event (tenant_id, tenant_path, key, topic, payload)
SELECT id, path, gen_random_uuid(), $1, $2::jsonb FROM tenant WHERE path = '.0001.'"""


async def test_what_a_newer_version_wrote_waits_and_holds_up_nothing(world: World) -> None:
    database = world.client.application.runtime.database
    sent: list[tuple[str, dict[str, Any]]] = []
    await world.sql("UPDATE outbox_event SET sent_at = now()")
    await world.sql(WRITE, "topic.of.tomorrow", "{}")
    await world.sql(WRITE, "sim.enter", '{"task": 7}')
    for _ in range(3):
        assert await relay_events(database, lambda task, kwargs: sent.append((task, kwargs))) == 0
    assert sent == [("tasks.sim.enter", {"task": 7})]
    waiting = await world.sql("SELECT topic FROM outbox_event WHERE sent_at IS NULL")
    assert [row["topic"] for row in waiting] == ["topic.of.tomorrow"]


async def test_an_event_that_cannot_be_handed_on_is_left_alone(world: World) -> None:
    database = world.client.application.runtime.database
    sent: list[str] = []
    await world.sql("UPDATE outbox_event SET sent_at = now()")
    await world.sql(WRITE, "task.finished", '{"no": "task"}')
    await world.sql(WRITE, "sim.enter", '{"task": 8}')
    await relay_events(database, lambda task, _: sent.append(task))
    assert sent[-1] == "tasks.sim.enter"
