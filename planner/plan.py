"""A compiled plan: statements level by level, and the functions that turn their rows into the answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from graphql import FieldNode

from planner.mapping import Key
from planner.registry import MutationRoot, QueryRoot, SubscriptionRoot


@dataclass
class Level:
    """One statement. Its keys come from its parent's rows, or from the references inside Python values.

    A level without SQL is the guest of its parent's statement.
    """

    number: int
    kind: str
    """``rows``: a root or the children of a level · ``count``: a total · ``keyed``: rows by reference."""
    parent: int | None = None
    parent_column: int | None = None
    look_ahead: int | None = None
    """The size of a page whose statement reads one row more, to know whether there is a next one."""
    guest: tuple[Level, int] | None = None
    """The level whose rows this statement reads as well, and how many columns stand before theirs: the page below
    a single row costs no round trip of its own."""
    sql: str = ""
    fill: Callable[[Any, Mapping[str, Any], Any], tuple[Any, ...]] = field(default=lambda *_: ())
    fill_source: str = ""


@dataclass(frozen=True)
class LiveField:
    """A live field of a level: its loader, the columns that it needs, and where the row's key stands."""

    number: int
    level: int
    loader: Callable[..., Any]
    key_column: int
    needs: tuple[tuple[str, int], ...]


# -- Python values: payloads, live answers --------------------------------------------------------------------


@dataclass(frozen=True)
class Leaf:
    serialise: Callable[[Any], Any]


@dataclass(frozen=True)
class Reference:
    """An entity inside a value: the level that reads it, by the name of each possible type."""

    levels: dict[str, tuple[int, Callable[[Any, State, tuple[str | int, ...]], Any]]]
    single: str | None
    """The type of a bare key; None where only ``Key(type, id)`` tells."""


@dataclass(frozen=True)
class ValueField:
    key: str
    attribute: str
    shape: Leaf | Reference | ValueShape
    nulls: tuple[bool, ...]
    """Whether it may be null, then whether the items of its list may be, and so on inwards."""
    loader: Callable[..., Any] | None = None
    """Of a live field: takes the context and values, and gives what each holds there."""


@dataclass(frozen=True)
class ValueShape:
    typename: str
    fields: tuple[ValueField | tuple[str, str], ...]
    """A pair is ``__typename``: response key and name."""


@dataclass
class RootPlan:
    """A field of the operation's root: rows built from its levels, or a Python value from its resolver."""

    key: str
    name: str
    path: tuple[str, ...]
    levels: list[Level] = field(default_factory=list)
    live: list[LiveField] = field(default_factory=list)
    build: Callable[[State, tuple[str, ...]], Any] | None = None
    root: QueryRoot | MutationRoot | SubscriptionRoot | None = None
    arguments: Callable[[Mapping[str, Any]], dict[str, Any]] | None = None
    shape: Leaf | Reference | ValueShape | None = None
    nulls: tuple[bool, ...] = (True,)
    constant: str | None = None
    nullable: bool = True


@dataclass
class Plan:
    roots: list[RootPlan]
    levels: int
    live: int
    cost: int
    source: str
    grants_used: Sequence[str]
    introspection: Sequence[FieldNode]
    """The operation's introspection fields, answered from the caller's part of the schema."""


class NullPropagatesError(Exception):
    """A non-null field has no value: its nearest nullable parent becomes null."""


class State:
    """What one run gathers: rows by level, live answers, errors."""

    __slots__ = ("errors", "groups", "live", "more")

    def __init__(self, levels: int, live: int) -> None:
        self.groups: list[Any] = [None] * levels
        self.more: list[Any] = [()] * levels
        """Whether a root level has more rows than its page; for one below, the parents that have more."""
        self.live: list[dict[Any, Any]] = [{}] * live
        self.errors: list[tuple[tuple[str | int, ...], Exception]] = []


def live_value(
    state: State,
    number: int,
    key: Any,
    path: tuple[str | int, ...],
    shape: Leaf | Reference | ValueShape,
    nulls: tuple[bool, ...],
) -> Any:
    """The answer of a live field, or null with an error at its path."""
    return serialise_value(shape, nulls, state.live[number].get(key), state, path)


