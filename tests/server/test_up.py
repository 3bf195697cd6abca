"""`trellis up`, with stand-ins for the API and the scheduler but real databases and a real Celery worker."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydantic import SecretStr

from server.embedded.processes import eventually, free_port, tail, working_in
from server.settings import Settings
from server.up import trellis_programs
from tests.support.services import remove_state

# Argument 1 is a folder for notes. The stand-ins leave there in which order they were stopped.
LAUNCHER = """
import sys
from collections import namedtuple
from server.settings import get_settings
from server.up import Program, trellis_programs, up

notes, api_delay = sys.argv[1:3]
Login = namedtuple("Login", "door role tenant account password")

API = '''
import os, signal, sys, threading, time
from http.server import BaseHTTPRequestHandler, HTTPServer
class Ready(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/readyz" else 404)
        self.end_headers()
def stopped(*_):
    open(sys.argv[1] + "/stopped", "a").write("api ")
    os._exit(0)
signal.signal(signal.SIGTERM, stopped)
print("starting", flush=True)
time.sleep(float(sys.argv[3]))
HTTPServer(("127.0.0.1", int(sys.argv[2])), Ready).serve_forever()
'''
SCHEDULER = '''
import os, signal, sys, time
def stopped(*_):
    open(sys.argv[1] + "/stopped", "a").write("scheduler ")
    os._exit(0)
signal.signal(signal.SIGTERM, stopped)
print("scheduling", flush=True)
time.sleep(600)
'''

def programs(settings):
    _, worker, _ = trellis_programs(settings)
    environment = {**worker.env, "PYTHONPATH": notes}
    argv = [{"tasks.app": "waiting"}.get(word, word) for word in worker.argv]
    return [
        Program("api", [sys.executable, "-c", API, notes, str(settings.api_port), api_delay], environment),
        Program("worker", argv, environment),
        Program("scheduler", [sys.executable, "-c", SCHEDULER, notes], environment),
    ]

def prepare(settings):
    return [Login("admin", "platform_admin", "平台", "root", "one-time")]

sys.exit(up(get_settings(), programs, prepare))
"""

# A task that would go on for ten minutes, and a Celery app that says when it is stopped.
WAITING = """
import os, time
from pathlib import Path
from celery import Celery, signals

app = Celery("waiting", broker=os.environ["TRELLIS_REDIS_URL"])
app.conf.update(task_acks_late=True, broker_connection_retry_on_startup=True)
notes = Path(__file__).parent

@app.task(name="wait")
def wait():
    (notes / "busy").write_text(str(os.getpid()))
    time.sleep(600)

@signals.worker_ready.connect
def ready(**_):
    (notes / "worker_ready").touch()

@signals.worker_shutdown.connect
def stopped(**_):
    with open(notes / "stopped", "a") as file:
        file.write("worker ")
