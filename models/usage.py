"""Usage of data: sessions as the packet gateways tell of them, what is counted from them, and what suppliers say that
each card has used."""

from __future__ import annotations

import enum
from datetime import date, datetime
from decimal import Decimal

from sqlalchemy import CheckConstraint, ForeignKey, Index, Numeric, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from models.base import (
    AppendOnly,
    Base,
    LogEntry,
    Partitioned,
    Personal,
    TenantOwned,
    Timestamped,
    stored_enum,
)
from models.identity import EndUser
from models.packet_gateways import PacketGateway
from models.sim import SimCard
from models.tenancy import Tenant


class RetainedTable(enum.Enum):
    SESSION_RECORD = "SESSION_RECORD"
    INTERVAL_STATISTIC = "INTERVAL_STATISTIC"


class RetentionMode(enum.Enum):
    PURGE = "PURGE"
    MIGRATE = "MIGRATE"


class SessionRecord(Partitioned, LogEntry, Base):
    """A data session of a card (S0-61): ``at`` is when it began. A session that is still open is told of again."""

    __tablename__ = "session_record"
    __period__ = "day"
    __changeable__ = ("ended_at", "upload_bytes", "download_bytes")
    __constraints__ = (
        UniqueConstraint("packet_gateway_id", "session_no", "at"),
        Index("ix_session_record_sim_card_id_at", "sim_card_id", "at"),
        CheckConstraint("ended_at >= at", name="in_order"),
        CheckConstraint("upload_bytes >= 0 AND download_bytes >= 0", name="not_negative"),
    )

    sim_card_id: Mapped[int]
    packet_gateway_id: Mapped[int]
    session_no: Mapped[str]
    ended_at: Mapped[datetime | None]
    upload_bytes: Mapped[int]
    download_bytes: Mapped[int]

    tenant: Mapped[Tenant] = relationship(lazy="raise", viewonly=True)
    sim_card: Mapped[SimCard] = relationship(
        lazy="raise", viewonly=True, primaryjoin="foreign(SessionRecord.sim_card_id) == SimCard.id"
    )
    packet_gateway: Mapped[PacketGateway] = relationship(
        lazy="raise", viewonly=True, primaryjoin="foreign(SessionRecord.packet_gateway_id) == PacketGateway.id"
    )


class SessionDay(TenantOwned, Base):
    """A day of the platform's calendar with sessions: when the last of them came in, when it was counted, and whether
    its records are gone, or about to go: then none is taken in any more."""

    __tablename__ = "session_day"
    __constraints__ = (UniqueConstraint("day"),)

    day: Mapped[date]
    changed_at: Mapped[datetime]
    counted_at: Mapped[datetime | None]
    closed: Mapped[bool] = mapped_column(default=False, server_default=text("false"))


class FirstSession(AppendOnly, TenantOwned, Base):
    """When a card was first seen, and who held it then: what makes a new user."""

    __tablename__ = "first_session"
    __changeable__ = ("at",)
    __constraints__ = (UniqueConstraint("sim_card_id"), Index("ix_first_session_at", "at"))

    sim_card_id: Mapped[int] = mapped_column(ForeignKey("sim_card.id"))
    at: Mapped[datetime]


class IntervalStatistic(Partitioned, LogEntry, Base):
    """Five minutes of a tenant and all below it (S0-63): ``at`` is when they began."""

    __tablename__ = "interval_statistic"
    __changeable__ = ("connections", "new_users")
    __constraints__ = (UniqueConstraint("tenant_id", "at"),)

    connections: Mapped[int]
    new_users: Mapped[int]

    tenant: Mapped[Tenant] = relationship(lazy="raise", viewonly=True)


class DailyStatistic(LogEntry, Base):
    """A day of a tenant and all below it, by the platform's calendar (S0-64)."""

    __tablename__ = "daily_statistic"
    __changeable__ = (
        "connections",
        "connection_growth",
        "active_cards",
        "new_users",
        "upload_bytes",
        "download_bytes",
        "counted_at",
    )
    __constraints__ = (UniqueConstraint("tenant_id", "day"), Index("ix_daily_statistic_day_id", "day", "id"))

    day: Mapped[date]
    connections: Mapped[int]
    connection_growth: Mapped[int] = mapped_column(server_default=text("0"))
    active_cards: Mapped[int]
    new_users: Mapped[int]
    upload_bytes: Mapped[int]
    download_bytes: Mapped[int]
    counted_at: Mapped[datetime] = mapped_column(server_default=func.now())

    tenant: Mapped[Tenant] = relationship(lazy="raise", viewonly=True)


