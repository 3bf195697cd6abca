"""The data that is measured: a tree of tenants, their cards and what happened to them, straight into the tables.

Five thousand tenants (the platform, 50 customers below it, four further levels) hold about 200 cards each. Two
extra branches give callers with exactly 500 tenants below: one just below the platform, one deeper. Their tenants
hold 50 cards each, spread among the others, so that the shares of the first five thousand hardly change.
"""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from authz.principal import ROOT_PATH
from bench.services import Place
from server.settings import PROJECT
from services.tenancy import path_code

CUSTOMERS = range(2, 52)
"""The keys of the tenants just below the platform whose staff call in the benchmarks; about 100 tenants each."""
WIDE_BRANCH = 5001
"""Just below the platform, with 500 tenants below it."""
WIDE_DEEP = 5503
"""One level deeper, with 500 tenants below it, in a branch of 1,003."""
TENANTS = 5000
EXTRA_TENANTS = 1504
CARDS_PER_TENANT, CARDS_PER_EXTRA_TENANT = 200, 50
PACKAGES = 200
FULL = 1_000_000
EXTRA_SHARE = EXTRA_TENANTS * CARDS_PER_EXTRA_TENANT / (TENANTS * CARDS_PER_TENANT)


@dataclass
class Planted:
    """A tenant of the tree that is being laid out."""

    key: int
    parent: Planted | None
    path: str
    level: int
    name: str
    children: int = 0


def tree() -> list[Planted]:
    """All tenants, parents before children."""
    made: dict[int, Planted] = {1: Planted(1, None, ROOT_PATH, 0, "Platform")}

    def add(key: int, parent_key: int, name: str) -> None:
        parent = made[parent_key]
        parent.children += 1
        path = f"{parent.path}{path_code(parent.children)}."
        made[key] = Planted(key, parent, path, parent.level + 1, f"{name} {key}")

    for key in CUSTOMERS:
        add(key, 1, "Customer")
    for first, last, above, above_count, name in (
        (52, 501, 2, 50, "Agent L1"),
        (502, 1501, 52, 450, "Agent L2"),
        (1502, 3001, 502, 1000, "Agent L3"),
        (3002, TENANTS, 1502, 1500, "Agent L4"),
    ):
        for key in range(first, last + 1):
            add(key, above + (key - first) % above_count, name)
    add(WIDE_BRANCH, 1, "Wide branch")
    for key in range(WIDE_BRANCH + 1, WIDE_BRANCH + 501):
        add(key, WIDE_BRANCH, "Below wide")
    root_of_deep = WIDE_DEEP - 1
    add(root_of_deep, 1, "Above wide")
    add(WIDE_DEEP, root_of_deep, "Wide deep")
    for key in range(WIDE_DEEP + 1, WIDE_DEEP + 501):
        add(key, WIDE_DEEP, "Below deep")
    sibling = WIDE_DEEP + 501
    add(sibling, root_of_deep, "Beside deep")
    for key in range(sibling + 1, sibling + 501):
        add(key, sibling, "Below sibling")
    assert len(made) == TENANTS + EXTRA_TENANTS
    return list(made.values())


def _closure(tenants: list[Planted]) -> Iterator[tuple[int, str, int, int]]:
    for tenant in tenants:
        above: Planted | None = tenant
        depth = 0
        while above is not None:
            yield tenant.key, tenant.path, above.key, depth
            above, depth = above.parent, depth + 1


