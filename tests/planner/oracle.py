"""What the planner must answer, worked out a second time: graphql-core's own executor over all rows in memory.

Only declarations are shared with the planner (which column, which target). Scope, filters, orders, pages and the
way of errors are done here anew, in plain Python and row by row.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import asyncpg
from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    GraphQLError,
    GraphQLObjectType,
    GraphQLSchema,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionSetNode,
    build_schema,
    execute_sync,
    get_named_type,
)
from graphql.execution.values import VariableValues, get_argument_values, get_directive_values, get_variable_values
from graphql.type import GraphQLIncludeDirective, GraphQLSkipDirective

from authz.coordinates import Act
from authz.principal import Principal
from authz.scopes import Reach, Rows, Scope, of_departments
from models.base import Personal, Published
from models.tenancy import TenantKind
from planner.assemble import Graph
from planner.cursor import decode_cursor, encode_cursor, order_tag
from planner.ids import decode_id, encode_id
from planner.mapping import Entity, snake
from schema.masks import masked_email

DEFAULT_PAGE = 20
PARTIAL_COMPARISONS = ("startsWith", "contains", "ne", "lt", "lte", "gt", "gte")

Live = Callable[[Mapping[str, Any]], Any]
"""A live field's answer for one row: a value, None, or an exception."""


Computed = Callable[[Mapping[str, Any], "Store"], Any]
"""A computed field's answer for one row, in sight of all others."""


@dataclass(frozen=True)
class Row:
    """A stored row as an object of its concrete type."""

    type: str
    values: Mapping[str, Any]

    @property
    def id(self) -> int:
        found: int = self.values["id"]
        return found


class Store:
    """Every row of every table that stands in the graph, read past both walls."""

    def __init__(self, tables: dict[str, list[dict[str, Any]]]) -> None:
        self.tables = tables
        self.by_key = {name: {row["id"]: row for row in rows} for name, rows in tables.items()}

    @classmethod
    async def load(cls, superuser_url: str, graph: Graph) -> Store:
        connection = await asyncpg.connect(superuser_url, ssl=False)
        try:
            names = {entity.table.name for entity in graph.registry.entities.values()}
            return cls(
                {
                    name: [dict(row) for row in await connection.fetch(f"SELECT * FROM {name} ORDER BY id")]
                    for name in sorted(names)
                }
            )
        finally:
            await connection.close()


@dataclass(frozen=True)
class Page:
    """A connection: its rows with their cursors, and what else can be asked of it."""

    rows: list[tuple[str, Row]]
    total: int
    before: bool
    after: bool

    def field(self, name: str) -> Any:
        if name == "nodes":
            return [row for _, row in self.rows]
        if name == "edges":
            return [{"cursor": cursor, "node": row} for cursor, row in self.rows]
        if name == "totalCount":
            return self.total
        return {
            "hasNextPage": self.after,
            "hasPreviousPage": self.before,
            "startCursor": self.rows[0][0] if self.rows else None,
            "endCursor": self.rows[-1][0] if self.rows else None,
        }


@dataclass(frozen=True)
class Forbidden:
    """What an operation may not use: the places of each coordinate, and whether a part of a mask is searched."""

    places: Mapping[str, frozenset[tuple[str, ...]]]
    mask: bool


class Oracle:
    """Answers for one graph and its rows; ``acting`` says for whom.

    ``live`` and ``computed`` answer such fields from a row; ``roots`` says which rows a root lists where it is not
    all; ``answers`` are the roots that are Python values.
    """

    def __init__(
        self,
        graph: Graph,
        store: Store,
        *,
        live: Mapping[tuple[str, str], Live],
        computed: Mapping[tuple[str, str], Computed],
        roots: Mapping[str, Callable[[Mapping[str, Any]], bool]],
        answers: Mapping[str, Callable[[Caller], Any]],
        max_page: int,
    ) -> None:
        self.graph = graph
        self.schema: GraphQLSchema = build_schema(graph.sdl())
        self.store = store
        declared = [(e.name, f) for e in graph.registry.entities.values() for f in e.fields.values()]
        assert {(name, f.name) for name, f in declared if f.kind == "computed"} == set(computed)
        assert {(name, f.python_name) for name, f in declared if f.kind == "live"} == set(live)
        self.live = live
        self.computed = computed
        self.roots = roots
        self.answers = answers
        self.max_page = max_page

    def acting(self, principal: Principal) -> Caller:
        return Caller(self, principal)

    def entity(self, name: str) -> Entity:
        return self.graph.registry.entities[name]

    def rows(self, entity: Entity) -> Iterable[Row]:
        """All rows of an entity, each as its concrete type; rows of the table that are something else left out."""
        kind = entity.discriminator
        for values in self.store.tables[entity.table.name]:
            name = entity.name if kind is None else values[kind.name].title().replace("_", "")
            if entity.interface or name == entity.name:
                yield Row(name, values)


