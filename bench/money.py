"""What money costs: settling a million commission entries against the aggregate and the writes by hand, and orders paid
over four levels against a script that writes the same rows."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Any

import asyncpg

from authz.principal import Principal, system
from authz.session import Database
from bench import tables
from bench.data import FULL
from bench.services import Place
from services import orders, settlement
from services.runtime import Unit
from services.sim.selection import Selection
from services.tenancy import path_code

DATABASE = "bench_money"
AGENTS = 600
"""In two hundred chains of three."""
ENTRIES_A_LINE = 3
MONTH_OVER = datetime(2026, 4, 2, tzinfo=UTC)
CALLERS = 4

CATALOGUE = """
INSERT INTO supplier (id, tenant_id, tenant_path, supplier_type, name, carrier, interface_name, status)
VALUES (1, 1, '.0001.', 'CARRIER', 'Carrier', 'CMCC', 'sandbox', 'ACTIVE');
INSERT INTO data_package (id, tenant_id, tenant_path, code, name, carrier, period_type, data_volume_mb,
                          channel_price, sale_price, currency, supplier_id, status)
VALUES (1, 1, '.0001.', 'P-1', 'Plan 1', 'CMCC', 'MONTHLY', 1024, 10, 20, 'CNY', 1, 'ACTIVE');
INSERT INTO commission_rate (tenant_id, tenant_path, data_package_id, percent, creator_id)
SELECT id, path, 1, 40 - 10 * level, parent_id FROM tenant WHERE kind = 'AGENT';
INSERT INTO ledger_account (tenant_id, tenant_path, kind, currency, floor)
SELECT id, path, 'PREPAYMENT', 'CNY', -1e12 FROM tenant WHERE kind = 'AGENT'
UNION ALL SELECT id, path, 'COMMISSION', 'CNY', NULL FROM tenant WHERE kind = 'AGENT'
UNION ALL SELECT id, path, 'SALES', 'CNY', NULL FROM tenant WHERE kind = 'PLATFORM';
INSERT INTO sim_card (tenant_id, tenant_path, iccid, carrier, sim_type, entry_mode, status, supplier_id)
SELECT id, path, '8986009' || lpad((id * 10 + n)::text, 12, '0') || '0', 'CMCC', 'M2M', 'IMPORT', 'ACTIVE', 1
FROM tenant, generate_series(1, 5) n WHERE kind = 'AGENT' AND level = 3;
"""
EARNED = """
INSERT INTO commission_settlement (tenant_id, tenant_path, month, currency) VALUES (1, '.0001.', '2020-01-01', 'CNY');
INSERT INTO sales_order (kind, tenant_id, tenant_path, status, amount, currency, source, expires_at, paid_at,
                         needs_commission, commission_status)
SELECT 'PACKAGE', tenant_id, tenant_path, 'PAID', 20, 'CNY', 'bench', now(), now(), true, 'SHARED'
FROM sim_card WHERE id = (SELECT min(id) FROM sim_card);
ALTER TABLE order_line DROP CONSTRAINT uq_order_line_order_id_sim_card_id;
CREATE INDEX ON order_line (order_id, sim_card_id);
"""
LINES = """
INSERT INTO order_line (order_id, sim_card_id, data_package_id, name, period_type, plan_kind, data_volume_mb, price,
                        tenant_id, tenant_path)
SELECT (SELECT max(id) FROM sales_order), (SELECT min(id) FROM sim_card), 1, 'Plan 1', 'MONTHLY', 'DATA', 1024, 20,
       (SELECT tenant_id FROM sales_order LIMIT 1), (SELECT tenant_path FROM sales_order LIMIT 1)
FROM generate_series(1, $1::int)
"""
ENTRIES = """
INSERT INTO commission_entry (tenant_id, tenant_path, order_id, order_line_id, status, price, currency, percent,
                              percent_below, revenue, cost, amount, created_at)
SELECT a.id, a.path, l.order_id, l.id, 'PENDING', 20, 'CNY', 30, 20, 16, 14, 2, '2026-03-05'
FROM (SELECT id, order_id, row_number() OVER (ORDER BY id) AS n FROM order_line) l
JOIN (SELECT id, path, row_number() OVER (ORDER BY id) AS n FROM tenant WHERE kind = 'AGENT') a
  ON (l.n - 1) % 200 = (a.n - 1) / 3
