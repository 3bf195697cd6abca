"""Logins, sessions, staff, departments, the login log and API keys, as the people and systems concerned use them."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import itertools
import json
import time
from typing import Any

import httpx
import jwt
import pytest

from planner.ids import encode_id
from tests.support.world import ACTORS, CARDS_PER_TENANT, PARTNER_SECRET, PASSWORD, World, mark

VIEWER = "{ viewer { door roles account { login } tenant { id } permissions } }"
COUNT = "{ simCards(first: 0) { totalCount } }"
NEW_PASSWORD = "another horse 43"
_numbers = itertools.count(1)


async def session(world: World, account: str, password: str = PASSWORD, door: str | None = None) -> dict[str, str]:
    """The tokens of a new login."""
    answer = await world.client.log_in(door or ACTORS[account].door, account, password)
    assert answer["errors"] == []
    found: dict[str, str] = answer["session"]
    return found


async def refusal(world: World, account: str, password: str, door: str) -> str:
    """The code with which a login is refused; there are no tokens then."""
    answer = await world.client.log_in(door, account, password)
    assert answer["session"] is None
    (error,) = answer["errors"]
    return str(error["code"])


async def ask(
    world: World, door: str, token: str | None, query: str, variables: dict[str, Any] | None = None
) -> dict[str, Any]:
    found: dict[str, Any] = (await world.client.post(door, query, variables, token=token)).json()
    return found


async def who(world: World, door: str, token: str) -> str | None:
    """Whose token it is at a door; None where it is not valid."""
    answer = await world.client.post(door, VIEWER, token=token)
    if answer.status_code == 401:
        assert answer.json()["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"
        return None
    return str(answer.json()["data"]["viewer"]["account"]["login"])


async def refresh(world: World, door: str, token: str) -> dict[str, Any]:
    query = """mutation($token: String!) { refreshSession(refreshToken: $token) {
        session { accessToken refreshToken } errors { code } } }"""
    found: dict[str, Any] = (await ask(world, door, None, query, {"token": token}))["data"]["refreshSession"]
    return found


async def account_id(world: World, login: str) -> str:
    (row,) = await world.sql("SELECT id FROM staff_account WHERE login = $1", login)
    return encode_id("acc", row["id"])


async def outcome(
    world: World, account: str, mutation: str, variables: dict[str, Any]
) -> tuple[dict[str, Any] | None, list[str]]:
    """The payload of the one mutation in a document, and the codes that refuse it, by the graph or by the business."""
    answer = await world.run(account, mutation, variables)
    if answer.get("data") is None:
        return None, sorted({error["extensions"]["code"] for error in answer["errors"]})
    (payload,) = answer["data"].values()
    return payload, [error["code"] for error in payload["errors"]]


CREATE_STAFF = """mutation($input: CreateStaffAccountInput!) { createStaffAccount(input: $input) {
    account { id login name status phone tenant { id } department { name } roles(first: 9) { nodes { role } } }
    errors { code field } } }"""
SET_ROLES = """mutation($input: SetRolesInput!) { setStaffRoles(input: $input) {
    account { roles(first: 9) { nodes { role } } } errors { code field } } }"""
SET_STATUS = """mutation($account: ID!, $status: AccountStatus!) { setStaffStatus(account: $account, status: $status) {
    account { status } errors { code } } }"""
REVOKE = "mutation($account: ID!) { revokeSessions(account: $account) { done errors { code } } }"
LOG_OUT = "mutation($everywhere: Boolean!) { logOut(everywhere: $everywhere) { done errors { code } } }"
CHANGE_PASSWORD = """mutation($input: ChangePasswordInput!) { changePassword(input: $input) {
    done errors { code field } } }"""
SET_TENANT = "mutation($input: SetTenantStatusInput!) { setTenantStatus(input: $input) { errors { code } } }"
CREATE_ENTERPRISE = """mutation($input: CreateEnterpriseInput!) { createEnterprise(input: $input) {
    errors { code } } }"""


def staff(login: str, *roles: str, **more: Any) -> dict[str, Any]:
    return {"input": {"login": login, "password": NEW_PASSWORD, "name": login, "roles": list(roles), **more}}


# -- logging in ---------------------------------------------------------------------------------------------------


@pytest.mark.feature("S0-01")
@pytest.mark.parametrize(
    ("account", "may"),
    [
        ("admin", {"createEnterprise", "issueApiKey", "createStaffAccount"}),
        ("operations", {"createEnterprise", "issueApiKey"}),
        ("sales", {"createEnterprise"}),
        ("finance", set()),
    ],
)
async def test_the_platforms_staff_log_in_and_get_what_their_role_may(
    world: World, account: str, may: set[str]
) -> None:
    token = (await session(world, account))["accessToken"]
    viewer = (await ask(world, "admin", token, VIEWER))["data"]["viewer"]
    assert (viewer["door"], viewer["roles"], viewer["account"]["login"], viewer["tenant"]["id"]) == (
        "admin",
        [ACTORS[account].role],
        account,
        world.id("platform"),
    )
    mutations: dict[str, tuple[str, dict[str, Any], str]] = {
        "createEnterprise": (CREATE_ENTERPRISE, {"input": {"profile": {"name": "Made"}}}, "tenant"),
        "issueApiKey": (ISSUE, {"input": {"tenant": world.id("north"), "name": "Made"}}, "api_key"),
        "createStaffAccount": (CREATE_STAFF, staff("Made", "platform_sales"), "staff_account"),
    }
    assert {name for name in mutations if f"Mutation.{name}" in viewer["permissions"]} == may
    for name, (mutation, variables, table) in mutations.items():
        _, codes = await outcome(world, account, mutation, variables)
        made = await world.sql(f"SELECT id FROM {table} WHERE name = 'Made'")
        assert (codes, len(made)) == (([], 1) if name in may else (["FORBIDDEN"], 0)), name
    assert (await world.data(account, COUNT))["simCards"]["totalCount"] == CARDS_PER_TENANT * len(world.tenants)


@pytest.mark.feature("S0-01", "S0-19")
async def test_nobody_logs_in_at_anothers_door(world: World) -> None:
    for account, actor in ACTORS.items():
        for wrong in {"admin", "agent", "merchant", "partner"} - {actor.door}:
            assert await refusal(world, account, PASSWORD, wrong) == "WRONG_CREDENTIALS"
    assert await world.sql("SELECT id FROM login_session") == []


@pytest.mark.feature("S0-19")
@pytest.mark.parametrize(
    ("account", "role"), [("acme", "enterprise_admin"), ("north", "agent_admin"), ("coast", "agent_admin")]
)
async def test_enterprises_and_agents_log_in_at_the_portal(world: World, account: str, role: str) -> None:
    token = (await session(world, account))["accessToken"]
    viewer = (await ask(world, "agent", token, VIEWER))["data"]["viewer"]
    assert (viewer["door"], viewer["roles"], viewer["account"]["login"], viewer["tenant"]["id"]) == (
        "agent",
        [role],
        account,
        world.id(account),
    )
    own = await ask(world, "agent", token, COUNT)
    assert own["data"]["simCards"]["totalCount"] == 6 * len(world.below(account))


async def test_an_account_name_is_known_in_any_spelling(world: World) -> None:
    answer = await world.client.log_in("agent", "  North-EAST ", PASSWORD)
    assert await who(world, "agent", answer["session"]["accessToken"]) == "north-east"


@pytest.mark.feature("S0-01", "S0-19")
async def test_wrong_passwords_lock_an_account_for_a_while(world: World) -> None:
    for _ in range(5):
        assert await refusal(world, "south", "wrong", "agent") == "WRONG_CREDENTIALS"
    # also the right password is of no use now, and nobody else is locked
    assert await refusal(world, "south", PASSWORD, "agent") == "ACCOUNT_LOCKED"
    await session(world, "north")
    (row,) = await world.sql(
        "SELECT extract(epoch FROM locked_until - now()) AS seconds FROM staff_account WHERE login = 'south'"
    )
    assert 14 * 60 < row["seconds"] <= 15 * 60

    await world.sql("UPDATE staff_account SET locked_until = now() - interval '1 second' WHERE login = 'south'")
    await session(world, "south")
    (row,) = await world.sql("SELECT failed_logins, locked_until FROM staff_account WHERE login = 'south'")
    assert tuple(row) == (0, None)
    # four wrong ones, then the right one: the count begins anew
    for _ in range(2):
        for _ in range(4):
            assert await refusal(world, "south", "wrong", "agent") == "WRONG_CREDENTIALS"
        await session(world, "south")


async def test_wrong_passwords_at_once_are_counted_each(world: World) -> None:
    codes = await asyncio.gather(*(refusal(world, "south", "wrong", "agent") for _ in range(8)))
    assert sorted(codes) == ["ACCOUNT_LOCKED"] * 3 + ["WRONG_CREDENTIALS"] * 5


async def test_a_name_that_no_account_has_locks_like_any_other(world: World) -> None:
    codes = await asyncio.gather(*(refusal(world, "nobody-at-all", "wrong", "agent") for _ in range(8)))
    assert sorted(codes) == ["ACCOUNT_LOCKED"] * 3 + ["WRONG_CREDENTIALS"] * 5
    answer = await world.client.log_in("agent", " NOBODY-at-all", PASSWORD)
    (error,) = answer["errors"]
    assert error["code"] == "ACCOUNT_LOCKED"
    (row,) = await world.sql(
        "SELECT count(*) FROM login_record WHERE login ILIKE 'nobody-at-all' AND outcome = 'LOCKED'"
    )
    assert row["count"] == 4
    assert await refusal(world, "somebody-else", "wrong", "agent") == "WRONG_CREDENTIALS"


async def test_an_unknown_account_and_a_wrong_password_look_the_same(world: World) -> None:
    unknown = await world.client.log_in("agent", "nobody", PASSWORD)
    known = await world.client.log_in("agent", "south", "wrong")
    assert unknown == known
    assert unknown["errors"][0]["code"] == "WRONG_CREDENTIALS"
    for strange in ("", "' OR 1=1 --", "x" * 10_000, "south\x00"):
        assert await refusal(world, strange, PASSWORD, "agent") == "WRONG_CREDENTIALS"


async def test_one_address_may_try_so_often_and_another_still_may(world: World) -> None:
    codes = [await refusal(world, "south", PASSWORD, "admin") for _ in range(61)]
    assert codes == ["WRONG_CREDENTIALS"] * 60 + ["TOO_MANY_ATTEMPTS"]
    assert await refusal(world, "north", PASSWORD, "agent") == "TOO_MANY_ATTEMPTS"
    transport = httpx.ASGITransport(app=world.client.app, client=("127.0.0.10", 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://trellis.test") as other:
        query = 'mutation($p: String!) { logIn(input: {account: "north", password: $p}) { errors { code } } }'
        answer = await other.post("/agent/graphql", json={"query": query, "variables": {"p": PASSWORD}})
    assert answer.json() == {"data": {"logIn": {"errors": []}}}


# -- sessions -----------------------------------------------------------------------------------------------------


@pytest.mark.feature("S0-01")
async def test_a_refresh_token_works_once_and_a_second_use_ends_the_session(world: World) -> None:
    first = await session(world, "south")
    second = (await refresh(world, "agent", first["refreshToken"]))["session"]
    assert second["refreshToken"] != first["refreshToken"]
    assert await who(world, "agent", second["accessToken"]) == "south"
    third = (await refresh(world, "agent", second["refreshToken"]))["session"]

    assert await refresh(world, "agent", second["refreshToken"]) == {
        "session": None,
        "errors": [{"code": "SESSION_ENDED"}],
    }
    # whoever had it, thief or owner, is out
    for tokens in (first, second, third):
        assert await who(world, "agent", tokens["accessToken"]) is None
        assert (await refresh(world, "agent", tokens["refreshToken"]))["session"] is None
    await session(world, "south")


async def test_of_two_refreshes_at_once_one_succeeds(world: World) -> None:
    tokens = await session(world, "south")
    answers = await asyncio.gather(*(refresh(world, "agent", tokens["refreshToken"]) for _ in range(2)))
    assert sorted(len(answer["errors"]) for answer in answers) == [0, 1]


async def test_a_refresh_token_holds_at_its_own_door_while_the_account_may(world: World) -> None:
    tokens = await session(world, "south")
    for door, token in (
        ("admin", tokens["refreshToken"]),
        ("agent", "nonsense"),
        ("agent", ""),
        ("agent", tokens["accessToken"]),
    ):
        assert (await refresh(world, door, token))["errors"] == [{"code": "SESSION_ENDED"}]
    await world.data("admin", SET_STATUS, {"account": await account_id(world, "south"), "status": "DISABLED"})
    assert (await refresh(world, "agent", tokens["refreshToken"]))["errors"] == [{"code": "SESSION_ENDED"}]
    await world.data("admin", SET_STATUS, {"account": await account_id(world, "south"), "status": "ACTIVE"})
    await world.sql("UPDATE login_session SET expires_at = now() - interval '1 second' WHERE door = 'agent'")
    assert (await refresh(world, "agent", tokens["refreshToken"]))["errors"] == [{"code": "SESSION_ENDED"}]


@pytest.mark.feature("S0-01")
async def test_who_logs_out_is_out_at_once(world: World) -> None:
    here, there = await session(world, "south"), await session(world, "south")
    assert await who(world, "agent", here["accessToken"]) == "south"
    answer = await ask(world, "agent", here["accessToken"], LOG_OUT, {"everywhere": False})
    assert answer["data"]["logOut"] == {"done": True, "errors": []}
    assert await who(world, "agent", here["accessToken"]) is None
    assert (await refresh(world, "agent", here["refreshToken"]))["session"] is None
    assert await who(world, "agent", there["accessToken"]) == "south"


@pytest.mark.feature("S0-01")
async def test_who_logs_out_everywhere_is_out_everywhere(world: World) -> None:
    tokens = [await session(world, "south") for _ in range(3)]
    other = await session(world, "south-west")
    await ask(world, "agent", tokens[0]["accessToken"], LOG_OUT, {"everywhere": True})
    assert [await who(world, "agent", t["accessToken"]) for t in tokens] == [None] * 3
    assert await who(world, "agent", other["accessToken"]) == "south-west"


@pytest.mark.feature("S1-32")
async def test_a_changed_password_ends_the_other_sessions(world: World) -> None:
    here, there = await session(world, "south"), await session(world, "south")

    async def change(current: str, new: str) -> list[dict[str, str]]:
        answer = await ask(
            world, "agent", here["accessToken"], CHANGE_PASSWORD, {"input": {"current": current, "new": new}}
        )
        errors: list[dict[str, str]] = answer["data"]["changePassword"]["errors"]
        return errors

    assert await change("wrong", NEW_PASSWORD) == [{"code": "WRONG_CREDENTIALS", "field": "current"}]
    assert await change(PASSWORD, "short") == [{"code": "WEAK_PASSWORD", "field": "new"}]
    assert await who(world, "agent", there["accessToken"]) == "south"

    assert await change(PASSWORD, NEW_PASSWORD) == []
    assert await who(world, "agent", here["accessToken"]) == "south"
    assert await who(world, "agent", there["accessToken"]) is None
    assert await refusal(world, "south", PASSWORD, "agent") == "WRONG_CREDENTIALS"
    await session(world, "south", NEW_PASSWORD)
    (row,) = await world.sql(
        "SELECT arguments::text AS said FROM operation_record WHERE mutation = 'change_password' "
        "AND outcome = 'SUCCEEDED'"
    )
    assert PASSWORD not in row["said"]
    assert NEW_PASSWORD not in row["said"]


@pytest.mark.feature("S0-01")
async def test_an_administrator_forces_somebody_out(world: World) -> None:
    tokens = [await session(world, "south") for _ in range(2)]
    south = await account_id(world, "south")
    for stranger in ("north", "south-west", "acme"):
        assert await outcome(world, stranger, REVOKE, {"account": south}) == (
            {"done": False, "errors": [{"code": "NOT_FOUND"}]},
            ["NOT_FOUND"],
        )
    assert (await outcome(world, "sales", REVOKE, {"account": south}))[1] == ["FORBIDDEN"]
    assert [await who(world, "agent", t["accessToken"]) for t in tokens] == ["south"] * 2

    assert (await outcome(world, "admin", REVOKE, {"account": south}))[1] == []
    assert [await who(world, "agent", t["accessToken"]) for t in tokens] == [None] * 2


@pytest.mark.feature("S1-32")
async def test_a_disabled_account_is_out_from_its_next_request_on(world: World) -> None:
    token = (await session(world, "south-west"))["accessToken"]
    west = {"account": await account_id(world, "south-west")}
    for stranger in ("north", "acme"):
        assert (await outcome(world, stranger, SET_STATUS, {**west, "status": "DISABLED"}))[1] == ["NOT_FOUND"]
    assert await who(world, "agent", token) == "south-west"

    payload, _ = await outcome(world, "south", SET_STATUS, {**west, "status": "DISABLED"})
    assert payload == {"account": {"status": "DISABLED"}, "errors": []}
    assert await who(world, "agent", token) is None
    assert await refusal(world, "south-west", PASSWORD, "agent") == "WRONG_CREDENTIALS"
    await outcome(world, "south", SET_STATUS, {**west, "status": "ACTIVE"})
    await session(world, "south-west")
    # nobody can lock themselves out
    own = {"account": await account_id(world, "south"), "status": "DISABLED"}
    assert (await outcome(world, "south", SET_STATUS, own))[1] == ["INVALID"]


async def test_a_suspended_tenants_staff_and_systems_are_out_from_their_next_request_on(world: World) -> None:
    token = (await session(world, "south"))["accessToken"]
    assert (await signed(world, "south")).status_code == 200
    south = {"id": world.id("south")}
    assert (await outcome(world, "sales", SET_TENANT, {"input": {**south, "status": "SUSPENDED"}}))[1] == ["FORBIDDEN"]
    assert (await outcome(world, "admin", SET_TENANT, {"input": {**south, "status": "SUSPENDED"}}))[1] == []
    assert await who(world, "agent", token) is None
    assert await refusal(world, "south", PASSWORD, "agent") == "WRONG_CREDENTIALS"
    assert (await signed(world, "south")).status_code == 401
    assert (await outcome(world, "admin", SET_TENANT, {"input": {**south, "status": "ACTIVE"}}))[1] == []
    await session(world, "south")


# -- tokens -------------------------------------------------------------------------------------------------------


@pytest.mark.feature("S0-01", "S0-19")
async def test_a_token_holds_at_its_own_door(world: World) -> None:
    for account in ("admin", "south"):
        own = ACTORS[account].door
        token = (await session(world, account))["accessToken"]
        for door in ("admin", "agent", "merchant", "partner"):
            assert await who(world, door, token) == (account if door == own else None)


async def test_a_token_that_was_not_signed_here_is_worth_nothing(world: World) -> None:
    token = await world.token("south")
    signing = world.client.application.runtime.keys.signing
    claims = jwt.decode(token, signing, algorithms=["HS256"], audience="agent")
    header, body, signature = token.split(".")
    admin = (await session(world, "admin"))["accessToken"]

    def encoded(value: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    foreign = jwt.decode(admin, options={"verify_signature": False})
    wrong = {
        "another account": f"{header}.{encoded({**claims, 'sub': foreign['sub']})}.{signature}",
        "another session": f"{header}.{encoded({**claims, 'sid': foreign['sid']})}.{signature}",
        "a later end": f"{header}.{encoded({**claims, 'exp': claims['exp'] + 3600})}.{signature}",
        "no signature": f"{header}.{body}.",
        "alg none": f"{encoded({'alg': 'none', 'typ': 'JWT'})}.{body}.",
        "alg None, signed": f"{encoded({'alg': 'None', 'typ': 'JWT'})}.{body}.{signature}",
        "another key": jwt.encode(claims, "x" * 32, algorithm="HS256"),
        "another algorithm": jwt.encode(claims, signing * 2, algorithm="HS512"),
        "expired": jwt.encode({**claims, "exp": int(time.time()) - 1}, signing, algorithm="HS256"),
        # signed here, and still of no use: account and session do not belong together
        "a mix": jwt.encode({**claims, "sub": foreign["sub"]}, signing, algorithm="HS256"),
        "all doors": jwt.encode({**claims, "aud": "admin"}, signing, algorithm="HS256"),
    }
    assert await who(world, "agent", token) == "south"
    for what, given in wrong.items():
        assert await who(world, "agent", given) is None, what
        assert await who(world, "admin", given) is None, what


# -- the login log ------------------------------------------------------------------------------------------------

RECORDS = """query($filter: LoginRecordFilter) { loginRecords(first: 100, filter: $filter, orderBy: {field: ID}) {
    totalCount nodes { login door method outcome ip } } }"""


@pytest.mark.feature("S1-28")
async def test_every_try_to_log_in_stands_in_the_log(world: World) -> None:
    await session(world, "south")
    await refusal(world, "south", "wrong", "agent")
    await refusal(world, "south", PASSWORD, "admin")
    await refusal(world, "nobody «else»", PASSWORD, "agent")
    await world.sql("UPDATE staff_account SET status = 'DISABLED' WHERE login = 'south-west'")
    await refusal(world, "south-west", PASSWORD, "agent")
    await world.sql("UPDATE staff_account SET locked_until = now() + interval '1 hour' WHERE login = 'north'")
    await refusal(world, "north", PASSWORD, "agent")
    tried = [
        ("south", "agent", "SUCCEEDED"),
        ("south", "agent", "WRONG_CREDENTIALS"),
        ("south", "admin", "WRONG_DOOR"),
        ("nobody «else»", "agent", "WRONG_CREDENTIALS"),
        ("south-west", "agent", "DISABLED"),
        ("north", "agent", "LOCKED"),
    ]

    async def found(account: str, **filter: Any) -> list[tuple[str, str, str]]:
        nodes = (await world.data(account, RECORDS, {"filter": filter}))["loginRecords"]["nodes"]
        assert {(n["method"], n["ip"]) for n in nodes if "«" not in n["login"]} <= {("PASSWORD", "127.0.0.9")}
        return [(n["login"], n["door"], n["outcome"]) for n in nodes]

    at = {"gte": "2026-01-01T00:00:00Z"}
    everything = await found("admin", at=at)
    assert [entry for entry in everything if entry in tried and entry[0] != "admin"] == tried
    assert await found("admin", login={"eq": "south"}) == tried[:3]
    assert await found("admin", login={"eq": "south"}, outcome={"eq": "WRONG_DOOR"}) == tried[2:3]
    assert await found("admin", outcome={"in": ["DISABLED", "LOCKED"]}) == tried[4:]
    assert await found("admin", login={"eq": "south"}, door={"eq": "agent"}) == tried[:2]
    assert await found("admin", login={"eq": "south"}, at={"lt": "2020-01-01T00:00:00Z"}) == []


@pytest.mark.feature("S1-28")
async def test_a_tenant_sees_its_own_branch_in_the_login_log(world: World) -> None:
    for account in ("south", "south-west", "coast"):
        await session(world, account)
    await refusal(world, "nobody", PASSWORD, "agent")
    nodes = (await world.data("south", RECORDS, {}))["loginRecords"]["nodes"]
    assert {n["login"] for n in nodes} == {"south", "south-west", mark("south"), mark("south-west")}
    nodes = (await world.data("south", RECORDS, {"filter": {"login": {"eq": "coast"}}}))["loginRecords"]["nodes"]
    assert nodes == []
    # the platform's staff without that task see nobody's but their own
    answer = await world.run("finance", RECORDS, {})
    assert all("«" not in n["login"] for n in answer["data"]["loginRecords"]["nodes"])


# -- departments --------------------------------------------------------------------------------------------------

CREATE_DEPARTMENT = """mutation($input: DepartmentInput!) { createDepartment(input: $input) {
    department { id name position status parent { name } tenant { id } } errors { code field } } }"""


@pytest.mark.feature("S1-32")
async def test_departments_form_a_tree_within_their_tenant(world: World) -> None:
    async def create(account: str, name: str, parent: str | None = None, **more: Any) -> tuple[Any, list[str]]:
        variables = {"input": {"name": name, "parent": parent, **more}}
        payload, codes = await outcome(world, account, CREATE_DEPARTMENT, variables)
        return (payload or {}).get("department"), codes

    sales, codes = await create("south", "Sales")
    assert codes == []
    made, codes = await create("south", " East ", sales["id"], position=3)
    assert codes == []
    assert {**made, "id": None} == {
        "id": None,
        "name": "East",
        "position": 3,
        "status": "ACTIVE",
        "parent": {"name": "Sales"},
        "tenant": {"id": world.id("south")},
    }

    before = await world.sql("SELECT count(*) FROM department")
    assert await create("south", "Sales") == (None, ["TAKEN"])
    assert await create("south", "East", sales["id"]) == (None, ["TAKEN"])
    assert await create("south", " ") == (None, ["REQUIRED"])
    assert await create("south", "Low", position=-1) == (None, ["INVALID"])
    assert await create("south", "Nowhere", encode_id("dep", 999_999)) == (None, ["NOT_FOUND"])
    assert await create("south", "Wrong", world.id("south")) == (None, ["INVALID_ID"])
    # neither a sibling's, nor a child's or a parent's department can be the one above
    for other in ("north", "south-west", "acme"):
        assert await create(other, f"Below {other}", sales["id"]) == (None, ["NOT_FOUND"])
    (west,) = await world.sql("SELECT id FROM department WHERE name = $1", f"Department {mark('south-west')}")
    assert await create("south", "Above", encode_id("dep", west["id"])) == (None, ["NOT_FOUND"])
    assert (await create("finance", "No"))[1] == ["FORBIDDEN"]
    assert await world.sql("SELECT count(*) FROM department") == before

    # the same name elsewhere is another department
    assert (await create("north", "Sales"))[1] == []
    assert (await create("south", "Sales", sales["id"]))[1] == []


@pytest.mark.feature("S1-32")
async def test_two_departments_of_one_name_at_once_are_one(world: World) -> None:
    results = await asyncio.gather(
        *(outcome(world, "south", CREATE_DEPARTMENT, {"input": {"name": "Twin"}}) for _ in range(4))
    )
    assert sorted(codes for _, codes in results) == [[], ["TAKEN"], ["TAKEN"], ["TAKEN"]]


# -- staff --------------------------------------------------------------------------------------------------------


@pytest.mark.feature("S1-32", "S0-01", "S0-19")
async def test_new_staff_log_in_with_what_they_were_given(world: World) -> None:
    department, _ = await outcome(world, "south", CREATE_DEPARTMENT, {"input": {"name": "Desk"}})
    assert department is not None
    input = staff(
        "clerk", "agent_admin", email="c@example.com", phone="13800001111", department=department["department"]["id"]
    )
    payload, codes = await outcome(world, "south", CREATE_STAFF, input)
    assert (codes, payload and {**payload["account"], "id": None}) == (
        [],
        {
            "id": None,
            "login": "clerk",
            "name": "clerk",
            "status": "ACTIVE",
            "phone": "138****1111",
            "tenant": {"id": world.id("south")},
            "department": {"name": "Desk"},
            "roles": {"nodes": [{"role": "agent_admin"}]},
        },
    )
    token = (await session(world, "clerk", NEW_PASSWORD, "agent"))["accessToken"]
    assert (await ask(world, "agent", token, COUNT))["data"]["simCards"]["totalCount"] == 12
    (row,) = await world.sql("SELECT password_hash FROM staff_account WHERE login = 'clerk'")
    assert row["password_hash"].startswith("$argon2id$")

    payload, codes = await outcome(world, "admin", CREATE_STAFF, staff("cashier", "platform_finance"))
    assert codes == []
    await session(world, "cashier", NEW_PASSWORD, "admin")
    # a disabled department's members are out as well
    await world.sql("UPDATE department SET status = 'DISABLED' WHERE name = 'Desk'")
    await world.client.application.runtime.access.changed()
    assert await who(world, "agent", token) is None


@pytest.mark.feature("S1-32")
async def test_what_makes_no_account(world: World) -> None:
    before = await world.sql("SELECT count(*) FROM staff_account")

    async def refused(account: str, input: dict[str, Any]) -> tuple[str, str]:
        answer = await world.run(account, CREATE_STAFF, input)
        payload = answer["data"]["createStaffAccount"]
        assert payload["account"] is None
        (error,) = payload["errors"]
        return error["code"], error["field"]

    agent = "agent_admin"
    (west,) = await world.sql("SELECT id FROM department WHERE name = $1", f"Department {mark('south-west')}")
    assert await refused("south", staff("south", agent)) == ("TAKEN", "login")
    assert await refused("south", staff("NORTH", agent)) == ("TAKEN", "login")
    assert await refused("south", staff(" ", agent)) == ("REQUIRED", "login")
    assert await refused("south", staff("x" * 65, agent)) == ("INVALID", "login")
    assert await refused("south", staff("new", agent, name=" ")) == ("REQUIRED", "name")
    assert await refused("south", staff("new", agent, email="nowhere")) == ("INVALID_EMAIL", "email")
    assert await refused("south", staff("new", agent, phone="call me")) == ("INVALID_PHONE", "phone")
    assert await refused("south", staff("new", agent, department=encode_id("dep", west["id"]))) == (
        "NOT_FOUND",
        "department",
    )
    for weak in ("short 1", "onlyletters", "1234567890", ""):
        assert await refused("south", staff("new", agent, password=weak)) == ("WEAK_PASSWORD", "password")
    assert await refused("south", staff("new", agent, password="a1" * 501)) == ("INVALID", "password")
    assert await world.sql("SELECT count(*) FROM staff_account") == before


async def test_one_name_asked_for_at_once_goes_to_one(world: World) -> None:
    asked = [("south", "agent_admin"), ("north", "agent_admin"), ("acme", "enterprise_admin"), ("south", "agent_admin")]
    results = await asyncio.gather(
        *(outcome(world, account, CREATE_STAFF, staff("wanted", role)) for account, role in asked)
    )
    assert sorted(codes for _, codes in results) == [[], ["TAKEN"], ["TAKEN"], ["TAKEN"]]
    assert len(await world.sql("SELECT id FROM staff_account WHERE login = 'wanted'")) == 1


@pytest.mark.feature("S0-01", "S0-19")
async def test_nobody_grants_what_they_do_not_hold(world: World) -> None:
    before = await world.sql("SELECT account_id, role FROM role_assignment ORDER BY account_id, role")
    platform = ["platform_admin", "platform_operations", "platform_sales", "platform_finance"]
    others = ["enterprise_admin", "merchant_admin", "anybody", "staff", "customer_admin", "role:999", "role:", ""]
    for role in platform + others:
        for roles in ([role], ["agent_admin", role]):
            assert (await outcome(world, "south", CREATE_STAFF, staff("new", *roles)))[1] == ["ROLE_NOT_GRANTABLE"]
            input = {"input": {"account": await account_id(world, "south"), "roles": roles}}
            expected = ["ROLE_NOT_GRANTABLE"]
            assert (await outcome(world, "south", SET_ROLES, input))[1] == expected, roles
    # a tenant of another branch, above or beside, does not exist for an agent
    for tenant in ("north", "north-east", "acme", "platform"):
        input = staff("new", "agent_admin", tenant=world.id(tenant))
        assert (await outcome(world, "south", CREATE_STAFF, input))[1] == ["NOT_FOUND"]
    for login in ("north", "acme", "admin"):
        input = {"input": {"account": await account_id(world, login), "roles": ["agent_admin"]}}
        assert (await outcome(world, "south", SET_ROLES, input))[1] == ["NOT_FOUND"]
    # at the platform only administrators appoint
    for account in ("sales", "finance", "operations"):
        assert (await outcome(world, account, CREATE_STAFF, staff("new", "platform_admin")))[1] == ["FORBIDDEN"]
        input = {"input": {"account": await account_id(world, account), "roles": ["platform_admin"]}}
        assert (await outcome(world, account, SET_ROLES, input))[1] == ["FORBIDDEN"]
    # no role of the platform for a customer's staff, and none of a customer's for the platform's
    input = staff("new", "platform_admin", tenant=world.id("south"))
    assert (await outcome(world, "admin", CREATE_STAFF, input))[1] == ["ROLE_NOT_GRANTABLE"]
    assert (await outcome(world, "admin", CREATE_STAFF, staff("new", "agent_admin")))[1] == ["ROLE_NOT_GRANTABLE"]
    assert await world.sql("SELECT account_id, role FROM role_assignment ORDER BY account_id, role") == before
    assert await world.sql("SELECT id FROM staff_account WHERE login = 'new'") == []


@pytest.mark.feature("S0-01", "S0-19")
async def test_a_changed_role_holds_from_the_next_request_on(world: World) -> None:
    finance = await account_id(world, "finance")
    make = (CREATE_ENTERPRISE, {"input": {"profile": {"name": "Made"}}})
    assert (await outcome(world, "finance", *make))[1] == ["FORBIDDEN"]
    payload, _ = await outcome(world, "admin", SET_ROLES, {"input": {"account": finance, "roles": ["platform_sales"]}})
    assert payload == {"account": {"roles": {"nodes": [{"role": "platform_sales"}]}}, "errors": []}
    assert (await outcome(world, "finance", *make))[1] == []
    await outcome(world, "admin", SET_ROLES, {"input": {"account": finance, "roles": []}})
    assert (await outcome(world, "finance", *make))[1] == ["FORBIDDEN"]
    assert await world.codes("finance", COUNT) == ["FORBIDDEN"]

    # an agent appoints below itself
    west = staff("deputy", "agent_admin", tenant=world.id("south-west"))
    assert (await outcome(world, "south", CREATE_STAFF, west))[1] == []
    token = (await session(world, "deputy", NEW_PASSWORD, "agent"))["accessToken"]
    assert (await ask(world, "agent", token, COUNT))["data"]["simCards"]["totalCount"] == 6


# -- API keys -----------------------------------------------------------------------------------------------------

ISSUE = """mutation($input: IssueApiKeyInput!) { issueApiKey(input: $input) {
    apiKey { id key name status expiresAt tenant { id } } secret errors { code field } } }"""
ROTATE = "mutation($id: ID!) { rotateApiKey(id: $id, overlapHours: 0) { apiKey { id } secret errors { code } } }"
END = "mutation($id: ID!) { revokeApiKey(id: $id) { apiKey { status } secret errors { code } } }"
EXTEND = """mutation($input: ExtendApiKeyInput!) { extendApiKey(input: $input) {
    apiKey { expiresAt } secret errors { code } } }"""
KEYS = """query($key: String!) { apiKeys(first: 5, filter: {key: {eq: $key}}) {
    nodes { id name status lastUsedAt } } }"""


async def signed(
    world: World,
    tenant: str | None = None,
    query: str = COUNT,
    *,
    key: str | None = None,
    secret: str = PARTNER_SECRET,
    door: str = "partner",
    at: float | None = None,
    nonce: str | None = None,
    signed_path: str | None = None,
    sent: bytes | None = None,
    method: str = "POST",
    params: dict[str, str] | None = None,
    content_type: str = "application/json",
) -> httpx.Response:
    """A request as a partner's system signs it: five lines, HMAC-SHA256, in hexadecimal."""
    body = b"" if method == "GET" else json.dumps({"query": query}).encode()
    timestamp, nonce = str(int(at or time.time())), nonce or f"a-nonce-{next(_numbers):04d}"
    request = world.client.http.build_request(
        method, f"/{door}/graphql", params=params, content=body if sent is None else sent
    )
    path = signed_path or request.url.raw_path.decode()
    text = "\n".join([method, path, timestamp, nonce, hashlib.sha256(body).hexdigest()])
    signature = hmac.new(secret.encode(), text.encode(), "sha256").hexdigest()
    request.headers["content-type"] = content_type
    request.headers["authorization"] = (
        f"TRELLIS-HMAC-SHA256 Credential={key or f'tk_{tenant}'}, Timestamp={timestamp}, Nonce={nonce}, "
        f"Signature={signature}"
    )
    return await world.client.http.send(request)