class Caller:
    def __init__(self, oracle: Oracle, principal: Principal) -> None:
        self.oracle = oracle
        self.principal = principal
        self.grants = principal.grants

    def answer(
        self, document: DocumentNode, variables: Mapping[str, Any], operation: str | None = None
    ) -> tuple[Any, set[tuple[tuple[str | int, ...], str]]]:
        """The data, and the path and code of each error."""
        result = execute_sync(
            self.oracle.schema,
            document,
            ROOT,
            variable_values=dict(variables),
            operation_name=operation,
            field_resolver=self.field,
            type_resolver=lambda value, *_: value.type,
        )
        return result.data, {(tuple(error.path or ()), _code(error)) for error in result.errors or ()}

    # -- scope ----------------------------------------------------------------------------------------------

    def reach(self, type_name: str, field: str = "id") -> Reach | None:
        return self.grants.reach_of(type_name, field, Act.READ)

    def in_scope(self, row: Row) -> bool:
        reach = self.reach(row.type)
        return reach is not None and self.reaches(row, reach)

    def reaches(self, row: Row, reach: Reach) -> bool:
        return any(self._opens(row, scope) for scope in reach)

    def _opens(self, row: Row, scope: Rows) -> bool:
        me, values = self.principal, row.values
        model = self.oracle.entity(row.type).model
        tenant = model.__tablename__ == "tenant"  # type: ignore[attr-defined]
        path, owner = (values["path"], row.id) if tenant else (values["tenant_path"], values["tenant_id"])
        if scope == Scope.ALL:
            return True
        if scope == Scope.SUBTREE:
            return me.path != "" and path.startswith(me.path)
        if scope == Scope.TENANT:
            return bool(owner == me.tenant_id)
        if scope == Scope.ANCESTORS:
            return issubclass(model, Published) and me.path.startswith(path)
        if scope == Scope.SELF:
            person = me.end_user_id
            if person is not None and issubclass(model, Personal):
                return bool(values["end_user_id"] == person)
            table = model.__tablename__  # type: ignore[attr-defined]
            if table == "end_user":
                return row.id == person
            if table == "staff_account":
                return row.id == me.account_id
            if table == "api_key":
                return row.id == me.api_key_id
            if table in ("login_session", "login_record", "operation_record", "notification", "notification_opt_out"):
                return me.account_id is not None and values["account_id"] == me.account_id
            if table == "task_refusal":
                values = self.oracle.store.by_key["task"][values["task_id"]]
            if table in ("task", "task_refusal"):
                mine = {(values["account_id"], None), (None, values["api_key_id"])} - {(None, None)}
                return (me.account_id, me.api_key_id) in mine
        if of_departments(scope) and me.path and path.startswith(me.path):
            department = {"department": "id", "staff_account": "department_id"}.get(model.__tablename__)  # type: ignore[attr-defined]
            return department is not None and values[department] in me.departments_in(scope)
        return False

    def visible(self, entity: Entity) -> list[Row]:
        return [row for row in self.oracle.rows(entity) if self.in_scope(row)]

    def by_key(self, entity: Entity, key: int | None) -> Row | None:
        return next((row for row in self.visible(entity) if row.id == key), None)

    # -- fields ---------------------------------------------------------------------------------------------

    def field(self, source: Any, info: Any, **arguments: Any) -> Any:
        name = info.field_name
        if source is ROOT:
            return self.root(name, arguments, info)
        if isinstance(source, Row):
            return self.of_row(source, name, arguments)
        if isinstance(source, Page):
            return source.field(name)
        if isinstance(source, dict):
            return source[name]
        found = getattr(source, snake(name))
        return found.name if isinstance(found, enum.Enum) else found

    def root(self, name: str, arguments: dict[str, Any], info: Any) -> Any:
        if name in self.oracle.answers:
            return self.oracle.answers[name](self)
        if name == "node":
            return self.node(arguments["id"])
        if name == "nodes":
            return [self.node(id) for id in arguments["ids"]]
        returned = get_named_type(info.return_type).name
        wanted = self.oracle.roots.get(name, _all)
        if returned.endswith("Connection"):
            entity = self.oracle.entity(returned.removesuffix("Connection"))
            return self.page(entity, [row for row in self.visible(entity) if wanted(row.values)], arguments)
        entity = self.oracle.entity(returned)
        ((field, value),) = ((k, v) for k, v in arguments.items() if v is not None)
        if field == "id":
            return self.by_key(entity, key_of(entity, value))
        column = column_of(entity, field)
        return next((r for r in self.visible(entity) if wanted(r.values) and r.values[column] == value), None)

    def viewer(self) -> dict[str, Any]:
        me, entity = self.principal, self.oracle.entity
        return {
            "account": self.by_key(entity("StaffAccount"), me.account_id),
            "tenant": self.by_key(entity("Tenant"), me.tenant_id),
            "endUser": self.by_key(entity("EndUser"), me.end_user_id),
            "apiKey": self.by_key(entity("ApiKey"), me.api_key_id),
            "rateLimit": None,
            "door": me.door,
            "roles": list(me.roles),
            "language": me.language,
            "tenantKind": None if me.tenant_kind is None else TenantKind[me.tenant_kind],
            "permissions": sorted(f"{type_name}.{field}" for type_name, field, _ in self.grants.reach),
        }

    def node(self, text: str) -> Row | None:
        found = decode_id(text)
        assert found is not None
        return self.by_key(self.oracle.graph.registry.by_prefix[found[0]], found[1])

    def of_row(self, row: Row, name: str, arguments: dict[str, Any]) -> Any:
        entity = self.oracle.entity(row.type)
        if name == "id":
            return encode_id(entity.prefix, row.id)
        declared = entity.fields[name]
        reach = self.reach(row.type, name)
        assert reach is not None
        if not self.reaches(row, reach):
            return None
        if declared.kind == "to_many":
            target = self.oracle.entity(declared.target or "")
            by = declared.spec.by
            assert by is not None
            column = by.property.columns[0].name
            return self.page(target, [r for r in self.visible(target) if r.values[column] == row.id], arguments)
        if declared.kind == "to_one":
            assert declared.column is not None
            return self.by_key(self.oracle.entity(declared.target or ""), row.values[declared.column.name])
        if declared.kind == "live":
            found = self.oracle.live[row.type, declared.python_name](row.values)
            if isinstance(found, Exception):
                raise found
            return str(found) if isinstance(found, Decimal) else found
        if declared.kind == "computed":
            return self.oracle.computed[row.type, name](row.values, self.oracle.store)
        assert declared.column is not None
        value = row.values[declared.column.name]
        if declared.spec.mask is not None and value is not None and not self.unmasked(row, declared.unmasked):
            return _masked(declared.spec.mask, value)
        if isinstance(value, Decimal):
            return str(value)
        return value if value is None or isinstance(value, str | int | float | datetime | list) else str(value)

    def unmasked(self, row: Row, coordinate: str) -> bool:
        reach = self.reach(row.type, coordinate)
        return reach is not None and self.reaches(row, reach)

    # -- pages ----------------------------------------------------------------------------------------------

    def page(self, entity: Entity, rows: list[Row], arguments: dict[str, Any]) -> Page:
        matching = [row for row in rows if self.matches(entity, row, arguments.get("filter"))]
        order = [(by["field"], by["direction"] == "DESC") for by in arguments.get("orderBy") or ()]
        if not order or order[-1][0] != "ID":
            order.append(("ID", order[-1][1] if order else False))
        columns = [(_sort_column(entity, name), falling) for name, falling in order]
        tag = order_tag(entity.name, [(name.lower(), falling) for name, falling in order])
        ordered = list(matching)
        for column, falling in reversed(columns):
            ordered.sort(key=lambda row, c=column: _nulls_largest(row.values[c]), reverse=falling)  # type: ignore[misc]

        def cursor(row: Row) -> str:
            return encode_cursor(tag, row.id, [postgres_text(row.values[c]) for c, _ in columns[:-1]])

        after, before = arguments.get("after"), arguments.get("before")
        if after is not None:
            start = self._position(entity, columns, tag, after)
            ordered = [row for row in ordered if _compare(columns, row.values, start) > 0]
        if before is not None:
            end = self._position(entity, columns, tag, before)
            ordered = [row for row in ordered if _compare(columns, row.values, end) < 0]
        size, last = arguments.get("first"), arguments.get("last")
        if last is not None:
            shown = ordered[max(0, len(ordered) - last) :]
            more = len(ordered) > last
            return Page([(cursor(r), r) for r in shown], len(matching), before=more, after=before is not None)
        if size is None:
            size = min(DEFAULT_PAGE, self.oracle.max_page)
        shown = ordered[:size]
        more = len(ordered) > size
        return Page([(cursor(r), r) for r in shown], len(matching), before=after is not None, after=more)

    def _position(self, entity: Entity, columns: list[tuple[str, bool]], tag: str, cursor: str) -> dict[str, Any]:
        key, texts = decode_cursor(cursor, tag, len(columns) - 1)
        position: dict[str, Any] = {"id": key}
        for (column, _), text in zip(columns[:-1], texts, strict=True):
            kind = entity.table.c[column].type.python_type
            position[column] = None if text is None else _FROM_TEXT.get(kind, kind)(text)
        return position

    # -- filters --------------------------------------------------------------------------------------------

    def matches(self, entity: Entity, row: Row, tree: Mapping[str, Any] | None) -> bool:
        """Whether the filter is known to hold. What a null leaves open does not hold, so its ``not`` does."""
        return all(self._holds(entity, row, name, inside) for name, inside in (tree or {}).items())

    def _lies_under(self, key: int | None, above: int) -> bool:
        """Whether a tenant is another or below it; nobody is below one that the caller does not reach."""
        tenants = self.oracle.store.by_key["tenant"]
        if key is None or above not in tenants or not self.principal.path:
            return False
        branch: str = tenants[above]["path"]
        return branch.startswith(self.principal.path) and tenants[key]["path"].startswith(branch)

    def _holds(self, entity: Entity, row: Row, name: str, inside: Any) -> bool:
        if name == "and":
            return all(self.matches(entity, row, each) for each in inside)
        if name == "or":
            return any(self.matches(entity, row, each) for each in inside)
        if name == "not":
            return not self.matches(entity, row, inside)
        value = row.values[column_of(entity, name)]
        if "under" in inside:
            inside = dict(inside)
            if not self._lies_under(value, _wanted(self.oracle, entity, name, inside.pop("under"))):
                return False
        return all(_compares(operator, value, _wanted(self.oracle, entity, name, w)) for operator, w in inside.items())

    # -- what may not be used -------------------------------------------------------------------------------

    def forbidden(self, document: DocumentNode, variables: Mapping[str, Any]) -> Forbidden:
        """Every coordinate that the operation selects, searches or sorts by without a grant."""
        return _Walk(self, document, variables).forbidden()


