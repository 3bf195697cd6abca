"""Webhooks: where partners' systems are told of events, and what became of each delivery."""

from __future__ import annotations

import enum
from datetime import datetime

from sqlalchemy import ForeignKey, Index, LargeBinary, SmallInteger, UniqueConstraint, func, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column, relationship
from sqlalchemy.types import Text

from models.base import AppendOnly, Base, TenantOwned, Timestamped, stored_enum
from models.tenancy import Tenant


class WebhookStatus(enum.Enum):
    ACTIVE = "ACTIVE"
    DISABLED = "DISABLED"
    FAILING = "FAILING"


class WebhookEvent(enum.Enum):
    SIM_ALLOCATED = "sim.allocated"
    SIM_STATUS_CHANGED = "sim.status_changed"
    ORDER_STATUS_CHANGED = "order.status_changed"
    TASK_FINISHED = "task.finished"
    API_KEY_EXPIRING = "api_key.expiring"
    WEBHOOK_DISABLED = "webhook.disabled"


class WebhookDeliveryStatus(enum.Enum):
    PENDING = "PENDING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"


class WebhookEndpoint(Timestamped, TenantOwned, Base):
    """An address of a tenant's systems that is told of the events it has chosen, in its tenant's branch.

    After a rotation the previous secret signs as well until ``previous_secret_until``. FAILING: switched off by the
    system, since deliveries failed and none succeeded meanwhile.
    """

    __tablename__ = "webhook_endpoint"

    url: Mapped[str]
    events: Mapped[list[str]] = mapped_column(ARRAY(Text))
    secret_encrypted: Mapped[bytes] = mapped_column(LargeBinary)
    previous_secret_encrypted: Mapped[bytes | None] = mapped_column(LargeBinary)
    previous_secret_until: Mapped[datetime | None]
    status: Mapped[WebhookStatus] = mapped_column(stored_enum(WebhookStatus), default=WebhookStatus.ACTIVE)
    last_succeeded_at: Mapped[datetime | None]
    disabled_at: Mapped[datetime | None]

    tenant: Mapped[Tenant] = relationship(lazy="raise", viewonly=True)


class WebhookDelivery(TenantOwned, Base):
    """One event on its way to one endpoint. Its body is kept as it is sent, so that a repeat is the same event.

    While it is being sent, ``next_attempt_at`` is when it would be taken for abandoned.
    """

    __tablename__ = "webhook_delivery"
    __constraints__ = (
        UniqueConstraint("endpoint_id", "event_key"),
        Index("ix_webhook_delivery_due", "next_attempt_at", postgresql_where=text("status = 'PENDING'")),
    )

    endpoint_id: Mapped[int] = mapped_column(ForeignKey("webhook_endpoint.id", ondelete="CASCADE"))
    event_key: Mapped[str]
    event_type: Mapped[str]
    body: Mapped[str]
    status: Mapped[WebhookDeliveryStatus] = mapped_column(
        stored_enum(WebhookDeliveryStatus), default=WebhookDeliveryStatus.PENDING
    )
    attempts: Mapped[int] = mapped_column(SmallInteger, default=0)
    attempt_limit: Mapped[int] = mapped_column(SmallInteger)
    next_attempt_at: Mapped[datetime] = mapped_column(server_default=func.now())
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    finished_at: Mapped[datetime | None]

    endpoint: Mapped[WebhookEndpoint] = relationship(lazy="raise")


class WebhookAttempt(AppendOnly, TenantOwned, Base):
    """One try to deliver: what the endpoint answered, or why nothing came back."""

    __tablename__ = "webhook_attempt"
    __constraints__ = (Index("ix_webhook_attempt_delivery_id_id", "delivery_id", "id"),)

    delivery_id: Mapped[int] = mapped_column(ForeignKey("webhook_delivery.id", ondelete="CASCADE"))
    at: Mapped[datetime]
    status_code: Mapped[int | None] = mapped_column(SmallInteger)
    duration_ms: Mapped[int]
    answer: Mapped[str | None]
    error: Mapped[str | None]
