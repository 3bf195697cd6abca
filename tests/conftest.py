"""Fixtures: real services for the run, a database for each test, and the application in front of it."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis as sync_redis
from alembic import command
from alembic.config import Config
from pydantic import SecretStr

from server.app import Application, build
from server.http import RateLimit
from server.settings import PROJECT, Settings
from tests.support import services as run_services
from tests.support.client import Client
from tests.support.marks import furnish
from tests.support.world import World, sow

_numbers = itertools.count(1)


def pytest_configure(config: pytest.Config) -> None:
    run_services.configure(config)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    run_services.configure_node(node)


def pytest_unconfigure(config: pytest.Config) -> None:
    run_services.unconfigure(config)


@pytest.fixture(scope="session")
def services(pytestconfig: pytest.Config) -> run_services.Services:
    return run_services.services(pytestconfig)


@dataclass(frozen=True)
class Template:
    name: str
    services: run_services.Services


@pytest.fixture(scope="session")
def template(services: run_services.Services, worker_id: str) -> Iterator[Template]:
    """A migrated database without rows, cloned for each test."""
    name = f"template_{worker_id}"
    run_services.create_database(services, name)
    config = Config()
    config.set_main_option("script_location", str(PROJECT / "migrations"))
    config.set_main_option("sqlalchemy.url", services.owner_url(name).replace("%", "%%"))
    command.upgrade(config, "head")
    yield Template(name, services)
    run_services.drop_database(services, name)


@dataclass(frozen=True)
class Place:
    """One test's own installation: a database, an empty Valkey, a folder."""

    name: str
    settings: Settings
    owner_url: str
    superuser_url: str


@dataclass(frozen=True)
class Sown:
    """A database with the world in it, cloned for each test that wants one, and what stands in it."""

    template: Template
    world: World


@pytest.fixture(scope="session")
async def sown(template: Template, worker_id: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Sown]:
    with placed(template, worker_id, tmp_path_factory.mktemp("sown")) as place:
        async for client in _running(place):
            world = await sow(client, place.superuser_url)
        yield Sown(Template(place.name, template.services), world)


@contextmanager
def placed(template: Template, worker_id: str, folder: Path) -> Iterator[Place]:
    """A new installation, whose database goes afterwards."""
    services = template.services
    name = f"test_{worker_id}_{next(_numbers)}"
    run_services.create_database(services, name, template.name)
    sync_redis.Redis.from_url(services.redis_url).flushall()
    settings = Settings(
        state_dir=folder,
        database_url=services.application_url(name),
        redis_url=services.redis_url,
        secret_key=SecretStr("the secret of the tests, long enough"),
        pool_size=3,
    )
    try:
        yield Place(name, settings, services.owner_url(name), services.superuser_url(name))
    finally:
        run_services.drop_database(services, name)


@pytest.fixture
def place(request: pytest.FixtureRequest, template: Template, worker_id: str, tmp_path: Path) -> Iterator[Place]:
    """Empty, or with the world in it for a test that asks for one."""
    if "world" in request.fixturenames:
        template = request.getfixturevalue("sown").template
    with placed(template, worker_id, tmp_path) as found:
        yield found


@pytest.fixture(scope="session")
def shared_place(template: Template, worker_id: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with placed(template, worker_id, tmp_path_factory.mktemp("shared")) as found:
        yield found


@pytest.fixture(scope="session")
def furnished_place(template: Template, worker_id: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with placed(template, worker_id, tmp_path_factory.mktemp("furnished")) as found:
        yield found


async def _let_the_test_do_it() -> None:
    """No worker listens in a test: ``Client.work_off`` does what is to be done later."""


async def _running(place: Place) -> AsyncIterator[Client]:
    application = Application(place.settings)
    application.endpoint.nudge = _let_the_test_do_it
    await application.start()
    try:
        yield Client(application, build(application))
    finally:
        await application.stop()


@pytest.fixture
async def client(place: Place) -> AsyncIterator[Client]:
    """The application on an empty installation."""
    async for found in _running(place):
        yield found


@pytest.fixture
async def world(client: Client, place: Place, sown: Sown) -> World:
    """The application with two sibling branches, an enterprise and merchants, for tests that change things."""
    found = sown.world.elsewhere(client, place.superuser_url)
    # what a start installs where there is a platform: tests have what they sow
    await found.sql("DELETE FROM system_parameter")
    await found.sql("DELETE FROM retention_policy")
    return found


@pytest.fixture(scope="session")
async def world_of_all(shared_place: Place) -> AsyncIterator[World]:
    async for found in _running(shared_place):
        yield await sow(found, shared_place.superuser_url)


@pytest.fixture(scope="session")
async def furnished_world_of_all(furnished_place: Place) -> AsyncIterator[World]:
    async for found in _running(furnished_place):
        world = await sow(found, furnished_place.superuser_url)
        await furnish(world)
        yield world


def _unasked(world: World) -> World:
    """Its callers may ask as if none had asked yet."""
    world.client.application.endpoint.rates = RateLimit()
    return world


@pytest.fixture
def shared_world(world_of_all: World) -> World:
    """The same, made once for all tests of a process that only read."""
    return _unasked(world_of_all)


@pytest.fixture
def furnished_world(furnished_world_of_all: World) -> World:
    """One more of that kind, with rows of every kind and what is rarely given."""
    return _unasked(furnished_world_of_all)
