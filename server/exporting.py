"""Exports, later: the one task of the workers that reads the graph, and therefore stands above it."""

from __future__ import annotations

from functools import cache

import redis.asyncio as redis

from authz.access import Access
from authz.session import Database
from planner.tables import Tables
from server.app import POLICIES, the_catalog, the_graph
from server.doors import load_doors
from services import exports
from services.kept import Kept
from services.keys import Keys
from services.runtime import Runtime
from tasks.app import app, file_store, run, settings


@cache
def the_tables() -> Tables:
    """The lists of the graph; made once a process, with the first export."""
    return Tables(the_graph(), {name: door.accepts for name, door in load_doors().items()})


@app.task(name="tasks.exports.run", ignore_result=True)  # type: ignore[untyped-decorator]
def run_export(task: int) -> None:
    """Writes the file of an export. A repeat finds it done, or begins it again."""

    async def work() -> None:
        database = Database(settings.database_url, pooled=False)
        server: redis.Redis = redis.Redis.from_url(settings.redis_url)
        keys = Keys(settings.secret_key.get_secret_value())
        runtime = Runtime(
            database=database,
            redis=server,
            access=Access(database, server, POLICIES, the_catalog()),
            keys=keys,
            files=file_store(),
            doors={name: door.rules for name, door in load_doors().items()},
            kept=Kept(server),
            tables=the_tables(),
        )
        try:
            await exports.carry_out(runtime, task)
        finally:
            await server.aclose()
            await database.close()

    run(work)
