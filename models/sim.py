"""The SIM inventory: cards, who holds them, what is bound to them, and what happened to them."""

from __future__ import annotations

import enum
from datetime import datetime

from sqlalchemy import CheckConstraint, Computed, ForeignKey, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from models.base import AppendOnly, Base, Personal, TenantOwned, Timestamped, Widespread, impersonal, stored_enum
from models.catalog import Carrier, DataPackage, Outlet, Supplier
from models.identity import EndUser
from models.tenancy import Tenant


class SimType(enum.Enum):
    M2M = "M2M"
    CONSUMER = "CONSUMER"


class SimStatus(enum.Enum):
    STOCK = "STOCK"
    ALLOCATED = "ALLOCATED"
    ACTIVE = "ACTIVE"
    SUSPENDED = "SUSPENDED"
    TERMINATED = "TERMINATED"


class SimEntryMode(enum.Enum):
    SINGLE = "SINGLE"
    RANGE = "RANGE"
    IMPORT = "IMPORT"


class SimHolding(enum.Enum):
    OWNED = "OWNED"
    AGENCY = "AGENCY"


DISPLAY_ICCID = "'99' || lpad(id::text, 16, '0') || lpad((98 - id * 100 % 97)::text, 2, '0')"
"""Twenty digits made from the card's key: in the order of entry, so that a box of cards is a range, with two
check digits after ISO 7064 (mod 97-10), and telling nothing of the carrier's number."""


class SimCard(Timestamped, Personal, Widespread, Base):
    """A SIM in stock or in service (S0-43). Its tenant is its present holder, deepest in the tree.

    ``iccid`` is the carrier's number and stays with the platform's staff; everybody else knows the card by its
    ``display_iccid`` (S0-44).
    """

    __tablename__ = "sim_card"
    __beside_keys__ = ("tenant_path", "end_user_id")
    __constraints__ = (
        CheckConstraint("iccid ~ '^[0-9]{19,20}$'", name="iccid_digits"),
        Index("ix_sim_card_tenant_branch_id", "tenant_branch", "id"),
        Index("ix_sim_card_tenant_branch_activated_at_id", "tenant_branch", "activated_at", "id"),
        Index("ix_sim_card_tenant_id_activated_at_id", "tenant_id", "activated_at", "id"),
        Index("ix_sim_card_activated_at_id", "activated_at", "id"),
    )

    iccid: Mapped[str] = mapped_column(unique=True, info=impersonal("The card's, whoever uses it."))
    display_iccid: Mapped[str] = mapped_column(
        Computed(DISPLAY_ICCID, persisted=True), unique=True, info=impersonal("The card's, whoever uses it.")
    )
    imsi: Mapped[str | None] = mapped_column(unique=True, info=impersonal("The card's, whoever uses it."))
    msisdn: Mapped[str | None] = mapped_column(index=True, info=impersonal("The card's, whoever uses it."))
    carrier: Mapped[Carrier] = mapped_column(stored_enum(Carrier))
    sim_type: Mapped[SimType] = mapped_column(stored_enum(SimType))
    entry_mode: Mapped[SimEntryMode] = mapped_column(stored_enum(SimEntryMode))
    status: Mapped[SimStatus] = mapped_column(stored_enum(SimStatus), default=SimStatus.STOCK)
    apn: Mapped[str | None] = mapped_column(info=impersonal("The card's, whoever uses it."))
    supplier_id: Mapped[int] = mapped_column(ForeignKey("supplier.id"), index=True)
    package_id: Mapped[int | None] = mapped_column(ForeignKey("data_package.id"), index=True)
    outlet_id: Mapped[int | None] = mapped_column(ForeignKey("outlet.id"), index=True)
    activated_at: Mapped[datetime | None]
    remark: Mapped[str | None] = mapped_column(info=impersonal("Its holder's word on the card."))

    tenant: Mapped[Tenant] = relationship(lazy="raise", viewonly=True)
    supplier: Mapped[Supplier] = relationship(lazy="raise")
    package: Mapped[DataPackage | None] = relationship(lazy="raise")
    outlet: Mapped[Outlet | None] = relationship(lazy="raise")
    end_user: Mapped[EndUser | None] = relationship(lazy="raise", foreign_keys="SimCard.end_user_id")


