"""Suppliers, data packages and outlets, and the lists that all domains share: filters and orders as declared."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
from graphql import (
    GraphQLEnumType,
    GraphQLField,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLObjectType,
    GraphQLScalarType,
    build_schema,
    get_named_type,
)

from planner.ids import decode_id, encode_id
from services.catalog import api_key_binding
from tests.support.features import SDL
from tests.support.world import World

SUPPLIER = "id supplierType name carrier interfaceName hasApiKey status remark"
CREATE_SUPPLIER = f"""mutation($input: SupplierInput!) {{ createSupplier(input: $input) {{
    supplier {{ {SUPPLIER} }} errors {{ code field }} }} }}"""
UPDATE_SUPPLIER = f"""mutation($input: UpdateSupplierInput!) {{ updateSupplier(input: $input) {{
    supplier {{ {SUPPLIER} }} errors {{ code field }} }} }}"""
PACKAGE = "id code name carrier periodType dataVolumeMb channelPrice salePrice currency status supplier { id name }"
CREATE_PACKAGE = f"""mutation($input: DataPackageInput!) {{ createDataPackage(input: $input) {{
    dataPackage {{ {PACKAGE} }} errors {{ code field }} }} }}"""
UPDATE_PACKAGE = f"""mutation($input: UpdateDataPackageInput!) {{ updateDataPackage(input: $input) {{
    dataPackage {{ {PACKAGE} }} errors {{ code field }} }} }}"""
SET_PACKAGE_STATUS = f"""mutation($id: ID!, $status: CatalogStatus!) {{
    setDataPackageStatus(id: $id, status: $status) {{ dataPackage {{ {PACKAGE} }} errors {{ code field }} }} }}"""
OUTLET = "id name province outletType contactName contactPhone status"
CREATE_OUTLET = f"""mutation($input: OutletInput!) {{ createOutlet(input: $input) {{
    outlet {{ {OUTLET} }} errors {{ code field }} }} }}"""
UPDATE_OUTLET = f"""mutation($input: UpdateOutletInput!) {{ updateOutlet(input: $input) {{
    outlet {{ {OUTLET} }} errors {{ code field }} }} }}"""
API_KEY = "sk-live-4f1a9c77e0"


async def catalogue(world: World) -> list[Any]:
    """Everything that a refused change must leave as it was."""
    return [await world.sql(f"SELECT * FROM {table} ORDER BY id") for table in ("supplier", "data_package", "outlet")]


def supplier_id(world: World) -> str:
    return encode_id("sup", next(s.id for c, s in world.suppliers.items() if c.name == "CMCC"))


# -- suppliers ----------------------------------------------------------------------------------------------------


@pytest.mark.feature("S0-08", "S0-41")
@pytest.mark.parametrize("caller", ["admin", "operations"])
async def test_a_supplier_and_its_key_that_nobody_reads_again(world: World, caller: str) -> None:
    input = {
        "supplierType": "DISTRIBUTOR",
        "name": " Eastern Cards ",
        "interfaceName": "onelink",
        "carrier": "CUCC",
        "apiKey": API_KEY,
        "remark": "since 2019",
    }
    payload = (await world.data(caller, CREATE_SUPPLIER, {"input": input}))["createSupplier"]
    assert payload["errors"] == []
    id = payload["supplier"]["id"]
    expected = {
        "id": id,
        "supplierType": "DISTRIBUTOR",
        "name": "Eastern Cards",
        "carrier": "CUCC",
        "interfaceName": "onelink",
        "hasApiKey": True,
        "status": "ACTIVE",
        "remark": "since 2019",
    }
    assert payload["supplier"] == expected
    for reader in ("finance", "sales"):
        query = f"query($name: String!) {{ supplier(name: $name) {{ {SUPPLIER} }} }}"
        assert (await world.data(reader, query, {"name": "Eastern Cards"}))["supplier"] == expected

    # the key is stored encrypted for this row alone, and in no log
    key = (decode_id(id) or ("", 0))[1]
    [row] = await world.sql("SELECT * FROM supplier WHERE id = $1", key)
    assert API_KEY not in str(dict(row))
    keys = world.client.application.runtime.keys
    assert keys.decrypt(row["api_key_encrypted"], api_key_binding(key)) == API_KEY
    with pytest.raises(ValueError, match="cannot be read"):
        keys.decrypt(row["api_key_encrypted"], api_key_binding(key + 1))
    [logged] = await world.sql(
        "SELECT arguments::text AS said FROM operation_record WHERE mutation = 'create_supplier'"
    )
    assert API_KEY not in logged["said"]
    for name in ("apiKey", "apiKeyEncrypted"):
        assert await world.codes("admin", f"{{ suppliers(first: 1) {{ nodes {{ {name} }} }} }}") == [
            "GRAPHQL_VALIDATION_FAILED"
        ]

    # a change leaves what was not given, also the key; a new key replaces it
    changes: list[dict[str, str]] = [{"name": "Western Cards"}, {"apiKey": "another"}, {"status": "DISABLED"}]
    for change in changes:
        payload = (await world.data(caller, UPDATE_SUPPLIER, {"input": {"id": id, **change}}))["updateSupplier"]
        assert payload["errors"] == []
        expected |= {name: value for name, value in change.items() if name != "apiKey"}
        assert payload["supplier"] == expected
        [row] = await world.sql("SELECT * FROM supplier WHERE id = $1", key)
        known = API_KEY if change == changes[0] else "another"
        assert keys.decrypt(row["api_key_encrypted"], api_key_binding(key)) == known


@pytest.mark.feature("S0-08", "S0-41")
async def test_supplier_refusals(world: World) -> None:
    before = await catalogue(world)
    good = {"supplierType": "CARRIER", "name": "New", "interfaceName": "onelink"}
    taken = world.suppliers[next(iter(world.suppliers))].name
    for change, code, field in (
        ({"name": taken}, "TAKEN", "name"),
        ({"name": " "}, "REQUIRED", "name"),
        ({"interfaceName": " "}, "REQUIRED", "interfaceName"),
        ({"interfaceName": "x" * 65}, "INVALID", "interfaceName"),
        ({"remark": "bad\x00text"}, "INVALID", "remark"),
    ):
        payload = (await world.data("operations", CREATE_SUPPLIER, {"input": {**good, **change}}))["createSupplier"]
        assert payload == {"supplier": None, "errors": [{"code": code, "field": field}]}, change
        other = next(s for s in world.suppliers.values() if s.name != taken)
        input = {"id": encode_id("sup", other.id), **change}
        payload = (await world.data("operations", UPDATE_SUPPLIER, {"input": input}))["updateSupplier"]
        assert payload == {"supplier": None, "errors": [{"code": code, "field": field}]}, change
    missing = {"id": encode_id("sup", 10**9), "name": "x"}
    payload = (await world.data("operations", UPDATE_SUPPLIER, {"input": missing}))["updateSupplier"]
    assert payload["errors"] == [{"code": "NOT_FOUND", "field": "id"}]
    for caller in ("sales", "finance", "north", "acme"):
        assert await world.codes(caller, CREATE_SUPPLIER, {"input": good}) == ["FORBIDDEN"], caller
        change = {"id": supplier_id(world), "name": "Mine"}
        assert await world.codes(caller, UPDATE_SUPPLIER, {"input": change}) == ["FORBIDDEN"], caller
    assert await catalogue(world) == before


@pytest.mark.feature("S0-08", "S0-41")
async def test_customers_do_not_hear_of_suppliers(shared_world: World) -> None:
    id = supplier_id(shared_world)
    for caller in ("north", "coast", "acme"):
        for query in (
            "{ suppliers(first: 1) { nodes { id } } }",
            '{ supplier(name: "x") { id } }',
            "{ simCards(first: 1) { nodes { supplier { id } } } }",
            "{ dataPackages(first: 1) { nodes { supplier { name } } } }",
            f'{{ simCards(first: 1, filter: {{supplier: {{eq: "{id}"}}}}) {{ nodes {{ id }} }} }}',
            f'{{ dataPackages(first: 1, filter: {{supplier: {{eq: "{id}"}}}}) {{ nodes {{ id }} }} }}',
        ):
            assert await shared_world.codes(caller, query) == ["FORBIDDEN"], (caller, query)
        for selection in ("id", "... on Supplier { name }"):
            assert await shared_world.data(caller, f'{{ node(id: "{id}") {{ {selection} }} }}') == {"node": None}


# -- data packages ------------------------------------------------------------------------------------------------


def package_input(world: World, **changes: Any) -> dict[str, Any]:
    return {
        "code": "CM-H-6G",
        "name": "Half a year",
        "carrier": "CMCC",
        "periodType": "HALF_YEARLY",
        "dataVolumeMb": 6144,
        "channelPrice": "12.3456",
        "salePrice": "20",
        "supplier": supplier_id(world),
        **changes,
    }


@pytest.mark.feature("S0-07", "S0-42")
@pytest.mark.parametrize("caller", ["admin", "operations"])
async def test_a_data_package_is_made_and_changed(world: World, caller: str) -> None:
    payload = (await world.data(caller, CREATE_PACKAGE, {"input": package_input(world)}))["createDataPackage"]
    assert payload["errors"] == []
    expected = {
        "id": payload["dataPackage"]["id"],
        "code": "CM-H-6G",
        "name": "Half a year",
        "carrier": "CMCC",
        "periodType": "HALF_YEARLY",
        "dataVolumeMb": 6144,
        "channelPrice": "12.3456",
        "salePrice": "20.0000",
        "currency": "CNY",
        "status": "ACTIVE",
        "supplier": {"id": supplier_id(world), "name": "移动OneLink"},
    }
    assert payload["dataPackage"] == expected
    for change in (
        {"name": "Six months"},
        {"channelPrice": "0"},
        {"salePrice": "21.5000"},
        {"dataVolumeMb": 1},
        {"status": "DISABLED"},
    ):
        input = {"id": expected["id"], **change}
        payload = (await world.data(caller, UPDATE_PACKAGE, {"input": input}))["updateDataPackage"]
        assert payload["errors"] == []
        expected |= {"channelPrice": "0.0000"} if "channelPrice" in change else change
        assert payload["dataPackage"] == expected
    back = {"id": expected["id"], "status": "ACTIVE"}
    payload = (await world.data(caller, SET_PACKAGE_STATUS, back))["setDataPackageStatus"]
    assert payload["dataPackage"] == expected | {"status": "ACTIVE"}
    for reader in ("finance", "sales"):
        found = await world.data(reader, f'{{ dataPackage(code: "CM-H-6G") {{ {PACKAGE} }} }}')
        assert found["dataPackage"] == expected | {"status": "ACTIVE"}


@pytest.mark.feature("S0-07", "S0-42")
async def test_data_package_refusals(world: World) -> None:
    before = await catalogue(world)
    id = encode_id("pkg", world.packages["CM-M-1G"].id)
    for change, code, field in (
        ({"code": "CM-M-1G"}, "TAKEN", "code"),
        ({"code": " "}, "REQUIRED", "code"),
        ({"name": " "}, "REQUIRED", "name"),
        ({"carrier": "CTCC"}, "INVALID", "carrier"),
        ({"currency": "yuan"}, "INVALID", "currency"),
        ({"dataVolumeMb": 0}, "NOT_POSITIVE", "dataVolumeMb"),
        ({"dataVolumeMb": -1}, "NOT_POSITIVE", "dataVolumeMb"),
        ({"channelPrice": "-0.01"}, "NEGATIVE", "channelPrice"),
        ({"salePrice": "-1"}, "NEGATIVE", "salePrice"),
        ({"salePrice": "1e14"}, "INVALID", "salePrice"),
        ({"salePrice": "1.00001"}, "INVALID", "salePrice"),
        ({"supplier": encode_id("sup", 10**9)}, "NOT_FOUND", "supplier"),
        ({"supplier": id}, "INVALID_ID", "supplier"),
    ):
        payload = await world.data("operations", CREATE_PACKAGE, {"input": package_input(world, **change)})
        refused = {"dataPackage": None, "errors": [{"code": code, "field": field}]}
        assert payload["createDataPackage"] == refused, change
        if set(change) <= {"name", "dataVolumeMb", "channelPrice", "salePrice"}:
            payload = await world.data("operations", UPDATE_PACKAGE, {"input": {"id": id, **change}})
            assert payload["updateDataPackage"] == refused, change
    for price in ("NaN", "Infinity", "cheap", "0x10"):
        answer = await world.run("operations", CREATE_PACKAGE, {"input": package_input(world, salePrice=price)})
        payload = (answer.get("data") or {}).get("createDataPackage", {"errors": ()})
        codes = [error["code"] for error in payload["errors"]]
        codes += [error["extensions"]["code"] for error in answer.get("errors", ())]
        assert codes in (["INVALID"], ["BAD_USER_INPUT"], ["GRAPHQL_VALIDATION_FAILED"]), price
    for caller in ("sales", "finance", "north", "acme"):
        assert await world.codes(caller, CREATE_PACKAGE, {"input": package_input(world)}) == ["FORBIDDEN"], caller
        assert await world.codes(caller, UPDATE_PACKAGE, {"input": {"id": id, "name": "x"}}) == ["FORBIDDEN"], caller
        assert await world.codes(caller, SET_PACKAGE_STATUS, {"id": id, "status": "DISABLED"}) == ["FORBIDDEN"], caller
    assert await catalogue(world) == before


@pytest.mark.feature("S0-06", "S0-07")
async def test_a_disabled_package_stays_with_its_cards_and_cannot_be_chosen(world: World) -> None:
    package = encode_id("pkg", world.packages["CM-M-1G"].id)
    await world.data("operations", SET_PACKAGE_STATUS, {"id": package, "status": "DISABLED"})
    bind = """mutation($input: BindSimPackageInput!) { bindSimPackage(input: $input) {
        count errors { code field } } }"""
    bound = {"count": 0, "errors": [{"code": "NOT_ACTIVE", "field": "package"}]}
    input = {"cards": {"ids": world.card_ids("platform")[:1]}, "package": package}
    assert (await world.data("operations", bind, {"input": input}))["bindSimPackage"] == bound
    [card, with_package, *_] = world.card_ids("platform")
    query = "query($id: ID!) { simCard(id: $id) { package { code status } } }"
    assert (await world.data("operations", query, {"id": card}))["simCard"] == {"package": None}
    assert (await world.data("operations", query, {"id": with_package}))["simCard"] == {
        "package": {"code": "CM-M-1G", "status": "DISABLED"}
    }


@pytest.mark.feature("S0-07")
async def test_agents_see_their_price_and_enterprises_only_the_sale_price(shared_world: World) -> None:
    query = '{ dataPackage(code: "CM-M-1G") { code salePrice channelPrice currency } }'
    expected = {"code": "CM-M-1G", "salePrice": "20.4800", "channelPrice": "10.2400", "currency": "CNY"}
    for caller in ("finance", "north", "north-east", "coast"):
        assert (await shared_world.data(caller, query))["dataPackage"] == expected, caller
    assert await shared_world.codes("acme", query) == ["FORBIDDEN"]
    sale = query.replace(" channelPrice", "")
    assert (await shared_world.data("acme", sale))["dataPackage"] == {
        name: value for name, value in expected.items() if name != "channelPrice"
    }
    through = "{ simCards(first: 1) { nodes { package { channelPrice } } } }"
    assert await shared_world.codes("acme", through) == ["FORBIDDEN"]
    for caller in ("north", "acme"):
        listed = (await shared_world.data(caller, "{ dataPackages(first: 50) { nodes { code } } }"))["dataPackages"]
        assert {node["code"] for node in listed["nodes"]} == set(shared_world.packages)


# -- outlets ------------------------------------------------------------------------------------------------------


@pytest.mark.feature("S0-39")
@pytest.mark.parametrize("caller", ["admin", "operations"])
@pytest.mark.parametrize("kind", ["CONVENIENCE_STORE", "CMCC_OUTLET", "CUCC_OUTLET", "CTCC_OUTLET"])
async def test_outlets(world: World, caller: str, kind: str) -> None:
    input = {
        "name": " Lake Road ",
        "province": "浙江",
        "outletType": kind,
        "contactName": "Li",
        "contactPhone": "0571 123456",
    }
    payload = (await world.data(caller, CREATE_OUTLET, {"input": input}))["createOutlet"]
    assert payload["errors"] == []
    expected = {**input, "id": payload["outlet"]["id"], "name": "Lake Road", "status": "ACTIVE"}
    assert payload["outlet"] == expected
    for change in ({"province": "江苏"}, {"contactPhone": "0510 123456"}, {"status": "DISABLED"}):
        payload = await world.data(caller, UPDATE_OUTLET, {"input": {"id": expected["id"], **change}})
        expected |= change
        assert payload["updateOutlet"] == {"outlet": expected, "errors": []}
    query = f"query($filter: OutletFilter) {{ outlets(first: 9, filter: $filter) {{ nodes {{ {OUTLET} }} }} }}"
    filter = {"province": {"eq": "江苏"}, "outletType": {"eq": kind}}
    assert (await world.data("finance", query, {"filter": filter}))["outlets"]["nodes"] == [expected]


@pytest.mark.feature("S0-39")
async def test_outlet_refusals(world: World) -> None:
    before = await catalogue(world)
    good = {"name": "Shop", "province": "浙江", "outletType": "CMCC_OUTLET"}
    [row] = await world.sql("SELECT id FROM outlet")
    id = encode_id("out", row["id"])
    for change, code, field in (
        ({"name": ""}, "REQUIRED", "name"),
        ({"province": " "}, "REQUIRED", "province"),
        ({"province": "x" * 41}, "INVALID", "province"),
        ({"contactPhone": "ring"}, "INVALID_PHONE", "contactPhone"),
    ):
        refused = {"outlet": None, "errors": [{"code": code, "field": field}]}
        payload = await world.data("operations", CREATE_OUTLET, {"input": {**good, **change}})
        assert payload["createOutlet"] == refused, change
        payload = await world.data("operations", UPDATE_OUTLET, {"input": {"id": id, **change}})
        assert payload["updateOutlet"] == refused, change
    for caller in ("sales", "finance", "north", "acme"):
        assert await world.codes(caller, CREATE_OUTLET, {"input": good}) == ["FORBIDDEN"], caller
        assert await world.codes(caller, UPDATE_OUTLET, {"input": {"id": id, "name": "x"}}) == ["FORBIDDEN"], caller
    for caller in ("north", "acme"):
        assert await world.codes(caller, "{ outlets(first: 1) { nodes { id } } }") == ["FORBIDDEN"], caller
    assert await catalogue(world) == before


# -- lists: every filter and every order that the schema declares -----------------------------------------------------

SCHEMA = build_schema(SDL.read_text(encoding="utf-8"))
PROVED = {
    "agents": "S0-23",
    "customers": "S0-10",
    "tenants": "S3-01",
    "dataPackages": "S0-07",
    "suppliers": "S0-08",
    "outlets": "S0-39",
    "simCards": "S0-09",
    "tasks": "S0-05",
    "endUsers": "S0-40",
    "scheduledJobs": "S1-26",
    "jobRuns": "S1-27",
    "notifications": "S0-35",
    "networkDevices": "S1-23",
    "merchants": "S4-57",
    "merchantTypes": "S4-59",
    "contractTemplates": "S4-58",
    "couponApplications": "S4-37",
    "merchantItems": "S4-05",
}
ABSENT: dict[str, Any] = {
    "ID": "",
    "String": "no such value",
    "Int": 98,
    "DateTime": "1999-01-01T00:00:00+00:00",
    "Date": "1999-01-01",
    "Decimal": "98.7654",
}


def lists(argument: str) -> Iterator[tuple[str, GraphQLInputObjectType]]:
    assert SCHEMA.query_type is not None
    for name, field in SCHEMA.query_type.fields.items():
        if argument in field.args:
            of = get_named_type(field.args[argument].type)
            assert isinstance(of, GraphQLInputObjectType)
            yield name, of


def cases(argument: str, members: Callable[[GraphQLInputObjectType], list[str]]) -> list[Any]:
    return [
        pytest.param(name, member, marks=[pytest.mark.feature(PROVED[name])] if name in PROVED else [])
        for name, of in lists(argument)
        for member in members(of)
    ]


def filters(of: GraphQLInputObjectType) -> list[str]:
    return [name for name in of.fields if name not in ("and", "or", "not")]


def orders(of: GraphQLInputObjectType) -> list[str]:
    by = get_named_type(of.fields["field"].type)
    assert isinstance(by, GraphQLEnumType)
    return list(by.values)


def fields_of(root: str) -> dict[str, GraphQLField]:
    """The fields of the rows of a list."""
    assert SCHEMA.query_type is not None
    connection = get_named_type(SCHEMA.query_type.fields[root].type)
    assert isinstance(connection, GraphQLObjectType)
    node = get_named_type(connection.fields["nodes"].type)
    assert isinstance(node, GraphQLObjectType | GraphQLInterfaceType)
    fields: dict[str, GraphQLField] = node.fields
    return fields


def selected(root: str, field: str) -> str:
    """How a list's field is read: a row behind it by its id, a masked one in full."""
    fields = fields_of(root)
    if f"{field}Unmasked" in fields:
        return f"{field}Unmasked"
    leaf = isinstance(get_named_type(fields[field].type), GraphQLScalarType | GraphQLEnumType)
    return field if leaf else f"{field} {{ id }}"


