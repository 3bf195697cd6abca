"""Filters as SQL."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import (
    ColumnElement,
    and_,
    false,
    not_,
    or_,
    true,
)

from planner import filters
from planner.compile.authorisation import Authorised
from planner.errors import GraphRefusal, bad_input
from planner.ids import decode_id
from planner.mapping import Entity
from planner.parameters import Parameters

MAX_CONDITIONS = 200
WHOLE_VALUE_OPERATORS = frozenset({"eq", "in", "isNull"})


class Conditions(Authorised):
    def conditions(
        self, entity: Entity, tree: Any, parameters: Parameters, path: tuple[str, ...]
    ) -> list[ColumnElement[bool]]:
        found: list[ColumnElement[bool]] = []
        self.compared += 1
        if self.compared > MAX_CONDITIONS:
            raise self.beyond("TOO_MANY_CONDITIONS", limit=MAX_CONDITIONS)
        for name, inside in (tree or {}).items():
            if inside is None:
                raise bad_input("FILTER_NULL", path=path, name=name)
            if name == "and":
                found += [and_(true(), *self.conditions(entity, each, parameters, path)) for each in inside]
            elif name == "or":
                found.append(
                    or_(
                        false(),
                        *(and_(true(), *self.conditions(entity, e, parameters, path)) for e in inside),
                    )
                )
            elif name == "not":
                found.append(not_(and_(true(), *self.conditions(entity, inside, parameters, path))).is_not(False))
            else:
                found.append(self.condition(entity, name, inside, parameters, path))
        return found

    def condition(
        self,
        entity: Entity,
        name: str,
        comparison: Mapping[str, Any],
        parameters: Parameters,
        path: tuple[str, ...],
    ) -> ColumnElement[bool]:
        """All comparisons of one field. A to-one is compared by the id of its target."""
        self.compared += 1
        self.authorise_use(entity, name, path)
        declared = entity.fields.get(name)
        convert = None
        if name == "id":
            column: ColumnElement[Any] = entity.table.c.id
            convert = id_converter(entity)
        else:
            assert declared is not None
            assert declared.column is not None
            column = declared.column
            if declared.kind == "to_one":
                convert = id_converter(self.registry.entities[declared.target or ""])
        parts: list[ColumnElement[bool]] = []
        for operator, reference in comparison.items():
            if reference is None:
                raise bad_input("COMPARISON_NULL", path=path, name=name, operator=operator)
            if (
                declared is not None
                and declared.spec.mask is not None
                and operator not in WHOLE_VALUE_OPERATORS
                and not self.unmasked(entity, declared)
            ):
                # a part of a masked value would give it away digit by digit
                raise GraphRefusal("FORBIDDEN", "WHOLE_VALUE_ONLY", path=path, name=name)
            if operator == "isNull":
                parts.append(filters.null_condition(column, bool(self.arguments.value(reference))))
            else:
                parts.append(
                    filters.condition(operator, column, reference, lambda r, k: parameters.value(r, k, convert))
                )
        return and_(true(), *parts)


def id_converter(entity: Entity) -> Callable[[str], int]:
    """From a global id to the key of this entity's table; another type's id is BAD_USER_INPUT."""

    def convert(text: str) -> int:
        found = decode_id(text)
        if found is None or found[0] != entity.prefix:
            raise bad_input("WRONG_ID", value=repr(text[:40]), type=entity.name)
        return found[1]

    return convert
