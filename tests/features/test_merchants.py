"""Merchants are entered, tell who they are, and are taken on by those who keep their information."""

from __future__ import annotations

import asyncio

import pytest

from planner.ids import encode_id
from tests.support.market import APP_ID, applied, decided, did, refused, shop_type, uploaded
from tests.support.world import World, mark

PROFILE = {"name": "Corner Shop", "email": "corner@example.com"}
MERCHANT = "query($id: ID!) { merchant(id: $id) { %s } }"
APPLICATIONS = """{ onboardingApplications { nodes { status reason wechatAppId answers { key value }
    merchant { name } merchantType { code } reviewedBy { login } documents { nodes { document name url } } } } }"""


async def unknown(world: World, *names: str) -> None:
    """Merchants as they are before they have been taken on."""
    for name in names:
        await world.sql("UPDATE tenant SET onboarded_at = NULL WHERE id = $1", world.tenants[name].id)


@pytest.mark.feature("S4-57")
async def test_merchants_are_entered_by_who_keeps_them_and_by_who_operates_them(world: World) -> None:
    selected = "merchant { id name status level parent { name } onboardedAt }"
    account = {"login": "corner", "password": "correct horse 43", "name": "Corner"}
    made = await did(
        world, "types", "createMerchant", "CreateMerchantInput", selected, profile=PROFILE, account=account
    )
    assert made["merchant"] | {"id": ""} == {
        "id": "",
        "name": "Corner Shop",
        "status": "ACTIVE",
        "level": 1,
        "parent": None,
        "onboardedAt": None,
    }
    token = await world.client.token("merchant", "corner", "correct horse 43")
    viewer = await world.client.post("merchant", "{ viewer { roles tenant { name } } }", token=token)
    assert viewer.json()["data"]["viewer"] == {"roles": ["merchant_admin"], "tenant": {"name": "Corner Shop"}}
    below = await did(world, "mall", "createMerchant", "CreateMerchantInput", selected, profile=PROFILE)
    assert (below["merchant"]["level"], below["merchant"]["parent"]) == (2, {"name": f"Company {mark('mall')}"})
    text = "mutation($input: CreateMerchantInput!) { createMerchant(input: $input) { errors { code } } }"
    for caller in ("cafe", "operations", "sales", "north", "contracts", "coupons", "deposits"):
        assert await refused(world, caller, text, {"input": {"profile": PROFILE}}), caller
    names = "{ merchants { nodes { name } } }"
    for caller, count in (("types", 4), ("coupons", 4), ("sales", 4), ("mall", 3)):
        assert len((await world.data(caller, names))["merchants"]["nodes"]) == count, caller
    assert await refused(world, "cafe", names)
    assert await refused(world, "north", names)


@pytest.mark.feature("S4-57")
async def test_a_merchant_is_suspended_from_its_next_request_on(world: World) -> None:
    token = await world.token("cafe")
    own = "{ viewer { account { login } } }"
    suspend = ("setMerchantStatus", "SetMerchantStatusInput", "merchant { name status }")
    changed = await did(world, "types", *suspend, id=world.id("cafe"), status="SUSPENDED")
    assert changed["merchant"] == {"name": world.tenants["cafe"].name, "status": "SUSPENDED"}
    answer = (await world.client.post("merchant", own, token=token)).json()
    assert [error["extensions"]["code"] for error in answer["errors"]] == ["UNAUTHENTICATED"]
    assert (await world.data("gym", own))["viewer"]["account"] == {"login": "gym"}
    await did(world, "types", *suspend, id=world.id("cafe"), status="ACTIVE")
    assert (await world.data("cafe", own))["viewer"]["account"] == {"login": "cafe"}
    # who keeps the merchants' information keeps that of nobody else
    other = await did(world, "types", *suspend, id=world.id("north"), status="SUSPENDED")
    assert other["errors"] == [("NOT_FOUND", "id")]
    text = "mutation($input: SetMerchantStatusInput!) { setMerchantStatus(input: $input) { errors { code } } }"
    for caller in ("cafe", "mall", "operations", "contracts"):
        assert await refused(world, caller, text, {"input": {"id": world.id("gym"), "status": "SUSPENDED"}}), caller


@pytest.mark.feature("S4-57")
async def test_what_is_known_of_a_merchant_is_kept_by_who_keeps_it(world: World) -> None:
    selected = "merchant { name contactName phone email timeZone status }"
    update = ("updateMerchant", "UpdateMerchantInput", selected)
    before = (await did(world, "types", *update, id=world.id("cafe")))["merchant"]
    changed = await did(world, "types", *update, id=world.id("cafe"), contactName="Li", phone="+86 139 0000 0001")
    assert changed["merchant"] == before | {"contactName": "Li", "phone": "+86 139 0000 0001"}
    for whose, input, error in (
        ("cafe", {"email": "nowhere"}, ("INVALID_EMAIL", "email")),
        ("cafe", {"name": " "}, ("REQUIRED", "name")),
        ("cafe", {"timeZone": "Asia/Nowhere"}, ("INVALID_TIME_ZONE", "timeZone")),
        ("north", {"name": "x"}, ("NOT_FOUND", "id")),
        ("mall", {"name": "x"}, ("NOT_FOUND", "id")),
    ):
        assert (await did(world, "types", *update, id=world.id(whose), **input))["errors"] == [error], whose
    text = "mutation($input: UpdateMerchantInput!) { updateMerchant(input: $input) { errors { code } } }"
    for caller in ("cafe", "mall", "operations", "contracts", "coupons", "deposits", "north"):
        assert await refused(world, caller, text, {"input": {"id": world.id("gym"), "name": "x"}}), caller