"""


@dataclass
class Launch:
    """A launcher under test and what it leaves behind."""

    state_dir: Path
    notes: Path
    port: int
    process: subprocess.Popen[str]

    def output(self) -> tuple[str, str]:
        """What it said until it ended: standard output and standard error."""
        return self.process.communicate(timeout=40)

    def wait_until_up(self) -> list[str]:
        """Read its page up to the last line."""
        assert self.process.stdout is not None
        lines = []
        for line in self.process.stdout:
            lines.append(line.rstrip())
            if line.startswith("Stop:"):
                return lines
        raise AssertionError(f"the launcher ended: {lines} {self.process.communicate()}")

    def pid_of(self, program: str) -> int:
        """The process id of a program, by its command line."""
        (pid,) = [
            pid
            for pid in self.children()
            if parent_of(pid) == self.process.pid and program.encode() in command_line(pid)
        ]
        return pid

    def children(self) -> list[int]:
        """All living processes of this launch but the launcher: programs, their children, and the servers."""
        mark = f"TRELLIS_STATE_DIR={self.state_dir}".encode()
        programs = [pid for pid in living() if mark in environment(pid) and pid != self.process.pid]
        data = self.state_dir / "data"
        return programs + working_in(data / "postgres") + working_in(data / "valkey")

    def postgres_log(self) -> str:
        return tail(self.state_dir / "logs" / "postgres.log")


def living() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def environment(pid: int) -> list[bytes]:
    return read(pid, "environ").split(b"\0")


def command_line(pid: int) -> bytes:
    return read(pid, "cmdline")


def parent_of(pid: int) -> int:
    fields = read(pid, "stat").rpartition(b")")[2].split()
    return int(fields[1]) if fields else 0


@pytest.fixture
def folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="trellis-up-"))
    folder.chmod(0o711)
    (folder / "notes").mkdir()
    (folder / "notes" / "waiting.py").write_text(WAITING)
    yield folder
    if (folder / "state").exists():
        remove_state(folder / "state")
    shutil.rmtree(folder)


@pytest.fixture
def launch(folder: Path) -> Iterator[Callable[..., Launch]]:
    launches: list[Launch] = []

    def launch(port: int | None = None, api_delay: float = 0.0) -> Launch:
        state_dir, notes, port = folder / "state", folder / "notes", port or free_port()
        plain = {name: value for name, value in os.environ.items() if not name.startswith("TRELLIS_")}
        process = subprocess.Popen(
            [sys.executable, "-c", LAUNCHER, str(notes), str(api_delay)],
            env={**plain, "TRELLIS_STATE_DIR": str(state_dir), "TRELLIS_API_PORT": str(port)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        launches.append(Launch(state_dir, notes, port, process))
        return launches[-1]

    yield launch
    for launched in launches:
        launched.process.kill()
        launched.process.communicate()
    assert eventually(lambda: not any(launched.children() for launched in launches), patience=15.0)


def busy_child(launched: Launch) -> int:
    """Give the worker a task that does not end and return the process that works on it."""
    send = "import waiting; waiting.wait.delay()"
    redis_url = next(
        entry.decode().partition("=")[2]
        for entry in environment(launched.pid_of("celery"))
        if entry.startswith(b"TRELLIS_REDIS_URL=")
    )
    subprocess.run(
        [sys.executable, "-c", send],
        env={**os.environ, "PYTHONPATH": str(launched.notes), "TRELLIS_REDIS_URL": redis_url},
        check=True,
    )
    busy = launched.notes / "busy"
    assert eventually(lambda: busy.exists() and busy.read_text() != "", patience=20.0)
    return int(busy.read_text())


def test_it_says_where_to_go_and_sigterm_stops_everything_in_order(launch: Callable[..., Launch]) -> None:
    launched = launch()
    page = launched.wait_until_up()
    assert page[0] == "Trellis is up."
    assert page[-5:] == [
        "door   role            tenant  account  password",
        "admin  platform_admin  平台    root     one-time",
        "",
        f"Logs: {launched.state_dir}/logs",
        "Stop: Ctrl-C",
    ]
    assert eventually((launched.notes / "worker_ready").exists, patience=20.0)
    logs = sorted(log.name for log in (launched.state_dir / "logs").iterdir())
    assert logs == ["api.log", "postgres.log", "scheduler.log", "valkey.log", "worker.log"]

    launched.process.send_signal(signal.SIGTERM)
    assert launched.output() == ("", "")
    assert launched.process.returncode == 0
    assert (launched.notes / "stopped").read_text() == "scheduler worker api "
    assert launched.children() == []
    assert "database system is shut down" in launched.postgres_log()


def test_ctrl_c_while_it_starts_stops_what_runs(launch: Callable[..., Launch]) -> None:
    launched = launch(api_delay=600)
    api_log = launched.state_dir / "logs" / "api.log"
    assert eventually(lambda: api_log.exists() and "starting" in tail(api_log), patience=20.0)
    launched.process.send_signal(signal.SIGINT)
    assert launched.output() == ("", "")
    assert launched.process.returncode == 0
    assert launched.children() == []


def test_killing_the_launcher_leaves_no_orphan_even_of_a_busy_worker(launch: Callable[..., Launch]) -> None:
    launched = launch()
    launched.wait_until_up()
    child = busy_child(launched)
    assert child in launched.children()

    launched.process.kill()
    launched.process.communicate()
    assert eventually(lambda: launched.children() == [], patience=10.0)
    assert "database system is shut down" in launched.postgres_log()

    again = launch(launched.port)
    assert again.wait_until_up()[0] == "Trellis is up."


def test_a_program_that_ends_takes_everything_down_and_its_log_says_why(launch: Callable[..., Launch]) -> None:
    launched = launch()
    launched.wait_until_up()
    log = launched.state_dir / "logs" / "scheduler.log"
    assert eventually(lambda: log.exists() and "scheduling" in tail(log), patience=10.0)
    os.kill(launched.pid_of("scheduling"), signal.SIGKILL)
    _, errors = launched.output()
    assert errors == f"scheduler ended with code -9. Its log, {log}, ends with:\nscheduling\n"
    assert launched.process.returncode == 1
    assert launched.children() == []


def test_a_killed_worker_takes_its_busy_child_along(launch: Callable[..., Launch]) -> None:
    launched = launch()
    launched.wait_until_up()
    child = busy_child(launched)
    assert child in launched.children()
    os.kill(launched.pid_of("celery"), signal.SIGKILL)
    _, errors = launched.output()
    assert errors.startswith("worker ended with code -9.")
    assert launched.process.returncode == 1
    assert launched.children() == []


def test_a_second_launcher_refuses(launch: Callable[..., Launch]) -> None:
    first = launch()
    first.wait_until_up()
    second = launch()
    assert second.output() == ("", f"Trellis is already running on {first.state_dir}\n")
    assert second.process.returncode == 1
    assert first.process.poll() is None


def test_a_taken_port_is_named_before_anything_starts(launch: Callable[..., Launch]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as somebody:
        port = somebody.getsockname()[1]
        launched = launch(port)
        message = f"Port {port} is taken. Choose another one for the API: TRELLIS_API_PORT=8081\n"
        assert launched.output() == ("", message)
    assert launched.process.returncode == 1
    assert not (launched.state_dir / "data").exists()


def test_a_warm_start_is_quick(launch: Callable[..., Launch]) -> None:
    first = launch()
    first.wait_until_up()
    first.process.send_signal(signal.SIGTERM)
    first.output()

    begun = time.monotonic()
    launch().wait_until_up()
    assert time.monotonic() - begun < 5.0


def test_no_program_becomes_the_owner_of_the_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRELLIS_DATABASE_OWNER_URL", "postgresql://owner@host/trellis")
    settings = Settings(
        state_dir=tmp_path,
        database_url="postgresql://app@host/trellis",
        redis_url="redis://host/0",
        secret_key=SecretStr("key"),
        api_port=9000,
    )
    programs = trellis_programs(settings)
    assert [program.name for program in programs] == ["api", "worker", "scheduler"]
    for program in programs:
        ours = {name: value for name, value in program.env.items() if name.startswith("TRELLIS_")}
        assert ours == {
            "TRELLIS_DATABASE_URL": "postgresql://app@host/trellis",
            "TRELLIS_PUBLIC_URL": "http://127.0.0.1:9000",
            "TRELLIS_REDIS_URL": "redis://host/0",
            "TRELLIS_SECRET_KEY": "key",
            "TRELLIS_STATE_DIR": str(tmp_path),
        }


def test_settings_show_no_secret_and_need_a_key_beside_a_foreign_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("TRELLIS_")]:
        monkeypatch.delenv(name)
    embedded = Settings(state_dir=tmp_path)
    key = embedded.secret_key.get_secret_value()
    assert len(key) == 64
    assert Settings(state_dir=tmp_path).secret_key.get_secret_value() == key
    assert key not in repr(embedded)

    foreign = "postgresql://app:hidden@host/trellis"
    with pytest.raises(ValueError, match="TRELLIS_SECRET_KEY must be set") as refusal:
        Settings(state_dir=tmp_path, database_url=foreign)
    assert "hidden" not in str(refusal.value)
    shown = repr(Settings(database_url=foreign, redis_url="redis://:hidden@host/0", secret_key=SecretStr("hidden")))
    assert "hidden" not in shown
