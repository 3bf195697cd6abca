"""The first wall for services: ORM sessions that cannot forget the caller's scope.

Every select, update and delete of the ORM gets the caller's predicates; bulk inserts and statements that would
move rows to another tenant are refused. What this event cannot see (``text()``, Core statements) meets the
second wall: the transaction tells PostgreSQL whose rows it may touch before anything else is said.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from functools import cache, lru_cache
from typing import Any

from sqlalchemy import ColumnElement, Table, Update, and_, event, insert, or_, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import ORMExecuteState, Session, with_loader_criteria
from sqlalchemy.pool import NullPool
from sqlalchemy.sql.selectable import AliasedReturnsRows, FromClause, Join, SelectBase
from sqlalchemy.sql.visitors import iterate

from authz.coordinates import Act
from authz.principal import ROOT_PATH, Principal, PrincipalKind
from authz.scopes import Reach, Scope, of_departments
from models.base import Base, Entrusted, Personal, Published, TenantOwned, table_of
from models.identity import (
    Department,
    EndUser,
    StaffAccount,
)
from models.security import ANCESTORS_SETTING, END_USER_SETTING, PATH_SETTING
from models.tenancy import Tenant

_BRANCH = frozenset({Scope.ALL, Scope.SUBTREE})


class ScopeError(RuntimeError):
    """A statement that the scope of its session forbids: a bug, not a caller's mistake."""


class ScopedSession(Session):
    """A session that acts for a principal; without one it refuses to work."""


def principal_of(session: Session | AsyncSession) -> Principal:
    found = session.info.get("principal")
    if not isinstance(found, Principal):
        raise ScopeError("the session has no principal")
    return found


@event.listens_for(ScopedSession, "do_orm_execute")
def _narrow(state: ORMExecuteState) -> None:
    principal = principal_of(state.session)
    if state.is_insert and state.is_orm_statement and not state.is_from_statement:
        raise ScopeError("bulk inserts pass the session by: add objects, or use COPY under row-level security")
    if isinstance(state.statement, Update):
        kept = {"tenant_id", "tenant_path"} | ({"end_user_id"} if principal.end_user_id is not None else set())
        if {getattr(c, "key", c) for c in state.statement._values or {}} & kept:
            raise ScopeError("a bulk update may not move rows to another tenant or person")
    if state.is_column_load or state.is_relationship_load:
        return
    _narrow_staff(state)
    if principal.path == ROOT_PATH:
        return
    place = (principal.path, principal.ancestors, principal.end_user_id, state.is_select)
    named = _tables_of(state.statement)
    walled = _walled()
    involved = sorted(walled if named is None else named & walled.keys())
    state.statement = state.statement.options(*(_criterion(walled[table], *place) for table in involved))


def _tables_of(statement: Any) -> frozenset[str] | None:
    """The tables that a statement names anywhere, in sub-selects and joins too; None where options may bring in others,
    so that all must be narrowed."""
    if getattr(statement, "_with_options", ()):
        return None
    found: set[str] = set()
    waiting, seen = [statement], set[int]()
    while waiting:
        for element in iterate(waiting.pop()):
            source = element if isinstance(element, FromClause) else getattr(element, "table", None)
            while isinstance(source, AliasedReturnsRows):
                source = source.element
            if isinstance(source, Table):
                found.add(source.name)
            elif isinstance(source, Join | SelectBase) and id(source) not in seen:
                # what a column comes from may be named nowhere else
                seen.add(id(source))
                waiting.append(source)
    return frozenset(found)


@cache
def _walled() -> Mapping[str, Any]:
    """Every model that has an owner, by its table."""
    return {
        str(mapper.local_table.key): mapper.class_
        for mapper in Tenant.registry.mappers
        # what narrows a model narrows those that inherit from it
        if mapper.inherits is None
        and isinstance(mapper.local_table, Table)
        and issubclass(mapper.class_, TenantOwned | Tenant)
    }


