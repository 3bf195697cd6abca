"""Customers and agents: taking them on, finding them, keeping their profiles, and moving branches of the tree."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest

from planner.ids import decode_id
from tests.support.world import PASSWORD, World

PROFILE = """id kind name level status contactName phone email timeZone currency remark parent { id }
    ... on Enterprise { businessLicence landline creditLimit availableAmount }
    ... on Agent { agentLevel totalIncome incomeBalance }"""
PAYLOAD = f"{{ tenant {{ {PROFILE} }} errors {{ code field }} }}"
CREATE_ENTERPRISE = f"mutation($input: CreateEnterpriseInput!) {{ createEnterprise(input: $input) {PAYLOAD} }}"
CREATE_AGENT = f"mutation($input: CreateAgentInput!) {{ createAgent(input: $input) {PAYLOAD} }}"
UPDATE = f"mutation($input: UpdateTenantInput!) {{ updateTenant(input: $input) {PAYLOAD} }}"
SET_STATUS = f"mutation($input: SetTenantStatusInput!) {{ setTenantStatus(input: $input) {PAYLOAD} }}"
MOVE = f"mutation($input: MoveTenantInput!) {{ moveTenant(input: $input) {PAYLOAD} }}"
TENANT = f"query($id: ID!) {{ tenant(id: $id) {{ {PROFILE} staff {{ nodes {{ login }} }} }} }}"
VIEWER = f"{{ viewer {{ roles account {{ login name }} tenant {{ {PROFILE} }} }} }}"

REACHED_FROM = """
WITH RECURSIVE above AS (
    SELECT id AS tenant_id, id AS ancestor_id, 0 AS depth FROM tenant
    UNION ALL
    SELECT a.tenant_id, t.parent_id, a.depth + 1 FROM above a JOIN tenant t ON t.id = a.ancestor_id
    WHERE t.parent_id IS NOT NULL
)
SELECT tenant_id, ancestor_id, depth FROM above
"""


def account(login: str, password: str = PASSWORD) -> dict[str, str]:
    return {"login": login, "password": password, "name": f"{login}'s owner"}


async def ask(world: World, login: str, query: str, variables: dict[str, Any] | None = None) -> dict[str, Any]:
    """The data of an operation as an account that a test has made, at the customers' door."""
    token = await world.client.token("agent", login, PASSWORD)
    answer = (await world.client.post("agent", query, variables, token=token)).json()
    assert "errors" not in answer, answer
    found: dict[str, Any] = answer["data"]
    return found


async def tree(world: World) -> list[asyncpg.Record]:
    """Everything that a refused change must leave as it was."""
    return await world.sql(
        """SELECT t.*, (SELECT count(*) FROM staff_account) AS accounts,
                  (SELECT count(*) FROM tenant_closure) AS closure
           FROM tenant t ORDER BY id"""
    )


async def assert_tree_is_whole(world: World) -> None:
    """Closure, paths and levels all say what the parents say."""
    told = {tuple(row) for row in await world.sql("SELECT tenant_id, ancestor_id, depth FROM tenant_closure")}
    assert told == {tuple(row) for row in await world.sql(REACHED_FROM)}
    astray = await world.sql(
        """SELECT t.id, t.path, p.path AS above FROM tenant t JOIN tenant p ON p.id = t.parent_id
           WHERE left(t.path, -5) <> p.path OR length(t.path) <> length(p.path) + 5 OR t.level <> p.level + 1
              OR (t.kind = 'AGENT' AND t.agent_level <> t.level)"""
    )
    assert astray == []


