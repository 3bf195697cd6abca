"""Everybody is answered in the language of the own choice: by the request, or for good."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select

from authz.principal import system
from models.notifications import Notification, NotificationChannel
from models.tenancy import Language
from server.languages import negotiated
from services import notifications
from services.notifications.kinds import KINDS
from services.notifications.templates import wording
from tests.support.people import payload, run, said
from tests.support.world import PASSWORD, World

CHOOSE = "mutation($language: Language) { setMyLanguage(language: $language) { done errors { code field message } } }"
WRONG_PASSWORD = """mutation { changePassword(input: {current: "no", new: "another horse 43"}) {
    errors { code message } } }"""
SAID = {
    "zh-CN": "账号或密码错误。",
    "zh-TW": "帳號或密碼錯誤。",
    "en": "The account or the password is wrong.",
}
SAVE = (
    """mutation($input: NotificationTemplateInput!) { saveNotificationTemplate(input: $input) { errors { code } } }"""
)


async def heard(world: World, account: str, language: str) -> str:
    """What an account is told of a wrong password, asked for in a language."""
    answer = await world.run(account, WRONG_PASSWORD, language=language)
    (error,) = answer["data"]["changePassword"]["errors"]
    message: str = error["message"]
    return message


# -- what a request asks for --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("", "zh-CN"),
        ("*", "zh-CN"),
        ("zh", "zh-CN"),
        ("zh-Hans-CN", "zh-CN"),
        ("zh-SG", "zh-CN"),
        ("zh-TW", "zh-TW"),
        ("ZH-tw", "zh-TW"),
        ("zh-HK", "zh-TW"),
        ("zh-Hant-HK", "zh-TW"),
        ("zh-Hans-TW", "zh-CN"),
        ("en-GB", "en"),
        ("en-GB-x-private", "en"),
        ("fr", "en"),
        ("fr;q=0", "zh-CN"),
        ("fr, zh-TW;q=0.1", "zh-TW"),
        ("en;q=0.5, zh-TW;q=0.9, zh-CN;q=0.8", "zh-TW"),
        ("zh-CN;q=0.8,en;q=0.8", "zh-CN"),
        ("zh-CN;q=0, *;q=0.1", "en"),
        ("zh-CN;q=0, zh", "en"),
        ("en;q=1.000, zh ; q = 0.001", "en"),
        ("en;q=2, zh-TW;q=0.1", "zh-TW"),
        ("zh_TW, en", "en"),
        ("fr-CH, fr;q=0.9, en;q=0.8, de;q=0.7, *;q=0.5", "en"),
        (", ,;q=1,-", "zh-CN"),
    ],
)
def test_a_header_is_matched_by_weight_and_by_range(header: str, language: str) -> None:
    assert negotiated(header.encode()) == language


@pytest.mark.parametrize("language", SAID)
async def test_a_refusal_of_the_business_is_said_in_the_language_of_the_request(world: World, language: str) -> None:
    assert await heard(world, "north", f"fr, {language};q=0.9") == SAID[language]


@pytest.mark.parametrize(
    ("language", "expected"),
    [
        (
            "zh-CN",
            [
                "您无权使用 SimCard.iccid。",
                "first 必须在 0 到 100 之间。",
                "游标格式错误。",
                "请先登录。",
                "没有这个入口。",
            ],
        ),
        (
            "zh-TW",
            [
                "您無權使用 SimCard.iccid。",
                "first 必須介於 0 到 100 之間。",
                "游標格式錯誤。",
                "請先登入。",
                "沒有這個入口。",
            ],
        ),
        (
            "en",
            [
                "You may not use SimCard.iccid.",
                "first must be between 0 and 100.",
                "The cursor is malformed.",
                "Log in first.",
                "There is no such door.",
            ],
        ),
    ],
)  # fmt: skip
async def test_a_refusal_of_the_graph_is_said_in_the_language_of_the_request(
    world: World, language: str, expected: list[str]
) -> None:
    async def refused(query: str, account: str | None = "north", door: str = "agent") -> tuple[str, str]:
        token = None if account is None else await world.token(account)
        answer = await world.client.post(door, query, token=token, language=language)
        (error,) = answer.json()["errors"]
        return error["extensions"]["code"], error["message"]

    cards = "{ simCards(first: 1) { nodes { %s } } }"
    found = [
        await refused(cards % "iccid"),
        await refused("{ simCards(first: 101) { totalCount } }"),
        await refused('{ simCards(first: 1, after: "none") { nodes { id } } }'),
        await refused(cards % "id", None),
        await refused(cards % "id", door="nowhere"),
    ]
    codes = ["FORBIDDEN", "BAD_USER_INPUT", "BAD_USER_INPUT", "UNAUTHENTICATED", "NOT_FOUND"]
    assert found == list(zip(codes, expected, strict=True))
    # what graphql-core says stays English
    code, message = await refused("{ nothing }")
    assert (code, message) == ("GRAPHQL_VALIDATION_FAILED", "Cannot query field 'nothing' on type 'Query'.")


async def test_one_plan_answers_in_every_language(world: World) -> None:
    query = "{ simCards(first: 2) { totalCount } }"
    answers = [await world.run("north", query, language=language) for language in SAID]
    assert answers[0] == answers[1] == answers[2]
    documents = world.client.application.engine.documents["agent"]
    assert len(documents.get(query).operation(None).plans) == 1


# -- what somebody has chosen -------------------------------------------------------------------------------------


async def test_what_somebody_has_chosen_goes_before_the_request(world: World) -> None:
    assert await heard(world, "north", "en") == SAID["en"]
    for language, tag in (("ZH_TW", "zh-TW"), ("EN", "en"), ("ZH_CN", "zh-CN")):
        chosen = (await world.data("north", CHOOSE, {"language": language}))["setMyLanguage"]
        assert chosen == {"done": True, "errors": []}
        for asked in SAID:
            assert await heard(world, "north", asked) == SAID[tag]
        assert (await world.data("north", "{ viewer { account { language } } }"))["viewer"] == {
            "account": {"language": language}
        }
    assert await heard(world, "north-east", "en") == SAID["en"]
    assert (await world.data("north", CHOOSE, {"language": None}))["setMyLanguage"]["done"] is True
    assert await heard(world, "north", "en") == SAID["en"]
    for account in ("admin", "finance", "sales", "acme"):
        assert (await world.data(account, CHOOSE, {"language": "ZH_TW"}))["setMyLanguage"]["done"] is True
        assert await heard(world, account, "en") == SAID["zh-TW"]
    answer = (await world.client.post("agent", CHOOSE, {"language": "EN"})).json()
    assert [error["extensions"]["code"] for error in answer["errors"]] == ["UNAUTHENTICATED"]


async def test_an_end_user_chooses_a_language_too(world: World) -> None:
    runtime = world.client.application.runtime
    object.__setattr__(runtime, "registration_without_code", True)
    publish = "mutation($i: PublishAgreementInput!) { publishAgreement(input: $i) { errors { code } } }"
    terms = {"document": "terms", "version": "1", "title": "Terms", "text": "What is agreed."}
    await world.data("operations", publish, {"i": terms})
    registration = {
        "tenant": world.id("north"), "account": "Ada", "password": PASSWORD, "email": "ada@example.com",
        "agreements": [{"document": "terms", "version": "1"}],
    }  # fmt: skip
    token = (await payload(world, "consumer", "RegisterEndUser", {"input": registration}))["session"]["accessToken"]
    assert said(await payload(world, "consumer", "SetMyLanguage", {"language": "ZH_TW"}, token)) == []
    wrong = {"input": {"current": "no", "new": "another horse 43"}}
    answer = await run(world, "consumer", "ChangePassword", wrong, token)
    assert answer["data"]["changePassword"]["errors"][0]["message"] == SAID["zh-TW"]


# -- what people are written ----------------------------------------------------------------------------------------


@pytest.mark.feature("S0-35")
async def test_where_a_provider_keeps_the_text_the_next_best_language_is_taken(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    sms = NotificationChannel.SMS
    monkeypatch.setitem(KINDS, "sim.allocated", replace(KINDS["sim.allocated"], channels=(sms,)))
    to = replace(
        notifications.Recipient.tenant(world.tenants["north"]), addresses={sms: "13812345678"}, language=Language.ZH_TW
    )
    database = world.client.application.runtime.database

    async def registered() -> str | None:
        async with database.transaction(system("test")) as session:
            told: dict[str, Any] = {"tenant": "North", "giver": "Trellis", "count": 3}
            (key,) = await notifications.send(session, kind="sim.allocated", to=to, parameters=told)
            found = (await session.scalars(select(Notification).where(Notification.id == key))).one()
            return (await wording(session, found)).provider_template

    assert await registered() is None
    for account, language, number in (
        ("operations", "EN", "SMS_EN"),
        ("operations", "ZH_CN", "SMS_CN"),
        ("north", "ZH_CN", "SMS_NORTH"),
        ("operations", "ZH_TW", "SMS_TW"),
    ):
        text = {"kind": "sim.allocated", "channel": "SMS", "language": language, "body": "{count}"}
        await world.data(account, SAVE, {"input": {**text, "providerTemplate": number}})
        assert await registered() == number


# -- where a tenant is ------------------------------------------------------------------------------------------------


@pytest.mark.feature("S0-11", "S0-24")
async def test_a_new_tenant_is_where_its_parent_is_unless_it_is_told_otherwise(world: World) -> None:
    create = """mutation($input: CreateAgentInput!) { createAgent(input: $input) {
        tenant { id timeZone currency language } errors { code field } } }"""
    update = """mutation($input: UpdateTenantInput!) { updateTenant(input: $input) {
        tenant { timeZone currency } errors { code field } } }"""

    async def made(account: str, **profile: Any) -> Any:
        found = (await world.data(account, create, {"input": {"profile": {"name": "New", **profile}}}))["createAgent"]
        return found["tenant"], said(found)

    there = {"timeZone": "Asia/Taipei", "currency": "TWD", "language": "ZH_TW"}
    await world.sql(
        "UPDATE tenant SET time_zone = 'Asia/Taipei', currency = 'TWD', language = 'ZH_TW' WHERE id = $1",
        world.tenants["north"].id,
    )
    inherited, errors = await made("north")
    assert errors == []
    id = inherited.pop("id")
    assert inherited == there
    other, _ = await made("north", timeZone="Europe/Vienna", currency="EUR", language="EN")
    assert (other["timeZone"], other["currency"], other["language"]) == ("Europe/Vienna", "EUR", "EN")
    for wrong in ("euro", "EU", "eur", ""):
        assert (await made("north", currency=wrong))[1] in (
            [("INVALID", "profile.currency")],
            [("REQUIRED", "profile.currency")],
        )
    changed = (await world.data("north", update, {"input": {"id": id, "timeZone": "Asia/Tokyo"}}))["updateTenant"]
    assert changed == {"tenant": {"timeZone": "Asia/Tokyo", "currency": "TWD"}, "errors": []}
    for zone, code in (("Asia/Nowhere", "INVALID_TIME_ZONE"), (" ", "REQUIRED")):
        refused = (await world.data("north", update, {"input": {"id": id, "timeZone": zone}}))["updateTenant"]
        assert said(refused) == [(code, "timeZone")]
    foreign = {"input": {"id": id, "timeZone": "Asia/Tokyo"}}
    assert said((await world.data("south", update, foreign))["updateTenant"]) == [("NOT_FOUND", "id")]
