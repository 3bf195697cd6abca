"""The operations that each frontend ships: they hold at their door, and a door that runs nothing else refuses text."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import pytest
from graphql import IntValueNode, OperationType, print_ast

from authz.grants import Grants, compile_grants
from authz.policies import load_policies
from authz.principal import ROOT_PATH, Shape, system
from authz.session import Database
from planner.compile import compile_plan
from planner.errors import GraphRefusals
from planner.ids import encode_id
from planner.operation import Documents, Operation
from server.app import GRANTABLE, POLICIES, the_catalog, the_graph
from server.demo import add_account
from server.doors import FRONTENDS, SHARED, Door, documents, load_doors
from tests.support.world import PASSWORD, World, password_hash

DOORS = load_doors()
POLICY = load_policies(POLICIES)
BELOW = ".0001.0002."
FIRST_STEPS = {
    "LogIn",
    "RefreshSession",
    "RequestPasswordReset",
    "ResetPassword",
    "EndUserLogin",
    "SendEmailCode",
    "EndUserEmailLogin",
    "SendSmsCode",
    "EndUserSmsLogin",
    "ResetEndUserPassword",
    "RegisterEndUser",
    "AgreementsToSign",
    "WechatLogin",
    "BeginOauthLogin",
    "OauthLogin",
}
"""What somebody sends who has not logged in yet."""
PLACES = dict.fromkeys(GRANTABLE["PLATFORM"], (ROOT_PATH, Shape.ROOT)) | {"end_user": (ROOT_PATH, Shape.OUTSIDE)}


@dataclass(frozen=True)
class Shipped:
    door: str
    name: str
    text: str

    @cached_property
    def operation(self) -> Operation:
        return Documents(the_graph().schema, DOORS[self.door].limits.document).get(self.text).operation(None)


def shipped() -> Iterator[Shipped]:
    for door in DOORS:
        for name, text in documents(FRONTENDS / door).items():
            yield Shipped(door, name, text)


SHIPPED = list(shipped())


def grants(*roles: str, path: str) -> Grants:
    return compile_grants(POLICY, the_catalog(), ["anybody", *roles], path)


GRANTS = {
    role: grants(role, path=PLACES.get(role, (BELOW, Shape.BRANCH))[0])
    for door in DOORS.values()
    for role in door.rules.admission.roles
}
VISITOR = grants(path=ROOT_PATH)


def compiles(one: Shipped, given: Grants, shape: Shape) -> bool:
    """Whether the operation is wholly granted; one that is beyond the door's limits fails the test."""
    operation = one.operation
    try:
        compile_plan(the_graph(), operation, given, shape, _least(operation), DOORS[one.door].limits.document)
    except GraphRefusals as refused:
        if any(refusal.code != "FORBIDDEN" for refusal in refused.refusals):
            raise
        return False
    return True


def _least(operation: Operation) -> dict[str, Any]:
    """The operation's variables as a screen sends them that fills in only what it must."""
    given: dict[str, Any] = {}
    for definition in operation.node.variable_definitions or ():
        name, default = definition.variable.name.value, definition.default_value
        if isinstance(default, IntValueNode):
            given[name] = int(default.value)
        elif print_ast(definition.type).rstrip("!") == "ID":
            given[name] = encode_id("ten", 1)
    return given


@cache
def roles_of(one: Shipped) -> frozenset[str]:
    """The roles of the door that may run all of the operation."""
    return frozenset(
        role
        for role in DOORS[one.door].rules.admission.roles
        if compiles(one, GRANTS[role], PLACES.get(role, (BELOW, Shape.BRANCH))[1])
    )


def test_every_door_ships_operations() -> None:
    assert {one.door for one in SHIPPED} == set(DOORS)
    for door in DOORS.values():
        texts = {one.text for one in SHIPPED if one.door == door.name}
        assert texts
        assert set(door.operations.values()) == texts
        assert set(door.operations) == {hashlib.sha256(text.encode()).hexdigest() for text in texts}


def test_a_shared_document_is_shipped_by_several_doors() -> None:
    shared = {file.stem: file.read_text("utf-8") for file in (FRONTENDS / SHARED).glob("*.graphql")}
    assert len(shared) > 50
    for name, text in shared.items():
        assert len([one for one in SHIPPED if (one.name, one.text) == (name, text)]) > 1, name


