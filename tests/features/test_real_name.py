"""Real-name activation: an end user shows who it is, the carrier decides, and the card goes into service."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gateways.carrier import carriers
from gateways.carrier.onelink import OneLink
from gateways.carrier.sandbox import Sandbox
from gateways.http import Partner
from models.catalog import Carrier
from planner.ids import encode_id
from services import real_name
from tests.support.mailbox import Mailbox, delivering
from tests.support.people import run, shipped, who
from tests.support.serving import serving
from tests.support.subscribers import publish_terms, register
from tests.support.world import World

PNG = b"\x89PNG\r\n\x1a\n" + b"\x00" * 64
NUMBER = "11010519491231002X"
RECORDS = "{ realNameRecords { nodes { status reason simCard { id } endUser { id } } } }"


@dataclass
class Applicant:
    """A person of north's with a card that is not in service, at the door for end users, and OneLink behind it."""

    world: World
    onelink: Sandbox
    token: str
    card: str

    async def submit(self, name: str = "李明", number: str = NUMBER, *, card: str = "", front: bytes = PNG) -> Any:
        variables = {
            "input": {"card": card or self.card, "name": name, "idNumber": number},
            "front": None,
            "back": None,
        }
        answer = await self.world.client.http.post(
            "/consumer/graphql",
            data={
                "operations": json.dumps({"query": shipped("consumer", "SubmitRealName"), "variables": variables}),
                "map": json.dumps({"0": ["variables.front"], "1": ["variables.back"]}),
            },
            files={"0": ("front.png", front, "image/png"), "1": ("back.png", PNG, "image/png")},
            headers={"authorization": f"Bearer {self.token}", "accept-language": "en"},
        )
        found = answer.json()
        assert "errors" not in found, found
        payload = found["data"]["submitRealName"]
        return [(error["code"], error["field"]) for error in payload["errors"]] or payload["realNameRecord"]["status"]

    async def mine(self) -> list[dict[str, Any]]:
        answer = await run(self.world, "consumer", "MyRealNames", token=self.token)
        nodes: list[dict[str, Any]] = answer["data"]["realNameRecords"]["nodes"]
        return nodes

    async def status(self) -> str:
        (row,) = await self.world.sql("SELECT status FROM sim_card WHERE id = $1", self.world.cards["north"][0].id)
        found: str = row["status"]
        return found

    async def ask(self, later: timedelta) -> None:
        runtime = self.world.client.application.runtime
        await real_name.carry_out(runtime.database, runtime.keys, datetime.now(UTC) + later)


@pytest.fixture
async def ada(world: World, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Applicant]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    await publish_terms(world)
    sandbox = Sandbox()
    async with delivering(world) as box, serving(sandbox.app) as url:
        monkeypatch.setenv("TRELLIS_CARRIER_ONELINK_URL", url)
        adapter = OneLink(url, Partner("CARRIER", "OneLink", timeout_seconds=0.5))
        monkeypatch.setitem(carriers._known, ("onelink", url), adapter)
        supplier = world.suppliers[Carrier.CMCC]
        update = "mutation($input: UpdateSupplierInput!) { updateSupplier(input: $input) { errors { code } } }"
        input = {"id": encode_id("sup", supplier.id), "interfaceName": "onelink", "apiKey": "app:sandbox"}
        assert (await world.data("operations", update, {"input": input}))["updateSupplier"]["errors"] == []
        yield await _applicant(world, box, sandbox)
        await adapter.close()


async def _applicant(world: World, box: Mailbox, sandbox: Sandbox) -> Applicant:
    token = await register(world, box)
    person = await who(world, "consumer", token)
    card = world.card_ids("north")[0]
    await world.sql(
        """UPDATE sim_card SET status = 'ALLOCATED', activated_at = NULL, end_user_id = NULL, supplier_id = $1
           WHERE id = $2""",
        world.suppliers[Carrier.CMCC].id,
        world.cards["north"][0].id,
    )
    bind = "mutation($input: BindSimEndUserInput!) { bindSimEndUser(input: $input) { errors { code field } } }"
    bound = await world.data("north", bind, {"input": {"card": card, "endUser": person}})
    assert bound["bindSimEndUser"]["errors"] == []
    return Applicant(world, sandbox, token, card)


