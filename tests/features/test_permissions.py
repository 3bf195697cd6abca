"""The permission platform: templates and menus, roles that tenants make, modules, and what a front end draws."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from authz.principal import system
from authz.scopes import within
from server.app import the_catalog
from server.demo import add_account
from server.doors import FRONTENDS, documents, load_doors, load_menus
from tests.support.matrix import printed
from tests.support.office import CREATE_ROLE, STAFF, assigned, office
from tests.support.world import PASSWORD, World, password_hash

ROLE_STATUS = "mutation($id: ID!, $s: AccountStatus!) { setRoleStatus(id: $id, status: $s) { errors { code } } }"
ROLE_PERMISSIONS = "query($role: ID!) { rolePermissions(role: $role) { granted grantable menu { key } } }"
MODULE = """mutation($input: SetTenantModuleInput!) { setTenantModule(input: $input) {
    module { module enabled pageVariant } errors { code field } } }"""
DRAWN = "{ viewer { roles menus { key } modules { key pageVariant } } }"


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
                named = list(catalog.expand(needed, "*"))
                assert named, needed
                if "*" not in needed and door != "admin":
                    assert not any(one.confidential for one in named), f"no role that a tenant makes can hold {needed}"


# -- roles --------------------------------------------------------------------------------------------------------


MADE_ROLE = Path(__file__).with_name("made_role.txt")
MADE_HEAD = """\
What a role that a tenant made may do, beside who made it: three pages of the agents' template, ticked with the data
scope "department and below". A all rows, B own branch, T own tenant, P what those above publish, o one's own, D own
department and below, d own department, . nothing.
"""


@pytest.mark.feature("S1-36", "S4-72")
async def test_the_matrix_of_a_role_that_a_tenant_made(world: World) -> None:
    """To write it anew, remove ``made_role.txt``; its diff is the review."""
    north = await office(world, "north")
    role = await north.role(
        "Lead", "sim:card", "sim:card:suspend", "system:staff", "system:staff:edit", dataScope="DEPARTMENT_AND_BELOW"
    )
    access, path = world.client.application.runtime.access, world.tenants["north"].path
    made, maker = access.grants_of([assigned(role)], path), access.grants_of(["agent_admin"], path)
    opened = sorted((one for one in access.catalog if made.allows(one.type, one.field, one.act)), key=lambda c: c.name)
    told = printed(MADE_HEAD, opened, {"made": made, "agent": maker})
    kept = MADE_ROLE.read_text("utf-8") if MADE_ROLE.exists() else None
    if kept is None:
        MADE_ROLE.write_text(told, "utf-8")
    assert kept == told
    for one in opened:
        reach = made.reach_of(one.type, one.field, one.act)
        assert reach is not None
        assert within(reach, maker.reach_of(one.type, one.field, one.act) or frozenset()), one.name


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


@pytest.mark.feature("S4-76")
async def test_nobody_decides_otherwise_about_a_module_than_who_stands_above(world: World) -> None:
    off = {"tenant": world.id("coast"), "module": "sim", "enabled": False}

    async def decide(account: str, **change: Any) -> list[dict[str, str]]:
        payload = (await world.data(account, MODULE, {"input": {**off, **change}}))["setTenantModule"]
        return list(payload["errors"])

    above = [{"code": "MODULE_ABOVE", "field": "module"}]
    assert await decide("north-east") == []
    assert await decide("north-east", enabled=True) == []
    assert await decide("north") == []
    assert await decide("north-east", enabled=True) == above
    assert await decide("admin", pageVariant="bare") == []
    assert (await decide("north", enabled=True), await decide("north-east", enabled=True)) == (above, above)
    (row,) = await world.sql("SELECT enabled, page_variant FROM tenant_module")
    assert tuple(row) == (False, "bare")
    assert await decide("admin", enabled=True) == []


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
    assert [row["key"] for row in keys] == ["admin", "agent", "bank", "dealer", "merchant"]


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


@pytest.mark.feature("S1-29", "S1-34", "S1-36", "S4-76")
async def test_one_question_tells_a_front_end_all_that_it_needs(world: World) -> None:
    north = await office(world, "north")
    sales = await north.department("Sales")
    city = await north.department("City", sales)
    lead = await north.role("Lead", "system:staff", dataScope="DEPARTMENT_AND_BELOW")
    cards = await north.role("Cards", "sim:card", "sim:card:suspend")
    await north.staff("n-lead", lead, cards, department=sales)
    screens = documents(FRONTENDS / "agent")["Screens"]
    viewer = (await north.ask("n-lead", screens))["data"]["viewer"]
    assert (viewer["language"], viewer["tenantKind"]) == ("en", "AGENT")
    assert [menu["key"] for menu in viewer["menus"]] == [
        "sim",
        "sim:card",
        "sim:card:suspend",
        "system",
        "system:staff",
    ]
    assert viewer["modules"] == [{"key": "sim", "pageVariant": None}]
    assert {"SimCard.displayIccid", "StaffAccount.name", "Mutation.suspendSimCards"} <= set(viewer["permissions"])
    assert viewer["heldRoles"] == [
        {
            "key": assigned(lead),
            "name": "Lead",
            "dataScope": "DEPARTMENT_AND_BELOW",
            "departments": [{"id": sales, "name": "Sales"}, {"id": city, "name": "City"}],
        },
        {"key": assigned(cards), "name": "Cards", "dataScope": "ALL", "departments": []},
    ]
    whole = (await north.ask("north", screens))["data"]["viewer"]
    assert whole["heldRoles"] == [{"key": "agent_admin", "name": None, "dataScope": "ALL", "departments": []}]
    # a role that is out of use draws nothing
    await world.data("north", ROLE_STATUS, {"id": cards, "s": "DISABLED"})
    left = (await north.ask("n-lead", screens))["data"]["viewer"]
    assert [menu["key"] for menu in left["menus"]] == ["system", "system:staff"]
    assert [role["name"] for role in left["heldRoles"]] == ["Lead"]
    visitor = (await world.client.post("agent", screens)).json()["data"]["viewer"]
    assert (visitor["tenantKind"], visitor["menus"], visitor["modules"], visitor["heldRoles"]) == (None, [], [], [])


async def test_merchants_and_dealers_make_roles_of_their_own_templates(world: World) -> None:
    """Until dealers are tenants of their own, somebody of an agent's staff stands at both doors."""
    of_operators = {"company:merchants", "company:merchants:create"}
    async with world.client.application.runtime.database.transaction(system("test")) as session:
        for door in ("merchant", "dealer"):
            await add_account(session, world.tenants["north"], door, f"{door}_admin", password_hash())
    for door in ("merchant", "dealer"):
        shipped = documents(FRONTENDS / door)
        given = {"account": door, "password": PASSWORD}
        entered = (await world.client.post(door, shipped["LogIn"], given)).json()["data"]["logIn"]
        token = entered["session"]["accessToken"]
        viewer = (await world.client.post(door, shipped["Screens"], token=token)).json()["data"]["viewer"]
        offers = {menu["key"] for menu in load_menus()[door]["menus"]} - of_operators
        assert {menu["key"] for menu in viewer["menus"]} == offers
        listed = (await world.client.post(door, shipped["PermissionTemplates"], token=token)).json()["data"]
        template = {node["key"]: node["id"] for node in listed["permissionTemplates"]["nodes"]}[door]
        input = {"name": f"Clerk of the {door}", "template": template}
        made = (await world.client.post(door, shipped["CreateRole"], {"input": input}, token=token)).json()["data"]
        role = made["createRole"]["role"]["id"]
        offered = (await world.client.post(door, shipped["RolePermissions"], {"role": role}, token=token)).json()[
            "data"
        ]
        assert {each["menu"]["key"] for each in offered["rolePermissions"] if each["grantable"]} == offers
