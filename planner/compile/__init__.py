"""The compiler: a validated operation, a caller's grants and shape → a plan.

Each selected field is authorised by its coordinate. To-ones are joined into their level, each to-many is one
statement for all parents, and for each level a function is generated that builds the answer from its rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graphql import FieldNode, GraphQLNonNull, GraphQLObjectType, OperationType, get_named_type

from authz.coordinates import Act
from authz.grants import Grants
from authz.principal import Shape
from planner.arguments import python_arguments
from planner.assemble import Graph
from planner.compile.entities import nulls_of
from planner.compile.values import Values
from planner.errors import GraphRefusals
from planner.introspection import MAX_LISTS, too_wide
from planner.mapping import snake
from planner.operation import DocumentLimits, Operation
from planner.plan import Plan, RootPlan
from planner.registry import QueryRoot

INTROSPECTION = frozenset({"__schema", "__type"})

MAX_MUTATIONS = 10
"""Mutations of one request; each is a transaction and a line of the operation log."""


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
    return Compiler(graph, operation, grants, shape, variables, limits).compile()


class Compiler(Values):
    """Compiles one operation for one caller."""

    def compile(self) -> Plan:
        root_type = self.graph.schema.get_root_type(self.operation.kind)
        assert root_type is not None
        roots: list[RootPlan] = []
        introspection: list[FieldNode] = []
        selected = self.collect(root_type, [self.operation.node.selection_set])
        if self.operation.kind is OperationType.MUTATION and len(selected) > MAX_MUTATIONS:
            raise self.beyond("TOO_MANY_MUTATIONS", limit=MAX_MUTATIONS)
        for key, nodes in selected.items():
            name = nodes[0].name.value
            if name == "__typename":
                roots.append(RootPlan(key, name, (key,), constant=root_type.name))
            elif name in INTROSPECTION:
                introspection += nodes
            else:
                roots.append(self.root(root_type, key, name, nodes))
        if too_wide(introspection, self.operation.fragments):
            raise self.beyond("INTROSPECTION_TOO_WIDE", lists=MAX_LISTS)
        if self.refusals:
            raise GraphRefusals(list(self.refusals.values()))
        source = "\n".join(self.source)
        exec(source, self.space)  # noqa: S102 - generated above
        for level in self.levels:
            if level.sql:
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
        if f"{root_type.name}.{name}" in self.refusals:
            # it will not run: what stands below is not worth the time
            return RootPlan(key, name, path)
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
            plan.shape, plan.nulls = self.value_shape(definition.type, nodes, path), nulls_of(definition.type)
        plan.levels = self.levels[first_level:]
        plan.live = self.live[first_live:]
        return plan
