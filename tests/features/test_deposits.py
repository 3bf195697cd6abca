"""Security deposits: asked by who keeps them, paid by merchants, released for a reason; the books agree."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

from tests.support.commerce import balances, funded
from tests.support.market import did, once, refused
from tests.support.world import World

FIELDS = "depositRequired depositHeld depositMissing availableAmount"
MOVED = "depositMovement { kind amount currency reason account { login } merchant { name } }"


async def standing(world: World, caller: str = "deposits") -> dict[str, Any]:
    query = f"query($id: ID!) {{ merchant(id: $id) {{ {FIELDS} }} }}"
    found: dict[str, Any] = (await world.data(caller, query, {"id": world.id("cafe")}))["merchant"]
    return found


async def terms(world: World, amount: str, merchant: str = "cafe") -> dict[str, Any]:
    selected = "depositTerms { requiredAmount currency reason setBy { login } }"
    input = {"merchant": world.id(merchant), "requiredAmount": amount, "reason": "A second shop."}
    return await did(world, "deposits", "setDepositTerms", "SetDepositTermsInput", selected, **input)


async def pay(world: World, amount: str, caller: str = "cafe", **more: Any) -> dict[str, Any]:
    return await once(world, caller, "payDeposit", "PayDepositInput", MOVED, amount=amount, **more)


async def release(world: World, amount: str, reason: str = "Less is asked.", merchant: str = "cafe") -> dict[str, Any]:
    input = {"merchant": world.id(merchant), "amount": amount, "reason": reason}
    return await once(world, "deposits", "releaseDeposit", "ReleaseDepositInput", MOVED, **input)


async def test_a_deposit_is_asked_paid_topped_up_and_released(world: World) -> None:
    assert await standing(world) == {
        "depositRequired": "0.0000",
        "depositHeld": "0.0000",
        "depositMissing": "0.0000",
        "availableAmount": "0.0000",
    }
    made = await terms(world, "500")
    assert made["depositTerms"] == {
        "requiredAmount": "500.0000",
        "currency": "CNY",
        "reason": "A second shop.",
        "setBy": {"login": "deposits"},
    }
    assert (await pay(world, "300"))["errors"] == [("INSUFFICIENT_FUNDS", "amount")]
    await funded(world, "cafe", "700")
    paid = await pay(world, "300")
    assert paid["depositMovement"] == {
        "kind": "PAID",
        "amount": "300.0000",
        "currency": "CNY",
        "reason": None,
        "account": {"login": "cafe"},
        "merchant": {"name": world.tenants["cafe"].name},
    }
    assert await standing(world, "cafe") == {
        "depositRequired": "500.0000",
        "depositHeld": "300.0000",
        "depositMissing": "200.0000",
        "availableAmount": "400.0000",
    }
    assert (await pay(world, "200"))["errors"] == []
    assert (await terms(world, "100"))["errors"] == []
    assert (await release(world, "600"))["errors"] == [("INSUFFICIENT_FUNDS", "amount")]
    assert (await release(world, "400"))["depositMovement"]["reason"] == "Less is asked."
    assert await standing(world) == {
        "depositRequired": "100.0000",
        "depositHeld": "100.0000",
        "depositMissing": "0.0000",
        "availableAmount": "200.0000",
    }
    listed = "{ depositMovements(orderBy: [{field: CREATED_AT}]) { nodes { kind amount } } }"
    expected = [("PAID", "300.0000"), ("PAID", "200.0000"), ("RELEASED", "400.0000")]
    for caller in ("deposits", "cafe", "mall"):
        nodes = (await world.data(caller, listed))["depositMovements"]["nodes"]
        assert [(node["kind"], node["amount"]) for node in nodes] == expected, caller
    assert (await world.data("gym", listed))["depositMovements"]["nodes"] == []
    books = await balances(world)
    assert (books["cafe", "DEPOSIT"], books["cafe", "PREPAYMENT"], books["cafe", "FUNDS"]) == (100, 200, 400)
    assert sum(books.values()) == 0
    # what was released can leave
    bank = {"payee": "Cafe Ltd", "bank": "Bank of Hangzhou", "bankAccount": "6222021234567890"}
    drawn = await once(
        world, "cafe", "requestWithdrawal", "RequestWithdrawalInput", "withdrawal { status }", amount="400", **bank
    )
    assert drawn == {"withdrawal": {"status": "REQUESTED"}, "errors": []}


async def test_what_is_no_amount_or_nobody_of_theirs_is_refused(world: World) -> None:
    await funded(world, "cafe", "10")
    for amount, code in (("0", "NOT_POSITIVE"), ("-1", "NEGATIVE"), ("0.00001", "INVALID")):
        assert (await pay(world, amount))["errors"] == [(code, "amount")]
    assert (await terms(world, "-1"))["errors"] == [("NEGATIVE", "requiredAmount")]
    assert (await terms(world, "1", "north"))["errors"] == [("NOT_FOUND", "merchant")]
    assert (await release(world, "1", " "))["errors"] == [("REQUIRED", "reason")]
    assert (await release(world, "1", merchant="acme"))["errors"] == [("NOT_FOUND", "merchant")]
    text = "mutation($input: SetDepositTermsInput!) { setDepositTerms(input: $input) { errors { code } } }"
    input = {"merchant": world.id("cafe"), "requiredAmount": "1"}
    for caller in ("types", "contracts", "coupons", "finance", "mall", "cafe", "north"):
        assert await refused(world, caller, text, {"input": input}), caller
    figures = "query($id: ID!) { merchant(id: $id) { depositRequired } }"
    for caller in ("types", "contracts", "coupons", "operations", "sales", "north"):
        assert await refused(world, caller, "{ depositTerms { totalCount } }"), caller
        assert await refused(world, caller, figures, {"id": world.id("cafe")}), caller


async def test_of_many_at_once_no_more_is_paid_than_there_is(world: World) -> None:
    await funded(world, "cafe", "100")
    payloads = await asyncio.gather(*(pay(world, "30") for _ in range(8)))
    assert sorted(len(one["errors"]) for one in payloads) == [0] * 3 + [1] * 5
    key = "the same request"
    first, second = await pay(world, "5", idempotencyKey=key), await pay(world, "5", idempotencyKey=key)
    assert first["errors"] == second["errors"] == []
    books = await balances(world)
    assert (books["cafe", "DEPOSIT"], books["cafe", "PREPAYMENT"]) == (Decimal(95), Decimal(5))
