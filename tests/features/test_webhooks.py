"""Webhooks as partners' engineers live with them: who is told of what, how it is signed, and that it arrives."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import hmac
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gateways.webhook import AddressError, checked, is_public, post
from planner.ids import encode_id
from server.settings import PROJECT
from services.api_keys import tell_of_expiring
from services.webhook.delivery import AT_ONCE, OF_ONE, deliver_due, pause
from services.webhook.events import CATALOGUE, MAX_ATTEMPTS
from tasks.outbox import relay_events
from tests.support.partner import signed
from tests.support.receiver import Receiver, receiving
from tests.support.world import World

ENDPOINT = "webhookEndpoint { id url events status disabledAt previousSecretUntil }"
CREATE = f"""mutation($input: CreateWebhookEndpointInput!) {{ createWebhookEndpoint(input: $input) {{
    {ENDPOINT} secret errors {{ code field }} }} }}"""
UPDATE = f"""mutation($input: UpdateWebhookEndpointInput!) {{ updateWebhookEndpoint(input: $input) {{
    {ENDPOINT} secret errors {{ code field }} }} }}"""
ROTATE = f"""mutation($id: ID!, $hours: Int! = 24) {{ rotateWebhookSecret(endpoint: $id, overlapHours: $hours) {{
    {ENDPOINT} secret errors {{ code field }} }} }}"""
DELETE = "mutation($id: ID!) { deleteWebhookEndpoint(endpoint: $id) { done errors { code field } } }"
PING = """mutation($id: ID!) { pingWebhookEndpoint(endpoint: $id) {
    webhookDelivery { id status eventType } errors { code field } } }"""
REDELIVER = """mutation($id: ID!) { redeliverWebhook(id: $id) {
    webhookDelivery { id status } errors { code field } } }"""
ENDPOINTS = "{ webhookEndpoints(first: 50) { nodes { id url status events } } }"
DELIVERIES = """{ webhookDeliveries(first: 50, orderBy: [{field: ID}]) { nodes {
    id eventKey eventType status attempts finishedAt endpoint { id }
    log(first: 20) { nodes { statusCode durationMs answer error } } } } }"""
SUSPEND = """mutation($input: ChangeSimStatusInput!) { suspendSimCards(input: $input) {
    count errors { code } } }"""
ALLOCATE = """mutation($input: AllocateSimCardsInput!) { allocateSimCards(input: $input) {
    count errors { code } } }"""
BOTH = ["SIM_ALLOCATED", "SIM_STATUS_CHANGED"]
PUBLIC = "https://192.0.0.9/hook"
"""An address in the public Internet, which nobody looks up; nothing is sent there."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


@pytest.fixture
def inside(world: World) -> World:
    """The world of a developer, whose webhooks may go to loopback."""
    endpoint = world.client.application.endpoint
    endpoint.runtime = dataclasses.replace(endpoint.runtime, webhooks_inside=True)
    return world


async def change(world: World, account: str, mutation: str, variables: dict[str, Any]) -> dict[str, Any]:
    (payload,) = (await world.data(account, mutation, variables)).values()
    found: dict[str, Any] = payload
    return found


async def registered(world: World, account: str, url: str, events: list[str] | None = None) -> tuple[str, str]:
    """(id, secret) of a new endpoint."""
    payload = await change(world, account, CREATE, {"input": {"url": url, "events": events or BOTH}})
    assert payload["errors"] == []
    return payload["webhookEndpoint"]["id"], payload["secret"]


async def refused(world: World, account: str, mutation: str, variables: dict[str, Any]) -> tuple[str, str | None]:
    payload = await change(world, account, mutation, variables)
    (error,) = payload["errors"]
    assert [value for name, value in payload.items() if name != "errors" and value] == []
    return error["code"], error["field"]


async def suspend(world: World, account: str, cards: list[str], key: str = "k") -> None:
    payload = await change(world, account, SUSPEND, {"input": {"cards": {"ids": cards}, "idempotencyKey": key}})
    assert payload == {"count": len(cards), "errors": []}


def active(world: World, tenant: str) -> list[str]:
    return [encode_id("sim", card.id) for card in world.cards[tenant] if card.status.name == "ACTIVE"]


async def relay(world: World) -> int:
    """As the relay does: the tasks that it would start are none of this test's business."""
    return await relay_events(world.client.application.runtime.database, lambda *_: None)


async def deliver(world: World) -> int:
    runtime = world.client.application.runtime
    return await deliver_due(runtime.database, runtime.keys, inside=True)


