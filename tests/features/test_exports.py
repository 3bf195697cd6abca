"""Lists written into files: whole, masked and scoped as their pages are, and once, whatever happens to the worker."""

from __future__ import annotations

import csv
import hashlib
import io
from typing import Any

import openpyxl
import pytest
from graphql import GraphQLObjectType, get_named_type, get_nullable_type, is_list_type

from authz.principal import system
from authz.session import Database
from planner.mapping import camel, registry, snake
from planner.pool import snapshot
from planner.tables import Asking
from server.app import the_graph
from server.demo import add_account
from tests.support.exported import (
    START,
    cards_of,
    exported,
    fetched,
    more_cards,
    rows_of,
    start,
    started,
    task_of,
)
from tests.support.market import in_cash, item, sold
from tests.support.office import office
from tests.support.partner import signed
from tests.support.people import shipped
from tests.support.world import PASSWORD, World, password_hash

CARDS = "{ simCards(orderBy: [{field: ID}]) { nodes { displayIccid status holder { name } package { code } } } }"
PEOPLE = "query($f: EndUserFilter) { endUsers(filter: $f) { nodes { id who: name phone } } }"


async def refused(world: World, caller: str, operation: str, variables: Any = None, **more: Any) -> tuple[str, str]:
    payload = await start(world, caller, operation, variables=variables, **more)
    assert payload["task"] is None
    [error] = payload["errors"]
    return error["code"], error["field"]


@pytest.mark.parametrize("format", ["XLSX", "CSV"])
async def test_a_list_is_written_as_its_page_shows_it(world: World, format: str) -> None:
    task, content = await exported(world, "north", CARDS, format=format, name="Cards: May/June")
    assert (task["kind"], task["status"], task["name"]) == ("EXPORT", "SUCCEEDED", "Cards: May/June")
    assert (task["total"], task["done"], task["failed"], task["progress"]) == (18, 18, 0, 1.0)
    page = CARDS.replace("orderBy", "first: 100, orderBy")
    nodes = (await world.data("north", page))["simCards"]["nodes"]
    assert rows_of(content, format) == [
        ["displayIccid", "status", "holder.name", "package.code"],
        *([n["displayIccid"], n["status"], n["holder"]["name"], (n["package"] or {}).get("code", "")] for n in nodes),
    ]
    await world.client.work_off()
    told = await world.sql("SELECT kind, parameters->>'title' AS title, parameters->>'rows' AS n FROM notification")
    assert ("export.finished", "Cards: May/June", "18") in [(r["kind"], r["title"], r["n"]) for r in told]
    kept = await world.sql("SELECT name, content_type FROM stored_file")
    assert [row["name"] for row in kept] == [f"Cards_ May_June.{format.lower()}"]


async def test_both_formats_hold_the_same_over_many_pages(world: World) -> None:
    await more_cards(world, "north-east", 2_345)
    operation = "{ simCards(orderBy: [{field: ACTIVATED_AT, direction: DESC}]) { nodes { displayIccid activatedAt } } }"
    found = {}
    for format in ("XLSX", "CSV"):
        task, content = await exported(world, "north", operation, format=format)
        assert (task["total"], task["done"]) == (2_363, 2_363)
        found[format] = rows_of(content, format)
    assert found["XLSX"] == found["CSV"]
    assert len(found["CSV"]) == 2_364
    assert {row[0] for row in found["CSV"][1:]} == set(await cards_of(world, "north"))


async def test_arguments_and_aliases_are_the_callers_and_pages_are_not(world: World) -> None:
    operation = """query Cards($status: SimStatus!, $first: Int = 2, $detail: Boolean!) {
        list: simCards(first: $first, filter: {status: {eq: $status}}) { totalCount rows: nodes {
            ...Card holder @include(if: $detail) { id } } pageInfo { endCursor } } }
        fragment Card on SimCard { number: displayIccid holder { name ... on Agent { level: agentLevel } } }"""
    variables = {"status": "SUSPENDED", "detail": False}
    task, content = await exported(world, "north", operation, variables=variables, format="CSV")
    assert rows_of(content, "CSV")[0] == ["number", "holder.name", "holder.level"]
    assert [row[1:] for row in rows_of(content, "CSV")[1:]] == [
        ["Agency «north»", "1"],
        ["Agency «north-east»", "2"],
        ["Agency «coast»", "3"],
    ]
    assert task["done"] == 3


