"""A world with something of everything in it, for tests that only read, and a count of what is asked of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import pytest

from planner.pool import Connection, Pool
from tests.conftest import Place, Template, _running, placed
from tests.support.world import World, sow

MORE = """
INSERT INTO department (tenant_id, tenant_path, name, position, parent_id, status)
SELECT d.tenant_id, d.tenant_path, d.name || ' ' || n, n % 2, d.id, 'ACTIVE' FROM department d, generate_series(1, 2) n;
UPDATE staff_account a SET department_id = d.id FROM department d
WHERE d.tenant_id = a.tenant_id AND d.position = 1;
UPDATE staff_account SET phone = NULL, email = NULL WHERE login = 'coast';
INSERT INTO staff_account (tenant_id, tenant_path, login, password_hash, name, phone, department_id, status,
                           failed_logins, last_login_at)
SELECT d.tenant_id, d.tenant_path, 'clerk ' || d.id, '', 'Clerk_' || d.id % 3, '1370000' || lpad(d.id::text, 4, '0'),
       d.id, CASE WHEN d.id % 4 = 0 THEN 'DISABLED' ELSE 'ACTIVE' END, 0,
       CASE WHEN d.id % 2 = 0 THEN timestamptz '2026-03-01 08:00:00.120+00' END
FROM department d;
INSERT INTO login_session (tenant_id, tenant_path, key, account_id, door, refresh_hash, refreshed_at, expires_at, ip)
SELECT a.tenant_id, a.tenant_path, gen_random_uuid(), a.id, 'agent', '', timestamptz '2026-02-01 00:00+00'
       + (a.id % 4) * interval '1 hour', timestamptz '2036-01-01 00:00+00', '10.0.0.9'
FROM staff_account a;
UPDATE login_record r SET account_id = a.id FROM staff_account a WHERE a.tenant_id = r.tenant_id AND a.login = 'north';
INSERT INTO operation_record (tenant_id, tenant_path, request_id, door, mutation, arguments, outcome, duration_ms)
SELECT id, path, 'r' || id, 'agent', 'suspendSimCards', '{}', 'SUCCEEDED', 5 FROM tenant;
UPDATE task SET total = CASE id % 3 WHEN 0 THEN NULL WHEN 1 THEN 0 ELSE 3 END;
INSERT INTO task_refusal (tenant_id, tenant_path, task_id, row_number, column_name, value, code)
SELECT t.tenant_id, t.tenant_path, t.id, 5 - n, 'IMSI', NULL, CASE n WHEN 1 THEN 'TOO_SHORT' ELSE 'CHECK_DIGIT' END
FROM task t, generate_series(1, 3) n;
INSERT INTO outlet (tenant_id, tenant_path, name, province, outlet_type, contact_name, status)
SELECT id, path, 'Kiosk ' || level, CASE WHEN level = 2 THEN '100%' ELSE '浙江_' END, 'CMCC_OUTLET', name, 'DISABLED'
FROM tenant;
INSERT INTO supplier (tenant_id, tenant_path, supplier_type, name, interface_name, status, api_key_encrypted)
SELECT id, path, 'DISTRIBUTOR', 'Reseller\\ 50%_', 'onelink', 'DISABLED', '\\x00' FROM tenant WHERE level = 0;
INSERT INTO data_package (tenant_id, tenant_path, code, name, carrier, period_type, data_volume_mb, channel_price,
                          sale_price, currency, supplier_id, status)
SELECT t.id, t.path, 'OWN', 'Package of ' || t.name, 'CUCC', 'YEARLY', 5, 0.05, 0.6, 'CNY', s.id, 'ACTIVE'
FROM tenant t, supplier s WHERE t.level IN (1, 2) AND s.carrier = 'CUCC';
UPDATE sim_card c SET package_id = p.id FROM data_package p WHERE p.tenant_id = c.tenant_id AND c.id % 4 = 0;
UPDATE sim_card c SET outlet_id = o.id FROM outlet o WHERE o.tenant_id = c.tenant_id AND c.id % 3 = 0;
UPDATE sim_card SET msisdn = NULL, apn = NULL WHERE id % 7 = 0;
UPDATE sim_card SET activated_at = timestamptz '2026-01-03 12:30:00.5+00' WHERE id % 5 = 0 AND activated_at IS NOT NULL;
UPDATE tenant SET phone = '0571-8_' || level, email = NULL WHERE level > 0;
UPDATE tenant SET status = 'SUSPENDED' WHERE name LIKE '%south-west%';
UPDATE tenant SET created_at = timestamptz '2026-01-01 00:00+00' WHERE level = 2;
"""


@pytest.fixture(scope="session")
def rich_place(template: Template, worker_id: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with placed(template, worker_id, tmp_path_factory.mktemp("rich")) as found:
        yield found


@pytest.fixture(scope="session")
async def rich_world(rich_place: Place) -> AsyncIterator[World]:
    """The world with more of everything: nulls, ties, siblings, rows of every table."""
    async for client in _running(rich_place):
        world = await sow(client, rich_place.superuser_url)
        connection = await asyncpg.connect(rich_place.superuser_url, ssl=False)
        await connection.execute(MORE)
        await connection.close()
        yield world


@pytest.fixture(scope="session")
async def unwalled(rich_world: World) -> AsyncIterator[Pool]:
    """Connections that row-level security does not bind, so that the planner's own predicates stand alone."""
    pool = Pool(rich_world.superuser_url, 2)
    await pool.start()
    yield pool
    await pool.close()


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The SQL that the planner sends from now on."""
    sent: list[str] = []
    fetch = Connection.fetch

    async def counted(self: Connection, sql: str, arguments: Any) -> list[Any]:
        sent.append(sql)
        return await fetch(self, sql, arguments)

    monkeypatch.setattr(Connection, "fetch", counted)
    return sent
