"""Pages by cursor: every row once in every order, whatever is written in between; and what is no page is refused."""

from __future__ import annotations

import itertools
import json
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations, product
from typing import Any

import pytest

from authz.principal import Principal
from planner.cursor import encode_cursor, order_tag
from planner.errors import GraphRefusal, GraphRefusals
from server.app import the_graph
from tests.planner.asked import Planner, principal, wide
from tests.support.world import World

CARDS = """query($first: Int, $after: String, $last: Int, $before: String, $order: [SimCardOrder!],
                 $filter: SimCardFilter) {
    simCards(first: $first, after: $after, last: $last, before: $before, orderBy: $order, filter: $filter) {
        edges { cursor node { id activatedAt } }
        pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } }"""
INSERT = """INSERT INTO sim_card (tenant_id, tenant_path, iccid, carrier, sim_type, entry_mode, status, supplier_id,
                                  activated_at)
    SELECT tenant_id, tenant_path, added, carrier, sim_type, entry_mode, status, supplier_id,
           CASE n WHEN 1 THEN NULL WHEN 2 THEN timestamptz '1990-01-01+00' ELSE activated_at END
    FROM sim_card, unnest($1::text[]) WITH ORDINALITY AS u (added, n) WHERE id = $2"""
WALKERS = ("admin", "north", "north-east", "coast", "wide")


@dataclass
class Walk:
    """Asks for pages of cards as one caller."""

    planner: Planner
    caller: Principal

    async def page(self, **variables: Any) -> dict[str, Any]:
        answer = await self.planner.answer(self.caller, CARDS, variables)
        assert "errors" not in answer
        found: dict[str, Any] = answer["data"]["simCards"]
        return found

    async def codes(self, text: str = CARDS, **variables: Any) -> set[str]:
        """The codes by which it is refused; none when it is answered."""
        try:
            await self.planner.answer(self.caller, text, variables)
        except GraphRefusal as refusal:
            return {refusal.code}
        except GraphRefusals as refusals:
            return {refusal.code for refusal in refusals.refusals}
        return set()

    async def all(self, order: Any, size: int, *, backward: bool = False) -> list[tuple[str, Any]]:
        """Every row by its id and sort value, page by page."""
        found: list[tuple[str, Any]] = []
        cursor: str | None = None
        more = True
        while more:
            if backward:
                page = await self.page(last=size, before=cursor, order=order)
            else:
                page = await self.page(first=size, after=cursor, order=order)
            rows = [(edge["node"]["id"], edge["node"]["activatedAt"]) for edge in page["edges"]]
            found = rows + found if backward else found + rows
            information = page["pageInfo"]
            more = information["hasPreviousPage" if backward else "hasNextPage"]
            assert information["hasNextPage" if backward else "hasPreviousPage"] is (cursor is not None)
            cursor = information["startCursor" if backward else "endCursor"]
        return found


async def walk(world: World, name: str) -> Walk:
    caller = await principal(world, "north-east" if name == "wide" else name)
    return Walk(Planner(world, the_graph()), wide(caller) if name == "wide" else caller)


def orders() -> list[list[dict[str, str]]]:
    """Every order of a card: by each field alone, by both, up and down."""
    found: list[list[dict[str, str]]] = [[]]
    for fields in (("ID",), ("ACTIVATED_AT",), ("ACTIVATED_AT", "ID")):
        found += [
            [{"field": f, "direction": d} for f, d in zip(fields, directions, strict=True)]
            for directions in product(("ASC", "DESC"), repeat=len(fields))
        ]
    return found


def named(order: list[dict[str, str]]) -> str:
    return ", ".join(f"{by['field']} {by.get('direction', 'ASC')}" for by in order) or "none"