async def issued(world: World, tenant: str = "south", **more: Any) -> dict[str, Any]:
    input = {"tenant": world.id(tenant), "name": "ERP", "validDays": 30, **more}
    payload, codes = await outcome(world, "operations", ISSUE, {"input": input})
    assert codes == []
    assert payload is not None
    return payload


@pytest.mark.feature("S0-18", "S0-54")
async def test_a_keys_secret_is_shown_once_and_stored_encrypted(world: World) -> None:
    made = await issued(world)
    key, secret = made["apiKey"]["key"], made["secret"]
    assert (made["apiKey"]["name"], made["apiKey"]["status"], made["apiKey"]["tenant"]) == (
        "ERP",
        "ACTIVE",
        {"id": world.id("south")},
    )
    assert len(secret) >= 40
    (row,) = await world.sql(
        "SELECT to_jsonb(a)::text AS whole, secret_encrypted, roles, expires_at - now() AS valid "
        "FROM api_key a WHERE key = $1",
        key,
    )
    assert secret not in row["whole"]
    assert secret.encode() not in row["secret_encrypted"]
    assert secret.encode().hex() not in row["whole"]
    assert row["roles"] == ["partner"]
    assert row["valid"].days == 29
    said = await world.sql("SELECT string_agg(o::text, '') AS said FROM operation_record o")
    assert secret not in said[0]["said"]
    assert "secret" not in {
        f["name"]
        for f in (await world.data("admin", '{ __type(name: "ApiKey") { fields { name } } }'))["__type"]["fields"]
    }

    answer = await signed(world, key=key, secret=secret)
    assert answer.json() == {"data": {"simCards": {"totalCount": 12}}}


