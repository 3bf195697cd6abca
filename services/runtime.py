"""What requests and tasks work with: the parts of a running installation, and one piece of work inside it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

import redis.asyncio as redis
from sqlalchemy import ColumnElement, select
from sqlalchemy.ext.asyncio import AsyncSession

from authz.access import Access
from authz.principal import Principal, system
from authz.session import Database, acting_as
from authz.standing import Admission
from models.base import Base, TenantOwned
from models.system import OutboxEvent
from models.tenancy import Tenant
from services.files import FileStore
from services.kept import Kept
from services.keys import Keys
from services.refusal import not_found

if TYPE_CHECKING:
    from planner.tables import Tables

Row = TypeVar("Row", bound=Base)


@dataclass(frozen=True)
class DoorRules:
    """What a service must know of the door that a caller came through."""

    name: str
    audience: str
    admission: Admission
    login_methods: frozenset[str]


@dataclass(frozen=True)
class Runtime:
    database: Database
    redis: redis.Redis
    access: Access
    keys: Keys
    files: FileStore
    doors: Mapping[str, DoorRules]
    kept: Kept
    tables: Tables
    """The lists of the graph, to be read whole."""
    grantable: Mapping[str, frozenset[str]] = field(default_factory=dict)
    row_types: Mapping[str, type] = field(default_factory=dict)
    """The model behind each type of the graph that has rows, and behind each mutation that says on which it acts."""
    webhooks_inside: bool = False
    """Whether webhooks may go to the installation's own network."""
    public_url: str = ""
    """How browsers reach this installation, without a slash at the end."""
    registration_without_code: bool = False
    """Whether people may register as end users without proving their e-mail address."""


@dataclass(slots=True)
class Origin:
    """Where a request came from."""

    ip: str | None = None
    user_agent: str | None = None
    request_id: str = ""


@dataclass
class Unit:
    """One unit of work, in a request or in a worker: who acts, in which transaction, and what it leaves to be done
    after the commit."""

    principal: Principal
    session: AsyncSession
    events: int = field(default=0, kw_only=True)

    def later(self, topic: str, payload: Mapping[str, Any], *, of: TenantOwned | None = None) -> None:
        """Writes an event with the change that causes it; the worker relays it after the commit. It happened to the
        caller's tenant, or to that which a row is ``of``."""
        tenant_id = self.principal.tenant_id if of is None else of.tenant_id
        assert tenant_id is not None
        self.session.add(
            OutboxEvent(
                tenant_id=tenant_id,
                tenant_path=self.principal.path or self.principal.home if of is None else of.tenant_path,
                topic=topic,
                payload=dict(payload),
            )
        )
        self.events += 1

    async def found(self, kind: type[Row], key: int | None, *conditions: ColumnElement[bool], field: str = "id") -> Row:
        """A row within reach, by its key and whatever else has to be true of it.

        NOT_FOUND, of the field that named it, for all others: out of reach and not existing look the same.
        """
        found = await self.session.scalar(select(kind).where(kind.id == key, *conditions))
        if found is None:
            raise not_found(field)
        return found

    async def held(
        self,
        kind: type[Row],
        key: int | None,
        *conditions: ColumnElement[bool],
        field: str = "id",
        key_share: bool = False,
        read: bool = False,
    ) -> Row:
        """The same as it is now, and nobody else's to change until the end of the transaction.

        With ``key_share`` others may refer to it meanwhile, with ``read`` hold it in the same way, too.
        """
        query = select(kind).where(kind.id == key, *conditions).with_for_update(key_share=key_share, read=read)
        found = await self.session.scalar(query.execution_options(populate_existing=True))
        if found is None:
            raise not_found(field)
        return found

    async def owner_of(self, row: TenantOwned) -> Tenant:
        """The company whose a row is."""
        return (await self.session.scalars(select(Tenant).where(Tenant.id == row.tenant_id))).one()

    @asynccontextmanager
    async def as_the_system(self, reason: str) -> AsyncIterator[None]:
        """The work goes on as the system's own, in the same transaction: for what the caller sets going and may not do
        itself. Who acts stays the caller."""
        caller = self.principal
        wider = replace(system(reason), tenant_id=caller.tenant_id, account_id=caller.account_id)
        async with acting_as(self.session, wider):
            self.principal = wider
            try:
                yield
            finally:
                self.principal = caller


@dataclass
class Work(Unit):
    """A unit of work of a request, with the running installation at hand."""

    runtime: Runtime = field(kw_only=True)
    origin: Origin = field(default_factory=Origin, kw_only=True)
    access_changed: bool = field(default=False, kw_only=True)
    policies_changed: bool = field(default=False, kw_only=True)
    usage_ratios_changed: bool = field(default=False, kw_only=True)
    """Whether what usage is multiplied by was changed, so that what was worked out is forgotten."""
    published_changed: bool = field(default=False, kw_only=True)
    """Whether something was changed that processes keep of what is published."""
    person_erased: bool = field(default=False, kw_only=True)
    """Whether the calling end user's personal data was erased, so that the log does not hold it either."""