@pytest.mark.feature("S0-11", "S0-34", "S0-36")
@pytest.mark.parametrize("caller", ["admin", "operations", "sales"])
async def test_the_platform_takes_on_an_enterprise(world: World, caller: str) -> None:
    profile = {
        "name": "  Harbour Logistics ",
        "contactName": "Chen",
        "phone": "0571-8888 1234",
        "email": "it@harbour.example",
        "timeZone": "Asia/Urumqi",
        "remark": "pays by the quarter",
    }
    input = {
        "profile": profile,
        "businessLicence": "91330100MA27",
        "landline": "0571 8888",
        "account": account("harbour"),
    }
    payload = (await world.data(caller, CREATE_ENTERPRISE, {"input": input}))["createEnterprise"]
    assert payload["errors"] == []
    id = payload["tenant"].pop("id")
    expected = {
        "kind": "ENTERPRISE",
        "name": "Harbour Logistics",
        "level": 1,
        "status": "ACTIVE",
        "contactName": "Chen",
        "phone": "0571-8888 1234",
        "email": "it@harbour.example",
        "timeZone": "Asia/Urumqi",
        "currency": "CNY",
        "remark": "pays by the quarter",
        "parent": {"id": world.id("platform")},
        "businessLicence": "91330100MA27",
        "landline": "0571 8888",
        "creditLimit": "0.0000",
        "availableAmount": "0.0000",
    }
    assert payload["tenant"] == expected
    read = (await world.data("finance", "query($id: ID!) { tenant(id: $id) { name } }", {"id": id}))["tenant"]
    assert read == {"name": "Harbour Logistics"}

    # the enterprise comes in with its first account and knows itself, but not the platform nor its remark on it
    found = (await ask(world, "harbour", VIEWER.replace(" remark ", " ")))["viewer"]
    assert found == {
        "roles": ["enterprise_admin"],
        "account": {"login": "harbour", "name": "harbour's owner"},
        "tenant": {"id": id, **{k: v for k, v in expected.items() if k != "remark"}, "parent": None},
    }
    [stored] = await world.sql("SELECT password_hash FROM staff_account WHERE login = 'harbour'")
    assert stored["password_hash"].startswith("$argon2id$")
    assert PASSWORD not in stored["password_hash"]
    await assert_tree_is_whole(world)


@pytest.mark.feature("S0-11")
async def test_nobody_else_takes_on_enterprises(world: World) -> None:
    before = await tree(world)
    input = {"profile": {"name": "Harbour"}, "account": account("harbour")}
    for caller in ("finance", "acme", "north", "coast"):
        assert await world.codes(caller, CREATE_ENTERPRISE, {"input": input}) == ["FORBIDDEN"], caller
    assert await tree(world) == before


@pytest.mark.feature("S0-11", "S0-34")
@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"profile": {"name": "  "}}, ("REQUIRED", "profile.name")),
        ({"profile": {"name": "x" * 201}}, ("INVALID", "profile.name")),
        ({"profile": {"name": "Harbour", "email": "nobody"}}, ("INVALID_EMAIL", "profile.email")),
        ({"profile": {"name": "Harbour", "phone": "ring me"}}, ("INVALID_PHONE", "profile.phone")),
        ({"profile": {"name": "Harbour", "timeZone": "Moon/Sea"}}, ("INVALID_TIME_ZONE", "profile.timeZone")),
        ({"profile": {"name": "Harbour", "timeZone": "localtime"}}, ("INVALID_TIME_ZONE", "profile.timeZone")),
        ({"landline": "none"}, ("INVALID_PHONE", "landline")),
        ({"account": account("harbour", "short1")}, ("WEAK_PASSWORD", "password")),
        ({"account": account("harbour", "onlyletters")}, ("WEAK_PASSWORD", "password")),
        ({"account": account(" ")}, ("REQUIRED", "login")),
        ({"account": account("NORTH")}, ("TAKEN", "login")),
    ],
)
async def test_a_faulty_onboarding_leaves_nothing(world: World, change: dict[str, Any], error: tuple[str, str]) -> None:
    before = await tree(world)
    input = {"profile": {"name": "Harbour"}, "account": account("harbour"), **change}
    payload = (await world.data("sales", CREATE_ENTERPRISE, {"input": input}))["createEnterprise"]
    assert payload == {"tenant": None, "errors": [{"code": error[0], "field": error[1]}]}
    assert await tree(world) == before


