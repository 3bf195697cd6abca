"""What a unit of work changes: rows before and after, gathered from the session as it writes them (S1-30).

A session gathers nothing unless it was given a place to; so only mutations that are logged pay for it. A statement
about many rows tells its table and how many they were.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from sqlalchemy import Delete, Insert, TextClause, Update, event
from sqlalchemy import inspect as inspect_row
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import ORMExecuteState, Session

from authz.principal import ROOT_PATH, Principal
from authz.session import ON_BEHALF_OF, ScopedSession
from models.base import Base, LogEntry
from models.security import mapped_tables
from models.system import ChangeAction, IdempotentResult, OutboxEvent
from models.tenancy import Tenant

MOST = 200
"""So many changed values of one unit of work are kept."""
PLACE = "changes"
UNTOLD = (LogEntry, OutboxEvent, IdempotentResult)
"""What is written along with every change, and says nothing of it."""
BOOKKEEPING = frozenset({"id", "tenant_id", "tenant_path", "tenant_branch", "created_at", "updated_at"})
ACTIONS = {"INSERT INTO": ChangeAction.CREATED, "UPDATE": ChangeAction.CHANGED, "DELETE FROM": ChangeAction.REMOVED}
_WRITTEN = re.compile(r"\s*(INSERT INTO|UPDATE|DELETE FROM)\s+(\w+)")


@dataclass(frozen=True)
class Change:
    """One value of a row before and after; without an attribute, so many rows of a table."""

    action: ChangeAction
    model: type | None
    table: str
    key: int | None = None
    attribute: str | None = None
    before: Any = None
    after: Any = None
    rows: int | None = None


@dataclass
class Changes:
    """What has been changed so far; ``cut`` where it was more than is kept."""

    found: list[Change] = field(default_factory=list)
    cut: bool = False

    @classmethod
    def gathered(cls, session: AsyncSession) -> Changes:
        """A new place, into which the session gathers from now on."""
        changes = session.info[PLACE] = cls()
        return changes

    def add(self, change: Change) -> bool:
        """Whether there was room."""
        self.cut = self.cut or len(self.found) >= MOST
        if not self.cut:
            self.found.append(change)
        return not self.cut


def _values(row: Base, action: ChangeAction) -> Iterator[Change]:
    state = inspect_row(row)
    for attribute in state.mapper.column_attrs:
        name = attribute.key
        if name in BOOKKEEPING:
            continue
        before = after = None
        if action is ChangeAction.CHANGED:
            history = state.attrs[name].history
            if not history.has_changes():
                continue
            before = history.deleted[0] if history.deleted else None
            after = history.added[0] if history.added else None
        elif action is ChangeAction.CREATED:
            after = state.dict.get(name)
        else:
            before = state.dict.get(name)
        if before is not None or after is not None:
            table = attribute.columns[0].table
            yield Change(action, type(row), getattr(table, "name", ""), row.id, name, before, after)


def _on_behalf_of(session: Session) -> Principal | None:
    """On whose behalf the system acts, where that is somebody who is told of their own rows alone."""
    caller: Principal | None = session.info.get(ON_BEHALF_OF)
    return None if caller is None or caller.path == ROOT_PATH else caller


def _callers(session: Session, row: Any) -> bool:
    """Whether the log may tell of a row: while the system acts for a caller, of those within the caller's reach."""
    caller = _on_behalf_of(session)
    if caller is None:
        return True
    path = row.path if isinstance(row, Tenant) else getattr(row, "tenant_path", None)
    return bool(path is not None and caller.path and caller.path <= path < caller.path_end)


@event.listens_for(ScopedSession, "after_flush")
def _gather(session: Session, _: object) -> None:
    changes: Changes | None = session.info.get(PLACE)
    if changes is None:
        return
    for rows, action in (
        (session.new, ChangeAction.CREATED),
        (session.dirty, ChangeAction.CHANGED),
        (session.deleted, ChangeAction.REMOVED),
    ):
        for row in rows:
            if isinstance(row, UNTOLD) or not _callers(session, row):
                continue
            for change in _values(row, action):
                if not changes.add(change):
                    return


@event.listens_for(ScopedSession, "do_orm_execute")
def _count(state: ORMExecuteState) -> Any:
    changes: Changes | None = None if _on_behalf_of(state.session) else state.session.info.get(PLACE)
    written = None if changes is None else _what_is_written(state.statement)
    if changes is None or written is None:
        return None
    result = state.invoke_statement()
    rows = getattr(result, "rowcount", -1)
    table = written[1]
    model = _model_of(table)
    if rows and not (model is not None and issubclass(model, UNTOLD)):
        changes.add(Change(written[0], model, table, rows=rows if rows > 0 else None))
    return result


@cache
def _model_of(table: str) -> type[Base] | None:
    return next((mapper.class_ for mapper, stored in mapped_tables() if stored.name == table), None)


def _what_is_written(statement: Any) -> tuple[ChangeAction, str] | None:
    """What a statement does to which table; None for one that only reads."""
    if isinstance(statement, Insert | Update | Delete):
        action = {"insert": ChangeAction.CREATED, "update": ChangeAction.CHANGED}.get(statement.__visit_name__)
        return action or ChangeAction.REMOVED, getattr(statement.table, "name", "")
    found = _WRITTEN.match(statement.text) if isinstance(statement, TextClause) else None
    return None if found is None else (ACTIONS[found[1]], found[2])
