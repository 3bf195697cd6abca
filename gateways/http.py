"""Outgoing HTTP: how every gateway calls its partner.

Nothing secret leaves here. Partners want passwords and tokens in the query of an address, so an address is never part
of an error's text, and the client's own log lines lose their queries.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Generic, TypeVar

import httpx
import structlog
from redis.backoff import FullJitterBackoff

log = structlog.get_logger()

CONNECT_SECONDS = 3.0
ATTEMPTS = 3
BACKOFF = FullJitterBackoff(cap=2.0, base=0.2)
IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
PASSING_STATUSES = frozenset({429, 502, 503, 504})
CONNECTION_ERRORS = (httpx.NetworkError, httpx.RemoteProtocolError, httpx.ConnectTimeout)

T = TypeVar("T")


class GatewayError(Exception):
    """A partner did not do what it was asked. The text may be shown to whoever asked.

    Codes: `<KIND>_UNAVAILABLE` (no usable answer: try later), `<KIND>_REFUSED` (it answered, and said no), with the
    kind of partner, such as CARRIER; `NOT_SUPPORTED` (no adapter speaks to it).
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


_heard: ContextVar[list[str] | None] = ContextVar("heard", default=None)
LONGEST_ANSWER = 1_000
"""So many characters of an answer are kept."""


@contextmanager
def hearing() -> Iterator[list[str]]:
    """What partners answer within the block, as it comes, for the books of whoever asked; what holds secrets is left
    out."""
    heard: list[str] = []
    token = _heard.set(heard)
    try:
        yield heard
    finally:
        _heard.reset(token)


class CircuitBreaker:
    """Spares a partner that is down, and those who would wait for it.

    It opens after `failures` in a row. From then on one call in each `pause_seconds` is let through to try; the first
    that succeeds closes it.
    """

    def __init__(self, failures: int = 5, pause_seconds: float = 30.0) -> None:
        self._limit = failures
        self._pause_seconds = pause_seconds
        self._in_a_row = 0
        self._try_at = 0.0

    def admits(self) -> bool:
        if self._in_a_row < self._limit:
            return True
        if time.monotonic() < self._try_at:
            return False
        # The next trial is due even when the caller of this one goes away without an outcome.
        self._try_at = time.monotonic() + self._pause_seconds
        return True

    def succeeded(self) -> None:
        self._in_a_row = 0

    def failed(self) -> None:
        self._in_a_row += 1
        self._try_at = time.monotonic() + self._pause_seconds


class PerLoop(Generic[T]):
    """One value for each event loop, made on first use: connections and locks work in the loop they began in only."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._values: dict[asyncio.AbstractEventLoop, T] = {}

    def get(self) -> T:
        loop = asyncio.get_running_loop()
        if loop not in self._values:
            for closed in [known for known in self._values if known.is_closed()]:
                del self._values[closed]
            self._values[loop] = self._make()
        return self._values[loop]

    def pop(self) -> T | None:
        return self._values.pop(asyncio.get_running_loop(), None)


@dataclass(frozen=True)
class _Line:
    client: httpx.AsyncClient
    slots: asyncio.Semaphore


@dataclass(frozen=True)
class _Failure:
    reason: str
    worth_repeating: bool


class Partner:
    """The connections to one partner, for all tenants of this process.

    `kind` begins the codes of its errors. One attempt takes at most `timeout_seconds`; at most `concurrency` run at
    once in an event loop, the others wait their turn.
    """

    def __init__(
        self,
        kind: str,
        name: str,
        *,
        timeout_seconds: float = 10.0,
        concurrency: int = 8,
        breaker: CircuitBreaker | None = None,
    ) -> None:
        self.name = name
        self._unavailable = f"{kind}_UNAVAILABLE"
        self._timeout_seconds = timeout_seconds
        self._concurrency = concurrency
        self._breaker = breaker or CircuitBreaker()
        self._lines = PerLoop(self._line)

    async def send(
        self, build: Callable[[httpx.AsyncClient], httpx.Request], *, repeat: bool = True, secret: bool = False
    ) -> httpx.Response:
        """The partner's answer, whatever it says, unless it is HTTP 429 or 5xx, which count as no answer.

        The request is built anew for each attempt: partners want call numbers and signatures that are used once. Only
        idempotent methods are repeated, after connection errors and passing statuses; a timeout is not, because
        somebody is waiting. Without ``repeat`` nothing is. An answer that is ``secret`` is not heard.
        """
        attempt = 1
        while True:
            outcome = await self._attempt(build, repeat=repeat, secret=secret)
            if isinstance(outcome, httpx.Response):
                return outcome
            log.warning("a partner failed", partner=self.name, reason=outcome.reason, attempt=attempt)
            if attempt == ATTEMPTS or not outcome.worth_repeating:
                raise GatewayError(self._unavailable, f"{self.name} {outcome.reason}.")
            await asyncio.sleep(BACKOFF.compute(attempt))
            attempt += 1

    async def close(self) -> None:
        """Ends the connections of the running event loop; the next call makes new ones."""
        line = self._lines.pop()
        if line is not None:
            await line.client.aclose()

    def _line(self) -> _Line:
        return _Line(
            httpx.AsyncClient(
                timeout=httpx.Timeout(self._timeout_seconds, connect=CONNECT_SECONDS),
                # One tenant's session at the partner must not become the next one's.
                cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            ),
            asyncio.Semaphore(self._concurrency),
        )

    async def _attempt(
        self, build: Callable[[httpx.AsyncClient], httpx.Request], *, repeat: bool, secret: bool
    ) -> httpx.Response | _Failure:
        line = self._lines.get()
        async with line.slots:
            if not self._breaker.admits():
                return _Failure("is not called for a while, after failures in a row", worth_repeating=False)
            request = build(line.client)
            idempotent = repeat and request.method in IDEMPOTENT
            try:
                async with asyncio.timeout(self._timeout_seconds):
                    response = await line.client.send(request)
            except (httpx.HTTPError, TimeoutError) as error:
                self._breaker.failed()
                reason = "did not answer in time" if _is_timeout(error) else "could not be reached"
                return _Failure(reason, worth_repeating=idempotent and isinstance(error, CONNECTION_ERRORS))
            heard = _heard.get()
            if heard is not None and not secret:
                # a text column could not hold a NUL
                heard.append(response.text[:LONGEST_ANSWER].replace("\x00", "\ufffd"))
            status = response.status_code
            if status == 429 or status >= 500:
                self._breaker.failed()
                worth_repeating = idempotent and status in PASSING_STATUSES
                return _Failure(f"answered with HTTP status {status}", worth_repeating=worth_repeating)
            self._breaker.succeeded()
            return response


def _is_timeout(error: Exception) -> bool:
    return isinstance(error, TimeoutError | httpx.TimeoutException)


class _WithoutQueries(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(_bare(value) if isinstance(value, httpx.URL) else value for value in record.args)
        return True


def _bare(url: httpx.URL) -> httpx.URL:
    return url.copy_with(query=None, username="", password="")


# httpx logs the whole address of every request, at INFO.
logging.getLogger("httpx").addFilter(_WithoutQueries())
