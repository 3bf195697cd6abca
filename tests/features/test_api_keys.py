"""API keys as partners' engineers live with them: rotation, networks, scopes, and the notice before the end."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from planner.ids import encode_id
from services.api_keys import tell_of_expiring
from tests.support.partner import signed
from tests.support.world import World

COUNT = "{ simCards(first: 0) { totalCount } }"
STATUS = "{ simCards(first: 1) { nodes { status } } }"
KEY = "apiKey { id key scopes allowedNetworks previousSecretUntil expiresSoon expiryNotifiedAt }"
ISSUE = f"""mutation($input: IssueApiKeyInput!) {{ issueApiKey(input: $input) {{
    {KEY} secret errors {{ code field message }} }} }}"""
ROTATE = f"""mutation($id: ID!, $hours: Int! = 24) {{ rotateApiKey(id: $id, overlapHours: $hours) {{
    {KEY} secret errors {{ code field }} }} }}"""
RESTRICT = f"""mutation($input: RestrictApiKeyInput!) {{ restrictApiKey(input: $input) {{
    {KEY} secret errors {{ code field message }} }} }}"""
EXTEND = f"""mutation($input: ExtendApiKeyInput!) {{ extendApiKey(input: $input) {{ {KEY} errors {{ code }} }} }}"""
OWN = "{ viewer { apiKey { id key name expiresAt } } apiKeys(first: 5) { nodes { key } } }"


async def change(world: World, mutation: str, variables: dict[str, Any], account: str = "operations") -> dict[str, Any]:
    (payload,) = (await world.data(account, mutation, variables)).values()
    found: dict[str, Any] = payload
    return found


async def done(world: World, mutation: str, variables: dict[str, Any]) -> dict[str, Any]:
    payload = await change(world, mutation, variables)
    assert payload["errors"] == []
    return payload


async def issued(world: World, tenant: str = "south", **more: Any) -> tuple[str, str, str]:
    """(id, key, secret) of a new key."""
    payload = await done(world, ISSUE, {"input": {"tenant": world.id(tenant), "name": "ERP", **more}})
    return payload["apiKey"]["id"], payload["apiKey"]["key"], payload["secret"]


async def status(world: World, key: str, secret: str, query: str = COUNT, address: str = "127.0.0.9") -> int:
    return (await signed(world, query, key=key, secret=secret, address=address)).status_code


def south(world: World) -> str:
    return encode_id("key", world.api_keys["south"].id)


# -- rotation -----------------------------------------------------------------------------------------------------


@pytest.mark.feature("S0-18", "S0-54")
async def test_the_old_secret_holds_for_a_day_after_a_rotation(world: World) -> None:
    id, key, first = await issued(world)
    before = datetime.now(UTC)
    payload = await done(world, ROTATE, {"id": id})
    second = payload["secret"]
    until = datetime.fromisoformat(payload["apiKey"]["previousSecretUntil"])
    assert timedelta(hours=24) <= until - before < timedelta(hours=24, minutes=1)
    assert [await status(world, key, secret) for secret in (first, second, "neither")] == [200, 200, 401]

    # two at most: the one before the one before is gone
    third = (await done(world, ROTATE, {"id": id, "hours": 168}))["secret"]
    assert [await status(world, key, secret) for secret in (first, second, third)] == [401, 200, 200]

    await world.sql("UPDATE api_key SET previous_secret_until = now() - interval '1 second' WHERE key = $1", key)
    assert [await status(world, key, secret) for secret in (second, third)] == [401, 200]

    fourth = (await done(world, ROTATE, {"id": id, "hours": 0}))["secret"]
    (row,) = await world.sql("SELECT previous_secret_encrypted, previous_secret_until FROM api_key WHERE key = $1", key)
    assert tuple(row) == (None, None)
    assert [await status(world, key, secret) for secret in (third, fourth)] == [401, 200]


@pytest.mark.feature("S0-18")
async def test_an_overlap_is_from_nothing_to_seven_days(world: World) -> None:
    before = await world.sql("SELECT * FROM api_key ORDER BY id")
    for hours in (-1, 169):
        payload = await change(world, ROTATE, {"id": south(world), "hours": hours})
        assert payload == {"apiKey": None, "secret": None, "errors": [{"code": "INVALID", "field": "overlapHours"}]}
    assert await world.sql("SELECT * FROM api_key ORDER BY id") == before


@pytest.mark.feature("S0-54")
async def test_a_nonce_counts_for_the_key_and_not_for_the_secret(world: World) -> None:
    id, key, old = await issued(world)
    new = (await done(world, ROTATE, {"id": id}))["secret"]
    assert (await signed(world, COUNT, key=key, secret=old, nonce="just-once")).status_code == 200
    assert (await signed(world, COUNT, key=key, secret=new, nonce="just-once")).status_code == 401
    assert (await signed(world, COUNT, key=key, secret=new, nonce="and-again")).status_code == 200


@pytest.mark.feature("S0-18")
async def test_rotations_at_once_leave_the_last_two_secrets(world: World) -> None:
    id, key, first = await issued(world)
    payloads = await asyncio.gather(*(done(world, ROTATE, {"id": id}) for _ in range(3)))
    secrets = [payload["secret"] for payload in payloads]
    assert len({first, *secrets}) == 4
    assert sorted([await status(world, key, secret) for secret in secrets]) == [200, 200, 401]
    assert await status(world, key, first) == 401


# -- networks -----------------------------------------------------------------------------------------------------


@pytest.mark.feature("S0-54")
async def test_a_key_works_from_its_networks_only(world: World) -> None:
    networks = ["192.0.2.7", "198.51.100.0/24", "2001:DB8:0::/48", "192.0.2.7/32"]
    id, key, secret = await issued(world, allowedNetworks=networks)
    (row,) = await world.sql("SELECT allowed_networks FROM api_key WHERE key = $1", key)
    assert row["allowed_networks"] == ["192.0.2.7/32", "198.51.100.0/24", "2001:db8::/48"]
    tried = {
        address: await status(world, key, secret, address=address)
        for address in (
            "192.0.2.7", "192.0.2.8", "198.51.100.255", "198.51.101.0", "2001:db8::1", "2001:db8:1::1",
            "::ffff:192.0.2.7", "::ffff:192.0.2.8", "127.0.0.9", "not-an-address",
        )
    }  # fmt: skip
    assert {address for address, code in tried.items() if code == 200} == {
        "192.0.2.7", "198.51.100.255", "2001:db8::1", "::ffff:192.0.2.7",
    }  # fmt: skip
    assert set(tried.values()) == {200, 401}

    payload = await done(world, RESTRICT, {"input": {"id": id, "allowedNetworks": []}})
    assert payload["apiKey"]["allowedNetworks"] == []
    assert await status(world, key, secret, address="203.0.113.9") == 200


@pytest.mark.feature("S0-54", "S1-28")
async def test_a_request_from_elsewhere_is_refused_like_a_wrong_signature_and_logged(world: World) -> None:
    _, key, secret = await issued(world, allowedNetworks=["192.0.2.7"])
    elsewhere = await signed(world, COUNT, key=key, secret=secret, address="203.0.113.9")
    wrong = await signed(world, COUNT, key=key, secret="guessed", address="203.0.113.9")
    assert elsewhere.status_code == wrong.status_code == 401
    assert elsewhere.json() == wrong.json()
    # once a minute for an address; a wrong secret says nothing about the key
    await signed(world, COUNT, key=key, secret=secret, address="203.0.113.9")
    await signed(world, COUNT, key=key, secret=secret, address="203.0.113.10")
    records = """query($login: String!) { loginRecords(filter: {login: {eq: $login}}, orderBy: [{field: ID}]) {
        nodes { method outcome ip door } } }"""
    expected = [
        {"method": "API_KEY", "outcome": "WRONG_ADDRESS", "ip": f"203.0.113.{last}", "door": "partner"}
        for last in (9, 10)
    ]
    for account in ("admin", "south"):
        assert (await world.data(account, records, {"login": key}))["loginRecords"]["nodes"] == expected
    for account in ("north", "south-west", "acme"):
        assert (await world.data(account, records, {"login": key}))["loginRecords"]["nodes"] == []


@pytest.mark.feature("S0-18")
@pytest.mark.parametrize(
    "network", ["", "nowhere", "192.0.2.256", "192.0.2.1/24", "192.0.2.0/33", "2001:db8::/129", "192.0.2.1-9"]
)
async def test_a_network_that_is_none_is_named(world: World, network: str) -> None:
    before = await world.sql("SELECT * FROM api_key ORDER BY id")
    for mutation, more in (
        (ISSUE, {"tenant": world.id("south"), "name": "Wrong"}),
        (RESTRICT, {"id": south(world)}),
    ):
        payload = await change(world, mutation, {"input": {**more, "allowedNetworks": ["192.0.2.1", network]}})
        (error,) = payload["errors"]
        assert (error["code"], error["field"]) == ("INVALID_NETWORK", "allowedNetworks")
        assert error["message"].startswith(f"{network} is not an address")
    assert await world.sql("SELECT * FROM api_key ORDER BY id") == before


# -- scopes -------------------------------------------------------------------------------------------------------


def codes(answer: Any) -> set[str]:
    return {error["extensions"]["code"] for error in answer.json().get("errors", ())}


@pytest.mark.feature("S0-18", "S0-54")
async def test_scopes_narrow_what_the_roles_grant(world: World) -> None:
    id, key, secret = await issued(world, scopes=["Query.simCards", "SimCard.status"])

    async def ask(query: str) -> Any:
        return await signed(world, query, key=key, secret=secret)

    assert (await ask(COUNT)).json() == {"data": {"simCards": {"totalCount": 12}}}
    assert codes(await ask(STATUS)) == set()
    suspend = """mutation { suspendSimCards(input: {cards: {ids: []}, idempotencyKey: "k"}) { errors { code } } }"""
    for outside in (
        "{ simCards(first: 1) { nodes { imsi } } }",
        "{ dataPackages(first: 1) { nodes { code } } }",
        '{ simCards(first: 1, filter: {imsi: {eq: "1"}}) { totalCount } }',
        suspend,
    ):
        assert codes(await ask(outside)) == {"FORBIDDEN"}, outside
    viewer = (await ask("{ viewer { permissions } }")).json()["data"]["viewer"]["permissions"]
    assert [name for name in viewer if not name.startswith("ApiKey.")] == [
        "Query.agreementsToSign", "Query.apiKeys", "Query.simCards", "Query.viewer", "SimCard.id", "SimCard.status",
    ]  # fmt: skip

    await done(
        world, RESTRICT, {"input": {"id": id, "scopes": ["Query.sim*", "SimCard.*", "Mutation.suspendSimCards"]}}
    )
    assert codes(await ask("{ simCards(first: 1) { nodes { imsi } } }")) == set()
    assert (await ask(suspend)).json() == {"data": {"suspendSimCards": {"errors": [{"code": "REQUIRED"}]}}}
    # what the role does not grant stays closed, whatever the scope's star
    assert codes(await ask("{ simCards(first: 1) { nodes { iccid } } }")) == {"FORBIDDEN"}
    assert codes(await ask("{ simCards(first: 1) { nodes { remark } } }")) == {"FORBIDDEN"}
    await done(world, RESTRICT, {"input": {"id": id, "scopes": []}})
    assert codes(await ask("{ dataPackages(first: 1) { nodes { code } } }")) == set()


@pytest.mark.feature("S0-54")
async def test_a_scope_that_was_written_past_the_rules_opens_nothing(world: World) -> None:
    """Whatever stands in the row, the roles are the limit."""
    for scopes in (["SimCard.iccid", "SimCard.status", "StaffAccount.*", "Query.simCards"], ["*"], ["Q*", "S*"]):
        await world.sql("UPDATE api_key SET scopes = $1 WHERE key = 'tk_south'", scopes)
        assert codes(await signed(world, "{ simCards(first: 1) { nodes { iccid } } }", key="tk_south")) == {"FORBIDDEN"}
        staff = "{ staffAccounts(first: 1) { nodes { login } } }"
        assert codes(await signed(world, staff, key="tk_south")) == {"FORBIDDEN"}
        assert (await signed(world, COUNT, key="tk_south")).json() == {"data": {"simCards": {"totalCount": 12}}}


@pytest.mark.feature("S0-18")
@pytest.mark.parametrize(
    "scope",
    ["*", "", "SimCard", "SimCard.iccid", "Query.staffAccounts", "Mutation.allocateSimCards", "Sim*", "No.such",
     "SimCard.*.*", "Query.simcards"],
)  # fmt: skip
async def test_a_scope_beyond_the_roles_is_refused(world: World, scope: str) -> None:
    before = await world.sql("SELECT * FROM api_key ORDER BY id")
    for mutation, more in (
        (ISSUE, {"tenant": world.id("south"), "name": "Wrong"}),
        (RESTRICT, {"id": south(world)}),
    ):
        payload = await change(world, mutation, {"input": {**more, "scopes": ["SimCard.id", scope]}})
        (error,) = payload["errors"]
        assert (error["code"], error["field"]) == ("UNKNOWN_SCOPE", "scopes")
    assert await world.sql("SELECT * FROM api_key ORDER BY id") == before


# -- knowing oneself ----------------------------------------------------------------------------------------------


@pytest.mark.feature("S0-54")
async def test_a_key_sees_its_own_record_and_no_other(world: World) -> None:
    _, key, secret = await issued(world, "south", scopes=["Query.simCards"])
    await issued(world, "south-west")
    for one, with_secret in ((key, secret), ("tk_south", "the partner's secret"), ("tk_north", "the partner's secret")):
        data = (await signed(world, OWN, key=one, secret=with_secret)).json()["data"]
        assert data["viewer"]["apiKey"]["key"] == one
        assert data["apiKeys"]["nodes"] == [{"key": one}]
    other = encode_id("key", world.api_keys["north"].id)
    answer = await signed(world, f'{{ apiKeys(filter: {{id: {{eq: "{other}"}}}}) {{ totalCount }} }}', key="tk_south")
    assert "errors" in answer.json() or answer.json()["data"]["apiKeys"]["totalCount"] == 0
    assert (await world.data("south", "{ viewer { apiKey { id } } }"))["viewer"] == {"apiKey": None}


@pytest.mark.feature("S0-18")
async def test_only_the_platforms_operations_set_the_limits_of_keys(world: World) -> None:
    before = await world.sql("SELECT * FROM api_key ORDER BY id")
    for account in ("sales", "finance", "south", "acme", "north"):
        for mutation, variables in (
            (RESTRICT, {"input": {"id": south(world), "scopes": []}}),
            (ROTATE, {"id": south(world)}),
        ):
            assert await world.codes(account, mutation, variables) == ["FORBIDDEN"]
    assert codes(await signed(world, 'mutation { rotateApiKey(id: "x") { secret } }', key="tk_south")) == {"FORBIDDEN"}
    assert await world.sql("SELECT * FROM api_key ORDER BY id") == before
    missing = {"input": {"id": encode_id("key", 999_999), "scopes": []}}
    assert (await change(world, RESTRICT, missing))["errors"][0]["code"] == "NOT_FOUND"
    limits = '{ apiKeys(first: 1, filter: {key: {eq: "tk_south"}}) { nodes { scopes allowedNetworks } } }'
    await done(world, RESTRICT, {"input": {"id": south(world), "scopes": ["SimCard.*"], "allowedNetworks": ["::1"]}})
    for account in ("admin", "operations", "south"):
        (seen,) = (await world.data(account, limits))["apiKeys"]["nodes"]
        assert seen == {"scopes": ["SimCard.*"], "allowedNetworks": ["::1/128"]}


# -- the end comes in sight ----------------------------------------------------------------------------------------


@pytest.mark.feature("S0-54")
async def test_a_key_that_ends_soon_is_told_of_once(world: World) -> None:
    database = world.client.application.runtime.database
    soon, _, _ = await issued(world, "south", validDays=14)
    await issued(world, "south", validDays=15)
    revoked, _, _ = await issued(world, "south", validDays=1)
    await change(world, "mutation($id: ID!) { revokeApiKey(id: $id) { errors { code } } }", {"id": revoked})
    await world.sql("UPDATE api_key SET expires_at = now() - interval '1 hour' WHERE key = 'tk_north'")
    told = await asyncio.gather(*(tell_of_expiring(database) for _ in range(3)))
    assert sorted(told) == [0, 0, 1]
    assert await tell_of_expiring(database) == 0
    events = "SELECT tenant_id, payload FROM outbox_event WHERE topic = 'api-key.expiring' ORDER BY id"
    ((tenant, payload),) = await world.sql(events)
    (row,) = await world.sql("SELECT id FROM api_key WHERE expiry_notified_at IS NOT NULL")
    assert (tenant, payload) == (world.tenants["south"].id, f'{{"api_key": {row["id"]}}}')
    assert encode_id("key", row["id"]) == soon

    listed = """{ apiKeys(first: 50, filter: {expiryNotifiedAt: {isNull: false}}) {
        nodes { id expiresSoon expiryNotifiedAt } } }"""
    for account, expected in (("operations", [soon]), ("south", [soon]), ("south-west", []), ("north", [])):
        nodes = (await world.data(account, listed))["apiKeys"]["nodes"]
        assert [node["id"] for node in nodes] == expected, account
        assert all(node["expiresSoon"] and node["expiryNotifiedAt"] for node in nodes)

    extended = (await done(world, EXTEND, {"input": {"id": soon, "validDays": 30}}))["apiKey"]
    assert (extended["expiresSoon"], extended["expiryNotifiedAt"]) == (False, None)
    assert await tell_of_expiring(database) == 0
    await done(world, EXTEND, {"input": {"id": soon, "validDays": 3}})
    assert await tell_of_expiring(database) == 1
    assert len(await world.sql(events)) == 2
