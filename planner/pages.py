"""A page of rows as SQL: order, position, limit, and the form that suits the caller's shape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    FromClause,
    Select,
    Table,
    and_,
    cast,
    literal_column,
    or_,
    select,
    true,
    tuple_,
    union_all,
)

from models.tenancy import Tenant
from planner.cursor import decode_cursor, order_tag
from planner.errors import bad_input
from planner.parameters import Parameters, Reference


@dataclass(frozen=True)
class SortKey:
    name: str
    column: Column[Any]
    descending: bool

    def clause(self, column: ColumnElement[Any], backward: bool) -> ColumnElement[Any]:
        """PostgreSQL's own order: nulls come after every value, so first when descending."""
        return column.desc() if self.descending != backward else column.asc()


@dataclass(frozen=True)
class Page:
    """What the arguments of a connection ask for."""

    order: tuple[SortKey, ...]
    key: Column[Any]
    key_order: bool | None
    """Whether the key was asked for descending; None where it only breaks ties."""
    size: int
    look_ahead: bool
    """Whether one row more is read, to know whether there is a next page."""
    backward: bool
    cursor: Reference | None
    cursor_nulls: tuple[bool, ...]
    type_name: str

    @property
    def limit(self) -> ColumnElement[int]:
        return literal_column(str(self.size + self.look_ahead))

    @property
    def tag(self) -> str:
        return order_tag(self.type_name, [*((k.name, k.descending) for k in self.order), ("id", self.key_descending)])

    @property
    def key_descending(self) -> bool:
        """The key follows the direction of the last sort key, so that one index serves both."""
        if self.key_order is not None:
            return self.key_order
        return self.order[-1].descending if self.order else False

    def order_by(self, columns: Sequence[ColumnElement[Any]], key: ColumnElement[Any]) -> list[ColumnElement[Any]]:
        by = [k.clause(c, self.backward) for k, c in zip(self.order, columns, strict=True)]
        by.append(key.desc() if self.key_descending != self.backward else key.asc())
        return by

    def beyond(self, parameters: Parameters) -> list[ColumnElement[bool]]:
        """The rows after the cursor, in the direction of the page: one condition, or two that follow each other,
        so that an index can be searched by each."""
        if self.cursor is None:
            return [true()]
        tag, count = self.tag, len(self.order)
        if len(self.cursor_nulls) != count:
            raise bad_input("CURSOR_OF_ANOTHER")
        held = parameters.cursor(self.cursor, lambda text: decode_cursor(text, tag, count))
        key_falls = self.key_descending != self.backward
        key = parameters.cursor_key(held)
        later = self.key < key if key_falls else self.key > key
        if count == 1 and (self.order[0].descending != self.backward) == key_falls:
            column = self.order[0].column
            if self.cursor_nulls[0]:
                among_nulls = and_(column.is_(None), later)
                return [among_nulls, column.is_not(None)] if key_falls else [among_nulls]
            place = tuple_(cast(parameters.cursor_value(held, 0), column.type), key)
            row = tuple_(column, self.key)
            if key_falls:
                return [row < place]
            return [row > place, column.is_(None)] if column.nullable else [row > place]
        for index in reversed(range(count)):
            later = self._beyond_one(index, later, parameters, held)
        return [later]

    def _beyond_one(
        self, index: int, later: ColumnElement[bool], parameters: Parameters, held: str
    ) -> ColumnElement[bool]:
        """Past the cursor by this sort key, or level with it and past it by what follows. Nulls are greatest."""
        column = self.order[index].column
        falls = self.order[index].descending != self.backward
        if self.cursor_nulls[index]:
            level = and_(column.is_(None), later)
            return or_(column.is_not(None), level) if falls else level
        value = cast(parameters.cursor_value(held, index), column.type)
        past = column < value if falls else or_(column > value, column.is_(None))
        return or_(past, and_(column == value, later))


def plain(
    table: Table,
    columns: Sequence[ColumnElement[Any]],
    where: Sequence[ColumnElement[bool]],
    page: Page,
    parameters: Parameters,
    outer: FromClause | None = None,
) -> Select[Any]:
    """One scan in sort order, or two one after the other. ``outer``: what the page is correlated to."""
    scans = [_scan(table, columns, [*where, beyond], page) for beyond in page.beyond(parameters)]
    return _in_turn(scans if outer is None else [scan.correlate(outer) for scan in scans], page)


def merged(
    table: Table,
    columns: Sequence[ColumnElement[Any]],
    where: Sequence[ColumnElement[bool]],
    page: Page,
    parameters: Parameters,
) -> Select[Any]:
    """The first rows of each of the caller's few tenants, merged: one index scan per tenant, or two merges one
    after the other. Where an index alone tells which rows these are, only those of the page are read."""
    alone = not page.order and not where
    merges = []
    for beyond in page.beyond(parameters):
        below = Tenant.__table__.alias("below")
        path, end = parameters.principal("path"), parameters.principal("path_end")
        each = select(below.c.id).where(below.c.path >= path, below.c.path < end).subquery("t")
        read = [page.key] if alone else columns
        scan = _scan(table, read, [table.c.tenant_id == each.c.id, *where, beyond], page)
        first = scan.correlate(each).lateral("m")
        order = page.order_by([first.c[k.column.name] for k in page.order], first.c[page.key.name])
        merges.append(select(first).select_from(each.join(first, true())).order_by(*order).limit(page.limit))
    if alone:
        keys = merges[0].subquery("k")
        row = select(*columns).where(page.key == keys.c[page.key.name]).limit(1).correlate(keys).lateral("r")
        return select(row).select_from(keys.join(row, true()))
    return _in_turn(merges, page)


def _scan(
    table: Table, columns: Sequence[ColumnElement[Any]], where: Sequence[ColumnElement[bool]], page: Page
) -> Select[Any]:
    order = page.order_by([k.column for k in page.order], page.key)
    return select(*columns).select_from(table).where(*where).order_by(*order).limit(page.limit)


def _in_turn(selects: Sequence[Select[Any]], page: Page) -> Select[Any]:
    """The rows of the first, then those of the second, as far as the page goes. The branches of an Append run in
    their order, and the limit stops before the second is begun if it can: connections for reading run no parallel
    plans."""
    if len(selects) == 1:
        return selects[0]
    return select(union_all(*selects).lateral("scans")).limit(page.limit)
