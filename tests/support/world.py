"""A small world to test in: the platform, an enterprise, and two sibling agent branches, each with people and cards.

Every text that belongs to a tenant carries its mark, such as ``«north-east»``, so that a test can see at once whose
data stands in an answer.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import Any

import asyncpg
from argon2 import PasswordHasher
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from stdnum import luhn

from authz.principal import system
from models.catalog import Carrier, DataPackage, Outlet, OutletType, Supplier
from models.identity import (
    ApiKey,
    Department,
    EndUser,
    LoginMethod,
    LoginOutcome,
    LoginRecord,
    StaffAccount,
)
from models.jobs import (
    JobConcurrency,
    JobRun,
    JobRunStatus,
    JobStatus,
    JobTrigger,
    MisfirePolicy,
    ScheduledJob,
)
from models.ledger import LedgerAccount, LedgerAccountKind
from models.merchants import (
    Merchant,
    MerchantOperator,
)
from models.notifications import (
    Notification,
    NotificationChannel,
    NotificationOptOut,
    NotificationState,
    NotificationTemplate,
)
from models.sim import (
    SimAllocation,
    SimCard,
    SimEndUserBinding,
    SimEntryMode,
    SimHolding,
    SimPackageBinding,
    SimStatus,
    SimStatusChange,
    SimType,
)
from models.system import (
    Task,
    TaskKind,
    TaskRefusal,
    TaskStatus,
)
from models.tenancy import (
    Agent,
    Enterprise,
    Language,
    Platform,
    Tenant,
    TenantKind,
)
from planner.ids import encode_id
from server.demo import add_account, fill_catalogue, plant
from server.doors import (
    load_menus,
)
from services.api_keys import (
    api_key_binding,
)
from services.permissions.templates import (
    install_template,
)
from tests.support.client import Client

PASSWORD = "correct horse 42"
CARDS_PER_TENANT = 6
STATUSES = (
    SimStatus.ALLOCATED,
    SimStatus.ACTIVE,
    SimStatus.ACTIVE,
    SimStatus.SUSPENDED,
    SimStatus.TERMINATED,
    SimStatus.ACTIVE,
)
PARTNER_SECRET = "the partner's secret"
FAR_AHEAD = datetime(2099, 1, 1, tzinfo=UTC)
"""When the world's own jobs are due: never in a test."""


@cache
def password_hash() -> str:
    return PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)


def mark(name: str) -> str:
    return f"«{name}»"


@dataclass(frozen=True)
class Actor:
    """Somebody who logs in: account, door, role, and the tenant whose staff it is."""

    account: str
    door: str
    role: str
    tenant: str


ACTORS = {
    actor.account: actor
    for actor in (
        Actor("admin", "admin", "platform_admin", "platform"),
        Actor("operations", "admin", "platform_operations", "platform"),
        Actor("finance", "admin", "platform_finance", "platform"),
        Actor("sales", "admin", "platform_sales", "platform"),
        Actor("acme", "agent", "enterprise_admin", "acme"),
        Actor("north", "agent", "agent_admin", "north"),
        Actor("north-east", "agent", "agent_admin", "north-east"),
        Actor("coast", "agent", "agent_admin", "coast"),
        Actor("south", "agent", "agent_admin", "south"),
        Actor("south-west", "agent", "agent_admin", "south-west"),
        Actor("mall", "merchant", "merchant_operator", "mall"),
        Actor("cafe", "merchant", "merchant_admin", "cafe"),
        Actor("gym", "merchant", "merchant_admin", "gym"),
        Actor("types", "admin", "bank_merchant", "platform"),
        Actor("contracts", "admin", "bank_contract", "platform"),
        Actor("deposits", "admin", "bank_deposit", "platform"),
        Actor("coupons", "admin", "bank_coupon", "platform"),
    )
}


PLACE = ("client", "superuser_url")
"""What of a world says where it is, and not what it holds."""


