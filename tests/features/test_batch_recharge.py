"""Very many cards recharged as one task: what is wrong is told card by card, and nothing is paid twice."""

from __future__ import annotations

import asyncio
import os
import signal
import uuid
from decimal import Decimal
from typing import Any

import pytest

from planner.ids import decode_id, encode_id
from services import recharge
from services.tasks.running import TASK_LOCK, abandoned
from tests.conftest import Place
from tests.support.commerce import PRICE, balances, funded, package_id, rates, said
from tests.support.exported import more_cards
from tests.support.workers import OURS, PATIENCE, process, until
from tests.support.world import World

START = """mutation($input: BatchRechargeInput!) { startBatchRecharge(input: $input) {
    task { id kind status total name } errors { code field } } }"""
BATCH = """query($id: ID!) { task(id: $id) { status total done failed
    refusals(orderBy: [{field: ID}]) { nodes { rowNumber column value code message } }
    orders(orderBy: [{field: CREATED_AT}, {field: ID}]) { totalCount nodes { status amount source remark
        task { id } creator { name } ... on PackageOrder { lines { totalCount nodes {
            simCard { displayIccid } subscriptions { nodes { status package { code } } } } } } } } } }"""
CANCEL = "mutation($id: ID!) { cancelTask(id: $id) { task { status } errors { code } } }"
WORKER = "import sys; from tasks.orders import recharge; recharge(int(sys.argv[1]))"


async def started(world: World, ids: list[str], caller: str = "coast", **more: Any) -> dict[str, Any]:
    input = {
        "package": package_id(world, "CM-M-1G"),
        "cards": {"ids": ids},
        "idempotencyKey": str(uuid.uuid4()),
        **more,
    }
    found: dict[str, Any] = (await world.data(caller, START, {"input": input}))["startBatchRecharge"]
    return found


def key(id: str) -> int:
    return (decode_id(id) or ("", 0))[1]


async def done(world: World, id: str, caller: str = "coast") -> dict[str, Any]:
    await recharge.recharge(world.client.application.runtime.database, key(id))
    found: dict[str, Any] = (await world.data(caller, BATCH, {"id": id}))["task"]
    return found


@pytest.mark.feature("S2-16", "S2-15", "S2-13")
async def test_many_cards_are_recharged_and_what_is_wrong_is_told(world: World) -> None:
    await rates(world, "30", "20", "10")
    await funded(world, "coast")
    cards = world.card_ids("coast")  # the fifth has ended
    made = await started(world, cards, remark="March")
    task = made["task"]
    assert (made["errors"], task["kind"], task["status"], task["total"]) == ([], "BATCH_RECHARGE", "QUEUED", 6)
    found = await done(world, task["id"])
    assert (found["status"], found["total"], found["done"], found["failed"]) == ("SUCCEEDED", 6, 5, 1)
    assert found["refusals"]["nodes"] == [
        {
            "rowNumber": 5,
            "column": "card",
            "value": world.cards["coast"][4].display_iccid,
            "code": "CARD_TERMINATED",
            "message": "The card has ended.",
        }
    ]
    (order,) = found["orders"]["nodes"]
    assert (order["status"], order["amount"]) == ("PAID", str((PRICE * 5).quantize(Decimal("0.0001"))))
    assert (order["source"], order["remark"], order["creator"]) == ("agent", "March", {"name": "coast"})
    assert order["task"] == {"id": task["id"]}
    assert order["lines"]["totalCount"] == 5
    for line in order["lines"]["nodes"]:
        assert line["subscriptions"]["nodes"] == [{"status": "ACTIVE", "package": {"code": "CM-M-1G"}}]
    before = await balances(world)
    assert before["coast", "PREPAYMENT"] == 1000 - PRICE * 5
    assert await done(world, task["id"]) == found, "a repeat finds it done"
    assert await balances(world) == before


