"""The limit: how fast this can be at all, with nothing that a graph gives.

One hand-written statement for each operation gives the JSON text, which is sent as it is. No parsing, validation,
authorisation by field, row-level security or global ids. Twice:

``app`` writes any data rightly: texts are escaped, cursors encoded, the caller's rows found by the tree.
``bare`` knows this data and this caller: it escapes only what can need it, cursors are plain numbers, and the page of
a whole branch is found by one equality.
"""

from __future__ import annotations

import asyncio
import os
from base64 import b64decode
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import asyncpg
import orjson
from asyncpg.prepared_stmt import PreparedStatement

from bench.callers import Caller, callers

Message = MutableMapping[str, Any]
POOL_SIZE = 16


def _statements(text: Callable[[str], str], cursor: Callable[[str], str], mine: str) -> dict[str, str]:
    """``text`` and ``cursor``: the JSON of a column that holds a text and of a key that is a cursor."""
    node = f"""'{{"id":' || c.id || ',"displayIccid":' || {text("c.display_iccid")} || ',"imsi":' || {text("c.imsi")}
    || ',"msisdn":' || {text("c.msisdn")} || ',"status":' || {text("c.status")} || ',"carrier":' || {text("c.carrier")}
    || ',"package":' || coalesce((SELECT '{{"name":' || to_json(p.name) || ',"salePrice":"' || p.sale_price || '"}}'
                                  FROM data_package p WHERE p.id = c.package_id), 'null')
    || ',"holder":' || (SELECT '{{"name":' || to_json(t.name) || '}}' FROM tenant t WHERE t.id = c.tenant_id)
    || '}}'"""

    def page(where: str) -> str:
        return f"""
    SELECT '{{"edges":[' || coalesce(string_agg(s.edge, ',') FILTER (WHERE s.n <= 50), '')
        || '],"pageInfo":{{"hasNextPage":' || (count(*) > 50)::text || ',"endCursor":'
        || coalesce({cursor("max(s.id) FILTER (WHERE s.n <= 50)")}, 'null') || '}}}}'
    FROM (SELECT c.id, row_number() OVER () AS n,
                 '{{"cursor":' || {cursor("c.id")} || ',"node":' || {node} || '}}' AS edge
          FROM (SELECT id, display_iccid, imsi, msisdn, status, carrier, package_id, tenant_id FROM sim_card
                WHERE {where} ORDER BY id LIMIT 51) c) s"""

    return {
        "q1": f"""
SELECT '{{"data":{{"simCard":' || coalesce((
    SELECT '{{"id":' || c.id || ',"displayIccid":' || {text("c.display_iccid")} || ',"status":' || {text("c.status")}
        || ',"package":' || coalesce((SELECT '{{"id":' || p.id || ',"name":' || to_json(p.name) || ',"salePrice":"'
                                             || p.sale_price || '"}}' FROM data_package p WHERE p.id = c.package_id),
                                     'null')
        || ',"holder":' || (SELECT '{{"id":' || t.id || ',"name":' || to_json(t.name) || '}}'
                            FROM tenant t WHERE t.id = c.tenant_id) || '}}'
    FROM sim_card c WHERE c.id = $3::bigint AND c.tenant_path >= $1 AND c.tenant_path < $2), 'null') || '}}}}'
""",
        "q2": f"""SELECT '{{"data":{{"simCards":' || ({page(f"{mine} AND id > $3::bigint")}) || '}}}}'""",
        "q3": f"""
SELECT '{{"data":{{"tenants":{{"nodes":[' || coalesce(string_agg('{{"id":' || t.id || ',"name":' || to_json(t.name)
    || ',"simCards":{{"nodes":[' || (
        SELECT coalesce(string_agg('{{"displayIccid":' || {text("c.display_iccid")}
            || ',"status":' || {text("c.status")}
            || ',"package":' || coalesce((SELECT '{{"name":' || to_json(p.name) || '}}' FROM data_package p
                                          WHERE p.id = c.package_id), 'null')
            || ',"statusChanges":{{"nodes":[' || (
                SELECT coalesce(string_agg('{{"toStatus":' || {text("s.to_status")}
                    || ',"reason":' || to_json(s.reason) || ',"at":' || to_json(s.at) || '}}', ','), '')
                FROM (SELECT to_status, reason, at FROM sim_status_change WHERE sim_card_id = c.id
                      ORDER BY id LIMIT 3) s) || ']}}}}', ','), '')
        FROM (SELECT id, display_iccid, status, package_id FROM sim_card WHERE tenant_id = t.id
              ORDER BY id LIMIT 10) c) || ']}}}}', ','), '') || ']}}}}}}'
FROM (SELECT id, name FROM tenant WHERE path >= $1 AND path < $2 AND id > $3::bigint ORDER BY id LIMIT 20) t
""",
        "q4": f"""
SELECT '{{"data":{{"tenant":' || coalesce((
    SELECT '{{"id":' || t.id || ',"name":' || to_json(t.name) || ',"simCards":' || (
        {page("tenant_id = t.id AND id > $4::bigint")}) || '}}'
    FROM tenant t WHERE t.id = $3::bigint AND t.path >= $1 AND t.path < $2), 'null') || '}}}}'
""",
    }


