"""Changes of access act within a second in every process; and while they cannot be heard, nothing old is believed."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, select

from authz.principal import system
from models.identity import AccountStatus, Department, Role, RoleAssignment, RolePolicy, StaffAccount
from planner.ids import encode_id
from server.app import Application, build
from server.demo import add_account
from server.embedded.valkey import Valkey
from server.settings import Settings
from tests.conftest import Place
from tests.support.client import Client
from tests.support.services import remove_state
from tests.support.world import CARDS_PER_TENANT, World, password_hash, sow

WITHIN_SECONDS = 1.0
WHO = "{ viewer { roles account { login } } }"
CARDS = "{ simCards(first: 0) { totalCount } }"


@asynccontextmanager
async def another_process(settings: Settings) -> AsyncIterator[Client]:
    """One more running application on the same database and Valkey."""
    application = Application(settings)
    await application.start()
    try:
        yield Client(application, build(application))
    finally:
        await application.stop()


@pytest.fixture
async def elsewhere(world: World, place: Place) -> AsyncIterator[Client]:
    async with another_process(place.settings) as client:
        yield client


async def codes(client: Client, token: str, query: str = WHO) -> list[str]:
    """What an operation at the agents' door is refused for; nothing where it is answered."""
    answer = (await client.post("agent", query, token=token)).json()
    return sorted({error["extensions"]["code"] for error in answer.get("errors", ())})


async def within(seconds: float, met: Callable[[], Awaitable[bool]]) -> bool:
    """Whether the condition is met before the time is over."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if await met():
            return True
        await asyncio.sleep(0.02)
    return False


async def becomes(expected: list[str], client: Client, token: str, query: str = WHO) -> None:
    """Asserts that the client's process refuses, or answers, as expected within a second from now."""

    async def met() -> bool:
        return await codes(client, token, query) == expected

    assert await within(WITHIN_SECONDS, met), await codes(client, token, query)


async def kept(client: Client, token: str, query: str = WHO) -> None:
    """The client's process has answered this token and now answers it from memory."""
    assert await codes(client, token, query) == []
    authentication = client.application.endpoint.authentication
    assert authentication.remembered(f"Bearer {token}", "agent", "en") is not None


def account_id(world: World, rows: Sequence[Any]) -> str:
    return encode_id("acc", rows[0]["id"])


async def account(world: World, login: str) -> str:
    return account_id(world, await world.sql("SELECT id FROM staff_account WHERE login = $1", login))


# -- what acts in another process ------------------------------------------------------------------------------------


@pytest.mark.feature("S0-01")
async def test_revoked_sessions_end_everywhere(world: World, elsewhere: Client) -> None:
    token, other = await world.token("north"), await world.token("south")
    await kept(elsewhere, token)
    await kept(elsewhere, other)
    mutation = "mutation($id: ID!) { revokeSessions(account: $id) { done } }"
    done = await world.data("admin", mutation, {"id": await account(world, "north")})
    assert done == {"revokeSessions": {"done": True}}
    await becomes(["UNAUTHENTICATED"], elsewhere, token)
    assert await codes(elsewhere, other) == []


async def test_logging_out_ends_the_session_everywhere(world: World, elsewhere: Client) -> None:
    token = await world.token("north")
    await kept(elsewhere, token)
    assert await world.data("north", "mutation { logOut { done } }") == {"logOut": {"done": True}}
    await becomes(["UNAUTHENTICATED"], elsewhere, token)


async def test_a_disabled_account_is_out_everywhere_and_comes_back(world: World, elsewhere: Client) -> None:
    token = await world.token("north-east")
    await kept(elsewhere, token)
    mutation = (
        "mutation($id: ID!, $to: AccountStatus!) { setStaffStatus(account: $id, status: $to) { errors { code } } }"
    )
    variables = {"id": await account(world, "north-east"), "to": "DISABLED"}
    assert await world.data("north", mutation, variables) == {"setStaffStatus": {"errors": []}}
    await becomes(["UNAUTHENTICATED"], elsewhere, token)
    await world.data("north", mutation, {**variables, "to": "ACTIVE"})
    await becomes([], elsewhere, token)


async def test_a_suspended_tenant_and_all_below_it_are_out_everywhere(world: World, elsewhere: Client) -> None:
    tokens = {login: await world.token(login) for login in ("north", "north-east", "coast", "south")}
    for token in tokens.values():
        await kept(elsewhere, token)
    mutation = "mutation($input: SetTenantStatusInput!) { setTenantStatus(input: $input) { errors { code } } }"
    suspend = {"input": {"id": world.id("north"), "status": "SUSPENDED"}}
    assert await world.data("admin", mutation, suspend) == {"setTenantStatus": {"errors": []}}
    for login in ("north", "north-east", "coast"):
        await becomes(["UNAUTHENTICATED"], elsewhere, tokens[login])
    assert await codes(elsewhere, tokens["south"]) == []


