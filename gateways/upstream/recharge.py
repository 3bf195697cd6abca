"""What every upstream recharge system does: take a recharge, and tell what became of it."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Protocol

from gateways.http import GatewayError


class RechargeState(enum.Enum):
    ACCEPTED = "ACCEPTED"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    NOT_THERE = "NOT_THERE"
    """The upstream has never had a recharge of this number."""


@dataclass(frozen=True)
class Account:
    """Who asks: `number` and `secret` as the upstream gave them."""

    number: str
    secret: str = field(repr=False)

    @classmethod
    def of(cls, api_key: str | None) -> Account:
        """From what a supplier's API key holds: `number:secret`."""
        number, _, secret = (api_key or "").partition(":")
        if not number or not secret:
            raise GatewayError("UPSTREAM_REFUSED", "The supplier's API key must be number:secret.")
        return cls(number, secret)


@dataclass(frozen=True)
class Recharge:
    """What is to be recharged: the request's number makes a repeat the same one."""

    request_no: str
    service: str
    """AIRTIME, DATA, VOICE or SMS."""
    article: str
    """What the upstream calls it."""
    card_no: str
    quantity: int


@dataclass(frozen=True)
class RechargeOutcome:
    """What the upstream says of a recharge."""

    state: RechargeState
    upstream_no: str | None = None
    answer: str = ""
    """Its code or state, and none of its words."""


class Upstream(Protocol):
    """An adapter for one family of upstream systems.

    Both calls raise GatewayError: UPSTREAM_UNAVAILABLE where there is no usable answer, so that the outcome is unknown;
    UPSTREAM_REFUSED where the upstream did not take the call at all.
    """

    async def submit(self, account: Account, recharge: Recharge) -> RechargeOutcome: ...

    async def find(self, account: Account, request_no: str) -> RechargeOutcome: ...

    async def close(self) -> None: ...
