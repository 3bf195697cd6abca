"""The second wall: row-level security and the rights of the application's own database role.

Each table's policy is the union of what it declares: the subtree for what a tenant owns, the caller's
ancestors for what they publish, the end user for what is personal. What is entrusted to the system is written by
whoever may write for the owner, and read by the system alone. What an end user reaches as the person concerned
stays that person's and its tenant's: a trigger keeps both. Another lets history lose personal data and nothing
else. The settings are read in scalar sub-selects, so that PostgreSQL evaluates them once a statement; an unset
setting matches nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
from sqlalchemy import Table
from sqlalchemy.orm import Mapper

from models import partitions
from models.base import ERASED, AppendOnly, Base, Entrusted, Personal, Published, TenantOwned
from models.identity import EndUser
from models.tenancy import Tenant

APPLICATION_ROLE = "trellis_app"

PATH_SETTING = "trellis.path"
ANCESTORS_SETTING = "trellis.ancestors"
END_USER_SETTING = "trellis.end_user"

PLATFORM_PATH = ".0001."
"""Where the system's own work stands."""


def _setting(name: str) -> str:
    return f"nullif(current_setting('{name}', true), '')"


def _in_subtree(column: str) -> str:
    # Not a range, which an index would be searched by, but a test; and one that the optimiser takes to hold for
    # nearly every row (a number that differs from zero). The wall must neither decide how rows are found nor
    # make a page look empty: both are the first wall's business.
    return f"starts_with({column}, (SELECT {_setting(PATH_SETTING)}))::int <> 0"


def _published_to_me() -> str:
    return f"tenant_path = ANY ((SELECT string_to_array({_setting(ANCESTORS_SETTING)}, ','))::text[])"


def _mine(column: str) -> str:
    return f"{column} = (SELECT {_setting(END_USER_SETTING)}::bigint)"


def _serves_me() -> str:
    home = f"substring({_setting(ANCESTORS_SETTING)} FROM '[^,]*$')"
    return f"((SELECT {_setting(END_USER_SETTING)}) IS NOT NULL AND tenant_path = (SELECT {home}))"


def person_column(model: type) -> str | None:
    """The column that names the end user who reaches a row as its person."""
    if issubclass(model, EndUser):
        return "id"
    return "end_user_id" if issubclass(model, Personal) else None


def _predicate(model: type) -> str:
    if issubclass(model, Tenant):
        return _in_subtree("path")
    if not issubclass(model, TenantOwned):
        raise TypeError(f"{model.__name__} declares no owner: it needs a row-level security policy")
    if issubclass(model, Entrusted):
        return f"(SELECT {_setting(PATH_SETTING)}) = '{PLATFORM_PATH}'"
    parts = [_in_subtree("tenant_path")]
    person = person_column(model)
    if person is not None:
        parts.append(_mine(person))
    return " OR ".join(parts)


KEEP_OWNER = """CREATE OR REPLACE FUNCTION keep_owner() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'an end user may not give a row of % away', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
END $$"""
"""What a policy cannot say, since it does not see the row as it was: whose row it is stays as it is."""


def _owner_kept(table: str, person: str) -> str:
    moved = " OR ".join(
        f"OLD.{column} IS DISTINCT FROM NEW.{column}" for column in ("tenant_id", "tenant_path", person)
    )
    return (
        f"CREATE OR REPLACE TRIGGER {table}_owner BEFORE UPDATE ON {table} FOR EACH ROW "
        f"WHEN ({_setting(END_USER_SETTING)} IS NOT NULL AND ({moved})) EXECUTE FUNCTION keep_owner()"
    )


KEEP_HISTORY = """CREATE OR REPLACE FUNCTION keep_history() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'of %, personal data can be erased and nothing changed', TG_TABLE_NAME
        USING ERRCODE = 'insufficient_privilege';
END $$"""


def erased_columns(table: Table) -> dict[str, Any]:
    """The columns that hold personal data, and what stands in them once it has been erased."""
    return {column.name: column.info[ERASED] for column in table.columns if ERASED in column.info}


def _literal(value: Any) -> str:
    if value is None:
        return "NULL"
    return f"'{value}'" if isinstance(value, str) else f"'{orjson.dumps(value).decode()}'::jsonb"


def _history_kept(table: str, erased: dict[str, Any]) -> str:
    changed = " OR ".join(
        f"(OLD.{name} IS DISTINCT FROM NEW.{name} AND NEW.{name} IS DISTINCT FROM {_literal(value)})"
        for name, value in erased.items()
    )
    return (
        f"CREATE OR REPLACE TRIGGER {table}_history BEFORE UPDATE ON {table} FOR EACH ROW "
        f"WHEN (current_user = '{APPLICATION_ROLE}' AND ({changed})) EXECUTE FUNCTION keep_history()"
    )


def mapped_tables() -> Iterator[tuple[Mapper[Base], Table]]:
    for mapper in sorted(Base.registry.mappers, key=lambda m: m.class_.__name__):
        if mapper.inherits is None and isinstance(mapper.local_table, Table):
            yield mapper, mapper.local_table


def statements() -> Iterator[str]:
    """The SQL that raises the wall; run by the owner after the tables exist, safe to repeat."""
    yield f"GRANT USAGE ON SCHEMA public TO {APPLICATION_ROLE}"
    yield KEEP_OWNER
    yield from partitions.statements(APPLICATION_ROLE)
    yield KEEP_HISTORY
    for mapper, table in mapped_tables():
        model = mapper.class_
        name = table.name
        rights = "SELECT, INSERT" if issubclass(model, AppendOnly) else "SELECT, INSERT, UPDATE, DELETE"
        yield f"REVOKE ALL ON {name} FROM {APPLICATION_ROLE}"
        yield f"GRANT {rights} ON {name} TO {APPLICATION_ROLE}"
        if issubclass(model, AppendOnly) and model.__changeable__:
            yield f"GRANT UPDATE ({', '.join(model.__changeable__)}) ON {name} TO {APPLICATION_ROLE}"
        yield f"ALTER TABLE {name} ENABLE ROW LEVEL SECURITY"
        yield f"DROP POLICY IF EXISTS {name}_reach ON {name}"
        reach = _predicate(model)
        yield f"CREATE POLICY {name}_reach ON {name} TO {APPLICATION_ROLE} USING ({reach}) WITH CHECK ({reach})"
        person = person_column(model)
        if person is not None and not issubclass(model, AppendOnly):
            yield _owner_kept(name, person)
        erased = erased_columns(table)
        if issubclass(model, AppendOnly) and erased:
            yield f"GRANT UPDATE ({', '.join(erased)}) ON {name} TO {APPLICATION_ROLE}"
            yield _history_kept(name, erased)
        if issubclass(model, Entrusted):
            yield f"DROP POLICY IF EXISTS {name}_written ON {name}"
            yield (
                f"CREATE POLICY {name}_written ON {name} FOR INSERT TO {APPLICATION_ROLE} "
                f"WITH CHECK ({_in_subtree('tenant_path')} OR {_serves_me()})"
            )
        yield from model.__guards__
        if issubclass(model, Published):
            # for reading only: a policy for all commands would let a tenant remove what those above it publish
            yield f"DROP POLICY IF EXISTS {name}_published ON {name}"
            yield (
                f"CREATE POLICY {name}_published ON {name} FOR SELECT TO {APPLICATION_ROLE} "
                f"USING ({_published_to_me()})"
            )
