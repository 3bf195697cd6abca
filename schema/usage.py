"""Usage of data in the graph: sessions, what is counted from them, and what cards used, as it is shown to whom."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import strawberry
from sqlalchemy import ColumnElement, Numeric, cast

import models.usage as stored
from models.usage import RetainedTable, RetentionMode
from planner.mapping import Node, column, computed, entity, enum_type, input_type, live, to_one, value
from schema.common import UserError

if TYPE_CHECKING:
    from schema.identity import EndUser
    from schema.packet_gateways import PacketGateway
    from schema.sim import SimCard
    from schema.tenancy import Tenant

enum_type(RetainedTable, "What is kept for some days.")
enum_type(RetentionMode, "What becomes of rows that are past their time: they go, or are written into files first.")

STAFF = "Whole bytes; for the platform's staff (S0-56)."


def whole(column: ColumnElement[Any]) -> ColumnElement[Decimal]:
    """A count that may be greater than GraphQL's integers."""
    return cast(column, Numeric(20, 0))


@entity(
    stored.SessionRecord,
    prefix="sdr",
    filters=("at", "ended_at", "sim_card", "packet_gateway", "holder", "session_no"),
    sorts=("at",),
)
class SessionRecord(Node):
    """A data session of a card, as a packet gateway told of it (S0-61)."""

    session_no: str = column("The gateway's number of it.")
    at: datetime = column("When it began.")
    ended_at: datetime | None = column("When it ended; null while it is open.")
    upload_bytes: Decimal = computed(STAFF, lambda row: whole(row.upload_bytes), confidential=True)
    download_bytes: Decimal = computed(STAFF, lambda row: whole(row.download_bytes), confidential=True)
    used_kb: Decimal = live(
        "Up and down, as it is shown to customers: whole KB.", needs=("upload_bytes", "download_bytes", "tenant_id")
    )
    sim_card: SimCard | None = to_one("Of which card.")
    packet_gateway: PacketGateway | None = to_one("Through which gateway.")
    holder: Tenant | None = to_one("Who held the card then.", via="tenant")


@entity(stored.IntervalStatistic, prefix="ist", filters=("at", "tenant"), sorts=("at",))
class IntervalStatistic(Node):
    """Five minutes of a tenant and all below it (S0-63)."""

    at: datetime = column("When they began.")
    connections: int = column("Sessions that were open at some time of them (实时连接数).")
    new_users: int = column("Cards that had their first session ever (新增用户数).")
    tenant: Tenant | None = to_one("Whose, with all below it.")


@entity(stored.DailyStatistic, prefix="dst", filters=("day", "tenant"), sorts=("day",))
class DailyStatistic(Node):
    """A day of a tenant and all below it, by the platform's calendar (S0-64)."""

    day: date
    connections: int = column("Sessions that began (日连接数).")
    connection_growth: int = column("Against the day before (日增长量).")
    active_cards: int = column("Cards with a session.")
    new_users: int = column("Cards that had their first session ever.")
    upload_bytes: Decimal = computed(STAFF, lambda row: whole(row.upload_bytes), confidential=True)
    download_bytes: Decimal = computed(STAFF, lambda row: whole(row.download_bytes), confidential=True)
    counted_at: datetime
    tenant: Tenant | None = to_one("Whose, with all below it.")


@entity(stored.MonthlyStatistic, prefix="mst", filters=("month", "tenant"), sorts=("month",))
class MonthlyStatistic(Node):
    """A month of a tenant and all below it, from its days (S0-65)."""

    month: date = column("Its first day.")
    connections: int = column("Sessions that began.")
    busiest_day_connections: int = column("Sessions of the day that had most.")
    new_users: int = column("Cards that had their first session ever.")
    upload_bytes: Decimal = computed(STAFF, lambda row: whole(row.upload_bytes), confidential=True)
    download_bytes: Decimal = computed(STAFF, lambda row: whole(row.download_bytes), confidential=True)
    counted_at: datetime
    tenant: Tenant | None = to_one("Whose, with all below it.")


