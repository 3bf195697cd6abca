"""A short torture: what is acknowledged is there once, although processes are killed and the database falls."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from server.settings import PROJECT

OPERATIONS, PROCESSES, KILLS = 900, 3, 4


@pytest.mark.feature("S0-48", "S0-50", "S2-18")
def test_the_books_survive_killed_processes_and_a_fallen_database() -> None:
    options = {"operations": OPERATIONS, "processes": PROCESSES, "kills": KILLS, "falls": 1, "seed": 7}
    given = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    torture = [sys.executable, "-m", "tests.torture", *given]
    ended = subprocess.run(torture, cwd=PROJECT, capture_output=True, text=True, timeout=540, check=False)
    assert ended.stdout, ended.stderr[-2000:]
    found = json.loads(ended.stdout.splitlines()[-1])
    assert found["faults"] == []
    assert ended.returncode == 0
    assert found["operations"] == OPERATIONS
    assert (found["killed"], found["fallen"]) == (KILLS, 1)
    assert all(found["acknowledged"][kind] > 0 for kind in ("TRANSFER", "TOP_UP", "ORDER", "WITHDRAWAL"))
    assert found["refused"]["TRANSFER"] > 0
