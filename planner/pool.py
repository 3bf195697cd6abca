"""Connections for reading: prepared statements are kept, and row-level security is told who asks, in one place.

Reads run in autocommit: a statement is its own transaction, so a page costs one round trip. The caller's place
in the tree is therefore set on the connection, at every hand-out to another caller.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import asyncpg
from asyncpg.prepared_stmt import PreparedStatement

from authz.principal import Principal
from models.security import ANCESTORS_SETTING, END_USER_SETTING, PATH_SETTING

SET_CONTEXT = (
    f"SELECT set_config('{PATH_SETTING}', $1, false), set_config('{ANCESTORS_SETTING}', $2, false), "
    f"set_config('{END_USER_SETTING}', $3, false)"
)
KEPT_STATEMENTS = 500


class Connection:
    """One connection, its prepared statements, and whose rows it may see now."""

    __slots__ = ("context", "raw", "statements")

    def __init__(self, raw: asyncpg.Connection[Any]) -> None:
        self.raw = raw
        self.context: tuple[str, str, str] | None = None
        self.statements: OrderedDict[str, PreparedStatement[Any]] = OrderedDict()

    async def act_for(self, context: tuple[str, str, str]) -> None:
        if context != self.context:
            self.context = None
            await self.fetch(SET_CONTEXT, context)
            self.context = context

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


class Pool:
    """A fixed number of connections; who finds none waits in line."""

    def __init__(self, dsn: str, size: int, statement_timeout_ms: int = 10_000) -> None:
        self._dsn = dsn
        self._size = size
        self._settings = {
            "TimeZone": "UTC",
            "application_name": "trellis",
            "plan_cache_mode": "force_generic_plan",
            "jit": "off",
            "max_parallel_workers_per_gather": "0",
            "statement_timeout": str(statement_timeout_ms),
            "idle_in_transaction_session_timeout": "30000",
        }
        self._free: list[Connection] = []
        self._waiting: deque[asyncio.Future[Connection]] = deque()
        self._open = 0

    async def _connect(self) -> Connection:
        # with a statement cache of size 0 asyncpg prepares nameless statements, which are planned at every run
        raw = await asyncpg.connect(self._dsn, ssl=False, server_settings=self._settings)
        return Connection(raw)

    async def start(self) -> None:
        self._free = list(await asyncio.gather(*(self._connect() for _ in range(self._size))))
        self._open = self._size

    async def close(self) -> None:
        await asyncio.gather(*(c.raw.close() for c in self._free))
        self._free = []

    async def take(self) -> Connection:
        if self._free:
            return self._free.pop()
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
            task = asyncio.ensure_future(self._replace())
            task.add_done_callback(lambda _: None)
            return
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_result(connection)
                return
        self._free.append(connection)

    async def _replace(self) -> None:
        while True:
            try:
                connection = await self._connect()
            except OSError:
                await asyncio.sleep(0.5)
                continue
            self.give(connection)
            return

    def acting(self, principal: Principal) -> _Lease:
        """A connection that sees the caller's rows and no others, for the length of an ``async with``."""
        return _Lease(self, principal)


class _Lease:
    __slots__ = ("_connection", "_pool", "_principal")

    def __init__(self, pool: Pool, principal: Principal) -> None:
        self._pool = pool
        self._principal = principal

    async def __aenter__(self) -> Connection:
        connection = self._connection = await self._pool.take()
        try:
            await connection.act_for(self._principal.row_context)
        except BaseException:
            self._pool.give(connection)
            raise
        return connection

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.give(self._connection)