async def test_a_shipped_document_is_named_by_its_sha256(world: World) -> None:
    digest = hashlib.sha256(shipped("admin", "ExportCustomers").encode()).hexdigest()
    _, content = await exported(world, "sales", digest, format="CSV", variables={"orderBy": [{"field": "NAME"}]})
    headings, *rows = rows_of(content, "CSV")
    assert set(headings) == {
        "kind", "name", "level", "status", "contactName", "phone", "email", "createdAt", "parent.name",
        "businessLicence", "creditLimit", "availableAmount", "agentLevel", "totalIncome", "incomeBalance",
    }  # fmt: skip
    found = {row["name"]: row for row in (dict(zip(headings, cells, strict=True)) for cells in rows)}
    assert list(found) == sorted(found)
    assert len(found) == 6
    acme, coast = found["Company «acme»"], found["Agency «coast»"]
    assert (acme["kind"], acme["businessLicence"], acme["agentLevel"]) == ("ENTERPRISE", "«acme»", "")
    assert (coast["kind"], coast["businessLicence"], coast["agentLevel"]) == ("AGENT", "", "3")
    assert await refused(world, "sales", "0" * 64) == ("PERSISTED_QUERY_NOT_FOUND", "operation")


async def test_branches_export_no_row_of_each_other(world: World) -> None:
    files = {}
    for caller in ("north", "south", "coast", "acme"):
        _, content = await exported(world, caller, CARDS.replace("status", "apn"), format="CSV")
        files[caller] = rows_of(content, "CSV")[1:]
    for caller, rows in files.items():
        below = {f"apn «{name}»" for name in world.below(caller)}
        assert {row[1] for row in rows} == below, caller
        assert len(rows) == 6 * len(below), caller


async def test_personal_data_is_masked_in_a_file_as_on_a_page(world: World) -> None:
    _, content = await exported(world, "north", PEOPLE, format="CSV")
    page = (await world.data("north", PEOPLE))["endUsers"]["nodes"]
    assert rows_of(content, "CSV")[1:] == [[node["id"], node["who"], node["phone"]] for node in page]
    phones = {person.phone for person in world.end_users.values()}
    assert all("****" in node["phone"] for node in page)
    assert not any(phone and phone.encode() in content for phone in phones)
    _, in_full = await exported(world, "admin", PEOPLE, format="CSV")
    assert {row[2] for row in rows_of(in_full, "CSV")[1:]} == phones


BAD = {
    "a syntax error": ("{ simCards(", "GRAPHQL_PARSE_FAILED"),
    "an unknown field": ("{ simCards { nodes { owner } } }", "GRAPHQL_VALIDATION_FAILED"),
    "a mutation": ("mutation { logOut { done } }", "NOT_A_QUERY"),
    "two lists": ("{ simCards { nodes { id } } endUsers { nodes { id } } }", "NOT_ONE_LIST"),
    "one row": ('{ simCard(displayIccid: "1") { id } }', "NOT_ONE_LIST"),
    "a value": ("{ viewer { door } }", "NOT_ONE_LIST"),
    "no list": ("{ __typename }", "NOT_ONE_LIST"),
    "a total alone": ("{ simCards { totalCount } }", "NOT_ONE_LIST"),
    "edges": ("{ simCards { edges { node { id } } } }", "NOT_ONE_LIST"),
    "nodes twice": ("{ simCards { nodes { id } more: nodes { id } } }", "NOT_ONE_LIST"),
    "a nested list": ("{ simCards { nodes { id statusChanges { nodes { id } } } } }", "NESTED_LIST"),
    "a nested list of a to-one": ("{ simCards { nodes { holder { staff { totalCount } } } } }", "NESTED_LIST"),
    "a live field": ("{ simCards { nodes { id carrierState { status } } } }", "LIVE_FIELD"),
    "two operations": ("query A { viewer { door } } query B { viewer { door } }", "OPERATION_RESOLUTION_FAILURE"),
    "a confidential field": ("{ simCards { nodes { iccid } } }", "FORBIDDEN"),
    "a denied field": ("{ simCards { nodes { displayIccid remark } } }", "FORBIDDEN"),
    "a denied list": ("{ suppliers { nodes { name } } }", "FORBIDDEN"),
    "a search by what is denied": (
        '{ simCards(filter: {iccid: {startsWith: "8"}}) { nodes { displayIccid } } }',
        "FORBIDDEN",
    ),
    "a missing variable": (
        "query($s: SimStatus!) { simCards(filter: {status: {eq: $s}}) { nodes { id } } }",
        "BAD_USER_INPUT",
    ),
    "nothing": ("  ", "REQUIRED"),
    "far too much": ("{" + "x " * 10_001, "INVALID"),
}


