"""Agents ask for settled income; what is asked for is withheld, and leaves or comes back once."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from authz.principal import system
from models.ledger import LedgerAccountKind, TransferKind
from services import ledger, settlement
from services.runtime import Unit
from tests.support.commerce import REFUND, balances, bought, funded, rates, said, step
from tests.support.world import World

FIELDS = """id amount currency status payee bank bankAccount reason paidOn reference company { name }
    requestedBy { name } reviewedBy { name } closedBy { name } transfer { kind }"""


def mutation(name: str, input: str) -> str:
    selected = f"{{ withdrawal {{ {FIELDS} }} errors {{ code field }} }}"
    return f"mutation($input: {input}!) {{ {name}(input: $input) {selected} }}"


REQUEST = mutation("requestWithdrawal", "RequestWithdrawalInput")
CANCEL = mutation("cancelWithdrawal", "WithdrawalInput")
APPROVE = mutation("approveWithdrawal", "WithdrawalInput")
REJECT = mutation("rejectWithdrawal", "RejectWithdrawalInput")
PAID = mutation("markWithdrawalPaid", "MarkWithdrawalPaidInput")
LIST = f"{{ withdrawals {{ nodes {{ {FIELDS} }} }} }}"
BANK = {"payee": "North Ltd", "bank": "Bank of Hangzhou", "bankAccount": "6222 0212 3456 7890"}


async def with_income(world: World) -> None:
    """North has 20.48 settled, and 10.24 that is not."""
    await rates(world, "50", "0", "0")
    await funded(world, "north")
    for _ in range(2):
        await bought(world, "north", world.card_ids("north")[:1])
    await world.sql("UPDATE commission_entry SET created_at = '2026-03-05T10:00:00+00:00'")
    await settlement.settle_due(world.client.application.runtime.database, datetime(2026, 5, 1, tzinfo=UTC))
    await bought(world, "north", world.card_ids("north")[:1])


async def asked(world: World, amount: str = "15", caller: str = "north", **more: Any) -> dict[str, Any]:
    input = {"amount": amount, **BANK, "idempotencyKey": str(uuid.uuid4()), **more}
    found: dict[str, Any] = (await world.data(caller, REQUEST, {"input": input}))["requestWithdrawal"]
    return found


async def income(world: World) -> tuple[Decimal, Decimal, Decimal]:
    """Settled, withheld, and what the world outside has given."""
    found = await balances(world)
    return (
        found.get(("north", "INCOME"), Decimal(0)),
        found.get(("north", "WITHHELD"), Decimal(0)),
        found["platform", "RECEIPTS"],
    )


@pytest.mark.feature("S0-50")
async def test_income_is_asked_for_approved_and_paid(world: World) -> None:
    await with_income(world)
    made = await asked(world)
    withdrawal = made["withdrawal"]
    assert made["errors"] == []
    assert withdrawal | {"id": ""} == {
        "id": "",
        "amount": "15.0000",
        "currency": "CNY",
        "status": "REQUESTED",
        "payee": "North Ltd",
        "bank": "Bank of Hangzhou",
        "bankAccount": "6222021234567890",
        "reason": None,
        "paidOn": None,
        "reference": None,
        "company": {"name": world.tenants["north"].name},
        "requestedBy": {"name": "north"},
        "reviewedBy": None,
        "closedBy": None,
        "transfer": None,
    }
    assert await income(world) == (Decimal("5.48"), Decimal(15), Decimal(-1000))
    early = {"paidOn": "2026-04-01", "reference": "BANK-9"}
    assert said(await step(world, "finance", PAID, withdrawal["id"], **early)) == [("WITHDRAWAL_STATUS", "id")]
    approved = await step(world, "finance", APPROVE, withdrawal["id"])
    assert (approved["withdrawal"]["status"], approved["withdrawal"]["reviewedBy"]) == ("APPROVED", {"name": "finance"})
    assert said(await step(world, "north", CANCEL, withdrawal["id"])) == [("WITHDRAWAL_STATUS", "id")]
    payloads = await asyncio.gather(*(step(world, "finance", PAID, withdrawal["id"], **early) for _ in range(6)))
    (good,) = [payload["withdrawal"] for payload in payloads if not payload["errors"]]
    assert (good["status"], good["paidOn"], good["reference"]) == ("PAID", "2026-04-01", "BANK-9")
    assert (good["closedBy"], good["transfer"]) == ({"name": "finance"}, {"kind": "WITHDRAWAL"})
    assert await income(world) == (Decimal("5.48"), Decimal(0), Decimal(-985))
    for name, more in (("rejectWithdrawal", {"reason": "late"}), ("approveWithdrawal", {})):
        text = {"rejectWithdrawal": REJECT, "approveWithdrawal": APPROVE}[name]
        assert said(await step(world, "finance", text, withdrawal["id"], **more)) == [("WITHDRAWAL_STATUS", "id")]
    own = "query($id: ID!) { tenant(id: $id) { ... on Agent { totalIncome incomeBalance withdrawableIncome } } }"
    shown = (await world.data("north", own, {"id": world.id("north")}))["tenant"]
    assert shown == {"totalIncome": "30.7200", "incomeBalance": "15.7200", "withdrawableIncome": "5.4800"}
    assert sum((await balances(world)).values()) == 0


@pytest.mark.feature("S0-50")
async def test_what_is_rejected_or_taken_back_is_there_again(world: World) -> None:
    await with_income(world)
    before = await balances(world)
    first = (await asked(world))["withdrawal"]["id"]
    taken = await step(world, "north", CANCEL, first)
    assert (taken["withdrawal"]["status"], taken["withdrawal"]["closedBy"]) == ("CANCELLED", {"name": "north"})
    assert await balances(world) == before
    second = (await asked(world))["withdrawal"]["id"]
    assert said(await step(world, "finance", REJECT, second, reason=" ")) == [("REQUIRED", "reason")]
    rejected = await step(world, "finance", REJECT, second, reason=" The account is wrong. ")
    assert (rejected["withdrawal"]["status"], rejected["withdrawal"]["reason"]) == ("REJECTED", "The account is wrong.")
    assert await balances(world) == before
    third = (await asked(world, "20.48"))["withdrawal"]["id"]
    assert said(await step(world, "finance", APPROVE, third)) == []
    assert said(await step(world, "finance", REJECT, third, reason="The bank sent it back.")) == []
    assert await balances(world) == before
    assert [one["status"] for one in (await world.data("north", LIST))["withdrawals"]["nodes"]] == [
        "CANCELLED",
        "REJECTED",
        "REJECTED",
    ]


@pytest.mark.feature("S0-50")
async def test_no_more_is_asked_for_than_is_settled(world: World) -> None:
    await with_income(world)
    assert said(await asked(world, "20.4801")) == [("INSUFFICIENT_FUNDS", "amount")]
    payloads = await asyncio.gather(*(asked(world, "5") for _ in range(8)))
    assert sum(payload["errors"] == [] for payload in payloads) == 4
    assert {code for payload in payloads for code, _ in said(payload)} == {"INSUFFICIENT_FUNDS"}
    assert await income(world) == (Decimal("0.48"), Decimal(20), Decimal(-1000))
    again = {"idempotencyKey": "once"}
    assert (await asked(world, "0.4", **again)) == (await asked(world, "0.4", **again))
    assert (await income(world))[0] == Decimal("0.08")


@pytest.mark.feature("S0-50")
async def test_withdrawals_that_are_refused(world: World) -> None:
    await with_income(world)
    before = await balances(world)
    for more, code, field in (
        ({"amount": "0"}, "NOT_POSITIVE", "amount"),
        ({"amount": "-1"}, "NEGATIVE", "amount"),
        ({"amount": "0.00001"}, "INVALID", "amount"),
        ({"payee": " "}, "REQUIRED", "payee"),
        ({"bank": ""}, "REQUIRED", "bank"),
        ({"bankAccount": "12"}, "INVALID", "bankAccount"),
        ({"bankAccount": "1234;DROP"}, "INVALID", "bankAccount"),
    ):
        assert said(await asked(world, **more)) == [(code, field)], more
    assert said(await asked(world, "1", caller="south")) == [("INSUFFICIENT_FUNDS", "amount")]
    assert said(await asked(world, "1", caller="admin")) == [("NOT_POSSIBLE_HERE", None)]
    assert await balances(world) == before
    id = (await asked(world))["withdrawal"]["id"]
    future = {"paidOn": "2099-01-01", "reference": "R"}
    assert said(await step(world, "finance", APPROVE, id)) == []
    assert said(await step(world, "finance", PAID, id, **future)) == [("IN_FUTURE", "paidOn")]
    assert said(await step(world, "finance", PAID, id, paidOn="2026-04-01", reference="")) == [
        ("REQUIRED", "reference")
    ]


@pytest.mark.feature("S0-50")
async def test_who_sees_and_decides_a_withdrawal(world: World) -> None:
    await with_income(world)
    id = (await asked(world))["withdrawal"]["id"]
    for caller, account in (("north", "6222021234567890"), ("finance", "6222021234567890")):
        (one,) = (await world.data(caller, LIST))["withdrawals"]["nodes"]
        assert one["bankAccount"] == account, caller
    for caller in ("north-east", "coast", "south"):
        assert (await world.data(caller, LIST))["withdrawals"]["nodes"] == [], caller
        assert said(await step(world, caller, CANCEL, id)) == [("NOT_FOUND", "id")], caller
    for caller in ("acme", "sales", "operations"):
        assert await world.codes(caller, LIST) == ["FORBIDDEN"], caller
    for caller in ("north", "acme", "sales", "operations"):
        for text, more in (
            (APPROVE, {}),
            (REJECT, {"reason": "x"}),
            (PAID, {"paidOn": "2026-04-01", "reference": "x"}),
        ):
            input = {"id": id, "idempotencyKey": "x", **more}
            assert await world.codes(caller, text, {"input": input}) == ["FORBIDDEN"], caller
    assert await world.codes("acme", REQUEST, {"input": {"amount": "1", **BANK, "idempotencyKey": "x"}}) == [
        "FORBIDDEN"
    ]


@pytest.mark.feature("S0-50", "S2-18")
async def test_what_a_refund_took_back_is_not_paid_out(world: World) -> None:
    """Not even where what is pending would make up for it later."""
    await rates(world, "50", "0", "0")
    await funded(world, "north")
    card = world.card_ids("north")[:1]
    orders = [await bought(world, "north", card) for _ in range(2)]
    await world.sql("UPDATE commission_entry SET created_at = '2026-03-05T10:00:00+00:00'")
    await settlement.settle_due(world.client.application.runtime.database, datetime(2026, 5, 1, tzinfo=UTC))
    await bought(world, "north", card)
    assert said(await step(world, "finance", REFUND, orders[0], reason="complaint")) == []
    shown = "query($id: ID!) { tenant(id: $id) { ... on Agent { withdrawableIncome } } }"
    assert (await world.data("north", shown, {"id": world.id("north")}))["tenant"] == {"withdrawableIncome": "10.2400"}
    assert said(await asked(world, "10.2401")) == [("INSUFFICIENT_FUNDS", "amount")]
    assert said(await asked(world, "10.24")) == []
    assert said(await asked(world, "0.0001")) == [("INSUFFICIENT_FUNDS", "amount")]


@pytest.mark.feature("S0-50")
async def test_income_of_another_currency_is_asked_for_by_its_name(world: World) -> None:
    await world.sql("UPDATE data_package SET currency = 'HKD' WHERE code = 'CM-M-1G'")
    await world.sql(
        "INSERT INTO ledger_account (tenant_id, tenant_path, kind, currency, floor) "
        "SELECT id, path, 'PREPAYMENT', 'HKD', -1000 FROM tenant WHERE id = $1",
        world.tenants["north"].id,
    )
    await rates(world, "50", "0", "0")
    await bought(world, "north", world.card_ids("north")[:1])
    await world.sql("UPDATE commission_entry SET created_at = '2026-03-05T10:00:00+00:00'")
    await settlement.settle_due(world.client.application.runtime.database, datetime(2026, 5, 1, tzinfo=UTC))
    assert said(await asked(world, "5")) == [("INSUFFICIENT_FUNDS", "amount")]
    assert said(await asked(world, "5", currency="hkd")) == [("INVALID", "currency")]
    made = await asked(world, "5", currency="HKD")
    assert (made["errors"], made["withdrawal"]["currency"]) == ([], "HKD")


async def test_a_merchant_draws_what_its_customers_have_paid(world: World) -> None:
    root, cafe = world.tenants["platform"], world.tenants["cafe"]
    async with world.client.application.runtime.database.transaction(system("test")) as session:
        work = Unit(system("test"), session)
        accounts = await ledger.accounts_of(
            work, [(root, LedgerAccountKind.RECEIPTS), (cafe, LedgerAccountKind.FUNDS)], "CNY"
        )
        there, funds = accounts[root.id, LedgerAccountKind.RECEIPTS], accounts[cafe.id, LedgerAccountKind.FUNDS]
        await ledger.transfer(work, cafe, TransferKind.ORDER, "sold", {there: Decimal(-80), funds: Decimal(80)})
    assert said(await asked(world, "80.01", "cafe")) == [("INSUFFICIENT_FUNDS", "amount")]
    assert said(await asked(world, "1", "gym")) == [("INSUFFICIENT_FUNDS", "amount")]
    first, second = await asked(world, "50", "cafe"), await asked(world, "30", "cafe")
    assert said(first) == said(second) == []
    assert said(await step(world, "gym", CANCEL, first["withdrawal"]["id"])) == [("NOT_FOUND", "id")]
    assert (await step(world, "cafe", CANCEL, first["withdrawal"]["id"]))["errors"] == []
    assert (await step(world, "finance", APPROVE, second["withdrawal"]["id"]))["errors"] == []
    told = {"paidOn": "2026-04-01", "reference": "BANK-10"}
    assert (await step(world, "finance", PAID, second["withdrawal"]["id"], **told))["errors"] == []
    assert await balances(world) == {("platform", "RECEIPTS"): Decimal(-50), ("cafe", "FUNDS"): Decimal(50)}
    assert len((await world.data("cafe", LIST))["withdrawals"]["nodes"]) == 2
    assert (await world.data("gym", LIST))["withdrawals"]["nodes"] == []
