"""End users with account and password: registering, logging in, their sessions, their own data, and nobody else's."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from planner.ids import encode_id
from tests.support.people import SECRET_WORD, payload, person_id, run, said, who
from tests.support.world import CARDS_PER_TENANT, World

NEW_PASSWORD = "another staple 8"
PUBLISH = """mutation($input: PublishAgreementInput!) { publishAgreement(input: $input) {
    agreement { id document version } errors { code field } } }"""
SET_STATUS = """mutation($id: ID!, $status: AccountStatus!) { setEndUserStatus(endUser: $id, status: $status) {
    endUser { status } errors { code field } } }"""
REVOKE = "mutation($id: ID!) { revokeEndUserSessions(endUser: $id) { done errors { code field } } }"
SET_TENANT = "mutation($input: SetTenantStatusInput!) { setTenantStatus(input: $input) { errors { code } } }"
SIGNED = [{"document": "privacy", "version": "1"}, {"document": "terms", "version": "2"}]


@pytest.fixture(autouse=True)
def _registration_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRELLIS_REGISTRATION_WITHOUT_CODE", "true")


async def publish(world: World, account: str, document: str, version: str) -> list[tuple[str, str | None]]:
    input = {"document": document, "version": version, "title": document, "text": f"{document} {version}"}
    return said((await world.data(account, PUBLISH, {"input": input}))["publishAgreement"])


@pytest.fixture
async def served(world: World) -> World:
    """The platform has published its terms, twice, and a note on privacy."""
    for document, version in (("terms", "1"), ("privacy", "1"), ("terms", "2")):
        assert await publish(world, "operations", document, version) == []
    return world


def registration(world: World, tenant: str = "north", **more: Any) -> dict[str, Any]:
    return {
        "input": {
            "tenant": world.id(tenant),
            "account": "Ada",
            "password": SECRET_WORD,
            "email": "ada@example.com",
            "name": "Ada",
            "agreements": SIGNED,
            **more,
        }
    }


async def register(world: World, tenant: str = "north", **more: Any) -> dict[str, str]:
    """The session of somebody who has just registered."""
    made = await payload(world, "consumer", "RegisterEndUser", registration(world, tenant, **more))
    assert made["errors"] == []
    session: dict[str, str] = made["session"]
    return session


async def log_in(
    world: World, account: str = "Ada", password: str = SECRET_WORD, tenant: str = "north", door: str = "consumer"
) -> dict[str, Any]:
    variables = {"tenant": world.id(tenant), "account": account, "password": password}
    return await payload(world, door, "EndUserLogin", variables)


async def codes(world: World, account: str, mutation: str, variables: dict[str, Any]) -> list[str]:
    """Why a mutation of staff is refused, by the graph or by the business."""
    answer = await world.run(account, mutation, variables)
    if answer.get("data") is None:
        return sorted({error["extensions"]["code"] for error in answer["errors"]})
    (found,) = answer["data"].values()
    return [error["code"] for error in found["errors"]]


# -- registering --------------------------------------------------------------------------------------------------


@pytest.mark.feature("S1-72", "S1-74")
async def test_somebody_reads_signs_registers_and_is_logged_in(served: World) -> None:
    asked = await run(served, "consumer", "AgreementsToSign", {"tenant": served.id("north")})
    assert asked["data"]["agreementsToSign"] == [
        {"document": "privacy", "version": "1", "title": "privacy", "text": "privacy 1"},
        {"document": "terms", "version": "2", "title": "terms", "text": "terms 2"},
    ]
    token = (await register(served))["accessToken"]
    me = (await run(served, "consumer", "Me", token=token))["data"]["viewer"]["endUser"]
    consents = [(c["document"], c["version"]) for c in me.pop("consents")["nodes"]]
    assert consents == [("privacy", "1"), ("terms", "2")]
    (row,) = await served.sql("SELECT * FROM end_user WHERE login = 'Ada'")
    assert me == {
        "id": person_id(row["id"]), "login": "Ada", "name": "Ada", "phone": None, "email": "ada@example.com",
        "status": "ACTIVE",
    }  # fmt: skip
    assert row["tenant_id"] == served.tenants["north"].id
    assert row["password_hash"].startswith("$argon2id$")
    (seconds,) = await served.sql("SELECT max(extract(epoch FROM now() - signed_at)) AS age FROM agreement_consent")
    assert 0 <= seconds["age"] < 60
    (record,) = await served.sql("SELECT arguments::text AS said FROM operation_record WHERE mutation LIKE 'register%'")
    assert SECRET_WORD not in record["said"]


@pytest.mark.feature("S1-72")
async def test_who_does_not_sign_what_is_in_force_is_not_taken_in(served: World) -> None:
    privacy, terms = SIGNED
    refused: list[tuple[dict[str, Any], tuple[str, str | None]]] = [
        ({"agreements": []}, ("REQUIRED", "agreements")),
        ({"agreements": [terms]}, ("REQUIRED", "agreements")),
        ({"agreements": [privacy, privacy]}, ("REQUIRED", "agreements")),
        ({"agreements": [privacy, {"document": "terms", "version": "1"}]}, ("NOT_FOUND", "agreements")),
        ({"agreements": [*SIGNED, {"document": "more", "version": "1"}]}, ("NOT_FOUND", "agreements")),
        ({"password": "short"}, ("WEAK_PASSWORD", "password")),
        ({"account": " "}, ("REQUIRED", "account")),
        ({"email": ""}, ("REQUIRED", "email")),
        ({"email": "nowhere"}, ("INVALID_EMAIL", "email")),
        ({"tenant": encode_id("ten", 999_999)}, ("REGISTRATION_CLOSED", None)),
        ({"tenant": encode_id("sim", 1)}, ("INVALID_ID", "tenant")),
    ]
    before = await served.sql("SELECT count(*) FROM end_user")
    for more, expected in refused:
        variables = {"input": {**registration(served)["input"], **more}}
        answer = await payload(served, "consumer", "RegisterEndUser", variables)
        assert (answer["session"], said(answer)) == (None, [expected]), more
    assert await served.sql("SELECT count(*) FROM end_user") == before
    assert await served.sql("SELECT * FROM agreement_consent") == []


async def test_registration_is_closed_by_the_installation_and_without_agreements(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = await payload(world, "consumer", "RegisterEndUser", registration(world))
    assert said(answer) == [("REGISTRATION_CLOSED", None)]
    assert await publish(world, "admin", "terms", "2") == []
    assert await publish(world, "admin", "privacy", "1") == []
    await world.data("admin", SET_TENANT, {"input": {"id": world.id("north"), "status": "SUSPENDED"}})
    answer = await payload(world, "consumer", "RegisterEndUser", registration(world))
    assert said(answer) == [("REGISTRATION_CLOSED", None)]
    runtime = world.client.application.runtime
    object.__setattr__(runtime, "registration_without_code", False)
    answer = await payload(world, "consumer", "RegisterEndUser", registration(world, "south"))
    assert said(answer) == [("REQUIRED", "verificationCode")]
    object.__setattr__(runtime, "registration_without_code", True)
    await register(world, "south")


@pytest.mark.feature("S1-74")
async def test_one_account_name_goes_to_one_person_within_a_tenant(served: World) -> None:
    asked = [registration(served, account=name) for name in ("Ada", "ADA", "ada", " Ada ")]
    answers = await asyncio.gather(*(payload(served, "consumer", "RegisterEndUser", one) for one in asked))
    assert sorted(said(one) for one in answers) == [[]] + [[("TAKEN", "account")]] * 3
    assert len(await served.sql("SELECT id FROM end_user WHERE lower(login) = 'ada'")) == 1
    assert len(await served.sql("SELECT id FROM agreement_consent")) == 2
    # elsewhere the name is somebody else's
    other = await register(served, "south")
    mine = (await log_in(served, tenant="south"))["session"]
    assert await who(served, "consumer", other["accessToken"]) == await who(served, "consumer", mine["accessToken"])


@pytest.mark.feature("S1-72")
async def test_agreements_are_published_for_a_branch_and_never_change(served: World) -> None:
    assert await publish(served, "operations", "terms", "2") == [("TAKEN", "version")]
    assert await publish(served, "north", "terms", "n1") == []
    for account in ("finance", "sales"):
        assert await codes(served, account, PUBLISH, {"input": {
            "document": "terms", "version": "9", "title": "t", "text": "t",
        }}) == ["FORBIDDEN"]  # fmt: skip

    async def asked(tenant: str) -> list[tuple[str, str]]:
        answer = await run(served, "consumer", "AgreementsToSign", {"tenant": served.id(tenant)})
        return [(one["document"], one["version"]) for one in answer["data"]["agreementsToSign"]]

    # the nearest tenant's own text takes the place of the platform's
    for tenant in ("north", "north-east", "coast"):
        assert await asked(tenant) == [("privacy", "1"), ("terms", "n1")]
    assert await asked("south") == [("privacy", "1"), ("terms", "2")]
    listed = await served.data("south", "{ agreementVersions(first: 9) { nodes { document version } } }")
    versions = {(one["document"], one["version"]) for one in listed["agreementVersions"]["nodes"]}
    assert versions == {("terms", "1"), ("terms", "2"), ("privacy", "1")}


@pytest.mark.feature("S1-72")
async def test_a_new_version_is_signed_once_by_who_is_already_there(served: World) -> None:
    token = (await register(served))["accessToken"]
    assert await publish(served, "operations", "terms", "3") == []

    async def sign(version: str) -> list[tuple[str, str | None]]:
        variables = {"input": {"agreements": [{"document": "terms", "version": version}]}}
        return said(await payload(served, "consumer", "SignAgreements", variables, token))

    assert await sign("1") == [("NOT_FOUND", "agreements")]
    assert await asyncio.gather(*(sign("3") for _ in range(3))) == [[], [], []]
    rows = await served.sql("SELECT document, version FROM agreement_consent ORDER BY id")
    assert [tuple(row) for row in rows] == [("privacy", "1"), ("terms", "2"), ("terms", "3")]


# -- logging in ---------------------------------------------------------------------------------------------------


@pytest.mark.feature("S1-74")
async def test_whatever_is_wrong_the_caller_hears_the_same(served: World) -> None:
    await register(served)
    assert said(await log_in(served, " aDA ")) == []
    wrong = [
        await log_in(served, password="wrong"),
        await log_in(served, "nobody"),
        await log_in(served, tenant="south"),
        await log_in(served, "Ada' OR 1=1 --"),
    ]
    await served.sql("UPDATE end_user SET status = 'DISABLED' WHERE login = 'Ada'")
    wrong.append(await log_in(served))
    unknown = {"tenant": encode_id("ten", 999_999), "account": "Ada", "password": SECRET_WORD}
    wrong.append(await payload(served, "consumer", "EndUserLogin", unknown))
    assert all(one == wrong[0] for one in wrong)
    assert (wrong[0]["session"], said(wrong[0])) == (None, [("WRONG_CREDENTIALS", "account")])
    # an end user is no member of staff, and staff are no end users
    staff = await served.client.log_in("agent", "Ada", SECRET_WORD)
    assert staff["errors"][0]["code"] == "WRONG_CREDENTIALS"
    document = """mutation($tenant: ID!) { endUserLogin(input: {tenant: $tenant, account: "Ada", password: "%s"}) {
        session { accessToken } errors { code field } } }"""
    at_staffs = await served.client.post("agent", document % SECRET_WORD, {"tenant": served.id("north")})
    assert at_staffs.json()["data"]["endUserLogin"]["errors"] == [{"code": "WRONG_CREDENTIALS", "field": "account"}]


@pytest.mark.feature("S1-74")
@pytest.mark.parametrize("account", ["Ada", "nobody"])
async def test_wrong_passwords_lock_a_name_whether_it_is_anybodys_or_not(served: World, account: str) -> None:
    await register(served)
    tried = await asyncio.gather(*(log_in(served, account, "wrong") for _ in range(8)))
    found = sorted(one["errors"][0]["code"] for one in tried)
    assert found == ["ACCOUNT_LOCKED"] * 3 + ["WRONG_CREDENTIALS"] * 5
    assert said(await log_in(served, account)) == [("ACCOUNT_LOCKED", "account")]
    # the same name elsewhere is another account
    await register(served, "south")
    assert said(await log_in(served, tenant="south")) == []
    await served.sql("UPDATE end_user SET locked_until = now() - interval '1 second' WHERE login = 'Ada'")
    assert said(await log_in(served)) == []


async def test_logins_of_end_users_stand_in_the_log_of_who_serves_them(served: World) -> None:
    token = (await register(served))["accessToken"]
    await log_in(served, password="wrong")
    await log_in(served, "nobody")
    records = """{ loginRecords(first: 50, filter: {door: {eq: "consumer"}}, orderBy: {field: ID}) {
        nodes { login method outcome } } }"""
    seen = [
        [(one["login"], one["method"], one["outcome"]) for one in answer["loginRecords"]["nodes"]]
        for answer in [await served.data(account, records) for account in ("north", "admin", "south", "coast")]
    ]
    everything = [
        ("Ada", "PASSWORD", "SUCCEEDED"),
        ("Ada", "PASSWORD", "WRONG_CREDENTIALS"),
        ("nobody", "PASSWORD", "WRONG_CREDENTIALS"),
    ]
    assert seen == [everything, everything, [], []]
    own = (await run(served, "consumer", "MyLogins", token=token))["data"]["loginRecords"]["nodes"]
    assert [(one["method"], one["outcome"]) for one in own] == [
        ("PASSWORD", "SUCCEEDED"),
        ("PASSWORD", "WRONG_CREDENTIALS"),
    ]


# -- sessions -----------------------------------------------------------------------------------------------------


@pytest.mark.feature("S1-74")
async def test_a_refresh_token_works_once_at_its_own_door(served: World) -> None:
    first = await register(served)

    async def refresh(token: str, door: str = "consumer") -> dict[str, Any]:
        return await payload(served, door, "RefreshSession", {"refreshToken": token})

    for door in ("wechat", "agent"):
        assert said(await refresh(first["refreshToken"], door)) == [("SESSION_ENDED", None)]
    second = (await refresh(first["refreshToken"]))["session"]
    assert await who(served, "consumer", second["accessToken"]) is not None
    # a second use ends the session for whoever has it
    assert said(await refresh(first["refreshToken"])) == [("SESSION_ENDED", None)]
    assert await who(served, "consumer", second["accessToken"]) is None
    assert said(await refresh(second["refreshToken"])) == [("SESSION_ENDED", None)]


async def test_a_token_holds_at_its_own_door_for_its_own_holder(served: World) -> None:
    token = (await register(served))["accessToken"]
    (row,) = await served.sql("SELECT id FROM end_user WHERE login = 'Ada'")
    assert await who(served, "consumer", token) == person_id(row["id"])
    for door in ("wechat", "dealer"):
        document = "Me" if door == "wechat" else "Viewer"
        answer = await run(served, door, document, token=token)
        assert [error["extensions"]["code"] for error in answer["errors"]] == ["UNAUTHENTICATED"]
    answer = await served.client.post("agent", "{ viewer { door } }", token=token)
    assert answer.status_code == 401
    answer = await run(served, "consumer", "Me", token=await served.token("north"))
    assert [error["extensions"]["code"] for error in answer["errors"]] == ["UNAUTHENTICATED"]


async def test_who_logs_out_is_out_here_or_everywhere(served: World) -> None:
    await register(served)
    one, two, three = [(await log_in(served))["session"]["accessToken"] for _ in range(3)]
    other = (await register(served, account="Ben"))["accessToken"]
    assert (await payload(served, "consumer", "LogOut", {"everywhere": False}, one))["done"] is True
    assert await who(served, "consumer", one) is None
    assert await who(served, "consumer", two) is not None
    sessions = (await run(served, "consumer", "MySessions", token=two))["data"]["loginSessions"]["nodes"]
    assert [session["revokedAt"] is None for session in sessions] == [True, False, True, True]
    assert (await payload(served, "consumer", "LogOut", {"everywhere": True}, two))["done"] is True
    assert [await who(served, "consumer", token) for token in (two, three)] == [None, None]
    assert await who(served, "consumer", other) is not None


async def test_those_who_serve_a_person_keep_the_person_out_from_the_next_request_on(served: World) -> None:
    token = (await register(served, "north-east"))["accessToken"]
    id = await who(served, "consumer", token)
    assert id is not None
    for stranger in ("south", "acme", "coast"):
        assert await codes(served, stranger, SET_STATUS, {"id": id, "status": "DISABLED"}) == ["NOT_FOUND"]
        assert await codes(served, stranger, REVOKE, {"id": id}) == ["NOT_FOUND"]
    for account in ("finance", "sales"):
        assert await codes(served, account, SET_STATUS, {"id": id, "status": "DISABLED"}) == ["FORBIDDEN"]
        assert await codes(served, account, REVOKE, {"id": id}) == ["FORBIDDEN"]
    assert await who(served, "consumer", token) == id

    assert await codes(served, "operations", REVOKE, {"id": id}) == []
    assert await who(served, "consumer", token) is None
    session = (await log_in(served, tenant="north-east"))["session"]
    assert await codes(served, "north", SET_STATUS, {"id": id, "status": "DISABLED"}) == []
    assert await who(served, "consumer", session["accessToken"]) is None
    refreshed = await payload(served, "consumer", "RefreshSession", {"refreshToken": session["refreshToken"]})
    assert said(refreshed) == [("SESSION_ENDED", None)]
    assert await codes(served, "north", SET_STATUS, {"id": id, "status": "ACTIVE"}) == []
    token = (await log_in(served, tenant="north-east"))["session"]["accessToken"]
    # a suspended company above takes the people out of service whom those below it serve
    await served.data("admin", SET_TENANT, {"input": {"id": served.id("north"), "status": "SUSPENDED"}})
    assert await who(served, "consumer", token) is None
    assert said(await log_in(served, tenant="north-east")) == [("WRONG_CREDENTIALS", "account")]


# -- one's own data -----------------------------------------------------------------------------------------------


@pytest.mark.feature("S0-40")
async def test_a_person_sees_own_cards_whoever_holds_them_and_no_others(served: World) -> None:
    token = (await register(served))["accessToken"]
    cards = "MyCards"
    assert (await run(served, "consumer", cards, token=token))["data"]["simCards"]["totalCount"] == 0
    (person,) = await served.sql("SELECT id FROM end_user WHERE login = 'Ada'")
    given = [served.cards["north"][0], served.cards["south"][2], served.cards["acme"][3]]
    await served.sql("UPDATE sim_card SET end_user_id = $1 WHERE id = ANY($2)", person["id"], [c.id for c in given])
    found = (await run(served, "consumer", cards, token=token))["data"]["simCards"]
    assert found["totalCount"] == 3
    assert {node["id"] for node in found["nodes"]} == {encode_id("sim", card.id) for card in given}
    foreign = served.card_ids("north")[1:CARDS_PER_TENANT]
    for id in foreign:
        assert (await run(served, "consumer", "MyCard", {"id": id}, token))["data"] == {"simCard": None}


@pytest.mark.feature("S1-85")
async def test_a_person_changes_the_own_profile_and_nobody_elses(served: World) -> None:
    token = (await register(served))["accessToken"]
    await register(served, account="Ben", email="ben@example.com", name="Ben")

    async def change(**changes: Any) -> tuple[Any, list[tuple[str, str | None]]]:
        found = await payload(served, "consumer", "UpdateMyProfile", {"input": changes}, token)
        return found["endUser"], said(found)

    assert await change(email="nowhere") == (None, [("INVALID_EMAIL", "email")])
    assert await change(email="  ") == (None, [("REQUIRED", "email")])
    assert await change(name=" ") == (None, [("REQUIRED", "name")])
    assert await change(name="x" * 201) == (None, [("INVALID", "name")])
    changed, errors = await change(name="Ada L.")
    assert (changed["name"], changed["email"], errors) == ("Ada L.", "ada@example.com", [])
    changed, errors = await change(email="countess@example.com")
    assert (changed["name"], changed["email"], errors) == ("Ada L.", "countess@example.com", [])
    rows = await served.sql("SELECT login, name, email, tenant_id FROM end_user WHERE login IS NOT NULL ORDER BY login")
    north = served.tenants["north"].id
    assert [tuple(row) for row in rows] == [
        ("Ada", "Ada L.", "countess@example.com", north),
        ("Ben", "Ben", "ben@example.com", north),
    ]
    # those who serve the person know of the address and cannot read it; administrators can
    people = """{ endUsers(first: 1, orderBy: {field: ID, direction: DESC}) { nodes { login email } } }"""
    (seen,) = (await served.data("north", people))["endUsers"]["nodes"]
    assert seen == {"login": "Ben", "email": "b****@example.com"}
    (seen,) = (await served.data("admin", people))["endUsers"]["nodes"]
    assert seen == {"login": "Ben", "email": "ben@example.com"}
    own = "mutation($input: UpdateMyProfileInput!) { updateMyProfile(input: $input) { errors { code } } }"
    assert await codes(served, "north", own, {"input": {"name": "Staff"}}) == ["FORBIDDEN"]
    answer = await run(served, "consumer", "UpdateMyProfile", {"input": {"name": "Nobody"}})
    assert [error["extensions"]["code"] for error in answer["errors"]] == ["UNAUTHENTICATED"]


@pytest.mark.feature("S1-86")
async def test_a_changed_password_ends_the_persons_other_sessions(served: World) -> None:
    here = (await register(served))["accessToken"]
    there = (await log_in(served))["session"]["accessToken"]
    staff = await served.token("north")

    async def change(current: str, new: str) -> list[tuple[str, str | None]]:
        variables = {"input": {"current": current, "new": new}}
        return said(await payload(served, "consumer", "ChangePassword", variables, here))

    assert await change("wrong", NEW_PASSWORD) == [("WRONG_CREDENTIALS", "current")]
    assert await change(SECRET_WORD, "short") == [("WEAK_PASSWORD", "new")]
    assert await who(served, "consumer", there) is not None
    assert await change(SECRET_WORD, NEW_PASSWORD) == []
    assert await who(served, "consumer", here) is not None
    assert await who(served, "consumer", there) is None
    assert said(await log_in(served)) == [("WRONG_CREDENTIALS", "account")]
    assert said(await log_in(served, password=NEW_PASSWORD)) == []
    assert (await served.client.post("agent", "{ viewer { door } }", token=staff)).status_code == 200
    rows = await served.sql(
        "SELECT tenant_id, account_id, end_user_id, arguments::text AS said FROM operation_record "
        "WHERE mutation = 'change_password'"
    )
    (person,) = await served.sql("SELECT id FROM end_user WHERE login = 'Ada'")
    assert {tuple(row)[:3] for row in rows} == {(served.tenants["north"].id, None, person["id"])}
    assert not any(word in row["said"] for row in rows for word in (SECRET_WORD, NEW_PASSWORD))


async def test_a_person_without_a_password_has_none_to_change(served: World) -> None:
    await register(served)
    token = (await log_in(served))["session"]["accessToken"]
    await served.sql("UPDATE end_user SET password_hash = NULL WHERE login = 'Ada'")
    variables = {"input": {"current": SECRET_WORD, "new": NEW_PASSWORD}}
    assert said(await payload(served, "consumer", "ChangePassword", variables, token)) == [
        ("WRONG_CREDENTIALS", "current")
    ]
    assert said(await log_in(served)) == [("WRONG_CREDENTIALS", "account")]


async def test_a_person_who_moves_with_the_branch_stays_logged_in(served: World) -> None:
    token = (await register(served, "north-east"))["accessToken"]
    id = await who(served, "consumer", token)
    move = "mutation($input: MoveTenantInput!) { moveTenant(input: $input) { errors { code } } }"
    variables = {"input": {"id": served.id("north-east"), "parent": served.id("south")}}
    assert await codes(served, "admin", move, variables) == []
    assert await who(served, "consumer", token) == id
    assert said(await payload(served, "consumer", "LogOut", {"everywhere": False}, token)) == []


@pytest.mark.feature("S0-26")
async def test_an_agent_and_an_enterprise_list_their_end_users(world: World) -> None:
    """By name, by phone, by who serves them; with their cards; and nobody else's."""
    query = """query($filter: EndUserFilter) { endUsers(filter: $filter, orderBy: [{field: CREATED_AT}, {field: ID}]) {
        totalCount nodes { id name tenant { id } simCards { totalCount nodes { displayIccid } } } } }"""

    async def found(caller: str, **filter: Any) -> set[str]:
        users = (await world.data(caller, query, {"filter": filter}))["endUsers"]
        assert users["totalCount"] == len(users["nodes"])
        return {node["id"] for node in users["nodes"]}

    people = {name: person_id(person.id) for name, person in world.end_users.items()}
    for caller, seen in (
        ("acme", {"acme"}),
        ("north", {"north", "north-east", "coast"}),
        ("coast", {"coast"}),
        ("south", {"south", "south-west"}),
    ):
        assert await found(caller) == {people[name] for name in seen}, caller
    assert await found("north", tenant={"eq": world.id("coast")}) == {people["coast"]}
    assert await found("north", tenant={"eq": world.id("south")}) == set()
    assert await found("north", name={"contains": "north-east"}) == {people["north-east"]}
    assert await found("north", name={"contains": "south"}) == set()
    nodes = (await world.data("coast", query, {"filter": {}}))["endUsers"]["nodes"]
    assert nodes[0]["simCards"] == {
        "totalCount": 1,
        "nodes": [{"displayIccid": world.cards["coast"][1].display_iccid}],
    }
