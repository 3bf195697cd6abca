"""Payments through channels in the graph: who collects, what was asked for and came in, what went back, and where the
channel's statement says something else."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import strawberry

import models.payments as stored
from models.catalog import CatalogStatus
from models.payments import (
    DifferenceKind,
    PaymentChannelKind,
    PaymentMethod,
    PaymentPurpose,
    PaymentStatus,
    RefundCause,
    RefundStatus,
)
from planner.mapping import Connection, Node, column, entity, enum_type, input_type, live, to_many, to_one, value
from schema.common import UserError

if TYPE_CHECKING:
    from schema.identity import EndUser, StaffAccount
    from schema.ledger import LedgerTransfer
    from schema.orders import Order
    from schema.tenancy import Tenant

enum_type(PaymentChannelKind, "Who brings the money.")
enum_type(PaymentMethod, "How the payer pays.")
enum_type(PaymentPurpose, "What a payment is for.")
enum_type(PaymentStatus, "Whether the money came.")
enum_type(RefundStatus, "Whether the money is back where it came from.")
enum_type(RefundCause, "Why money goes back: the order was refunded, or the money had nothing to buy when it came.")
enum_type(DifferenceKind, "What a channel's statement and the books do not agree on.")


@entity(stored.PaymentChannel, prefix="pch", filters=("kind", "status", "merchant_id"), sorts=("created_at",))
class PaymentChannel(Node):
    """A merchant's account with a payment channel; its keys are written and never read."""

    kind: PaymentChannelKind
    name: str
    app_id: str = column("The application that the channel knows.")
    merchant_id: str = column("WeChat Pay's merchant number; Alipay's seller id.")
    certificate_serial_no: str | None = column("Of the merchant's certificate; WeChat Pay only.", of="serial_no")
    channel_public_key_id: str | None = column("Of WeChat Pay's public key, where that is used.", of="channel_key_id")
    status: CatalogStatus
    created_at: datetime
    updated_at: datetime
    tenant: Tenant | None = to_one("For whom it collects.")


@value
class MiniProgramPayment:
    """What a mini-program hands to ``wx.requestPayment``, as WeChat names it."""

    app_id: str
    time_stamp: str
    nonce_str: str
    package: str
    sign_type: str
    pay_sign: str


@entity(
    stored.Payment,
    prefix="pay",
    filters=(
        "status",
        "purpose",
        "channel_kind",
        "method",
        "customer",
        "end_user",
        "order",
        "payment_no",
        "transaction_no",
        "amount",
        "created_at",
        "paid_at",
    ),
    sorts=("created_at", "paid_at"),
)
class Payment(Node):
    """Money that somebody was asked for through a channel, and whether it came (S0-15, S0-55)."""

    payment_no: str = column("The number by which the channel knows it (商户订单号).")
    channel_kind: PaymentChannelKind
    method: PaymentMethod
    purpose: PaymentPurpose
    status: PaymentStatus
    amount: Decimal = column("In ``currency``.")
    currency: str = column("An ISO 4217 code.")
    transaction_no: str | None = column("The channel's own number, such as WeChat's order number (S0-55).")
    created_at: datetime
    expires_at: datetime = column("Until when it can be paid.")
    paid_at: datetime | None = column("When the payer paid, as the channel says.")
    closed_at: datetime | None = column("When the channel was told that nobody pays it any more.")
    customer: Tenant | None = to_one("Whose account or card it is for.", via="tenant")
    end_user: EndUser | None = to_one("The person who pays; null where a company does.")
    order: Order | None = to_one("What it pays; null for money in advance.")
    creator: StaffAccount | None = to_one("Who asked for it in a company.", via="account")
    transfer: LedgerTransfer | None = to_one("The money that moved when it came.")
    refunds: Connection[PaymentRefund] = to_many("What of it went back.", by=stored.PaymentRefund.payment_id)
    code_url: str | None = live(
        "What a QR code is made of; null once it cannot be paid any more. PAYMENT_UNAVAILABLE: ask again (S2-27).",
    )
    mini_program: MiniProgramPayment | None = live(
        "What the payer's mini-program pays with; null once it cannot be paid any more (S0-33).",
    )


@entity(
    stored.PaymentRefund,
    prefix="prf",
    filters=("status", "cause", "customer", "amount", "refund_no", "created_at", "settled_at"),
    sorts=("created_at",),
)
class PaymentRefund(Node):
    """A payment that goes back, whole, to where it came from."""

    refund_no: str = column("The number by which the channel knows it (商户退款单号).")
    amount: Decimal = column("In ``currency``.")
    currency: str
    cause: RefundCause
    status: RefundStatus
    channel_refund_no: str | None = column("The channel's own number.")
    attempts: int = column("How often the channel was told.")
    last_answer: str | None = column("The channel's last word on it, for staff.")
    created_at: datetime
    settled_at: datetime | None = column("When the money had left.")
    reference: str | None = column("By which reference finance paid it back by hand; null where the channel did.")
    customer: Tenant | None = to_one("Whose account or card the payment was for.", via="tenant")
    payment: Payment | None = to_one("What goes back.")
    settled_by: StaffAccount | None = to_one("Who paid it back by hand.")
    transfer: LedgerTransfer | None = to_one("The money that moved when it had left.")