def guard(build: Callable[[], Any]) -> Any:
    """A nullable place: what propagates from inside stops here."""
    try:
        return build()
    except NullPropagatesError:
        return None


def serialise_value(
    shape: Leaf | Reference | ValueShape,
    nulls: tuple[bool, ...],
    value: Any,
    state: State,
    path: tuple[str | int, ...],
) -> Any:
    """A Python value as the answer shows it; references are read from their levels, a failure is an error."""
    try:
        if isinstance(value, Exception):
            state.errors.append((path, value))
            raise NullPropagatesError
        found = _serialised(shape, nulls, value, state, path)
    except NullPropagatesError:
        if nulls[0]:
            return None
        raise
    if found is None and not nulls[0]:
        state.errors.append((path, TypeError("Cannot return null for a non-nullable field.")))
        raise NullPropagatesError
    return found


def _serialised(
    shape: Leaf | Reference | ValueShape,
    nulls: tuple[bool, ...],
    value: Any,
    state: State,
    path: tuple[str | int, ...],
) -> Any:
    if value is None:
        return None
    if len(nulls) > 1:
        if isinstance(shape, Reference) and not nulls[1]:
            # what somebody else has taken out of reach since is left out: it is not there for this caller
            value = [item for item in value if _found(shape, item, state) is not None]
        return [serialise_value(shape, nulls[1:], item, state, (*path, index)) for index, item in enumerate(value)]
    if isinstance(shape, Leaf):
        return shape.serialise(value)
    if isinstance(shape, Reference):
        row = _found(shape, value, state)
        return None if row is None else shape.levels[_reference(shape, value)[0]][1](row, state, path)
    answer: dict[str, Any] = {}
    for part in shape.fields:
        if isinstance(part, tuple):
            answer[part[0]] = part[1]
        else:
            inside = getattr(value, part.attribute)
            answer[part.key] = serialise_value(part.shape, part.nulls, inside, state, (*path, part.key))
    return answer


def _found(shape: Reference, value: Any, state: State) -> Any:
    """The row that a reference means; None where it does not exist or lies out of reach."""
    type_name, key = _reference(shape, value)
    if type_name not in shape.levels:
        return None
    return (state.groups[shape.levels[type_name][0]] or {}).get(key)


def collect_live(shape: Leaf | Reference | ValueShape, value: Any, found: dict[tuple[Any, str], list[Any]]) -> None:
    """Finds the values whose selected live fields are to be loaded, by loader and attribute."""
    if value is None or isinstance(value, Exception) or not isinstance(shape, ValueShape):
        return
    if isinstance(value, list | tuple):
        for item in value:
            collect_live(shape, item, found)
        return
    for part in shape.fields:
        if isinstance(part, ValueField) and part.loader is not None:
            values = found.setdefault((part.loader, part.attribute), [])
            if not any(value is known for known in values):
                values.append(value)
        elif isinstance(part, ValueField):
            collect_live(part.shape, getattr(value, part.attribute), found)


def collect_references(shape: Leaf | Reference | ValueShape, value: Any, keys: dict[int, list[int]]) -> None:
    """Finds the keys that each level of references has to read."""
    if value is None or isinstance(value, Exception) or isinstance(shape, Leaf):
        return
    if isinstance(value, list | tuple):
        for item in value:
            collect_references(shape, item, keys)
    elif isinstance(shape, Reference):
        type_name, key = _reference(shape, value)
        if type_name in shape.levels:
            keys.setdefault(shape.levels[type_name][0], []).append(key)
    else:
        for part in shape.fields:
            if isinstance(part, ValueField):
                collect_references(part.shape, getattr(value, part.attribute), keys)


def _reference(shape: Reference, value: Any) -> tuple[str, int]:
    if isinstance(value, Key):
        return value.type, value.id
    if shape.single is None:
        raise TypeError("an interface is referred to by Key(type, id)")
    return shape.single, value if isinstance(value, int) else value.id