@pytest.mark.parametrize("one", SHIPPED, ids=lambda one: f"{one.door}-{one.name}")
def test_a_shipped_operation_holds_at_its_door(one: Shipped) -> None:
    """It is valid, is named like its file, keeps the door's limits, and is allowed to whom it is for."""
    operation = one.operation
    assert operation.name == one.name
    assert len(operation.document.definitions) == 1 + len(operation.fragments)
    if one.name in FIRST_STEPS:
        assert compiles(one, VISITOR, Shape.OUTSIDE)
    else:
        assert roles_of(one) != set()


@pytest.mark.parametrize("door", DOORS.values(), ids=lambda door: door.name)
def test_every_role_of_a_door_has_work_there(door: Door) -> None:
    """Each role runs operations that a visitor may not."""
    own = [one for one in SHIPPED if one.door == door.name and not compiles(one, VISITOR, Shape.OUTSIDE)]
    used = {role for one in own for role in roles_of(one)}
    assert used == door.rules.admission.roles


def test_a_role_may_run_what_its_screens_ask_and_no_more() -> None:
    """The figures of a few roles: a grant too many or too few moves an operation."""

    def names(door: str, role: str) -> set[str]:
        return {one.name for one in SHIPPED if one.door == door and role in roles_of(one)}

    agent, enterprise = names("agent", "agent_admin"), names("agent", "enterprise_admin")
    everything_there = {one.name for one in SHIPPED if one.door == "agent"}
    assert everything_there - agent == {"MonthlyBills", "SessionRecords"}
    assert agent - enterprise == {
        "AgentSales", "Agents", "AllocateSimCards", "CancelWithdrawal", "CommissionEntries", "CommissionRates",
        "CommissionSettlements", "CreateAgent", "CustomerPrices", "Dashboard", "EstimatedProfit", "PurchasePrices",
        "RecallSimCards", "RequestWithdrawal", "SetCommissionRate", "SetCustomerPrice", "SetTenantModule",
        "UpdateTenant", "Withdrawals",
    }  # fmt: skip
    admin = names("admin", "platform_admin")
    assert admin == {one.name for one in SHIPPED if one.door == "admin"}
    everything = {one.name for one in SHIPPED if one.door == "admin" and one.operation.kind is not OperationType.QUERY}
    assert names("admin", "platform_finance") & everything == {
        "ApproveWithdrawal", "CancelOrder", "CancelTask", "CancelTopUp", "ChangePassword", "ConfirmSecondFactor",
        "ConfirmSettlementStatement", "ConfirmTopUp", "CreatePaymentChannel", "DiscardSettlementStatement",
        "EnrolSecondFactor", "GenerateSettlementStatement", "LiveConnections", "LogIn", "LogOut",
        "MarkNotificationsRead", "MarkRefundPaid", "MarkWithdrawalPaid", "PaymentProgress", "ReconcilePayments",
        "RecordTopUp", "RefreshSession", "RefundOrder", "RegenerateSettlementStatement", "RejectWithdrawal",
        "RequestPasswordReset", "ResetPassword", "ResolvePaymentDifference", "RetryPaymentRefund", "SetCreditLimit",
        "SetExchangeRate", "SetMyLanguage", "SetNotificationOptOut", "SettleSettlementStatement", "StartExport",
        "TaskProgress", "TrackEvents", "UpdatePaymentChannel",
    }  # fmt: skip
    assert (names("admin", "platform_sales") - names("admin", "platform_finance")) == {
        "AllocateSimCards", "CreateAgent", "CreateEnterprise", "GrantMembership", "UpdateTenant",
    }  # fmt: skip


SENT: dict[str, Callable[[str], dict[str, Any]]] = {
    "ad_hoc": lambda text: {"query": text},
    "id": lambda text: {"id": hashlib.sha256(text.encode()).hexdigest()},
    "documentId": lambda text: {"documentId": hashlib.sha256(text.encode()).hexdigest()},
    "persistedQuery": lambda text: {
        "extensions": {"persistedQuery": {"version": 1, "sha256Hash": hashlib.sha256(text.encode()).hexdigest()}}
    },
}
OWN_TEXT = "query Viewer { viewer { door } }"
"""As harmless as what is shipped, but not shipped."""


