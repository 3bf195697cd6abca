"""Logs in monthly partitions: every row in its month, each partition behind the wall, dropped when its time is over."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime, time
from typing import Any

import asyncpg
import pytest
from alembic import command
from alembic.config import Config

from models.partitions import partitioned
from server.settings import PROJECT
from services.jobs.running import carry_out
from services.parameters import BUILT_IN, install
from services.retention import AHEAD, DEFAULT_DAYS, Kept, keep, month_of
from tests.conftest import Place, Template
from tests.support.services import create_database, drop_database
from tests.support.world import World

LOGS = ("login_record", "operation_record")
MONTHLY = (*LOGS, "daily_usage", "interval_statistic")
PARTITIONS = """SELECT c.relname AS name FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = $1::regclass ORDER BY 1"""
CREATE = 'mutation { createDepartment(input: {name: "Sales"}) { errors { code } } }'
STORED = "SELECT tableoid::regclass::text AS place FROM {} WHERE tenant_id = $1"
OLD = """INSERT INTO operation_record (at, tenant_id, tenant_path, request_id, door, mutation, arguments, outcome,
        duration_ms)
    VALUES ($1, $2, $3, 'old', 'agent', 'old', '{}', 'SUCCEEDED', 1)"""


def named(table: str, month: date) -> str:
    return f"{table}_{month:%Y_%m}"


async def partitions(world: World, table: str) -> list[str]:
    return [row["name"] for row in await world.sql(PARTITIONS, table)]


async def old_row(world: World, at: date) -> None:
    north = world.tenants["north"]
    await world.sql(OLD, datetime(at.year, at.month, 15, tzinfo=UTC), north.id, north.path)


async def as_application(place: Place, statement: str, path: str = ".0001.") -> Any:
    """What the application's role is told, or the state that it is refused with."""
    connection = await asyncpg.connect(place.settings.database_url, ssl=False)
    try:
        async with connection.transaction():
            await connection.execute("SELECT set_config('trellis.path', $1, true)", path)
            return await connection.fetchval(statement)
    except asyncpg.PostgresError as error:
        return error.sqlstate
    finally:
        await connection.close()


def test_every_partitioned_table_has_a_retention() -> None:
    assert [table.name for _, table in partitioned()] == [
        "daily_usage", "interval_statistic", "login_record", "operation_record", "session_record",
    ]  # fmt: skip
    by_parameter = {model.__retention__ for model, _ in partitioned() if model.__retention__ is not None}
    assert by_parameter <= set(BUILT_IN)
    by_policy = {table.name.upper() for model, table in partitioned() if model.__retention__ is None}
    assert by_policy == {kind.name for kind in DEFAULT_DAYS}


async def test_rows_stand_in_the_partition_of_their_month_and_none_in_the_default_one(world: World) -> None:
    this = datetime.now(UTC).date()
    north = world.tenants["north"]
    await world.data("north", CREATE)
    for table in LOGS:
        ready = [named(table, month_of(this, n)) for n in range(AHEAD["month"] + 1)]
        assert await partitions(world, table) == [*ready, f"{table}_default"]
        places = {row["place"] for row in await world.sql(STORED.format(table), north.id)}
        assert places == {f"partitions.{named(table, this)}"}


async def test_no_partition_is_reached_but_through_its_wall(world: World, place: Place) -> None:
    await world.data("north", CREATE)
    walls = await world.sql(
        "SELECT bool_and(c.relrowsecurity) AS all, count(*) FROM pg_class c "
        "WHERE c.relnamespace = 'partitions'::regnamespace AND c.relkind = 'r'"
    )
    others = len(partitioned()) - len(LOGS)  # of which only the default ones stand yet
    assert (walls[0]["all"], walls[0]["count"]) == (True, len(LOGS) * (AHEAD["month"] + 2) + others)
    for table in LOGS:
        for partition in await partitions(world, table):
            assert await as_application(place, f"SELECT count(*) FROM partitions.{partition}") == "42501"
            assert await as_application(place, f"DROP TABLE partitions.{partition}") == "42501"
        own = await as_application(place, f"SELECT count(*) FROM {table}", world.tenants["south"].path)
        assert own < await as_application(place, f"SELECT count(*) FROM {table}")
    # were the schema open, the wall would still stand
    await world.sql("GRANT USAGE ON SCHEMA partitions TO trellis_app")
    await world.sql("GRANT SELECT ON ALL TABLES IN SCHEMA partitions TO trellis_app")
    for table in LOGS:
        for partition in await partitions(world, table):
            assert await as_application(place, f"SELECT count(*) FROM partitions.{partition}") == 0


