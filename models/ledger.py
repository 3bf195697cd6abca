"""The ledger: what each tenant has with the platform, moved only by transfers whose entries sum to zero.

The database keeps the books itself. An entry changes its account's balance as it is written, an account that would
fall below its floor refuses it, and a transfer that does not sum to zero in each currency cannot be committed. The
application may open accounts, set their floors and write entries; it can neither set a balance nor change or remove
what was written.
"""

from __future__ import annotations

import enum
from datetime import date, datetime
from decimal import Decimal

from sqlalchemy import CheckConstraint, ForeignKey, ForeignKeyConstraint, Index, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from models.base import AppendOnly, Base, TenantOwned, Timestamped, stored_enum
from models.identity import StaffAccount
from models.tenancy import Tenant


class LedgerAccountKind(enum.Enum):
    PREPAYMENT = "PREPAYMENT"
    """What a customer has paid in advance; below zero, what it owes on its credit line."""
    RECEIPTS = "RECEIPTS"
    """The platform's own: what came in from outside stands here with a minus, as the other half of each top-up."""
    REFUNDS_DUE = "REFUNDS_DUE"
    """The platform's own: what came in through payment channels and is on its way back to who paid it."""
    SALES = "SALES"
    """The platform's own: what was sold, less the commission on it."""
    COMMISSION = "COMMISSION"
    """What an agent has earned and may not draw on yet; below zero, what refunds have taken back of what it drew."""
    INCOME = "INCOME"
    """What an agent has earned and may draw on: settled, and not asked for yet."""
    WITHHELD = "WITHHELD"
    """What an agent or a merchant has asked to be paid out, until it is."""
    FUNDS = "FUNDS"
    """What a merchant's customers have paid for it through the platform's channels, and it may draw on."""
    DEPOSIT = "DEPOSIT"
    """What a merchant has left with the platform as a security."""


FLOORLESS = frozenset({LedgerAccountKind.RECEIPTS, LedgerAccountKind.SALES, LedgerAccountKind.COMMISSION})
"""Accounts that fall as far as they have to: no refusal may stand in the way of what has happened."""
PLATFORMS = frozenset({LedgerAccountKind.RECEIPTS, LedgerAccountKind.REFUNDS_DUE, LedgerAccountKind.SALES})
"""Accounts of the platform alone."""


def _among(kinds: frozenset[LedgerAccountKind]) -> str:
    return f"kind IN ({', '.join(repr(kind.name) for kind in LedgerAccountKind if kind in kinds)})"


class TransferKind(enum.Enum):
    TOP_UP = "TOP_UP"
    OPENING = "OPENING"
    ORDER = "ORDER"
    COMMISSION = "COMMISSION"
    REFUND = "REFUND"
    SETTLEMENT = "SETTLEMENT"
    WITHDRAWAL = "WITHDRAWAL"
    DEPOSIT = "DEPOSIT"


class TopUpStatus(enum.Enum):
    RECORDED = "RECORDED"
    CONFIRMED = "CONFIRMED"
    CANCELLED = "CANCELLED"


class LedgerAccount(AppendOnly, TenantOwned, Base):
    """One sort of a tenant's money in one currency. Its balance is the sum of its entries and never below its floor:
    zero, minus the credit line, or nothing at all for accounts that stand for the world outside (S0-37)."""

    __tablename__ = "ledger_account"
    __changeable__ = ("floor",)
    __constraints__ = (
        UniqueConstraint("tenant_id", "kind", "currency"),
        UniqueConstraint("id", "tenant_id"),
        CheckConstraint("balance >= floor", name="not_below_floor"),
        CheckConstraint(f"({_among(FLOORLESS)}) = (floor IS NULL)", name="floor_of_kind"),
        CheckConstraint(f"NOT ({_among(PLATFORMS)}) OR tenant_path = '.0001.'", name="kinds_of_platform"),
    )
    __guards__ = (
        """CREATE OR REPLACE FUNCTION ledger_account_opens_empty() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.balance := 0;
    RETURN NEW;
END $$""",
        """CREATE OR REPLACE TRIGGER ledger_account_opens_empty BEFORE INSERT ON ledger_account
FOR EACH ROW EXECUTE FUNCTION ledger_account_opens_empty()""",
    )

    kind: Mapped[LedgerAccountKind] = mapped_column(stored_enum(LedgerAccountKind))
    currency: Mapped[str]
    balance: Mapped[Decimal] = mapped_column(server_default=text("0"))
    floor: Mapped[Decimal | None]
    """How far the balance may fall; null: as far as it has to."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())

    tenant: Mapped[Tenant] = relationship(lazy="raise", viewonly=True)


class LedgerTransfer(AppendOnly, TenantOwned, Base):
    """Money on its way from some accounts to others, at once or not at all; its key makes a repeat the same one."""

    __tablename__ = "ledger_transfer"
    __constraints__ = (UniqueConstraint("idempotency_key"),)

    kind: Mapped[TransferKind] = mapped_column(stored_enum(TransferKind))
    idempotency_key: Mapped[str]
    memo: Mapped[str | None]
    account_id: Mapped[int | None] = mapped_column(ForeignKey("staff_account.id"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class LedgerEntry(AppendOnly, TenantOwned, Base):
    """What a transfer brought to an account (positive) or took from it, and what was there afterwards (S2-17)."""

    __tablename__ = "ledger_entry"
    __constraints__ = (
        ForeignKeyConstraint(
            ["ledger_account_id", "tenant_id"], ["ledger_account.id", "ledger_account.tenant_id"],
            name="fk_ledger_entry_account",
        ),
        UniqueConstraint("transfer_id", "ledger_account_id"),
        CheckConstraint("amount <> 0", name="amount_not_zero"),
        Index("ix_ledger_entry_ledger_account_id_id", "ledger_account_id", "id"),
    )  # fmt: skip
    __guards__ = (
        """CREATE OR REPLACE FUNCTION ledger_entry_moves_balance() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public AS $$