@entity(stored.PaymentReconciliation, prefix="prc", filters=("channel", "day", "differing"), sorts=("day",))
class PaymentReconciliation(Node):
    """A day of a channel's statement held against the books."""

    day: date = column("Of China's calendar, as channels count.")
    entries: int = column("Lines of the statement.")
    matched: int = column("Of these, how many the books have with the same amount.")
    differing: int = column("How many things differ, on either side.")
    created_at: datetime
    updated_at: datetime = column("When the day was compared last.")
    channel: PaymentChannel | None = to_one("Whose statement.")


@entity(
    stored.PaymentDifference,
    prefix="pdf",
    filters=("channel", "kind", "day", "payment_no", "resolved_at"),
    sorts=("day", "created_at"),
)
class PaymentDifference(Node):
    """Where a channel and the books do not agree, until somebody has looked into it."""

    kind: DifferenceKind
    day: date = column("Of China's calendar.")
    payment_no: str
    transaction_no: str | None
    refund_no: str | None = column("Where it is about a refund.")
    amount_here: Decimal | None = column("What the books have; null where they have nothing.")
    amount_at_channel: Decimal | None = column("What the channel has; null where it has nothing.")
    created_at: datetime
    resolved_at: datetime | None
    remark: str | None = column("What it was.")
    channel: PaymentChannel | None = to_one("Whose statement or notice.")
    payment: Payment | None = to_one("The payment here; null where there is none.")
    resolved_by: StaffAccount | None = to_one("Who looked into it.")


@input_type
class CreatePaymentChannelInput:
    """A merchant's account with a channel. Keys are PEM; the API v3 key has 32 characters.

    WeChat Pay wants ``privateKey``, ``apiV3Key`` and ``certificateSerialNo``; its public key with its id where that is
    used instead of its certificates. Alipay wants ``privateKey`` and ``channelPublicKey``.
    """

    kind: PaymentChannelKind
    name: str
    app_id: str
    merchant_id: str
    private_key: str
    certificate_serial_no: str | None = None
    api_v3_key: str | None = strawberry.field(name="apiV3Key", default=None)
    channel_public_key: str | None = None
    channel_public_key_id: str | None = None


@input_type
class UpdatePaymentChannelInput:
    """What is given is changed; keys that are left out stay as they are."""

    id: strawberry.ID
    name: str | None = None
    status: CatalogStatus | None = None
    private_key: str | None = None
    certificate_serial_no: str | None = None
    api_v3_key: str | None = strawberry.field(name="apiV3Key", default=None)
    channel_public_key: str | None = None
    channel_public_key_id: str | None = None


@value
class PaymentChannelPayload:
    """The account as it now is, or why nothing was changed."""

    payment_channel: PaymentChannel | None
    errors: list[UserError]


@input_type
class CreatePaymentInput:
    """An order of one's own, to be paid through a channel: by a QR code, or inside WeChat's mini-program."""

    order: strawberry.ID
    channel: PaymentChannelKind
    idempotency_key: str
    method: PaymentMethod = PaymentMethod.QR_CODE


@input_type
class CreatePrepaymentInput:
    """Money to be paid in by scanning a code (S2-27), in the currency of one's company."""

    amount: Decimal
    channel: PaymentChannelKind
    idempotency_key: str


@value
class PaymentPayload:
    """The payment as it now is, or why nothing was changed."""

    payment: Payment | None
    errors: list[UserError]


@input_type
class RenewSimCardInput:
    """A data package for a card of one's own, to be paid through a channel (S0-33)."""

    card: strawberry.ID
    package: strawberry.ID
    idempotency_key: str
    channel: PaymentChannelKind = PaymentChannelKind.WECHAT_PAY
    method: PaymentMethod = PaymentMethod.MINI_PROGRAM


@value
class RenewSimCardPayload:
    """The order and the payment that it waits for; or why there is none. ENTERPRISE_CARD: an enterprise holds the
    card, and recharges it."""

    order: Order | None
    payment: Payment | None
    errors: list[UserError]


@input_type
class RetryPaymentRefundInput:
    """A refund that failed, to be tried again."""

    id: strawberry.ID
    idempotency_key: str


@input_type
class MarkRefundPaidInput:
    """A refund that the channel would not make, paid back by bank transfer: by which reference."""

    id: strawberry.ID
    reference: str
    idempotency_key: str


@value
class PaymentRefundPayload:
    """The refund as it now is, or why nothing was changed."""

    refund: PaymentRefund | None
    errors: list[UserError]


@input_type
class ReconcilePaymentsInput:
    """A day of China's calendar, at most ninety days back, to be held against a channel's statement now."""

    channel: strawberry.ID
    day: date


@value
class ReconcilePaymentsPayload:
    """Whether the comparison has been set going."""

    started: bool
    errors: list[UserError]


@input_type
class ResolvePaymentDifferenceInput:
    """What a difference was."""

    id: strawberry.ID
    remark: str


@value
class PaymentDifferencePayload:
    """The difference as it now is, or why nothing was changed."""

    difference: PaymentDifference | None
    errors: list[UserError]
