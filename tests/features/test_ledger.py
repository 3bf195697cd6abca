"""Credit lines, top-ups, and the books that the database keeps itself."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import asyncpg
import pytest

from authz.principal import ROOT_PATH, system
from models.ledger import LedgerAccount, LedgerAccountKind, TransferKind
from services import ledger
from services.refusal import Refusal
from services.runtime import Work
from tests.support.world import World

TOP_UP = "id amount currency status receivedOn reference settledAt customer { name } transfer { kind memo }"
RECORD = f"""mutation($input: RecordTopUpInput!) {{ recordTopUp(input: $input) {{
    topUp {{ {TOP_UP} }} errors {{ code field }} }} }}"""
CONFIRM = f"""mutation($input: SettleTopUpInput!) {{ confirmTopUp(input: $input) {{
    topUp {{ {TOP_UP} }} errors {{ code field }} }} }}"""
CANCEL = f"""mutation($input: SettleTopUpInput!) {{ cancelTopUp(input: $input) {{
    topUp {{ {TOP_UP} }} errors {{ code field }} }} }}"""
SET_CREDIT_LIMIT = """mutation($input: SetCreditLimitInput!) { setCreditLimit(input: $input) {
    enterprise { ... on Enterprise { creditLimit availableAmount } } errors { code field } } }"""
MONEY = "query($id: ID!) { tenant(id: $id) { ... on Enterprise { creditLimit availableAmount } } }"
STATEMENT = """{ ledgerAccounts(filter: {currency: {eq: "CNY"}}) { nodes {
    kind balance available tenant { name } entries { nodes { amount balanceAfter transfer { kind memo } } } } } }"""
OTHERS = ("operations", "sales", "acme", "north", "south")


async def money(world: World) -> tuple[str, str]:
    """What the enterprise may owe, and what it may spend."""
    found = (await world.data("finance", MONEY, {"id": world.id("acme")}))["tenant"]
    return found["creditLimit"], found["availableAmount"]


async def recorded(world: World, amount: str = "250.5000", key: str = "paid-1", **more: Any) -> Any:
    given = {"customer": world.id("acme"), "amount": amount, "receivedOn": "2026-03-02", "idempotencyKey": key}
    return (await world.data("finance", RECORD, {"input": {**given, **more}}))["recordTopUp"]


async def settled(world: World, mutation: str, id: str, key: str, caller: str = "finance") -> Any:
    data = await world.data(caller, mutation, {"input": {"id": id, "idempotencyKey": key}})
    return next(iter(data.values()))


async def books(world: World) -> list[Any]:
    """Everything that a refused change must leave as it was."""
    tables = ("ledger_account", "ledger_transfer", "ledger_entry", "top_up")
    return [await world.sql(f"SELECT * FROM {table} ORDER BY id") for table in tables]


# -- credit lines -------------------------------------------------------------------------------------------------


@pytest.mark.feature("S0-37")
@pytest.mark.parametrize("caller", ["admin", "finance"])
async def test_what_an_enterprise_may_owe(world: World, caller: str) -> None:
    assert await money(world) == ("1000.0000", "1000.0000")
    input = {"enterprise": world.id("acme"), "creditLimit": "2500.5", "idempotencyKey": "limit"}
    payload = (await world.data(caller, SET_CREDIT_LIMIT, {"input": input}))["setCreditLimit"]
    assert payload == {"enterprise": {"creditLimit": "2500.5000", "availableAmount": "2500.5000"}, "errors": []}
    own = await world.data("acme", MONEY, {"id": world.id("acme")})
    assert own["tenant"] == payload["enterprise"]


@pytest.mark.feature("S0-37")
async def test_credit_limits_that_are_refused(world: World) -> None:
    before = await books(world)
    for enterprise, limit, code, field in (
        ("acme", "-1", "NEGATIVE", "creditLimit"),
        ("acme", "1.00001", "INVALID", "creditLimit"),
        ("acme", "1e14", "INVALID", "creditLimit"),
        ("acme", "NaN", "INVALID", "creditLimit"),
        ("north", "5", "NOT_FOUND", "enterprise"),
    ):
        input = {"enterprise": world.id(enterprise), "creditLimit": limit, "idempotencyKey": f"{enterprise} {limit}"}
        payload = (await world.data("finance", SET_CREDIT_LIMIT, {"input": input}))["setCreditLimit"]
        assert payload == {"enterprise": None, "errors": [{"code": code, "field": field}]}, limit
    input = {"enterprise": world.id("acme"), "creditLimit": "5", "idempotencyKey": "mine"}
    for caller in OTHERS:
        assert await world.codes(caller, SET_CREDIT_LIMIT, {"input": input}) == ["FORBIDDEN"]
    assert await books(world) == before


@pytest.mark.feature("S0-37")
async def test_a_credit_limit_is_never_below_what_is_owed(world: World) -> None:
    await spend(world, Decimal("400.25"))
    for limit, errors in (("400.24", [{"code": "OWES_MORE", "field": "creditLimit"}]), ("400.25", [])):
        input = {"enterprise": world.id("acme"), "creditLimit": limit, "idempotencyKey": limit}
        payload = (await world.data("finance", SET_CREDIT_LIMIT, {"input": input}))["setCreditLimit"]
        assert payload["errors"] == errors
    assert await money(world) == ("400.2500", "0.0000")
    with pytest.raises(Refusal, match="not sufficient"):
        await spend(world, Decimal("0.0001"))
    assert await money(world) == ("400.2500", "0.0000")


# -- top-ups ------------------------------------------------------------------------------------------------------


@pytest.mark.feature("S0-53", "S0-37", "S2-17")
async def test_money_that_was_paid_in_is_there_once_it_is_confirmed(world: World) -> None:
    payload = await recorded(world, reference=" BANK-7 ")
    top_up = payload["topUp"]
    expected = {
        "id": top_up["id"],
        "amount": "250.5000",
        "currency": "CNY",
        "status": "RECORDED",
        "receivedOn": "2026-03-02",
        "reference": "BANK-7",
        "settledAt": None,
        "customer": {"name": world.tenants["acme"].name},
        "transfer": None,
    }
    assert payload == {"topUp": expected, "errors": []}
    assert await money(world) == ("1000.0000", "1000.0000")

    payload = await settled(world, CONFIRM, top_up["id"], "confirm")
    assert payload["errors"] == []
    assert payload["topUp"] | {"settledAt": None} == expected | {
        "status": "CONFIRMED",
        "transfer": {"kind": "TOP_UP", "memo": "BANK-7"},
    }
    assert datetime.now(UTC) - datetime.fromisoformat(payload["topUp"]["settledAt"]) < timedelta(minutes=1)
    assert await money(world) == ("1000.0000", "1250.5000")

    # the enterprise reads its own statement, and nobody else's; the platform reads both halves
    entry = {"balanceAfter": "250.5000", "amount": "250.5000", "transfer": {"kind": "TOP_UP", "memo": "BANK-7"}}
    own = {
        "kind": "PREPAYMENT",
        "balance": "250.5000",
        "available": "1250.5000",
        "tenant": {"name": world.tenants["acme"].name},
        "entries": {"nodes": [entry]},
    }
    assert (await world.data("acme", STATEMENT))["ledgerAccounts"]["nodes"] == [own]
    assert (await world.data("north", STATEMENT))["ledgerAccounts"]["nodes"] == []
    assert (await world.data("north", "{ topUps { totalCount } }"))["topUps"] == {"totalCount": 0}
    both = (await world.data("finance", STATEMENT))["ledgerAccounts"]["nodes"]
    assert [(a["kind"], a["balance"], a["available"]) for a in both] == [
        ("PREPAYMENT", "250.5000", "1250.5000"),
        ("RECEIPTS", "-250.5000", None),
    ]
    for caller in ("operations", "sales"):
        assert await world.codes(caller, STATEMENT) == ["FORBIDDEN"]


@pytest.mark.feature("S0-53")
async def test_a_top_up_is_settled_once(world: World) -> None:
    first, second = (await recorded(world, key="one")), (await recorded(world, key="two"))
    assert await recorded(world, key="one") == first
    assert (await settled(world, CANCEL, first["topUp"]["id"], "a"))["topUp"]["status"] == "CANCELLED"
    done = await settled(world, CONFIRM, second["topUp"]["id"], "b")
    assert await settled(world, CONFIRM, second["topUp"]["id"], "b") == done
    before = await books(world)
    for id in (first["topUp"]["id"], second["topUp"]["id"]):
        for mutation in (CONFIRM, CANCEL):
            payload = await settled(world, mutation, id, f"{id} {mutation[:40]} again")
            assert payload == {"topUp": None, "errors": [{"code": "TOP_UP_SETTLED", "field": "id"}]}
    assert await books(world) == before
    assert await money(world) == ("1000.0000", "1250.5000")


@pytest.mark.feature("S0-53")
async def test_ten_who_confirm_at_once_move_the_money_once(world: World) -> None:
    id = (await recorded(world))["topUp"]["id"]
    payloads = await asyncio.gather(*(settled(world, CONFIRM, id, f"key {n}") for n in range(10)))
    assert sorted(len(payload["errors"]) for payload in payloads) == [0] + [1] * 9
    assert await money(world) == ("1000.0000", "1250.5000")


@pytest.mark.feature("S0-53")
async def test_top_ups_that_are_refused(world: World) -> None:
    before = await books(world)
    tomorrow = (datetime.now(UTC) + timedelta(days=2)).date().isoformat()
    for given, code, field in (
        ({"amount": "0"}, "NOT_POSITIVE", "amount"),
        ({"amount": "-5"}, "NEGATIVE", "amount"),
        ({"amount": "0.00001"}, "INVALID", "amount"),
        ({"receivedOn": tomorrow}, "IN_FUTURE", "receivedOn"),
        ({"reference": "x" * 201}, "INVALID", "reference"),
        ({"customer": world.id("platform")}, "NOT_FOUND", "customer"),
        ({"customer": world.card_ids("north")[0]}, "INVALID_ID", "customer"),
    ):
        payload = await recorded(world, key=f"{field} {code}", **given)
        assert payload == {"topUp": None, "errors": [{"code": code, "field": field}]}, given
    assert await books(world) == before
    id = (await recorded(world))["topUp"]["id"]
    for caller in OTHERS:
        for mutation in (CONFIRM, CANCEL):
            assert await world.codes(caller, mutation, {"input": {"id": id, "idempotencyKey": "x"}}) == ["FORBIDDEN"]
    assert await money(world) == ("1000.0000", "1000.0000")


# -- the books ----------------------------------------------------------------------------------------------------


async def accounts(world: World, count: int) -> list[int]:
    """Accounts of one currency, each with nothing in it and a floor of -100, and the world outside."""
    made = []
    for n, tenant in enumerate(list(world.tenants.values())[:count]):
        [row] = await world.sql(
            "INSERT INTO ledger_account (tenant_id, tenant_path, kind, currency, floor, balance)"
            " VALUES ($1, $2, $3, 'EUR', $4, 777) RETURNING id",
            tenant.id,
            tenant.path,
            "RECEIPTS" if n == 0 else "PREPAYMENT",
            None if n == 0 else Decimal(-100),
        )
        made.append(row["id"])
    return made


async def move(world: World, key: str, amounts: dict[int, Decimal]) -> None:
    """A transfer by the service, in the platform's scope."""
    runtime = world.client.application.runtime
    principal = system("a transfer of the tests", ROOT_PATH, world.tenants["platform"].id)
    async with runtime.database.transaction(principal) as session:
        work = Work(principal, session, runtime=runtime)
        moved = {await session.get_one(LedgerAccount, account): amount for account, amount in amounts.items()}
        await ledger.transfer(work, world.tenants["platform"], TransferKind.TOP_UP, key, moved)


