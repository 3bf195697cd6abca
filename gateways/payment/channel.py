"""What every payment channel does: take a payment, tell of it, give it back, and account for a day."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Protocol

from gateways.http import GatewayError


@dataclass(frozen=True)
class Merchant:
    """Who is paid, and the keys by which the channel knows the merchant and is known.

    WeChat Pay: `key` is the API v3 key, `serial_no` that of the merchant's certificate; `channel_key_id` names
    `channel_key` where WeChat's own public key is used, else its certificates are fetched. Alipay: `channel_key` is
    Alipay's public key; the others are left out.
    """

    app_id: str
    merchant_id: str
    private_key: str = field(repr=False)
    serial_no: str | None = None
    key: str | None = field(default=None, repr=False)
    channel_key: str | None = field(default=None, repr=False)
    channel_key_id: str | None = None


@dataclass(frozen=True)
class Charge:
    """What somebody is asked to pay, until when, and where the channel tells of it."""

    payment_no: str
    description: str
    amount: Decimal
    currency: str
    expires_at: datetime
    notify_url: str


@dataclass(frozen=True)
class MiniProgramParameters:
    """What a mini-program hands to `wx.requestPayment`, signed."""

    app_id: str
    time_stamp: str
    nonce_str: str
    package: str
    sign_type: str
    pay_sign: str


class PaymentState(enum.Enum):
    """How far a payment or a refund is at the channel."""

    PENDING = "PENDING"
    SUCCEEDED = "SUCCEEDED"
    CLOSED = "CLOSED"
    REFUNDED = "REFUNDED"
    """A payment of which something went back."""
    UNKNOWN = "UNKNOWN"
    """The channel knows no payment of this number."""


@dataclass(frozen=True)
class ChannelPayment:
    """A payment as the channel has it."""

    payment_no: str
    state: PaymentState
    transaction_no: str | None = None
    amount: Decimal | None = None
    currency: str | None = None
    paid_at: datetime | None = None
    payer: str | None = None


@dataclass(frozen=True)
class Repayment:
    """What is given back of a payment; the number makes a repeat the same one."""

    payment_no: str
    refund_no: str
    amount: Decimal
    total: Decimal
    currency: str
    reason: str


@dataclass(frozen=True)
class ChannelRefund:
    """A refund as the channel has it."""

    refund_no: str
    state: PaymentState
    channel_refund_no: str | None = None
    word: str = ""
    """What the channel said of it, for the file."""
    at: datetime | None = None
    """When the money left."""


@dataclass(frozen=True)
class Entry:
    """A line of a channel's statement: a payment, or a refund where it has a refund number."""

    payment_no: str
    transaction_no: str
    amount: Decimal
    refund_no: str | None = None


@dataclass(frozen=True)
class Acknowledgement:
    """What the channel wants to hear of a notice: that it was taken, or that it is to come again."""

    status: int
    body: str
    content_type: str


class ForgedError(Exception):
    """A notice that the channel has not signed, or not for this merchant, or too long ago."""


class RefusedError(GatewayError):
    """The channel answered, and said no: with its own code."""

    def __init__(self, channel: str, code: str) -> None:
        super().__init__("PAYMENT_REFUSED", f"{channel} refused with {code[:64]}.")
        self.word = code


class Channel(Protocol):
    """One merchant's account with a payment channel.

    Every call raises GatewayError: PAYMENT_UNAVAILABLE where there is no usable answer, so that the outcome of what was
    asked is unknown; PAYMENT_REFUSED where the channel said no.
    """

    async def qr_code(self, charge: Charge) -> str:
        """What a QR code is made of, by which the payer's phone pays."""

    async def mini_program(self, charge: Charge, payer: str) -> MiniProgramParameters:
        """What the mini-program of the person behind an openid pays with. Refused where the channel has none."""

    async def payment(self, payment_no: str) -> ChannelPayment:
        """How far a payment is."""

    async def close(self, payment_no: str) -> None:
        """No payment of this number can succeed from now on. Refused where it has succeeded."""

    async def refund(self, repayment: Repayment) -> ChannelRefund:
        """Gives money back. A repeat with a number is the same refund."""

    async def refunded(self, repayment: Repayment) -> ChannelRefund:
        """How far a refund is."""

    async def notice(self, headers: Mapping[str, str], body: bytes) -> ChannelPayment | None:
        """What a notice says of a payment; None where it speaks of something else. Raises ForgedError."""

    def acknowledge(self, taken: bool) -> Acknowledgement:
        """The answer to a notice."""

    async def statement(self, day: date) -> Sequence[Entry]:
        """All that the channel booked for the merchant on a day of China's calendar."""