async def tell(world: World) -> int:
    await relay(world)
    return await deliver(world)


async def time_passes(world: World) -> None:
    await world.sql(
        "UPDATE webhook_delivery SET next_attempt_at = now() - interval '1 second' WHERE status = 'PENDING'"
    )


async def deliveries(world: World, account: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await world.data(account, DELIVERIES))["webhookDeliveries"]["nodes"]
    return found


def verified(secret: str, header: str, body: str, now: float | None = None) -> bool:
    """As the documentation tells a receiver to do it."""
    parts = [part.partition("=") for part in header.split(",")]
    timestamp = next(value for name, _, value in parts if name == "t")
    expected = hmac.new(secret.encode(), f"{timestamp}.{body}".encode(), hashlib.sha256).hexdigest()
    fresh = abs((now or time.time()) - int(timestamp)) < 300
    return fresh and any(name == "v1" and hmac.compare_digest(value, expected) for name, _, value in parts)


# -- who is told of what ------------------------------------------------------------------------------------------


@pytest.mark.feature("S0-54")
async def test_a_change_is_told_to_its_tenant_and_those_above_and_to_no_neighbour(inside: World) -> None:
    with receiving() as own, receiving() as above, receiving() as below, receiving() as beside, receiving() as platform:
        receivers = {
            "north-east": own, "north": above, "coast": below, "south": beside, "acme": beside, "admin": platform,
        }  # fmt: skip
        for account, one in receivers.items():
            await registered(inside, account, one.url)
        cards = active(inside, "north-east")
        await suspend(inside, "north-east", cards)
        assert await tell(inside) == 3
        bodies = [json.loads(one.received[0].body) for one in (own, above, platform)]
        assert bodies[0] == bodies[1] == bodies[2]
        assert (below.received, beside.received) == ([], [])
        assert {name: bodies[0][name] for name in ("type", "apiVersion", "data")} == {
            "type": "sim.status_changed",
            "apiVersion": "2026-11",
            "data": {
                "tenant": inside.id("north-east"),
                "action": "SUSPEND",
                "status": "SUSPENDED",
                "simCards": cards,
            },
        }
        (event,) = await inside.sql("SELECT key, created_at FROM outbox_event WHERE topic = 'sim.status-changed'")
        assert bodies[0]["id"] == str(event["key"])
        assert datetime.fromisoformat(bodies[0]["time"]) == event["created_at"]
        assert {one.received[0].headers["trellis-event-id"] for one in (own, above, platform)} == {bodies[0]["id"]}
        # every id can be read by who was told
        for account in ("north-east", "north"):
            nodes = "query($ids: [ID!]!) { nodes(ids: $ids) { id } }"
            ids = [bodies[0]["data"]["tenant"], *cards]
            assert (await inside.data(account, nodes, {"ids": ids}))["nodes"] == [{"id": id} for id in ids]


@pytest.mark.feature("S0-14", "S0-30")
async def test_cards_handed_down_are_told_to_who_receives_them(inside: World) -> None:
    with receiving() as north, receiving() as east, receiving() as south:
        for account, one in (("north", north), ("north-east", east), ("south", south)):
            await registered(inside, account, one.url)
        card = next(c for c in inside.cards["north"] if c.status.name == "ALLOCATED")
        id = encode_id("sim", card.id)
        input = {"to": inside.id("north-east"), "cards": {"ids": [id]}, "holding": "OWNED", "idempotencyKey": "k"}
        assert (await change(inside, "north", ALLOCATE, {"input": input}))["errors"] == []
        assert await tell(inside) == 2
        for one in (north, east):
            body = json.loads(one.received[0].body)
            assert (body["type"], body["data"]) == (
                "sim.allocated",
                {"tenant": inside.id("north-east"), "simCards": [id]},
            )
        assert south.received == []


