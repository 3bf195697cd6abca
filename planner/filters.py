"""Filter and order inputs, declared by naming fields: ``filters=("status",)`` gives ``SimCardFilter.status``.

Each filterable field takes a comparison input of its type; conditions inside one object are all required,
``and``, ``or`` and ``not`` combine objects. What belongs to a tenant is also found ``under`` one: its own and
that of all below it. Which comparisons occur is part of a plan; their values are bound.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Optional

import strawberry
from sqlalchemy import ColumnElement, Text, any_, cast, not_, select

from models.tenancy import Tenant, TenantClosure
from planner.mapping import Entity

Bind = Callable[[Any, Any], ColumnElement[Any]]


@strawberry.enum(description="The direction of an order.")
class Direction(enum.Enum):
    ASC = "ASC"
    DESC = "DESC"


OPERATORS: dict[str, tuple[str, ...]] = {
    "ID": ("eq", "in", "isNull"),
    "Tenant": ("eq", "in", "isNull", "under"),
    "String": ("eq", "ne", "in", "startsWith", "contains", "isNull"),
    "Int": ("eq", "ne", "in", "lt", "lte", "gt", "gte", "isNull"),
    "Decimal": ("eq", "lt", "lte", "gt", "gte", "isNull"),
    "DateTime": ("eq", "lt", "lte", "gt", "gte", "isNull"),
    "Date": ("eq", "lt", "lte", "gt", "gte", "isNull"),
    "Boolean": ("eq",),
    "Enum": ("eq", "ne", "in"),
}
_LISTS = {"in"}
_NAMES: dict[Any, str] = {
    str: "String",
    int: "Int",
    Decimal: "Decimal",
    datetime: "DateTime",
    date: "Date",
    bool: "Boolean",
}

_comparisons: dict[str, type] = {}


class TenantId:
    """The leaf of whatever is compared by the id of a tenant: of that tenant, or of one whose branch it lies in."""


def leaf_of(entity: Entity, name: str, leaf: Any, target: Entity | None) -> Any:
    """The leaf type by which a field is compared."""
    compared = entity if name == "id" else target
    return TenantId if compared is not None and issubclass(compared.model, Tenant) else leaf


def comparison(leaf: Any) -> type:
    """The comparison input for a leaf type: ``StringComparison``, ``SimStatusComparison`` …"""
    if leaf is TenantId:
        family, name, leaf = "Tenant", "Tenant", strawberry.ID
    elif leaf is strawberry.ID:
        family, name = "ID", "ID"
    elif isinstance(leaf, type) and issubclass(leaf, enum.Enum):
        family, name = "Enum", leaf.__name__
    else:
        family = name = _NAMES[leaf]
    if name not in _comparisons:
        annotations: dict[str, Any] = {}
        defaults: dict[str, Any] = {}
        for operator in OPERATORS[family]:
            python_name = {"in": "in_", "isNull": "is_null"}.get(operator, operator)
            of = list[leaf] if operator in _LISTS else bool if operator == "isNull" else leaf
            annotations[python_name] = Optional[of]
            defaults[python_name] = strawberry.field(name=operator, default=strawberry.UNSET)
        made = type(f"{name}Comparison", (), {"__annotations__": annotations, **defaults})
        _comparisons[name] = strawberry.input(made, description=f"Conditions on a value of type {name}.")
    return _comparisons[name]


def filter_input(entity: Entity, leaf_of: Callable[[str], Any]) -> type:
    """``SimCardFilter``: one comparison per filterable field."""
    annotations: dict[str, Any] = {}
    defaults: dict[str, Any] = {}
    for name in entity.filters:
        annotations[name] = Optional[comparison(leaf_of(name))]
        defaults[name] = strawberry.field(default=strawberry.UNSET)
    made = type(f"{entity.name}Filter", (), {})
    for name, of in (("and_", list[made]), ("or_", list[made]), ("not_", made)):  # type: ignore[valid-type]
        annotations[name] = Optional[of]
        defaults[name] = strawberry.field(name=name.rstrip("_"), default=strawberry.UNSET)
    made.__annotations__ = annotations
    for name, default in defaults.items():
        setattr(made, name, default)
    return strawberry.input(made, description=f"Which rows of {entity.name} to list.")


def order_input(entity: Entity) -> type:
    """``SimCardOrder``: a sortable field and a direction."""
    members = {name.upper(): name for name in ("id", *entity.sorts)}
    by: Any = enum.Enum(f"{entity.name}OrderField", members)  # type: ignore[misc]
    strawberry.enum(by, description=f"What {entity.name} can be sorted by.")
    made = type(
        f"{entity.name}Order",
        (),
        {
            "__annotations__": {"field": by, "direction": Direction},
            "field": strawberry.field(),
            "direction": strawberry.field(default=Direction.ASC),
        },
    )
    return strawberry.input(made, description=f"An order of {entity.name}; ties are broken by id.")


def _escape_like(column: ColumnElement[str]) -> ColumnElement[str]:
    from sqlalchemy import func

    return func.replace(func.replace(func.replace(column, "\\", "\\\\"), "%", "\\%"), "_", "\\_")


def condition(operator: str, column: ColumnElement[Any], value: Any, bind: Bind) -> ColumnElement[bool]:
    """One comparison as SQL. ``value`` is a reference that ``bind`` turns into a parameter."""
    if operator == "eq":
        return column == bind(value, column.type)
    if operator == "ne":
        return column.is_distinct_from(bind(value, column.type))
    if operator == "in":
        return column == any_(bind(value, [column.type]))
    if operator == "lt":
        return column < bind(value, column.type)
    if operator == "lte":
        return column <= bind(value, column.type)
    if operator == "gt":
        return column > bind(value, column.type)
    if operator == "gte":
        return column >= bind(value, column.type)
    if operator == "startsWith":
        return cast(column, Text).like(_escape_like(bind(value, Text())) + "%")
    if operator == "under":
        return column.in_(
            select(TenantClosure.tenant_id)
            .join(Tenant, Tenant.id == TenantClosure.ancestor_id)
            .where(Tenant.id == bind(value, column.type))
        )
    if operator == "contains":
        return cast(column, Text).ilike("%" + _escape_like(bind(value, Text())) + "%")
    raise AssertionError(operator)


def null_condition(column: ColumnElement[Any], wanted: bool) -> ColumnElement[bool]:
    return column.is_(None) if wanted else not_(column.is_(None))