"""
BY_HAND = """
CREATE TEMP TABLE settled ON COMMIT DROP AS
SELECT tenant_id, tenant_path, currency, count(*) AS entries, sum(amount) AS amount FROM commission_entry
WHERE status = 'PENDING' AND created_at >= '2026-03-01' AND created_at < '2026-04-01' GROUP BY 1, 2, 3;
UPDATE commission_entry SET status = 'CREDITED', settlement_id = (SELECT max(id) FROM commission_settlement)
WHERE status = 'PENDING' AND created_at >= '2026-03-01' AND created_at < '2026-04-01';
"""
"""The aggregate over the entries and the writes of all of them, nothing else."""
CLEAN = """
UPDATE commission_entry SET status = 'PENDING', settlement_id = NULL;
DELETE FROM ledger_entry; DELETE FROM commission_settlement WHERE month > '2020-01-01'; DELETE FROM ledger_transfer;
UPDATE ledger_account SET balance = 0;
"""
WRITES = """
WITH o AS (
  INSERT INTO sales_order (kind, tenant_id, tenant_path, status, amount, currency, source, expires_at, paid_at,
                           needs_commission, commission_status)
  SELECT 'PACKAGE', tenant_id, tenant_path, 'PAID', 20, 'CNY', 'bench', now(), now(), true, 'SHARED'
  FROM sim_card WHERE id = $1 RETURNING id, tenant_id, tenant_path
), l AS (
  INSERT INTO order_line (order_id, sim_card_id, data_package_id, name, period_type, plan_kind, data_volume_mb, price,
                          tenant_id, tenant_path)
  SELECT id, $1, 1, 'Plan 1', 'MONTHLY', 'DATA', 1024, 20, tenant_id, tenant_path FROM o
  RETURNING id, order_id, tenant_id, tenant_path
), s AS (
  INSERT INTO package_subscription (sim_card_id, data_package_id, order_line_id, status, plan_kind, data_volume_mb,
                                    period_type, time_zone, tenant_id, tenant_path)
  SELECT $1, 1, id, 'WAITING', 'DATA', 1024, 'MONTHLY', 'UTC', tenant_id, tenant_path FROM l
), a AS (
  SELECT t.id, t.path, t.level FROM tenant_closure c JOIN tenant t ON t.id = c.ancestor_id, o
  WHERE c.tenant_id = o.tenant_id AND t.kind = 'AGENT'
), e AS (
  INSERT INTO commission_entry (tenant_id, tenant_path, order_id, order_line_id, status, price, currency, percent,
                                percent_below, revenue, cost, amount)
  SELECT a.id, a.path, l.order_id, l.id, 'PENDING', 20, 'CNY', 30, 20, 16, 14, 2 FROM a, l
), t AS (
  INSERT INTO ledger_transfer (tenant_id, tenant_path, kind, idempotency_key)
  SELECT tenant_id, tenant_path, 'ORDER', 'by hand:' || id FROM o
  UNION ALL SELECT a.id, a.path, 'COMMISSION', 'by hand:' || o.id || ':' || a.id FROM a, o
  RETURNING id, tenant_id, kind
)
INSERT INTO ledger_entry (tenant_id, tenant_path, transfer_id, ledger_account_id, amount)
SELECT x.tenant_id, x.tenant_path, t.id, x.id,
  CASE x.kind WHEN 'SALES' THEN CASE t.kind WHEN 'ORDER' THEN 20 ELSE -2 END WHEN 'PREPAYMENT' THEN -20 ELSE 2 END
FROM t JOIN ledger_account x ON x.currency = 'CNY' AND (
  x.kind = 'SALES' OR x.tenant_id = t.tenant_id AND x.kind = CASE t.kind WHEN 'ORDER' THEN 'PREPAYMENT'
                                                             ELSE 'COMMISSION' END)