@pytest.mark.parametrize("name", WALKERS)
@pytest.mark.parametrize("order", orders(), ids=named)
async def test_walking_gives_every_row_once_in_both_directions(
    rich_world: World, name: str, order: list[dict[str, str]]
) -> None:
    pages = await walk(rich_world, name)
    whole = await pages.all(order, 50)
    assert len({id for id, _ in whole}) == len(whole) > 0
    assert any(at is None for _, at in whole)
    for size in (1, 4, 5):
        assert await pages.all(order, size) == whole
        assert await pages.all(order, size, backward=True) == whole


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("name", WALKERS)
async def test_null_sort_keys_come_after_every_value(rich_world: World, name: str, descending: bool) -> None:
    pages = await walk(rich_world, name)
    order = [{"field": "ACTIVATED_AT", "direction": "DESC" if descending else "ASC"}]
    moments = [at for _, at in await pages.all(order, 3)]
    nulls = moments.count(None)
    values = moments[nulls:] if descending else moments[: len(moments) - nulls]
    assert None not in values
    assert values == sorted(values, reverse=descending)


async def test_rows_that_come_while_walking_move_no_other(world: World) -> None:
    """What stood in the list when the walk began is met once, whatever is inserted around it."""
    iccids = itertools.count(1)
    for name, order, backward in product(("north-east", "wide", "north"), orders(), (False, True)):
        await walk_while_rows_come(world, name, order, backward, iccids)


async def walk_while_rows_come(
    world: World, name: str, order: list[dict[str, str]], backward: bool, iccids: Iterator[int]
) -> None:
    pages = await walk(world, name)
    before = [id for id, _ in await pages.all(order, 50)]
    met: list[str] = []
    cursor: str | None = None
    inserted: list[str] = []
    for _ in range(500):
        page = await (
            pages.page(last=5, before=cursor, order=order)
            if backward
            else pages.page(first=5, after=cursor, order=order)
        )
        ids = [edge["node"]["id"] for edge in page["edges"]]
        met = ids + met if backward else met + ids
        if not page["pageInfo"]["hasPreviousPage" if backward else "hasNextPage"]:
            break
        cursor = page["pageInfo"]["startCursor" if backward else "endCursor"]
        if not inserted:
            inserted = [f"{next(iccids):020d}" for _ in range(3)]
            await world.sql(INSERT, inserted, world.cards["coast"][2].id)
    known = set(before)
    assert [id for id in met if id in known] == before
    assert len(set(met)) == len(met)
    assert inserted
    await world.sql("DELETE FROM sim_card WHERE iccid = ANY($1)", inserted)


# -- what is refused ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        {"first": -1},
        {"last": -5},
        {"first": 51},
        {"last": 51},
        {"first": 2**31 - 1},
        {"first": 2, "last": 2},
        {"last": 2, "after": "x"},
        {"first": 2, "before": "x"},
        {"before": "x"},
        {"first": 2**31},
        {"first": 1.5},
        {"order": [{"field": "ACTIVATED_AT"}, {"field": "ACTIVATED_AT", "direction": "DESC"}]},
        {"order": [{"field": "ID"}, {"field": "ACTIVATED_AT"}]},
        {"order": [{"field": "ICCID"}]},
    ],
    ids=str,
)
async def test_pages_that_mean_nothing_are_refused(
    rich_world: World, statements: list[str], arguments: dict[str, Any]
) -> None:
    pages = await walk(rich_world, "north")
    statements.clear()
    assert await pages.codes(**arguments) == {"BAD_USER_INPUT"}
    assert statements == []


def forged(text: str) -> str:
    return urlsafe_b64encode(text.encode()).decode()


PLAIN = order_tag("SimCard", [("id", False)])
BY_TIME = order_tag("SimCard", [("activated_at", False), ("id", False)])
GARBAGE = [
    "",
    "x",
    "=",
    "====",
    "!!!!",
    "é",
    "\x00",
    "\ud7ff" * 40,
    "A" * 100_000,
    forged(""),
    forged("a"),
    forged("\x1f"),
    forged("\x1f\x1f\x1f"),
    forged(f"{PLAIN}"),
    forged(f"{PLAIN}\x1f"),
    forged(f"{PLAIN}\x1fzz"),
    forged(f"{PLAIN}\x1f-1"),
    forged(f"{PLAIN}\x1f0"),
    forged(f"{PLAIN}\x1f{'f' * 16}"),
    forged(f"{PLAIN}\x1f{'f' * 5_000}"),
    forged(f"{PLAIN}\x1f1\x1f1"),
    forged(f"{'0' * 8}\x1f1"),
    urlsafe_b64encode(b"\xff\xfe\xfd").decode(),
    urlsafe_b64encode(PLAIN.encode() + b"\x1f1\xff").decode(),
]


