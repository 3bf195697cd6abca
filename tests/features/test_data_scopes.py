"""Data scopes: which departments and staff a role reaches (S1-36), and that nobody gives themselves more of them."""

from __future__ import annotations

import pytest

from tests.support.office import CREATE_ROLE, CREATE_STAFF, SET_PERMISSIONS, account_of, assigned, office
from tests.support.world import PASSWORD, World


@pytest.mark.feature("S1-36", "S1-35")
async def test_a_data_scope_shows_the_staff_of_its_departments(world: World) -> None:
    north = await office(world, "north")
    sales = await north.department("Sales")
    city = await north.department("City", sales)
    desk = await north.department("Desk")
    plain = await north.role("Plain", "sim:card")
    for login, department in (("n-sales", sales), ("n-city", city), ("n-desk", desk)):
        await north.staff(login, plain, department=department)

    async def seen(data_scope: str, department: str | None, *named: str) -> list[str]:
        role = await north.role(
            f"See {data_scope}", "system:staff", "system:department", dataScope=data_scope, departments=list(named)
        )
        login = f"see-{data_scope.lower()}"
        await north.staff(login, role, department=department)
        return [name for name in await north.logins(login) if not name.startswith("see-")]

    below = sorted({"north", "n-sales", "n-city", "n-desk", "north-east", "coast"})
    assert await seen("ALL", sales) == below
    assert await seen("DEPARTMENT", sales) == ["n-sales"]
    assert await seen("DEPARTMENT_AND_BELOW", sales) == ["n-city", "n-sales"]
    assert await seen("CUSTOM", sales, desk) == ["n-desk"]
    assert await seen("SELF", sales) == []
    # departments themselves are narrowed too; their own everybody may see
    listed = (await north.ask("see-custom", "{ departments { nodes { name } } }"))["data"]["departments"]["nodes"]
    assert sorted(node["name"] for node in listed) == ["Desk", "Sales"]


@pytest.mark.feature("S1-36")
async def test_several_roles_are_a_union_and_a_role_counts_only_where_it_grants(world: World) -> None:
    north = await office(world, "north")
    sales, desk = await north.department("Sales"), await north.department("Desk")
    plain = await north.role("Plain", "sim:card")
    await north.staff("n-sales", plain, department=sales)
    await north.staff("n-desk", plain, department=desk)
    one = await north.role("One", "system:staff", dataScope="CUSTOM", departments=[sales])
    two = await north.role("Two", "system:staff", dataScope="CUSTOM", departments=[desk])
    # all departments, but of the log of logins only
    log = await north.role("Log", "system:log", dataScope="ALL")
    await north.staff("n-both", one, two)
    await north.staff("n-one", one, log)
    assert await north.logins("n-both") == ["n-both", "n-desk", "n-sales"]
    assert await north.logins("n-one") == ["n-one", "n-sales"]


@pytest.mark.feature("S1-36")
async def test_nobody_acts_on_staff_out_of_the_data_scope(world: World) -> None:
    north = await office(world, "north")
    sales, desk = await north.department("Sales"), await north.department("Desk")
    plain = await north.role("Plain", "sim:card")
    mine = await north.staff("n-sales", plain, department=sales)
    other = await north.staff("n-desk", plain, department=desk)
    lead = await north.role(
        "Lead", "system:staff", "system:staff:disable", "sim:card", dataScope="CUSTOM", departments=[sales]
    )
    await north.staff("n-lead", lead)
    status = "mutation($a: ID!) { setStaffStatus(account: $a, status: DISABLED) { errors { code field } } }"
    assert (await north.ask("n-lead", status, {"a": other}))["data"]["setStaffStatus"]["errors"] == [
        {"code": "NOT_FOUND", "field": "account"}
    ]
    assert (await north.ask("n-lead", status, {"a": mine}))["data"]["setStaffStatus"]["errors"] == []


