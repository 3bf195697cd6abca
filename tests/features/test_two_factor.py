"""The platform's staff log in with a second factor: enrolling, one-time codes, recovery codes, resetting."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pyotp
import pytest

from planner.ids import encode_id
from tests.support.people import payload, said
from tests.support.world import PASSWORD, World

RESET = """mutation($account: ID!) { resetSecondFactor(account: $account) {
    account { secondFactorAt } errors { code field } } }"""
Errors = list[tuple[str, str | None]]


def code_of(secret: str, ahead: int = 0) -> str:
    """The code of the time step now, or of one so many steps later."""
    return pyotp.TOTP(secret).generate_otp(int(time.time()) // 30 + ahead)


async def log_in(world: World, account: str, code: str | None = None, password: str = PASSWORD) -> dict[str, Any]:
    variables = {"account": account, "password": password, "oneTimeCode": code}
    return await payload(world, "admin", "LogIn", variables)


async def session(world: World, account: str, code: str | None = None) -> str:
    found = await log_in(world, account, code)
    assert found["errors"] == []
    token: str = found["session"]["accessToken"]
    return token


async def enrol(world: World, token: str, password: str = PASSWORD) -> tuple[str, Errors]:
    found = await payload(world, "admin", "EnrolSecondFactor", {"password": password}, token)
    return found["secret"], said(found)


async def confirm(world: World, token: str, code: str) -> tuple[list[str], Errors]:
    found = await payload(world, "admin", "ConfirmSecondFactor", {"oneTimeCode": code}, token)
    return found["recoveryCodes"], said(found)


async def enrolled(world: World, account: str) -> tuple[str, str, list[str]]:
    """A session of an account that now has a second factor, its secret, and its recovery codes."""
    token = await session(world, account)
    secret, _ = await enrol(world, token)
    codes, errors = await confirm(world, token, code_of(secret))
    assert errors == []
    return token, secret, codes


async def later(world: World) -> None:
    """As if the codes that were used had been used some minutes ago."""
    await world.sql("UPDATE staff_account SET second_factor_step = second_factor_step - 10")


async def alive(world: World, token: str) -> bool:
    return (await world.client.post("admin", "{ viewer { door } }", token=token)).status_code == 200


async def account_id(world: World, login: str) -> str:
    (row,) = await world.sql("SELECT id FROM staff_account WHERE login = $1", login)
    return encode_id("acc", row["id"])


@pytest.mark.parametrize("account", ["admin", "operations", "finance", "sales"])
async def test_who_has_enrolled_logs_in_with_a_code(world: World, account: str) -> None:
    other = await session(world, account)
    token = await session(world, account)
    secret, errors = await enrol(world, token)
    assert errors == []
    # not before it is confirmed
    await session(world, account)
    assert await confirm(world, token, "000000" if code_of(secret) != "000000" else "111111") == (
        [],
        [("WRONG_ONE_TIME_CODE", "oneTimeCode")],
    )
    codes, errors = await confirm(world, token, code_of(secret))
    assert (len(codes), len(set(codes)), errors) == (10, 10, [])
    # whoever came in without a code is out, except who has just shown one
    assert (await alive(world, other), await alive(world, token)) == (False, True)

    assert said(await log_in(world, account)) == [("SECOND_FACTOR_REQUIRED", "oneTimeCode")]
    assert said(await log_in(world, account, "")) == [("SECOND_FACTOR_REQUIRED", "oneTimeCode")]
    await later(world)
    new = await session(world, account, code_of(secret))
    shown = await world.client.post("admin", "{ viewer { account { login secondFactorAt } } }", token=new)
    assert shown.json()["data"]["viewer"]["account"]["secondFactorAt"] is not None
    # a right code is of no use without the password, and tells nothing about it
    wrong = await log_in(world, account, code_of(secret, 1), password="wrong")
    assert said(wrong) == [("WRONG_CREDENTIALS", "account")]


async def test_a_code_passes_once_and_none_before_it_does(world: World) -> None:
    _, secret, _ = await enrolled(world, "admin")
    # the one that ended the enrolment is used up
    assert said(await log_in(world, "admin", code_of(secret))) == [("WRONG_ONE_TIME_CODE", "oneTimeCode")]
    await later(world)
    code = code_of(secret)
    answers = await asyncio.gather(*(log_in(world, "admin", code) for _ in range(3)))
    assert sorted(said(one) for one in answers) == [[]] + [[("WRONG_ONE_TIME_CODE", "oneTimeCode")]] * 2
    # the step after it is tolerated early; after that the one of now is too old
    await session(world, "admin", code_of(secret, 1))
    assert said(await log_in(world, "admin", code_of(secret))) == [("WRONG_ONE_TIME_CODE", "oneTimeCode")]
    await later(world)
    for far in (-5, 5):
        assert said(await log_in(world, "admin", code_of(secret, far))) == [("WRONG_ONE_TIME_CODE", "oneTimeCode")]


async def test_wrong_codes_lock_an_account_like_wrong_passwords(world: World) -> None:
    _, secret, codes = await enrolled(world, "admin")
    await later(world)
    for _ in range(3):
        assert said(await log_in(world, "admin", "12345")) == [("WRONG_ONE_TIME_CODE", "oneTimeCode")]
    # a login that only lacks its code neither counts nor begins the count anew
    assert said(await log_in(world, "admin")) == [("SECOND_FACTOR_REQUIRED", "oneTimeCode")]
    for wrong in ("not a code", "x" * 500):
        assert said(await log_in(world, "admin", wrong)) == [("WRONG_ONE_TIME_CODE", "oneTimeCode")]
    for right in (code_of(secret), codes[0]):
        assert said(await log_in(world, "admin", right)) == [("ACCOUNT_LOCKED", "account")]
    await world.sql("UPDATE staff_account SET locked_until = NULL")
    await session(world, "admin", code_of(secret))
    outcomes = await world.sql("SELECT outcome FROM login_record WHERE login = 'admin' ORDER BY id")
    assert [row["outcome"] for row in outcomes] == [
        "SUCCEEDED", *["SECOND_FACTOR"] * 6, *["LOCKED"] * 2, "SUCCEEDED",
    ]  # fmt: skip


async def test_a_recovery_code_passes_once_and_only_its_own_account(world: World) -> None:
    _, _, codes = await enrolled(world, "admin")
    _, _, others = await enrolled(world, "sales")
    assert said(await log_in(world, "admin", others[0])) == [("WRONG_ONE_TIME_CODE", "oneTimeCode")]
    answers = await asyncio.gather(*(log_in(world, "admin", codes[0]) for _ in range(3)))
    assert sorted(said(one) for one in answers) == [[]] + [[("WRONG_ONE_TIME_CODE", "oneTimeCode")]] * 2
    # as it was written down
    await session(world, "admin", f" {codes[1].replace('-', ' ').upper()} ")
    (used,) = await world.sql("SELECT count(*) AS codes, count(used_at) AS used FROM recovery_code")
    assert tuple(used) == (20, 2)


async def test_neither_the_secret_nor_the_codes_are_stored_or_logged(world: World) -> None:
    _, secret, codes = await enrolled(world, "admin")
    for table in ("staff_account", "recovery_code", "operation_record", "idempotent_result"):
        (kept,) = await world.sql(f"SELECT coalesce(string_agg(to_jsonb(t)::text, ''), '') AS whole FROM {table} t")
        for word in (secret, *codes, *(one.replace("-", "") for one in codes), PASSWORD):
            assert word not in kept["whole"]
            assert word.encode().hex() not in kept["whole"]
    (said_once,) = await world.sql("SELECT arguments FROM operation_record WHERE mutation = 'confirm_second_factor'")
    assert said_once["arguments"] == '{"one_time_code": "[redacted]"}'


async def test_enrolling_asks_for_the_password_and_happens_once(world: World) -> None:
    token = await session(world, "admin")
    assert (await enrol(world, token, "wrong"))[1] == [("WRONG_CREDENTIALS", "password")]
    assert await confirm(world, token, "123456") == ([], [("NOT_ENROLLED", None)])
    first, _ = await enrol(world, token)
    second, _ = await enrol(world, token)
    assert (await confirm(world, token, code_of(first)))[1] == [("WRONG_ONE_TIME_CODE", "oneTimeCode")]
    uri = await payload(world, "admin", "EnrolSecondFactor", {"password": PASSWORD}, token)
    parsed = pyotp.parse_uri(uri["uri"])
    assert (parsed.secret, parsed.name, parsed.issuer) == (uri["secret"], "admin", "Trellis")
    assert second != uri["secret"]
    assert (await confirm(world, token, code_of(uri["secret"])))[1] == []
    assert (await enrol(world, token))[1] == [("ALREADY_ENROLLED", None)]
    assert await confirm(world, token, code_of(uri["secret"], 1)) == ([], [("ALREADY_ENROLLED", None)])


async def test_customers_staff_have_no_second_factor(world: World) -> None:
    answer = await world.codes("north", 'mutation { enrolSecondFactor(password: "x") { secret errors { code } } }')
    assert answer == ["FORBIDDEN"]


async def test_another_administrator_resets_a_lost_second_factor(world: World) -> None:
    finance, _, codes = await enrolled(world, "finance")
    id = {"account": await account_id(world, "finance")}
    for account in ("operations", "sales"):
        assert await world.codes(account, RESET, id) == ["FORBIDDEN"]
    assert await world.codes("north", RESET, id) == ["FORBIDDEN"]
    missing = (await world.data("admin", RESET, {"account": encode_id("acc", 999_999)}))["resetSecondFactor"]
    assert said(missing) == [("NOT_FOUND", "account")]
    own = (await world.data("admin", RESET, {"account": await account_id(world, "admin")}))["resetSecondFactor"]
    assert said(own) == [("INVALID", "account")]
    assert said(await log_in(world, "finance")) == [("SECOND_FACTOR_REQUIRED", "oneTimeCode")]
    assert await alive(world, finance)

    done = (await world.data("admin", RESET, id))["resetSecondFactor"]
    assert done == {"account": {"secondFactorAt": None}, "errors": []}
    assert not await alive(world, finance)
    await session(world, "finance")
    assert await world.sql("SELECT id FROM recovery_code") == []
    assert codes
    (row,) = await world.sql(
        "SELECT o.outcome, o.arguments, a.login FROM operation_record o JOIN staff_account a ON a.id = o.account_id "
        "WHERE mutation = 'reset_second_factor' AND outcome = 'SUCCEEDED'"
    )
    assert tuple(row) == ("SUCCEEDED", f'{{"account": "{id["account"]}"}}', "admin")
