"""Contracts: templates in versions, the types that sign them, and what a merchant has to sign."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from planner.ids import encode_id
from tests.support.market import APP_ID, applied, decided, did, once, refused, shop_type
from tests.support.world import World

TEMPLATE = "contractTemplate { id version status body }"
BODY = "{merchant} ({merchantType}) sells through {wechatAppId}."
LIST = "{ contracts { nodes { id name body special status signedBy { login } merchant { name } } } }"
ALL = "{ contractTemplates { nodes { code version status } } }"


async def written(world: World, code: str = "standard", body: str = BODY) -> dict[str, Any]:
    """A draft."""
    made = await did(
        world,
        "contracts",
        "saveContractTemplate",
        "SaveContractTemplateInput",
        TEMPLATE,
        code=code,
        name="Standard",
        scenario="retail",
        body=body,
    )
    assert made["errors"] == []
    template: dict[str, Any] = made["contractTemplate"]
    return template


async def changed(world: World, name: str, id: str) -> dict[str, Any]:
    return await did(world, "contracts", f"{name}ContractTemplate", "ContractTemplateInput", TEMPLATE, id=id)


async def published(world: World, code: str = "standard", body: str = BODY) -> str:
    id: str = (await written(world, code, body))["id"]
    assert (await changed(world, "publish", id))["errors"] == []
    return id


async def linked(world: World, type: str, template: str | None) -> list[tuple[str, str | None]]:
    kind = "LinkContractTemplateInput"
    payload = await did(world, "contracts", "linkContractTemplate", kind, "", merchantType=type, template=template)
    errors: list[tuple[str, str | None]] = payload["errors"]
    return errors


async def contracts(world: World, caller: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await world.data(caller, LIST))["contracts"]["nodes"]
    return found


async def sign(world: World, caller: str, id: str) -> dict[str, Any]:
    return await once(world, caller, "signContract", "SignContractInput", "contract { status }", id=id)


@pytest.mark.feature("S4-58")
async def test_a_template_is_written_published_and_followed_by_the_next(world: World) -> None:
    first = await written(world)
    assert (first["version"], first["status"]) == (1, "DRAFT")
    again = await written(world, body="{merchant} sells.")
    assert (again["id"], again["version"], again["body"]) == (first["id"], 1, "{merchant} sells.")
    assert (await changed(world, "withdraw", first["id"]))["errors"] == [("CONTRACT_TEMPLATE_STATUS", "id")]
    assert (await changed(world, "publish", first["id"]))["contractTemplate"]["status"] == "PUBLISHED"
    assert (await changed(world, "publish", first["id"]))["errors"] == [("CONTRACT_TEMPLATE_STATUS", "id")]
    second = await written(world)
    assert (second["version"], second["status"]) == (2, "DRAFT")
    await changed(world, "publish", second["id"])
    assert (await world.data("contracts", ALL))["contractTemplates"]["nodes"] == [
        {"code": "standard", "version": 1, "status": "WITHDRAWN"},
        {"code": "standard", "version": 2, "status": "PUBLISHED"},
    ]
    save = ("saveContractTemplate", "SaveContractTemplateInput", "")
    base = {"code": "x", "name": "X", "scenario": "retail", "body": "x"}
    for more, error in (
        ({"body": "{nobody}"}, ("UNKNOWN_PLACEHOLDER", "body")),
        ({"body": " "}, ("REQUIRED", "body")),
        ({"code": "not a code"}, ("INVALID", "code")),
        ({"scenario": ""}, ("REQUIRED", "scenario")),
    ):
        assert (await did(world, "contracts", *save, **{**base, **more}))["errors"] == [error]
    for caller in ("types", "deposits", "coupons", "operations", "mall", "cafe", "north"):
        assert await refused(world, caller, ALL), caller
        text = "mutation($i: SaveContractTemplateInput!) { saveContractTemplate(input: $i) { errors { code } } }"
        assert await refused(world, caller, text, {"i": base}), caller


@pytest.mark.feature("S4-04")
@pytest.mark.feature("S4-61")
async def test_the_type_of_a_merchant_decides_what_it_signs(world: World) -> None:
    shop, stall = await shop_type(world), await shop_type(world, "stall")
    draft = (await written(world))["id"]
    assert await linked(world, shop, draft) == [("CONTRACT_TEMPLATE_STATUS", "template")]
    await changed(world, "publish", draft)
    assert [await linked(world, one, draft) for one in (shop, stall)] == [[], []]
    assert (await changed(world, "withdraw", draft))["errors"] == [("IN_USE", "id")]
    # whoever chooses a type sees what it is to sign
    terms = "{ merchantTypes(orderBy: [{field: CODE}]) { nodes { code contractTerms } } }"
    shown = [{"code": "shop", "contractTerms": BODY}, {"code": "stall", "contractTerms": BODY}]
    for caller in ("cafe", "mall", "types", "contracts"):
        assert (await world.data(caller, terms))["merchantTypes"]["nodes"] == shown, caller
    assert await decided(world, await applied(world, "cafe", shop)) == []
    (contract,) = await contracts(world, "cafe")
    assert contract | {"id": ""} == {
        "id": "",
        "name": "Standard",
        "body": f"{world.tenants['cafe'].name} (Shop) sells through {APP_ID}.",
        "special": False,
        "status": "ISSUED",
        "signedBy": None,
        "merchant": {"name": world.tenants["cafe"].name},
    }
    newer = await published(world, body="Newer.")
    assert await decided(world, await applied(world, "gym", stall, "wx0000000000000001")) == []
    assert [one["body"] for one in await contracts(world, "gym")] == ["Newer."]
    assert (await contracts(world, "cafe"))[0]["body"] == contract["body"]
    assert [await linked(world, one, None) for one in (shop, stall)] == [[], []]
    nothing = (await world.data("gym", terms))["merchantTypes"]["nodes"]
    assert [one["contractTerms"] for one in nothing] == [None, None]
    assert (await changed(world, "withdraw", newer))["contractTemplate"]["status"] == "WITHDRAWN"
    assert await linked(world, shop, newer) == [("CONTRACT_TEMPLATE_STATUS", "template")]
    for caller, count in (("cafe", 1), ("gym", 1), ("mall", 2), ("contracts", 2)):
        assert len(await contracts(world, caller)) == count, caller


@pytest.mark.feature("S4-62")
async def test_a_special_merchant_signs_another_contract(world: World) -> None:
    shop, standard, special = await shop_type(world), await published(world), await published(world, "special", "S.")
    await linked(world, shop, standard)
    await decided(world, await applied(world, "cafe", shop))
    (first,) = await contracts(world, "cafe")
    issue = ("issueContract", "IssueContractInput", "contract { id body special status }")
    made = await once(world, "contracts", *issue, merchant=world.id("cafe"), template=special)
    assert made["contract"] | {"id": ""} == {"id": "", "body": "S.", "special": True, "status": "ISSUED"}
    assert {one["body"]: one["status"] for one in await contracts(world, "cafe")} == {
        first["body"]: "SUPERSEDED",
        "S.": "ISSUED",
    }
    assert (await sign(world, "cafe", first["id"]))["errors"] == [("CONTRACT_STATUS", "id")]
    assert (await sign(world, "gym", made["contract"]["id"]))["errors"] == [("NOT_FOUND", "id")]
    signed = await asyncio.gather(*(sign(world, "cafe", made["contract"]["id"]) for _ in range(4)))
    assert sorted(one["errors"] for one in signed) == [[]] + [[("CONTRACT_STATUS", "id")]] * 3
    # the next one comes into force when it is signed
    next_one = (await once(world, "contracts", *issue, merchant=world.id("cafe"), template=standard))["contract"]
    assert [one["status"] for one in await contracts(world, "cafe")] == ["SUPERSEDED", "SIGNED", "ISSUED"]
    assert (await sign(world, "cafe", next_one["id"]))["contract"] == {"status": "SIGNED"}
    states = [(one["status"], one["signedBy"]) for one in await contracts(world, "cafe")]
    assert states == [("SUPERSEDED", None), ("SUPERSEDED", {"login": "cafe"}), ("SIGNED", {"login": "cafe"})]
    await world.sql("UPDATE tenant SET onboarded_at = NULL WHERE id = $1", world.tenants["gym"].id)
    for merchant, error in (
        (world.id("gym"), ("NOT_ONBOARDED", "merchant")),
        (world.id("north"), ("NOT_FOUND", "merchant")),
    ):
        told = await once(world, "contracts", *issue, merchant=merchant, template=special)
        assert told["errors"] == [error]
    no_such = await once(world, "contracts", *issue, merchant=world.id("cafe"), template=encode_id("ctt", 999_999))
    assert no_such["errors"] == [("NOT_FOUND", "template")]


async def test_those_who_keep_templates_wait_for_each_other(world: World) -> None:
    drafts = await asyncio.gather(*(written(world, "new") for _ in range(4)))
    assert {(one["id"], one["version"]) for one in drafts} == {(drafts[0]["id"], 1)}
    await changed(world, "publish", drafts[0]["id"])
    again = await asyncio.gather(*(written(world, "new") for _ in range(4)))
    assert {(one["id"], one["version"]) for one in again} == {(again[0]["id"], 2)}
    shop = await shop_type(world)
    _, link = await asyncio.gather(
        changed(world, "publish", again[0]["id"]), linked(world, shop, drafts[0]["id"]), return_exceptions=False
    )
    (row,) = await world.sql(
        "SELECT t.status FROM merchant_type m LEFT JOIN contract_template t ON t.id = m.contract_template_id"
    )
    # linked before it was followed by the next, or refused: never left with what is not issued any more
    assert row["status"] == (None if link else "PUBLISHED")