async def rows(world: World, root: str, field: str, arguments: str = "", **variables: Any) -> list[tuple[str, Any]]:
    """(id, value) of all rows of a list, page by page, as the administrator reads them."""
    found: list[tuple[str, Any]] = []
    after: str | None = None
    declared = "".join(f", ${name}: {kind}" for name, kind in variables.pop("types", {}).items())
    while True:
        data = await world.data(
            "admin",
            f"""query($after: String{declared}) {{ {root}(first: 20, after: $after{arguments}) {{
                nodes {{ key: id value: {selected(root, field)} }} pageInfo {{ hasNextPage endCursor }} }} }}""",
            {"after": after, **variables},
        )
        for node in data[root]["nodes"]:
            value = node["value"]
            found.append((node["key"], value["id"] if isinstance(value, dict) else value))
        if not data[root]["pageInfo"]["hasNextPage"]:
            return found
        after = data[root]["pageInfo"]["endCursor"]


def comparable(kind: str, value: Any) -> Any:
    if value is None:
        return None
    if kind == "DateTime":
        return datetime.fromisoformat(value)
    return Decimal(value) if kind == "Decimal" else value


HOLDS: dict[str, Callable[[Any, Any], bool]] = {
    "eq": lambda held, asked: held == asked,
    "ne": lambda held, asked: held != asked,
    "in": lambda held, asked: held == asked,
    "lt": lambda held, asked: held is not None and held < asked,
    "lte": lambda held, asked: held is not None and held <= asked,
    "gt": lambda held, asked: held is not None and held > asked,
    "gte": lambda held, asked: held is not None and held >= asked,
    "startsWith": lambda held, asked: held is not None and held.startswith(asked),
    "contains": lambda held, asked: held is not None and asked.lower() in held.lower(),
}


