"""How a field is answered: decorators by which resolvers register query roots, mutations, subscriptions and
the loaders of live fields."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, overload

from planner.mapping import registry

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Root:
    function: Callable[..., Any]
    returns: Any
    parameters: tuple[inspect.Parameter, ...]
    """The GraphQL arguments; ``ctx`` and the like are not among them."""


@dataclass(frozen=True)
class QueryRoot(Root):
    """Answers with a Select of the mapped model, or, when it takes ``ctx``, with a Python value."""

    by: tuple[str, ...] = ()
    live: bool = False
    report: bool = False


@dataclass(frozen=True)
class MutationRoot(Root):
    public: bool = False
    idempotent: bool = False
    logged: bool = True
    on: type | None = None


@dataclass(frozen=True)
class SubscriptionRoot(Root):
    """Yields values; each is planned and read like a query's."""


def _parts(function: Callable[..., Any]) -> tuple[bool, tuple[inspect.Parameter, ...]]:
    parameters = tuple(inspect.signature(function).parameters.values())
    takes_context = bool(parameters) and parameters[0].name == "ctx"
    return takes_context, parameters[1:] if takes_context else parameters


def query(returns: Any, *, by: Sequence[str] = (), report: bool = False) -> Callable[[F], F]:
    """A query root. ``Connection[T]`` lists, ``T`` with ``by`` finds one by exactly one of these fields; both
    answer with a ``Select``. Anything else is live: a coroutine of ``ctx`` that returns a Python value. ``report``: the
    value has a list of rows, which can be exported; of ``ctx`` it needs ``runtime`` and ``principal`` alone."""

    def register(function: F) -> F:
        takes_context, parameters = _parts(function)
        registry.queries[function.__name__] = QueryRoot(
            function, returns, parameters, by=tuple(by), live=takes_context, report=report
        )
        return function

    return register


@overload
def mutation(function: F, /) -> F: ...


@overload
def mutation(
    *, public: bool = ..., idempotent: bool = ..., logged: bool = ..., on: type | None = ...
) -> Callable[[F], F]: ...


def mutation(
    function: F | None = None,
    /,
    *,
    public: bool = False,
    idempotent: bool = False,
    logged: bool = True,
    on: type | None = None,
) -> Any:
    """A mutation: authorised, in one transaction, logged; its payload's selection is read after the commit.

    ``public``: callable before anybody has logged in. ``idempotent``: its input carries ``idempotency_key``; a
    repeat by the same caller returns the first result. ``logged``: whether the operation log tells of it.
    ``on``: the entity whose rows it changes, where a role opens it on some of those rows only.
    """

    def register(found: F) -> F:
        _, parameters = _parts(found)
        returns = inspect.signature(found).return_annotation
        registry.mutations[found.__name__] = MutationRoot(
            found, returns, parameters, public=public, idempotent=idempotent, logged=logged, on=on
        )
        return found

    return register if function is None else register(function)


def subscription(returns: Any) -> Callable[[F], F]:
    """A subscription: an async generator of ``ctx``."""

    def register(function: F) -> F:
        _, parameters = _parts(function)
        registry.subscriptions[function.__name__] = SubscriptionRoot(function, returns, parameters)
        return function

    return register


def loads(entity: type, field: str) -> Callable[[F], F]:
    """The loader of a live field: takes ``ctx`` and rows holding what the field needs, returns for each row a
    value, or an exception that becomes an error at that place."""

    def register(function: F) -> F:
        registry.loaders[entity.__name__, field] = function
        return function

    return register
