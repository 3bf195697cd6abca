"""Scheduled jobs: who keeps them, when they are due, what becomes of missed and overlapping runs, and their log."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg
import pytest

from authz.session import Database
from planner.ids import decode_id, encode_id
from server.embedded.processes import spawn, stop, tail
from server.settings import PROJECT
from server.up import trellis_programs
from services.files import FileStore
from services.jobs import cron
from services.jobs.running import bury_dead, carry_out, forgotten
from services.jobs.scheduling import CAUGHT_UP, queue_due
from services.jobs.targets import BATCH
from tests.conftest import Place
from tests.support.world import FAR_AHEAD, World

JOB = """id name group invokeTarget arguments { name value } cronExpression misfirePolicy concurrency status nextRunAt
    remark tenant { name timeZone }"""
CREATE = f"""mutation($input: ScheduledJobInput!) {{ createScheduledJob(input: $input) {{
    scheduledJob {{ {JOB} createdBy {{ login }} updatedBy {{ login }} }} errors {{ code field }} }} }}"""
UPDATE = f"""mutation($input: UpdateScheduledJobInput!) {{ updateScheduledJob(input: $input) {{
    scheduledJob {{ {JOB} }} errors {{ code field }} }} }}"""
PAUSE = (
    f"""mutation($id: ID!) {{ pauseScheduledJob(id: $id) {{ scheduledJob {{ {JOB} }} errors {{ code field }} }} }}"""
)
RESUME = (
    f"""mutation($id: ID!) {{ resumeScheduledJob(id: $id) {{ scheduledJob {{ {JOB} }} errors {{ code field }} }} }}"""
)
DELETE = "mutation($id: ID!) { deleteScheduledJob(id: $id) { done errors { code field } } }"
RUN_NOW = """mutation($input: RunScheduledJobInput!) { runScheduledJob(input: $input) {
    jobRun { id status trigger dueAt } errors { code field } } }"""
CLEAR = "mutation($input: ClearJobRunsInput!) { clearJobRuns(input: $input) { count errors { code field } } }"
ONE = f"query($id: ID!) {{ scheduledJob(id: $id) {{ {JOB} }} }}"
RUNS = """query($filter: JobRunFilter) { jobRuns(first: 200, filter: $filter, orderBy: [{field: ID}]) { nodes {
    id jobName group invokeTarget arguments { name value } trigger status dueAt startedAt finishedAt durationMs
    message exception job { id } } } }"""
TARGETS = "{ invokeTargets { name description parameters { name least most } } }"
NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
OTHERS = ("finance", "sales", "north", "acme")


def key(id: str) -> int:
    return (decode_id(id) or ("", 0))[1]


def job_input(**changes: Any) -> dict[str, Any]:
    return {
        "name": "Nightly",
        "invokeTarget": "clearIdempotentResults",
        "arguments": [{"name": "olderThanDays", "value": 30}],
        "cronExpression": "0 3 * * *",
        **changes,
    }


async def create(world: World, caller: str = "operations", **changes: Any) -> dict[str, Any]:
    payload = (await world.data(caller, CREATE, {"input": job_input(**changes)}))["createScheduledJob"]
    assert payload["errors"] == []
    made: dict[str, Any] = payload["scheduledJob"]
    return made


async def due_at(world: World, id: str, moment: datetime) -> None:
    await world.sql("UPDATE scheduled_job SET next_run_at = $2 WHERE id = $1", key(id), moment)


async def run_now(world: World, id: str) -> str:
    payload = (await world.data("operations", RUN_NOW, {"input": {"id": id}}))["runScheduledJob"]
    assert payload["errors"] == []
    run: str = payload["jobRun"]["id"]
    return run


async def runs_of(world: World, id: str) -> list[dict[str, Any]]:
    data = await world.data("operations", RUNS, {"filter": {"job": {"eq": id}}})
    found: list[dict[str, Any]] = data["jobRuns"]["nodes"]
    return found


async def told(world: World, id: str) -> list[tuple[str, str, str | None]]:
    """What the log says of a job: trigger, status, and the time that each run stands for."""
    return [(run["trigger"], run["status"], run["dueAt"]) for run in await runs_of(world, id)]


async def stored(world: World) -> list[Any]:
    """Everything that a refused change must leave as it was."""
    return [await world.sql(f"SELECT * FROM {table} ORDER BY id") for table in ("scheduled_job", "job_run")]


def database_of(world: World) -> Database:
    return world.client.application.runtime.database


def files_of(world: World) -> FileStore:
    return world.client.application.runtime.files


def at(moment: datetime) -> str:
    return moment.isoformat()


def next_three(zone: str) -> datetime:
    """The next three o'clock in the morning there."""
    now = datetime.now(ZoneInfo(zone))
    today = now.replace(hour=3, minute=0, second=0, microsecond=0)
    return (today if today > now else today + timedelta(days=1)).astimezone(UTC)


# -- keeping jobs -------------------------------------------------------------------------------------------------


