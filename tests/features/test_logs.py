"""The logs of operations and of logins: what they tell, to whom, and that nothing secret stands in them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from authz.principal import system
from models.catalog import Carrier
from models.identity import Department
from planner.ids import encode_id
from server.demo import add_account
from services.changes import MOST, Changes
from tests.features.test_sim_inventory import iccid, supplier
from tests.support.office import office
from tests.support.people import payload, shipped
from tests.support.world import PASSWORD, World, password_hash

RECORDS = """query($filter: OperationRecordFilter, $first: Int = 50, $after: String) {
    operationRecords(first: $first, after: $after, filter: $filter, orderBy: {field: AT}) {
        nodes { id mutation outcome door ip requestId durationMs impersonated reason account { login }
            tenant { id } changesCut changes { type id action field before after rows } }
        pageInfo { hasNextPage endCursor } } }"""
CREATE_DEPARTMENT = """mutation($input: DepartmentInput!) { createDepartment(input: $input) {
    department { id } errors { code field } } }"""
UPDATE_DEPARTMENT = """mutation($id: ID!, $input: DepartmentInput!) { updateDepartment(id: $id, input: $input) {
    department { id } errors { code field } } }"""


async def records(world: World, reader: str, mutation: str, /, **filter: Any) -> list[dict[str, Any]]:
    found = await world.data(reader, RECORDS, {"filter": {"mutation": {"eq": mutation}, **filter}})
    nodes: list[dict[str, Any]] = found["operationRecords"]["nodes"]
    return nodes


async def record(world: World, reader: str, mutation: str, /, **filter: Any) -> dict[str, Any]:
    (found,) = await records(world, reader, mutation, **filter)
    return found


def values(found: dict[str, Any], type: str, action: str) -> dict[str, tuple[str | None, str | None]]:
    """Field to value before and after, of the changes of one type."""
    return {
        change["field"]: (change["before"], change["after"])
        for change in found["changes"]
        if (change["type"], change["action"]) == (type, action)
    }


# -- operations ---------------------------------------------------------------------------------------------------


@pytest.mark.feature("S1-30")
async def test_a_mutation_leaves_a_line_with_what_it_changed(world: World) -> None:
    made = await world.data("north", CREATE_DEPARTMENT, {"input": {"name": "Sales", "leader": "Li"}})
    id = made["createDepartment"]["department"]["id"]
    await world.data("north", UPDATE_DEPARTMENT, {"id": id, "input": {"name": "Sales East", "leader": "Li"}})
    await world.data("north", "mutation($id: ID!) { deleteDepartment(id: $id) { errors { code } } }", {"id": id})

    created = await record(world, "north", "create_department")
    assert created["account"] == {"login": "north"}
    assert created["tenant"] == {"id": world.id("north")}
    assert (created["door"], created["ip"], created["outcome"]) == ("agent", "127.0.0.9", "SUCCEEDED")
    assert (created["impersonated"], created["reason"], created["changesCut"]) == (False, None, False)
    assert len(created["requestId"]) == 16
    assert 0 <= created["durationMs"] < 60_000
    assert values(created, "Department", "CREATED") == {
        "name": (None, "Sales"),
        "leader": (None, "Li"),
        "position": (None, "0"),
        "status": (None, "ACTIVE"),
    }
    updated = await record(world, "north", "update_department")
    assert updated["changes"] == [
        {
            "type": "Department", "id": id, "action": "CHANGED", "field": "name",
            "before": "Sales", "after": "Sales East", "rows": None,
        }
    ]  # fmt: skip
    removed = await record(world, "north", "delete_department")
    assert values(removed, "Department", "REMOVED")["name"] == ("Sales East", None)


@pytest.mark.feature("S1-30")
async def test_the_line_shows_no_secret_and_masks_what_the_graph_masks(world: World) -> None:
    create = "mutation($input: CreateStaffAccountInput!) { createStaffAccount(input: $input) { errors { code } } }"
    input = {"login": "clerk", "name": "Clerk", "password": "a password 12345", "roles": [], "phone": "13812345678"}
    await world.data("north", create, {"input": input})
    for reader in ("north", "admin"):
        created = values(await record(world, reader, "create_staff_account"), "StaffAccount", "CREATED")
        assert created["phone"] == (None, "138****5678")
        assert created["passwordHash"] == (None, "[redacted]")
        assert created["login"] == (None, "clerk")

    card = """mutation($input: CreateSimCardInput!) { createSimCard(input: $input) { errors { code } } }"""
    distributor = supplier(world, Carrier.CUCC)
    number = iccid("8986011234567890123")
    input = {"iccid": number, "simType": "M2M", "supplier": distributor}
    assert (await world.data("operations", card, {"input": input}))["createSimCard"]["errors"] == []
    told = values(await record(world, "admin", "create_sim_card"), "SimCard", "CREATED")
    assert told["iccid"] == (None, "[redacted]")
    assert told["supplier"] == (None, distributor)

    kept = await world.sql("SELECT arguments::text || changes::text AS said FROM operation_record")
    assert kept
    for row in kept:
        for secret in ("a password 12345", "$argon2"):
            assert secret not in row["said"]
    arguments = """{ operationRecords(filter: {mutation: {eq: "create_staff_account"}}) { nodes { arguments } } }"""
    (told_of,) = (await world.data("admin", arguments))["operationRecords"]["nodes"]
    assert json.loads(told_of["arguments"])["input"]["password"] == "[redacted]"
    assert await world.codes("north", arguments) == ["FORBIDDEN"]


@pytest.mark.feature("S1-30")
async def test_what_is_refused_is_told_of_and_has_changed_nothing(world: World) -> None:
    await world.data("north", CREATE_DEPARTMENT, {"input": {"name": "Sales"}})
    await world.data("north", CREATE_DEPARTMENT, {"input": {"name": "Sales"}})
    agent = """mutation($input: CreateAgentInput!) { createAgent(input: $input) { errors { code } } }"""
    account = {"login": "south", "name": "Taken", "password": "a password 12345"}
    refused = await world.data("north", agent, {"input": {"profile": {"name": "Half made"}, "account": account}})
    assert refused["createAgent"]["errors"] == [{"code": "TAKEN"}]
    outcomes = [(one["outcome"], one["changes"] != []) for one in await records(world, "north", "create_department")]
    assert outcomes == [("SUCCEEDED", True), ("TAKEN", False)]
    # the tenant was written before the account was refused, and nothing tells of it
    half = await record(world, "north", "create_agent")
    assert (half["outcome"], half["changes"]) == ("TAKEN", [])
    assert await world.sql("SELECT id FROM tenant WHERE name = 'Half made'") == []


@pytest.mark.feature("S1-30")
async def test_a_statement_about_many_rows_tells_how_many(world: World) -> None:
    change = "mutation($input: ChangeSimStatusInput!) { %s(input: $input) { errors { code } } }"
    ids = await stock(world)
    input = {"input": {"cards": {"ids": ids}, "idempotencyKey": "a-1"}}
    answer = await world.data("north", change % "activateSimCards", input)
    assert answer["activateSimCards"]["errors"] == []
    done = await record(world, "north", "activate_sim_cards")
    told = {(c["type"], c["action"]): c["rows"] for c in done["changes"] if c["rows"] is not None}
    assert told == {("SimCard", "CHANGED"): len(ids), ("SimStatusChange", "CREATED"): len(ids)}


async def stock(world: World) -> list[str]:
    """Cards of north's that can be activated."""
    north = world.tenants["north"]
    rows = await world.sql(
        "UPDATE sim_card SET status = 'ALLOCATED', activated_at = NULL WHERE tenant_id = $1 RETURNING id", north.id
    )
    return [encode_id("sim", row["id"]) for row in rows]