ORDER BY x.kind = 'SALES', x.id
"""
"""The rows of an order paid over four levels, written by one statement that checks nothing."""


async def run(place: Place, cards: int, rounds: int, seconds: float) -> dict[str, Any]:  # noqa: ARG001
    count = min(cards, FULL)
    await asyncio.to_thread(place.create_migrated, DATABASE)
    connection = await place.superuser(DATABASE)
    database = Database(place.application_url(DATABASE))
    try:
        await plant(connection)
        settled = await _settlement(connection, database, count)
        paid = await _payments(place, connection, database, seconds)
    finally:
        await database.close()
        await connection.close()
    place.drop(DATABASE)
    return {"settlement": settled, "payments": paid}


async def plant(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """The platform, and chains of three agents below it."""
    tenants: list[tuple[Any, ...]] = [(1, "PLATFORM", None, ".0001.", 0, 1, "Platform")]
    closure = [(1, ".0001.", 1, 0)]
    for chain in range(AGENTS // ENTRIES_A_LINE):
        above = [(1, ".0001.")]
        for level in range(1, ENTRIES_A_LINE + 1):
            key = 2 + chain * ENTRIES_A_LINE + level - 1
            path = f"{above[-1][1]}{path_code(chain + 1 if level == 1 else 1)}."
            tenants.append((key, "AGENT", above[-1][0], path, level, 2, f"Agent {key}"))
            above.append((key, path))
            closure += [(key, path, up, len(above) - 1 - place) for place, (up, _) in enumerate(above)]
    await connection.execute("SET session_replication_role = replica")
    await connection.executemany(
        """INSERT INTO tenant (id, kind, parent_id, path, level, next_child, name, status, time_zone, currency)
           VALUES ($1, $2, $3, $4, $5, $6, $7, 'ACTIVE', 'UTC', 'CNY')""",
        tenants,
    )
    await connection.executemany(
        "INSERT INTO tenant_closure (tenant_id, tenant_path, ancestor_id, depth) VALUES ($1, $2, $3, $4)", closure
    )
    await connection.execute("SET session_replication_role = origin")
    await connection.execute(CATALOGUE)


async def _settlement(
    connection: asyncpg.Connection[asyncpg.Record], database: Database, count: int
) -> dict[str, float]:
    await connection.execute(EARNED)
    await connection.execute(LINES, count // ENTRIES_A_LINE)
    await connection.execute(ENTRIES)
    entries = await connection.fetchval("SELECT count(*) FROM commission_entry")
    await connection.execute("VACUUM ANALYZE")

    started = time.perf_counter()
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute(BY_HAND)
    by_hand = time.perf_counter() - started
    await transaction.rollback()
    await connection.execute("VACUUM ANALYZE commission_entry")

    started = time.perf_counter()
    made = await settlement.settle_due(database, MONTH_OVER)
    ours = time.perf_counter() - started
    if made != AGENTS or await connection.fetchval("SELECT sum(entry_count) FROM commission_settlement") != entries:
        raise RuntimeError(f"{made} settlements were made")
    tables.show(
        [f"{entries:,} entries", "seconds"],
        [["aggregate and writes by hand", f"{by_hand:.1f}"], ["settlement", f"{ours:.1f}"]],
    )
    await connection.execute(CLEAN)
    await connection.execute("VACUUM ANALYZE")
    return {
        "entries": entries,
        "seconds": round(ours, 1),
        "by_hand": round(by_hand, 1),
        "ratio_to_by_hand": round(ours / by_hand, 2),
    }


async def _payments(
    place: Place, connection: asyncpg.Connection[asyncpg.Record], database: Database, seconds: float
) -> dict[str, float]:
    rows = await connection.fetch("SELECT id, tenant_id, tenant_path FROM sim_card ORDER BY id")
    parts = [rows[n::CALLERS] for n in range(CALLERS)]

    async def ours(cards: list[asyncpg.Record], until: float) -> int:
        done = 0
        while time.perf_counter() < until:
            card = cards[done % len(cards)]
            caller: Principal = system("bench", card["tenant_path"], card["tenant_id"])
            async with database.transaction(caller) as session:
                work = Unit(caller, session)
                made = await orders.order_packages(work, 1, Selection(ids=[card["id"]]), source="bench", remark=None)
                await orders.pay_from_balance(work, made.id)
            done += 1
        return done

    async def by_hand(cards: list[asyncpg.Record], until: float) -> int:
        done = 0
        own = await place.superuser(DATABASE)
        try:
            while time.perf_counter() < until:
                await own.execute(WRITES, cards[done % len(cards)]["id"])
                done += 1
        finally:
            await own.close()
        return done

    rates = {}
    for name, work in (("orders paid", ours), ("the same rows by hand", by_hand)):
        await asyncio.gather(*(work(part, time.perf_counter() + 0.5) for part in parts))
        until = time.perf_counter() + seconds
        rates[name] = sum(await asyncio.gather(*(work(part, until) for part in parts))) / seconds
    if await connection.fetchval("SELECT sum(amount) FROM ledger_entry") != 0:
        raise RuntimeError("the books do not sum to zero")
    tables.show(["over four levels", "a second"], [[name, f"{rate:.0f}"] for name, rate in rates.items()])
    paid, written = rates.values()
    return {"per_second": round(paid), "by_hand": round(written), "ratio_to_by_hand": round(paid / written, 2)}
