"""End users write events and repeats, and read the latter alone; history loses nothing but personal data."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest
from sqlalchemy import select

from authz.principal import Principal, PrincipalKind, system
from authz.session import ScopeError
from models.base import table_of
from models.security import ANCESTORS_SETTING, END_USER_SETTING, PATH_SETTING
from models.system import IdempotentResult, OutboxEvent
from planner.registry import MutationRoot
from resolvers.context import Context, run_mutation
from schema.identity import DonePayload
from services.runtime import Origin, Work
from tests.conftest import Place
from tests.support.world import World

NOTHING = Principal(PrincipalKind.ANONYMOUS, "consumer", system("test").grants)


def person(world: World, tenant: str = "north") -> Principal:
    found = world.end_users[tenant]
    return Principal(
        PrincipalKind.END_USER,
        "consumer",
        NOTHING.grants,
        tenant_id=found.tenant_id,
        home=found.tenant_path,
        end_user_id=found.id,
    )


def context(world: World, tenant: str = "north") -> Context:
    application = world.client.application
    door = application.runtime.doors["consumer"]

    async def nudge() -> None:
        pass

    return Context(application.runtime, person(world, tenant), door, Origin(), application.reader, nudge)


@dataclass
class RememberInput:
    """What a test's own mutation is given."""

    word: str
    idempotency_key: str | None = None


async def remember(ctx: Context, input: RememberInput) -> DonePayload:
    ctx.now.later("test.remembered", {"word": input.word})
    return DonePayload(done=True, errors=[])


REMEMBER = MutationRoot(remember, DonePayload, ())


async def run(world: World, key: str | None, word: str = "once", tenant: str = "north") -> Any:
    return await run_mutation(
        REMEMBER, context(world, tenant), {"input": RememberInput(word=word, idempotency_key=key)}
    )


async def events(world: World) -> list[tuple[int, str, str]]:
    rows = await world.sql("SELECT * FROM outbox_event WHERE topic LIKE 'test.%' ORDER BY id")
    return [(row["tenant_id"], row["tenant_path"], row["payload"]) for row in rows]


async def test_an_end_users_event_is_written_once_for_the_tenant_that_serves_the_person(world: World) -> None:
    answers = await asyncio.gather(*(run(world, "same key") for _ in range(4)))
    assert [(answer.done, answer.errors) for answer in answers] == [(True, [])] * 4
    north = world.tenants["north"]
    assert await events(world) == [(north.id, north.path, '{"word": "once"}')]
    other = await run(world, "same key", "twice")
    assert [error.code for error in other.errors] == ["KEY_REUSED"]
    # the same key of somebody else is another
    assert (await run(world, "same key", "twice", "south")).done is True
    assert [word for _, _, word in await events(world)] == ['{"word": "once"}', '{"word": "twice"}']
    kept = await world.sql(
        "SELECT end_user_id, tenant_id FROM idempotent_result WHERE mutation = 'remember' ORDER BY id"
    )
    assert [tuple(row) for row in kept] == [
        (world.end_users[name].id, world.tenants[name].id) for name in ("north", "south")
    ]


async def test_a_person_reads_own_repeats_alone_and_no_events(world: World) -> None:
    for tenant in ("north", "south"):
        await run(world, "a key", "word", tenant)
    database = world.client.application.runtime.database
    async with database.transaction(person(world)) as session:
        seen = list(await session.scalars(select(IdempotentResult)))
        assert [row.end_user_id for row in seen] == [world.end_users["north"].id]
        assert (await session.execute(select(table_of(OutboxEvent).c.id))).all() == []
    # nor does a company's staff; the platform's own work does
    for path, count in ((world.tenants["north"].path, 0), (world.tenants["platform"].path, 2)):
        async with database.transaction(system("test", path)) as session:
            found = await session.execute(select(OutboxEvent).where(OutboxEvent.topic == "test.remembered"))
            assert len(found.all()) == count


async def test_nobody_writes_events_in_anothers_name(world: World) -> None:
    database, south = world.client.application.runtime.database, world.tenants["south"]
    foreign = {"tenant_id": south.id, "tenant_path": south.path, "topic": "test.foreign", "payload": {}}
    for writer in (person(world), system("test", world.tenants["north"].path)):
        with pytest.raises(ScopeError):
            async with database.transaction(writer) as session:
                session.add(OutboxEvent(**foreign))
    member = system("test", world.tenants["north"].path, world.tenants["north"].id)
    async with database.transaction(member) as session:
        Work(member, session, runtime=world.client.application.runtime).later("test.own", {})
    assert [path for _, path, _ in await events(world)] == [world.tenants["north"].path]


async def test_row_level_security_says_the_same(world: World, place: Place) -> None:
    north, platform = world.tenants["north"], world.tenants["platform"]
    settings = {
        PATH_SETTING: "",
        ANCESTORS_SETTING: f"{platform.path},{north.path}",
        END_USER_SETTING: str(world.end_users["north"].id),
    }
    write = (
        "INSERT INTO outbox_event (tenant_id, tenant_path, key, topic, payload) "
        "VALUES ($1, $2, gen_random_uuid(), 'x', '{}')"
    )
    connection = await asyncpg.connect(place.settings.database_url, ssl=False)
    try:
        for name, value in settings.items():
            await connection.execute("SELECT set_config($1, $2, false)", name, value)
        await connection.execute(write, north.id, north.path)
        for tenant in (platform, world.tenants["south"], world.tenants["north-east"]):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(write, tenant.id, tenant.path)
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(f"{write} RETURNING id", north.id, north.path)
        assert await connection.fetchval("SELECT count(*) FROM outbox_event") == 0
        assert await connection.execute("UPDATE outbox_event SET topic = 'y'") == "UPDATE 0"
        assert await connection.execute("DELETE FROM outbox_event") == "DELETE 0"
    finally:
        await connection.close()


async def test_history_loses_personal_data_and_nothing_else(world: World, place: Place) -> None:
    await world.client.log_in("agent", "north", "wrong")
    connection = await asyncpg.connect(place.settings.database_url, ssl=False)
    try:
        await connection.execute("SELECT set_config($1, $2, false)", PATH_SETTING, world.tenants["platform"].path)
        for change in ("login = 'somebody'", "ip = '192.0.2.1'", "outcome = 'SUCCEEDED'", "login = NULL"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(f"UPDATE login_record SET {change}")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("UPDATE operation_record SET arguments = '{\"a\": 1}'")
        touched = await connection.fetchval("SELECT count(*) FROM login_record")
        erased = await connection.execute("UPDATE login_record SET login = '', ip = NULL, user_agent = NULL")
        assert erased == f"UPDATE {touched}"
    finally:
        await connection.close()
