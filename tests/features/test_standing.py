"""A suspended company takes the whole branch below it out of service; tenant-made roles come in by their own door."""

from __future__ import annotations

from planner.ids import encode_id
from tests.support.world import PASSWORD, World

SET_STATUS = """mutation($id: ID!, $status: TenantStatus!) { setTenantStatus(input: {id: $id, status: $status}) {
    tenant { status } errors { code } } }"""


async def test_a_suspended_agent_takes_its_sub_agents_out_of_service(world: World) -> None:
    assert (await world.data("coast", "{ viewer { tenant { id } } }"))["viewer"]["tenant"]["id"] == world.id("coast")
    await world.token("north-east")
    await world.data("admin", SET_STATUS, {"id": world.id("north"), "status": "SUSPENDED"})
    assert await world.codes("coast", "{ viewer { tenant { id } } }") == ["UNAUTHENTICATED"]
    assert await world.codes("north-east", "{ viewer { tenant { id } } }") == ["UNAUTHENTICATED"]
    assert (await world.client.log_in("agent", "coast", PASSWORD))["errors"][0]["code"] == "WRONG_CREDENTIALS"
    assert (await world.data("south", "{ viewer { door } }"))["viewer"]["door"] == "agent"
    await world.data("admin", SET_STATUS, {"id": world.id("north"), "status": "ACTIVE"})
    assert (await world.client.log_in("agent", "coast", PASSWORD))["errors"] == []


async def test_a_tenant_made_role_does_not_open_the_platforms_door(world: World) -> None:
    north = world.tenants["north"]
    [role] = await world.sql(
        "INSERT INTO role (tenant_id, tenant_path, name, status) VALUES ($1, $2, 'clerk', 'ACTIVE') RETURNING id",
        north.id,
        north.path,
    )
    await world.sql(
        "UPDATE role_assignment SET role = $1 WHERE account_id = (SELECT id FROM staff_account WHERE login = 'north')",
        f"role:{role['id']}",
    )
    assert (await world.client.log_in("admin", "north", PASSWORD))["errors"][0]["code"] == "WRONG_CREDENTIALS"
    assert (await world.client.log_in("agent", "north", PASSWORD))["errors"] == []


async def test_a_repeat_of_issuing_a_key_shows_the_key_and_not_its_secret(world: World) -> None:
    issue = """mutation($tenant: ID!) { issueApiKey(input: {tenant: $tenant, name: "ERP", idempotencyKey: "k-1"}) {
        apiKey { id } secret errors { code } } }"""
    first = (await world.data("operations", issue, {"tenant": world.id("acme")}))["issueApiKey"]
    again = (await world.data("operations", issue, {"tenant": world.id("acme")}))["issueApiKey"]
    assert first["secret"] is not None
    assert again == {"apiKey": first["apiKey"], "secret": None, "errors": []}
    assert first["apiKey"]["id"] != encode_id("key", 0)
