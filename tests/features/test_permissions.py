"""The permission platform: templates and menus, roles that tenants make, data scopes, modules; and that nobody can
grant what they do not hold."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from typing import Any

import pytest

from authz.coordinates import Act
from authz.scopes import within
from planner.ids import decode_id, encode_id
from server.app import the_catalog
from server.doors import load_doors, load_menus
from tests.support.world import PASSWORD, World

CREATE_ROLE = (
    "mutation($input: CreateRoleInput!) { createRole(input: $input) { role { id name } errors { code field } } }"
)
SET_PERMISSIONS = """mutation($input: SetRolePermissionsInput!) { setRolePermissions(input: $input) {
    role { id dataScope menus(first: 99) { nodes { menu { key } } }
        departments(first: 9) { nodes { department { name } } } }
    errors { code field message } } }"""
ROLE_STATUS = "mutation($id: ID!, $s: AccountStatus!) { setRoleStatus(id: $id, status: $s) { errors { code } } }"
CREATE_STAFF = """mutation($input: CreateStaffAccountInput!) { createStaffAccount(input: $input) {
    account { id } errors { code field } } }"""
SET_ROLES = "mutation($input: SetRolesInput!) { setStaffRoles(input: $input) { errors { code field } } }"
CREATE_DEPARTMENT = """mutation($input: DepartmentInput!) { createDepartment(input: $input) {
    department { id } errors { code field } } }"""
ROLE_PERMISSIONS = "query($role: ID!) { rolePermissions(role: $role) { granted grantable menu { key } } }"
MODULE = """mutation($input: SetTenantModuleInput!) { setTenantModule(input: $input) {
    module { module enabled pageVariant } errors { code field } } }"""
DRAWN = "{ viewer { roles menus { key } modules { key pageVariant } } }"
STAFF = "{ staffAccounts(first: 100, orderBy: [{field: LOGIN}]) { nodes { login } } }"


@dataclass
class Office:
    """A tenant's back office as its administrator works in it."""

    world: World
    admin: str
    menus: dict[str, str]
    template: str

    async def role(self, name: str, *menus: str, by: str | None = None, **scope: Any) -> str:
        made = await self.world.data(
            by or self.admin, CREATE_ROLE, {"input": {"name": name, "template": self.template}}
        )
        role: str = made["createRole"]["role"]["id"]
        assert await self.tick(role, *menus, by=by, **scope) == []
        return role

    async def tick(self, role: str, *menus: str, by: str | None = None, **scope: Any) -> list[str]:
        input = {"role": role, "menus": [self.menus[key] for key in menus], **scope}
        payload = (await self.world.data(by or self.admin, SET_PERMISSIONS, {"input": input}))["setRolePermissions"]
        return [error["code"] for error in payload["errors"]]

    async def staff(self, login: str, *roles: str, by: str | None = None, department: str | None = None) -> str:
        input = {
            "login": login,
            "name": login,
            "password": PASSWORD,
            "roles": [assigned(role) for role in roles],
            "department": department,
        }
        payload = (await self.world.data(by or self.admin, CREATE_STAFF, {"input": input}))["createStaffAccount"]
        assert payload["errors"] == []
        return str(payload["account"]["id"])

    async def department(self, name: str, parent: str | None = None) -> str:
        input = {"name": name, "parent": parent}
        payload = (await self.world.data(self.admin, CREATE_DEPARTMENT, {"input": input}))["createDepartment"]
        assert payload["errors"] == []
        return str(payload["department"]["id"])

    async def ask(self, login: str, query: str, variables: dict[str, Any] | None = None) -> dict[str, Any]:
        token = await self.world.client.token("agent", login, PASSWORD)
        answer: dict[str, Any] = (await self.world.client.post("agent", query, variables, token=token)).json()
        return answer

    async def codes(self, login: str, query: str, variables: dict[str, Any] | None = None) -> list[str]:
        answer = await self.ask(login, query, variables)
        return sorted({error["extensions"]["code"] for error in answer.get("errors", ())})

    async def logins(self, login: str) -> list[str]:
        answer = await self.ask(login, STAFF)
        return [node["login"] for node in answer["data"]["staffAccounts"]["nodes"]]