async def test_a_scope_that_is_others_for_each_holder_cannot_be_handed_on(world: World) -> None:
    north = await office(world, "north")
    sales, desk = await north.department("Sales"), await north.department("Desk")
    plain = await north.role("Plain", "sim:card")
    await north.staff("n-desk", plain, department=desk)
    own = await north.role(
        "Own",
        "system:staff",
        "system:staff:create",
        "system:role",
        "system:role:edit",
        "sim:card",
        dataScope="DEPARTMENT",
    )
    await north.staff("n-own", own, department=sales)
    made = await north.ask("n-own", CREATE_ROLE, {"input": {"name": "Mine", "template": north.template}})
    role = made["data"]["createRole"]["role"]["id"]
    for data_scope in ("DEPARTMENT", "SELF", "ALL", "DEPARTMENT_AND_BELOW"):
        input = {"role": role, "menus": [north.menus["system:staff"]], "dataScope": data_scope}
        answer = await north.ask("n-own", SET_PERMISSIONS, {"input": input})
        assert [e["code"] for e in answer["data"]["setRolePermissions"]["errors"]] == ["PERMISSION_NOT_HELD"], (
            data_scope
        )
    # nor the role itself, to somebody in another department
    input = {"login": "n-new", "name": "New", "password": PASSWORD, "roles": [assigned(own)], "department": desk}
    answer = await north.ask("n-own", CREATE_STAFF, {"input": input})
    assert answer["data"]["createStaffAccount"]["errors"][0]["code"] in ("ROLE_NOT_GRANTABLE", "NOT_FOUND")


# -- nobody gives themselves more -----------------------------------------------------------------------------------

UPDATE_DEPARTMENT = """mutation($id: ID!, $input: DepartmentInput!) { updateDepartment(id: $id, input: $input) {
    errors { code field } } }"""
DEPARTMENT_STATUS = """mutation($id: ID!, $s: AccountStatus!) { setDepartmentStatus(id: $id, status: $s) {
    errors { code field } } }"""
DELETE_DEPARTMENT = "mutation($id: ID!) { deleteDepartment(id: $id) { errors { code field } } }"
UPDATE_STAFF = (
    "mutation($input: UpdateStaffAccountInput!) { updateStaffAccount(input: $input) { errors { code field } } }"
)
STATUS = "mutation($a: ID!) { setStaffStatus(account: $a, status: DISABLED) { errors { code field } } }"


@pytest.mark.feature("S1-36")
async def test_a_role_counts_only_for_what_it_grants_also_where_something_is_done(world: World) -> None:
    north = await office(world, "north")
    sales, desk = await north.department("Sales"), await north.department("Desk")
    plain = await north.role("Plain", "sim:card")
    mine = await north.staff("n-sales", plain, department=sales)
    other = await north.staff("n-desk", plain, department=desk)
    # everybody is seen by one role, and by another some may be kept out
    see = await north.role("See", "system:staff", "sim:card")
    stop = await north.role("Stop", "system:staff:disable", dataScope="CUSTOM", departments=[sales])
    await north.staff("n-both", see, stop)
    assert {"n-sales", "n-desk"} <= set(await north.logins("n-both"))
    assert await north.said("n-both", STATUS, a=other) == [("NOT_FOUND", "account")]
    assert await north.said("n-both", STATUS, a=mine) == []
    # who sees nobody but themselves acts on nobody else
    own = await north.role("Own", "system:staff", "system:staff:disable", "sim:card", dataScope="SELF")
    await north.staff("n-own", own, department=desk)
    blind = await north.role("Blind", "system:staff:disable", "sim:card")
    await north.staff("n-blind", blind, department=desk)
    for login in ("n-own", "n-blind"):
        assert await north.said(login, STATUS, a=other) == [("NOT_FOUND", "account")], login
    rows = await world.sql("SELECT login FROM staff_account WHERE status = 'DISABLED'")
    assert [row["login"] for row in rows] == ["n-sales"]


@pytest.mark.feature("S1-22", "S1-36")
async def test_nobody_moves_departments_or_themselves_to_reach_more(world: World) -> None:
    north = await office(world, "north")
    sales, desk = await north.department("Sales"), await north.department("Desk")
    plain = await north.role("Plain", "sim:card")
    await north.staff("n-desk", plain, department=desk)
    lead = await north.role("Lead", "system:staff", dataScope="DEPARTMENT_AND_BELOW")
    organiser = await north.role("Organiser", "system:department", "system:department:edit", "system:staff:edit")
    me = await north.staff("n-lead", lead, organiser, department=sales)
    assert await north.logins("n-lead") == ["n-lead"]
    moved = {"name": "Desk", "parent": sales}
    assert await north.said("n-lead", UPDATE_DEPARTMENT, id=desk, input=moved) == [("DEPARTMENT_ABOVE", "parent")]
    transfer = {"id": me, "department": desk}
    assert await north.said("n-lead", UPDATE_STAFF, input=transfer) == [("DEPARTMENT_ABOVE", "department")]
    # nor for a colleague: what the lead reaches is not the other's to give
    await north.staff("n-organiser", organiser, department=desk)
    assert await north.said("n-organiser", UPDATE_DEPARTMENT, id=desk, input=moved) == [("DEPARTMENT_ABOVE", "parent")]
    assert await north.logins("n-lead") == ["n-lead"]
    # a place in lists is nothing of that kind, and the administrator may give it all
    assert await north.said("n-lead", UPDATE_DEPARTMENT, id=desk, input={"name": "Desk", "position": 3}) == []
    assert await north.said("north", UPDATE_DEPARTMENT, id=desk, input=moved) == []
    assert await north.logins("n-lead") == ["n-desk", "n-lead", "n-organiser"]


