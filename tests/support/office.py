"""A tenant's back office as its administrator works in it: roles, departments and staff, over HTTP."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from planner.ids import decode_id, encode_id
from tests.support.world import PASSWORD, World

CREATE_ROLE = (
    "mutation($input: CreateRoleInput!) { createRole(input: $input) { role { id name } errors { code field } } }"
)
SET_PERMISSIONS = """mutation($input: SetRolePermissionsInput!) { setRolePermissions(input: $input) {
    role { id dataScope menus(first: 99) { nodes { menu { key } } }
        departments(first: 9) { nodes { department { name } } } }
    errors { code field message } } }"""
CREATE_STAFF = """mutation($input: CreateStaffAccountInput!) { createStaffAccount(input: $input) {
    account { id } errors { code field } } }"""
CREATE_DEPARTMENT = """mutation($input: DepartmentInput!) { createDepartment(input: $input) {
    department { id } errors { code field } } }"""
STAFF = "{ staffAccounts(first: 100, orderBy: [{field: LOGIN}]) { nodes { login } } }"


@dataclass
class Office:
    """A tenant's back office as its administrator works in it."""

    world: World
    admin: str
    menus: dict[str, str]
    template: str
    door: str = "agent"

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
        token = await self.world.client.token(self.door, login, PASSWORD)
        answer: dict[str, Any] = (await self.world.client.post(self.door, query, variables, token=token)).json()
        return answer

    async def said(self, login: str, mutation: str, **variables: Any) -> list[tuple[str, str | None]]:
        """The refusals of one mutation that the account may call: code and field."""
        answer = await self.ask(login, mutation, variables)
        assert "errors" not in answer, answer
        (payload,) = answer["data"].values()
        return [(error["code"], error["field"]) for error in payload["errors"]]

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


async def account_of(world: World, login: str) -> str:
    (row,) = await world.sql("SELECT id FROM staff_account WHERE login = $1", login)
    return encode_id("acc", row["id"])


async def office(world: World, admin: str, door: str = "agent") -> Office:
    rows = await world.sql(
        "SELECT m.id, m.key, t.id AS template FROM menu_item m JOIN permission_template t ON t.id = m.template_id "
        "WHERE t.key = $1",
        door,
    )
    menus = {row["key"]: encode_id("mnu", row["id"]) for row in rows}
    return Office(world, admin, menus, encode_id("tpl", rows[0]["template"]), door)
