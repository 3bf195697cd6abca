"""The time that a piece of work may take, kept for all of them by one timer.

``asyncio.timeout`` arms and disarms a timer for each request, which costs a short one a tenth of its time. Here all
work under way is looked through a few times a second, so a deadline may be passed by ``PRECISION`` seconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

T = TypeVar("T")

PRECISION = 0.2


class Deadlines:
    """The deadlines of one event loop."""

    def __init__(self) -> None:
        self._until: dict[asyncio.Task[Any], float] = {}
        self._late: set[asyncio.Task[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None

    async def within(self, seconds: float, work: Awaitable[T]) -> T:
        """The result of work that is cancelled after so many seconds; then TimeoutError is raised."""
        loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        assert task is not None
        self._until[task] = loop.time() + seconds
        if self._timer is None:
            self._timer = loop.call_later(PRECISION, self._look, loop)
        cancelling = task.cancelling()
        try:
            return await work
        except asyncio.CancelledError:
            # somebody else may have cancelled it as well: that is not ours to swallow
            if task in self._late and task.uncancel() <= cancelling:
                raise TimeoutError from None
            raise
        finally:
            self._until.pop(task, None)
            self._late.discard(task)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for task in [task for task, until in self._until.items() if until <= now]:
            del self._until[task]
            self._late.add(task)
            task.cancel()
        self._timer = loop.call_later(PRECISION, self._look, loop) if self._until else None
