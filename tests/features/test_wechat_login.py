"""The WeChat mini-program: its own door, its own documents, and logins that WeChat vouches for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from gateways import wechat as gateway
from gateways.http import Partner
from tests.support.people import payload, person_id, run, said, who
from tests.support.serving import serving
from tests.support.wechat import WechatSandbox
from tests.support.world import World

APP = "wx1f2e3d4c5b6a7988"
SECRET = "0123456789abcdef0123456789abcdef"
SET_APP = """mutation($input: SetLoginAppInput!) { setLoginApp(input: $input) {
    loginApp { provider appId status tenant { id } } errors { code field } } }"""


@dataclass
class Wechat:
    """A world in which ``north`` has a mini-program, and the WeChat behind it."""

    world: World
    sandbox: WechatSandbox

    async def log_in(self, code: str, app: str = APP, door: str = "wechat") -> dict[str, Any]:
        return await payload(self.world, door, "WechatLogin", {"appId": app, "loginCode": code})

    async def session(self, openid: str, app: str = APP) -> dict[str, str]:
        found = await self.log_in(self.sandbox.issue(app, openid), app)
        assert found["errors"] == []
        session: dict[str, str] = found["session"]
        return session


async def set_app(world: World, account: str, **more: Any) -> tuple[Any, list[tuple[str, str | None]]]:
    input = {"provider": "WECHAT_MINI_PROGRAM", "appId": APP, **more}
    found = (await world.data(account, SET_APP, {"input": input}))["setLoginApp"]
    return found["loginApp"], said(found)


@pytest.fixture
async def wechat(world: World, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Wechat]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    sandbox = WechatSandbox()
    sandbox.secrets[APP] = SECRET
    assert (await set_app(world, "north", secret=SECRET))[1] == []
    async with serving(sandbox.app) as url:
        monkeypatch.setenv("TRELLIS_WECHAT_API_URL", url)
        impatient = gateway.Wechat(url, Partner("WECHAT", "WeChat", timeout_seconds=0.5))
        monkeypatch.setitem(gateway._known, url, impatient)
        yield Wechat(world, sandbox)
        await impatient.close()


# -- setting up ---------------------------------------------------------------------------------------------------


@pytest.mark.feature("S0-40")
async def test_the_apps_secret_is_kept_encrypted_and_never_shown(wechat: Wechat) -> None:
    world = wechat.world
    (row,) = await world.sql("SELECT to_jsonb(a)::text AS whole, secret_encrypted FROM login_app a")
    assert SECRET not in row["whole"]
    assert SECRET.encode().hex() not in row["whole"]
    said_once = await world.sql("SELECT string_agg(arguments::text, '') AS said FROM operation_record")
    assert SECRET not in said_once[0]["said"]
    shown = await world.data("admin", '{ __type(name: "LoginApp") { fields { name } } }')
    assert {field["name"] for field in shown["__type"]["fields"]} == {
        "appId", "id", "provider", "status", "tenant", "updatedAt",
    }  # fmt: skip
    # changing something else leaves the secret; another app needs another secret
    assert (await set_app(world, "north", status="DISABLED"))[1] == []
    assert said(await wechat.log_in(wechat.sandbox.issue(APP, "o1"))) == [("LOGIN_NOT_OFFERED", "appId")]
    assert (await set_app(world, "north"))[0] == {
        "provider": "WECHAT_MINI_PROGRAM",
        "appId": APP,
        "status": "ACTIVE",
        "tenant": {"id": world.id("north")},
    }
    await wechat.session("o1")
    assert await set_app(world, "north", appId="wx2") == (None, [("REQUIRED", "secret")])


@pytest.mark.feature("S0-40")
async def test_a_tenant_sets_up_its_own_app_and_no_strangers(wechat: Wechat) -> None:
    world = wechat.world
    before = await world.sql("SELECT * FROM login_app")
    assert await set_app(world, "south", secret="x") == (None, [("TAKEN", "appId")])
    assert await set_app(world, "south", secret="x", appId=" ") == (None, [("REQUIRED", "appId")])
    assert await set_app(world, "south", secret=" ", appId="wx3") == (None, [("REQUIRED", "secret")])
    assert await set_app(world, "south", secret="x", tenant=world.id("north")) == (None, [("NOT_FOUND", "tenant")])
    variables = {"input": {"provider": "WECHAT_MINI_PROGRAM", "appId": "wx3", "secret": "x"}}
    for account in ("operations", "finance", "sales"):
        assert await world.codes(account, SET_APP, variables) == ["FORBIDDEN"]
    assert await world.sql("SELECT * FROM login_app") == before
    listed = "{ loginApps(first: 9) { nodes { appId } } }"
    assert (await world.data("south", listed))["loginApps"]["nodes"] == []
    assert (await world.data("north", listed))["loginApps"]["nodes"] == [{"appId": APP}]
    assert await world.codes("finance", listed) == ["FORBIDDEN"]


# -- logging in ---------------------------------------------------------------------------------------------------


@pytest.mark.feature("S0-40")
async def test_the_first_login_makes_the_person_and_the_next_finds_the_same(wechat: Wechat) -> None:
    world = wechat.world
    first = await wechat.log_in(wechat.sandbox.issue(APP, "o6_first"))
    assert wechat.sandbox.asked[0]["appid"] == APP
    assert wechat.sandbox.asked[0]["secret"] == SECRET
    assert wechat.sandbox.asked[0]["grant_type"] == "authorization_code"
    id = await who(world, "wechat", first["session"]["accessToken"])
    (row,) = await world.sql("SELECT * FROM end_user WHERE wechat_openid IS NOT NULL")
    assert (id, row["tenant_id"], row["wechat_app_id"], row["wechat_openid"], row["wechat_unionid"]) == (
        person_id(row["id"]),
        world.tenants["north"].id,
        APP,
        "o6_first",
        None,
    )
    second = await wechat.log_in(wechat.sandbox.issue(APP, "o6_first", "u1"))
    assert await who(world, "wechat", second["session"]["accessToken"]) == id
    other = await wechat.log_in(wechat.sandbox.issue(APP, "o6_other"))
    assert await who(world, "wechat", other["session"]["accessToken"]) != id
    rows = await world.sql(
        "SELECT wechat_openid, wechat_unionid FROM end_user WHERE wechat_app_id = $1 ORDER BY id", APP
    )
    assert [tuple(one) for one in rows] == [("o6_first", "u1"), ("o6_other", None)]
    # the key of WeChat's own session is nowhere kept
    for table in ("end_user", "login_session", "login_record", "operation_record"):
        (kept,) = await world.sql(f"SELECT coalesce(string_agg(to_jsonb(t)::text, ''), '') AS whole FROM {table} t")
        assert "c2Vzc2lvbiBrZXkg" not in kept["whole"]
        assert not any(asked["js_code"] in kept["whole"] for asked in wechat.sandbox.asked)


@pytest.mark.feature("S0-40")
async def test_first_logins_at_once_make_one_person(wechat: Wechat) -> None:
    sessions = await asyncio.gather(*(wechat.session("o6_same") for _ in range(6)))
    people = {await who(wechat.world, "wechat", session["accessToken"]) for session in sessions}
    assert len(people) == 1
    assert len(await wechat.world.sql("SELECT id FROM end_user WHERE wechat_openid = 'o6_same'")) == 1


@pytest.mark.feature("S0-40")
async def test_one_person_is_somebody_else_in_another_tenants_app(wechat: Wechat) -> None:
    world = wechat.world
    wechat.sandbox.secrets["wx-south"] = "south's"
    assert (await set_app(world, "south", appId="wx-south", secret="south's"))[1] == []
    north = await who(world, "wechat", (await wechat.session("o6"))["accessToken"])
    south = await who(world, "wechat", (await wechat.session("o6", "wx-south"))["accessToken"])
    assert north != south
    rows = await world.sql("SELECT tenant_id FROM end_user WHERE wechat_openid = 'o6' ORDER BY tenant_id")
    assert [row["tenant_id"] for row in rows] == [world.tenants["north"].id, world.tenants["south"].id]
    # a code is good in the app that it was made for only
    assert said(await wechat.log_in(wechat.sandbox.issue(APP, "o6"), "wx-south")) == [("INVALID_CODE", "loginCode")]


@pytest.mark.feature("S0-40")
async def test_a_code_that_wechat_does_not_take_lets_nobody_in(wechat: Wechat) -> None:
    world = wechat.world
    code = wechat.sandbox.issue(APP, "o6")
    assert said(await wechat.log_in(code)) == []
    for wrong in (code, "invented", "x" * 200):
        answer = await wechat.log_in(wrong)
        assert (answer["session"], said(answer)) == (None, [("INVALID_CODE", "loginCode")])
    assert said(await wechat.log_in("  ")) == [("REQUIRED", "loginCode")]
    for app in ("wx-unknown", "' OR 1=1 --"):
        assert said(await wechat.log_in("x", app)) == [("LOGIN_NOT_OFFERED", "appId")]
    assert said(await wechat.log_in("x", "")) == [("REQUIRED", "appId")]
    assert len(await world.sql("SELECT id FROM end_user WHERE wechat_openid IS NOT NULL")) == 1
    records = """{ loginRecords(first: 9, filter: {door: {eq: "wechat"}}, orderBy: {field: ID}) {
        nodes { login method outcome } } }"""
    nodes = (await world.data("north", records))["loginRecords"]["nodes"]
    assert [(one["login"], one["method"], one["outcome"]) for one in nodes] == [
        (APP, "WECHAT_MINI_PROGRAM", "SUCCEEDED"),
        *[(APP, "WECHAT_MINI_PROGRAM", "WRONG_CREDENTIALS")] * 3,
    ]
    assert (await world.data("south", records))["loginRecords"]["nodes"] == []


@pytest.mark.feature("S0-40")
@pytest.mark.parametrize("fault", [45011, -1, 40013, 40125, "timeout", "http_500", "bad_json"])
async def test_while_wechat_fails_nobody_comes_in_and_the_code_is_good_later(wechat: Wechat, fault: int | str) -> None:
    code = wechat.sandbox.issue(APP, "o6")
    wechat.sandbox.faults.append(fault)
    answer = await wechat.log_in(code)
    assert (answer["session"], said(answer)) == (None, [("LOGIN_UNAVAILABLE", None)])
    assert SECRET not in str(answer)
    assert await wechat.world.sql("SELECT id FROM end_user WHERE wechat_openid IS NOT NULL") == []
    assert said(await wechat.log_in(code)) == []
    assert len(wechat.sandbox.asked) == 2


@pytest.mark.parametrize("fault", [40029, 40163])
async def test_a_refusal_of_the_code_is_told_as_such(wechat: Wechat, fault: int) -> None:
    wechat.sandbox.faults.append(fault)
    assert said(await wechat.log_in(wechat.sandbox.issue(APP, "o6"))) == [("INVALID_CODE", "loginCode")]


@pytest.mark.feature("S0-40")
async def test_a_person_or_company_out_of_service_does_not_come_in(wechat: Wechat) -> None:
    world = wechat.world
    token = (await wechat.session("o6"))["accessToken"]
    await world.sql("UPDATE end_user SET status = 'DISABLED' WHERE wechat_openid = 'o6'")
    assert said(await wechat.log_in(wechat.sandbox.issue(APP, "o6"))) == [("ACCOUNT_DISABLED", None)]
    await world.sql("UPDATE end_user SET status = 'ACTIVE' WHERE wechat_openid = 'o6'")
    suspend = "mutation($input: SetTenantStatusInput!) { setTenantStatus(input: $input) { errors { code } } }"
    await world.data("admin", suspend, {"input": {"id": world.id("north"), "status": "SUSPENDED"}})
    assert await who(world, "wechat", token) is None
    assert said(await wechat.log_in(wechat.sandbox.issue(APP, "o6"))) == [("LOGIN_NOT_OFFERED", "appId")]


async def test_other_doors_offer_no_login_by_wechat(wechat: Wechat) -> None:
    code = wechat.sandbox.issue(APP, "o6")
    document = """mutation($code: String!) { wechatLogin(input: {appId: "%s", loginCode: $code}) {
        session { accessToken } errors { code field } } }"""
    for door in ("admin", "agent"):
        answer = await wechat.world.client.post(door, document % APP, {"code": code})
        assert said(answer.json()["data"]["wechatLogin"]) == [("LOGIN_NOT_OFFERED", "appId")]
    assert wechat.sandbox.asked == []


# -- afterwards ---------------------------------------------------------------------------------------------------


@pytest.mark.feature("S0-40")
async def test_the_mini_program_shows_a_person_the_own_cards(wechat: Wechat) -> None:
    world = wechat.world
    token = (await wechat.session("o6"))["accessToken"]
    id = await who(world, "wechat", token)
    people = "{ endUsers(first: 9, orderBy: {field: ID, direction: DESC}) { nodes { id } } }"
    assert (await world.data("north", people))["endUsers"]["nodes"][0] == {"id": id}
    bind = "mutation($input: BindSimEndUserInput!) { bindSimEndUser(input: $input) { errors { code } } }"
    card = world.card_ids("north-east")[2]
    bound = await world.data("north", bind, {"input": {"card": card, "endUser": id}})
    assert bound["bindSimEndUser"]["errors"] == []
    cards = (await run(world, "wechat", "MyCards", token=token))["data"]["simCards"]
    assert (cards["totalCount"], [node["id"] for node in cards["nodes"]]) == (1, [card])
    foreign = world.card_ids("north")[1]
    assert (await run(world, "wechat", "MyCard", {"id": foreign}, token))["data"] == {"simCard": None}


@pytest.mark.feature("S0-40")
async def test_a_mini_programs_session_is_refreshed_and_ended(wechat: Wechat) -> None:
    world = wechat.world
    first = await wechat.session("o6")
    renewed = await payload(world, "wechat", "RefreshSession", {"refreshToken": first["refreshToken"]})
    token = renewed["session"]["accessToken"]
    assert await who(world, "wechat", token) is not None
    assert await who(world, "consumer", token) is None
    assert (await payload(world, "wechat", "LogOut", {"everywhere": True}, token))["done"] is True
    assert await who(world, "wechat", token) is None