def assigned(role: str) -> str:
    """The name by which an account holds a tenant-made role."""
    found = decode_id(role)
    return role if found is None else f"role:{found[1]}"


async def office(world: World, admin: str) -> Office:
    rows = await world.sql(
        "SELECT m.id, m.key, t.id AS template FROM menu_item m JOIN permission_template t ON t.id = m.template_id "
        "WHERE t.key = 'agent'"
    )
    menus = {row["key"]: encode_id("mnu", row["id"]) for row in rows}
    return Office(world, admin, menus, encode_id("tpl", rows[0]["template"]))


# -- what ships ---------------------------------------------------------------------------------------------------


def test_every_shipped_menu_needs_what_exists_and_what_its_door_can_hold() -> None:
    catalog = the_catalog()
    doors = load_doors()
    for door, shipped in load_menus().items():
        assert door in doors
        keys = [menu["key"] for menu in shipped["menus"]]
        assert len(keys) == len(set(keys))
        for menu in shipped["menus"]:
            assert menu.get("parent") is None or keys.index(menu["parent"]) < keys.index(menu["key"])
            for needed in menu.get("needs", ()):
                assert list(catalog.expand(needed, "*")), needed


# -- roles --------------------------------------------------------------------------------------------------------


@pytest.mark.feature("S1-35", "S1-37", "S4-72", "S4-73")
async def test_a_ticked_role_may_do_what_its_menus_need_and_nothing_else(world: World) -> None:
    north = await office(world, "north")
    clerk = await north.role("Clerk", "sim:card")
    await north.staff("north-clerk", clerk)
    assert await north.codes("north-clerk", "{ simCards { nodes { displayIccid } } }") == []
    assert await north.codes("north-clerk", STAFF) == ["FORBIDDEN"]
    assert await north.codes("north-clerk", "{ simCards { nodes { supplier { name } } } }") == ["FORBIDDEN"]
    own = (await north.ask("north-clerk", "{ simCards(first: 0) { totalCount } }"))["data"]["simCards"]["totalCount"]
    assert own == 6 * len(world.below("north"))

    # ticked and unticked: from the next request on
    assert await north.tick(clerk, "sim:card", "system:staff") == []
    assert await north.codes("north-clerk", STAFF) == []
    assert await north.tick(clerk, "system:staff") == []
    assert await north.codes("north-clerk", "{ simCards { nodes { id } } }") == ["FORBIDDEN"]

    listed = (await world.data("north", ROLE_PERMISSIONS, {"role": clerk}))["rolePermissions"]
    assert {each["menu"]["key"] for each in listed} == set(north.menus)
    assert {each["menu"]["key"] for each in listed if each["granted"]} == {"system:staff"}
    assert all(each["grantable"] for each in listed)


@pytest.mark.feature("S1-35")
async def test_a_disabled_role_is_gone_with_the_next_request(world: World) -> None:
    north = await office(world, "north")
    clerk = await north.role("Clerk", "sim:card")
    await north.staff("north-clerk", clerk)
    query = "{ simCards { nodes { id } } }"
    assert await north.codes("north-clerk", query) == []
    await world.data("north", ROLE_STATUS, {"id": clerk, "s": "DISABLED"})
    assert await north.codes("north-clerk", query) == ["FORBIDDEN"]
    await world.data("north", ROLE_STATUS, {"id": clerk, "s": "ACTIVE"})
    assert await north.codes("north-clerk", query) == []
    deleted = await world.data("north", "mutation($id: ID!) { deleteRole(id: $id) { errors { code } } }", {"id": clerk})
    assert deleted == {"deleteRole": {"errors": [{"code": "IN_USE"}]}}


