"""From declarations to one schema: Strawberry types are made once everything has been imported, so that
domains may speak of each other without import cycles."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Optional, Union, get_args, get_origin

import strawberry
from graphql import GraphQLEnumType, GraphQLObjectType, GraphQLSchema, get_named_type
from strawberry.schema.config import StrawberryConfig

from planner import filters
from planner.mapping import Connection, Entity, Field, FieldSpec, Node, Registry, camel
from planner.registry import MutationRoot, QueryRoot, SubscriptionRoot


@strawberry.type(description="Where a page lies in its list.")
class PageInfo:
    has_next_page: bool
    has_previous_page: bool
    start_cursor: str | None
    end_cursor: str | None


@dataclass(frozen=True)
class Graph:
    """The assembled graph: what it says (schema) and how it is answered (registry)."""

    strawberry: strawberry.Schema
    schema: GraphQLSchema
    registry: Registry

    def sdl(self) -> str:
        return self.strawberry.as_str() + "\n"

    @property
    def confidential(self) -> frozenset[str]:
        return frozenset(
            f"{entity.name}.{field.name}"
            for entity in self.registry.entities.values()
            for field in entity.fields.values()
            if field.spec.confidential
        )


def assemble(registry: Registry) -> Graph:
    """Makes the Strawberry types and the schema; raises TypeError for a declaration that cannot hold."""
    builder = _Builder(registry)
    for name, declared in registry.values.items():
        if not hasattr(declared, "__strawberry_definition__") and not _is_enum(declared):
            builder.make_value(name, declared)
    for entity in registry.entities.values():
        builder.resolve(entity)
    for entity in registry.entities.values():
        builder.make_connection(entity)
    for entity in registry.entities.values():
        builder.make_entity(entity)
    roots: dict[str, type | None] = {
        "Query": builder.make_root("Query", registry.queries),
        "Mutation": builder.make_root("Mutation", registry.mutations),
        "Subscription": builder.make_root("Subscription", registry.subscriptions),
    }
    schema = strawberry.Schema(
        query=roots["Query"],  # type: ignore[arg-type]
        mutation=roots["Mutation"],
        subscription=roots["Subscription"],
        types=[e.declared for e in registry.entities.values()],
        config=StrawberryConfig(),
    )
    core: GraphQLSchema = schema._schema
    _check(registry, core)
    return Graph(schema, core, registry)


def _is_enum(declared: Any) -> bool:
    return hasattr(declared, "__strawberry_definition__") or hasattr(declared, "__members__")


def _strip_optional(annotation: Any) -> tuple[Any, bool]:
    if get_origin(annotation) in (Union, type(int | str)):
        rest = [a for a in get_args(annotation) if a is not type(None)]
        if len(rest) == 1:
            return rest[0], True
    return annotation, False


class _Builder:
    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.specs: dict[str, dict[str, FieldSpec]] = {}
        """What each class declared, kept aside because Strawberry replaces the class's attributes."""
        self.connections: dict[str, type] = {}
        self.filters: dict[str, type | None] = {}
        self.orders: dict[str, type] = {}
        self.leaves: dict[tuple[str, str], Any] = {}
        self.names: dict[str, Any] = {
            **registry.values,
            **{name: entity.declared for name, entity in registry.entities.items()},
            "Connection": Connection,
            "Node": Node,
            "Optional": Optional,
        }

    def annotation(self, owner: Any, text: Any) -> Any:
        """The object that an annotation names; other domains' types are found by name."""
        if not isinstance(text, str):
            return text
        space = {**self.names, **vars(sys.modules[owner.__module__]), **self.names}
        return eval(text, space)  # noqa: S307 - our own annotations

    def annotations(self, cls: type) -> dict[str, Any]:
        return {name: self.annotation(cls, text) for name, text in inspect.get_annotations(cls).items()}

    def make_value(self, name: str, cls: type) -> None:
        cls.__annotations__ = self.annotations(cls)
        for attribute, spec in list(vars(cls).items()):
            if isinstance(spec, FieldSpec):
                if (name, attribute) not in self.registry.loaders:
                    raise TypeError(f"{name}.{attribute} is live and has no loader")
                setattr(cls, attribute, strawberry.field(description=spec.description, default=None))
        strawberry.type(cls, name=name, description=(cls.__doc__ or "").strip())

    def resolve(self, entity: Entity) -> None:
        """Fills the entity's fields from its class and its bases, and remembers leaf types for filters."""
        for base in reversed(entity.declared.__mro__):
            if base in (object, Node) or not hasattr(base, "__annotations__"):
                continue
            for python_name, annotation in self.annotations(base).items():
                spec = vars(base).get(python_name, FieldSpec("column", ""))
                bare, nullable = _strip_optional(annotation)
                field = Field(name=camel(python_name), python_name=python_name, spec=spec)
                if get_origin(bare) is Connection:
                    field.target = get_args(bare)[0].__name__
                elif spec.kind == "column":
                    field.column = entity.attribute(spec.attribute or python_name)
                    self.leaves[entity.name, python_name] = bare
                elif spec.kind == "to_one":
                    field.target = bare.__name__
                    field.column = entity.foreign_key(spec.attribute or python_name)
                    self.leaves[entity.name, python_name] = strawberry.ID
                    if not nullable:
                        raise TypeError(f"{entity.name}.{python_name}: a to-one may be out of reach, so nullable")
                elif spec.kind == "computed":
                    self.leaves[entity.name, python_name] = bare
                entity.fields[field.name] = field
        self.leaves[entity.name, "id"] = strawberry.ID
        self.specs[entity.name] = {n: s for n, s in vars(entity.declared).items() if isinstance(s, FieldSpec)}

    def filter_leaf(self, entity: Entity, name: str) -> Any:
        declared = next((field for field in entity.fields.values() if field.python_name == name), None)
        target = None if declared is None or declared.target is None else self.registry.entities[declared.target]
        return filters.leaf_of(entity, name, self.leaves[entity.name, name], target)

    def make_connection(self, entity: Entity) -> None:
        edge = strawberry.type(
            type(f"{entity.name}Edge", (), {"__annotations__": {"cursor": str, "node": entity.declared}}),
            description=f"A {entity.name} and its place in the list.",
        )
        made = type(
            f"{entity.name}Connection",
            (),
            {
                "__annotations__": {
                    "edges": list[edge],  # type: ignore[valid-type]
                    "nodes": list[entity.declared],  # type: ignore[name-defined]
                    "page_info": PageInfo,
                    "total_count": int,
                },
                "total_count": strawberry.field(description="How many rows the whole list has; costs a count."),
            },
        )
        self.connections[entity.name] = strawberry.type(made, description=f"A page of {entity.name}.")
        self.filters[entity.name] = (
            filters.filter_input(entity, lambda name: self.filter_leaf(entity, name)) if entity.filters else None
        )
        self.orders[entity.name] = filters.order_input(entity)

    def make_entity(self, entity: Entity) -> None:
        cls = entity.declared
        annotations = {}
        for python_name, annotation in self.annotations(cls).items():
            spec = self.specs[entity.name].get(python_name, FieldSpec("column", ""))
            bare, _ = _strip_optional(annotation)
            if get_origin(bare) is Connection:
                target = get_args(bare)[0].__name__
                stub = self.stub(python_name, self.connection_arguments(target), None, cls, self.connections[target])
                setattr(cls, python_name, strawberry.field(resolver=stub, description=spec.description))
                continue
            annotations[python_name] = annotation
            setattr(cls, python_name, strawberry.field(description=spec.description or None))
        cls.__annotations__ = annotations
        make = strawberry.interface if entity.interface else strawberry.type
        make(cls, name=entity.name, description=entity.description)

    def connection_arguments(self, target: str) -> dict[str, Any]:
        arguments: dict[str, Any] = {
            "first": Optional[int],
            "after": Optional[str],
            "last": Optional[int],
            "before": Optional[str],
        }
        if self.filters[target] is not None:
            arguments["filter"] = Optional[self.filters[target]]
        arguments["order_by"] = Optional[list[self.orders[target]]]  # type: ignore[name-defined]
        return arguments

    def stub(
        self, name: str, arguments: Mapping[str, Any], defaults: Mapping[str, Any] | None, owner: Any, answer: Any
    ) -> Callable[..., Any]:
        """A resolver that is never called: it carries a signature into the schema."""

        def resolver(**_: Any) -> Any:
            raise AssertionError(f"{name} is answered by the planner")

        parameters = [
            inspect.Parameter(
                argument,
                inspect.Parameter.KEYWORD_ONLY,
                annotation=annotation,
                default=(defaults or {}).get(argument, None if defaults is None else inspect.Parameter.empty),
            )
            for argument, annotation in arguments.items()
        ]
        resolver.__name__ = name
        resolver.__module__ = owner.__module__
        resolver.__signature__ = inspect.Signature(parameters, return_annotation=answer)  # type: ignore[attr-defined]
        resolver.__annotations__ = {**arguments, "return": answer}
        return resolver

    def make_root(self, name: str, roots: Mapping[str, QueryRoot | MutationRoot | SubscriptionRoot]) -> type | None:
        if not roots:
            return None
        members: dict[str, Any] = {}
        for python_name, root in sorted(roots.items()):
            arguments: dict[str, Any] = {}
            defaults: dict[str, Any] | None = {}
            answer = self.annotation(root.function, root.returns)
            if isinstance(root, QueryRoot) and get_origin(answer) is Connection:
                target = get_args(answer)[0].__name__
                arguments, defaults = self.connection_arguments(target), None
                answer = self.connections[target]
            elif isinstance(root, QueryRoot) and root.by:
                entity = self.registry.entities[answer.__name__]
                arguments = {key: Optional[self.leaves[entity.name, key]] for key in root.by}
                defaults = None
                answer = Optional[answer]
            else:
                for parameter in root.parameters:
                    arguments[parameter.name] = self.annotation(root.function, parameter.annotation)
                    if parameter.default is not inspect.Parameter.empty:
                        defaults[parameter.name] = parameter.default  # type: ignore[index]
            stub = self.stub(python_name, arguments, defaults, root.function, answer)
            description = inspect.cleandoc(root.function.__doc__ or "")
            if isinstance(root, SubscriptionRoot):
                members[python_name] = _subscription(stub, answer, description)
            else:
                members[python_name] = strawberry.field(resolver=stub, description=description)
        return strawberry.type(type(name, (), {"__annotations__": {}, **members}))


