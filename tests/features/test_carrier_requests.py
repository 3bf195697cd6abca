"""What is done to a card here is done at its carrier: told once, asked after, and never told twice for one wish."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import pytest
from starlette.responses import Response

from authz.principal import system
from gateways.carrier import CardStatus, CarrierQuery, Used, carriers, control_center_sandbox
from gateways.carrier.cards import CHINA
from gateways.carrier.connection_management import enciphered
from gateways.carrier.connection_management_sandbox import Sandbox as ConnectionManagement
from gateways.carrier.control_center import cycle_of
from gateways.carrier.control_center_sandbox import Sandbox as ControlCenter
from gateways.carrier.registry import INTERFACES
from gateways.carrier.sandbox import CHANGE_PATH
from gateways.carrier.sandbox import Sandbox as OneLink
from gateways.http import Partner
from models.carrier_requests import CarrierAction
from models.catalog import Carrier
from planner.ids import encode_id
from services import carrier_requests, plan_changes
from services.usage import pulling
from tests.support.commerce import package_id
from tests.support.serving import serving
from tests.support.world import World

UPDATE_SUPPLIER = """mutation($input: UpdateSupplierInput!) { updateSupplier(input: $input) {
    errors { code field } } }"""
CHANGE = """mutation($input: ChangeSimStatusInput!) { %s(input: $input) { errors { code field } } }"""
LIST = """{ carrierRequests(orderBy: [{field: CREATED_AT}]) { nodes {
    id action status attempts lastResponse simCard { id } } } }"""
STAFF = "{ carrierRequests { nodes { requestNo carrierNo plan } } }"
RETRY = """mutation($input: RetryCarrierRequestInput!) { retryCarrierRequest(input: $input) {
    carrierRequest { status } errors { code field } } }"""
REQUEST_PLAN_CHANGE = """mutation($input: RequestSimPlanChangeInput!) { requestSimPlanChange(input: $input) {
    errors { code field } } }"""
BIND = """mutation($input: BindSimPackageInput!) { bindSimPackage(input: $input) { errors { code field } } }"""
SANDBOXES: dict[str, Any] = {
    "onelink": (OneLink, "app:sandbox"),
    "control_center": (ControlCenter, "unicom:sandbox"),
    "connection_management": (ConnectionManagement, "sandbox:sandbox:abcdefghi"),
}
ALL = pytest.mark.parametrize("carrier", list(SANDBOXES), indirect=True)
LATE = {"onelink": "late", "control_center": "timeout", "connection_management": "timeout"}
SECONDS, MINUTES = timedelta(seconds=40), timedelta(minutes=6)


@dataclass
class Behind:
    """The cards of the world at one carrier, and its sandbox."""

    world: World
    interface: str
    sandbox: Any

    @property
    def card(self) -> str:
        return self.world.card_ids("north")[0]

    @property
    def iccid(self) -> str:
        found: str = self.world.cards["north"][0].iccid
        return found

    async def fault(self, kind: str, times: int = 1) -> None:
        held = self.sandbox._faults if isinstance(self.sandbox, OneLink) else self.sandbox.faults
        held[kind] = times

    def orders(self) -> int:
        """How often the carrier was asked for a change."""
        if isinstance(self.sandbox, OneLink):
            return self.sandbox.calls[CHANGE_PATH]
        return sum((self.sandbox.edits if isinstance(self.sandbox, ControlCenter) else self.sandbox.orders).values())

    async def there(self) -> CardStatus:
        """How the carrier sees the card."""
        key = SANDBOXES[self.interface][1]
        (state,) = await carriers.states(CarrierQuery(self.interface, key, [self.iccid]))
        assert not isinstance(state, Exception), state
        return state.status

    async def change(self, action: str, caller: str = "operations") -> None:
        input = {"cards": {"ids": [self.card]}, "reason": "a reason", "idempotencyKey": str(uuid.uuid4())}
        payload = await self.world.data(caller, CHANGE % f"{action}SimCards", {"input": input})
        assert payload[f"{action}SimCards"]["errors"] == []

    async def work(self, later: timedelta = timedelta()) -> int:
        runtime = self.world.client.application.runtime
        return await carrier_requests.carry_out(runtime.database, runtime.keys, datetime.now(UTC) + later)

    async def listed(self, caller: str = "north") -> list[tuple[str, str, int, str | None]]:
        nodes = (await self.world.data(caller, LIST))["carrierRequests"]["nodes"]
        return [(one["action"], one["status"], one["attempts"], one["lastResponse"]) for one in nodes]

    async def only(self) -> str:
        (node,) = (await self.world.data("north", LIST))["carrierRequests"]["nodes"]
        found: str = node["id"]
        return found


@pytest.fixture
async def carrier(
    world: World, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> AsyncIterator[Behind]:
    interface = getattr(request, "param", "control_center")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    make, key = SANDBOXES[interface]
    sandbox = make()
    async with serving(sandbox.app) as url:
        monkeypatch.setenv(f"TRELLIS_CARRIER_{interface.upper()}_URL", url)
        adapter: Any = INTERFACES[interface](url)
        adapter._partner = Partner("CARRIER", interface, timeout_seconds=0.5)
        monkeypatch.setitem(carriers._known, (interface, url), adapter)
        supplier = world.suppliers[Carrier.CMCC]
        input = {"id": encode_id("sup", supplier.id), "interfaceName": interface, "apiKey": key}
        assert (await world.data("operations", UPDATE_SUPPLIER, {"input": input}))["updateSupplier"]["errors"] == []
        await world.sql(
            "UPDATE sim_card SET supplier_id = $1, status = 'ACTIVE', activated_at = '2026-01-01'", supplier.id
        )
        found = Behind(world, interface, sandbox)
        if isinstance(sandbox, OneLink):
            sandbox.changed[found.iccid] = "2"
        yield found
        await adapter.close()


@pytest.mark.feature("S0-24")
@ALL
async def test_a_card_is_suspended_and_resumed_at_its_carrier(carrier: Behind) -> None:
    await carrier.change("suspend")
    assert await carrier.listed() == [("SUSPEND", "PENDING", 0, None)]
    await carrier.work()
    assert await carrier.listed() == [("SUSPEND", "ACCEPTED", 1, "ACCEPTED")]
    await carrier.work(SECONDS)
    assert await carrier.listed() == [("SUSPEND", "SUCCEEDED", 1, "DONE")]
    assert (await carrier.there(), carrier.orders()) == (CardStatus.SUSPENDED, 1)
    await carrier.change("resume")
    await carrier.work()
    await carrier.work(SECONDS)
    assert (await carrier.listed())[1] == ("RESUME", "SUCCEEDED", 1, "DONE")
    assert (await carrier.there(), carrier.orders()) == (CardStatus.ACTIVE, 2)
    assert await carrier.work(timedelta(days=1)) == 0


@ALL
async def test_what_is_not_known_is_asked_for_and_not_told_again(carrier: Behind) -> None:
    await carrier.fault(LATE[carrier.interface])
    await carrier.change("suspend")
    await carrier.work()
    assert await carrier.listed() == [("SUSPEND", "UNKNOWN", 1, "CARRIER_UNAVAILABLE")]
    await carrier.work(SECONDS)
    assert await carrier.listed() == [("SUSPEND", "SUCCEEDED", 1, "DONE")]
    assert carrier.orders() == 1


@pytest.mark.parametrize("carrier", ["control_center", "connection_management"], indirect=True)
async def test_what_a_carrier_never_had_is_told_again_after_minutes(carrier: Behind) -> None:
    await carrier.fault("lost")
    await carrier.change("suspend")
    await carrier.work()
    await carrier.work(SECONDS)
    assert (await carrier.listed(), carrier.orders()) == ([("SUSPEND", "UNKNOWN", 1, "CARRIER_UNAVAILABLE")], 0)
    await carrier.work(MINUTES)
    await carrier.work(MINUTES + SECONDS)
    assert (await carrier.listed(), carrier.orders()) == ([("SUSPEND", "SUCCEEDED", 2, "DONE")], 1)


@pytest.mark.feature("S0-24")
async def test_what_a_carrier_does_not_do_is_given_up_and_retried_by_staff(carrier: Behind) -> None:
    await carrier.fault("ignored", times=5)
    await carrier.change("suspend")
    for step in range(1, 30):
        await carrier.work(step * MINUTES)
    assert await carrier.listed() == [("SUSPEND", "FAILED", 5, "NOT_DONE")]
    assert carrier.orders() == 5
    retry = {"input": {"id": await carrier.only(), "idempotencyKey": str(uuid.uuid4())}}
    for caller in ("north", "sales", "finance"):
        assert await carrier.world.codes(caller, RETRY, retry) == ["FORBIDDEN"], caller
    found = (await carrier.world.data("operations", RETRY, retry))["retryCarrierRequest"]
    assert found == {"carrierRequest": {"status": "PENDING"}, "errors": []}
    again = {"input": {**retry["input"], "idempotencyKey": str(uuid.uuid4())}}
    found = (await carrier.world.data("operations", RETRY, again))["retryCarrierRequest"]
    assert found == {"carrierRequest": None, "errors": [{"code": "CARRIER_REQUEST_STATUS", "field": "id"}]}
    await carrier.work()
    await carrier.work(SECONDS)
    assert await carrier.listed() == [("SUSPEND", "SUCCEEDED", 6, "DONE")]


@ALL
async def test_a_later_wish_takes_the_place_of_an_earlier_one(carrier: Behind) -> None:
    await carrier.change("suspend")
    await carrier.change("resume")
    assert [one[:2] for one in await carrier.listed()] == [("SUSPEND", "FAILED"), ("RESUME", "PENDING")]
    await carrier.work()
    await carrier.work(SECONDS)
    first, second = await carrier.listed()
    assert (first[3], second[1]) == ("SUPERSEDED", "SUCCEEDED")
    assert await carrier.there() is CardStatus.ACTIVE
    superseded = (await carrier.world.data("north", LIST))["carrierRequests"]["nodes"][0]["id"]
    retry = {"input": {"id": superseded, "idempotencyKey": str(uuid.uuid4())}}
    found = (await carrier.world.data("operations", RETRY, retry))["retryCarrierRequest"]
    assert found["errors"] == [{"code": "NEWER_REQUEST", "field": "id"}]


async def test_what_a_carrier_refuses_is_told_some_times_and_has_failed(carrier: Behind) -> None:
    carrier.sandbox.card(carrier.iccid)["status"] = "RETIRED"
    await carrier.world.sql("UPDATE sim_card SET status = 'SUSPENDED'")
    await carrier.change("resume")
    await carrier.work()
    assert await carrier.listed() == [("RESUME", "PENDING", 1, "CARRIER_REFUSED")]
    for step in range(1, 10):
        await carrier.work(step * MINUTES)
    assert await carrier.listed() == [("RESUME", "FAILED", 5, "CARRIER_REFUSED")]
    (node,) = (await carrier.world.data("operations", "{ carrierRequests { nodes { answer } } }"))["carrierRequests"][
        "nodes"
    ]
    assert "refused by the sandbox" in node["answer"]


async def test_an_answer_that_no_text_can_hold_stops_nothing(carrier: Behind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_center_sandbox, "_refusal", lambda status, _: Response(b"oops\x00", status))
    carrier.sandbox.card(carrier.iccid)["status"] = "RETIRED"
    await carrier.world.sql("UPDATE sim_card SET status = 'SUSPENDED'")
    await carrier.change("resume")
    await carrier.work()
    assert await carrier.listed() == [("RESUME", "PENDING", 1, "CARRIER_REFUSED")]
    (row,) = await carrier.world.sql("SELECT answer FROM carrier_request")
    assert row["answer"] == "oops\ufffd"


@ALL
async def test_what_a_carrier_answers_is_kept_as_it_comes(carrier: Behind) -> None:
    async def answers() -> list[str]:
        return [row["answer"] for row in await carrier.world.sql("SELECT answer FROM carrier_request ORDER BY id")]

    await carrier.change("suspend")
    await carrier.work()
    (taken,) = await answers()
    await carrier.work(SECONDS)
    (seen,) = await answers()
    assert taken
    assert seen
    assert taken != seen
    await carrier.world.sql("UPDATE supplier SET api_key_encrypted = NULL")
    await carrier.change("resume")
    await carrier.work()
    assert (await answers())[1].startswith("The supplier's API key must be ")


@pytest.mark.parametrize("carrier", ["onelink"], indirect=True)
async def test_a_token_that_was_bought_is_not_kept_as_an_answer(carrier: Behind) -> None:
    await carrier.fault("late")
    await carrier.change("suspend")
    await carrier.work()
    assert len(carrier.sandbox.tokens) == 1
    (row,) = await carrier.world.sql("SELECT answer FROM carrier_request")
    assert row["answer"] == "onelink did not answer in time."


async def test_what_was_refused_too_soon_is_done_later(carrier: Behind) -> None:
    carrier.sandbox.card(carrier.iccid)["status"] = "RETIRED"
    await carrier.world.sql("UPDATE sim_card SET status = 'SUSPENDED'")
    await carrier.change("resume")
    await carrier.work()
    carrier.sandbox.card(carrier.iccid)["status"] = "DEACTIVATED"
    await carrier.work(MINUTES)
    await carrier.work(MINUTES + SECONDS)
    assert await carrier.listed() == [("RESUME", "SUCCEEDED", 2, "DONE")]


@ALL
async def test_a_later_wish_waits_for_one_that_is_under_way(carrier: Behind) -> None:
    """However late the call of a slow worker comes in, the card ends as it was wished last."""
    await carrier.change("suspend")
    runtime = carrier.world.client.application.runtime
    (slow,) = await carrier_requests._claim(runtime.database, runtime.keys, datetime.now(UTC))
    await carrier.change("resume")
    await carrier.work()
    assert [one[:3] for one in await carrier.listed()] == [("SUSPEND", "UNKNOWN", 1), ("RESUME", "PENDING", 0)]
    await carrier_requests._ask(slow)
    for step in range(1, 6):
        await carrier.work(step * MINUTES)
    assert [one[:2] for one in await carrier.listed()] == [("SUSPEND", "SUCCEEDED"), ("RESUME", "SUCCEEDED")]
    assert await carrier.there() is CardStatus.ACTIVE


@pytest.mark.parametrize("carrier", ["control_center", "connection_management"], indirect=True)
async def test_what_was_lost_is_not_told_again_once_something_else_is_wished(carrier: Behind) -> None:
    await carrier.fault("lost")
    await carrier.change("suspend")
    await carrier.work()
    await carrier.change("resume")
    for step in range(1, 5):
        await carrier.work(step * MINUTES)
    first, second = await carrier.listed()
    assert (first[1:], second[1]) == (("FAILED", 1, "SUPERSEDED"), "SUCCEEDED")
    assert await carrier.there() is CardStatus.ACTIVE


@ALL
async def test_a_card_that_is_given_up_is_cut_off(carrier: Behind) -> None:
    await carrier.change("suspend")
    await carrier.work()
    await carrier.work(SECONDS)
    await carrier.change("resume")
    await carrier.change("terminate")
    assert [one[:2] for one in await carrier.listed()] == [
        ("SUSPEND", "SUCCEEDED"),
        ("RESUME", "FAILED"),
        ("SUSPEND", "PENDING"),
    ]
    for step in range(1, 4):
        await carrier.work(step * MINUTES)
    assert (await carrier.listed())[2][1] == "SUCCEEDED"
    assert await carrier.there() is CardStatus.SUSPENDED


async def test_nothing_is_retried_that_a_card_is_not_to_be(carrier: Behind) -> None:
    await carrier.world.sql("UPDATE sim_card SET status = 'SUSPENDED'")
    await carrier.change("resume")
    await carrier.world.sql(
        "UPDATE carrier_request SET status = 'FAILED', finished_at = now(), last_response = 'NOT_DONE'"
    )
    await carrier.world.sql("UPDATE sim_card SET status = 'TERMINATED'")
    retry = {"input": {"id": await carrier.only(), "idempotencyKey": str(uuid.uuid4())}}
    found = (await carrier.world.data("operations", RETRY, retry))["retryCarrierRequest"]
    assert found["errors"] == [{"code": "NEWER_REQUEST", "field": "id"}]


async def test_what_is_never_known_is_given_up_after_days(carrier: Behind) -> None:
    await carrier.fault("lost")
    await carrier.change("suspend")
    await carrier.work()
    await carrier.world.sql("UPDATE supplier SET api_key_encrypted = NULL")
    for days in (1, 2):
        await carrier.work(timedelta(days=days))
    assert (await carrier.listed())[0][1] == "UNKNOWN"
    await carrier.work(timedelta(days=4))
    assert await carrier.listed() == [("SUSPEND", "FAILED", 1, "NOT_KNOWN")]


async def test_one_answer_that_cannot_be_read_keeps_no_other_waiting(
    carrier: Behind, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = carrier.world.card_ids("north")[:2]
    input = {"cards": {"ids": ids}, "reason": "a reason", "idempotencyKey": str(uuid.uuid4())}
    await carrier.world.data("operations", CHANGE % "suspendSimCards", {"input": input})
    change = carriers.change

    async def broken(query: CarrierQuery, request: Any) -> str | None:
        if carrier.iccid in query.iccids:
            raise RecursionError
        return await change(query, request)

    monkeypatch.setattr(carriers, "change", broken)
    await carrier.work()
    assert sorted(one[1] for one in await carrier.listed()) == ["ACCEPTED", "UNKNOWN"]


async def test_a_card_that_is_as_it_should_be_counts_as_done(carrier: Behind) -> None:
    carrier.sandbox.card(carrier.iccid)["status"] = "DEACTIVATED"
    await carrier.fault("ignored")
    await carrier.change("suspend")
    await carrier.work()
    await carrier.work(SECONDS)
    assert await carrier.listed() == [("SUSPEND", "SUCCEEDED", 1, "DONE")]


async def test_two_workers_tell_a_carrier_once(carrier: Behind) -> None:
    await carrier.change("suspend")
    await asyncio.gather(*(carrier.work() for _ in range(4)))
    assert carrier.orders() == 1


async def test_a_worker_that_died_after_it_told_asks(carrier: Behind) -> None:
    await carrier.change("suspend")
    runtime = carrier.world.client.application.runtime
    (due,) = await carrier_requests._claim(runtime.database, runtime.keys, datetime.now(UTC))
    await carrier_requests._ask(due)
    assert await carrier.listed() == [("SUSPEND", "UNKNOWN", 1, None)]
    await carrier.work(timedelta(minutes=3))
    assert (await carrier.listed(), carrier.orders()) == ([("SUSPEND", "SUCCEEDED", 1, "DONE")], 1)


async def test_suppliers_that_nobody_speaks_to_are_left_alone(carrier: Behind) -> None:
    await carrier.world.sql("UPDATE supplier SET interface_name = 'by telephone'")
    await carrier.change("suspend")
    assert await carrier.listed() == []


@pytest.mark.feature("S0-24")
async def test_who_sees_requests_to_carriers(carrier: Behind) -> None:
    await carrier.change("suspend")
    await carrier.work()
    assert len(await carrier.listed("admin")) == len(await carrier.listed("north")) == 1
    assert await carrier.listed("south") == await carrier.listed("acme") == []
    assert (await carrier.world.data("operations", STAFF))["carrierRequests"]["nodes"][0]["requestNo"]
    for field in ("requestNo", "carrierNo", "plan", "answer"):
        query = f"{{ carrierRequests {{ nodes {{ {field} }} }} }}"
        assert await carrier.world.codes("north", query) == ["FORBIDDEN"], field


@pytest.mark.feature("S0-16")
@pytest.mark.parametrize("carrier", ["control_center", "onelink"], indirect=True)
async def test_a_change_of_plan_is_told_to_the_carrier(carrier: Behind) -> None:
    world = carrier.world
    await world.sql("UPDATE data_package SET carrier_plan = 'MON-30M' WHERE code = 'CM-M-30M'")
    input = {
        "cards": {"ids": [carrier.card]},
        "package": package_id(world, "CM-M-30M"),
        "idempotencyKey": str(uuid.uuid4()),
    }
    payload = await world.data("operations", REQUEST_PLAN_CHANGE, {"input": input})
    assert payload["requestSimPlanChange"]["errors"] == []
    assert await carrier.listed() == []
    await plan_changes.apply_due(world.client.application.runtime.database, datetime.now(UTC) + timedelta(days=40))
    await carrier.work()
    await carrier.work(SECONDS)
    if carrier.interface == "onelink":
        assert await carrier.listed() == [("CHANGE_PLAN", "FAILED", 1, "NOT_SUPPORTED")]
        return
    assert await carrier.listed() == [("CHANGE_PLAN", "SUCCEEDED", 1, "DONE")]
    assert carrier.sandbox.devices[carrier.iccid]["ratePlan"] == "MON-30M"


@pytest.mark.feature("S0-16")
@pytest.mark.parametrize("meanwhile", ["bound to another", "bound to nothing", "given up", "of another supplier"])
async def test_a_plan_that_a_card_has_not_any_more_is_not_told(carrier: Behind, meanwhile: str) -> None:
    world = carrier.world
    await world.sql("UPDATE data_package SET carrier_plan = 'MON-30M' WHERE code = 'CM-M-30M'")
    if meanwhile == "of another supplier":
        await world.sql("UPDATE data_package SET supplier_id = $1", world.suppliers[Carrier.CUCC].id)
    key = world.cards["north"][0].id
    await world.sql("UPDATE sim_card SET package_id = $1 WHERE id = $2", world.packages["CM-M-30M"].id, key)
    database = world.client.application.runtime.database
    async with database.transaction(system("test")) as session:
        await carrier_requests.wish(session, [key], CarrierAction.CHANGE_PLAN)
    if meanwhile == "given up":
        await world.sql("UPDATE sim_card SET status = 'TERMINATED'")
    elif meanwhile != "of another supplier":
        package = package_id(world, "CM-M-1G") if meanwhile == "bound to another" else None
        input = {"cards": {"ids": [carrier.card]}, "package": package}
        assert (await world.data("operations", BIND, {"input": input}))["bindSimPackage"]["errors"] == []
    await carrier.work()
    expected = [] if meanwhile == "of another supplier" else [("CHANGE_PLAN", "FAILED", 0, "SUPERSEDED")]
    assert (await carrier.listed(), carrier.orders()) == (expected, 0)


@pytest.mark.feature("S0-31")
@ALL
async def test_whether_the_carrier_knows_who_uses_a_card(carrier: Behind) -> None:
    query = "query($id: ID!) { simCard(id: $id) { realNameRegistered } }"
    answer = await carrier.world.run("north", query, {"id": carrier.card})
    if carrier.interface == "control_center":
        (error,) = answer["errors"]
        assert (error["extensions"]["code"], error["message"]) == (
            "NOT_SUPPORTED",
            "The carrier of this card does not tell this.",
        )
        answer = await carrier.world.run("operations", query, {"id": carrier.card})
        assert answer["errors"][0]["message"] == "Control Center does not tell of real names."
        return
    assert answer["data"]["simCard"]["realNameRegistered"] is (
        carrier.interface == "onelink" and int(carrier.iccid[-3]) % 2 == 0
    )
    if carrier.interface == "connection_management":
        carrier.sandbox.card(carrier.iccid[:19])["registered"] = True
        answer = await carrier.world.run("north", query, {"id": carrier.card})
        assert answer["data"]["simCard"]["realNameRegistered"] is True


@pytest.mark.feature("S0-51")
@pytest.mark.parametrize(
    ("counters", "expected"),
    [
        # a cycle that is seen from its beginning; the second day of it was missed
        ({0: 300, 2: 1000, 3: 1500}, {0: 300, 2: 700, 3: 500}),
        # a card that is seen in the middle of a cycle for the first time: what it used before is nobody's
        ({9: 2_000_000, 10: 2_000_100}, {9: 0, 10: 100}),
        # a counter that is set back, and one that is corrected
        ({0: 1000, 1: 5000, 2: 200, 3: 900}, {0: 1000, 1: 4000, 2: 0, 3: 700}),
    ],
)
async def test_usage_counted_by_cycle_is_booked_by_day(
    carrier: Behind, counters: dict[int, int], expected: dict[int, int]
) -> None:
    """Each day has what the counter has gained since it was seen last."""
    runtime = carrier.world.client.application.runtime
    card, begins = carrier.world.cards["north"][0].id, date(2026, 3, 27)
    for day, kb in counters.items():
        for _ in range(2):  # a repeat changes nothing
            await pulling.record(runtime.database, begins + timedelta(days=day), {card: Used(kb, since=begins)})
    rows = await carrier.world.sql("SELECT day, used_kb FROM daily_usage WHERE sim_card_id = $1 ORDER BY day", card)
    assert {(row["day"] - begins).days: row["used_kb"] for row in rows} == expected


@pytest.mark.feature("S0-51")
async def test_a_card_activated_in_a_cycle_owes_all_that_the_cycle_counts(carrier: Behind) -> None:
    runtime = carrier.world.client.application.runtime
    card, begins = carrier.world.cards["north"][0].id, date(2026, 3, 27)
    await carrier.world.sql("UPDATE sim_card SET activated_at = '2026-03-30'")
    await pulling.record(runtime.database, date(2026, 4, 2), {card: Used(700, since=begins)})
    # the next cycle, of which the first days were missed: it was known before
    await pulling.record(runtime.database, date(2026, 4, 29), {card: Used(90, since=date(2026, 4, 27))})
    rows = await carrier.world.sql("SELECT used_kb FROM daily_usage WHERE sim_card_id = $1 ORDER BY day", card)
    assert [row["used_kb"] for row in rows] == [700, 90]


@pytest.mark.feature("S0-51")
async def test_what_a_cycle_has_counted_is_pulled_for_yesterday_and_for_its_last_day(carrier: Behind) -> None:
    runtime = carrier.world.client.application.runtime
    today = datetime.now(CHINA).date()
    yesterday = today - timedelta(days=1)
    last = cycle_of(yesterday) - timedelta(days=1)
    await carrier.world.sql("UPDATE sim_card SET activated_at = $1", datetime.combine(last, time(), UTC))
    for day in sorted({last, yesterday}):
        carrier.sandbox.used[carrier.iccid, str(cycle_of(day))] = 1000 * 1024
        told = await pulling.pull(runtime.database, runtime.keys, day)
        assert told.told > 0
        rows = await carrier.world.sql(
            "SELECT used_kb FROM daily_usage WHERE day = $1 AND sim_card_id = $2",
            day,
            carrier.world.cards["north"][0].id,
        )
        assert [row["used_kb"] for row in rows] == [1000]
    past = next(day for n in range(2, 6) if (day := today - timedelta(days=n)) != last)
    assert (await pulling.pull(runtime.database, runtime.keys, past)).told == 0


async def test_a_supplier_is_pulled_from_by_one_at_a_time(carrier: Behind) -> None:
    runtime = carrier.world.client.application.runtime
    day = datetime.now(CHINA).date() - timedelta(days=1)
    async with AsyncExitStack() as others:
        for supplier in await carrier.world.sql("SELECT id FROM supplier"):
            work = f"pull usage of supplier {supplier['id']}"
            assert await others.enter_async_context(runtime.database.alone(work))
        assert await pulling.pull(runtime.database, runtime.keys, day) == pulling.Pulled()
    assert (await pulling.pull(runtime.database, runtime.keys, day)).told > 0


@pytest.mark.feature("S0-51")
@pytest.mark.parametrize("carrier", ["connection_management"], indirect=True)
async def test_usage_counted_in_megabytes(carrier: Behind) -> None:
    runtime = carrier.world.client.application.runtime
    carrier.sandbox.used[carrier.iccid[:19], "20260314"] = "1.50"
    await carrier.fault("bad_xml")
    first = await pulling.pull(runtime.database, runtime.keys, date(2026, 3, 14))
    second = await pulling.pull(runtime.database, runtime.keys, date(2026, 3, 14))
    assert (first.missing, second.missing) == (1, 0)
    (row,) = await carrier.world.sql("SELECT sim_card_id, used_kb FROM daily_usage WHERE used_kb > 0")
    assert (row["sim_card_id"], row["used_kb"]) == (carrier.world.cards["north"][0].id, 1536)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("test", "41894168BD86A2CC"),
        ("a", "B349CAC28BE680E9"),
        ("密码1", "EF27572624387ED6"),
        (
            "14914000000,queryPakage,test,test",
            (
                "45E8B9924DE397A8F7E5764767810CF774CC7E1685BA702C9C4C367EFDAE5D932B37C0C8F0F8EB0CAD6372289F407CA9"
                "41894168BD86A2CC32E5804EA05BAA5099649468B9418E52"
            ),
        ),
    ],
)
def test_texts_are_enciphered_as_china_telecom_does(text: str, expected: str) -> None:
    assert enciphered(text, "abcdefghi") == expected
