"""A list of the graph as a table: an operation that selects one connection, read whole, page after page.

Its columns are the leaf fields under ``nodes``, those of to-one rows included; a heading is the response path, so
that whoever asks names the columns by aliases. Each page is planned as any request is: fields are authorised, masked
and scoped for the caller, and row-level security is told who asks.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import orjson
from graphql import (
    ArgumentNode,
    FieldNode,
    GraphQLInterfaceType,
    GraphQLObjectType,
    IntValueNode,
    NamedTypeNode,
    NameNode,
    OperationType,
    SelectionSetNode,
    VariableDefinitionNode,
    VariableNode,
    get_named_type,
    get_nullable_type,
    is_leaf_type,
    is_list_type,
)

from authz.principal import NOTHING, Principal, Shape
from planner.assemble import Graph
from planner.compile import Compiler, compile_plan
from planner.errors import GraphRefusal
from planner.execute import Execution
from planner.mapping import snake
from planner.operation import DocumentLimits, Documents, Operation
from planner.plan import Plan
from planner.pool import Connections

PAGE = 1_000
PAGING = frozenset({"first", "last", "after", "before"})
KEPT_PLANS = 20
MAX_LEAVES = 5_000
"""Leaf fields of all the types that rows may be of; a chain of rows multiplies them."""
_SHA256 = re.compile(r"(?:sha256:)?([0-9a-fA-F]{64})")

Cell = str | int | float | None
Path = tuple[str, ...]


@dataclass(frozen=True)
class Accepts:
    """What a door takes: within which limits, texts of anybody or only its own by their sha256."""

    limits: DocumentLimits
    ad_hoc: bool
    operations: Mapping[str, str]


@dataclass(frozen=True)
class Asking:
    """Who runs a plan, where no live field needs to know more."""

    principal: Principal


@dataclass(frozen=True)
class Rows:
    """A page of a table, and where the next begins; None after the last."""

    cells: list[list[Cell]]
    after: str | None


class Tables:
    """Operations of all doors, read as tables."""

    def __init__(self, graph: Graph, doors: Mapping[str, Accepts]) -> None:
        self._graph = graph
        self._doors = doors
        self._documents = {name: Documents(graph.schema, door.limits, size=100) for name, door in doors.items()}

    def text(self, door: str, given: str) -> str:
        """The text of an operation that a door takes: itself, or what the door ships under this sha256.

        Raises GraphRefusal: PERSISTED_QUERY_NOT_FOUND, FORBIDDEN.
        """
        accepts = self._doors[door]
        digest = _SHA256.fullmatch(given.strip())
        if digest is not None:
            shipped = accepts.operations.get(digest[1].lower())
            if shipped is None:
                raise GraphRefusal("PERSISTED_QUERY_NOT_FOUND", "PERSISTED_QUERY_NOT_FOUND")
            return shipped
        if not accepts.ad_hoc and hashlib.sha256(given.encode()).hexdigest() not in accepts.operations:
            raise GraphRefusal("FORBIDDEN", "SHIPPED_OPERATIONS_ONLY")
        return given

    def read(self, door: str, text: str, variables: Mapping[str, Any]) -> Table:
        """The table that an operation selects. Raises GraphRefusal or GraphRefusals for one that selects none."""
        operation = self._documents[door].get(text).operation(None)
        return Table(self._graph, self._doors[door].limits, operation, operation.coerce(variables))


class Table:
    """One connection as columns and rows."""

    def __init__(
        self, graph: Graph, limits: DocumentLimits, operation: Operation, variables: Mapping[str, Any]
    ) -> None:
        self._graph = graph
        self._limits = limits
        self._operation = operation
        self._variables = variables
        # who asks does not matter to what an operation selects
        self._reader = Compiler(graph, operation, NOTHING, Shape.OUTSIDE, variables, limits)
        self._root, found = self._one_list()
        self._nodes, nodes = self._one_selection(found)
        kind = get_named_type(found.fields["nodes"].type)
        leaves = list(islice(self._leaves(kind, self._reader.below(nodes), ()), MAX_LEAVES + 1))
        if len(leaves) > MAX_LEAVES:
            raise GraphRefusal("LIMIT_EXCEEDED", "TOO_MANY_COLUMNS", limit=MAX_LEAVES)
        self._columns = list(dict.fromkeys(leaves))
        self.headings = [".".join(path) for path in self._columns]
        self._info = f"{self._nodes}Page"
        self._after = _unused("after", {d.variable.name.value for d in operation.node.variable_definitions or ()})
        info = _field("pageInfo", alias=self._info, below=(_field("hasNextPage"), _field("endCursor")))
        self._counting = self._rewritten((_field("totalCount"),), page=None)
        self._checked = self._rewritten((*nodes, info), page=limits.max_page)
        self._paging = self._rewritten((*nodes, info), page=PAGE)

    # -- what is asked ------------------------------------------------------------------------------------

    def authorise(self, principal: Principal) -> None:
        """Refuses what the caller may not read, and what is beyond the limits of its door."""
        self._plan(self._checked, principal, self._limits, {**self._variables, self._after: None})

    async def total(self, principal: Principal, connections: Connections) -> int:
        """How many rows the caller reaches."""
        data = await self._run(self._counting, principal, None, connections)
        return int(data["totalCount"])

    async def page(self, principal: Principal, connections: Connections, after: str | None) -> Rows:
        """The next rows, as the caller may see them now. Raises GraphRefusals where it may not any more."""
        data = await self._run(self._paging, principal, after, connections)
        info = data[self._info]
        cells = [[_cell(_at(node, path)) for path in self._columns] for node in data[self._nodes] if node is not None]
        return Rows(cells, info["endCursor"] if info["hasNextPage"] else None)

    async def _run(
        self, operation: Operation, principal: Principal, after: str | None, connections: Connections
    ) -> Any:
        variables = {**self._variables, self._after: after}
        # a page at the door's size was within its limits: one of this size costs so many times more
        scale = -(-PAGE // max(self._limits.max_page, 1))
        limits = replace(self._limits, max_page=PAGE, max_cost=self._limits.max_cost * scale)
        plan = self._plan(operation, principal, limits, variables)
        return (await Execution(plan, variables, Asking(principal), connections).query())[self._root_key]

    def _plan(
        self, operation: Operation, principal: Principal, limits: DocumentLimits, variables: Mapping[str, Any]
    ) -> Plan:
        key = (principal.plan_key, operation.baked(variables))
        plan: Plan | None = operation.plans.get(key)
        if plan is None:
            plan = operation.plans[key] = compile_plan(
                self._graph, operation, principal.grants, principal.shape, variables, limits
            )
            if len(operation.plans) > KEPT_PLANS:
                operation.plans.popitem(last=False)
        return plan

    # -- how an operation is read -------------------------------------------------------------------------

    @property
    def _root_key(self) -> str:
        return _key(self._root)

    def _one_list(self) -> tuple[FieldNode, GraphQLObjectType]:
        """The one connection at the operation's root, and its type."""
        if self._operation.kind is not OperationType.QUERY:
            raise GraphRefusal("NOT_A_QUERY", "NOT_A_QUERY")
        query = self._graph.schema.query_type
        assert query is not None
        selected = self._reader.collect(query, [self._operation.node.selection_set])
        if len(selected) != 1:
            raise GraphRefusal("NOT_ONE_LIST", "ROOTS_SELECTED", count=len(selected))
        [(key, nodes)] = selected.items()
        name = nodes[0].name.value
        root = self._graph.registry.queries.get(snake(name))
        returned = None if root is None or root.live else get_named_type(query.fields[name].type)
        if not isinstance(returned, GraphQLObjectType) or not returned.name.endswith("Connection"):
            raise GraphRefusal("NOT_ONE_LIST", "NO_LIST", path=[key], name=name)
        merged = SelectionSetNode(selections=tuple(n for s in self._reader.below(nodes) for n in s.selections))
        return replace(nodes[0], selection_set=merged, directives=()), returned

    def _one_selection(self, connection: GraphQLObjectType) -> tuple[str, list[FieldNode]]:
        """The response key of the connection's ``nodes``, and the fields that select them."""
        selected = self._reader.collect(connection, self._reader.below([self._root]))
        found = {key: nodes for key, nodes in selected.items() if nodes[0].name.value == "nodes"}
        if len(found) != 1 or any(nodes[0].name.value == "edges" for nodes in selected.values()):
            raise GraphRefusal("NOT_ONE_LIST", "COLUMNS_UNDER_NODES", path=[self._root_key])
        return next(iter(found.items()))

    def _leaves(self, kind: Any, sets: Sequence[SelectionSetNode], path: Path) -> Iterator[Path]:
        """The paths of the leaf fields, of each type that the rows may be of."""
        assert isinstance(kind, GraphQLObjectType | GraphQLInterfaceType)
        possible = self._graph.schema.get_possible_types(kind) if isinstance(kind, GraphQLInterfaceType) else [kind]
        for concrete in possible:
            for key, nodes in self._reader.collect(concrete, sets).items():
                name, here = nodes[0].name.value, (*path, key)
                if name == "__typename":
                    yield here
                    continue
                entity = self._graph.registry.entities[concrete.name]
                if name in entity.fields and entity.fields[name].kind == "live":
                    raise GraphRefusal("LIVE_FIELD", f"{concrete.name}.{name}", path=here)
                of = concrete.fields[name].type
                if is_leaf_type(get_named_type(of)):
                    yield here
                elif get_named_type(of).name.endswith("Connection") or is_list_type(get_nullable_type(of)):
                    raise GraphRefusal("NESTED_LIST", f"{concrete.name}.{name}", path=here)
                else:
                    yield from self._leaves(get_named_type(of), self._reader.below(nodes), here)

    def _rewritten(self, selections: Sequence[FieldNode], *, page: int | None) -> Operation:
        """The operation with this selection on its connection; with page arguments of our own, or without."""
        arguments = [a for a in self._root.arguments or () if a.name.value not in PAGING]
        cursor = VariableNode(name=NameNode(value=self._after))
        if page is not None:
            arguments.append(ArgumentNode(name=NameNode(value="first"), value=IntValueNode(value=str(page))))
            arguments.append(ArgumentNode(name=NameNode(value="after"), value=cursor))
        root = replace(
            self._root, arguments=tuple(arguments), selection_set=SelectionSetNode(selections=tuple(selections))
        )
        node = self._operation.node
        declared = VariableDefinitionNode(variable=cursor, type=NamedTypeNode(name=NameNode(value="String")))
        asked = replace(
            node,
            variable_definitions=(*(node.variable_definitions or ()), declared),
            selection_set=SelectionSetNode(selections=(root,)),
        )
        fragments = self._operation.fragments.values()
        document = replace(self._operation.document, definitions=(asked, *fragments))
        return Operation(self._graph.schema, document, asked)


def _field(name: str, *, alias: str | None = None, below: Sequence[FieldNode] = ()) -> FieldNode:
    return FieldNode(
        name=NameNode(value=name),
        alias=None if alias is None else NameNode(value=alias),
        arguments=(),
        directives=(),
        selection_set=SelectionSetNode(selections=tuple(below)) if below else None,
    )


def _key(node: FieldNode) -> str:
    return node.alias.value if node.alias else node.name.value


def _unused(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    return name


def _at(node: Mapping[str, Any], path: Path) -> Any:
    found: Any = node
    for step in path:
        if found is None:
            return None
        found = found.get(step)
    return found


def _cell(value: Any) -> Cell:
    """A value as a page shows it: numbers as such, everything else as its text."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return value
    shown = orjson.loads(orjson.dumps(value))
    if isinstance(shown, list):
        return ", ".join(str(_cell(item)) for item in shown)
    return shown if isinstance(shown, str) else orjson.dumps(shown).decode()