@pytest.mark.feature("S0-11", "S0-21", "S0-34", "S0-38")
async def test_agents_stand_three_levels_deep_and_no_deeper(world: World) -> None:
    parent = world.id("platform")
    made: list[str] = []
    for level, login in enumerate(("first", "second", "third"), 1):
        input = {"profile": {"name": f"Agency {login}"}, "account": account(login)}
        if level == 1:
            data = await world.data("sales", CREATE_AGENT, {"input": input})
        else:
            data = await ask(world, made[-1], CREATE_AGENT.replace(" remark ", " "), {"input": input})
        assert data["createAgent"]["errors"] == []
        tenant = data["createAgent"]["tenant"]
        assert (tenant["kind"], tenant["agentLevel"], tenant["level"]) == ("AGENT", level, level)
        income = "{ viewer { tenant { ... on Agent { totalIncome incomeBalance } } } }"
        own = (await ask(world, login, income))["viewer"]["tenant"]
        assert own == {"totalIncome": "0.0000", "incomeBalance": "0.0000"}
        assert tenant["parent"] == {"id": parent}
        parent = tenant["id"]
        made.append(login)
        assert (await ask(world, login, "{ viewer { roles } }"))["viewer"]["roles"] == ["agent_admin"]
    await assert_tree_is_whole(world)

    before = await tree(world)
    input = {"profile": {"name": "Agency fourth"}, "account": account("fourth")}
    refused = (await ask(world, "third", CREATE_AGENT.replace(" remark ", " "), {"input": input}))["createAgent"]
    assert refused == {"tenant": None, "errors": [{"code": "LAST_LEVEL", "field": "tenant"}]}
    for caller in ("finance", "acme"):
        assert await world.codes(caller, CREATE_AGENT, {"input": input}) == ["FORBIDDEN"], caller
    assert await tree(world) == before


@pytest.mark.feature("S0-21")
async def test_creating_an_agent_twice_with_one_key_makes_one(world: World) -> None:
    input = {"profile": {"name": "Agency once"}, "idempotencyKey": "once"}
    query = "mutation($input: CreateAgentInput!) { createAgent(input: $input) { tenant { id } errors { code } } }"
    first, second = await asyncio.gather(*(world.data("north", query, {"input": input}) for _ in range(2)))
    assert first["createAgent"]["errors"] == []
    assert first == second
    assert len(await world.sql("SELECT 1 FROM tenant WHERE name = 'Agency once'")) == 1


@pytest.mark.feature("S0-23", "S0-38")
async def test_agents_are_listed_as_far_as_the_caller_reaches(shared_world: World) -> None:
    world = shared_world

    async def names(caller: str, filter: dict[str, Any]) -> set[str]:
        query = """query($filter: AgentFilter) { agents(first: 50, filter: $filter) {
            totalCount nodes { id agentLevel parent { id } } } }"""
        found = (await world.data(caller, query, {"filter": filter}))["agents"]
        assert found["totalCount"] == len(found["nodes"])
        by_id = {world.id(name): name for name in world.tenants}
        for node in found["nodes"]:
            assert node["agentLevel"] == world.tenants[by_id[node["id"]]].level
        return {by_id[node["id"]] for node in found["nodes"]}

    assert await names("admin", {}) == {"north", "north-east", "coast", "south", "south-west"}
    assert await names("north", {}) == {"north", "north-east", "coast"}
    assert await names("north-east", {}) == {"north-east", "coast"}
    assert await names("north", {"agentLevel": {"eq": 2}}) == {"north-east"}
    assert await names("admin", {"agentLevel": {"eq": 2}}) == {"north-east", "south-west"}
    assert await names("north", {"parent": {"eq": world.id("north-east")}}) == {"coast"}
    assert await names("north", {"parent": {"eq": world.id("south")}}) == set()
    assert await world.codes("acme", "{ agents(first: 1) { nodes { id } } }") == ["FORBIDDEN"]


