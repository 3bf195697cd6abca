"""Direct orders: what an order has bought through an upstream's recharge channel, card by card."""

from __future__ import annotations

import enum

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from models.base import AppendOnly, Base, TenantOwned, Timestamped, stored_enum
from models.orders import Order, OrderLine
from models.pricing import BillingProduct, ServiceKind
from models.sim import SimCard
from models.telling import Told, told
from models.tenancy import Tenant


class UpstreamFamily(enum.Enum):
    PID = "PID"
    SMART = "SMART"


class DirectOrder(Told, Timestamped, AppendOnly, TenantOwned, Base):
    """One billing product of one order line, recharged by an upstream (S2-19)."""

    __tablename__ = "direct_order"
    __changeable__ = (*Told.__telling__, "upstream_no", "upstream_account")
    __constraints__ = (
        UniqueConstraint("order_line_id", "billing_product_id"),
        CheckConstraint("quantity > 0", name="quantity_positive"),
        Index("ix_direct_order_created_at_id", "created_at", "id"),
        *told("direct_order"),
    )

    order_id: Mapped[int] = mapped_column(ForeignKey("sales_order.id"), index=True)
    order_line_id: Mapped[int] = mapped_column(ForeignKey("order_line.id"))
    sim_card_id: Mapped[int] = mapped_column(ForeignKey("sim_card.id"), index=True)
    billing_product_id: Mapped[int] = mapped_column(ForeignKey("billing_product.id"), index=True)
    family: Mapped[UpstreamFamily] = mapped_column(stored_enum(UpstreamFamily))
    service: Mapped[ServiceKind] = mapped_column(stored_enum(ServiceKind))
    article: Mapped[str]
    """What the upstream calls it."""
    target: Mapped[str]
    """The number that the upstream recharges: the card's own in the network, or its ICCID."""
    card_no: Mapped[str]
    """The same as it is shown: never the ICCID."""
    quantity: Mapped[int]
    upstream_no: Mapped[str | None]
    upstream_account: Mapped[str | None]
    """By which account of ours the upstream was told: no other knows of it."""

    tenant: Mapped[Tenant] = relationship(lazy="raise", viewonly=True)
    order: Mapped[Order] = relationship(lazy="raise")
    order_line: Mapped[OrderLine] = relationship(lazy="raise")
    sim_card: Mapped[SimCard] = relationship(lazy="raise")
    billing_product: Mapped[BillingProduct] = relationship(lazy="raise")