async def test_what_cannot_be_exported_is_refused_by_code_at_once(world: World) -> None:
    before = await world.sql(
        "SELECT (SELECT count(*) FROM task) AS tasks, (SELECT max(id) FROM outbox_event) AS events"
    )
    for fault, (operation, code) in BAD.items():
        assert await refused(world, "north", operation) == (code, "operation"), fault
    for variables in ("[1]", "{", '{"a": "\\u0000"}', "null"):
        assert await refused(world, "north", CARDS, variables) == ("INVALID", "variables")
    assert await refused(world, "north", CARDS, name=" ") == ("REQUIRED", "name")
    assert await refused(world, "north", CARDS, name="x" * 101) == ("INVALID", "name")
    after = await world.sql("SELECT (SELECT count(*) FROM task) AS tasks, (SELECT max(id) FROM outbox_event) AS events")
    assert before == after
    answer = await world.run("north", START, {"input": {"operation": CARDS, "format": "PDF", "name": "x"}})
    assert [error["extensions"]["code"] for error in answer["errors"]] == ["BAD_USER_INPUT"]
    payload = await start(world, "north", "{ simCards { nodes { iccid } } }", language="zh-CN")
    assert payload["errors"][0]["message"].startswith("您无权导出。")
    assert "SimCard.iccid" in payload["errors"][0]["message"]


async def test_a_repeat_is_given_the_first_task(world: World) -> None:
    first = await start(world, "north", CARDS, idempotencyKey="once")
    assert await start(world, "north", CARDS, idempotencyKey="once") == first
    assert await refused(world, "north", PEOPLE, idempotencyKey="once") == ("KEY_REUSED", "idempotencyKey")


async def test_who_may_not_export_exports_nothing(world: World) -> None:
    shop = await office(world, "cafe", "merchant")
    await shop.staff("clerk", await shop.role("Clerk", "shop:item"))
    listed = "{ merchantItems { nodes { id } } }"
    assert "errors" not in await shop.ask("clerk", listed)
    answer = await shop.ask("clerk", START, {"input": {"operation": listed, "format": "CSV", "name": "x"}})
    assert [error["extensions"]["code"] for error in answer["errors"]] == ["FORBIDDEN"]
    assert await world.sql("SELECT 1 FROM task WHERE kind = 'EXPORT'") == []


# -- who asked, as they are when it is written ------------------------------------------------------------------------

LOST = {
    "a role taken away": (
        "DELETE FROM role_assignment r USING staff_account a WHERE a.id = r.account_id AND a.login = 'north'",
        "FORBIDDEN",
    ),
    "a role for a lesser": (
        """UPDATE role_assignment r SET role = 'enterprise_admin' FROM staff_account a
           WHERE a.id = r.account_id AND a.login = 'north'""",
        "FORBIDDEN",
    ),
    "an account disabled": ("UPDATE staff_account SET status = 'DISABLED' WHERE login = 'north'", "ACCESS_LOST"),
    "a company suspended": ("UPDATE tenant SET status = 'SUSPENDED' WHERE name = 'Agency «north»'", "ACCESS_LOST"),
}


@pytest.mark.parametrize("loss", LOST)
async def test_who_may_not_any_more_when_it_is_written_gets_nothing(world: World, loss: str) -> None:
    statement, code = LOST[loss]
    id = await started(world, "north", "{ dataPackages { nodes { code channelPrice } } }")
    await world.sql(statement)
    await world.client.work_off()
    task = await task_of(world, "admin", id)
    assert (task["status"], task["errorCode"], task["done"], task["resultFileUrl"]) == ("FAILED", code, 0, None)
    assert task["errorMessage"]
    assert await world.sql("SELECT 1 FROM stored_file") == []
    assert [p for p in world.client.application.runtime.files.folder.rglob("*") if p.is_file()] == []


