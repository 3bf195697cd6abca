"""The parameters of a statement: constants of the document, variables of the request, the caller, cursors.

While a plan is compiled each becomes a SQLAlchemy bind; the compiled statement's order of binds then becomes one
generated function that fills them from a request.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, CompoundSelect, Dialect, Select, Text, bindparam
from sqlalchemy.dialects.postgresql import ARRAY, asyncpg
from sqlalchemy.types import Enum, TypeEngine

from authz.scopes import of_departments
from models.security import ANCESTORS_SETTING, END_USER_SETTING, PATH_SETTING
from planner.errors import bad_input

DIALECT: Dialect = asyncpg.dialect()  # type: ignore[no-untyped-call]

PRINCIPAL_TYPES: dict[str, TypeEngine[Any]] = {
    "path": Text(),
    "path_end": Text(),
    "branch": Text(),
    "tenant_id": BigInteger(),
    "account_id": BigInteger(),
    "api_key_id": BigInteger(),
    "end_user_id": BigInteger(),
    "ancestors": ARRAY(Text()),
}

MAX_LISTED = 1_000


@dataclass(frozen=True)
class Const:
    value: Any


@dataclass(frozen=True)
class Variable:
    name: str
    path: tuple[str | int, ...] = ()

    @property
    def source(self) -> str:
        return f"V[{self.name!r}]" + "".join(f"[{step!r}]" for step in self.path)


Reference = Const | Variable
Conversion = Callable[[Any], Any]


class Parameters:
    """Collects the parameters of one statement."""

    def __init__(self, space: dict[str, Any]) -> None:
        self._sources: dict[str, str] = {}
        self._names: dict[str, str] = {}
        self._prelude: list[str] = []
        self._space = space

    def _bind(self, source: str, kind: TypeEngine[Any]) -> ColumnElement[Any]:
        key = f"{source}|{kind!r}"
        name = self._names.get(key)
        if name is None:
            name = self._names[key] = f"p{len(self._names)}"
            self._sources[name] = source
        return bindparam(name, type_=kind, required=False)

    def _keep(self, value: Any) -> str:
        name = f"c{len(self._space)}"
        self._space[name] = value
        return name

    def principal(self, attribute: str) -> ColumnElement[Any]:
        if of_departments(attribute):
            return self._bind(f"P.departments_in({str(attribute)!r})", ARRAY(BigInteger()))
        return self._bind(f"P.{attribute}", PRINCIPAL_TYPES[attribute])

    def keys(self) -> ColumnElement[Any]:
        """The keys of the parents of a level."""
        return self._bind("K", ARRAY(BigInteger()))

    def value(self, reference: Reference, kind: Any, convert: Conversion | None = None) -> ColumnElement[Any]:
        listed = isinstance(kind, list)
        stored = stored_type(kind[0] if listed else kind)
        column_type: TypeEngine[Any] = ARRAY(stored) if listed else stored
        if convert is None and isinstance(kind[0] if listed else kind, Enum):
            convert = _member_name
        if isinstance(reference, Const):
            value = reference.value
            if convert is not None:
                value = [convert(v) for v in value] if listed else convert(value)
            return self._bind(self._keep(value), column_type)
        source = f"listed({reference.source})" if listed else reference.source
        if convert is not None:
            function = self._keep(convert)
            source = f"[{function}(v) for v in {source}]" if listed else f"{function}({source})"
        return self._bind(source, column_type)

    def cursor(self, reference: Reference, decode: Callable[[str], tuple[int, list[str | None]]]) -> str:
        """Decodes a cursor once for all the binds that read it; gives the name to read from."""
        function = self._keep(decode)
        source = reference.source if isinstance(reference, Variable) else repr(reference.value)
        name = f"cursor{len(self._prelude)}"
        self._prelude.append(f"    {name} = {function}({source})")
        return name

    def cursor_key(self, name: str) -> ColumnElement[Any]:
        return self._bind(f"{name}[0]", BigInteger())

    def cursor_value(self, name: str, index: int) -> ColumnElement[Any]:
        return self._bind(f"{name}[1][{index}]", Text())

    def compile(self, statement: Select[Any] | CompoundSelect[Any], function: str) -> tuple[str, str]:
        """(SQL, source of the function that fills its parameters from K, V and P)."""
        compiled = statement.compile(dialect=DIALECT, compile_kwargs={"render_postcompile": True})
        order: Sequence[str] = compiled.positiontup or ()
        # what is not a parameter of ours is a constant that SQLAlchemy bound by itself
        values = "".join(
            (self._sources[name] if name in self._sources else self._keep(_constant(compiled.params[name]))) + ", "
            for name in order
        )
        body = "\n".join([*self._prelude, f"    return ({values}*P.row_context,)"])
        return _walled(compiled.string, len(order)), f"def {function}(K, V, P):\n{body}\n"


def _walled(sql: str, parameters: int) -> str:
    """A statement that tells row-level security who asks before it reads anything, in the same round trip.

    A statement on its own is a transaction, so what it sets is forgotten with it: a connection has no caller, and a
    statement without this finds nothing. ``OFFSET 0`` keeps the statement apart, and the reference to ``caller``
    lets it begin only when the settings are made.
    """
    settings = ", ".join(
        f"set_config('{setting}', ${parameters + n}, true) AS {name}"
        for n, (setting, name) in enumerate(
            [(PATH_SETTING, "path"), (ANCESTORS_SETTING, "ancestors"), (END_USER_SETTING, "end_user")], start=1
        )
    )
    caller = f"(SELECT {settings}) AS caller"
    return f"""SELECT seen.* FROM {caller} CROSS JOIN LATERAL (SELECT read.* FROM (
{sql}
) AS read WHERE caller.path IS NOT NULL OFFSET 0) AS seen"""  # noqa: S608 - made of statements, not of values


def listed(values: Sequence[Any]) -> Sequence[Any]:
    """A list to be compared with; BAD_USER_INPUT where it is so long that it would be an import."""
    if len(values) > MAX_LISTED:
        raise bad_input("LIST_TOO_LONG", limit=MAX_LISTED)
    return values


def stored_type(kind: Any) -> TypeEngine[Any]:
    """How a value of a column travels to PostgreSQL: enumerations as their names."""
    return Text() if isinstance(kind, Enum) else kind


def _member_name(member: enum.Enum) -> str:
    return member.name


def _constant(value: Any) -> Any:
    return _member_name(value) if isinstance(value, enum.Enum) else value
