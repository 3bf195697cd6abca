"""End users who log in by a code that is sent to their phone, over the SMS provider's own interface."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import Text, literal, select
from sqlalchemy.dialects import postgresql

from gateways.messaging.sms import Sms, SmsSettings
from models.notifications import NotificationChannel
from schema.masks import masked_login
from services.verification_codes import number as spelled
from tests.support.mailbox import relay
from tests.support.messengers import SMS_KEY, SMS_SECRET, Messengers
from tests.support.people import payload, person_id, run, said, who
from tests.support.serving import serving
from tests.support.world import World

SAVE = """mutation($input: NotificationTemplateInput!) { saveNotificationTemplate(input: $input) {
    errors { code field } } }"""
INLINE = {"literal_binds": True}
TEXT = "您在{tenant}的验证码{code}，{minutes}分钟内有效。"


@pytest.fixture
async def phones(world: World, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Messengers]:
    """The SMS provider, which knows the platform's text for codes."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    text = {"kind": "end_user.sms_code", "channel": "SMS", "language": "ZH_CN", "body": TEXT}
    saved = await world.data("operations", SAVE, {"input": {**text, "providerTemplate": "SMS_7"}})
    assert saved["saveNotificationTemplate"]["errors"] == []
    sandbox = Messengers()
    async with serving(sandbox.app) as url:
        settings = SmsSettings(
            url=url, access_key_id=SMS_KEY, access_key_secret=SecretStr(SMS_SECRET), sign_name="格架"
        )
        world.client.way_out = replace(world.client.way_out, messengers={NotificationChannel.SMS: Sms(settings)})
        yield sandbox
        await world.client.way_out.close()


def number(world: World, tenant: str = "north") -> str:
    phone = world.end_users[tenant].phone
    assert phone is not None
    return phone


async def ask(world: World, phone: str, tenant: str = "north", door: str = "consumer") -> dict[str, Any]:
    return await payload(world, door, "SendSmsCode", {"tenant": world.id(tenant), "phone": phone})


async def code_for(world: World, phones: Messengers, phone: str, tenant: str = "north") -> str:
    assert await ask(world, phone, tenant) == {"done": True, "errors": []}
    await relay(world)
    code: str = phones.sent[-1]["TemplateParam"]["code"]
    return code


async def enter(world: World, phone: str, code: str, tenant: str = "north") -> dict[str, Any]:
    variables = {"tenant": world.id(tenant), "phone": phone, "verificationCode": code}
    return await payload(world, "consumer", "EndUserSmsLogin", variables)


async def test_a_person_logs_in_once_with_a_code_from_the_phone(world: World, phones: Messengers) -> None:
    mine = number(world)
    code = await code_for(world, phones, f"+86 {mine[:3]}-{mine[3:]}")
    (sent,) = phones.sent
    assert (sent["PhoneNumbers"], sent["TemplateCode"]) == (mine, "SMS_7")
    assert sent["TemplateParam"]["tenant"] == world.tenants["north"].name
    wrong = f"{(int(code) + 1) % 1_000_000:06d}"
    assert said(await enter(world, mine, wrong)) == [("WRONG_CODE", "verificationCode")]
    answers = await asyncio.gather(*(enter(world, mine, code) for _ in range(4)))
    assert sorted(said(one) for one in answers) == [[]] + [[("WRONG_CODE", "verificationCode")]] * 3
    (session,) = [one["session"] for one in answers if one["session"]]
    assert await who(world, "consumer", session["accessToken"]) == person_id(world.end_users["north"].id)
    tried = await world.sql("SELECT outcome FROM login_record WHERE method = 'SMS_CODE' ORDER BY outcome")
    assert [row["outcome"] for row in tried] == ["SUCCEEDED"] + ["WRONG_CREDENTIALS"] * 4
    kept = await world.sql(
        "SELECT payload::text AS said FROM outbox_event UNION ALL SELECT coalesce(body, '') || parameters::text "
        "FROM notification WHERE kind = 'end_user.sms_code'"
    )
    assert not any(word in row["said"] for row in kept for word in (code, mine))


async def test_a_code_is_for_ten_minutes_and_for_its_phone_and_tenant(world: World, phones: Messengers) -> None:
    mine, other = number(world), number(world, "south")
    code = await code_for(world, phones, mine)
    await code_for(world, phones, other, "south")
    assert said(await enter(world, other, code, "south")) == [("WRONG_CODE", "verificationCode")]
    newer = await code_for(world, phones, mine)
    if newer != code:
        assert said(await enter(world, mine, code)) == [("WRONG_CODE", "verificationCode")]
    redis = world.client.application.runtime.redis
    names = [name for name in await redis.keys("trellis:code:*") if 0 < await redis.ttl(name) <= 600]
    assert len(names) == len(await redis.keys("trellis:code:*")) == 2
    await redis.delete(*names)
    assert said(await enter(world, mine, newer)) == [("WRONG_CODE", "verificationCode")]
    for _ in range(5):
        await enter(world, mine, "000000")
    last = await code_for(world, phones, mine)
    for _ in range(5):
        await enter(world, mine, f"{(int(last) + 1) % 1_000_000:06d}")
    # five wrong tries use it up
    assert said(await enter(world, mine, last)) == [("WRONG_CODE", "verificationCode")]