@dataclass
class World:
    client: Client
    superuser_url: str
    tenants: dict[str, Tenant] = field(default_factory=dict)
    cards: dict[str, list[SimCard]] = field(default_factory=dict)
    packages: dict[str, DataPackage] = field(default_factory=dict)
    suppliers: dict[Carrier, Supplier] = field(default_factory=dict)
    end_users: dict[str, EndUser] = field(default_factory=dict)
    api_keys: dict[str, ApiKey] = field(default_factory=dict)

    def elsewhere(self, client: Client, superuser_url: str) -> World:
        """The same in a copy of its database."""
        own = {field.name: dict(getattr(self, field.name)) for field in fields(self) if field.name not in PLACE}
        return World(client, superuser_url, **own)

    def id(self, tenant: str) -> str:
        return encode_id("ten", self.tenants[tenant].id)

    def card_ids(self, tenant: str) -> list[str]:
        return [encode_id("sim", card.id) for card in self.cards[tenant]]

    def below(self, tenant: str) -> set[str]:
        """The names of a tenant and of all tenants below it."""
        path = self.tenants[tenant].path
        return {name for name, other in self.tenants.items() if other.path.startswith(path)}

    async def token(self, account: str) -> str:
        return await self.client.token(ACTORS[account].door, account, PASSWORD)

    async def run(
        self, account: str, query: str, variables: dict[str, Any] | None = None, *, language: str = "en"
    ) -> dict[str, Any]:
        """The whole response, data and errors, of an operation as an account."""
        answer = await self.client.post(
            ACTORS[account].door, query, variables, token=await self.token(account), language=language
        )
        found: dict[str, Any] = answer.json()
        return found

    async def data(self, account: str, query: str, variables: dict[str, Any] | None = None) -> dict[str, Any]:
        """The data of an operation that must not fail."""
        answer = await self.run(account, query, variables)
        assert "errors" not in answer, answer
        found: dict[str, Any] = answer["data"]
        return found

    async def codes(self, account: str, query: str, variables: dict[str, Any] | None = None) -> list[str]:
        """The codes of the errors of an operation that must be refused as a whole."""
        answer = await self.run(account, query, variables)
        assert answer.get("data") is None, answer
        return sorted({error["extensions"]["code"] for error in answer["errors"]})

    async def sql(self, statement: str, *arguments: Any) -> list[asyncpg.Record]:
        """Reads or writes past both walls, to see or to set what is stored."""
        connection = await asyncpg.connect(self.superuser_url, ssl=False)
        try:
            rows: list[asyncpg.Record] = await connection.fetch(statement, *arguments)
            return rows
        finally:
            await connection.close()


async def sow(client: Client, superuser_url: str) -> World:
    world = World(client, superuser_url)
    keys = client.application.runtime.keys
    async with client.application.runtime.database.transaction(system("world")) as session:
        await _tenants(session, world)
        for door, menus in load_menus().items():
            await install_template(session, world.tenants["platform"], door, menus)
        for actor in ACTORS.values():
            account = await add_account(
                session, world.tenants[actor.tenant], actor.account, actor.role, password_hash()
            )
            account.phone = "13912345678"
            account.email = f"{actor.account}@example.com"
            _told(session, actor.tenant, account)
        await fill_catalogue(session, world.tenants["platform"])
        world.packages = {p.code: p for p in await session.scalars(select(DataPackage))}
        world.suppliers = {s.carrier: s for s in await session.scalars(select(Supplier)) if s.carrier}
        for number, (name, tenant) in enumerate(world.tenants.items()):
            await _people(session, world, name, tenant, keys)
            await _cards(session, world, number, name, tenant)
        platform = world.tenants["platform"]
        session.add(
            Outlet(
                tenant_id=platform.id,
                tenant_path=platform.path,
                name=f"Shop {mark('platform')}",
                province="浙江",
                outlet_type=OutletType.CONVENIENCE_STORE,
            )
        )
    await client.application.runtime.access.changed()
    return world


