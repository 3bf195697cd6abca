"""Departments, positions, and what those above change about an account."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from planner.ids import encode_id
from tests.support.world import PASSWORD, World

DEPARTMENT = """department { id name position leader phone email status parent { name }
    children(first: 9) { nodes { name } } } errors { code field }"""
CREATE = f"mutation($input: DepartmentInput!) {{ createDepartment(input: $input) {{ {DEPARTMENT} }} }}"
UPDATE = (
    f"mutation($id: ID!, $input: DepartmentInput!) {{ updateDepartment(id: $id, input: $input) {{ {DEPARTMENT} }} }}"
)
DELETE = "mutation($id: ID!) { deleteDepartment(id: $id) { done errors { code field } } }"
POSITION = "position { id code name position status } errors { code field }"
CREATE_POSITION = f"mutation($input: CreatePositionInput!) {{ createPosition(input: $input) {{ {POSITION} }} }}"
SET_POSITIONS = """mutation($account: ID!, $positions: [ID!]!) {
    setStaffPositions(account: $account, positions: $positions) {
        account { positions(first: 9) { nodes { position { code } } } } errors { code field } } }"""
RESET = """mutation($input: ResetStaffPasswordInput!) { resetStaffPassword(input: $input) {
    account { login } errors { code field } } }"""


async def department(world: World, account: str, **input: Any) -> tuple[Any, list[tuple[str, str | None]]]:
    payload = (await world.data(account, CREATE, {"input": input}))["createDepartment"]
    return payload["department"], [(error["code"], error["field"]) for error in payload["errors"]]


async def updated(world: World, account: str, id: str, **input: Any) -> tuple[Any, list[tuple[str, str | None]]]:
    payload = (await world.data(account, UPDATE, {"id": id, "input": input}))["updateDepartment"]
    return payload["department"], [(error["code"], error["field"]) for error in payload["errors"]]


async def account_of(world: World, login: str) -> str:
    (row,) = await world.sql("SELECT id FROM staff_account WHERE login = $1", login)
    return encode_id("acc", row["id"])


@pytest.mark.feature("S1-22")
async def test_a_department_moves_with_all_below_it(world: World) -> None:
    sales, _ = await department(world, "north", name="Sales", position=2, leader="Ms Wang", phone="025-123456")
    assert (sales["position"], sales["leader"], sales["phone"], sales["status"]) == (
        2,
        "Ms Wang",
        "025-123456",
        "ACTIVE",
    )
    city, _ = await department(world, "north", name="City", parent=sales["id"])
    desk, _ = await department(world, "north", name="Desk", parent=city["id"])
    other, _ = await department(world, "north", name="Other")
    moved, errors = await updated(world, "north", city["id"], name="City", parent=other["id"], email="city@example.com")
    assert errors == []
    assert (moved["parent"], moved["email"], moved["children"]["nodes"]) == (
        {"name": "Other"},
        "city@example.com",
        [{"name": "Desk"}],
    )
    # not below itself, however far
    assert (await updated(world, "north", city["id"], name="City", parent=desk["id"]))[1] == [("INVALID", "parent")]
    assert (await updated(world, "north", city["id"], name="City", parent=city["id"]))[1] == [("INVALID", "parent")]
    # a neighbour's, a child's and a parent's department are not there
    for account in ("south", "north-east"):
        assert (await updated(world, account, city["id"], name="Mine"))[1] == [("NOT_FOUND", "id")]
    assert (await department(world, "north", name="X", email="no address"))[1] == [("INVALID_EMAIL", "email")]
    assert "FORBIDDEN" in await world.codes("finance", CREATE, {"input": {"name": "Finance"}})


@pytest.mark.feature("S1-22")
async def test_two_moves_at_once_make_no_circle(world: World) -> None:
    one, _ = await department(world, "north", name="One")
    two, _ = await department(world, "north", name="Two")
    outcomes = await asyncio.gather(
        updated(world, "north", one["id"], name="One", parent=two["id"]),
        updated(world, "north", two["id"], name="Two", parent=one["id"]),
    )
    assert sorted(errors for _, errors in outcomes) == [[], [("INVALID", "parent")]]


@pytest.mark.feature("S1-22")
async def test_a_department_in_use_stays(world: World) -> None:
    sales, _ = await department(world, "north", name="Sales")
    below, _ = await department(world, "north", name="City", parent=sales["id"])
    refused = {"deleteDepartment": {"done": None, "errors": [{"code": "IN_USE", "field": "id"}]}}
    answer = await world.data("north", DELETE, {"id": sales["id"]})
    assert answer["deleteDepartment"]["errors"] == refused["deleteDepartment"]["errors"]
    assert (await world.data("north", DELETE, {"id": below["id"]}))["deleteDepartment"]["done"] is True
    update = (
        "mutation($input: UpdateStaffAccountInput!) { updateStaffAccount(input: $input) { errors { code field } } }"
    )
    north = await account_of(world, "north")
    moved = await world.data("north", update, {"input": {"id": north, "department": sales["id"]}})
    assert moved["updateStaffAccount"]["errors"] == []
    assert (await world.data("north", DELETE, {"id": sales["id"]}))["deleteDepartment"]["errors"] == [
        {"code": "IN_USE", "field": "id"}
    ]
    foreign, _ = await department(world, "south", name="South")
    answer = await world.data("north", update, {"input": {"id": north, "department": foreign["id"]}})
    assert answer["updateStaffAccount"]["errors"] == [{"code": "NOT_FOUND", "field": "department"}]


@pytest.mark.feature("S1-31", "S1-33")
async def test_positions_and_who_holds_them(world: World) -> None:
    made = {}
    for code in ("manager", "hr"):
        payload = await world.data("north", CREATE_POSITION, {"input": {"code": code, "name": code.title()}})
        made[code] = payload["createPosition"]["position"]["id"]
    again = await world.data("north", CREATE_POSITION, {"input": {"code": "hr", "name": "HR"}})
    assert again["createPosition"]["errors"] == [{"code": "TAKEN", "field": "code"}]
    south = await world.data("south", CREATE_POSITION, {"input": {"code": "hr", "name": "HR"}})
    assert south["createPosition"]["errors"] == []
    account = await account_of(world, "north")

    async def hold(by: str, *positions: str) -> Any:
        return (await world.data(by, SET_POSITIONS, {"account": account, "positions": list(positions)}))[
            "setStaffPositions"
        ]

    held = await hold("north", made["manager"], made["hr"])
    assert {n["position"]["code"] for n in held["account"]["positions"]["nodes"]} == {"manager", "hr"}
    assert (await hold("north", south["createPosition"]["position"]["id"]))["errors"] == [
        {"code": "NOT_FOUND", "field": "positions"}
    ]
    assert (await hold("south"))["errors"] == [{"code": "NOT_FOUND", "field": "account"}]
    status = "mutation($id: ID!) { setPositionStatus(id: $id, status: DISABLED) { errors { code } } }"
    await world.data("north", status, {"id": made["hr"]})
    # what is held is kept; what is out of use is given to nobody
    assert (await hold("north", made["hr"]))["errors"] == []
    assert (await hold("north"))["errors"] == []
    assert (await hold("north", made["hr"]))["errors"] == [{"code": "NOT_ACTIVE", "field": "positions"}]
    listed = (await world.data("north", "{ positions(orderBy: [{field: CODE}]) { nodes { code status } } }"))[
        "positions"
    ]
    assert [(n["code"], n["status"]) for n in listed["nodes"]] == [("hr", "DISABLED"), ("manager", "ACTIVE")]


@pytest.mark.feature("S1-32")
async def test_a_reset_password_ends_sessions_and_a_lock(world: World) -> None:
    token = await world.client.token("agent", "north-east", PASSWORD)
    await world.sql("UPDATE staff_account SET locked_until = now() + interval '1 hour' WHERE login = 'north-east'")
    account = await account_of(world, "north-east")
    weak = await world.data("north", RESET, {"input": {"account": account, "password": "short"}})
    assert weak["resetStaffPassword"]["errors"] == [{"code": "WEAK_PASSWORD", "field": "password"}]
    assert (await world.data("south", RESET, {"input": {"account": account, "password": "another 1 password"}}))[
        "resetStaffPassword"
    ]["errors"] == [{"code": "NOT_FOUND", "field": "account"}]
    done = await world.data("north", RESET, {"input": {"account": account, "password": "another 1 password"}})
    assert done["resetStaffPassword"] == {"account": {"login": "north-east"}, "errors": []}
    answer = (await world.client.post("agent", "{ viewer { door } }", token=token)).json()
    assert answer["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"
    assert (await world.client.log_in("agent", "north-east", "another 1 password"))["errors"] == []
    own = await account_of(world, "north")
    refused = await world.data("north", RESET, {"input": {"account": own, "password": "another 1 password"}})
    assert refused["resetStaffPassword"]["errors"] == [{"code": "INVALID", "field": "account"}]
    (row,) = await world.sql(
        "SELECT arguments::text AS told FROM operation_record WHERE outcome = 'SUCCEEDED' "
        "AND mutation ILIKE 'reset%password'"
    )
    assert "another 1 password" not in row["told"]


@pytest.mark.feature("S1-32")
async def test_a_locked_account_is_unlocked(world: World) -> None:
    await world.sql("UPDATE staff_account SET locked_until = now() + interval '1 hour' WHERE login = 'coast'")
    unlock = "mutation($a: ID!) { unlockStaffAccount(account: $a) { account { lockedUntil } errors { code } } }"
    account = await account_of(world, "coast")
    answer = await world.data("north", unlock, {"a": account})
    assert answer == {"unlockStaffAccount": {"account": {"lockedUntil": None}, "errors": []}}
    assert (await world.client.log_in("agent", "coast", PASSWORD))["errors"] == []