@pytest.mark.parametrize(
    ("asked", "state"),
    [
        ("make_partition('operation_record', (now() + interval '3 years')::date)", "22023"),
        ("make_partition('operation_record', '1999-01-01')", "22023"),
        ("make_partition('operation_record', NULL)", "22023"),
        ("make_partition('staff_account', now()::date)", "22023"),
        ("make_partition('operation_record; DROP TABLE tenant', now()::date)", "22023"),
        ("make_partition(NULL, now()::date)", "22023"),
        ("drop_partitions('operation_record', now()::date)", "22023"),
        ("drop_partitions('operation_record', NULL)", "22023"),
        ("drop_partitions('staff_account', '2020-01-01')", "22023"),
    ],
)
async def test_the_owners_functions_do_what_they_are_for_and_nothing_else(
    world: World, place: Place, asked: str, state: str
) -> None:
    before = [await partitions(world, table) for table in LOGS]
    assert await as_application(place, f"SELECT {asked}") == state
    assert [await partitions(world, table) for table in LOGS] == before


async def test_only_the_platform_makes_and_drops_partitions(world: World, place: Place) -> None:
    north = world.tenants["north"].path
    assert await as_application(place, "SELECT make_partition('login_record', now()::date)", north) == "42501"
    assert await as_application(place, "SELECT drop_partitions('login_record', '2020-01-01')", "") == "42501"
    assert await as_application(place, "SELECT make_partition('login_record', now()::date)") is False


async def test_months_past_their_retention_are_dropped_and_the_coming_ones_made(world: World) -> None:
    database, files = world.client.application.runtime.database, world.client.application.runtime.files
    now = datetime.now(UTC)
    await install(database)
    # those of logs stand since the tables do, the others are made now
    assert await keep(database, files, now) == Kept(2 * (AHEAD["month"] + 1) + AHEAD["day"] + 1, 0)
    assert await keep(database, files, now) == Kept(0, 0)
    for months in (25, 24, 2):
        await world.sql("SELECT set_config('trellis.path', '.0001.', false), make_partition('operation_record', $1)",
                        month_of(now, -months))  # fmt: skip
        await old_row(world, month_of(now, -months))
    assert await keep(database, files, now) == Kept(0, 1)
    assert named("operation_record", month_of(now, -25)) not in await partitions(world, "operation_record")
    assert len(await world.sql("SELECT id FROM operation_record WHERE request_id = 'old'")) == 2
    # the platform says how long
    await world.sql("UPDATE system_parameter SET value = '1' WHERE key = 'logs.operationMonths'")
    assert await keep(database, files, now) == Kept(0, 2)
    assert await world.sql("SELECT id FROM operation_record WHERE request_id = 'old'") == []
    # and never so short that the present is lost
    await world.sql("UPDATE system_parameter SET value = '-7' WHERE key = 'logs.operationMonths'")
    assert await keep(database, files, now) == Kept(0, 0)
    await world.sql("UPDATE system_parameter SET value = '24' WHERE key = 'logs.operationMonths'")
    later = datetime.combine(month_of(now, 2), time(), UTC)
    assert await keep(database, files, later) == Kept(2 * len(MONTHLY) + AHEAD["day"] + 1, 0)


async def test_rows_that_nobody_was_ready_for_are_fetched_from_the_default_partition(
    world: World, place: Place
) -> None:
    month = month_of(datetime.now(UTC).date(), AHEAD["month"] + 2)
    await old_row(world, month)
    stray = "SELECT tableoid::regclass::text AS place FROM operation_record WHERE request_id = 'old'"
    assert [row["place"] for row in await world.sql(stray)] == ["partitions.operation_record_default"]
    assert await as_application(place, f"SELECT make_partition('operation_record', '{month}')") is True
    assert [row["place"] for row in await world.sql(stray)] == [f"partitions.{named('operation_record', month)}"]
    assert "operation_record_default" in await partitions(world, "operation_record")


