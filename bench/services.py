"""Where the benchmarks run: an embedded PostgreSQL and Valkey of their own, kept in a state folder between runs."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
from pydantic import SecretStr

from server.embedded import StateFolder
from server.embedded.postgres import APPLICATION, OWNER, SUPERUSER, THROWAWAY, Postgres, create_database, drop_database
from server.embedded.postgres import psql as run_script
from server.embedded.processes import service_account
from server.embedded.valkey import Valkey
from server.settings import PROJECT, Settings
from server.up import migrate

STATE = PROJECT / ".state" / "bench"
POSTGRES_SETTINGS = {
    **THROWAWAY,
    "shared_buffers": "2GB",
    "effective_cache_size": "4GB",
    "maintenance_work_mem": "512MB",
    "max_wal_size": "8GB",
}
"""A database server's memory. Durability is off: what is measured are reads, and an import against a COPY."""

SECRET = "the secret of the benchmarks, long enough"


@dataclass(frozen=True)
class Cores:
    """Which core the measured server has to itself, and which one everything else shares."""

    server: frozenset[int]
    rest: frozenset[int]

    @property
    def apart(self) -> bool:
        return not self.server & self.rest


def choose_cores() -> Cores:
    """The first core for the server under test, the second for PostgreSQL and the load; one if there is only one."""
    available = sorted(os.sched_getaffinity(0))
    return Cores(frozenset(available[:1]), frozenset(available[1:2] or available[:1]))


@dataclass
class Place:
    """The running services, and how to reach a database on them."""

    state: StateFolder
    postgres: Postgres
    valkey: Valkey
    cores: Cores
    servers: ExitStack = field(default_factory=ExitStack, repr=False)
    """Ends the servers under test, when a part of the benchmarks is through with them."""
    started: Iterator[int] = field(default_factory=itertools.count, repr=False)

    def superuser_url(self, database: str = "postgres") -> str:
        return self.postgres.url(SUPERUSER, database)

    def owner_url(self, database: str) -> str:
        """As the owner of the tables, whom row-level security does not bind."""
        return self.postgres.url(OWNER, database)

    def application_url(self, database: str) -> str:
        return self.postgres.url(APPLICATION, database)

    def settings(self, database: str) -> Settings:
        return Settings(
            state_dir=self.state.path,
            database_url=self.application_url(database),
            database_owner_url=self.owner_url(database),
            redis_url=self.valkey.url,
            secret_key=SecretStr(SECRET),
        )

    def environment(self, database: str) -> dict[str, str]:
        """What a Trellis process on this database is told."""
        return {
            **os.environ,
            "PYTHONUNBUFFERED": "1",
            # two processes of one program differ by their data alone
            "PYTHONHASHSEED": "0",
            "PYTHONPATH": str(PROJECT),
            "TRELLIS_STATE_DIR": str(self.state.path),
            "TRELLIS_DATABASE_URL": self.application_url(database),
            "TRELLIS_REDIS_URL": self.valkey.url,
            "TRELLIS_SECRET_KEY": SECRET,
        }

    def databases(self) -> list[str]:
        return run_script(self.superuser_url(), "SELECT datname FROM pg_database WHERE NOT datistemplate;").split()

    def create_migrated(self, database: str) -> None:
        """A new database with the newest schema and no rows; one of that name is dropped first."""
        self.drop(database)
        create_database(self.superuser_url(), database)
        migrate(self.settings(database))

    def drop(self, database: str) -> None:
        drop_database(self.superuser_url(), database)

    async def superuser(self, database: str) -> asyncpg.Connection[asyncpg.Record]:
        return await asyncpg.connect(self.superuser_url(database), ssl=False)

    @property
    def postmaster(self) -> int:
        assert self.postgres.process is not None
        return self.postgres.process.pid


@contextmanager
def running(folder: Path = STATE) -> Iterator[Place]:
    """The services, on the shared core; stopped at the end."""
    cores = choose_cores()
    os.sched_setaffinity(0, cores.rest)
    state = StateFolder(folder)
    with state.exclusively(), ExitStack() as stopping:
        postgres = Postgres(folder, settings=POSTGRES_SETTINGS)
        stopping.callback(postgres.stop)
        postgres.start()
        postgres.ensure_roles()
        valkey = Valkey(folder)
        stopping.callback(valkey.stop)
        valkey.start()
        place = Place(state, postgres, valkey, cores)
        stopping.callback(place.servers.close)
        yield place


def data_folder(folder: Path = STATE) -> Path:
    """Where the services of a state folder keep their data; it may lie outside the folder."""
    return StateFolder(folder).data(service_account())