@pytest.mark.feature("S1-22")
async def test_nobody_stops_a_department_of_who_may_do_more(world: World) -> None:
    north = await office(world, "north")
    head, desk = await north.department("Head"), await north.department("Desk")
    assert (
        await north.said("north", UPDATE_STAFF, input={"id": await account_of(world, "north"), "department": head})
        == []
    )
    organiser = await north.role("Organiser", "system:department", "system:department:edit")
    await north.staff("n-organiser", organiser, department=desk)
    assert await north.said("n-organiser", DEPARTMENT_STATUS, id=head, s="DISABLED") == [("ACCOUNT_ABOVE", "id")]
    assert await north.said("n-organiser", DEPARTMENT_STATUS, id=desk, s="DISABLED") == [("INVALID", "id")]
    # a department whose members are not seen is not empty
    assert await north.said("n-organiser", DELETE_DEPARTMENT, id=head) == [("IN_USE", "id")]
    assert [
        row["status"] for row in await world.sql("SELECT status FROM department WHERE name IN ('Head', 'Desk')")
    ] == [
        "ACTIVE",
        "ACTIVE",
    ]
    assert await north.said("north", DEPARTMENT_STATUS, id=desk, s="DISABLED") == []
    assert await north.codes("n-organiser", "{ departments { nodes { name } } }") == ["UNAUTHENTICATED"]


@pytest.mark.feature("S1-22", "S1-36")
async def test_who_reaches_some_departments_organises_those(world: World) -> None:
    north = await office(world, "north")
    sales = await north.department("Sales")
    city, desk = await north.department("City", sales), await north.department("Desk")
    plain = await north.role("Plain", "sim:card")
    keeper = await north.role(
        "Keeper",
        "system:department",
        "system:department:edit",
        "system:staff",
        "system:staff:create",
        "sim:card",
        dataScope="CUSTOM",
        departments=[city],
    )
    await north.staff("n-keeper", keeper, department=city)

    async def made(department: str | None) -> list[tuple[str, str | None]]:
        roles = [assigned(plain)]
        input = {
            "login": f"n-{department}",
            "name": "New",
            "password": PASSWORD,
            "roles": roles,
            "department": department,
        }
        return await north.said("n-keeper", CREATE_STAFF, input=input)

    assert await made(None) == [("REQUIRED", "department")]
    assert await made(desk) == [("NOT_FOUND", "department")]
    assert await made(city) == []
    created = "mutation($input: DepartmentInput!) { createDepartment(input: $input) { errors { code field } } }"
    assert await north.said("n-keeper", created, input={"name": "Top"}) == [("REQUIRED", "parent")]
    assert await north.said("n-keeper", created, input={"name": "Side", "parent": desk}) == [("NOT_FOUND", "parent")]
    assert await north.said("n-keeper", created, input={"name": "Corner", "parent": city}) == []
    # what stands above is not seen, and stays
    assert await north.said("n-keeper", UPDATE_DEPARTMENT, id=city, input={"name": "Town"}) == []
    assert await north.said("n-keeper", UPDATE_DEPARTMENT, id=city, input={"name": "Town", "parent": desk}) == [
        ("NOT_FOUND", "parent")
    ]
    assert await north.said("n-keeper", UPDATE_DEPARTMENT, id=desk, input={"name": "Mine"}) == [("NOT_FOUND", "id")]
    rows = await world.sql(
        "SELECT d.name, p.name AS parent FROM department d LEFT JOIN department p ON p.id = d.parent_id "
        "WHERE d.tenant_id = $1 AND d.name !~ '«' ORDER BY d.name",
        world.tenants["north"].id,
    )
    assert [tuple(row) for row in rows] == [("Corner", "Town"), ("Desk", None), ("Sales", None), ("Town", "Sales")]
