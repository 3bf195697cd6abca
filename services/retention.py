"""Partitions of logs and mass data: made before they are needed, dropped when their time is over.

How long something is kept is the platform's to say, in a parameter for each table. The partitions are made and dropped
by functions of the database's owner; the application may call them as the platform only.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import Date, Text, bindparam, text
from sqlalchemy.ext.asyncio import AsyncSession

from authz.principal import ROOT_PATH, system
from authz.session import Database
from models.partitions import partitioned
from services import parameters

MONTHS_AHEAD = 3
LEAST_MONTHS = 1
MAKE = text("SELECT make_partition(:table, :month)").bindparams(
    bindparam("table", type_=Text), bindparam("month", type_=Date)
)
DROP = text("SELECT drop_partitions(:table, :before)").bindparams(
    bindparam("table", type_=Text), bindparam("before", type_=Date)
)


@dataclass(frozen=True)
class Kept:
    """How many partitions were made, and how many dropped."""

    made: int
    dropped: int


def month_of(day: date, months: int) -> date:
    """The first day of the month so many months later, or earlier."""
    number = day.year * 12 + day.month - 1 + months
    return date(number // 12, number % 12 + 1, 1)


async def keep(database: Database, now: datetime) -> Kept:
    """Makes the partitions of this month and the coming ones, and drops what its parameter says is over.

    A repeat finds nothing to do. Each table is done for itself, so that none waits long for a lock.
    """
    made = dropped = 0
    for model, table in partitioned():
        for months in range(MONTHS_AHEAD + 1):
            async with database.transaction(system("partitions")) as session:
                made += bool(await session.scalar(MAKE, {"table": table.name, "month": month_of(now, months)}))
        async with database.transaction(system("partitions")) as session:
            before = month_of(now, -await _months(session, model))
            dropped += int(await session.scalar(DROP, {"table": table.name, "before": before}) or 0)
    return Kept(made, dropped)


async def _months(session: AsyncSession, model: Any) -> int:
    """For how many whole months the rows of a table are kept; at least one."""
    found = await parameters.read_effective(session, model.__retention__, ROOT_PATH)
    assert found is not None
    assert isinstance(found.value, int)
    return max(found.value, LEAST_MONTHS)
