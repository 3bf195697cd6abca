"""Callers at different places of the tree: the planner's statement against the best that a hand could write.

The planner's statement runs as the application, with row-level security; the others as the owner, without it, and
each caller has its own. What is compared is the time of one client waiting for one page of 50 cards.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import asyncpg
import redis.asyncio as redis
from asyncpg.prepared_stmt import PreparedStatement

from authz.access import Access
from authz.principal import Principal, PrincipalKind
from authz.session import Database
from bench import tables
from bench.data import WIDE_BRANCH, WIDE_DEEP, loaded
from bench.services import Place
from planner.cursor import encode_cursor, order_tag
from planner.pool import Pool
from server.app import POLICIES, the_catalog, the_graph
from server.doors import load_doors
from server.engine import Engine

EXECUTIONS_PER_ROUND = 70
TRIED = 8
"""Executions by which a candidate shows whether it is worth to be measured."""
HOPELESS = 3.0
"""A candidate that takes so many times as long as the best is left out."""

NODE = "{ id displayIccid imsi msisdn status carrier package { name salePrice } holder { name } }"
DOCUMENT = f"""query($after: String) {{
  simCards(first: 50, after: $after%s) {{ nodes {NODE} pageInfo {{ hasNextPage }} }} }}"""
BY_ACTIVATION = ", filter: {status: {eq: ACTIVE}}, orderBy: [{field: ACTIVATED_AT}]"

SELECTED = """SELECT a.*, p.id, p.name, p.sale_price::text, t.kind, t.id, t.name FROM ({page}) a
LEFT JOIN LATERAL (SELECT id, name, sale_price FROM data_package WHERE id = a.package_id LIMIT 1) p ON true
LEFT JOIN LATERAL (SELECT id, name, kind FROM tenant WHERE id = a.tenant_id LIMIT 1) t ON true
ORDER BY {order}"""
COLUMNS = "id, display_iccid, imsi, msisdn, status, carrier, activated_at, package_id, tenant_id"


@dataclass(frozen=True)
class Caller:
    name: str
    tenant: int
    path: str
    level: int
    tenants: tuple[int, ...]
    """The caller's own tenant and all below it."""

    @property
    def end(self) -> str:
        return self.path.rstrip(".") + "/"

    @property
    def branch(self) -> str:
        return self.path[: len(".0001.0001.")]


@dataclass(frozen=True)
class Position:
    """The card after which a page begins."""

    id: int
    activated_at: Any = None


@dataclass(frozen=True)
class Asked:
    """A page: in which order, and from where."""

    name: str
    by_activation: bool
    after: Position | None

    @property
    def order(self) -> str:
        return "activated_at, id" if self.by_activation else "id"


@dataclass
class Candidate:
    name: str
    statement: PreparedStatement[Any]
    arguments: Sequence[Any]

    async def timed(self) -> float:
        started = time.perf_counter()
        await self.statement.fetch(*self.arguments)
        return (time.perf_counter() - started) * 1000

    async def keys(self) -> list[int]:
        return [row[0] for row in await self.statement.fetch(*self.arguments)]


# -- what a hand could write ----------------------------------------------------------------------------------


def _scan(asked: Asked, scope: str) -> str:
    """One scan in sort order; past the last activation come the cards that have none."""
    if not asked.by_activation:
        past = "AND id > $1" if asked.after else ""
        return f"SELECT {COLUMNS} FROM sim_card WHERE {scope} {past} ORDER BY id LIMIT 51"
    scope = f"{scope} AND status = 'ACTIVE'"
    if not asked.after:
        return f"SELECT {COLUMNS} FROM sim_card WHERE {scope} ORDER BY activated_at, id LIMIT 51"
    return (
        f"(SELECT {COLUMNS} FROM sim_card WHERE {scope} AND (activated_at, id) > ($2, $1) "
        f"ORDER BY activated_at, id LIMIT 51) UNION ALL (SELECT {COLUMNS} FROM sim_card WHERE {scope} "
        f"AND activated_at IS NULL ORDER BY id LIMIT 51) LIMIT 51"
    )


def _merged(asked: Asked, tenants: str) -> str:
    """The first cards of each tenant, merged."""
    each = _scan(asked, "tenant_id = n.id")
    return f"SELECT m.* FROM {tenants} n(id) CROSS JOIN LATERAL ({each}) m ORDER BY {_of('m', asked)} LIMIT 51"


def _of(alias: str, asked: Asked) -> str:
    return ", ".join(f"{alias}.{column}" for column in asked.order.split(", "))


