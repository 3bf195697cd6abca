"""Notifications from the event to the mailbox, and a forgotten password: over real SMTP, as people meet them."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from celery import Celery
from pydantic import SecretStr

from authz.principal import system
from gateways.messaging import Message, Messenger, Sms, SmsSettings
from models.notifications import NotificationChannel
from models.tenancy import Language
from planner.ids import encode_id
from server.doors import FRONTENDS, documents, load_doors
from server.settings import PROJECT
from services import codes, notifications
from services.notifications.events import api_keys_expiring
from services.notifications.kinds import KINDS
from services.notifications.sending import MAX_ATTEMPTS, deliver, due
from services.refusal import Refusal
from tests.conftest import Place
from tests.support.mailbox import SENDER, Mailbox, code_in, delivering, relay
from tests.support.messengers import SMS_KEY, SMS_SECRET, Messengers
from tests.support.serving import serving
from tests.support.world import PASSWORD, World, mark

NEW_PASSWORD = "another horse 43"
ALLOCATE = """mutation($input: AllocateSimCardsInput!) { allocateSimCards(input: $input) {
    count errors { code field } } }"""
SAVE = """mutation($input: NotificationTemplateInput!) { saveNotificationTemplate(input: $input) {
    notificationTemplate { id kind channel language subject body providerTemplate tenant { id } }
    errors { code field message } } }"""
REMOVE = "mutation($id: ID!) { removeNotificationTemplate(id: $id) { done errors { code field } } }"
READ = """mutation($ids: [ID!]!) { markNotificationsRead(ids: $ids) {
    notifications { id readAt } errors { code field } } }"""
DECLINE = """mutation($input: NotificationOptOutInput!) { setNotificationOptOut(input: $input) {
    done errors { code field } } }"""
DECLINE_TENANT = DECLINE.replace("setNotification", "setTenantNotification")
SHOWN = "kind channel language address state attempts lastError subject body sentAt account { login } tenant { id }"


@pytest.fixture
async def box(world: World) -> AsyncIterator[Mailbox]:
    async with delivering(world) as made:
        yield made


async def address(world: World, tenant: str, email: str | None, language: Language = Language.ZH_CN) -> None:
    await world.sql(
        "UPDATE tenant SET email = $1, language = $2 WHERE id = $3", email, language.name, world.tenants[tenant].id
    )


async def hand_down(world: World, to: str = "north", giver: str = "operations", cards: slice = slice(0, 2)) -> None:
    held = world.card_ids("platform" if giver == "operations" else giver)[cards]
    input = {"to": world.id(to), "cards": {"ids": held}, "holding": "AGENCY", "idempotencyKey": f"{giver} {to} {cards}"}
    assert (await world.data(giver, ALLOCATE, {"input": input}))["allocateSimCards"] == {
        "count": len(held),
        "errors": [],
    }


async def stored(world: World, where: str = "kind NOT LIKE 'of %'") -> list[dict[str, Any]]:
    return [dict(row) for row in await world.sql(f"SELECT * FROM notification WHERE {where} ORDER BY id")]


async def seen(world: World, caller: str, kind: str, channel: str = "EMAIL") -> list[dict[str, Any]]:
    query = f"""query($filter: NotificationFilter) {{ notifications(first: 50, filter: $filter) {{
        nodes {{ {SHOWN} }} }} }}"""
    filter = {"kind": {"eq": kind}, "channel": {"eq": channel}}
    found: list[dict[str, Any]] = (await world.data(caller, query, {"filter": filter}))["notifications"]["nodes"]
    return found


async def told(world: World, **more: Any) -> list[int]:
    """Tells ``north`` of three cards at its mail address, as a service does."""
    async with world.client.application.runtime.database.transaction(system("test")) as session:
        to = replace(
            notifications.Recipient.tenant(world.tenants["north"]),
            addresses={NotificationChannel.EMAIL: "north@customer.example"},
            language=Language.EN,
        )
        parameters = {"tenant": "North", "giver": "Trellis", "count": 3}
        return await notifications.send(session, **{"kind": "sim.allocated", "to": to, "parameters": parameters} | more)


async def attempt(world: World, key: int) -> dict[str, Any]:
    """One more attempt to send, at once; gives the row."""
    await world.sql("UPDATE notification SET next_attempt_at = now() WHERE id = $1 AND attempts > 0", key)
    await deliver(world.client.application.runtime.database, world.client.way_out, key)
    [row] = await stored(world, f"id = {key}")
    return row


# -- events ---------------------------------------------------------------------------------------------------------


@pytest.mark.feature("S0-35")
@pytest.mark.parametrize(
    ("language", "tag", "subject", "body"),
    [
        (
            Language.ZH_CN,
            "zh-CN",
            "您收到 2 张 SIM 卡",
            "Agency «north»，您好：\n\nPlatform «platform» 已向您下发 2 张 SIM 卡。\n",
        ),
        (
            Language.ZH_TW,
            "zh-TW",
            "您收到 2 張 SIM 卡",
            "Agency «north»，您好：\n\nPlatform «platform» 已向您下發 2 張 SIM 卡。\n",
        ),
        (
            Language.EN,
            "en",
            "You have received 2 SIM cards",
            "Dear Agency «north»,\n\nPlatform «platform» has handed 2 SIM cards down to you.\n",
        ),
    ],
)
async def test_a_customer_that_receives_cards_gets_a_mail_in_its_language(
    world: World, box: Mailbox, language: Language, tag: str, subject: str, body: str
) -> None:
    await address(world, "north", "north@customer.example", language)
    await hand_down(world)
    assert box.mails == []
    await relay(world)
    [mail] = box.mails
    assert (mail["From"], mail["To"], mail["Subject"]) == (SENDER, "north@customer.example", subject)
    assert mail["Content-Language"] == tag
    assert box.text() == body

    expected = {
        "kind": "sim.allocated",
        "channel": "EMAIL",
        "language": language.name,
        "address": "n***@customer.example",
        "state": "SENT",
        "attempts": 1,
        "lastError": None,
        "subject": subject,
        "body": body,
        "account": None,
        "tenant": {"id": world.id("north")},
    }
    for caller in ("finance", "sales", "operations", "admin", "north"):
        [node] = await seen(world, caller, "sim.allocated")
        assert node.pop("sentAt") is not None
        full = {"address": "north@customer.example"} if caller == "admin" else {}
        assert node == expected | full, caller
    for neighbour in ("south", "acme", "north-east"):
        assert await seen(world, neighbour, "sim.allocated") == []


@pytest.mark.feature("S0-35")
async def test_a_customers_language_is_chosen_with_its_profile(world: World) -> None:
    create = """mutation($input: CreateEnterpriseInput!) { createEnterprise(input: $input) {
        tenant { id language } errors { code } } }"""
    update = "mutation($input: UpdateTenantInput!) { updateTenant(input: $input) { tenant { language } } }"
    made = {}
    for language in (None, "EN"):
        profile = {"name": f"Harbour {language}"} | ({"language": language} if language else {})
        payload = (await world.data("sales", create, {"input": {"profile": profile}}))["createEnterprise"]
        made[language] = payload["tenant"]["language"]
    assert made == {None: "ZH_CN", "EN": "EN"}
    input = {"id": payload["tenant"]["id"], "language": "ZH_TW"}
    assert (await world.data("sales", update, {"input": input}))["updateTenant"] == {"tenant": {"language": "ZH_TW"}}


@pytest.mark.feature("S0-35")
async def test_nothing_is_told_of_what_did_not_happen(world: World, box: Mailbox) -> None:
    await address(world, "north", "north@customer.example")
    input = {"to": world.id("north"), "cards": {"ids": world.card_ids("south")[:1]}, "idempotencyKey": "no"}
    payload = (await world.data("operations", ALLOCATE, {"input": input}))["allocateSimCards"]
    assert [error["code"] for error in payload["errors"]] == ["CARDS_NOT_FOUND"]
    assert await stored(world) == []
    await relay(world)
    assert box.mails == []


@pytest.mark.feature("S0-35")
async def test_a_customer_without_an_address_is_told_in_the_application_alone(world: World, box: Mailbox) -> None:
    await hand_down(world)
    await relay(world)
    assert box.mails == []
    rows = await stored(world)
    assert [(row["channel"], row["state"]) for row in rows] == [("IN_APP", "SENT")]


@pytest.mark.feature("S0-35")
async def test_who_imported_cards_is_told_how_it_ended_once(world: World, box: Mailbox) -> None:
    upload = "mutation($file: Upload!) { importSimCards(file: $file) { task { id } errors { code } } }"
    token = await world.token("operations")
    sheet = "ICCID,运营商,供应商,卡类型\n1,CMCC,移动OneLink,机械卡\n2,CMCC,移动OneLink,机械卡\n"
    for name, content in (("cards.csv", sheet.encode()), ("cards.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1")):
        await world.client.upload("admin", upload, (name, content), token)
        await relay(world)
    # what a second relay delivers again tells nobody again
    await world.sql("UPDATE outbox_event SET sent_at = NULL WHERE topic IN ('sim.enter', 'task.finished')")
    await relay(world)
    [good, bad] = box.mails
    assert (good["To"], good["Subject"]) == ("operations@example.com", "SIM 卡录入已完成")
    assert box.text(0) == "operations，您好：\n\n录入任务已完成：成功 0 张，失败 2 张。\n"
    assert bad["Subject"] == "SIM 卡录入失败"
    assert "Save the old .xls file as .xlsx." in box.text(1)
    assert [node["account"]["login"] for node in await seen(world, "operations", "import.finished", "IN_APP")] == [
        "operations",
        "operations",
    ]
    states = [(r["kind"], r["channel"], r["state"], r["last_error"]) for r in await stored(world)]
    assert sorted(states) == sorted(
        (kind, channel, state, error)
        for kind in ("import.finished", "import.failed")
        for channel in ("EMAIL", "IN_APP")
        for state, error in (("SENT", None), ("SUPPRESSED", "DUPLICATE"))
    )


@pytest.mark.feature("S0-35")
async def test_the_owner_of_a_key_is_told_before_it_expires_once(world: World, box: Mailbox) -> None:
    await address(world, "north", "north@customer.example", Language.EN)
    await address(world, "south", "south@customer.example")
    await world.sql("UPDATE api_key SET expires_at = '2126-01-01', status = 'ACTIVE'")
    await world.sql("UPDATE api_key SET expires_at = now() + interval '13 days' WHERE key = 'tk_north'")
    await world.sql(
        "UPDATE api_key SET expires_at = now() + interval '1 day', status = 'REVOKED' WHERE key = 'tk_south'"
    )
    database = world.client.application.runtime.database
    for _ in range(2):
        await api_keys_expiring(database)
        await relay(world)
    [mail] = box.mails
    assert (mail["To"], mail["Subject"]) == ("north@customer.example", "An API key is about to expire")
    assert "The API key Partner «north» (tk_north) expires on 20" in box.text()
    # extended and near its end again, it is told of anew
    await world.sql("UPDATE api_key SET expires_at = now() + interval '10 days' WHERE key = 'tk_north'")
    await api_keys_expiring(database)
    await relay(world)
    assert len(box.mails) == 2


# -- in the application ---------------------------------------------------------------------------------------------


@pytest.mark.feature("S0-35")
async def test_messages_in_the_application_are_listed_and_read_by_their_recipient(world: World, box: Mailbox) -> None:
    await hand_down(world)
    await relay(world)
    [row] = await stored(world)
    id = encode_id("ntf", row["id"])
    inbox = documents(FRONTENDS / "agent")["Inbox"]
    account = encode_id("acc", row["account_id"])

    async def listed() -> dict[str, Any]:
        nodes = (await world.data("north", inbox, {"account": account}))["notifications"]["nodes"]
        found: dict[str, Any] = next(node for node in nodes if node["id"] == id)
        return found

    assert (await listed())["readAt"] is None
    assert (await listed())["subject"] == "您收到 2 张 SIM 卡"
    refusal = {"notifications": [], "errors": [{"code": "NOT_FOUND", "field": "ids"}]}
    # not for those above, who see it, nor for neighbours, nor together with what is another's
    for caller in ("admin", "operations", "south", "acme", "north-east"):
        assert (await world.data(caller, READ, {"ids": [id]}))["markNotificationsRead"] == refusal, caller
    [other] = await world.sql(
        "SELECT n.id FROM notification n JOIN staff_account a ON a.id = n.account_id "
        "WHERE a.login = 'south' AND n.channel = 'IN_APP'"
    )
    both = {"ids": [id, encode_id("ntf", other["id"])]}
    assert (await world.data("north", READ, both))["markNotificationsRead"] == refusal
    assert (await listed())["readAt"] is None

    payload = (await world.data("north", READ, {"ids": [id]}))["markNotificationsRead"]
    assert payload["errors"] == []
    [read] = payload["notifications"]
    assert read["readAt"] is not None
    # the first time counts
    again = (await world.data("north", READ, {"ids": [id]}))["markNotificationsRead"]
    assert again["notifications"] == [read]
    many = (await world.data("north", READ, {"ids": [id] * 201}))["markNotificationsRead"]
    assert many["errors"] == [{"code": "TOO_MANY", "field": "ids"}]


# -- wording --------------------------------------------------------------------------------------------------------


def wording(**changes: Any) -> dict[str, Any]:
    return {
        "input": {
            "kind": "sim.allocated",
            "channel": "EMAIL",
            "language": "EN",
            "subject": "{count} cards",
            "body": "From {giver}: {count} cards for {tenant}.",
            **changes,
        }
    }


@pytest.mark.feature("S0-35")
async def test_the_nearest_tenants_own_text_holds(world: World, box: Mailbox) -> None:
    await address(world, "north-east", "ne@customer.example", Language.EN)
    cards = iter(range(6))

    async def subject() -> str:
        n = next(cards)
        await world.sql("UPDATE sim_card SET status = 'ALLOCATED' WHERE tenant_id = $1", world.tenants["north"].id)
        await hand_down(world, "north-east", "north", slice(n, n + 1))
        await relay(world)
        return str(box.mails[-1]["Subject"])

    assert await subject() == "You have received 1 SIM cards"
    saved = (await world.data("operations", SAVE, wording(subject="Platform {count}")))["saveNotificationTemplate"]
    assert saved["errors"] == []
    assert saved["notificationTemplate"]["tenant"] == {"id": world.id("platform")}
    assert await subject() == "Platform 1"
    # the text of another branch, channel or language does not hold here
    await world.data("south", SAVE, wording(subject="South {count}"))
    await world.data("north", SAVE, wording(subject="In the application", channel="IN_APP"))
    await world.data("north", SAVE, wording(subject="中文 {count}", language="ZH_CN"))
    assert await subject() == "Platform 1"
    mine = (await world.data("north", SAVE, wording(subject="North {count}")))["saveNotificationTemplate"]
    assert await subject() == "North 1"
    assert box.text().strip() == f"From Agency {mark('north')}: 1 cards for Agency {mark('north-east')}."
    # saving again replaces; removing gives way to the text above
    again = (await world.data("north", SAVE, wording(subject="Northern {count}")))["saveNotificationTemplate"]
    id = again["notificationTemplate"]["id"]
    assert id == mine["notificationTemplate"]["id"]
    assert await subject() == "Northern 1"
    refused = {"done": False, "errors": [{"code": "NOT_FOUND", "field": "id"}]}
    for stranger in ("south", "north-east", "operations"):
        assert (await world.data(stranger, REMOVE, {"id": id}))["removeNotificationTemplate"] == refused, stranger
    assert (await world.data("north", REMOVE, {"id": id}))["removeNotificationTemplate"] == {
        "done": True,
        "errors": [],
    }
    assert await subject() == "Platform 1"


@pytest.mark.feature("S0-35")
async def test_a_text_that_cannot_be_filled_in_is_refused(world: World) -> None:
    before = await world.sql("SELECT * FROM notification_template ORDER BY id")
    messages = {}
    for changes, code, field in (
        ({"body": "{count} for {secret}"}, "UNKNOWN_PLACEHOLDER", "body"),
        ({"subject": "{code}"}, "UNKNOWN_PLACEHOLDER", "subject"),
        ({"body": "{}"}, "UNKNOWN_PLACEHOLDER", "body"),
        ({"body": "{giver} {giver.__class__}"}, "UNKNOWN_PLACEHOLDER", "body"),
        ({"body": " "}, "REQUIRED", "body"),
        ({"body": "x" * 5_001}, "INVALID", "body"),
        ({"subject": None}, "REQUIRED", "subject"),
        ({"channel": "SMS"}, "REQUIRED", "providerTemplate"),
        ({"channel": "WECHAT_TEMPLATE", "providerTemplate": "x" * 65}, "INVALID", "providerTemplate"),
        ({"kind": "sim.lost"}, "UNKNOWN_NOTIFICATION", "kind"),
        ({"kind": "account.password_reset", "body": "{name}, {minutes}"}, "MISSING_PLACEHOLDER", "body"),
    ):
        changes = {"subject": "Your cards", **changes}
        payload = (await world.data("operations", SAVE, wording(**changes)))["saveNotificationTemplate"]
        refused = [(error["code"], error["field"]) for error in payload["errors"]]
        assert (refused, payload["notificationTemplate"]) == ([(code, field)], None), changes
        messages[code] = payload["errors"][0]["message"]
    assert messages["MISSING_PLACEHOLDER"] == "The text must hold {code}."
    assert (
        messages["UNKNOWN_PLACEHOLDER"] == "giver.__class__ is not a placeholder here. There are: count, giver, tenant."
    )
    # only the platform words what keeps accounts safe
    security = wording(kind="account.password_changed", subject="Hello", body="{name}, pay here")
    payload = (await world.data("north", SAVE, security))["saveNotificationTemplate"]
    assert [(e["code"], e["field"]) for e in payload["errors"]] == [("SECURITY_NOTIFICATION", "kind")]
    for caller in ("finance", "sales"):
        assert await world.codes(caller, SAVE, wording()) == ["FORBIDDEN"], caller
    assert await world.sql("SELECT * FROM notification_template ORDER BY id") == before


@pytest.mark.feature("S0-35")
async def test_every_kind_has_a_text_in_every_language(world: World) -> None:
    query = "{ notificationKinds { kind channels placeholders security texts { language subject body } } }"
    kinds = (await world.data("north", query))["notificationKinds"]
    assert {kind["kind"] for kind in kinds} == set(KINDS)
    for kind in kinds:
        assert [text["language"] for text in kind["texts"]] == ["ZH_CN", "ZH_TW", "EN"]
        assert len({text["subject"] for text in kind["texts"]}) == 3
        for text in kind["texts"]:
            used = set(re.findall(r"\{(.*?)\}", text["subject"] + text["body"]))
            assert used <= set(kind["placeholders"])
    assert {kind["kind"] for kind in kinds if kind["security"]} == {
        "account.password_reset",
        "account.password_changed",
        "end_user.email_code",
        "end_user.phone_changed",
        "end_user.sms_code",
    }


@pytest.mark.feature("S0-35")
async def test_an_sms_goes_out_by_the_text_that_its_provider_knows(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setitem(KINDS, "sim.allocated", replace(KINDS["sim.allocated"], channels=(NotificationChannel.SMS,)))
    sandbox = Messengers()
    to = replace(
        notifications.Recipient.tenant(world.tenants["north"]), addresses={NotificationChannel.SMS: "13812345678"}
    )
    async with serving(sandbox.app) as url:
        settings = SmsSettings(
            url=url, access_key_id=SMS_KEY, access_key_secret=SecretStr(SMS_SECRET), sign_name="格架"
        )
        messengers: dict[NotificationChannel, Messenger] = {NotificationChannel.SMS: Sms(settings)}
        world.client.way_out = replace(world.client.way_out, messengers=messengers)
        [unregistered] = await told(world, to=to)
        row = await attempt(world, unregistered)
        assert (row["state"], row["last_error"]) == (
            "FAILED",
            "NOT_SUPPORTED: The text is not registered with the SMS provider.",
        )
        await world.data(
            "operations", SAVE, wording(channel="SMS", language="ZH_CN", subject=None, providerTemplate="SMS_1")
        )
        [registered] = await told(world, to=to)
        sandbox.faults = [500]
        row = await attempt(world, registered)
        assert (row["state"], row["last_error"]) == (
            "QUEUED",
            "SMS_UNAVAILABLE: The SMS provider answered with HTTP status 500.",
        )
        assert (await attempt(world, registered))["state"] == "SENT"
        await world.client.way_out.close()
    [sent] = sandbox.sent
    assert (sent["PhoneNumbers"], sent["TemplateCode"]) == ("13812345678", "SMS_1")
    assert sent["TemplateParam"] == {"tenant": "North", "giver": "Trellis", "count": "3"}
    [node, _] = await seen(world, "north", "sim.allocated", "SMS")
    assert node["address"] == "138****5678"


# -- sending, and what goes wrong -----------------------------------------------------------------------------------


@pytest.mark.feature("S0-35")
async def test_a_mail_that_may_yet_go_is_tried_again_later_each_time_and_then_given_up(
    world: World, box: Mailbox
) -> None:
    [key] = await told(world)
    database = world.client.application.runtime.database
    waits = []
    for number in range(1, MAX_ATTEMPTS + 1):
        box.faults = ["451 try later"]
        row = await attempt(world, key)
        assert row["attempts"] == number
        assert row["last_error"] == "MAIL_UNAVAILABLE: The mail server answered 451."
        waits.append(round((row["next_attempt_at"] - row["updated_at"]).total_seconds() / 60))
        # before its time it is not tried, whoever asks
        await deliver(database, world.client.way_out, key)
        assert box.tried == number
        assert await due(database) == []
    assert waits[: MAX_ATTEMPTS - 1] == [1, 5, 30, 120]
    assert row["state"] == "FAILED"
    await attempt(world, key)
    assert (box.tried, box.mails) == (MAX_ATTEMPTS, [])


@pytest.mark.feature("S0-35")
async def test_a_mail_goes_when_the_server_is_back(world: World, box: Mailbox) -> None:
    [key] = await told(world)
    box.silent = True
    row = await attempt(world, key)
    assert (row["state"], row["last_error"]) == ("QUEUED", "MAIL_UNAVAILABLE: The mail server did not answer in time.")
    box.silent = False
    await world.sql("UPDATE notification SET next_attempt_at = now() WHERE id = $1", key)
    database = world.client.application.runtime.database
    assert await due(database) == [key]
    row = await attempt(world, key)
    assert (row["state"], row["attempts"], row["last_error"]) == ("SENT", 2, None)
    assert row["sent_at"] is not None
    assert await due(database) == []


@pytest.mark.feature("S0-35")
async def test_a_mail_that_the_server_refuses_is_not_tried_again(world: World, box: Mailbox) -> None:
    [key] = await told(world)
    box.faults = ["550 no such user"]
    row = await attempt(world, key)
    assert (row["state"], row["last_error"]) == ("FAILED", "MAIL_REFUSED: The mail server answered 550.")
    await attempt(world, key)
    assert box.tried == 1
    # nor one that comes too late to be of use
    [late] = await told(world)
    await world.sql("UPDATE notification SET created_at = now() - interval '4 days' WHERE id = $1", late)
    row = await attempt(world, late)
    assert (row["state"], row["last_error"]) == ("FAILED", "EXPIRED: It came too late to be of use.")
    assert box.tried == 1


@pytest.mark.feature("S0-35")
async def test_a_message_that_no_worker_was_told_of_is_found(world: World, box: Mailbox) -> None:
    database = world.client.application.runtime.database
    [key] = await told(world)
    assert await due(database) == []
    await world.sql("UPDATE notification SET next_attempt_at = now() - interval '1 second' WHERE id = $1", key)
    assert await due(database) == [key]


class Broken:
    """A way out with a fault of its own."""

    async def send(self, message: Message) -> None:
        raise RuntimeError(message.address)

    async def close(self) -> None:
        pass


@pytest.mark.feature("S0-35")
async def test_a_fault_of_ours_counts_as_an_attempt_and_tells_no_address(world: World) -> None:
    broken: dict[NotificationChannel, Messenger] = {NotificationChannel.EMAIL: Broken()}
    world.client.way_out = replace(world.client.way_out, messengers=broken)
    [key] = await told(world)
    row = await attempt(world, key)
    assert (row["state"], row["attempts"], row["last_error"]) == ("QUEUED", 1, "INTERNAL: RuntimeError")


@pytest.mark.feature("S0-35")
async def test_two_workers_with_one_message_send_it_once(world: World, box: Mailbox) -> None:
    keys = [key for _ in range(5) for key in await told(world)]
    database = world.client.application.runtime.database
    await asyncio.gather(*(deliver(database, world.client.way_out, key) for key in keys for _ in range(3)))
    assert sorted(mail["Message-ID"] for mail in box.mails) == sorted(
        f"<notification-{key}@trellis.test>" for key in keys
    )
    assert [(row["state"], row["attempts"]) for row in await stored(world)] == [("SENT", 1)] * 5


def environment(place: Place, box: Mailbox) -> dict[str, str]:
    """What a worker process is told."""
    return {
        **os.environ,
        "TRELLIS_STATE_DIR": str(place.settings.state_dir),
        "TRELLIS_DATABASE_URL": place.settings.database_url,
        "TRELLIS_REDIS_URL": place.settings.redis_url,
        "TRELLIS_SECRET_KEY": place.settings.secret_key.get_secret_value(),
        "TRELLIS_MAIL_HOST": "127.0.0.1",
        "TRELLIS_MAIL_PORT": str(box.port),
        "TRELLIS_MAIL_SECURITY": "none",
        "TRELLIS_MAIL_SENDER": SENDER,
    }


WORKER = "import sys; from tasks.notifications import send; send(int(sys.argv[1]))"


@pytest.mark.feature("S0-35")
async def test_a_worker_killed_between_sending_and_marking_loses_nothing(
    world: World, box: Mailbox, place: Place
) -> None:
    """The mail arrives twice, recognisable by its Message-ID; the other way round it might not arrive."""
    [key] = await told(world)
    box.silent = True
    worker = subprocess.Popen(  # noqa: ASYNC220
        [sys.executable, "-c", WORKER, str(key)], cwd=PROJECT, env=environment(place, box)
    )
    try:
        async with asyncio.timeout(30):
            while not box.mails:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        # while it is at it, nobody else takes the message
        await deliver(world.client.application.runtime.database, world.client.way_out, key)
        assert len(box.mails) == 1
    finally:
        worker.send_signal(signal.SIGKILL)
        worker.wait(10)
    async with asyncio.timeout(10):
        while await world.sql(  # noqa: ASYNC110
            "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in transaction%'"
        ):
            await asyncio.sleep(0.05)
    [row] = await stored(world, f"id = {key}")
    assert (row["state"], row["attempts"]) == ("QUEUED", 0)
    box.silent = False
    row = await attempt(world, key)
    assert (row["state"], row["attempts"]) == ("SENT", 1)
    assert [mail["Message-ID"] for mail in box.mails] == [f"<notification-{key}@trellis.test>"] * 2


@pytest.mark.feature("S0-35")
async def test_the_same_dedupe_key_is_sent_once_within_its_window(world: World, box: Mailbox) -> None:
    await told(world, dedupe_key="order 1")
    await told(world, dedupe_key="order 1")
    await told(world, dedupe_key="order 2")
    await told(world)
    await relay(world)
    assert len(box.mails) == 3
    assert [(row["dedupe_key"], row["state"], row["last_error"]) for row in await stored(world)] == [
        ("order 1", "SENT", None),
        ("order 1", "SUPPRESSED", "DUPLICATE"),
        ("order 2", "SENT", None),
        (None, "SENT", None),
    ]
    # after the window, and where the first did not arrive, it is sent again
    await world.sql("UPDATE notification SET created_at = now() - interval '25 hours' WHERE dedupe_key = 'order 1'")
    await world.sql("UPDATE notification SET state = 'FAILED' WHERE dedupe_key = 'order 2'")
    await told(world, dedupe_key="order 1")
    await told(world, dedupe_key="order 2")
    await relay(world)
    assert len(box.mails) == 5


@pytest.mark.feature("S0-35")
async def test_of_many_at_once_with_one_dedupe_key_one_is_sent(world: World, box: Mailbox) -> None:
    await asyncio.gather(*(told(world, dedupe_key="once") for _ in range(5)))
    await relay(world)
    assert len(box.mails) == 1
    assert sorted(row["state"] for row in await stored(world)) == ["SENT", *["SUPPRESSED"] * 4]


@pytest.mark.feature("S0-35")
async def test_who_does_not_want_a_kind_does_not_get_it(world: World, box: Mailbox) -> None:
    await address(world, "north", "north@customer.example")
    decline = {"input": {"kind": "sim.allocated", "channel": "EMAIL", "declined": True}}
    done = {"done": True, "errors": []}
    for _ in range(2):
        assert (await world.data("north", DECLINE_TENANT, decline))["setTenantNotificationOptOut"] == done
    in_app = {"input": {"kind": "sim.allocated", "channel": "IN_APP", "declined": True}}
    assert (await world.data("north", DECLINE, in_app))["setNotificationOptOut"] == done
    await hand_down(world)
    await relay(world)
    assert box.mails == []
    assert [(row["channel"], row["state"], row["last_error"]) for row in await stored(world)] == [
        ("EMAIL", "SUPPRESSED", "DECLINED"),
        ("IN_APP", "SUPPRESSED", "DECLINED"),
    ]
    query = "{ notificationOptOuts(first: 9) { nodes { kind channel account { login } } } }"
    nodes = (await world.data("north", query))["notificationOptOuts"]["nodes"]
    assert [node for node in nodes if node["kind"] == "sim.allocated"] == [
        {"kind": "sim.allocated", "channel": "EMAIL", "account": None},
        {"kind": "sim.allocated", "channel": "IN_APP", "account": {"login": "north"}},
    ]
    for caller in ("south", "acme", "finance", "north-east"):
        others = (await world.data(caller, query))["notificationOptOuts"]["nodes"]
        assert [node for node in others if node["kind"] == "sim.allocated"] == []
    # a neighbour's wish is its own, and what is wanted again comes again
    await world.data("south", DECLINE_TENANT, {"input": {**decline["input"], "declined": False}})
    await hand_down(world, cards=slice(2, 3))
    assert (await relay(world), box.mails) == (0, [])
    await world.data("north", DECLINE_TENANT, {"input": {**decline["input"], "declined": False}})
    await hand_down(world, cards=slice(3, 4))
    await relay(world)
    assert len(box.mails) == 1


@pytest.mark.feature("S0-35")
async def test_what_keeps_accounts_safe_cannot_be_declined(world: World) -> None:
    before = await world.sql("SELECT * FROM notification_opt_out ORDER BY id")
    for kind, channel, code, field in (
        ("account.password_reset", "EMAIL", "SECURITY_NOTIFICATION", "kind"),
        ("account.password_changed", "EMAIL", "SECURITY_NOTIFICATION", "kind"),
        ("sim.allocated", "SMS", "INVALID", "channel"),
        ("nothing", "EMAIL", "UNKNOWN_NOTIFICATION", "kind"),
    ):
        input = {"kind": kind, "channel": channel, "declined": True}
        payload = (await world.data("north", DECLINE, {"input": input}))["setNotificationOptOut"]
        assert payload == {"done": False, "errors": [{"code": code, "field": field}]}
    assert await world.codes("finance", DECLINE_TENANT, {"input": input}) == ["FORBIDDEN"]
    assert await world.sql("SELECT * FROM notification_opt_out ORDER BY id") == before


async def test_a_kind_is_told_with_all_of_its_parameters_and_no_others(world: World) -> None:
    with pytest.raises(ValueError, match="has the placeholders"):
        await told(world, parameters={"tenant": "North"})


# -- codes ----------------------------------------------------------------------------------------------------------

PURPOSE, ADDRESS, IP = "a test", "li@example.com", "192.0.2.1"


class Desk:
    """Codes as a service uses them; gives the code of the refusal, or what was given."""

    def __init__(self, world: World) -> None:
        self.redis, self.keys = world.client.application.runtime.redis, world.client.application.runtime.keys

    async def limit(self, address: str = ADDRESS, ip: str = IP) -> str:
        return await self._told(codes.limit(self.redis, self.keys, PURPOSE, address, ip))

    async def issue(self, purpose: str = PURPOSE, address: str = ADDRESS) -> str:
        return await codes.issue(self.redis, self.keys, purpose, address)

    async def redeem(self, given: str, purpose: str = PURPOSE, address: str = ADDRESS, ip: str = IP) -> str:
        return await self._told(codes.redeem(self.redis, self.keys, purpose, address, given, ip))

    @staticmethod
    async def _told(asked: Any) -> str:
        try:
            await asked
        except Refusal as refusal:
            return refusal.code
        return "OK"


def wrong(code: str) -> str:
    return f"{(int(code) + 1) % 10**6:06d}"


@pytest.mark.feature("S1-73")
async def test_a_code_is_six_digits_and_works_once(world: World) -> None:
    desk = Desk(world)
    code = await desk.issue()
    assert re.fullmatch(r"[0-9]{6}", code)
    assert await desk.redeem(f" {code} ") == "OK"
    assert await desk.redeem(code) == "WRONG_CODE"
    # a newer code puts the older out of force
    older, newer = await desk.issue(), await desk.issue()
    assert await desk.redeem(older) == ("OK" if older == newer else "WRONG_CODE")
    assert await desk.redeem(newer) == ("WRONG_CODE" if older == newer else "OK")


@pytest.mark.feature("S1-73")
async def test_a_code_is_for_its_purpose_and_address_alone(world: World) -> None:
    desk = Desk(world)
    code = await desk.issue()
    assert await desk.redeem(code, purpose="another") == "WRONG_CODE"
    assert await desk.redeem(code, address="wang@example.com") == "WRONG_CODE"
    for strange in ("", "１２３４５６", "x" * 10_000, "\x00", "None"):
        assert await desk.redeem(strange, address="nobody") == "WRONG_CODE"
    assert await desk.redeem(code) == "OK"


@pytest.mark.feature("S1-73")
async def test_a_code_is_valid_for_ten_minutes_and_kept_as_a_digest(world: World) -> None:
    desk = Desk(world)
    code = await desk.issue()
    [name] = await desk.redis.keys("trellis:code:*")
    assert 590 < await desk.redis.ttl(name) <= 600
    kept = str(await desk.redis.hgetall(name)) + str(name)
    assert code not in kept
    assert ADDRESS not in kept
    await desk.redis.pexpire(name, 1)
    await asyncio.sleep(0.05)
    assert await desk.redeem(code) == "WRONG_CODE"


@pytest.mark.feature("S1-73")
async def test_a_code_survives_four_wrong_tries_and_no_more(world: World) -> None:
    desk = Desk(world)
    code = await desk.issue()
    for _ in range(4):
        assert await desk.redeem(wrong(code)) == "WRONG_CODE"
    assert await desk.redeem(code) == "OK"
    code = await desk.issue()
    # also at once they are counted each
    await asyncio.gather(*(desk.redeem(wrong(code)) for _ in range(5)))
    assert await desk.redeem(code) == "WRONG_CODE"
    assert await desk.redis.keys("trellis:code:*") == []


@pytest.mark.feature("S1-73")
async def test_of_many_with_one_code_at_once_one_succeeds(world: World) -> None:
    desk = Desk(world)
    code = await desk.issue()
    told = await asyncio.gather(*(desk.redeem(code) for _ in range(5)))
    assert sorted(told) == ["OK", *["WRONG_CODE"] * 4]


@pytest.mark.feature("S1-73")
async def test_codes_are_limited_by_address_and_by_ip(world: World) -> None:
    desk = Desk(world)
    assert [await desk.limit(ip=f"192.0.2.{n}") for n in range(6)] == ["OK"] * 5 + ["TOO_MANY_ATTEMPTS"]
    asked = [await desk.limit(f"{n}@example.com", "198.51.100.1") for n in range(31)]
    assert asked == ["OK"] * 30 + ["TOO_MANY_ATTEMPTS"]
    assert await desk.limit("other@example.com", "198.51.100.2") == "OK"
    # what is refused to somebody does not use up what others may be sent
    assert [await desk.limit("third@example.com", "198.51.100.1") for _ in range(6)] == ["TOO_MANY_ATTEMPTS"] * 6
    assert await desk.limit("third@example.com", "198.51.100.2") == "OK"
    tried = [await desk.redeem("000000", address=f"{n}", ip="198.51.100.3") for n in range(61)]
    assert tried == ["WRONG_CODE"] * 60 + ["TOO_MANY_ATTEMPTS"]
    for name in await desk.redis.keys("trellis:codes-*"):
        assert 3_500 < await desk.redis.ttl(name) <= 3_600


# -- a forgotten password -------------------------------------------------------------------------------------------

REQUEST = """mutation($account: String!) { requestPasswordReset(input: {account: $account}) {
    done errors { code field message } } }"""
RESET = """mutation($input: ResetPasswordInput!) { resetPassword(input: $input) { done errors { code field } } }"""
DONE = {"done": True, "errors": []}


async def forgot(world: World, account: str, door: str = "agent") -> dict[str, Any]:
    answer = (await world.client.post(door, REQUEST, {"account": account})).json()
    found: dict[str, Any] = answer["data"]["requestPasswordReset"]
    return found


async def reset(world: World, account: str, code: str, new: str = NEW_PASSWORD, door: str = "agent") -> dict[str, Any]:
    input = {"account": account, "verificationCode": code, "new": new}
    answer = (await world.client.post(door, RESET, {"input": input})).json()
    found: dict[str, Any] = answer["data"]["resetPassword"]
    return found


def refusal(code: str, field: str | None = "verificationCode") -> dict[str, Any]:
    return {"done": False, "errors": [{"code": code, "field": field}]}


@pytest.mark.feature("S1-73", "S1-75")
@pytest.mark.parametrize("typed", [" SOUTH ", "South@Example.com"])
async def test_a_forgotten_password_is_set_anew_with_a_code_from_the_mail(
    world: World, box: Mailbox, typed: str
) -> None:
    before = await world.client.log_in("agent", "south", PASSWORD)
    for _ in range(5):
        await world.client.log_in("agent", "south", "wrong")
    locked = await world.client.log_in("agent", "south", PASSWORD)
    assert [error["code"] for error in locked["errors"]] == ["ACCOUNT_LOCKED"]

    assert await forgot(world, typed) == DONE
    await relay(world)
    [mail] = box.mails
    assert (mail["To"], mail["Subject"]) == ("south@example.com", "重置密码验证码")
    code = code_in(box)
    assert await reset(world, typed, code) == DONE
    # unlocked, with the new password alone, and out everywhere
    assert (await world.client.log_in("agent", "south", NEW_PASSWORD))["errors"] == []
    assert [e["code"] for e in (await world.client.log_in("agent", "south", PASSWORD))["errors"]] == [
        "WRONG_CREDENTIALS"
    ]
    token = before["session"]["accessToken"]
    assert (await world.client.post("agent", "{ viewer { door } }", token=token)).status_code == 401
    assert await reset(world, typed, code, "yet another 44") == refusal("WRONG_CODE")
    await relay(world)
    assert box.mails[-1]["Subject"] == "您的密码已重置"

    # the code and the passwords are kept nowhere
    rows = await world.sql(
        """SELECT concat_ws(' ', parameters, subject, body, last_error) AS said FROM notification
           UNION ALL SELECT arguments::text FROM operation_record UNION ALL SELECT payload::text FROM outbox_event"""
    )
    kept = " ".join(row["said"] for row in rows)
    assert code not in kept
    assert NEW_PASSWORD not in kept
    logged = await world.sql(
        "SELECT arguments, outcome FROM operation_record WHERE mutation = 'reset_password' ORDER BY id"
    )
    hidden = {"input": {"account": typed, "verification_code": "[redacted]", "new": "[redacted]"}}
    assert [(json.loads(row["arguments"]), row["outcome"]) for row in logged] == [
        (hidden, "SUCCEEDED"),
        (hidden, "WRONG_CODE"),
    ]
    [asked] = await stored(world, "kind = 'account.password_reset'")
    assert (asked["state"], asked["secrets_encrypted"], asked["body"]) == ("SENT", None, None)
    [node] = await seen(world, "admin", "account.password_reset")
    assert (node["subject"], node["body"]) == ("重置密码验证码", None)


@pytest.mark.feature("S0-35", "S1-73", "S1-75")
@pytest.mark.timeout(120)
async def test_a_celery_worker_brings_the_code_and_the_other_news(world: World, box: Mailbox, place: Place) -> None:
    """From the outbox over the queue to the mailbox, with nothing of the test in between."""
    await address(world, "north", "north@customer.example")
    await hand_down(world)
    await forgot(world, "south")
    command = ("-m", "celery", "-A", "tasks.app", "worker", "--concurrency", "1", "--loglevel", "ERROR")
    worker = subprocess.Popen([sys.executable, *command], cwd=PROJECT, env=environment(place, box))  # noqa: ASYNC220
    broker = Celery(broker=place.settings.redis_url)
    try:
        async with asyncio.timeout(90):
            while len(box.mails) < 2:
                for task in (
                    "tasks.outbox.relay",
                    "tasks.notifications.sweep",
                    "tasks.notifications.api_keys_expiring",
                ):
                    broker.send_task(task, queue="trellis", ignore_result=True)
                await asyncio.sleep(1)
    finally:
        broker.close()
        worker.terminate()
        await asyncio.to_thread(worker.wait, 20)
    by_address = {mail["To"]: number for number, mail in enumerate(box.mails)}
    assert set(by_address) == {"north@customer.example", "south@example.com"}
    code = re.search(r"\b[0-9]{6}\b", box.text(by_address["south@example.com"]))
    assert code is not None
    assert await reset(world, "south", code[0]) == DONE


@pytest.mark.feature("S1-75")
async def test_a_code_waits_encrypted_and_goes_with_the_message(world: World, box: Mailbox) -> None:
    box.faults = ["451 try later"]
    await forgot(world, "south")
    await relay(world)
    [row] = await stored(world)
    assert (row["state"], json.loads(row["parameters"])) == ("QUEUED", {"name": "south", "minutes": "10"})
    assert row["secrets_encrypted"] is not None
    row = await attempt(world, row["id"])
    assert (row["state"], row["secrets_encrypted"]) == ("SENT", None)
    assert await reset(world, "south", code_in(box)) == DONE


@pytest.mark.feature("S1-75")
async def test_whether_an_account_exists_shows_nowhere(world: World, box: Mailbox) -> None:
    """Asked for, tried with any code, or asked for too often: unknown, disabled, shared and foreign look the same."""
    await world.sql("UPDATE staff_account SET status = 'DISABLED' WHERE login = 'acme'")
    await world.sql("UPDATE staff_account SET email = NULL WHERE login = 'coast'")
    await world.sql("UPDATE staff_account SET email = 'shared@example.com' WHERE login LIKE 'north%'")
    for account in ("nobody", "acme", "admin", "coast", "shared@example.com", "nobody@example.com", "x' OR 1=1 --"):
        told = [await forgot(world, account) for _ in range(6)]
        assert told[:5] == [DONE] * 5
        assert [error["code"] for error in told[5]["errors"]] == ["TOO_MANY_ATTEMPTS"]
        assert await reset(world, account, "123456") == refusal("WRONG_CODE")
        for name in await world.client.application.runtime.redis.keys("trellis:codes-*from*"):
            await world.client.application.runtime.redis.delete(name)
    await relay(world)
    assert box.mails == []
    assert await stored(world) == []
    # by its name each of those who share an address still can
    assert await forgot(world, "north") == DONE
    await relay(world)
    assert [mail["To"] for mail in box.mails] == ["shared@example.com"]
    assert await reset(world, "north", code_in(box)) == DONE


@pytest.mark.feature("S1-75")
async def test_a_refused_reset_changes_nothing(world: World, box: Mailbox) -> None:
    before = await world.sql("SELECT login, password_hash FROM staff_account ORDER BY id")
    await forgot(world, "south")
    await relay(world)
    code = code_in(box)
    assert await reset(world, "south", wrong(code)) == refusal("WRONG_CODE")
    assert await reset(world, "south", code, "short") == refusal("WEAK_PASSWORD", "new")
    assert await reset(world, " ", code) == refusal("REQUIRED", "account")
    # the code is this account's alone, at the door that lets it in
    assert await reset(world, "north", code) == refusal("WRONG_CODE")
    assert await reset(world, "south", code, door="admin") == refusal("WRONG_CODE")
    assert await reset(world, "south", code, door="partner") == refusal("NOT_POSSIBLE_HERE", None)
    assert [e["code"] for e in (await forgot(world, "south", "partner"))["errors"]] == ["NOT_POSSIBLE_HERE"]
    assert await world.sql("SELECT login, password_hash FROM staff_account ORDER BY id") == before
    assert await reset(world, "south", code) == DONE


@pytest.mark.feature("S1-75")
async def test_of_two_resets_at_once_with_one_code_one_succeeds(world: World, box: Mailbox) -> None:
    await forgot(world, "admin", "admin")
    await relay(world)
    code = code_in(box)
    answers = await asyncio.gather(*(reset(world, "admin", code, f"password {n} 4x", "admin") for n in range(4)))
    assert sorted(answer["done"] for answer in answers) == [False, False, False, True]
    won = next(n for n, answer in enumerate(answers) if answer["done"])
    assert (await world.client.log_in("admin", "admin", f"password {won} 4x"))["errors"] == []


async def test_a_lost_code_is_replaced_when_the_event_is_delivered_again(world: World, box: Mailbox) -> None:
    await forgot(world, "south")
    await relay(world)
    await world.sql("UPDATE outbox_event SET sent_at = NULL WHERE topic = 'account.password_reset'")
    await relay(world)
    first, second = box.text(0), box.text(1)
    assert await reset(world, "south", code_in(box)) == DONE
    assert first != second


@pytest.mark.feature("S1-75")
async def test_every_door_with_passwords_ships_the_way_back_in() -> None:
    reset = {"RequestPasswordReset", "ResetPassword"}
    shipped = {door for door in load_doors() if reset <= documents(FRONTENDS / door).keys()}
    assert shipped == {"admin", "agent", "dealer", "merchant"}