@pytest.mark.feature("S4-72")
async def test_nobody_can_tick_what_they_do_not_hold(world: World) -> None:
    acme = await office(world, "acme")
    made = await world.data("acme", CREATE_ROLE, {"input": {"name": "Greedy", "template": acme.template}})
    greedy = made["createRole"]["role"]["id"]
    # an enterprise has no agents below it and hands no cards down
    assert await acme.tick(greedy, "customer:agent:create") == ["PERMISSION_NOT_HELD"]
    assert await acme.tick(greedy, "sim:card:allocate") == ["PERMISSION_NOT_HELD"]
    assert await world.sql("SELECT 1 FROM role_menu m JOIN role r ON r.id = m.role_id WHERE r.name = 'Greedy'") == []
    listed = (await world.data("acme", ROLE_PERMISSIONS, {"role": greedy}))["rolePermissions"]
    refused = {each["menu"]["key"] for each in listed if not each["grantable"]}
    assert {"customer:agent:create", "sim:card:allocate"} <= refused
    # a neighbour's role and template are not there
    assert await (await office(world, "south")).tick(greedy) == ["NOT_FOUND"]


async def test_a_role_never_gives_what_its_giver_is_denied(world: World) -> None:
    """A wildcard in a menu gives of a type what the granter holds of it."""
    acme = await office(world, "acme")
    role = await acme.role("Packages", "sim:package")
    await acme.staff("acme-clerk", role)
    query = "{ dataPackages { nodes { code %s } } }"
    assert await acme.codes("acme-clerk", query % "salePrice") == []
    assert await acme.codes("acme-clerk", query % "channelPrice") == ["FORBIDDEN"]
    assert await acme.codes("acme-clerk", query % "supplier { name }") == ["FORBIDDEN"]


async def test_who_may_do_less_cannot_become_who_may_do_more(world: World) -> None:
    north = await office(world, "north")
    helper = await north.role(
        "Helper", "system:staff", "system:staff:password", "system:staff:edit", "system:staff:disable"
    )
    await north.staff("north-helper", helper)
    account = encode_id("acc", (await world.sql("SELECT id FROM staff_account WHERE login = 'north'"))[0]["id"])
    reset = (
        """mutation($input: ResetStaffPasswordInput!) { resetStaffPassword(input: $input) { errors { code field } } }"""
    )
    answer = await north.ask("north-helper", reset, {"input": {"account": account, "password": "a new password 1"}})
    assert answer["data"]["resetStaffPassword"]["errors"] == [{"code": "ACCOUNT_ABOVE", "field": "account"}]
    update = "mutation($input: UpdateStaffAccountInput!) { updateStaffAccount(input: $input) { errors { code } } }"
    answer = await north.ask("north-helper", update, {"input": {"id": account, "email": "mine@example.com"}})
    assert answer["data"]["updateStaffAccount"]["errors"] == [{"code": "ACCOUNT_ABOVE"}]
    status = "mutation($a: ID!) { setStaffStatus(account: $a, status: DISABLED) { errors { code } } }"
    assert (await north.ask("north-helper", status, {"a": account}))["data"]["setStaffStatus"]["errors"] == [
        {"code": "ACCOUNT_ABOVE"}
    ]
    await world.client.token("agent", "north", PASSWORD)
    # a colleague of the same role is no one above
    peer = await north.staff("north-peer", helper)
    answer = await north.ask("north-helper", reset, {"input": {"account": peer, "password": "a new password 1"}})
    assert answer["data"]["resetStaffPassword"]["errors"] == []


# -- data scope ---------------------------------------------------------------------------------------------------


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


# -- what a front end draws ---------------------------------------------------------------------------------------


@pytest.mark.feature("S1-29", "S4-76")
async def test_the_viewer_tells_what_to_draw(world: World) -> None:
    north = await office(world, "north")
    whole = (await north.ask("north", DRAWN))["data"]["viewer"]
    assert {menu["key"] for menu in whole["menus"]} == set(north.menus)
    assert whole["modules"] == [{"key": "sim", "pageVariant": None}]
    clerk = await north.role("Clerk", "sim:card", "sim:card:suspend")
    await north.staff("north-clerk", clerk)
    drawn = (await north.ask("north-clerk", DRAWN))["data"]["viewer"]["menus"]
    assert [menu["key"] for menu in drawn] == ["sim", "sim:card", "sim:card:suspend"]
    # an enterprise is not shown what only agents may do
    acme = {menu["key"] for menu in (await north.ask("acme", DRAWN))["data"]["viewer"]["menus"]}
    assert "customer:agent:create" not in acme
    assert "sim:card:allocate" not in acme


