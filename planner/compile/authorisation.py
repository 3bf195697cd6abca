"""What the caller may select, and on which rows: every field by its coordinate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from graphql import (
    FieldNode,
    FragmentSpreadNode,
    GraphQLObjectType,
    InlineFragmentNode,
    SelectionSetNode,
)
from sqlalchemy import (
    ColumnElement,
    and_,
    false,
    literal_column,
    or_,
)
from sqlalchemy import inspect as inspect_model

from authz.coordinates import Act
from authz.grants import Grants
from authz.principal import Shape
from authz.scopes import Reach, within
from planner import scope
from planner.arguments import Arguments
from planner.assemble import Graph
from planner.cursor import encode_cursor
from planner.errors import GraphRefusal, GraphRefusals
from planner.mapping import Entity, Field
from planner.operation import DocumentLimits, Operation
from planner.parameters import Parameters, listed
from planner.plan import (
    Level,
    LiveField,
    Reference,
    RootPlan,
    guard,
    live_value,
)

Selections = Sequence[SelectionSetNode]


class Authorised:
    """An operation in the hands of a caller, and what has been made of it so far."""

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
            "listed": listed,
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
        self.objects = 0
        self.compared = 0

    def spend(self, cost: int) -> None:
        """Counts what an operation costs before anything is made of it. LIMIT_EXCEEDED once it is too much."""
        self.cost += cost
        if self.cost > self.limits.max_cost:
            raise self.beyond("TOO_COSTLY", limit=self.limits.max_cost)

    def beyond(self, text: str, **params: Any) -> Exception:
        """A limit is passed; what has been found forbidden so far is told before that."""
        if self.refusals:
            return GraphRefusals(list(self.refusals.values()))
        return GraphRefusal("LIMIT_EXCEEDED", text, extensions=params, **params)

    def authorise(self, type_name: str, field_name: str, act: Act, path: Sequence[str], public: bool = False) -> Reach:
        reach = self.grants.reach_of(type_name, field_name, act)
        coordinate = f"{type_name}.{field_name}"
        if reach is None:
            if public:
                return frozenset()
            self.forbid(type_name, field_name, path)
            return frozenset()
        self.used[coordinate] = None
        return reach

    def forbid(self, type_name: str, field_name: str, path: Sequence[str], text: str = "NOT_GRANTED") -> None:
        """What is not granted, or not on every row on which it would have to be."""
        coordinate = f"{type_name}.{field_name}"
        refusal = GraphRefusal("FORBIDDEN", text, path=path, coordinate=coordinate)
        self.refusals.setdefault(coordinate, refusal)

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
            if reach and not within(own, reach):
                self.forbid(concrete, name, path, "NOT_SEARCHABLE")

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
            kinds.setdefault(reach, []).append(identity_of(self.registry.entities[name]))
        if entity.interface and len(kinds) == 1 and len(reached) == len(entity.concrete):
            return rows(next(iter(kinds)))
        return or_(
            false(),
            *(
                and_(or_(*(discriminator == literal_column(f"'{kind}'") for kind in sorted(names))), rows(reach))
                for reach, names in kinds.items()
            ),
        )

    def unmasked(self, entity: Entity, declared: Field) -> bool:
        """Whether the caller may see the value in full on every row of the type that it reaches."""
        for name, own in self.reach(entity).items():
            reach = self.grants.reach_of(name, declared.unmasked, Act.READ)
            if reach is None or not within(own, reach):
                return False
        return True


def identity_of(entity: Entity) -> str:
    identity: Any = inspect_model(entity.model).polymorphic_identity
    return str(identity.name)
