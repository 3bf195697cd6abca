"""Unique constraints as refusals: two callers at once are told apart by the database, not by a look before."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from services.refusal import Refusal


@asynccontextmanager
async def told_apart(session: AsyncSession, constraints: Mapping[str, tuple[str, str]]) -> AsyncIterator[None]:
    """Turns the violation of a known constraint into TAKEN for (field, value)."""
    try:
        yield
    except IntegrityError as error:
        await session.rollback()
        violated = str(error.orig)
        for name, (field, value) in constraints.items():
            if f'"{name}"' in violated:
                raise Refusal("TAKEN", field, value=value) from None
        raise
