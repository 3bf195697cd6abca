"""Those who have not shown who they are: what they may try, and what they leave behind."""

from __future__ import annotations

import pytest

from server.http import RateLimit
from tests.server.test_http import JSON, code, limit
from tests.support.world import World

HELLO = {"query": "{ viewer { door } }"}


async def test_wrong_tokens_are_counted_before_anything_is_looked_up(
    shared_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(monkeypatch, shared_world.client, "merchant", requests_per_minute=60)
    monkeypatch.setattr(shared_world.client.application.endpoint, "rates", RateLimit(clock=lambda: 0.0))
    http = shared_world.client.http
    told = []
    for number in range(12):
        signed = f"TRELLIS-HMAC-SHA256 Credential=x{number}, Timestamp={number}, Nonce=12345678, Signature=0"
        authorization = signed if number % 2 else f"Bearer {number}"
        answer = await http.post(
            "/merchant/graphql", json=HELLO, headers={"authorization": authorization, "accept": JSON}
        )
        told.append((answer.status_code, code(answer)))
    assert told == [(401, "UNAUTHENTICATED")] * 10 + [(429, "RATE_LIMITED")] * 2


@pytest.mark.parametrize("timestamp", ["9" * 400, "-" + "9" * 400, "1e3", "now"])
async def test_a_time_that_is_none_is_no_signature(shared_world: World, timestamp: str) -> None:
    authorization = f"TRELLIS-HMAC-SHA256 Credential=x, Timestamp={timestamp}, Nonce=12345678, Signature=0"
    answer = await shared_world.client.http.post(
        "/partner/graphql", json=HELLO, headers={"authorization": authorization, "accept": JSON}
    )
    assert (answer.status_code, code(answer)) == (401, "UNAUTHENTICATED")


async def test_a_visitor_fills_no_log(world: World) -> None:
    log_in = 'logIn(input: {account: $name, password: "x"}) { errors { code } }'
    few = "mutation($name: String!) { " + " ".join(f"m{n}: {log_in}" for n in range(10)) + " }"
    many = f"{few[:-1]}m10: {log_in} }}"
    answer = await world.client.post("agent", few, {"name": "x" * 5_000})
    assert answer.status_code == 200
    rows = await world.sql("SELECT arguments::text AS said FROM operation_record WHERE mutation = 'log_in'")
    assert len(rows) == 10
    assert max(len(row["said"]) for row in rows) < 1_200
    assert code(await world.client.post("agent", many, {"name": "x"})) == "LIMIT_EXCEEDED"
    for _ in range(12):
        await world.client.post("agent", few, {"name": "x"})
    rows = await world.sql("SELECT outcome FROM operation_record WHERE mutation = 'log_in'")
    assert "TOO_MANY_ATTEMPTS" not in {row["outcome"] for row in rows}
