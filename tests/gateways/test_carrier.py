"""Asking carriers about cards: real HTTP to the OneLink sandbox on the loopback."""

import asyncio
import logging
import traceback
from collections import Counter
from collections.abc import AsyncIterator, Sequence

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from structlog.testing import capture_logs

from gateways.carrier import CardState, CardStatus, CarrierQuery, Carriers
from gateways.carrier.onelink import OneLink
from gateways.carrier.sandbox import SESSION_PATH, STATUS_PATH, TOKEN_PATH, Sandbox
from gateways.http import CircuitBreaker, GatewayError, Partner
from tests.support.serving import serving

API_KEY = "200155555:sandbox"
PREFIX = "898600000000000000"
CARD, OTHER_CARD = PREFIX + "02", PREFIX + "12"
ONLINE, OFFLINE = CardState(CardStatus.ACTIVE, online=True), CardState(CardStatus.ACTIVE, online=False)


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def sandbox() -> Sandbox:
    return Sandbox()


@pytest.fixture
async def url(sandbox: Sandbox) -> AsyncIterator[str]:
    async with serving(sandbox.app) as url:
        yield url


@pytest.fixture
async def onelink(url: str) -> AsyncIterator[OneLink]:
    carrier = OneLink(url, Partner("CARRIER", "OneLink", timeout_seconds=0.5))
    yield carrier
    await carrier.close()


async def _order(url: str, kind: str, times: int) -> int:
    # Certificates take a while to load, and are not needed here.
    async with httpx.AsyncClient(verify=False) as client:
        return (await client.post(f"{url}/_faults", json={"kind": kind, "times": times})).status_code


async def order_fault(url: str, kind: str, times: int) -> None:
    assert await _order(url, kind, times) == 204


def told(answers: Sequence[CardState | GatewayError]) -> list[CardState | tuple[str, str]]:
    return [answer if isinstance(answer, CardState) else (answer.code, str(answer)) for answer in answers]


async def test_states_come_back_in_the_order_asked(sandbox: Sandbox, onelink: OneLink) -> None:
    endings = ["26", "36", "01", "02", "12", "04", "07", "08", "09", "00", "03", "05"]
    assert told(await onelink.states(API_KEY, [PREFIX + ending for ending in endings])) == [
        CardState(CardStatus.TESTABLE, online=True),
        CardState(CardStatus.TESTABLE, online=False),
        CardState(CardStatus.READY, online=False),
        ONLINE,
        OFFLINE,
        CardState(CardStatus.SUSPENDED, online=False),
        CardState(CardStatus.STOCK, online=False),
        CardState(CardStatus.TERMINATED, online=False),
        CardState(CardStatus.TERMINATED, online=False),
        ONLINE,
        CardState(CardStatus.TERMINATED, online=False),
        CardState(CardStatus.UNKNOWN, online=False),
    ]
    assert sandbox.calls == {TOKEN_PATH: 1, STATUS_PATH: 12, SESSION_PATH: 12}


async def test_no_cards_ask_nothing(sandbox: Sandbox, onelink: OneLink) -> None:
    assert await onelink.states(API_KEY, []) == []
    assert sandbox.calls == {}


async def test_a_card_that_fails_leaves_the_others_alone(onelink: OneLink) -> None:
    assert told(await onelink.states(API_KEY, [CARD, "not a card", OTHER_CARD])) == [
        ONLINE,
        ("CARRIER_REFUSED", "OneLink refused with status 12004."),
        OFFLINE,
    ]


