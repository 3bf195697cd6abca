"""Which rows a permission reaches, as seen from the caller's place in the tenant tree."""

from collections.abc import Iterable
from enum import StrEnum


class Scope(StrEnum):
    """The rows that one policy line opens."""

    ALL = "all"
    """Every tenant's rows: the platform's own staff."""
    SUBTREE = "subtree"
    """The caller's tenant and every tenant below it."""
    TENANT = "tenant"
    """The caller's tenant alone."""
    ANCESTORS = "ancestors"
    """What the tenants above the caller publish: catalogue, help, dictionaries."""
    SELF = "self"
    """The caller's own: an end user's orders, a salesperson's customers."""
    DEPARTMENTS = "departments"
    """The departments that a role of the tenant names."""


Reach = frozenset[Scope]
"""The rows that several lines open together: those of any of its scopes."""


def covers(wide: Scope, scope: Scope) -> bool:
    """Whether every row of `scope` is, by its meaning alone, a row of `wide`.

    A caller's own rows may lie outside the caller's tenant (an end user buys from many), and a department's
    are counted by the role that names them, so only ALL covers those.
    """
    return wide in (scope, Scope.ALL) or (wide is Scope.SUBTREE and scope is Scope.TENANT)


def normalise(scopes: Iterable[Scope]) -> Reach:
    """The same rows in the fewest scopes: what a wider scope covers is dropped."""
    named = frozenset(scopes)
    return frozenset(scope for scope in named if not any(wide is not scope and covers(wide, scope) for wide in named))


def within(inner: Reach, outer: Reach) -> bool:
    """Whether every row that `inner` reaches is also reached by `outer`."""
    return all(any(covers(wide, scope) for wide in outer) for scope in inner)


def narrower(inner: Reach, outer: Reach) -> bool:
    """Whether `inner` lies strictly within `outer`.

    Two reaches may be neither: SELF and SUBTREE overlap without one lying within the other.
    """
    return within(inner, outer) and not within(outer, inner)


_WORDS = {
    Scope.ALL: "everything",
    Scope.SUBTREE: "own tenant and all below",
    Scope.TENANT: "own tenant",
    Scope.ANCESTORS: "published by the tenants above",
    Scope.SELF: "own records",
    Scope.DEPARTMENTS: "chosen departments",
}


def describe(reach: Reach) -> str:
    """The reach in words, widest scope first, for matrices and messages."""
    return " + ".join(words for scope, words in _WORDS.items() if scope in reach) or "nothing"