@lru_cache(maxsize=4096)
def _criterion(
    owned: type[TenantOwned | Tenant], path: str, ancestors: tuple[str, ...], person: int | None, reads: bool
) -> Any:
    """What narrows a statement to a model's rows of a place in the tree: built once for the callers of a place."""
    end = path.rstrip(".") + "/" if path else ""

    def within(column: Any) -> Any:
        return and_(column >= path, column < end) if path else column == ""

    def inside(model: Any) -> Any:
        if owned is Tenant:
            return within(model.path)
        opened = within(model.tenant_path)
        if issubclass(model, Published) and reads:
            opened = or_(opened, model.tenant_path.in_(ancestors))
        if issubclass(model, Personal) and person is not None:
            opened = or_(opened, model.end_user_id == person)
        if issubclass(model, EndUser) and person is not None:
            opened = or_(opened, model.id == person)
        return opened

    return with_loader_criteria(owned, inside(owned), include_aliases=True)


def _narrow_staff(state: ORMExecuteState) -> None:
    """Who reaches some of the staff only acts on no others."""
    for model in (StaffAccount, Department):
        inside = reached_rows(state.session, model)
        if inside is not None:
            state.statement = state.statement.options(with_loader_criteria(model, inside, include_aliases=True))


def reached_rows(session: Session | AsyncSession, model: type[StaffAccount | Department]) -> ColumnElement[bool] | None:
    """The staff or departments that a member of staff reaches: those that it reads, and of them those on which it holds
    what it exercises. None where that is all of its tenant's branch."""
    principal = principal_of(session)
    if principal.kind is not PrincipalKind.STAFF:
        return None
    reaches = [principal.grants.reach_of(model.__name__, "id", Act.READ)]
    exercised = session.info.get("exercised")
    if exercised is not None:
        reaches.append(principal.grants.reach_of(*exercised))
    narrowed = [_rows(model, reach, principal) for reach in reaches if reach is not None and not reach & _BRANCH]
    return and_(*narrowed) if narrowed else None


def _rows(model: type[StaffAccount | Department], reach: Reach, principal: Principal) -> ColumnElement[bool]:
    department = StaffAccount.department_id if issubclass(model, StaffAccount) else Department.id
    named = sorted({key for rows in reach if of_departments(rows) for key in principal.departments_in(rows)})
    opened: list[ColumnElement[bool]] = [department.in_(named)]
    if Scope.TENANT in reach:
        opened.append(model.tenant_id == principal.tenant_id)
    if Scope.SELF in reach and issubclass(model, StaffAccount):
        opened.append(StaffAccount.id == principal.account_id)
    return or_(*opened)


@event.listens_for(ScopedSession, "before_flush")
def _entrust(session: Session, *_: object) -> None:
    """Writes what is entrusted to the system without reading anything back, which the writer may not."""
    principal = principal_of(session)
    place = principal.path or principal.home
    for row in list(session.new):
        if isinstance(row, Entrusted) and isinstance(row, TenantOwned) and isinstance(row, Base):
            inside = principal.path and principal.path <= row.tenant_path < principal.path_end
            if not inside and row.tenant_path != place:
                raise ScopeError(f"{type(row).__name__} at {row.tenant_path!r} lies outside {place!r}")
            session.expunge(row)
            table = table_of(type(row))
            given = {name: value for name, value in vars(row).items() if name in table.c}
            session.connection().execute(insert(table).values(given).inline())


@event.listens_for(ScopedSession, "before_flush")
def _claim(session: Session, *_: object) -> None:
    principal = principal_of(session)
    for row in (*session.new, *session.dirty, *session.deleted):
        path = row.path if isinstance(row, Tenant) else getattr(row, "tenant_path", None)
        if isinstance(row, TenantOwned | Tenant) and not (
            path is not None and principal.path and principal.path <= path < principal.path_end
        ):
            person = row.id if isinstance(row, EndUser) else getattr(row, "end_user_id", None)
            if person is None or person != principal.end_user_id:
                raise ScopeError(f"{type(row).__name__} at {path!r} lies outside {principal.path!r}")


