"""Child processes that never outlive whoever started them, even when that is killed with SIGKILL."""

import contextlib
import ctypes
import importlib.metadata
import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO

SYSTEM_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}

LEAVING_PATIENCE = 10.0
"""Seconds the servers of a launcher that was killed may take to shut down."""

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


class CannotRunError(RuntimeError):
    """A service cannot run here. The message tells the operator why."""


@dataclass(frozen=True)
class Account:
    """An account of the operating system."""

    name: str
    uid: int
    gid: int


def service_account() -> Account | None:
    """Whom the services run as: `nobody` when root starts them, otherwise (None) the caller."""
    if os.geteuid() != 0:
        return None
    entry = pwd.getpwnam("nobody")
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def spawn(
    command: Sequence[str],
    *,
    log: Path,
    environment: Mapping[str, str],
    on_parent_death: signal.Signals,
    account: Account | None = None,
    folder: Path = Path("/"),
    stdin: BinaryIO | int = subprocess.DEVNULL,
) -> subprocess.Popen[bytes]:
    """Start a child in a session of its own, so that Ctrl-C reaches it only through us.

    Call it from the main thread: the kernel sends `on_parent_death` when the *thread* that spawned ends.
    """
    with log.open("ab") as output:
        return subprocess.Popen(  # noqa: S603 - every command is one of ours
            command,
            stdin=stdin,
            stdout=output,
            stderr=output,
            env=environment,
            cwd=folder,
            start_new_session=True,
            preexec_fn=_die_with_parent(on_parent_death),
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
        )


def stop(process: subprocess.Popen[bytes], *steps: tuple[signal.Signals, float]) -> None:
    """End a child and its group: signal after signal, each with its seconds of patience, then SIGKILL."""
    for number, patience in steps:
        if process.poll() is None:
            process.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(patience)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def succeeds(command: Sequence[str], account: Account) -> bool:
    """Whether a command ends well when the account runs it: the only true test of what it can reach."""
    try:
        done = subprocess.run(  # noqa: S603 - every command is one of ours
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=SYSTEM_ENVIRONMENT,
            cwd="/",
            user=account.uid,
            group=account.gid,
            extra_groups=[],
            check=False,
        )
    except (FileNotFoundError, PermissionError):
        return False
    return done.returncode == 0


def installed(package: str) -> Path:
    """The folder of an installed package, without importing it."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"{package} is not installed", name=package)
    return Path(next(iter(spec.submodule_search_locations)))


def reachable(executable: Path, package: Path, account: Account | None, copies: Path) -> Path:
    """The executable of a package, or a copy of it below `copies` when the account cannot run it in place.

    A virtual environment below a 0700 home is out of the account's reach. The package's shared libraries
    (`<package>.libs`) are found relative to it, so they are copied along.
    """
    if account is None or succeeds([str(executable), "--version"], account):
        return executable
    copy = copies / f"{package.name}-{importlib.metadata.version(package.name)}"
    copied_executable = copy / executable.relative_to(package.parent)
    if not copy.exists():
        draft = copy.with_suffix(".draft")
        shutil.rmtree(draft, ignore_errors=True)
        for source in (package, package.with_name(f"{package.name}.libs")):
            if source.exists():
                shutil.copytree(source, draft / source.name, symlinks=True)
        copies.chmod(0o755)
        _open_to_all(draft)
        draft.rename(copy)
    if not succeeds([str(copied_executable), "--version"], account):
        raise CannotRunError(f"The account {account.name!r} cannot run {copied_executable}")
    return copied_executable


def working_in(folder: Path) -> list[int]:
    """The living processes whose working folder is `folder`: a server and the helpers it may have left.

    A pid file alone proves nothing: its number may since have gone to an unrelated process, or to a zombie.
    """
    wanted = str(folder.resolve())
    pids = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            with contextlib.suppress(OSError):
                if os.readlink(process / "cwd") == wanted:
                    pids.append(int(process.name))
    return pids


def wait_until_deserted(folder: Path) -> None:
    """Wait for the servers of a launcher that was killed a moment ago; a server that stays is somebody's."""
    deserted = eventually(lambda: not working_in(folder), LEAVING_PATIENCE)
    if not deserted:
        pids = ", ".join(map(str, working_in(folder)))
        raise CannotRunError(f"A server already runs on {folder} (process {pids}): stop it first")


def eventually(condition: Callable[[], bool], patience: float) -> bool:
    """Whether a condition comes true within `patience` seconds."""
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def is_free(host: str, port: int) -> bool:
    """Whether nobody listens on the port."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as candidate:
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            candidate.bind((host, port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """A loopback port that nobody uses at the moment."""
    with socket.socket() as candidate:
        candidate.bind(("127.0.0.1", 0))
        port: int = candidate.getsockname()[1]
        return port


def tail(log: Path, lines: int = 25) -> str:
    """The last lines of a log."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


def _die_with_parent(number: signal.Signals) -> Callable[[], None]:
    parent = os.getpid()

    def in_child() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
        # The parent may have ended before the kernel knew whom to tell.
        if os.getppid() != parent:
            os._exit(1)

    return in_child


def _open_to_all(folder: Path) -> None:
    folder.chmod(0o755)
    for path in folder.rglob("*"):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
