"""A level while it is written: its columns, its joins, and the rows of entities inside it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    literal_column,
)

from planner.mapping import Entity
from planner.parameters import Parameters
from planner.plan import (
    Level,
)

HOST = "host"
"""What a single row is called inside the statement that reads the page below it as well."""


@dataclass
class Rows:
    """A level while it is written: the columns that it selects and the joins that it needs."""

    level: Level
    parameters: Parameters
    lead: int = 0
    """How many columns stand before these: the parent's key, where there is one."""
    columns: list[ColumnElement[Any]] = field(default_factory=list)
    sources: dict[str, int] = field(default_factory=dict)
    joins: list[Any] = field(default_factory=list)
    aliases: int = 0
    takes_guest: bool = False
    """Whether it is a single row, whose statement may read the page of a connection below it as well."""
    host: Rows | None = None
    """The level whose statement reads this one."""
    guest: tuple[Rows, Any] | None = None
    """The level that this one's statement reads as well, and its page as a lateral of ``HOST``."""

    def column(self, source: str, expression: ColumnElement[Any]) -> int:
        """The position of an expression in the row; the same source is selected once."""
        position = self.sources.get(source)
        if position is None:
            position = self.sources[source] = self.lead + len(self.columns)
            self.columns.append(expression.label(f"c{position}"))
        return position


@dataclass
class At:
    """A row of an entity inside a level: its alias and the columns that its own table must deliver."""

    entity: Entity
    rows: Rows
    alias: str
    needs: dict[str, Column[Any]] = field(default_factory=dict)
    made: dict[tuple[Any, ...], tuple[str, bool]] = field(default_factory=dict)
    """Relations and live fields that are compiled already: the types of an interface share them."""

    never_null: int | None = None
    """The position of a selected column that holds a value in each of the table's rows."""

    @property
    def key(self) -> int:
        """The position of the row's key, which is selected once somebody asks."""
        return self.rows.column(f"{self.alias}.id", self.need(self.entity.table.c.id))

    @property
    def present(self) -> int:
        """The position that is null only where a joined row was not found."""
        return self.key if self.never_null is None else self.never_null

    def need(self, column: Column[Any]) -> ColumnElement[Any]:
        self.needs[column.name] = column
        return literal_column(f'{self.alias}."{column.name}"', column.type)


@dataclass(frozen=True)
class Parent:
    """Where a connection hangs: its parent's row, the column that points there, the expression of its path."""

    at: At
    column: Column[Any]
    where: str


class Needing:
    """What a computed field's expression sees of its row."""

    def __init__(self, at: At) -> None:
        self._at = at

    def __getattr__(self, name: str) -> ColumnElement[Any]:
        return self._at.need(self._at.entity.attribute(name))


class Columns:
    """A row's alias in place of its table, for predicates that narrow one field of it."""

    def __init__(self, at: At) -> None:
        self.c = Needing(at)