@pytest.mark.parametrize("cursor", GARBAGE, ids=range(len(GARBAGE)))
@pytest.mark.parametrize("order", [[], [{"field": "ACTIVATED_AT"}]], ids=named)
@pytest.mark.parametrize("literal", [False, True], ids=["variable", "literal"])
async def test_garbage_is_no_cursor(rich_world: World, cursor: str, order: list[dict[str, str]], literal: bool) -> None:
    pages = await walk(rich_world, "north-east")
    if literal:
        by = "".join(f", orderBy: [{{field: {each['field']}}}]" for each in order)
        codes = await pages.codes(f"{{ simCards(after: {json.dumps(cursor)}{by}) {{ nodes {{ id }} }} }}")
        assert codes in ({"BAD_USER_INPUT"}, {"GRAPHQL_PARSE_FAILED"}, {"LIMIT_EXCEEDED"})
    else:
        assert await pages.codes(after=cursor, order=order) == {"BAD_USER_INPUT"}
        assert await pages.codes(last=2, before=cursor, order=order) == {"BAD_USER_INPUT"}


@pytest.mark.parametrize(
    "value",
    ["", "the day before", "x" * 10_000, "2026-13-45", "99999999999999-01-01", "2026-01-01' OR true --", "\\"],
)
@pytest.mark.parametrize("name", WALKERS)
async def test_a_forged_sort_value_is_refused(rich_world: World, name: str, value: str) -> None:
    pages = await walk(rich_world, name)
    cursor = encode_cursor(BY_TIME, 1, [value])
    assert await pages.codes(after=cursor, order=[{"field": "ACTIVATED_AT"}]) == {"BAD_USER_INPUT"}


async def test_a_cursor_belongs_to_one_order_of_one_type(rich_world: World) -> None:
    pages = await walk(rich_world, "north")
    made = {
        named(order): (order, (await pages.page(first=2, order=order))["pageInfo"]["endCursor"]) for order in orders()
    }
    for (one, (_, cursor)), (other, (order, _)) in permutations(made.items(), 2):
        same = {one, other} in (
            {"none", "ID ASC"},
            {"ACTIVATED_AT ASC", "ACTIVATED_AT ASC, ID ASC"},
            {"ACTIVATED_AT DESC", "ACTIVATED_AT DESC, ID DESC"},
        )
        expected: set[str] = set() if same else {"BAD_USER_INPUT"}
        assert await pages.codes(after=cursor, order=order) == expected, (one, other)
    tenants = "query($after: String) { tenants(after: $after) { nodes { id } } }"
    assert await pages.codes(tenants, after=made["none"][1]) == {"BAD_USER_INPUT"}


async def test_a_cursor_of_a_row_out_of_reach_shows_nothing_of_it(rich_world: World) -> None:
    """A position is a place in the order, not a row: what follows it is the caller's own, the row never."""
    pages = await walk(rich_world, "south")
    cursor = encode_cursor(PLAIN, rich_world.cards["coast"][0].id)
    found = {edge["node"]["id"] for edge in (await pages.page(first=50, after=cursor))["edges"]}
    assert found == {*rich_world.card_ids("south"), *rich_world.card_ids("south-west")}


# -- filters --------------------------------------------------------------------------------------------------


METACHARACTERS: list[tuple[dict[str, Any], set[str]]] = [
    ({"contains": "%"}, {"50%_"}),
    ({"contains": "_"}, {"50%_", "under_score"}),
    ({"contains": "\\"}, {"back\\slash"}),
    ({"contains": "\\%"}, set()),
    ({"contains": ""}, {"50%_", "under_score", "back\\slash", "50 percent"}),
    ({"contains": "BACK\\S"}, {"back\\slash"}),
    ({"startsWith": "50%"}, {"50%_"}),
    ({"startsWith": "50_"}, set()),
    ({"startsWith": "50"}, {"50%_", "50 percent"}),
    ({"startsWith": "%"}, set()),
    ({"startsWith": "BACK"}, set()),
    ({"eq": "50%_"}, {"50%_"}),
    ({"in": ["50__", "under%"]}, set()),
]