async def test_a_job_keeps_the_partitions_of_the_platform_only(world: World) -> None:
    create = """mutation($input: ScheduledJobInput!) { createScheduledJob(input: $input) {
        scheduledJob { id } errors { code field } } }"""
    input = {"name": "Logs", "invokeTarget": "keepPartitions", "cronExpression": "0 3 1 * *"}
    refused = await world.data("operations", create, {"input": {**input, "arguments": [{"name": "x", "value": 1}]}})
    assert refused["createScheduledJob"]["errors"] == [{"code": "INVALID", "field": "arguments"}]
    made = await world.data("operations", create, {"input": input})
    run = """mutation($id: ID!) { runScheduledJob(input: {id: $id}) { jobRun { id } errors { code } } }"""
    id = made["createScheduledJob"]["scheduledJob"]["id"]
    assert (await world.data("operations", run, {"id": id}))["runScheduledJob"]["errors"] == []
    await world.client.work_off()
    await world.sql("UPDATE scheduled_job SET invoke_target = 'keepPartitions', arguments = '{}' WHERE tenant_id = $1",
                    world.tenants["north"].id)  # fmt: skip
    north = world.tenants["north"]
    (foreign,) = await world.sql(
        """INSERT INTO job_run (tenant_id, tenant_path, job_id, job_name, job_group, invoke_target, arguments, trigger,
               status)
           SELECT tenant_id, tenant_path, id, name, job_group, invoke_target, '{}', 'MANUAL', 'QUEUED'
           FROM scheduled_job WHERE tenant_id = $1 RETURNING id""",
        north.id,
    )
    await carry_out(world.client.application.runtime.database, world.client.application.runtime.files, [foreign["id"]])
    done = await world.sql("SELECT message FROM job_run WHERE invoke_target = 'keepPartitions' ORDER BY id")
    assert [row["message"] for row in done] == [
        "Made: 16, dropped: 0, written: 0",
        "Nothing: partitions are the platform's.",
    ]


def test_what_was_logged_before_the_partitions_is_moved_into_them(template: Template, worker_id: str) -> None:
    name = f"moved_{worker_id}"
    create_database(template.services, name)
    config = Config()
    config.set_main_option("script_location", str(PROJECT / "migrations"))
    config.set_main_option("sqlalchemy.url", template.services.owner_url(name).replace("%", "%%"))
    try:
        command.upgrade(config, "0014_logins")
        asyncio.run(_said(template.services.superuser_url(name), BEFORE))
        command.upgrade(config, "0016_logs")
        moved = asyncio.run(_said(template.services.superuser_url(name), "", AFTER))
    finally:
        drop_database(template.services, name)
    month = datetime.now(UTC).date()
    earlier = month_of(month, -2)
    assert [tuple(row) for row in moved] == [
        (7, f"partitions.{named('login_record', earlier)}", "10.0.0.1"),
        (8, f"partitions.{named('login_record', month)}", None),
        (9, f"partitions.{named('login_record', month)}", "2001:db8::1"),
    ]


BEFORE = """
INSERT INTO tenant (id, kind, name, level, path, next_child, status, time_zone, currency, language)
VALUES (1, 'PLATFORM', 'Trellis', 0, '.0001.', 1, 'ACTIVE', 'UTC', 'CNY', 'EN');
INSERT INTO login_record (id, at, login, door, method, outcome, ip, tenant_id, tenant_path) VALUES
    (7, date_trunc('month', now()) - interval '40 days', 'a', 'admin', 'PASSWORD', 'SUCCEEDED', '10.0.0.1', 1,
     '.0001.'),
    (8, now(), 'b', 'admin', 'PASSWORD', 'LOCKED', NULL, 1, '.0001.');
SELECT setval(pg_get_serial_sequence('login_record', 'id'), 8);
"""
AFTER = """
INSERT INTO login_record (login, door, method, outcome, ip, tenant_id, tenant_path)
VALUES ('c', 'admin', 'IMPERSONATION', 'SUCCEEDED', '2001:db8::1', 1, '.0001.');
"""


async def _said(url: str, script: str, after: str = "") -> list[asyncpg.Record]:
    connection = await asyncpg.connect(url, ssl=False)
    try:
        await connection.execute(script + after)
        if not after:
            return []
        rows: list[asyncpg.Record] = await connection.fetch(
            "SELECT id, tableoid::regclass::text, ip FROM login_record ORDER BY id"
        )
        return rows
    finally:
        await connection.close()
