"""Workers as processes of their own, which can be killed, and what they leave in the database."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from planner.ids import decode_id
from server.settings import PROJECT
from tests.conftest import Place
from tests.support.world import World

PATIENCE = 30
OURS = "database = (SELECT oid FROM pg_database WHERE datname = current_database())"
"""Locks are listed for the whole server, on which other tests run beside this one."""
CELERY = ("-m", "celery", "-A", "tasks.app", "worker", "--concurrency", "1", "--loglevel", "ERROR")


def environment(place: Place) -> dict[str, str]:
    settings = place.settings
    return {
        **os.environ,
        "PYTHONPATH": str(PROJECT),
        "TRELLIS_STATE_DIR": str(settings.state_dir),
        "TRELLIS_DATABASE_URL": settings.database_url,
        "TRELLIS_REDIS_URL": settings.redis_url,
        "TRELLIS_SECRET_KEY": settings.secret_key.get_secret_value(),
    }


@contextmanager
def process(place: Place, *command: str) -> Iterator[subprocess.Popen[bytes]]:
    running = subprocess.Popen(
        [sys.executable, *command],
        cwd=PROJECT,
        env=environment(place),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield running
    finally:
        if running.poll() is None:
            running.terminate()
            try:
                running.wait(10)
            except subprocess.TimeoutExpired:
                running.kill()
                running.wait(10)


async def until(world: World, condition: str, *arguments: Any) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if (await world.sql(f"SELECT 1 WHERE {condition}", *arguments)) != []:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"waited in vain until {condition}")


def key_of(task: str) -> int:
    return (decode_id(task) or ("", 0))[1]
