"""What PostgreSQL gives up in favour of another transaction is run again, and nothing else is."""

from __future__ import annotations

import pytest
from sqlalchemy.exc import DBAPIError

from resolvers.context import TRIES, _retried


class GaveUp(Exception):
    def __init__(self, sqlstate: str) -> None:
        super().__init__(sqlstate)
        self.sqlstate = sqlstate


def failing(times: int, state: str) -> tuple[list[int], object]:
    runs: list[int] = []

    async def run() -> str:
        runs.append(len(runs) + 1)
        if len(runs) <= times:
            raise DBAPIError("UPDATE", {}, GaveUp(state))
        return "done"

    return runs, run


@pytest.mark.parametrize("state", ["40001", "40P01"])
async def test_a_lost_race_is_run_again(state: str) -> None:
    runs, run = failing(TRIES - 1, state)
    assert await _retried(run) == "done"  # type: ignore[arg-type]
    assert runs == [1, 2, 3]


async def test_not_for_ever() -> None:
    runs, run = failing(TRIES, "40001")
    with pytest.raises(DBAPIError):
        await _retried(run)  # type: ignore[arg-type]
    assert len(runs) == TRIES


async def test_what_failed_for_another_reason_is_not_run_again() -> None:
    runs, run = failing(1, "23505")
    with pytest.raises(DBAPIError):
        await _retried(run)  # type: ignore[arg-type]
    assert runs == [1]
