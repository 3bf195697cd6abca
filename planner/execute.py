"""Running a plan: one statement per level on one connection, live fields batched, rows built into the answer."""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import cache
from typing import Any

import asyncpg
from strawberry.dataloader import DataLoader

from planner.errors import bad_input
from planner.plan import (
    Leaf,
    Level,
    LiveField,
    NullPropagatesError,
    Plan,
    Reference,
    RootPlan,
    State,
    ValueShape,
    collect_live,
    collect_references,
    serialise_value,
)
from planner.pool import Connection, Connections


class Execution:
    """One run of a plan for one caller. ``context`` is what live resolvers and loaders are given."""

    def __init__(self, plan: Plan, variables: Mapping[str, Any], context: Any, pool: Connections) -> None:
        self.plan = plan
        self.variables = variables
        self.context = context
        self.principal = context.principal
        self.pool = pool
        self.state = State(plan.levels, plan.live)

    async def query(self) -> dict[str, Any]:
        """The answer's data. Errors of live fields are left in ``state.errors``."""
        values = {}
        for root in self.plan.roots:
            if root.root is not None and root.build is None:
                arguments = root.arguments(self.variables) if root.arguments else {}
                values[root.key] = await root.root.function(self.context, **arguments)
        return await self.answer(values)

    async def mutate(self, run: Callable[[Any, dict[str, Any]], Awaitable[Any]]) -> dict[str, Any]:
        """Runs the operation's mutations one after the other; each payload is read after its own commit."""
        data = {}
        for root in self.plan.roots:
            value = None
            if root.root is not None:
                value = await run(root.root, root.arguments(self.variables) if root.arguments else {})
            data.update(await self.answer({root.key: value}, [root]))
        return data

    async def answer(self, values: Mapping[str, Any], roots: Sequence[RootPlan] | None = None) -> dict[str, Any]:
        """The data, with the Python values of live roots, mutations and subscriptions already at hand."""
        roots = self.plan.roots if roots is None else roots
        for root in roots:
            if root.shape is not None:
                await self._load(root.shape, values.get(root.key))
        if self.plan.levels:
            connection = await self.pool.take()
            try:
                for root in roots:
                    await self._rows(root, connection, values.get(root.key))
            finally:
                self.pool.give(connection)
        if self.plan.live:
            await asyncio.gather(*(self._live(field) for root in roots for field in root.live))
        return {root.key: self._build(root, values.get(root.key)) for root in roots}

    async def _load(self, shape: Leaf | Reference | ValueShape, value: Any) -> None:
        """Fills the live fields of plain values that are selected."""
        wanted: dict[tuple[Any, str], list[Any]] = {}
        collect_live(shape, value, wanted)
        for (loader, attribute), values in wanted.items():
            for each, found in zip(values, await loader(self.context, values), strict=True):
                setattr(each, attribute, found)

    async def _rows(self, root: RootPlan, connection: Connection, value: Any) -> None:
        groups = self.state.groups
        references: dict[int, list[int]] = {}
        if root.shape is not None:
            collect_references(root.shape, value, references)
        for level in root.levels:
            if not level.sql:
                continue
            keys = self._keys(level, references)
            if keys is not None and not keys:
                groups[level.number] = {}
                continue
            arguments = level.fill(keys, self.variables, self.principal)
            try:
                rows = await connection.fetch(level.sql, arguments)
            except asyncpg.DataError as error:
                # the text inside a forged cursor, or a number beyond the column's range
                raise bad_input("VALUE_UNFIT", error=error) from None
            if level.guest is not None:
                self._take(level.guest[0], guests(level, rows))
                rows = rows[:1]
            self._take(level, _grouped(level, rows))

    def _take(self, level: Level, groups: Any) -> None:
        self.state.groups[level.number] = groups
        if level.look_ahead is not None:
            self.state.more[level.number] = _trimmed(level, groups, level.look_ahead)

    def _keys(self, level: Level, references: Mapping[int, Sequence[int]]) -> list[int] | None:
        if level.kind == "keyed":
            return list(dict.fromkeys(references.get(level.number, ())))
        if level.parent is None:
            return None
        column = level.parent_column
        return list({row[column]: None for row in _flat(self.state.groups[level.parent]) if row[column] is not None})

    async def _live(self, field: LiveField) -> None:
        """Every row of the level that has the field, once, through one loader."""
        rows = _flat(self.state.groups[field.level])
        needing: Any = _row_of(("id", *(name for name, _ in field.needs)))
        wanted = {
            row[field.key_column]: needing(row[field.key_column], *(row[at] for _, at in field.needs))
            for row in rows
            if row[field.key_column] is not None
        }
        loader: DataLoader[Any, Any] = DataLoader(load_fn=lambda keys: field.loader(self.context, keys))
        found = await asyncio.gather(*(loader.load(row) for row in wanted.values()), return_exceptions=True)
        self.state.live[field.number] = dict(zip(wanted, found, strict=True))

    def _build(self, root: RootPlan, value: Any) -> Any:
        if root.constant is not None:
            return root.constant
        try:
            if root.build is not None:
                return root.build(self.state, root.path)
            assert root.shape is not None
            return serialise_value(root.shape, root.nulls, value, self.state, root.path)
        except NullPropagatesError:
            if root.nullable:
                return None
            raise


def _grouped(level: Level, rows: list[Any]) -> Any:
    if level.kind == "keyed":
        return {row[0]: row for row in rows}
    if level.kind == "count":
        return {row[0]: row[1] for row in rows} if level.parent is not None else rows[0][0]
    if level.parent is None:
        return rows
    groups: dict[Any, list[Any]] = {}
    for row in rows:
        group = groups.get(row[0])
        if group is None:
            groups[row[0]] = [row]
        else:
            group.append(row)
    return groups


def guests(level: Level, rows: list[Any]) -> dict[Any, list[Any]]:
    """The rows that a level's statement read for its guest, after the level's one row: by the guest's parent."""
    assert level.guest is not None
    guest, width = level.guest
    return {rows[0][guest.parent_column]: [row[width:] for row in rows[1:]]} if len(rows) > 1 else {}


def _trimmed(level: Level, groups: Any, size: int) -> Any:
    """Takes the rows off that only tell of a next page, before anything is read below them."""
    if level.parent is None:
        more = len(groups) > size
        del groups[size:]
        return more
    longer = {key for key, rows in groups.items() if len(rows) > size}
    for key in longer:
        groups[key].pop()
    return longer


def _flat(groups: Any) -> list[Any]:
    if isinstance(groups, dict):
        return [row for group in groups.values() for row in (group if isinstance(group, list) else (group,))]
    return groups or []


@cache
def _row_of(names: tuple[str, ...]) -> Any:
    """What a loader is given of a row: its key and the columns that it needs, hashable and by name."""
    return collections.namedtuple("Needed", names)
