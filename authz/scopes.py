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
    DEPARTMENT = "department"
    """Staff of the caller's own department."""
    DEPARTMENT_TREE = "department_tree"
    """Staff of the caller's own department and of those below it."""
    DEPARTMENTS = "departments"
    """Staff of the departments that the role names; in a reach it stands with its role (`named_by`)."""


Rows = str
"""A scope, or `departments:` and the role that names them."""
Reach = frozenset[Rows]
"""The rows that several lines open together: those of any of its scopes."""

RELATIVE = frozenset({Scope.SELF, Scope.DEPARTMENT, Scope.DEPARTMENT_TREE})
"""Scopes that are other rows for each holder: who holds one has no right to hand it to somebody else."""
_OF_STAFF = (Scope.DEPARTMENT, Scope.DEPARTMENT_TREE)


def named_by(role: str) -> Rows:
    """The departments that a role names."""
    return f"{Scope.DEPARTMENTS}:{role}"


def named_rows(text: str) -> Rows:
    """A scope by its name, or departments with the role that names them. Raises ValueError for anything else."""
    return text if text.startswith(f"{Scope.DEPARTMENTS}:") else Scope(text)


def of_departments(rows: Rows) -> bool:
    """Whether the rows are those of some departments, named or the caller's."""
    return rows in _OF_STAFF or rows.startswith(f"{Scope.DEPARTMENTS}:")


def covers(wide: Rows, rows: Rows) -> bool:
    """Whether every row of `rows` is, by its meaning alone, a row of `wide`.

    A caller's own rows may lie outside the caller's tenant (an end user buys from many), so only ALL covers those.
    A department and its staff belong to the tenant whose role speaks of them.
    """
    if wide in (rows, Scope.ALL):
        return True
    if wide == Scope.DEPARTMENT_TREE:
        return rows == Scope.DEPARTMENT
    if wide == Scope.TENANT:
        return of_departments(rows)
    return wide == Scope.SUBTREE and (rows == Scope.TENANT or of_departments(rows))


def normalise(scopes: Iterable[Rows]) -> Reach:
    """The same rows in the fewest scopes: what a wider scope covers is dropped."""
    named = frozenset(scopes)
    return frozenset(rows for rows in named if not any(wide != rows and covers(wide, rows) for wide in named))


def within(inner: Reach, outer: Reach) -> bool:
    """Whether every row that `inner` reaches is also reached by `outer`."""
    return all(any(covers(wide, rows) for wide in outer) for rows in inner)


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
    Scope.DEPARTMENT: "own department",
    Scope.DEPARTMENT_TREE: "own department and all below",
}


def describe(reach: Reach) -> str:
    """The reach in words, widest scope first, for matrices and messages."""
    told = [words for scope, words in _WORDS.items() if scope in reach]
    if any(rows.startswith(f"{Scope.DEPARTMENTS}:") for rows in reach):
        told.append("chosen departments")
    return " + ".join(told) or "nothing"