@pytest.mark.parametrize(
    ("kind", "code", "message"),
    [
        ("timeout", "CARRIER_UNAVAILABLE", "OneLink did not answer in time."),
        ("http_500", "CARRIER_UNAVAILABLE", "OneLink answered with HTTP status 500."),
        ("bad_json", "CARRIER_UNAVAILABLE", "OneLink gave an answer that cannot be understood."),
        ("unknown_card", "CARRIER_REFUSED", "OneLink refused with status 12004."),
    ],
)
async def test_each_fault_is_told_and_passes(
    sandbox: Sandbox, url: str, onelink: OneLink, kind: str, code: str, message: str
) -> None:
    assert told(await onelink.states(API_KEY, [CARD])) == [ONLINE]
    await order_fault(url, kind, 1)
    assert told(await onelink.states(API_KEY, [CARD])) == [(code, message)]
    assert told(await onelink.states(API_KEY, [CARD])) == [ONLINE]
    assert sandbox.calls == {TOKEN_PATH: 1, STATUS_PATH: 3, SESSION_PATH: 2}


async def test_an_unheard_of_fault_is_refused(url: str) -> None:
    assert await _order(url, "flood", 1) == 400


async def test_an_expired_token_is_bought_anew_and_the_cards_asked_again(
    sandbox: Sandbox, url: str, onelink: OneLink
) -> None:
    cards = [PREFIX + f"{number}2" for number in range(10)]
    expected = [ONLINE if number % 2 == 0 else OFFLINE for number in range(10)]
    assert await onelink.states(API_KEY, cards) == expected
    await order_fault(url, "expired_token", 1)
    assert await onelink.states(API_KEY, cards) == expected
    assert sandbox.calls[TOKEN_PATH] == 2


async def test_a_token_that_expires_again_is_not_bought_a_third_time(
    sandbox: Sandbox, url: str, onelink: OneLink
) -> None:
    await order_fault(url, "expired_token", 2)
    assert told(await onelink.states(API_KEY, [CARD])) == [
        ("CARRIER_REFUSED", "OneLink does not take the token that it gave.")
    ]
    assert sandbox.calls == {TOKEN_PATH: 2, STATUS_PATH: 2}
    assert told(await onelink.states(API_KEY, [CARD])) == [ONLINE]


async def test_a_token_is_kept_for_its_time_and_bought_once_by_many(sandbox: Sandbox, onelink: OneLink) -> None:
    answers = await asyncio.gather(*(onelink.states(API_KEY, [CARD]) for _ in range(5)))
    assert answers == [[ONLINE]] * 5
    assert sandbox.calls[TOKEN_PATH] == 1


async def test_a_token_is_not_used_past_its_time() -> None:
    brief = Sandbox(token_seconds=1)
    async with serving(brief.app) as url:
        carrier = OneLink(url)
        assert await carrier.states(API_KEY, [CARD]) == [ONLINE]
        await asyncio.sleep(1.1)
        assert await carrier.states(API_KEY, [CARD]) == [ONLINE]
        await carrier.close()
    assert brief.calls == {TOKEN_PATH: 2, STATUS_PATH: 2, SESSION_PATH: 2}


async def test_a_wrong_password_is_tried_once_and_gets_no_token_of_others(sandbox: Sandbox, onelink: OneLink) -> None:
    assert await onelink.states(API_KEY, [CARD]) == [ONLINE]
    assert (
        told(await onelink.states("200155555:guessed", [CARD, OTHER_CARD]))
        == [("CARRIER_REFUSED", "OneLink refused with status 12003.")] * 2
    )
    assert sandbox.calls == {TOKEN_PATH: 2, STATUS_PATH: 1, SESSION_PATH: 1}


async def test_credentials_that_are_no_pair_are_not_sent(sandbox: Sandbox, onelink: OneLink) -> None:
    refused = ("CARRIER_REFUSED", "The supplier's API key must be appid:password.")
    for api_key in (None, "", "200155555", "200155555:", ":sandbox"):
        assert told(await onelink.states(api_key, [CARD])) == [refused]
    assert sandbox.calls == {}


