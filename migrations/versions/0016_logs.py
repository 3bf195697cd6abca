"""Logs in monthly partitions, with who really acted and what was changed; sessions of the platform's staff as others."""

from alembic import op

revision = "0016_logs"
down_revision = "0015_tasks"
branch_labels = None
depends_on = None

REACH = (
    "starts_with(tenant_path, (SELECT nullif(current_setting('trellis.path', true), '')))::int <> 0 "
    "OR end_user_id = (SELECT nullif(current_setting('trellis.end_user', true), '')::bigint)"
)

CHECKED = """
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
    PERFORM pg_advisory_xact_lock(hashtextextended('partitions of ' || parent, 0));"""

HARDENED = """LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET lock_timeout = '5s'"""

MAKE = f"""CREATE OR REPLACE FUNCTION public.make_partition(parent text, month date) RETURNS boolean {HARDENED} AS $$
DECLARE
    since timestamptz := date_trunc('month', month);
    until timestamptz := since + interval '1 month';
    made text := parent || to_char(since, '_YYYY_MM');
    stray boolean;
    held text;
BEGIN{CHECKED}
    IF since IS NULL OR since > now() + interval '24 months' OR since < now() - interval '10 years' THEN
        RAISE EXCEPTION 'no partition is made for %', month USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF to_regclass(format('partitions.%I', made)) IS NOT NULL THEN
        RETURN false;
    END IF;
    EXECUTE format('SELECT EXISTS (SELECT FROM partitions.%I WHERE at >= $1 AND at < $2)', parent || '_default')
        INTO stray USING since, until;
    IF stray THEN
        EXECUTE format('ALTER TABLE public.%I DETACH PARTITION partitions.%I', parent, parent || '_default');
    END IF;
    EXECUTE format(
        'CREATE TABLE partitions.%I PARTITION OF public.%I FOR VALUES FROM (%L) TO (%L)', made, parent, since, until
    );
    EXECUTE format('ALTER TABLE partitions.%I ENABLE ROW LEVEL SECURITY', made);
    IF stray THEN
        SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) INTO held FROM pg_attribute
        WHERE attrelid = format('public.%I', parent)::regclass AND attnum > 0 AND NOT attisdropped
            AND attgenerated = '';
        EXECUTE format(
            'WITH stray AS (DELETE FROM partitions.%1$I WHERE at >= $1 AND at < $2 RETURNING %2$s) '
            'INSERT INTO public.%3$I (%2$s) SELECT %2$s FROM stray',
            parent || '_default', held, parent
        ) USING since, until;
        EXECUTE format('ALTER TABLE public.%I ATTACH PARTITION partitions.%I DEFAULT', parent, parent || '_default');
    END IF;
    RETURN true;
END $$"""

DROP = f"""CREATE OR REPLACE FUNCTION public.drop_partitions(parent text, before date) RETURNS integer {HARDENED} AS $$
DECLARE
    past text;
    dropped integer := 0;
BEGIN{CHECKED}
    IF before IS NULL OR before > date_trunc('month', now()) - interval '1 month' THEN
        RAISE EXCEPTION 'what is younger than a month is kept' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    FOR past IN
        SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = format('public.%I', parent)::regclass AND c.relnamespace = 'partitions'::regnamespace
            AND c.relname ~ ('^' || parent || '_[0-9]{{4}}_[0-9]{{2}}$')
            AND to_date(right(c.relname, 7), 'YYYY_MM') + interval '1 month' <= before
        ORDER BY c.relname
    LOOP
        EXECUTE format('DROP TABLE partitions.%I', past);
        dropped := dropped + 1;
    END LOOP;
    RETURN dropped;
END $$"""

SESSIONS = [
    r"""
    ALTER TABLE login_session
        ADD COLUMN real_account_id BIGINT,
        ADD COLUMN real_session_key UUID,
        ADD COLUMN reason TEXT,
        ADD COLUMN may_write BOOLEAN,
        ADD CONSTRAINT fk_login_session_real_account_id
            FOREIGN KEY(real_account_id) REFERENCES staff_account (id) ON DELETE CASCADE,
        ADD CONSTRAINT ck_login_session_impersonated_wholly
            CHECK (num_nonnulls(real_account_id, real_session_key, reason, may_write) IN (0, 4))
    """,
    "CREATE INDEX ix_login_session_real_account_id ON login_session (real_account_id)",
]

FUNCTIONS = [
    "CREATE SCHEMA partitions",
    "REVOKE ALL ON SCHEMA partitions FROM PUBLIC, trellis_app",
    MAKE,
    "REVOKE ALL ON FUNCTION public.make_partition(text, date) FROM PUBLIC",
    "GRANT EXECUTE ON FUNCTION public.make_partition(text, date) TO trellis_app",
    DROP,
    "REVOKE ALL ON FUNCTION public.drop_partitions(text, date) FROM PUBLIC",
    "GRANT EXECUTE ON FUNCTION public.drop_partitions(text, date) TO trellis_app",
]