SOWN_LATER = (
    "agreementVersions", "billingProducts", "carrierRequests", "commissionEntries", "commissionRates",
    "commissionSettlements", "contractTemplates", "contracts", "couponApplications", "coupons", "customerPrices",
    "dailyStatistics", "dailyUsages", "depositMovements", "depositTerms", "dictionaryTypes", "directOrders",
    "exchangeRates", "helpTopics", "intervalStatistics", "itemOrders", "ledgerTransfers", "loginApps",
    "membershipGrants", "merchantItems", "merchantTypes", "monthlyBills", "monthlyStatistics", "monthlyUsages",
    "networkDevices", "onboardingApplications", "orders", "packageSubscriptions", "packetGateways",
    "paymentChannels", "paymentDifferences", "paymentReconciliations", "paymentRefunds", "payments", "positions",
    "realNameRecords", "renewals", "retentionPolicies", "roles", "sessionRecords", "settlementStatements",
    "simPlanChanges", "storedFiles", "systemParameters", "tenantModules", "topUps", "usageRatios",
    "webhookDeliveries", "webhookEndpoints", "withdrawals",
)  # fmt: skip
"""Lists of what the shared world has none of."""
FURNISHED_LATER = {
    *((root, "phone") for root in ("agents", "customers", "merchants", "tenants")),
    ("merchants", "merchantType"),
    ("staffAccounts", "department"),
    ("apiKeys", "expiryNotifiedAt"),
    ("tasks", "account"),
    ("operationRecords", "account"),
    *((root, "realAccount") for root in ("loginRecords", "operationRecords")),
    *(tuple(case.values) for case in cases("filter", filters) if case.values[0] in SOWN_LATER),
}
"""Filters of what the shared world leaves empty."""