_inside: ContextVar[bool] = ContextVar("inside a transaction", default=False)
"""Whether whoever asks for a transaction is in the midst of one."""


def _engine(dsn: str, **options: Any) -> AsyncEngine:
    return create_async_engine(
        dsn.replace("postgresql://", "postgresql+asyncpg://", 1),
        connect_args={
            "ssl": False,
            "server_settings": {"TimeZone": "UTC", "application_name": "trellis", "jit": "off"},
        },
        **options,
    )


class Database:
    """The database as services use it: one transaction at a time, for one principal."""

    def __init__(self, dsn: str, pool_size: int = 8, *, pooled: bool = True) -> None:
        self.dsn = dsn
        options: dict[str, Any] = {"pool_size": pool_size, "max_overflow": pool_size} if pooled else {}
        if not pooled:
            options["poolclass"] = NullPool
        self.engine = _engine(dsn, **options)
        # what is begun within a transaction must not wait for the connections of others that are as far
        self._within = _engine(dsn, pool_size=2, max_overflow=-1) if pooled else self.engine

    async def close(self) -> None:
        await self.engine.dispose()
        await self._within.dispose()

    @asynccontextmanager
    async def alone(self, work: str) -> AsyncIterator[bool]:
        """Whether nobody else is at a piece of work now, which nobody else begins before the block ends."""
        async with self.engine.connect() as connection:
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            given = bool(await connection.scalar(_ALONE, {"work": work}))
            try:
                yield given
            finally:
                if given:
                    await connection.execute(_DONE, {"work": work})

    @asynccontextmanager
    async def transaction(
        self, principal: Principal, exercised: tuple[str, str, Act] | None = None
    ) -> AsyncIterator[AsyncSession]:
        """One transaction in which only the principal's rows exist; commits at the end, rolls back on any error.

        ``exercised``: the permission on whose rows it acts, where that may be fewer than those that it sees."""
        outermost = not _inside.get()
        _inside.set(True)
        try:
            async with AsyncSession(
                self.engine if outermost else self._within,
                sync_session_class=ScopedSession,
                expire_on_commit=False,
                info={"principal": principal, "exercised": exercised},
            ) as session:
                await _tell(session, principal)
                yield session
                await session.commit()
        finally:
            _inside.set(not outermost)


_ALONE = text("SELECT pg_try_advisory_lock(hashtextextended(:work, 0))")
_DONE = text("SELECT pg_advisory_unlock(hashtextextended(:work, 0))")
ON_BEHALF_OF = "on_behalf_of"
"""Where a session that acts for another principal keeps whom it acts on behalf of."""
_CONTEXT = text(
    f"SELECT set_config('{PATH_SETTING}', :path, true), set_config('{ANCESTORS_SETTING}', :ancestors, true), "
    f"set_config('{END_USER_SETTING}', :end_user, true)"
)


async def _tell(session: AsyncSession, principal: Principal) -> None:
    """Tells the second wall whose rows the transaction may touch from now on."""
    path, ancestors, end_user = principal.row_context
    await session.execute(_CONTEXT, {"path": path, "ancestors": ancestors, "end_user": end_user})


@asynccontextmanager
async def acting_as(session: AsyncSession, principal: Principal) -> AsyncIterator[None]:
    """For as long as the block lasts, the session acts for another principal, in the same transaction: for what a
    caller sets going and may not do, such as paying the agents above it.

    Whatever goes wrong inside takes the whole transaction with it, so that nobody goes on with another's scope.
    """
    before = dict(session.info)
    await session.flush()
    session.info.update(principal=principal, exercised=None)
    session.info.setdefault(ON_BEHALF_OF, before["principal"])
    await _tell(session, principal)
    try:
        yield
        await session.flush()
        _restore(session, before)
        await _tell(session, before["principal"])
    except BaseException:
        _restore(session, before)
        await session.rollback()
        raise


def _restore(session: AsyncSession, info: dict[Any, Any]) -> None:
    session.info.clear()
    session.info.update(info)
