"""Roles in the hands of who may do less: assigned several at a time (S1-34), and never to get or take more."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest

from planner.ids import decode_id, encode_id
from tests.support.office import CREATE_ROLE, SET_PERMISSIONS, STAFF, Office, account_of, assigned, office
from tests.support.world import PASSWORD, World

UPDATE_ROLE = "mutation($input: UpdateRoleInput!) { updateRole(input: $input) { errors { code field } } }"
ROLE_STATUS = "mutation($id: ID!, $s: AccountStatus!) { setRoleStatus(id: $id, status: $s) { errors { code field } } }"
DELETE_ROLE = "mutation($id: ID!) { deleteRole(id: $id) { errors { code field } } }"
SET_ROLES = """mutation($input: SetRolesInput!) { setStaffRoles(input: $input) {
    account { roles(first: 9) { nodes { role } } } errors { code field } } }"""
POSITIONS = """mutation($account: ID!) { setStaffPositions(account: $account, positions: []) {
    errors { code field } } }"""
HELD = "{ viewer { roles heldRoles { key name dataScope departments { name } } } }"
CARDS = "{ simCards { nodes { id } } }"


async def stored(world: World, role: str) -> dict[str, Any]:
    """A role as it is stored, with all that is ticked and opened."""
    (found,) = await world.sql(
        "SELECT name, position, data_scope, status, remark, "
        "(SELECT array_agg(menu_id ORDER BY menu_id) FROM role_menu WHERE role_id = r.id) AS menus, "
        "(SELECT count(*) FROM role_policy WHERE role_id = r.id) AS lines FROM role r WHERE id = $1",
        (decode_id(role) or ("", 0))[1],
    )
    return dict(found)


async def helped(world: World) -> tuple[Office, str, str]:
    """An office with a greater role, a lesser one, and a helper who edits roles and holds what the lesser one opens."""
    north = await office(world, "north")
    greater = await north.role("Greater", "system:staff", "system:staff:password", "sim:card")
    lesser = await north.role("Lesser", "sim:card")
    helper = await north.role("Helper", "system:role", "system:role:edit", "sim:card", "customer")
    await north.staff("north-helper", helper)
    return north, greater, lesser


@pytest.mark.feature("S1-35", "S1-37", "S4-72", "S4-73")
async def test_nobody_changes_a_role_that_may_do_more_than_they(world: World) -> None:
    north, greater, lesser = await helped(world)
    before = await stored(world, greater)
    changes: list[tuple[str, dict[str, Any], str]] = [
        (UPDATE_ROLE, {"input": {"id": greater, "name": "Mine", "remark": "mine", "position": 7}}, "id"),
        (ROLE_STATUS, {"id": greater, "s": "DISABLED"}, "id"),
        (DELETE_ROLE, {"id": greater}, "id"),
        (SET_PERMISSIONS, {"input": {"role": greater, "menus": []}}, "role"),
        (SET_PERMISSIONS, {"input": {"role": greater, "menus": [north.menus["sim:card"]]}}, "role"),
        (SET_PERMISSIONS, {"input": {"role": greater, "menus": [], "dataScope": "SELF"}}, "role"),
    ]
    for mutation, variables, field in changes:
        assert await north.said("north-helper", mutation, **variables) == [("ROLE_ABOVE", field)], variables
    assert await stored(world, greater) == before
    # one that is out of use opens as much as soon as it is used again
    assert await north.said("north", ROLE_STATUS, id=greater, s="DISABLED") == []
    assert await north.said("north-helper", ROLE_STATUS, id=greater, s="ACTIVE") == [("ROLE_ABOVE", "id")]
    assert await north.said("north-helper", DELETE_ROLE, id=greater) == [("ROLE_ABOVE", "id")]
    assert (await stored(world, greater))["status"] == "DISABLED"
    # what the helper could have made is the helper's to change
    renamed = await north.said("north-helper", UPDATE_ROLE, input={"id": lesser, "name": "Cards"})
    assert (renamed, (await stored(world, lesser))["name"]) == ([], "Cards")
    assert await north.said("north-helper", SET_PERMISSIONS, input={"role": lesser, "menus": []}) == []
    assert await north.said("north-helper", ROLE_STATUS, id=lesser, s="DISABLED") == []
    assert await north.said("north-helper", DELETE_ROLE, id=lesser) == []
    # a neighbour's role is not there
    assert await north.said("south", UPDATE_ROLE, input={"id": greater, "name": "Mine"}) == [("NOT_FOUND", "id")]


async def test_the_message_says_who_can(world: World) -> None:
    _, greater, _ = await helped(world)
    token = await world.client.token("agent", "north-helper", PASSWORD)
    text = DELETE_ROLE.replace("field", "message")
    for language, message in (
        ("en", "The role may do more than you; somebody above has to do this."),
        ("zh-CN", "该角色的权限高于您，请由上级处理。"),
    ):
        answer = await world.client.post("agent", text, {"id": greater}, token=token, language=language)
        assert answer.json()["data"]["deleteRole"]["errors"] == [{"code": "ROLE_ABOVE", "message": message}]


@pytest.mark.feature("S1-34")
async def test_a_member_of_staff_holds_several_roles_together(world: World) -> None:
    north = await office(world, "north")
    cards, people = await north.role("Cards", "sim:card"), await north.role("People", "system:staff")
    account = await north.staff("north-clerk", cards)
    assert (await north.codes("north-clerk", CARDS), await north.codes("north-clerk", STAFF)) == ([], ["FORBIDDEN"])

    async def hold(*roles: str, by: str = "north") -> list[tuple[str, str | None]]:
        return await north.said(by, SET_ROLES, input={"account": account, "roles": [assigned(role) for role in roles]})

    assert await hold(cards, people) == []
    assert (await north.codes("north-clerk", CARDS), await north.codes("north-clerk", STAFF)) == ([], [])
    viewer = (await north.ask("north-clerk", HELD))["data"]["viewer"]
    assert viewer == {
        "roles": sorted([assigned(cards), assigned(people)]),
        "heldRoles": sorted(
            (
                {"key": assigned(role), "name": name, "dataScope": "ALL", "departments": []}
                for role, name in ((cards, "Cards"), (people, "People"))
            ),
            key=lambda role: str(role["key"]),
        ),
    }
    rows = await world.sql("SELECT role FROM role_assignment WHERE account_id = $1", (decode_id(account) or ("", 0))[1])
    assert {row["role"] for row in rows} == {assigned(cards), assigned(people)}
    # taken away: gone with the next request, and nothing else with it
    assert await hold(people) == []
    assert (await north.codes("north-clerk", CARDS), await north.codes("north-clerk", STAFF)) == (["FORBIDDEN"], [])
    # a role that is not there, of a neighbour, of another kind of tenant, or that opens nothing yet
    empty = await north.role("Empty")
    foreign = await (await office(world, "south")).role("South", "sim:card")
    for role in ("role:999999", "role:", "role:0x1", "platform_admin", "enterprise_admin", "nobody", empty, foreign):
        assert await hold(people, role) == [("ROLE_NOT_GRANTABLE", "roles")], role
    assert await hold(by="south") == [("NOT_FOUND", "account")]
    for other in ("operations", "finance", "sales"):
        assert "FORBIDDEN" in await world.codes(other, SET_ROLES, {"input": {"account": account, "roles": []}})
    assert (await north.codes("north-clerk", CARDS), await north.codes("north-clerk", STAFF)) == (["FORBIDDEN"], [])


@pytest.mark.feature("S1-34")
async def test_who_may_do_less_neither_gives_nor_takes_what_is_more(world: World) -> None:
    north, greater, lesser = await helped(world)
    keeper = await north.role("Keeper", "system:staff", "system:staff:create", "sim:card", "system:staff:edit")
    await north.staff("north-keeper", keeper)
    clerk = await north.staff("north-clerk", lesser)
    above = await north.staff("north-above", greater, lesser)

    async def hold(account: str, *roles: str) -> list[tuple[str, str | None]]:
        input = {"account": account, "roles": [assigned(role) for role in roles]}
        return await north.said("north-keeper", SET_ROLES, input=input)

    assert await hold(clerk, lesser, greater) == [("ROLE_NOT_GRANTABLE", "roles")]
    assert await hold(await account_of(world, "north-keeper"), keeper, greater) == [("ROLE_NOT_GRANTABLE", "roles")]
    assert await hold(above, lesser) == [("ROLE_NOT_GRANTABLE", "roles")]
    # not even a lesser role of somebody greater
    assert await hold(above, greater) == [("ACCOUNT_ABOVE", "account")]
    assert await north.said("north-keeper", POSITIONS, account=above) == [("ACCOUNT_ABOVE", "account")]
    assert await hold(clerk) == []
    # a greater role that is out of use is as great as before
    assert await north.said("north", ROLE_STATUS, id=greater, s="DISABLED") == []
    assert await hold(above, greater) == [("ACCOUNT_ABOVE", "account")]
    # and who made it can still take it away
    input = {"account": above, "roles": [assigned(lesser)]}
    assert await north.said("north", SET_ROLES, input=input) == []


async def test_a_role_that_grows_meanwhile_is_not_given(world: World) -> None:
    north, _, lesser = await helped(world)
    keeper = await north.role("Keeper", "system:staff", "system:staff:create", "sim:card")
    await north.staff("north-keeper", keeper)
    clerk = await north.staff("north-clerk")
    key = (decode_id(lesser) or ("", 0))[1]
    await north.codes("north-keeper", CARDS)
    other = await asyncpg.connect(world.superuser_url, ssl=False)
    try:
        async with other.transaction():
            await other.execute("SELECT 1 FROM role WHERE id = $1 FOR UPDATE", key)
            input = {"account": clerk, "roles": [assigned(lesser)]}
            giving = asyncio.create_task(north.said("north-keeper", SET_ROLES, input=input))
            await asyncio.sleep(0.5)
            assert not giving.done()
            await other.execute(
                "INSERT INTO role_policy (tenant_id, tenant_path, role_id, obj, act, scope, eft) "
                "SELECT tenant_id, tenant_path, id, 'Mutation.resetStaffPassword', 'call', 'subtree', 'allow' "
                "FROM role WHERE id = $1",
                key,
            )
    finally:
        await other.close()
    assert await giving == [("ROLE_NOT_GRANTABLE", "roles")]


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


CREATE_MENU = """mutation($template: ID!, $input: MenuItemInput!) { createMenuItem(template: $template, input: $input) {
    menu { id } errors { code field } } }"""


async def test_on_the_platform_too_nobody_manages_what_is_above_them(world: World) -> None:
    """A clerk for keys and second factors, by a role of the platform's own, neither gets the secret of a key that may
    do more nor takes the second factor from an administrator."""
    (row,) = await world.sql("SELECT id FROM permission_template WHERE key = 'admin'")
    template = encode_id("tpl", row["id"])
    needs = ["Query.apiKeys", "ApiKey.*", "Mutation.rotateApiKey", "Mutation.restrictApiKey", "Mutation.revokeApiKey",
             "Mutation.extendApiKey", "Query.staffAccounts", "StaffAccount.*", "Mutation.resetSecondFactor",
             ]  # fmt: skip
    content = {"kind": "MENU", "key": "clerk", "name": "menu.clerk", "coordinates": needs}
    menu = (await world.data("admin", CREATE_MENU, {"template": template, "input": content}))["createMenuItem"]["menu"]
    made = await world.data("admin", CREATE_ROLE, {"input": {"name": "Clerk", "template": template}})
    role = made["createRole"]["role"]["id"]
    ticked = await world.data("admin", SET_PERMISSIONS, {"input": {"role": role, "menus": [menu["id"]]}})
    assert ticked["setRolePermissions"]["errors"] == []
    desk = await office(world, "admin")
    await desk.staff("clerk", role)
    token = await world.client.token("admin", "clerk", PASSWORD)
    key = encode_id("key", world.api_keys["north"].id)
    (before,) = await world.sql("SELECT * FROM api_key WHERE id = $1", world.api_keys["north"].id)

    async def said(mutation: str, **variables: Any) -> list[str]:
        answer = (await world.client.post("admin", mutation, variables, token=token)).json()
        (payload,) = answer["data"].values()
        return [error["code"] for error in payload["errors"]]

    for mutation in (
        "mutation($id: ID!) { rotateApiKey(id: $id) { secret errors { code } } }",
        "mutation($id: ID!) { revokeApiKey(id: $id) { errors { code } } }",
        "mutation($id: ID!) { extendApiKey(input: {id: $id, validDays: 9}) { errors { code } } }",
        "mutation($id: ID!) { restrictApiKey(input: {id: $id, scopes: []}) { errors { code } } }",
    ):
        assert await said(mutation, id=key) == ["ROLE_NOT_GRANTABLE"], mutation
    (after,) = await world.sql("SELECT * FROM api_key WHERE id = $1", world.api_keys["north"].id)
    assert dict(after) == dict(before)
    reset = "mutation($a: ID!) { resetSecondFactor(account: $a) { errors { code } } }"
    assert await said(reset, a=await account_of(world, "admin")) == ["ACCOUNT_ABOVE"]


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