class SimStatusChange(AppendOnly, TenantOwned, Base):
    """One step of a card's life, with who took it and why. It belongs to the holder of that moment."""

    __tablename__ = "sim_status_change"
    __constraints__ = (Index("ix_sim_status_change_sim_card_id_id", "sim_card_id", "id"),)

    sim_card_id: Mapped[int] = mapped_column(ForeignKey("sim_card.id"))
    action: Mapped[str]
    from_status: Mapped[SimStatus | None] = mapped_column(stored_enum(SimStatus, "from_status"))
    to_status: Mapped[SimStatus] = mapped_column(stored_enum(SimStatus, "to_status"))
    reason: Mapped[str | None]
    at: Mapped[datetime] = mapped_column(server_default=func.now())
    account_id: Mapped[int | None] = mapped_column(ForeignKey("staff_account.id"))

    sim_card: Mapped[SimCard] = relationship(lazy="raise")


class SimAllocation(TenantOwned, Base):
    """A card bound to a customer (S0-45): at most one current allocation per card and level of the tree.

    The owner of the row is the customer who received the card; ``holding`` says whether the customer has it for
    itself or to pass it on."""

    __tablename__ = "sim_allocation"
    __constraints__ = (
        Index("ix_sim_allocation_sim_card_id_id", "sim_card_id", "id"),
        Index(
            "uq_sim_allocation_current",
            "sim_card_id",
            "level",
            unique=True,
            postgresql_where=text("ended_at IS NULL"),
        ),
    )

    sim_card_id: Mapped[int] = mapped_column(ForeignKey("sim_card.id"))
    from_tenant_id: Mapped[int] = mapped_column(ForeignKey("tenant.id"))
    level: Mapped[int]
    holding: Mapped[SimHolding] = mapped_column(stored_enum(SimHolding))
    allocated_at: Mapped[datetime] = mapped_column(server_default=func.now())
    ended_at: Mapped[datetime | None]
    account_id: Mapped[int | None] = mapped_column(ForeignKey("staff_account.id"))

    sim_card: Mapped[SimCard] = relationship(lazy="raise")
    tenant: Mapped[Tenant] = relationship(
        lazy="raise", viewonly=True, foreign_keys="[SimAllocation.tenant_id, SimAllocation.tenant_path]"
    )
    from_tenant: Mapped[Tenant] = relationship(lazy="raise", foreign_keys="SimAllocation.from_tenant_id")


class SimPackageBinding(TenantOwned, Base):
    """A card bound to a data package, now or in the past (S0-57)."""

    __tablename__ = "sim_package_binding"
    __constraints__ = (
        Index("ix_sim_package_binding_sim_card_id_id", "sim_card_id", "id"),
        Index(
            "uq_sim_package_binding_current",
            "sim_card_id",
            unique=True,
            postgresql_where=text("unbound_at IS NULL"),
        ),
    )

    sim_card_id: Mapped[int] = mapped_column(ForeignKey("sim_card.id"))
    package_id: Mapped[int] = mapped_column(ForeignKey("data_package.id"))
    bound_at: Mapped[datetime] = mapped_column(server_default=func.now())
    unbound_at: Mapped[datetime | None]

    sim_card: Mapped[SimCard] = relationship(lazy="raise")
    package: Mapped[DataPackage] = relationship(lazy="raise")


class SimEndUserBinding(Personal, TenantOwned, Base):
    """A card bound to the person who uses it, now or in the past (S0-40, S0-57)."""

    __tablename__ = "sim_end_user_binding"
    __constraints__ = (
        Index("ix_sim_end_user_binding_sim_card_id_id", "sim_card_id", "id"),
        Index(
            "uq_sim_end_user_binding_current",
            "sim_card_id",
            unique=True,
            postgresql_where=text("unbound_at IS NULL"),
        ),
    )

    sim_card_id: Mapped[int] = mapped_column(ForeignKey("sim_card.id"))
    bound_at: Mapped[datetime] = mapped_column(server_default=func.now())
    unbound_at: Mapped[datetime | None]

    sim_card: Mapped[SimCard] = relationship(lazy="raise")
    end_user: Mapped[EndUser] = relationship(lazy="raise", foreign_keys="SimEndUserBinding.end_user_id")