@pytest.mark.feature("S1-30")
async def test_so_many_changes_are_kept_and_the_rest_is_said_to_be_missing(world: World) -> None:
    north = world.tenants["north"]
    async with world.client.application.runtime.database.transaction(system("test")) as session:
        changes = Changes.gathered(session)
        session.add_all(
            [Department(tenant_id=north.id, tenant_path=north.path, name=f"D{n}") for n in range(MOST // 3 + 1)]
        )
        await session.flush()
        assert (len(changes.found), changes.cut) == (MOST, True)


@pytest.mark.feature("S1-30")
async def test_everyone_reads_the_operations_of_their_own_branch(world: World) -> None:
    for account in ("north", "north-east", "south"):
        await world.data(account, CREATE_DEPARTMENT, {"input": {"name": f"Of {account}"}})

    async def logins(reader: str, **filter: Any) -> list[str]:
        return [one["account"]["login"] for one in await records(world, reader, "create_department", **filter)]

    assert await logins("admin") == ["north", "north-east", "south"]
    assert await logins("north") == ["north", "north-east"]
    assert await logins("north-east") == ["north-east"]
    assert await logins("acme") == []
    for account in ("finance", "sales", "operations"):
        assert await world.codes(account, RECORDS) == ["FORBIDDEN"]


@pytest.mark.feature("S1-30")
async def test_a_reader_is_not_told_of_values_that_it_may_not_read(world: World) -> None:
    """An auditor of the same company reads that a department was made, and nothing of it: departments are not hers."""
    await world.data("north", CREATE_DEPARTMENT, {"input": {"name": "Sales"}})
    north = await office(world, "north")
    await north.staff("north-auditor", await north.role("Auditor", "system:operations"))
    asked = """{ operationRecords(filter: {mutation: {eq: "create_department"}}) {
        nodes { changes { type field action before after } } } }"""
    told = {}
    for reader, answer in (
        ("north", {"data": await world.data("north", asked)}),
        ("north-auditor", await north.ask("north-auditor", asked)),
    ):
        (found,) = answer["data"]["operationRecords"]["nodes"]
        told[reader] = values(found, "Department", "CREATED")["name"]
    assert told == {"north": (None, "Sales"), "north-auditor": (None, "[redacted]")}


@pytest.mark.feature("S1-30")
async def test_nobody_is_told_of_what_is_confidential(world: World) -> None:
    update = "mutation($input: UpdateTenantInput!) { updateTenant(input: $input) { errors { code } } }"
    answer = await world.data("north", update, {"input": {"id": world.id("north-east"), "remark": "a slow payer"}})
    assert answer["updateTenant"]["errors"] == []
    for reader in ("north", "admin"):
        found = await record(world, reader, "update_tenant")
        assert values(found, "Agent", "CHANGED")["remark"][1] == "[redacted]"


@pytest.mark.feature("S1-30")
async def test_operations_are_searched_and_paged(world: World) -> None:
    for account, name in (("north", "One"), ("south", "Two"), ("north", "One")):
        await world.data(account, CREATE_DEPARTMENT, {"input": {"name": name}})
    (account,) = await world.sql("SELECT id FROM staff_account WHERE login = 'north'")

    async def outcomes(**filter: Any) -> list[tuple[str, str]]:
        found = await records(world, "admin", "create_department", **filter)
        return [(one["account"]["login"], one["outcome"]) for one in found]

    everything = [("north", "SUCCEEDED"), ("south", "SUCCEEDED"), ("north", "TAKEN")]
    assert await outcomes() == everything
    assert await outcomes(account={"eq": encode_id("acc", account["id"])}) == [everything[0], everything[2]]
    assert await outcomes(tenant={"eq": world.id("south")}) == [everything[1]]
    assert await outcomes(outcome={"ne": "SUCCEEDED"}) == [everything[2]]
    assert await outcomes(door={"eq": "admin"}) == []
    assert await outcomes(ip={"eq": "127.0.0.9"}) == everything
    assert await outcomes(ip={"startsWith": "10."}) == []
    assert await outcomes(ip={"eq": "no address"}) == []
    assert await outcomes(at={"gte": "2026-01-01T00:00:00Z"}) == everything
    assert await outcomes(at={"lt": "2026-01-01T00:00:00Z"}) == []
    filter = {"mutation": {"eq": "create_department"}}
    paged, after = [], None
    for _ in everything:
        page = (await world.data("admin", RECORDS, {"filter": filter, "first": 1, "after": after}))["operationRecords"]
        paged += [(one["account"]["login"], one["outcome"]) for one in page["nodes"]]
        after = page["pageInfo"]["endCursor"]
    assert paged == everything
    assert page["pageInfo"]["hasNextPage"] is False


# -- logins at the dealer door ------------------------------------------------------------------------------------


async def log_in(world: World, login: str, password: str) -> str | None:
    """The access token, if the dealer app lets the account in."""
    session = (await payload(world, "dealer", "LogIn", {"account": login, "password": password}))["session"]
    return None if session is None else str(session["accessToken"])


@pytest.mark.feature("S3-65", "S1-28")
async def test_logins_of_the_dealer_app_are_read_by_the_dealers_administrators(world: World) -> None:
    database = world.client.application.runtime.database
    async with database.transaction(system("test")) as session:
        for login, tenant in (("dealer", "north"), ("sub-dealer", "north-east"), ("rival", "south")):
            await add_account(session, world.tenants[tenant], login, "dealer_admin", password_hash())
    for login, password in (("dealer", "wrong"), ("sub-dealer", PASSWORD), ("rival", PASSWORD), ("dealer", PASSWORD)):
        await log_in(world, login, password)
    token = await log_in(world, "dealer", PASSWORD)
    variables = {"filter": {"door": {"eq": "dealer"}}}
    answer = await world.client.post("dealer", shipped("dealer", "LoginRecords"), variables, token=token)
    nodes = answer.json()["data"]["loginRecords"]["nodes"]
    assert [(one["login"], one["outcome"], one["method"], one["ip"]) for one in reversed(nodes)] == [
        ("dealer", "WRONG_CREDENTIALS", "PASSWORD", "127.0.0.9"),
        ("sub-dealer", "SUCCEEDED", "PASSWORD", "127.0.0.9"),
        ("dealer", "SUCCEEDED", "PASSWORD", "127.0.0.9"),
        ("dealer", "SUCCEEDED", "PASSWORD", "127.0.0.9"),
    ]
    rival = await log_in(world, "rival", PASSWORD)
    answer = await world.client.post("dealer", shipped("dealer", "LoginRecords"), variables, token=rival)
    assert {one["login"] for one in answer.json()["data"]["loginRecords"]["nodes"]} == {"rival"}
