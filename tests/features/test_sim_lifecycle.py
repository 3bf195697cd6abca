"""The life of a card: steps that are allowed and forbidden, its history, and what is bound to it."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest

from planner.ids import encode_id
from tests.support.world import World

STEP = """mutation($input: ChangeSimStatusInput!) { result: %s(input: $input) {
    count simCards { id status activatedAt } errors { code field message } } }"""
ALLOCATE = """mutation($input: AllocateSimCardsInput!) { result: allocateSimCards(input: $input) {
    count simCards { id status } errors { code field } } }"""
RECALL = """mutation($input: RecallSimCardsInput!) { result: recallSimCards(input: $input) {
    count simCards { id status } errors { code field } } }"""
BIND_PACKAGE = """mutation($input: BindSimPackageInput!) { result: bindSimPackage(input: $input) {
    count simCards { id package { code } } errors { code field } } }"""
BIND_END_USER = """mutation($input: BindSimEndUserInput!) { result: bindSimEndUser(input: $input) {
    simCard { id endUser { id name } } errors { code field } } }"""
STATUSES = ("STOCK", "ALLOCATED", "ACTIVE", "SUSPENDED", "TERMINATED")
TABLE = {
    "activateSimCards": {"STOCK": "ACTIVE", "ALLOCATED": "ACTIVE"},
    "suspendSimCards": {"ACTIVE": "SUSPENDED"},
    "resumeSimCards": {"SUSPENDED": "ACTIVE"},
    "terminateSimCards": dict.fromkeys(("STOCK", "ALLOCATED", "ACTIVE", "SUSPENDED"), "TERMINATED"),
    "allocateSimCards": dict.fromkeys(("STOCK", "ALLOCATED"), "ALLOCATED"),
    "recallSimCards": {"ALLOCATED": "STOCK"},
}
"""Where each action leads from each status; from any other it is refused."""
HISTORY = """query($id: ID!) { simCard(id: $id) { status activatedAt
    statusChanges(first: 50) { nodes { action fromStatus toStatus reason at } } } }"""
keys = (f"key {number}" for number in itertools.count())


async def cards(world: World) -> list[Any]:
    """Everything that a refused step must leave as it was."""
    tables = ("sim_card", "sim_status_change", "sim_allocation", "sim_package_binding", "sim_end_user_binding")
    return [await world.sql(f"SELECT * FROM {table} ORDER BY id") for table in tables]


async def step(world: World, caller: str, action: str, ids: list[str], **more: Any) -> dict[str, Any]:
    document = {"allocateSimCards": ALLOCATE, "recallSimCards": RECALL}.get(action, STEP % action)
    input: dict[str, Any] = {"cards": {"ids": ids}, "idempotencyKey": next(keys), **more}
    if action == "allocateSimCards":
        input["to"] = world.id("north")
    found: dict[str, Any] = (await world.data(caller, document, {"input": input}))["result"]
    return found


@pytest.mark.feature("S0-43")
@pytest.mark.parametrize("source", STATUSES)
@pytest.mark.parametrize("action", TABLE)
async def test_the_transition_table(world: World, action: str, source: str) -> None:
    # cards to be taken back lie below, and all others with the platform
    holder = "north" if action == "recallSimCards" else "platform"
    chosen, other = world.card_ids(holder)[:2]
    [card, twin] = world.cards[holder][:2]
    await world.sql("UPDATE sim_card SET activated_at = NULL WHERE id = ANY($1)", [card.id, twin.id])
    await world.sql("UPDATE sim_card SET status = $1 WHERE id = $2", source, card.id)
    await world.sql("UPDATE sim_card SET status = $1 WHERE id = $2", min(TABLE[action]), twin.id)
    target = TABLE[action].get(source)
    before = await cards(world)
    result = await step(world, "operations", action, [chosen, other])
    if target is None:
        # a step is taken by all of the cards or by none
        [error] = result["errors"]
        assert (result["count"], error["code"], error["field"]) == (0, "WRONG_STATUS", "cards")
        assert await cards(world) == before
        return
    assert (result["count"], result["errors"]) == (2, [])
    assert {node["status"] for node in result["simCards"]} == {target}
    rows = await world.sql("SELECT status FROM sim_card WHERE id = ANY($1)", [card.id, twin.id])
    assert {row["status"] for row in rows} == {target}
    steps = await world.sql(
        """SELECT c.*, a.login FROM sim_status_change c JOIN staff_account a ON a.id = c.account_id
           WHERE sim_card_id = $1""",
        card.id,
    )
    assert [(row["from_status"], row["to_status"], row["login"]) for row in steps] == [(source, target, "operations")]


@pytest.mark.feature("S0-43")
async def test_a_life_with_its_history(world: World) -> None:
    [id] = world.card_ids("platform")[:1]
    life = [
        ("activateSimCards", "ACTIVATE", "STOCK", "ACTIVE", None),
        ("suspendSimCards", "SUSPEND", "ACTIVE", "SUSPENDED", "unpaid"),
        ("resumeSimCards", "RESUME", "SUSPENDED", "ACTIVE", "paid"),
        ("suspendSimCards", "SUSPEND", "ACTIVE", "SUSPENDED", "lost"),
        ("terminateSimCards", "TERMINATE", "SUSPENDED", "TERMINATED", "not found again"),
    ]
    activated = set()
    for action, _, _, target, reason in life:
        [node] = (await step(world, "operations", action, [id], reason=reason))["simCards"]
        assert node["status"] == target
        activated.add(node["activatedAt"])
    # the first activation is the card's for good
    assert len(activated) == 1
    assert None not in activated
    card = (await world.data("finance", HISTORY, {"id": id}))["simCard"]
    steps = card["statusChanges"]["nodes"][1:]  # the world itself has written the first
    assert [(s["action"], s["fromStatus"], s["toStatus"], s["reason"]) for s in steps] == [line[1:] for line in life]
    assert [s["at"] for s in steps] == sorted(s["at"] for s in steps)
    for action in TABLE:
        if action != "recallSimCards":
            [error] = (await step(world, "admin", action, [id]))["errors"]
            assert error["code"] == "WRONG_STATUS", action


@pytest.mark.feature("S0-45")
@pytest.mark.parametrize(
    "caller",
    ["operations", "north", "north-east"],
)
async def test_activation_is_dated_once_on_the_card_and_at_every_level_of_its_holders(
    world: World, caller: str
) -> None:
    card = world.cards["north-east"][0]
    [node] = (await step(world, caller, "activateSimCards", [encode_id("sim", card.id)]))["simCards"]
    [row] = await world.sql("SELECT activated_at, status FROM sim_card WHERE id = $1", card.id)
    assert (row["status"], row["activated_at"].isoformat()) == ("ACTIVE", node["activatedAt"].replace("Z", "+00:00"))
    asked = """query($id: ID!) { simCard(id: $id) { activatedAt
        allocations(first: 10) { nodes { level activatedAt } } } }"""
    for reader, levels in (("operations", [1, 2]), ("north", [1, 2]), ("north-east", [2])):
        found = (await world.data(reader, asked, {"id": encode_id("sim", card.id)}))["simCard"]
        held = found["allocations"]["nodes"]
        assert [(each["level"], each["activatedAt"]) for each in held] == [
            (level, node["activatedAt"]) for level in levels
        ]
    # what was never put into service has no date at any level
    other = encode_id("sim", world.cards["north"][0].id)
    found = (await world.data("operations", asked, {"id": other}))["simCard"]
    assert [each["activatedAt"] for each in found["allocations"]["nodes"]] == [None]


@pytest.mark.feature("S0-43")
async def test_who_may_take_which_step(world: World) -> None:
    before = await cards(world)
    for action in ("activateSimCards", "suspendSimCards", "resumeSimCards", "terminateSimCards"):
        input = {"cards": {"ids": world.card_ids("north")[:1]}, "idempotencyKey": next(keys)}
        refused = ["finance", "sales", *(["north", "acme"] if action == "terminateSimCards" else [])]
        for caller in refused:
            assert await world.codes(caller, STEP % action, {"input": input}) == ["FORBIDDEN"], (caller, action)
    for caller, holder in (("south", "north"), ("acme", "north"), ("north-east", "north"), ("north", "platform")):
        result = await step(world, caller, "activateSimCards", world.card_ids(holder)[:1])
        assert [error["code"] for error in result["errors"]] == ["CARDS_NOT_FOUND"], (caller, holder)
    assert await cards(world) == before
    # above and at the holder
    for caller in ("north", "north-east"):
        [node] = (await step(world, caller, "suspendSimCards", world.card_ids("north-east")[1:2]))["simCards"]
        assert node["status"] == "SUSPENDED"
        await step(world, "operations", "resumeSimCards", world.card_ids("north-east")[1:2])
    [node] = (await step(world, "acme", "suspendSimCards", world.card_ids("acme")[1:2]))["simCards"]
    assert node["status"] == "SUSPENDED"


async def test_a_refusal_speaks_the_callers_language(world: World) -> None:
    said = []
    for language in ("en", "zh-CN"):
        input = {"cards": {"ids": world.card_ids("north")[1:2]}, "idempotencyKey": next(keys)}
        answer = await world.run("north", STEP % "activateSimCards", {"input": input}, language=language)
        said.append(answer["data"]["result"]["errors"][0]["message"])
    assert said == ["1 of the cards are ACTIVE: ACTIVATE is not possible.", "1 张卡状态为 ACTIVE，无法执行 ACTIVATE。"]


# -- packages -----------------------------------------------------------------------------------------------------


def package(world: World, code: str) -> str:
    return encode_id("pkg", world.packages[code].id)


@pytest.mark.feature("S0-06", "S0-57")
@pytest.mark.parametrize("caller", ["admin", "operations"])
async def test_a_package_is_bound_changed_and_unbound_with_history(world: World, caller: str) -> None:
    card, id = world.cards["platform"][0], world.card_ids("platform")[0]

    async def bind(code: str | None) -> dict[str, Any]:
        input = {"cards": {"ids": [id]}, "package": None if code is None else package(world, code)}
        found: dict[str, Any] = (await world.data(caller, BIND_PACKAGE, {"input": input}))["result"]
        return found

    for code in ("CM-M-1G", "CM-Q-3G", None, "CM-M-1G"):
        bound = {"code": code} if code else None
        assert await bind(code) == {"count": 1, "simCards": [{"id": id, "package": bound}], "errors": []}
    # what is bound already stays bound as it is
    assert (await bind("CM-M-1G"))["errors"] == []
    query = """query($id: ID!) { simCard(id: $id) { package { code }
        packageBindings(first: 9) { nodes { boundAt unboundAt package { code } } } } }"""
    found = (await world.data("finance", query, {"id": id}))["simCard"]
    assert found["package"] == {"code": "CM-M-1G"}
    history = found["packageBindings"]["nodes"]
    assert [(b["package"]["code"], b["unboundAt"] is None) for b in history] == [
        ("CM-M-1G", False),
        ("CM-Q-3G", False),
        ("CM-M-1G", True),
    ]
    assert [row["package_id"] for row in await world.sql("SELECT package_id FROM sim_card WHERE id = $1", card.id)] == [
        world.packages["CM-M-1G"].id
    ]


@pytest.mark.feature("S0-06", "S0-57")
async def test_package_refusals_change_no_card(world: World) -> None:
    before = await cards(world)
    ids = world.card_ids("platform")[:3]
    for package_id, chosen, code, field in (
        (package(world, "CT-Q-1G"), ids, "WRONG_CARRIER", "cards"),
        (encode_id("pkg", 10**9), ids, "NOT_FOUND", "package"),
        (world.id("north"), ids, "INVALID_ID", "package"),
        (package(world, "CM-M-1G"), [*ids, encode_id("sim", 10**9)], "CARDS_NOT_FOUND", "cards"),
    ):
        input = {"cards": {"ids": chosen}, "package": package_id}
        result = (await world.data("operations", BIND_PACKAGE, {"input": input}))["result"]
        assert result == {"count": 0, "simCards": [], "errors": [{"code": code, "field": field}]}
    input = {"cards": {"ids": ids}, "package": package(world, "CM-M-1G")}
    for caller in ("finance", "sales", "north", "acme"):
        assert await world.codes(caller, BIND_PACKAGE, {"input": input}) == ["FORBIDDEN"], caller
    assert await cards(world) == before


@pytest.mark.feature("S0-57")
async def test_two_packages_at_once_leave_one_current(world: World) -> None:
    card, id = world.cards["platform"][0], world.card_ids("platform")[0]
    answers = await asyncio.gather(
        *(
            world.data("operations", BIND_PACKAGE, {"input": {"cards": {"ids": [id]}, "package": package(world, code)}})
            for code in ("CM-M-1G", "CM-Q-3G", "CM-M-30M")
        )
    )
    assert [answer["result"]["errors"] for answer in answers] == [[], [], []]
    current = await world.sql(
        """SELECT b.package_id, c.package_id AS of_card FROM sim_package_binding b JOIN sim_card c ON c.id = sim_card_id
           WHERE sim_card_id = $1 AND unbound_at IS NULL""",
        card.id,
    )
    assert [row["package_id"] == row["of_card"] for row in current] == [True]
    [row] = await world.sql("SELECT count(*) AS n FROM sim_package_binding WHERE sim_card_id = $1", card.id)
    assert row["n"] == 3


# -- end users ----------------------------------------------------------------------------------------------------


def person(world: World, name: str) -> str:
    return encode_id("eus", world.end_users[name].id)


async def bind_person(world: World, caller: str, card: str, end_user: str | None) -> dict[str, Any]:
    input = {"card": card, "endUser": end_user}
    found: dict[str, Any] = (await world.data(caller, BIND_END_USER, {"input": input}))["result"]
    return found


@pytest.mark.feature("S0-40", "S0-57")
@pytest.mark.parametrize(("caller", "holder"), [("north", "north"), ("acme", "acme"), ("operations", "platform")])
async def test_a_card_is_given_to_a_person_and_taken_back(world: World, caller: str, holder: str) -> None:
    card, id = world.cards[holder][0], world.card_ids(holder)[0]
    shown = {"id": person(world, holder), "name": world.end_users[holder].name}
    for _ in range(2):
        result = await bind_person(world, caller, id, person(world, holder))
        assert result == {"simCard": {"id": id, "endUser": shown}, "errors": []}
    assert (await bind_person(world, caller, id, None))["simCard"] == {"id": id, "endUser": None}
    assert (await bind_person(world, caller, id, person(world, holder)))["simCard"]["endUser"] == shown
    history = await world.sql(
        "SELECT end_user_id, unbound_at FROM sim_end_user_binding WHERE sim_card_id = $1 ORDER BY id", card.id
    )
    assert [(row["end_user_id"], row["unbound_at"] is None) for row in history] == [
        (world.end_users[holder].id, False),
        (world.end_users[holder].id, True),
    ]


@pytest.mark.feature("S0-40", "S0-57")
async def test_end_user_refusals(world: World) -> None:
    before = await cards(world)
    own, terminated = world.card_ids("north")[0], world.card_ids("north")[4]
    for caller, card, end_user, code, field in (
        ("north", own, person(world, "south"), "NOT_FOUND", "endUser"),
        ("north", world.card_ids("south")[0], person(world, "north"), "CARDS_NOT_FOUND", "cards"),
        ("north", terminated, person(world, "north"), "WRONG_STATUS", "card"),
        ("acme", own, person(world, "acme"), "CARDS_NOT_FOUND", "cards"),
        ("north", own, own, "INVALID_ID", "endUser"),
    ):
        result = await bind_person(world, caller, card, end_user)
        assert result == {"simCard": None, "errors": [{"code": code, "field": field}]}, (caller, code)
    for caller in ("finance", "sales"):
        input = {"card": own, "endUser": person(world, "north")}
        assert await world.codes(caller, BIND_END_USER, {"input": input}) == ["FORBIDDEN"], caller
    assert await cards(world) == before


@pytest.mark.feature("S0-40", "S0-57")
async def test_a_person_bound_above_is_unbound_below(world: World) -> None:
    """A card handed down keeps its user, and its new holder can give it to another."""
    [id] = world.card_ids("platform")[:1]
    assert (await bind_person(world, "operations", id, person(world, "north")))["errors"] == []
    assert (await step(world, "operations", "allocateSimCards", [id]))["errors"] == []
    assert (await bind_person(world, "north", id, None))["errors"] == []
    assert (await bind_person(world, "north", id, person(world, "north-east")))["errors"] == []
    history = await world.sql(
        "SELECT end_user_id, unbound_at FROM sim_end_user_binding WHERE sim_card_id = $1 ORDER BY id",
        world.cards["platform"][0].id,
    )
    assert [(row["end_user_id"], row["unbound_at"] is None) for row in history] == [
        (world.end_users["north"].id, False),
        (world.end_users["north-east"].id, True),
    ]


@pytest.mark.feature("S0-57")
async def test_the_current_package_binding_is_seen_by_each_new_holder(world: World) -> None:
    id = world.card_ids("platform")[1]
    query = "query($id: ID!) { simCard(id: $id) { packageBindings { nodes { unboundAt package { code } } } } }"
    bound = {"packageBindings": {"nodes": [{"unboundAt": None, "package": {"code": "CM-M-1G"}}]}}
    await step(world, "operations", "allocateSimCards", [id])
    assert (await world.data("north", query, {"id": id}))["simCard"] == bound
    await step(world, "operations", "recallSimCards", [id])
    assert (await world.data("operations", query, {"id": id}))["simCard"] == bound
    assert (await world.data("north", query, {"id": id}))["simCard"] is None
