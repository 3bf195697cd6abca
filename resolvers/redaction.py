"""What logs may show: of inputs everything but secrets, of rows what the graph shows of them, masked as it masks.

A column that is no field of the graph, or a confidential one, is told of and not shown: what is new is hidden until a
type declares it.
"""

from __future__ import annotations

import dataclasses
import enum
import typing
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from functools import cache
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Text, cast, literal, select
from sqlalchemy import inspect as inspect_model
from sqlalchemy.ext.asyncio import AsyncSession

from planner.ids import encode_id
from planner.mapping import Entity, Field, Key, camel, registry
from planner.registry import MutationRoot
from services.changes import Change, Changes

SECRET_NAMES = frozenset(
    {
        "password",
        "secret",
        "token",
        "api_key",
        "api_v3_key",
        "private_key",
        "id_number",
        "current",
        "new",
        "refresh_token",
        "login_code",
        "state",
        "one_time_code",
        "verification_code",
        "buyer",
    }
)
"""Arguments and fields of inputs that are never written down: secrets, and people whom nobody could find to erase."""
SHOWN_ONCE = frozenset({"secret", "uri", "recovery_codes"})
"""Fields of payloads that a repeat does not show again."""
REDACTED = "[redacted]"
LONGEST, LONGEST_ARGUMENT = 200, 1_000
"""So many characters of a value are kept, and of a text that a mutation is given."""
MOST_ITEMS = 100
"""So many items of a list that a mutation is given."""


def plain(value: Any, *, redact: bool = False) -> Any:
    """A value as JSON: inputs as objects, rows as their keys, uploads as their names."""
    if isinstance(value, Key):
        return value.id
    if isinstance(value, enum.Enum):
        return value.name
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            f.name: REDACTED if redact and f.name in SECRET_NAMES else plain(getattr(value, f.name), redact=redact)
            for f in dataclasses.fields(value)
        }
    if isinstance(value, list | tuple):
        return [plain(item, redact=redact) for item in (value[:MOST_ITEMS] if redact else value)]
    if isinstance(value, str):
        # a text column could not hold it either, but the log must, to tell of the refusal
        text = value.replace("\x00", "\ufffd")
        return f"{text[:LONGEST_ARGUMENT]}…" if redact and len(text) > LONGEST_ARGUMENT else text
    if value is None or isinstance(value, int | float | bool):
        return value
    if hasattr(value, "filename"):
        return {"file": value.filename, "size": value.size}
    return getattr(value, "id", None) or str(value)


def shown_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {name: REDACTED if name in SECRET_NAMES else plain(value, redact=True) for name, value in arguments.items()}


# -- rows ---------------------------------------------------------------------------------------------------------


async def shown_changes(session: AsyncSession, changes: Changes) -> list[dict[str, Any]]:
    """The changes of a unit of work as the operation log keeps them. Values are masked by the graph's own masks."""
    lines: list[dict[str, Any]] = []
    masked: list[tuple[dict[str, Any], str, ColumnElement[Any]]] = []
    for change in changes.found:
        entity = None if change.model is None else _entity(change.model)
        field = None if entity is None else _field(entity, change)
        line = {
            "type": change.table if entity is None else entity.name,
            "id": None if entity is None or change.key is None else encode_id(entity.prefix, change.key),
            "action": change.action.name,
            "field": None if change.attribute is None else camel(change.attribute) if field is None else field.name,
            "before": _shown(field, change.before),
            "after": _shown(field, change.after),
            "rows": change.rows,
        }
        lines.append(line)
        if field is not None and field.spec.mask is not None:
            masked += [
                (line, side, field.spec.mask(cast(literal(line[side]), Text)))
                for side in ("before", "after")
                if line[side] is not None
            ]
    if masked:
        found = (await session.execute(select(*(mask for _, _, mask in masked)))).one()
        for (line, side, _), value in zip(masked, found, strict=True):
            line[side] = value
    return lines


@cache
def _entity(model: type) -> Entity | None:
    """The type of the graph that shows a model's rows."""
    for each in model.__mro__:
        for entity in registry.entities.values():
            if entity.model is each:
                return entity
    return None


def _field(entity: Entity, change: Change) -> Field | None:
    assert change.model is not None
    if change.attribute is None:
        return None
    column: Any = inspect_model(change.model).columns[change.attribute]
    return next((field for field in entity.fields.values() if field.column is column), None)


def _shown(field: Field | None, value: Any) -> str | None:
    if value is None or isinstance(value, ColumnElement):
        # what the database is to work out is not known here
        return None
    if field is None or field.spec.confidential:
        return REDACTED
    if field.kind == "to_one":
        return encode_id(registry.entities[field.target or ""].prefix, value)
    return _text(value).replace("\x00", "\ufffd")[:LONGEST]


def _text(value: Any) -> str:
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, Mapping | Sequence) and not isinstance(value, str):
        return orjson.dumps(value, default=str).decode()
    return str(value)


# -- mutations ----------------------------------------------------------------------------------------------------

BINDS_LOGINS = frozenset({"unbind_login", "begin_login_binding", "reset_second_factor"})
"""What changes how somebody logs in, without a secret in it."""


@cache
def handles_secrets(root: MutationRoot) -> bool:
    """Whether a mutation takes a secret, gives one, or changes how somebody logs in."""
    hints = typing.get_type_hints(root.function)
    payload = hints.pop("return")
    taken = set(hints)
    for kind in hints.values():
        if dataclasses.is_dataclass(kind):
            taken |= {field.name for field in dataclasses.fields(kind)}
    given = {field.name for field in dataclasses.fields(payload)}
    return bool(taken & SECRET_NAMES or given & SHOWN_ONCE) or root.function.__name__ in BINDS_LOGINS