@pytest.mark.feature("S0-18")
async def test_platform_staff_manage_keys_and_customers_read_their_own(world: World) -> None:
    made = await issued(world)
    id = made["apiKey"]["id"]
    before = await world.sql("SELECT id, status, expires_at, secret_encrypted FROM api_key ORDER BY id")
    for account in ("sales", "finance", "south", "acme", "north"):
        for mutation, variables in (
            (ISSUE, {"input": {"name": "Mine"}}),
            (ROTATE, {"id": id}),
            (END, {"id": id}),
            (EXTEND, {"input": {"id": id, "validDays": 9}}),
        ):
            assert (await outcome(world, account, mutation, variables))[1] == ["FORBIDDEN"]
    assert await world.sql("SELECT id, status, expires_at, secret_encrypted FROM api_key ORDER BY id") == before

    key = {"key": made["apiKey"]["key"]}
    (seen,) = (await world.data("south", KEYS, key))["apiKeys"]["nodes"]
    assert (seen["id"], seen["name"]) == (id, "ERP")
    for stranger in ("north", "south-west", "acme"):
        assert (await world.data(stranger, KEYS, key))["apiKeys"]["nodes"] == []
    for account in ("sales", "finance"):
        assert await world.codes(account, KEYS, key) == ["FORBIDDEN"]