@pytest.mark.parametrize(
    ("root", "field"), [case for case in cases("filter", filters) if tuple(case.values) not in FURNISHED_LATER]
)
async def test_every_filter_finds_what_it_says_and_nothing_else(shared_world: World, root: str, field: str) -> None:
    await assert_filter_works(shared_world, root, field)


@pytest.mark.parametrize(
    ("root", "field"), [case for case in cases("filter", filters) if tuple(case.values) in FURNISHED_LATER]
)
async def test_every_filter_of_what_is_rarely_given(furnished_world: World, root: str, field: str) -> None:
    await assert_filter_works(furnished_world, root, field)


async def assert_filter_works(world: World, root: str, field: str) -> None:
    of = dict(lists("filter"))[root]
    comparison = get_named_type(of.fields[field].type)
    assert isinstance(comparison, GraphQLInputObjectType)
    kind = "ID" if comparison.name == "TenantComparison" else comparison.name.removesuffix("Comparison")
    everything = await rows(world, root, field)
    held = [value for _, value in everything if value is not None]
    assert held, "the world holds no example of this"
    example = sorted(held)[len(held) // 2]

    async def found(operator: str, value: Any) -> set[str]:
        asked = {field: {operator: [value] if operator == "in" else value}}
        got = await rows(world, root, field, ", filter: $filter", filter=asked, types={"filter": of.name})
        assert len({id for id, _ in got}) == len(got)
        return {id for id, _ in got}

    for operator in comparison.fields:
        if operator == "under":
            continue  # who lies below whom is no matter of one value
        if operator == "isNull":
            for wanted in (True, False):
                assert await found("isNull", wanted) == {id for id, value in everything if (value is None) is wanted}
            continue
        given = example[1:-1] if operator == "contains" else example[:3] if operator == "startsWith" else example
        asked = comparable(kind, given)
        expected = {id for id, value in everything if HOLDS[operator](comparable(kind, value), asked)}
        assert await found(operator, given) == expected, operator
    if kind in ABSENT:
        nothing = encode_id(example.rpartition("_")[0], 10**9) if kind == "ID" else ABSENT[kind]
        assert await found("eq", nothing) == set()
    elif kind == "Boolean":
        for value in {True, False} - set(held):
            assert await found("eq", value) == set()
    else:
        enumeration = SCHEMA.type_map[kind]
        assert isinstance(enumeration, GraphQLEnumType)
        for name in set(enumeration.values) - set(held):
            assert await found("eq", name) == set()


@pytest.mark.parametrize(("root", "order"), cases("orderBy", orders))
@pytest.mark.parametrize("direction", ["ASC", "DESC"])
async def test_every_order_sorts_across_pages(shared_world: World, root: str, order: str, direction: str) -> None:
    of = dict(lists("orderBy"))[root]
    field = re.sub(r"_(.)", lambda m: m[1].upper(), order.lower())
    got = await rows(
        shared_world,
        root,
        field,
        ", orderBy: [$order]",
        order={"field": order, "direction": direction},
        types={"order": f"{of.name}!"},
    )
    kind = get_named_type(fields_of(root)[field].type).name
    unordered = await rows(shared_world, root, field)
    assert sorted(got) == sorted(unordered)

    def place(row: tuple[str, Any]) -> Any:
        key = (decode_id(row[0]) or ("", 0))[1]
        if order == "ID":
            return key
        return row[1] is None, "" if row[1] is None else comparable(kind, row[1]), key

    assert got == sorted(got, key=place, reverse=direction == "DESC")