@pytest.mark.feature("S0-10", "S0-34")
async def test_the_platforms_staff_find_customers(shared_world: World) -> None:
    world = shared_world
    query = """query($filter: TenantFilter) { customers(first: 50, filter: $filter) {
        totalCount nodes { id kind name remark staff { nodes { login } } } } }"""
    for caller in ("admin", "finance", "operations", "sales"):
        found = (await world.data(caller, query.replace("staff { nodes { login } }", ""), {}))["customers"]
        customers = {n for n, tenant in world.tenants.items() if tenant.kind.name in ("AGENT", "ENTERPRISE")}
        assert {node["id"] for node in found["nodes"]} == {world.id(n) for n in customers}
    found = (await world.data("admin", query, {"filter": {"kind": {"eq": "ENTERPRISE"}}}))["customers"]
    assert [(node["id"], node["staff"]) for node in found["nodes"]] == [
        (world.id("acme"), {"nodes": [{"login": "acme"}]})
    ]
    found = (await world.data("admin", query, {"filter": {"name": {"contains": "«NORTH-E"}}}))["customers"]
    assert [node["id"] for node in found["nodes"]] == [world.id("north-east")]
    one = (await world.data("admin", TENANT, {"id": world.id("acme")}))["tenant"]
    assert (one["kind"], one["creditLimit"], one["availableAmount"]) == ("ENTERPRISE", "1000.0000", "1000.0000")
    for caller in ("acme", "north"):
        assert await world.codes(caller, "{ customers(first: 1) { nodes { id } } }") == ["FORBIDDEN"]
    hidden = await world.data("north", "query($id: ID!) { tenant(id: $id) { id } }", {"id": world.id("south")})
    assert hidden == {"tenant": None}
    assert await world.codes("admin", "{ customers(first: 1) { nodes { staff { nodes { password } } } } }") == [
        "GRAPHQL_VALIDATION_FAILED"
    ]


@pytest.mark.feature("S0-24", "S0-34", "S0-38")
@pytest.mark.parametrize(
    ("caller", "target"),
    [("north", "north-east"), ("north", "coast"), ("north-east", "coast"), ("sales", "acme"), ("operations", "south")],
)
async def test_a_profile_is_changed_in_part(world: World, caller: str, target: str) -> None:
    [before] = await world.sql("SELECT * FROM tenant WHERE id = $1", world.tenants[target].id)
    update = UPDATE.replace(" remark ", " ")
    changes = {"contactName": " Wang ", "phone": "13800001111", "email": "wang@agency.example"}
    payload = (await world.data(caller, update, {"input": {"id": world.id(target), **changes}}))["updateTenant"]
    assert payload["errors"] == []
    assert payload["tenant"]["contactName"] == "Wang"
    [after] = await world.sql("SELECT * FROM tenant WHERE id = $1", world.tenants[target].id)
    changed = {name for name in before.keys() if before[name] != after[name]}  # noqa: SIM118 - a record, not a dict
    assert changed == {"contact_name", "phone", "email", "updated_at"}
    assert (after["contact_name"], after["phone"], after["email"]) == ("Wang", "13800001111", "wang@agency.example")


