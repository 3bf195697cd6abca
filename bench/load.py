"""Load: one operation at one server for some seconds, by wrk where there is one, and what it cost in CPU time."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from server.embedded.processes import eventually, is_free

CONNECTIONS = 32
TICKS = os.sysconf("SC_CLK_TCK")
IDLE_SECONDS, IDLE_SHARE = 0.3, 0.05
"""A server that uses no more of its core than this for so long has nothing left to answer."""
PATIENCE = 60.0

SCRIPT = """
local requests = {}
for line in io.lines(os.getenv("BENCH_REQUESTS")) do
  local path, token, body = line:match("^(%S+) (%S+) (.*)$")
  requests[#requests + 1] = wrk.format("POST", path, {
    ["content-type"] = "application/json", ["accept"] = "application/json", ["host"] = "127.0.0.1",
    ["authorization"] = "Bearer " .. token}, body)
end
local at = 0
request = function()
  at = at % #requests + 1
  return requests[at]
end
done = function(summary, latency)
  local failed = summary.errors
  io.write(string.format('RESULT {"requests":%d,"microseconds":%d,"p50":%d,"p99":%d,"errors":%d}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    failed.status + failed.connect + failed.read + failed.write + failed.timeout))
end
"""


@dataclass(frozen=True)
class Request:
    path: str
    token: str
    body: str


@dataclass(frozen=True)
class Measure:
    """What one operation cost under load; times in milliseconds."""

    requests_per_second: float
    p50: float
    p99: float
    server_cpu: float
    postgres_cpu: float


@cache
def wrk() -> str | None:
    """The load generator. Root on Debian gets it installed; without it ``bench.generator`` does the work."""
    if shutil.which("wrk") is None and os.geteuid() == 0 and shutil.which("apt-get"):
        print("installing wrk ...", flush=True)
        with contextlib.suppress(subprocess.SubprocessError):
            subprocess.run(["apt-get", "install", "-y", "-q", "wrk"], capture_output=True, check=False, timeout=120)
    found = shutil.which("wrk")
    if found is None:
        print("no wrk (apt-get install wrk): a slower generator in Python takes its place", flush=True)
    return found


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def cpu_seconds_of_children(pid: int) -> float:
    """The same of all living children of a process, and of those that it has outlived."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    total = (int(fields[13]) + int(fields[14])) / TICKS
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                if int((process / "stat").read_text().rpartition(")")[2].split()[1]) == pid:
                    total += cpu_seconds(int(process.name))
    return total


def write_requests(file: Path, requests: Sequence[Request]) -> None:
    file.write_text("".join(f"{r.path} {r.token} {r.body}\n" for r in requests))


def wait_until_idle(server: int) -> None:
    """Waits for a server to end what it was asked: a slow one goes on for seconds after its askers have left, on the
    core that the next contender is measured on. Raises when it never ends.
    """
    given_up = time.monotonic() + PATIENCE
    while time.monotonic() < given_up:
        used = cpu_seconds(server)
        time.sleep(IDLE_SECONDS)
        if cpu_seconds(server) - used <= IDLE_SECONDS * IDLE_SHARE:
            return
    raise RuntimeError(f"the server {server} is still busy {PATIENCE:.0f} s after its last request")


def measure(port: int, requests: Path, seconds: float, server: int, postmaster: int) -> Measure:
    """Runs the requests of a file round and round, on idle cores. Raises when an answer was not 200."""
    script = requests.with_name("load.lua")
    script.write_text(SCRIPT)
    tool = wrk()
    if tool is not None:
        duration = f"{round(seconds)}s"
        command = [tool, "-t1", f"-c{CONNECTIONS}", f"-d{duration}", "--timeout", "20s", "-s", str(script)]
        command.append(f"http://127.0.0.1:{port}")
    else:
        command = [sys.executable, "-m", "bench.generator", str(port), str(requests), str(seconds)]
    before = cpu_seconds(server), cpu_seconds_of_children(postmaster)
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "BENCH_REQUESTS": str(requests)}
    )
    after = cpu_seconds(server), cpu_seconds_of_children(postmaster)
    wait_until_idle(server)
    found = json.loads(done.stdout.rpartition("RESULT ")[2])
    if found["errors"]:
        raise RuntimeError(f"{found['errors']} of {found['requests']} requests failed: {done.stdout}")
    # a server may be too slow to answer anything within the time of a warm-up
    count = max(found["requests"], 1)
    return Measure(
        requests_per_second=found["requests"] * 1e6 / found["microseconds"],
        p50=found["p50"] / 1000,
        p99=found["p99"] / 1000,
        server_cpu=(after[0] - before[0]) * 1000 / count,
        postgres_cpu=(after[1] - before[1]) * 1000 / count,
    )


def wait_for_port(process: subprocess.Popen[bytes], port: int, patience: float = 60.0) -> bool:
    """Whether a server takes connections on its port in time."""
    taken = eventually(lambda: process.poll() is not None or not is_free("127.0.0.1", port), patience)
    return taken and process.poll() is None