BEGIN
    UPDATE ledger_account SET balance = balance + NEW.amount WHERE id = NEW.ledger_account_id
    RETURNING balance INTO NEW.balance_after;
    -- numbered while the account is held: in the order in which its balance moved
    NEW.id := nextval('ledger_entry_id_seq');
    RETURN NEW;
END $$""",
        """CREATE OR REPLACE TRIGGER ledger_entry_moves_balance BEFORE INSERT ON ledger_entry
FOR EACH ROW EXECUTE FUNCTION ledger_entry_moves_balance()""",
        """CREATE OR REPLACE FUNCTION ledger_transfer_sums_to_zero() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public AS $$
BEGIN
    IF EXISTS (SELECT FROM ledger_entry e JOIN ledger_account a ON a.id = e.ledger_account_id
               WHERE e.transfer_id = NEW.transfer_id GROUP BY a.currency HAVING sum(e.amount) <> 0) THEN
        RAISE EXCEPTION 'the entries of transfer % do not sum to zero', NEW.transfer_id
        USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$""",
        "DROP TRIGGER IF EXISTS ledger_transfer_sums_to_zero ON ledger_entry",
        """CREATE CONSTRAINT TRIGGER ledger_transfer_sums_to_zero AFTER INSERT ON ledger_entry
DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION ledger_transfer_sums_to_zero()""",
    )

    transfer_id: Mapped[int] = mapped_column(ForeignKey("ledger_transfer.id"))
    ledger_account_id: Mapped[int]
    amount: Mapped[Decimal]
    balance_after: Mapped[Decimal] = mapped_column(server_default=text("0"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())

    transfer: Mapped[LedgerTransfer] = relationship(lazy="raise")
    ledger_account: Mapped[LedgerAccount] = relationship(lazy="raise", viewonly=True)


class TopUp(Timestamped, AppendOnly, TenantOwned, Base):
    """Money that a customer paid in by bank transfer, entered by hand and confirmed once it is there (S0-53)."""

    __tablename__ = "top_up"
    __changeable__ = ("status", "settled_by_id", "settled_at", "transfer_id", "updated_at")
    __constraints__ = (
        CheckConstraint("amount > 0", name="amount_positive"),
        CheckConstraint("(status = 'CONFIRMED') = (transfer_id IS NOT NULL)", name="confirmed_by_transfer"),
        Index("ix_top_up_status_id", "status", "id"),
    )

    amount: Mapped[Decimal]
    currency: Mapped[str]
    status: Mapped[TopUpStatus] = mapped_column(stored_enum(TopUpStatus), default=TopUpStatus.RECORDED)
    received_on: Mapped[date]
    reference: Mapped[str | None]
    recorded_by_id: Mapped[int | None] = mapped_column(ForeignKey("staff_account.id"))
    settled_by_id: Mapped[int | None] = mapped_column(ForeignKey("staff_account.id"))
    settled_at: Mapped[datetime | None]
    transfer_id: Mapped[int | None] = mapped_column(ForeignKey("ledger_transfer.id"), unique=True)

    tenant: Mapped[Tenant] = relationship(lazy="raise", viewonly=True)
    recorded_by: Mapped[StaffAccount | None] = relationship(lazy="raise", foreign_keys=[recorded_by_id])
    settled_by: Mapped[StaffAccount | None] = relationship(lazy="raise", foreign_keys=[settled_by_id])
    transfer: Mapped[LedgerTransfer | None] = relationship(lazy="raise")
