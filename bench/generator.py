"""A load generator for machines without wrk: 32 connections, one request after the other on each, raw sockets."""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import uvloop

CONNECTIONS = 32


def _raw(line: str) -> bytes:
    path, token, body = line.split(" ", 2)
    payload = body.encode()
    return (
        f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {token}\r\n"
        f"content-type: application/json\r\naccept: application/json\r\ncontent-length: {len(payload)}\r\n\r\n"
    ).encode() + payload


class Connection(asyncio.Protocol):
    """Sends the next request when the answer to the last one is complete."""

    def __init__(self, requests: Iterator[bytes], times: list[float]) -> None:
        self.requests = requests
        self.times = times
        self.errors = 0
        self.received = b""
        self.missing = -1
        self.sent = 0.0
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are not asyncio's by inheritance
        self.transport = cast(asyncio.Transport, transport)
        self._send()

    def _send(self) -> None:
        assert self.transport is not None
        self.received, self.missing = b"", -1
        self.sent = time.perf_counter()
        self.transport.write(next(self.requests))

    def data_received(self, data: bytes) -> None:
        if self.missing >= 0:
            self.missing -= len(data)
        else:
            self.received += data
            head, found, body = self.received.partition(b"\r\n\r\n")
            if not found:
                return
            self.errors += not head.startswith(b"HTTP/1.1 200")
            length = next(h for h in head.split(b"\r\n") if h.lower().startswith(b"content-length:"))
            self.missing = int(length.partition(b":")[2]) - len(body)
        if self.missing <= 0:
            self.times.append(time.perf_counter() - self.sent)
            self._send()


async def run(port: int, lines: list[str], seconds: float) -> None:
    prepared = itertools.cycle([_raw(line) for line in lines])
    times: list[float] = []
    made: list[Connection] = []

    def connection() -> Connection:
        made.append(Connection(prepared, times))
        return made[-1]

    started = time.perf_counter()
    for _ in range(CONNECTIONS):
        await asyncio.get_running_loop().create_connection(connection, "127.0.0.1", port)
    await asyncio.sleep(seconds)
    elapsed = time.perf_counter() - started
    ordered = sorted(times) or [0.0]
    found = {
        "requests": len(times),
        "microseconds": elapsed * 1e6,
        "p50": ordered[len(ordered) // 2] * 1e6,
        "p99": ordered[len(ordered) * 99 // 100] * 1e6,
        "errors": sum(c.errors for c in made),
    }
    print("RESULT " + json.dumps(found))


if __name__ == "__main__":
    uvloop.run(run(int(sys.argv[1]), Path(sys.argv[2]).read_text().splitlines(), float(sys.argv[3])))
