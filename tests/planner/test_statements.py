"""How many statements an operation costs: one for each level, whatever the number of rows."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import event

from planner.ids import encode_id
from server.app import the_graph
from tests.planner.asked import Planner, principal, wide
from tests.support.world import World, mark

CALLERS = ("admin", "north", "north-east", "coast")
LEVELS = """query($first: Int) {
    tenants(first: $first) { nodes { id
        staff(first: $first) { nodes { id roles(first: $first) { nodes { id } } } }
        simCards(first: $first) { nodes { id allocations(first: $first) { nodes { id } } } } } } }"""


async def count(world: World, statements: list[str], account: str, text: str, **variables: object) -> int:
    """The number of statements of an operation that is answered without errors."""
    caller = await principal(world, account)
    statements.clear()
    answer = await Planner(world, the_graph()).answer(caller, text, variables)
    assert "errors" not in answer
    return len(statements)


@pytest.mark.parametrize("account", CALLERS)
async def test_each_level_is_one_statement_whatever_the_page(
    rich_world: World, statements: list[str], account: str
) -> None:
    assert [await count(rich_world, statements, account, LEVELS, first=first) for first in (1, 2, 20, 50)] == [5] * 4


async def test_a_caller_with_many_tenants_pays_the_same(rich_world: World, statements: list[str]) -> None:
    caller = wide(await principal(rich_world, "north-east"))
    statements.clear()
    await Planner(rich_world, the_graph()).answer(caller, LEVELS, {"first": 20})
    assert len(statements) == 5


@pytest.mark.parametrize("account", CALLERS)
async def test_a_page_below_one_row_is_read_with_it(rich_world: World, statements: list[str], account: str) -> None:
    page = """simCards(first: 2, orderBy: [{field: ACTIVATED_AT, direction: DESC}]) { edges { cursor node {
        id package { name } holder { name } } } pageInfo { hasNextPage endCursor } }"""
    planner, caller = Planner(rich_world, the_graph()), await principal(rich_world, account)

    async def asked(root: str, selection: str) -> tuple[Any, int]:
        statements.clear()
        answer = await planner.answer(caller, f"{{ found: {root} {{ {selection} }} }}")
        assert "errors" not in answer
        return answer["data"]["found"], len(statements)

    alone = f'tenant(id: "{rich_world.id("coast")}")'
    by_name = f'tenants(filter: {{name: {{eq: "Agency {mark("coast")}"}}}})'
    listed, two = await asked(by_name, f"nodes {{ name {page} }} pageInfo {{ __typename }}")
    one = await asked(alone, f"name {page}")
    assert (two, one) == (2, (listed["nodes"][0], 1))
    assert len(one[0]["simCards"]["edges"]) == 2
    # a total and a second page are statements of their own, and so is what hangs on the first
    more = f"simCards(first: 2) {{ totalCount nodes {{ id statusChanges {{ nodes {{ id }} }} }} }} more: {page}"
    found, count = await asked(alone, more)
    assert (found["more"], count) == (one[0]["simCards"], 4)


async def test_a_page_below_one_row_may_be_empty_or_below_nothing(rich_world: World, statements: list[str]) -> None:
    planner, caller = Planner(rich_world, the_graph()), await principal(rich_world, "admin")
    text = """query($id: ID!) { tenant(id: $id) { name
        parent { staff { nodes { id } } } staff(first: 0) { nodes { id } } } }"""
    statements.clear()
    answer = await planner.answer(caller, text, {"id": rich_world.id("platform")})
    assert answer["data"]["tenant"]["parent"] is None
    assert answer["data"]["tenant"]["staff"] == {"nodes": []}
    assert len(statements) == 2
    answer = await planner.answer(caller, text, {"id": encode_id("ten", 999_999)})
    assert answer["data"] == {"tenant": None}


async def test_a_level_without_parents_is_not_asked_for(rich_world: World, statements: list[str]) -> None:
    text = '{ tenants(filter: {name: {eq: "nobody"}}) { nodes { staff { nodes { id } } } } }'
    assert await count(rich_world, statements, "north", text) == 1


@pytest.mark.parametrize("account", CALLERS)
async def test_a_total_adds_one_and_only_where_it_is_selected(
    rich_world: World, statements: list[str], account: str
) -> None:
    plain = "{ simCards(first: 3) { nodes { id statusChanges { nodes { id } } } } }"
    with_total = "{ simCards(first: 3) { totalCount nodes { id statusChanges { nodes { id } totalCount } } } }"
    total_alone = "{ simCards(first: 3) { totalCount } }"
    assert await count(rich_world, statements, account, plain) == 2
    assert await count(rich_world, statements, account, with_total) == 4
    assert await count(rich_world, statements, account, total_alone) == 1


async def test_to_ones_are_joined_into_their_level(rich_world: World, statements: list[str]) -> None:
    text = """{ simCards(first: 50) { nodes { id holder { name parent { name parent { name } } }
        package { code supplier { name } } supplier { name } outlet { name } endUser { name tenant { name } } } } }"""
    assert await count(rich_world, statements, "operations", text) == 1


async def test_a_live_field_adds_none(rich_world: World, statements: list[str]) -> None:
    assert await count(rich_world, statements, "admin", "{ apiKeys { nodes { id lastUsedAt } } }") == 1
    text = "{ tasks { nodes { refusedFileUrl refusals { nodes { message } } } } }"
    assert await count(rich_world, statements, "admin", text) == 2


async def test_what_is_not_selected_is_not_asked_for(rich_world: World, statements: list[str]) -> None:
    assert await count(rich_world, statements, "north", "{ simCards { __typename } }") == 0
    text = """query($with: Boolean!) { simCards(first: 2) { nodes { id
        allocations @include(if: $with) { nodes { id } } } } }"""
    assert await count(rich_world, statements, "north", text, **{"with": False}) == 1
    assert await count(rich_world, statements, "north", text, **{"with": True}) == 2
    assert await count(rich_world, statements, "north", "{ __typename }") == 0


async def test_edges_nodes_and_page_info_share_one_statement(rich_world: World, statements: list[str]) -> None:
    text = """{ simCards(first: 2) { edges { cursor node { id } } nodes { status holder { name } }
        pageInfo { hasNextPage endCursor } } }"""
    assert await count(rich_world, statements, "north", text) == 1


async def test_references_of_many_types_are_one_statement_for_each_table(
    rich_world: World, statements: list[str]
) -> None:
    ids = [rich_world.id("north"), *rich_world.card_ids("coast"), rich_world.id("coast"), *rich_world.card_ids("north")]
    text = "query($ids: [ID!]!) { nodes(ids: $ids) { __typename id ... on SimCard { holder { name } } } }"
    assert await count(rich_world, statements, "north", text, ids=ids) == 2
    assert await count(rich_world, statements, "north", text, ids=[]) == 0


async def test_the_same_list_twice_is_two_levels(rich_world: World, statements: list[str]) -> None:
    text = "{ a: simCards(first: 1) { nodes { id } } b: simCards(first: 2) { nodes { id } } }"
    assert await count(rich_world, statements, "north", text) == 2


async def test_a_viewer_costs_what_is_selected_of_it(rich_world: World, statements: list[str]) -> None:
    by_services: list[str] = []

    def sent(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        by_services.append(statement)

    engine = rich_world.client.application.database.engine.sync_engine
    event.listen(engine, "before_cursor_execute", sent)
    try:
        costs = {}
        for selection in (
            "door roles language tenantKind permissions",
            "account { login department { name } } tenant { name }",
            "heldRoles { key dataScope }",
            "modules { key }",
            "menus { key parent { key } }",
            "menus { key } more: menus { path } modules { key }",
        ):
            by_services.clear()
            costs[selection] = (
                await count(rich_world, statements, "north", f"{{ viewer {{ {selection} }} }}"),
                len(by_services),
            )
    finally:
        event.remove(engine, "before_cursor_execute", sent)
    # the planner's, and those of services, whose first tells row-level security who asks
    assert list(costs.values()) == [(0, 0), (2, 0), (0, 2), (0, 3), (1, 5), (2, 8)]
