"""The second wall: row-level security and the rights of the application's own database role.

Each table's policy is the union of what it declares: the subtree for what a tenant owns, the caller's
ancestors for what they publish, the end user for what is personal. What an end user reaches as the person
concerned stays that person's and its tenant's: a trigger keeps both. The settings are read in scalar sub-selects,
so that PostgreSQL evaluates them once a statement; an unset setting matches nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Table
from sqlalchemy.orm import Mapper

from models import partitions
from models.base import AppendOnly, Base, Personal, Published, TenantOwned
from models.identity import EndUser
from models.tenancy import Tenant

APPLICATION_ROLE = "trellis_app"

PATH_SETTING = "trellis.path"
ANCESTORS_SETTING = "trellis.ancestors"
END_USER_SETTING = "trellis.end_user"


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


def _person_column(model: type) -> str | None:
    """The column that names the end user who reaches a row as its person."""
    if issubclass(model, EndUser):
        return "id"
    return "end_user_id" if issubclass(model, Personal) else None


def _predicate(model: type) -> str:
    if issubclass(model, Tenant):
        return _in_subtree("path")
    if not issubclass(model, TenantOwned):
        raise TypeError(f"{model.__name__} declares no owner: it needs a row-level security policy")
    parts = [_in_subtree("tenant_path")]
    person = _person_column(model)
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


def mapped_tables() -> Iterator[tuple[Mapper[Base], Table]]:
    for mapper in sorted(Base.registry.mappers, key=lambda m: m.class_.__name__):
        if mapper.inherits is None and isinstance(mapper.local_table, Table):
            yield mapper, mapper.local_table


def statements() -> Iterator[str]:
    """The SQL that raises the wall; run by the owner after the tables exist, safe to repeat."""
    yield f"GRANT USAGE ON SCHEMA public TO {APPLICATION_ROLE}"
    yield KEEP_OWNER
    yield from partitions.statements(APPLICATION_ROLE)
    for mapper, table in mapped_tables():
        model = mapper.class_
        name = table.name
        rights = "SELECT, INSERT" if issubclass(model, AppendOnly) else "SELECT, INSERT, UPDATE, DELETE"
        yield f"REVOKE ALL ON {name} FROM {APPLICATION_ROLE}"
        yield f"GRANT {rights} ON {name} TO {APPLICATION_ROLE}"
        yield f"ALTER TABLE {name} ENABLE ROW LEVEL SECURITY"
        yield f"DROP POLICY IF EXISTS {name}_reach ON {name}"
        reach = _predicate(model)
        yield f"CREATE POLICY {name}_reach ON {name} TO {APPLICATION_ROLE} USING ({reach}) WITH CHECK ({reach})"
        person = _person_column(model)
        if person is not None and not issubclass(model, AppendOnly):
            yield _owner_kept(name, person)
        if issubclass(model, Published):
            # for reading only: a policy for all commands would let a tenant remove what those above it publish
            yield f"DROP POLICY IF EXISTS {name}_published ON {name}"
            yield (
                f"CREATE POLICY {name}_published ON {name} FOR SELECT TO {APPLICATION_ROLE} "
                f"USING ({_published_to_me()})"
            )
