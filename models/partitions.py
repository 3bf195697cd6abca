"""Tables in partitions of a month or a day: what makes a partition, and what drops those that are past their time.

Partitions stand in a schema of their own, which nobody but their owner enters: rows are reached through the table, and
so through its wall. The application's role owns nothing; two functions of the owner's do for it what only an owner
can, and check what they are asked.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Table

from models.base import Base, Partitioned, table_of

SCHEMA = "partitions"

_CHECKED = """
    IF nullif(current_setting('trellis.path', true), '') IS DISTINCT FROM '.0001.' THEN
        RAISE EXCEPTION 'partitions are the platform''s' USING ERRCODE = 'insufficient_privilege';
    END IF;
    IF NOT EXISTS (
        SELECT FROM pg_class c JOIN pg_partitioned_table p ON p.partrelid = c.oid
        WHERE c.relname = parent AND c.relnamespace = 'public'::regnamespace AND p.partstrat = 'r'
            AND pg_get_userbyid(c.relowner) = current_user
    ) THEN
        RAISE EXCEPTION '% is no table in partitions', parent USING ERRCODE = 'invalid_parameter_value';
    END IF;
    """

_ALONE = "PERFORM pg_advisory_xact_lock(hashtextextended('partitions of ' || parent, 0));"

_HARDENED = """LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET lock_timeout = '5s'"""

MAKE = f"""CREATE OR REPLACE FUNCTION public.make_partition(parent text, day date, period text DEFAULT 'month')
RETURNS boolean {_HARDENED} AS $$
DECLARE
    since timestamptz := date_trunc(period, day);
    until timestamptz := since + ('1 ' || period)::interval;
    made text := parent || to_char(since, CASE period WHEN 'day' THEN '_YYYY_MM_DD' ELSE '_YYYY_MM' END);
    stray boolean;
    held text;
BEGIN{_CHECKED}
    IF since IS NULL OR since > now() + interval '24 months' OR since < now() - interval '10 years' THEN
        RAISE EXCEPTION 'no partition is made for %', day USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF to_regclass(format('{SCHEMA}.%I', made)) IS NOT NULL THEN
        RETURN false;
    END IF;
    {_ALONE}
    IF to_regclass(format('{SCHEMA}.%I', made)) IS NOT NULL THEN
        RETURN false;
    END IF;
    EXECUTE format('SELECT EXISTS (SELECT FROM {SCHEMA}.%I WHERE at >= $1 AND at < $2)', parent || '_default')
        INTO stray USING since, until;
    IF stray THEN
        EXECUTE format('ALTER TABLE public.%I DETACH PARTITION {SCHEMA}.%I', parent, parent || '_default');
    END IF;
    EXECUTE format(
        'CREATE TABLE {SCHEMA}.%I PARTITION OF public.%I FOR VALUES FROM (%L) TO (%L)', made, parent, since, until
    );
    EXECUTE format('ALTER TABLE {SCHEMA}.%I ENABLE ROW LEVEL SECURITY', made);
    IF stray THEN
        SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) INTO held FROM pg_attribute
        WHERE attrelid = format('public.%I', parent)::regclass AND attnum > 0 AND NOT attisdropped
            AND attgenerated = '';
        EXECUTE format(
            'WITH stray AS (DELETE FROM {SCHEMA}.%1$I WHERE at >= $1 AND at < $2 RETURNING %2$s) '
            'INSERT INTO public.%3$I (%2$s) SELECT %2$s FROM stray',
            parent || '_default', held, parent
        ) USING since, until;
        EXECUTE format('ALTER TABLE public.%I ATTACH PARTITION {SCHEMA}.%I DEFAULT', parent, parent || '_default');
    END IF;
    RETURN true;
END $$"""  # noqa: S608 - nothing in it is given by anybody
"""Makes the partition of a month or a day, and tells whether it had to be made. Rows of that time that nobody was ready
for are fetched from the default partition."""

DROP = f"""CREATE OR REPLACE FUNCTION public.drop_partitions(parent text, before date, period text DEFAULT 'month')
RETURNS integer {_HARDENED} AS $$
DECLARE
    past text;
    dropped integer := 0;
    pattern text := CASE period WHEN 'day' THEN '_[0-9]{{4}}_[0-9]{{2}}_[0-9]{{2}}' ELSE '_[0-9]{{4}}_[0-9]{{2}}' END;
BEGIN{_CHECKED}
    IF before IS NULL OR before > date_trunc(period, now()) - ('1 ' || period)::interval THEN
        RAISE EXCEPTION 'what is younger than a % is kept', period USING ERRCODE = 'invalid_parameter_value';
    END IF;
    {_ALONE}
    FOR past IN
        SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = format('public.%I', parent)::regclass AND c.relnamespace = '{SCHEMA}'::regnamespace
            AND c.relname ~ ('^' || parent || pattern || '$')
            AND to_date(substr(c.relname, length(parent) + 2), 'YYYY_MM_DD') + ('1 ' || period)::interval <= before
        ORDER BY c.relname
    LOOP
        EXECUTE format('DROP TABLE {SCHEMA}.%I', past);
        dropped := dropped + 1;
    END LOOP;
    RETURN dropped;
END $$"""  # noqa: S608 - nothing in it is given by anybody
"""Drops the partitions that ended before a day, and tells how many. At least the last whole month, or
day, always stays."""


def partitioned() -> list[tuple[type[Any], Table]]:
    """The models whose tables stand in partitions, by name."""
    found: list[type[Any]] = [m.class_ for m in Base.registry.mappers if issubclass(m.class_, Partitioned)]
    return [(model, table_of(model)) for model in sorted(found, key=lambda model: model.__name__)]


def statements(role: str) -> Iterator[str]:
    """The SQL that a role keeps partitions by; run by the owner after the tables exist, safe to repeat."""
    yield f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"
    yield f"REVOKE ALL ON SCHEMA {SCHEMA} FROM PUBLIC, {role}"
    for function, name in ((MAKE, "make_partition"), (DROP, "drop_partitions")):
        signature = f"{name}(text, date, text)"
        yield f"DROP FUNCTION IF EXISTS public.{name}(text, date)"
        yield function
        yield f"REVOKE ALL ON FUNCTION public.{signature} FROM PUBLIC"
        yield f"GRANT EXECUTE ON FUNCTION public.{signature} TO {role}"
    for _, table in partitioned():
        default = f"{SCHEMA}.{table.name}_default"
        yield f"CREATE TABLE IF NOT EXISTS {default} PARTITION OF {table.name} DEFAULT"
        yield f"ALTER TABLE {default} ENABLE ROW LEVEL SECURITY"
