"""A list or report of the graph as a table: an operation that selects one connection, read whole, page after page, or
the rows of a report.

Its columns are the leaf fields under ``nodes``, those of to-one rows included; a heading is the response path, so
that whoever asks names the columns by aliases. What is selected beside a report's rows stands in each of them, before
their own columns. Each page is planned as any request is: fields are authorised, masked
and scoped for the caller, and row-level security is told who asks.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
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
ERROR = "UserError"
"""In which a report says why it is not told."""
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
    """Who asks, and the running installation, of which reports are worked out."""

    principal: Principal
    runtime: Any


Ask = Callable[[], Awaitable[Asking]]
"""Who asks, as they are by then."""


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

    def read(self, door: str, text: str, variables: Mapping[str, Any]) -> Table | Report:
        """The list or report that an operation selects. Raises GraphRefusal or GraphRefusals for one that selects
        none."""
        operation = self._documents[door].get(text).operation(None)
        limits, given = self._doors[door].limits, operation.coerce(variables)
        selected = _Selected(self._graph, limits, operation, given)
        return (Report if selected.is_report else Table)(selected)


class _Selected:
    """The one root that an operation selects, and how its selections are read."""

    def __init__(
        self, graph: Graph, limits: DocumentLimits, operation: Operation, variables: Mapping[str, Any]
    ) -> None:
        self.graph = graph
        self.limits = limits
        self._known: dict[tuple[str, tuple[int, ...]], list[Path]] = {}
        self.operation = operation
        self.variables = variables
        # who asks does not matter to what an operation selects
        self.reader = Compiler(graph, operation, NOTHING, Shape.OUTSIDE, variables, limits)
        if operation.kind is not OperationType.QUERY:
            raise GraphRefusal("NOT_A_QUERY", "NOT_A_QUERY")
        query = graph.schema.query_type
        assert query is not None
        selected = self.reader.collect(query, [operation.node.selection_set])
        if len(selected) != 1:
            raise GraphRefusal("NOT_ONE_LIST", "ROOTS_SELECTED", count=len(selected))
        [(self.key, nodes)] = selected.items()
        name = nodes[0].name.value
        root = graph.registry.queries.get(snake(name))
        self.is_report = root is not None and root.report
        listed = root is not None and not root.live
        returned = get_named_type(query.fields[name].type) if listed or self.is_report else None
        if not isinstance(returned, GraphQLObjectType) or not (self.is_report or returned.name.endswith("Connection")):
            raise GraphRefusal("NOT_ONE_LIST", "NO_LIST", path=[self.key], name=name)
        self.returned = returned
        merged = SelectionSetNode(selections=tuple(n for s in self.reader.below(nodes) for n in s.selections))
        self.root = replace(nodes[0], selection_set=merged, directives=())

    def columns(self, kind: Any, sets: Sequence[SelectionSetNode], path: Path = ()) -> list[Path]:
        """The paths of the leaf fields, once each, of each type that the rows may be of.

        What several types share is read once: with every level it would be so many times more.
        """
        assert isinstance(kind, GraphQLObjectType | GraphQLInterfaceType)
        same = (kind.name, tuple(map(id, sets)))
        if same not in self._known:
            possible = self.graph.schema.get_possible_types(kind) if isinstance(kind, GraphQLInterfaceType) else [kind]
            found = dict.fromkeys(leaf for concrete in possible for leaf in self._leaves(concrete, sets, path))
            if len(found) > MAX_LEAVES:
                raise GraphRefusal("LIMIT_EXCEEDED", "TOO_MANY_COLUMNS", limit=MAX_LEAVES)
            self._known[same] = list(found)
        return self._known[same]

    def _leaves(self, concrete: GraphQLObjectType, sets: Sequence[SelectionSetNode], path: Path) -> Iterator[Path]:
        for key, nodes in self.reader.collect(concrete, sets).items():
            name, here = nodes[0].name.value, (*path, key)
            if name == "__typename":
                yield (key,)
                continue
            entity = self.graph.registry.entities.get(concrete.name)
            if entity is not None and name in entity.fields and entity.fields[name].kind == "live":
                raise GraphRefusal("LIVE_FIELD", f"{concrete.name}.{name}", path=here)
            of = concrete.fields[name].type
            if is_leaf_type(get_named_type(of)):
                yield (key,)
            elif get_named_type(of).name.endswith("Connection") or is_list_type(get_nullable_type(of)):
                raise GraphRefusal("NESTED_LIST", f"{concrete.name}.{name}", path=here)
            else:
                yield from ((key, *below) for below in self.columns(get_named_type(of), self.reader.below(nodes), here))

    def asked(self, root: FieldNode, *more: VariableDefinitionNode) -> Operation:
        """The operation with this as its root."""
        node = self.operation.node
        asked = replace(
            node,
            variable_definitions=(*(node.variable_definitions or ()), *more),
            selection_set=SelectionSetNode(selections=(root,)),
        )
        document = replace(self.operation.document, definitions=(asked, *self.operation.fragments.values()))
        return Operation(self.graph.schema, document, asked)

    def plan(
        self, operation: Operation, principal: Principal, limits: DocumentLimits, variables: Mapping[str, Any]
    ) -> Plan:
        key = (principal.plan_key, operation.baked(variables))
        plan: Plan | None = operation.plans.get(key)
        if plan is None:
            plan = operation.plans[key] = compile_plan(
                self.graph, operation, principal.grants, principal.shape, variables, limits
            )
            if len(operation.plans) > KEPT_PLANS:
                operation.plans.popitem(last=False)
        return plan


class Report:
    """The rows of a report, which is worked out at once, as columns and rows; a report without rows that tells
    something beside them is one row."""

    def __init__(self, selected: _Selected) -> None:
        self._selected = selected
        below = selected.reader.collect(selected.returned, selected.reader.below([selected.root]))
        of = {key: _listed(selected.returned, nodes[0]) for key, nodes in below.items()}
        lists = [key for key, kind in of.items() if kind is not None and kind.name != ERROR]
        if len(lists) != 1:
            raise GraphRefusal("NOT_ONE_LIST", "NOT_ONE_REPORT", path=[selected.key], name=selected.root.name.value)
        (self._rows,) = lists
        beside = [node for key, kind in of.items() if kind is None for node in below[key]]
        self._beside = selected.columns(selected.returned, [SelectionSetNode(selections=tuple(beside))])
        self._columns = selected.columns(of[self._rows], selected.reader.below(below[self._rows]))
        own, others = ([".".join(path) for path in paths] for paths in (self._columns, self._beside))
        self.headings = [*(f"{selected.key}.{one}" if one in own else one for one in others), *own]
        self._refusals = _unused("refusals", set(below))
        refusals = _field("errors", alias=self._refusals, below=(_field("field"), _field("message")))
        selections = SelectionSetNode(selections=(*beside, *below[self._rows], refusals))
        self._operation = selected.asked(replace(selected.root, selection_set=selections))
        self._found: list[list[Cell]] = []

    def authorise(self, principal: Principal) -> None:
        """Refuses what the caller may not ask."""
        selected = self._selected
        selected.plan(self._operation, principal, selected.limits, selected.variables)

    async def total(self, asking: Asking, connections: Connections) -> int:
        """How many rows the report has, which is worked out now. Raises GraphRefusal where it is not told."""
        selected = self._selected
        plan = selected.plan(self._operation, asking.principal, selected.limits, selected.variables)
        value = (await Execution(plan, selected.variables, asking, connections).query())[selected.key]
        for refusal in value[self._refusals]:
            reason = ": ".join(filter(None, (refusal["field"], refusal["message"])))
            raise GraphRefusal("REPORT_REFUSED", "REPORT_REFUSED", reason=reason)
        beside = [_cell(_at(value, path)) for path in self._beside]
        rows = [[_cell(_at(row, path)) for path in self._columns] for row in value[self._rows]]
        if beside and not rows:
            rows = [[None] * len(self._columns)]
        self._found = [[*beside, *row] for row in rows]
        return len(self._found)

    async def pages(self, _ask: Ask, _connections: Connections) -> AsyncIterator[list[list[Cell]]]:
        """All rows, as they were counted."""
        yield self._found


class Table:
    """One connection as columns and rows."""

    def __init__(self, selected: _Selected) -> None:
        self._selected = selected
        self._limits, self._variables = selected.limits, selected.variables
        self._nodes, nodes = self._one_selection()
        kind = get_named_type(selected.returned.fields["nodes"].type)
        self._columns = selected.columns(kind, selected.reader.below(nodes))
        self.headings = [".".join(path) for path in self._columns]
        self._info = f"{self._nodes}Page"
        taken = {d.variable.name.value for d in selected.operation.node.variable_definitions or ()}
        self._after = _unused("after", taken)
        info = _field("pageInfo", alias=self._info, below=(_field("hasNextPage"), _field("endCursor")))
        self._counting = self._rewritten((_field("totalCount"),), page=None)
        self._checked = self._rewritten((*nodes, info), page=self._limits.max_page)
        self._paging = self._rewritten((*nodes, info), page=PAGE)

    # -- what is asked ------------------------------------------------------------------------------------

    def authorise(self, principal: Principal) -> None:
        """Refuses what the caller may not read, and what is beyond the limits of its door."""
        self._selected.plan(self._checked, principal, self._limits, {**self._variables, self._after: None})

    async def total(self, asking: Asking, connections: Connections) -> int:
        """How many rows the caller reaches."""
        data = await self._run(self._counting, asking, None, connections)
        return int(data["totalCount"])

    async def pages(self, ask: Ask, connections: Connections) -> AsyncIterator[list[list[Cell]]]:
        """The rows, page after page, as the caller may see them by then. Raises GraphRefusals where it may not any
        more."""
        more, after = True, None
        while more:
            data = await self._run(self._paging, await ask(), after, connections)
            more, after = data[self._info]["hasNextPage"], data[self._info]["endCursor"]
            yield [[_cell(_at(node, path)) for path in self._columns] for node in data[self._nodes] if node is not None]

    async def _run(self, operation: Operation, asking: Asking, after: str | None, connections: Connections) -> Any:
        variables = {**self._variables, self._after: after}
        # a page at the door's size was within its limits: one of this size costs so many times more
        scale = -(-PAGE // max(self._limits.max_page, 1))
        limits = replace(self._limits, max_page=PAGE, max_cost=self._limits.max_cost * scale)
        plan = self._selected.plan(operation, asking.principal, limits, variables)
        return (await Execution(plan, variables, asking, connections).query())[self._selected.key]

    # -- how an operation is read -------------------------------------------------------------------------

    def _one_selection(self) -> tuple[str, list[FieldNode]]:
        """The response key of the connection's ``nodes``, and the fields that select them."""
        reader, root = self._selected.reader, self._selected.root
        selected = reader.collect(self._selected.returned, reader.below([root]))
        found = {key: nodes for key, nodes in selected.items() if nodes[0].name.value == "nodes"}
        if len(found) != 1 or any(nodes[0].name.value == "edges" for nodes in selected.values()):
            raise GraphRefusal("NOT_ONE_LIST", "COLUMNS_UNDER_NODES", path=[self._selected.key])
        return next(iter(found.items()))

    def _rewritten(self, selections: Sequence[FieldNode], *, page: int | None) -> Operation:
        """The operation with this selection on its connection; with page arguments of our own, or without."""
        root = self._selected.root
        arguments = [a for a in root.arguments or () if a.name.value not in PAGING]
        cursor = VariableNode(name=NameNode(value=self._after))
        if page is not None:
            arguments.append(ArgumentNode(name=NameNode(value="first"), value=IntValueNode(value=str(page))))
            arguments.append(ArgumentNode(name=NameNode(value="after"), value=cursor))
        declared = VariableDefinitionNode(variable=cursor, type=NamedTypeNode(name=NameNode(value="String")))
        return self._selected.asked(
            replace(root, arguments=tuple(arguments), selection_set=SelectionSetNode(selections=tuple(selections))),
            declared,
        )


def _field(name: str, *, alias: str | None = None, below: Sequence[FieldNode] = ()) -> FieldNode:
    return FieldNode(
        name=NameNode(value=name),
        alias=None if alias is None else NameNode(value=alias),
        arguments=(),
        directives=(),
        selection_set=SelectionSetNode(selections=tuple(below)) if below else None,
    )


def _listed(kind: GraphQLObjectType, node: FieldNode) -> GraphQLObjectType | None:
    """What a field of a value is a list of, where that is objects."""
    field = kind.fields.get(node.name.value)
    if field is None or not is_list_type(get_nullable_type(field.type)):
        return None
    of = get_named_type(field.type)
    return of if isinstance(of, GraphQLObjectType) else None


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
