"""What a process keeps of what is published to many: dictionaries, parameters.

Every process hears of changes on one Redis channel and forgets all of it, so that a change acts everywhere within a
second. While the channel is silent because the connection is lost, nothing is kept: each request asks the database.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, TypeVar

import redis.asyncio as redis
import structlog

T = TypeVar("T")

CHANNEL = "trellis:published"
KEPT_SECONDS = 60
KEPT_VALUES = 10_000
RETRY_SECONDS = 0.5

log = structlog.get_logger()


class Kept:
    def __init__(self, server: redis.Redis) -> None:
        self._redis = server
        self._values: dict[Hashable, tuple[float, Any]] = {}
        self._generation = 0
        self._task: asyncio.Task[None] | None = None
        self._telling: asyncio.Task[None] | None = None
        self.listening = False

    async def get(self, key: Hashable, read: Callable[[], Awaitable[T]]) -> T:
        """The kept value, or else what ``read`` finds, which must be what is committed."""
        found = self._values.get(key)
        if found is not None and self.listening and found[0] > time.monotonic():
            kept: T = found[1]
            return kept
        generation = self._generation
        value = await read()
        # what was read before a change may be older than the change
        if self.listening and generation == self._generation:
            if len(self._values) >= KEPT_VALUES:
                self._values.clear()
            self._values[key] = (time.monotonic() + KEPT_SECONDS, value)
        return value

    async def changed(self) -> None:
        """Tells every process, this one first, that what is kept is to be read again."""
        self._forget()
        try:
            await self._redis.publish(CHANNEL, "changed")
        except (redis.RedisError, OSError) as error:
            # what has changed is committed: the caller's work is done, and the others are told when they can be
            log.warning("a change of what is published could not be told; trying again", error=str(error))
            self._telling = asyncio.create_task(self._tell_later(), name="telling of published changes")

    async def start(self) -> None:
        ready = asyncio.Event()
        self._task = asyncio.create_task(self._listen(ready), name="published changes")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(ready.wait(), 5)

    async def stop(self) -> None:
        for task in (self._task, self._telling):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    def _forget(self) -> None:
        self._generation += 1
        self._values.clear()

    async def _tell_later(self) -> None:
        while True:
            await asyncio.sleep(RETRY_SECONDS)
            with contextlib.suppress(redis.RedisError, OSError):
                await self._redis.publish(CHANNEL, "changed")
                return

    async def _listen(self, ready: asyncio.Event) -> None:
        while True:
            try:
                async with self._redis.pubsub() as channel:
                    await channel.subscribe(CHANNEL)
                    # a subscription, also one that the client renews by itself, may have missed what was said before
                    async for _ in channel.listen():
                        self._forget()
                        self.listening = True
                        ready.set()
            except (redis.RedisError, OSError) as error:
                log.warning("published changes are not heard; asking the database each time", error=str(error))
                await asyncio.sleep(RETRY_SECONDS)
            finally:
                self.listening = False
                self._forget()