@pytest.mark.feature("S0-54")
async def test_a_refused_change_tells_nothing_and_a_large_one_tells_in_parts(inside: World, receiver: Receiver) -> None:
    await registered(inside, "south", receiver.url)
    stopped = encode_id("sim", inside.cards["south"][4].id)
    input = {"cards": {"ids": [active(inside, "south")[0], stopped]}, "idempotencyKey": "k"}
    assert (await change(inside, "south", SUSPEND, {"input": input}))["errors"] == [{"code": "WRONG_STATUS"}]
    assert await tell(inside) == 0
    await inside.sql(
        """INSERT INTO sim_card (tenant_id, tenant_path, iccid, carrier, sim_type, entry_mode, status, supplier_id)
        SELECT tenant_id, tenant_path, lpad((8986009900000000000 + n)::text, 19, '0'), carrier, sim_type, entry_mode,
               'ACTIVE', supplier_id FROM sim_card, generate_series(1, 120) n WHERE id = $1""",
        inside.cards["south"][1].id,
    )
    rows = await inside.sql("SELECT id FROM sim_card WHERE iccid LIKE '8986009%' ORDER BY id")
    cards = [encode_id("sim", row["id"]) for row in rows] + active(inside, "south-west")
    await suspend(inside, "south", cards)
    assert await tell(inside) == 3
    told = [json.loads(one.body)["data"] for one in receiver.received]
    assert sorted(len(data["simCards"]) for data in told) == [3, 20, 100]
    assert sorted(card for data in told for card in data["simCards"]) == sorted(cards)
    assert {data["tenant"] for data in told} == {inside.id("south"), inside.id("south-west")}


async def test_an_endpoint_that_lets_everybody_wait_holds_up_nobody_else(inside: World, receiver: Receiver) -> None:
    receiver.holding = threading.Event()
    await registered(inside, "south", receiver.url)
    with receiving() as quick:
        for number, card in enumerate(active(inside, "south") * 3):
            await suspend(inside, "south", [card], f"s{number}")
            await inside.sql("UPDATE sim_card SET status = 'ACTIVE' WHERE status = 'SUSPENDED'")
        await registered(inside, "acme", quick.url)
        await suspend(inside, "acme", active(inside, "acme")[:1])
        await relay(inside)
        waiting = await inside.sql("SELECT count(*) AS n FROM webhook_delivery WHERE status = 'PENDING'")
        assert waiting[0]["n"] > AT_ONCE
        under_way = asyncio.create_task(deliver(inside))
        assert await asyncio.to_thread(quick.arrived.wait, 8)
        assert len(receiver.received) == OF_ONE
        receiver.holding.set()
        assert await under_way == waiting[0]["n"]
    assert len(receiver.received) == waiting[0]["n"] - 1


@pytest.mark.feature("S0-03", "S0-05")
async def test_the_platform_is_told_of_tasks_that_have_ended(inside: World, receiver: Receiver) -> None:
    await registered(inside, "admin", receiver.url, ["TASK_FINISHED"])
    upload = "mutation($file: Upload!) { importSimCards(file: $file) { task { id } errors { code } } }"
    token = await inside.token("operations")
    lines = ["ICCID,运营商,供应商,卡类型,套餐编码", "89860042000000000019,CMCC,移动OneLink,机械卡,CM-M-1G"]
    expected = []
    for content, status in (("\n".join(lines).encode(), "SUCCEEDED"), (b"\x00\x01nonsense", "FAILED")):
        made = (await inside.client.upload("admin", upload, ("cards.csv", content), token)).json()
        await inside.client.work_off()
        await tell(inside)
        expected.append({"task": made["data"]["importSimCards"]["task"]["id"], "status": status})
    assert [json.loads(one.body)["data"] for one in receiver.received] == expected
    assert {json.loads(one.body)["type"] for one in receiver.received} == {"task.finished"}


@pytest.mark.feature("S0-54")
async def test_a_key_about_to_end_is_told_of(inside: World, receiver: Receiver) -> None:
    await registered(inside, "south", receiver.url, ["API_KEY_EXPIRING"])
    await inside.sql("UPDATE api_key SET expires_at = now() + interval '13 days' WHERE key IN ('tk_south', 'tk_north')")
    assert await tell_of_expiring(inside.client.application.runtime.database) == 2
    assert await tell(inside) == 1
    body = json.loads(receiver.received[0].body)
    key = encode_id("key", inside.api_keys["south"].id)
    assert (body["type"], body["data"]) == ("api_key.expiring", {"apiKey": key})


async def test_who_may_not_read_a_thing_is_not_told_of_it(world: World) -> None:
    input = {"url": PUBLIC, "events": ["SIM_ALLOCATED", "TASK_FINISHED"]}
    assert await refused(world, "south", CREATE, {"input": input}) == ("EVENT_NOT_READABLE", "events")
    assert await refused(world, "south", CREATE, {"input": {"url": PUBLIC, "events": []}}) == ("REQUIRED", "events")
    assert await world.sql("SELECT id FROM webhook_endpoint") == []
    id, _ = await registered(world, "south", PUBLIC)
    input = {"id": id, "events": ["TASK_FINISHED"]}
    assert await refused(world, "south", UPDATE, {"input": input}) == ("EVENT_NOT_READABLE", "events")
    assert {told.subject for told in CATALOGUE.values()} == {
        "SimCard",
        "PackageOrder",
        "Task",
        "ApiKey",
        "WebhookEndpoint",
    }


