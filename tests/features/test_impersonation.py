"""The platform's staff act as a customer's account: as that account and no more, for a reason, and on record."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

import jwt
import pytest
import structlog

from planner.ids import encode_id
from services import logs
from tests.features.test_logs import CREATE_DEPARTMENT, record
from tests.features.test_permissions import office
from tests.support.people import shipped
from tests.support.world import PASSWORD, World

IMPERSONATE = shipped("admin", "Impersonate")
END = shipped("agent", "EndImpersonation")
VIEWER = "{ viewer { account { login } tenant { id } roles door impersonatedBy { name reason write } } }"
REASON = "ticket 4711: cards not shown"


async def key_of(world: World, login: str) -> str:
    (row,) = await world.sql("SELECT id FROM staff_account WHERE login = $1", login)
    return encode_id("acc", row["id"])


async def begun(
    world: World, account: str = "north", *, by: str = "admin", write: bool = False, reason: str = REASON
) -> dict[str, Any]:
    """The payload of beginning to act as an account."""
    input = {"accountId": await key_of(world, account), "reason": reason, "write": write}
    payload: dict[str, Any] = (await world.data(by, IMPERSONATE, {"input": input}))["impersonate"]
    return payload


@dataclass
class Acting:
    """Somebody who acts as an account of north's."""

    world: World
    token: str
    door: str = "agent"

    async def ask(self, query: str, variables: dict[str, Any] | None = None) -> dict[str, Any]:
        answer: dict[str, Any] = (await self.world.client.post(self.door, query, variables, token=self.token)).json()
        return answer

    async def codes(self, query: str, variables: dict[str, Any] | None = None) -> list[str]:
        return [error["extensions"]["code"] for error in (await self.ask(query, variables)).get("errors", ())]


async def acting(world: World, account: str = "north", **how: Any) -> Acting:
    payload = await begun(world, account, **how)
    assert payload["errors"] == []
    return Acting(world, payload["impersonation"]["accessToken"], payload["impersonation"]["door"])


def codes(payload: dict[str, Any]) -> list[tuple[str, str | None]]:
    assert payload["impersonation"] is None
    return [(error["code"], error["field"]) for error in payload["errors"]]


async def test_access_is_the_accounts_own_and_the_token_says_who_really_acts(world: World) -> None:
    support = await acting(world)
    viewer = (await support.ask(VIEWER))["data"]["viewer"]
    assert viewer == {
        "account": {"login": "north"},
        "tenant": {"id": world.id("north")},
        "roles": ["agent_admin"],
        "door": "agent",
        "impersonatedBy": {"name": "admin", "reason": REASON, "write": False},
    }
    own = (await world.data("north", VIEWER))["viewer"]
    assert own == {**viewer, "impersonatedBy": None}
    cards = "{ simCards(first: 1) { totalCount nodes { id } } }"
    assert (await support.ask(cards))["data"] == await world.data("north", cards)
    # what the administrator sees, and north does not, stays out of sight
    assert await support.codes("{ simCards(first: 1) { nodes { iccid } } }") == ["FORBIDDEN"]
    assert (await support.ask(f'{{ tenant(id: "{world.id("south")}") {{ id }} }}'))["data"] == {"tenant": None}
    assert (await world.client.post("admin", VIEWER, token=support.token)).status_code == 401

    claims = jwt.decode(support.token, options={"verify_signature": False})
    (admin,) = await world.sql("SELECT id FROM staff_account WHERE login = 'admin'")
    assert claims["act"] == {"sub": str(admin["id"])}
    assert (claims["refresh"], claims["write"], claims["aud"]) == (False, False, "agent")
    assert 0 < claims["exp"] - time.time() <= 15 * 60
    refresh = "mutation($token: String!) { refreshSession(refreshToken: $token) { errors { code } } }"
    answer = await world.client.post("agent", refresh, {"token": f"{claims['sid']}.guess"})
    assert answer.json()["data"]["refreshSession"]["errors"] == [{"code": "SESSION_ENDED"}]
    # a guess at it does not end the session either
    assert await support.codes(VIEWER) == []


async def test_without_the_right_to_write_nothing_is_changed(world: World) -> None:
    support = await acting(world)
    create = {"input": {"name": "Helped"}}
    assert await support.codes(CREATE_DEPARTMENT, create) == ["IMPERSONATION_READS_ONLY"]
    both = """mutation { markNotificationsRead(ids: []) { errors { code } } logOut(everywhere: true) { done } }"""
    assert await support.codes(both) == ["IMPERSONATION_READS_ONLY"] * 2
    assert await world.sql("SELECT id FROM department WHERE name = 'Helped'") == []
    assert await world.sql("SELECT id FROM operation_record WHERE real_account_id IS NOT NULL") == []

    writing = await acting(world, write=True)
    answer = await writing.ask(CREATE_DEPARTMENT, create)
    assert answer["data"]["createDepartment"]["errors"] == []
    assert len(await world.sql("SELECT id FROM department WHERE name = 'Helped'")) == 1