CATALOGUE = """
INSERT INTO supplier (id, tenant_id, tenant_path, supplier_type, name, carrier, interface_name, status)
VALUES (1, 1, '.0001.', 'CARRIER', 'Carrier', 'CMCC', 'sandbox', 'ACTIVE');
INSERT INTO data_package (id, tenant_id, tenant_path, code, name, carrier, period_type, data_volume_mb,
                          channel_price, sale_price, currency, supplier_id, status)
SELECT i, 1, '.0001.', 'P-' || i, 'Plan ' || i || ' / ' || i * 250 || ' MB', 'CMCC', 'MONTHLY', i * 250,
       round((1 + random() * 50)::numeric, 2), round((51 + random() * 99)::numeric, 2), 'CNY', 1, 'ACTIVE'
FROM generate_series(1, $packages) i;
"""
CARDS = """
INSERT INTO sim_card (id, tenant_id, tenant_path, iccid, imsi, msisdn, carrier, sim_type, entry_mode, status,
                      supplier_id, package_id, activated_at, created_at)
SELECT i, t.id, t.path, '8986' || lpad((i * 7919)::text, 16, '0'), '46000' || lpad((i * 31)::text, 10, '0'),
       '1064' || lpad((i * 17)::text, 9, '0'), 'CMCC', CASE WHEN i % 2 = 0 THEN 'M2M' ELSE 'CONSUMER' END, 'IMPORT',
       (ARRAY['STOCK', 'ACTIVE', 'ACTIVE', 'ACTIVE', 'SUSPENDED', 'TERMINATED'])[1 + floor(random() * 6)::int], 1,
       1 + floor(random() * $packages)::int,
       CASE WHEN random() < 0.8 THEN timestamptz '2023-01-01' + random() * interval '900 days' END,
       timestamptz '2022-06-01' + i * interval '60 seconds'
FROM (SELECT i, CASE WHEN r < $regular THEN 2 + r / $each ELSE $after + (r - $regular) / $each_extra END AS tenant
      FROM (SELECT i, floor(random() * ($regular + $extra))::int AS r
            FROM generate_series(1::bigint, $cards) i OFFSET 0) drawn OFFSET 0) placed
JOIN tenant t ON t.id = placed.tenant
ORDER BY i;
"""
CHANGES = """
INSERT INTO sim_status_change (id, tenant_id, tenant_path, sim_card_id, action, from_status, to_status, reason, at)
SELECT i, c.tenant_id, c.tenant_path, c.id, 'CHANGE', 'ALLOCATED',
       (ARRAY['ACTIVE', 'ACTIVE', 'ACTIVE', 'SUSPENDED', 'TERMINATED'])[1 + floor(random() * 5)::int],
       'Reason ' || i % 97, timestamptz '2023-01-01' + i * interval '70 seconds'
FROM (SELECT i, 1 + floor(random() * $cards)::bigint AS card
      FROM generate_series(1::bigint, $changes) i OFFSET 0) drawn
JOIN sim_card c ON c.id = drawn.card
ORDER BY i;
"""
STAFF = """
INSERT INTO staff_account (id, tenant_id, tenant_path, login, name, password_hash, status, failed_logins)
SELECT id, id, path, 'staff-' || id, 'Staff ' || id, 'none', 'ACTIVE', 0 FROM tenant WHERE level = 1;
INSERT INTO role_assignment (tenant_id, tenant_path, account_id, role)
SELECT tenant_id, tenant_path, id, 'agent_admin' FROM staff_account;
"""
SESSION = """
INSERT INTO login_session (tenant_id, tenant_path, key, account_id, door, refresh_hash, expires_at)
SELECT tenant_id, tenant_path, $2, id, 'agent', '\\x00', now() + interval '10 years' FROM staff_account WHERE id = $1
"""
INDEXES = """
SELECT indexrelid::regclass::text AS name, pg_get_indexdef(indexrelid) AS definition
FROM pg_index WHERE indrelid = ANY ('{sim_card, sim_status_change}'::regclass[])
  AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid)
"""


def _filled(script: str, cards: int) -> str:
    values = {
        "packages": PACKAGES,
        "cards": cards + round(cards * EXTRA_SHARE),
        "changes": cards,
        "regular": (TENANTS - 1) * CARDS_PER_TENANT,
        "extra": EXTRA_TENANTS * CARDS_PER_EXTRA_TENANT,
        "each_extra": CARDS_PER_EXTRA_TENANT,
        "each": CARDS_PER_TENANT,
        "after": TENANTS + 1,
    }
    for name in sorted(values, key=len, reverse=True):
        script = script.replace(f"${name}", str(values[name]))
    return script


