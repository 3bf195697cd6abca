"""Entries are numbered in the order in which they move their account."""

from alembic import op

revision = "0035_entries_in_order"
down_revision = "0034_customer_prices"
branch_labels = None
depends_on = None

NUMBERED = """
CREATE OR REPLACE FUNCTION ledger_entry_moves_balance() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public AS $$
BEGIN
    UPDATE ledger_account SET balance = balance + NEW.amount WHERE id = NEW.ledger_account_id
    RETURNING balance INTO NEW.balance_after;
    -- numbered while the account is held: in the order in which its balance moved
    NEW.id := nextval('ledger_entry_id_seq');
    RETURN NEW;
END $$
"""


def upgrade() -> None:
    op.execute(NUMBERED)


def downgrade() -> None:
    """Forward only: a change of the schema is taken back by the next one."""