async def test_the_breaker_opens_and_recovers(sandbox: Sandbox, url: str) -> None:
    breaker = CircuitBreaker(failures=3, pause_seconds=0.4)
    carrier = OneLink(url, Partner("CARRIER", "OneLink", concurrency=1, breaker=breaker))
    assert await carrier.states(API_KEY, [CARD]) == [ONLINE]

    failed = ("CARRIER_UNAVAILABLE", "OneLink answered with HTTP status 500.")
    spared = ("CARRIER_UNAVAILABLE", "OneLink is not called for a while, after failures in a row.")
    await order_fault(url, "http_500", 4)
    assert told(await carrier.states(API_KEY, [CARD] * 5)) == [failed, failed, failed, spared, spared]
    assert sandbox.calls[STATUS_PATH] == 1 + 3

    await asyncio.sleep(0.45)
    assert told(await carrier.states(API_KEY, [CARD] * 2)) == [failed, spared]
    assert sandbox.calls[STATUS_PATH] == 1 + 3 + 1

    await asyncio.sleep(0.45)
    assert told(await carrier.states(API_KEY, [CARD] * 5)) == [ONLINE] * 5
    await carrier.close()


async def test_an_open_breaker_lets_one_call_try_in_each_pause() -> None:
    breaker = CircuitBreaker(failures=1, pause_seconds=0.1)
    breaker.failed()
    for _ in range(2):
        assert [breaker.admits(), breaker.admits()] == [False, False]
        await asyncio.sleep(0.11)
        assert [breaker.admits(), breaker.admits()] == [True, False]
    breaker.succeeded()
    assert [breaker.admits(), breaker.admits()] == [True, True]


async def test_a_trial_that_nobody_waits_for_does_not_keep_the_breaker_open(url: str) -> None:
    breaker = CircuitBreaker(failures=1, pause_seconds=0.2)
    carrier = OneLink(url, Partner("CARRIER", "OneLink", breaker=breaker))
    assert await carrier.states(API_KEY, [CARD]) == [ONLINE]
    await order_fault(url, "http_500", 1)
    await carrier.states(API_KEY, [CARD])
    await asyncio.sleep(0.25)
    await order_fault(url, "timeout", 1)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(carrier.states(API_KEY, [CARD]), 0.1)
    await asyncio.sleep(0.25)
    assert await carrier.states(API_KEY, [CARD]) == [ONLINE]
    await carrier.close()