async def send(world: World, door: str, payload: dict[str, Any], token: str | None = None) -> dict[str, Any]:
    headers = {"accept-language": "en"} | ({} if token is None else {"authorization": f"Bearer {token}"})
    answer = await world.client.http.post(f"/{door}/graphql", json=payload, headers=headers)
    found: dict[str, Any] = answer.json()
    return found


def text_of(door: str, name: str) -> str:
    return next(one.text for one in SHIPPED if (one.door, one.name) == (door, name))


@pytest.mark.parametrize("door", sorted(name for name, door in DOORS.items() if not door.ad_hoc))
async def test_a_closed_door_runs_shipped_documents_only(world: World, door: str) -> None:
    refused = await send(world, door, SENT["ad_hoc"](OWN_TEXT))
    assert [error["extensions"]["code"] for error in refused["errors"]] == ["FORBIDDEN"]
    for way in ("id", "documentId", "persistedQuery"):
        unknown = await send(world, door, SENT[way](OWN_TEXT))
        assert [error["extensions"]["code"] for error in unknown["errors"]] == ["PERSISTED_QUERY_NOT_FOUND"]
    # nothing is learnt either: a text that comes with its own sha256 is refused and not remembered
    taught = await send(world, door, {**SENT["ad_hoc"](OWN_TEXT), **SENT["persistedQuery"](OWN_TEXT)})
    assert [error["extensions"]["code"] for error in taught["errors"]] == ["FORBIDDEN"]
    again = await send(world, door, SENT["persistedQuery"](OWN_TEXT))
    assert [error["extensions"]["code"] for error in again["errors"]] == ["PERSISTED_QUERY_NOT_FOUND"]
    # what an open door has remembered is not to be had here
    remembered = await send(world, "agent", {**SENT["ad_hoc"](OWN_TEXT), **SENT["persistedQuery"](OWN_TEXT)})
    assert remembered == {"data": {"viewer": {"door": "agent"}}}
    borrowed = await send(world, door, SENT["persistedQuery"](OWN_TEXT))
    assert [error["extensions"]["code"] for error in borrowed["errors"]] == ["PERSISTED_QUERY_NOT_FOUND"]


async def test_the_mini_program_starts_by_its_own_document(world: World) -> None:
    for way in ("id", "documentId", "persistedQuery", "ad_hoc"):
        answer = await send(world, "wechat", SENT[way](text_of("wechat", "Viewer")))
        assert answer == {
            "data": {
                "viewer": {"door": "wechat", "roles": [], "permissions": ["Query.agreementsToSign", "Query.viewer"]}
            }
        }
    refused = await send(world, "wechat", SENT["id"](text_of("wechat", "MyCards")))
    assert [error["extensions"]["code"] for error in refused["errors"]] == ["UNAUTHENTICATED"]


async def test_a_dealer_logs_in_and_out_by_shipped_documents(world: World) -> None:
    await _employ(world, "dealer", "dealer_admin")
    answer = await send(
        world,
        "dealer",
        {**SENT["id"](text_of("dealer", "LogIn")), "variables": {"account": "dealer", "password": PASSWORD}},
    )
    assert answer["data"]["logIn"]["errors"] == []
    token = answer["data"]["logIn"]["session"]["accessToken"]
    viewer = (await send(world, "dealer", SENT["id"](text_of("dealer", "Viewer")), token))["data"]["viewer"]
    assert (viewer["door"], viewer["roles"], viewer["account"]["login"]) == ("dealer", ["dealer_admin"], "dealer")
    refused = await send(world, "dealer", SENT["ad_hoc"](OWN_TEXT), token)
    assert [error["extensions"]["code"] for error in refused["errors"]] == ["FORBIDDEN"]
    ended = await send(world, "dealer", SENT["id"](text_of("dealer", "LogOut")), token)
    assert ended == {"data": {"logOut": {"done": True, "errors": []}}}
    after = await send(world, "dealer", SENT["id"](text_of("dealer", "Viewer")), token)
    assert [error["extensions"]["code"] for error in after["errors"]] == ["UNAUTHENTICATED"]


async def _employ(world: World, login: str, role: str) -> None:
    """One more member of the staff of ``north``."""
    database: Database = world.client.application.runtime.database
    async with database.transaction(system("test")) as session:
        await add_account(session, world.tenants["north"], login, role, password_hash())