async def spend(world: World, amount: Decimal) -> None:
    """What a purchase will do: takes money from the enterprise."""
    runtime = world.client.application.runtime
    principal = system("a purchase of the tests", ROOT_PATH, world.tenants["platform"].id)
    async with runtime.database.transaction(principal) as session:
        work = Work(principal, session, runtime=runtime)
        prepaid = await ledger.account_of(work, world.tenants["acme"], LedgerAccountKind.PREPAYMENT, "CNY")
        receipts = await ledger.account_of(work, world.tenants["platform"], LedgerAccountKind.RECEIPTS, "CNY")
        amounts = {prepaid: -amount, receipts: amount}
        await ledger.transfer(work, world.tenants["acme"], TransferKind.TOP_UP, f"spend {amount}", amounts)


async def as_application(world: World, statements: list[str]) -> None:
    """One transaction as the application's own role, for the platform."""
    connection = await asyncpg.connect(world.client.application.settings.database_url, ssl=False)
    try:
        async with connection.transaction():
            await connection.execute("SELECT set_config('trellis.path', '.0001.', true)")
            for statement in statements:
                await connection.execute(statement)
    finally:
        await connection.close()


async def test_the_books_are_kept_by_the_database(world: World) -> None:
    """What a fault in the application, or somebody in its place, cannot do."""
    outside, account = await accounts(world, 2)
    await move(world, "first", {outside: Decimal(-50), account: Decimal(50)})
    platform = world.tenants["platform"]
    entry = (
        "INSERT INTO ledger_entry (tenant_id, tenant_path, transfer_id, ledger_account_id, amount)"
        " SELECT a.tenant_id, a.tenant_path, t.id, a.id, {amount} FROM ledger_account a, ledger_transfer t"
        " WHERE a.id = {account} AND t.idempotency_key = 'second'"
    )
    transfer = (
        "INSERT INTO ledger_transfer (tenant_id, tenant_path, kind, idempotency_key)"
        f" VALUES ({platform.id}, '.0001.', 'TOP_UP', '{{key}}')"
    )
    receipts_of_a_customer = (
        "INSERT INTO ledger_account (tenant_id, tenant_path, kind, currency)"
        " SELECT id, path, 'RECEIPTS', 'CNY' FROM tenant WHERE kind = 'ENTERPRISE'"
    )
    attempts = {
        "do not sum to zero": [transfer.format(key="second"), entry.format(amount=5, account=account)],
        "not sum to zero": [
            transfer.format(key="second"),
            entry.format(amount=5, account=account),
            entry.format(amount=-4, account=outside),
        ],
        "not_below_floor": [transfer.format(key="second"), entry.format(amount=-151, account=account)],
        "amount_not_zero": [transfer.format(key="second"), entry.format(amount=0, account=account)],
        "idempotency_key": [transfer.format(key="first")],
        "permission denied for table ledger_account": ["UPDATE ledger_account SET balance = 5"],
        "permission denied for table ledger_entry": ["UPDATE ledger_entry SET amount = 5"],
        "permission denied for table ledger_transfer": ["DELETE FROM ledger_transfer"],
        "permission denied for table top_up": ["DELETE FROM top_up"],
        "kinds_of_platform": [receipts_of_a_customer],
    }
    before = await books(world)
    for expected, statements in attempts.items():
        with pytest.raises(asyncpg.PostgresError) as refused:
            await as_application(world, statements)
        said = f"{refused.value} {getattr(refused.value, 'constraint_name', '')}"
        assert expected in said, said
    assert await books(world) == before


