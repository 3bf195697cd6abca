"""What is known of a person is told to the person, and gone everywhere when the account is closed."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import Boolean, Date, DateTime, Enum, Integer, Numeric, Uuid

from gateways import wechat as gateway
from gateways.http import Partner
from models.base import ERASED, IMPERSONAL, Base
from planner.ids import encode_id
from services.personal_data import tables
from tests.support.mailbox import Mailbox, delivering
from tests.support.people import SECRET_WORD, payload, run, said, who
from tests.support.serving import serving
from tests.support.subscribers import ADDRESS, code_for, publish_terms, register
from tests.support.wechat import WechatSandbox
from tests.support.world import World

APP = "wx1f2e3d4c5b6a7988"
ERASE = """mutation($id: ID!, $reason: String!) { eraseEndUser(input: {endUser: $id, reason: $reason}) {
    endUser { id name email login status erasedAt } errors { code field } } }"""
SET_STATUS = """mutation($id: ID!) { setEndUserStatus(endUser: $id, status: ACTIVE) { errors { code field } } }"""


@pytest.fixture
async def served(world: World) -> World:
    await publish_terms(world)
    return world


@pytest.fixture
async def box(served: World) -> AsyncIterator[Mailbox]:
    async with delivering(served) as made:
        yield made


async def close(world: World, token: str, door: str = "consumer", **proof: str) -> list[tuple[str, str | None]]:
    return said(await payload(world, door, "CloseMyAccount", {"input": proof}, token))


async def places(world: World, *words: str) -> set[str]:
    """The tables in which any of these words stands, in whatever spelling."""
    found = set()
    for table in Base.metadata.tables:
        for word in words:
            [row] = await world.sql(
                f"SELECT count(*) AS n FROM {table} t WHERE strpos(lower(to_jsonb(t)::text), lower($1)) > 0", word
            )
            if row["n"]:
                found.add(table)
    return found


# -- what models declare ------------------------------------------------------------------------------------------


def test_each_column_of_a_persons_row_says_whether_it_holds_personal_data() -> None:
    """Keys, times, numbers and enumerations tell nothing by themselves; whatever else there is, is declared."""
    silent = (Boolean, Date, DateTime, Enum, Integer, Numeric, Uuid)
    undeclared = {
        f"{table.name}.{column.name}"
        for table, _ in tables()
        for column in table.columns
        if not isinstance(column.type, silent) and not {ERASED, IMPERSONAL} & set(column.info)
    }
    assert undeclared == set()
    assert {table.name for table, _ in tables()} >= {"end_user", "login_record", "notification", "operation_record"}
    both = [c for table, _ in tables() for c in table.columns if {ERASED, IMPERSONAL} <= set(c.info)]
    assert both == []


# -- closing one's account ----------------------------------------------------------------------------------------


async def test_who_closes_an_account_is_forgotten_everywhere(served: World, box: Mailbox) -> None:
    token = await register(served, box)
    (person,) = await served.sql("SELECT * FROM end_user WHERE login = 'Ada'")
    card = served.cards["south"][2]
    await served.sql("UPDATE sim_card SET end_user_id = $1 WHERE id = $2", person["id"], card.id)
    await served.sql(
        "INSERT INTO sim_end_user_binding (tenant_id, tenant_path, sim_card_id, end_user_id) VALUES ($1, $2, $3, $4)",
        card.tenant_id, card.tenant_path, card.id, person["id"],
    )  # fmt: skip
    await payload(served, "consumer", "EndUserLogin", {
        "tenant": served.id("north"), "account": "ADA", "password": "wrong",
    })  # fmt: skip
    for email in ("countess@example.com", ADDRESS):
        changes = {"name": "Countess", "email": email}
        await payload(served, "consumer", "UpdateMyProfile", {"input": changes}, token)
    # somebody typed the address where it is the person's no longer
    create = """mutation($input: CreateStaffAccountInput!) { createStaffAccount(input: $input) { errors { code } } }"""
    typed = {"login": "x", "password": "short", "name": "X", "roles": [], "email": "ADA@example.com"}
    await served.data("north", create, {"input": typed})
    words = (ADDRESS, "countess@example.com", "Ada Lovelace", "Countess", '"Ada"')
    assert await places(served, *words) >= {"end_user", "login_record", "operation_record", "notification"}
    other = await register(served, box, "ben@example.com", account="Ben", name="Ben")

    assert await close(served, token) == [("REQUIRED", "password")]
    assert await close(served, token, password=SECRET_WORD, verificationCode="123456") == [("REQUIRED", "password")]
    assert await close(served, token, password="wrong") == [("WRONG_CREDENTIALS", "password")]
    assert await close(served, token, verificationCode="123456") == [("WRONG_CODE", "verificationCode")]
    assert await close(served, token, loginCode="none") == [("INVALID_CODE", "loginCode")]
    assert await who(served, "consumer", token) is not None
    assert await places(served, ADDRESS) != set()

    assert await close(served, token, password=SECRET_WORD) == []
    assert await who(served, "consumer", token) is None
    assert await places(served, *words) == set()
    (gone,) = await served.sql("SELECT * FROM end_user WHERE id = $1", person["id"])
    empty = ("name", "phone", "email", "email_verified_at", "login", "password_hash", "wechat_openid", "wechat_unionid")
    assert {name: gone[name] for name in empty} == dict.fromkeys(empty)
    assert (gone["status"], gone["tenant_id"]) == ("DISABLED", person["tenant_id"])
    assert gone["erased_at"] is not None
    # what must be kept stays with the key: what was signed, which card, and that something was done
    (signed,) = await served.sql("SELECT document, version FROM agreement_consent WHERE end_user_id = $1", person["id"])
    assert tuple(signed) == ("terms", "1")
    (binding,) = await served.sql(
        "SELECT sim_card_id, unbound_at FROM sim_end_user_binding WHERE end_user_id = $1", person["id"]
    )
    assert binding["sim_card_id"] == card.id
    assert binding["unbound_at"] is not None
    assert await served.sql("SELECT id FROM sim_card WHERE end_user_id = $1", person["id"]) == []
    logged = await served.sql(
        "SELECT mutation, arguments, outcome, ip FROM operation_record WHERE end_user_id = $1 ORDER BY id", person["id"]
    )
    assert "update_my_profile" in {row["mutation"] for row in logged}
    assert (logged[-1]["mutation"], logged[-1]["outcome"]) == ("close_my_account", "SUCCEEDED")
    assert {row["arguments"] for row in logged[:-1]} == {"{}"}
    assert {row["ip"] for row in logged} == {None}
    tries = await served.sql(
        "SELECT login, ip, user_agent, outcome FROM login_record WHERE end_user_id = $1", person["id"]
    )
    assert {tuple(row)[:3] for row in tries} == {("", None, None)}
    assert sorted(row["outcome"] for row in tries) == ["SUCCEEDED", "WRONG_CREDENTIALS"]
    # nobody else is touched, and the person may begin anew
    assert await who(served, "consumer", other) is not None
    assert await places(served, "ben@example.com") >= {"end_user", "operation_record"}
    assert await who(served, "consumer", await register(served, box)) != encode_id("eus", person["id"])


async def test_an_account_is_closed_with_a_code_from_the_mail(served: World, box: Mailbox) -> None:
    token = await register(served, box)
    code = await code_for(served, box, "CLOSURE")
    await served.sql("UPDATE end_user SET email_verified_at = NULL WHERE login = 'Ada'")
    assert await close(served, token, verificationCode=code) == [("WRONG_CODE", "verificationCode")]
    await served.sql("UPDATE end_user SET email_verified_at = now() WHERE login = 'Ada'")
    assert await close(served, token, verificationCode=code) == []
    assert await who(served, "consumer", token) is None
    assert await places(served, ADDRESS) == set()


async def test_a_person_of_the_mini_program_closes_the_account_with_a_fresh_login_code(
    served: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    sandbox = WechatSandbox()
    sandbox.secrets[APP] = "0123456789abcdef0123456789abcdef"
    set_app = "mutation($input: SetLoginAppInput!) { setLoginApp(input: $input) { errors { code } } }"
    input = {"provider": "WECHAT_MINI_PROGRAM", "appId": APP, "secret": sandbox.secrets[APP]}
    await served.data("north", set_app, {"input": input})
    async with serving(sandbox.app) as url:
        monkeypatch.setenv("TRELLIS_WECHAT_API_URL", url)
        patient = gateway.Wechat(url, Partner("WECHAT", "WeChat", timeout_seconds=5))
        monkeypatch.setitem(gateway._known, url, patient)
        entry = {"appId": APP, "loginCode": sandbox.issue(APP, "openid-of-ada")}
        token = (await payload(served, "wechat", "WechatLogin", entry))["session"]["accessToken"]
        foreign = sandbox.issue(APP, "openid-of-ben")
        assert await close(served, token, "wechat", loginCode=foreign) == [("INVALID_CODE", "loginCode")]
        assert await who(served, "wechat", token) is not None
        assert await close(served, token, "wechat", loginCode=sandbox.issue(APP, "openid-of-ada")) == []
        assert await who(served, "wechat", token) is None
        await patient.close()
    assert await places(served, "openid-of-ada") == set()


# -- by those who serve the person --------------------------------------------------------------------------------


async def test_administrators_erase_whom_they_serve_with_a_reason(served: World, box: Mailbox) -> None:
    token = await register(served, box)
    id = await who(served, "consumer", token)
    assert id is not None
    reason = "asked for by letter"

    async def erase(account: str, why: str = reason) -> Any:
        found = (await served.data(account, ERASE, {"id": id, "reason": why}))["eraseEndUser"]
        return found["endUser"], said(found)

    for stranger in ("south", "acme", "coast"):
        assert await erase(stranger) == (None, [("NOT_FOUND", "endUser")])
    for account in ("operations", "finance", "sales"):
        assert await served.codes(account, ERASE, {"id": id, "reason": reason}) == ["FORBIDDEN"]
    assert await erase("north", " ") == (None, [("REQUIRED", "reason")])
    assert await who(served, "consumer", token) == id
    own = 'mutation { closeMyAccount(input: {password: "x"}) { errors { code } } }'
    assert await served.codes("north", own) == ["FORBIDDEN"]

    erased, errors = await erase("north")
    assert errors == []
    assert erased.pop("erasedAt") is not None
    assert erased == {"id": id, "name": None, "email": None, "login": None, "status": "DISABLED"}
    assert await who(served, "consumer", token) is None
    assert await places(served, ADDRESS) == set()
    assert await erase("admin") == (None, [("ERASED", "endUser")])
    back = (await served.data("north", SET_STATUS, {"id": id}))["setEndUserStatus"]
    assert said(back) == [("ERASED", "endUser")]
    (record,) = await served.sql(
        "SELECT arguments FROM operation_record WHERE mutation = 'erase_end_user' AND outcome = 'SUCCEEDED'"
    )
    assert json.loads(record["arguments"]) == {"input": {"end_user": id, "reason": reason}}


# -- what is known ------------------------------------------------------------------------------------------------


async def test_a_person_is_told_what_is_known_and_nothing_of_others(served: World, box: Mailbox) -> None:
    token = await register(served, box)
    await register(served, box, "ben@example.com", account="Ben", name="Ben")
    (person,) = await served.sql("SELECT id FROM end_user WHERE login = 'Ada'")
    await served.sql("UPDATE sim_card SET end_user_id = $1 WHERE id = $2", person["id"], served.cards["north"][0].id)
    text = (await run(served, "consumer", "ExportMyData", token=token))["data"]["exportMyData"]["document"]
    told = json.loads(text)
    (me,) = told["end_user"]
    assert (me["id"], me["name"], me["email"], me["login"]) == (person["id"], "Ada Lovelace", ADDRESS, "Ada")
    assert [one["login"] for one in told["login_record"]] == ["Ada"]
    assert [one["ip"] for one in told["login_session"]] == ["127.0.0.9"]
    for secret in ("argon2", "refresh_hash", "ben@example.com", served.cards["north"][0].iccid):
        assert secret not in text
    export = "{ exportMyData { document } }"
    assert await served.codes("north", export) == ["FORBIDDEN"]
    answer = await served.run("admin", export)
    assert (answer["data"], answer["errors"][0]["extensions"]["code"]) == ({"exportMyData": None}, "NOT_POSSIBLE_HERE")
    visitor = await run(served, "consumer", "ExportMyData")
    assert [error["extensions"]["code"] for error in visitor["errors"]] == ["UNAUTHENTICATED"]
