"""End users with codes from the mail: registering, logging in, a forgotten password, a confirmed address; and what
they write where they may not read."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from planner.ids import encode_id
from tests.support.mailbox import Mailbox, code_in, delivering, relay
from tests.support.people import SECRET_WORD, payload, run, said, who
from tests.support.subscribers import ADDRESS, ask, code_for, publish_terms, register, registration
from tests.support.world import World

NEW_PASSWORD = "another staple 8"
DONE = {"done": True, "errors": []}


@pytest.fixture
async def served(world: World) -> World:
    await publish_terms(world)
    return world


@pytest.fixture
async def box(served: World) -> AsyncIterator[Mailbox]:
    async with delivering(served) as made:
        yield made


async def enter(world: World, code: str, email: str = ADDRESS, tenant: str = "north") -> dict[str, Any]:
    variables = {"tenant": world.id(tenant), "email": email, "verificationCode": code}
    return await payload(world, "consumer", "EndUserEmailLogin", variables)


async def log_in(world: World, password: str) -> list[tuple[str, str | None]]:
    variables = {"tenant": world.id("north"), "account": "Ada", "password": password}
    return said(await payload(world, "consumer", "EndUserLogin", variables))


async def reset(world: World, code: str, new: str = NEW_PASSWORD, email: str = ADDRESS) -> dict[str, Any]:
    variables = {"tenant": world.id("north"), "email": email, "verificationCode": code, "new": new}
    return await payload(world, "consumer", "ResetEndUserPassword", variables)


def wrong(code: str) -> str:
    return f"{(int(code) + 1) % 1_000_000:06d}"


# -- registering --------------------------------------------------------------------------------------------------


@pytest.mark.feature("S1-73", "S1-74")
async def test_somebody_registers_with_a_code_from_the_mail(served: World, box: Mailbox) -> None:
    code = await code_for(served, box, "REGISTRATION", " ADA@Example.com")
    assert (box.mails[0]["To"], box.mails[0]["Subject"]) == (ADDRESS, "Your verification code")
    made = await payload(served, "consumer", "RegisterEndUser", registration(served, code))
    assert said(made) == []
    token = made["session"]["accessToken"]
    assert await who(served, "consumer", token) is not None
    (row,) = await served.sql("SELECT * FROM end_user WHERE login = 'Ada'")
    assert (row["email"], row["tenant_id"]) == (ADDRESS, served.tenants["north"].id)
    assert row["email_verified_at"] is not None
    assert await log_in(served, SECRET_WORD) == []
    # a code works once
    again = registration(served, code, account="Ben", email=ADDRESS)
    assert said(await payload(served, "consumer", "RegisterEndUser", again)) == [("WRONG_CODE", "verificationCode")]
    # the code and the address wait encrypted, and stand in no log of events
    kept = await served.sql(
        "SELECT payload::text AS said FROM outbox_event UNION ALL SELECT coalesce(body, '') || parameters::text "
        "FROM notification WHERE kind = 'end_user.email_code'"
    )
    assert not any(word in row["said"] for row in kept for word in (code, ADDRESS))


@pytest.mark.feature("S1-73")
async def test_who_has_not_the_right_code_is_not_taken_in(served: World, box: Mailbox) -> None:
    code = await code_for(served, box, "REGISTRATION")
    before = await served.sql("SELECT count(*) FROM end_user")
    for given, more, expected in (
        (None, {}, ("REQUIRED", "verificationCode")),
        (wrong(code), {}, ("WRONG_CODE", "verificationCode")),
        (code, {"email": "ben@example.com"}, ("WRONG_CODE", "verificationCode")),
        (code, {"tenant": served.id("south")}, ("WRONG_CODE", "verificationCode")),
        (code, {"password": "short"}, ("WEAK_PASSWORD", "password")),
        (code, {"agreements": []}, ("REQUIRED", "agreements")),
    ):
        answer = await payload(served, "consumer", "RegisterEndUser", registration(served, given, **more))
        assert said(answer) == [expected], (given, more)
    assert await served.sql("SELECT count(*) FROM end_user") == before
    # nothing of that has used the code up
    assert said(await payload(served, "consumer", "RegisterEndUser", registration(served, code))) == []


@pytest.mark.feature("S1-73")
async def test_only_who_reads_an_address_hears_that_it_is_somebodys(served: World, box: Mailbox) -> None:
    await register(served, box)
    second = registration(served, "123456", account="Ben")
    assert said(await payload(served, "consumer", "RegisterEndUser", second)) == [("WRONG_CODE", "verificationCode")]
    second["input"]["verificationCode"] = await code_for(served, box, "REGISTRATION")
    assert said(await payload(served, "consumer", "RegisterEndUser", second)) == [("TAKEN", "email")]
    assert len(await served.sql("SELECT id FROM end_user WHERE email = $1", ADDRESS)) == 1


# -- logging in ---------------------------------------------------------------------------------------------------


@pytest.mark.feature("S1-73")
async def test_a_person_logs_in_once_with_a_code_from_the_mail(served: World, box: Mailbox) -> None:
    me = await who(served, "consumer", await register(served, box))
    code = await code_for(served, box, "LOGIN")
    assert said(await enter(served, wrong(code))) == [("WRONG_CODE", "verificationCode")]
    answers = await asyncio.gather(*(enter(served, code) for _ in range(4)))
    assert sorted(said(one) for one in answers) == [[]] + [[("WRONG_CODE", "verificationCode")]] * 3
    (session,) = [one["session"] for one in answers if one["session"]]
    assert await who(served, "consumer", session["accessToken"]) == me
    tried = await served.sql("SELECT outcome FROM login_record WHERE method = 'EMAIL_CODE' ORDER BY outcome")
    assert [row["outcome"] for row in tried] == ["SUCCEEDED"] + ["WRONG_CREDENTIALS"] * 4
    # a code is for its purpose alone, and for ten minutes
    code = await code_for(served, box, "PASSWORD_RESET")
    assert said(await enter(served, code)) == [("WRONG_CODE", "verificationCode")]
    code = await code_for(served, box, "LOGIN")
    redis = served.client.application.runtime.redis
    names = [name for name in await redis.keys("trellis:code:*") if 0 < await redis.ttl(name) <= 600]
    assert len(names) == len(await redis.keys("trellis:code:*")) > 0
    await redis.delete(*names)
    assert said(await enter(served, code)) == [("WRONG_CODE", "verificationCode")]


@pytest.mark.feature("S1-73", "S1-75")
async def test_whether_somebody_has_an_address_shows_nowhere(served: World, box: Mailbox) -> None:
    """Unknown, kept out, unconfirmed and another tenant's look the same; nobody is mailed."""
    await register(served, box, "out@example.com", account="Out")
    await register(served, box, "unsure@example.com", account="Unsure")
    await served.sql("UPDATE end_user SET status = 'DISABLED' WHERE login = 'Out'")
    await served.sql("UPDATE end_user SET email_verified_at = NULL WHERE login = 'Unsure'")
    await register(served, box)
    mailed = len(box.mails)
    await served.client.application.runtime.redis.flushall()
    for email, tenant in (
        ("nobody@example.com", "north"),
        ("out@example.com", "north"),
        ("unsure@example.com", "north"),
        (ADDRESS, "south"),
    ):
        for purpose in ("LOGIN", "PASSWORD_RESET", "CLOSURE"):
            assert await ask(served, purpose, email, tenant) == DONE
        assert said(await enter(served, "123456", email, tenant)) == [("WRONG_CODE", "verificationCode")]
        assert said(await reset(served, "123456", email=email)) == [("WRONG_CODE", "verificationCode")]
    assert await ask(served, "LOGIN", tenant="north") == DONE
    assert said(await ask(served, "LOGIN", "nowhere")) == [("INVALID_EMAIL", "email")]
    assert said(await ask(served, "LOGIN", " ")) == [("REQUIRED", "email")]
    variables = {"tenant": encode_id("sim", 1), "email": ADDRESS, "purpose": "LOGIN"}
    assert said(await payload(served, "consumer", "SendEmailCode", variables)) == [("INVALID_ID", "tenant")]
    await relay(served)
    assert len(box.mails) == mailed + 1
    assert box.mails[-1]["To"] == ADDRESS


