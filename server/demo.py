"""Demo tenants for a first look: a platform, an enterprise, two agent branches, and a few thousand cards."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from decimal import Decimal

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from authz.principal import ROOT_PATH, system
from authz.session import Database
from models.catalog import Carrier, DataPackage, Outlet, OutletType, PackagePeriod, Supplier, SupplierType
from models.identity import EndUser, RoleAssignment, StaffAccount
from models.jobs import JobConcurrency, MisfirePolicy, ScheduledJob
from models.ledger import LedgerAccount, LedgerAccountKind
from models.merchants import Merchant, MerchantOperator
from models.tenancy import Agent, Enterprise, Platform, Tenant, TenantClosure, TenantKind
from server.demo_market import SPECIALISTS, Market, trade
from server.demo_sales import sell
from server.demo_staff import LEADS, organise
from server.doors import load_menus
from server.settings import Settings
from services.identity import hash_password
from services.jobs import (
    cron,
)
from services.permissions.templates import (
    install_template,
)
from services.tenancy import path_code

CARDS = 3_000
SUPPLIERS = {Carrier.CMCC: "移动OneLink", Carrier.CUCC: "联通CMP", Carrier.CTCC: "电信5GCMP"}
INTERFACES = {Carrier.CMCC: "onelink", Carrier.CUCC: "unicom_cmp", Carrier.CTCC: "ct5gcmp"}
PERIODS = {"M": PackagePeriod.MONTHLY, "Q": PackagePeriod.QUARTERLY, "Y": PackagePeriod.YEARLY}
PACKAGES = [
    "CM-M-30M",
    "CM-M-100M",
    "CM-M-1G",
    "CM-Q-3G",
    "CM-Y-12G",
    "CU-M-30M",
    "CU-M-500M",
    "CU-Y-6G",
    "CT-M-100M",
    "CT-Q-1G",
]
CARRIER_CODES = {"CM": Carrier.CMCC, "CU": Carrier.CUCC, "CT": Carrier.CTCC}

JOBS = (
    ("Clear the job log", "clearJobRuns", 90, "10 3 * * *"),
    ("Clear kept results", "clearIdempotentResults", 30, "20 3 * * *"),
    ("Clear sent events", "clearSentEvents", 7, "30 3 * * *"),
    ("Clear ended sessions", "clearEndedSessions", 90, "40 3 * * *"),
    ("Clear unused content", "clearUnusedContent", 7, "50 3 * * *"),
)
"""Name, target, days that are kept, cron expression."""

CARD_ROWS = """
INSERT INTO sim_card (tenant_id, tenant_path, iccid, imsi, msisdn, carrier, sim_type, entry_mode, status, apn,
                      supplier_id, package_id, activated_at)
SELECT t.id, t.path, n.body || (10 - n.luhn % 10) % 10, '46000' || lpad((7000000 + n.i)::text, 10, '0'),
       '1064' || lpad((900000 + n.i)::text, 9, '0'), 'CMCC', CASE WHEN n.i % 4 = 0 THEN 'CONSUMER' ELSE 'M2M' END,
       'IMPORT',
       CASE WHEN t.path = '.0001.' THEN 'STOCK' WHEN n.i % 5 = 0 THEN 'ALLOCATED' WHEN n.i % 17 = 0 THEN 'SUSPENDED'
            ELSE 'ACTIVE' END,
       'cmiot', s.id, p.id,
       CASE WHEN t.path <> '.0001.' AND n.i % 5 <> 0 THEN now() - n.i * interval '1 hour' END
FROM (SELECT i, body, (
          SELECT sum(CASE WHEN k % 2 = 1 THEN (d * 2) / 10 + (d * 2) % 10 ELSE d END)
          FROM (SELECT k, substr(body, 20 - k, 1)::int AS d FROM generate_series(1, 19) k) digits
      ) AS luhn
      FROM (SELECT i, '898600' || lpad((4200000000000 + i)::text, 13, '0') AS body
            FROM generate_series(1, :cards) i) bodies) n
JOIN (SELECT *, row_number() OVER (ORDER BY path) - 1 AS n, count(*) OVER () AS of FROM tenant) t ON t.n = n.i % t.of
JOIN supplier s ON s.carrier = 'CMCC'
JOIN (SELECT *, row_number() OVER (ORDER BY code) - 1 AS n, count(*) OVER () AS of
      FROM data_package WHERE carrier = 'CMCC') p ON p.n = n.i % p.of