async def test_many_transfers_at_once_lose_nothing_and_pass_no_floor(world: World) -> None:
    """Eight at a time, random amounts between random accounts: what was told done is done once, the rest not at all."""
    keys = await accounts(world, 6)
    chosen = random.Random(20260302)
    plans: list[dict[int, Decimal]] = []
    for _ in range(160):
        parties = chosen.sample(keys, chosen.choice((2, 2, 3)))
        amounts = [Decimal(chosen.randint(-600_000, 600_000) or 1) / 10_000 for _ in parties[1:]]
        if sum(amounts) and all(amounts):
            plans.append(dict(zip(parties, [*amounts, -sum(amounts)], strict=True)))
    done: dict[str, dict[int, Decimal]] = {}
    refused: dict[str, str] = {}

    async def worker(mine: list[tuple[str, dict[int, Decimal]]]) -> None:
        for key, amounts in mine:
            try:
                await move(world, key, amounts)
                done[key] = amounts
            except Refusal as refusal:
                refused[key] = refusal.code

    numbered = [(f"move {n}", plan) for n, plan in enumerate(plans)]
    await asyncio.gather(*(worker(numbered[n::8]) for n in range(8)))
    assert len(done) > 40
    assert len(refused) > 5
    assert set(refused.values()) == {"INSUFFICIENT_FUNDS"}

    stored = await world.sql(
        "SELECT t.idempotency_key AS key, e.ledger_account_id AS account, e.amount FROM ledger_transfer t"
        " JOIN ledger_entry e ON e.transfer_id = t.id WHERE t.idempotency_key LIKE 'move %'"
    )
    written: dict[str, dict[int, Decimal]] = {}
    for row in stored:
        written.setdefault(row["key"], {})[row["account"]] = row["amount"]
    assert written == done
    balances = await world.sql(
        """SELECT a.balance, a.floor, coalesce(sum(e.amount), 0) AS total
           FROM ledger_account a LEFT JOIN ledger_entry e ON e.ledger_account_id = a.id
           WHERE a.currency = 'EUR' GROUP BY a.id"""
    )
    assert sum(row["balance"] for row in balances) == 0
    for row in balances:
        assert row["balance"] == row["total"]
        assert row["floor"] is None or row["balance"] >= row["floor"]


