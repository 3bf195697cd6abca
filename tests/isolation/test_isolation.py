"""Nobody ever sees another tenant's data, nor changes it, whatever they ask for.

Every text of a tenant carries its mark, ``«north»``. All that a frontend ships and operations generated from the
schema run as every caller there is, fed with ids, numbers and cursors of tenants out of reach; no foreign mark, id,
count or cursor may come back, and no foreign row may change.
"""

from __future__ import annotations

import json
import re
import time
import uuid
import zlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from graphql import (
    ArgumentNode,
    DocumentNode,
    FieldNode,
    GraphQLArgument,
    GraphQLInputObjectType,
    GraphQLInputType,
    GraphQLInterfaceType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLSchema,
    InlineFragmentNode,
    IntValueNode,
    ListValueNode,
    NameNode,
    NonNullTypeNode,
    ObjectValueNode,
    OperationDefinitionNode,
    OperationType,
    SelectionNode,
    SelectionSetNode,
    StringValueNode,
    ValueNode,
    get_named_type,
    print_ast,
    type_from_ast,
)
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis_graphql import mutations, nodes, queries

from authz.coordinates import Act
from authz.grants import Grants
from authz.principal import ROOT_PATH, Principal, PrincipalKind
from authz.scopes import Scope
from models.security import mapped_tables
from planner.cursor import sort_values
from planner.errors import GraphRefusal, GraphRefusals
from planner.ids import encode_id
from planner.mapping import registry
from server.app import the_graph
from server.authentication import SCHEME, sign
from server.engine import Request, refusals_of
from server.http import RateLimit
from services.runtime import Origin
from tests.conftest import Template, _running, placed
from tests.support.marks import mark_the_rest
from tests.support.world import ACTORS, PARTNER_SECRET, World, sow