@pytest.mark.feature("S0-18", "S0-54")
async def test_a_key_is_rotated_extended_and_revoked(world: World) -> None:
    made = await issued(world, validDays=1)
    id, key, old = made["apiKey"]["id"], made["apiKey"]["key"], made["secret"]
    assert (await signed(world, key=key, secret=old)).status_code == 200

    payload, _ = await outcome(world, "operations", ROTATE, {"id": id})
    assert payload is not None
    new = payload["secret"]
    assert new != old
    assert (await signed(world, key=key, secret=old)).status_code == 401
    assert (await signed(world, key=key, secret=new)).status_code == 200

    await world.sql("UPDATE api_key SET expires_at = now() - interval '1 second' WHERE key = $1", key)
    assert (await signed(world, key=key, secret=new)).status_code == 401
    for days in (0, -1, 3651):
        assert (await outcome(world, "operations", EXTEND, {"input": {"id": id, "validDays": days}}))[1] == ["INVALID"]
    payload, _ = await outcome(world, "operations", EXTEND, {"input": {"id": id, "validDays": 90}})
    assert payload is not None
    assert payload["secret"] is None
    (row,) = await world.sql("SELECT (expires_at - now()) AS valid FROM api_key WHERE key = $1", key)
    assert row["valid"].days == 89
    assert (await signed(world, key=key, secret=new)).status_code == 200

    payload, _ = await outcome(world, "operations", END, {"id": id})
    assert payload == {"apiKey": {"status": "REVOKED"}, "secret": None, "errors": []}
    assert (await signed(world, key=key, secret=new)).status_code == 401
    # what was revoked stays so
    await outcome(world, "operations", EXTEND, {"input": {"id": id, "validDays": 90}})
    assert (await signed(world, key=key, secret=new)).status_code == 401
    for mutation in (ROTATE, END):
        missing = {"id": encode_id("key", 999_999)}
        assert (await outcome(world, "operations", mutation, missing))[1] == ["NOT_FOUND"]