def written(caller: Caller, asked: Asked) -> dict[str, tuple[str, list[Any]]]:
    """Pages as statements with their own parameters, by name."""
    first: list[Any] = []
    if asked.after:
        first = [asked.after.id, asked.after.activated_at] if asked.by_activation else [asked.after.id]
    at = len(first) + 1
    inside = f"tenant_path >= ${at} AND tenant_path < ${at + 1}"
    found: dict[str, tuple[str, list[Any]]] = {
        "path range": (_scan(asked, inside), [*first, caller.path, caller.end]),
    }
    if caller.level == 0:
        found["all"] = (_scan(asked, "true"), first)
    if caller.level == 1:
        found["branch"] = (_scan(asked, f"tenant_branch = ${at}"), [*first, caller.branch])
    if caller.level > 1:
        scope = f"tenant_branch = ${at} AND tenant_path >= ${at + 1} AND tenant_path < ${at + 2}"
        found["branch and path range"] = (_scan(asked, scope), [*first, caller.branch, caller.path, caller.end])
        # what is certain to hold for most rows of the branch is kept from the optimiser, which would take it for rare
        scope = scope.replace("AND tenant_path", "AND CASE WHEN tenant_path", 1) + " THEN true ELSE false END"
        found["branch, then path"] = (_scan(asked, scope), [*first, caller.branch, caller.path, caller.end])
    if len(caller.tenants) == 1:
        found["its tenant"] = (_scan(asked, f"tenant_id = ${at}"), [*first, caller.tenant])
    elif caller.level > 0:
        found["merged of a list"] = (
            _merged(asked, f"unnest(${at}::bigint[])"),
            [*first, list(caller.tenants)],
        )
        below = f"(SELECT id FROM tenant WHERE path >= ${at} AND path < ${at + 1} OFFSET 0)"
        found["merged of the tree"] = (_merged(asked, below), [*first, caller.path, caller.end])
        found["any of a list"] = (_scan(asked, f"tenant_id = ANY (${at}::bigint[])"), [*first, list(caller.tenants)])
    return found


# -- who asks, and for what -----------------------------------------------------------------------------------

AGENT_OF_11 = """
SELECT t.id FROM tenant t WHERE t.level = 2 AND t.id < 502
ORDER BY abs(11 - (SELECT count(*) FROM tenant b WHERE b.path >= t.path AND b.path < rtrim(t.path, '.') || '/')), t.id
LIMIT 1
"""
LEAF_OF_200 = """
SELECT t.id FROM tenant t JOIN sim_card c ON c.tenant_id = t.id WHERE t.level = 5
GROUP BY t.id ORDER BY abs(200 - count(*)), t.id LIMIT 1
"""
MIDDLE = """
SELECT id, activated_at FROM sim_card WHERE tenant_path >= $1 AND tenant_path < $2 {only} ORDER BY {order}
OFFSET (SELECT count(*) / 2 FROM sim_card WHERE tenant_path >= $1 AND tenant_path < $2 {only}) LIMIT 1
"""
Connection = Any


async def callers(connection: Connection) -> list[Caller]:
    keys = {
        "platform": 1,
        "agent of level 1, 500 below": WIDE_BRANCH,
        "deeper agent, 500 below": WIDE_DEEP,
        "agent, 11 tenants": await connection.fetchval(AGENT_OF_11),
        "leaf, 200 cards": await connection.fetchval(LEAF_OF_200),
    }
    found = []
    for name, key in keys.items():
        tenant = await connection.fetchrow("SELECT path, level FROM tenant WHERE id = $1", key)
        assert tenant is not None
        end = tenant["path"].rstrip(".") + "/"
        below = await connection.fetch("SELECT id FROM tenant WHERE path >= $1 AND path < $2", tenant["path"], end)
        found.append(Caller(name, key, tenant["path"], tenant["level"], tuple(row["id"] for row in below)))
    return found


async def pages(connection: Connection, caller: Caller) -> list[Asked]:
    asked = []
    for by_activation in (False, True):
        only = "AND status = 'ACTIVE' AND activated_at IS NOT NULL" if by_activation else ""
        order = "activated_at, id" if by_activation else "id"
        row = await connection.fetchrow(MIDDLE.format(only=only, order=order), caller.path, caller.end)
        assert row is not None
        name = "by activation, active" if by_activation else "by id"
        asked += [
            Asked(name, by_activation, None),
            Asked(f"{name}, from the middle", by_activation, Position(row["id"], row["activated_at"])),
        ]
    return asked