async def _tenants(session: AsyncSession, world: World) -> None:
    async def agent(name: str, parent: str, level: int) -> None:
        made = Agent(
            kind=TenantKind.AGENT,
            name=f"Agency {mark(name)}",
            remark=mark(name),
            contact_name=mark(name),
            agent_level=level,
        )
        world.tenants[name] = await plant(session, made, world.tenants[parent])

    world.tenants["platform"] = await plant(
        session, Platform(kind=TenantKind.PLATFORM, name=f"Platform {mark('platform')}"), None
    )
    enterprise = Enterprise(
        kind=TenantKind.ENTERPRISE,
        name=f"Company {mark('acme')}",
        business_licence=mark("acme"),
        remark=mark("acme"),
    )
    acme = world.tenants["acme"] = await plant(session, enterprise, world.tenants["platform"])
    session.add(
        LedgerAccount(
            tenant_id=acme.id,
            tenant_path=acme.path,
            kind=LedgerAccountKind.PREPAYMENT,
            currency="CNY",
            floor=Decimal(-1000),
        )
    )
    await agent("north", "platform", 1)
    await agent("north-east", "north", 2)
    await agent("coast", "north-east", 3)
    await agent("south", "platform", 1)
    await agent("south-west", "south", 2)
    for name, made, parent in (
        ("mall", MerchantOperator(kind=TenantKind.MERCHANT_OPERATOR), "platform"),
        ("cafe", Merchant(kind=TenantKind.MERCHANT), "mall"),
        ("gym", Merchant(kind=TenantKind.MERCHANT), "mall"),
    ):
        made.name, made.remark, made.contact_name = f"Company {mark(name)}", mark(name), mark(name)
        if isinstance(made, Merchant):
            made.onboarded_at = datetime(2026, 1, 5, tzinfo=UTC)
        world.tenants[name] = await plant(session, made, world.tenants[parent])


async def _people(session: AsyncSession, world: World, name: str, tenant: Tenant, keys: Any) -> None:
    owner = {"tenant_id": tenant.id, "tenant_path": tenant.path}
    person = EndUser(**owner, name=f"Person {mark(name)}", phone=f"1380000{tenant.id:04d}")
    partner = f"tk_{name}"
    api_key = ApiKey(
        **owner,
        key=partner,
        name=f"Partner {mark(name)}",
        expires_at=datetime.now(UTC) + timedelta(days=30),
        roles=["partner"],
        secret_encrypted=keys.encrypt(PARTNER_SECRET, api_key_binding(partner)),
    )
    task = Task(
        **owner,
        kind=TaskKind.SIM_IMPORT,
        status=TaskStatus.SUCCEEDED,
        name=f"Task {mark(name)}",
        total=1,
        done=0,
        failed=1,
        error_message=mark(name),
        finished_at=datetime.now(UTC) - timedelta(hours=tenant.id),
    )
    job = ScheduledJob(
        **owner,
        name=f"Job {mark(name)}",
        invoke_target="clearSentEvents",
        arguments={"olderThanDays": 30},
        cron_expression="0 3 * * *",
        misfire_policy=MisfirePolicy.DISCARD,
        concurrency=JobConcurrency.FORBID,
        status=JobStatus.PAUSED if tenant.id % 3 == 0 else JobStatus.NORMAL,
        next_run_at=None if tenant.id % 3 == 0 else FAR_AHEAD + timedelta(days=tenant.id),
        remark=mark(name),
    )
    session.add_all(
        [
            person,
            api_key,
            task,
            job,
            Department(**owner, name=f"Department {mark(name)}"),
            LoginRecord(
                **owner,
                login=mark(name),
                door="agent",
                method=LoginMethod.PASSWORD,
                outcome=LoginOutcome.WRONG_CREDENTIALS,
            ),
        ]
    )
    await session.flush()
    session.add(
        JobRun(
            **owner,
            job_id=job.id,
            job_name=job.name,
            group=job.group,
            invoke_target=job.invoke_target,
            arguments=job.arguments,
            trigger=JobTrigger.SCHEDULE,
            status=JobRunStatus.SKIPPED,
            finished_at=datetime.now(UTC),
            message=mark(name),
        )
    )
    session.add(
        TaskRefusal(**owner, task_id=task.id, row_number=2, column="ICCID", value=mark(name), code="CHECK_DIGIT")
    )
    world.end_users[name], world.api_keys[name] = person, api_key


