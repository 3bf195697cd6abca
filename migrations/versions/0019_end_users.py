"""End users act: events and repeats of theirs, verified mail addresses, languages; personal data can be erased."""

from alembic import op

revision = "0019_end_users"
down_revision = "0018_staff_permissions"
branch_labels = None
depends_on = None

PATH = "starts_with(tenant_path, (SELECT nullif(current_setting('trellis.path', true), '')))::int <> 0"
PERSON = "(SELECT nullif(current_setting('trellis.end_user', true), '')::bigint)"
PLATFORM = "(SELECT nullif(current_setting('trellis.path', true), '')) = '.0001.'"
SERVES_ME = (
    "((SELECT nullif(current_setting('trellis.end_user', true), '')) IS NOT NULL AND tenant_path = "
    "(SELECT substring(nullif(current_setting('trellis.ancestors', true), '') FROM '[^,]*$')))"
)

LANGUAGES = "CHECK (language IN ('ZH_CN', 'ZH_TW', 'EN'))"

TABLES = [
    f"""
    ALTER TABLE staff_account
        ADD COLUMN language VARCHAR(40),
        ADD CONSTRAINT ck_staff_account_language {LANGUAGES}
    """,
    f"""
    ALTER TABLE end_user
        ADD COLUMN email_verified_at TIMESTAMP WITH TIME ZONE,
        ADD COLUMN language VARCHAR(40),
        ADD COLUMN erased_at TIMESTAMP WITH TIME ZONE,
        ADD CONSTRAINT ck_end_user_language {LANGUAGES}
    """,
    """
    CREATE UNIQUE INDEX uq_end_user_email ON end_user (tenant_id, lower(email)) WHERE email_verified_at IS NOT NULL
    """,
    """
    ALTER TABLE idempotent_result
        ADD COLUMN end_user_id BIGINT,
        ADD CONSTRAINT fk_idempotent_result_end_user_id FOREIGN KEY(end_user_id) REFERENCES end_user (id)
    """,
    "CREATE INDEX ix_idempotent_result_end_user_id ON idempotent_result (end_user_id)",
    """
    ALTER TABLE notification
        ADD COLUMN end_user_id BIGINT,
        ADD CONSTRAINT fk_notification_end_user_id FOREIGN KEY(end_user_id) REFERENCES end_user (id)
    """,
    "CREATE INDEX ix_notification_end_user_id ON notification (end_user_id)",
    "ALTER TABLE menu_item ADD COLUMN variants JSONB DEFAULT '{}' NOT NULL",
]

KEEP_HISTORY = """CREATE OR REPLACE FUNCTION keep_history() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'of %, personal data can be erased and nothing changed', TG_TABLE_NAME
        USING ERRCODE = 'insufficient_privilege';
END $$"""

ERASED = {
    "login_record": {"login": "''", "ip": "NULL", "user_agent": "NULL"},
    "operation_record": {"arguments": "'{}'::jsonb", "changes": "'[]'::jsonb", "ip": "NULL"},
}
"""Of the tables of history, the columns that hold personal data, and what stands in them once it has been erased."""


def _reach(table: str, reach: str) -> list[str]:
    return [
        f"DROP POLICY IF EXISTS {table}_reach ON {table}",
        f"CREATE POLICY {table}_reach ON {table} TO trellis_app USING ({reach}) WITH CHECK ({reach})",
    ]


def _erasable(table: str, erased: dict[str, str]) -> list[str]:
    changed = " OR ".join(
        f"(OLD.{name} IS DISTINCT FROM NEW.{name} AND NEW.{name} IS DISTINCT FROM {value})"
        for name, value in erased.items()
    )
    return [
        f"GRANT UPDATE ({', '.join(erased)}) ON {table} TO trellis_app",
        f"CREATE OR REPLACE TRIGGER {table}_history BEFORE UPDATE ON {table} FOR EACH ROW "
        f"WHEN (current_user = 'trellis_app' AND ({changed})) EXECUTE FUNCTION keep_history()",
    ]


def _owner_kept(table: str) -> str:
    return (
        f"CREATE OR REPLACE TRIGGER {table}_owner BEFORE UPDATE ON {table} FOR EACH ROW "
        "WHEN (nullif(current_setting('trellis.end_user', true), '') IS NOT NULL AND ("
        "OLD.tenant_id IS DISTINCT FROM NEW.tenant_id OR OLD.tenant_path IS DISTINCT FROM NEW.tenant_path "
        "OR OLD.end_user_id IS DISTINCT FROM NEW.end_user_id)) EXECUTE FUNCTION keep_owner()"
    )


ROW_LEVEL_SECURITY = [
    *_reach("operation_record", f"{PATH} OR end_user_id = {PERSON}"),
    *_reach("idempotent_result", f"{PATH} OR end_user_id = {PERSON}"),
    *_reach("notification", f"{PATH} OR end_user_id = {PERSON}"),
    _owner_kept("idempotent_result"),
    _owner_kept("notification"),
    *_reach("outbox_event", PLATFORM),
    f"CREATE POLICY outbox_event_written ON outbox_event FOR INSERT TO trellis_app WITH CHECK ({PATH} OR {SERVES_ME})",
    KEEP_HISTORY,
    *(statement for table, erased in ERASED.items() for statement in _erasable(table, erased)),
]


def upgrade() -> None:
    for statement in [*TABLES, *ROW_LEVEL_SECURITY]:
        op.execute(statement)


def downgrade() -> None:
    """What was erased cannot be brought back."""