@pytest.mark.feature("S0-54")
async def test_a_request_that_is_not_signed_as_it_was_sent_is_refused(world: World) -> None:
    body = json.dumps({"query": "{ simCards(first: 1) { nodes { id } } }"}).encode()
    wrong = {
        "another secret": await signed(world, "south", secret="guessed"),
        "another's secret": await signed(world, key="tk_nobody"),
        "too old": await signed(world, "south", at=time.time() - 301),
        "from the future": await signed(world, "south", at=time.time() + 302),
        "another body": await signed(world, "south", sent=body),
        "another path": await signed(world, "south", signed_path="/agent/graphql"),
        "another door": await signed(world, "south", door="agent"),
        "a short nonce": await signed(world, "south", nonce="1234567"),
        "a long nonce": await signed(world, "south", nonce="x" * 65),
        "an upload": await signed(world, "south", sent=b"--x--", content_type="multipart/form-data; boundary=x"),
        "more query than signed": await signed(
            world, "south", method="GET", params={"query": COUNT}, signed_path="/partner/graphql"
        ),
    }
    for what, answer in wrong.items():
        assert answer.status_code == 401, what
        assert answer.json()["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED", what
    assert (await world.data("admin", KEYS, {"key": "tk_south"}))["apiKeys"]["nodes"][0]["lastUsedAt"] is None

    for header in ("TRELLIS-HMAC-SHA256", "TRELLIS-HMAC-SHA256 Credential=tk_south", "Bearer tk_south"):
        answer = await world.client.http.post(
            "/partner/graphql", json={"query": COUNT}, headers={"authorization": header}
        )
        assert answer.status_code == 401

    for at in (time.time() - 290, time.time() + 290):
        assert (await signed(world, "south", at=at)).status_code == 200
    answer = await signed(world, "south", method="GET", params={"query": COUNT})
    assert answer.json() == {"data": {"simCards": {"totalCount": 12}}}


@pytest.mark.feature("S0-54")
async def test_a_signed_request_is_heard_once(world: World) -> None:
    assert (await signed(world, "south", nonce="once-only")).status_code == 200
    assert (await signed(world, "south", nonce="once-only")).status_code == 401
    # each key has its own
    assert (await signed(world, "north", nonce="once-only")).status_code == 200
    statuses = await asyncio.gather(*(signed(world, "south", nonce="all at once") for _ in range(5)))
    assert sorted(answer.status_code for answer in statuses) == [401] * 5
    statuses = await asyncio.gather(*(signed(world, "south", nonce="all-at-once") for _ in range(5)))
    assert sorted(answer.status_code for answer in statuses) == [200] + [401] * 4
    # a wrong signature uses no nonce up
    assert (await signed(world, "south", nonce="guarded-nonce", secret="guessed")).status_code == 401
    assert (await signed(world, "south", nonce="guarded-nonce")).status_code == 200


@pytest.mark.feature("S0-18")
async def test_when_a_key_was_last_used_is_seen(world: World) -> None:
    before = time.time()
    await signed(world, "south")
    (seen,) = (await world.data("operations", KEYS, {"key": "tk_south"}))["apiKeys"]["nodes"]
    assert seen["lastUsedAt"][:10] == time.strftime("%Y-%m-%d", time.gmtime(before))
    (other,) = (await world.data("operations", KEYS, {"key": "tk_north"}))["apiKeys"]["nodes"]
    assert other["lastUsedAt"] is None


@pytest.mark.feature("S0-54")
async def test_a_partner_sees_its_own_branch_through_its_roles(world: World) -> None:
    query = "{ simCards(first: 100) { totalCount nodes { displayIccid status } } }"
    for tenant in ("south", "south-west", "coast", "north", "acme"):
        answer = (await signed(world, tenant, query)).json()["data"]["simCards"]
        assert answer["totalCount"] == 6 * len(world.below(tenant))
    foreign = world.card_ids("north")[0]
    answer = await signed(world, "south", f'{{ simCard(id: "{foreign}") {{ status }} }}')
    assert answer.json() == {"data": {"simCard": None}}
    for forbidden in (
        "{ staffAccounts(first: 1) { nodes { login } } }",
        "{ simCards(first: 1) { nodes { iccid } } }",
        "{ simCards(first: 1) { nodes { remark } } }",
        'mutation { createDepartment(input: {name: "Made"}) { errors { code } } }',
    ):
        answer = await signed(world, "south", forbidden)
        assert {error["extensions"]["code"] for error in answer.json()["errors"]} == {"FORBIDDEN"}


@pytest.mark.feature("S0-18", "S0-54")
async def test_roles_of_a_key_only_narrow(world: World) -> None:
    await world.sql("UPDATE api_key SET roles = '{platform_admin,agent_admin,partner}' WHERE key = 'tk_south'")
    answer = await signed(world, "south", "{ viewer { roles } }")
    assert answer.json() == {"data": {"viewer": {"roles": ["partner"]}}}
    assert (await signed(world, "south", "{ simCards(first: 1) { nodes { iccid } } }")).status_code == 403
    await world.sql("UPDATE api_key SET roles = '{}' WHERE key = 'tk_south'")
    assert (await signed(world, "south")).status_code == 403

    before = await world.sql("SELECT count(*) FROM api_key")
    for account, tenant, roles in (
        ("operations", "south", ["platform_admin"]),
        ("admin", "south", ["platform_admin"]),
        ("operations", "south", ["agent_admin"]),
        ("operations", "south", ["partner", "role:7"]),
        ("operations", "platform", ["partner"]),
    ):
        input = {"tenant": world.id(tenant), "name": "Too much", "roles": roles}
        assert (await outcome(world, account, ISSUE, {"input": input}))[1] == ["ROLE_NOT_GRANTABLE"]
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"name": ""}, "REQUIRED"),
        ({"validDays": 0}, "INVALID"),
        ({"tenant": "ten_zz"}, "INVALID_ID"),
    ]
    for more, code in wrong:
        given: dict[str, Any] = {"tenant": world.id("south"), "name": "Wrong", **more}
        assert (await outcome(world, "operations", ISSUE, {"input": given}))[1] == [code]
    assert await world.sql("SELECT count(*) FROM api_key") == before
