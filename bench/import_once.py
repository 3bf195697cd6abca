"""One import in a process of its own, as a worker does it: prints its seconds and its peak memory as JSON."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

from authz.session import Database
from server.settings import get_settings
from services.files import FileStore
from services.keys import Keys
from services.sim.entering import enter


def peak_megabytes() -> float:
    """The most memory this process has held. What ``getrusage`` tells may be that of its parent."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


async def _run(task: int) -> float:
    settings = get_settings()
    database = Database(settings.database_url, pooled=False)
    store = FileStore(settings.state_dir / "files", Keys(settings.secret_key.get_secret_value()))
    started = time.perf_counter()
    try:
        await enter(database, store, task)
    finally:
        await database.close()
    return time.perf_counter() - started


if __name__ == "__main__":
    taken = asyncio.run(_run(int(sys.argv[1])))
    print(json.dumps({"seconds": taken, "peak_mb": peak_megabytes()}))
