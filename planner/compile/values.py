"""Python values in an answer: payloads, live answers, and the rows that they refer to."""

from __future__ import annotations

from typing import Any

from graphql import (
    FieldNode,
    GraphQLEnumType,
    GraphQLInterfaceType,
    GraphQLObjectType,
    get_named_type,
    is_leaf_type,
)
from sqlalchemy import (
    func,
    literal_column,
    select,
    true,
)

from planner.compile.connections import Connections
from planner.compile.entities import nulls_of
from planner.compile.rows import At
from planner.mapping import Entity
from planner.plan import (
    Leaf,
    Reference,
    ValueField,
    ValueShape,
)


class Values(Connections):
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
            shape = self.value_shape(definition.type, field_nodes, (*path, key))
            loader = self.registry.loaders.get((named.name, attribute))
            fields.append(ValueField(key, attribute, shape, nulls_of(definition.type), loader))
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
        self.spend(1)
        rows = self.level("keyed")
        at = At(entity, rows, "a")
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


def _member_name(member: Any) -> Any:
    return member.name