class _Walk:
    """Walks what an operation selects on each concrete type, without any rows."""

    def __init__(self, caller: Caller, document: DocumentNode, variables: Mapping[str, Any]) -> None:
        self.caller = caller
        self.schema = caller.oracle.schema
        self.entities = caller.oracle.graph.registry.entities
        self.fragments = {d.name.value: d for d in document.definitions if isinstance(d, FragmentDefinitionNode)}
        (self.operation,) = (d for d in document.definitions if isinstance(d, OperationDefinitionNode))
        coerced = get_variable_values(self.schema, self.operation.variable_definitions or (), dict(variables))
        assert isinstance(coerced, VariableValues)
        self.variables = coerced
        self.places: dict[str, set[tuple[str, ...]]] = {}
        self.mask = False

    def forbidden(self) -> Forbidden:
        assert self.schema.query_type is not None
        self.type("Query", [self.operation.selection_set], ())
        return Forbidden({name: frozenset(paths) for name, paths in self.places.items()}, self.mask)

    def use(self, type_name: str, field: str, path: tuple[str, ...]) -> bool:
        if self.caller.reach(type_name, field) is None:
            self.places.setdefault(f"{type_name}.{field}", set()).add(path)
            return False
        return True

    def type(self, name: str, sets: list[SelectionSetNode], path: tuple[str, ...]) -> None:
        kind = self.schema.type_map[name]
        if not isinstance(kind, GraphQLObjectType):
            for possible in self.schema.get_possible_types(kind):  # type: ignore[arg-type]
                if self.caller.reach(possible.name) is not None:
                    self.type(possible.name, sets, path)
            return
        for key, nodes in self.collect(kind, sets).items():
            field = nodes[0].name.value
            if field.startswith("__"):
                continue
            here = (*path, key)
            if name == "Query" or name in self.entities:
                self.use(name, field, here)
            definition = kind.fields[field]
            returned = get_named_type(definition.type)
            arguments = get_argument_values(definition, nodes[0], self.variables)
            below = [node.selection_set for node in nodes if node.selection_set]
            if isinstance(returned, GraphQLObjectType) and returned.name.endswith("Connection"):
                entity = self.entities[returned.name.removesuffix("Connection")]
                for by in arguments.get("orderBy") or ():
                    self.searched(entity, field_of(entity, by["field"]), here)
                if any(not each[0].name.value.startswith("__") for each in self.collect(returned, below).values()):
                    self.filter(entity, arguments.get("filter"), here)
            elif name == "Query" and returned.name in self.entities:
                for argument, value in arguments.items():
                    if value is not None:
                        self.searched(self.entities[returned.name], argument, here)
            if below:
                self.type(returned.name, below, here)

    def filter(self, entity: Entity, tree: Mapping[str, Any] | None, path: tuple[str, ...]) -> None:
        for name, inside in (tree or {}).items():
            if name in ("and", "or"):
                for each in inside:
                    self.filter(entity, each, path)
            elif name == "not":
                self.filter(entity, inside, path)
            else:
                self.searched(entity, name, path)
                declared = entity.fields.get(name)
                if declared is not None and declared.spec.mask is not None and set(inside) & set(PARTIAL_COMPARISONS):
                    for concrete in entity.concrete.values() if entity.interface else (entity.name,):
                        own, full = self.caller.reach(concrete), self.caller.reach(concrete, declared.unmasked)
                        if own is not None and full not in (own, frozenset({Scope.ALL})):
                            self.mask = True

    def searched(self, entity: Entity, name: str, path: tuple[str, ...]) -> None:
        """What is searched or sorted by must be readable wherever the type is."""
        if name == "id":
            return
        for concrete in entity.concrete.values() if entity.interface else (entity.name,):
            own = self.caller.reach(concrete)
            if own is not None and self.use(concrete, name, path) and self.caller.reach(concrete, name) != own:
                self.places.setdefault(f"{concrete}.{name}", set()).add(path)

    def collect(self, kind: GraphQLObjectType, sets: list[SelectionSetNode]) -> dict[str, list[FieldNode]]:
        found: dict[str, list[FieldNode]] = {}

        def walk(selections: SelectionSetNode) -> None:
            for node in selections.selections:
                skip = get_directive_values(GraphQLSkipDirective, node, self.variables)
                include = get_directive_values(GraphQLIncludeDirective, node, self.variables)
                if (skip and skip["if"]) or (include and not include["if"]):
                    continue
                if isinstance(node, FieldNode):
                    found.setdefault(node.alias.value if node.alias else node.name.value, []).append(node)
                    continue
                if isinstance(node, InlineFragmentNode):
                    condition, inside = node.type_condition, node.selection_set
                else:
                    fragment = self.fragments[node.name.value]  # type: ignore[attr-defined]
                    condition, inside = fragment.type_condition, fragment.selection_set
                name = condition.name.value if condition else kind.name
                if name == kind.name or name in {interface.name for interface in kind.interfaces}:
                    walk(inside)

        for selections in sets:
            walk(selections)
        return found


