"""Tasks of any kind: exports, results, cancelling, and keys as those who started them."""

from alembic import op

revision = "0015_tasks"
down_revision = "0014_logins"
branch_labels = None
depends_on = None

TABLES = [
    r"""
    ALTER TABLE task
        ADD COLUMN name TEXT,
        ADD COLUMN result_file_id BIGINT,
        ADD COLUMN api_key_id BIGINT,
        ADD COLUMN cancel_requested_at TIMESTAMP WITH TIME ZONE,
        ADD CONSTRAINT fk_task_result_file_id FOREIGN KEY(result_file_id) REFERENCES stored_file (id),
        ADD CONSTRAINT fk_task_api_key_id FOREIGN KEY(api_key_id) REFERENCES api_key (id)
    """,
    "ALTER TABLE task DROP CONSTRAINT ck_task_taskkind",
    "ALTER TABLE task ADD CONSTRAINT ck_task_taskkind CHECK (kind IN ('SIM_IMPORT', 'SIM_RANGE', 'EXPORT'))",
    "ALTER TABLE task DROP CONSTRAINT ck_task_taskstatus",
    r"""
    ALTER TABLE task ADD CONSTRAINT ck_task_taskstatus CHECK (status IN (
        'QUEUED', 'RUNNING', 'SUCCEEDED', 'FAILED', 'CANCELLED'
    ))
    """,
    "CREATE INDEX ix_task_created_at_id ON task (created_at, id)",
    "CREATE INDEX ix_task_finished_at_id ON task (finished_at, id)",
    "CREATE INDEX ix_task_account_id_created_at ON task (account_id, created_at)",
]

# what was called after imports alone is called a task, also where roles and menus name it
RENAMED = [
    f"UPDATE {table} SET {column} = regexp_replace({column}, '{old}', '{new}') WHERE {column} ~ '{old}'"
    for table, column in (("role_policy", "obj"), ("menu_permission", "coordinate"))
    for old, new in (
        (r"^ImportTask\.", "Task."),
        (r"^Query\.importTasks$", "Query.tasks"),
        (r"^Query\.importTask$", "Query.task"),
        (r"^Subscription\.importProgress$", "Subscription.taskProgress"),
    )
]


def upgrade() -> None:
    for statement in (*TABLES, *RENAMED):
        op.execute(statement)


def downgrade() -> None:
    """An export could not be kept."""
