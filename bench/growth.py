"""What a request costs when there is more of everything: tenant-made roles, and cards.

Two servers run side by side, one on little and one on much. Roles are read when a server starts, so the first server
never sees those that are made before the second one starts. A machine's own moods are greater than the few percent
that are looked for, and they only ever add: the servers take many short turns, each first as often as the other, and
what is compared is what a request cost each of them in its least disturbed turn.
"""

from __future__ import annotations

from typing import Any

from bench import tables
from bench.contenders import TRELLIS, Server, start
from bench.data import CUSTOMERS, TENANTS, loaded
from bench.load import Measure
from bench.operations import paths_of_customers, variables
from bench.queries import WARMING_SECONDS
from bench.services import Place

OPERATIONS = ["q1", "q2"]
FEW_ROLES, MANY_ROLES = 10, 10_000
FEWER_CARDS = 10
TURNS_PER_ROUND = 4
TURN_SECONDS = 2.0

ROLES = """
WITH made AS (
    INSERT INTO role (tenant_id, tenant_path, name, status)
    SELECT t.id, t.path, 'Role ' || n, 'ACTIVE'
    FROM generate_series($1::bigint, $2::bigint) n JOIN tenant t ON t.id = 2 + n % ($3::bigint - 1)
    RETURNING id, tenant_id, tenant_path
)
INSERT INTO role_policy (tenant_id, tenant_path, role_id, obj, act, scope, eft)
SELECT tenant_id, tenant_path, id, obj, 'read', 'subtree', 'allow'
FROM made, unnest(ARRAY['Query.simCards', 'Query.simCard', 'SimCard.displayIccid', 'SimCard.status']) obj
"""
HELD = """
INSERT INTO role_assignment (tenant_id, tenant_path, account_id, role)
SELECT a.tenant_id, a.tenant_path, a.id, 'role:' || r.id
FROM role r JOIN staff_account a ON a.tenant_id = r.tenant_id WHERE a.id = ANY ($1)
"""
REMOVED = """
DELETE FROM role_assignment WHERE role LIKE 'role:%';
DELETE FROM role_policy;
DELETE FROM role;
"""


async def _make_roles(place: Place, database: str, first: int, last: int) -> None:
    connection = await place.superuser(database)
    try:
        if first == 0:
            await connection.execute(REMOVED)
        await connection.execute(ROLES, first, last, TENANTS)
        if first == 0:
            # the staff of the first customers hold one each
            await connection.execute(HELD, list(CUSTOMERS))
        await connection.execute("ANALYZE role, role_policy, role_assignment")
    finally:
        await connection.close()


async def _remove_roles(place: Place, database: str) -> None:
    connection = await place.superuser(database)
    try:
        await connection.execute(REMOVED)
    finally:
        await connection.close()


async def _serving(place: Place, database: str) -> Server:
    connection = await place.superuser(database)
    try:
        given = await variables(connection)
        paths = await paths_of_customers(connection)
    finally:
        await connection.close()
    server = start(place, TRELLIS, database, paths)
    for operation in OPERATIONS:
        server.prepare(operation, given[operation])
    return server


Turns = dict[str, tuple[list[Measure], list[Measure]]]
"""By operation: what a request cost, turn by turn, on little and on much."""


def _in_turns(place: Place, little: Server, much: Server, rounds: int) -> Turns:
    servers = (little, much)
    found: Turns = {}
    for operation in OPERATIONS:
        found[operation] = [], []
        for server in servers:
            server.measure(operation, WARMING_SECONDS, place.postmaster)
        for turn in range(rounds * TURNS_PER_ROUND):
            for n in (0, 1) if turn % 2 == 0 else (1, 0):
                found[operation][n].append(servers[n].measure(operation, TURN_SECONDS, place.postmaster))
    return found


def _least(turns: list[Measure]) -> tuple[float, float]:
    """CPU per request of server and PostgreSQL where nothing disturbed them."""
    return min(m.server_cpu for m in turns), min(m.postgres_cpu for m in turns)


def _ratios(found: Turns) -> dict[str, dict[str, float]]:
    ratios = {}
    for operation, (little, much) in found.items():
        (server, postgres), (server_of_much, postgres_of_much) = _least(little), _least(much)
        ratios[operation] = {
            "server": round(server_of_much / server, 3),
            "postgres": round(postgres_of_much / postgres, 3),
        }
    return ratios


async def _roles(place: Place, database: str, rounds: int) -> Turns:
    try:
        await _make_roles(place, database, 0, FEW_ROLES - 1)
        few = await _serving(place, database)
        await _make_roles(place, database, FEW_ROLES, MANY_ROLES - 1)
        many = await _serving(place, database)
        return _in_turns(place, few, many, rounds)
    finally:
        await _remove_roles(place, database)


async def run(place: Place, cards: int, rounds: int, seconds: float) -> dict[str, Any]:  # noqa: ARG001
    fewer = max(cards // FEWER_CARDS, 1)
    much = await loaded(place, cards)
    little = await loaded(place, fewer)
    by_roles = await _roles(place, much, rounds)
    by_cards = _in_turns(place, await _serving(place, little), await _serving(place, much), rounds)
    rows = []
    for name, sizes, found in (
        ("tenant-made roles", (FEW_ROLES, MANY_ROLES), by_roles),
        ("cards", (fewer, cards), by_cards),
    ):
        for operation, both in found.items():
            for size, turns in zip(sizes, both, strict=True):
                server, postgres = _least(turns)
                rows.append([name, operation, f"{size:,}", f"{server:.3f}", f"{postgres:.3f}"])
    tables.show(["of which", "operation", "how many", "server CPU ms", "PostgreSQL CPU ms"], rows)
    return {"growth": {"roles": _ratios(by_roles), "cards": _ratios(by_cards)}}
