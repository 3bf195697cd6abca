"""``python -m bench``: what Trellis costs, against the limit and against the ordinary way."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import shutil
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import growth, imports, money, queries, shapes, usage
from bench.data import FULL
from bench.services import STATE, Place, data_folder, running

RESULTS = Path(__file__).resolve().parent / "results" / "latest.json"
Part = Callable[[Place, int, int, float], Awaitable[dict[str, Any]]]
PARTS: dict[str, Part] = {
    "queries": queries.run,
    "shapes": shapes.run,
    "growth": growth.run,
    "import": imports.run,
    "money": money.run,
    "usage": usage.run,
}
SUMMARY = (
    "ratio_to_limit",
    "ratio_to_bare",
    "ratio_to_plain",
    "shapes",
    "growth",
    "import",
    "settlement",
    "payments",
    "taking_in",
    "counting",
)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "--only", choices=PARTS, action="append", help="a part, whose figures are not kept; may be given more than once"
    )
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds, of which medians are taken")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of one measure")
    parser.add_argument("--cards", type=int, default=FULL, help="cards in the inventory; fewer for a quick look")
    parser.add_argument("--fresh", action="store_true", help="load the data anew")
    return parser.parse_args()


def _forget() -> None:
    if STATE.exists():
        shutil.rmtree(data_folder(), ignore_errors=True)
        shutil.rmtree(STATE)


async def _measure(place: Place, options: argparse.Namespace) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in options.only or PARTS:
        print(f"== {name} ==", flush=True)
        try:
            found |= await PARTS[name](place, options.cards, options.rounds, options.seconds)
        finally:
            place.servers.close()
    return found


def main() -> None:
    options = _options()
    if options.fresh:
        _forget()
    with running() as place:
        if not place.cores.apart:
            print("one core only: server, PostgreSQL and load share it", flush=True)
        found = asyncio.run(_measure(place, options))
    machine = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "cards": options.cards,
        "rounds": options.rounds,
        "seconds": options.seconds,
    }
    if not options.only:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps({**machine, **found}, indent=2) + "\n")
    print(json.dumps({name: found[name] for name in SUMMARY if name in found}))


if __name__ == "__main__":
    main()