async def test_a_suspended_company_is_told_nothing(inside: World, receiver: Receiver) -> None:
    await registered(inside, "north-east", receiver.url)
    await suspend(inside, "north-east", active(inside, "north-east")[:1])
    await relay(inside)
    set_status = """mutation($id: ID!, $status: TenantStatus!) { setTenantStatus(input: {id: $id, status: $status}) {
        errors { code } } }"""
    north = {"id": inside.id("north")}
    await change(inside, "admin", set_status, {**north, "status": "SUSPENDED"})
    assert await deliver(inside) == 0
    await change(inside, "admin", set_status, {**north, "status": "ACTIVE"})
    assert await deliver(inside) == 1


# -- whose endpoints ----------------------------------------------------------------------------------------------


@pytest.mark.feature("S0-54")
async def test_a_company_has_its_own_endpoints_and_nobody_beside_it_sees_them(world: World) -> None:
    made = {account: (await registered(world, account, PUBLIC))[0] for account in ("acme", "north-east", "south")}
    seen = {
        account: {node["id"] for node in (await world.data(account, ENDPOINTS))["webhookEndpoints"]["nodes"]}
        for account in ("acme", "north-east", "north", "coast", "south", "south-west", "admin", "operations")
    }
    everything = set(made.values())
    assert seen == {
        "acme": {made["acme"]},
        "north-east": {made["north-east"]},
        "north": {made["north-east"]},
        "coast": set(),
        "south": {made["south"]},
        "south-west": set(),
        "admin": everything,
        "operations": everything,
    }
    for account in ("sales", "finance"):
        assert await world.codes(account, ENDPOINTS) == ["FORBIDDEN"]
        input = {"url": PUBLIC, "events": BOTH}
        assert await world.codes(account, CREATE, {"input": input}) == ["FORBIDDEN"]
    before = await world.sql("SELECT * FROM webhook_endpoint ORDER BY id")
    foreign = {"id": made["south"]}
    for account in ("acme", "north-east", "south-west"):
        for mutation in (DELETE, ROTATE, PING):
            assert await refused(world, account, mutation, foreign) == ("NOT_FOUND", "endpoint")
        assert await refused(world, account, UPDATE, {"input": {**foreign, "active": False}}) == ("NOT_FOUND", "id")
        input = {"tenant": world.id("south"), "url": PUBLIC, "events": BOTH}
        assert await refused(world, account, CREATE, {"input": input}) == ("NOT_FOUND", "tenant")
    for mutation, variables in (
        (DELETE, foreign),
        (ROTATE, foreign),
        (UPDATE, {"input": {**foreign, "active": False}}),
    ):
        assert await world.codes("operations", mutation, variables) == ["FORBIDDEN"]
    assert await world.sql("SELECT * FROM webhook_endpoint ORDER BY id") == before
    assert await world.sql("SELECT id FROM webhook_delivery") == []


@pytest.mark.feature("S0-54")
async def test_a_partners_key_reads_the_log_and_repeats_but_registers_nothing(
    inside: World, receiver: Receiver
) -> None:
    id, _ = await registered(inside, "south", receiver.url)
    await registered(inside, "north", receiver.url)
    ping = f'mutation {{ pingWebhookEndpoint(endpoint: "{id}") {{ webhookDelivery {{ id }} errors {{ code }} }} }}'
    assert (await signed(inside, ping, key="tk_south")).json()["data"]["pingWebhookEndpoint"]["errors"] == []
    answer = (await signed(inside, ping, key="tk_north")).json()
    assert answer["data"]["pingWebhookEndpoint"]["errors"] == [{"code": "NOT_FOUND"}]
    seen = (await signed(inside, ENDPOINTS, key="tk_south")).json()["data"]["webhookEndpoints"]["nodes"]
    assert [node["id"] for node in seen] == [id]
    gone = f'mutation {{ deleteWebhookEndpoint(endpoint: "{id}") {{ done }} }}'
    assert (await signed(inside, gone, key="tk_south")).status_code == 403


