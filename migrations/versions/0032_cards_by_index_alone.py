"""The cards of a few tenants are merged from the index alone."""

from alembic import op

revision = "0032_cards_by_index_alone"
down_revision = "0031_real_names"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("DROP INDEX ix_sim_card_tenant_id_id")
    op.execute("CREATE INDEX ix_sim_card_tenant_id_id ON sim_card (tenant_id, id) INCLUDE (tenant_path, end_user_id)")


def downgrade() -> None:
    """Forward only: a change of the schema is taken back by the next one."""