@pytest.mark.feature("S0-31")
async def test_a_card_goes_into_service_once_the_carrier_has_agreed(ada: Applicant) -> None:
    world = ada.world
    assert await ada.submit() == "PENDING"
    assert await ada.status() == "ALLOCATED"
    (stored,) = await world.sql("SELECT * FROM real_name_record")
    told = str(dict(stored))
    assert NUMBER not in told
    assert NUMBER.encode() not in stored["id_number_encrypted"]
    (logged,) = await world.sql(
        "SELECT arguments::text AS told FROM operation_record WHERE mutation = 'submit_real_name'"
    )
    assert NUMBER not in logged["told"]
    assert await ada.submit() == [("REAL_NAME_PENDING", "card")]
    await world.client.work_off()
    assert await ada.status() == "ACTIVE"
    (record,) = await ada.mine()
    assert (record["status"], record["idNumberTail"], record["simCard"]["id"]) == ("VERIFIED", "002X", ada.card)
    (shown,) = ada.onelink.shown
    assert (shown["certNo"], shown["iccid"]) == (NUMBER, world.cards["north"][0].iccid)
    (stored,) = await world.sql("SELECT * FROM real_name_record")
    assert (stored["id_number_encrypted"], stored["front_encrypted"], stored["back_encrypted"]) == (None, None, None)
    (card,) = await world.sql("SELECT activated_at FROM sim_card WHERE id = $1", world.cards["north"][0].id)
    assert card["activated_at"] is not None
    (step,) = await world.sql("SELECT reason FROM sim_status_change WHERE action = 'ACTIVATE' AND reason IS NOT NULL")
    assert step["reason"] == "real name verified"
    assert await ada.submit() == [("WRONG_STATUS", "card")]
    for caller in ("north", "operations"):
        assert [one["status"] for one in (await world.data(caller, RECORDS))["realNameRecords"]["nodes"]] == [
            "VERIFIED"
        ]
    for stranger in ("south", "acme"):
        assert (await world.data(stranger, RECORDS))["realNameRecords"]["nodes"] == []


@pytest.mark.feature("S0-31")
async def test_whom_the_carrier_refuses_may_try_again(ada: Applicant) -> None:
    await ada.submit("拒绝")
    await ada.world.client.work_off()
    (record,) = await ada.mine()
    assert (record["status"], record["reason"]) == ("REJECTED", "REFUSED_BY_CARRIER")
    assert await ada.status() == "ALLOCATED"
    assert await ada.submit() == "PENDING"
    await ada.world.client.work_off()
    assert await ada.status() == "ACTIVE"


@pytest.mark.feature("S0-31")
@pytest.mark.parametrize("fault", ["timeout", "http_500", "bad_json", "expired_token"])
async def test_an_answer_that_does_not_come_is_asked_for_again(ada: Applicant, fault: str) -> None:
    await ada.submit()
    ada.onelink._faults[fault] = 1
    await ada.world.client.work_off()
    await asyncio.gather(*(ada.ask(timedelta(minutes=10)) for _ in range(3)))
    assert await ada.status() == "ACTIVE"
    assert {one["orderId"] for one in ada.onelink.shown} == {ada.onelink.shown[0]["orderId"]}


async def test_a_carrier_may_take_its_time(ada: Applicant) -> None:
    await ada.submit("待定")
    await ada.world.client.work_off()
    assert [one["status"] for one in await ada.mine()] == ["PENDING"]
    (number,) = ada.onelink.real_names
    ada.onelink.real_names[number] = "0"
    await ada.ask(timedelta(hours=2))
    assert await ada.status() == "ACTIVE"


@pytest.mark.feature("S0-31")
async def test_a_card_that_has_another_user_meanwhile_does_not_go_into_service(ada: Applicant) -> None:
    await ada.submit("待定")
    await ada.world.client.work_off()
    other = ada.world.end_users["north"].id
    await ada.world.sql("UPDATE sim_card SET end_user_id = $1 WHERE id = $2", other, ada.world.cards["north"][0].id)
    (number,) = ada.onelink.real_names
    ada.onelink.real_names[number] = "0"
    await ada.ask(timedelta(hours=2))
    assert await ada.status() == "ALLOCATED"
    (record,) = await ada.world.sql("SELECT status, reason, front_encrypted FROM real_name_record")
    assert tuple(record) == ("REJECTED", "CARD_MOVED", None)


@pytest.mark.feature("S0-31")
async def test_what_shows_nobody_is_refused_by_field(ada: Applicant) -> None:
    assert await ada.submit(" ") == [("REQUIRED", "name")]
    for wrong in ("110105194912310021", "123", "", "11010519491331002X"):
        assert await ada.submit(number=wrong) == [("INVALID_ID_NUMBER", "idNumber")]
    assert await ada.submit(front=b"no picture") == [("NOT_A_PICTURE", "front")]
    assert await ada.submit(front=PNG + b"\x00" * real_name.MAX_PICTURE) == [("TOO_LARGE_PICTURE", "front")]
    for stranger in (ada.world.card_ids("north")[1], ada.world.card_ids("south")[0]):
        assert await ada.submit(card=stranger) == [("NOT_FOUND", "card")]
    assert await ada.world.sql("SELECT FROM real_name_record") == []
