"""The compiler: a validated operation, a caller's grants and shape → a plan.

Each selected field is authorised by its coordinate. To-ones are joined into their level, each to-many is one
statement for all parents, and for each level a function is generated that builds the answer from its rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from graphql import (
    FieldNode,
    FragmentSpreadNode,
    GraphQLEnumType,
    GraphQLField,
    GraphQLInterfaceType,
    GraphQLNamedType,
    GraphQLNonNull,
    GraphQLObjectType,
    InlineFragmentNode,
    OperationType,
    SelectionSetNode,
    get_named_type,
    is_leaf_type,
)
from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Numeric,
    Select,
    Text,
    and_,
    case,
    cast,
    false,
    func,
    literal_column,
    not_,
    null,
    or_,
    select,
    true,
)
from sqlalchemy import inspect as inspect_model
from sqlalchemy.dialects.postgresql import INET, JSONB, UUID

from authz.coordinates import Act
from authz.grants import Grants
from authz.principal import Shape
from authz.scopes import Reach
from models.base import Widespread
from planner import filters, pages, scope
from planner.arguments import Arguments, python_arguments
from planner.assemble import Graph
from planner.cursor import encode_cursor
from planner.errors import GraphRefusal, GraphRefusals, bad_input
from planner.ids import _FACTOR, _MASK, _OFFSET, decode_id
from planner.mapping import Entity, Field, camel, snake
from planner.operation import DocumentLimits, Operation, _cursor
from planner.parameters import Parameters
from planner.plan import (
    Leaf,
    Level,
    LiveField,
    Plan,
    Reference,
    RootPlan,
    ValueField,
    ValueShape,
    guard,
    live_value,
    serialise_value,
)
from planner.registry import QueryRoot

Selections = Sequence[SelectionSetNode]
DEFAULT_PAGE = 20
WHOLE_VALUE_OPERATORS = frozenset({"eq", "in", "isNull"})
INTROSPECTION = frozenset({"__schema", "__type"})


def compile_plan(
    graph: Graph,
    operation: Operation,
    grants: Grants,
    shape: Shape,
    variables: Mapping[str, Any],
    limits: DocumentLimits,
) -> Plan:
    """Authorises, bounds and compiles. ``variables`` matter only where they are structural.

    Raises GraphRefusals: FORBIDDEN for each field that is not granted, LIMIT_EXCEEDED, BAD_USER_INPUT.
    """
    return _Compiler(graph, operation, grants, shape, variables, limits).compile()


@dataclass
class _Rows:
    """A level while it is written: the columns that it selects and the joins that it needs."""

    level: Level
    parameters: Parameters
    lead: int = 0
    """How many columns stand before these: the parent's key, where there is one."""
    columns: list[ColumnElement[Any]] = field(default_factory=list)
    sources: dict[str, int] = field(default_factory=dict)
    joins: list[Any] = field(default_factory=list)
    aliases: int = 0

    def column(self, source: str, expression: ColumnElement[Any]) -> int:
        """The position of an expression in the row; the same source is selected once."""
        position = self.sources.get(source)
        if position is None:
            position = self.sources[source] = self.lead + len(self.columns)
            self.columns.append(expression.label(f"c{position}"))
        return position


@dataclass
class _At:
    """A row of an entity inside a level: its alias and the columns that its own table must deliver."""

    entity: Entity
    rows: _Rows
    alias: str
    key: int = 0
    needs: dict[str, Column[Any]] = field(default_factory=dict)

    def need(self, column: Column[Any]) -> ColumnElement[Any]:
        self.needs[column.name] = column
        return literal_column(f'{self.alias}."{column.name}"', column.type)


@dataclass(frozen=True)
class _Parent:
    """Where a connection hangs: its parent's row, the column that points there, the expression of its path."""

    at: _At
    column: Column[Any]
    where: str


class _Needing:
    """What a computed field's expression sees of its row."""

    def __init__(self, at: _At) -> None:
        self._at = at

    def __getattr__(self, name: str) -> ColumnElement[Any]:
        return self._at.need(self._at.entity.attribute(name))