class MonthlyStatistic(LogEntry, Base):
    """A month of a tenant and all below it, from its days (S0-65): ``month`` is its first day."""

    __tablename__ = "monthly_statistic"
    __changeable__ = (
        "connections",
        "busiest_day_connections",
        "new_users",
        "upload_bytes",
        "download_bytes",
        "counted_at",
    )
    __constraints__ = (UniqueConstraint("tenant_id", "month"), Index("ix_monthly_statistic_month_id", "month", "id"))

    month: Mapped[date]
    connections: Mapped[int]
    busiest_day_connections: Mapped[int]
    new_users: Mapped[int]
    upload_bytes: Mapped[int]
    download_bytes: Mapped[int]
    counted_at: Mapped[datetime] = mapped_column(server_default=func.now())

    tenant: Mapped[Tenant] = relationship(lazy="raise", viewonly=True)


class DailyUsage(Personal, Partitioned, LogEntry, Base):
    """What a card used on a day, as its supplier says (S0-51): ``at`` is the day's midnight in UTC. It stays with who
    held and who used the card when it was asked for."""

    __tablename__ = "daily_usage"
    __retention__ = "usage.dailyMonths"
    __changeable__ = ("used_kb", "counter_kb", "counter_since", "pulled_at")
    __constraints__ = (
        UniqueConstraint("sim_card_id", "at"),
        CheckConstraint("used_kb >= 0", name="not_negative"),
    )

    sim_card_id: Mapped[int]
    day: Mapped[date]
    used_kb: Mapped[int]
    counter_kb: Mapped[int | None]
    """What the supplier has counted since ``counter_since``: the day itself, or the beginning of its cycle."""
    counter_since: Mapped[date | None]
    pulled_at: Mapped[datetime] = mapped_column(server_default=func.now())

    tenant: Mapped[Tenant] = relationship(lazy="raise", viewonly=True)
    sim_card: Mapped[SimCard] = relationship(
        lazy="raise", viewonly=True, primaryjoin="foreign(DailyUsage.sim_card_id) == SimCard.id"
    )
    end_user: Mapped[EndUser | None] = relationship(lazy="raise", foreign_keys="DailyUsage.end_user_id")


class MonthlyUsage(Personal, AppendOnly, TenantOwned, Base):
    """What a card used in a month, from its days (S0-52), for each who held and used it."""

    __tablename__ = "monthly_usage"
    __changeable__ = ("used_kb", "rolled_up_at")
    __constraints__ = (
        Index(
            "uq_monthly_usage", "sim_card_id", "month", "tenant_id", text("coalesce(end_user_id, 0)"), unique=True
        ),
        Index("ix_monthly_usage_month_id", "month", "id"),
        CheckConstraint("used_kb >= 0", name="not_negative"),
    )  # fmt: skip

    sim_card_id: Mapped[int] = mapped_column(ForeignKey("sim_card.id"))
    month: Mapped[date]
    used_kb: Mapped[int]
    rolled_up_at: Mapped[datetime] = mapped_column(server_default=func.now())

    tenant: Mapped[Tenant] = relationship(lazy="raise", viewonly=True)
    sim_card: Mapped[SimCard] = relationship(lazy="raise")
    end_user: Mapped[EndUser | None] = relationship(lazy="raise", foreign_keys="MonthlyUsage.end_user_id")


class UsageRatio(Timestamped, TenantOwned, Base):
    """By how much what is used is shown greater to one agent or enterprise, and to all below it that have none of
    their own (S0-56). It is the platform's, and its customers do not know of it."""

    __tablename__ = "usage_ratio"
    __constraints__ = (
        UniqueConstraint("customer_id"),
        CheckConstraint("ratio BETWEEN 1 AND 100", name="amplifies"),
    )

    customer_id: Mapped[int] = mapped_column(ForeignKey("tenant.id"))
    ratio: Mapped[Decimal] = mapped_column(Numeric(7, 4))

    customer: Mapped[Tenant] = relationship(lazy="raise", foreign_keys="UsageRatio.customer_id")


class RetentionPolicy(Timestamped, TenantOwned, Base):
    """For how many days rows of a table are kept, and whether they are written into files before they go (S0-62)."""

    __tablename__ = "retention_policy"
    __constraints__ = (
        UniqueConstraint("tenant_id", "retained_table"),
        CheckConstraint("days BETWEEN 1 AND 3650", name="days_within"),
    )

    retained_table: Mapped[RetainedTable] = mapped_column(stored_enum(RetainedTable))
    days: Mapped[int]
    mode: Mapped[RetentionMode] = mapped_column(stored_enum(RetentionMode))
