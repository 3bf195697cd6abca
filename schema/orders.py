"""Orders in the graph: what was bought, at which price, what became of it, and the packages on cards."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import strawberry

import models.direct_orders
import models.orders as stored
import models.payments
import models.pricing
from models.catalog import PackagePeriod, PlanKind
from models.orders import CommissionStatus, OrderKind, OrderStatus, PayType, SubscriptionStatus
from planner.mapping import Connection, Node, column, entity, enum_type, input_type, to_many, to_one, value
from schema.common import UserError
from schema.masks import masked_phone
from schema.sim import SimSelectionInput

if TYPE_CHECKING:
    from schema.catalog import DataPackage
    from schema.direct_orders import DirectOrder
    from schema.identity import EndUser, StaffAccount
    from schema.ledger import LedgerTransfer
    from schema.payments import Payment
    from schema.pricing import OrderComponent
    from schema.sim import SimCard
    from schema.system import Task
    from schema.tenancy import Tenant

enum_type(OrderKind, "What was bought.")
enum_type(OrderStatus, "What became of an order.")
enum_type(PayType, "How an order was paid (支付類型).")
enum_type(CommissionStatus, "Whether the agents have had their shares of an order (分潤狀態).")
enum_type(SubscriptionStatus, "Whether a package on a card waits, is in use, or is over, and why.")

SEARCHABLE = (
    "kind",
    "status",
    "customer",
    "order_no",
    "amount",
    "pay_type",
    "source",
    "commission_status",
    "task",
    "created_at",
    "paid_at",
)


@entity(stored.Order, prefix="ord", interface=True, filters=SEARCHABLE, sorts=("created_at", "paid_at"))
class Order(Node):
    """What a customer has agreed to pay (S0-12, S0-13, S0-28, S0-29, S2-13)."""

    kind: OrderKind
    order_no: str = column("Twelve digits to be read out in three fours (單號).")
    status: OrderStatus
    amount: Decimal = column("What it costs, in ``currency``, as it was agreed.")
    currency: str = column("An ISO 4217 code.")
    source: str = column("The door that it came through (來源).")
    pay_type: PayType | None = column("How it was paid; null before that.")
    expires_at: datetime = column("Until when it could be paid.")
    created_at: datetime
    paid_at: datetime | None
    closed_at: datetime | None = column("When it was cancelled, ran out, or was refunded.")
    close_reason: str | None = column("Why it was cancelled or refunded.")
    needs_commission: bool = column("Whether agents have a share of it (是否需要分潤).")
    commission_status: CommissionStatus
    balance_after: Decimal | None = column(
        "What the paying account held afterwards, in ``currency``; for the customer and the platform.",
        confidential=True,
    )
    third_party_order_no: str | None = column("The number that a payment channel gave it.")
    remark: str | None
    customer: Tenant | None = to_one("Whose order it is: who pays, or the merchant that sells (商戶).", via="tenant")
    task: Task | None = to_one("The batch that it is a part of (任務號); null where it was ordered by itself.")
    creator: StaffAccount | None = to_one("Who made it (創建人).", via="account")
    transfer: LedgerTransfer | None = to_one("The money that moved when it was paid.")
    payments: Connection[Payment] = to_many(
        "What was asked for it through payment channels.", by=models.payments.Payment.order_id
    )


@entity(stored.PackageOrder, prefix="ord", filters=SEARCHABLE, sorts=("created_at", "paid_at"))
class PackageOrder(Order):
    """Data packages for cards (S2-04): a line for each card."""

    lines: Connection[OrderLine] = to_many("What was ordered.", by=stored.OrderLine.order_id)
    direct_orders: Connection[DirectOrder] = to_many(
        "What upstreams were asked for (S2-19).", by=models.direct_orders.DirectOrder.order_id
    )
    components: Connection[OrderComponent] = to_many(
        "What one of its packages was composed of, and what that cost then; for the platform's staff (S2-10).",
        by=models.pricing.OrderComponent.order_id,
    )


@entity(
    stored.RenewalOrder,
    prefix="ord",
    filters=(*SEARCHABLE, "end_user", "sim_card", "package"),
    sorts=("created_at", "paid_at"),
)
class RenewalOrder(Order):
    """A data package that an end user bought for a card of its own, paid through a channel (S0-33, S0-47)."""

    phone: str | None = column("The end user's phone number at the time (用户手机).", mask=masked_phone)
    bound_at: datetime | None = column("Since when the card was the end user's (绑定时间).")
    end_user: EndUser | None = to_one("Who pays (用户).")
    sim_card: SimCard | None = to_one("For which card; null where it is out of reach by now.")
    package: DataPackage | None = to_one("What was bought.", via="data_package")


@entity(stored.OrderLine, prefix="orl", filters=("sim_card", "package"))
class OrderLine(Node):
    """One package for one card, as it stood in the catalogue when it was ordered (S2-13)."""

    name: str = column("What the package was called.")
    period_type: PackagePeriod
    plan_kind: PlanKind
    data_volume_mb: int = column("In MB.")
    sms_count: int | None
    voice_minutes: int | None
    price: Decimal = column("In the order's currency.")
    order: Order | None = to_one("The order that it is part of.")
    sim_card: SimCard | None = to_one("For which card (卡號); null where it is out of reach by now.")
    package: DataPackage | None = to_one("What was ordered.", via="data_package")
    subscriptions: Connection[PackageSubscription] = to_many(
        "The package on the card, once the order is paid.", by=stored.PackageSubscription.order_line_id
    )


@entity(
    stored.PackageSubscription,
    prefix="psb",
    filters=("sim_card", "package", "status", "holder", "ends_at"),
    sorts=("ends_at",),
)
class PackageSubscription(Node):
    """A package on a card: waiting for its turn, in use, or over (S2-15). At most one of a card and kind is in use, and
    each begins where the one before it ended."""

    status: SubscriptionStatus
    plan_kind: PlanKind
    data_volume_mb: int = column("In MB.")
    period_type: PackagePeriod
    created_at: datetime = column("When it was paid.")
    starts_at: datetime | None = column("When it came into use.")
    ends_at: datetime | None = column("When its period is over.")
    ended_at: datetime | None = column("When it was over: used up, at the end of its period, or taken off the card.")
    holder: Tenant | None = to_one("Who holds the card, or did when it was over.", via="tenant")
    sim_card: SimCard | None = to_one("On which card.")
    package: DataPackage | None = to_one("Which package.", via="data_package")
    order_line: OrderLine | None = to_one("How it was bought.")


@input_type
class OrderPackagesInput:
    """A data package for each of some cards within reach, at today's price; at most a thousand cards (S2-04)."""

    package: strawberry.ID
    cards: SimSelectionInput
    remark: str | None = None
    idempotency_key: str


