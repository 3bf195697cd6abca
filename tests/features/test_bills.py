"""Monthly bills and settlement statements: what stands in the books, once, and as documents that people can open."""

from __future__ import annotations

import asyncio
import io
import zipfile
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import openpyxl
import pytest

from models.catalog import Carrier
from planner.ids import encode_id
from services import bills
from tests.support.commerce import PRICE, REFUND, bought, funded, rates, said, step
from tests.support.world import World

CHINA = ZoneInfo("Asia/Shanghai")
BILLS = """{ monthlyBills { nodes { id month currency openingBalance paidIn spent refunded closingBalance orderCount
    customer { name } workbookUrl pdfUrl } } }"""
GENERATE = """mutation($input: GenerateSettlementStatementInput!) { generateSettlementStatement(input: $input) {
    settlementStatement { id status amount kind lines { nodes { kind name quantity amount } } }
    errors { code field } } }"""
STEP = """mutation($input: SettlementStatementInput!) {{ {name}SettlementStatement(input: $input) {{
    settlementStatement {{ id status amount pdfUrl confirmedBy {{ id }} }} errors {{ code field }} }} }}"""
SETTLE = """mutation($input: SettleStatementInput!) { settleSettlementStatement(input: $input) {
    settlementStatement { status reference settledAt } errors { code field } } }"""
DOCUMENTS = "query($id: ID!) { settlementStatement(id: $id) { workbookUrl pdfUrl } }"


async def run(world: World, now: datetime) -> int:
    runtime = world.client.application.runtime
    return await bills.run(runtime.database, runtime.files, now)


async def at(world: World, moment: datetime) -> None:
    """What moved last moved at that time."""
    await world.sql("UPDATE ledger_entry SET created_at = $1 WHERE created_at > now() - interval '1 hour'", moment)
    await world.sql("UPDATE sales_order SET paid_at = $1 WHERE paid_at > now() - interval '1 hour'", moment)
    await world.sql("UPDATE sales_order SET closed_at = $1 WHERE closed_at > now() - interval '1 hour'", moment)
    await world.sql("UPDATE commission_entry SET created_at = $1 WHERE created_at > now() - interval '1 hour'", moment)


async def content(world: World, link: str) -> bytes:
    answer = await world.client.http.get(link)
    assert answer.status_code == 200
    return answer.content


@pytest.mark.feature("S0-66")
async def test_each_month_of_an_enterprise_is_billed_once_by_its_calendar(world: World) -> None:
    zone = ZoneInfo(world.tenants["acme"].time_zone)
    await funded(world, "acme", "500")
    await at(world, datetime(2026, 8, 31, 23, 59, tzinfo=zone))
    order = await bought(world, "acme")
    await at(world, datetime(2026, 9, 1, 0, 0, tzinfo=zone))
    await bought(world, "acme", [world.card_ids("acme")[2]])
    await at(world, datetime(2026, 9, 30, 23, 59, tzinfo=zone))
    assert (await step(world, "admin", REFUND, order, reason="a mistake"))["errors"] == []
    await at(world, datetime(2026, 10, 2, tzinfo=zone))
    await funded(world, "north", "70")
    end = datetime(2026, 10, 1, tzinfo=zone)
    assert await run(world, end + timedelta(minutes=59)) == 1  # August: September is not an hour over
    assert await run(world, end + timedelta(hours=1)) == 1
    assert await run(world, end + timedelta(hours=2)) == 0
    found = (await world.data("acme", BILLS))["monthlyBills"]["nodes"]
    spent = PRICE * 3
    assert [
        (
            one["month"],
            *(Decimal(one[name]) for name in ("openingBalance", "paidIn", "spent", "refunded", "closingBalance")),
        )
        for one in sorted(found, key=lambda one: one["month"])
    ] == [
        ("2026-08-01", 0, 500, 0, 0, 500),
        ("2026-09-01", 500, 0, spent, 0, 500 - spent),
    ]
    assert await run(world, datetime(2026, 11, 1, 1, tzinfo=zone)) == 1
    october = max((await world.data("finance", BILLS))["monthlyBills"]["nodes"], key=lambda one: one["month"])
    assert Decimal(october["refunded"]) == PRICE * 2
    assert Decimal(october["closingBalance"]) == 500 - PRICE
    for stranger in ("north", "south"):
        assert await world.codes(stranger, BILLS) == ["FORBIDDEN"]