@entity(stored.DailyUsage, prefix="dus", filters=("day", "sim_card", "holder", "end_user"), sorts=("day",))
class DailyUsage(Node):
    """What a card used on a day, as its supplier says (S0-51); shown by the ratio of who held it (S0-56)."""

    day: date = column("Of China's calendar, as carriers count.")
    used_kb: Decimal = live("As it is shown to customers: whole KB.", needs=("used_kb", "tenant_id"))
    raw_used_kb: Decimal = computed(
        "As it was; for the platform's staff (S0-56).", lambda row: whole(row.used_kb), confidential=True
    )
    sim_card: SimCard | None = to_one("Which card.")
    holder: Tenant | None = to_one("Who held it then.", via="tenant")
    end_user: EndUser | None = to_one("Who used it then.")


@entity(stored.MonthlyUsage, prefix="mus", filters=("month", "sim_card", "holder", "end_user"), sorts=("month",))
class MonthlyUsage(Node):
    """What a card used in a month while one tenant held it and one person used it, from its days (S0-52)."""

    month: date = column("Its first day.")
    used_kb: Decimal = live("As it is shown to customers: whole KB.", needs=("used_kb", "tenant_id"))
    raw_used_kb: Decimal = computed(
        "As it was; for the platform's staff (S0-56).", lambda row: whole(row.used_kb), confidential=True
    )
    rolled_up_at: datetime
    sim_card: SimCard | None = to_one("Which card.")
    holder: Tenant | None = to_one("Who held it.", via="tenant")
    end_user: EndUser | None = to_one("Who used it.")


@value
class DataBalance:
    """What is left on a card of the data package in use, as it is shown to customers (S0-32)."""

    total_mb: int = strawberry.field(description="What the package holds.")
    used_kb: Decimal
    remaining_kb: Decimal
    expires_at: datetime | None = strawberry.field(description="When its period is over.")


@value
class UsageOnDay:
    """What was used on a day, as it is shown."""

    day: date
    used_kb: Decimal


@value
class DataUsage:
    """What a card, or all cards of an end user, used over some days, as it is shown; or why it is not told (S0-27)."""

    used_kb: Decimal | None
    days: list[UsageOnDay] = strawberry.field(description="The days on which something was used.")
    errors: list[UserError]


@entity(stored.UsageRatio, prefix="urt", filters=("customer", "ratio"), sorts=("created_at",))
class UsageRatio(Node):
    """By how much usage is shown greater to one customer, and to all below it that have no ratio of their own
    (S0-56)."""

    ratio: Decimal = column("At least 1.")
    created_at: datetime
    updated_at: datetime
    customer: Tenant | None = to_one("To whom.")


@input_type
class SetUsageRatioInput:
    """A customer's own ratio from 1 to 100, with at most four places; null takes it away (S0-56)."""

    customer: strawberry.ID
    ratio: Decimal | None


@value
class UsageRatioPayload:
    """The ratio by which the customer is shown its usage from now on; or why nothing was changed."""

    usage_ratio: UsageRatio | None = strawberry.field(description="The customer's own; null where it has none.")
    effective_ratio: Decimal | None
    errors: list[UserError]


@entity(stored.RetentionPolicy, prefix="rtp", filters=("table", "mode"), sorts=("created_at",))
class RetentionPolicy(Node):
    """For how many days rows are kept, and what becomes of them then (S0-62); what has not been counted is kept."""

    table: RetainedTable = column(of="retained_table")
    days: int
    mode: RetentionMode
    created_at: datetime
    updated_at: datetime


@input_type
class SetRetentionInput:
    """From 1 to 3650 days (S0-62)."""

    table: RetainedTable
    days: int
    mode: RetentionMode


@value
class RetentionPolicyPayload:
    """The policy as it now is, or why nothing was changed."""

    retention_policy: RetentionPolicy | None
    errors: list[UserError]