@input_type
class BatchRechargeInput:
    """A data package for each of very many cards within reach, at most ten thousand, paid from one's balance
    (S2-16)."""

    package: strawberry.ID
    cards: SimSelectionInput
    remark: str | None = None
    idempotency_key: str


@input_type
class PayOrderInput:
    """An order of one's own, to be paid from what one has paid in and one's credit (S0-37)."""

    id: strawberry.ID
    idempotency_key: str


@input_type
class CancelOrderInput:
    """An order that is not to be paid any more."""

    id: strawberry.ID
    reason: str | None = None
    idempotency_key: str


@input_type
class RefundOrderInput:
    """A paid order that is given back whole, and why."""

    id: strawberry.ID
    reason: str
    idempotency_key: str


@value
class OrderPayload:
    """The order as it now is, or why nothing was changed."""

    order: Order | None
    errors: list[UserError]


@value
class CurrencySales:
    """What was sold for one currency; refunded orders are left out (S0-25)."""

    currency: str
    orders: int
    amount: Decimal
    commission: Decimal | None = strawberry.field(
        description="What the agent earned itself; null for whoever is neither the agent nor the platform."
    )


@value
class AgentSales:
    """What an agent and those below it sold on some days of its time zone; or why it is not told (S0-25)."""

    first_day: date
    last_day: date
    time_zone: str | None
    activations: int | None = strawberry.field(description="Cards put into service for the first time.")
    sales: list[CurrencySales]
    errors: list[UserError]
