"""A partner's system that takes webhooks: a real HTTP server, which answers as it is told and keeps what it got."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Received:
    path: str
    headers: dict[str, str]
    body: str


@dataclass
class Receiver:
    url: str = ""
    received: list[Received] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    """What it answers next; 200 where nothing is said."""
    says: str = "thanks"
    location: str | None = None
    arrived: threading.Event = field(default_factory=threading.Event)
    holding: threading.Event | None = None
    """As long as it is not set, answers wait."""

    @property
    def ids(self) -> list[str]:
        return [one.headers["trellis-event-id"] for one in self.received]


@contextmanager
def receiving() -> Iterator[Receiver]:
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"])).decode()
            receiver.received.append(
                Received(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
            )
            receiver.arrived.set()
            status = receiver.statuses.pop(0) if receiver.statuses else 200
            if receiver.holding is not None:
                receiver.holding.wait(60)
            says = receiver.says.encode()
            self.send_response(status)
            if receiver.location is not None:
                self.send_header("location", receiver.location)
            self.send_header("content-length", str(len(says)))
            self.end_headers()
            self.wfile.write(says)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    receiver.url = f"http://127.0.0.1:{server.server_address[1]}/hook"
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