@pytest.mark.feature("S2-16")
async def test_as_many_are_recharged_as_the_balance_covers(world: World) -> None:
    await funded(world, "coast", "50")
    cards = [world.card_ids("coast")[n] for n in (0, 1, 2, 3)]
    found = await done(world, (await started(world, cards))["task"]["id"])
    assert (found["status"], found["done"], found["failed"]) == ("SUCCEEDED", 2, 2)
    assert [one["code"] for one in found["refusals"]["nodes"]] == ["INSUFFICIENT_FUNDS"] * 2
    assert (await balances(world))["coast", "PREPAYMENT"] == 50 - 2 * PRICE


@pytest.mark.feature("S2-16")
async def test_what_changes_before_its_turn_is_told(world: World) -> None:
    await funded(world, "north")
    cards = world.card_ids("north")
    id = (await started(world, cards[:3], "north"))["task"]["id"]
    south = world.tenants["south"]
    await world.sql(
        "UPDATE sim_card SET tenant_id = $1, tenant_path = $2 WHERE id = $3",
        south.id, south.path, world.cards["north"][0].id,
    )  # fmt: skip
    await world.sql("UPDATE sim_card SET carrier = 'CUCC' WHERE id = $1", world.cards["north"][1].id)
    found = await done(world, id, "north")
    assert [one["code"] for one in found["refusals"]["nodes"]] == ["CARD_GONE", "CARD_OF_OTHER_CARRIER"]
    assert (found["done"], found["failed"]) == (1, 2)
    later = (await started(world, cards[2:4], "north"))["task"]["id"]
    await world.sql("UPDATE data_package SET status = 'DISABLED' WHERE code = 'CM-M-1G'")
    found = await done(world, later, "north")
    assert [one["code"] for one in found["refusals"]["nodes"]] == ["PACKAGE_NOT_ON_SALE"] * 2


@pytest.mark.feature("S2-16")
async def test_nobody_pays_another_price_than_that_of_the_start(world: World) -> None:
    await funded(world, "coast")
    id = (await started(world, world.card_ids("coast")[:2]))["task"]["id"]
    await world.sql("UPDATE data_package SET sale_price = 99 WHERE code = 'CM-M-1G'")
    found = await done(world, id)
    assert [one["code"] for one in found["refusals"]["nodes"]] == ["PRICE_CHANGED"] * 2
    assert (await balances(world))["coast", "PREPAYMENT"] == 1000


@pytest.mark.feature("S2-16")
async def test_a_batch_ends_with_the_standing_of_who_started_it(world: World) -> None:
    await funded(world, "coast")
    id = (await started(world, world.card_ids("coast")[:2]))["task"]["id"]
    await world.sql("UPDATE staff_account SET status = 'DISABLED' WHERE login = 'coast'")
    await recharge.recharge(world.client.application.runtime.database, key(id))
    rows = await world.sql("SELECT status FROM task WHERE id = $1", key(id))
    assert [row["status"] for row in rows] == ["CANCELLED"]
    assert await world.sql("SELECT id FROM sales_order") == []


@pytest.mark.feature("S2-16")
async def test_batches_that_are_refused(world: World) -> None:
    for more, code, field in (
        ({"package": encode_id("pkg", 10**9)}, "NOT_FOUND", "package"),
        ({"cards": {"ids": world.card_ids("south")}}, "CARDS_NOT_FOUND", "cards"),
        ({"cards": {"ids": []}}, "REQUIRED", "cards"),
        ({"remark": "x" * 201}, "INVALID", "remark"),
    ):
        assert said(await started(world, world.card_ids("coast"), **more)) == [(code, field)], more
    assert said(await started(world, world.card_ids("coast"), "admin")) == [("NOT_POSSIBLE_HERE", None)]
    await world.sql("UPDATE data_package SET status = 'DISABLED' WHERE code = 'CM-M-1G'")
    assert said(await started(world, world.card_ids("coast"))) == [("NOT_ACTIVE", "package")]
    input = {"package": package_id(world, "CM-M-1G"), "cards": {"ids": []}, "idempotencyKey": "x"}
    for caller in ("finance", "sales", "operations"):
        assert await world.codes(caller, START, {"input": input}) == ["FORBIDDEN"], caller


