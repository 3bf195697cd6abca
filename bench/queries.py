"""The four operations against the limit and against the ordinary way, in turns, every answer checked first."""

from __future__ import annotations

from statistics import median
from typing import Any

import httpx

from bench import tables
from bench.contenders import BARE, LIMIT, PLAIN, TRELLIS, Server, start
from bench.data import loaded
from bench.load import Measure
from bench.operations import DOCUMENTS, TITLES, Variables, paths_of_customers, variables
from bench.services import Place

CHECKED = 40
"""Requests of each operation whose answers must be the same everywhere before anything is timed."""
WARMING_SECONDS = 1.0
LEAST_REQUESTS = 200
"""A measure of a slow contender is longer, so that the requests under way at its end do not matter ..."""
LONGEST_SECONDS = 20.0
"""... up to a point."""


def middle(measures: list[Measure]) -> Measure:
    """The medians of some measures, number by number."""
    return Measure(*(median(values) for values in zip(*(vars(m).values() for m in measures), strict=True)))


def check(servers: list[Server], given: dict[str, list[Variables]]) -> None:
    """Raises when contenders answer differently, or when answers are empty."""
    with httpx.Client(timeout=30) as client:
        for operation, requests in given.items():
            for one in requests[:CHECKED]:
                first, *others = servers
                expected = first.ask(client, operation, one)
                if not next(iter(expected["data"].values())):
                    raise RuntimeError(f"{operation} finds nothing for {one}")
                for other in others:
                    answer = other.ask(client, operation, one)
                    if answer != expected:
                        raise RuntimeError(
                            f"{first.kind.name} and {other.kind.name} answer {operation} of {one} differently:\n"
                            f"{str(expected)[:1500]}\n{str(answer)[:1500]}"
                        )


def timed(
    place: Place, servers: list[Server], operations: list[str], rounds: int, seconds: float
) -> dict[str, dict[int, Measure]]:
    """By operation and by the place of a server in the list: medians of interleaved rounds."""
    found: dict[str, dict[int, Measure]] = {}
    for operation in operations:
        lengths = []
        for server in servers:
            rate = server.measure(operation, WARMING_SECONDS, place.postmaster).requests_per_second
            lengths.append(min(max(seconds, LEAST_REQUESTS / max(rate, 1.0)), max(seconds, LONGEST_SECONDS)))
        taken: dict[int, list[Measure]] = {n: [] for n in range(len(servers))}
        for _ in range(rounds):
            for n, server in enumerate(servers):
                taken[n].append(server.measure(operation, lengths[n], place.postmaster))
        found[operation] = {n: middle(measures) for n, measures in taken.items()}
    return found


async def run(place: Place, cards: int, rounds: int, seconds: float) -> dict[str, Any]:
    database = await loaded(place, cards)
    connection = await place.superuser(database)
    try:
        given = await variables(connection)
        paths = await paths_of_customers(connection)
    finally:
        await connection.close()
    servers = [start(place, kind, database, paths) for kind in (TRELLIS, LIMIT, BARE, PLAIN)]
    for server in servers:
        for operation in DOCUMENTS:
            server.prepare(operation, given[operation])
    check(servers, given)
    found = timed(place, servers, list(DOCUMENTS), rounds, seconds)
    rows = []
    for operation, measures in found.items():
        for n, m in measures.items():
            rows.append(
                [
                    operation if n == 0 else "",
                    servers[n].kind.name,
                    f"{m.requests_per_second:,.0f}",
                    f"{m.p50:.1f}",
                    f"{m.p99:.1f}",
                    f"{m.server_cpu:.2f}",
                    f"{m.postgres_cpu:.2f}",
                ]
            )
    print()
    for operation, title in TITLES.items():
        print(f"{operation}: {title}")
    tables.show(["", "contender", "requests/s", "p50 ms", "p99 ms", "server CPU ms", "PostgreSQL CPU ms"], rows)
    speeds = {q: [m.requests_per_second for m in measures.values()] for q, measures in found.items()}
    return {
        "ratio_to_limit": {q: round(s[0] / s[1], 3) for q, s in speeds.items()},
        "ratio_to_bare": {q: round(s[0] / s[2], 3) for q, s in speeds.items()},
        "ratio_to_plain": {q: round(s[0] / s[3], 2) for q, s in speeds.items()},
        "queries": {
            q: {servers[n].kind.name: {k: round(v, 3) for k, v in vars(m).items()} for n, m in measures.items()}
            for q, measures in found.items()
        },
    }
