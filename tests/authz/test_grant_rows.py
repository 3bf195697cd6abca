"""No sequence of grants by anybody below the platform lets anyone read a stored row, or a field of one, that who began
it could not read."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from authz.principal import system
from models.identity import StaffAccount
from planner.ids import encode_id
from planner.mapping import registry
from services.identity import open_session, tokens_of
from services.runtime import Origin
from tests.support.marks import mark_the_rest
from tests.support.office import (
    CREATE_DEPARTMENT,
    CREATE_ROLE,
    CREATE_STAFF,
    SET_PERMISSIONS,
    Office,
    account_of,
    assigned,
    office,
)
from tests.support.world import PASSWORD, World

SET_ROLES = "mutation($input: SetRolesInput!) { setStaffRoles(input: $input) { errors { code } } }"
ROLE_STATUS = "mutation($id: ID!, $s: AccountStatus!) { setRoleStatus(id: $id, status: $s) { errors { code } } }"
MOVE = "mutation($id: ID!, $input: DepartmentInput!) { updateDepartment(id: $id, input: $input) { errors { code } } }"
TRANSFER = "mutation($input: UpdateStaffAccountInput!) { updateStaffAccount(input: $input) { errors { code } } }"
SCOPES = ("ALL", "CUSTOM", "DEPARTMENT", "DEPARTMENT_AND_BELOW", "SELF")
KEEPS = ("system:staff", "system:staff:create", "system:role", "system:role:edit")
"""What a limited beginner always has, so that something can be begun."""
READ = (
    # felt by departments
    "StaffAccount", "Department", "RoleAssignment", "LoginRecord",
    # of the branch
    "SimCard", "SimStatusChange", "EndUser", "Role", "Position", "StaffPosition", "ApiKey", "TenantModule",
    # published by those above
    "DataPackage", "Agreement", "MenuItem", "PermissionTemplate",
    # of the company, or one's own
    "Agent", "Enterprise", "Notification", "NotificationTemplate", "MembershipGrant",
)  # fmt: skip
Read = frozenset[tuple[str, str]]
"""Rows and their fields."""
_numbers = itertools.count(1)


@dataclass
class Chain:
    """A company in which somebody begins to grant, and those to whom it was granted go on."""

    desk: Office
    name: str
    departments: list[str]
    rows: dict[str, list[str]]
    """The ids of all that was stored when it began, by type."""
    actors: list[str] = field(default_factory=list)
    accounts: list[str] = field(default_factory=list)
    roles: list[str] = field(default_factory=list)

    @property
    def world(self) -> World:
        return self.desk.world

    async def enter(self, login: str) -> None:
        """Logs an account in without the time that a password takes."""
        runtime = self.world.client.application.runtime
        async with runtime.database.transaction(system("test")) as session:
            account = await session.scalar(select(StaffAccount).where(StaffAccount.login == login))
            assert account is not None
            now = datetime.now(UTC)
            opened, refresh = open_session(runtime, account, runtime.doors["agent"], Origin(), now)
            session.add(opened)
        tokens = tokens_of(runtime, opened, refresh, now)
        self.world.client.keep_token("agent", login, tokens.access_token)

    async def reads(self, login: str) -> Read:
        """Every row of the beginning that an account can read, with the fields that it can read of it."""
        viewer = (await self.desk.ask(login, "{ viewer { permissions } }"))["data"]["viewer"]
        held = set(viewer["permissions"])
        found: set[tuple[str, str]] = set()
        for name in READ:
            declared = registry.entities[name].fields
            leaves = [f for f, of in declared.items() if of.kind in ("column", "computed") and f"{name}.{f}" in held]
            if f"{name}.id" not in held:
                continue
            query = f"query($ids: [ID!]!) {{ nodes(ids: $ids) {{ ... on {name} {{ id {' '.join(leaves)} }} }} }}"
            for page in _pages(self.rows[name]):
                answer = await self.desk.ask(login, query, {"ids": page})
                assert "errors" not in answer, answer
                for row in filter(None, answer["data"]["nodes"]):
                    found |= {(row["id"], leaf) for leaf, value in row.items() if value is not None}
        return frozenset(found)

    async def do(self, actor: str, mutation: str, variables: dict[str, Any]) -> dict[str, Any] | None:
        """What a mutation answered; None where it was refused."""
        answer = await self.desk.ask(actor, mutation, variables)
        if not answer.get("data"):
            assert {error["extensions"]["code"] for error in answer["errors"]} == {"FORBIDDEN"}, answer
            return None
        ((payload,),) = (answer["data"].values(),)
        return payload if payload["errors"] == [] else None

    async def tick(self, actor: str, role: str, menus: Sequence[str], scope: str, department: str) -> bool:
        input = {
            "role": role,
            "menus": [self.desk.menus[key] for key in menus],
            "dataScope": scope,
            "departments": [department] if scope == "CUSTOM" else [],
        }
        return await self.do(actor, SET_PERMISSIONS, {"input": input}) is not None

    async def role(self, actor: str) -> str | None:
        input = {"name": f"{self.name} {next(_numbers)}", "template": self.desk.template}
        made = await self.do(actor, CREATE_ROLE, {"input": input})
        if made is not None:
            self.roles.append(made["role"]["id"])
        return None if made is None else self.roles[-1]

    async def employ(self, actor: str, roles: Sequence[str], department: str | None) -> str | None:
        login = f"{self.name}-{next(_numbers)}"
        input = {
            "login": login,
            "name": login,
            "password": PASSWORD,
            "roles": [assigned(role) for role in roles],
            "department": department,
        }
        made = await self.do(actor, CREATE_STAFF, {"input": input})
        if made is None:
            return None
        await self.enter(login)
        self.accounts.append(made["account"]["id"])
        return login


def _pages(ids: list[str]) -> list[list[str]]:
    return [ids[start : start + 100] for start in range(0, len(ids), 100)]


async def begun(world: World, company: str) -> Chain:
    """A company with departments, staff in each who have logged in once, and an administrator."""
    desk = await office(world, company)
    number = next(_numbers)
    tenant = world.tenants[company]
    made: dict[str, int] = {}
    for name, above in (("sales", None), ("city", "sales"), ("desk", None)):
        ((made[name],),) = await world.sql(
            "INSERT INTO department (tenant_id, tenant_path, name, parent_id, position, status) "
            "VALUES ($1, $2, $3, $4, 0, 'ACTIVE') RETURNING id",
            tenant.id, tenant.path, f"{name} {number}", made.get(above or ""),
        )  # fmt: skip
        await world.sql(
            "WITH made AS (INSERT INTO staff_account (tenant_id, tenant_path, login, name, password_hash, phone, "
            "department_id, status, failed_logins) "
            "VALUES ($1, $2, $3, $3, '', '13912345678', $4, 'ACTIVE', 0) RETURNING *) "
            "INSERT INTO login_record (tenant_id, tenant_path, login, account_id, door, method, outcome) "
            "SELECT tenant_id, tenant_path, login, id, 'agent', 'PASSWORD', 'SUCCEEDED' FROM made",
            tenant.id, tenant.path, f"{name}-{number}", made[name],
        )  # fmt: skip
    departments = [encode_id("dep", key) for key in made.values()]
    chain = Chain(desk, f"c{number}", departments, {})
    chain.accounts = [await account_of(world, f"{name}-{number}") for name in made]
    await chain.enter(company)
    return chain


async def stored(world: World) -> dict[str, list[str]]:
    """The ids of every stored row, by type; of an installation's other tests nothing is left out."""
    found: dict[str, list[str]] = {}
    for name in READ:
        entity = registry.entities[name]
        kind = f" WHERE kind = '{name.upper()}'" if entity.discriminator is not None else ""
        rows = await world.sql(f"SELECT id FROM {entity.table.name}{kind} ORDER BY id")
        found[name] = [encode_id(entity.prefix, row["id"]) for row in rows]
    return found


