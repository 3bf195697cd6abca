"""Unique constraints as refusals: two callers at once are told apart by the database, not by a look before."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from services.refusal import Refusal

GIVEN_UP = frozenset({"40001", "40P01"})
"""PostgreSQL's states for a transaction that lost against another: serialisation failure, deadlock."""


def given_up(error: DBAPIError) -> bool:
    """Whether PostgreSQL gave the transaction up in favour of another: nothing of it has happened, and it may be run
    again."""
    return getattr(error.orig, "sqlstate", None) in GIVEN_UP


@asynccontextmanager
async def told_apart(
    session: AsyncSession, constraints: Mapping[str, tuple[str, str]], code: str = "TAKEN"
) -> AsyncIterator[None]:
    """Turns the violation of a known constraint into a refusal, TAKEN or another, for (field, value)."""
    try:
        yield
    except IntegrityError as error:
        await session.rollback()
        violated = str(error.orig)
        for name, (field, value) in constraints.items():
            if f'"{name}"' in violated:
                raise Refusal(code, field, value=value) from None
        raise
