"""Payment channels: WeChat Pay and Alipay, each with a sandbox that speaks its wire format."""

from gateways.payment.channel import (
    Acknowledgement,
    Channel,
    ChannelPayment,
    ChannelRefund,
    Charge,
    Entry,
    ForgedError,
    Merchant,
    MiniProgramParameters,
    PaymentState,
    RefusedError,
    Repayment,
)
from gateways.payment.registry import channels

__all__ = [
    "Acknowledgement",
    "Channel",
    "ChannelPayment",
    "ChannelRefund",
    "Charge",
    "Entry",
    "ForgedError",
    "Merchant",
    "MiniProgramParameters",
    "PaymentState",
    "RefusedError",
    "Repayment",
    "channels",
]
