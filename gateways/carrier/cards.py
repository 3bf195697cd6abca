"""What is asked of a carrier about cards, and what it answers."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta, timezone
from typing import Protocol, TypeVar

from gateways.http import GatewayError

CHINA = timezone(timedelta(hours=8))
"""The time that carriers count by."""


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
class Used:
    """How much data a card has used, in KB, since the beginning of a day of China's calendar."""

    kb: int
    since: date


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


class CardChange(enum.StrEnum):
    """What a carrier may be asked to make of a card."""

    SUSPEND = "SUSPEND"
    RESUME = "RESUME"
    CHANGE_PLAN = "CHANGE_PLAN"


@dataclass(frozen=True)
class ChangeRequest:
    """A change of one card, under a number of ours; `plan` is the carrier's own name of the plan that it is to have."""

    request_no: str
    change: CardChange
    plan: str | None = None


REACHED = {CardChange.SUSPEND: CardStatus.SUSPENDED, CardChange.RESUME: CardStatus.ACTIVE}
"""How a carrier sees a card that was suspended or resumed."""


class Carrier(Protocol):
    """An adapter for one carrier's interface."""

    registers: bool
    """Whether the carrier lets others show it who uses a card."""

    async def states(self, api_key: str | None, iccids: Sequence[str]) -> list[CardState | GatewayError]:
        """One answer for each card, in order."""
        ...

    async def usage(self, api_key: str | None, iccids: Sequence[str], day: date) -> list[Used | GatewayError]:
        """What each card used until the end of a day, in order: since its beginning, or since that of the cycle that
        the carrier counts by."""
        ...

    async def real_names(self, api_key: str | None, iccids: Sequence[str]) -> list[bool | GatewayError]:
        """Whether the carrier knows who uses each card, in order."""
        ...

    async def register(self, api_key: str | None, iccid: str, real_name: RealName) -> RealNameOutcome:
        """Shows the carrier who uses a card; asked again with the same number, it tells what it has decided."""
        ...

    async def change(self, api_key: str | None, iccid: str, request: ChangeRequest) -> str | None:
        """Asks for a change, and never twice; the carrier's own number of it, where it gives one.

        Raises GatewayError: CARRIER_UNAVAILABLE where there is no usable answer, so that nobody knows whether it was
        taken; CARRIER_REFUSED where it was not; NOT_SUPPORTED where the carrier has no such interface.
        """
        ...

    async def plan(self, api_key: str | None, iccid: str) -> str | None:
        """The plan that a card has. Raises GatewayError as above."""
        ...

    async def close(self) -> None:
        """Ends the connections of the running event loop."""
        ...


Found = TypeVar("Found")


async def each(iccids: Sequence[str], ask: Callable[[str], Awaitable[Found]]) -> list[Found | GatewayError]:
    """What is asked of one card after the other, as far as the partner lets at once; errors stand in their places."""

    async def one(iccid: str) -> Found | GatewayError:
        try:
            return await ask(iccid)
        except GatewayError as error:
            return error

    return await asyncio.gather(*(one(iccid) for iccid in iccids))