def _subscription(stub: Callable[..., Any], answer: Any, description: str) -> Any:
    from collections.abc import AsyncGenerator

    async def resolver(**_: Any) -> Any:
        raise AssertionError("answered by the planner")
        yield

    resolver.__name__ = stub.__name__
    resolver.__module__ = stub.__module__
    stream = AsyncGenerator[answer, None]
    signature = inspect.signature(stub)
    resolver.__signature__ = signature.replace(return_annotation=stream)  # type: ignore[attr-defined]
    resolver.__annotations__ = {**stub.__annotations__, "return": stream}
    return strawberry.subscription(resolver=resolver, description=description)


def _check(registry: Registry, schema: GraphQLSchema) -> None:
    """Every live field has a loader; every interface knows its concrete types; enums are stored by name."""
    for entity in registry.entities.values():
        for field in entity.fields.values():
            if field.kind == "live" and (entity.name, field.python_name) not in registry.loaders:
                owners = [
                    b.__name__ for b in entity.declared.__mro__ if (b.__name__, field.python_name) in registry.loaders
                ]
                if not owners:
                    raise TypeError(f"{entity.name}.{field.name} is live and has no loader")
        if entity.interface:
            for other in registry.entities.values():
                if other is not entity and issubclass(other.declared, entity.declared):
                    from sqlalchemy import inspect as inspect_model

                    identity: Any = inspect_model(other.model).polymorphic_identity
                    entity.concrete[identity.name] = other.name
    for name, kind in schema.type_map.items():
        if isinstance(kind, GraphQLObjectType):
            for field_name, definition in kind.fields.items():
                leaf = get_named_type(definition.type)
                if isinstance(leaf, GraphQLEnumType) and name in registry.entities:
                    for member, enum_value in leaf.values.items():
                        if getattr(enum_value.value, "name", member) != member:
                            raise TypeError(f"{name}.{field_name}: enum members must be stored by name")