async def test_an_endpoints_secret_is_shown_once_and_stored_encrypted(world: World) -> None:
    input = {"url": PUBLIC, "events": BOTH, "idempotencyKey": "once"}
    first = await change(world, "south", CREATE, {"input": input})
    again = await change(world, "south", CREATE, {"input": input})
    secret = first["secret"]
    assert secret.startswith("whsec_")
    assert again == {**first, "secret": None}
    (row,) = await world.sql("SELECT to_jsonb(e)::text AS whole FROM webhook_endpoint e")
    (log,) = await world.sql("SELECT string_agg(o::text, '') AS said FROM operation_record o")
    for text in (row["whole"], log["said"]):
        assert secret not in text
        assert secret.encode().hex() not in text


async def test_a_company_has_at_most_twenty_endpoints(world: World) -> None:
    for _ in range(19):
        await registered(world, "south", PUBLIC)
    answers = await asyncio.gather(
        *(change(world, "south", CREATE, {"input": {"url": PUBLIC, "events": BOTH}}) for _ in range(3))
    )
    assert sorted(error["code"] for answer in answers for error in answer["errors"]) == ["TOO_MANY", "TOO_MANY"]
    assert len(await world.sql("SELECT id FROM webhook_endpoint")) == 20


# -- where it may go ----------------------------------------------------------------------------------------------

INSIDE = [
    "https://127.0.0.1/", "https://localhost/", "https://10.1.2.3/", "https://172.16.0.1/", "https://192.168.1.1/",
    "https://169.254.169.254/latest/meta-data", "https://100.64.0.1/", "https://0.0.0.0/", "https://224.0.0.1/",
    "https://[::1]/", "https://[fe80::1]/", "https://[fc00::1]/", "https://[::ffff:10.0.0.1]/",
    "https://[64:ff9b::a00:1]/", "https://[2002:a00:1::]/", "https://[::]/", "https://2130706433/", "https://0x7f.1/",
]  # fmt: skip


@pytest.mark.parametrize("url", INSIDE)
async def test_an_address_inside_is_refused(world: World, url: str) -> None:
    code, field = await refused(world, "south", CREATE, {"input": {"url": url, "events": BOTH}})
    assert (code, field) in (("ADDRESS_NOT_ALLOWED", "url"), ("HOST_NOT_FOUND", "url"))
    if not url.startswith(("https://2130706433", "https://0x7f")):
        assert code == "ADDRESS_NOT_ALLOWED"
    id, _ = await registered(world, "south", PUBLIC)
    assert (await refused(world, "south", UPDATE, {"input": {"id": id, "url": url}}))[0] == code
    assert [row["url"] for row in await world.sql("SELECT url FROM webhook_endpoint")] == [PUBLIC]


@pytest.mark.parametrize(
    "url",
    ["", "hook", "http://192.0.0.9/", "http://127.0.0.1/", "ftp://192.0.0.9/", "https://",
     "https://user:word@192.0.0.9/",
     "https://192.0.0.9/#here", "https://192.0.0.9:99999/", "https://192.0.0.9/\x00",
     "https://192.0.0.9/" + "x" * 2000],
)  # fmt: skip
async def test_what_is_no_https_address_is_refused(world: World, url: str) -> None:
    assert await refused(world, "south", CREATE, {"input": {"url": url, "events": BOTH}}) == ("INVALID_URL", "url")
    assert await world.sql("SELECT id FROM webhook_endpoint") == []


async def test_a_developer_may_use_http_on_loopback_and_nowhere_else() -> None:
    assert (await checked("http://127.0.0.1:9/", inside=True)).is_loopback
    assert str(await checked("https://10.0.0.1/", inside=True)) == "10.0.0.1"
    for url in ("http://10.0.0.1/", "http://192.0.0.9/"):
        with pytest.raises(AddressError, match="INVALID_URL"):
            await checked(url, inside=True)
    assert is_public(await checked(PUBLIC, inside=False))


async def test_an_address_is_checked_again_when_it_is_called(inside: World, receiver: Receiver) -> None:
    """A name that pointed outside when it was registered, and points inside now, is not followed."""
    answer = await post(receiver.url.replace("http:", "https:"), "{}", {}, inside=False)
    assert (answer.status_code, answer.text, answer.error) == (None, None, "ADDRESS_NOT_ALLOWED")
    id, _ = await registered(inside, "south", receiver.url)
    await change(inside, "south", PING, {"id": id})
    runtime = inside.client.application.runtime
    assert await deliver_due(runtime.database, runtime.keys, inside=False) == 1
    (row,) = await deliveries(inside, "south")
    assert [attempt["error"] for attempt in row["log"]["nodes"]] == ["INVALID_URL"]
    assert receiver.received == []