@pytest.mark.feature("S0-66")
async def test_a_bill_can_be_opened_as_a_workbook_and_as_a_page(world: World) -> None:
    await funded(world, "acme", "1234.5")
    await world.sql("UPDATE ledger_transfer SET memo = $1", "汇款备注" * 50)
    await at(world, datetime(2026, 9, 10, tzinfo=UTC))
    await run(world, datetime(2026, 10, 3, tzinfo=UTC))
    (bill,) = (await world.data("acme", BILLS))["monthlyBills"]["nodes"]
    book = openpyxl.load_workbook(io.BytesIO(await content(world, bill["workbookUrl"])))
    cells = [str(cell.value) for row in book.active.iter_rows() for cell in row if cell.value is not None]
    assert "1,234.50" in cells
    assert world.tenants["acme"].name in cells
    page = await content(world, bill["pdfUrl"])
    assert page.startswith(b"%PDF-")
    assert b"STSong-Light" in page
    rows = await world.sql("SELECT DISTINCT tenant_id FROM stored_file WHERE name LIKE 'bill-%'")
    assert [row["tenant_id"] for row in rows] == [world.tenants["acme"].id]


@pytest.mark.feature("S0-66")
async def test_two_bill_runs_at_once_make_each_bill_once(world: World) -> None:
    await funded(world, "acme")
    await at(world, datetime(2026, 9, 10, tzinfo=UTC))
    now = datetime(2026, 10, 3, tzinfo=UTC)
    made = await asyncio.gather(*(run(world, now) for _ in range(3)))
    assert sum(made) == 1
    assert len(await world.sql("SELECT FROM stored_file WHERE name LIKE 'bill-%'")) == 2


def span(**more: Any) -> dict[str, Any]:
    return {"firstDay": "2026-09-01", "lastDay": "2026-09-30", **more}