@pytest.mark.feature("S0-58")
async def test_an_enterprises_record_is_kept_by_the_platforms_staff(world: World) -> None:
    input = {"id": world.id("acme"), "businessLicence": " 91330100MA2B ", "landline": "0571-88880000", "name": "Acme"}
    payload = (await world.data("operations", UPDATE, {"input": input}))["updateTenant"]
    assert payload["errors"] == []
    kept = {"name": "Acme", "businessLicence": "91330100MA2B", "landline": "0571-88880000"}
    shown = f"... on Enterprise {{ {' '.join(kept)} }}"
    listed = f"{{ customers(filter: {{kind: {{eq: ENTERPRISE}}}}) {{ nodes {{ {shown} }} }} }}"
    for caller in ("operations", "sales", "finance", "admin"):
        assert (await world.data(caller, listed))["customers"]["nodes"] == [kept], caller
    for target, more, code, field in (
        ("acme", {"landline": "none"}, "INVALID_PHONE", "landline"),
        ("acme", {"businessLicence": "x" * 201}, "INVALID", "businessLicence"),
        ("north", {"businessLicence": "91330100MA2B"}, "NOT_AN_ENTERPRISE", "businessLicence"),
        ("north", {"landline": "0571-88880000"}, "NOT_AN_ENTERPRISE", "landline"),
    ):
        refused = (await world.data("operations", UPDATE, {"input": {"id": world.id(target), **more}}))["updateTenant"]
        assert refused == {"tenant": None, "errors": [{"code": code, "field": field}]}, (target, more)
    assert (await world.data("admin", listed))["customers"]["nodes"] == [kept]
    for caller in ("acme", "finance"):
        assert await world.codes(caller, UPDATE, {"input": input}) == ["FORBIDDEN"], caller


@pytest.mark.feature("S0-24")
async def test_a_profile_out_of_reach_is_not_there(world: World) -> None:
    before = await tree(world)
    update = UPDATE.replace(" remark ", " ")

    async def refusal(caller: str, target: str, **changes: str) -> dict[str, str]:
        payload = (await world.data(caller, update, {"input": {"id": target, **changes}}))["updateTenant"]
        assert payload["tenant"] is None
        [error] = payload["errors"]
        found: dict[str, str] = error
        return found

    for caller, target in (("north", "south"), ("north", "south-west"), ("coast", "north"), ("north", "platform")):
        found = await refusal(caller, world.id(target), name="Mine now")
        assert found == {"code": "NOT_FOUND", "field": "id"}, (caller, target)
    assert await refusal("north", world.card_ids("north")[0], name="x") == {"code": "INVALID_ID", "field": "id"}
    assert await refusal("north", world.id("coast"), name=" ") == {"code": "REQUIRED", "field": "name"}
    assert await refusal("north", world.id("coast"), email="no") == {"code": "INVALID_EMAIL", "field": "email"}
    for caller in ("acme", "finance"):
        assert await world.codes(caller, UPDATE, {"input": {"id": world.id("acme"), "name": "x"}}) == ["FORBIDDEN"]
    assert await tree(world) == before


@pytest.mark.feature("S0-36")
async def test_a_suspended_customer_is_out_from_its_next_request_on(world: World) -> None:
    for caller in ("operations", "sales", "finance", "north"):
        input = {"id": world.id("north-east"), "status": "SUSPENDED"}
        assert await world.codes(caller, SET_STATUS, {"input": input}) == ["FORBIDDEN"]
    assert (await world.data("acme", "{ viewer { tenant { status } } }"))["viewer"]["tenant"]["status"] == "ACTIVE"
    for status in ("SUSPENDED", "ACTIVE"):
        payload = await world.data("admin", SET_STATUS, {"input": {"id": world.id("acme"), "status": status}})
        assert payload["setTenantStatus"]["tenant"]["status"] == status
        login = await world.client.log_in("agent", "acme", PASSWORD)
        answer = await world.run("acme", "{ simCards(first: 1) { nodes { id } } }")
        if status == "SUSPENDED":
            assert [error["code"] for error in login["errors"]] == ["WRONG_CREDENTIALS"]
            assert {error["extensions"]["code"] for error in answer["errors"]} == {"UNAUTHENTICATED"}
        else:
            assert login["errors"] == []
            assert "errors" not in answer
    own = await world.data("admin", SET_STATUS, {"input": {"id": world.id("platform"), "status": "CLOSED"}})
    assert own["setTenantStatus"]["errors"] == [{"code": "INVALID", "field": "id"}]