@pytest.mark.feature("S4-59")
@pytest.mark.feature("S4-60")
async def test_types_of_merchants_say_what_is_asked(world: World) -> None:
    type = await shop_type(world)
    fields = "code name status requiredDocuments formFields { key label required }"
    listed = f"{{ merchantTypes {{ nodes {{ {fields} }} }} }}"
    expected = {
        "code": "shop",
        "name": "Shop",
        "status": "ACTIVE",
        "requiredDocuments": ["licence"],
        "formFields": [
            {"key": "owner", "label": "Owner", "required": True},
            {"key": "site", "label": "Site", "required": False},
        ],
    }
    for caller in ("types", "cafe", "mall", "contracts"):
        assert (await world.data(caller, listed))["merchantTypes"]["nodes"] == [expected], caller
    assert await refused(world, "north", listed)
    create, update = "CreateMerchantTypeInput", "UpdateMerchantTypeInput"
    again = await did(world, "types", "createMerchantType", create, "", code="shop", name="Other")
    assert again["errors"] == [("TAKEN", "code")]
    twice = [{"key": key, "label": "Owner"} for key in ("owner", " owner ")]
    for input, error in (
        ({"code": "a b", "name": "x"}, ("INVALID", "code")),
        ({"code": "x", "name": " "}, ("REQUIRED", "name")),
        ({"code": "x", "name": "x", "formFields": twice}, ("TAKEN", "formFields.key")),
        ({"code": "x", "name": "x", "requiredDocuments": ["a", "a"]}, ("TAKEN", "requiredDocuments")),
        (
            {"code": "x", "name": "x", "requiredDocuments": [f"d{n}" for n in range(51)]},
            ("TOO_MANY", "requiredDocuments"),
        ),
    ):
        assert (await did(world, "types", "createMerchantType", create, "", **input))["errors"] == [error]
    changed = await did(
        world,
        "types",
        "updateMerchantType",
        update,
        f"merchantType {{ {fields} }}",
        id=type,
        requiredDocuments=[],
        status="DISABLED",
    )
    assert changed["merchantType"] == {**expected, "requiredDocuments": [], "status": "DISABLED"}
    closed = await did(world, "cafe", "saveOnboarding", "SaveOnboardingInput", "", merchantType=type)
    assert closed["errors"] == [("NOT_ACTIVE", "merchantType")]
    for caller in ("cafe", "mall", "operations", "deposits"):
        text = "mutation($input: UpdateMerchantTypeInput!) { updateMerchantType(input: $input) { errors { code } } }"
        assert await refused(world, caller, text, {"input": {"id": type, "name": "Mine"}}), caller


