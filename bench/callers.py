"""Who calls, for the contenders that know no sessions: a token is a line in a dictionary."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Caller:
    """A customer just below the platform."""

    path: str

    @property
    def path_end(self) -> str:
        return self.path.rstrip(".") + "/"


def callers() -> dict[str, Caller]:
    """By the value of the header ``authorization``; the file is made by ``bench.contenders``."""
    given = json.loads(Path(os.environ["BENCH_CALLERS"]).read_text("utf-8"))
    return {f"Bearer {token}": Caller(path) for token, path in given.items()}