@pytest.fixture
async def rich(world: World) -> World:
    """The world with rows of every table, at each tenant."""
    await mark_the_rest(world)
    return world


@settings(
    max_examples=10,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(data=st.data())
async def test_no_sequence_of_grants_reaches_a_row_beyond_its_beginning(rich: World, data: st.DataObject) -> None:
    company = data.draw(st.sampled_from(("north", "north-east", "acme")), "company")
    chain = await begun(rich, company)
    menus = sorted(set(chain.desk.menus) - {"sim", "system"})
    some_menus = st.lists(st.sampled_from(menus), min_size=1, max_size=6, unique=True)
    department = st.sampled_from(chain.departments)
    beginner = company
    if data.draw(st.integers(0, 3), "whole") > 0:
        roles = []
        for own in (KEEPS, data.draw(some_menus, "menus of the beginner")):
            role = await chain.role(company)
            assert role is not None
            scope = data.draw(st.sampled_from(SCOPES), "scope of the beginner")
            if await chain.tick(company, role, own, scope, data.draw(department)):
                roles.append(role)
        greater = await chain.role(company)
        assert greater is not None
        await chain.tick(
            company, greater, data.draw(some_menus, "menus of a greater role"), "ALL", chain.departments[0]
        )
        hired = await chain.employ(company, roles, data.draw(department, "department of the beginner"))
        assert hired is not None
        beginner = hired
    chain.actors = [beginner]
    chain.rows = await stored(rich)
    first = await chain.reads(beginner)
    for _ in range(data.draw(st.integers(4, 9), "steps")):
        await step(chain, data, some_menus, department)
    for login in chain.actors:
        beyond = await chain.reads(login) - first
        assert beyond == frozenset(), (beginner, login, sorted(beyond)[:9])


async def step(
    chain: Chain, data: st.DataObject, some_menus: st.SearchStrategy[list[str]], department: st.SearchStrategy[str]
) -> None:
    """One thing that somebody tries; most of it is refused."""
    actor = data.draw(st.sampled_from(chain.actors), "actor")
    scope = data.draw(st.sampled_from(SCOPES), "scope")
    place = data.draw(department, "place")
    match data.draw(
        st.sampled_from(
            ["make", "make", "hire", "hire", "hire", "tick", "assign", "assign", "move", "transfer", "status", "found"]
        )
    ):
        case "make":
            role = await chain.role(actor)
            if role is not None:
                await chain.tick(actor, role, data.draw(some_menus), scope, place)
        case "tick" if chain.roles:
            await chain.tick(actor, data.draw(st.sampled_from(chain.roles)), data.draw(some_menus), scope, place)
        case "hire" if chain.roles:
            held = data.draw(st.lists(st.sampled_from(chain.roles), min_size=1, max_size=2, unique=True), "roles")
            hired = await chain.employ(actor, held, data.draw(st.sampled_from([place, None])))
            if hired is not None:
                chain.actors.append(hired)
        case "assign" if chain.roles:
            held = data.draw(st.lists(st.sampled_from(chain.roles), max_size=3, unique=True), "roles")
            account = data.draw(st.sampled_from(chain.accounts), "account")
            await chain.do(
                actor, SET_ROLES, {"input": {"account": account, "roles": [assigned(role) for role in held]}}
            )
        case "move":
            moved = data.draw(department, "moved")
            above = data.draw(st.sampled_from([place, None]), "above")
            await chain.do(actor, MOVE, {"id": moved, "input": {"name": f"{next(_numbers)}", "parent": above}})
        case "transfer":
            account = data.draw(st.sampled_from(chain.accounts), "account")
            await chain.do(actor, TRANSFER, {"input": {"id": account, "department": place}})
        case "status" if chain.roles:
            role = data.draw(st.sampled_from(chain.roles), "role")
            status = data.draw(st.sampled_from(("DISABLED", "ACTIVE")), "status")
            await chain.do(actor, ROLE_STATUS, {"id": role, "s": status})
        case "found":
            await chain.do(actor, CREATE_DEPARTMENT, {"input": {"name": f"{next(_numbers)}", "parent": place}})
