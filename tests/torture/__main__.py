"""The torture itself: a database of its own, durable; processes that move money and are killed; a fall of the database.

The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import pickle
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from decimal import Decimal
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, TypeVar

from alembic import command
from alembic.config import Config

from authz.principal import system
from models.ledger import LedgerAccountKind, TransferKind
from server.app import Application, build
from server.embedded.postgres import APPLICATION, OWNER, SUPERUSER, Postgres, create_database
from server.embedded.valkey import Valkey
from server.settings import PROJECT
from services import ledger
from services.runtime import Unit
from tests.support.client import Client
from tests.support.commerce import funded, package_id, rates
from tests.support.services import remove_state
from tests.support.world import World, sow
from tests.torture import worker
from tests.torture.books import judge
from tests.torture.plan import AGENTS, CUSTOMERS, Scene

DATABASE = "torture"
FORK = multiprocessing.get_context("fork")
LOOK = 0.1
T = TypeVar("T")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("--operations", type=int, default=100_000)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--kills", type=int, default=40, help="how often a process is killed")
    parser.add_argument("--falls", type=int, default=1, help="how often the database falls and comes back")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


async def _scene(urls: dict[str, str], folder: Path) -> Scene:
    """A world in which everybody has some money, and agents something to withdraw."""
    bare = Scene(urls["application"], urls["superuser"], urls["redis"], str(folder), "", {}, {})
    application = Application(worker.settings(bare, "before"))
    await application.start()
    world = await sow(Client(application, build(application)), bare.superuser_url)
    await rates(world, "30", "20", "10")
    for customer in CUSTOMERS:
        await funded(world, customer, "20000")
    await _income(world)
    # what was there before is nobody's operation
    await world.sql("UPDATE top_up SET status = 'CANCELLED', transfer_id = NULL")
    await world.sql(
        "UPDATE ledger_transfer SET idempotency_key = 'before:' || id WHERE idempotency_key NOT LIKE 'before:%'"
    )
    scene = Scene(
        bare.database_url,
        bare.superuser_url,
        bare.redis_url,
        str(folder),
        package_id(world, "CM-M-1G"),
        {name: tenant.id for name, tenant in world.tenants.items()},
        {name: world.card_ids(name)[:3] for name in CUSTOMERS},
    )
    await application.stop()
    return scene


async def _income(world: World) -> None:
    principal = system("torture")
    async with world.client.application.runtime.database.transaction(principal) as session:
        work = Unit(principal, session)
        root = await ledger.platform(work)
        for agent in AGENTS:
            tenant = world.tenants[agent]
            accounts = await ledger.accounts_of(
                work, [(root, LedgerAccountKind.RECEIPTS), (tenant, LedgerAccountKind.INCOME)], "CNY"
            )
            receipts, income = (
                accounts[root.id, LedgerAccountKind.RECEIPTS],
                accounts[tenant.id, LedgerAccountKind.INCOME],
            )
            amounts = {receipts: -Decimal(5000), income: Decimal(5000)}
            await ledger.transfer(work, tenant, TransferKind.OPENING, f"before:{agent}", amounts)


def _apart(work: Callable[[], Coroutine[Any, Any, T]], answer: Path) -> T:
    """Runs what needs an event loop in a process of its own: this one is forked, and has none."""

    def body() -> None:
        answer.write_bytes(pickle.dumps(asyncio.run(work())))

    process = FORK.Process(target=body)
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"what was to be done apart ended with {process.exitcode}")
    found: T = pickle.loads(answer.read_bytes())
    return found


def _migrate(owner_url: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(PROJECT / "migrations"))
    config.set_main_option("sqlalchemy.url", owner_url.replace("%", "%%"))
    command.upgrade(config, "head")


class Torture:
    """Processes at work, and what befalls them."""

    def __init__(self, scene: Scene, postgres: Postgres, options: argparse.Namespace) -> None:
        self.scene = scene
        self.postgres = postgres
        self.options = options
        self.draw = random.Random(options.seed)
        self.each = -(-options.operations // options.processes)
        self.running: dict[int, BaseProcess] = {}
        self.killed = self.fallen = 0

    def run(self) -> None:
        for number in range(self.options.processes):
            self._begin(number)
        events = self.options.kills + self.options.falls
        # some time in the middle of as many equal parts
        at = sorted(self.draw.uniform(0.05, 0.9) for _ in range(events))
        falls = set(self.draw.sample(range(events), self.options.falls))
        happened = 0
        while self.running:
            time.sleep(LOOK)
            while happened < events and self._share() >= at[happened]:
                self._fall() if happened in falls else self._kill()
                happened += 1
            for number, process in list(self.running.items()):
                if process.is_alive():
                    continue
                del self.running[number]
                if process.exitcode == -signal.SIGKILL:
                    self._begin(number)
                elif process.exitcode:
                    raise SystemExit(f"process {number} ended with {process.exitcode}")

    def _share(self) -> float:
        """How much of all is done."""
        done = 0
        for number in range(self.options.processes):
            kept = worker.journal(self.scene, number)
            done += kept.read_bytes().count(b"\n") if kept.exists() else 0
        return done / (self.each * self.options.processes)

    def _begin(self, number: int) -> None:
        process = FORK.Process(target=worker.run, args=(self.scene, self.options.seed, number, self.each))
        process.start()
        self.running[number] = process

    def _kill(self) -> None:
        process = self.draw.choice(list(self.running.values()))
        if process.is_alive() and process.pid is not None:
            os.kill(process.pid, signal.SIGKILL)
            self.killed += 1

    def _fall(self) -> None:
        """The database ends at once, without a word, and comes back."""
        assert self.postgres.process is not None
        os.kill(self.postgres.process.pid, signal.SIGQUIT)
        self.postgres.process.wait()
        self.postgres.start()
        self.fallen += 1


def main() -> int:
    options = _options()
    folder = Path(tempfile.mkdtemp(prefix="trellis-torture-"))
    folder.chmod(0o711)
    with ExitStack() as stopping:
        stopping.callback(remove_state, folder)
        postgres = Postgres(folder, settings={"shared_buffers": "256MB", "max_connections": "200"})
        stopping.callback(postgres.stop)
        postgres.start()
        postgres.ensure_roles()
        valkey = Valkey(folder)
        stopping.callback(valkey.stop)
        valkey.start()
        create_database(postgres.url(SUPERUSER, "postgres"), DATABASE)
        _migrate(postgres.url(OWNER, DATABASE))
        urls = {
            "application": postgres.url(APPLICATION, DATABASE),
            "superuser": postgres.url(SUPERUSER, DATABASE),
            "redis": valkey.url,
        }
        scene = _apart(lambda: _scene(urls, folder), folder / "scene")
        began = time.monotonic()
        torture = Torture(scene, postgres, options)
        torture.run()
        seconds = time.monotonic() - began
        verdict = _apart(lambda: judge(scene, options.processes), folder / "verdict")
    found = {
        "operations": verdict.operations,
        "acknowledged": dict(verdict.acknowledged),
        "refused": dict(verdict.refused),
        "killed": torture.killed,
        "fallen": torture.fallen,
        "seconds": round(seconds, 1),
        "faults": verdict.faults,
    }
    print(json.dumps(found))
    return 1 if verdict.faults else 0


if __name__ == "__main__":
    sys.exit(main())
