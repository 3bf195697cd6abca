"""What the carriers of cards are asked to make of them."""

from __future__ import annotations

import enum

from sqlalchemy import CheckConstraint, ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column, relationship

from models.base import AppendOnly, Base, TenantOwned, Timestamped, stored_enum
from models.sim import SimCard
from models.telling import Told, told
from models.tenancy import Tenant


class CarrierAction(enum.Enum):
    SUSPEND = "SUSPEND"
    RESUME = "RESUME"
    CHANGE_PLAN = "CHANGE_PLAN"


class CarrierRequest(Told, Timestamped, AppendOnly, TenantOwned, Base):
    """One change of one card that its carrier is to make (S0-24). It belongs to the card's holder of that moment."""

    __tablename__ = "carrier_request"
    __changeable__ = (*Told.__telling__, "carrier_no", "answer")
    __constraints__ = (
        CheckConstraint("(action = 'CHANGE_PLAN') = (plan IS NOT NULL)", name="plan_of_a_change"),
        Index("ix_carrier_request_sim_card_id_id", "sim_card_id", "id"),
        Index("ix_carrier_request_created_at_id", "created_at", "id"),
        *told("carrier_request"),
    )

    sim_card_id: Mapped[int] = mapped_column(ForeignKey("sim_card.id"))
    action: Mapped[CarrierAction] = mapped_column(stored_enum(CarrierAction))
    plan: Mapped[str | None]
    """The carrier's own name of the plan that the card is to have."""
    carrier_no: Mapped[str | None]
    answer: Mapped[str | None]
    """What the carrier answered last, as it came, or why there is no answer."""

    tenant: Mapped[Tenant] = relationship(lazy="raise", viewonly=True)
    sim_card: Mapped[SimCard] = relationship(lazy="raise")