"""
HOLDINGS = """
INSERT INTO sim_allocation (tenant_id, tenant_path, sim_card_id, from_tenant_id, level, holding)
SELECT h.id, h.path, c.id, h.parent_id, h.level, CASE WHEN h.kind = 'ENTERPRISE' THEN 'OWNED' ELSE 'AGENCY' END
FROM sim_card c JOIN tenant_closure up ON up.tenant_id = c.tenant_id JOIN tenant h ON h.id = up.ancestor_id
WHERE h.parent_id IS NOT NULL
"""


@dataclass(frozen=True)
class DemoLogin:
    """Who can log in, where, with the password that was made for this installation."""

    role: str
    tenant: str
    account: str
    password: str
    door: str


ACCOUNTS = (
    ("admin", "platform_admin", "Trellis", "admin"),
    ("operations", "platform_operations", "Trellis", "admin"),
    ("finance", "platform_finance", "Trellis", "admin"),
    ("sales", "platform_sales", "Trellis", "admin"),
    ("acme", "enterprise_admin", "Acme Logistics", "agent"),
    ("north", "agent_admin", "North Agency", "agent"),
    ("north-east", "agent_admin", "North-East Agency", "agent"),
    ("coast", "agent_admin", "North-East Coast Agency", "agent"),
    ("south", "agent_admin", "South Agency", "agent"),
)


def load(settings: Settings) -> list[DemoLogin]:
    """Loads the demo into an empty database; a second call gives the logins of the first."""
    return asyncio.run(_load(settings))


async def _load(settings: Settings) -> list[DemoLogin]:
    kept = settings.state_dir / "demo_logins.json"
    database = Database(settings.database_url, pooled=False)
    try:
        async with database.transaction(system("demo")) as session:
            if await session.scalar(select(Tenant.id).limit(1)) is None:
                logins = await _fill(session, settings)
                settings.state_dir.mkdir(parents=True, exist_ok=True)
                handle = os.open(kept, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
                with os.fdopen(handle, "w", encoding="utf-8") as out:
                    json.dump([asdict(login) for login in logins], out, ensure_ascii=False)
                return logins
    finally:
        await database.close()
    return [DemoLogin(**login) for login in json.loads(kept.read_text("utf-8"))] if kept.exists() else []


async def _fill(session: AsyncSession, settings: Settings) -> list[DemoLogin]:
    platform = await plant(session, Platform(kind=TenantKind.PLATFORM, name="Trellis"), None)
    for door, menus in load_menus().items():
        await install_template(session, platform, door, menus)
    acme = await plant(session, Enterprise(kind=TenantKind.ENTERPRISE, name="Acme Logistics"), platform)
    north = await plant(session, _agent("North Agency", 1), platform)
    south = await plant(session, _agent("South Agency", 1), platform)
    east = await plant(session, _agent("North-East Agency", 2), north)
    coast = await plant(session, _agent("North-East Coast Agency", 3), east)
    tenants = {tenant.name: tenant for tenant in (platform, acme, north, south, east, coast)}
    await fill_catalogue(session, platform)
    session.add_all(
        [
            Outlet(
                tenant_id=platform.id,
                tenant_path=platform.path,
                name="Station Street",
                province="浙江",
                outlet_type=OutletType.CONVENIENCE_STORE,
            ),
            LedgerAccount(
                tenant_id=acme.id,
                tenant_path=acme.path,
                kind=LedgerAccountKind.PREPAYMENT,
                currency=acme.currency,
                floor=Decimal(-100_000),
            ),
            EndUser(tenant_id=north.id, tenant_path=north.path, name="Demo User", phone="13800000001"),
            *_jobs(platform),
        ]
    )
    logins = [
        await _with_password(session, tenants[tenant], account, role, door) for account, role, tenant, door in ACCOUNTS
    ]
    await session.flush()
    await session.execute(text(CARD_ROWS), {"cards": CARDS})
    await session.execute(text(HOLDINGS))
    await sell(session, platform, (north, east, coast))
    logins += await _organise(session, settings, tenants)
    return logins


async def _with_password(session: AsyncSession, tenant: Tenant, account: str, role: str, door: str) -> DemoLogin:
    """A new account whose password is made up and told."""
    password = secrets.token_urlsafe(9) + "1a"
    await add_account(session, tenant, account, role, await hash_password(password))
    return DemoLogin(role, tenant.name, account, password, door)


async def _open_market(session: AsyncSession, platform: Tenant) -> tuple[Market, list[DemoLogin]]:
    """An operator and its merchants, with those of the platform's staff who keep an eye on them."""
    mall = await plant(session, MerchantOperator(kind=TenantKind.MERCHANT_OPERATOR, name="City Mall"), platform)
    tea = await plant(session, Merchant(kind=TenantKind.MERCHANT, name="Tea House"), mall)
    rink = await plant(session, Merchant(kind=TenantKind.MERCHANT, name="Ice Rink"), mall)
    logins = [
        *[await _with_password(session, platform, account, role, "admin") for account, role in SPECIALISTS.items()],
        await _with_password(session, mall, "mall", "merchant_operator", "merchant"),
        await _with_password(session, tea, "tea", "merchant_admin", "merchant"),
        await _with_password(session, rink, "rink", "merchant_admin", "merchant"),
    ]
    return Market(platform, mall, {"tea": tea, "rink": rink}), logins


