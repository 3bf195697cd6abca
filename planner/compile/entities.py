"""One row of an entity as an expression: columns, to-ones joined in, live fields."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from graphql import (
    FieldNode,
    GraphQLField,
    GraphQLList,
    GraphQLNamedType,
    GraphQLNonNull,
    GraphQLObjectType,
    get_named_type,
)
from sqlalchemy import (
    ColumnElement,
    Numeric,
    Select,
    Text,
    case,
    cast,
    func,
    literal_column,
    null,
    select,
)
from sqlalchemy.dialects.postgresql import INET, JSONB, UUID

from authz.coordinates import Act
from authz.scopes import Reach, within
from planner import scope
from planner.compile.authorisation import Selections
from planner.compile.conditions import Conditions
from planner.compile.rows import At, Columns, Needing, Parent
from planner.ids import scramble_source
from planner.mapping import Entity, Field
from planner.plan import (
    Leaf,
    LiveField,
    Reference,
    ValueShape,
)

MAX_OBJECTS = 500
"""Selections of objects in one operation; its compilation takes as long as it is large."""
MAX_JOINS = 60
"""Rows that may be joined to one row; they are compiled inside each other."""


class Entities(Conditions, ABC):
    def object(
        self, entity: Entity, at: At, sets: Selections, path: tuple[str, ...], where: str, many: int
    ) -> tuple[str, bool]:
        """(Python expression for one row, whether it can fail). ``where`` is the expression of its path."""
        if not entity.interface:
            return self.concrete(entity, at, sets, path, where, many)
        discriminator = entity.discriminator
        assert discriminator is not None
        parts: dict[str, str] = {}
        fallible = False
        for stored, name in entity.concrete.items():
            if self.grants.reach_of(name, "id", Act.READ) is not None:
                concrete = self.registry.entities[name]
                parts[stored], fails = self.concrete(concrete, at, sets, path, where, many, shared=True)
                fallible = fallible or fails
        if len(parts) == len(entity.concrete) and len(set(parts.values())) == 1:
            return next(iter(parts.values())), fallible
        position = at.rows.column(f"{at.alias}.kind", at.need(discriminator))
        expression = "None"
        for stored, part in parts.items():
            expression = f"({part} if r[{position}]=={stored!r} else {expression})"
        return expression, fallible

    def concrete(
        self,
        entity: Entity,
        at: At,
        sets: Selections,
        path: tuple[str, ...],
        where: str,
        many: int,
        *,
        shared: bool = False,
    ) -> tuple[str, bool]:
        """The same for one type, which may be one of several that a row may be of."""
        graphql_type = self.graph.schema.type_map[entity.name]
        assert isinstance(graphql_type, GraphQLObjectType)
        self.objects += 1
        if self.objects > MAX_OBJECTS or at.rows.aliases > MAX_JOINS:
            raise self.beyond("OPERATION_TOO_LARGE", objects=MAX_OBJECTS, joins=MAX_JOINS)
        parts: list[str] = []
        fallible = False
        own = self.grants.reach_of(entity.name, "id", Act.READ)
        for key, nodes in self.collect(graphql_type, sets).items():
            name = nodes[0].name.value
            if name == "__typename":
                parts.append(f"{key!r}:{entity.name!r}")
                continue
            here = (*path, key)
            reach = self.authorise(entity.name, name, Act.READ, here)
            if name == "id":
                parts.append(f"{key!r}:{scramble_source(f'{entity.prefix}_', f'r[{at.key}]')}")
                continue
            declared = entity.fields[name]
            nullable = not isinstance(graphql_type.fields[name].type, GraphQLNonNull)
            narrowed = own is not None and bool(reach) and not within(own, reach)
            if narrowed and not nullable:
                self.forbid(entity.name, name, here)
            if declared.kind in ("column", "computed"):
                parts.append(f"{key!r}:{self.leaf(entity, declared, at, reach if narrowed else None)}")
            else:
                # what an interface declares is read once for all its types
                same = (where, key, id(declared.spec), tuple(map(id, nodes)), reach if narrowed else None)
                if same not in at.made:
                    definition = graphql_type.fields[name]
                    place = f"{where}+({key!r},)"
                    narrow = reach if narrowed else None
                    inside = "p" if shared else place
                    made = self.related(entity, declared, at, definition, nodes, here, inside, many, narrow)
                    at.made[same] = self.apart(*made, place) if shared else made
                part, fails = at.made[same]
                fallible = fallible or fails
                parts.append(f"{key!r}:{part}")
        return "{" + ",".join(parts) + "}", fallible

    def apart(self, expression: str, fallible: bool, where: str) -> tuple[str, bool]:
        """An expression as a function of its own: written out in each type that shares it, it would become so many
        times longer with every level."""
        name = f"part{len(self.source)}"
        self.source.append(f"def {name}(r,S,p):\n return {expression}\n")
        return f"{name}(r,S,{where if fallible else None})", fallible

    def related(
        self,
        entity: Entity,
        declared: Field,
        at: At,
        definition: GraphQLField,
        nodes: list[FieldNode],
        path: tuple[str, ...],
        where: str,
        many: int,
        narrowed: Reach | None,
    ) -> tuple[str, bool]:
        """A to-one, a to-many or a live field: (Python expression, whether it can fail)."""
        if declared.kind == "to_one":
            return self.to_one(declared, at, self.below(nodes), path, where, many, narrowed)
        if declared.kind == "to_many":
            assert declared.spec.by is not None
            return self.connection(
                self.registry.entities[declared.target or ""],
                get_named_type(definition.type),
                nodes,
                self.arguments.of(definition, nodes[0]),
                path,
                Parent(at, declared.spec.by.property.columns[0], where),
                None,
                many,
            )
        part = self.live_field(entity, declared, at, definition, nodes, path, where)
        if narrowed is not None:
            held = at.rows.column(f"{at.alias}?{declared.name}@{entity.name}", self.holds(entity, at, narrowed))
            part = f"({part} if r[{held}] else None)"
        return part, True

    def leaf(self, entity: Entity, declared: Field, at: At, narrowed: Reach | None) -> str:
        """A column or an expression, converted in SQL to what the answer shows."""
        if declared.kind == "computed":
            assert declared.spec.expression is not None
            expression = declared.spec.expression(Needing(at))
            kind = expression.type
        else:
            assert declared.column is not None
            expression = at.need(declared.column)
            kind = declared.column.type
        if declared.spec.mask is not None and not self.unmasked(entity, declared):
            masked = declared.spec.mask(expression)
            in_full = self.grants.reach_of(entity.name, declared.unmasked, Act.READ)
            expression = (
                masked if in_full is None else case((self.holds(entity, at, in_full), expression), else_=masked)
            )
        if isinstance(kind, Numeric | UUID):
            expression = cast(expression, Text)
        elif isinstance(kind, INET):
            expression = func.host(expression)
        if narrowed is not None:
            expression = case((self.holds(entity, at, narrowed), expression), else_=null())
        # types of one interface may differ in the rows on which they show it
        own = f"@{entity.name}" if narrowed is not None or declared.spec.mask is not None else ""
        position = at.rows.column(f"{at.alias}.{declared.name}{own}", expression)
        if not own and declared.column is not None and not declared.column.nullable:
            at.never_null = position
        if isinstance(kind, JSONB):
            return f"(Fragment(r[{position}]) if r[{position}] is not None else None)"
        return f"r[{position}]"

    def holds(self, entity: Entity, at: At, reach: Reach) -> ColumnElement[bool]:
        """Whether the row lies within a reach that is narrower than its type's."""
        return scope.predicate(
            entity.model, Columns(at), reach, self.shape, at.rows.parameters.principal, scope.Use.CHECK
        )

    def to_one(
        self,
        declared: Field,
        at: At,
        sets: Selections,
        path: tuple[str, ...],
        where: str,
        many: int,
        narrowed: Reach | None,
    ) -> tuple[str, bool]:
        entity = self.registry.entities[declared.target or ""]
        self.spend(many)
        rows = at.rows
        rows.aliases += 1
        alias = f"j{rows.aliases}"
        assert declared.column is not None
        foreign_key = at.need(declared.column)
        inner = At(entity, rows, alias)
        place = len(rows.joins)
        rows.joins.append(None)
        expression, fallible = self.object(entity, inner, sets, path, where, many)
        present = inner.present
        table = entity.table
        wanted = [table.c.id == foreign_key, self.in_scope(entity, rows.parameters)]
        if narrowed is not None:
            wanted.append(self.holds(at.entity, at, narrowed))
        rows.joins[place] = (
            select(*inner.needs.values())
            .select_from(table)
            .where(*wanted)
            .limit(literal_column("1"))
            .correlate(None)
            .lateral(alias)
        )
        if fallible:
            expression = f"guard(lambda:{expression})"
        return f"({expression} if r[{present}] is not None else None)", fallible

    def live_field(
        self,
        entity: Entity,
        declared: Field,
        at: At,
        definition: GraphQLField,
        nodes: list[FieldNode],
        path: tuple[str, ...],
        where: str,
    ) -> str:
        levels = len(self.levels)
        shape = self.value_shape(definition.type, nodes, path)
        if len(self.levels) > levels:
            raise TypeError(f"{entity.name}.{declared.name}: a live value cannot hold a reference")
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
        self.space[name] = shape
        return f"live_value(S,{number},r[{at.key}],{where},{name},{nulls_of(definition.type)})"

    @abstractmethod
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

    @abstractmethod
    def value_shape(self, kind: Any, nodes: list[FieldNode], path: tuple[str, ...]) -> Leaf | Reference | ValueShape:
        """How a Python value is shown, and which rows it refers to."""


def nulls_of(kind: Any) -> tuple[bool, ...]:
    """Whether a value of the type may be null, then whether the items of its list may be, and so on inwards."""
    nullable = not isinstance(kind, GraphQLNonNull)
    inner = kind if nullable else kind.of_type
    return (nullable, *nulls_of(inner.of_type)) if isinstance(inner, GraphQLList) else (nullable,)
