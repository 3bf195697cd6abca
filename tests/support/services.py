"""The real services that a test run stands on: started once for the run, gone without a trace after it.

The process that the user started (with pytest-xdist the controller) runs one throwaway PostgreSQL for all and a
Valkey for each worker, because publish/subscribe knows no separate databases. `tests/conftest.py` hands its
pytest hooks on to the functions of the same names.
"""

import shutil
import tempfile
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest
from xdist.workermanage import WorkerController  # type: ignore[import-untyped]

from server.embedded import StateFolder, postgres
from server.embedded.postgres import APPLICATION, OWNER, SUPERUSER, THROWAWAY, Postgres
from server.embedded.processes import service_account
from server.embedded.valkey import Valkey

WORKER_INPUT = "trellis_services"


@dataclass(frozen=True)
class Services:
    """Where a test finds its services. The two roles exist; every test run makes databases of its own."""

    postgres_superuser_url: str
    owner_password: str
    application_password: str
    redis_url: str

    def superuser_url(self, database: str) -> str:
        """The database as the superuser, whom row-level security does not bind."""
        return self.postgres_superuser_url.rpartition("/")[0] + f"/{database}"

    def owner_url(self, database: str) -> str:
        """The database as the role that owns its tables."""
        return self._url(OWNER, self.owner_password, database)

    def application_url(self, database: str) -> str:
        """The database as the role of the API and the tasks."""
        return self._url(APPLICATION, self.application_password, database)

    def _url(self, role: str, password: str, database: str) -> str:
        address = self.superuser_url(database).rpartition("@")[2]
        return f"postgresql://{role}:{password}@{address}"


class _Run:
    """The services of one test run, in a folder that every account can reach."""

    def __init__(self) -> None:
        self.stopping = ExitStack()
        self.folder = Path(tempfile.mkdtemp(prefix="trellis-tests-"))
        self.folder.chmod(0o711)
        self.stopping.callback(remove_state, self.folder)
        self.postgres = Postgres(self.folder, settings={**THROWAWAY, "shared_buffers": "128MB"})
        self.stopping.callback(self.postgres.stop)
        self.postgres.start()
        self.postgres.ensure_roles()

    def services(self, name: str) -> Services:
        """The shared PostgreSQL, and a Valkey of one's own."""
        folder = self.folder / name
        valkey = Valkey(folder)
        self.stopping.callback(remove_state, folder)
        self.stopping.callback(valkey.stop)
        valkey.start()
        return Services(
            postgres_superuser_url=self.postgres.url(SUPERUSER, "postgres"),
            owner_password=self.postgres.password(OWNER),
            application_password=self.postgres.password(APPLICATION),
            redis_url=valkey.url,
        )


_RUN = pytest.StashKey[_Run]()
_SERVICES = pytest.StashKey[Services]()


def configure(config: pytest.Config) -> None:
    """Start PostgreSQL, or in a worker take over what the controller has started."""
    if hasattr(config, "workerinput"):
        config.stash[_SERVICES] = Services(**config.workerinput[WORKER_INPUT])
    elif not config.option.collectonly:
        config.stash[_RUN] = _Run()


def configure_node(node: WorkerController) -> None:
    """Give a worker its services."""
    services_of_node = node.config.stash[_RUN].services(node.gateway.id)
    node.workerinput[WORKER_INPUT] = asdict(services_of_node)


def unconfigure(config: pytest.Config) -> None:
    """Stop what `configure` and `configure_node` have started."""
    run = config.stash.get(_RUN, None)
    if run is not None:
        run.stopping.close()


def services(config: pytest.Config) -> Services:
    """The services of this process."""
    if _SERVICES not in config.stash:
        config.stash[_SERVICES] = config.stash[_RUN].services("main")
    return config.stash[_SERVICES]


def create_database(services: Services, name: str, template: str | None = None) -> None:
    """Create a database with its extensions, or a copy of `template`, to which nobody may be connected."""
    postgres.create_database(services.postgres_superuser_url, name, template or "template1")


def drop_database(services: Services, name: str) -> None:
    """Drop a database, whoever is connected to it."""
    postgres.drop_database(services.postgres_superuser_url, name)


def remove_state(folder: Path) -> None:
    """Remove a state folder and the data that may lie outside it."""
    shutil.rmtree(StateFolder(folder).data(service_account()), ignore_errors=True)
    shutil.rmtree(folder)
