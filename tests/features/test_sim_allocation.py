"""Handing cards down the tree and taking them back: whose cards, to whom, all or none, and once."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest

from planner.ids import decode_id, encode_id
from tests.support.world import World

RESULT = "count simCards { id status holder { id } } errors { code field }"
ALLOCATE = f"mutation($input: AllocateSimCardsInput!) {{ result: allocateSimCards(input: $input) {{ {RESULT} }} }}"
RECALL = f"mutation($input: RecallSimCardsInput!) {{ result: recallSimCards(input: $input) {{ {RESULT} }} }}"
CARD = """query($id: ID!) { simCard(id: $id) { displayIccid status holder { id }
    allocations(first: 20) { nodes { level holding endedAt activatedAt holder { id } fromTenant { id } } } } }"""
keys = (f"key {number}" for number in itertools.count())


async def run(
    world: World, caller: str, document: str, cards: Any, key: str | None = None, **more: Any
) -> dict[str, Any]:
    selection = {"ids": cards} if isinstance(cards, list) else cards
    input = {"cards": selection, "idempotencyKey": key or next(keys), **more}
    found: dict[str, Any] = (await world.data(caller, document, {"input": input}))["result"]
    return found


async def allocate(
    world: World, caller: str, to: str, cards: Any, key: str | None = None, **more: Any
) -> dict[str, Any]:
    return await run(world, caller, ALLOCATE, cards, key, to=world.id(to), **more)


def refused(code: str, field: str = "cards") -> dict[str, Any]:
    return {"count": 0, "simCards": [], "errors": [{"code": code, "field": field}]}


async def stock(world: World) -> list[Any]:
    """Everything that a refused allocation must leave as it was."""
    return [
        await world.sql(f"SELECT * FROM {table} ORDER BY id")
        for table in ("sim_card", "sim_allocation", "sim_status_change", "idempotent_result")
    ]


async def display_iccids(world: World, holder: str) -> list[str]:
    ids = [card.id for card in world.cards[holder]]
    return [r["display_iccid"] for r in await world.sql("SELECT * FROM sim_card WHERE id = ANY($1) ORDER BY id", ids)]


async def current(world: World, card: int) -> list[tuple[int, int, str]]:
    found = await world.sql(
        "SELECT * FROM sim_allocation WHERE sim_card_id = $1 AND ended_at IS NULL ORDER BY level", card
    )
    return [(row["level"], row["tenant_id"], row["holding"]) for row in found]


@pytest.mark.feature("S0-14", "S0-45", "S0-57")
@pytest.mark.parametrize("caller", ["admin", "operations", "sales"])
async def test_the_platform_hands_stock_to_a_customer(world: World, caller: str) -> None:
    ids = world.card_ids("platform")[:2]
    result = await allocate(world, caller, "acme", ids)
    holder = {"id": world.id("acme")}
    cards = [{"id": id, "status": "ALLOCATED", "holder": holder} for id in ids]
    assert result == {"count": 2, "simCards": cards, "errors": []}
    # an enterprise has its cards for itself, whatever was said
    seen = (await world.data("acme", CARD.replace(" fromTenant { id }", ""), {"id": ids[0]}))["simCard"]
    assert (seen["status"], seen["holder"]) == ("ALLOCATED", holder)
    assert seen["allocations"]["nodes"] == [
        {"level": 1, "holding": "OWNED", "endedAt": None, "activatedAt": None, "holder": holder}
    ]
    [row] = await world.sql(
        """SELECT c.*, a.login FROM sim_status_change c JOIN staff_account a ON a.id = c.account_id
           WHERE sim_card_id = $1""",
        world.cards["platform"][0].id,
    )
    assert (row["action"], row["from_status"], row["to_status"], row["login"]) == (
        "ALLOCATE",
        "STOCK",
        "ALLOCATED",
        caller,
    )


@pytest.mark.feature("S0-14", "S0-30", "S0-45", "S0-57")
async def test_cards_go_down_level_by_level_and_each_level_keeps_its_record(world: World) -> None:
    chain = ("platform", "north", "north-east", "coast")
    [id], card = world.card_ids("platform")[:1], world.cards["platform"][0]
    for depth, (giver, taker) in enumerate(itertools.pairwise(chain), 1):
        caller = "sales" if giver == "platform" else giver
        result = await allocate(world, caller, taker, [id], holding="OWNED" if taker == "coast" else "AGENCY")
        assert result["errors"] == []
        held = [
            (level, world.tenants[name].id, "OWNED" if name == "coast" else "AGENCY")
            for level, name in enumerate(chain[1 : depth + 1], 1)
        ]
        assert await current(world, card.id) == held
        # seen by the holder and by those above it, by nobody else
        holders = ("platform", "acme", "north", "north-east", "coast", "south", "south-west")
        for name in holders:
            caller = "admin" if name == "platform" else name
            seen = (await world.data(caller, "query($id: ID!) { simCard(id: $id) { id } }", {"id": id}))["simCard"]
            assert (seen is not None) == (taker in world.below(name)), (name, taker)
    full = (await world.data("admin", CARD, {"id": id}))["simCard"]["allocations"]["nodes"]
    assert [(row["holder"]["id"], row["fromTenant"]["id"]) for row in full] == [
        (world.id(taker), world.id(giver)) for giver, taker in itertools.pairwise(chain)
    ]


@pytest.mark.feature("S0-14", "S0-30")
async def test_cards_and_targets_that_are_not_the_callers(world: World) -> None:
    before = await stock(world)
    own = world.card_ids("north")[:1]
    for caller, to, ids, error in (
        # not directly below, not below at all, oneself, above
        ("sales", "north-east", world.card_ids("platform")[:1], refused("NOT_DIRECTLY_BELOW", "to")),
        ("north", "coast", own, refused("NOT_DIRECTLY_BELOW", "to")),
        ("north", "north", own, refused("NOT_DIRECTLY_BELOW", "to")),
        ("north", "south", own, refused("NOT_FOUND", "to")),
        ("north", "south-west", own, refused("NOT_FOUND", "to")),
        ("north", "platform", own, refused("NOT_FOUND", "to")),
        # held below, by a sibling, above, by nobody
        ("north", "north-east", world.card_ids("north-east")[:1], refused("CARDS_NOT_FOUND")),
        ("north", "north-east", world.card_ids("south")[:1], refused("CARDS_NOT_FOUND")),
        ("north", "north-east", world.card_ids("platform")[:1], refused("CARDS_NOT_FOUND")),
        ("sales", "north", world.card_ids("south")[:1], refused("CARDS_NOT_FOUND")),
        ("north", "north-east", [encode_id("sim", 10**9)], refused("CARDS_NOT_FOUND")),
        # one stranger among one's own: none goes
        ("north", "north-east", [*own, *world.card_ids("south")[:1]], refused("CARDS_NOT_FOUND")),
        # in service
        ("north", "north-east", world.card_ids("north")[:2], refused("WRONG_STATUS")),
        ("north", "north-east", [], refused("REQUIRED")),
        ("north", "north-east", [world.id("north")], refused("INVALID_ID", "cards.ids")),
    ):
        assert await allocate(world, caller, to, ids) == error, (caller, to)
    for caller in ("finance", "acme"):
        input = {"to": world.id("north-east"), "cards": {"ids": own}, "idempotencyKey": next(keys)}
        assert await world.codes(caller, ALLOCATE, {"input": input}) == ["FORBIDDEN"], caller
    assert await stock(world) == before


@pytest.mark.feature("S0-14")
async def test_a_suspended_customer_gets_no_cards(world: World) -> None:
    await world.sql("UPDATE tenant SET status = 'SUSPENDED' WHERE id = $1", world.tenants["acme"].id)
    before = await stock(world)
    assert await allocate(world, "sales", "acme", world.card_ids("platform")[:1]) == refused("NOT_ACTIVE", "to")
    assert await stock(world) == before


@pytest.mark.feature("S0-14", "S0-44")
async def test_cards_are_chosen_by_display_iccid_or_a_range_of_them(world: World) -> None:
    numbers = await display_iccids(world, "platform")
    ids = world.card_ids("platform")
    spaced = f" {numbers[0][:4]} {numbers[0][4:]} "
    result = await allocate(world, "sales", "north", {"displayIccids": [spaced, numbers[2]]})
    assert [node["id"] for node in result["simCards"]] == [ids[0], ids[2]]
    ends = {"firstDisplayIccid": numbers[3], "lastDisplayIccid": numbers[5]}
    result = await allocate(world, "sales", "north", ends)
    assert [node["id"] for node in result["simCards"]] == ids[3:6]

    before = await stock(world)
    [iccid] = [world.cards["platform"][1].iccid]
    for selection, error in (
        ({"displayIccids": [iccid]}, refused("CARDS_NOT_FOUND")),
        ({"displayIccids": [numbers[1], "99" + "0" * 18]}, refused("CARDS_NOT_FOUND")),
        ({"displayIccids": []}, refused("REQUIRED")),
        ({"firstDisplayIccid": numbers[1]}, refused("SELECT_ONE")),
        ({"lastDisplayIccid": numbers[1]}, refused("SELECT_ONE")),
        ({}, refused("SELECT_ONE")),
        ({"ids": ids[1:2], "displayIccids": numbers[1:2]}, refused("SELECT_ONE")),
        ({"ids": ids[1:2], "firstDisplayIccid": numbers[1]}, refused("SELECT_ONE")),
        (
            {"firstDisplayIccid": numbers[5], "lastDisplayIccid": numbers[3]},
            refused("RANGE_ORDER", "cards.lastDisplayIccid"),
        ),
        # the range reaches into what has been given away
        ({"firstDisplayIccid": numbers[0], "lastDisplayIccid": numbers[5]}, refused("CARDS_NOT_FOUND")),
        ({"firstDisplayIccid": "98", "lastDisplayIccid": "98999"}, refused("CARDS_NOT_FOUND")),
    ):
        assert await allocate(world, "sales", "north", selection) == error, selection
    assert await stock(world) == before


@pytest.mark.feature("S0-14")
async def test_ten_thousand_cards_at_once_and_not_one_more(world: World) -> None:
    await world.sql(
        """INSERT INTO sim_card (tenant_id, tenant_path, iccid, carrier, sim_type, entry_mode, status, supplier_id)
           SELECT $1, $2, '898600' || (7000000000000 + n), 'CMCC', 'M2M', 'RANGE', 'STOCK', $3
           FROM generate_series(1, 10001) n""",
        world.tenants["platform"].id,
        world.tenants["platform"].path,
        next(iter(world.suppliers.values())).id,
    )
    made = await world.sql("SELECT id, display_iccid FROM sim_card WHERE entry_mode = 'RANGE' ORDER BY id")
    before = await stock(world)
    numbers = [row["display_iccid"] for row in made]
    for selection in (
        {"ids": [encode_id("sim", row["id"]) for row in made]},
        {"displayIccids": numbers},
        {"firstDisplayIccid": numbers[0], "lastDisplayIccid": numbers[-1]},
    ):
        assert await allocate(world, "sales", "north", selection) == refused("TOO_MANY")
    assert await stock(world) == before
    ends = {"firstDisplayIccid": numbers[0], "lastDisplayIccid": numbers[-2]}
    result = await allocate(world, "sales", "north", ends)
    assert (result["count"], len(result["simCards"]), result["errors"]) == (10_000, 100, [])
    [row] = await world.sql(
        "SELECT count(*) AS n FROM sim_allocation a JOIN sim_card c ON c.id = sim_card_id WHERE entry_mode = 'RANGE'"
    )
    assert row["n"] == 10_000


# -- taking back --------------------------------------------------------------------------------------------------


@pytest.mark.feature("S0-30", "S0-45")
async def test_what_is_not_in_service_can_be_taken_back_from_any_level(world: World) -> None:
    [id], card = world.card_ids("platform")[:1], world.cards["platform"][0]
    for caller, to in (("sales", "north"), ("north", "north-east"), ("north-east", "coast")):
        assert (await allocate(world, caller, to, [id]))["errors"] == []
    result = await run(world, "north", RECALL, [id])
    assert result["simCards"] == [{"id": id, "status": "ALLOCATED", "holder": {"id": world.id("north")}}]
    assert await current(world, card.id) == [(1, world.tenants["north"].id, "AGENCY")]
    gone = "query($id: ID!) { simCard(id: $id) { id } }"
    assert await world.data("coast", gone, {"id": id}) == {"simCard": None}
    # it can be handed down again, and the platform takes it from there into stock
    assert (await allocate(world, "north", "north-east", [id]))["errors"] == []
    result = await run(world, "operations", RECALL, [id])
    assert result["simCards"] == [{"id": id, "status": "STOCK", "holder": {"id": world.id("platform")}}]
    assert await current(world, card.id) == []
    history = await world.sql("SELECT * FROM sim_allocation WHERE sim_card_id = $1 ORDER BY id", card.id)
    assert [(row["level"], row["ended_at"] is not None) for row in history] == [
        (1, True),
        (2, True),
        (3, True),
        (2, True),
    ]
    steps = await world.sql("SELECT * FROM sim_status_change WHERE sim_card_id = $1 ORDER BY id", card.id)
    assert [row["action"] for row in steps][-6:] == ["ALLOCATE"] * 3 + ["RECALL", "ALLOCATE", "RECALL"]
    assert (steps[-1]["from_status"], steps[-1]["to_status"]) == ("ALLOCATED", "STOCK")
    assert (steps[-3]["from_status"], steps[-3]["to_status"]) == ("ALLOCATED", "ALLOCATED")


@pytest.mark.feature("S0-30")
async def test_what_cannot_be_taken_back(world: World) -> None:
    await world.sql("UPDATE sim_card SET activated_at = now() WHERE id = $1", world.cards["south-west"][0].id)
    before = await stock(world)
    for caller, ids, code in (
        ("north", world.card_ids("north-east")[1:2], "ALREADY_ACTIVATED"),
        ("north", world.card_ids("north-east")[:2], "ALREADY_ACTIVATED"),
        ("south", world.card_ids("south-west")[:1], "ALREADY_ACTIVATED"),
        ("north", world.card_ids("north")[:1], "WRONG_STATUS"),
        ("operations", world.card_ids("platform")[:1], "WRONG_STATUS"),
        ("north-east", world.card_ids("north")[:1], "CARDS_NOT_FOUND"),
        ("north", world.card_ids("south-west")[:1], "CARDS_NOT_FOUND"),
        ("south", world.card_ids("north-east")[:1], "CARDS_NOT_FOUND"),
    ):
        assert await run(world, caller, RECALL, ids) == refused(code), (caller, code)
    for caller in ("sales", "finance", "acme"):
        input = {"cards": {"ids": world.card_ids("acme")[:1]}, "idempotencyKey": next(keys)}
        assert await world.codes(caller, RECALL, {"input": input}) == ["FORBIDDEN"], caller
    assert await stock(world) == before


# -- once ---------------------------------------------------------------------------------------------------------


@pytest.mark.feature("S0-14", "S0-30")
async def test_a_repeat_gives_the_first_result_and_does_nothing(world: World) -> None:
    ids = world.card_ids("platform")[:2]
    first = await allocate(world, "sales", "north", ids, "order 7")
    after = await stock(world)
    assert await allocate(world, "sales", "north", ids, "order 7") == first
    assert await stock(world) == after
    for to, chosen in (("north", ids[:1]), ("acme", ids), ("north", [*ids, *world.card_ids("platform")[2:3]])):
        assert await allocate(world, "sales", to, chosen, "order 7") == refused("KEY_REUSED", "idempotencyKey")
    assert await stock(world) == after
    # the key is the caller's own, and of one mutation
    assert (await allocate(world, "admin", "north", world.card_ids("platform")[2:3], "order 7"))["count"] == 1
    assert (await run(world, "operations", RECALL, ids, "order 7"))["count"] == 2


@pytest.mark.feature("S0-14")
async def test_a_key_is_required_and_a_refusal_does_not_use_it_up(world: World) -> None:
    before = await stock(world)
    ids = world.card_ids("platform")[:1]
    input = {"to": world.id("north"), "cards": {"ids": ids}}
    answer = await world.run("sales", ALLOCATE, {"input": input})
    assert {error["extensions"]["code"] for error in answer["errors"]} == {"BAD_USER_INPUT"}
    for key in ("", "x" * 201):
        found = (await world.data("sales", ALLOCATE, {"input": {**input, "idempotencyKey": key}}))["result"]
        assert found == refused("INVALID", "idempotencyKey")
    assert await allocate(world, "sales", "north-east", ids, "again") == refused("NOT_DIRECTLY_BELOW", "to")
    assert await stock(world) == before
    assert (await allocate(world, "sales", "north", ids, "again"))["count"] == 1


@pytest.mark.feature("S0-14", "S0-57")
async def test_of_callers_that_want_the_same_cards_one_gets_them(world: World) -> None:
    ids = world.card_ids("platform")
    # in opposite orders, so that locks taken as they come would wait for each other
    wishes = [("sales", "north", ids), ("operations", "south", ids[::-1]), ("admin", "acme", ids[3:] + ids[:3])]
    results = await asyncio.gather(*(allocate(world, caller, to, chosen) for caller, to, chosen in wishes))
    won = [wish for wish, result in zip(wishes, results, strict=True) if not result["errors"]]
    assert len(won) == 1
    assert sorted(result["count"] for result in results) == [0, 0, 6]
    assert {error["code"] for result in results for error in result["errors"]} == {"CARDS_NOT_FOUND"}
    holders = await world.sql(
        "SELECT DISTINCT tenant_id FROM sim_card WHERE id = ANY($1)", [(decode_id(id) or ("", 0))[1] for id in ids]
    )
    assert [row["tenant_id"] for row in holders] == [world.tenants[won[0][1]].id]
    for card in world.cards["platform"]:
        assert len(await current(world, card.id)) == 1


@pytest.mark.feature("S0-30")
async def test_handing_down_and_taking_back_at_once_end_in_one_of_both(world: World) -> None:
    [id], card = world.card_ids("north")[:1], world.cards["north"][0]
    down, up = await asyncio.gather(
        allocate(world, "north", "north-east", [id]), run(world, "operations", RECALL, [id])
    )
    assert up["errors"] == []
    [row] = await world.sql("SELECT * FROM sim_card WHERE id = $1", card.id)
    assert (row["tenant_id"], row["status"]) == (world.tenants["platform"].id, "STOCK")
    assert await current(world, card.id) == []
    assert [error["code"] for error in down["errors"]] in ([], ["CARDS_NOT_FOUND"])


@pytest.mark.feature("S0-14")
async def test_one_key_sent_twice_at_once_has_one_effect(world: World) -> None:
    ids = world.card_ids("platform")[:3]
    results = await asyncio.gather(*(allocate(world, "sales", "north", ids, "double click") for _ in range(3)))
    assert results[0]["count"] == 3
    assert results[0] == results[1] == results[2]
    for card in world.cards["platform"][:3]:
        assert await current(world, card.id) == [(1, world.tenants["north"].id, "AGENCY")]
        [row] = await world.sql(
            "SELECT count(*) AS n FROM sim_status_change WHERE sim_card_id = $1 AND account_id IS NOT NULL", card.id
        )
        assert row["n"] == 1


# -- numbers ------------------------------------------------------------------------------------------------------


@pytest.mark.feature("S0-09", "S0-44")
async def test_customers_know_cards_by_display_iccid_and_never_by_iccid(shared_world: World) -> None:
    world = shared_world
    for caller in ("acme", "north", "coast"):
        card, [id, *_] = world.cards[caller][0], world.card_ids(caller)
        [number, *_] = await display_iccids(world, caller)
        by_number = await world.data(
            caller, "query($n: String!) { simCard(displayIccid: $n) { id displayIccid imsi } }", {"n": number}
        )
        assert by_number["simCard"] == {"id": id, "displayIccid": number, "imsi": card.imsi}
        by_imsi = await world.data(caller, "query($n: String!) { simCard(imsi: $n) { id } }", {"n": card.imsi})
        assert by_imsi["simCard"] == {"id": id}
        for query in (
            "{ simCards(first: 1) { nodes { iccid } } }",
            f'{{ simCard(id: "{id}") {{ iccid }} }}',
            f'{{ node(id: "{id}") {{ ... on SimCard {{ iccid }} }} }}',
            f'{{ simCard(iccid: "{card.iccid}") {{ id }} }}',
            f'{{ simCards(first: 1, filter: {{iccid: {{eq: "{card.iccid}"}}}}) {{ nodes {{ id }} }} }}',
            '{ simCards(first: 1, filter: {not: {or: [{iccid: {startsWith: "8986"}}]}}) { nodes { id } } }',
            "{ tenants(first: 1) { nodes { simCards { nodes { iccid } } } } }"
            if caller != "acme"
            else "{ viewer { tenant { simCards { nodes { iccid } } } } }",
        ):
            assert await world.codes(caller, query) == ["FORBIDDEN"], (caller, query)
        # the real number is not a display number, and a sibling's is not there
        found = await world.data(caller, "query($n: String!) { simCard(displayIccid: $n) { id } }", {"n": card.iccid})
        assert found == {"simCard": None}
        [strange, *_] = await display_iccids(world, "south")
        found = await world.data(caller, "query($n: String!) { simCard(displayIccid: $n) { id } }", {"n": strange})
        assert found == {"simCard": None}


@pytest.mark.feature("S0-09", "S0-44")
@pytest.mark.parametrize("caller", ["admin", "operations", "finance", "sales"])
async def test_staff_find_a_card_by_any_of_its_numbers(shared_world: World, caller: str) -> None:
    card, id = shared_world.cards["coast"][0], shared_world.card_ids("coast")[0]
    [number, *_] = await display_iccids(shared_world, "coast")
    for argument, value in (("id", id), ("iccid", card.iccid), ("displayIccid", number), ("imsi", card.imsi)):
        query = f'{{ simCard({argument}: "{value}") {{ id iccid displayIccid imsi }} }}'
        found = (await shared_world.data(caller, query))["simCard"]
        assert found == {"id": id, "iccid": card.iccid, "displayIccid": number, "imsi": card.imsi}, argument
        query = f'{{ simCards(first: 9, filter: {{{argument}: {{eq: "{value}"}}}}) {{ nodes {{ id }} }} }}'
        assert (await shared_world.data(caller, query))["simCards"]["nodes"] == [{"id": id}], argument
    for arguments in ("", f'(iccid: "{card.iccid}", imsi: "{card.imsi}")'):
        assert await shared_world.codes(caller, f"{{ simCard{arguments} {{ id }} }}") == ["BAD_USER_INPUT"]


@pytest.mark.feature("S0-44")
async def test_display_iccids_check_themselves_and_tell_nothing(shared_world: World) -> None:
    rows = await shared_world.sql("SELECT id, iccid, display_iccid FROM sim_card ORDER BY id")
    numbers = [row["display_iccid"] for row in rows]
    assert numbers == sorted(set(numbers))
    for row in rows:
        number = row["display_iccid"]
        assert len(number) == 20
        assert number.startswith("99")
        assert int(number[2:18]) == row["id"]
        # ISO 7064, mod 97-10, over the key's digits
        assert int(number[2:]) % 97 == 1
        assert row["iccid"][6:] not in number