@pytest.mark.feature("S3-01")
async def test_a_branch_moves_with_everything_in_it(world: World) -> None:
    cards = {card.id for name in ("north-east", "coast") for card in world.cards[name]}
    own = {card.id for card in world.cards["south"]} | {card.id for card in world.cards["south-west"]}
    old = world.tenants["north-east"].path
    input = {"id": world.id("north-east"), "parent": world.id("south")}
    payload = (await world.data("admin", MOVE, {"input": input}))["moveTenant"]
    assert payload["errors"] == []
    assert (payload["tenant"]["level"], payload["tenant"]["agentLevel"]) == (2, 2)
    assert payload["tenant"]["parent"] == {"id": world.id("south")}
    await assert_tree_is_whole(world)

    south = world.tenants["south"].path
    moved = {row["name"]: row for row in await world.sql("SELECT * FROM tenant WHERE path LIKE $1 || '%'", south)}
    assert set(moved) == {world.tenants[n].name for n in ("south", "south-west", "north-east", "coast")}
    coast = moved[world.tenants["coast"].name]
    assert coast["path"].startswith(moved[world.tenants["north-east"].name]["path"])
    assert (coast["level"], coast["agent_level"]) == (3, 3)
    # nothing that a tenant of the branch owns stays behind, and a card's level-1 branch is the new one
    for table in ("sim_card", "staff_account", "end_user", "api_key", "department", "task", "sim_package_binding"):
        assert await world.sql(f"SELECT id FROM {table} WHERE tenant_path LIKE $1 || '%'", old) == [], table
    # a card's history goes with the card, a log stays where things happened
    stayed = {
        table: len(await world.sql(f"SELECT id FROM {table} WHERE tenant_path LIKE $1 || '%'", old))
        for table in ("sim_status_change", "login_record")
    }
    assert stayed == {"sim_status_change": 0, "login_record": 2}
    branches = await world.sql("SELECT DISTINCT tenant_branch FROM sim_card WHERE id = ANY($1)", list(cards))
    assert [row["tenant_branch"] for row in branches] == [south]

    query = "{ simCards(first: 100) { nodes { id } } }"
    seen = {name: (await world.data(name, query))["simCards"]["nodes"] for name in ("north", "south", "north-east")}
    keys = {name: {(decode_id(node["id"]) or ("", 0))[1] for node in nodes} for name, nodes in seen.items()}
    assert keys == {"north": {card.id for card in world.cards["north"]}, "south": cards | own, "north-east": cards}


@pytest.mark.feature("S3-01")
async def test_cards_are_handed_on_after_a_move(world: World) -> None:
    target = {"id": world.id("north-east"), "parent": world.id("platform")}
    assert (await world.data("admin", MOVE, {"input": target}))["moveTenant"]["errors"] == []
    query = """mutation($input: AllocateSimCardsInput!) { allocateSimCards(input: $input) { count errors { code } } }"""
    cards = {"ids": world.card_ids("north-east")[:1]}
    input = {"to": world.id("coast"), "cards": cards, "idempotencyKey": "after the move"}
    answer = await world.run("north-east", query, {"input": input})
    assert answer == {"data": {"allocateSimCards": {"count": 1, "errors": []}}}
    held = await world.sql(
        "SELECT level, tenant_id FROM sim_allocation WHERE sim_card_id = $1 AND ended_at IS NULL ORDER BY level",
        world.cards["north-east"][0].id,
    )
    assert [tuple(row) for row in held] == [(1, world.tenants["north-east"].id), (2, world.tenants["coast"].id)]


@pytest.mark.feature("S3-01")
async def test_a_branch_moves_up_and_down(world: World) -> None:
    async def move(name: str, parent: str) -> list[dict[str, str]]:
        input = {"id": world.id(name), "parent": world.id(parent)}
        errors: list[dict[str, str]] = (await world.data("admin", MOVE, {"input": input}))["moveTenant"]["errors"]
        await assert_tree_is_whole(world)
        return errors

    async def level(name: str) -> int:
        [row] = await world.sql("SELECT level, agent_level FROM tenant WHERE id = $1", world.tenants[name].id)
        assert row["level"] == row["agent_level"]
        return int(row["level"])

    assert await move("north-east", "platform") == []
    assert (await level("north-east"), await level("coast")) == (1, 2)
    assert await move("south-west", "coast") == []
    assert await level("south-west") == 3
    assert await move("south-west", "south") == []
    assert await move("north", "south-west") == []
    assert (await level("north"), await level("south-west")) == (3, 2)