async def _organise(session: AsyncSession, settings: Settings, tenants: dict[str, Tenant]) -> list[DemoLogin]:
    from server.app import Application

    application = Application(settings)
    try:
        market, logins = await _open_market(session, tenants["Trellis"])
        await trade(session, application.runtime, market)
        return logins + [
            DemoLogin(
                lead.role,
                lead.tenant,
                lead.account,
                await organise(session, application.runtime, tenants[lead.tenant], lead),
                lead.door,
            )
            for lead in LEADS
        ]
    finally:
        await application.database.close()
        await application.redis.aclose()


def _jobs(platform: Tenant) -> list[ScheduledJob]:
    return [
        ScheduledJob(
            tenant_id=platform.id,
            tenant_path=platform.path,
            name=name,
            invoke_target=target,
            arguments={"olderThanDays": days},
            cron_expression=expression,
            misfire_policy=MisfirePolicy.FIRE_ONCE,
            concurrency=JobConcurrency.FORBID,
            next_run_at=cron.next_after(expression, platform.time_zone, datetime.now(UTC)),
        )
        for name, target, days, expression in JOBS
    ]


def _agent(name: str, level: int) -> Agent:
    return Agent(kind=TenantKind.AGENT, name=name, agent_level=level)


async def plant(session: AsyncSession, tenant: Tenant, parent: Tenant | None) -> Tenant:
    """Puts a tenant into the tree of an installation that nobody uses yet."""
    if parent is None:
        tenant.path, tenant.level, tenant.next_child = ROOT_PATH, 0, 1
    else:
        tenant.path = f"{parent.path}{path_code(parent.next_child)}."
        tenant.level, tenant.parent_id, tenant.next_child = parent.level + 1, parent.id, 1
        parent.next_child += 1
    session.add(tenant)
    await session.flush()
    above = (
        []
        if parent is None
        else (
            await session.execute(
                select(TenantClosure.ancestor_id, TenantClosure.depth).where(TenantClosure.tenant_id == parent.id)
            )
        ).all()
    )
    session.add_all(
        TenantClosure(tenant_id=tenant.id, tenant_path=tenant.path, ancestor_id=ancestor, depth=depth)
        for ancestor, depth in [(tenant.id, 0), *((a, d + 1) for a, d in above)]
    )
    await session.flush()
    return tenant


async def fill_catalogue(session: AsyncSession, platform: Tenant) -> None:
    """The suppliers and packages that the carriers' own spreadsheets name."""
    suppliers = {
        carrier: Supplier(
            tenant_id=platform.id,
            tenant_path=platform.path,
            supplier_type=SupplierType.CARRIER,
            name=name,
            carrier=carrier,
            interface_name=INTERFACES[carrier],
        )
        for carrier, name in SUPPLIERS.items()
    }
    session.add_all(suppliers.values())
    await session.flush()
    for code in PACKAGES:
        carrier, period, volume = code.split("-")
        megabytes = int(volume[:-1]) * (1024 if volume.endswith("G") else 1)
        session.add(
            DataPackage(
                tenant_id=platform.id,
                tenant_path=platform.path,
                code=code,
                name=code,
                carrier=CARRIER_CODES[carrier],
                period_type=PERIODS[period],
                data_volume_mb=megabytes,
                channel_price=Decimal(megabytes) / 100,
                sale_price=Decimal(megabytes) / 50,
                supplier_id=suppliers[CARRIER_CODES[carrier]].id,
            )
        )
    await session.flush()


async def add_account(session: AsyncSession, tenant: Tenant, login: str, role: str, password_hash: str) -> StaffAccount:
    account = StaffAccount(
        tenant_id=tenant.id, tenant_path=tenant.path, login=login, name=login, password_hash=password_hash
    )
    account.roles = [RoleAssignment(tenant_id=tenant.id, tenant_path=tenant.path, role=role)]
    session.add(account)
    await session.flush()
    return account
