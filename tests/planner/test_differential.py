"""The planner against graphql-core's executor: generated operations, the same data and the same errors."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from graphql import parse
from hypothesis import HealthCheck, assume, event, given, note, settings
from hypothesis import strategies as st

from authz.coordinates import Act
from authz.grants import Grants
from authz.principal import Principal
from authz.scopes import Scope
from planner.errors import FieldFailure, GraphRefusal, GraphRefusals
from planner.mapping import registry
from schema.sim import CarrierState
from server.app import the_graph
from tests.planner.asking import operations
from tests.planner.conftest import GENEROUS, Planner, principal, wide
from tests.planner.oracle import Caller, Oracle, Store
from tests.support.world import World

EXAMPLES = int(os.environ.get("TRELLIS_EXAMPLES", "160"))
"""How many operations are compared; more of them before a release."""

CALLERS = (
    "admin", "operations", "acme", "north", "north-east", "coast", "north-east, wide", "north-east, narrowed",
    "operations, narrowed",
)
NARROWED = (
    ("SimCard", "apn"), ("SimCard", "package"), ("SimCard", "carrierState"), ("Agent", "contactName"),
    ("Agent", "parent"), ("StaffAccount", "phone"), ("EndUser", "name"),
)


def carrier_state(row: Mapping[str, Any]) -> Any:
    if row["id"] % 5 == 0:
        return FieldFailure("CARRIER_UNAVAILABLE", "The carrier does not answer.")
    return None if row["id"] % 5 == 1 else CarrierState(status=f"S{row['iccid'][-3:]}", online=row["id"] % 2 == 0)


def last_used_at(row: Mapping[str, Any]) -> Any:
    if row["id"] % 3 == 0:
        return FieldFailure("COUNTERS_UNAVAILABLE", "The counters do not answer.")
    return None if row["id"] % 3 == 1 else datetime(2026, 4, 1, tzinfo=UTC) + timedelta(seconds=len(row["key"]))


def refused_file_url(row: Mapping[str, Any]) -> Any:
    return f"/files/of/{row['id']}" if row["id"] % 2 else ValueError("a bug in a loader")


def message(row: Mapping[str, Any]) -> Any:
    return f"{row['code']}: {row['value']}"


LIVE = {
    ("SimCard", "carrier_state"): carrier_state,
    ("ApiKey", "last_used_at"): last_used_at,
    ("ImportTask", "refused_file_url"): refused_file_url,
    ("TaskRefusal", "message"): message,
}
COMPUTED = {
    ("Supplier", "hasApiKey"): lambda row: row["api_key_encrypted"] is not None,
    ("ImportTask", "progress"): lambda row: (row["done"] + row["failed"]) / row["total"] if row["total"] else None,
}
ROOTS = {"customers": lambda row: row["kind"] in ("ENTERPRISE", "AGENT")}


@dataclass
class Comparison:
    planner: Planner
    callers: dict[str, Caller]


def narrowed(caller: Principal) -> Principal:
    """The same caller with some fields granted on its own tenant's rows only."""
    reach = dict(caller.grants.reach)
    for type_name, field in NARROWED:
        reach[type_name, field, Act.READ] = frozenset({Scope.TENANT})
    return replace(caller, grants=Grants(reach, f"{caller.grants.key}, narrowed"))


@pytest.fixture(scope="module")
async def comparison(rich_world: World) -> AsyncIterator[Comparison]:
    graph = the_graph()
    oracle = Oracle(
        graph,
        await Store.load(rich_world.superuser_url, graph),
        live=LIVE,
        computed=COMPUTED,
        roots=ROOTS,
        max_page=GENEROUS.max_page,
    )
    callers = {name: await principal(rich_world, name) for name in CALLERS if "," not in name}
    callers["north-east, wide"] = wide(callers["north-east"])
    for name in ("north-east", "operations"):
        callers[f"{name}, narrowed"] = narrowed(callers[name])
    kept = dict(registry.loaders)
    registry.loaders.update({at: loader(at) for at in LIVE})
    yield Comparison(Planner(rich_world, graph), {name: oracle.acting(caller) for name, caller in callers.items()})
    registry.loaders.update(kept)


def loader(at: tuple[str, str]) -> Any:
    async def load(_: Any, rows: Any) -> list[Any]:
        return [LIVE[at](row._asdict()) for row in rows]

    return load


def plain(data: Any) -> Any:
    """What a client reads."""
    return orjson.loads(orjson.dumps(data))


def refused(error: GraphRefusal | GraphRefusals) -> list[GraphRefusal]:
    return error.refusals if isinstance(error, GraphRefusals) else [error]


async def compare(planner: Planner, caller: Caller, text: str, variables: dict[str, Any]) -> str:
    """Asserts that both say the same; gives how it ended."""
    document = parse(text)
    forbidden = caller.forbidden(document, variables)
    try:
        found = await planner.answer(caller.principal, text, variables)
    except (GraphRefusal, GraphRefusals) as error:
        refusals = refused(error)
        assert {refusal.code for refusal in refusals} == {"FORBIDDEN"}, refusals
        if not forbidden.mask:
            assert len(refusals) == len(forbidden.places), (refusals, forbidden)
            assert {tuple(r.path or ()) for r in refusals} <= {p for paths in forbidden.places.values() for p in paths}
        assert forbidden.mask or forbidden.places
        return "refused"
    assert not forbidden.mask
    assert not forbidden.places
    data, errors = caller.answer(document, variables)
    assert plain(found["data"]) == plain(data)
    given_errors = found.get("errors", [])
    assert {(tuple(error["path"]), error["extensions"]["code"]) for error in given_errors} == errors
    assert len(given_errors) == len(errors)
    return "failed in part" if errors else "answered"


@settings(
    max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, print_blob=False,
    suppress_health_check=list(HealthCheck),
)
@given(data=st.data(), name=st.sampled_from(CALLERS))
async def test_the_planner_answers_as_the_executor_does(comparison: Comparison, data: st.DataObject, name: str) -> None:
    caller = comparison.callers[name]
    asked = data.draw(operations(caller))
    note(f"{name}\n{asked.text}\n{asked.variables}")
    try:
        comparison.planner.operation(caller.principal, asked.text)
    except GraphRefusals as error:
        note(f"invalid: {error}")
        assume(False)
    for variables in asked.variables:
        event(await compare(comparison.planner, caller, asked.text, variables))