@pytest.mark.feature("S4-02")
@pytest.mark.feature("S4-03")
@pytest.mark.feature("S4-60")
async def test_a_merchant_applies_and_is_taken_on(world: World) -> None:
    await unknown(world, "cafe")
    type = await shop_type(world)
    save, sent = "SaveOnboardingInput", "application { id status }"
    begun = await did(world, "cafe", "saveOnboarding", save, sent, merchantType=type)
    id = begun["application"]["id"]
    submit = ("submitOnboarding", "OnboardingInput", sent)
    assert (await did(world, "cafe", *submit, id=id))["errors"] == [("REQUIRED", "wechatAppId")]
    told: dict[str, object] = {"merchantType": type, "wechatAppId": APP_ID}
    for more, error in (
        ({"wechatAppId": "wx12"}, ("INVALID", "wechatAppId")),
        ({"answers": [{"key": "colour", "value": "red"}]}, ("UNKNOWN_ANSWER", "answers.key")),
        ({"answers": [{"key": "owner", "value": "x" * 2_001}]}, ("INVALID", "answers.owner")),
        ({"answers": [{"key": "owner", "value": one} for one in ("Li", "Wu")]}, ("TAKEN", "answers.key")),
        (
            {"documents": [{"document": "licence", "file": await uploaded(world, "cafe")} for _ in range(2)]},
            ("TAKEN", "documents.document"),
        ),
        (
            {"documents": [{"document": "diploma", "file": encode_id("fil", 1)}]},
            ("UNKNOWN_DOCUMENT", "documents.document"),
        ),
        (
            {"documents": [{"document": "licence", "file": await uploaded(world, "gym")}]},
            ("NOT_FOUND", "documents.licence"),
        ),
    ):
        assert (await did(world, "cafe", "saveOnboarding", save, sent, **{**told, **more}))["errors"] == [error]
    saved = await did(world, "cafe", "saveOnboarding", save, sent, **told)
    assert saved["application"] == {"id": id, "status": "DRAFT"}
    assert (await did(world, "cafe", *submit, id=id))["errors"] == [("REQUIRED", "answers.owner")]
    told["answers"] = [{"key": "owner", "value": " Li "}, {"key": "site", "value": " "}]
    await did(world, "cafe", "saveOnboarding", save, sent, **told)
    assert (await did(world, "cafe", *submit, id=id))["errors"] == [("REQUIRED", "documents.licence")]
    told["documents"] = [{"document": "licence", "file": await uploaded(world, "cafe")}]
    await did(world, "cafe", "saveOnboarding", save, sent, **told)
    assert (await decided(world, id)) == [("ONBOARDING_STATUS", "id")]
    assert (await did(world, "cafe", *submit, id=id))["application"]["status"] == "SUBMITTED"
    assert (await did(world, "cafe", "saveOnboarding", save, sent, **told))["errors"] == [("ONBOARDING_STATUS", "id")]
    (shown,) = (await world.data("types", APPLICATIONS))["onboardingApplications"]["nodes"]
    (document,) = shown["documents"]["nodes"]
    assert shown | {"documents": None} == {
        "status": "SUBMITTED",
        "reason": None,
        "wechatAppId": APP_ID,
        "answers": [{"key": "owner", "value": "Li"}],
        "merchant": {"name": world.tenants["cafe"].name},
        "merchantType": {"code": "shop"},
        "reviewedBy": None,
        "documents": None,
    }
    assert (document["document"], document["name"]) == ("licence", "licence.pdf")
    file = await world.client.http.get(document["url"])
    assert (file.status_code, file.content[:4]) == (200, b"%PDF")
    assert sorted([await decided(world, id), await decided(world, id)]) == [[], [("ONBOARDING_STATUS", "id")]]
    merchant = (
        await world.data("cafe", MERCHANT % "wechatAppId merchantType { code } onboardedAt", {"id": world.id("cafe")})
    )["merchant"]
    assert merchant["onboardedAt"] is not None
    assert merchant | {"onboardedAt": None} == {
        "wechatAppId": APP_ID,
        "merchantType": {"code": "shop"},
        "onboardedAt": None,
    }


@pytest.mark.feature("S4-02")
@pytest.mark.feature("S4-03")
async def test_what_is_refused_is_told_and_may_be_asked_again(world: World) -> None:
    await unknown(world, "cafe", "gym")
    type = await shop_type(world)
    first = await applied(world, "cafe", type)
    reject = ("rejectOnboarding", "RejectOnboardingInput", "application { status reason reviewedBy { login } }")
    assert (await did(world, "types", *reject, id=first, reason=" "))["errors"] == [("REQUIRED", "reason")]
    said = await did(world, "types", *reject, id=first, reason="The licence has run out.")
    assert said["application"] == {
        "status": "REJECTED",
        "reason": "The licence has run out.",
        "reviewedBy": {"login": "types"},
    }
    second = await applied(world, "cafe", type)
    assert second != first
    taken_back = await did(world, "cafe", "withdrawOnboarding", "OnboardingInput", "application { status }", id=second)
    assert taken_back["application"] == {"status": "WITHDRAWN"}
    assert await decided(world, second) == [("ONBOARDING_STATUS", "id")]
    third, other = await applied(world, "cafe", type), await applied(world, "gym", type)
    outcomes = await asyncio.gather(decided(world, third), decided(world, other))
    assert sorted(outcomes) == [[], [("TAKEN", "wechatAppId")]]
    (row,) = await world.sql(
        "SELECT count(*) FROM tenant WHERE onboarded_at IS NOT NULL AND wechat_app_id = $1", APP_ID
    )
    assert row["count"] == 1


@pytest.mark.feature("S4-02")
async def test_applications_are_for_the_merchant_and_who_decides(world: World) -> None:
    type = await shop_type(world)
    id = await applied(world, "cafe", type)
    for caller, count in (("cafe", 1), ("gym", 0), ("mall", 1), ("types", 1)):
        found = (await world.data(caller, "{ onboardingApplications { totalCount } }"))["onboardingApplications"]
        assert found["totalCount"] == count, caller
    text = "mutation($input: OnboardingInput!) { approveOnboarding(input: $input) { errors { code } } }"
    for caller in ("cafe", "mall", "operations", "contracts", "deposits", "coupons"):
        assert await refused(world, caller, text, {"input": {"id": id}}), caller
    for caller in ("contracts", "deposits", "coupons", "operations"):
        assert await refused(world, caller, "{ onboardingApplications { totalCount } }"), caller
    foreign = await did(world, "gym", "withdrawOnboarding", "OnboardingInput", "", id=id)
    assert foreign["errors"] == [("NOT_FOUND", "id")]