async def test_metacharacters_are_letters_like_any_other(world: World) -> None:
    await world.sql("DELETE FROM department")
    await world.sql(
        """INSERT INTO department (tenant_id, tenant_path, name, position, status)
           SELECT id, path, unnest($1::text[]), 0, 'ACTIVE' FROM tenant WHERE id = $2""",
        ["50%_", "under_score", "back\\slash", "50 percent"],
        world.tenants["north"].id,
    )
    pages = await walk(world, "north")
    by_variable = "query($filter: DepartmentFilter) { departments(filter: $filter) { nodes { name } } }"
    for comparison, found in METACHARACTERS:
        ((operator, value),) = comparison.items()
        literal = f"{{ departments(filter: {{name: {{{operator}: {json.dumps(value)}}}}}) {{ nodes {{ name }} }} }}"
        for text, variables in ((by_variable, {"filter": {"name": comparison}}), (literal, {})):
            answer = await pages.planner.answer(pages.caller, text, variables)
            assert {node["name"] for node in answer["data"]["departments"]["nodes"]} == found, text


async def test_not_gives_what_its_filter_does_not_give(rich_world: World) -> None:
    """A null is not known to differ, yet ``not`` gives it: a list and its opposite leave nothing out."""
    pages = await walk(rich_world, "north")
    everything = {edge["node"]["id"] for edge in (await pages.page(first=50))["edges"]}
    later = {"activatedAt": {"gt": "2026-01-03T00:00:00Z"}}
    found = {edge["node"]["id"] for edge in (await pages.page(first=50, filter=later))["edges"]}
    rest = (await pages.page(first=50, filter={"not": later}))["edges"]
    assert {edge["node"]["id"] for edge in rest} == everything - found
    assert None in {edge["node"]["activatedAt"] for edge in rest}
    assert found


@pytest.mark.parametrize(
    "filter",
    [
        {"msisdn": {"eq": None}},
        {"status": {"in": None}},
        {"msisdn": {"isNull": None}},
        {"status": None},
        {"and": None},
        {"not": None},
        {"not": {"msisdn": {"ne": None}}},
        {"or": [{"msisdn": {"eq": None}}]},
    ],
    ids=str,
)
async def test_null_is_not_compared_with(rich_world: World, statements: list[str], filter: dict[str, Any]) -> None:
    pages = await walk(rich_world, "north")
    statements.clear()
    assert await pages.codes(filter=filter) == {"BAD_USER_INPUT"}
    assert statements == []


async def test_a_null_variable_is_not_compared_with(rich_world: World) -> None:
    pages = await walk(rich_world, "north")
    text = "query($v: String) { simCards(filter: {msisdn: {eq: $v}}) { nodes { id } } }"
    assert await pages.codes(text, v=None) == {"BAD_USER_INPUT"}
    assert await pages.codes(text, v="1") == set()


async def test_a_comparison_with_a_variable_that_is_not_given_is_left_out(rich_world: World) -> None:
    """As the GraphQL specification has it: an input field whose variable is absent is absent."""
    pages = await walk(rich_world, "north")
    text = "query($v: String) { simCards(first: 50, filter: {msisdn: {eq: $v}}) { totalCount } }"
    everything = "{ simCards { totalCount } }"
    expected = await pages.planner.answer(pages.caller, everything)
    for variables in ({}, {"v": "1"}, {}):
        answer = await pages.planner.answer(pages.caller, text, variables)
        assert answer["data"]["simCards"]["totalCount"] == (
            0 if variables else expected["data"]["simCards"]["totalCount"]
        )


@pytest.mark.parametrize(
    "filter",
    [
        {"id": {"eq": "sim_0000000000000000"}},
        {"id": {"eq": "nonsense"}},
        {"holder": {"in": ["sim_7d36a0d7e331c0bb"]}},
        {"msisdn": {"eq": "\x00"}},
        {"msisdn": {"contains": "\x00"}},
        {"status": {"eq": "GONE"}},
        {"activatedAt": {"gt": "yesterday"}},
    ],
    ids=str,
)
async def test_values_that_no_column_holds_are_refused(rich_world: World, filter: dict[str, Any]) -> None:
    pages = await walk(rich_world, "north")
    assert await pages.codes(filter=filter) == {"BAD_USER_INPUT"}