class _Compiler:
    def __init__(
        self,
        graph: Graph,
        operation: Operation,
        grants: Grants,
        shape: Shape,
        variables: Mapping[str, Any],
        limits: DocumentLimits,
    ) -> None:
        self.graph = graph
        self.registry = graph.registry
        self.operation = operation
        self.grants = grants
        self.shape = shape
        self.limits = limits
        self.arguments = Arguments(graph.schema, variables)
        self.space: dict[str, Any] = {
            "encode_cursor": encode_cursor,
            "live_value": live_value,
            "guard": guard,
            "Fragment": orjson.Fragment,
        }
        self.source: list[str] = []
        self.levels: list[Level] = []
        self.live: list[LiveField] = []
        self.builders: list[tuple[RootPlan, str]] = []
        self.references: list[tuple[Reference, str, int, str]] = []
        self.refusals: dict[str, GraphRefusal] = {}
        self.used: dict[str, None] = {}
        self.cost = 0

    # -- the operation ------------------------------------------------------------------------------------

    def compile(self) -> Plan:
        root_type = self.graph.schema.get_root_type(self.operation.kind)
        assert root_type is not None
        roots: list[RootPlan] = []
        introspection: list[FieldNode] = []
        for key, nodes in self.collect(root_type, [self.operation.node.selection_set]).items():
            name = nodes[0].name.value
            if name == "__typename":
                roots.append(RootPlan(key, name, (key,), constant=root_type.name))
            elif name in INTROSPECTION:
                introspection += nodes
            else:
                roots.append(self.root(root_type, key, name, nodes))
        if self.refusals:
            raise GraphRefusals(list(self.refusals.values()))
        if self.cost > self.limits.max_cost:
            raise GraphRefusal(
                "LIMIT_EXCEEDED",
                f"The operation costs {self.cost}; at most {self.limits.max_cost} is allowed here.",
                cost=self.cost,
                limit=self.limits.max_cost,
            )
        source = "\n".join(self.source)
        exec(source, self.space)  # noqa: S102 - generated above
        for level in self.levels:
            level.fill = self.space[f"fill{level.number}"]
        for reference, type_name, number, name in self.references:
            reference.levels[type_name] = (number, self.space[name])
        for plan, name in self.builders:
            plan.build = self.space[name]
        return Plan(roots, len(self.levels), len(self.live), self.cost, source, tuple(self.used), introspection)

    def root(self, root_type: GraphQLObjectType, key: str, name: str, nodes: list[FieldNode]) -> RootPlan:
        first_level, first_live = len(self.levels), len(self.live)
        path = (key,)
        table = {
            OperationType.QUERY: self.registry.queries,
            OperationType.MUTATION: self.registry.mutations,
            OperationType.SUBSCRIPTION: self.registry.subscriptions,
        }[self.operation.kind]
        registered = table[snake(name)]
        act = Act.READ if self.operation.kind is OperationType.QUERY else Act.CALL
        self.authorise(root_type.name, name, act, path, public=getattr(registered, "public", False))
        definition = root_type.fields[name]
        returned = get_named_type(definition.type)
        plan = RootPlan(key, name, path, root=registered)
        plan.nullable = not isinstance(definition.type, GraphQLNonNull)
        if isinstance(registered, QueryRoot) and not registered.live:
            arguments = self.arguments.of(definition, nodes[0])
            statement = registered.function()
            if registered.by:
                entity = self.registry.entities[returned.name]
                call = self.single(entity, statement, nodes, arguments, path)
            else:
                entity = self.registry.entities[returned.name.removesuffix("Connection")]
                call = self.connection(entity, returned, nodes, arguments, path, None, statement, 1)[0]
            self.source.append(f"def root{len(self.builders)}(S,p):\n return {call}\n")
            self.builders.append((plan, f"root{len(self.builders)}"))
        else:
            plan.arguments = python_arguments(self.graph.strawberry, definition, nodes[0])
            plan.shape = self.value_shape(definition.type, nodes, path)
        plan.levels = self.levels[first_level:]
        plan.live = self.live[first_live:]
        return plan

    def authorise(self, type_name: str, field_name: str, act: Act, path: Sequence[str], public: bool = False) -> Reach:
        reach = self.grants.reach_of(type_name, field_name, act)
        coordinate = f"{type_name}.{field_name}"
        if reach is None:
            if public:
                return frozenset()
            self.refusals.setdefault(coordinate, GraphRefusal("FORBIDDEN", f"You may not use {coordinate}.", path=path))
            return frozenset()
        self.used[coordinate] = None
        return reach

    def authorise_use(self, entity: Entity, name: str, path: Sequence[str]) -> None:
        """Searching or sorting by a field tells of it as much as reading it: the same grant is needed, on all
        the rows that the type is granted on."""
        if name == "id":
            return
        for concrete in list(entity.concrete.values()) if entity.interface else [entity.name]:
            own = self.grants.reach_of(concrete, "id", Act.READ)
            if own is None:
                continue
            reach = self.authorise(concrete, name, Act.READ, path)
            if reach and reach != own:
                self.refusals.setdefault(
                    f"{concrete}.{name}",
                    GraphRefusal("FORBIDDEN", f"You may not search by {concrete}.{name}.", path=path),
                )

    # -- selections ---------------------------------------------------------------------------------------

    def collect(self, parent: GraphQLObjectType, sets: Selections) -> dict[str, list[FieldNode]]:
        """The fields selected on a concrete type, by response key, fragments and directives resolved."""
        found: dict[str, list[FieldNode]] = {}
        visited: set[str] = set()

        def walk(selections: SelectionSetNode) -> None:
            for node in selections.selections:
                if not self.arguments.included(node):
                    continue
                if isinstance(node, FieldNode):
                    key = node.alias.value if node.alias else node.name.value
                    found.setdefault(key, []).append(node)
                elif isinstance(node, InlineFragmentNode):
                    if node.type_condition is None or self.applies(parent, node.type_condition.name.value):
                        walk(node.selection_set)
                elif isinstance(node, FragmentSpreadNode) and node.name.value not in visited:
                    visited.add(node.name.value)
                    fragment = self.operation.fragments[node.name.value]
                    if self.applies(parent, fragment.type_condition.name.value):
                        walk(fragment.selection_set)

        for selections in sets:
            walk(selections)
        return found

    def applies(self, concrete: GraphQLObjectType, condition: str) -> bool:
        return concrete.name == condition or any(i.name == condition for i in concrete.interfaces)

    @staticmethod
    def below(nodes: Sequence[FieldNode]) -> Selections:
        return [n.selection_set for n in nodes if n.selection_set is not None]

    # -- entities -----------------------------------------------------------------------------------------

    def reach(self, entity: Entity) -> dict[str, Reach]:
        """The rows that the caller reaches of an entity, by concrete type; a type not granted is absent."""
        names = list(entity.concrete.values()) if entity.interface else [entity.name]
        found = {name: self.grants.reach_of(name, "id", Act.READ) for name in names}
        return {name: reach for name, reach in found.items() if reach is not None}

    def in_scope(self, entity: Entity, parameters: Parameters, use: scope.Use = scope.Use.CHECK) -> ColumnElement[bool]:
        """The first wall at one node: the rows of this entity within the caller's reach."""
        reached = self.reach(entity)
        table = entity.table

        def rows(reach: Reach) -> ColumnElement[bool]:
            return scope.predicate(entity.model, table, reach, self.shape, parameters.principal, use)

        discriminator = entity.discriminator
        if discriminator is None:
            return rows(reached[entity.name]) if reached else false()
        kinds: dict[Reach, list[str]] = {}
        for name, reach in reached.items():
            kinds.setdefault(reach, []).append(_identity(self.registry.entities[name]))
        if entity.interface and len(kinds) == 1 and len(reached) == len(entity.concrete):
            return rows(next(iter(kinds)))
        return or_(
            false(),
            *(
                and_(or_(*(discriminator == literal_column(f"'{kind}'") for kind in sorted(names))), rows(reach))
                for reach, names in kinds.items()
            ),
        )

    def object(
        self, entity: Entity, at: _At, sets: Selections, path: tuple[str, ...], where: str, many: int
    ) -> tuple[str, bool]:
        """(Python expression for one row, whether it can fail). ``where`` is the expression of its path."""
        if not entity.interface:
            return self.concrete(entity, at, sets, path, where, many)
        discriminator = entity.discriminator
        assert discriminator is not None
        position = at.rows.column(f"{at.alias}.kind", at.need(discriminator))
        parts: dict[str, str] = {}
        fallible = False
        for stored, name in entity.concrete.items():
            if self.grants.reach_of(name, "id", Act.READ) is not None:
                parts[stored], fails = self.concrete(self.registry.entities[name], at, sets, path, where, many)
                fallible = fallible or fails
        if len(parts) == len(entity.concrete) and len(set(parts.values())) == 1:
            return next(iter(parts.values())), fallible
        expression = "None"
        for stored, part in parts.items():
            expression = f"({part} if r[{position}]=={stored!r} else {expression})"
        return expression, fallible

    def concrete(
        self, entity: Entity, at: _At, sets: Selections, path: tuple[str, ...], where: str, many: int
    ) -> tuple[str, bool]:
        graphql_type = self.graph.schema.type_map[entity.name]
        assert isinstance(graphql_type, GraphQLObjectType)
        parts: list[str] = []
        fallible = False
        at.key = at.rows.column(f"{at.alias}.id", at.need(entity.table.c.id))
        own = self.grants.reach_of(entity.name, "id", Act.READ)
        for key, nodes in self.collect(graphql_type, sets).items():
            name = nodes[0].name.value
            if name == "__typename":
                parts.append(f"{key!r}:{entity.name!r}")
                continue
            here = (*path, key)
            reach = self.authorise(entity.name, name, Act.READ, here)
            if name == "id":
                parts.append(f"{key!r}:{_id_expression(entity.prefix, f'r[{at.key}]')}")
                continue
            declared = entity.fields[name]
            nullable = not isinstance(graphql_type.fields[name].type, GraphQLNonNull)
            narrowed = own is not None and bool(reach) and reach != own
            if narrowed and not nullable:
                raise TypeError(f"{entity.name}.{name} is granted on fewer rows than its type, so must be nullable")
            if declared.kind in ("column", "computed"):
                parts.append(f"{key!r}:{self.leaf(entity, declared, at, reach if narrowed else None)}")
            elif declared.kind == "to_one":
                part, fails = self.to_one(
                    declared,
                    at,
                    self.below(nodes),
                    here,
                    f"{where}+({key!r},)",
                    many,
                    reach if narrowed else None,
                )
                fallible = fallible or fails
                parts.append(f"{key!r}:{part}")
            elif declared.kind == "to_many":
                definition = graphql_type.fields[name]
                assert declared.spec.by is not None
                part, fails = self.connection(
                    self.registry.entities[declared.target or ""],
                    get_named_type(definition.type),
                    nodes,
                    self.arguments.of(definition, nodes[0]),
                    here,
                    _Parent(at, declared.spec.by.property.columns[0], f"{where}+({key!r},)"),
                    None,
                    many,
                )
                fallible = fallible or fails
                parts.append(f"{key!r}:{part}")
            else:
                fallible = True
                definition = graphql_type.fields[name]
                part = self.live_field(entity, declared, at, definition, nodes, here, f"{where}+({key!r},)")
                parts.append(f"{key!r}:{part}")
        return "{" + ",".join(parts) + "}", fallible

    def leaf(self, entity: Entity, declared: Field, at: _At, narrowed: Reach | None) -> str:
        """A column or an expression, converted in SQL to what the answer shows."""
        if declared.kind == "computed":
            assert declared.spec.expression is not None
            expression = declared.spec.expression(_Needing(at))
            kind = expression.type
        else:
            assert declared.column is not None
            expression = at.need(declared.column)
            kind = declared.column.type
        if declared.spec.mask is not None and not self.unmasked(entity, declared):
            expression = declared.spec.mask(expression)
        if isinstance(kind, Numeric | UUID):
            expression = cast(expression, Text)
        elif isinstance(kind, INET):
            expression = func.host(expression)
        if narrowed is not None:
            inside = scope.predicate(
                entity.model, _Columns(at), narrowed, self.shape, at.rows.parameters.principal, scope.Use.CHECK
            )
            expression = case((inside, expression), else_=null())
        position = at.rows.column(f"{at.alias}.{declared.name}", expression)
        if isinstance(kind, JSONB):
            return f"(Fragment(r[{position}]) if r[{position}] is not None else None)"
        return f"r[{position}]"

    def unmasked(self, entity: Entity, declared: Field) -> bool:
        names = entity.concrete.values() if entity.interface else (entity.name,)
        return all(self.grants.allows(name, declared.unmasked, Act.READ) for name in names)

    def to_one(
        self,
        declared: Field,
        at: _At,
        sets: Selections,
        path: tuple[str, ...],
        where: str,
        many: int,
        narrowed: Reach | None,
    ) -> tuple[str, bool]:
        entity = self.registry.entities[declared.target or ""]
        self.cost += many
        rows = at.rows
        rows.aliases += 1
        alias = f"j{rows.aliases}"
        assert declared.column is not None
        foreign_key = at.need(declared.column)
        inner = _At(entity, rows, alias)
        place = len(rows.joins)
        rows.joins.append(None)
        expression, fallible = self.object(entity, inner, sets, path, where, many)
        table = entity.table
        wanted = [table.c.id == foreign_key, self.in_scope(entity, rows.parameters)]
        if narrowed is not None:
            wanted.append(
                scope.predicate(
                    at.entity.model, _Columns(at), narrowed, self.shape, rows.parameters.principal, scope.Use.CHECK
                )
            )
        rows.joins[place] = (
            select(*inner.needs.values())
            .select_from(table)
            .where(*wanted)
            .limit(literal_column("1"))
            .correlate(None)
            .lateral(alias)
        )
        if fallible:
            return f"(guard(lambda:{expression}) if r[{inner.key}] is not None else None)", True
        return f"({expression} if r[{inner.key}] is not None else None)", False

    def live_field(
        self,
        entity: Entity,
        declared: Field,
        at: _At,
        definition: GraphQLField,
        nodes: list[FieldNode],
        path: tuple[str, ...],
        where: str,
    ) -> str:
        shape = self.value_shape(definition.type, nodes, path)
        needs = tuple(
            (need, at.rows.column(f"{at.alias}!{need}", at.need(entity.attribute(need))))
            for need in declared.spec.needs
        )
        loader = next(
            self.registry.loaders[base.__name__, declared.python_name]
            for base in entity.declared.__mro__
            if (base.__name__, declared.python_name) in self.registry.loaders
        )
        number = len(self.live)
        self.live.append(LiveField(number, at.rows.level.number, loader, at.key, needs))
        name = f"live{number}"
        self.space[name] = lambda value, path: serialise_value(shape, value, None, path)
        nullable = not isinstance(definition.type, GraphQLNonNull)
        return f"live_value(S,{number},r[{at.key}],{where},{name},{nullable})"

    # -- levels -------------------------------------------------------------------------------------------

    def level(self, kind: str, parent: _Parent | None = None) -> _Rows:
        level = Level(len(self.levels), kind)
        if parent is not None:
            level.parent, level.parent_column = parent.at.rows.level.number, parent.at.key
        self.levels.append(level)
        return _Rows(level, Parameters(self.space), lead=int(parent is not None or kind == "keyed"))

    def finish(self, rows: _Rows, statement: Select[Any]) -> None:
        sql, source = rows.parameters.compile(statement, f"fill{rows.level.number}")
        rows.level.sql, rows.level.fill_source = sql, source
        self.source.append(source)

    @staticmethod
    def joined(rows: _Rows, first: Any) -> Any:
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
            raise bad_input(f"Give exactly one of {', '.join(arguments)}.", path=path)
        self.cost += 1
        rows = self.level("rows")
        at = _At(entity, rows, "a")
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
        self.finish(rows, select(*rows.columns).select_from(self.joined(rows, page)))
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
        parent: _Parent | None,
        root: Select[Any] | None,
        many: int,
    ) -> tuple[str, bool]:
        """A page at the root, or one for each parent of a level: (the call that builds it, can it fail)."""
        assert isinstance(returned, GraphQLObjectType)
        selected = self.collect(returned, self.below(nodes))
        page = self.page(entity, arguments, path)
        parts: list[str] = []
        rows: _Rows | None = None
        at: _At | None = None
        fallible = False
        if any(n[0].name.value in ("edges", "nodes", "pageInfo") for n in selected.values()):
            self.cost += many * max(page.size, 1)
            rows = self.level("rows", parent)
            at = _At(entity, rows, "a")
            at.key = rows.column("a.id", at.need(entity.table.c.id))
        cursor = self.cursor(page, at) if at else ""
        total = "0"
        inside = many * max(page.size, 1)
        for key, field_nodes in selected.items():
            name = field_nodes[0].name.value
            if name == "__typename":
                parts.append(f"{key!r}:{returned.name!r}")
            elif name == "totalCount":
                self.cost += many
                number = self.total(entity, arguments.get("filter"), parent, root, path)
                total = f"S.groups[{number}]" + (f".get(r[{parent.at.key}],0)" if parent else "")
                parts.append(f"{key!r}:t")
            elif name == "pageInfo":
                parts.append(f"{key!r}:{self.page_info(returned, field_nodes, page, cursor)}")
            else:
                assert at is not None
                where = f"p+({key!r},i)"
                edges = name == "edges"
                if edges:
                    item, fails = self.edge(entity, at, returned, field_nodes, (*path, key), where, inside, cursor)
                else:
                    item, fails = self.object(entity, at, self.below(field_nodes), (*path, key), where, inside)
                fallible = fallible or fails
                parts.append(f"{key!r}:[{item} for i,r in enumerate(rs)]" if fails else f"{key!r}:[{item} for r in rs]")
        place = len(self.source)
        lines = ""
        if rows is not None and at is not None:
            self.page_statement(entity, rows, at, page, arguments.get("filter"), parent, root, path)
            lines = f" more=len(rs)>{page.size}\n if more: rs=rs[:{page.size}]\n"
            if page.backward:
                lines += " rs=rs[::-1]\n"
        name = f"page{place}"
        self.source.append(f"def {name}(rs,S,p,t):\n{lines} return {{{','.join(parts)}}}\n")
        found = f"S.groups[{rows.level.number}]" if rows else "()"
        if rows and parent:
            found += f".get(r[{parent.at.key}],())"
        where = "p" if parent is None else parent.where if fallible else "None"
        return f"{name}({found},S,{where},{total})", fallible

    def page(self, entity: Entity, arguments: Mapping[str, Any], path: tuple[str, ...]) -> pages.Page:
        first, last = arguments.get("first"), arguments.get("last")
        for name, size in (("first", first), ("last", last)):
            if size is not None and not 0 <= size <= self.limits.max_page:
                raise bad_input(f"{name} must be between 0 and {self.limits.max_page}.", path=path)
        if first is not None and last is not None:
            raise bad_input("Give first or last, not both.", path=path)
        backward = last is not None
        after, before = arguments.get("after"), arguments.get("before")
        if (before if not backward else after) is not None:
            raise bad_input("after goes with first, before with last.", path=path)
        order: list[pages.SortKey] = []
        key_order: bool | None = None
        for by in arguments.get("orderBy") or ():
            name = by["field"].value
            descending = by["direction"].name == "DESC"
            if key_order is not None or any(k.name == name for k in order):
                raise bad_input("An order names each field once, and id last.", path=path)
            if name == "id":
                key_order = descending
                continue
            self.authorise_use(entity, camel(name), path)
            order.append(pages.SortKey(name, entity.attribute(name), descending))
        cursor = before if backward else after
        nulls = () if cursor is None else _cursor(self.arguments.value(cursor)) or ()
        size = last if backward else first
        return pages.Page(
            order=tuple(order),
            key=entity.table.c.id,
            key_order=key_order,
            size=min(DEFAULT_PAGE, self.limits.max_page) if size is None else size,
            backward=backward,
            cursor=cursor,
            cursor_nulls=nulls,
            type_name=entity.name,
        )

    def cursor(self, page: pages.Page, at: _At) -> str:
        """The expression of a row's cursor: its sort values as PostgreSQL writes them, and its key."""
        values = [at.rows.column(f"{at.alias}~{k.name}", cast(at.need(k.column), Text)) for k in page.order]
        text = "".join(f"r[{v}]," for v in values)
        return (
            f"encode_cursor({page.tag!r},{{row}}[{at.key}],({text.replace('r[', '{row}[')}))"
            if values
            else (f"encode_cursor({page.tag!r},{{row}}[{at.key}])")
        )

    def edge(
        self,
        entity: Entity,
        at: _At,
        returned: GraphQLObjectType,
        nodes: list[FieldNode],
        path: tuple[str, ...],
        where: str,
        many: int,
        cursor: str,
    ) -> tuple[str, bool]:
        edge_type = get_named_type(returned.fields["edges"].type)
        assert isinstance(edge_type, GraphQLObjectType)
        parts: list[str] = []
        fallible = False
        for key, field_nodes in self.collect(edge_type, self.below(nodes)).items():
            name = field_nodes[0].name.value
            if name == "cursor":
                parts.append(f"{key!r}:{cursor.format(row='r')}")
            elif name == "__typename":
                parts.append(f"{key!r}:{edge_type.name!r}")
            else:
                item, fails = self.object(
                    entity, at, self.below(field_nodes), (*path, key), f"{where}+({key!r},)", many
                )
                fallible = fallible or fails
                parts.append(f"{key!r}:{item}")
        return "{" + ",".join(parts) + "}", fallible

    def page_info(self, returned: GraphQLObjectType, nodes: list[FieldNode], page: pages.Page, cursor: str) -> str:
        page_type = get_named_type(returned.fields["pageInfo"].type)
        assert isinstance(page_type, GraphQLObjectType)
        given = page.cursor is not None
        answers = {
            "hasNextPage": str(given) if page.backward else "more",
            "hasPreviousPage": "more" if page.backward else str(given),
            "startCursor": f"({cursor.format(row='rs[0]')} if rs else None)",
            "endCursor": f"({cursor.format(row='rs[-1]')} if rs else None)",
            "__typename": repr(page_type.name),
        }
        fields = self.collect(page_type, self.below(nodes))
        return "{" + ",".join(f"{key!r}:{answers[n[0].name.value]}" for key, n in fields.items()) + "}"

    def page_statement(
        self,
        entity: Entity,
        rows: _Rows,
        at: _At,
        page: pages.Page,
        tree: Any,
        parent: _Parent | None,
        root: Select[Any] | None,
        path: tuple[str, ...],
    ) -> None:
        parameters = rows.parameters
        table = entity.table
        for sort in page.order:
            at.need(sort.column)
        where = [*_whereclause(root), *self.conditions(entity, tree, parameters, path)]
        order = page.order_by(
            [literal_column(f'{at.alias}."{k.column.name}"') for k in page.order],
            literal_column(f"{at.alias}.id"),
        )
        columns = list(at.needs.values())
        if parent is not None:
            keys = func.unnest(parameters.keys()).table_valued("id").render_derived(name="k")
            where = [parent.column == keys.c.id, *where, self.in_scope(entity, parameters)]
            child = pages.plain(table, columns, where, page, parameters, keys).lateral(at.alias)
            source = self.joined(rows, keys.join(child, true()))
            statement = select(keys.c.id, *rows.columns).select_from(source).order_by(keys.c.id, *order)
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
            statement = select(*rows.columns).select_from(source).order_by(*order)
        self.finish(rows, statement)

    def total(
        self,
        entity: Entity,
        tree: Any,
        parent: _Parent | None,
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

    # -- filters ------------------------------------------------------------------------------------------

    def conditions(
        self, entity: Entity, tree: Any, parameters: Parameters, path: tuple[str, ...]
    ) -> list[ColumnElement[bool]]:
        found: list[ColumnElement[bool]] = []
        for name, inside in (tree or {}).items():
            if inside is None:
                raise bad_input(f"filter.{name} is null; leave it out or use isNull.", path=path)
            if name == "and":
                found += [and_(true(), *self.conditions(entity, each, parameters, path)) for each in inside]
            elif name == "or":
                found.append(
                    or_(
                        false(),
                        *(and_(true(), *self.conditions(entity, e, parameters, path)) for e in inside),
                    )
                )
            elif name == "not":
                found.append(not_(and_(true(), *self.conditions(entity, inside, parameters, path))).is_not(False))
            else:
                found.append(self.condition(entity, name, inside, parameters, path))
        return found

    def condition(
        self,
        entity: Entity,
        name: str,
        comparison: Mapping[str, Any],
        parameters: Parameters,
        path: tuple[str, ...],
    ) -> ColumnElement[bool]:
        """All comparisons of one field. A to-one is compared by the id of its target."""
        self.authorise_use(entity, name, path)
        declared = entity.fields.get(name)
        convert = None
        if name == "id":
            column: ColumnElement[Any] = entity.table.c.id
            convert = id_converter(entity)
        else:
            assert declared is not None
            assert declared.column is not None
            column = declared.column
            if declared.kind == "to_one":
                convert = id_converter(self.registry.entities[declared.target or ""])
        parts: list[ColumnElement[bool]] = []
        for operator, reference in comparison.items():
            if reference is None:
                raise bad_input(f"filter.{name}.{operator} is null; use isNull.", path=path)
            if (
                declared is not None
                and declared.spec.mask is not None
                and operator not in WHOLE_VALUE_OPERATORS
                and not self.unmasked(entity, declared)
            ):
                # a part of a masked value would give it away digit by digit
                raise GraphRefusal("FORBIDDEN", f"You may search {name} by its whole value only.", path=path)
            if operator == "isNull":
                parts.append(filters.null_condition(column, bool(self.arguments.value(reference))))
            else:
                parts.append(
                    filters.condition(operator, column, reference, lambda r, k: parameters.value(r, k, convert))
                )
        return and_(true(), *parts)

    # -- Python values ------------------------------------------------------------------------------------

    def value_shape(self, kind: Any, nodes: list[FieldNode], path: tuple[str, ...]) -> Leaf | Reference | ValueShape:
        named = get_named_type(kind)
        if is_leaf_type(named):
            return Leaf(_member_name if isinstance(named, GraphQLEnumType) else named.serialize)
        if named.name in self.registry.entities or isinstance(named, GraphQLInterfaceType):
            return self.reference(named, nodes, path)
        assert isinstance(named, GraphQLObjectType)
        fields: list[ValueField | tuple[str, str]] = []
        for key, field_nodes in self.collect(named, self.below(nodes)).items():
            name = field_nodes[0].name.value
            if name == "__typename":
                fields.append((key, named.name))
                continue
            definition = named.fields[name]
            attribute = definition.extensions["strawberry-definition"].python_name
            fields.append(ValueField(key, attribute, self.value_shape(definition.type, field_nodes, (*path, key))))
        return ValueShape(named.name, tuple(fields))

    def reference(self, named: Any, nodes: list[FieldNode], path: tuple[str, ...]) -> Reference:
        """An entity inside a value: one keyed level for each table that it may come from."""
        entity = self.registry.entities.get(named.name)
        reference = Reference({}, None if entity is None else entity.name)
        if entity is not None:
            possible = [entity]
        else:
            covered = {n for e in self.registry.entities.values() if e.interface for n in e.concrete.values()}
            possible = [e for e in self.registry.entities.values() if e.name not in covered]
        for each in possible:
            if self.reach(each):
                number, builder = self.keyed(each, nodes, path)
                for name in (each.name, *each.concrete.values()):
                    self.references.append((reference, name, number, builder))
        return reference

    def keyed(self, entity: Entity, nodes: list[FieldNode], path: tuple[str, ...]) -> tuple[int, str]:
        self.cost += 1
        rows = self.level("keyed")
        at = _At(entity, rows, "a")
        expression, fallible = self.object(entity, at, self.below(nodes), path, "p", 1)
        keys = func.unnest(rows.parameters.keys()).table_valued("id").render_derived(name="k")
        found = (
            select(*at.needs.values())
            .select_from(entity.table)
            .where(entity.table.c.id == keys.c.id, self.in_scope(entity, rows.parameters))
            .limit(literal_column("1"))
            .correlate(keys)
            .lateral(at.alias)
        )
        source = self.joined(rows, keys.join(found, true()))
        self.finish(rows, select(keys.c.id, *rows.columns).select_from(source))
        name = f"row{rows.level.number}"
        body = f"guard(lambda:{expression})" if fallible else expression
        self.source.append(f"def {name}(r,S,p):\n return {body}\n")
        return rows.level.number, name


class _Columns:
    """A row's alias in place of its table, for predicates that narrow one field of it."""

    def __init__(self, at: _At) -> None:
        self.c = _Needing(at)


def _whereclause(statement: Select[Any] | None) -> list[ColumnElement[bool]]:
    return [] if statement is None or statement.whereclause is None else [statement.whereclause]


def _identity(entity: Entity) -> str:
    identity: Any = inspect_model(entity.model).polymorphic_identity
    return str(identity.name)


def _member_name(member: Any) -> Any:
    return member.name


def _id_expression(prefix: str, value: str) -> str:
    """``encode_id`` written out, since it is what a page does most often."""
    return f'f"{prefix}_{{({value}*{_FACTOR}+{_OFFSET})&{_MASK}:016x}}"'


def id_converter(entity: Entity) -> Callable[[str], int]:
    """From a global id to the key of this entity's table; another type's id is BAD_USER_INPUT."""

    def convert(text: str) -> int:
        found = decode_id(text)
        if found is None or found[0] != entity.prefix:
            raise bad_input(f"{text[:40]!r} is not the id of a {entity.name}.")
        return found[1]

    return convert
