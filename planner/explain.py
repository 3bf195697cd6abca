"""What a plan does, for people: grants used, cost, statements, the builder's source, and PostgreSQL's own plan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from authz.principal import Principal
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
            parts.append(f"\n-- {root.key}: level {level.number}, {level.kind}, {origin}\n{level.sql}")
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
                if level.parent is not None:
                    keys = [r[level.parent_column] for r in rows[level.parent] if r[level.parent_column] is not None]
                elif level.kind == "keyed":
                    continue
                arguments = level.fill(keys, variables, principal)
                told = await connection.raw.fetch(f"EXPLAIN (ANALYZE, BUFFERS) {level.sql}", *arguments)
                rows[level.number] = await connection.raw.fetch(level.sql, *arguments)
                parts.append(f"-- {root.key}: level {level.number}\n" + "\n".join(line[0] for line in told))
    return "\n\n".join(parts)