MARK = re.compile(r"«([a-z-]+)»")
GLOBAL_ID = re.compile(r"\b[a-z]{3}_[0-9a-f]{16}\b")
PUBLISHED = (
    "data_package", "agreement", "permission_template", "menu_item", "menu_permission", "tenant_module",
    "merchant_type", "contract_template",
)  # fmt: skip
"""What tenants publish to everybody below them."""
PAGE = 50
GENERATED = settings(
    max_examples=15,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@dataclass(frozen=True)
class Caller:
    """Somebody who asks: an account, ``key of`` a tenant's partner, or a ``person`` that a tenant serves."""

    name: str
    kind: PrincipalKind
    door: str
    role: str
    tenant: str

    def __str__(self) -> str:
        return self.name.replace(" ", "-")

    @property
    def is_customer(self) -> bool:
        return self.door != "admin"


BRANCHES = ("acme", "north", "north-east", "coast", "south", "south-west", "mall", "cafe", "gym")
STAFF = [
    Caller(a.account, PrincipalKind.STAFF, a.door, a.role, a.tenant)
    for a in ACTORS.values()
    # the specialists of the platform see less than its other staff, and nothing is foreign to them either
    if not a.role.startswith("bank_")
]
KEYS = [
    Caller(f"key of {tenant}", PrincipalKind.API_KEY, "partner", role, tenant)
    for tenant, role in (("acme", "partner"), ("north", "partner_buyer"), ("north-east", "partner_buyer"))
]
PEOPLE = [Caller(f"person of {t}", PrincipalKind.END_USER, "wechat", "end_user", t) for t in ("north", "coast")]
CALLERS = [*STAFF, *KEYS, *PEOPLE]
CUSTOMERS = [caller for caller in CALLERS if caller.is_customer]


def every(callers: Sequence[Caller]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("caller", callers, ids=str)


@dataclass(repr=False)
class Marked:
    """The world, what is stored in it, and whose each row is."""

    world: World
    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)
    """The tenant of every row that has a global id; its published rows are left out."""
    iccids: frozenset[str] = frozenset()

    async def ask(self, caller: Caller, query: str, variables: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The whole response, as the caller gets it."""
        client = self.world.client
        client.application.endpoint.rates = RateLimit()
        if caller.kind is PrincipalKind.END_USER:
            return await self._answer(caller, query, variables or {})
        body = json.dumps({"query": query, "variables": variables or {}}).encode()
        headers = {"content-type": "application/json", "accept-language": "en"}
        path = f"/{caller.door}/graphql"
        if caller.kind is PrincipalKind.STAFF:
            headers["authorization"] = f"Bearer {await self.world.token(caller.name)}"
        else:
            timestamp, nonce = str(int(time.time())), uuid.uuid4().hex
            signature = sign(PARTNER_SECRET, "POST", path, timestamp, nonce, body)
            headers["authorization"] = (
                f"{SCHEME} Credential=tk_{caller.tenant}, Timestamp={timestamp}, Nonce={nonce}, Signature={signature}"
            )
        answer = await client.http.post(path, content=body, headers=headers)
        assert answer.status_code < 500, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def grants(self, caller: Caller) -> Grants:
        path = ROOT_PATH if caller.kind is PrincipalKind.END_USER else self.world.tenants[caller.tenant].path
        return self.world.client.application.runtime.access.grants_of([caller.role], path)

    def schema(self, caller: Caller) -> GraphQLSchema:
        """The part of the graph that the caller is shown; one object for equal grants."""
        return self.world.client.application.engine.visible(self.grants(caller))

    async def _answer(self, caller: Caller, query: str, variables: Mapping[str, Any]) -> dict[str, Any]:
        """As an end user, who may send more here than the door's own documents: put straight to the engine."""
        application = self.world.client.application
        door = application.doors["wechat"]
        principal = Principal(
            PrincipalKind.END_USER,
            "wechat",
            self.grants(caller),
            tenant_id=self.world.tenants[caller.tenant].id,
            home=self.world.tenants[caller.tenant].path,
            end_user_id=self.world.end_users[caller.tenant].id,
            roles=("end_user",),
            language="en",
        )
        try:
            document = application.engine.documents["wechat"].get(query)
            request = Request(document, document.operation(None), variables)
            context = application.endpoint.context(door, principal, Origin(request_id="test"))
            answer: dict[str, Any] = orjson.loads(orjson.dumps(await application.engine.answer(request, context)))
            return answer
        except (GraphRefusal, GraphRefusals) as refused:
            return {"errors": refusals_of(refused, "test", "en")}

    # -- what a caller may see ----------------------------------------------------------------------------

    def visible(self, caller: Caller) -> set[str]:
        """The tenants whose data a caller may see any of."""
        return {caller.tenant} if caller.kind is PrincipalKind.END_USER else self.world.below(caller.tenant)

    def own_ids(self, caller: Caller) -> set[str]:
        """The global ids that a caller may ever be given."""
        if caller.kind is PrincipalKind.END_USER:
            person = self.world.end_users[caller.tenant].id
            return {encode_id("eus", person)} | {
                encode_id(prefix, row["id"])
                for prefix, entity in registry.by_prefix.items()
                for row in self.rows[entity.table.name]
                if row.get("end_user_id") == person
            }
        visible = self.visible(caller)
        return {id for id, owner in self.owners.items() if owner in visible}

    def foreign_ids(self, caller: Caller, prefix: str) -> list[str]:
        """Ids of a type that a caller must never be given; for the platform, which sees all, any ids."""
        own = set() if caller.tenant == "platform" else self.own_ids(caller)
        return [id for id in self.owners if id.startswith(f"{prefix}_") and id not in own]

    def reached(self, caller: Caller, entity: str, prefix: str) -> set[str]:
        """The ids of all rows of a type that the caller's grant opens, worked out from the stored rows alone."""
        grants, tenant = self.grants(caller), self.world.tenants[caller.tenant]
        account = next((r["id"] for r in self.rows["staff_account"] if r["login"] == caller.name), None)
        person = self.world.end_users[caller.tenant].id if caller.kind is PrincipalKind.END_USER else None
        key = self.world.api_keys[caller.tenant].id if caller.kind is PrincipalKind.API_KEY else None
        found = set()
        for row in self.rows[registry.by_prefix[prefix].table.name]:
            name = row["kind"].title().replace("_", "") if prefix == "ten" else entity
            if prefix == "ord":
                name = {"SINGLE_ITEM": "ItemOrder"}.get(row["kind"], f"{row['kind'].title()}Order")
                if entity not in ("Order", name):
                    continue
            path = row["path"] if prefix == "ten" else row["tenant_path"]
            owner = row["id"] if prefix == "ten" else row["tenant_id"]
            mine = {
                "acc": lambda r: r["id"] == account,
                "ntf": lambda r: r["account_id"] == account,
                "nto": lambda r: r["account_id"] == account,
                "ses": lambda r: r["account_id"] == account if person is None else r["end_user_id"] == person,
                "lgr": lambda r: r["account_id"] == account if person is None else r["end_user_id"] == person,
                "opr": lambda r: r["account_id"] == account if person is None else r["end_user_id"] == person,
                "agc": lambda r: r["end_user_id"] == person,
                "eus": lambda r: r["id"] == person,
                "ord": lambda r: r["end_user_id"] == person,
                "pay": lambda r: r["end_user_id"] == person,
                "rnr": lambda r: r["end_user_id"] == person,
                "dus": lambda r: r["end_user_id"] == person,
                "mus": lambda r: r["end_user_id"] == person,
                "prf": lambda r: r["end_user_id"] == person,
                "sim": lambda r: r["end_user_id"] == person,
                "key": lambda r: r["id"] == key,
                "tsk": lambda r: account is not None and r["account_id"] == account,
            }
            opens: dict[str, bool] = {
                Scope.ALL: True,
                Scope.SUBTREE: person is None and path.startswith(tenant.path),
                Scope.TENANT: person is None and owner == tenant.id,
                Scope.ANCESTORS: tenant.path.startswith(path),
                Scope.SELF: prefix in mine and (account or person or key) is not None and mine[prefix](row),
            }
            if any(opens[scope] for scope in grants.reach_of(name, "id", Act.READ) or ()):
                found.add(encode_id(prefix, row["id"]))
        return found

    def check(self, caller: Caller, answer: Mapping[str, Any], asked: object) -> None:
        """Nothing in the answer belongs to somebody out of the caller's reach."""
        text = json.dumps(answer, ensure_ascii=False)
        text += "".join(cursor_texts(answer))
        # a refusal may repeat the caller's own words
        said, own_words = re.sub(r'"message": "(?:[^"\\]|\\.)*"', "", text), str(asked)
        foreign = {m for m in MARK.findall(text) if m in MARK.findall(said) or f"«{m}»" not in own_words}
        foreign -= self.visible(caller)
        assert not foreign, (str(caller), foreign, asked, text)
        given_out = set(GLOBAL_ID.findall(said)) & set(self.owners)
        assert given_out <= self.own_ids(caller), (str(caller), given_out - self.own_ids(caller), asked, text)
        if caller.is_customer:
            real = [n for n in self.iccids if n in said or (n in text and n not in own_words)]
            assert not real, (str(caller), real, asked, text)
        assert '"code": "INTERNAL"' not in text, (str(caller), asked, text)

    # -- what is stored -----------------------------------------------------------------------------------

    async def stored(self) -> dict[str, list[dict[str, Any]]]:
        """Every row of every table."""
        tables = [table.name for _, table in mapped_tables()]
        union = " UNION ALL ".join(
            f"SELECT '{name}' AS name, to_jsonb(t)::text AS row FROM {name} t" for name in tables
        )
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in tables}
        for name, row in await self.world.sql(union):
            found[name].append(json.loads(row))
        return {name: sorted(rows, key=lambda row: row["id"]) for name, rows in found.items()}

    def know(self, rows: dict[str, list[dict[str, Any]]]) -> None:
        """Takes these rows for what is stored now."""
        self.rows = rows
        names = {tenant.id: name for name, tenant in self.world.tenants.items()}
        # a tenant that a caller has made just now is below the caller
        paths = {tenant.path: name for name, tenant in self.world.tenants.items()}
        for row in rows["tenant"]:
            names.setdefault(row["id"], next((n for p, n in paths.items() if p == row["path"][:-5]), "platform"))
        for prefix, entity in registry.by_prefix.items():
            if entity.table.name not in PUBLISHED:
                for row in rows[entity.table.name]:
                    self.owners[encode_id(prefix, row["id"])] = names[row["id" if prefix == "ten" else "tenant_id"]]
        self.iccids = frozenset(row["iccid"] for row in rows["sim_card"])

    def foreign_rows(self, caller: Caller, rows: Mapping[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
        """The rows outside the caller's branch."""
        path = self.world.tenants[caller.tenant].path
        return {
            name: [row for row in some if not row["path" if name == "tenant" else "tenant_path"].startswith(path)]
            for name, some in rows.items()
        }


def cursor_texts(answer: object) -> Iterator[str]:
    """What stands inside the cursors of an answer."""
    if isinstance(answer, Mapping):
        for key, value in answer.items():
            if "cursor" in key.lower() and isinstance(value, str):
                yield from filter(None, sort_values(value))
            else:
                yield from cursor_texts(value)
    elif isinstance(answer, list):
        for value in answer:
            yield from cursor_texts(value)


async def _marked(template: Template, worker_id: str, folder: Path) -> AsyncIterator[Marked]:
    with placed(template, worker_id, folder) as place:
        async for client in _running(place):
            world = await sow(client, place.superuser_url)
            await mark_the_rest(world)
            for key in KEYS:
                await world.sql("UPDATE api_key SET roles = $1 WHERE key = $2", [key.role], f"tk_{key.tenant}")
            for account in ACTORS:
                await world.token(account)
            found = Marked(world)
            found.know(await found.stored())
            yield found


@pytest.fixture(scope="module")
async def marked(template: Template, worker_id: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Marked]:
    """One world for all tests that only read."""
    async for found in _marked(template, worker_id, tmp_path_factory.mktemp("reading")):
        yield found


@pytest.fixture(scope="module")
async def changing(
    template: Template, worker_id: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Marked]:
    """Another for those that try to change what is foreign."""
    async for found in _marked(template, worker_id, tmp_path_factory.mktemp("changing")):
        yield found


async def test_every_table_has_marked_rows_of_every_tenant(marked: Marked) -> None:
    """What is not marked could leak unseen: a new table must be added to the world."""
    unmarked = {"tenant_closure", "role_assignment", "role_policy", "recovery_code", *PUBLISHED}
    through_a_marked_row = {
        "commission_entry", "commission_rate", "commission_settlement", "customer_price", "daily_statistic",
        "daily_usage", "first_session", "interval_statistic", "ledger_account", "ledger_entry", "monthly_bill",
        "monthly_statistic", "monthly_usage", "order_level_price", "package_component", "package_subscription",
        "payment_reconciliation", "retention_policy", "role_department", "role_menu", "session_day", "sim_allocation",
        "sim_end_user_binding", "sim_package_binding", "sim_plan_change", "staff_position", "usage_ratio",
    }  # fmt: skip
    for name, rows in marked.rows.items():
        marks = {mark for row in rows for mark in MARK.findall(str(row))}
        if name in unmarked | through_a_marked_row:
            assert rows, name
        else:
            assert marks == set(marked.world.tenants), name


# -- shipped operations ---------------------------------------------------------------------------------------------


def variations(marked: Marked, caller: Caller, operation: OperationDefinitionNode) -> Iterator[dict[str, Any]]:
    """Values for an operation's variables that point out of the caller's reach."""
    schema = the_graph().schema
    definitions = operation.variable_definitions or ()
    chosen: list[dict[str, Any]] = []
    query, root = schema.query_type, operation.selection_set.selections[0]
    assert query is not None
    assert isinstance(root, FieldNode)
    for definition in definitions:
        name, type = definition.variable.name.value, type_from_ast(schema, definition.type)
        assert type is not None
        named = get_named_type(type)
        if named.name == "ID":
            prefixes = {id_prefix(name, get_named_type(query.fields[root.name.value].type).name), "ten"}
            chosen += [{name: id} for prefix in sorted(prefixes) for id in marked.foreign_ids(caller, prefix)[-2:]]
        elif name in ("displayIccid", "imsi", "iccid"):
            column = {"displayIccid": "display_iccid"}.get(name, name)
            tenant = next(iter(set(BRANCHES) - marked.visible(caller)), "coast")
            card = next(r for r in marked.rows["sim_card"] if r["tenant_id"] == marked.world.tenants[tenant].id)
            chosen += [{name: card[column]}, {name: card["iccid"]}]
        elif name == "filter" and caller.is_customer:
            assert isinstance(named, GraphQLInputObjectType)
            chosen += [{name: filter} for filter in filters(marked, caller, named)]
        elif isinstance(type, GraphQLNonNull) and isinstance(named, GraphQLInputObjectType):
            return
    if not any(isinstance(definition.type, NonNullTypeNode) for definition in definitions):
        yield {}
    yield from chosen


def filters(marked: Marked, caller: Caller, type: GraphQLInputObjectType) -> Iterator[dict[str, Any]]:
    """Filters that ask for what is not the caller's, and for everything but what is."""
    for name, given_field in type.fields.items():
        comparison = get_named_type(given_field.type).name
        if comparison == "IDComparison":
            prefix = id_prefix(name, type.name.removesuffix("Filter"))
            foreign = marked.foreign_ids(caller, prefix)[-5:]
            yield {name: {"in": foreign}}
            yield {"not": {name: {"in": [id for id in marked.owners if id.startswith(prefix)][:50]}}}
        elif comparison == "StringComparison":
            yield {name: {"contains": "«"}}
            yield {"or": [{name: {"in": ["", *sorted(marked.iccids)[:3]]}}, {"not": {name: {"eq": "no such text"}}}]}


def id_prefix(name: str, entity: str) -> str:
    """The prefix of the ids that a filter or an argument of this name takes."""
    known = {
        "holder": "ten", "parent": "ten", "tenant": "ten", "to": "ten", "supplier": "sup", "package": "pkg",
        "department": "dep", "account": "acc", "card": "sim", "endUser": "eus", "task": "tsk", "ids": "sim",
        "endpoint": "whe", "role": "rol", "template": "tpl", "customer": "ten", "enterprise": "ten",
        "toPackage": "pkg", "agent": "ten", "simCard": "sim", "order": "ord", "channel": "pch", "payment": "pay",
        "packetGateway": "pgw", "merchant": "ten", "company": "ten", "merchantType": "mty",
        "contractTemplate": "ctt", "seller": "acc", "coupon": "cpn", "application": "cpa",
    }  # fmt: skip
    entities = {found.name: prefix for prefix, found in registry.by_prefix.items()}
    entities |= dict.fromkeys(("Agent", "Enterprise", "Platform", "Merchant", "MerchantOperator"), "ten")
    entities |= dict.fromkeys(("PackageOrder", "RenewalOrder", "ItemOrder"), "ord")
    if name == "parent" and entity == "Department":
        return "dep"
    if name == "template" and entity in ("Contract", "LinkContractTemplate", "IssueContract"):
        return "ctt"
    return known[name] if name in known else entities[entity]


@every(CALLERS)
async def test_no_shipped_operation_shows_what_is_foreign(marked: Marked, caller: Caller) -> None:
    application = marked.world.client.application
    asked = 0
    for text in application.doors[caller.door].operations.values():
        operation = application.engine.documents[caller.door].get(text).operation(None)
        if operation.kind is not OperationType.QUERY:
            continue
        for variables in variations(marked, caller, operation.node):
            marked.check(caller, await marked.ask(caller, text, variables), (text, variables))
            asked += 1
    assert asked >= 3


@every(CALLERS)
async def test_lists_and_counts_hold_exactly_what_is_within_reach(marked: Marked, caller: Caller) -> None:
    schema = marked.schema(caller)
    assert schema.query_type is not None
    page = marked.world.client.application.doors[caller.door].limits.document.max_page
    lists = 0
    for name, definition in schema.query_type.fields.items():
        entity = get_named_type(definition.type).name.removesuffix("Connection")
        if entity == get_named_type(definition.type).name:
            continue
        nodes: list[str] = []
        after = "null"
        while after is not None:
            text = f"{name}(first: {page}, after: {after}) {{ totalCount nodes {{ id }} pageInfo {{ endCursor }} }}"
            found = (await marked.ask(caller, f"{{ {text} }}"))["data"][name]
            nodes += [node["id"] for node in found["nodes"]]
            after = json.dumps(found["pageInfo"]["endCursor"]) if len(found["nodes"]) == page else None
        prefix = id_prefix("", entity)
        expected = marked.reached(caller, entity, prefix)
        kinds = {"customers": {"AGENT", "ENTERPRISE"}, "agents": {"AGENT"}, "merchants": {"MERCHANT"}}.get(name)
        if kinds is not None:
            expected &= {encode_id("ten", row["id"]) for row in marked.rows["tenant"] if row["kind"] in kinds}
        assert set(nodes) == expected, name
        assert found["totalCount"] == len(nodes) == len(expected), name
        lists += 1
    assert lists >= 1


@every(CUSTOMERS)
async def test_ids_of_others_find_nothing(marked: Marked, caller: Caller) -> None:
    own, foreign = marked.own_ids(caller), sorted(set(marked.owners) - marked.own_ids(caller))
    assert foreign
    if not marked.grants(caller).allows("Query", "node", Act.READ):
        answer = await marked.ask(caller, "query($id: ID!) { node(id: $id) { id } }", {"id": foreign[0]})
        assert [error["extensions"]["code"] for error in answer["errors"]] == ["FORBIDDEN"]
        return
    several = "query($ids: [ID!]!) { nodes(ids: $ids) { __typename id } }"
    for start in range(0, len(foreign), 100):
        ids = foreign[start : start + 100]
        assert await marked.ask(caller, several, {"ids": ids}) == {"data": {"nodes": [None] * len(ids)}}
    one = foreign[len(foreign) // 2]
    single = await marked.ask(caller, "query($id: ID!) { node(id: $id) { id } }", {"id": one})
    assert single == {"data": {"node": None}}
    prefix, kind = ("mit_", "MerchantItem") if caller.door == "merchant" else ("sim_", "SimCard")
    mine = next(id for id in sorted(own) if id.startswith(prefix))
    assert await marked.ask(caller, several, {"ids": [mine]}) == {"data": {"nodes": [{"__typename": kind, "id": mine}]}}


@pytest.mark.parametrize("order", ["{field: ID}", "{field: ACTIVATED_AT}", "{field: ACTIVATED_AT, direction: DESC}"])
async def test_a_cursor_of_others_opens_no_page(marked: Marked, order: str) -> None:
    """The platform's cursors stand at foreign rows; behind and before them a customer finds its own rows only."""
    query = (
        f"query($after: String, $before: String, $first: Int, $last: Int) {{ simCards(orderBy: [{order}], "
        "after: $after, before: $before, first: $first, last: $last) { totalCount edges { cursor node { id } } } }"
    )
    everything = (await marked.ask(CALLERS[0], query, {"first": 200}))["data"]["simCards"]["edges"]
    assert len(everything) == len(marked.rows["sim_card"])
    for caller in CUSTOMERS:
        if caller.kind is PrincipalKind.END_USER and "ACTIVATED_AT" not in order:
            continue
        if not marked.grants(caller).allows("Query", "simCards", Act.READ):
            continue
        own = marked.reached(caller, "SimCard", "sim")
        ranked = [edge["node"]["id"] for edge in everything]
        for at in range(0, len(everything), 7):
            cursor = everything[at]["cursor"]
            for variables, expected in (
                ({"first": PAGE, "after": cursor}, ranked[at + 1 :]),
                ({"last": PAGE, "before": cursor}, ranked[:at]),
            ):
                page = (await marked.ask(caller, query, variables))["data"]["simCards"]
                assert [edge["node"]["id"] for edge in page["edges"]] == [id for id in expected if id in own]
                assert page["totalCount"] == len(own)


# -- generated operations -------------------------------------------------------------------------------------------


def whole(schema: GraphQLSchema, type: GraphQLObjectType | GraphQLInterfaceType, depth: int) -> str:
    """A selection of all fields of a type, and of all that it leads to, so many steps deep."""
    parts = ["__typename"]
    for name, definition in type.fields.items():
        of = get_named_type(definition.type)
        if not isinstance(of, GraphQLObjectType | GraphQLInterfaceType):
            parts.append(name)
        elif of.name.endswith("Connection") and depth:
            node = get_named_type(of.fields["nodes"].type)
            assert isinstance(node, GraphQLObjectType | GraphQLInterfaceType)
            page = f"totalCount pageInfo {{ startCursor endCursor }} nodes {{ {whole(schema, node, depth - 1)} }}"
            parts.append(f"{name}(first: 8) {{ {page} }}")
        elif not of.name.endswith("Connection") and (depth or of.name == "CarrierState"):
            parts.append(f"{name} {{ {whole(schema, of, depth - 1)} }}")
    if isinstance(type, GraphQLInterfaceType):
        for concrete in schema.get_possible_types(type):
            own = {name: kind for name, kind in concrete.fields.items() if name not in type.fields}
            leaves = [name for name, kind in own.items() if not hasattr(get_named_type(kind.type), "fields")]
            parts += [f"... on {concrete.name} {{ {' '.join(leaves)} }}"] if leaves else []
    return " ".join(parts)


@every(CALLERS)
async def test_nothing_foreign_stands_in_anything_that_can_be_selected(marked: Marked, caller: Caller) -> None:
    """Each root of the caller's schema with all of its fields, and all of theirs, and those of their targets."""
    schema = marked.schema(caller)
    assert schema.query_type is not None
    answered = 0
    for name, definition in schema.query_type.fields.items():
        of = get_named_type(definition.type)
        if not of.name.endswith("Connection"):
            continue
        assert isinstance(of, GraphQLObjectType)
        node = get_named_type(of.fields["nodes"].type)
        assert isinstance(node, GraphQLObjectType | GraphQLInterfaceType)
        for depth in (2, 1, 0):
            text = f"{{ {name}(first: 8) {{ totalCount edges {{ cursor node {{ {whole(schema, node, depth)} }} }} }} }}"
            answer = await marked.ask(caller, text)
            marked.check(caller, answer, text)
            if "data" in answer:
                answered += 1
                break
            assert {error["extensions"]["code"] for error in answer["errors"]} == {"LIMIT_EXCEEDED"}, answer
        else:
            pytest.fail(f"{name} exceeds the limits even without its relations")
    assert answered >= 1


SCALARS = {
    "DateTime": st.sampled_from(["2026-01-01T00:00:00Z", "2026-01-03T12:30:00+08:00"]).map(nodes.String),
    "Date": st.sampled_from(["2026-01-01", "2026-01-03"]).map(nodes.String),
    "Decimal": st.sampled_from(["0", "1.50", "99999"]).map(nodes.String),
}


class Rewriter:
    """Makes generated operations ask for what exists elsewhere: ids, numbers and marks of tenants out of reach."""

    def __init__(self, marked: Marked, caller: Caller, schema: GraphQLSchema) -> None:
        self.marked = marked
        self.caller = caller
        self.schema = schema
        self.turn = 0
        tenants = set(BRANCHES) - marked.visible(caller) or set(BRANCHES)
        card = next(r for r in marked.rows["sim_card"] if r["tenant_id"] == marked.world.tenants[min(tenants)].id)
        self.texts = ["«", f"«{min(tenants)}»", card["iccid"], card["display_iccid"], card["imsi"], card["msisdn"]]
        self.foreign = {prefix: marked.foreign_ids(caller, prefix) or ["none"] for prefix in registry.by_prefix}
        self.foreign["pkg"] = [encode_id("pkg", row["id"]) for row in marked.rows["data_package"]]

    def choose(self, options: Sequence[Any]) -> Any:
        self.turn += 1
        return options[zlib.crc32(f"{self.turn}".encode()) % len(options)]

    def document(self, document: DocumentNode) -> str:
        (operation,) = document.definitions
        assert isinstance(operation, OperationDefinitionNode)
        self.turn = zlib.crc32(print_ast(document).encode()) % 1000
        root = self.schema.get_root_type(operation.operation)
        assert root is not None
        return print_ast(replace(operation, selection_set=self.selections(operation.selection_set, root)))

    def selections(
        self, given_set: SelectionSetNode, parent: GraphQLObjectType | GraphQLInterfaceType
    ) -> SelectionSetNode:
        return SelectionSetNode(selections=tuple(self.selection(node, parent) for node in given_set.selections))

    def selection(self, node: SelectionNode, parent: GraphQLObjectType | GraphQLInterfaceType) -> SelectionNode:
        if isinstance(node, InlineFragmentNode) and node.type_condition is not None:
            inner = self.schema.type_map[node.type_condition.name.value]
            assert isinstance(inner, GraphQLObjectType | GraphQLInterfaceType)
            return replace(node, selection_set=self.selections(node.selection_set, inner))
        if not isinstance(node, FieldNode) or node.name.value not in parent.fields:
            return node
        definition = parent.fields[node.name.value]
        of = get_named_type(definition.type)
        below = node.selection_set
        if below is not None:
            assert isinstance(of, GraphQLObjectType | GraphQLInterfaceType)
            below = self.selections(below, of)
        arguments = tuple(self.arguments(node.arguments or (), definition.args, of.name))
        return replace(node, arguments=arguments, selection_set=below)

    def arguments(
        self, given_ones: Sequence[ArgumentNode], declared: Mapping[str, GraphQLArgument], of: str
    ) -> Iterator[ArgumentNode]:
        """A list keeps its filter half of the time and gets a page that the door allows; a look-up by one of
        several numbers keeps one."""
        entity = of.removesuffix("Connection").removesuffix("Payload")
        kept = list(given_ones)
        if "orderBy" in declared:
            kept = [one for one in given_ones if one.name.value == "filter" and self.choose([True, False])]
            yield ArgumentNode(name=NameNode(value="first"), value=IntValueNode(value=self.choose(["1", "5", "20"])))
        elif not any(isinstance(argument.type, GraphQLNonNull) for argument in declared.values()):
            kept = kept[:1]
        for one in kept:
            name = one.name.value
            yield replace(one, value=self.value(one.value, declared[name].type, name, entity))

    def value(self, value: ValueNode, type: GraphQLInputType, name: str, entity: str) -> ValueNode:
        named = get_named_type(type)
        if isinstance(value, ListValueNode):
            inner = type.of_type if isinstance(type, GraphQLNonNull) else type
            assert isinstance(inner, GraphQLList)
            return replace(
                value, values=tuple(self.value(item, inner.of_type, name, entity) for item in value.values[:3])
            )
        if isinstance(value, ObjectValueNode) and isinstance(named, GraphQLInputObjectType):
            of = named.name.removesuffix("Filter") if named.name.endswith("Filter") else entity
            fields = []
            for item in value.fields:
                called = name if named.name.endswith("Comparison") else item.name.value
                field_type = named.fields[item.name.value].type
                fields.append(replace(item, value=self.value(item.value, field_type, called, of)))
            return replace(value, fields=tuple(fields))
        if named.name == "ID":
            try:
                prefix = id_prefix(name, entity)
            except KeyError:
                prefix = self.choose(sorted(self.foreign))
            return StringValueNode(value=self.choose(self.foreign[prefix]))
        if named.name == "String" and isinstance(value, StringValueNode):
            return StringValueNode(value=self.choose(self.texts))
        return value


@every(CALLERS)
@GENERATED
@given(data=st.data())
async def test_no_generated_query_shows_what_is_foreign(marked: Marked, caller: Caller, data: st.DataObject) -> None:
    schema = marked.schema(caller)
    generated = queries(schema, custom_scalars=SCALARS, allow_null=False, print_ast=lambda document: document)
    text = Rewriter(marked, caller, schema).document(data.draw(generated))
    marked.check(caller, await marked.ask(caller, text), text)


OPEN = {
    "endUserLogin", "registerEndUser", "sendEmailCode", "endUserEmailLogin", "sendSmsCode", "endUserSmsLogin",
    "resetEndUserPassword",
}  # fmt: skip
"""What anybody may run who names a tenant: it begins a session of somebody else."""
ECHOING = {"publishAgreement", "setLoginApp"}
"""What shows callers their own words, which may be somebody's number."""
HARMLESS = {
    "logIn", "refreshSession", "logOut", "changePassword", "requestPasswordReset", "resetPassword", "wechatLogin",
    "oauthLogin", "setMyLanguage", "uploadFile", *OPEN,
}  # fmt: skip
"""What takes no id of a row that it changes, and ends the caller's own session, begins one, or leads to one; or takes
a file, which no generated text holds."""


@every([caller for caller in CUSTOMERS if caller.kind is not PrincipalKind.END_USER])
@GENERATED
@given(data=st.data())
async def test_no_generated_mutation_touches_what_is_foreign(
    changing: Marked, caller: Caller, data: st.DataObject
) -> None:
    schema = changing.schema(caller)
    assert schema.mutation_type is not None
    fields = sorted(set(schema.mutation_type.fields) - HARMLESS - ECHOING)
    generated = mutations(
        schema, fields=fields, custom_scalars=SCALARS, allow_null=False, print_ast=lambda document: document
    )
    rewriter = Rewriter(changing, caller, schema)
    # what a caller writes into its own rows comes back to it, and would look like a leak
    rewriter.texts = [one for one in rewriter.texts if not MARK.search(one) and one not in changing.iccids]
    text = rewriter.document(data.draw(generated))
    answer = await changing.ask(caller, text)
    after = await changing.stored()
    assert changing.foreign_rows(caller, after) == changing.foreign_rows(caller, changing.rows), text
    changing.know(after)
    changing.check(caller, answer, text)


# -- mutations, case by case ----------------------------------------------------------------------------------------

CARDS = "{ count simCards { id } errors { code field } }"
STEP = "mutation($input: ChangeSimStatusInput!) { %sSimCards(input: $input) " + CARDS + " }"


@dataclass(frozen=True)
class Attempt:
    """A mutation that points at something foreign, and what the caller hears where it may use the mutation at all."""

    mutation: str
    text: str
    variables: Mapping[str, Any]
    code: str = "NOT_FOUND"


def attempts(marked: Marked, caller: Caller) -> Iterator[Attempt]:
    world, own = marked.world, caller.tenant
    foreign = next(name for name in ("south-west", "north-east") if name not in marked.visible(caller))
    tenant, cards = world.id(foreign), world.card_ids(foreign)
    mine = world.card_ids(own)[0]
    numbers = [row["display_iccid"] for row in marked.rows["sim_card"] if encode_id("sim", row["id"]) in cards]
    selections = (
        {"ids": cards[:1]},
        {"ids": [mine, cards[0]]},
        {"displayIccids": numbers[:2]},
        {"firstDisplayIccid": numbers[0], "lastDisplayIccid": numbers[-1]},
    )
    person = encode_id("eus", world.end_users[foreign].id)

    def one(table: str, prefix: str) -> str:
        owner = world.tenants[foreign].id
        return encode_id(prefix, next(row["id"] for row in marked.rows[table] if row["tenant_id"] == owner))

    account, department, key = one("staff_account", "acc"), one("department", "dep"), one("api_key", "key")
    for number, selection in enumerate(selections):
        repeat = {"idempotencyKey": f"{caller.name} {number} {uuid.uuid4()}"}
        for action in ("activate", "suspend", "resume", "terminate"):
            variables = {"input": {"cards": selection, **repeat}}
            yield Attempt(f"{action}SimCards", STEP % action, variables, "CARDS_NOT_FOUND")
        text = "mutation($input: RecallSimCardsInput!) { recallSimCards(input: $input) " + CARDS + " }"
        yield Attempt("recallSimCards", text, {"input": {"cards": selection, **repeat}}, "CARDS_NOT_FOUND")
        text = "mutation($input: AllocateSimCardsInput!) { allocateSimCards(input: $input) " + CARDS + " }"
        below = next((n for n, t in world.tenants.items() if t.parent_id == world.tenants[own].id), None)
        if below is not None:
            variables = {"input": {"to": world.id(below), "cards": selection, **repeat}}
            yield Attempt("allocateSimCards", text, variables, "CARDS_NOT_FOUND")
        text = "mutation($input: BindSimPackageInput!) { bindSimPackage(input: $input) " + CARDS + " }"
        package = encode_id("pkg", world.packages["CM-M-30M"].id)
        yield Attempt("bindSimPackage", text, {"input": {"cards": selection, "package": package}}, "CARDS_NOT_FOUND")
        text = "mutation($input: OrderPackagesInput!) { orderPackages(input: $input) { errors { code } } }"
        variables = {"input": {"cards": selection, "package": package, **repeat}}
        yield Attempt("orderPackages", text, variables, "CARDS_NOT_FOUND")
        text = "mutation($input: BatchRechargeInput!) { startBatchRecharge(input: $input) { errors { code } } }"
        yield Attempt("startBatchRecharge", text, variables, "CARDS_NOT_FOUND")
        text = "mutation($input: OrderPackagesInput!) { createDirectOrder(input: $input) { errors { code } } }"
        yield Attempt("createDirectOrder", text, variables, "CARDS_NOT_FOUND")
    text = "mutation($input: WithdrawalInput!) { cancelWithdrawal(input: $input) { errors { code } } }"
    asked = {"id": one("withdrawal", "wdr"), "idempotencyKey": str(uuid.uuid4())}
    yield Attempt("cancelWithdrawal", text, {"input": asked})
    for name in ("pay", "cancel"):
        text = f"mutation($input: {name.title()}OrderInput!) {{ {name}Order(input: $input) {{ errors {{ code }} }} }}"
        order = {"id": one("sales_order", "ord"), "idempotencyKey": str(uuid.uuid4())}
        yield Attempt(f"{name}Order", text, {"input": order})
    text = "mutation($input: RetryDirectOrderInput!) { retryDirectOrder(input: $input) { errors { code } } }"
    yield Attempt("retryDirectOrder", text, {"input": {"id": one("direct_order", "dor"), "idempotencyKey": "d"}})
    text = "mutation($input: CreatePaymentInput!) { createPayment(input: $input) { errors { code } } }"
    order = {"order": one("sales_order", "ord"), "channel": "WECHAT_PAY", "idempotencyKey": str(uuid.uuid4())}
    yield Attempt("createPayment", text, {"input": order})
    text = "mutation($input: RenewSimCardInput!) { renewSimCard(input: $input) { errors { code } } }"
    package = encode_id("pkg", world.packages["CM-M-1G"].id)
    asked = {"card": cards[0], "package": package, "idempotencyKey": str(uuid.uuid4())}
    yield Attempt("renewSimCard", text, {"input": asked})
    for target in (tenant, world.id("platform")):
        text = "mutation($input: AllocateSimCardsInput!) { allocateSimCards(input: $input) " + CARDS + " }"
        repeat = {"idempotencyKey": str(uuid.uuid4())}
        yield Attempt("allocateSimCards", text, {"input": {"to": target, "cards": {"ids": [mine]}, **repeat}})
        text = "mutation($input: SetCommissionRateInput!) { setCommissionRate(input: $input) { errors { code } } }"
        rate = {"agent": target, "package": encode_id("pkg", world.packages["CM-M-1G"].id), "percent": "1"}
        yield Attempt("setCommissionRate", text, {"input": {**rate, **repeat}})
        text = "mutation($input: SetCustomerPriceInput!) { setCustomerPrice(input: $input) { errors { code } } }"
        price = {"customer": target, "package": encode_id("pkg", world.packages["CM-M-1G"].id), "price": "1"}
        yield Attempt("setCustomerPrice", text, {"input": {**price, **repeat}})
        text = "mutation($input: UpdateTenantInput!) { updateTenant(input: $input) { tenant { id } errors { code } } }"
        yield Attempt("updateTenant", text, {"input": {"id": target, "name": "Taken"}})
        text = "mutation($input: SetTenantStatusInput!) { setTenantStatus(input: $input) { errors { code } } }"
        yield Attempt("setTenantStatus", text, {"input": {"id": target, "status": "SUSPENDED"}})
        text = "mutation($input: SetTenantRateLimitInput!) { setTenantRateLimit(input: $input) { errors { code } } }"
        yield Attempt("setTenantRateLimit", text, {"input": {"id": target, "requestsPerMinute": 1}})
        text = "mutation($input: MoveTenantInput!) { moveTenant(input: $input) { errors { code } } }"
        yield Attempt("moveTenant", text, {"input": {"id": target, "parent": world.id(own)}})
    text = "mutation($input: BindSimEndUserInput!) { bindSimEndUser(input: $input) { simCard { id } errors { code } } }"
    yield Attempt("bindSimEndUser", text, {"input": {"card": mine, "endUser": person}})
    yield Attempt("bindSimEndUser", text, {"input": {"card": cards[0]}}, "CARDS_NOT_FOUND")
    new = {"login": f"new {uuid.uuid4()}", "password": "correct horse 43", "name": "New", "roles": [caller.role]}
    text = "mutation($input: CreateStaffAccountInput!) { createStaffAccount(input: $input) { errors { code } } }"
    yield Attempt("createStaffAccount", text, {"input": {**new, "tenant": tenant}})
    yield Attempt("createStaffAccount", text, {"input": {**new, "department": department}})
    text = "mutation($input: DepartmentInput!) { createDepartment(input: $input) { errors { code } } }"
    yield Attempt("createDepartment", text, {"input": {"name": "New", "parent": department}})
    text = "mutation($input: SetRolesInput!) { setStaffRoles(input: $input) { account { id } errors { code } } }"
    yield Attempt("setStaffRoles", text, {"input": {"account": account, "roles": []}})
    text = "mutation($id: ID!) { setStaffStatus(account: $id, status: DISABLED) { account { id } errors { code } } }"
    yield Attempt("setStaffStatus", text, {"id": account})
    yield Attempt(
        "revokeSessions", "mutation($id: ID!) { revokeSessions(account: $id) { errors { code } } }", {"id": account}
    )
    text = "mutation($id: ID!) { resetSecondFactor(account: $id) { account { id } errors { code } } }"
    yield Attempt("resetSecondFactor", text, {"id": account})
    text = "mutation($id: ID!) { setEndUserStatus(endUser: $id, status: DISABLED) { errors { code } } }"
    yield Attempt("setEndUserStatus", text, {"id": person})
    text = "mutation($id: ID!) { revokeEndUserSessions(endUser: $id) { errors { code } } }"
    yield Attempt("revokeEndUserSessions", text, {"id": person})
    text = 'mutation($id: ID!) { eraseEndUser(input: {endUser: $id, reason: "none"}) { errors { code } } }'
    yield Attempt("eraseEndUser", text, {"id": person})
    text = "mutation($input: SetLoginAppInput!) { setLoginApp(input: $input) { errors { code } } }"
    app = {"provider": "WECHAT_MINI_PROGRAM", "appId": "wx new", "secret": "new"}
    yield Attempt("setLoginApp", text, {"input": {**app, "tenant": tenant}})
    text = "mutation($input: IssueApiKeyInput!) { issueApiKey(input: $input) { secret errors { code } } }"
    yield Attempt("issueApiKey", text, {"input": {"name": "New", "tenant": tenant}})
    yield Attempt(
        "rotateApiKey", "mutation($id: ID!) { rotateApiKey(id: $id) { secret errors { code } } }", {"id": key}
    )
    yield Attempt("revokeApiKey", "mutation($id: ID!) { revokeApiKey(id: $id) { errors { code } } }", {"id": key})
    text = "mutation($input: ExtendApiKeyInput!) { extendApiKey(input: $input) { errors { code } } }"
    yield Attempt("extendApiKey", text, {"input": {"id": key, "validDays": 900}})
    text = "mutation($input: RestrictApiKeyInput!) { restrictApiKey(input: $input) { errors { code } } }"
    yield Attempt("restrictApiKey", text, {"input": {"id": key, "scopes": []}})
    text = "mutation($id: ID!) { removeNotificationTemplate(id: $id) { errors { code } } }"
    yield Attempt("removeNotificationTemplate", text, {"id": one("notification_template", "ntt")})
    text = "mutation($id: ID!) { cancelTask(id: $id) { errors { code } } }"
    yield Attempt("cancelTask", text, {"id": one("task", "tsk")})
    text = "mutation($ids: [ID!]!) { markNotificationsRead(ids: $ids) { notifications { id } errors { code } } }"
    yield Attempt("markNotificationsRead", text, {"ids": [one("notification", "ntf")]})
    yield from _office_attempts(
        account, department, one("job_position", "pos"), one("role", "rol"), one("permission_template", "tpl")
    )
    text = "mutation($input: SetTenantModuleInput!) { setTenantModule(input: $input) { errors { code } } }"
    yield Attempt("setTenantModule", text, {"input": {"tenant": tenant, "module": "sim", "enabled": False}})
    yield from _webhook_attempts(tenant, one("webhook_endpoint", "whe"), one("webhook_delivery", "whd"))
    yield from _device_and_file_attempts(one("network_device", "nwd"), one("stored_file", "fil"))
    yield from _merchant_attempts(one)


def _merchant_attempts(one: Callable[[str, str], str]) -> Iterator[Attempt]:
    errors = "{ errors { code } }"
    application, item = one("onboarding_application", "onb"), one("merchant_item", "mit")
    buyer = {"name": "Somebody"}
    for kind, name, values in (
        ("SaveOnboardingInput", "saveOnboarding", {"merchantType": one("merchant_type", "mty")}),
        ("OnboardingInput", "submitOnboarding", {"id": application}),
        ("OnboardingInput", "withdrawOnboarding", {"id": application}),
        ("UpdateMerchantItemInput", "updateMerchantItem", {"id": item, "name": "Taken over"}),
        ("SignContractInput", "signContract", {"id": one("contract", "ctr")}),
        ("CouponApplicationInput", "withdrawCouponApplication", {"id": one("coupon_application", "cpa")}),
        ("PlaceItemOrderInput", "placeItemOrder", {"lines": [{"item": item}], "buyer": buyer}),
        ("TakeCashInput", "takeCash", {"id": one("sales_order", "ord")}),
    ):
        if name in ("signContract", "withdrawCouponApplication", "placeItemOrder", "takeCash"):
            values = {**values, "idempotencyKey": str(uuid.uuid4())}
        yield Attempt(name, f"mutation($input: {kind}!) {{ {name}(input: $input) {errors} }}", {"input": values})


def _office_attempts(account: str, department: str, position: str, role: str, template: str) -> Iterator[Attempt]:
    errors = "{ errors { code } }"
    for name, argument, id in (
        ("deleteDepartment", "id", department),
        ("deletePosition", "id", position),
        ("deleteRole", "id", role),
        ("unlockStaffAccount", "account", account),
    ):
        yield Attempt(name, f"mutation($id: ID!) {{ {name}({argument}: $id) {errors} }}", {"id": id})
    for name, id in (("setDepartmentStatus", department), ("setPositionStatus", position), ("setRoleStatus", role)):
        text = f"mutation($id: ID!) {{ {name}(id: $id, status: DISABLED) {errors} }}"
        yield Attempt(name, text, {"id": id})
    text = f"mutation($id: ID!, $input: DepartmentInput!) {{ updateDepartment(id: $id, input: $input) {errors} }}"
    yield Attempt("updateDepartment", text, {"id": department, "input": {"name": "Taken over"}})
    for kind, name, values in (
        ("UpdatePositionInput", "updatePosition", {"id": position, "name": "Taken over"}),
        ("UpdateRoleInput", "updateRole", {"id": role, "name": "Taken over"}),
        ("CreateRoleInput", "createRole", {"name": "Taken over", "template": template}),
        ("SetRolePermissionsInput", "setRolePermissions", {"role": role, "menus": []}),
        ("UpdateStaffAccountInput", "updateStaffAccount", {"id": account, "name": "Taken over"}),
        ("ResetStaffPasswordInput", "resetStaffPassword", {"account": account, "password": "another password 1"}),
    ):
        yield Attempt(name, f"mutation($input: {kind}!) {{ {name}(input: $input) {errors} }}", {"input": values})
    text = f"mutation($a: ID!, $p: [ID!]!) {{ setStaffPositions(account: $a, positions: $p) {errors} }}"
    yield Attempt("setStaffPositions", text, {"a": account, "p": [position]})


def _webhook_attempts(tenant: str, endpoint: str, delivery: str) -> Iterator[Attempt]:
    errors = "{ errors { code } }"
    text = f"mutation($input: CreateWebhookEndpointInput!) {{ createWebhookEndpoint(input: $input) {errors} }}"
    new = {"url": "https://192.0.2.1/hook", "events": ["SIM_ALLOCATED"]}
    yield Attempt("createWebhookEndpoint", text, {"input": {**new, "tenant": tenant}})
    text = f"mutation($input: UpdateWebhookEndpointInput!) {{ updateWebhookEndpoint(input: $input) {errors} }}"
    yield Attempt("updateWebhookEndpoint", text, {"input": {"id": endpoint, "active": True}})
    for name in ("deleteWebhookEndpoint", "rotateWebhookSecret", "pingWebhookEndpoint"):
        yield Attempt(name, f"mutation($id: ID!) {{ {name}(endpoint: $id) {errors} }}", {"id": endpoint})
    text = f"mutation($id: ID!) {{ redeliverWebhook(id: $id) {errors} }}"
    yield Attempt("redeliverWebhook", text, {"id": delivery})


def _device_and_file_attempts(device: str, file: str) -> Iterator[Attempt]:
    errors = "{ errors { code } }"
    text = f"mutation($input: UpdateNetworkDeviceInput!) {{ updateNetworkDevice(input: $input) {errors} }}"
    yield Attempt("updateNetworkDevice", text, {"input": {"id": device, "name": "Taken over"}})
    text = f"mutation($input: NetworkDeviceReportInput!) {{ reportNetworkDevice(input: $input) {errors} }}"
    seen = {"id": device, "status": "DISCONNECTED", "seenAt": "2026-02-01T00:00:00Z"}
    yield Attempt("reportNetworkDevice", text, {"input": seen})
    for name, id in (("deleteNetworkDevice", device), ("deleteStoredFile", file)):
        yield Attempt(name, f"mutation($id: ID!) {{ {name}(id: $id) {errors} }}", {"id": id})


CATALOGUE = {
    "approveCouponApplication", "approveOnboarding", "approveWithdrawal", "cancelSimPlanChange", "cancelTopUp",
    "clearJobRuns", "composeDataPackage", "confirmSettlementStatement", "confirmTopUp", "createBillingProduct",
    "createDataPackage", "createDictionaryItem", "createMenuItem", "createPacketGateway", "createSimCard",
    "createSimCardRange", "deleteDictionaryItem", "deleteDictionaryType", "deleteMenuItem", "deletePacketGateway",
    "deleteParameter", "deleteScheduledJob", "discardSettlementStatement", "generateSettlementStatement",
    "grantMembership", "impersonate", "issueContract", "linkContractTemplate", "markRefundPaid", "markWithdrawalPaid",
    "pauseScheduledJob", "publishContractTemplate", "reconcilePayments", "recordTopUp", "refundOrder",
    "regenerateSettlementStatement", "rejectCouponApplication", "rejectOnboarding", "rejectWithdrawal",
    "releaseDeposit", "requestSimPlanChange", "resolveDirectOrder", "resolvePaymentDifference", "resumeScheduledJob",
    "retryCarrierRequest", "retryPaymentRefund", "runScheduledJob", "setCreditLimit", "setDataPackageStatus",
    "setDepositTerms", "setMenuItemStatus", "setMerchantStatus", "setUsageRatio", "settleSettlementStatement",
    "updateBillingProduct", "updateDataPackage", "updateDictionaryItem", "updateDictionaryType", "updateMenuItem",
    "updateMerchant", "updateMerchantType", "updateOutlet", "updatePacketGateway", "updateParameter",
    "updatePaymentChannel", "updateScheduledJob", "updateSupplier", "withdrawContractTemplate", "withdrawHelpTopic",
}  # fmt: skip
"""What takes ids of the platform's own catalogue or jobs, or moves money; only the platform's staff may call it."""


def test_every_mutation_that_takes_an_id_is_attempted(marked: Marked) -> None:
    mutation_type = the_graph().schema.mutation_type
    assert mutation_type is not None

    def takes_an_id(type: GraphQLInputType) -> bool:
        named = get_named_type(type)
        if isinstance(named, GraphQLInputObjectType):
            return any(takes_an_id(one.type) for one in named.fields.values())
        return named.name == "ID"

    taking = {
        name
        for name, definition in mutation_type.fields.items()
        if any(takes_an_id(argument.type) for argument in definition.args.values())
    }
    attempted = {attempt.mutation for caller in CUSTOMERS for attempt in attempts(marked, caller)}
    assert attempted == taking - CATALOGUE - OPEN - {"submitRealName"}  # with files: tried in a test of its own
    for caller in CUSTOMERS:
        assert not any(marked.grants(caller).allows("Mutation", name, Act.CALL) for name in CATALOGUE)


@every([caller for caller in CUSTOMERS if caller.kind is not PrincipalKind.END_USER])
async def test_a_mutation_that_points_outside_finds_nothing_and_changes_nothing(
    changing: Marked, caller: Caller
) -> None:
    changing.know(await changing.stored())
    before = changing.foreign_rows(caller, changing.rows)
    found = 0
    for attempt in attempts(changing, caller):
        answer = await changing.ask(caller, attempt.text, attempt.variables)
        if changing.grants(caller).allows("Mutation", attempt.mutation, Act.CALL):
            payload = answer["data"][attempt.mutation]
            assert [error["code"] for error in payload["errors"]] == [attempt.code], (attempt, answer)
            found += 1
        else:
            codes = {error["extensions"]["code"] for error in answer["errors"]}
            assert codes == {"FORBIDDEN"}, (attempt, answer)
        changing.check(caller, answer, attempt)
    assert found >= 8
    after = await changing.stored()
    assert changing.foreign_rows(caller, after) == before
    held = {"sim_card", "staff_account", "role_assignment", "department", "api_key", "tenant", "sim_status_change"}
    assert {name: after[name] for name in held} == {name: changing.rows[name] for name in held}


# -- numbers and files ----------------------------------------------------------------------------------------------


@pytest.mark.feature("S0-44")
@every(CUSTOMERS)
async def test_a_customer_cannot_search_by_the_real_iccid(marked: Marked, caller: Caller) -> None:
    """The carrier's own number is neither shown nor confirmed, not even of the caller's own cards."""
    tenant = marked.world.tenants[caller.tenant].id
    iccid = next(row["iccid"] for row in marked.rows["sim_card"] if row["tenant_id"] == tenant)
    for text, code in (
        ("query($n: String) { simCard(iccid: $n) { id } }", "FORBIDDEN"),
        ("query($n: String) { simCards(first: 1, filter: {iccid: {eq: $n}}) { totalCount } }", "FORBIDDEN"),
        ("query($n: String) { simCards(first: 1, filter: {not: {iccid: {ne: $n}}}) { totalCount } }", "FORBIDDEN"),
        (
            "query($n: String) { simCards(first: 1, filter: {or: [{iccid: {startsWith: $n}}]}) { totalCount } }",
            "FORBIDDEN",
        ),
    ):
        answer = await marked.ask(caller, text, {"n": iccid})
        assert {error["extensions"]["code"] for error in answer["errors"]} == {code}, text
        assert answer.get("data") is None
        marked.check(caller, answer, text)
    looked_up = await marked.ask(caller, "query($n: String) { simCard(displayIccid: $n) { id } }", {"n": iccid})
    if marked.grants(caller).allows("Query", "simCard", Act.READ):
        assert looked_up == {"data": {"simCard": None}}
    else:
        assert {error["extensions"]["code"] for error in looked_up["errors"]} == {"FORBIDDEN"}
    finance = next(one for one in CALLERS if one.role == "platform_finance")
    known = await marked.ask(finance, "query($n: String) { simCard(iccid: $n) { iccid } }", {"n": iccid})
    assert known == {"data": {"simCard": {"iccid": iccid}}}


async def test_the_file_of_refused_rows_is_given_by_its_own_link_only(changing: Marked) -> None:
    world = changing.world
    upload = "mutation($file: Upload!) { importSimCards(file: $file) { task { id } errors { code } } }"
    known = world.cards["platform"][0].iccid
    sheet = f"ICCID,运营商,供应商,卡类型,套餐编码,备注\n{known},CMCC,移动OneLink,机械卡,CM-M-1G,«platform»\n"
    token = await world.token("operations")
    made = (await world.client.upload("admin", upload, ("cards.csv", sheet.encode()), token)).json()
    await world.client.work_off()
    task = made["data"]["importSimCards"]["task"]["id"]
    query = "query($id: ID!) { task(id: $id) { failed refusedFileUrl } }"
    link = (await world.data("operations", query, {"id": task}))["task"]
    assert link["failed"] == 1
    assert (await world.client.http.get(link["refusedFileUrl"])).status_code == 200
    path, _, parameters = link["refusedFileUrl"].partition("?")
    other = encode_id("fil", next(row["id"] for row in changing.rows["stored_file"]))
    for address in (path, f"{path}?expires=9999999999&signature=forged", f"/files/{other}?{parameters}"):
        refused = await world.client.http.get(address)
        assert refused.status_code in (403, 404)
        assert MARK.findall(refused.text) == []
    for caller in CUSTOMERS:
        answer = await changing.ask(caller, query, {"id": task})
        if caller.kind is PrincipalKind.STAFF:
            assert answer == {"data": {"task": None}}
        else:
            assert {error["extensions"]["code"] for error in answer["errors"]} == {"FORBIDDEN"}