async def test_no_secret_is_touched_in_somebody_elses_name(world: World) -> None:
    writing = await acting(world, write=True)
    before = await world.sql("SELECT password_hash FROM staff_account ORDER BY id")
    for text in (
        'mutation { changePassword(input: {current: "x", new: "a password 12345"}) { done } }',
        """mutation { createStaffAccount(input: {login: "mine", name: "M", password: "a password 12345", roles: []}) {
            errors { code } } }""",
        'mutation { resetStaffPassword(input: {account: "acc_1", password: "a password 12345"}) { errors { code } } }',
        'mutation { rotateWebhookSecret(endpoint: "whe_1") { errors { code } } }',
        "mutation { beginLoginBinding(provider: GITEE) { errors { code } } }",
        "mutation { unbindLogin(provider: GITEE) { errors { code } } }",
    ):
        assert await writing.codes(text) in (["IMPERSONATION_KEEPS_SECRETS"], ["FORBIDDEN"]), text
    assert await writing.codes('mutation { changePassword(input: {current: "x", new: "y"}) { done } }') == [
        "IMPERSONATION_KEEPS_SECRETS"
    ]
    assert await world.sql("SELECT password_hash FROM staff_account ORDER BY id") == before


async def test_who_may_and_as_whom(world: World) -> None:
    north = await key_of(world, "north")
    for account in ("finance", "sales", "north", "acme"):
        text = "mutation($i: ImpersonateInput!) { impersonate(input: $i) { errors { code } } }"
        assert await world.codes(account, text, {"i": {"accountId": north, "reason": "x"}}) == ["FORBIDDEN"]
    assert codes(await begun(world, "finance")) == [("OWN_STAFF", "accountId")]
    assert codes(await begun(world, "admin")) == [("OWN_STAFF", "accountId")]
    assert codes(await begun(world, reason="  ")) == [("REQUIRED", "reason")]
    assert codes(await begun(world, reason="x" * 501)) == [("INVALID", "reason")]
    # operations may look, where the account may do nothing that operations may not
    assert codes(await begun(world, by="operations")) == [("ACCOUNT_ABOVE", "accountId")]
    assert codes(await begun(world, by="operations", write=True)) == [("WRITE_NOT_GRANTED", "write")]
    input = {"accountId": encode_id("acc", 999_999), "reason": REASON}
    payload = (await world.data("admin", IMPERSONATE, {"input": input}))["impersonate"]
    assert codes(payload) == [("NOT_FOUND", "accountId")]
    await world.sql("UPDATE staff_account SET status = 'DISABLED' WHERE login = 'north'")
    assert codes(await begun(world)) == [("NOT_ACTIVE", "accountId")]
    assert await world.sql("SELECT id FROM login_session WHERE real_account_id IS NOT NULL") == []


async def test_operations_act_as_a_clerk_whose_work_they_may_do(world: World) -> None:
    north = await office(world, "north")
    await north.staff("north-clerk", await north.role("Clerk", "sim:package"))
    support = await acting(world, "north-clerk", by="operations")
    viewer = (await support.ask(VIEWER))["data"]["viewer"]
    assert (viewer["account"], viewer["impersonatedBy"]["name"]) == ({"login": "north-clerk"}, "operations")
    assert await support.codes("{ staffAccounts(first: 1) { totalCount } }") == ["FORBIDDEN"]


@pytest.mark.parametrize(
    ("by", "text"),
    [
        ("admin", "mutation($a: ID!) { revokeSessions(account: $a) { done } }"),
        ("admin", "mutation { logOut { done } }"),
        ("admin", "mutation($a: ID!) { setStaffStatus(account: $a, status: DISABLED) { errors { code } } }"),
        ("north", "mutation { logOut(everywhere: true) { done } }"),
    ],
    ids=["sessions revoked", "real actor logs out", "account disabled", "account logs out everywhere"],
)
async def test_it_ends_with_either_session_from_the_next_request_on(world: World, by: str, text: str) -> None:
    support = await acting(world)
    assert await support.codes(VIEWER) == []
    await world.data(by, text, {"a": await key_of(world, "north")} if "$a" in text else None)
    assert await support.codes(VIEWER) == ["UNAUTHENTICATED"]