@pytest.mark.feature("S4-76")
async def test_a_module_that_is_off_is_gone_for_the_whole_branch(world: World) -> None:
    north = await office(world, "north")
    off = {"tenant": world.id("north"), "module": "sim", "enabled": False}
    assert (await world.data("north", MODULE, {"input": off}))["setTenantModule"]["errors"] == [
        {"code": "NOT_FOUND", "field": "tenant"}
    ]
    payload = (await world.data("admin", MODULE, {"input": {**off, "pageVariant": "bare"}}))["setTenantModule"]
    assert payload == {"module": {"module": "sim", "enabled": False, "pageVariant": "bare"}, "errors": []}
    for login in ("north", "north-east", "coast"):
        assert await north.codes(login, "{ simCards { nodes { id } } }") == ["FORBIDDEN"]
        viewer = (await north.ask(login, DRAWN))["data"]["viewer"]
        assert viewer["modules"] == []
        assert not {"sim", "sim:card"} & {menu["key"] for menu in viewer["menus"]}
    assert await north.codes("south", "{ simCards { nodes { id } } }") == []
    assert await north.codes("north", STAFF) == []
    await world.data("admin", MODULE, {"input": {**off, "enabled": True}})
    assert await north.codes("coast", "{ simCards { nodes { id } } }") == []


# -- templates ----------------------------------------------------------------------------------------------------

CREATE_TEMPLATE = """mutation($input: CreatePermissionTemplateInput!) { createPermissionTemplate(input: $input) {
    template { id key name } errors { code field } } }"""
CREATE_MENU = """mutation($template: ID!, $input: MenuItemInput!) { createMenuItem(template: $template, input: $input) {
    menu { id key permissions(first: 9) { nodes { coordinate } } } errors { code field } } }"""
UPDATE_MENU = """mutation($id: ID!, $input: MenuItemInput!) { updateMenuItem(id: $id, input: $input) {
    menu { id } errors { code field } } }"""


@pytest.mark.feature("S4-71", "S4-77", "S1-29")
async def test_the_platform_makes_one_template_for_each_platform(world: World) -> None:
    made = await world.data("admin", CREATE_TEMPLATE, {"input": {"key": "bank", "name": "Bank"}})
    template = made["createPermissionTemplate"]["template"]["id"]
    again = await world.data("admin", CREATE_TEMPLATE, {"input": {"key": "bank", "name": "Bank"}})
    assert again["createPermissionTemplate"]["errors"] == [{"code": "TAKEN", "field": "key"}]

    async def menu(**input: Any) -> list[tuple[str, str | None]]:
        given = {"kind": "MENU", "key": "review", "name": "menu.review", "coordinates": [], **input}
        payload = (await world.data("admin", CREATE_MENU, {"template": template, "input": given}))["createMenuItem"]
        return [(error["code"], error["field"]) for error in payload["errors"]]

    assert await menu(coordinates=["SimCard.nothing"]) == [("UNKNOWN_COORDINATE", "coordinates")]
    assert await menu(coordinates=["*"]) == [("UNKNOWN_COORDINATE", "coordinates")]
    assert await menu(kind="BUTTON") == [("REQUIRED", "parent")]
    assert await menu(key="Not A Key") == [("INVALID", "key")]
    assert await menu(coordinates=["SimCard.*", "Query.simCards"]) == []
    assert await menu() == [("TAKEN", "key")]
    for account in ("operations", "finance", "north", "acme"):
        assert "FORBIDDEN" in await world.codes(account, CREATE_TEMPLATE, {"input": {"key": "x", "name": "x"}})
    keys = await world.sql("SELECT key FROM permission_template ORDER BY key")
    assert [row["key"] for row in keys] == ["admin", "agent", "bank"]