async def test_a_redirect_is_an_answer_and_is_not_followed(inside: World, receiver: Receiver) -> None:
    with receiving() as elsewhere:
        receiver.location, receiver.statuses = elsewhere.url, [307]
        id, _ = await registered(inside, "south", receiver.url)
        await change(inside, "south", PING, {"id": id})
        await deliver(inside)
        (row,) = await deliveries(inside, "south")
        assert (row["status"], row["log"]["nodes"][0]["statusCode"]) == ("FAILED", 307)
        assert elsewhere.received == []


# -- the signature ------------------------------------------------------------------------------------------------


@pytest.mark.feature("S0-54")
async def test_a_delivery_is_signed_with_the_endpoints_secret(inside: World, receiver: Receiver) -> None:
    id, first = await registered(inside, "south", receiver.url)

    async def ping() -> tuple[str, str]:
        assert (await change(inside, "south", PING, {"id": id}))["errors"] == []
        assert await deliver(inside) == 1
        return receiver.received[-1].headers["trellis-signature"], receiver.received[-1].body

    header, body = await ping()
    event = json.loads(body)
    assert (event["type"], event["data"], event["apiVersion"]) == ("ping", {}, "2026-11")
    assert receiver.received[0].headers["content-type"] == "application/json"
    assert verified(first, header, body)
    assert not verified(first, header, body + " ")
    assert not verified("whsec_another", header, body)
    assert not verified(first, header, body, now=time.time() + 301)

    second = (await change(inside, "south", ROTATE, {"id": id}))["secret"]
    header, body = await ping()
    assert verified(first, header, body)
    assert verified(second, header, body)
    await inside.sql("UPDATE webhook_endpoint SET previous_secret_until = now() - interval '1 second'")
    header, body = await ping()
    assert (verified(first, header, body), verified(second, header, body)) == (False, True)
    third = (await change(inside, "south", ROTATE, {"id": id, "hours": 0}))["secret"]
    header, body = await ping()
    assert (verified(second, header, body), verified(third, header, body)) == (False, True)
    for hours in (-1, 169):
        assert await refused(inside, "south", ROTATE, {"id": id, "hours": hours}) == ("INVALID", "overlapHours")


# -- that it arrives ----------------------------------------------------------------------------------------------


async def test_a_failed_attempt_is_repeated_later_with_the_same_event(inside: World, receiver: Receiver) -> None:
    receiver.statuses, receiver.says = [500, 503], "no" * 2000
    await registered(inside, "south", receiver.url)
    await suspend(inside, "south", active(inside, "south")[:1])
    assert await tell(inside) == 1
    assert await deliver(inside) == 0
    (row,) = await inside.sql("SELECT next_attempt_at - now() AS wait, status FROM webhook_delivery")
    assert timedelta(seconds=5) < row["wait"] <= timedelta(seconds=12.5)
    await time_passes(inside)
    assert await deliver(inside) == 1
    await time_passes(inside)
    assert await deliver(inside) == 1
    assert len(set(receiver.ids)) == 1
    assert len({one.body for one in receiver.received}) == 1
    (row,) = await deliveries(inside, "south")
    assert (row["status"], row["attempts"], row["eventKey"]) == ("SUCCEEDED", 3, receiver.ids[0])
    assert row["finishedAt"] is not None
    attempts = row["log"]["nodes"]
    assert [one["statusCode"] for one in attempts] == [500, 503, 200]
    assert {one["answer"] for one in attempts} == {"no" * 1024}
    assert all(0 <= one["durationMs"] < 10_000 and one["error"] is None for one in attempts)
    await time_passes(inside)
    assert await deliver(inside) == 0


def test_pauses_grow_fourfold_with_jitter_up_to_six_hours() -> None:
    for attempts, seconds in ((1, 10), (2, 40), (3, 160), (4, 640), (5, 2560), (6, 10240), (7, 21600), (9, 21600)):
        found = [pause(attempts).total_seconds() for _ in range(200)]
        assert min(found) >= seconds * 0.75
        assert max(found) <= seconds * 1.25
        assert len(set(found)) > 100


