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
TURN_SECONDS = 1.0
"""Who answers fast is measured in short turns, so that what disturbs the machine meets all of them."""
SLOW = 100.0
"""Requests a second below which a turn is too short: such a contender is measured once a round ..."""
LEAST_REQUESTS = 200
"""... long enough that the requests under way at its end do not matter ..."""
LONGEST_SECONDS = 20.0
"""... up to a point."""

Turns = list[Measure]


def middle(measures: Turns) -> Measure:
    """The medians of some measures, number by number."""
    return Measure(*(median(values) for values in zip(*(vars(m).values() for m in measures), strict=True)))


def ratio(ours: Turns, theirs: Turns) -> float:
    """How much faster we are: turn by turn where both had as many, so that a slow minute counts for both."""
    if len(ours) != len(theirs):
        return middle(ours).requests_per_second / middle(theirs).requests_per_second
    return median(a.requests_per_second / b.requests_per_second for a, b in zip(ours, theirs, strict=True))


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
) -> dict[str, list[Turns]]:
    """By operation and by the place of a server in the list: its turns, interleaved with those of the others."""
    found: dict[str, list[Turns]] = {}
    for operation in operations:
        turns: list[Turns] = [[] for _ in servers]
        rates = [s.measure(operation, WARMING_SECONDS, place.postmaster).requests_per_second for s in servers]
        fast = [n for n, rate in enumerate(rates) if rate >= SLOW]
        for _ in range(rounds):
            for turn in range(max(round(seconds / TURN_SECONDS), 1)):
                for n in fast if turn % 2 == 0 else fast[::-1]:
                    turns[n].append(servers[n].measure(operation, TURN_SECONDS, place.postmaster))
            for n, rate in enumerate(rates):
                if n not in fast:
                    length = max(seconds, min(LEAST_REQUESTS / max(rate, 1.0), LONGEST_SECONDS))
                    turns[n].append(servers[n].measure(operation, length, place.postmaster))
        found[operation] = turns
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
    for operation, turns in found.items():
        for n, m in enumerate(map(middle, turns)):
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

    def ratios(other: int, digits: int) -> dict[str, float]:
        return {operation: round(ratio(turns[0], turns[other]), digits) for operation, turns in found.items()}

    return {
        "ratio_to_limit": ratios(1, 3),
        "ratio_to_bare": ratios(2, 3),
        "ratio_to_plain": ratios(3, 2),
        "queries": {
            operation: {
                servers[n].kind.name: {name: round(value, 3) for name, value in vars(middle(taken)).items()}
                for n, taken in enumerate(turns)
            }
            for operation, turns in found.items()
        },
    }
