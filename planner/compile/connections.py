"""Levels: single rows, pages at the root and below, and their totals."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from graphql import (
    FieldNode,
    GraphQLNamedType,
    GraphQLObjectType,
    get_named_type,
)
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    CompoundSelect,
    Select,
    Text,
    cast,
    func,
    literal_column,
    null,
    select,
    true,
    union_all,
)

from authz.principal import Shape
from models.base import Widespread
from planner import pages, scope
from planner.compile.conditions import id_converter
from planner.compile.entities import Entities
from planner.compile.rows import HOST, At, Parent, Rows
from planner.errors import bad_input
from planner.ids import scramble_source
from planner.mapping import Entity, camel
from planner.operation import cursor_nulls
from planner.parameters import Parameters
from planner.plan import (
    Level,
)

DEFAULT_PAGE = 20


class Connections(Entities):
    def level(self, kind: str, parent: Parent | None = None) -> Rows:
        level = Level(len(self.levels), kind)
        if parent is not None:
            level.parent, level.parent_column = parent.at.rows.level.number, parent.at.key
        self.levels.append(level)
        return Rows(level, Parameters(self.space), lead=int(parent is not None or kind == "keyed"))

    def page_level(self, parent: Parent | None) -> Rows:
        """The level of a page: the first below a single row is the guest of that row's statement."""
        rows = self.level("rows", parent)
        if parent is None or not parent.at.rows.takes_guest:
            return rows
        host = parent.at.rows
        host.takes_guest = False
        return Rows(rows.level, host.parameters, host=host)

    def finish(self, rows: Rows, statement: Select[Any] | CompoundSelect[Any]) -> None:
        sql, source = rows.parameters.compile(statement, f"fill{rows.level.number}")
        rows.level.sql, rows.level.fill_source = sql, source
        self.source.append(source)

    def with_guest(self, columns: list[Any], source: Any, guest: tuple[Rows, Any]) -> CompoundSelect[Any]:
        """A single row, and after it those of the page below it: each has columns of its own."""
        rows, page = guest
        host = select(*columns).select_from(source).cte(HOST)
        below = self.joined(rows, host.join(page, true()))
        return union_all(
            select(*host.c, *(null() for _ in rows.columns)),
            select(*(null() for _ in columns), *rows.columns).select_from(below),
        )

    @staticmethod
    def joined(rows: Rows, first: Any) -> Any:
        for join in rows.joins:
            first = first.outerjoin(join, true())
        return first

    def single(
        self,
        entity: Entity,
        root: Select[Any],
        nodes: list[FieldNode],
        arguments: Mapping[str, Any],
        path: tuple[str, ...],
    ) -> str:
        """A root that finds one row by exactly one of its arguments; gives the call that builds it."""
        given = {name: reference for name, reference in arguments.items() if reference is not None}
        if len(given) != 1:
            raise bad_input("EXACTLY_ONE", path=path, names=", ".join(arguments))
        self.spend(1)
        rows = self.level("rows")
        rows.takes_guest = True
        at = At(entity, rows, "a")
        key = at.need(entity.table.c.id)
        expression, fallible = self.object(entity, at, self.below(nodes), path, "p", 1)
        (name, reference) = next(iter(given.items()))
        if name == "id":
            wanted = entity.table.c.id == rows.parameters.value(reference, BigInteger(), id_converter(entity))
        else:
            wanted = self.condition(entity, name, {"eq": reference}, rows.parameters, path)
        page = (
            select(*at.needs.values())
            .select_from(entity.table)
            .where(wanted, *_whereclause(root), self.in_scope(entity, rows.parameters))
            .limit(literal_column("1"))
            .subquery(at.alias)
        )
        columns, source = rows.columns or [key], self.joined(rows, page)
        if rows.guest is None:
            self.finish(rows, select(*columns).select_from(source))
        else:
            rows.level.guest = (rows.guest[0].level, len(columns))
            self.finish(rows, self.with_guest(columns, source, rows.guest))
        number = rows.level.number
        body = f"guard(lambda:{expression})" if fallible else expression
        self.source.append(f"def one{number}(rs,S,p):\n if not rs: return None\n r=rs[0]\n return {body}\n")
        return f"one{number}(S.groups[{number}],S,p)"

    def connection(
        self,
        entity: Entity,
        returned: GraphQLNamedType,
        nodes: list[FieldNode],
        arguments: Mapping[str, Any],
        path: tuple[str, ...],
        parent: Parent | None,
        root: Select[Any] | None,
        many: int,
    ) -> tuple[str, bool]:
        """A page at the root, or one for each parent of a level: (the call that builds it, can it fail)."""
        assert isinstance(returned, GraphQLObjectType)
        selected = self.collect(returned, self.below(nodes))
        page = self.page(entity, arguments, path, self.looks_ahead(selected.values()))
        parts: list[str] = []
        rows: Rows | None = None
        at: At | None = None
        fallible = False
        if any(n[0].name.value in ("edges", "nodes", "pageInfo") for n in selected.values()):
            self.spend(many * max(page.size, 1))
            rows = self.page_level(parent)
            at = At(entity, rows, "a")
            at.need(entity.table.c.id)
        total = more = "0"
        inside = many * max(page.size, 1)
        for key, field_nodes in selected.items():
            name = field_nodes[0].name.value
            if name == "__typename":
                parts.append(f"{key!r}:{returned.name!r}")
            elif name == "totalCount":
                self.spend(many)
                number = self.total(entity, arguments.get("filter"), parent, root, path)
                total = f"S.groups[{number}]" + (f".get(r[{parent.at.key}],0)" if parent else "")
                parts.append(f"{key!r}:t")
            elif name == "pageInfo":
                assert at is not None
                parts.append(f"{key!r}:{self.page_info(returned, field_nodes, page, self.cursor(page, at))}")
            else:
                assert at is not None
                where = f"p+({key!r},i)"
                edges = name == "edges"
                if edges:
                    cursor = self.cursor(page, at)
                    item, fails = self.edge(entity, at, returned, field_nodes, (*path, key), where, inside, cursor)
                else:
                    item, fails = self.object(entity, at, self.below(field_nodes), (*path, key), where, inside)
                fallible = fallible or fails
                parts.append(f"{key!r}:[{item} for i,r in enumerate(rs)]" if fails else f"{key!r}:[{item} for r in rs]")
        place = len(self.source)
        lines = ""
        if rows is not None and at is not None:
            self.page_statement(entity, rows, at, page, arguments.get("filter"), parent, root, path)
            if page.backward:
                lines = " rs=rs[::-1]\n"
            if page.look_ahead:
                rows.level.look_ahead = page.size
                more = (
                    f"r[{parent.at.key}] in S.more[{rows.level.number}]" if parent else f"S.more[{rows.level.number}]"
                )
        name = f"page{place}"
        self.source.append(f"def {name}(rs,S,p,t,m):\n{lines} return {{{','.join(parts)}}}\n")
        found = f"S.groups[{rows.level.number}]" if rows else "()"
        if rows and parent:
            found += f".get(r[{parent.at.key}],())"
        where = "p" if parent is None else parent.where if fallible else "None"
        return f"{name}({found},S,{where},{total},{more})", fallible

    def looks_ahead(self, selected: Iterable[list[FieldNode]]) -> bool:
        """Whether a connection is asked for its next page, in either direction."""
        page_info = self.graph.schema.type_map["PageInfo"]
        assert isinstance(page_info, GraphQLObjectType)
        asked = [nodes for nodes in selected if nodes[0].name.value == "pageInfo"]
        fields = (field for nodes in asked for field in self.collect(page_info, self.below(nodes)).values())
        return any(field[0].name.value in ("hasNextPage", "hasPreviousPage") for field in fields)

    def page(self, entity: Entity, arguments: Mapping[str, Any], path: tuple[str, ...], look_ahead: bool) -> pages.Page:
        first, last = arguments.get("first"), arguments.get("last")
        for name, size in (("first", first), ("last", last)):
            if size is not None and not 0 <= size <= self.limits.max_page:
                raise bad_input("PAGE_SIZE", path=path, name=name, limit=self.limits.max_page)
        if first is not None and last is not None:
            raise bad_input("FIRST_OR_LAST", path=path)
        backward = last is not None
        after, before = arguments.get("after"), arguments.get("before")
        if (before if not backward else after) is not None:
            raise bad_input("CURSOR_DIRECTION", path=path)
        order: list[pages.SortKey] = []
        key_order: bool | None = None
        for by in arguments.get("orderBy") or ():
            name = by["field"].value
            descending = by["direction"].name == "DESC"
            if key_order is not None or any(k.name == name for k in order):
                raise bad_input("ORDER_ONCE", path=path)
            if name == "id":
                key_order = descending
                continue
            self.authorise_use(entity, camel(name), path)
            order.append(pages.SortKey(name, entity.attribute(name), descending))
        cursor = before if backward else after
        nulls = () if cursor is None else cursor_nulls(self.arguments.value(cursor)) or ()
        size = last if backward else first
        return pages.Page(
            order=tuple(order),
            key=entity.table.c.id,
            key_order=key_order,
            size=min(DEFAULT_PAGE, self.limits.max_page) if size is None else size,
            look_ahead=look_ahead,
            backward=backward,
            cursor=cursor,
            cursor_nulls=nulls,
            type_name=entity.name,
        )

    def cursor(self, page: pages.Page, at: At) -> Callable[[str], str]:
        """The expression of a row's cursor, by the name of the row: its sort values as PostgreSQL writes them,
        and its key."""
        values = [at.rows.column(f"{at.alias}~{k.name}", cast(at.need(k.column), Text)) for k in page.order]

        def expression(row: str) -> str:
            key = f"{row}[{at.key}]"
            if not values:
                return scramble_source(page.tag, key)
            texts = "".join(f"{row}[{v}]," for v in values)
            return f"encode_cursor({page.tag!r},{key},({texts}))"

        return expression

    def edge(
        self,
        entity: Entity,
        at: At,
        returned: GraphQLObjectType,
        nodes: list[FieldNode],
        path: tuple[str, ...],
        where: str,
        many: int,
        cursor: Callable[[str], str],
    ) -> tuple[str, bool]:
        edge_type = get_named_type(returned.fields["edges"].type)
        assert isinstance(edge_type, GraphQLObjectType)
        parts: list[str] = []
        fallible = False
        for key, field_nodes in self.collect(edge_type, self.below(nodes)).items():
            name = field_nodes[0].name.value
            if name == "cursor":
                parts.append(f"{key!r}:{cursor('r')}")
            elif name == "__typename":
                parts.append(f"{key!r}:{edge_type.name!r}")
            else:
                item, fails = self.object(
                    entity, at, self.below(field_nodes), (*path, key), f"{where}+({key!r},)", many
                )
                fallible = fallible or fails
                parts.append(f"{key!r}:{item}")
        return "{" + ",".join(parts) + "}", fallible

    def page_info(
        self, returned: GraphQLObjectType, nodes: list[FieldNode], page: pages.Page, cursor: Callable[[str], str]
    ) -> str:
        page_type = get_named_type(returned.fields["pageInfo"].type)
        assert isinstance(page_type, GraphQLObjectType)
        given = page.cursor is not None
        answers = {
            "hasNextPage": str(given) if page.backward else "m",
            "hasPreviousPage": "m" if page.backward else str(given),
            "startCursor": f"({cursor('rs[0]')} if rs else None)",
            "endCursor": f"({cursor('rs[-1]')} if rs else None)",
            "__typename": repr(page_type.name),
        }
        fields = self.collect(page_type, self.below(nodes))
        return "{" + ",".join(f"{key!r}:{answers[n[0].name.value]}" for key, n in fields.items()) + "}"

    def page_statement(
        self,
        entity: Entity,
        rows: Rows,
        at: At,
        page: pages.Page,
        tree: Any,
        parent: Parent | None,
        root: Select[Any] | None,
        path: tuple[str, ...],
    ) -> None:
        parameters = rows.parameters
        table = entity.table
        for sort in page.order:
            at.need(sort.column)
        where = [*_whereclause(root), *self.conditions(entity, tree, parameters, path)]
        columns = list(at.needs.values())
        if parent is not None and rows.host is not None:
            above: ColumnElement[int] = literal_column(f"{HOST}.c{parent.at.key}", BigInteger())
            where = [parent.column == above, *where, self.in_scope(entity, parameters)]
            rows.host.guest = (rows, pages.plain(table, columns, where, page, parameters).lateral(at.alias))
            return
        if parent is not None:
            keys = func.unnest(parameters.keys()).table_valued("id").render_derived(name="k")
            where = [parent.column == keys.c.id, *where, self.in_scope(entity, parameters)]
            child = pages.plain(table, columns, where, page, parameters, keys).lateral(at.alias)
            source = self.joined(rows, keys.join(child, true()))
            # no sort: what has a limit and depends on k can only be run for one k after the other, in its own order
            statement = select(keys.c.id, *rows.columns).select_from(source)
        else:
            reached = self.reach(entity)
            if (
                self.shape is Shape.NARROW
                and issubclass(entity.model, Widespread)
                and scope.is_whole_subtree(reached.get(entity.name, frozenset()))
            ):
                first = pages.merged(table, columns, where, page, parameters)
            else:
                scoped = [*where, self.in_scope(entity, parameters, scope.Use.PAGE)]
                first = pages.plain(table, columns, scoped, page, parameters)
            source = self.joined(rows, first.subquery(at.alias))
            key = at.need(table.c.id)
            order = page.order_by([at.need(k.column) for k in page.order], key)
            statement = select(*(rows.columns or [key])).select_from(source).order_by(*order)
        self.finish(rows, statement)

    def total(
        self,
        entity: Entity,
        tree: Any,
        parent: Parent | None,
        root: Select[Any] | None,
        path: tuple[str, ...],
    ) -> int:
        rows = self.level("count", parent)
        parameters = rows.parameters
        where = [*_whereclause(root), *self.conditions(entity, tree, parameters, path)]
        counted = select(func.count()).select_from(entity.table)
        if parent is None:
            self.finish(rows, counted.where(*where, self.in_scope(entity, parameters, scope.Use.ALL)))
        else:
            keys = func.unnest(parameters.keys()).table_valued("id").render_derived(name="k")
            each = counted.where(parent.column == keys.c.id, *where, self.in_scope(entity, parameters))
            self.finish(rows, select(keys.c.id, each.correlate(keys).scalar_subquery()).select_from(keys))
        return rows.level.number


def _whereclause(statement: Select[Any] | None) -> list[ColumnElement[bool]]:
    return [] if statement is None or statement.whereclause is None else [statement.whereclause]
