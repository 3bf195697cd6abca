"""What is asked of a carrier about cards, and what it answers."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Protocol

from gateways.http import GatewayError


class CardStatus(enum.StrEnum):
    """Where a card is in its life, as its carrier sees it."""

    TESTABLE = "TESTABLE"
    """可测试: may be tried out before it is put into service."""
    STOCK = "STOCK"
    """库存: not handed out."""
    READY = "READY"
    """待激活: its first use activates it."""
    ACTIVE = "ACTIVE"
    SUSPENDED = "SUSPENDED"
    """停机, also one-way."""
    TERMINATED = "TERMINATED"
    """销户, or about to be."""
    UNKNOWN = "UNKNOWN"
    """The carrier gives it a status that is none of these."""


@dataclass(frozen=True)
class CardState:
    """A card as its carrier sees it now; `online` while it has a data session."""

    status: CardStatus
    online: bool


@dataclass(frozen=True)
class CarrierQuery:
    """Cards of one supplier: which adapter speaks to it, with which credentials, about which cards."""

    interface_name: str
    api_key: str | None = field(repr=False)
    iccids: Sequence[str]


@dataclass(frozen=True)
class RealName:
    """Who wants a card put into service: under a number of ours that makes a repeat the same request, with both sides
    of the identity card as base64."""

    request_no: str
    name: str = field(repr=False)
    id_number: str = field(repr=False)
    front: str = field(repr=False)
    back: str = field(repr=False)


@dataclass(frozen=True)
class RealNameOutcome:
    """What the carrier says: yes, no, or, with None, that it has not decided yet."""

    verified: bool | None
    reference: str | None = None


class Carrier(Protocol):
    """An adapter for one carrier's interface."""

    async def states(self, api_key: str | None, iccids: Sequence[str]) -> list[CardState | GatewayError]:
        """One answer for each card, in order."""
        ...

    async def usage(self, api_key: str | None, iccids: Sequence[str], day: date) -> list[int | GatewayError]:
        """What each card used on a day of China's calendar, in KB, in order."""
        ...

    async def register(self, api_key: str | None, iccid: str, real_name: RealName) -> RealNameOutcome:
        """Shows the carrier who uses a card; asked again with the same number, it tells what it has decided."""
        ...

    async def close(self) -> None:
        """Ends the connections of the running event loop."""
        ...