async def test_whether_somebody_has_a_phone_shows_nowhere(world: World, phones: Messengers) -> None:
    """Unknown, kept out, and another tenant's look the same; nobody is sent anything."""
    await world.sql("UPDATE end_user SET status = 'DISABLED' WHERE id = $1", world.end_users["coast"].id)
    for phone, tenant in (("13999999999", "north"), (number(world, "coast"), "coast"), (number(world), "south")):
        assert await ask(world, phone, tenant) == {"done": True, "errors": []}
        await relay(world)
        assert said(await enter(world, phone, "123456", tenant)) == [("WRONG_CODE", "verificationCode")]
    assert phones.sent == []
    # a number that two persons of a tenant have is nobody's
    await world.sql(
        "UPDATE end_user SET tenant_id = $1, tenant_path = $2, phone = '+86' || $3 WHERE id = $4",
        world.tenants["north"].id,
        world.tenants["north"].path,
        number(world),
        world.end_users["south"].id,
    )
    assert await ask(world, number(world)) == {"done": True, "errors": []}
    await relay(world)
    assert phones.sent == []
    for phone, code in (("", "REQUIRED"), ("abc", "INVALID_PHONE")):
        assert said(await ask(world, phone)) == [(code, "phone")]


async def test_codes_to_a_phone_are_limited(world: World, phones: Messengers) -> None:
    mine = number(world)
    for _ in range(5):
        await code_for(world, phones, mine)
    assert said(await ask(world, f"+86{mine}")) == [("TOO_MANY_ATTEMPTS", None)]
    await relay(world)
    assert len(phones.sent) == 5


async def logged_in(world: World, phones: Messengers, tenant: str = "north") -> str:
    """The access token of a tenant's end user."""
    mine = number(world, tenant)
    token: str = (await enter(world, mine, await code_for(world, phones, mine, tenant), tenant))["session"][
        "accessToken"
    ]
    return token


@pytest.mark.feature("S0-40")
async def test_a_phone_becomes_a_persons_by_a_code_that_was_sent_there(world: World, phones: Messengers) -> None:
    token, fresh = await logged_in(world, phones), "13900000042"

    async def confirm(phone: str, code: str) -> dict[str, Any]:
        return await payload(world, "consumer", "ConfirmMyPhone", {"phone": phone, "verificationCode": code}, token)

    async def sent_to(phone: str) -> str:
        asked = await payload(world, "consumer", "SendMyPhoneCode", {"phone": phone}, token)
        assert asked == {"done": True, "errors": []}
        await relay(world)
        assert phones.sent[-1]["PhoneNumbers"] == phone.removeprefix("+86")
        code: str = phones.sent[-1]["TemplateParam"]["code"]
        return code

    for name, variables in (
        ("SendMyPhoneCode", {"phone": fresh}),
        ("ConfirmMyPhone", {"phone": fresh, "verificationCode": "123456"}),
    ):
        answer = await run(world, "consumer", name, variables)
        assert [error["extensions"]["code"] for error in answer["errors"]] == ["UNAUTHENTICATED"]
    assert said(await confirm(fresh, "123456")) == [("WRONG_CODE", "verificationCode")]
    code = await sent_to(fresh)
    assert said(await confirm("13900000043", code)) == [("WRONG_CODE", "verificationCode")]
    # a code to log in by confirms nothing
    assert said(await confirm(number(world), await code_for(world, phones, number(world)))) == [
        ("WRONG_CODE", "verificationCode")
    ]
    await world.sql("UPDATE end_user SET email = 'li@example.com' WHERE id = $1", world.end_users["north"].id)
    found = await confirm(f"+86 {fresh[:3]}-{fresh[3:]}", code)
    assert (found["errors"], found["endUser"]["phone"]) == ([], fresh)
    assert said(await confirm(fresh, code)) == [("WRONG_CODE", "verificationCode")]
    session = (await enter(world, fresh, await code_for(world, phones, fresh)))["session"]
    assert await who(world, "consumer", session["accessToken"]) == person_id(world.end_users["north"].id)
    (told,) = await world.sql("SELECT parameters::text AS said FROM notification WHERE kind = 'end_user.phone_changed'")
    assert '"phone": "****0042"' in told["said"]
    # another person's stays that person's, however it is written
    await world.sql(
        "UPDATE end_user SET tenant_id = $1, tenant_path = $2, phone = '+8613900000044' WHERE id = $3",
        world.tenants["north"].id,
        world.tenants["north"].path,
        world.end_users["south"].id,
    )
    assert said(await confirm("13900000044", await sent_to("13900000044"))) == [("TAKEN", "phone")]
    assert said(await confirm("abc", "123456")) == [("INVALID_PHONE", "phone")]
    # what was sent before it was known whose the number is belongs to the person
    rows = await world.sql("SELECT end_user_id FROM notification WHERE address = $1", fresh)
    assert {row["end_user_id"] for row in rows} == {world.end_users["north"].id}