TABLES = [
    # with their indexes and constraints, whose names the new tables take
    "ALTER TABLE login_record SET SCHEMA partitions",
    "ALTER TABLE operation_record SET SCHEMA partitions",
    r"""
    CREATE TABLE login_record (
        login TEXT NOT NULL,
        account_id BIGINT,
        real_account_id BIGINT,
        reason TEXT,
        door TEXT NOT NULL,
        method VARCHAR(40) NOT NULL,
        outcome VARCHAR(40) NOT NULL,
        ip TEXT,
        user_agent TEXT,
        end_user_id BIGINT,
        at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        tenant_id BIGINT NOT NULL,
        tenant_path TEXT COLLATE "C" NOT NULL,
        id BIGINT GENERATED BY DEFAULT AS IDENTITY,
        CONSTRAINT pk_login_record PRIMARY KEY (id, at),
        CONSTRAINT fk_login_record_tenant FOREIGN KEY(tenant_id) REFERENCES tenant (id),
        CONSTRAINT fk_login_record_end_user_id FOREIGN KEY(end_user_id) REFERENCES end_user (id),
        CONSTRAINT ck_login_record_loginmethod CHECK (method IN ('PASSWORD', 'API_KEY', 'EMAIL_CODE', 'SMS_CODE', 'WECHAT_OFFICIAL_ACCOUNT', 'WECHAT_MINI_PROGRAM', 'GITEE', 'IMPERSONATION')),
        CONSTRAINT ck_login_record_loginoutcome CHECK (outcome IN ('SUCCEEDED', 'WRONG_CREDENTIALS', 'LOCKED', 'DISABLED', 'WRONG_DOOR', 'WRONG_ADDRESS', 'SECOND_FACTOR'))
    ) PARTITION BY RANGE (at)
    """,
    "CREATE INDEX ix_login_record_account_id_at ON login_record (account_id, at)",
    r"""
    CREATE TABLE operation_record (
        request_id TEXT NOT NULL,
        door TEXT NOT NULL,
        account_id BIGINT,
        real_account_id BIGINT,
        reason TEXT,
        api_key_id BIGINT,
        mutation TEXT NOT NULL,
        arguments JSONB NOT NULL,
        changes JSONB DEFAULT '[]' NOT NULL,
        changes_cut BOOLEAN DEFAULT false NOT NULL,
        outcome TEXT NOT NULL,
        duration_ms BIGINT NOT NULL,
        ip TEXT,
        end_user_id BIGINT,
        at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        tenant_id BIGINT NOT NULL,
        tenant_path TEXT COLLATE "C" NOT NULL,
        id BIGINT GENERATED BY DEFAULT AS IDENTITY,
        CONSTRAINT pk_operation_record PRIMARY KEY (id, at),
        CONSTRAINT fk_operation_record_tenant FOREIGN KEY(tenant_id) REFERENCES tenant (id),
        CONSTRAINT fk_operation_record_end_user_id FOREIGN KEY(end_user_id) REFERENCES end_user (id)
    ) PARTITION BY RANGE (at)
    """,
    "CREATE INDEX ix_operation_record_account_id_at ON operation_record (account_id, at)",
    "CREATE INDEX ix_operation_record_mutation_at ON operation_record (mutation, at)",
    *(
        f"CREATE INDEX ix_{table}_{columns.replace(', ', '_')} ON {table} ({columns})"
        for table in ("login_record", "operation_record")
        for columns in ("at", "end_user_id", "tenant_id, id", "tenant_path")
    ),
]

MONTHS_AHEAD = 3


def _columns(table: str) -> str:
    own = {
        "login_record": "login, account_id, door, method, outcome, user_agent",
        "operation_record": "request_id, door, account_id, api_key_id, mutation, arguments, outcome, duration_ms",
    }
    return f"id, at, tenant_id, tenant_path, end_user_id, {own[table]}"


def _filled(table: str) -> list[str]:
    """Partitions for what there is and for the coming months, and every row in its own."""
    return [
        f"CREATE TABLE partitions.{table}_default PARTITION OF {table} DEFAULT",
        f"ALTER TABLE partitions.{table}_default ENABLE ROW LEVEL SECURITY",
        f"""
        SELECT make_partition('{table}', month::date) FROM generate_series(
            date_trunc('month', coalesce((SELECT min(at) FROM partitions.{table}), now()) AT TIME ZONE 'UTC'),
            date_trunc('month', now() AT TIME ZONE 'UTC') + interval '{MONTHS_AHEAD} months',
            interval '1 month'
        ) AS month
        """,
        f"""
        INSERT INTO {table} ({_columns(table)}, ip)
        SELECT {_columns(table)}, host(ip) FROM partitions.{table}
        """,
        f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), max(id)) FROM {table} HAVING max(id) IS NOT NULL",
        f"DROP TABLE partitions.{table}",
        f"REVOKE ALL ON {table} FROM trellis_app",
        f"GRANT SELECT, INSERT ON {table} TO trellis_app",
        f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY",
        f"CREATE POLICY {table}_reach ON {table} TO trellis_app USING ({REACH}) WITH CHECK ({REACH})",
    ]


def upgrade() -> None:
    for statement in [
        *SESSIONS,
        *FUNCTIONS,
        *TABLES,
        "SELECT set_config('trellis.path', '.0001.', true)",
        *_filled("login_record"),
        *_filled("operation_record"),
        "SELECT set_config('trellis.path', '', true)",
    ]:
        op.execute(statement)


def downgrade() -> None:
    """What was changed by whom would be lost."""