async def test_a_disabled_department_takes_its_members_with_it(world: World, elsewhere: Client) -> None:
    token, other = await world.token("north"), await world.token("south")
    runtime = world.client.application.runtime
    async with runtime.database.transaction(system("test")) as session:
        north = world.tenants["north"].id
        department = await session.scalar(select(Department).where(Department.tenant_id == north))
        member = await session.scalar(select(StaffAccount).where(StaffAccount.login == "north"))
        assert department is not None
        assert member is not None
        member.department_id = department.id
    await kept(elsewhere, token)
    async with runtime.database.transaction(system("test")) as session:
        department = await session.get(Department, department.id)
        assert department is not None
        department.status = AccountStatus.DISABLED
    await runtime.access.changed()
    await becomes(["UNAUTHENTICATED"], elsewhere, token)
    assert await codes(elsewhere, other) == []


@pytest.mark.feature("S0-19")
async def test_roles_that_were_taken_away_act_everywhere(world: World, elsewhere: Client) -> None:
    token = await world.token("north-east")
    await kept(elsewhere, token, CARDS)
    mutation = "mutation($input: SetRolesInput!) { setStaffRoles(input: $input) { errors { code } } }"
    variables = {"input": {"account": await account(world, "north-east"), "roles": []}}
    assert await world.data("north", mutation, variables) == {"setStaffRoles": {"errors": []}}
    await becomes(["FORBIDDEN"], elsewhere, token, CARDS)


# -- roles that a tenant made ----------------------------------------------------------------------------------------


async def make_role(world: World, tenant: str, *lines: tuple[str, str, str, str]) -> str:
    """A role of a tenant with these policies (obj, act, scope, eft); its name in assignments."""
    runtime = world.client.application.runtime
    owner = {"tenant_id": world.tenants[tenant].id, "tenant_path": world.tenants[tenant].path}
    async with runtime.database.transaction(system("test")) as session:
        role = Role(**owner, name="Warehouse")
        session.add(role)
        await session.flush()
        session.add_all(
            RolePolicy(**owner, role_id=role.id, obj=obj, act=act, scope=scope, eft=eft)
            for obj, act, scope, eft in lines
        )
        made = f"role:{role.id}"
    await runtime.access.changed(policies=True)
    return made


async def employ(world: World, tenant: str, login: str, role: str) -> str:
    """A new member of a tenant's staff with this role alone; the access token of its login."""
    async with world.client.application.runtime.database.transaction(system("test")) as session:
        await add_account(session, world.tenants[tenant], login, role, password_hash())
    token: str = await world.client.token("agent", login, "correct horse 42")
    return token


SEES_CARDS = (("Query.simCards", "read", "subtree", "allow"), ("SimCard.id", "read", "subtree", "allow"))
LISTED = "{ simCards(first: 50) { totalCount nodes { id } } }"


async def test_a_role_that_a_tenant_made_holds_in_its_branch_only(world: World, elsewhere: Client) -> None:
    role = await make_role(world, "north", *SEES_CARDS)
    tokens = {
        tenant: await employ(world, tenant, f"clerk-{tenant}", role) for tenant in ("north", "north-east", "south")
    }
    expected = {
        "north": {card for tenant in ("north", "north-east", "coast") for card in world.card_ids(tenant)},
        "north-east": {card for tenant in ("north-east", "coast") for card in world.card_ids(tenant)},
    }
    for client in (world.client, elsewhere):
        for tenant, cards in expected.items():
            found = (await client.post("agent", LISTED, token=tokens[tenant])).json()["data"]["simCards"]
            assert {node["id"] for node in found["nodes"]} == cards
            assert found["totalCount"] == len(cards)
        # another branch may be assigned the role by mistake: it opens nothing there
        assert await codes(client, tokens["south"], LISTED) == ["FORBIDDEN"]
        # nor does it open what it does not name
        assert await codes(client, tokens["north"], "{ simCards(first: 1) { nodes { displayIccid } } }") == [
            "FORBIDDEN"
        ]


async def test_a_role_that_a_tenant_made_cannot_reach_beyond_the_tenant(world: World) -> None:
    role = await make_role(
        world,
        "north",
        ("Query.*", "read", "all", "allow"),
        ("SimCard.*", "read", "all", "allow"),
        ("SimCard.iccid", "read", "all", "allow"),
        ("no coordinate", "read", "all", "allow"),
        ("SimCard.remark", "read", "all", "deny"),
    )
    token = await employ(world, "north", "clerk", role)
    cards = (await world.client.post("agent", CARDS, token=token)).json()["data"]["simCards"]
    assert cards == {"totalCount": 3 * CARDS_PER_TENANT}
    for field in ("iccid", "remark"):
        asked = f"{{ simCards(first: 1) {{ nodes {{ {field} }} }} }}"
        assert await codes(world.client, token, asked) == ["FORBIDDEN"]