@pytest.mark.feature("S1-73")
async def test_codes_are_asked_for_five_times_an_hour_for_an_address(served: World, box: Mailbox) -> None:
    for email in ("nobody@example.com", ADDRESS):
        answers = [await ask(served, "LOGIN", email) for _ in range(6)]
        assert answers[:5] == [DONE] * 5
        assert said(answers[5]) == [("TOO_MANY_ATTEMPTS", None)]
    staff = await served.client.post(
        "agent",
        "mutation($i: SendEmailCodeInput!) { sendEmailCode(input: $i) { errors { code } } }",
        {"i": {"tenant": served.id("north"), "email": ADDRESS, "purpose": "LOGIN"}},
    )
    assert staff.json()["data"]["sendEmailCode"]["errors"] == [{"code": "NOT_POSSIBLE_HERE"}]


# -- a forgotten password -----------------------------------------------------------------------------------------


@pytest.mark.feature("S1-75")
async def test_a_person_sets_a_forgotten_password_anew(served: World, box: Mailbox) -> None:
    token = await register(served, box)
    for _ in range(5):
        await log_in(served, "wrong")
    assert [code for code, _ in await log_in(served, SECRET_WORD)] == ["ACCOUNT_LOCKED"]
    code = await code_for(served, box, "PASSWORD_RESET")
    assert said(await reset(served, wrong(code))) == [("WRONG_CODE", "verificationCode")]
    assert said(await reset(served, code, "short")) == [("WEAK_PASSWORD", "new")]
    assert await who(served, "consumer", token) is not None
    answers = await asyncio.gather(*(reset(served, code, f"{NEW_PASSWORD} {n}") for n in range(3)))
    assert sorted(one["done"] for one in answers) == [False, False, True]
    won = next(n for n, one in enumerate(answers) if one["done"])
    # unlocked, with the new password alone, and out everywhere
    assert await log_in(served, f"{NEW_PASSWORD} {won}") == []
    assert await log_in(served, SECRET_WORD) == [("WRONG_CREDENTIALS", "account")]
    assert await who(served, "consumer", token) is None
    await relay(served)
    assert (box.mails[-1]["To"], box.mails[-1]["Subject"]) == (ADDRESS, "您的密码已重置")
    logged = await served.sql("SELECT arguments FROM operation_record WHERE mutation = 'reset_end_user_password'")
    hidden = {"tenant": served.id("north"), "email": ADDRESS, "verification_code": "[redacted]", "new": "[redacted]"}
    assert {json.dumps(json.loads(row["arguments"])["input"], sort_keys=True) for row in logged} == {
        json.dumps(hidden, sort_keys=True)
    }


