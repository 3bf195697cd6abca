"""The first wall: which rows of a model a grant reaches, as SQL in the form that suits the caller's shape.

The form decides the cost of a page by a factor of ten to two hundred: the platform needs no predicate; a caller
just below it needs one equality; deeper callers with many tenants a test inside their branch; callers with few
tenants one index scan per tenant, merged (``planner.pages``).

Rows that are found by something else, a key or a foreign key, are only *checked*, by a prefix test that no index
can be searched by and that the optimiser takes to hold (see ``models.security``), so that it is not led to search by
scope what it could fetch by key.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any, Protocol

from sqlalchemy import ColumnElement, Integer, and_, any_, cast, false, func, literal_column, or_, select, true

from authz.principal import Shape
from authz.scopes import Reach, Rows, Scope, of_departments
from models.base import Personal, Published, TenantOwned, Widespread
from models.identity import (
    ApiKey,
    Department,
    EndUser,
    LoginRecord,
    LoginSession,
    RoleAssignment,
    StaffAccount,
)
from models.notifications import (
    Notification,
    NotificationOptOut,
)
from models.system import (
    OperationRecord,
    Task,
    TaskRefusal,
)
from models.tenancy import Tenant


class Columns(Protocol):
    """A table, or a row's alias that stands for it."""

    @property
    def c(self) -> Any: ...


class Use(enum.Enum):
    """What a predicate is for: the optimiser is shown no more than it should search by."""

    CHECK = "CHECK"
    """The rows are found by a key."""
    PAGE = "PAGE"
    """The rows are found in the order of a page."""
    ALL = "ALL"
    """All of the rows are wanted, as in a count."""


PrincipalBind = Callable[[str], ColumnElement[Any]]
"""Gives the parameter for an attribute of the principal: ``path``, ``branch``, ``tenant_id`` …; or for departments,
by the rows that a reach names."""


def path_column(model: type, table: Columns) -> ColumnElement[str]:
    column: ColumnElement[str] = table.c.path if issubclass(model, Tenant) else table.c.tenant_path
    return column


def _subtree(model: type, table: Columns, shape: Shape, bind: PrincipalBind, use: Use) -> ColumnElement[bool]:
    if shape is Shape.ROOT:
        return true()
    if shape is Shape.OUTSIDE:
        return false()
    path = path_column(model, table)
    within = cast(func.starts_with(path, bind("path")), Integer) != literal_column("0")
    if use is Use.CHECK:
        return within
    inside = and_(path >= bind("path"), path < bind("path_end"))
    if issubclass(model, Widespread):
        branch: ColumnElement[bool] = table.c.tenant_branch == bind("branch")
        if shape is Shape.BRANCH:
            return branch
        if shape is Shape.WIDE:
            return and_(branch, within if use is Use.PAGE else inside)
    return inside


def _own(model: type, table: Columns, bind: PrincipalBind) -> ColumnElement[bool]:
    owns: list[ColumnElement[bool]] = []
    if issubclass(model, Personal):
        owns.append(table.c.end_user_id == bind("end_user_id"))
    if issubclass(model, EndUser):
        owns.append(table.c.id == bind("end_user_id"))
    if issubclass(model, StaffAccount):
        owns.append(table.c.id == bind("account_id"))
    if issubclass(model, ApiKey):
        owns.append(table.c.id == bind("api_key_id"))
    if issubclass(model, LoginSession | LoginRecord | OperationRecord | Notification | NotificationOptOut):
        owns.append(table.c.account_id == bind("account_id"))
    if issubclass(model, Task):
        owns.append(_started(table, bind))
    if issubclass(model, TaskRefusal):
        task = Task.__table__.alias("started")
        owns.append(table.c.task_id.in_(select(task.c.id).where(_started(task, bind))))
    return or_(false(), *owns)


def _started(task: Columns, bind: PrincipalBind) -> ColumnElement[bool]:
    return or_(task.c.account_id == bind("account_id"), task.c.api_key_id == bind("api_key_id"))


def _of_departments(model: type, table: Columns, rows: Rows, bind: PrincipalBind) -> ColumnElement[bool]:
    """Departments, their staff, and what belongs to a member of staff; nothing else has a department."""
    departments = bind(rows)
    if issubclass(model, Department):
        found: ColumnElement[bool] = table.c.id == any_(departments)
        return found
    if issubclass(model, StaffAccount):
        member: ColumnElement[bool] = table.c.department_id == any_(departments)
        return member
    if issubclass(model, RoleAssignment | LoginSession | LoginRecord | OperationRecord):
        staff = StaffAccount.__table__.alias("staff")
        theirs: ColumnElement[bool] = table.c.account_id.in_(
            select(staff.c.id).where(staff.c.department_id == any_(departments))
        )
        return theirs
    return false()


def predicate(
    model: type, table: Columns, reach: Reach, shape: Shape, bind: PrincipalBind, use: Use
) -> ColumnElement[bool]:
    """The rows of ``table`` that ``reach`` opens to the caller; no scope opens no row."""
    if not issubclass(model, TenantOwned | Tenant):
        raise TypeError(f"{model.__name__} has no owner and cannot stand in the graph")
    opened: list[ColumnElement[bool]] = []
    for scope in sorted(reach):
        if scope == Scope.ALL:
            return true()
        if scope == Scope.SUBTREE:
            opened.append(_subtree(model, table, shape, bind, use))
        elif scope == Scope.TENANT:
            column = table.c.id if issubclass(model, Tenant) else table.c.tenant_id
            opened.append(column == bind("tenant_id"))
        elif scope == Scope.ANCESTORS and issubclass(model, Published):
            opened.append(table.c.tenant_path == any_(bind("ancestors")))
        elif scope == Scope.SELF:
            opened.append(_own(model, table, bind))
        elif of_departments(scope):
            inside = _subtree(model, table, shape, bind, Use.CHECK)
            opened.append(and_(inside, _of_departments(model, table, scope, bind)))
    return or_(false(), *opened)


def is_whole_subtree(reach: Reach) -> bool:
    """Whether the reach is nothing but the subtree, so that a page may be merged from its tenants."""
    return reach == frozenset({Scope.SUBTREE})
