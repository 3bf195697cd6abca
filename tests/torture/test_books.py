"""That the torture would notice: books that are broken by hand, and journals that say something else than the books."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.support.commerce import bought, funded, rates
from tests.support.world import World
from tests.torture.books import judge
from tests.torture.plan import Scene

BROKEN = {
    "a transfer does not sum to zero": "UPDATE ledger_entry SET amount = amount + 1 "
    "WHERE id = (SELECT min(id) FROM ledger_entry)",
    "a currency does not sum to zero": "UPDATE ledger_account SET balance = balance + 1 WHERE kind = 'SALES'",
    "a balance is not the sum of its entries": "UPDATE ledger_account SET balance = balance + 1 WHERE kind = 'SALES'",
    "an entry does not follow from the one before": "UPDATE ledger_entry SET balance_after = balance_after + 1",
    "a balance was below its floor": "ALTER TABLE ledger_account DROP CONSTRAINT ck_ledger_account_not_below_floor; "
    "UPDATE ledger_account SET floor = 5000 WHERE kind = 'PREPAYMENT'",
    "a transfer moved nothing": "INSERT INTO ledger_transfer (tenant_id, tenant_path, kind, idempotency_key) "
    "SELECT id, path, 'OPENING', 'nothing' FROM tenant WHERE level = 0",
    "transfers": "UPDATE ledger_transfer SET idempotency_key = 'torture:0:0' WHERE idempotency_key LIKE 'order:%:paid'",
    "orders": "UPDATE sales_order SET id = id + 100000",
    "payments": "UPDATE ledger_transfer SET idempotency_key = 'else' WHERE idempotency_key LIKE 'order:%:paid'",
    "top-ups": "UPDATE top_up SET status = 'CANCELLED', transfer_id = NULL",
}
"""What is done behind the ledger's back, by the fault that must be found."""


async def written(world: World, folder: Path) -> Scene:
    """A sale, the money for it, and a journal that tells of both."""
    await rates(world, "30", "20", "10")
    await funded(world, "coast", "1000")
    id = await bought(world, "coast", world.card_ids("coast")[:1])
    (top_up,) = (await world.data("finance", "{ topUps { nodes { id } } }"))["topUps"]["nodes"]
    lines: list[dict[str, Any]] = [
        {"key": "torture:0:0", "kind": "TOP_UP", "id": top_up["id"]},
        {"key": "torture:0:1", "kind": "ORDER", "id": id, "paid": True, "refunded": False},
        {"key": "torture:0:2", "kind": "TRANSFER", "refused": "INSUFFICIENT_FUNDS"},
    ]
    scene = Scene("", world.superuser_url, "", str(folder), "", {}, {})
    (folder / "worker-0.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return scene


async def test_books_that_are_right_are_found_right(world: World, tmp_path: Path) -> None:
    verdict = await judge(await written(world, tmp_path), 1)
    assert verdict.faults == []
    assert verdict.operations == 3
    assert (dict(verdict.acknowledged), dict(verdict.refused)) == ({"TOP_UP": 1, "ORDER": 1}, {"TRANSFER": 1})


@pytest.mark.parametrize("fault", BROKEN)
async def test_what_is_broken_is_found(world: World, tmp_path: Path, fault: str) -> None:
    scene = await written(world, tmp_path)
    connection = await asyncpg.connect(world.superuser_url, ssl=False)
    try:
        # triggers and references would keep it from happening
        await connection.execute(f"SET session_replication_role = replica; {BROKEN[fault]}")
    finally:
        await connection.close()
    found = (await judge(scene, 1)).faults
    assert any(one.startswith(f"{fault}: ") for one in found), found