# -- one's own address --------------------------------------------------------------------------------------------


@pytest.mark.feature("S1-73")
async def test_a_changed_address_counts_once_it_is_confirmed(served: World, box: Mailbox) -> None:
    token = await register(served, box)
    await register(served, box, "ben@example.com", account="Ben")

    async def confirm(code: str) -> list[tuple[str, str | None]]:
        return said(await payload(served, "consumer", "ConfirmMyEmail", {"verificationCode": code}, token))

    await payload(served, "consumer", "UpdateMyProfile", {"input": {"email": "new@example.com"}}, token)
    for email in (ADDRESS, "new@example.com"):
        await ask(served, "LOGIN", email)
    mailed = len(box.mails)
    await relay(served)
    assert len(box.mails) == mailed
    code = await code_for(served, box, "CONFIRMATION", "new@example.com")
    assert await confirm(wrong(code)) == [("WRONG_CODE", "verificationCode")]
    assert await confirm(code) == []
    assert said(await enter(served, await code_for(served, box, "LOGIN", "new@example.com"), "new@example.com")) == []
    # nobody can take another person's address
    await payload(served, "consumer", "UpdateMyProfile", {"input": {"email": "Ben@example.com"}}, token)
    assert await confirm(await code_for(served, box, "CONFIRMATION", "ben@example.com")) == [("TAKEN", "email")]
    refused = await run(served, "consumer", "ConfirmMyEmail", {"verificationCode": "123456"})
    assert [error["extensions"]["code"] for error in refused["errors"]] == ["UNAUTHENTICATED"]


async def test_a_code_comes_in_the_language_that_the_person_has_chosen(served: World, box: Mailbox) -> None:
    token = await register(served, box)
    assert (await payload(served, "consumer", "SetMyLanguage", {"language": "ZH_TW"}, token))["done"] is True
    await ask(served, "LOGIN")
    await relay(served)
    assert (box.mails[-1]["Subject"], box.mails[-1]["Content-Language"]) == ("您的驗證碼", "zh-TW")
    assert said(await enter(served, code_in(box))) == []