def session_key(account: int) -> uuid.UUID:
    """The key of the login session of a customer's staff; it is known, so that a token can be made for each run."""
    return uuid.uuid5(uuid.NAMESPACE_OID, f"bench {account}")


async def _fill(connection: asyncpg.Connection[asyncpg.Record], cards: int) -> None:
    # the superuser may leave out the triggers of foreign keys, which would take most of the time
    await connection.execute("SET session_replication_role = replica; SELECT setseed(0.42)")
    tenants = tree()
    await connection.copy_records_to_table(
        "tenant",
        columns=(
            "id", "kind", "parent_id", "path", "level", "next_child", "name", "status", "time_zone", "currency",
            "agent_level",
        ),
        records=[
            (
                t.key, "AGENT" if t.parent else "PLATFORM", t.parent.key if t.parent else None, t.path, t.level,
                t.children + 1, t.name, "ACTIVE", "Asia/Shanghai", "CNY", t.level or None,
            )
            for t in tenants
        ],
    )  # fmt: skip
    await connection.copy_records_to_table(
        "tenant_closure", columns=("tenant_id", "tenant_path", "ancestor_id", "depth"), records=list(_closure(tenants))
    )
    await connection.execute(_filled(CATALOGUE, cards))
    indexes = await connection.fetch(INDEXES)
    for index in indexes:
        await connection.execute(f"DROP INDEX {index['name']}")
    await connection.execute("ANALYZE tenant")
    await connection.execute(_filled(CARDS, cards))
    await connection.execute(_filled(CHANGES, cards))
    for index in indexes:
        await connection.execute(index["definition"])
    await connection.execute(STAFF)
    for account in (*CUSTOMERS, WIDE_BRANCH):
        await connection.execute(SESSION, account, session_key(account))
    tables = await connection.fetch(
        "SELECT table_name::text AS name FROM information_schema.columns WHERE table_schema = 'public' "
        "AND column_name = 'id' AND is_identity = 'YES'"
    )
    for table in tables:
        await connection.execute(
            f"SELECT setval(pg_get_serial_sequence('{table['name']}', 'id'), "
            f"greatest((SELECT max(id) FROM {table['name']}), 1))"
        )
    await connection.execute("VACUUM (FREEZE, ANALYZE)")
    await connection.execute("CHECKPOINT")


def _version() -> str:
    """Changes with the schema and with what is loaded."""
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for migration in sorted((PROJECT / "migrations" / "versions").glob("*.py")):
        digest.update(migration.read_bytes())
    return digest.hexdigest()[:8]


async def loaded(place: Place, cards: int = FULL) -> str:
    """The name of a database with so many cards; loaded the first time, kept as long as the schema stays."""
    name = f"bench_{cards}_{_version()}"
    databases = place.databases()
    if name not in databases:
        await _load(place, cards, name, databases)
    await _warm(place, name)
    return name


WARM = """
SELECT sum(pg_prewarm(c.oid)) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'public' AND c.relkind IN ('r', 'i')
"""


async def _warm(place: Place, database: str) -> None:
    """All tables and indexes in memory, so that whoever is measured first does not read them for the others."""
    connection = await place.superuser(database)
    try:
        await connection.execute("CREATE EXTENSION IF NOT EXISTS pg_prewarm")
        await connection.execute(WARM)
    finally:
        await connection.close()


async def _load(place: Place, cards: int, name: str, databases: list[str]) -> None:
    for outdated in databases:
        if outdated.startswith(f"bench_{cards}_"):
            place.drop(outdated)
    print(f"loading {cards:,} cards (once) ...", flush=True)
    draft = f"draft_{cards}"
    await asyncio.to_thread(place.create_migrated, draft)
    connection = await place.superuser(draft)
    try:
        await _fill(connection, cards)
    finally:
        await connection.close()
    connection = await place.superuser("postgres")
    try:
        await connection.execute(f"ALTER DATABASE {draft} RENAME TO {name}")
    finally:
        await connection.close()