class _Root:
    """The source of the fields of the query root."""


ROOT = _Root()


def _masked(mask: Any, value: str) -> str:
    """A mail address keeps its first letter and its domain, a number both of its ends."""
    if "@" in value:
        stars = "****" if mask is masked_email else "***"
        return f"{value[:1]}{stars}@{value.partition('@')[2]}"
    return f"{value[:3]}****{value[-4:]}"


def _all(_: Mapping[str, Any]) -> bool:
    return True


def _code(error: GraphQLError) -> str:
    return getattr(error.original_error, "code", None) or "INTERNAL"


def key_of(entity: Entity, text: str) -> int:
    found = decode_id(text)
    assert found is not None
    assert found[0] == entity.prefix
    return found[1]


def column_of(entity: Entity, field: str) -> str:
    if field == "id":
        return "id"
    column = entity.fields[field].column
    assert column is not None
    return column.name


def field_of(entity: Entity, member: str) -> str:
    """The field that a member of an order's enumeration names."""
    return next((f.name for f in entity.fields.values() if f.python_name == member.lower()), "id")


def _sort_column(entity: Entity, member: str) -> str:
    return column_of(entity, field_of(entity, member))


def _nulls_largest(value: Any) -> tuple[bool, Any]:
    return (True, 0) if value is None else (False, value)


