"""The ordinary way: Strawberry, a DataLoader for each relation, SQLAlchemy's ORM, as its documentation teaches.

The schema has the same shape as the graph's; keys and cursors are plain numbers.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

import strawberry
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from starlette.requests import Request
from starlette.responses import Response
from starlette.websockets import WebSocket
from strawberry.asgi import GraphQL
from strawberry.dataloader import DataLoader
from strawberry.types import Info

import models.catalog
import models.sim
import models.tenancy
from bench.callers import Caller, callers
from models.catalog import Carrier
from models.sim import SimStatus

POOL_SIZE = 16
CALLERS = callers()

engine = create_async_engine(
    os.environ["BENCH_DATABASE_URL"].replace("postgresql://", "postgresql+asyncpg://", 1),
    pool_size=POOL_SIZE,
    connect_args={"ssl": False, "server_settings": {"jit": "off", "TimeZone": "UTC"}},
)
Session = async_sessionmaker(engine, expire_on_commit=False)

strawberry.enum(SimStatus)
strawberry.enum(Carrier)


@strawberry.type
class DataPackage:
    id: strawberry.ID
    name: str
    sale_price: Decimal

    @classmethod
    def of(cls, row: models.catalog.DataPackage) -> DataPackage:
        return cls(id=strawberry.ID(str(row.id)), name=row.name, sale_price=row.sale_price)


@strawberry.type
class SimStatusChange:
    to_status: SimStatus
    reason: str | None
    at: datetime


@strawberry.type
class SimStatusChangeConnection:
    nodes: list[SimStatusChange]


@strawberry.type
class SimCard:
    id: strawberry.ID
    display_iccid: str
    imsi: str | None
    msisdn: str | None
    status: SimStatus
    carrier: Carrier
    package_key: strawberry.Private[int | None]
    tenant_key: strawberry.Private[int]

    @strawberry.field
    async def package(self, info: Info) -> DataPackage | None:
        if self.package_key is None:
            return None
        found: DataPackage | None = await info.context.packages.load(self.package_key)
        return found

    @strawberry.field
    async def holder(self, info: Info) -> Tenant | None:
        found: Tenant | None = await info.context.tenants.load(self.tenant_key)
        return found

    @strawberry.field
    async def status_changes(self, info: Info, first: int) -> SimStatusChangeConnection:
        return SimStatusChangeConnection(nodes=await info.context.changes.load((int(self.id), first)))

    @classmethod
    def of(cls, row: models.sim.SimCard) -> SimCard:
        return cls(
            id=strawberry.ID(str(row.id)),
            display_iccid=row.display_iccid,
            imsi=row.imsi,
            msisdn=row.msisdn,
            status=row.status,
            carrier=row.carrier,
            package_key=row.package_id,
            tenant_key=row.tenant_id,
        )


@strawberry.type
class PageInfo:
    has_next_page: bool
    end_cursor: str | None


@strawberry.type
class SimCardEdge:
    cursor: str
    node: SimCard


@strawberry.type
class SimCardConnection:
    rows: strawberry.Private[Sequence[models.sim.SimCard]]
    first: strawberry.Private[int]

    @strawberry.field
    def nodes(self) -> list[SimCard]:
        return [SimCard.of(row) for row in self.rows[: self.first]]

    @strawberry.field
    def edges(self) -> list[SimCardEdge]:
        return [SimCardEdge(cursor=str(row.id), node=SimCard.of(row)) for row in self.rows[: self.first]]

    @strawberry.field
    def page_info(self) -> PageInfo:
        shown = self.rows[: self.first]
        return PageInfo(has_next_page=len(self.rows) > self.first, end_cursor=str(shown[-1].id) if shown else None)


@strawberry.type
class Tenant:
    id: strawberry.ID
    name: str

    @strawberry.field
    async def sim_cards(self, info: Info, first: int, after: strawberry.ID | None = None) -> SimCardConnection:
        rows = await info.context.cards.load((int(self.id), first, int(after or 0)))
        return SimCardConnection(rows=rows, first=first)

    @classmethod
    def of(cls, row: models.tenancy.Tenant) -> Tenant:
        return cls(id=strawberry.ID(str(row.id)), name=row.name)


@strawberry.type
class TenantConnection:
    nodes: list[Tenant]


async def _packages(keys: list[int]) -> list[DataPackage | None]:
    async with Session() as session:
        found = await session.scalars(select(models.catalog.DataPackage).where(models.catalog.DataPackage.id.in_(keys)))
        by_key = {row.id: DataPackage.of(row) for row in found}
    return [by_key.get(key) for key in keys]


async def _tenants(keys: list[int]) -> list[Tenant | None]:
    async with Session() as session:
        found = await session.scalars(select(models.tenancy.Tenant).where(models.tenancy.Tenant.id.in_(keys)))
        by_key = {row.id: Tenant.of(row) for row in found}
    return [by_key.get(key) for key in keys]


async def _cards(keys: list[tuple[int, int, int]]) -> list[list[models.sim.SimCard]]:
    """The cards of tenants, each a page: numbered within their tenant, as one statement."""
    _, first, after = keys[0]
    card = models.sim.SimCard
    number = func.row_number().over(partition_by=card.tenant_id, order_by=card.id).label("number")
    ranked = (
        select(card.id, number).where(card.tenant_id.in_([tenant for tenant, _, _ in keys]), card.id > after).subquery()
    )
    pages: dict[int, list[models.sim.SimCard]] = defaultdict(list)
    async with Session() as session:
        for row in await session.scalars(
            select(card).join(ranked, ranked.c.id == card.id).where(ranked.c.number <= first + 1).order_by(card.id)
        ):
            pages[row.tenant_id].append(row)
    return [pages[tenant] for tenant, _, _ in keys]


async def _changes(keys: list[tuple[int, int]]) -> list[list[SimStatusChange]]:
    _, first = keys[0]
    change = models.sim.SimStatusChange
    found: dict[int, list[SimStatusChange]] = defaultdict(list)
    async with Session() as session:
        for row in await session.scalars(
            select(change).where(change.sim_card_id.in_([card for card, _ in keys])).order_by(change.id)
        ):
            found[row.sim_card_id].append(SimStatusChange(to_status=row.to_status, reason=row.reason, at=row.at))
    return [found[card][:first] for card, _ in keys]


class Context:
    """One request: who asks, and its loaders."""

    def __init__(self, caller: Caller) -> None:
        self.caller = caller
        self.packages = DataLoader(load_fn=_packages)
        self.tenants = DataLoader(load_fn=_tenants)
        self.cards = DataLoader(load_fn=_cards)
        self.changes = DataLoader(load_fn=_changes)


def _inside(column: Any, caller: Caller) -> Any:
    return (column >= caller.path) & (column < caller.path_end)


@strawberry.type
class Query:
    @strawberry.field
    async def sim_card(self, info: Info, id: strawberry.ID) -> SimCard | None:
        card = models.sim.SimCard
        async with Session() as session:
            row = await session.scalar(
                select(card).where(card.id == int(id), _inside(card.tenant_path, info.context.caller))
            )
        return None if row is None else SimCard.of(row)

    @strawberry.field
    async def sim_cards(self, info: Info, first: int, after: strawberry.ID | None = None) -> SimCardConnection:
        card = models.sim.SimCard
        async with Session() as session:
            rows = await session.scalars(
                select(card)
                .where(_inside(card.tenant_path, info.context.caller), card.id > int(after or 0))
                .order_by(card.id)
                .limit(first + 1)
            )
        return SimCardConnection(rows=rows.all(), first=first)

    @strawberry.field
    async def tenant(self, info: Info, id: strawberry.ID) -> Tenant | None:
        tenant = models.tenancy.Tenant
        async with Session() as session:
            row = await session.scalar(
                select(tenant).where(tenant.id == int(id), _inside(tenant.path, info.context.caller))
            )
        return None if row is None else Tenant.of(row)

    @strawberry.field
    async def tenants(self, info: Info, first: int, after: strawberry.ID | None = None) -> TenantConnection:
        tenant = models.tenancy.Tenant
        async with Session() as session:
            rows = await session.scalars(
                select(tenant)
                .where(_inside(tenant.path, info.context.caller), tenant.id > int(after or 0))
                .order_by(tenant.id)
                .limit(first)
            )
        return TenantConnection(nodes=[Tenant.of(row) for row in rows])


class Application(GraphQL[Context, None]):
    async def get_context(self, request: Request | WebSocket, response: Response | WebSocket) -> Context:  # noqa: ARG002
        return Context(CALLERS[request.headers["authorization"]])


app = Application(strawberry.Schema(Query), graphql_ide=None)
