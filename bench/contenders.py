"""The servers that are measured, each one process with a core of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import jwt

from bench.data import CUSTOMERS, session_key
from bench.load import Measure, Request, measure, wait_for_port, write_requests
from bench.operations import Flavour, Variables
from bench.services import SECRET, Place
from server.embedded.processes import CannotRunError, free_port, spawn, stop, tail
from server.settings import PROJECT
from services.keys import Keys

TOKEN_SECONDS = 12 * 3600


@dataclass(frozen=True)
class Kind:
    """A way to answer: its application, and how it is asked."""

    name: str
    application: str
    path: str
    flavour: Flavour


TRELLIS = Kind("trellis", "bench.serve_trellis:create_app", "/agent/graphql", Flavour.GRAPH)
LIMIT = Kind("limit", "bench.limit:app", "/graphql", Flavour.BASE64)
BARE = Kind("bare", "bench.limit:bare", "/graphql", Flavour.NUMBERS)
PLAIN = Kind("plain", "bench.plain:app", "/graphql", Flavour.NUMBERS)


@dataclass(frozen=True)
class Server:
    """A running contender."""

    kind: Kind
    name: str
    process: subprocess.Popen[bytes]
    port: int
    tokens: dict[int, str]
    folder: Path

    def request(self, operation: str, given: Variables) -> Request:
        body = json.dumps(self.kind.flavour.payload(operation, given), separators=(",", ":"))
        return Request(self.kind.path, self.tokens[given.customer], body)

    def prepare(self, operation: str, given: list[Variables]) -> None:
        """Writes the requests that ``measure`` will send."""
        write_requests(self._file(operation), [self.request(operation, one) for one in given])

    def ask(self, client: httpx.Client, operation: str, given: Variables) -> Any:
        """One answer, comparable with that of another contender. Raises when it holds an error."""
        request = self.request(operation, given)
        headers = {"authorization": f"Bearer {request.token}", "content-type": "application/json"}
        response = client.post(f"http://127.0.0.1:{self.port}{request.path}", content=request.body, headers=headers)
        answer = response.json()
        if response.status_code != 200 or "errors" in answer:
            raise RuntimeError(f"{self.kind.name} fails {operation}: {response.status_code} {response.text[:500]}")
        return self.kind.flavour.comparable(answer)

    def measure(self, operation: str, seconds: float, postmaster: int) -> Measure:
        return measure(self.port, self._file(operation), seconds, self.process.pid, postmaster)

    def _file(self, operation: str) -> Path:
        return self.folder / f"{self.name}-{operation}.requests"


def access_token(account: int) -> str:
    """A token as a log-in gives it, for the stored session of a customer's staff."""
    now = int(time.time())
    claims = {"sub": str(account), "sid": str(session_key(account)), "aud": "agent", "exp": now + TOKEN_SECONDS}
    return jwt.encode({**claims, "iat": now}, Keys(SECRET).signing, algorithm="HS256")


def start(place: Place, kind: Kind, database: str, paths: dict[int, str]) -> Server:
    """A server on its core; it ends with the place."""
    folder = place.state.path / "requests"
    folder.mkdir(exist_ok=True)
    environment = place.environment(database)
    if kind is TRELLIS:
        tokens = {customer: access_token(customer) for customer in CUSTOMERS}
    else:
        tokens = {customer: f"customer-{customer}" for customer in CUSTOMERS}
        callers = folder / "callers.json"
        callers.write_text(json.dumps({tokens[customer]: path for customer, path in paths.items()}))
        environment |= {"BENCH_CALLERS": str(callers), "BENCH_DATABASE_URL": place.owner_url(database)}
    port = free_port()
    factory = ["--factory"] if kind is TRELLIS else []
    name = f"{kind.name}-{next(place.started)}"
    log = place.state.log(name)
    process = spawn(
        [
            sys.executable, "-m", "uvicorn", kind.application, *factory, "--host", "127.0.0.1", "--port", str(port),
            "--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning",
        ],
        log=log,
        environment=environment,
        on_parent_death=signal.SIGKILL,
        folder=PROJECT,
    )  # fmt: skip
    os.sched_setaffinity(process.pid, place.cores.server)
    place.servers.callback(stop, process, (signal.SIGTERM, 5.0))
    if not wait_for_port(process, port):
        raise CannotRunError(f"{kind.name} did not start. Its log, {log}, ends with:\n{tail(log)}")
    return Server(kind, name, process, port, tokens, folder)