def _compare(columns: list[tuple[str, bool]], one: Mapping[str, Any], other: Mapping[str, Any]) -> int:
    for column, falling in columns:
        mine, theirs = _nulls_largest(one[column]), _nulls_largest(other[column])
        if mine != theirs:
            return 1 if (mine > theirs) != falling else -1
    return 0


def postgres_text(value: Any) -> str | None:
    """A value as PostgreSQL writes it in the time zone UTC."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, datetime):
        assert value.utcoffset() == timedelta(0)
        return re.sub(r"(\.\d*?)0+$", r"\1", value.strftime("%Y-%m-%d %H:%M:%S.%f")).rstrip(".") + "+00"
    return str(value)


_FROM_TEXT: dict[type, Callable[[str], Any]] = {
    datetime: datetime.fromisoformat,
    date: date.fromisoformat,
    Decimal: Decimal,
}


def _wanted(oracle: Oracle, entity: Entity, name: str, value: Any) -> Any:
    """A filter's value as the column holds it: ids as keys, moments as datetimes."""
    if isinstance(value, list):
        return [_wanted(oracle, entity, name, each) for each in value]
    if name == "id" or entity.fields[name].kind == "to_one":
        target = entity if name == "id" else oracle.entity(entity.fields[name].target or "")
        return value if isinstance(value, bool) else key_of(target, value)
    column = entity.fields[name].column
    assert column is not None
    from_text = _FROM_TEXT.get(column.type.python_type)
    return from_text(value) if from_text is not None and isinstance(value, str) else value


def _compares(operator: str, value: Any, wanted: Any) -> bool:
    if operator == "isNull":
        return bool((value is None) == wanted)
    if operator == "ne":
        return bool(value != wanted)
    if value is None:
        return False
    if operator == "in":
        return value in wanted
    return bool(_COMPARISONS[operator](value, wanted))


_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "eq": lambda value, wanted: value == wanted,
    "lt": lambda value, wanted: value < wanted,
    "lte": lambda value, wanted: value <= wanted,
    "gt": lambda value, wanted: value > wanted,
    "gte": lambda value, wanted: value >= wanted,
    "startsWith": lambda value, wanted: value.startswith(wanted),
    "contains": lambda value, wanted: wanted.lower() in value.lower(),
}
