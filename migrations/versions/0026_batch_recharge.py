"""Batches of orders, each a task."""

from alembic import op

revision = "0026_batch_recharge"
down_revision = "0025_pricing"
branch_labels = None
depends_on = None

STATEMENTS = [
    "ALTER TABLE task DROP CONSTRAINT ck_task_taskkind",
    "ALTER TABLE task ADD CONSTRAINT ck_task_taskkind CHECK (kind IN ('SIM_IMPORT', 'SIM_RANGE', 'EXPORT', 'BATCH_RECHARGE'))",
    "ALTER TABLE sales_order ADD COLUMN task_id BIGINT CONSTRAINT fk_sales_order_task_id REFERENCES task (id)",
    "ALTER TABLE sales_order ADD COLUMN task_part BIGINT",
    "ALTER TABLE sales_order ADD CONSTRAINT uq_sales_order_task_id_task_part UNIQUE (task_id, task_part)",
    "ALTER TABLE sales_order ADD CONSTRAINT ck_sales_order_part_of_task CHECK ((task_id IS NULL) = (task_part IS NULL))",
]


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Forward only: a change of the schema is taken back by the next one."""
