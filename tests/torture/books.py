"""What the books must say afterwards: all of what was acknowledged, once, and nothing that was refused."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import asyncpg

from planner.ids import decode_id
from tests.torture.plan import Kind, Scene
from tests.torture.worker import amount_of, journal

UNBALANCED = """
SELECT e.transfer_id FROM ledger_entry e JOIN ledger_account a ON a.id = e.ledger_account_id
GROUP BY e.transfer_id, a.currency HAVING sum(e.amount) <> 0
"""
TOTAL = "SELECT a.currency FROM ledger_account a GROUP BY a.currency HAVING sum(a.balance) <> 0"
WRONG_BALANCE = """
SELECT a.id FROM ledger_account a LEFT JOIN ledger_entry e ON e.ledger_account_id = a.id
GROUP BY a.id HAVING a.balance <> coalesce(sum(e.amount), 0)
"""
BROKEN_CHAIN = """
SELECT id FROM (SELECT id, balance_after - amount AS before,
  lag(balance_after, 1, 0) OVER (PARTITION BY ledger_account_id ORDER BY id) AS expected FROM ledger_entry) e
WHERE before <> expected
"""
BELOW_FLOOR = """
SELECT e.id FROM ledger_entry e JOIN ledger_account a ON a.id = e.ledger_account_id WHERE e.balance_after < a.floor
"""
EMPTY = "SELECT id FROM ledger_transfer t WHERE NOT EXISTS (SELECT FROM ledger_entry e WHERE e.transfer_id = t.id)"
LAWS = {
    "a transfer does not sum to zero": UNBALANCED,
    "a currency does not sum to zero": TOTAL,
    "a balance is not the sum of its entries": WRONG_BALANCE,
    "an entry does not follow from the one before": BROKEN_CHAIN,
    "a balance was below its floor": BELOW_FLOOR,
    "a transfer moved nothing": EMPTY,
}


@dataclass
class Verdict:
    operations: int = 0
    acknowledged: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def differ(self, what: str, expected: Iterable[Any], found: Iterable[Any]) -> None:
        wanted, there = Counter(expected), Counter(found)
        if wanted != there:
            missing, more = list((wanted - there).items())[:3], list((there - wanted).items())[:3]
            self.faults.append(f"{what}: missing {missing}, too many {more}")


async def judge(scene: Scene, workers: int) -> Verdict:
    verdict = Verdict()
    lines: dict[Kind, list[dict[str, Any]]] = {kind: [] for kind in Kind}
    for worker in range(workers):
        for text in journal(scene, worker).read_text("utf-8").splitlines():
            line = json.loads(text)
            lines[Kind(line["kind"])].append(line)
            verdict.operations += 1
            (verdict.refused if "refused" in line else verdict.acknowledged)[line["kind"]] += 1
    connection = await asyncpg.connect(scene.superuser_url, ssl=False)
    try:
        for law, broken in LAWS.items():
            rows = await connection.fetch(broken)
            if rows:
                verdict.faults.append(f"{law}: {[row[0] for row in rows[:3]]}")
        stored = {
            row["idempotency_key"]: row["amount"]
            for row in await connection.fetch(
                """SELECT t.idempotency_key, sum(e.amount) FILTER (WHERE e.amount > 0) AS amount
                   FROM ledger_transfer t JOIN ledger_entry e ON e.transfer_id = t.id GROUP BY t.id"""
            )
        }
        orders = [row["id"] for row in await connection.fetch("SELECT id FROM sales_order")]
        withdrawals = [row["id"] for row in await connection.fetch("SELECT id FROM withdrawal")]
        top_ups = [row["id"] for row in await connection.fetch("SELECT id FROM top_up WHERE status = 'CONFIRMED'")]
    finally:
        await connection.close()
    _transfers(verdict, lines[Kind.TRANSFER], stored)
    _orders(verdict, lines[Kind.ORDER], orders, stored)
    _withdrawals(verdict, lines[Kind.WITHDRAWAL], withdrawals, stored)
    verdict.differ("top-ups", (_key(line) for line in lines[Kind.TOP_UP]), top_ups)
    verdict.differ("paid in", (f"top-up:{key}" for key in top_ups), _of(stored, "top-up:"))
    return verdict


def _key(line: dict[str, Any]) -> int:
    found = decode_id(line["id"])
    assert found is not None
    return found[1]


def _of(stored: dict[str, Decimal], beginning: str) -> list[str]:
    return [key for key in stored if key.startswith(beginning)]


def _transfers(verdict: Verdict, lines: list[dict[str, Any]], stored: dict[str, Decimal]) -> None:
    moved = {line["key"]: amount_of(line) for line in lines if "moved" in line}
    verdict.differ("transfers", moved.items(), ((key, stored[key]) for key in _of(stored, "torture:")))


def _orders(verdict: Verdict, lines: list[dict[str, Any]], orders: list[int], stored: dict[str, Decimal]) -> None:
    made = {_key(line): line for line in lines if "id" in line}
    verdict.differ("orders", list(made), orders)
    paid = [f"order:{key}:paid" for key, line in made.items() if line["paid"]]
    back = [f"order:{key}:refunded" for key, line in made.items() if line.get("refunded")]
    verdict.differ("payments", paid, (key for key in _of(stored, "order:") if key.endswith(":paid")))
    verdict.differ("refunds", back, (key for key in _of(stored, "order:") if key.endswith(":refunded")))


def _withdrawals(
    verdict: Verdict, lines: list[dict[str, Any]], withdrawals: list[int], stored: dict[str, Decimal]
) -> None:
    asked = {_key(line): amount_of(line) for line in lines if "id" in line}
    verdict.differ("withdrawals", list(asked), withdrawals)
    expected = [(f"withdrawal:{key}:{step}", amount) for key, amount in asked.items() for step in ("held", "closed")]
    verdict.differ("withdrawn", expected, ((key, stored[key]) for key in _of(stored, "withdrawal:")))