async def test_an_endpoint_that_never_answers_is_switched_off_with_a_notice(inside: World, receiver: Receiver) -> None:
    with receiving() as other:
        dead, _ = await registered(inside, "south", receiver.url)
        await registered(inside, "south", other.url, ["WEBHOOK_DISABLED"])
        receiver.statuses = [500] * MAX_ATTEMPTS
        await suspend(inside, "south", active(inside, "south")[:1])
        await relay(inside)
        for _ in range(MAX_ATTEMPTS - 1):
            assert await deliver(inside) == 1
            await time_passes(inside)
        assert {n["status"] for n in (await inside.data("south", ENDPOINTS))["webhookEndpoints"]["nodes"]} == {"ACTIVE"}
        assert await deliver(inside) == 1
        found = {n["id"]: n["status"] for n in (await inside.data("south", ENDPOINTS))["webhookEndpoints"]["nodes"]}
        assert found.pop(dead) == "FAILING"
        assert list(found.values()) == ["ACTIVE"]
        (row,) = await deliveries(inside, "south")
        assert (row["status"], row["attempts"]) == ("FAILED", MAX_ATTEMPTS)
        await tell(inside)
        (notice,) = other.received
        assert json.loads(notice.body)["data"] == {"webhookEndpoint": dead}
        # its people are told, too, by mail and in the application: once, however often and late the event comes
        await inside.sql("UPDATE tenant SET email = 'post@south.example' WHERE id = $1", inside.tenants["south"].id)
        for age in ("0", "25 hours", "26 hours"):
            await inside.sql("UPDATE outbox_event SET sent_at = NULL WHERE topic = 'webhook.disabled'")
            await inside.client.work_off()
            await inside.sql(
                f"UPDATE notification SET created_at = now() - interval '{age}' WHERE state <> 'SUPPRESSED'"
            )
        told = """{ notifications(filter: {kind: {eq: "webhook.disabled"}, state: {ne: SUPPRESSED}}) {
            nodes { channel body } } }"""
        said = (await inside.data("south", told))["notifications"]["nodes"]
        # there is no mail server here: a mail is tried anew
        assert {one["channel"] for one in said} == {"EMAIL", "IN_APP"}
        (body,) = [one["body"] for one in said if one["channel"] == "IN_APP"]
        assert "127.0.0.1" in body
        assert receiver.url not in body
        # of one that somebody switched off by hand nobody is told, though the event comes late
        assert (await change(inside, "south", UPDATE, {"input": {"id": dead, "active": False}}))["errors"] == []
        await inside.sql("DELETE FROM notification")
        await inside.sql("UPDATE outbox_event SET sent_at = NULL WHERE topic = 'webhook.disabled'")
        await inside.client.work_off()
        assert (await inside.data("south", told))["notifications"]["nodes"] == []
        # it is told nothing more, until somebody switches it on
        await suspend(inside, "south", active(inside, "south")[1:2], key="k2")
        assert await tell(inside) == 0
        assert await refused(inside, "south", PING, {"id": dead}) == ("NOT_ACTIVE", "endpoint")
        payload = await change(inside, "south", UPDATE, {"input": {"id": dead, "active": True}})
        assert (payload["webhookEndpoint"]["status"], payload["webhookEndpoint"]["disabledAt"]) == ("ACTIVE", None)
        # a repeat by hand fails once and switches nothing off
        receiver.statuses = [500]
        assert (await change(inside, "south", REDELIVER, {"id": row["id"]}))["errors"] == []
        assert await deliver(inside) == 1
        assert {n["status"] for n in (await inside.data("south", ENDPOINTS))["webhookEndpoints"]["nodes"]} == {"ACTIVE"}


async def test_an_endpoint_that_answers_others_stays_on(inside: World, receiver: Receiver) -> None:
    await registered(inside, "south", receiver.url)
    await suspend(inside, "south", active(inside, "south")[:1])
    await relay(inside)
    receiver.statuses = [500] * (MAX_ATTEMPTS - 1)
    for _ in range(MAX_ATTEMPTS - 1):
        await deliver(inside)
        await time_passes(inside)
    await inside.sql("UPDATE webhook_delivery SET next_attempt_at = now() + interval '1 hour'")
    await suspend(inside, "south", active(inside, "south")[1:2], key="k2")
    assert await tell(inside) == 1
    receiver.statuses = [500]
    await time_passes(inside)
    assert await deliver(inside) == 1
    assert [row["status"] for row in await deliveries(inside, "south")] == ["FAILED", "SUCCEEDED"]
    assert {n["status"] for n in (await inside.data("south", ENDPOINTS))["webhookEndpoints"]["nodes"]} == {"ACTIVE"}


