"""The planner against graphql-core's executor: generated operations, the same data and the same errors."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import orjson
import pytest
import strawberry
from graphql import parse
from hypothesis import HealthCheck, assume, event, given, note, settings
from hypothesis import strategies as st
from sqlalchemy import Select, select

import planner.mapping
import planner.registry
from authz.coordinates import Act
from authz.grants import Grants
from authz.principal import Principal
from authz.scopes import Scope
from models import identity
from models.system import ChangeAction
from planner.assemble import Graph, assemble
from planner.errors import FieldFailure, GraphRefusal, GraphRefusals
from planner.ids import decode_id
from planner.mapping import Connection, Key, Node, Registry, entity, live, registry, to_many, to_one
from planner.pool import Pool
from planner.registry import query
from schema.jobs import JobArgument
from schema.merchants import MerchantFormField, OnboardingAnswer
from schema.sim import CarrierState
from schema.system import RecordedChange
from server.app import the_graph
from tests.planner.asked import GENEROUS, Planner, principal, wide
from tests.planner.asking import operations
from tests.planner.oracle import Caller, Computed, Oracle, Store
from tests.support.world import World

EXAMPLES = int(os.environ.get("TRELLIS_EXAMPLES", "320"))
"""How many operations are compared; more of them before a release."""

CALLERS = (
    "admin",
    "operations",
    "acme",
    "north",
    "north-east",
    "coast",
    "north-east, wide",
    "north-east, narrowed",
    "operations, narrowed",
)
NARROWED = (
    ("SimCard", "apn"),
    ("SimCard", "package"),
    ("SimCard", "carrierState"),
    ("Agent", "contactName"),
    ("Agent", "parent"),
    ("StaffAccount", "phone"),
    ("EndUser", "name"),
)


def carrier_state(row: Mapping[str, Any]) -> Any:
    if row["id"] % 5 == 0:
        return FieldFailure("CARRIER_UNAVAILABLE", "The carrier does not answer.")
    if row["id"] % 5 == 1:
        return None
    # a status is never null in the graph: where the loader has none, the whole state is lost
    status = None if row["id"] % 5 == 2 else f"S{row['iccid'][-3:]}"
    return CarrierState(status=status, online=row["id"] % 2 == 0)  # type: ignore[arg-type]


def last_used_at(row: Mapping[str, Any]) -> Any:
    if row["id"] % 3 == 0:
        return FieldFailure("COUNTERS_UNAVAILABLE", "The counters do not answer.")
    return None if row["id"] % 3 == 1 else datetime(2026, 4, 1, tzinfo=UTC) + timedelta(seconds=len(row["key"]))


def refused_file_url(row: Mapping[str, Any]) -> Any:
    return f"/files/of/{row['id']}" if row["id"] % 2 else ValueError("a bug in a loader")


def message(row: Mapping[str, Any]) -> Any:
    return f"{row['code']}: {row['value']}"


def job_arguments(row: Mapping[str, Any]) -> list[JobArgument]:
    return [JobArgument(name=name, value=value) for name, value in orjson.loads(row["arguments"]).items()]


def recorded_changes(row: Mapping[str, Any]) -> list[RecordedChange]:
    return [
        RecordedChange(
            type="SimCard",
            id=None,
            action=ChangeAction.CHANGED,
            field=None,
            before=None,
            after=str(row["id"]),
            rows=row["id"] % 7,
        )
    ]


def page_variant(row: Mapping[str, Any]) -> Any:
    return orjson.loads(row["variants"]).get("ENTERPRISE")


def prepaid(row: Mapping[str, Any], store: Store, of: Callable[[Mapping[str, Any]], Decimal]) -> str:
    wanted = (row["id"], "PREPAYMENT", row["currency"])
    for account in store.by_key["ledger_account"].values():
        if (account["tenant_id"], account["kind"], account["currency"]) == wanted:
            return str(of(account))
    return "0.0000"


def earned(row: Mapping[str, Any], store: Store) -> str:
    mine = [
        entry["amount"]
        for entry in store.by_key["commission_entry"].values()
        if (entry["tenant_id"], entry["currency"]) == (row["id"], row["currency"]) and entry["status"] != "REVERSED"
    ]
    return str(sum(mine, Decimal("0.0000")))


def held(row: Mapping[str, Any], store: Store, *kinds: str) -> str:
    mine = [
        account["balance"]
        for account in store.by_key["ledger_account"].values()
        if (account["tenant_id"], account["currency"]) == (row["id"], row["currency"]) and account["kind"] in kinds
    ]
    return str(sum(mine, Decimal("0.0000")))


def owed(row: Mapping[str, Any], store: Store) -> Decimal:
    taken = [
        entry["amount"]
        for entry in store.by_key["commission_entry"].values()
        if (entry["tenant_id"], entry["currency"]) == (row["id"], row["currency"])
        and entry["status"] == "REVERSED"
        and entry["settlement_id"] is not None
    ]
    made_up = [
        one["deducted"]
        for one in store.by_key["commission_settlement"].values()
        if (one["tenant_id"], one["currency"]) == (row["id"], row["currency"])
    ]
    return sum(taken, Decimal("0.0000")) - sum(made_up, Decimal("0.0000"))


def required(row: Mapping[str, Any], store: Store) -> str:
    mine = (one["required_amount"] for one in store.by_key["deposit_terms"].values() if one["tenant_id"] == row["id"])
    return str(next(mine, Decimal("0.0000")))


LIVE = {
    ("MenuItem", "variant"): page_variant,
    ("ScheduledJob", "arguments"): job_arguments,
    ("JobRun", "arguments"): job_arguments,
    ("SimCard", "carrier_state"): carrier_state,
    ("SimCard", "real_name_registered"): lambda row: row["id"] % 2 == 0,
    ("ApiKey", "last_used_at"): last_used_at,
    ("OperationRecord", "arguments"): lambda row: f"what {row['id']} was given",
    ("OperationRecord", "changes"): recorded_changes,
    ("Task", "refused_file_url"): refused_file_url,
    ("Task", "result_file_url"): lambda row: f"/files/made/{row['id']}",
    ("TaskRefusal", "message"): message,
    ("Payment", "code_url"): lambda row: f"weixin://{row['id']}" if row["id"] % 2 else None,
    ("Payment", "mini_program"): lambda _: None,
    ("MonthlyBill", "workbook_url"): lambda row: None if row["xlsx_file_id"] is None else f"/{row['xlsx_file_id']}",
    ("MonthlyBill", "pdf_url"): lambda row: None if row["pdf_file_id"] is None else f"/{row['pdf_file_id']}",
    ("SettlementStatement", "workbook_url"): lambda _: None,
    ("SettlementStatement", "pdf_url"): lambda _: "/page",
    ("SimCard", "data_balance"): lambda _: None,
    ("DataPackage", "own_price"): lambda row: row["sale_price"],
    ("DailyUsage", "used_kb"): lambda row: Decimal(row["used_kb"] * 2),
    ("MonthlyUsage", "used_kb"): lambda row: Decimal(row["used_kb"] * 2),
    ("SessionRecord", "used_kb"): lambda row: Decimal(row["download_bytes"]),
    ("StoredFile", "url"): lambda row: f"/files/of/{row['id']}",
    ("MerchantType", "form_fields"): lambda row: [MerchantFormField(**one) for one in orjson.loads(row["form_fields"])],
    ("OnboardingApplication", "answers"): lambda row: [
        OnboardingAnswer(key=key, value=value) for key, value in orjson.loads(row["answers"]).items()
    ],
    ("OnboardingDocument", "url"): lambda row: f"/files/of/{row['file_id']}",
}
COMPUTED: Mapping[tuple[str, str], Computed] = {
    **{
        (name, f"{way}Bytes"): lambda row, _, way=way: str(row[f"{way}_bytes"])  # type: ignore[misc]
        for name in ("SessionRecord", "DailyStatistic", "MonthlyStatistic")
        for way in ("upload", "download")
    },
    ("DailyUsage", "rawUsedKb"): lambda row, _: str(row["used_kb"]),
    ("MonthlyUsage", "rawUsedKb"): lambda row, _: str(row["used_kb"]),
    ("OperationRecord", "impersonated"): lambda row, _: row["real_account_id"] is not None,
    ("LoginRecord", "impersonated"): lambda row, _: row["real_account_id"] is not None,
    ("Supplier", "hasApiKey"): lambda row, _: row["api_key_encrypted"] is not None,
    ("ApiKey", "expiresSoon"): lambda row, _: (
        row["status"] == "ACTIVE" and timedelta(0) < row["expires_at"] - datetime.now(UTC) <= timedelta(days=14)
    ),
    ("Task", "progress"): lambda row, _: (row["done"] + row["failed"]) / row["total"] if row["total"] else None,
    ("LedgerAccount", "available"): lambda row, _: None if row["floor"] is None else str(row["balance"] - row["floor"]),
    ("Agent", "totalIncome"): earned,
    ("Agent", "incomeBalance"): lambda row, store: held(row, store, "COMMISSION", "INCOME", "WITHHELD"),
    ("Agent", "withdrawableIncome"): lambda row, store: str(Decimal(held(row, store, "INCOME")) - owed(row, store)),
    ("Enterprise", "creditLimit"): lambda row, store: prepaid(row, store, lambda account: -account["floor"]),
    ("Enterprise", "availableAmount"): lambda row, store: prepaid(
        row, store, lambda account: account["balance"] - account["floor"]
    ),
    ("Merchant", "availableAmount"): lambda row, store: held(row, store, "PREPAYMENT"),
    ("Merchant", "funds"): lambda row, store: held(row, store, "FUNDS"),
    ("Merchant", "depositRequired"): lambda row, store: required(row, store),
    ("Merchant", "depositHeld"): lambda row, store: held(row, store, "DEPOSIT"),
    ("Merchant", "depositMissing"): lambda row, store: str(
        max(Decimal(required(row, store)) - Decimal(held(row, store, "DEPOSIT")), Decimal("0.0000"))
    ),
    ("MerchantType", "contractTerms"): lambda row, store: (
        None
        if row["contract_template_id"] is None
        else store.by_key["contract_template"][row["contract_template_id"]]["body"]
    ),
    ("SimAllocation", "activatedAt"): lambda row, store: (
        store.by_key["sim_card"][row["sim_card_id"]]["activated_at"] if row["ended_at"] is None else None
    ),
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
async def comparison(rich_world: World, unwalled: Pool) -> AsyncIterator[Comparison]:
    graph = the_graph()
    oracle = Oracle(
        graph,
        await Store.load(rich_world.superuser_url, graph),
        live=LIVE,
        computed=COMPUTED,
        roots=ROOTS,
        answers={"viewer": Caller.viewer},
        max_page=GENEROUS.max_page,
    )
    callers = {name: await principal(rich_world, name) for name in CALLERS if "," not in name}
    callers["north-east, wide"] = wide(callers["north-east"])
    for name in ("north-east", "operations"):
        callers[f"{name}, narrowed"] = narrowed(callers[name])
    kept = dict(registry.loaders)
    registry.loaders.update({at: loader(at) for at in LIVE})
    yield Comparison(
        Planner(rich_world, graph, reader=unwalled), {name: oracle.acting(caller) for name, caller in callers.items()}
    )
    registry.loaders.update(kept)


def loader(at: tuple[str, str]) -> Any:
    async def load(_: Any, rows: Any) -> list[Any]:
        return [LIVE[at](row._asdict()) for row in rows]

    return load


def plain(data: Any) -> Any:
    """What a client reads."""
    return orjson.loads(orjson.dumps(data))


def difference(found: Any, expected: Any, path: tuple[str | int, ...] = ()) -> Any:
    """The first place where two answers differ, with both values; None where they are equal."""
    if isinstance(found, dict) and isinstance(expected, dict) and list(found) == list(expected):
        return next((d for k in found if (d := difference(found[k], expected[k], (*path, k))) is not None), None)
    if isinstance(found, list) and isinstance(expected, list) and len(found) == len(expected):
        pairs = enumerate(zip(found, expected, strict=True))
        return next((d for at, (f, e) in pairs if (d := difference(f, e, (*path, at))) is not None), None)
    return None if found == expected else (path, found, expected)


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
    assert difference(plain(found["data"]), plain(data)) is None
    given_errors = found.get("errors", [])
    assert {(tuple(error["path"]), error["extensions"]["code"]) for error in given_errors} == errors
    assert len(given_errors) == len(errors)
    return "failed in part" if errors else "answered"


THOROUGH = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    print_blob=False,
    suppress_health_check=list(HealthCheck),
)


@THOROUGH
@given(data=st.data(), name=st.sampled_from(CALLERS))
async def test_the_planner_answers_as_the_executor_does(comparison: Comparison, data: st.DataObject, name: str) -> None:
    await compare_drawn(comparison, data, name)


async def compare_drawn(comparison: Comparison, data: st.DataObject, name: str) -> None:
    """Draws an operation for a caller and compares its answers."""
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


# -- fields that may fail and may not be null -----------------------------------------------------------------


def mood(row: Mapping[str, Any]) -> Any:
    return FieldFailure("NO_MOOD", "It is not known.") if row["id"] % 9 in (0, 3) else f"mood of {row['name']}"


def slogans(row: Mapping[str, Any]) -> Any:
    return None if row["id"] % 4 == 0 else ["one", None if row["id"] % 4 == 1 else "two", f"{row['id']}"]


def rank(row: Mapping[str, Any]) -> Any:
    return None if row["id"] % 11 == 0 else FieldFailure("NO_RANK", "None.") if row["id"] % 13 == 0 else row["id"]


def badges(row: Mapping[str, Any]) -> Any:
    return FieldFailure("NO_BADGES", "None.") if row["id"] % 7 == 0 else [None, "gold"] if row["id"] % 2 else []


STRICT_LIVE = {
    ("Division", "mood"): mood,
    ("Division", "slogans"): slogans,
    ("Member", "rank"): rank,
    ("Member", "badges"): badges,
}


def strict_graph(chief_id: int) -> Graph:
    """A graph of staff whose live fields may not be null, so that what fails takes its surroundings with it."""
    own = Registry()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planner.mapping, "registry", own)
        patch.setattr(planner.registry, "registry", own)

        @entity(identity.Department, prefix="dep", filters=("name", "parent"), sorts=("name",))
        class Division(Node):
            name: str
            mood: str = live("Never null, yet it may fail.", needs=("name",))
            slogans: list[str] | None = live("A list that a null inside makes null.", needs=())
            parent: Division | None = to_one()
            members: Connection[Member] = to_many(by=identity.StaffAccount.department_id)

        @entity(identity.StaffAccount, prefix="acc", filters=("login",), sorts=("login",))
        class Member(Node):
            login: str
            rank: int = live("Never null, yet it may fail.", needs=())
            badges: list[str | None] = live("Never null, but what is in it may be.", needs=())
            division: Division | None = to_one(via="department")

        @query(Connection[Division])
        def divisions() -> Select[identity.Department]:
            return select(identity.Department)

        @query(Division, by=("id",))
        def division() -> Select[identity.Department]:
            return select(identity.Department)

        @query(Connection[Member])
        def members() -> Select[identity.StaffAccount]:
            return select(identity.StaffAccount)

        @query(Member, by=("id", "login"))
        def member() -> Select[identity.StaffAccount]:
            return select(identity.StaffAccount)

        @query("Member")
        async def chief(ctx: Any) -> Any:
            return Key("Member", chief_id)

        @query("Node | None")
        async def node(ctx: Any, id: strawberry.ID) -> Any:
            found = decode_id(id)
            assert found is not None
            return Key(own.by_prefix[found[0]].name, found[1])

        for at, answer in STRICT_LIVE.items():
            own.loaders[at] = strict_loader(own, at[0], answer)
        return assemble(own)


def strict_loader(own: Registry, type_name: str, answer: Any) -> Any:
    async def load(_: Any, rows: Any) -> list[Any]:
        return [answer(row._asdict()) for row in rows]

    return load


@pytest.fixture(scope="module")
async def strict(rich_world: World, unwalled: Pool) -> Comparison:
    caller = await principal(rich_world, "admin")
    assert caller.account_id is not None
    graph = strict_graph(caller.account_id)
    names = [(t, f) for t in ("Query", "Division", "Member") for f in graph.schema.type_map[t].fields]  # type: ignore[attr-defined]
    callers = {}
    for name, scope in (("admin", Scope.ALL), ("north", Scope.SUBTREE), ("coast", Scope.SUBTREE)):
        granted = Grants({(t, f, Act.READ): frozenset({scope}) for t, f in names}, f"strict, {scope}")
        callers[name] = replace(await principal(rich_world, name), grants=granted)
    oracle = Oracle(
        graph,
        await Store.load(rich_world.superuser_url, graph),
        live=STRICT_LIVE,
        computed={},
        roots={},
        answers={"chief": lambda by: by.by_key(by.oracle.entity("Member"), caller.account_id)},
        max_page=GENEROUS.max_page,
    )
    return Comparison(
        Planner(rich_world, graph, reader=unwalled), {name: oracle.acting(each) for name, each in callers.items()}
    )


@THOROUGH
@given(data=st.data(), name=st.sampled_from(("admin", "north", "coast")))
async def test_what_may_not_be_null_takes_its_surroundings_with_it(
    strict: Comparison, data: st.DataObject, name: str
) -> None:
    await compare_drawn(strict, data, name)
