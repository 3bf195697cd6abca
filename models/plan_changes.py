"""Plan changes: another data package for a card from the first of next month on."""

from __future__ import annotations

import enum
from datetime import date, datetime

from sqlalchemy import CheckConstraint, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from models.base import Base, TenantOwned, Timestamped, stored_enum
from models.catalog import DataPackage
from models.identity import StaffAccount
from models.sim import SimCard
from models.tenancy import Tenant


class PlanChangeStatus(enum.Enum):
    PENDING = "PENDING"
    APPLIED = "APPLIED"
    CANCELLED = "CANCELLED"
    FAILED = "FAILED"


class PlanChangeFailure(enum.Enum):
    """Why a plan change could not be applied on its day."""

    CARD_TERMINATED = "CARD_TERMINATED"
    PACKAGE_DISABLED = "PACKAGE_DISABLED"
    PREPAID_PACKAGE = "PREPAID_PACKAGE"


class SimPlanChange(Timestamped, TenantOwned, Base):
    """A card's change of plan, from the first of next month by the calendar of its holder (S0-16). At most one of a
    card is pending; it goes with the card to its new holder."""

    __tablename__ = "sim_plan_change"
    __constraints__ = (
        Index("ix_sim_plan_change_sim_card_id_id", "sim_card_id", "id"),
        Index("uq_sim_plan_change_pending", "sim_card_id", unique=True, postgresql_where=text("status = 'PENDING'")),
        Index("ix_sim_plan_change_pending", "effective_on", postgresql_where=text("status = 'PENDING'")),
        CheckConstraint("extract(day FROM effective_on) = 1", name="month_begins"),
        CheckConstraint("(status = 'PENDING') = (closed_at IS NULL)", name="closed_when_closed"),
        CheckConstraint("(status = 'FAILED') = (failure IS NOT NULL)", name="failed_for_a_reason"),
    )

    sim_card_id: Mapped[int] = mapped_column(ForeignKey("sim_card.id"))
    from_package_id: Mapped[int | None] = mapped_column(ForeignKey("data_package.id"))
    to_package_id: Mapped[int] = mapped_column(ForeignKey("data_package.id"), index=True)
    status: Mapped[PlanChangeStatus] = mapped_column(stored_enum(PlanChangeStatus), default=PlanChangeStatus.PENDING)
    failure: Mapped[PlanChangeFailure | None] = mapped_column(stored_enum(PlanChangeFailure))
    effective_on: Mapped[date]
    time_zone: Mapped[str]
    closed_at: Mapped[datetime | None]
    requested_by_id: Mapped[int | None] = mapped_column(ForeignKey("staff_account.id"))

    tenant: Mapped[Tenant] = relationship(lazy="raise", viewonly=True)
    sim_card: Mapped[SimCard] = relationship(lazy="raise")
    from_package: Mapped[DataPackage | None] = relationship(lazy="raise", foreign_keys=[from_package_id])
    to_package: Mapped[DataPackage] = relationship(lazy="raise", foreign_keys=[to_package_id])
    requested_by: Mapped[StaffAccount | None] = relationship(lazy="raise")
