"""The limit: how fast this can be at all, with nothing that a graph gives.

One hand-written statement for each operation gives the JSON text, which is sent as it is. No parsing, validation,
authorisation by field, row-level security, global ids or cursors: keys are plain numbers.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import asyncpg
import orjson
from asyncpg.prepared_stmt import PreparedStatement

from bench.callers import Caller, callers

Message = MutableMapping[str, Any]
POOL_SIZE = 16

NODE = """'{"id":' || c.id || ',"displayIccid":"' || c.display_iccid || '","imsi":"' || c.imsi || '","msisdn":"'
    || c.msisdn || '","status":"' || c.status || '","carrier":"' || c.carrier || '","package":'
    || coalesce((SELECT '{"name":' || to_json(p.name) || ',"salePrice":"' || p.sale_price || '"}'
                 FROM data_package p WHERE p.id = c.package_id), 'null')
    || ',"holder":' || (SELECT '{"name":' || to_json(t.name) || '}' FROM tenant t WHERE t.id = c.tenant_id) || '}'"""


def _page(where: str) -> str:
    return f"""
    SELECT '{{"edges":[' || coalesce(string_agg('{{"cursor":"' || s.id || '","node":' || s.node || '}}', ',')
                                     FILTER (WHERE s.n <= 50), '')
        || '],"pageInfo":{{"hasNextPage":' || (count(*) > 50)::text || ',"endCursor":'
        || coalesce('"' || max(s.id) FILTER (WHERE s.n <= 50) || '"', 'null') || '}}}}'
    FROM (SELECT c.id, row_number() OVER () AS n, {NODE} AS node
          FROM (SELECT id, display_iccid, imsi, msisdn, status, carrier, package_id, tenant_id FROM sim_card
                WHERE {where} ORDER BY id LIMIT 51) c) s"""


CARD = """
SELECT '{"data":{"simCard":' || coalesce((
    SELECT '{"id":' || c.id || ',"displayIccid":"' || c.display_iccid || '","status":"' || c.status || '","package":'
        || coalesce((SELECT '{"id":' || p.id || ',"name":' || to_json(p.name) || ',"salePrice":"' || p.sale_price
                     || '"}' FROM data_package p WHERE p.id = c.package_id), 'null')
        || ',"holder":' || (SELECT '{"id":' || t.id || ',"name":' || to_json(t.name) || '}'
                            FROM tenant t WHERE t.id = c.tenant_id) || '}'
    FROM sim_card c WHERE c.id = $3::bigint AND c.tenant_path >= $1 AND c.tenant_path < $2), 'null') || '}}'
"""
PAGE = f"""SELECT '{{"data":{{"simCards":' || ({_page("tenant_branch = $1 AND id > $2::bigint")}) || '}}}}'"""
TREE = """
SELECT '{"data":{"tenants":{"nodes":[' || coalesce(string_agg('{"id":' || t.id || ',"name":' || to_json(t.name)
    || ',"simCards":{"nodes":[' || (
        SELECT coalesce(string_agg('{"displayIccid":"' || c.display_iccid || '","status":"' || c.status
            || '","package":' || coalesce((SELECT '{"name":' || to_json(p.name) || '}' FROM data_package p
                                           WHERE p.id = c.package_id), 'null')
            || ',"statusChanges":{"nodes":[' || (
                SELECT coalesce(string_agg('{"toStatus":"' || s.to_status || '","reason":' || to_json(s.reason)
                    || ',"at":' || to_json(s.at) || '}', ','), '')
                FROM (SELECT to_status, reason, at FROM sim_status_change WHERE sim_card_id = c.id
                      ORDER BY id LIMIT 3) s) || ']}}', ','), '')
        FROM (SELECT id, display_iccid, status, package_id FROM sim_card WHERE tenant_id = t.id
              ORDER BY id LIMIT 10) c) || ']}}', ','), '') || ']}}}'
FROM (SELECT id, name FROM tenant WHERE path >= $1 AND path < $2 AND id > $3::bigint ORDER BY id LIMIT 20) t
"""
TENANT = f"""
SELECT '{{"data":{{"tenant":' || coalesce((
    SELECT '{{"id":' || t.id || ',"name":' || to_json(t.name) || ',"simCards":' || (
        {_page("tenant_id = t.id AND id > $4::bigint")}) || '}}'
    FROM tenant t WHERE t.id = $3::bigint AND t.path >= $1 AND t.path < $2), 'null') || '}}}}'
"""

Arguments = Callable[[Caller, dict[str, Any]], tuple[Any, ...]]
OPERATIONS: dict[str, tuple[str, Arguments]] = {
    "q1": (CARD, lambda caller, v: (caller.path, caller.path_end, int(v["id"]))),
    "q2": (PAGE, lambda caller, v: (caller.path, int(v["after"]))),
    "q3": (TREE, lambda caller, v: (caller.path, caller.path_end, int(v["after"]))),
    "q4": (TENANT, lambda caller, v: (caller.path, caller.path_end, int(v["id"]), int(v["after"]))),
}


class Pool:
    """Connections with their prepared statements; who finds none waits in line."""

    def __init__(self) -> None:
        self.free: list[dict[str, PreparedStatement[Any]]] = []
        self.waiting: deque[asyncio.Future[dict[str, PreparedStatement[Any]]]] = deque()

    async def start(self) -> None:
        for _ in range(POOL_SIZE):
            connection = await asyncpg.connect(
                os.environ["BENCH_DATABASE_URL"],
                ssl=False,
                server_settings={"plan_cache_mode": "force_generic_plan", "jit": "off", "TimeZone": "UTC"},
            )
            self.free.append({name: await connection.prepare(sql) for name, (sql, _) in OPERATIONS.items()})

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
pool = Pool()


async def _answer(caller: Caller, body: bytes) -> bytes:
    request = orjson.loads(body)
    name = request["operationName"]
    arguments = OPERATIONS[name][1](caller, request["variables"])
    statements = await pool.take()
    try:
        text: str = await statements[name].fetchval(*arguments)
    finally:
        pool.give(statements)
    return text.encode()


async def app(
    scope: dict[str, Any], receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
) -> None:
    if scope["type"] == "lifespan":
        while (await receive())["type"] == "lifespan.startup":
            await pool.start()
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    status, answer = 401, b"{}"
    for name, value in scope["headers"]:
        if name == b"authorization" and value in CALLERS:
            message = await receive()
            body = message["body"]
            while message.get("more_body"):
                message = await receive()
                body += message["body"]
            status, answer = 200, await _answer(CALLERS[value], body)
    headers = [
        (b"content-type", b"application/json; charset=utf-8"),
        (b"content-length", b"%d" % len(answer)),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": answer})