@pytest.mark.feature("S2-18")
async def test_entries_are_numbered_in_the_order_in_which_they_moved_their_account(world: World) -> None:
    """Numbers are handed out while the account is held: one that was drawn before that is not kept."""
    first, second = await accounts(world, 2)
    await move(world, "before", {first: Decimal(1), second: Decimal(-1)})
    await world.sql(
        """WITH t AS (INSERT INTO ledger_transfer (tenant_id, tenant_path, kind, idempotency_key)
                      SELECT id, path, 'OPENING', 'after' FROM tenant WHERE level = 0 RETURNING id)
           INSERT INTO ledger_entry (id, tenant_id, tenant_path, transfer_id, ledger_account_id, amount)
           SELECT -a.id, a.tenant_id, a.tenant_path, t.id, a.id, CASE WHEN a.id = $1 THEN 2 ELSE -2 END
           FROM ledger_account a, t WHERE a.id IN ($1, $2)""",
        first,
        second,
    )
    for account, expected in ((first, [1, 3]), (second, [-1, -3])):
        rows = await world.sql(
            "SELECT id, balance_after FROM ledger_entry WHERE ledger_account_id = $1 ORDER BY id", account
        )
        before = [row["balance_after"] for row in rows]
        assert [later - before[0] for later in before[1:]] == [expected[1] - expected[0]]
        assert rows[0]["id"] > 0
