"""How often a caller may ask: a token bucket, which fills evenly and holds a tenth of a minute's requests."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

LEAST_ROOM = 10.0


@dataclass(slots=True)
class Bucket:
    """What is left to one caller, or to all callers of one tenant, in this process."""

    rate: float
    """Requests a second."""
    room: float
    left: float
    at: float

    @classmethod
    def full(cls, per_minute: int, now: float) -> Bucket:
        rate = per_minute / 60
        room = max(LEAST_ROOM, rate * 6)
        return cls(rate, room, room, now)

    def fill(self, now: float) -> None:
        self.left = min(self.room, self.left + (now - self.at) * self.rate)
        self.at = now

    @property
    def limit(self) -> int:
        """Requests that may come at once."""
        return int(self.room)

    @property
    def remaining(self) -> int:
        """Requests that may come right now."""
        return int(self.left)

    @property
    def full_in(self) -> int:
        """Seconds, rounded up, until ``limit`` is there again."""
        return math.ceil((self.room - self.left) / self.rate)

    @property
    def next_in(self) -> int:
        """Seconds, rounded up, until one more request may come; one at least."""
        return max(1, math.ceil((1 - self.left) / self.rate))

    @property
    def full_at(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self.full_in)