@pytest.mark.feature("S1-26", "S1-69")
@pytest.mark.parametrize("caller", ["admin", "operations"])
async def test_a_job_is_made_changed_paused_resumed_and_removed(world: World, caller: str) -> None:
    made = await create(world, caller, name=" Nightly ", remark=" of the week ")
    expected = {
        "id": made["id"],
        "name": "Nightly",
        "group": "DEFAULT",
        "invokeTarget": "clearIdempotentResults",
        "arguments": [{"name": "olderThanDays", "value": 30}],
        "cronExpression": "0 3 * * *",
        "misfirePolicy": "DISCARD",
        "concurrency": "FORBID",
        "status": "NORMAL",
        "nextRunAt": at(next_three("Asia/Shanghai")),
        "remark": "of the week",
        "tenant": {"name": "Platform «platform»", "timeZone": "Asia/Shanghai"},
    }
    assert made == {**expected, "createdBy": {"login": caller}, "updatedBy": {"login": caller}}

    leap_day = datetime(2028, 2, 29, 1, 30, tzinfo=ZoneInfo("Asia/Shanghai")).astimezone(UTC)
    changes: list[dict[str, Any]] = [
        {"name": "Weekly", "group": "CLEARING"},
        {"misfirePolicy": "FIRE_NOW", "concurrency": "ALLOW"},
        {"invokeTarget": "clearSentEvents"},
        {"arguments": [{"name": "olderThanDays", "value": 1}]},
        {"remark": "kept"},
        {"cronExpression": " 30  1 29 feb * "},
    ]
    for change in changes:
        payload = (await world.data(caller, UPDATE, {"input": {"id": made["id"], **change}}))["updateScheduledJob"]
        expected |= change
        if "cronExpression" in change:
            expected |= {"cronExpression": "30 1 29 feb *", "nextRunAt": at(leap_day)}
        assert payload == {"scheduledJob": expected, "errors": []}
    assert (await world.data(caller, ONE, {"id": made["id"]}))["scheduledJob"] == expected

    for mutation, status, next_run_at in ((PAUSE, "PAUSED", None), (RESUME, "NORMAL", at(leap_day))) * 2:
        [payload] = (await world.data(caller, mutation, {"id": made["id"]})).values()
        assert payload == {"scheduledJob": {**expected, "status": status, "nextRunAt": next_run_at}, "errors": []}

    await run_now(world, made["id"])
    await world.client.work_off()
    assert (await world.data(caller, DELETE, {"id": made["id"]}))["deleteScheduledJob"] == {"done": True, "errors": []}
    assert (await world.data(caller, ONE, {"id": made["id"]}))["scheduledJob"] is None
    left = await world.data(caller, RUNS, {"filter": {"jobName": {"eq": "Weekly"}}})
    assert [(run["status"], run["job"]) for run in left["jobRuns"]["nodes"]] == [("SUCCEEDED", None)]


@pytest.mark.feature("S1-26")
async def test_a_job_that_is_made_paused_is_not_due(world: World) -> None:
    made = await create(world, status="PAUSED")
    assert (made["status"], made["nextRunAt"]) == ("PAUSED", None)
    change = {"id": made["id"], "cronExpression": "* * * * *"}
    changed = (await world.data("operations", UPDATE, {"input": change}))["updateScheduledJob"]["scheduledJob"]
    assert (changed["status"], changed["nextRunAt"]) == ("PAUSED", None)


