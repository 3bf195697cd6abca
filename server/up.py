"""`trellis up`: the whole of Trellis on one machine, from an empty folder to a page of log-ins, and down.

Databases that the settings do not point elsewhere run here too. Nothing that is started here outlives the
launcher, even if that is killed: the databases then shut down cleanly, the programs end at once.
"""

import asyncio
import http.client
import os
import signal
import subprocess
import sys
import time
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

import asyncpg
import typer
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from server.embedded import StateFolder
from server.embedded.postgres import APPLICATION, OWNER, Postgres
from server.embedded.processes import CannotRunError, is_free, spawn, stop, tail
from server.embedded.valkey import Valkey
from server.settings import PROJECT, Settings

if TYPE_CHECKING:
    from server.demo import DemoLogin

MIGRATIONS = PROJECT / "migrations"
READY_PATIENCE = 60.0
"""Seconds until the API must say that it can serve."""


@dataclass(frozen=True)
class Program:
    """A program of ours that runs beside the databases; its log bears its name."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str]


class ProgramEndedError(Exception):
    """A child ended, or did not become ready, although nobody had asked it to stop."""


class StopRequested(BaseException):
    """Somebody pressed Ctrl-C, closed the terminal or sent SIGTERM: no error, and not to be caught as one."""


@dataclass
class Children:
    """What runs, in the order of its start. `stopping` ends it in the reverse order."""

    state: StateFolder
    stopping: ExitStack
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start_services(self, settings: Settings) -> Settings:
        """Start the databases that are not pointed elsewhere. The settings that come back name them all."""
        if not settings.database_url:
            postgres = Postgres(self.state.path)
            self.stopping.callback(postgres.stop)
            self.running["postgres"] = postgres.start()
            postgres.ensure_database()
            urls = {"database_url": postgres.url(APPLICATION), "database_owner_url": postgres.url(OWNER)}
            settings = settings.model_copy(update=urls)
        if not settings.redis_url:
            valkey = Valkey(self.state.path)
            self.stopping.callback(valkey.stop)
            self.running["valkey"] = valkey.start()
            settings = settings.model_copy(update={"redis_url": valkey.url})
        return settings

    def start(self, program: Program) -> None:
        """Start a program. When it is stopped it has ten seconds to finish what it is doing."""
        process = spawn(
            program.argv,
            log=self.state.log(program.name),
            environment=program.env,
            on_parent_death=signal.SIGKILL,
            folder=PROJECT,
        )
        # SIGQUIT makes a Celery worker hand its unfinished tasks back to the queue.
        self.stopping.callback(stop, process, (signal.SIGTERM, 10.0), (signal.SIGQUIT, 3.0))
        self.running[program.name] = process

    def wait_until_ready(self, settings: Settings) -> None:
        """Return when the API says that it can serve."""
        deadline = time.monotonic() + READY_PATIENCE
        while not _answers_ready(settings):
            self.check()
            if time.monotonic() > deadline:
                raise ProgramEndedError(f"The API is not ready after {READY_PATIENCE:.0f} s. {self._log('api')}")
            time.sleep(0.05)

    def watch(self) -> NoReturn:
        """Run until a child ends or somebody asks to stop."""
        while True:
            self.check()
            time.sleep(0.2)

    def check(self) -> None:
        """Raise if a child has ended, with what it said last."""
        for name, process in self.running.items():
            if (code := process.poll()) is not None:
                raise ProgramEndedError(f"{name} ended with code {code}. {self._log(name)}")

    def _log(self, name: str) -> str:
        log = self.state.path / "logs" / f"{name}.log"
        return f"Its log, {log}, ends with:\n{tail(log)}"


def trellis_programs(settings: Settings) -> list[Program]:
    """The API, the worker and the scheduler, in the order of their start."""
    environment = {
        **os.environ,
        "PYTHONUNBUFFERED": "1",
        "TRELLIS_STATE_DIR": str(settings.state_dir),
        "TRELLIS_DATABASE_URL": settings.database_url,
        "TRELLIS_REDIS_URL": settings.redis_url,
        "TRELLIS_SECRET_KEY": settings.secret_key.get_secret_value(),
        "TRELLIS_PUBLIC_URL": settings.public_url,
    }
    # Who owns the tables is above row-level security: no program gets to be the owner.
    environment.pop("TRELLIS_DATABASE_OWNER_URL", None)
    # A program loads hundreds of modules: compiled once, whatever the shell is used to.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    address = ["--host", settings.api_host, "--port", str(settings.api_port)]
    loop = ["--loop", "uvloop", "--http", "httptools", "--timeout-graceful-shutdown", "5"]
    uvicorn = [sys.executable, "-m", "uvicorn", "server.asgi:create_app", "--factory", "--no-access-log"]
    celery = [sys.executable, "-m", "celery", "--app", "tasks.app"]
    schedule = str(settings.state_dir / "schedule")
    return [
        Program("api", [*uvicorn, *address, *loop], environment),
        Program("worker", [*celery, "worker", "--pool", "prefork", "--concurrency", "2"], environment),
        Program("scheduler", [*celery, "beat", "--schedule", schedule, "--pidfile="], environment),
    ]


def migrate(settings: Settings) -> None:
    """Bring the database to the newest schema, as its owner."""
    if not settings.database_owner_url:
        raise ValueError("TRELLIS_DATABASE_OWNER_URL must be set: migrations run as the owner of the database")
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("sqlalchemy.url", settings.database_owner_url.replace("%", "%%"))
    command.upgrade(config, "head")


def is_current(settings: Settings) -> bool:
    """Whether the database has the newest schema, so that there may be something to serve already."""

    async def revision() -> str | None:
        connection = await asyncpg.connect(settings.database_owner_url, ssl=False)
        try:
            found: str | None = await connection.fetchval("SELECT version_num FROM alembic_version")
            return found
        except asyncpg.UndefinedTableError:
            return None
        finally:
            await connection.close()

    return asyncio.run(revision()) == ScriptDirectory(str(MIGRATIONS)).get_current_head()


def migrate_and_load_demo(settings: Settings) -> "list[DemoLogin]":
    """Everything the programs expect to find in the database; returns who can log in."""
    from server import demo

    migrate(settings)
    return demo.load(settings)


def up(
    settings: Settings,
    programs: Callable[[Settings], Sequence[Program]] = trellis_programs,
    prepare: "Callable[[Settings], Sequence[DemoLogin]]" = migrate_and_load_demo,
) -> int:
    """Run everything until somebody stops it (0) or a part of it ends by itself (1)."""
    state = StateFolder(settings.state_dir)
    try:
        with state.exclusively(), ExitStack() as stopping:
            _on_stop_signals(_request_stop)
            try:
                _run(settings, Children(state, stopping), programs, prepare)
            finally:
                # Stopping in order takes seconds, in which impatience must not tear it apart.
                _on_stop_signals(signal.SIG_IGN)
    except StopRequested:
        return 0
    except (CannotRunError, ProgramEndedError) as failure:
        typer.echo(failure, err=True)
        return 1


def _run(
    settings: Settings,
    children: Children,
    programs: Callable[[Settings], Sequence[Program]],
    prepare: "Callable[[Settings], Sequence[DemoLogin]]",
) -> NoReturn:
    if not is_free(settings.api_host, settings.api_port):
        raise ProgramEndedError(
            f"Port {settings.api_port} is taken. Choose another one for the API: TRELLIS_API_PORT=8081"
        )
    settings = children.start_services(settings)
    api, *others = programs(settings)
    if settings.database_owner_url and is_current(settings):
        # most of a start is the time that programs take to load: the API does so while the demo is looked after
        children.start(api)
        logins = prepare(settings)
    else:
        logins = prepare(settings)
        children.start(api)
    children.wait_until_ready(settings)
    for program in others:
        children.start(program)
    typer.echo(welcome(settings, logins))
    children.watch()


def welcome(settings: Settings, logins: "Sequence[DemoLogin]") -> str:
    """The page that says where to go and as whom to log in."""
    doors = sorted(frontend.parent.name for frontend in (PROJECT / "frontends").glob("*/frontend.toml"))
    addresses = [
        (door, f"{settings.public_url}/{door}/graphql", f"{settings.public_url}/{door}/graphiql") for door in doors
    ]
    accounts = [(login.door, login.role, login.tenant, login.account, login.password) for login in logins]
    return "\n".join(
        [
            "Trellis is up.",
            "",
            *_table(("door", "GraphQL", "GraphiQL"), addresses),
            "",
            *_table(("door", "role", "tenant", "account", "password"), accounts),
            "",
            f"Logs: {settings.state_dir / 'logs'}",
            "Stop: Ctrl-C",
        ]
    )


def _table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(_width, column)) for column in zip(heading, *rows, strict=True)]
    return [
        "  ".join(cell + " " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (heading, *rows)
    ]


def _width(text: str) -> int:
    """Columns a text takes in a terminal, where a Chinese character takes two."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def _answers_ready(settings: Settings) -> bool:
    connection = http.client.HTTPConnection(settings.api_host, settings.api_port, timeout=5)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _on_stop_signals(handler: Callable[[int, FrameType | None], None] | signal.Handlers) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, handler)


def _request_stop(_number: int, _frame: FrameType | None) -> NoReturn:
    raise StopRequested