async def test_a_session_that_has_ended_does_not_matter(world: World) -> None:
    id = await started(world, "north", CARDS)
    await world.sql("UPDATE login_session SET revoked_at = now()")
    await world.client.application.runtime.access.changed()
    world.client._tokens.clear()
    await world.client.work_off()
    assert (await task_of(world, "north", id))["status"] == "SUCCEEDED"


async def test_whom_the_file_is_for(world: World) -> None:
    """Who asked, and who manages the tasks of its tenant; the file of another's task is not even linked."""
    secret, plain = await started(world, "admin", PEOPLE), await started(world, "north", CARDS)
    await world.client.work_off()
    assert await fetched(world, (await task_of(world, "admin", secret))["resultFileUrl"])
    operations = await task_of(world, "operations", secret)
    assert (operations["status"], operations["resultFileUrl"]) == ("SUCCEEDED", None)
    for caller, id in (("finance", secret), ("north", secret), ("south", plain), ("north-east", plain)):
        assert await task_of(world, caller, id) is None, caller
    assert (await task_of(world, "north", plain))["resultFileUrl"] is not None
    # another administrator of the same company manages its tasks, and one who may only read does not
    database: Database = world.client.application.runtime.database
    async with database.transaction(system("test")) as session:
        await add_account(session, world.tenants["north"], "deputy", "agent_admin", password_hash())
        await add_account(session, world.tenants["north"], "shop", "merchant_admin", password_hash())
    query = "query($id: ID!) { task(id: $id) { resultFileUrl } }"
    for door, account, found in (("agent", "deputy", True), ("merchant", "shop", False)):
        token = await world.client.token(door, account, PASSWORD)
        answer = (await world.client.post(door, query, {"id": plain}, token=token)).json()
        assert (answer["data"]["task"] is not None) is found
        assert not found or answer["data"]["task"]["resultFileUrl"]


async def test_a_partners_system_exports_by_its_key(world: World) -> None:
    query = """mutation { startExport(input: {operation: "{ simCards { nodes { displayIccid } } }", format: CSV,
        name: "All"}) { task { id } errors { code } } }"""
    answer = (await signed(world, query, key="tk_north")).json()
    id = answer["data"]["startExport"]["task"]["id"]
    denied = query.replace("displayIccid", "apn")
    payload = (await signed(world, denied, key="tk_north")).json()["data"]["startExport"]
    assert payload == {"task": None, "errors": [{"code": "FORBIDDEN"}]}
    await world.client.work_off()
    found = f'{{ task(id: "{id}") {{ status done resultFileUrl }} }}'
    task = (await signed(world, found, key="tk_north")).json()["data"]["task"]
    assert (task["status"], task["done"]) == ("SUCCEEDED", 18)
    rows = rows_of(await fetched(world, task["resultFileUrl"]), "CSV")
    assert {row[0] for row in rows[1:]} == set(await cards_of(world, "north"))
    assert (await signed(world, found, key="tk_north-east")).json()["data"]["task"] is None

    id = (await signed(world, query, key="tk_north")).json()["data"]["startExport"]["task"]["id"]
    await world.sql("UPDATE api_key SET status = 'REVOKED' WHERE key = 'tk_north'")
    await world.client.work_off()
    task = await task_of(world, "north", id)
    assert (task["status"], task["errorCode"]) == ("FAILED", "ACCESS_LOST")


# -- what is in a file ------------------------------------------------------------------------------------------------


async def test_no_cell_can_be_run(world: World) -> None:
    names = ["=cmd|' /C calc'!A0", "+86", "-5", "@SUM(A1)", "\tx", "\rx", "0012", 'plain, "quoted"\nnext']
    people = [person.id for person in world.end_users.values()][1 : 1 + len(names)]
    for id, name in zip(people, names, strict=True):
        await world.sql("UPDATE end_user SET name = $2 WHERE id = $1", id, name)
    operation = "{ endUsers(orderBy: [{field: ID}]) { nodes { name } } }"
    _, content = await exported(world, "operations", operation, format="CSV")
    assert content.startswith(b"\xef\xbb\xbfname\r\n")
    cells = [row[0] for row in csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""))][2:]
    *formulas, number, plain = names
    assert cells[: len(names)] == [*(f"'{name}" for name in formulas), f"{number}\t", plain]
    _, content = await exported(world, "operations", operation, format="XLSX")
    sheet = openpyxl.load_workbook(io.BytesIO(content)).active
    assert {cell.data_type for row in sheet for cell in row} == {"s"}
    assert sheet["A3"].value == names[0]