@pytest.mark.feature("S1-26")
async def test_refusals_name_the_field_and_change_nothing(world: World) -> None:
    await create(world)
    other = await create(world, name="Other")
    before = await stored(world)
    days = "olderThanDays"
    refusals: list[tuple[dict[str, Any], str, str]] = [
        ({"name": "Nightly"}, "TAKEN", "name"),
        ({"name": " "}, "REQUIRED", "name"),
        ({"name": "x" * 65}, "INVALID", "name"),
        ({"name": "N2", "group": " "}, "REQUIRED", "group"),
        ({"name": "N2", "remark": "bad\x00text"}, "INVALID", "remark"),
        ({"name": "N2", "invokeTarget": "os.system"}, "UNKNOWN_TARGET", "invokeTarget"),
        ({"name": "N2", "arguments": []}, "REQUIRED", "arguments"),
        ({"name": "N2", "arguments": [{"name": "days", "value": 30}]}, "INVALID", "arguments"),
        ({"name": "N2", "arguments": [{"name": days, "value": 30}] * 2}, "INVALID", "arguments"),
        ({"name": "N2", "arguments": [{"name": days, "value": 6}]}, "OUT_OF_RANGE", "arguments"),
        ({"name": "N2", "arguments": [{"name": days, "value": 3651}]}, "OUT_OF_RANGE", "arguments"),
        ({"name": "N2", "cronExpression": " "}, "REQUIRED", "cronExpression"),
        ({"name": "N2", "cronExpression": "0 0 30 2 *"}, "CRON_NEVER", "cronExpression"),
    ]
    bad = (
        *("* * * *", "* * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "* * * * 8", "-1 * * * *"),
        *("@daily", "a b c d e", "5-1 * * * *x", "*/0 * * * *", "R R * * *", "h * * * *"),
    )
    refusals += [({"name": "N2", "cronExpression": text}, "INVALID_CRON", "cronExpression") for text in bad]
    refusals += [({"name": "N2", "cronExpression": "\x00 * * * *"}, "INVALID", "cronExpression")]
    for change, code, field in refusals:
        refused = {"scheduledJob": None, "errors": [{"code": code, "field": field}]}
        payload = await world.data("operations", CREATE, {"input": job_input(**change)})
        assert payload["createScheduledJob"] == refused, change
        payload = await world.data("operations", UPDATE, {"input": {"id": other["id"], **change}})
        assert payload["updateScheduledJob"] == refused, change
    # a new target must bear the arguments that stay
    input = {"id": (await create(world, name="Third", invokeTarget="clearSentEvents",
                                 arguments=[{"name": days, "value": 1}]))["id"]}  # fmt: skip
    payload = await world.data("operations", UPDATE, {"input": {**input, "invokeTarget": "clearJobRuns"}})
    assert payload["updateScheduledJob"]["errors"] == [{"code": "OUT_OF_RANGE", "field": "arguments"}]
    await world.data("operations", DELETE, input)
    missing = encode_id("job", 10**9)
    for mutation, variables in (
        (UPDATE, {"input": {"id": missing, "name": "x"}}),
        (PAUSE, {"id": missing}),
        (RESUME, {"id": missing}),
        (DELETE, {"id": missing}),
        (RUN_NOW, {"input": {"id": missing}}),
    ):
        [payload] = (await world.data("operations", mutation, variables)).values()
        assert payload["errors"] == [{"code": "NOT_FOUND", "field": "id"}]
    assert await stored(world) == before


@pytest.mark.feature("S1-26", "S1-27", "S1-69")
@pytest.mark.parametrize("caller", OTHERS)
async def test_others_neither_see_nor_touch_jobs(world: World, caller: str) -> None:
    id = (await create(world))["id"]
    before = await stored(world)
    for query, variables in (
        ("{ scheduledJobs(first: 1) { totalCount } }", {}),
        (ONE, {"id": id}),
        (RUNS.replace("200", "50"), {}),
        (TARGETS, {}),
        (CREATE, {"input": job_input(name="Mine")}),
        (UPDATE, {"input": {"id": id, "name": "Mine"}}),
        (PAUSE, {"id": id}),
        (RESUME, {"id": id}),
        (DELETE, {"id": id}),
        (RUN_NOW, {"input": {"id": id}}),
        (CLEAR, {"input": {}}),
    ):
        assert await world.codes(caller, query, variables) == ["FORBIDDEN"], query
    assert await world.data(caller, f'{{ node(id: "{id}") {{ id }} }}') == {"node": None}
    assert await stored(world) == before


@pytest.mark.feature("S1-26")
async def test_what_a_job_may_do_is_listed_in_the_callers_language(world: World) -> None:
    listed = (await world.data("operations", TARGETS))["invokeTargets"]
    clearing = (
        ("clearJobRuns", 7),
        ("clearIdempotentResults", 7),
        ("clearSentEvents", 1),
        ("clearEndedSessions", 1),
    )
    assert [(one["name"], one["parameters"]) for one in listed] == [
        *((name, [{"name": "olderThanDays", "least": least, "most": 3650}]) for name, least in clearing),
        ("keepPartitions", []),
        ("clearUnusedContent", [{"name": "olderThanDays", "least": 1, "most": 3650}]),
    ]
    assert listed[0]["description"] == "Removes ended runs from the log of jobs."
    in_chinese = (await world.run("admin", TARGETS, language="zh-CN"))["data"]["invokeTargets"]
    assert in_chinese[0]["description"] == "清除已结束的任务日志。"


# -- times --------------------------------------------------------------------------------------------------------


@pytest.mark.feature("S1-26")
async def test_the_time_zone_is_the_tenants(world: World) -> None:
    await world.sql("UPDATE tenant SET time_zone = 'America/New_York' WHERE path = '.0001.'")
    made = await create(world)
    assert made["nextRunAt"] == at(next_three("America/New_York"))
    assert made["tenant"]["timeZone"] == "America/New_York"
    # the scheduler reads it too: across the change of clocks of 2026-03-08 a day has 23 hours
    due = datetime(2026, 3, 7, 8, 0, tzinfo=UTC)
    await due_at(world, made["id"], due)
    assert await queue_due(database_of(world), due + timedelta(seconds=1)) == 1
    [row] = await world.sql("SELECT next_run_at FROM scheduled_job WHERE id = $1", key(made["id"]))
    assert row["next_run_at"] == datetime(2026, 3, 8, 7, 0, tzinfo=UTC)


@pytest.mark.parametrize("zone", ["Asia/Shanghai", "America/New_York", "Europe/London", "Australia/Lord_Howe"])
@pytest.mark.parametrize("expression", ["*/10 * * * *", "30 1 * * *", "30 2 * * *", "0 * * * 0", "15 3 1-7 * *"])
@pytest.mark.parametrize("around", [datetime(2026, 3, 8, tzinfo=UTC), datetime(2026, 3, 29, tzinfo=UTC),
                                    datetime(2026, 4, 5, tzinfo=UTC), datetime(2026, 10, 25, tzinfo=UTC),
                                    datetime(2026, 11, 1, tzinfo=UTC)])  # fmt: skip
def test_looking_back_finds_the_times_that_looking_ahead_does(expression: str, zone: str, around: datetime) -> None:
    """Also where clocks change: what was missed is found backwards, what comes forwards."""
    start, end = around - timedelta(hours=30), around + timedelta(hours=30)
    ahead = []
    time = cron.next_after(expression, zone, start)
    while time is not None and time <= end:
        ahead.append(time)
        time = cron.next_after(expression, zone, time)
    assert cron.last_until(expression, zone, start, end, 10_000) == ahead
    assert cron.last_until(expression, zone, start, end, 3) == ahead[-3:]


@pytest.mark.feature("S1-26")
async def test_a_job_whose_time_comes_no_more_stops_no_other(world: World) -> None:
    """Stored as an expression was that still had times when it was let in."""
    rare, other = [(await create(world, name=name))["id"] for name in ("Rare", "Other")]
    await world.sql("UPDATE scheduled_job SET cron_expression = '0 0 30 2 *' WHERE id = $1", key(rare))
    for id in (rare, other):
        await due_at(world, id, NOON)
    assert await queue_due(database_of(world), NOON) == 2
    rows = await world.sql("SELECT status, next_run_at FROM scheduled_job WHERE id = ANY ($1) ORDER BY id",
                           [key(rare), key(other)])  # fmt: skip
    assert [tuple(row) for row in rows] == [("NORMAL", None), ("NORMAL", NOON + timedelta(hours=7))]
    assert [await told(world, id) for id in (rare, other)] == [[("SCHEDULE", "QUEUED", at(NOON))]] * 2
    await world.client.work_off()
    assert [(await told(world, id))[0][1] for id in (rare, other)] == ["SUCCEEDED", "SUCCEEDED"]
    await world.data("operations", PAUSE, {"id": rare})
    [payload] = (await world.data("operations", RESUME, {"id": rare})).values()
    assert payload == {"scheduledJob": None, "errors": [{"code": "CRON_NEVER", "field": "cronExpression"}]}


# -- runs that were missed ----------------------------------------------------------------------------------------

TEN, LATE = timedelta(minutes=10), timedelta(minutes=35)
MISSED = [
    # a run on time is none that was missed
    ("FIRE_NOW", timedelta(seconds=59), [("SCHEDULE", 0)], None),
    ("FIRE_ONCE", timedelta(seconds=59), [("SCHEDULE", 0)], None),
    ("DISCARD", timedelta(seconds=59), [("SCHEDULE", 0)], None),
    ("FIRE_NOW", timedelta(seconds=61), [("CATCH_UP", 0)], None),
    ("FIRE_ONCE", timedelta(seconds=61), [("CATCH_UP", 0)], None),
    ("DISCARD", timedelta(seconds=61), [], 0),
    # the scheduler was down for four times, and is back between two
    ("FIRE_NOW", LATE, [("CATCH_UP", 0), ("CATCH_UP", 1), ("CATCH_UP", 2), ("CATCH_UP", 3)], None),
    ("FIRE_ONCE", LATE, [("CATCH_UP", 3)], None),
    ("DISCARD", LATE, [], 0),
    # it is back just when the fourth time has come
    ("FIRE_NOW", 3 * TEN, [("CATCH_UP", 0), ("CATCH_UP", 1), ("CATCH_UP", 2), ("SCHEDULE", 3)], None),
    ("FIRE_ONCE", 3 * TEN, [("SCHEDULE", 3)], None),
    ("DISCARD", 3 * TEN, [("SCHEDULE", 3)], 0),
]


@pytest.mark.feature("S1-26")
@pytest.mark.parametrize("concurrency", ["ALLOW", "FORBID"])
@pytest.mark.parametrize(("policy", "downtime", "runs", "discarded"), MISSED)
async def test_what_was_missed_is_made_up_as_the_policy_says(
    world: World,
    policy: str,
    downtime: timedelta,
    runs: list[tuple[str, int]],
    discarded: int | None,
    concurrency: str,
) -> None:
    made = await create(world, cronExpression="*/10 * * * *", misfirePolicy=policy, concurrency=concurrency)
    await due_at(world, made["id"], NOON)
    now = NOON + downtime
    assert await queue_due(database_of(world), now) == len(runs)
    expected = [(trigger, "QUEUED", at(NOON + number * TEN)) for trigger, number in runs]
    skipped = [("SCHEDULE", "SKIPPED", at(NOON))] if discarded is not None else []
    assert await told(world, made["id"]) == expected + skipped
    # a second look finds nothing, and the next time is the regular one
    assert await queue_due(database_of(world), now) == 0
    [row] = await world.sql("SELECT next_run_at FROM scheduled_job WHERE id = $1", key(made["id"]))
    assert row["next_run_at"] == NOON + (downtime // TEN + 1) * TEN
    # where only one run may be going, the others are not skipped: one worker does them in turn
    assert await world.client.work_off() == (min(1, len(runs)) if concurrency == "FORBID" else len(runs))
    assert await told(world, made["id"]) == [(t, "SUCCEEDED", due) for t, _, due in expected] + skipped
    log = await runs_of(world, made["id"])
    done = [(run["startedAt"], run["finishedAt"]) for run in log[: len(runs)]]
    assert all(before[1] <= after[0] for before, after in pairwise(done))
    if discarded is not None:
        assert log[-1]["message"] == "Missed, and discarded as the job's misfire policy says."


@pytest.mark.feature("S1-26")
async def test_of_very_many_missed_runs_the_last_hundred_are_caught_up(world: World) -> None:
    made = await create(world, cronExpression="* * * * *", misfirePolicy="FIRE_NOW")
    await due_at(world, made["id"], NOON - timedelta(days=365))
    now = NOON + timedelta(seconds=30)
    assert await queue_due(database_of(world), now) == CAUGHT_UP == 100
    expected = [
        ("SCHEDULE" if back == 0 else "CATCH_UP", "QUEUED", at(NOON - timedelta(minutes=back)))
        for back in range(99, -1, -1)
    ]
    left_out = ("SCHEDULE", "SKIPPED", at(NOON - timedelta(days=365)))
    assert await told(world, made["id"]) == [*expected, left_out]
    # exactly a hundred are all caught up
    await world.sql("DELETE FROM job_run")
    await due_at(world, made["id"], NOON - timedelta(minutes=99))
    assert await queue_due(database_of(world), now) == 100
    assert await told(world, made["id"]) == expected


# -- schedulers and workers ---------------------------------------------------------------------------------------


@pytest.mark.feature("S1-26")
async def test_many_schedulers_at_once_run_each_due_job_once(world: World, place: Place) -> None:
    ids = [(await create(world, name=f"Job {n}", cronExpression="*/10 * * * *"))["id"] for n in range(12)]
    for id in ids:
        await due_at(world, id, NOON)
    changed = await world.sql("SELECT id, updated_at FROM scheduled_job ORDER BY id")
    schedulers = [Database(place.settings.database_url, pooled=False) for _ in range(4)]
    try:
        looks = [queue_due(scheduler, NOON + timedelta(seconds=n % 3)) for n, scheduler in enumerate(schedulers * 3)]
        assert sum(await asyncio.gather(*looks)) == 12
    finally:
        for scheduler in schedulers:
            await scheduler.close()
    for id in ids:
        assert await told(world, id) == [("SCHEDULE", "QUEUED", at(NOON))]
    assert await world.sql("SELECT id, updated_at FROM scheduled_job ORDER BY id") == changed
    assert await world.client.work_off() == 12


@pytest.mark.feature("S1-26")
async def test_a_job_in_another_schedulers_hands_is_neither_waited_for_nor_run(world: World) -> None:
    held, free = [(await create(world, name=name))["id"] for name in ("Held", "Free")]
    for id in (held, free):
        await due_at(world, id, NOON)
    other = await asyncpg.connect(world.superuser_url, ssl=False)
    try:
        async with other.transaction():
            await other.execute("SELECT 1 FROM scheduled_job WHERE id = $1 FOR UPDATE", key(held))
            assert await asyncio.wait_for(queue_due(database_of(world), NOON), 5) == 1
            assert await told(world, held) == []
            assert await told(world, free) == [("SCHEDULE", "QUEUED", at(NOON))]
    finally:
        await other.close()
    assert await queue_due(database_of(world), NOON) == 1
    assert await told(world, held) == [("SCHEDULE", "QUEUED", at(NOON))]


class Held:
    """Keeps a table to itself, so that a job that clears it goes on until the table is let go."""

    def __init__(self, world: World) -> None:
        self.url = world.superuser_url

    async def __aenter__(self) -> None:
        self.connection = await asyncpg.connect(self.url, ssl=False)
        await self.connection.execute("BEGIN; LOCK TABLE idempotent_result IN ACCESS EXCLUSIVE MODE")

    async def __aexit__(self, *_: object) -> None:
        await self.connection.close()


async def until(condition: Callable[[], Any], patience: float = 60.0) -> None:
    deadline = time.monotonic() + patience
    while not await condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        await asyncio.sleep(0.05)


async def statuses(world: World, *runs: str) -> list[str]:
    rows = await world.sql("SELECT id, status FROM job_run")
    found = {row["id"]: row["status"] for row in rows}
    return [found[key(run)] for run in runs]


@pytest.mark.feature("S1-26", "S1-27")
@pytest.mark.parametrize(
    ("concurrency", "second", "message"),
    [("FORBID", "SKIPPED", "Skipped: another run of the job was going."), ("ALLOW", "SUCCEEDED", "Removed: 0")],
)
async def test_a_run_beside_another(world: World, concurrency: str, second: str, message: str) -> None:
    id = (await create(world, concurrency=concurrency))["id"]
    database = database_of(world)
    first_run, second_run = await run_now(world, id), await run_now(world, id)

    async def running(*runs: str) -> bool:
        return await statuses(world, *runs) == ["RUNNING"] * len(runs)

    async with Held(world):
        first = asyncio.create_task(carry_out(database, files_of(world), [key(first_run)]))
        await until(lambda: running(first_run))
        beside = asyncio.create_task(carry_out(database, files_of(world), [key(second_run)]))
        if concurrency == "FORBID":
            await asyncio.wait_for(beside, 20)
            assert await statuses(world, first_run, second_run) == ["RUNNING", "SKIPPED"]
        else:
            await until(lambda: running(first_run, second_run))
    await asyncio.gather(first, beside)
    assert await statuses(world, first_run, second_run) == ["SUCCEEDED", second]
    log = await runs_of(world, id)
    assert [run["message"] for run in log] == ["Removed: 0", message]
    # nothing is left that would keep a third run out
    third_run = await run_now(world, id)
    await carry_out(database, files_of(world), [key(third_run)])
    assert await statuses(world, third_run) == ["SUCCEEDED"]


@pytest.mark.feature("S1-26")
async def test_runs_that_are_delivered_twice_are_done_once(world: World) -> None:
    id = (await create(world, misfirePolicy="FIRE_NOW", cronExpression="*/10 * * * *"))["id"]
    await due_at(world, id, NOON)
    await queue_due(database_of(world), NOON + LATE)
    runs = [key(run["id"]) for run in await runs_of(world, id)]
    await asyncio.gather(*(carry_out(database_of(world), files_of(world), runs) for _ in range(2)))
    log = await runs_of(world, id)
    assert [run["status"] for run in log] == ["SUCCEEDED"] * 4
    await carry_out(database_of(world), files_of(world), runs)
    assert await runs_of(world, id) == log


@pytest.mark.feature("S1-26")
async def test_a_pause_or_a_removal_is_obeyed_by_runs_that_wait(world: World) -> None:
    paused, removed = [(await create(world, name=name))["id"] for name in ("Paused", "Removed")]
    for id in (paused, removed):
        await due_at(world, id, NOON)
    await queue_due(database_of(world), NOON)
    asked = await run_now(world, paused)
    await world.data("operations", PAUSE, {"id": paused})
    await world.data("operations", DELETE, {"id": removed})
    await world.client.work_off()
    rows = await world.sql(
        "SELECT job_name, trigger, status, message FROM job_run WHERE job_name = ANY ($1) ORDER BY id",
        ["Paused", "Removed"],
    )
    assert [tuple(row) for row in rows] == [
        ("Paused", "SCHEDULE", "SKIPPED", "Skipped: the job has been paused."),
        ("Removed", "SCHEDULE", "SKIPPED", "Skipped: the job has been deleted."),
        ("Paused", "MANUAL", "SUCCEEDED", "Removed: 0"),
    ]
    # somebody may ask for a run of a paused job, which is not due by itself
    assert await statuses(world, asked) == ["SUCCEEDED"]
    assert await queue_due(database_of(world), FAR_AHEAD - timedelta(days=1)) == 0


@pytest.mark.feature("S1-26")
async def test_a_run_that_the_broker_lost_is_sent_again(world: World) -> None:
    id = (await create(world))["id"]
    first, second = await run_now(world, id), await run_now(world, id)
    now = datetime.now(UTC)
    assert await forgotten(database_of(world), now) == []
    assert await forgotten(database_of(world), now + timedelta(minutes=16)) == [[key(first), key(second)]]
    await world.sql("UPDATE job_run SET status = 'RUNNING' WHERE id = $1", key(first))
    assert await forgotten(database_of(world), now + timedelta(minutes=16)) == []


@pytest.mark.feature("S1-26")
async def test_a_run_asked_for_twice_with_one_key_is_one(world: World) -> None:
    id = (await create(world))["id"]
    input = {"id": id, "idempotencyKey": "once"}
    answers = [(await world.data("operations", RUN_NOW, {"input": input}))["runScheduledJob"] for _ in range(2)]
    assert answers[0] == answers[1]
    assert answers[0]["jobRun"] == {**answers[0]["jobRun"], "status": "QUEUED", "trigger": "MANUAL", "dueAt": None}
    assert len(await runs_of(world, id)) == 1


# -- what the targets do, and what the log says of it ---------------------------------------------------------------


async def age(world: World) -> None:
    """Gives each table that a target clears old and new rows, of the platform and of a tenant below it."""
    for name in ("platform", "coast"):
        tenant = world.tenants[name]
        owner = (tenant.id, tenant.path)
        for days in (9, 11):
            await world.sql(
                """INSERT INTO idempotent_result (tenant_id, tenant_path, caller, mutation, idempotency_key,
                       request_digest, created_at)
                   VALUES ($1, $2, $3, 'm', $4, '', now() - make_interval(days => $5))""",
                *owner, name, str(days), days,
            )  # fmt: skip
            await world.sql(
                """INSERT INTO outbox_event (tenant_id, tenant_path, key, topic, payload, created_at, sent_at)
                   VALUES ($1, $2, gen_random_uuid(), 't', '{}', now() - interval '1 year',
                           now() - make_interval(days => $3))""",
                *owner, days,
            )  # fmt: skip
            await world.sql(
                """INSERT INTO job_run (tenant_id, tenant_path, job_name, job_group, invoke_target, arguments, trigger,
                       status, created_at, finished_at)
                   VALUES ($1, $2, 'old', 'g', 't', '{}', 'MANUAL', 'SUCCEEDED', now() - interval '1 year',
                           now() - make_interval(days => $3))""",
                *owner, days,
            )  # fmt: skip
        await world.sql(
            """INSERT INTO outbox_event (tenant_id, tenant_path, key, topic, payload, created_at)
               VALUES ($1, $2, gen_random_uuid(), 'sim.enter', '{"task": 0}', now() - interval '1 year')""",
            *owner,
        )
        await world.sql(
            """INSERT INTO job_run (tenant_id, tenant_path, job_name, job_group, invoke_target, arguments, trigger,
                   status, created_at)
               VALUES ($1, $2, 'old', 'g', 't', '{}', 'MANUAL', 'QUEUED', now() - interval '1 year')""",
            *owner,
        )
    [account] = await world.sql("SELECT id, tenant_id, tenant_path FROM staff_account WHERE login = 'north'")
    for expired, revoked in ((9, None), (11, None), (-5, 9), (-5, 11), (-5, None)):
        await world.sql(
            """INSERT INTO login_session (tenant_id, tenant_path, key, account_id, door, refresh_hash, expires_at,
                   revoked_at)
               VALUES ($1, $2, gen_random_uuid(), $3, 'agent', '', now() - make_interval(days => $4),
                       now() - make_interval(days => $5))""",
            account["tenant_id"], account["tenant_path"], account["id"], expired, revoked,
        )  # fmt: skip


OLD = {
    "clearIdempotentResults": ("idempotent_result", "created_at < now() - interval '10 days'", 2),
    "clearSentEvents": ("outbox_event", "sent_at < now() - interval '10 days'", 2),
    "clearJobRuns": ("job_run", "finished_at < now() - interval '10 days'", 2),
    "clearEndedSessions": (
        "login_session",
        "expires_at < now() - interval '10 days' OR revoked_at < now() - interval '10 days'",
        2,
    ),
}


@pytest.mark.feature("S1-26", "S1-27")
@pytest.mark.parametrize("target", sorted(OLD))
async def test_a_target_clears_what_is_old_and_nothing_else(world: World, target: str) -> None:
    await age(world)
    job = await create(world, invokeTarget=target, arguments=[{"name": "olderThanDays", "value": 10}])
    table, old, count = OLD[target]
    kept = f"SELECT id FROM {table} WHERE NOT coalesce({old}, false) ORDER BY id"
    before = await world.sql(kept)
    assert (await world.sql(f"SELECT count(*) FROM {table} WHERE {old}"))[0]["count"] == count
    run = await run_now(world, job["id"])
    started = datetime.now(UTC)
    await carry_out(database_of(world), files_of(world), [key(run)])
    assert (await world.sql(f"SELECT count(*) FROM {table} WHERE {old}"))[0]["count"] == 0
    assert {row["id"] for row in before} <= {row["id"] for row in await world.sql(kept)}
    [log] = await runs_of(world, job["id"])
    assert log == {
        "id": run,
        "jobName": "Nightly",
        "group": "DEFAULT",
        "invokeTarget": target,
        "arguments": [{"name": "olderThanDays", "value": 10}],
        "trigger": "MANUAL",
        "status": "SUCCEEDED",
        "dueAt": None,
        "startedAt": log["startedAt"],
        "finishedAt": log["finishedAt"],
        "durationMs": log["durationMs"],
        "message": f"Removed: {count}",
        "exception": None,
        "job": {"id": job["id"]},
    }
    begun, ended = (datetime.fromisoformat(log[name]) for name in ("startedAt", "finishedAt"))
    assert started <= begun <= ended <= datetime.now(UTC)
    assert log["durationMs"] == (ended - begun) // timedelta(milliseconds=1)


async def test_more_than_a_batch_is_cleared(world: World) -> None:
    job = await create(world)
    await world.sql(
        """INSERT INTO idempotent_result (tenant_id, tenant_path, caller, mutation, idempotency_key, request_digest,
               created_at)
           SELECT t.id, t.path, 'many', 'm', n::text, '', now() - interval '31 days'
           FROM tenant t, generate_series(1, $1) n WHERE t.path = '.0001.'""",
        BATCH + 1,
    )
    run = await run_now(world, job["id"])
    await carry_out(database_of(world), files_of(world), [key(run)])
    assert [one["message"] for one in await runs_of(world, job["id"])] == [f"Removed: {BATCH + 1}"]


@pytest.mark.feature("S1-27")
async def test_a_run_that_fails_says_why(world: World) -> None:
    job = await create(world)
    await world.sql("REVOKE DELETE ON idempotent_result FROM trellis_app")
    run = await run_now(world, job["id"])
    await carry_out(database_of(world), files_of(world), [key(run)])
    [log] = await runs_of(world, job["id"])
    assert (log["status"], log["message"]) == ("FAILED", None)
    assert "permission denied for table idempotent_result" in log["exception"]
    assert log["finishedAt"] is not None
    # it stands in the way of none that follow
    await world.sql("GRANT DELETE ON idempotent_result TO trellis_app")
    again = await run_now(world, job["id"])
    await carry_out(database_of(world), files_of(world), [key(again)])
    assert await statuses(world, run, again) == ["FAILED", "SUCCEEDED"]


@pytest.mark.feature("S1-27", "S1-69")
async def test_the_administrator_clears_the_log(world: World) -> None:
    one, other = [(await create(world, name=name))["id"] for name in ("One", "Other")]
    for id in (one, one, other):
        await carry_out(database_of(world), files_of(world), [key(await run_now(world, id))])
    waiting = await run_now(world, one)
    await world.sql("UPDATE job_run SET finished_at = now() - interval '8 days' WHERE id = $1",
                    key((await runs_of(world, one))[0]["id"]))  # fmt: skip
    before = await stored(world)
    assert await world.codes("operations", CLEAR, {"input": {}}) == ["FORBIDDEN"]
    refusals: list[tuple[dict[str, Any], str, str]] = [
        ({"olderThanDays": -1}, "OUT_OF_RANGE", "olderThanDays"),
        ({"olderThanDays": 3651}, "OUT_OF_RANGE", "olderThanDays"),
        ({"job": encode_id("job", 10**9)}, "NOT_FOUND", "job"),
        ({"job": waiting}, "INVALID_ID", "job"),
    ]
    for input, code, field in refusals:
        payload = (await world.data("admin", CLEAR, {"input": input}))["clearJobRuns"]
        assert payload == {"count": 0, "errors": [{"code": code, "field": field}]}, input
    assert await stored(world) == before

    cleared = (await world.data("admin", CLEAR, {"input": {"olderThanDays": 7}}))["clearJobRuns"]
    assert cleared == {"count": 1, "errors": []}
    assert (len(await runs_of(world, one)), len(await runs_of(world, other))) == (2, 1)
    cleared = (await world.data("admin", CLEAR, {"input": {"job": one}}))["clearJobRuns"]
    assert cleared == {"count": 1, "errors": []}
    assert await statuses(world, waiting) == ["QUEUED"]
    assert len(await runs_of(world, other)) == 1
    await world.data("admin", CLEAR, {"input": {}})
    assert [row["id"] for row in await world.sql("SELECT id FROM job_run")] == [key(waiting)]


# -- real processes that die ----------------------------------------------------------------------------------------


class Programs:
    """The scheduler and the worker, as they run in an installation."""

    def __init__(self, place: Place, folder: Path, stopping: ExitStack) -> None:
        self.programs = {program.name: program for program in trellis_programs(place.settings)}
        self.clock = str(place.settings.state_dir / "schedule")
        self.started = 0
        self.folder = folder
        self.stopping = stopping

    def start(self, name: str) -> subprocess.Popen[bytes]:
        program = self.programs[name]
        self.started += 1
        # a beat keeps its own clock in a file that it shares with no other
        argv = [f"{word}-{self.started}" if word == self.clock else word for word in program.argv]
        process = spawn(
            argv,
            log=self.log(name),
            environment=program.env,
            on_parent_death=signal.SIGKILL,
            folder=PROJECT,
        )
        self.stopping.callback(stop, process, (signal.SIGTERM, 10.0))
        return process

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """As when the machine is gone: the process and its children, without a word."""
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def said(self) -> str:
        return "\n".join(tail(self.log(name)) for name in self.programs if self.log(name).exists())


@pytest.fixture
def programs(place: Place, tmp_path: Path) -> Iterator[Programs]:
    with ExitStack() as stopping:
        yield Programs(place, tmp_path, stopping)


NEVER = "0 0 1 1 *"
"""Due at New Year only, so that a test says when."""


@pytest.mark.feature("S1-26")
async def test_a_killed_scheduler_makes_up_for_what_it_missed(world: World, programs: Programs) -> None:
    def made(name: str, policy: str) -> Any:
        return create(world, name=name, misfirePolicy=policy, cronExpression=NEVER)

    probe, passing = (await made("Probe", "DISCARD"))["id"], (await made("Passing", "FIRE_ONCE"))["id"]
    policies = ("FIRE_NOW", "FIRE_ONCE", "DISCARD")
    missed = {policy: (await made(policy, policy))["id"] for policy in policies}

    async def done(*ids: str) -> bool:
        return [[status for _, status, _ in await told(world, id)] for id in ids] == [["SUCCEEDED"]] * len(ids)

    programs.start("worker")
    scheduler = programs.start("scheduler")
    second = programs.start("scheduler")
    await due_at(world, probe, datetime.now(UTC))
    await until(lambda: done(probe))

    programs.kill(scheduler)
    programs.kill(second)
    due = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=2)
    await due_at(world, passing, due)
    long_ago = due - timedelta(minutes=5)
    for id in missed.values():
        await due_at(world, id, long_ago)
    await asyncio.sleep(3)
    assert [await told(world, id) for id in (passing, *missed.values())] == [[]] * 4, programs.said()

    programs.start("scheduler")
    programs.start("scheduler")
    await until(lambda: done(passing, missed["FIRE_NOW"], missed["FIRE_ONCE"]))
    # both schedulers have looked again since: nothing is run twice
    await asyncio.sleep(3)
    [(trigger, status, stands_for)] = await told(world, passing)
    assert (status, stands_for) == ("SUCCEEDED", at(due))
    assert trigger == "SCHEDULE", "the schedulers took more than a minute to start"
    assert {policy: await told(world, id) for policy, id in missed.items()} == {
        "FIRE_NOW": [("CATCH_UP", "SUCCEEDED", at(long_ago))],
        "FIRE_ONCE": [("CATCH_UP", "SUCCEEDED", at(long_ago))],
        "DISCARD": [("SCHEDULE", "SKIPPED", at(long_ago))],
    }
    assert len(await told(world, probe)) == 1


@pytest.mark.feature("S1-26", "S1-27")
async def test_a_run_whose_worker_was_killed_fails_and_stands_in_no_way(world: World, programs: Programs) -> None:
    database = database_of(world)
    id = (await create(world))["id"]
    other = await create(world, name="Other", invokeTarget="clearSentEvents")
    worker = programs.start("worker")
    scheduler = programs.start("scheduler")
    run = await run_now(world, id)

    async def going() -> bool:
        return await statuses(world, run) == ["RUNNING"]

    async with Held(world):
        await until(going)
        # as long as the worker lives the run goes on, and keeps others out
        assert await bury_dead(database) == 0
        kept_out = await run_now(world, id)
        await carry_out(database, files_of(world), [key(kept_out)])
        assert await statuses(world, run, kept_out) == ["RUNNING", "SKIPPED"]
        programs.kill(scheduler)
        programs.kill(worker)

        async def buried() -> bool:
            return await bury_dead(database) == 1

        await until(buried, 20)
        log = next(one for one in await runs_of(world, id) if one["id"] == run)
        assert (log["status"], log["message"]) == ("FAILED", None)
        assert log["exception"] == "The worker died during the run."
        assert log["finishedAt"] is not None
    # the table is free again, and so is the job; what is delivered again is not begun again
    after = await run_now(world, id)
    await carry_out(database, files_of(world), [key(run), key(after)])
    assert await statuses(world, run, after) == ["FAILED", "SUCCEEDED"]
    beside = await run_now(world, other["id"])
    await carry_out(database, files_of(world), [key(beside)])
    assert await statuses(world, beside) == ["SUCCEEDED"]
