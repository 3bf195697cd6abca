"""Portal staff who come in by a WeChat official account or by Gitee: bound first, then vouched for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.support.gitee import GiteeSandbox
from tests.support.people import payload, said
from tests.support.serving import serving
from tests.support.wechat import WechatSandbox
from tests.support.world import World

WECHAT, GITEE = "WECHAT_OFFICIAL_ACCOUNT", "GITEE"
APPS = {WECHAT: "wx00112233445566aa", GITEE: "a" * 64}
SECRETS = {WECHAT: "the official account's secret", GITEE: "the gitee app's secret"}
PEOPLE = {WECHAT: ("o6_one", "o6_two"), GITEE: (70_001, 70_002)}
FEATURES = {WECHAT: pytest.mark.feature("S0-20"), GITEE: pytest.mark.feature("S2-28")}
both = pytest.mark.parametrize("provider", [pytest.param(p, marks=FEATURES[p]) for p in (WECHAT, GITEE)])
SET_APP = "mutation($input: SetLoginAppInput!) { setLoginApp(input: $input) { errors { code field } } }"
REDIRECTS = {p: f"http://127.0.0.1:8080/agent/login/{p.lower()}" for p in (WECHAT, GITEE)}


@dataclass
class Portal:
    """A world whose platform has apps at both third parties, and the third parties themselves."""

    world: World
    wechat: WechatSandbox
    gitee: GiteeSandbox

    def code(self, provider: str, person: int = 0, redirect: str | None = None) -> str:
        who: Any = PEOPLE[provider][person]
        if provider == WECHAT:
            return self.wechat.issue(APPS[WECHAT], who)
        return self.gitee.issue(APPS[GITEE], redirect or REDIRECTS[GITEE], who)

    async def begin(self, provider: str, account: str | None = None) -> str:
        """The state of a login, or of the binding of an account."""
        name = "BeginOauthLogin" if account is None else "BeginLoginBinding"
        token = None if account is None else await self.world.token(account)
        begun = await payload(self.world, "agent", name, {"provider": provider}, token)
        assert begun["errors"] == []
        state: str = begun["state"]
        return state

    async def log_in(self, provider: str, code: str, state: str | None = None) -> dict[str, Any]:
        state = await self.begin(provider) if state is None else state
        input = {"provider": provider, "loginCode": code, "state": state}
        return await payload(self.world, "agent", "OauthLogin", {"input": input})

    async def bind(self, account: str, provider: str, code: str, state: str | None = None) -> dict[str, Any]:
        state = await self.begin(provider, account) if state is None else state
        input = {"provider": provider, "loginCode": code, "state": state}
        return await payload(self.world, "agent", "BindLogin", {"input": input}, await self.world.token(account))

    async def bindings(self) -> list[tuple[str, str]]:
        rows = await self.world.sql(
            "SELECT a.login, b.provider FROM login_binding b JOIN staff_account a ON a.id = b.account_id ORDER BY 1, 2"
        )
        return [(row["login"], row["provider"]) for row in rows]

    async def who(self, session: dict[str, str]) -> str:
        answer = await self.world.client.post("agent", "{ viewer { account { login } } }", token=session["accessToken"])
        found: str = answer.json()["data"]["viewer"]["account"]["login"]
        return found


@pytest.fixture
async def portal(world: World, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Portal]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    wechat, gitee = WechatSandbox(), GiteeSandbox()
    wechat.secrets[APPS[WECHAT]], gitee.secrets[APPS[GITEE]] = SECRETS[WECHAT], SECRETS[GITEE]
    for provider in (WECHAT, GITEE):
        input = {"provider": provider, "appId": APPS[provider], "secret": SECRETS[provider]}
        assert (await world.data("admin", SET_APP, {"input": input}))["setLoginApp"]["errors"] == []
    async with serving(wechat.app) as wechat_url, serving(gitee.app) as gitee_url:
        monkeypatch.setenv("TRELLIS_WECHAT_API_URL", wechat_url)
        monkeypatch.setenv("TRELLIS_GITEE_URL", gitee_url)
        yield Portal(world, wechat, gitee)


@both
async def test_an_account_is_bound_and_then_comes_in_without_a_password(portal: Portal, provider: str) -> None:
    assert said(await portal.log_in(provider, portal.code(provider))) == [("NOT_BOUND", None)]
    bound = await portal.bind("north", provider, portal.code(provider))
    assert [one["provider"] for one in bound["account"]["loginBindings"]["nodes"]] == [provider]
    found = await portal.log_in(provider, portal.code(provider))
    assert found["errors"] == []
    assert await portal.who(found["session"]) == "north"
    # whom nobody has bound does not come in, and what vouched is nowhere told
    assert said(await portal.log_in(provider, portal.code(provider, 1))) == [("NOT_BOUND", None)]
    records = await portal.world.sql("SELECT login, outcome FROM login_record WHERE method = $1 ORDER BY id", provider)
    assert [tuple(row) for row in records] == [
        (APPS[provider], "WRONG_CREDENTIALS"),
        ("north", "SUCCEEDED"),
        (APPS[provider], "WRONG_CREDENTIALS"),
    ]
    (log,) = await portal.world.sql("SELECT string_agg(arguments::text, '') AS said FROM operation_record")
    assert SECRETS[provider] not in log["said"]


@both
async def test_the_browser_is_sent_to_the_third_party_with_the_state(portal: Portal, provider: str) -> None:
    begun = await payload(portal.world, "agent", "BeginOauthLogin", {"provider": provider})
    url = httpx.URL(begun["authorizeUrl"])
    asked = dict(url.params)
    app = {"appid": APPS[WECHAT], "scope": "snsapi_base"} if provider == WECHAT else {
        "client_id": APPS[GITEE], "scope": "user_info",
    }  # fmt: skip
    assert asked == {
        **app, "redirect_uri": REDIRECTS[provider], "response_type": "code", "state": begun["state"],
    }  # fmt: skip
    assert (url.path, url.fragment) == (
        ("/connect/oauth2/authorize", "wechat_redirect") if provider == WECHAT else ("/oauth/authorize", "")
    )
    assert len(begun["state"]) >= 40


@both
async def test_a_state_holds_once_for_what_it_was_made_for(portal: Portal, provider: str) -> None:
    await portal.bind("north", provider, portal.code(provider))
    state = await portal.begin(provider)
    answers = await asyncio.gather(*(portal.log_in(provider, portal.code(provider), state) for _ in range(3)))
    assert sorted(said(one) for one in answers) == [[]] + [[("INVALID_STATE", "state")]] * 2
    other = GITEE if provider == WECHAT else WECHAT
    wrong = [
        "",
        "invented",
        await portal.begin(other),
        await portal.begin(provider, "north"),
    ]
    for given in wrong:
        assert said(await portal.log_in(provider, portal.code(provider), given)) == [("INVALID_STATE", "state")]
    # a binding is for the account that began it: not for a visitor's login, not for somebody else
    for given in (await portal.begin(provider), await portal.begin(provider, "south"), "invented"):
        answer = await portal.bind("acme", provider, portal.code(provider, 1), given)
        assert (answer["account"], said(answer)) == (None, [("INVALID_STATE", "state")])
    # one that was made at another door does not hold here
    keys = await portal.world.client.application.runtime.redis.keys("trellis:login-state:*")
    assert keys == []
    runtime = portal.world.client.application.runtime
    foreign = await portal.begin(provider)
    (key,) = await runtime.redis.keys("trellis:login-state:*")
    assert 0 < await runtime.redis.ttl(key) <= 600
    await runtime.redis.set(key, f"merchant {provider} visitor")
    assert said(await portal.log_in(provider, portal.code(provider), foreign)) == [("INVALID_STATE", "state")]
    assert await portal.bindings() == [("north", provider)]


@both
async def test_a_code_that_is_not_good_lets_nobody_in(portal: Portal, provider: str) -> None:
    await portal.bind("north", provider, portal.code(provider))
    code = portal.code(provider)
    assert said(await portal.log_in(provider, code)) == []
    for wrong in (code, "invented"):
        assert said(await portal.log_in(provider, wrong)) == [("INVALID_CODE", "loginCode")]
    assert said(await portal.log_in(provider, " ")) == [("REQUIRED", "loginCode")]
    if provider == GITEE:
        elsewhere = portal.code(GITEE, redirect="https://elsewhere.example/login")
        assert said(await portal.log_in(GITEE, elsewhere)) == [("INVALID_CODE", "loginCode")]


@both
async def test_while_the_third_party_fails_nobody_comes_in(portal: Portal, provider: str) -> None:
    await portal.bind("north", provider, portal.code(provider))
    for fault in ("http_500", "bad_json") if provider == GITEE else ("http_500", "bad_json", 45011, 40125):
        (portal.gitee if provider == GITEE else portal.wechat).faults.append(fault)  # type: ignore[attr-defined]
        assert said(await portal.log_in(provider, portal.code(provider))) == [("LOGIN_UNAVAILABLE", None)], fault
    if provider == GITEE:
        portal.gitee.faults.append("no_token")
        assert said(await portal.log_in(GITEE, portal.code(GITEE))) == [("LOGIN_UNAVAILABLE", None)]
    assert said(await portal.log_in(provider, portal.code(provider))) == []


@both
async def test_one_person_vouches_for_one_account(portal: Portal, provider: str) -> None:
    codes = [portal.code(provider) for _ in range(2)]
    answers = await asyncio.gather(portal.bind("north", provider, codes[0]), portal.bind("south", provider, codes[1]))
    assert sorted(said(one) for one in answers) == [[], [("TAKEN", "loginCode")]]
    assert len(await portal.bindings()) == 1
    # who binds somebody else replaces the binding
    ((login, _),) = await portal.bindings()
    assert said(await portal.bind(login, provider, portal.code(provider, 1))) == []
    assert await portal.bindings() == [(login, provider)]
    assert said(await portal.log_in(provider, portal.code(provider))) == [("NOT_BOUND", None)]
    found = await portal.log_in(provider, portal.code(provider, 1))
    assert await portal.who(found["session"]) == login


@both
async def test_what_was_unbound_lets_nobody_in(portal: Portal, provider: str) -> None:
    await portal.bind("north", provider, portal.code(provider))
    token = await portal.world.token("north")

    async def unbind() -> list[tuple[str, str | None]]:
        return said(await payload(portal.world, "agent", "UnbindLogin", {"provider": provider}, token))

    assert await unbind() == []
    assert await unbind() == [("NOT_FOUND", "provider")]
    assert said(await portal.log_in(provider, portal.code(provider))) == [("NOT_BOUND", None)]


@both
async def test_an_account_out_of_service_does_not_come_in(portal: Portal, provider: str) -> None:
    await portal.bind("north", provider, portal.code(provider))
    await portal.world.sql("UPDATE staff_account SET status = 'DISABLED' WHERE login = 'north'")
    assert said(await portal.log_in(provider, portal.code(provider))) == [("NOT_BOUND", None)]
    await portal.world.sql("UPDATE staff_account SET status = 'ACTIVE' WHERE login = 'north'")
    await portal.world.sql("DELETE FROM role_assignment WHERE role = 'agent_admin'")
    assert said(await portal.log_in(provider, portal.code(provider))) == [("NOT_BOUND", None)]
    outcomes = await portal.world.sql("SELECT outcome FROM login_record WHERE method = $1 ORDER BY id", provider)
    assert [row["outcome"] for row in outcomes] == ["DISABLED", "WRONG_DOOR"]


@both
async def test_other_doors_and_visitors_are_refused(portal: Portal, provider: str) -> None:
    begin = "mutation($p: LoginProvider!) { beginOauthLogin(provider: $p) { state errors { code field } } }"
    for door in ("admin", "merchant"):
        answer = await portal.world.client.post(door, begin, {"p": provider})
        assert answer.json()["data"]["beginOauthLogin"] == {
            "state": None,
            "errors": [{"code": "LOGIN_NOT_OFFERED", "field": "provider"}],
        }
    answer = await portal.world.client.post("agent", begin, {"p": "WECHAT_MINI_PROGRAM"})
    assert said(answer.json()["data"]["beginOauthLogin"]) == [("LOGIN_NOT_OFFERED", "provider")]
    input = {"provider": provider, "loginCode": portal.code(provider), "state": await portal.begin(provider, "north")}
    assert said(await payload(portal.world, "agent", "BindLogin", {"input": input})) == [("SESSION_ENDED", None)]
    assert await portal.bindings() == []
    await portal.world.sql("UPDATE login_app SET status = 'DISABLED'")
    answer = await portal.world.client.post("agent", begin, {"p": provider})
    assert said(answer.json()["data"]["beginOauthLogin"]) == [("LOGIN_NOT_OFFERED", "provider")]
