"""Work that takes too long is cancelled, and nothing else is."""

from __future__ import annotations

import asyncio

import pytest

from server.deadlines import PRECISION, Deadlines


async def test_work_in_time_gives_its_result() -> None:
    deadlines = Deadlines()

    async def work() -> str:
        await asyncio.sleep(0)
        return "done"

    assert await deadlines.within(0.05, work()) == "done"
    await asyncio.sleep(3 * PRECISION)
    assert asyncio.current_task().cancelling() == 0


async def test_late_work_is_cancelled_and_its_neighbours_go_on() -> None:
    deadlines = Deadlines()
    ended: list[str] = []

    async def work() -> None:
        try:
            await asyncio.sleep(30)
        finally:
            ended.append("late")

    async def short() -> str:
        await asyncio.sleep(4 * PRECISION)
        return "in time"

    late = asyncio.create_task(deadlines.within(0.1, work()))
    neighbour = asyncio.create_task(deadlines.within(30, short()))
    with pytest.raises(TimeoutError):
        await late
    assert ended == ["late"]
    assert await neighbour == "in time"


async def test_what_somebody_else_cancels_stays_cancelled() -> None:
    deadlines = Deadlines()
    task = asyncio.create_task(deadlines.within(30, asyncio.sleep(30)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_error_of_the_work_comes_through() -> None:
    async def work() -> None:
        raise ValueError("its own")

    with pytest.raises(ValueError, match="its own"):
        await Deadlines().within(30, work())


async def test_the_timer_rests_when_nothing_is_under_way() -> None:
    deadlines = Deadlines()
    await deadlines.within(30, asyncio.sleep(0))
    await asyncio.sleep(2 * PRECISION)
    assert deadlines._timer is None
    with pytest.raises(TimeoutError):
        await deadlines.within(0.1, asyncio.sleep(30))
