"""Guides and documentation: which topic answers whom, who writes them, and the membership that opens them."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from authz.principal import ROOT_PATH, Principal, PrincipalKind, system
from models.guidance import HelpKind
from models.tenancy import Language
from planner.ids import encode_id
from server.demo import add_account
from services import guidance
from services.refusal import Refusal
from tests.support.world import PASSWORD, World, password_hash

TOPIC = "id kind pageKey blockKey language role version title body status"
UPSERT = f"""mutation($input: HelpTopicInput!) {{ upsertHelpTopic(input: $input) {{
    helpTopic {{ {TOPIC} }} errors {{ code field }} }} }}"""
WITHDRAW = """mutation($id: ID!) { withdrawHelpTopic(id: $id) {
    helpTopic { version status } errors { code field } } }"""
READ = """query($kind: HelpKind!, $pageKey: String!, $blockKey: String, $language: Language) {
    helpTopic(kind: $kind, pageKey: $pageKey, blockKey: $blockKey, language: $language) {
        topic { kind pageKey blockKey language version title body } errors { code field message } } }"""
GRANT = """mutation($input: GrantMembershipInput!) { grantMembership(input: $input) {
    membershipGrant { until source remark tenant { id } } errors { code field } } }"""
GRANTS = "{ membershipGrants(first: 50, orderBy: [{field: ID, direction: ASC}]) { nodes { until source grantedAt } } }"
REQUIRED = {
    "topic": None,
    "errors": [
        {"code": "MEMBERSHIP_REQUIRED", "field": None, "message": "Guides and documentation need a membership."}
    ],
}


async def publish(world: World, title: str, **changes: Any) -> dict[str, Any]:
    input = {"kind": "GUIDE", "pageKey": "sim.cards", "language": "ZH_CN", "title": title, "body": f"# {title}"}
    payload = (await world.data("admin", UPSERT, {"input": {**input, **changes}}))["upsertHelpTopic"]
    assert payload["errors"] == [], payload
    made: dict[str, Any] = payload["helpTopic"]
    return made


def today(world: World, tenant: str = "north") -> date:
    return datetime.now(UTC).astimezone(ZoneInfo(world.tenants[tenant].time_zone)).date()


async def make_member(world: World, *tenants: str, days: int = 30) -> None:
    for tenant in tenants:
        input = {"tenant": world.id(tenant), "until": str(today(world) + timedelta(days=days)), "source": "GIFT"}
        assert (await world.data("operations", GRANT, {"input": input}))["grantMembership"]["errors"] == []


async def title(world: World, caller: str, **asked: Any) -> str | None:
    """The title of what answers; None where there is no topic."""
    found = (await world.data(caller, READ, {"kind": "GUIDE", "pageKey": "sim.cards", **asked}))["helpTopic"]
    assert found["errors"] == []
    return None if found["topic"] is None else str(found["topic"]["title"])


async def rows(world: World, table: str) -> list[Any]:
    return await world.sql(f"SELECT * FROM {table} ORDER BY id")


# -- which topic answers -------------------------------------------------------------------------------------------


@pytest.mark.feature("S2-21", "S2-23")
@pytest.mark.parametrize("kind", ["GUIDE", "DOC"])
async def test_a_page_has_a_guide_and_documentation_of_its_own(world: World, kind: str) -> None:
    other = "DOC" if kind == "GUIDE" else "GUIDE"
    await make_member(world, "north")
    await publish(world, "of the page", kind=kind, body="Press [here](https://example.com/a).")
    asked = {"kind": kind, "pageKey": "sim.cards"}
    assert (await world.data("north", READ, asked))["helpTopic"] == {
        "topic": {
            "kind": kind, "pageKey": "sim.cards", "blockKey": None, "language": "ZH_CN", "version": 1,
            "title": "of the page", "body": "Press [here](https://example.com/a).",
        },
        "errors": [],
    }  # fmt: skip
    assert await title(world, "north", kind=other) is None
    assert await title(world, "north", kind=kind, pageKey="sim.allocations") is None
    assert await title(world, "north", kind=kind, pageKey="no such page") is None


@pytest.mark.feature("S2-22", "S2-24")
@pytest.mark.parametrize("kind", ["GUIDE", "DOC"])
async def test_a_block_is_answered_by_its_own_topic_only(world: World, kind: str) -> None:
    await make_member(world, "north")
    await publish(world, "block", kind=kind, blockKey="filters")
    assert await title(world, "north", kind=kind) is None
    assert await title(world, "north", kind=kind, blockKey="filters") == "block"
    await publish(world, "page", kind=kind)
    assert await title(world, "north", kind=kind) == "page"
    assert await title(world, "north", kind=kind, blockKey="filters") == "block"
    assert await title(world, "north", kind=kind, blockKey="table") is None
    assert await title(world, "north", kind="DOC" if kind == "GUIDE" else "GUIDE", blockKey="filters") is None


@pytest.mark.feature("S2-25")
async def test_the_language_decides_first_and_falls_back_in_order(world: World) -> None:
    await make_member(world, "north")
    ids = {}
    for language, asked, expected in (
        ("EN", ("ZH_CN", "ZH_TW", "EN"), ("EN", "EN", "EN")),
        ("ZH_TW", ("ZH_CN", "ZH_TW", "EN"), ("ZH_TW", "ZH_TW", "EN")),
        ("ZH_CN", ("ZH_CN", "ZH_TW", "EN"), ("ZH_CN", "ZH_TW", "EN")),
    ):
        ids[language] = (await publish(world, language, language=language))["id"]
        assert tuple([await title(world, "north", language=one) for one in asked]) == expected
    # without a language it is the caller's own
    variables = {"kind": "GUIDE", "pageKey": "sim.cards"}
    for accepted, expected_title in (("en", "EN"), ("zh-CN", "ZH_CN")):
        answer = await world.run("north", READ, variables, language=accepted)
        assert answer["data"]["helpTopic"]["topic"]["title"] == expected_title
    # a role does not outweigh the language
    await publish(world, "EN for agents", language="EN", role="agent_admin")
    assert await title(world, "north", language="ZH_TW") == "ZH_TW"
    assert await title(world, "north", language="EN") == "EN for agents"
    await world.data("admin", WITHDRAW, {"id": ids["ZH_CN"]})
    await world.data("admin", WITHDRAW, {"id": ids["ZH_TW"]})
    assert await title(world, "north", language="ZH_CN") == "EN for agents"


@pytest.mark.feature("S2-25")
async def test_the_callers_role_comes_before_everybody(world: World) -> None:
    await make_member(world, "north", "acme")
    await publish(world, "for agents", role="agent_admin")
    assert await title(world, "north") == "for agents"
    assert await title(world, "acme") is None
    await publish(world, "for all")
    await publish(world, "for all, again")
    assert await title(world, "north") == "for agents"
    assert await title(world, "acme") == "for all, again"
    assert await title(world, "operations") == "for all, again"
    await publish(world, "for operations", role="platform_operations")
    assert await title(world, "operations") == "for operations"
    assert await title(world, "finance") == "for all, again"


@pytest.mark.feature("S2-25")
async def test_the_newest_published_version_answers(world: World) -> None:
    await make_member(world, "north")
    first, second = await publish(world, "first"), await publish(world, "second")
    assert (first["version"], second["version"]) == (1, 2)
    other = await publish(world, "other", language="ZH_TW")
    assert other["version"] == 1
    assert await title(world, "north") == "second"
    withdrawn = {"helpTopic": {"version": 2, "status": "WITHDRAWN"}, "errors": []}
    assert (await world.data("admin", WITHDRAW, {"id": second["id"]}))["withdrawHelpTopic"] == withdrawn
    assert await title(world, "north") == "first"
    third = await publish(world, "third")
    assert third["version"] == 3
    assert await title(world, "north") == "third"
    # a version that is named is written anew in its place, also one that was withdrawn
    again = await publish(world, "second, corrected", version=2)
    assert again == {**second, "title": "second, corrected", "body": "# second, corrected"}
    assert await title(world, "north") == "third"
    await publish(world, "ninth", version=9)
    assert await title(world, "north") == "ninth"
    assert (await publish(world, "tenth"))["version"] == 10
    listed = "{ helpTopics(first: 9, filter: {language: {eq: ZH_TW}}) { totalCount nodes { title } } }"
    assert (await world.data("admin", listed))["helpTopics"] == {"totalCount": 1, "nodes": [{"title": "other"}]}


@pytest.mark.feature("S2-25")
async def test_versions_that_are_written_at_once_all_stay(world: World) -> None:
    made = await asyncio.gather(*(publish(world, f"text {n}") for n in range(6)))
    assert sorted(one["version"] for one in made) == [1, 2, 3, 4, 5, 6]
    stored = await rows(world, "help_topic")
    assert {row["version"]: row["title"] for row in stored} == {one["version"]: one["title"] for one in made}


@pytest.mark.feature("S2-25")
async def test_refused_topics_change_nothing(world: World) -> None:
    made = await publish(world, "kept")
    before = await rows(world, "help_topic")
    good = {"kind": "DOC", "pageKey": "sim.cards", "language": "EN", "title": "T", "body": "B"}
    for change, code, field in (
        ({"pageKey": "two words"}, "INVALID", "pageKey"),
        ({"pageKey": ""}, "REQUIRED", "pageKey"),
        ({"blockKey": "<b>"}, "INVALID", "blockKey"),
        ({"title": " "}, "REQUIRED", "title"),
        ({"title": "x" * 201}, "INVALID", "title"),
        ({"body": " "}, "REQUIRED", "body"),
        ({"body": "x" * 50_001}, "INVALID", "body"),
        ({"role": "emperor"}, "INVALID", "role"),
        ({"version": 0}, "NOT_POSITIVE", "version"),
    ):
        payload = (await world.data("admin", UPSERT, {"input": {**good, **change}}))["upsertHelpTopic"]
        assert payload == {"helpTopic": None, "errors": [{"code": code, "field": field}]}, change
    missing = (await world.data("admin", WITHDRAW, {"id": encode_id("hlp", 10**9)}))["withdrawHelpTopic"]
    assert missing["errors"] == [{"code": "NOT_FOUND", "field": "id"}]
    await make_member(world, "north", "acme")
    for caller in ("operations", "finance", "sales", "north", "acme"):
        assert await world.codes(caller, UPSERT, {"input": good}) == ["FORBIDDEN"], caller
        assert await world.codes(caller, WITHDRAW, {"id": made["id"]}) == ["FORBIDDEN"], caller
        assert await world.codes(caller, "{ helpTopics(first: 1) { nodes { id } } }") == ["FORBIDDEN"], caller
        # the way past the membership: a topic by its id
        assert await world.data(caller, f'{{ node(id: "{made["id"]}") {{ id }} }}') == {"node": None}
    assert await rows(world, "help_topic") == before


DANGEROUS = [
    "[x](javascript:alert(1))",
    "[x]( <javascript:alert(1)> )",
    "[x](JaVaScRiPt:alert(1) 'title')",
    "![x](data:text/html;base64,PHN2Zz4=)",
    "[x](vbscript:msgbox)",
    "[x](file:///etc/passwd)",
    "[x](javascript\\:alert)",
    "[x](&#106;avascript&colon;alert)",
    "[x](\x01javascript:alert)",
    "text\n\n[ref]: javascript:alert(1)\n",
    "> [ref]:\n  javascript:alert(1)",
    "<javascript:alert(1)>",
    '<a href="java\tscript:alert(1)">x</a>',
    "<a href=javascript:alert(1)>x</a>",
    "<img src='data:image/svg+xml,<svg>'>",
    '<form action="&#x6A;avascript:alert(1)">',
]
HARMLESS = [
    "[x](https://example.com/a?b=javascript:c) and [y](/cards#top), [z](mailto:help@example.com), [t](tel:+8610)",
    "JavaScript: how it is written. Data: the numbers. A note: read [this](../b.md).[^1]\n\n[^1]: Note: a footnote.",
    "<https://example.com> and ![chart](charts/usage.png 'Usage')\n\n[ref]: https://example.com/javascript:\n",
    '<a href="//example.com/">x</a> [relative](./page:2)',
]


@pytest.mark.feature("S2-25")
async def test_a_topic_links_to_nothing_dangerous(world: World) -> None:
    good = {"kind": "DOC", "pageKey": "sim.cards", "language": "EN", "title": "T"}
    for body in DANGEROUS:
        payload = (await world.data("admin", UPSERT, {"input": {**good, "body": body}}))["upsertHelpTopic"]
        assert payload == {"helpTopic": None, "errors": [{"code": "UNSAFE_LINK", "field": "body"}]}, body
    assert await rows(world, "help_topic") == []
    for version, body in enumerate(HARMLESS, start=1):
        assert (await publish(world, "T", kind="DOC", body=body))["version"] == version, body


# -- membership ----------------------------------------------------------------------------------------------------


@pytest.mark.feature("S2-26")
async def test_help_needs_a_membership_and_the_platforms_staff_does_not(world: World) -> None:
    await publish(world, "for members")
    asked = {"kind": "GUIDE", "pageKey": "sim.cards"}
    for caller in ("north", "north-east", "acme"):
        assert (await world.data(caller, READ, asked))["helpTopic"] == REQUIRED, caller
        # whether there is a topic at all is not told either
        assert (await world.data(caller, READ, {**asked, "pageKey": "other"}))["helpTopic"] == REQUIRED
    for caller in ("admin", "operations", "finance", "sales"):
        assert await title(world, caller) == "for members", caller
    answer = await world.run("north", READ, asked, language="zh-CN")
    assert answer["data"]["helpTopic"]["errors"][0]["message"] == "引导与文档需会员方可使用。"
    await make_member(world, "north", days=0)
    assert await title(world, "north") == "for members"
    # a company's membership is its own: neither those above nor those below share it
    for caller in ("north-east", "south"):
        assert (await world.data(caller, READ, asked))["helpTopic"] == REQUIRED, caller
    await make_member(world, "north-east")
    assert await title(world, "north-east") == "for members"
    await world.sql("UPDATE membership_grant SET until = $1", today(world) - timedelta(days=1))
    assert (await world.data("north", READ, asked))["helpTopic"] == REQUIRED
    refused = (await world.client.post("agent", READ, asked)).json()
    assert [error["extensions"]["code"] for error in refused["errors"]] == ["UNAUTHENTICATED"]


@pytest.mark.feature("S2-26")
async def test_the_last_day_ends_with_the_tenants_own_day(world: World) -> None:
    await publish(world, "for members")
    zones = ("Etc/GMT+12", "Pacific/Kiritimati")
    days = [datetime.now(UTC).astimezone(ZoneInfo(zone)).date() for zone in zones]
    assert days[0] < days[1]
    north = world.tenants["north"]
    await world.sql(
        "INSERT INTO membership_grant (tenant_id, tenant_path, until, source) VALUES ($1, $2, $3, 'GIFT')",
        north.id,
        north.path,
        days[0],
    )
    for zone, expected in zip(zones, (True, False), strict=True):
        await world.sql("UPDATE tenant SET time_zone = $1 WHERE id = $2", zone, north.id)
        async with world.client.application.runtime.database.transaction(system("test")) as session:
            assert await guidance.is_member(session, north.id) is expected
    past = {"tenant": world.id("north"), "until": str(days[0]), "source": "GIFT"}
    payload = (await world.data("operations", GRANT, {"input": past}))["grantMembership"]
    assert payload["errors"] == [{"code": "PAST", "field": "until"}]


@pytest.mark.feature("S2-26")
@pytest.mark.parametrize("caller", ["admin", "operations", "sales"])
async def test_a_membership_is_extended_and_its_history_kept(world: World, caller: str) -> None:
    day = today(world)
    for days, source in ((10, "GIFT"), (40, "RENEWAL")):
        until = str(day + timedelta(days=days))
        input = {"tenant": world.id("north"), "until": until, "source": source, "remark": "order 7"}
        assert (await world.data(caller, GRANT, {"input": input}))["grantMembership"] == {
            "membershipGrant": {
                "until": until, "source": source, "remark": "order 7", "tenant": {"id": world.id("north")},
            },
            "errors": [],
        }  # fmt: skip
    before = await rows(world, "membership_grant")
    assert [(row["until"], row["source"]) for row in before] == [
        (day + timedelta(days=10), "GIFT"), (day + timedelta(days=40), "RENEWAL"),
    ]  # fmt: skip
    for tenant, days, code, field in (
        (world.id("north"), 40, "NOT_LATER", "until"),
        (world.id("north"), 20, "NOT_LATER", "until"),
        (world.id("north"), -1, "PAST", "until"),
        (encode_id("ten", 10**9), 20, "NOT_FOUND", "tenant"),
        (encode_id("sim", 1), 20, "INVALID_ID", "tenant"),
    ):
        input = {"tenant": tenant, "until": str(day + timedelta(days=days)), "source": "RENEWAL"}
        payload = (await world.data(caller, GRANT, {"input": input}))["grantMembership"]
        assert payload == {"membershipGrant": None, "errors": [{"code": code, "field": field}]}, code
    # what is written of the past cannot be changed, by no program either
    rights = await world.sql(
        "SELECT privilege_type FROM information_schema.role_table_grants "
        "WHERE grantee = 'trellis_app' AND table_name = 'membership_grant' ORDER BY 1"
    )
    assert [row["privilege_type"] for row in rights] == ["INSERT", "SELECT"]
    # who the member is knows of it; a sibling, and those below, do not
    mine = (await world.data("north", GRANTS))["membershipGrants"]["nodes"]
    assert [(node["until"], node["source"]) for node in mine] == [
        (str(day + timedelta(days=10)), "GIFT"), (str(day + timedelta(days=40)), "RENEWAL"),
    ]  # fmt: skip
    for other in ("south", "north-east", "acme"):
        assert (await world.data(other, GRANTS))["membershipGrants"]["nodes"] == []
    assert len((await world.data("finance", GRANTS))["membershipGrants"]["nodes"]) == 2
    for field in ("remark", "tenant { id }"):
        query = f"{{ membershipGrants(first: 1) {{ nodes {{ {field} }} }} }}"
        assert await world.codes("north", query) == ["FORBIDDEN"]
    for other in ("finance", "north", "acme"):
        input = {"tenant": world.id("north"), "until": str(day + timedelta(days=99)), "source": "GIFT"}
        assert await world.codes(other, GRANT, {"input": input}) == ["FORBIDDEN"], other
    assert await rows(world, "membership_grant") == before


@pytest.mark.feature("S2-26")
async def test_of_many_grants_at_once_none_shortens(world: World) -> None:
    day = today(world)
    inputs = [
        {"tenant": world.id("north"), "until": str(day + timedelta(days=days)), "source": "RENEWAL"}
        for days in (5, 3, 9, 9, 1, 7)
    ]
    answers = await asyncio.gather(*(world.data("operations", GRANT, {"input": input}) for input in inputs))
    codes = {error["code"] for answer in answers for error in answer["grantMembership"]["errors"]}
    assert codes <= {"NOT_LATER"}
    granted = [row["until"] for row in await rows(world, "membership_grant")]
    assert granted == sorted(set(granted))
    assert granted[-1] == day + timedelta(days=9)


# -- everybody's doors ---------------------------------------------------------------------------------------------


@pytest.mark.feature("S4-55")
async def test_a_merchant_reads_its_operating_guide(world: World) -> None:
    """At the merchants' own door, as they ship it: the same topics, in the text that is written for merchants."""
    async with world.client.application.runtime.database.transaction(system("test")) as session:
        await add_account(session, world.tenants["north"], "merchant", "merchant_admin", password_hash())
    token = await world.client.token("merchant", "merchant", PASSWORD)
    await publish(world, "everybody's", pageKey="store.orders")
    await publish(world, "merchants'", pageKey="store.orders", role="merchant_admin")
    shipped = next(
        text for text in world.client.application.doors["merchant"].operations.values() if "query HelpTopic" in text
    )
    asked = {"kind": "GUIDE", "pageKey": "store.orders"}
    answer = (await world.client.post("merchant", shipped, asked, token=token)).json()["data"]["helpTopic"]
    assert answer == REQUIRED
    await make_member(world, "north")
    answer = (await world.client.post("merchant", shipped, asked, token=token)).json()["data"]["helpTopic"]
    assert (answer["topic"]["title"], answer["errors"]) == ("merchants'", [])


@pytest.mark.feature("S2-26")
async def test_an_end_user_reads_by_the_membership_of_who_serves_them(world: World) -> None:
    await publish(world, "for people", role="end_user")
    runtime = world.client.application.runtime
    person = Principal(
        PrincipalKind.END_USER,
        "wechat",
        runtime.access.grants_of(["end_user"], ROOT_PATH),
        end_user_id=world.end_users["north"].id,
        roles=("end_user",),
    )
    asked = (runtime, person, HelpKind.GUIDE, "sim.cards", None, Language.EN)
    with pytest.raises(Refusal, match="membership"):
        await guidance.topic(*asked)
    await make_member(world, "north-east")
    with pytest.raises(Refusal, match="membership"):
        await guidance.topic(*asked)
    await make_member(world, "north")
    found = await guidance.topic(*asked)
    assert found is not None
    assert found.title == "for people"