async def test_many_at_once_wait_for_nobody(world: World, phones: Messengers) -> None:
    token = await logged_in(world, phones)
    document = {"phone": "13900000045"}
    asked = (payload(world, "consumer", "SendMyPhoneCode", document, token) for _ in range(40))
    answers = await asyncio.wait_for(asyncio.gather(*asked), 10)
    assert sorted(map(said, answers)) == [[]] * 5 + [[("TOO_MANY_ATTEMPTS", None)]] * 35
    # ten codes an hour for one person, to whatever numbers
    more = [await payload(world, "consumer", "SendMyPhoneCode", {"phone": f"1390000010{n}"}, token) for n in range(6)]
    assert {code for one in more for code, _ in said(one)} == {"TOO_MANY_ATTEMPTS"}


@pytest.mark.parametrize("written", ["+86 139-0000-0042", "008613900000042", "8613900000042", "13900000042"])
def test_a_number_has_one_spelling(written: str) -> None:
    assert spelled(written) == "13900000042"


@pytest.mark.parametrize("written", ["+852 9000 0042", "86139000000", "8690000042"])
def test_other_numbers_are_left_as_they_are(written: str) -> None:
    assert spelled(written) == written.replace(" ", "")


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        ("north", "north"),
        ("\u738b\u5c0f\u660e", "\u738b\u5c0f\u660e"),
        ("ops-2024", "ops-2024"),
        ("wx1f2e3d4c5b6a7988", "wx1f2e3d4c5b6a7988"),
        ("li@example.com", "l***@example.com"),
        ("13800138000", "138****8000"),
        ("138.0013.8000", "138****8000"),
        ("(138) 00138000", "(13****8000"),
        ("+86 138 0013 8000", "+86****8000"),
    ],
)
async def test_what_may_be_an_address_is_masked_however_it_is_written(world: World, typed: str, shown: str) -> None:
    found = str(select(masked_login(literal(typed, Text))).compile(dialect=postgresql.dialect(), compile_kwargs=INLINE))
    assert [row[0] for row in await world.sql(found.replace("%%", "%"))] == [shown]


TRIED = "{ loginRecords(filter: {method: {eq: SMS_CODE}}) { nodes { login } } }"


async def test_the_login_log_masks_numbers(world: World, phones: Messengers) -> None:
    await logged_in(world, phones)
    mine = number(world)
    assert (await world.data("north", TRIED))["loginRecords"]["nodes"] == [{"login": f"{mine[:3]}****{mine[-4:]}"}]
    assert (await world.data("admin", TRIED))["loginRecords"]["nodes"] == [{"login": mine}]
    # a part of a number finds nothing where it is masked
    part = TRIED.replace("filter: {", f'filter: {{login: {{startsWith: "{mine[:6]}"}}, ')
    assert await world.codes("north", part) == ["FORBIDDEN"]
    assert len((await world.data("admin", part))["loginRecords"]["nodes"]) == 1
    names = "{ loginRecords(filter: {method: {eq: PASSWORD}}) { nodes { login } } }"
    assert {one["login"] for one in (await world.data("north", names))["loginRecords"]["nodes"]} >= {"north"}


async def test_an_erased_persons_number_stays_nowhere(world: World, phones: Messengers) -> None:
    mine, person = number(world), world.end_users["north"]
    await world.sql("UPDATE end_user SET phone = '+86' || phone, status = 'DISABLED' WHERE id = $1", person.id)
    typed = f"+86 {mine[:3]}-{mine[3:7]}-{mine[7:]}"
    await ask(world, typed)
    await enter(world, typed, "123456")
    login = {"tenant": world.id("north"), "account": typed, "password": "correct horse 42"}
    await payload(world, "consumer", "EndUserLogin", login)
    held = f"""SELECT 1 FROM (SELECT login AS said FROM login_record UNION ALL SELECT arguments::text
        FROM operation_record) told WHERE regexp_replace(said, '[^0-9]', '', 'g') LIKE '%{mine}%'"""
    assert len(await world.sql(held)) == 5
    erase = """mutation($id: ID!) { eraseEndUser(input: {endUser: $id, reason: "asked for it"}) {
        errors { code field } } }"""
    assert (await world.data("admin", erase, {"id": person_id(person.id)}))["eraseEndUser"]["errors"] == []
    await world.client.work_off()
    assert await world.sql(held) == []