async def test_it_ends_when_the_real_actor_may_no_longer(world: World) -> None:
    north = await office(world, "north")
    await north.staff("north-clerk", await north.role("Clerk", "sim:package"))
    operations = await key_of(world, "operations")
    by_role = await acting(world, "north-clerk", by="operations")
    roles = """mutation($a: ID!) { setStaffRoles(input: {account: $a, roles: ["platform_finance"]}) {
        errors { code } } }"""
    await world.data("admin", roles, {"a": operations})
    assert await by_role.codes(VIEWER) == ["UNAUTHENTICATED"]
    back = """mutation($a: ID!) { setStaffRoles(input: {account: $a, roles: ["platform_operations"]}) {
        errors { code } } }"""
    await world.data("admin", back, {"a": operations})
    disabled = await acting(world, "north-clerk", by="operations")
    disable = "mutation($a: ID!) { setStaffStatus(account: $a, status: DISABLED) { errors { code } } }"
    await world.data("admin", disable, {"a": operations})
    assert await disabled.codes(VIEWER) == ["UNAUTHENTICATED"]


async def test_it_is_ended_by_whoever_acts(world: World) -> None:
    support = await acting(world)
    assert (await support.ask(END))["data"] == {"endImpersonation": {"done": True, "errors": []}}
    assert await support.codes(VIEWER) == ["UNAUTHENTICATED"]
    # nobody acts in one's own session
    answer = await world.data("north", END)
    assert [error["code"] for error in answer["endImpersonation"]["errors"]] == ["NOT_IMPERSONATED"]
    assert (await world.client.log_in("agent", "north", PASSWORD))["errors"] == []


async def test_the_accounts_own_log_tells_that_the_platform_acted_and_why(world: World) -> None:
    support = await acting(world, write=True)
    await support.ask(CREATE_DEPARTMENT, {"input": {"name": "Helped"}})
    await world.data("north", CREATE_DEPARTMENT, {"input": {"name": "Own"}})
    told = """query($f: OperationRecordFilter) { operationRecords(first: 50, filter: $f, orderBy: {field: AT}) {
        nodes { mutation account { login } realAccount { login } impersonated reason } } }"""
    filter = {"f": {"mutation": {"eq": "create_department"}}}
    helped = {"mutation": "create_department", "account": {"login": "north"}, "impersonated": True, "reason": REASON}
    own = {**helped, "impersonated": False, "reason": None, "realAccount": None}
    # who it was of the platform's staff is the platform's to know
    seen = (await world.data("north", told, filter))["operationRecords"]["nodes"]
    assert seen == [{**helped, "realAccount": None}, own]
    seen = (await world.data("admin", told, filter))["operationRecords"]["nodes"]
    assert seen == [{**helped, "realAccount": {"login": "admin"}}, own]
    by = {"f": {"realAccount": {"eq": await key_of(world, "admin")}}}
    assert len((await world.data("admin", told, by))["operationRecords"]["nodes"]) == 1

    logins = """{ loginRecords(first: 5, filter: {method: {eq: IMPERSONATION}}) {
        nodes { login account { login } realAccount { login } impersonated reason door outcome } } }"""
    (line,) = (await world.data("north", logins))["loginRecords"]["nodes"]
    assert line == {
        "login": "north", "account": {"login": "north"}, "realAccount": None, "impersonated": True, "reason": REASON,
        "door": "agent", "outcome": "SUCCEEDED",
    }  # fmt: skip
    assert (await world.data("south", logins))["loginRecords"]["nodes"] == []
    began = await record(world, "admin", "impersonate")
    assert (began["account"], began["outcome"]) == ({"login": "admin"}, "SUCCEEDED")
    assert {change["type"] for change in began["changes"]} == {"LoginSession"}
    assert "[redacted]" in [change["after"] for change in began["changes"] if change["field"] == "refreshHash"]


async def test_a_line_of_the_structured_log_names_who_really_acts(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    support = await acting(world)
    logs.configure()
    try:
        # a column that the model does not know of is gone: a bug, which is masked and logged
        await world.sql("ALTER TABLE department RENAME COLUMN leader TO led_by")
        assert await support.codes("{ departments(first: 1) { nodes { leader } } }") == ["INTERNAL"]
    finally:
        structlog.reset_defaults()
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    (line,) = [one for one in lines if one["event"] == "an operation failed"]
    (north,) = await world.sql("SELECT id FROM staff_account WHERE login = 'north'")
    (admin,) = await world.sql("SELECT id FROM staff_account WHERE login = 'admin'")
    assert (line["account"], line["real_account"]) == (north["id"], admin["id"])
