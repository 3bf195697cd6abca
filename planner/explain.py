"""What a plan does, for people: grants used, cost, statements, the builder's source, and PostgreSQL's own plan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from authz.principal import Principal
from planner.execute import guests
from planner.plan import Plan
from planner.pool import Pool


def explain(plan: Plan, principal: Principal) -> str:
    """The plan in words, SQL and Python."""
    parts = [
        f"caller   {principal.path or 'outside the tree'} as {', '.join(principal.roles)}",
        f"shape    {principal.shape.value}",
        f"cost     {plan.cost}",
        "grants   " + "\n         ".join(plan.grants_used),
    ]
    for root in plan.roots:
        for level in root.levels:
            origin = "root" if level.parent is None else f"below level {level.parent}"
            sql = level.sql or f"(read by the statement of level {level.parent})"
            parts.append(f"\n-- {root.key}: level {level.number}, {level.kind}, {origin}\n{sql}")
        parts += [
            f"\n-- {root.key}: live field on level {field.level}, answered by {field.loader.__name__}"
            for field in root.live
        ]
    parts.append("\n# builder\n" + plan.source)
    return "\n".join(parts)


async def analyze(plan: Plan, principal: Principal, variables: Mapping[str, Any], pool: Pool) -> str:
    """Runs each statement under EXPLAIN ANALYZE, with the keys that its parents gave."""
    parts: list[str] = []
    rows: dict[int, list[Any]] = {}
    async with pool.lease() as connection:
        for root in plan.roots:
            for level in root.levels:
                keys = None
                if not level.sql:
                    continue
                if level.parent is not None:
                    keys = [r[level.parent_column] for r in rows[level.parent] if r[level.parent_column] is not None]
                elif level.kind == "keyed":
                    continue
                arguments = level.fill(keys, variables, principal)
                told = await connection.raw.fetch(f"EXPLAIN (ANALYZE, BUFFERS) {level.sql}", *arguments)
                found = await connection.raw.fetch(level.sql, *arguments)
                if level.guest is not None:
                    guest, _ = level.guest
                    rows[guest.number] = [row for group in guests(level, found).values() for row in group]
                rows[level.number] = found[:1] if level.guest else found
                parts.append(f"-- {root.key}: level {level.number}\n" + "\n".join(line[0] for line in told))
    return "\n\n".join(parts)