async def test_a_changed_policy_acts_everywhere(world: World, elsewhere: Client) -> None:
    role = await make_role(world, "north", *SEES_CARDS)
    token = await employ(world, "north", "clerk", role)
    await kept(elsewhere, token, LISTED)
    runtime = world.client.application.runtime
    key = int(role.removeprefix("role:"))

    async with runtime.database.transaction(system("test")) as session:
        await session.execute(delete(RolePolicy).where(RolePolicy.role_id == key, RolePolicy.obj == "SimCard.id"))
    await runtime.access.changed(policies=True)
    await becomes(["FORBIDDEN"], elsewhere, token, LISTED)

    owner = {"tenant_id": world.tenants["north"].id, "tenant_path": world.tenants["north"].path}
    async with runtime.database.transaction(system("test")) as session:
        session.add(RolePolicy(**owner, role_id=key, obj="SimCard.id", act="read", scope="subtree"))
    await runtime.access.changed(policies=True)
    await becomes([], elsewhere, token, LISTED)

    async with runtime.database.transaction(system("test")) as session:
        made = await session.get(Role, key)
        assert made is not None
        made.status = AccountStatus.DISABLED
    await runtime.access.changed(policies=True)
    await becomes(["FORBIDDEN"], elsewhere, token, LISTED)


async def test_an_assignment_that_ended_acts_everywhere(world: World, elsewhere: Client) -> None:
    role = await make_role(world, "north", *SEES_CARDS)
    token = await employ(world, "north", "clerk", role)
    await kept(elsewhere, token, LISTED)
    runtime = world.client.application.runtime
    async with runtime.database.transaction(system("test")) as session:
        await session.execute(delete(RoleAssignment).where(RoleAssignment.role == role))
    await runtime.access.changed()
    await becomes(["FORBIDDEN"], elsewhere, token, LISTED)


# -- while changes cannot be heard -----------------------------------------------------------------------------------


@pytest.fixture
def valkey() -> Iterator[Valkey]:
    """A Valkey of this test alone, which it may stop."""
    folder = Path(tempfile.mkdtemp(prefix="trellis-tests-"))
    folder.chmod(0o711)
    server = Valkey(folder)
    server.start()
    yield server
    server.stop()
    remove_state(folder)


async def test_while_the_connection_is_lost_the_database_is_asked(place: Place, valkey: Valkey) -> None:
    """A change that nobody announces is seen at once while Valkey is away, and only then."""
    settings = place.settings.model_copy(update={"redis_url": valkey.url})
    async with another_process(settings) as client:
        world = await sow(client, place.superuser_url)
        token = await world.token("north")
        await kept(client, token)
        silently = "UPDATE staff_account SET status = $1 WHERE login = 'north'"
        await world.sql(silently, "DISABLED")
        assert await codes(client, token) == []

        await asyncio.to_thread(valkey.stop)
        await becomes(["UNAUTHENTICATED"], client, token)
        assert not client.application.runtime.access.listening
        for status, expected in (("ACTIVE", []), ("DISABLED", ["UNAUTHENTICATED"]), ("ACTIVE", [])):
            await world.sql(silently, status)
            assert await codes(client, token) == expected

        await asyncio.to_thread(valkey.start)

        async def heard() -> bool:
            return client.application.runtime.access.listening

        assert await within(10, heard)
        await kept(client, token)
        # what was missed meanwhile is not missed for good
        await world.sql(silently, "DISABLED")
        await client.application.runtime.access.changed()
        assert await codes(client, token) == ["UNAUTHENTICATED"]


async def test_while_the_connection_is_lost_policies_are_read_too(place: Place, valkey: Valkey) -> None:
    """What another process changes meanwhile is told to nobody, and holds all the same."""
    settings = place.settings.model_copy(update={"redis_url": valkey.url})
    async with another_process(settings) as client:
        world = await sow(client, place.superuser_url)
        role = await make_role(world, "north", *SEES_CARDS)
        token = await employ(world, "north", "clerk", role)
        await kept(client, token, LISTED)
        await asyncio.to_thread(valkey.stop)
        await world.sql("UPDATE role_policy SET obj = 'SimCard.displayIccid' WHERE obj = 'SimCard.id'")
        await becomes(["FORBIDDEN"], client, token, LISTED)
        await world.sql("UPDATE role_policy SET obj = 'SimCard.id' WHERE obj = 'SimCard.displayIccid'")
        assert await codes(client, token, LISTED) == []


async def test_nothing_is_missed_when_the_server_comes_back_at_once(place: Place, valkey: Valkey) -> None:
    """The client reconnects by itself; what was changed in between was announced to nobody."""
    settings = place.settings.model_copy(update={"redis_url": valkey.url})
    async with another_process(settings) as client:
        world = await sow(client, place.superuser_url)
        token = await world.token("north")
        await kept(client, token)
        await world.sql("UPDATE staff_account SET status = 'DISABLED' WHERE login = 'north'")
        # one hears of access, the other of what is published
        assert await client.application.redis.client_kill_filter(_type="pubsub") == 2
        await becomes(["UNAUTHENTICATED"], client, token)