async def test_numbers_are_numbers_and_moments_are_text(world: World) -> None:
    operation = "{ dataPackages(orderBy: [{field: ID}]) { nodes { code dataVolumeMb salePrice } } }"
    _, content = await exported(world, "north", operation, format="XLSX")
    nodes = (await world.data("north", operation.replace("orderBy", "first: 100, orderBy")))["dataPackages"]["nodes"]
    sheet = openpyxl.load_workbook(io.BytesIO(content)).active
    values = [[cell.value for cell in row] for row in sheet][1:]
    assert values == [[n["code"], n["dataVolumeMb"], n["salePrice"]] for n in nodes]
    assert {cell.data_type for cell in sheet["B"][1:]} == {"n"}


async def test_a_text_that_no_cell_holds_fails_the_workbook_by_its_row(world: World) -> None:
    last = world.cards["coast"][-1].id
    await world.sql("UPDATE sim_card SET apn = repeat('x', 40000) WHERE id = $1", last)
    operation = "{ simCards(orderBy: [{field: ID}]) { nodes { apn } } }"
    id = await started(world, "north", operation, format="XLSX")
    await world.client.work_off()
    task = await task_of(world, "north", id)
    assert (task["status"], task["errorCode"]) == ("FAILED", "CELL_TOO_LONG")
    assert task["errorMessage"] == "A cell in row 19 is too long."
    assert await world.sql("SELECT 1 FROM stored_file") == []
    _, content = await exported(world, "north", operation, format="CSV")
    assert rows_of(content, "CSV")[-1] == ["x" * 40_000]


async def test_pages_are_of_one_moment(world: World) -> None:
    """Rows that come, go and change while a list is read neither tear nor double it."""
    runtime = world.client.application.runtime
    await more_cards(world, "north", 1_500)
    door = runtime.doors["agent"]
    [account] = await world.sql("SELECT id FROM staff_account WHERE login = 'north'")
    north = await runtime.access.principal_of_account(account["id"], door.name, door.admission, "en")
    assert north is not None
    table = runtime.tables.read("agent", "{ simCards { nodes { displayIccid status } } }", {})
    before = sorted(await cards_of(world, "north"))
    asking = Asking(north, runtime)

    async def ask() -> Asking:
        return asking

    async with snapshot(runtime.database.dsn) as seen:
        assert await table.total(asking, seen) == len(before) == 1_518
        pages = table.pages(ask, seen)
        first = await anext(pages)
        assert len(first) == 1_000
        await more_cards(world, "coast", 50)
        await world.sql("UPDATE sim_card SET status = 'TERMINATED'")
        (second,) = [page async for page in pages]
    assert len(second) == 518
    assert sorted(str(row[0]) for row in (*first, *second)) == before
    assert {row[1] for row in second} != {"TERMINATED"}


# -- reports ----------------------------------------------------------------------------------------------------------

SALES = """query($first: Date!, $last: Date!) { merchantSales(firstDay: $first, lastDay: $last) {
    timeZone merchants { name: merchant orders amount currency } errors { code } } }"""
YEAR = {"first": "2026-01-01", "last": "2026-12-31"}


@pytest.mark.parametrize("format", ["CSV", "XLSX"])
async def test_a_report_is_written_as_it_is_told(world: World, format: str) -> None:
    tea, hour = await item(world, "cafe", "Tea", "25.50"), await item(world, "gym", "Hour", "50")
    for caller, id, quantity in (("cafe", tea, 2), ("gym", hour, 3)):
        assert (await in_cash(world, caller, (await sold(world, caller, (id, quantity)))["order"]["id"]))[
            "errors"
        ] == []
    await world.sql("UPDATE sales_order SET paid_at = '2026-05-05T10:00:00Z'")
    cafe, gym = (world.tenants[name].name for name in ("cafe", "gym"))
    for caller, expected in (
        ("mall", [[gym, "1", "150.0000", "CNY"], [cafe, "1", "51.0000", "CNY"]]),
        ("cafe", [[cafe, "1", "51.0000", "CNY"]]),
    ):
        task, content = await exported(world, caller, SALES, variables=YEAR, format=format)
        assert (task["status"], task["total"], task["done"]) == ("SUCCEEDED", len(expected), len(expected))
        found = [[str(cell) for cell in row] for row in rows_of(content, format)]
        told = [["Asia/Shanghai", *row] for row in expected]
        assert found == [["timeZone", "name", "orders", "amount", "currency"], *told]