async def test_no_secret_is_in_errors_or_logs(
    url: str, onelink: OneLink, sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    secret = "s3cret-guess"
    answers: list[CardState | GatewayError] = []
    with capture_logs() as events:
        answers += await onelink.states(f"200155555:{secret}", [CARD])
        answers += await onelink.states(API_KEY, [CARD])
        for kind in ("timeout", "http_500", "bad_json", "unknown_card"):
            await order_fault(url, kind, 1)
            answers += await onelink.states(API_KEY, [CARD])
        for kind in ("timeout", "http_500", "bad_json"):
            await order_fault(url, kind, 1)
            answers += await onelink.states(f"200155555:{secret}", [CARD])
        nowhere = OneLink(f"http://{secret}@127.0.0.1:9")
        answers += await nowhere.states(f"200155555:{secret}", [CARD])
        await nowhere.close()

    (token,) = sandbox.tokens
    errors = [answer for answer in answers if isinstance(answer, GatewayError)]
    written = [repr(event) for event in events]
    written += [record.getMessage() for record in caplog.records]
    written += ["".join(traceback.format_exception(error)) + repr(error) for error in errors]
    assert len(errors) == 9
    assert f'HTTP Request: GET {url}{STATUS_PATH} "HTTP/1.1 200 OK"' in written
    assert [line for line in written if any(word in line for word in (secret, token, API_KEY, CARD))] == []
    assert secret not in repr(CarrierQuery("onelink", f"200155555:{secret}", [CARD]))


async def test_interfaces_without_an_adapter_are_told_for_each_card() -> None:
    query = CarrierQuery("telegraph", API_KEY, [CARD, OTHER_CARD])
    assert (
        told(await Carriers().states(query)) == [("NOT_SUPPORTED", "No adapter speaks to the interface telegraph.")] * 2
    )


async def test_the_environment_says_where_onelink_is(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    carriers = Carriers()
    query = CarrierQuery("onelink", API_KEY, [OTHER_CARD, CARD])
    monkeypatch.setenv("TRELLIS_CARRIER_ONELINK_URL", "http://127.0.0.1:9")
    assert told(await carriers.states(query)) == [("CARRIER_UNAVAILABLE", "OneLink could not be reached.")] * 2
    monkeypatch.setenv("TRELLIS_CARRIER_ONELINK_URL", url + "/")
    assert await carriers.states(query) == [OFFLINE, ONLINE]
    await carriers.close()
    assert await carriers.states(query) == [OFFLINE, ONLINE]
    await carriers.close()


async def test_several_event_loops_share_tokens_but_no_connections(sandbox: Sandbox, onelink: OneLink) -> None:
    def in_a_loop_of_its_own() -> list[CardState | GatewayError]:
        return asyncio.run(onelink.states(API_KEY, [CARD]))

    assert await onelink.states(API_KEY, [CARD]) == [ONLINE]
    for _ in range(3):
        assert await asyncio.to_thread(in_a_loop_of_its_own) == [ONLINE]
    assert await onelink.states(API_KEY, [CARD]) == [ONLINE]
    assert sandbox.calls == {TOKEN_PATH: 1, STATUS_PATH: 5, SESSION_PATH: 5}


class Scripted:
    """A partner that answers each method with the statuses of a script, then with 200."""

    def __init__(self, *script: int) -> None:
        self.attempts: list[str] = []
        self.at_once = Counter[str]()
        self._script = list(script)
        self.app = Starlette(routes=[Route("/", self.answer, methods=["GET", "POST"])])

    async def answer(self, request: Request) -> Response:
        self.attempts.append(f"{request.method} {request.headers['call-number']}")
        self.at_once["now"] += 1
        self.at_once["most"] = max(self.at_once["most"], self.at_once["now"])
        await asyncio.sleep(0.02)
        self.at_once["now"] -= 1
        return JSONResponse(request.cookies, self._script.pop(0) if self._script else 200, {"Set-Cookie": "who=first"})


@pytest.mark.parametrize(
    ("method", "script", "status", "attempts"),
    [
        ("GET", [502, 503], 200, ["GET 1", "GET 2", "GET 3"]),
        ("GET", [429], 200, ["GET 1", "GET 2"]),
        ("GET", [504, 504, 504], None, ["GET 1", "GET 2", "GET 3"]),
        ("GET", [500], None, ["GET 1"]),
        ("GET", [404], 404, ["GET 1"]),
        ("GET", [302], 302, ["GET 1"]),
        ("POST", [503], None, ["POST 1"]),
    ],
)
async def test_only_idempotent_calls_are_repeated_each_built_anew(
    method: str, script: list[int], status: int | None, attempts: list[str]
) -> None:
    partner, built = Partner("CARRIER", "Scripted"), Counter[str]()
    scripted = Scripted(*script)

    def build(client: httpx.AsyncClient) -> httpx.Request:
        built["calls"] += 1
        return client.build_request(method, address, headers={"call-number": str(built["calls"])})

    async with serving(scripted.app) as address:
        if status is None:
            with pytest.raises(GatewayError) as refused:
                await partner.send(build)
            assert (refused.value.code, str(refused.value)) == (
                "CARRIER_UNAVAILABLE",
                f"Scripted answered with HTTP status {script[-1]}.",
            )
        else:
            assert (await partner.send(build)).status_code == status
        await partner.close()
    assert scripted.attempts == attempts


async def test_few_calls_run_at_once_and_none_inherits_a_cookie() -> None:
    partner, scripted = Partner("CARRIER", "Scripted", concurrency=3), Scripted()

    def build(client: httpx.AsyncClient) -> httpx.Request:
        return client.build_request("GET", address, headers={"call-number": "1"})

    async with serving(scripted.app) as address:
        answers = await asyncio.gather(*(partner.send(build) for _ in range(12)))
        await partner.close()
    assert [answer.json() for answer in answers] == [{}] * 12
    assert scripted.at_once["most"] == 3
