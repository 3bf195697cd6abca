"""A page of rows as SQL: order, position, limit, and the form that suits the caller's shape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Select,
    Table,
    and_,
    cast,
    false,
    literal_column,
    or_,
    select,
    true,
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
    backward: bool
    cursor: Reference | None
    cursor_nulls: tuple[bool, ...]
    type_name: str

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

    def beyond(self, parameters: Parameters) -> ColumnElement[bool]:
        """The rows after the cursor, in the direction of the page."""
        if self.cursor is None:
            return true()
        tag, count = self.tag, len(self.order)
        if len(self.cursor_nulls) != count:
            raise bad_input("The cursor belongs to another list or another order.")
        held = parameters.cursor(self.cursor, lambda text: decode_cursor(text, tag, count))
        past: ColumnElement[bool] = (
            self.key < parameters.cursor_key(held)
            if self.key_descending != self.backward
            else self.key > parameters.cursor_key(held)
        )
        for index in reversed(range(count)):
            sort, is_null = self.order[index], self.cursor_nulls[index]
            column = sort.column
            falling = sort.descending != self.backward
            if is_null:
                # nulls are the greatest: descending, every value follows them; ascending, nothing does
                past = (
                    or_(column.is_not(None), and_(column.is_(None), past)) if falling else and_(column.is_(None), past)
                )
                continue
            value = cast(parameters.cursor_value(held, index), column.type)
            if falling:
                past = and_(column <= value, or_(column < value, past))
            else:
                # the outer comparison is what an index can seek by
                past = or_(and_(column >= value, or_(column > value, past)), _null_tail(column))
        return past


def _null_tail(column: Column[Any]) -> ColumnElement[bool]:
    return column.is_(None) if column.nullable else false()


def plain(
    table: Table,
    columns: Sequence[ColumnElement[Any]],
    where: Sequence[ColumnElement[bool]],
    page: Page,
    parameters: Parameters,
) -> Select[Any]:
    """One scan in sort order."""
    return (
        select(*columns)
        .select_from(table)
        .where(*where, page.beyond(parameters))
        .order_by(*page.order_by([k.column for k in page.order], page.key))
        .limit(literal_column(str(page.size + 1)))
    )


def merged(
    table: Table,
    columns: Sequence[ColumnElement[Any]],
    where: Sequence[ColumnElement[bool]],
    page: Page,
    parameters: Parameters,
) -> Select[Any]:
    """The first rows of each of the caller's few tenants, merged: one index scan per tenant."""
    tenants = Tenant.__table__.alias("below")
    each = (
        select(tenants.c.id)
        .where(tenants.c.path >= parameters.principal("path"), tenants.c.path < parameters.principal("path_end"))
        .subquery("t")
    )
    first = (
        plain(table, columns, [table.c.tenant_id == each.c.id, *where], page, parameters).correlate(each).lateral("m")
    )
    return (
        select(first)
        .select_from(each.join(first, true()))
        .order_by(*page.order_by([first.c[k.column.name] for k in page.order], first.c[page.key.name]))
        .limit(literal_column(str(page.size + 1)))
    )