async def test_what_stands_beside_the_rows_of_a_report_is_not_lost(world: World) -> None:
    days = 'firstDay: "2026-01-01", lastDay: "2026-12-31"'
    report = f"{{ agentSales({days}) {{ sales {{ currency }} activations timeZone }} }}"
    # a report without rows is a row nevertheless, where something is told beside them
    task, content = await exported(world, "north", report, format="CSV")
    (header, row) = rows_of(content, "CSV")
    assert (task["total"], header) == (1, ["activations", "timeZone", "currency"])
    live = (await world.data("north", report))["agentSales"]
    assert int(live["activations"]) > 0
    assert row == [str(live["activations"]), "Asia/Shanghai", ""]
    assert live["sales"] == []
    card = world.card_ids("north")[1]
    usage = f'{{ dataUsage({days.replace("12-31", "01-03")}, simCard: "{card}") {{ usedKb days {{ day usedKb }} }} }}'
    _, content = await exported(world, "north", usage, format="CSV")
    (header, *rows) = rows_of(content, "CSV")
    assert header == ["dataUsage.usedKb", "day", "usedKb"]
    live = (await world.data("north", usage))["dataUsage"]
    assert rows == [[live["usedKb"], one["day"], one["usedKb"]] for one in live["days"]] or rows == [["0", "", ""]]


def worked_out() -> set[str]:
    """The queries that Python answers with one list of rows, or with why it does not."""
    schema = the_graph().schema
    assert schema.query_type is not None
    found: set[str] = set()
    for name, field in schema.query_type.fields.items():
        of = get_named_type(field.type)
        if registry.queries[snake(name)].live and isinstance(of, GraphQLObjectType) and "errors" in of.fields:
            below = [get_nullable_type(one.type) for key, one in of.fields.items() if key != "errors"]
            rows = [one for one in below if is_list_type(one) and isinstance(get_named_type(one), GraphQLObjectType)]
            found |= {name} if len(rows) == 1 else set()
    return found


async def test_every_report_can_be_written(world: World) -> None:
    days = 'firstDay: "2026-01-01", lastDay: "2026-03-01"'
    reports = {
        "merchantSales": f"{{ merchantSales({days}) {{ merchants {{ merchant }} }} }}",
        "agentSales": f"{{ agentSales({days}) {{ sales {{ currency orders amount commission }} }} }}",
        "estimatedProfit": f"{{ estimatedProfit(level: CHILD, {days}) {{ profits {{ currency }} }} }}",
        "behaviourStats": f"{{ behaviourStats({days}) {{ counts {{ event }} }} }}",
        "dataUsage": f'{{ dataUsage({days}, simCard: "{world.card_ids("north")[0]}") {{ days {{ day }} }} }}',
    }
    assert reports.keys() == {camel(name) for name, root in registry.queries.items() if root.report}
    assert reports.keys() == worked_out()
    for name, operation in reports.items():
        task, content = await exported(world, "admin", operation, format="CSV")
        assert task["total"] == len(rows_of(content, "CSV")) - 1, name


async def test_what_is_no_report_or_is_not_told_is_refused(world: World) -> None:
    for caller, operation, code in (
        ("north", SALES, "FORBIDDEN"),
        ("mall", SALES.replace("merchants { name: merchant orders amount currency }", ""), "NOT_ONE_LIST"),
        ("mall", SALES.replace("timeZone", "more: merchants { orders }"), "NOT_ONE_LIST"),
        ("mall", "{ viewer { heldRoles { key } } }", "NOT_ONE_LIST"),
    ):
        variables = YEAR if "first" in operation else None
        assert (await refused(world, caller, operation, variables))[0] == code, operation
    id = await started(world, "mall", SALES, variables={"first": "2026-05-02", "last": "2026-05-01"})
    await world.client.work_off()
    task = await task_of(world, "mall", id)
    assert (task["status"], task["errorCode"], task["resultFileUrl"]) == ("FAILED", "REPORT_REFUSED", None)
    assert task["errorMessage"] == "lastDay: The value is not valid."