@pytest.mark.feature("S2-16", "S2-15")
async def test_a_batch_in_parts_pays_each_once_whoever_works_on_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It breaks off behind its second part; another goes on, and several at once do it once."""
    await funded(world, "coast")
    monkeypatch.setattr(recharge, "PART", 2)
    cards = world.card_ids("coast")
    id = (await started(world, cards))["task"]["id"]
    parts = recharge._part
    turns = []

    async def breaking(*given: Any) -> Any:
        turns.append(given[2])
        if len(turns) == 2:
            raise RuntimeError("the worker breaks")
        return await parts(*given)

    monkeypatch.setattr(recharge, "_part", breaking)
    database = world.client.application.runtime.database
    with pytest.raises(RuntimeError):
        await recharge.recharge(database, key(id))
    await world.sql("UPDATE task SET status = 'RUNNING', finished_at = NULL WHERE id = $1", key(id))
    await asyncio.gather(*(recharge.recharge(database, key(id)) for _ in range(4)))
    assert turns == [0, 1, 1, 2]
    found = (await world.data("coast", BATCH, {"id": id}))["task"]
    assert (found["status"], found["done"], found["failed"]) == ("SUCCEEDED", 5, 1)
    assert [order["lines"]["totalCount"] for order in found["orders"]["nodes"]] == [2, 2, 1]
    assert (await balances(world))["coast", "PREPAYMENT"] == 1000 - PRICE * 5


@pytest.mark.feature("S2-16")
@pytest.mark.timeout(120)
async def test_a_worker_killed_half_way_leaves_the_rest_to_another(world: World, place: Place) -> None:
    await more_cards(world, "coast", 2_000)
    await funded(world, "coast", "100000")
    rows = await world.sql(
        "SELECT id FROM sim_card WHERE tenant_id = $1 AND status <> 'TERMINATED' AND carrier = 'CMCC' ORDER BY id",
        world.tenants["coast"].id,
    )
    cards = [encode_id("sim", row["id"]) for row in rows]
    id = (await started(world, cards))["task"]["id"]
    with process(place, "-c", WORKER, str(key(id))) as worker:
        await until(world, "(SELECT count(*) FROM sales_order) >= 2")
        os.kill(worker.pid, signal.SIGKILL)
        worker.wait(PATIENCE)
    paid = await world.sql("SELECT count(*) FROM sales_order")
    assert 2 <= paid[0]["count"] < len(cards) / recharge.PART
    database = world.client.application.runtime.database
    await until(world, f"NOT EXISTS (SELECT FROM pg_locks WHERE {OURS} AND classid = $1)", TASK_LOCK)
    assert [found for _, found in await abandoned(database)] == [key(id)]
    await recharge.recharge(database, key(id))
    found = (await world.data("coast", BATCH, {"id": id}))["task"]
    assert (found["status"], found["done"], found["failed"]) == ("SUCCEEDED", len(cards), 0)
    assert (await balances(world))["coast", "PREPAYMENT"] == 100_000 - PRICE * len(cards)
    (twice,) = await world.sql("SELECT count(*) - count(DISTINCT sim_card_id) AS twice FROM order_line")
    assert twice["twice"] == 0


@pytest.mark.feature("S2-16")
async def test_what_is_called_off_keeps_what_is_done(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await funded(world, "coast")
    monkeypatch.setattr(recharge, "PART", 2)
    monkeypatch.setattr("services.tasks.running.PROGRESS_SECONDS", 0)
    id = (await started(world, world.card_ids("coast")))["task"]["id"]
    once = recharge._part_once

    async def then_called_off(*given: Any) -> Any:
        told = await once(*given)
        assert (await world.data("coast", CANCEL, {"id": id}))["cancelTask"]["errors"] == []
        return told

    monkeypatch.setattr(recharge, "_part_once", then_called_off)
    found = await done(world, id)
    assert (found["status"], found["done"], found["orders"]["totalCount"]) == ("CANCELLED", 2, 1)
    assert (await balances(world))["coast", "PREPAYMENT"] == 1000 - PRICE * 2
