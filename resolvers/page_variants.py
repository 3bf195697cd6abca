"""Which variant of a page the caller's company draws."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from planner.registry import loads
from resolvers.context import Context, reading
from schema.permissions import MenuItem
from services import page_variants
from services.page_variants import Page


@loads(MenuItem, "variant")
async def variants(ctx: Context, rows: Sequence[Any]) -> list[str | None]:
    async with reading(ctx) as session:
        return await page_variants.effective(
            session, ctx.principal, [Page(row.module, orjson.loads(row.variants)) for row in rows]
        )
