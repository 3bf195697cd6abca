"""How a type of the graph stands on a model: which fields are columns, relations, expressions, or live.

A type is declared once::

    @entity(models.SimCard, prefix="sim", filters=("status",), sorts=("activated_at",))
    class SimCard(Node):
        iccid: str = column("The carrier's number (S0-43).", confidential=True)
        package: DataPackage | None = to_one("What the card is bound to.")
        allocations: Connection[SimAllocation] = to_many("Who held it.", by=models.SimAllocation.sim_card_id)
        remaining_mb: int = computed("What is left.", lambda card: card.quota_mb - card.used_mb)
        carrier_state: CarrierState | None = live("As the carrier sees it.", needs=("iccid",))

The planner reads the mapping; Strawberry reads the same classes (``planner.assemble``).
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, dataclass_transform

import strawberry
from sqlalchemy import Column, ColumnElement
from sqlalchemy import inspect as inspect_model
from sqlalchemy.orm import InstrumentedAttribute, RelationshipProperty

T = TypeVar("T")


class Connection(Generic[T]):
    """Marks a to-many field: a keyset-paged connection of ``T``."""


@strawberry.interface(description="Anything with a global id.")
class Node:
    id: strawberry.ID = strawberry.field(description="Opaque and global; its prefix names the type.")


@dataclass(frozen=True)
class FieldSpec:
    """What a declaration says of a field, before its model and its type are known."""

    kind: str
    description: str
    attribute: str | None = None
    confidential: bool = False
    needs: tuple[str, ...] = ()
    expression: Callable[[Any], ColumnElement[Any]] | None = None
    by: InstrumentedAttribute[Any] | None = None
    mask: Callable[[ColumnElement[Any]], ColumnElement[Any]] | None = None


def column(
    description: str = "",
    *,
    of: str | None = None,
    confidential: bool = False,
    mask: Callable[[ColumnElement[Any]], ColumnElement[Any]] | None = None,
) -> Any:
    """A column of the model, of the same name unless ``of`` says otherwise.

    ``confidential``: only a policy that names the field in full grants it. ``mask``: what callers see who may
    read the field but not unmask it.
    """
    return FieldSpec("column", description, attribute=of, confidential=confidential, mask=mask)


def to_one(description: str = "", *, via: str | None = None) -> Any:
    """A relationship of the model, joined into its parent's level; null when its target is out of scope."""
    return FieldSpec("to_one", description, attribute=via)


def to_many(description: str = "", *, by: InstrumentedAttribute[Any]) -> Any:
    """The rows whose column ``by`` holds this row's key, as a connection: one statement for all parents."""
    return FieldSpec("to_many", description, by=by)


def computed(description: str, expression: Callable[[Any], ColumnElement[Any]], *, confidential: bool = False) -> Any:
    """An SQL expression over the row's columns; ``confidential`` as for a column."""
    return FieldSpec("computed", description, expression=expression, confidential=confidential)


def live(description: str, *, needs: Sequence[str] = (), confidential: bool = False) -> Any:
    """Answered in Python, batched over all rows, from columns that the planner fetches; see ``loads``. Of a value:
    from the value itself, and only where it is selected."""
    return FieldSpec("live", description, needs=tuple(needs), confidential=confidential)


@dataclass
class Field:
    """A field of an entity, ready to plan."""

    name: str
    python_name: str
    spec: FieldSpec
    column: Column[Any] | None = None
    target: str | None = None

    @property
    def kind(self) -> str:
        return self.spec.kind

    @property
    def unmasked(self) -> str:
        """The coordinate's field that a policy grants to show a masked value in full."""
        return f"{self.name}Unmasked"


@dataclass
class Entity:
    name: str
    declared: type
    model: type
    prefix: str
    interface: bool
    filters: tuple[str, ...]
    sorts: tuple[str, ...]
    description: str
    fields: dict[str, Field] = field(default_factory=dict)
    concrete: dict[Any, str] = field(default_factory=dict)
    """For an interface: stored discriminator → name of the concrete type."""

    @property
    def table(self) -> Any:
        return inspect_model(self.model).local_table

    @property
    def discriminator(self) -> Column[Any] | None:
        return inspect_model(self.model).polymorphic_on

    def attribute(self, python_name: str) -> Column[Any]:
        found: Column[Any] | None = inspect_model(self.model).columns.get(python_name)
        if found is None:
            raise TypeError(f"{self.name}: {self.model.__name__} has no column {python_name!r}")
        return found

    def relationship(self, python_name: str) -> RelationshipProperty[Any]:
        return inspect_model(self.model).relationships[python_name]

    def foreign_key(self, relation: str) -> Column[Any]:
        """The column of this table that holds the related row's id."""
        for local, remote in self.relationship(relation).local_remote_pairs or ():
            if remote.name == "id":
                return local  # type: ignore[return-value]
        raise TypeError(f"{self.name}.{relation} does not point at an id")


@dataclass
class Registry:
    """Everything declared by decorator, collected at import and assembled once (``planner.assemble``)."""

    entities: dict[str, Entity] = field(default_factory=dict)
    by_prefix: dict[str, Entity] = field(default_factory=dict)
    values: dict[str, type] = field(default_factory=dict)
    """Plain output types, inputs and enums by name, for resolving annotations across files."""
    queries: dict[str, Any] = field(default_factory=dict)
    mutations: dict[str, Any] = field(default_factory=dict)
    subscriptions: dict[str, Any] = field(default_factory=dict)
    loaders: dict[tuple[str, str], Any] = field(default_factory=dict)


registry = Registry()


def camel(name: str) -> str:
    head, *tail = name.split("_")
    return head + "".join(part.capitalize() for part in tail)


def snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def entity(
    model: type,
    *,
    prefix: str,
    interface: bool = False,
    filters: Sequence[str] = (),
    sorts: Sequence[str] = (),
) -> Callable[[type[T]], type[T]]:
    """Declares a type of the graph on a model. ``filters`` and ``sorts`` name fields that have an index."""

    def declare(cls: type[T]) -> type[T]:
        if cls.__name__ in registry.entities:
            raise TypeError(f"{cls.__name__} is declared twice")
        mapped = Entity(
            name=cls.__name__,
            declared=cls,
            model=model,
            prefix=prefix,
            interface=interface,
            filters=tuple(filters),
            sorts=tuple(sorts),
            description=(cls.__doc__ or "").strip(),
        )
        registry.entities[mapped.name] = mapped
        known = registry.by_prefix.setdefault(prefix, mapped)
        if known is not mapped and not issubclass(cls, known.declared):
            raise TypeError(f"prefix {prefix!r} belongs to {known.name}")
        return cls

    return declare


@dataclass_transform(kw_only_default=True)
def value(cls: type[T]) -> type[T]:
    """A plain output type: its fields are read from the object that a resolver returns, or, if ``live``, loaded."""
    registry.values[cls.__name__] = cls
    return cls


@dataclass_transform(kw_only_default=True)
def input_type(cls: type[T]) -> type[T]:
    """An input object."""
    registry.values[cls.__name__] = cls
    return strawberry.input(cls, description=(cls.__doc__ or "").strip())


def enum_type(kind: type[enum.Enum], description: str) -> None:
    """Publishes an enumeration of the models in the graph."""
    strawberry.enum(kind, description=description)
    registry.values[kind.__name__] = kind


@dataclass(frozen=True)
class Key:
    """A reference to a row of an entity inside a Python value; the selection below it is planned and read."""

    type: str
    id: int


def refer(key: int | None) -> Any:
    """A row where a payload shows its type: only the key is kept, and the selection below it is planned."""
    return key
