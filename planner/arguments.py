"""The arguments of a field: what shapes the SQL is read now, everything else becomes a reference to bind later."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import strawberry
from graphql import (
    BooleanValueNode,
    FieldNode,
    GraphQLField,
    GraphQLInputObjectType,
    GraphQLInputType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLSchema,
    ListValueNode,
    NullValueNode,
    ObjectValueNode,
    SelectionNode,
    Undefined,
    ValueNode,
    VariableNode,
    value_from_ast,
)
from strawberry.types.arguments import convert_argument

from planner.errors import bad_input
from planner.parameters import Const, Reference, Variable

Tree = Any
"""A filter as the planner reads it: dicts and lists whose leaves are references."""


class Arguments:
    def __init__(self, schema: GraphQLSchema, variables: Mapping[str, Any]) -> None:
        self.schema = schema
        self.variables = variables

    def included(self, node: SelectionNode) -> bool:
        """Whether ``@skip`` and ``@include`` leave the selection in."""
        for directive in node.directives or ():
            name = directive.name.value
            if name in ("skip", "include"):
                value = (directive.arguments or ())[0].value
                if isinstance(value, VariableNode):
                    wanted = bool(self.variables.get(value.name.value))
                else:
                    wanted = isinstance(value, BooleanValueNode) and value.value
                if wanted is (name == "skip"):
                    return False
        return True

    def of(self, definition: GraphQLField, node: FieldNode) -> dict[str, Any]:
        """Each argument of the field: page and order as values, a filter as a tree, the rest as references."""
        given = {a.name.value: a.value for a in node.arguments or ()}
        found: dict[str, Any] = {}
        for name, argument in definition.args.items():
            value = given.get(name)
            if name in ("first", "last", "orderBy"):
                found[name] = self.now(value, argument.type)
            elif name == "filter":
                found[name] = self.tree(value, argument.type)
            else:
                found[name] = self.reference(value, argument.type)
        return found

    def now(self, value: ValueNode | None, kind: GraphQLInputType) -> Any:
        if value is None:
            return None
        found = value_from_ast(value, kind, dict(self.variables))
        return None if found is Undefined else found

    def reference(self, value: ValueNode | None, kind: GraphQLInputType) -> Reference | None:
        if value is None or isinstance(value, NullValueNode):
            return None
        if isinstance(value, VariableNode):
            name = value.name.value
            return None if self.variables.get(name) is None else Variable(name)
        return Const(self.now(value, kind))

    def tree(self, value: ValueNode | None, kind: GraphQLInputType) -> Tree:
        kind = _bare(kind)
        if value is None or isinstance(value, NullValueNode):
            return None
        if isinstance(value, VariableNode):
            name = value.name.value
            return self.walk(self.variables.get(name), Variable(name), kind)
        if isinstance(kind, GraphQLInputObjectType):
            assert isinstance(value, ObjectValueNode)
            return {
                f.name.value: self.tree(f.value, kind.fields[f.name.value].type)
                for f in value.fields
                if not isinstance(f.value, VariableNode) or f.value.name.value in self.variables
            }
        if isinstance(kind, GraphQLList):
            inner = _bare(kind.of_type)
            if isinstance(inner, GraphQLInputObjectType):
                items = value.values if isinstance(value, ListValueNode) else (value,)
                return [self.tree(item, inner) for item in items]
            if isinstance(value, ListValueNode) and any(isinstance(v, VariableNode) for v in value.values):
                raise bad_input("FILTER_LIST")
        return Const(self.now(value, kind))

    def walk(self, value: Any, at: Variable, kind: GraphQLInputType) -> Tree:
        kind = _bare(kind)
        if value is None:
            return None
        if isinstance(kind, GraphQLInputObjectType):
            return {
                name: self.walk(item, Variable(at.name, (*at.path, name)), kind.fields[name].type)
                for name, item in value.items()
            }
        if isinstance(kind, GraphQLList) and isinstance(_bare(kind.of_type), GraphQLInputObjectType):
            return [
                self.walk(item, Variable(at.name, (*at.path, index)), kind.of_type) for index, item in enumerate(value)
            ]
        return at

    def value(self, reference: Reference) -> Any:
        """A reference's value now: only for what is part of the plan's key, such as ``isNull``."""
        if isinstance(reference, Const):
            return reference.value
        found: Any = self.variables[reference.name]
        for step in reference.path:
            found = found[step]
        return found


def _bare(kind: GraphQLInputType) -> GraphQLInputType:
    return kind.of_type if isinstance(kind, GraphQLNonNull) else kind


def python_arguments(
    schema: strawberry.Schema, definition: GraphQLField, node: FieldNode
) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """The keyword arguments of a resolver from a request's variables: inputs as Strawberry's own objects."""
    given = {a.name.value: a.value for a in node.arguments or ()}
    converter = schema.schema_converter
    name_of = converter.config.name_converter.get_graphql_name
    declared = [(a, name_of(a)) for a in definition.extensions["strawberry-definition"].arguments]

    def build(variables: Mapping[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for argument, name in declared:
            if name not in given:
                continue
            raw = value_from_ast(given[name], definition.args[name].type, dict(variables))
            if raw is not Undefined:
                found[argument.python_name] = convert_argument(
                    raw, argument.type, converter.scalar_registry, converter.config
                )
        return found

    return build