@pytest.mark.feature("S3-01")
async def test_moves_that_the_tree_forbids(world: World) -> None:
    before = await tree(world)
    for name, parent, code, field in (
        ("north", "north", "PARENT_WITHIN", "parent"),
        ("north", "coast", "PARENT_WITHIN", "parent"),
        ("platform", "north", "PARENT_WITHIN", "parent"),
        ("north", "south", "LAST_LEVEL", "parent"),
        ("north-east", "south-west", "LAST_LEVEL", "parent"),
        ("south", "coast", "LAST_LEVEL", "tenant"),
        ("acme", "north", "WRONG_PARENT", "parent"),
        ("north", "acme", "WRONG_PARENT", "tenant"),
    ):
        input = {"id": world.id(name), "parent": world.id(parent)}
        payload = (await world.data("admin", MOVE, {"input": input}))["moveTenant"]
        assert payload == {"tenant": None, "errors": [{"code": code, "field": field}]}, (name, parent)
    for caller in ("operations", "sales", "finance", "north", "acme"):
        input = {"id": world.id("coast"), "parent": world.id("north")}
        assert await world.codes(caller, MOVE, {"input": input}) == ["FORBIDDEN"], caller
    assert await tree(world) == before


@pytest.mark.feature("S3-01")
async def test_crossing_moves_end_in_one_tree(world: World) -> None:
    made = []
    for name in ("left", "right"):
        data = await world.data("sales", CREATE_AGENT, {"input": {"profile": {"name": name}}})
        made.append(data["createAgent"]["tenant"]["id"])
    left, right = made
    answers = await asyncio.gather(
        *(
            world.data("admin", MOVE, {"input": {"id": id, "parent": parent}})
            for id, parent in ((left, right), (right, left))
        )
    )
    codes = sorted(tuple(error["code"] for error in answer["moveTenant"]["errors"]) for answer in answers)
    assert codes == [(), ("PARENT_WITHIN",)]
    await assert_tree_is_whole(world)


@pytest.mark.feature("S3-01")
async def test_a_sub_agent_made_while_its_branch_moves_goes_with_it(world: World) -> None:
    """Both wait for the same row, the new sub-agent first: the move must not miss what it has not seen yet."""
    for caller in ("south-west", "admin"):
        await world.token(caller)
    holder = await asyncpg.connect(world.superuser_url, ssl=False)
    try:
        hold = holder.transaction()
        await hold.start()
        await holder.execute("SELECT 1 FROM tenant WHERE id = $1 FOR UPDATE", world.tenants["south-west"].id)
        input = {"profile": {"name": "Late"}}
        creating = asyncio.create_task(
            world.data("south-west", CREATE_AGENT.replace(" remark ", " "), {"input": input})
        )
        await waiting(world, 1)
        target = {"id": world.id("south"), "parent": world.id("platform")}
        moving = asyncio.create_task(world.data("admin", MOVE, {"input": target}))
        await waiting(world, 2)
        await hold.commit()
        created, moved = await asyncio.gather(creating, moving)
    finally:
        await holder.close()
    assert moved["moveTenant"]["errors"] == []
    assert created["createAgent"]["errors"] == []
    await assert_tree_is_whole(world)


async def waiting(world: World, wanted: int, patience: float = 5) -> None:
    """Until so many statements wait for a lock."""
    for _ in range(int(patience / 0.02)):
        [row] = await world.sql(
            "SELECT count(*) AS n FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        if row["n"] >= wanted:
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"{wanted} statements should wait for a lock")
