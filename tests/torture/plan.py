"""What is done to the books: every operation follows from its number, so that whoever takes a dead process's place does
the same again, under the same keys."""

from __future__ import annotations

import enum
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal


class Kind(enum.Enum):
    TRANSFER = "TRANSFER"
    """Between the prepayments of two customers, by the service."""
    TOP_UP = "TOP_UP"
    ORDER = "ORDER"
    """A package for some cards, paid from the balance; half of them are given back."""
    WITHDRAWAL = "WITHDRAWAL"
    """Asked for, and paid, rejected or taken back."""


WEIGHTS = {Kind.TRANSFER: 92, Kind.TOP_UP: 2, Kind.ORDER: 4, Kind.WITHDRAWAL: 2}
CUSTOMERS = ("north", "north-east", "coast", "south", "south-west", "acme")
AGENTS = ("north", "north-east", "coast", "south")


@dataclass(frozen=True)
class Scene:
    """Where it happens: how the database and its Valkey are reached, and what the processes must know of the world."""

    database_url: str
    superuser_url: str
    redis_url: str
    folder: str
    package: str
    tenants: Mapping[str, int]
    cards: Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Operation:
    """One operation; what it does was drawn when it was made."""

    worker: int
    number: int
    kind: Kind
    amount: Decimal
    source: str
    target: str
    cards: tuple[int, ...]
    ending: int

    @property
    def key(self) -> str:
        return f"torture:{self.worker}:{self.number}"


def operation(seed: int, worker: int, number: int) -> Operation:
    draw = random.Random(f"{seed}:{worker}:{number}")
    (kind,) = draw.choices(list(WEIGHTS), list(WEIGHTS.values()))
    source, target = draw.sample(AGENTS if kind is Kind.WITHDRAWAL else CUSTOMERS, 2)
    return Operation(
        worker,
        number,
        kind,
        # now and then more than anybody has
        amount=Decimal(draw.randrange(1, 60_000)) / 1000 if draw.random() < 0.95 else Decimal(10**9),
        source=source,
        target=target,
        cards=tuple(draw.sample(range(3), draw.randint(1, 2))),
        ending=draw.randrange(4),
    )
