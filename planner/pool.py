"""Connections for reading, with their prepared statements.

Reads run in autocommit: a statement is its own transaction, so a page costs one round trip. Each statement tells
row-level security itself who asks (``planner.parameters``); a connection belongs to nobody.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol

import asyncpg
from asyncpg.prepared_stmt import PreparedStatement

KEPT_STATEMENTS = 500
RETRY_SECONDS = 0.5
SNAPSHOT_STATEMENT_MS = 600_000
"""What one statement on a snapshot may take: nobody waits for it, and it may count a million rows."""


class Connection:
    """One connection and its prepared statements."""

    __slots__ = ("raw", "statements")

    def __init__(self, raw: asyncpg.Connection[Any]) -> None:
        self.raw = raw
        self.statements: OrderedDict[str, PreparedStatement[Any]] = OrderedDict()

    async def fetch(self, sql: str, arguments: Sequence[Any]) -> list[Any]:
        statement = self.statements.get(sql)
        if statement is None:
            statement = self.statements[sql] = await self.raw.prepare(sql)
            if len(self.statements) > KEPT_STATEMENTS:
                self.statements.popitem(last=False)
        try:
            rows: list[Any] = await statement.fetch(*arguments)
        except asyncpg.InvalidCachedStatementError:
            # a migration has changed a table under the plan: it is made anew, once
            statement = self.statements[sql] = await self.raw.prepare(sql)
            rows = await statement.fetch(*arguments)
        return rows


class Connections(Protocol):
    """Where a plan is given a connection to run its statements on."""

    async def take(self) -> Connection: ...

    def give(self, connection: Connection) -> None: ...


def _settings(statement_timeout_ms: int, idle_timeout_ms: int) -> dict[str, str]:
    return {
        "TimeZone": "UTC",
        "application_name": "trellis",
        "plan_cache_mode": "force_generic_plan",
        "jit": "off",
        "max_parallel_workers_per_gather": "0",
        "statement_timeout": str(statement_timeout_ms),
        "idle_in_transaction_session_timeout": str(idle_timeout_ms),
    }


class Pool:
    """A fixed number of connections; who finds none waits in line."""

    def __init__(self, dsn: str, size: int, statement_timeout_ms: int = 10_000) -> None:
        self._dsn = dsn
        self._size = size
        self._settings = _settings(statement_timeout_ms, 30_000)
        self._free: list[Connection] = []
        self._waiting: deque[asyncio.Future[Connection]] = deque()
        self._renewals: set[asyncio.Task[None]] = set()

    async def _connect(self) -> Connection:
        # with a statement cache of size 0 asyncpg prepares nameless statements, which are planned at every run
        raw = await asyncpg.connect(self._dsn, ssl=False, server_settings=self._settings)
        return Connection(raw)

    async def start(self) -> None:
        self._free = list(await asyncio.gather(*(self._connect() for _ in range(self._size))))

    async def close(self) -> None:
        for renewal in self._renewals:
            renewal.cancel()
        await asyncio.gather(*(c.raw.close() for c in self._free))
        self._free = []

    async def take(self) -> Connection:
        while self._free:
            connection = self._free.pop()
            if not connection.raw.is_closed():
                return connection
            self._renew()
        waiting: asyncio.Future[Connection] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        try:
            return await waiting
        except asyncio.CancelledError:
            if waiting.done() and not waiting.cancelled():
                self.give(waiting.result())
            raise

    def give(self, connection: Connection) -> None:
        if connection.raw.is_closed():
            self._renew()
            return
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_result(connection)
                return
        self._free.append(connection)

    def _renew(self) -> None:
        task = asyncio.create_task(self._replace(), name="a new connection for reading")
        self._renewals.add(task)
        task.add_done_callback(self._renewals.discard)

    async def _replace(self) -> None:
        while True:
            try:
                connection = await self._connect()
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                # gone, starting up, or full: it will not stay so
                await asyncio.sleep(RETRY_SECONDS)
                continue
            self.give(connection)
            return

    @asynccontextmanager
    async def lease(self) -> AsyncIterator[Connection]:
        """A connection for the length of an ``async with``."""
        connection = await self.take()
        try:
            yield connection
        finally:
            self.give(connection)


class Snapshot:
    """One connection whose statements all see the database as it was at the first of them."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def take(self) -> Connection:
        return self._connection

    def give(self, connection: Connection) -> None:
        """It stays taken until the snapshot ends."""


@asynccontextmanager
async def snapshot(dsn: str) -> AsyncIterator[Snapshot]:
    """A connection of its own in one transaction that only reads, for what is read in many pages.

    PostgreSQL keeps for it, as long as it lasts, all that is removed meanwhile.
    """
    raw = await asyncpg.connect(dsn, ssl=False, server_settings=_settings(SNAPSHOT_STATEMENT_MS, 0))
    try:
        async with raw.transaction(isolation="repeatable_read", readonly=True):
            yield Snapshot(Connection(raw))
    finally:
        await raw.close()