def _told(session: AsyncSession, name: str, account: StaffAccount) -> None:
    """What a member of staff was told, does not want to be told, and how its company would have worded it."""
    owner = {"tenant_id": account.tenant_id, "tenant_path": account.tenant_path}
    kind = f"of {mark(name)}"
    now = datetime.now(UTC)
    for channel, state, read in (
        (NotificationChannel.IN_APP, NotificationState.SENT, now),
        (NotificationChannel.EMAIL, NotificationState.FAILED, None),
    ):
        session.add(
            Notification(
                **owner,
                kind=kind,
                channel=channel,
                language=Language.EN,
                address=account.email if channel is NotificationChannel.EMAIL else None,
                account_id=account.id,
                parameters={},
                state=state,
                next_attempt_at=now,
                body=mark(name),
                read_at=read,
            )
        )
    session.add(NotificationOptOut(**owner, kind=kind, channel=NotificationChannel.EMAIL, account_id=account.id))
    if account.login in (name, "admin"):
        session.add(
            NotificationTemplate(
                **owner,
                kind=kind,
                channel=NotificationChannel.EMAIL,
                language=Language.EN,
                subject=mark(name),
                body=mark(name),
            )
        )


async def _cards(session: AsyncSession, world: World, number: int, name: str, tenant: Tenant) -> None:
    """Six cards for each tenant, in different states, with history where a customer holds them."""
    held = tenant.parent_id is not None
    made = []
    for n in range(CARDS_PER_TENANT):
        body = f"898600{number:04d}77{n:07d}"
        status = STATUSES[n] if held else SimStatus.STOCK
        active = held and status is not SimStatus.ALLOCATED
        made.append(
            SimCard(
                tenant_id=tenant.id,
                tenant_path=tenant.path,
                iccid=body + luhn.calc_check_digit(body),
                imsi=f"46000{number:03d}77{n:05d}",
                msisdn=f"1064{number:03d}77{n:04d}",
                carrier=Carrier.CMCC,
                sim_type=SimType.M2M if n % 2 else SimType.CONSUMER,
                entry_mode=SimEntryMode.IMPORT,
                status=status,
                apn=f"apn {mark(name)}",
                remark=mark(name),
                supplier_id=world.suppliers[Carrier.CMCC].id,
                package_id=world.packages["CM-M-1G"].id if n % 3 else None,
                activated_at=datetime(2026, 1, 1 + n, 12, 30, number, tzinfo=UTC) if active else None,
                end_user_id=world.end_users[name].id if n == 1 else None,
            )
        )
    session.add_all(made)
    await session.flush()
    world.cards[name] = made
    owner = {"tenant_id": tenant.id, "tenant_path": tenant.path}
    chain = [t for t in world.tenants.values() if t.parent_id is not None and tenant.path.startswith(t.path)]
    for card in made:
        for holder in chain:
            session.add(
                SimAllocation(
                    tenant_id=holder.id,
                    tenant_path=holder.path,
                    sim_card_id=card.id,
                    from_tenant_id=holder.parent_id,
                    level=holder.level,
                    holding=SimHolding.AGENCY,
                )
            )
        session.add(
            SimStatusChange(
                **owner,
                sim_card_id=card.id,
                action="ALLOCATE",
                from_status=SimStatus.STOCK,
                to_status=SimStatus.ALLOCATED,
                reason=mark(name),
            )
        )
        if card.package_id is not None:
            session.add(SimPackageBinding(**owner, sim_card_id=card.id, package_id=card.package_id))
    session.add(SimEndUserBinding(**owner, sim_card_id=made[1].id, end_user_id=world.end_users[name].id))
    await session.flush()