async def generated(world: World, **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = (await world.data("finance", GENERATE, {"input": span(**more)}))[
        "generateSettlementStatement"
    ]
    return found


@pytest.mark.feature("S0-67")
async def test_a_statement_with_a_customer_is_drawn_up_confirmed_and_settled(world: World) -> None:
    await rates(world, "20", "12", "5")
    await funded(world, "north")
    first = await bought(world, "north")
    await bought(world, "north", [world.card_ids("north")[2]])
    await at(world, datetime(2026, 9, 12, tzinfo=UTC))
    await step(world, "admin", REFUND, first, reason="a mistake")
    await world.sql("UPDATE sales_order SET closed_at = '2026-09-20' WHERE status = 'REFUNDED'")
    await world.sql("UPDATE commission_entry SET reversed_at = '2026-09-20' WHERE status = 'REVERSED'")
    made = await generated(world, customer=world.id("north"))
    statement = made["settlementStatement"]
    name = world.packages["CM-M-1G"].name
    assert {
        (one["kind"], one["name"], one["quantity"], Decimal(one["amount"])) for one in statement["lines"]["nodes"]
    } == {
        ("SALES", name, 3, PRICE * 3),
        ("REFUNDS", name, 2, -PRICE * 2),
        ("COMMISSION", name, 3, -PRICE / 5),
    }
    assert (statement["status"], Decimal(statement["amount"])) == ("DRAFT", PRICE - PRICE / 5)
    assert said(await generated(world, customer=world.id("north"))) == [("STATEMENT_OVERLAPS", "firstDay")]
    id = {"input": {"id": statement["id"]}}
    early = await world.data("finance", SETTLE, {"input": {"id": statement["id"], "reference": "B-1"}})
    assert said(early["settleSettlementStatement"]) == [("STATEMENT_STATUS", "id")]
    again = (await world.data("finance", STEP.format(name="regenerate"), id))["regenerateSettlementStatement"]
    assert Decimal(again["settlementStatement"]["amount"]) == PRICE - PRICE / 5
    confirmed = (await world.data("finance", STEP.format(name="confirm"), id))["confirmSettlementStatement"]
    assert confirmed["settlementStatement"]["status"] == "CONFIRMED"
    for refused in ("confirm", "regenerate", "discard"):
        found = await world.data("finance", STEP.format(name=refused), id)
        assert said(found[f"{refused}SettlementStatement"]) == [("STATEMENT_STATUS", "id")]
    await world.client.work_off()
    links = (await world.data("finance", DOCUMENTS, {"id": statement["id"]}))["settlementStatement"]
    assert (await content(world, links["pdfUrl"])).startswith(b"%PDF-")
    assert zipfile.is_zipfile(io.BytesIO(await content(world, links["workbookUrl"])))
    settled = await world.data("finance", SETTLE, {"input": {"id": statement["id"], "reference": "B-1"}})
    assert settled["settleSettlementStatement"]["settlementStatement"]["reference"] == "B-1"
    for caller in ("operations", "north", "acme"):
        assert await world.codes(caller, GENERATE, {"input": span(customer=world.id("north"))}) == ["FORBIDDEN"]
        assert await world.codes(caller, "{ settlementStatements { nodes { id } } }") == ["FORBIDDEN"]


@pytest.mark.feature("S0-67")
async def test_a_statement_with_a_supplier_has_what_was_sold_of_its_products_at_what_they_cost(world: World) -> None:
    supplier = encode_id("sup", world.suppliers[Carrier.CMCC].id)
    create = "mutation($input: BillingProductInput!) { createBillingProduct(input: $input) { billingProduct { id } } }"
    input = {"kind": "INTERNAL", "service": "DATA", "code": "GB", "name": "Gigabyte", "cost": "3", "supplier": supplier}
    product = (await world.data("operations", create, {"input": input}))["createBillingProduct"]["billingProduct"]["id"]
    compose = "mutation($input: ComposeDataPackageInput!) { composeDataPackage(input: $input) { errors { code } } }"
    package = encode_id("pkg", world.packages["CM-M-1G"].id)
    input = {"package": package, "components": [{"product": product, "quantity": 2}], "markup": "4"}
    await world.data("operations", compose, {"input": input})
    await funded(world, "north")
    await bought(world, "north")
    await at(world, datetime(2026, 9, 12, tzinfo=UTC))
    statement = (await generated(world, supplier=supplier))["settlementStatement"]
    (line,) = statement["lines"]["nodes"]
    assert (line["kind"], line["name"], line["quantity"], Decimal(line["amount"])) == ("PURCHASES", "Gigabyte", 4, 12)
    (order,) = await world.sql("SELECT id FROM sales_order")
    await step(world, "admin", REFUND, encode_id("ord", order["id"]), reason="a mistake")
    await world.sql("UPDATE sales_order SET closed_at = '2026-09-20'")
    again = await world.data("finance", STEP.format(name="regenerate"), {"input": {"id": statement["id"]}})
    assert Decimal(again["regenerateSettlementStatement"]["settlementStatement"]["amount"]) == 0
    discarded = await world.data("finance", STEP.format(name="discard"), {"input": {"id": statement["id"]}})
    assert discarded["discardSettlementStatement"]["settlementStatement"]["status"] == "DISCARDED"
    assert (await generated(world, supplier=supplier))["errors"] == []


@pytest.mark.feature("S0-67")
@pytest.mark.parametrize(
    ("more", "refusal"),
    [
        ({}, ("REQUIRED", "customer")),
        ({"customer": "platform"}, ("NOT_FOUND", "customer")),
        ({"customer": "north", "lastDay": "2026-08-01"}, ("INVALID", "lastDay")),
        (
            {"customer": "north", "lastDay": datetime.now(ZoneInfo("Asia/Shanghai")).date().isoformat()},
            ("INVALID", "lastDay"),
        ),
        ({"customer": "north", "currency": "Yuan"}, ("INVALID", "currency")),
    ],
)
async def test_a_statement_of_nothing_is_refused(world: World, more: dict[str, Any], refusal: tuple[str, str]) -> None:
    if "customer" in more:
        more = {**more, "customer": world.id(more["customer"])}
    assert said(await generated(world, **more)) == [refusal]
    assert await world.sql("SELECT FROM settlement_statement") == []
