"""What an operation may not be: refused as a whole, before a single statement has run."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
from graphql import get_introspection_query

from authz.coordinates import Act
from authz.grants import Grants
from authz.principal import Principal
from authz.scopes import Scope
from planner.compile import compile_plan
from planner.compile.conditions import MAX_CONDITIONS
from planner.errors import GraphRefusal, GraphRefusals
from planner.operation import DocumentLimits, Documents
from planner.parameters import MAX_LISTED
from planner.tables import Accepts, Tables
from server.app import the_graph
from tests.planner.asked import Planner, principal
from tests.support.world import World

LIMITS = DocumentLimits(max_tokens=150, max_depth=6, max_aliases=4, max_cost=1_000, max_page=50)


async def ask(
    world: World, text: str, variables: dict[str, Any] | None = None, limits: DocumentLimits = LIMITS
) -> list[str]:
    """The codes by which an operation is refused; none when it is answered."""
    caller = await principal(world, "north")
    try:
        answer = await Planner(world, the_graph(), limits).answer(caller, text, variables)
    except GraphRefusal as refusal:
        return [refusal.code]
    except GraphRefusals as refusals:
        return [refusal.code for refusal in refusals.refusals]
    assert "errors" not in answer
    return []


def nested(levels: int) -> str:
    """An operation of exactly so many levels."""
    inside = "name"
    for _ in range(levels - 3):
        inside = f"parent {{ {inside} }}"
    return f"{{ tenants {{ nodes {{ {inside} }} }} }}"


@pytest.mark.parametrize(("levels", "codes"), [(6, []), (7, ["LIMIT_EXCEEDED"]), (25, ["LIMIT_EXCEEDED"])])
async def test_depth(rich_world: World, statements: list[str], levels: int, codes: list[str]) -> None:
    statements.clear()
    assert await ask(rich_world, nested(levels)) == codes
    assert len(statements) == (0 if codes else 1)


async def test_depth_is_counted_through_fragments(rich_world: World, statements: list[str]) -> None:
    spread = """{ tenants { nodes { ...Up } } }
        fragment Up on Tenant { parent { parent { ...Top } } } fragment Top on Tenant { parent { parent { name } } }"""
    inline = "{ tenants { nodes { parent { parent { ... on Agent { parent { parent { name } } } } } } } }"
    assert await ask(rich_world, spread) == ["LIMIT_EXCEEDED"]
    assert await ask(rich_world, inline) == ["LIMIT_EXCEEDED"]
    circle = "{ tenants { nodes { ...Round } } } fragment Round on Tenant { parent { ...Round } }"
    assert await ask(rich_world, circle) == ["GRAPHQL_VALIDATION_FAILED"]
    assert statements == []


async def test_a_fragment_is_measured_once_however_often_it_is_spread(rich_world: World) -> None:
    """Each spreads the next one twice: walked again at each spread, the last would be walked a billion times."""
    chain = "".join(f"fragment F{n} on Query {{ ...F{n + 1} ...F{n + 1} }} " for n in range(30))
    text = f"query {{ ...F0 }} {chain} fragment F30 on Query {{ __typename }}"
    assert await ask(rich_world, text, limits=DocumentLimits()) == []


async def test_an_operation_is_no_larger_than_can_be_compiled_at_once(rich_world: World, statements: list[str]) -> None:
    """Two aliases a level, each spreading the next level three times: a few lines that would be millions of joins."""
    text = "{ simCards(first: 1) { nodes { holder { ...F0 } } } }" + "".join(
        f" fragment F{n} on Tenant {{ parent {{ ...F{n + 1} }} a{n}: parent {{ ...F{n + 1} }}"
        f" b{n}: parent {{ ...F{n + 1} }} }}"
        for n in range(9)
    )
    limits = DocumentLimits(max_cost=10**9)
    assert await ask(rich_world, f"{text} fragment F9 on Tenant {{ name }}", limits=limits) == ["LIMIT_EXCEEDED"]
    assert await ask(rich_world, nested(12), limits=limits) == []


@pytest.mark.parametrize("account", ["north", "admin"])
@pytest.mark.parametrize("inside", ["parent { name", "parent { __typename id", "parent { ... on Agent { level } name"])
async def test_what_types_share_is_written_once(rich_world: World, account: str, inside: str) -> None:
    """The code of a plan grows by as much with each level, though a row may be of any type of an interface."""
    caller = await principal(rich_world, account)
    limits = DocumentLimits(max_depth=20, max_cost=10**9)
    planner = Planner(rich_world, the_graph(), limits)

    def written(levels: int) -> int:
        text = f"{{ tenants {{ nodes {{ {f'{inside} ' * levels} {'}' * levels} }} }} }}"
        operation = planner.operation(caller, text)
        return len(compile_plan(the_graph(), operation, caller.grants, caller.shape, {}, limits).source)

    sizes = [written(levels) for levels in range(3, 13)]
    steps = [after - before for before, after in itertools.pairwise(sizes)]
    assert max(steps) < 1.2 * min(steps)
    text = f"{{ tenants {{ nodes {{ {f'{inside} ' * 9} {'}' * 9} }} }} }}"
    assert "errors" not in await planner.answer(caller, text)


def test_a_table_reads_what_types_share_once() -> None:
    """Though nothing of the innermost is a column."""
    tables = Tables(the_graph(), {"door": Accepts(DocumentLimits(max_depth=30), True, {})})
    text = f"{{ tenants {{ nodes {{ name {'parent { ' * 24} name @skip(if: true) {'}' * 24} }} }} }}"
    assert tables.read("door", text, {}).headings == ["name"]


@pytest.mark.parametrize(
    ("asked", "codes"),
    [
        (get_introspection_query(), []),
        ("{ __schema { types { fields { type { fields { name } } } } } }", ["LIMIT_EXCEEDED"]),
        (
            "{ __schema { types { fields { ...F } } } } fragment F on __Field { type { fields { name } } }",
            ["LIMIT_EXCEEDED"],
        ),
        (f"{{ __schema {{ {' '.join(f't{n}: types {{ name }}' for n in range(13))} }} }}", ["LIMIT_EXCEEDED"]),
        (f"{{ __schema {{ {' '.join(f't{n}: types {{ name }}' for n in range(12))} }} }}", []),
    ],
)
async def test_introspection_is_bounded(rich_world: World, asked: str, codes: list[str]) -> None:
    assert await ask(rich_world, asked, limits=DocumentLimits()) == codes


async def test_filters_are_bounded(rich_world: World, statements: list[str]) -> None:
    text = "query($filter: SimCardFilter) { simCards(filter: $filter) { totalCount } }"

    def any_of(count: int) -> dict[str, Any]:
        return {"filter": {"or": [{"msisdn": {"eq": str(n)}} for n in range(count)]}}

    assert await ask(rich_world, text, any_of(MAX_CONDITIONS)) == ["LIMIT_EXCEEDED"]
    assert await ask(rich_world, text, {"filter": {"msisdn": {"in": ["1"] * (MAX_LISTED + 1)}}}) == ["BAD_USER_INPUT"]
    assert statements == []
    assert await ask(rich_world, text, any_of(MAX_CONDITIONS // 2 - 1)) == []
    assert await ask(rich_world, text, {"filter": {"msisdn": {"in": ["1"] * MAX_LISTED}}}) == []


async def test_a_kept_plan_does_not_mistake_null_for_a_value(rich_world: World) -> None:
    """The value of isNull is part of the statement, so it is part of what a plan is kept by."""
    caller = await principal(rich_world, "north")
    planner = Planner(rich_world, the_graph(), DocumentLimits())
    text = """query($null: Boolean!) { all: simCards { totalCount }
        some: simCards(filter: {activatedAt: {isNull: $null}}) { totalCount } }"""
    without, having = [(await planner.answer(caller, text, {"null": null}))["data"] for null in (True, False)]
    assert without["some"]["totalCount"] > 0
    assert having["some"]["totalCount"] > 0
    assert without["some"]["totalCount"] + having["some"]["totalCount"] == without["all"]["totalCount"]


def test_refused_documents_are_not_kept_and_kept_ones_are_bounded() -> None:
    documents = Documents(the_graph().schema, DocumentLimits(), size=2)
    assert documents.get("{ nothing }").errors
    assert documents.get(f"{{ viewer {{ door }} }} #{'x' * 100_000}").errors
    assert documents.get("{" * 3_000).errors
    assert documents.kept == []
    first, second, third = (f"{{ viewer {{ {field} }} }}" for field in ("roles", "door", "permissions"))
    for text in (first, second, first, third):
        assert not documents.get(text).errors
    assert documents.kept == [first, third]


async def test_aliases(rich_world: World, statements: list[str]) -> None:
    def text(aliases: int) -> str:
        return "{ tenants { nodes { " + " ".join(f"a{n}: name" for n in range(aliases)) + " } } }"

    assert await ask(rich_world, text(5)) == ["LIMIT_EXCEEDED"]
    in_fragment = "{ tenants { nodes { ...F } } } fragment F on Tenant { a: name b: name c: name d: name e: name }"
    assert await ask(rich_world, in_fragment) == ["LIMIT_EXCEEDED"]
    assert statements == []
    assert await ask(rich_world, text(4)) == []


async def test_tokens(rich_world: World, statements: list[str]) -> None:
    text = "{ tenants { nodes { " + "name " * (LIMITS.max_tokens - 8) + "} } }"
    assert await ask(rich_world, text) == []
    statements.clear()
    assert await ask(rich_world, text.replace("name", "name name", 1)) == ["LIMIT_EXCEEDED"]
    assert statements == []


async def test_cost_is_the_page_times_what_hangs_on_it(rich_world: World, statements: list[str]) -> None:
    """A page costs its size, its children the product, a to-one one for each row, a total one for each parent."""
    text = """query($many: Int!, $few: Int!) { simCards(first: $many) { totalCount
        nodes { holder { name } allocations(first: $few) { totalCount nodes { holder { name } } } } } }"""

    def cost(many: int, few: int) -> int:
        return many + 1 + many + many * few + many + many * few

    for many, few in ((20, 20), (10, 48), (50, 8)):
        assert cost(many, few) <= LIMITS.max_cost
        exactly = replace(LIMITS, max_cost=cost(many, few))
        one_less = replace(LIMITS, max_cost=cost(many, few) - 1)
        assert await ask(rich_world, text, {"many": many, "few": few}, exactly) == []
        statements.clear()
        assert await ask(rich_world, text, {"many": many, "few": few}, one_less) == ["LIMIT_EXCEEDED"]
        assert statements == []


async def test_a_kept_plan_does_not_let_a_larger_page_through(rich_world: World, statements: list[str]) -> None:
    caller = await principal(rich_world, "north")
    planner = Planner(rich_world, the_graph(), LIMITS)
    text = "query($n: Int) { simCards(first: $n) { nodes { allocations(first: $n) { nodes { id } } } } }"
    for size, codes in ((5, []), (50, ["LIMIT_EXCEEDED"]), (5, []), (51, ["BAD_USER_INPUT"]), (50, ["LIMIT_EXCEEDED"])):
        statements.clear()
        if not codes:
            assert "errors" not in await planner.answer(caller, text, {"n": size})
            assert len(statements) == 2
            continue
        with pytest.raises(GraphRefusal) as refused:
            await planner.answer(caller, text, {"n": size})
        assert [refused.value.code] == codes
        assert statements == []


async def test_the_default_page_counts_as_well(rich_world: World, statements: list[str]) -> None:
    text = "{ simCards { nodes { allocations { nodes { id } } } } }"
    assert await ask(rich_world, text, limits=replace(LIMITS, max_cost=419)) == ["LIMIT_EXCEEDED"]
    assert statements == []
    assert await ask(rich_world, text, limits=replace(LIMITS, max_cost=420)) == []


async def test_fields_that_are_not_granted_are_all_told_before_anything_runs(
    rich_world: World, statements: list[str]
) -> None:
    caller = await principal(rich_world, "north")
    text = "{ simCards { nodes { id iccid supplier { name } } } suppliers { nodes { id } } }"
    with pytest.raises(GraphRefusals) as refused:
        await Planner(rich_world, the_graph(), LIMITS).answer(caller, text)
    assert {(refusal.code, tuple(refusal.path or ())) for refusal in refused.value.refusals} >= {
        ("FORBIDDEN", ("simCards", "nodes", "iccid")),
        ("FORBIDDEN", ("simCards", "nodes", "supplier")),
        ("FORBIDDEN", ("suppliers",)),
    }
    assert statements == []


@pytest.mark.parametrize(
    "arguments",
    [
        'filter: {iccid: {eq: "1"}}',
        "filter: {not: {or: [{supplier: {isNull: true}}]}}",
        "first: 0, filter: {supplier: {isNull: true}}",
    ],
)
@pytest.mark.parametrize("below", ["nodes { id }", "totalCount", "pageInfo { hasNextPage }"])
async def test_searching_by_what_may_not_be_read_is_forbidden(
    rich_world: World, statements: list[str], arguments: str, below: str
) -> None:
    statements.clear()
    assert await ask(rich_world, f"{{ simCards({arguments}) {{ {below} }} }}") == ["FORBIDDEN"]
    nested = f"{{ tenants {{ nodes {{ simCards({arguments}) {{ {below} }} }} }} }}"
    assert await ask(rich_world, nested) == ["FORBIDDEN"]
    assert statements == []


async def test_a_masked_number_is_searched_as_a_whole_only(rich_world: World, statements: list[str]) -> None:
    def text(operator: str) -> str:
        return f'{{ endUsers(filter: {{phone: {{{operator}: "138"}}}}) {{ totalCount }} }}'

    for operator in ("startsWith", "contains", "ne"):
        assert await ask(rich_world, text(operator)) == ["FORBIDDEN"]
    assert statements == []
    assert await ask(rich_world, text("eq")) == []


async def test_a_number_is_shown_in_full_to_its_owner_only(rich_world: World) -> None:
    caller = await principal(rich_world, "north")
    answer = await Planner(rich_world, the_graph()).answer(
        caller, "{ staffAccounts(first: 50) { nodes { login phone } } }"
    )
    phones = {node["login"]: node["phone"] for node in answer["data"]["staffAccounts"]["nodes"]}
    assert phones.pop("north") == "13912345678"
    assert phones["north-east"] == "139****5678"
    assert all(phone is None or "****" in phone for phone in phones.values())


async def granted(world: World, name: str, **reach: frozenset[Scope]) -> Principal:
    """A caller for whom some fields of ``SimCard`` reach other rows than before."""
    caller = await principal(world, name)
    changed = {("SimCard", field, Act.READ): rows for field, rows in reach.items()}
    return replace(caller, grants=Grants({**caller.grants.reach, **changed}, f"{caller.grants.key}, {reach}"))


async def test_a_field_that_must_have_a_value_is_granted_on_all_rows_of_its_type_or_refused(rich_world: World) -> None:
    planner = Planner(rich_world, the_graph(), LIMITS)
    text = "{ simCards { nodes { displayIccid } } }"
    fewer = await granted(rich_world, "north", displayIccid=frozenset({Scope.TENANT}))
    with pytest.raises(GraphRefusals) as refused:
        await planner.answer(fewer, text)
    assert [(r.code, r.text, r.params) for r in refused.value.refusals] == [
        ("FORBIDDEN", "NOT_GRANTED", {"coordinate": "SimCard.displayIccid"})
    ]
    # more rows than those of the type change nothing
    more = await granted(rich_world, "north", displayIccid=frozenset({Scope.SUBTREE, Scope.ANCESTORS}))
    assert await planner.answer(more, text) == await planner.answer(await principal(rich_world, "north"), text)


async def test_a_field_granted_on_more_rows_than_its_type_may_be_searched_by(rich_world: World) -> None:
    planner = Planner(rich_world, the_graph(), LIMITS)
    text = '{ simCards(filter: {msisdn: {eq: "1"}}) { totalCount } }'
    more = await granted(rich_world, "operations", msisdn=frozenset({Scope.ALL, Scope.SELF}))
    assert await planner.answer(more, text) == {"data": {"simCards": {"totalCount": 0}}}


async def test_what_is_no_id_fails_its_own_field_only(rich_world: World) -> None:
    planner = Planner(rich_world, the_graph(), LIMITS)
    caller = await principal(rich_world, "north")
    card = rich_world.card_ids("north")[0]
    text = """query($id: ID!, $ids: [ID!]!) {
        a: node(id: "nonsense") { id } b: node(id: $id) { id } nodes(ids: $ids) { id } }"""
    answer = await planner.answer(caller, text, {"id": card, "ids": [card, "xxx_1"]})
    assert answer["data"] == {"a": None, "b": {"id": card}, "nodes": [{"id": card}, None]}
    assert [(e["path"], e["extensions"]["code"]) for e in answer["errors"]] == [
        (["a"], "BAD_USER_INPUT"),
        (["nodes", 1], "BAD_USER_INPUT"),
    ]
