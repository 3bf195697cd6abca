"""Schema coordinates, of which policies speak: `SimCard.iccid`, `Mutation.activate`, `OrderFilter.kind`."""

from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal, Self

from graphql import (
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLSchema,
)


class Act(StrEnum):
    """What is done at a coordinate."""

    READ = "read"
    """A field of an object or of the query root is selected."""
    WRITE = "write"
    """A field of an input is given."""
    CALL = "call"
    """A mutation or a subscription is run."""


ANY: Final = "*"
"""Every act, or every coordinate."""

ActPattern = Act | Literal["*"]


@dataclass(frozen=True, slots=True)
class Coordinate:
    """One field of the graph. A confidential one is granted only by a policy that names it in full."""

    type: str
    field: str
    act: Act
    confidential: bool = False

    @property
    def name(self) -> str:
        return f"{self.type}.{self.field}"

    def matches(self, pattern: str, act: str) -> bool:
        """Whether the pattern (`Type.field`, `Type.prefix*`, `Type.*`, `*`) and the act (or `*`) name it."""
        if act not in (ANY, self.act):
            return False
        if pattern.endswith("*"):
            return self.name.startswith(pattern[:-1])
        return self.name == pattern


class Catalog:
    """Every coordinate that policies can grant; one that is not listed is granted to nobody."""

    def __init__(self, coordinates: Iterable[Coordinate]) -> None:
        by_name: dict[str, Coordinate] = {}
        by_type: defaultdict[str, list[Coordinate]] = defaultdict(list)
        for coordinate in coordinates:
            if coordinate.name in by_name:
                raise ValueError(f"{coordinate.name} stands twice in the catalog")
            by_name[coordinate.name] = coordinate
            by_type[coordinate.type].append(coordinate)
        self._by_name: Mapping[str, Coordinate] = by_name
        self._by_type: Mapping[str, tuple[Coordinate, ...]] = {type: tuple(fields) for type, fields in by_type.items()}

    @classmethod
    def from_schema(cls, schema: GraphQLSchema, confidential: Container[str]) -> Self:
        """The fields of every object, interface and input type of the schema, introspection left out.

        `confidential` holds names (`EndUser.idNumber`). A field that an interface calls confidential is so in
        every type that implements it: the same value must not be had by another name.
        """
        return cls(
            Coordinate(type.name, field, _act(schema, type), _is_confidential(type, field, confidential))
            for type in schema.type_map.values()
            if isinstance(type, GraphQLObjectType | GraphQLInterfaceType | GraphQLInputObjectType)
            and not type.name.startswith("__")
            for field in type.fields
        )

    def __iter__(self) -> Iterator[Coordinate]:
        return iter(self._by_name.values())

    def __len__(self) -> int:
        return len(self._by_name)

    def find(self, name: str) -> Coordinate | None:
        return self._by_name.get(name)

    def of_type(self, type: str) -> tuple[Coordinate, ...]:
        return self._by_type.get(type, ())

    def expand(self, pattern: str, act: ActPattern) -> Iterator[Coordinate]:
        """The coordinates that the pattern and the act name, confidential ones too."""
        candidates = self if pattern == ANY else self.of_type(pattern.partition(".")[0])
        return (coordinate for coordinate in candidates if coordinate.matches(pattern, act))


def _act(schema: GraphQLSchema, type: GraphQLNamedType) -> Act:
    if type in (schema.mutation_type, schema.subscription_type):
        return Act.CALL
    return Act.WRITE if isinstance(type, GraphQLInputObjectType) else Act.READ


def _is_confidential(
    type: GraphQLObjectType | GraphQLInterfaceType | GraphQLInputObjectType,
    field: str,
    confidential: Container[str],
) -> bool:
    interfaces = () if isinstance(type, GraphQLInputObjectType) else type.interfaces
    return any(f"{owner.name}.{field}" in confidential for owner in (type, *interfaces))