ANY_DATA = _statements(
    text=lambda column: f"to_json({column})",
    cursor=lambda key: f"""('"' || encode(({key})::text::bytea, 'base64') || '"')""",
    mine="(tenant_id IN (SELECT id FROM tenant WHERE path >= $1 AND path < $2)) IS TRUE",
)
THIS_DATA = _statements(
    text=lambda column: f"""'"' || {column} || '"'""",
    cursor=lambda key: f"""('"' || ({key}) || '"')""",
    mine="tenant_branch = $1 AND $2::text IS NOT NULL",
)


class Pool:
    """Connections with their prepared statements; who finds none waits in line."""

    def __init__(self, statements: dict[str, str]) -> None:
        self.sql = statements
        self.free: list[dict[str, PreparedStatement[Any]]] = []
        self.waiting: deque[asyncio.Future[dict[str, PreparedStatement[Any]]]] = deque()

    async def start(self) -> None:
        for _ in range(POOL_SIZE):
            connection = await asyncpg.connect(
                os.environ["BENCH_DATABASE_URL"],
                ssl=False,
                server_settings={"plan_cache_mode": "force_generic_plan", "jit": "off", "TimeZone": "UTC"},
            )
            self.free.append({name: await connection.prepare(sql) for name, sql in self.sql.items()})

    async def take(self) -> dict[str, PreparedStatement[Any]]:
        if self.free:
            return self.free.pop()
        waiting: asyncio.Future[dict[str, PreparedStatement[Any]]] = asyncio.get_running_loop().create_future()
        self.waiting.append(waiting)
        return await waiting

    def give(self, statements: dict[str, PreparedStatement[Any]]) -> None:
        while self.waiting:
            waiting = self.waiting.popleft()
            if not waiting.done():
                waiting.set_result(statements)
                return
        self.free.append(statements)


CALLERS = {header.encode(): caller for header, caller in callers().items()}
HEADERS = (b"content-type", b"application/json; charset=utf-8")


def _application(statements: dict[str, str], number: Callable[[str], int]) -> Callable[..., Awaitable[None]]:
    """``number`` reads a cursor."""
    pool = Pool(statements)

    async def answer(caller: Caller, body: bytes) -> bytes:
        request = orjson.loads(body)
        variables = request["variables"]
        arguments: list[Any] = [caller.path, caller.path_end]
        if "id" in variables:
            arguments.append(int(variables["id"]))
        if "after" in variables:
            arguments.append(number(variables["after"]))
        prepared = await pool.take()
        try:
            text: str = await prepared[request["operationName"]].fetchval(*arguments)
        finally:
            pool.give(prepared)
        return text.encode()

    async def application(
        scope: dict[str, Any], receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        if scope["type"] == "lifespan":
            while (await receive())["type"] == "lifespan.startup":
                await pool.start()
                await send({"type": "lifespan.startup.complete"})
            await send({"type": "lifespan.shutdown.complete"})
            return
        status, found = 401, b"{}"
        for name, value in scope["headers"]:
            if name == b"authorization" and value in CALLERS:
                message = await receive()
                body = message["body"]
                while message.get("more_body"):
                    message = await receive()
                    body += message["body"]
                status, found = 200, await answer(CALLERS[value], body)
        headers = [HEADERS, (b"content-length", b"%d" % len(found))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": found})

    return application


app = _application(ANY_DATA, lambda cursor: int(b64decode(cursor)))
bare = _application(THIS_DATA, int)