async def test_a_delivery_is_sent_once_more_by_hand(inside: World, receiver: Receiver) -> None:
    id, _ = await registered(inside, "south", receiver.url)
    await suspend(inside, "south", active(inside, "south")[:1])
    await relay(inside)
    (row,) = await deliveries(inside, "south")
    assert await refused(inside, "south", REDELIVER, {"id": row["id"]}) == ("STILL_PENDING", "id")
    assert await deliver(inside) == 1
    assert await refused(inside, "north", REDELIVER, {"id": row["id"]}) == ("NOT_FOUND", "id")
    payload = await change(inside, "operations", REDELIVER, {"id": row["id"]})
    assert payload["webhookDelivery"] == {"id": row["id"], "status": "PENDING"}
    assert await deliver(inside) == 1
    assert len(receiver.ids) == 2
    assert len(set(receiver.ids)) == 1
    (row,) = await deliveries(inside, "south")
    assert (row["status"], row["attempts"]) == ("SUCCEEDED", 2)
    assert (await change(inside, "south", DELETE, {"id": id})) == {"done": True, "errors": []}
    assert await inside.sql("SELECT id FROM webhook_attempt") == []
    assert await deliveries(inside, "south") == []


async def test_two_workers_deliver_each_event_once(inside: World, receiver: Receiver) -> None:
    await registered(inside, "south", receiver.url)
    for n, card in enumerate(active(inside, "south") + active(inside, "south-west")):
        await suspend(inside, "south", [card], key=f"k{n}")
    relayed = await asyncio.gather(relay(inside), relay(inside))
    assert sum(relayed) == 6
    made = await asyncio.gather(*(deliver(inside) for _ in range(3)))
    assert sum(made) == 6
    assert len(receiver.ids) == len(set(receiver.ids)) == 6
    assert {(row["status"], row["attempts"]) for row in await deliveries(inside, "south")} == {("SUCCEEDED", 1)}


def worker(world: World) -> subprocess.Popen[bytes]:
    """A process that does what a Celery worker does when it is told to deliver."""
    settings = world.client.application.settings
    environment = {
        **os.environ,
        "TRELLIS_STATE_DIR": str(settings.state_dir),
        "TRELLIS_DATABASE_URL": settings.database_url,
        "TRELLIS_REDIS_URL": settings.redis_url,
        "TRELLIS_SECRET_KEY": settings.secret_key.get_secret_value(),
        "TRELLIS_WEBHOOKS_INSIDE": "true",
    }
    program = "from tasks.webhook import deliver; deliver()"
    return subprocess.Popen([sys.executable, "-c", program], env=environment, cwd=PROJECT)


async def test_a_worker_that_is_killed_while_sending_loses_nothing(inside: World, receiver: Receiver) -> None:
    receiver.holding = threading.Event()
    await registered(inside, "south", receiver.url)
    await suspend(inside, "south", active(inside, "south")[:1])
    await relay(inside)
    process = worker(inside)
    try:
        assert await asyncio.to_thread(receiver.arrived.wait, 30)
        assert len(receiver.received) == 1
        process.send_signal(signal.SIGKILL)
        assert await asyncio.to_thread(process.wait) == -signal.SIGKILL
    finally:
        process.kill()
        receiver.holding.set()
    (row,) = await deliveries(inside, "south")
    assert (row["status"], row["attempts"], row["log"]["nodes"]) == ("PENDING", 1, [])
    # nobody takes it before its time is up: half a minute
    assert await deliver(inside) == 0
    (stored,) = await inside.sql("SELECT next_attempt_at FROM webhook_delivery")
    assert timedelta(0) < stored["next_attempt_at"] - datetime.now(UTC) <= timedelta(seconds=30)
    await time_passes(inside)
    process = worker(inside)
    assert await asyncio.to_thread(process.wait, 30) == 0
    assert len(receiver.ids) == 2
    assert len(set(receiver.ids)) == 1
    assert len({one.body for one in receiver.received}) == 1
    (row,) = await deliveries(inside, "south")
    assert (row["status"], row["attempts"]) == ("SUCCEEDED", 2)
    assert [attempt["statusCode"] for attempt in row["log"]["nodes"]] == [200]
    await time_passes(inside)
    assert await deliver(inside) == 0