class Planner:
    """The planner as the server has it, without the server."""

    def __init__(self, place: Place, database: str) -> None:
        settings = place.settings(database)
        self.database = Database(settings.database_url)
        self.redis: redis.Redis = redis.Redis.from_url(settings.redis_url)
        self.access = Access(self.database, self.redis, POLICIES, the_catalog())
        self.engine = Engine(the_graph(), load_doors())
        self.pool = Pool(settings.database_url, 1)

    def principal(self, caller: Caller) -> Principal:
        door, role = ("admin", "platform_operations") if caller.level == 0 else ("agent", "agent_admin")
        return Principal(
            PrincipalKind.STAFF,
            door,
            self.access.grants_of([role], caller.path),
            tenant_id=caller.tenant,
            path=caller.path,
            tenants_below=len(caller.tenants),
            account_id=caller.tenant,
            roles=(role,),
        )

    def statement(self, caller: Caller, asked: Asked) -> tuple[Principal, str, tuple[Any, ...]]:
        """Who asks, the SQL, and its arguments."""
        principal = self.principal(caller)
        document = DOCUMENT % (BY_ACTIVATION if asked.by_activation else "")
        operation = self.engine.documents[principal.door].get(document).operation(None)
        variables = operation.coerce({"after": self._cursor(asked)})
        plan = self.engine.plan(self.engine.doors[principal.door], principal, operation, variables)
        level = plan.roots[0].levels[0]
        return principal, level.sql, level.fill(None, variables, principal)

    def _cursor(self, asked: Asked) -> str | None:
        if asked.after is None:
            return None
        if asked.by_activation:
            tag = order_tag("SimCard", [("activated_at", False), ("id", False)])
            return encode_cursor(tag, asked.after.id, [asked.after.activated_at.isoformat(" ")])
        return encode_cursor(order_tag("SimCard", [("id", False)]), asked.after.id)

    async def close(self) -> None:
        await self.pool.close()
        await self.database.close()
        await self.redis.aclose()


# -- the comparison -------------------------------------------------------------------------------------------


async def _candidates(connections: dict[str, Connection], caller: Caller, asked: Asked) -> list[Candidate]:
    """Each statement with a plan for all values, and with one for these; those that are far slower are left out."""
    tried: list[tuple[float, Candidate]] = []
    for name, (page, arguments) in written(caller, asked).items():
        for mode, connection in connections.items():
            statement = await connection.prepare(SELECTED.format(page=page, order=_of("a", asked)))
            candidate = Candidate(f"{name}, {mode}", statement, arguments)
            with contextlib.suppress(asyncpg.QueryCanceledError):
                times = [await candidate.timed() for _ in range(TRIED)]
                tried.append((median(times), candidate))
    best = min(taken for taken, _ in tried)
    return [candidate for taken, candidate in tried if taken <= HOPELESS * best]


async def _compare(planned: Candidate, others: list[Candidate], executions: int) -> tuple[float, float, str]:
    """Medians of the planned statement and of the best other one, and which that is."""
    expected = await planned.keys()
    for other in others:
        if await other.keys() != expected:
            raise RuntimeError(f"{planned.name} and {other.name} give different cards")
    times: dict[str, list[float]] = {c.name: [] for c in (planned, *others)}
    turns = [planned, *others]
    for _ in range(executions):
        random.shuffle(turns)
        for candidate in turns:
            times[candidate.name].append(await candidate.timed())
    medians = {name: median(taken) for name, taken in times.items()}
    mine = medians.pop(planned.name)
    best = min(medians, key=lambda name: medians[name])
    return mine, medians[best], best


async def run(place: Place, cards: int, rounds: int, seconds: float) -> dict[str, Any]:  # noqa: ARG001
    database = await loaded(place, cards)
    modes = {"any values": "force_generic_plan", "these values": "force_custom_plan"}
    connections = {
        name: await asyncpg.connect(
            place.owner_url(database),
            ssl=False,
            server_settings={"plan_cache_mode": mode, "jit": "off", "TimeZone": "UTC", "statement_timeout": "2000"},
        )
        for name, mode in modes.items()
    }
    planner = Planner(place, database)
    superuser = await place.superuser(database)
    shapes: dict[str, dict[str, float]] = {}
    rows = []
    try:
        await planner.pool.start()
        for caller in await callers(superuser):
            for asked in await pages(superuser, caller):
                principal, sql, arguments = planner.statement(caller, asked)
                async with planner.pool.lease() as connection:
                    planned = Candidate("planner", await connection.raw.prepare(sql), arguments)
                    others = await _candidates(connections, caller, asked)
                    mine, best, name = await _compare(planned, others, EXECUTIONS_PER_ROUND * rounds)
                shapes.setdefault(caller.name, {})[asked.name] = round(mine / best, 3)
                rows.append(
                    [
                        caller.name,
                        principal.shape.name,
                        asked.name,
                        f"{mine:.2f}",
                        f"{best:.2f}",
                        f"{mine / best:.2f}",
                        name,
                    ]
                )
    finally:
        for one in (*connections.values(), superuser):
            await one.close()
        await planner.close()
    tables.show(["caller", "shape", "page", "planner ms", "best ms", "ratio", "best by hand"], rows)
    return {"shapes": shapes}