@pytest.mark.feature("S1-29", "S1-37")
async def test_a_changed_menu_takes_from_roles_and_gives_nothing_by_itself(world: World) -> None:
    north = await office(world, "north")
    clerk = await north.role("Clerk", "system:department")
    await north.staff("north-clerk", clerk)
    departments = "{ departments { nodes { name } } }"
    assert await north.codes("north-clerk", departments) == []
    content = {
        "kind": "MENU",
        "key": "system:department",
        "name": "menu",
        "coordinates": ["Query.staffAccounts", "StaffAccount.*"],
    }
    payload = await world.data("admin", UPDATE_MENU, {"id": north.menus["system:department"], "input": content})
    assert payload["updateMenuItem"]["errors"] == []
    assert await north.codes("north-clerk", departments) == ["FORBIDDEN"]
    assert await north.codes("north-clerk", STAFF) == ["FORBIDDEN"]
    assert await north.tick(clerk, "system:department") == []
    assert await north.codes("north-clerk", STAFF) == []


# -- no sequence of grants ----------------------------------------------------------------------------------------


async def test_no_sequence_of_grants_reaches_beyond_its_beginning(world: World) -> None:
    """Administrators and their helpers tick, assign and make accounts at random; whoever was made, however far down
    the chain, holds nothing on more rows than the administrator at its beginning."""
    draw = random.Random(20260707)
    access = world.client.application.runtime.access
    for beginning in ("acme", "north"):
        desk = await office(world, beginning)
        departments = [await desk.department(f"D{n}") for n in range(2)]
        logins = [beginning]
        roles: list[str] = []
        for turn in range(14):
            actor = draw.choice(logins)
            if draw.random() < 0.5 or not roles:
                made = await desk.ask(
                    actor, CREATE_ROLE, {"input": {"name": f"R{beginning}{turn}", "template": desk.template}}
                )
                payload = (made.get("data") or {}).get("createRole") or {}
                if not payload.get("role"):
                    continue
                role = payload["role"]["id"]
                scope = draw.choice(["ALL", "CUSTOM", "DEPARTMENT", "SELF"])
                input = {
                    "role": role,
                    "menus": draw.sample(sorted(desk.menus.values()), draw.randint(1, len(desk.menus) // 2)),
                    "dataScope": scope,
                    "departments": [draw.choice(departments)] if scope == "CUSTOM" else [],
                }
                answer = await desk.ask(actor, SET_PERMISSIONS, {"input": input})
                if (answer.get("data") or {}).get("setRolePermissions", {}).get("role"):
                    roles.append(role)
            else:
                login = f"{beginning}-{turn}"
                held = draw.sample(roles, min(len(roles), draw.randint(1, 2)))
                input = {
                    "login": login,
                    "name": login,
                    "password": PASSWORD,
                    "roles": [assigned(role) for role in held],
                    "department": draw.choice([*departments, None]),
                }
                answer = await desk.ask(actor, CREATE_STAFF, {"input": input})
                if ((answer.get("data") or {}).get("createStaffAccount") or {}).get("account"):
                    logins.append(login)
        assert len(logins) > 1
        path = world.tenants[beginning].path
        first = grants(access, "agent_admin" if beginning == "north" else "enterprise_admin", path)
        for role in roles:
            for (type_name, field, act), reach in grants(access, assigned(role), path).reach.items():
                own = first.reach_of(type_name, field, Act(act))
                assert own is not None, (role, type_name, field)
                assert within(reach, own | frozenset({"self", "ancestors"})), (role, type_name, field, reach, own)


def grants(access: Any, role: str, path: str) -> Any:
    return access.grants_of([role], path)


async def test_two_ticks_at_once_leave_one_of_them_whole(world: World) -> None:
    north = await office(world, "north")
    made = await world.data("north", CREATE_ROLE, {"input": {"name": "Twice", "template": north.template}})
    role = made["createRole"]["role"]["id"]
    first, second = ("sim:card",), ("system:staff", "system:department")
    assert list(await asyncio.gather(north.tick(role, *first), north.tick(role, *second))) == [[], []]
    rows = await world.sql(
        "SELECT m.key FROM role_menu r JOIN menu_item m ON m.id = r.menu_id JOIN role o ON o.id = r.role_id "
        "WHERE o.name = 'Twice'"
    )
    assert {row["key"] for row in rows} in ({*first}, {*second})
