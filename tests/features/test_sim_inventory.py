"""The SIM inventory, as operations staff and agents use it."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest
from stdnum import luhn

from models.catalog import Carrier
from planner.ids import decode_id, encode_id
from tests.support.world import World

DATA = Path(__file__).resolve().parent.parent / "data"
IMPORT = (
    """mutation($file: Upload!) { importSimCards(file: $file) { task { id status } errors { code field message } } }"""
)
PROGRESS = """query($id: ID!, $after: String) { task(id: $id) { status total done failed progress errorCode
    refusedFileUrl refusals(first: 200, after: $after) { totalCount
        nodes { rowNumber column value code message } } } }"""
CARD = """id iccid displayIccid imsi msisdn carrier simType entryMode status apn remark activatedAt
    supplier { name } package { code } holder { id }"""
CREATE = f"""mutation($input: CreateSimCardInput!) {{ createSimCard(input: $input) {{
    simCard {{ {CARD} }} errors {{ code field }} }} }}"""
RANGE = """mutation($input: CreateSimCardRangeInput!) { createSimCardRange(input: $input) {
    task { id kind status total done failed } errors { code field } } }"""
KINDS = {
    "check_digit": "CHECK_DIGIT",
    "duplicate_in_file": "DUPLICATE_IN_FILE",
    "number_lost_precision": "NUMBER_LOST_PRECISION",
    "too_short": "TOO_SHORT",
    "iccid_missing": "ICCID_MISSING",
    "unknown_plan": "UNKNOWN_PACKAGE",
    "unknown_type": "UNKNOWN_TYPE",
    "carrier_differs_from_iccid_prefix": "CARRIER_DIFFERS",
}


@pytest.mark.feature("S0-05", "S0-43")
async def test_the_carriers_spreadsheet_gives_exactly_what_it_should(world: World) -> None:
    expected = json.loads((DATA / "sim_import_20k.expected.json").read_text())
    token = await world.token("operations")
    answer = await world.client.upload("admin", IMPORT, DATA / "sim_import_20k.xlsx", token)
    payload = answer.json()["data"]["importSimCards"]
    assert payload["errors"] == []
    assert payload["task"]["status"] == "QUEUED"
    before = (await world.data("operations", "{ simCards(first: 0) { totalCount } }"))["simCards"]["totalCount"]

    assert await world.client.work_off() == 1

    task = (await world.data("operations", PROGRESS, {"id": payload["task"]["id"]}))["task"]
    assert (task["status"], task["total"], task["done"], task["failed"], task["progress"]) == (
        "SUCCEEDED",
        expected["rows"],
        expected["accepted"],
        expected["rejected"],
        1.0,
    )
    found: dict[str, list[int]] = {}
    for refusal in task["refusals"]["nodes"]:
        found.setdefault(refusal["code"], []).append(refusal["rowNumber"])
        assert refusal["message"]
    assert found == {KINDS[kind]: rows for kind, rows in expected["rejected_rows_by_kind"].items()}
    after = (await world.data("operations", "{ simCards(first: 0) { totalCount } }"))["simCards"]["totalCount"]
    assert after - before == expected["accepted"]

    refused = await world.client.http.get(task["refusedFileUrl"])
    assert refused.status_code == 200
    # what was refused can be uploaded as it is, and is refused again for the same reasons
    again = await world.client.upload("admin", IMPORT, ("refused.xlsx", refused.content), token)
    await world.client.work_off()
    task = (await world.data("operations", PROGRESS, {"id": again.json()["data"]["importSimCards"]["task"]["id"]}))[
        "task"
    ]
    assert (task["done"], task["failed"]) == (0, expected["rejected"])
    codes = {refusal["code"] for refusal in task["refusals"]["nodes"]}
    # a damaged number is left out of the file, and the twin of a repeated one is in the inventory by now
    assert codes == set(KINDS.values()) - {"DUPLICATE_IN_FILE", "NUMBER_LOST_PRECISION"} | {"ALREADY_IN_INVENTORY"}


@pytest.mark.feature("S0-05")
async def test_importing_twice_accepts_nothing_twice(world: World) -> None:
    token = await world.token("operations")
    lines = ["ICCID,运营商,供应商,卡类型,套餐编码", "89860042000000000019,CMCC,移动OneLink,机械卡,CM-M-1G"]
    sheet = ("cards.csv", "\n".join(lines).encode())
    results = []
    for _ in range(2):
        answer = await world.client.upload("admin", IMPORT, sheet, token)
        await world.client.work_off()
        id = answer.json()["data"]["importSimCards"]["task"]["id"]
        task = (await world.data("operations", PROGRESS, {"id": id}))["task"]
        results.append((task["done"], [r["code"] for r in task["refusals"]["nodes"]]))
    assert results[1] == (0, ["ALREADY_IN_INVENTORY"])
    assert results[0] in ((1, []), (0, ["CHECK_DIGIT"]))


def iccid(body: str) -> str:
    """An ICCID: nineteen or eighteen digits and their check digit."""
    return body + luhn.calc_check_digit(body)


def supplier(world: World, carrier: Carrier = Carrier.CMCC) -> str:
    return encode_id("sup", world.suppliers[carrier].id)


def package(world: World, code: str) -> str:
    return encode_id("pkg", world.packages[code].id)


async def inventory(world: World) -> list[Any]:
    """Everything that a refused entry must leave as it was."""
    return [
        await world.sql(f"SELECT * FROM {table} ORDER BY id")
        for table in ("sim_card", "sim_package_binding", "task", "stored_file", "outbox_event", "task_refusal")
    ]


async def work_off(world: World, payload: dict[str, Any]) -> dict[str, Any]:
    """The task of a payload, once it has been done."""
    assert payload["errors"] == []
    assert await world.client.work_off() >= 1
    found: dict[str, Any] = (await world.data("operations", PROGRESS, {"id": payload["task"]["id"]}))["task"]
    return found


async def import_rows(world: World, *lines: str, name: str = "cards.csv") -> dict[str, Any]:
    text = "\n".join(["ICCID,IMSI,物联号码,运营商,供应商,卡类型,APN,套餐编码,备注", *lines])
    answer = await world.client.upload("admin", IMPORT, (name, text.encode()), await world.token("operations"))
    return await work_off(world, answer.json()["data"]["importSimCards"])


# -- one card -----------------------------------------------------------------------------------------------------


@pytest.mark.feature("S0-02", "S0-04", "S0-06", "S0-43", "S0-57")
@pytest.mark.parametrize("caller", ["admin", "operations"])
@pytest.mark.parametrize("kind", ["M2M", "CONSUMER"])
async def test_one_card_is_entered(world: World, caller: str, kind: str) -> None:
    number = iccid("8986011234567890123")
    input = {
        "iccid": f" {number[:4]} {number[4:10]}\t{number[10:]} ",
        "simType": kind,
        "imsi": "460011234567890",
        "msisdn": "1064123456789",
        "apn": " cmiot ",
        "remark": "a sample",
        "package": package(world, "CU-M-500M"),
        "supplier": supplier(world, Carrier.CUCC),
    }
    payload = (await world.data(caller, CREATE, {"input": input}))["createSimCard"]
    assert payload["errors"] == []
    card = payload["simCard"]
    id, display = card.pop("id"), card.pop("displayIccid")
    assert card == {
        "iccid": number,
        "imsi": "460011234567890",
        "msisdn": "1064123456789",
        "carrier": "CUCC",
        "simType": kind,
        "entryMode": "SINGLE",
        "status": "STOCK",
        "apn": "cmiot",
        "remark": "a sample",
        "activatedAt": None,
        "supplier": {"name": "联通CMP"},
        "package": {"code": "CU-M-500M"},
        "holder": {"id": world.id("platform")},
    }
    found = await world.data(
        "sales", f"query($n: String!) {{ simCard(displayIccid: $n) {{ {CARD} }} }}", {"n": display}
    )
    assert found["simCard"] == {"id": id, "displayIccid": display, **card}
    # the package that it came with is its first in the history
    key = (decode_id(id) or ("", 0))[1]
    bindings = await world.sql("SELECT package_id, unbound_at FROM sim_package_binding WHERE sim_card_id = $1", key)
    assert [tuple(row) for row in bindings] == [(world.packages["CU-M-500M"].id, None)]


@pytest.mark.feature("S0-02", "S0-04", "S0-06", "S0-43")
async def test_one_card_that_is_refused(world: World) -> None:
    held = world.cards["south"][0]
    good = {"iccid": iccid("8986001234567890123"), "simType": "M2M", "supplier": supplier(world)}
    await world.sql("UPDATE supplier SET status = 'DISABLED' WHERE id = $1", world.suppliers[Carrier.CTCC].id)
    await world.sql("UPDATE data_package SET status = 'DISABLED' WHERE id = $1", world.packages["CM-M-30M"].id)
    before = await inventory(world)
    wrong = good["iccid"][:-1] + str((int(good["iccid"][-1]) + 1) % 10)
    for change, code, field in (
        ({"iccid": held.iccid}, "TAKEN", "iccid"),
        ({"imsi": held.imsi}, "TAKEN", "imsi"),
        ({"iccid": wrong}, "CHECK_DIGIT", "iccid"),
        ({"iccid": iccid("8986991234567890123")}, "UNKNOWN_PREFIX", "iccid"),
        ({"iccid": iccid("89860012345678901")}, "TOO_SHORT", "iccid"),
        ({"iccid": iccid("89860012345678901234")}, "TOO_SHORT", "iccid"),
        ({"iccid": good["iccid"][:-1] + "A"}, "NOT_DIGITS", "iccid"),
        ({"iccid": "８９８６００１２３４５６７８９０１２３"}, "NOT_DIGITS", "iccid"),
        ({"iccid": " \t "}, "ICCID_MISSING", "iccid"),
        ({"imsi": "46000x"}, "NOT_DIGITS", "imsi"),
        ({"msisdn": "1064-1"}, "NOT_DIGITS", "msisdn"),
        ({"package": package(world, "CT-Q-1G")}, "PACKAGE_CARRIER", "package"),
        ({"package": package(world, "CM-M-30M")}, "NOT_ACTIVE", "package"),
        ({"package": encode_id("pkg", 10**9)}, "NOT_FOUND", "package"),
        ({"supplier": supplier(world, Carrier.CTCC)}, "NOT_ACTIVE", "supplier"),
        ({"supplier": encode_id("sup", 10**9)}, "NOT_FOUND", "supplier"),
        ({"supplier": package(world, "CM-M-1G")}, "INVALID_ID", "supplier"),
        ({"apn": "x" * 65}, "INVALID", "apn"),
        ({"remark": "x" * 2_001}, "INVALID", "remark"),
    ):
        payload = (await world.data("operations", CREATE, {"input": {**good, **change}}))["createSimCard"]
        assert payload == {"simCard": None, "errors": [{"code": code, "field": field}]}, change
    for kind in ("ESIM", None):
        answer = await world.run("operations", CREATE, {"input": {**good, "simType": kind}})
        assert answer.get("data") is None, kind
    for caller in ("sales", "finance", "north", "acme"):
        assert await world.codes(caller, CREATE, {"input": good}) == ["FORBIDDEN"], caller
    assert await inventory(world) == before


@pytest.mark.feature("S0-02")
async def test_the_same_card_from_two_people_at_once_is_entered_once(world: World) -> None:
    input = {"iccid": iccid("8986001234567890123"), "simType": "M2M", "supplier": supplier(world)}
    answers = await asyncio.gather(*(world.data(who, CREATE, {"input": input}) for who in ("admin", "operations")))
    assert sorted(len(answer["createSimCard"]["errors"]) for answer in answers) == [0, 1]
    assert len(await world.sql("SELECT 1 FROM sim_card WHERE iccid = $1", input["iccid"])) == 1


# -- a range ------------------------------------------------------------------------------------------------------


def range_input(world: World, first: str, last: str, **more: Any) -> dict[str, Any]:
    return {"firstIccid": first, "lastIccid": last, "simType": "CONSUMER", "supplier": supplier(world), **more}


@pytest.mark.feature("S0-03", "S0-04", "S0-06", "S0-57")
@pytest.mark.parametrize("caller", ["admin", "operations"])
@pytest.mark.parametrize("length", [19, 20])
async def test_a_range_with_check_digits(world: World, caller: str, length: int) -> None:
    # nines at the end, so that the count carries; twenty digits are more than a 64-bit number holds
    start = int("8986001" + "9" * (length - 10) + "95")
    numbers = [iccid(str(start + n)) for n in range(8)]
    assert {len(number) for number in numbers} == {length}
    input = range_input(world, f" {numbers[0]} ", numbers[-1], package=package(world, "CM-M-1G"), apn="cmiot")
    payload = (await world.data(caller, RANGE, {"input": input}))["createSimCardRange"]
    queued = {name: value for name, value in payload["task"].items() if name != "id"}
    assert queued == {"kind": "SIM_RANGE", "status": "QUEUED", "total": 8, "done": 0, "failed": 0}
    assert await world.sql("SELECT 1 FROM sim_card WHERE entry_mode = 'RANGE'") == []
    task = await work_off(world, payload)
    assert (task["status"], task["total"], task["done"], task["failed"], task["progress"]) == (
        "SUCCEEDED",
        8,
        8,
        0,
        1.0,
    )
    assert (task["refusedFileUrl"], task["refusals"]["totalCount"]) == (None, 0)
    filter = {"iccid": {"in": numbers}}
    query = f"query($filter: SimCardFilter) {{ simCards(first: 50, filter: $filter) {{ nodes {{ {CARD} }} }} }}"
    cards = (await world.data("finance", query, {"filter": filter}))["simCards"]["nodes"]
    assert [card["iccid"] for card in cards] == numbers
    # in the order of entry, so that a box of cards is a range of display ICCIDs too
    assert [card["displayIccid"] for card in cards] == sorted(card["displayIccid"] for card in cards)
    common = {
        "imsi": None,
        "msisdn": None,
        "carrier": "CMCC",
        "simType": "CONSUMER",
        "entryMode": "RANGE",
        "status": "STOCK",
        "apn": "cmiot",
        "remark": None,
        "activatedAt": None,
        "supplier": {"name": "移动OneLink"},
        "package": {"code": "CM-M-1G"},
        "holder": {"id": world.id("platform")},
    }
    assert all(card | common == card for card in cards)
    bindings = await world.sql(
        "SELECT 1 FROM sim_package_binding b JOIN sim_card c ON c.id = sim_card_id WHERE entry_mode = 'RANGE'"
    )
    assert len(bindings) == 8


@pytest.mark.feature("S0-03")
async def test_a_range_without_check_digits_counts_the_whole_number(world: World) -> None:
    first, last = "89860112345678909998", "89860112345678910001"
    input = range_input(world, first, last, withCheckDigit=False, supplier=supplier(world, Carrier.CUCC))
    task = await work_off(world, (await world.data("operations", RANGE, {"input": input}))["createSimCardRange"])
    assert (task["done"], task["failed"]) == (4, 0)
    rows = await world.sql("SELECT iccid, carrier FROM sim_card WHERE entry_mode = 'RANGE' ORDER BY id")
    assert [row["iccid"] for row in rows] == [str(n) for n in range(int(first), int(last) + 1)]
    assert {row["carrier"] for row in rows} == {"CUCC"}


@pytest.mark.feature("S0-03", "S0-06")
async def test_a_range_that_is_refused(world: World) -> None:
    body = 8986001234567800000
    first, last = iccid(str(body)), iccid(str(body + 9))
    before = await inventory(world)
    for ends, more, code, field in (
        ((last, first), {}, "RANGE_ORDER", "lastIccid"),
        ((first, first[:-1] + str((int(first[-1]) + 1) % 10)), {}, "CHECK_DIGIT", "lastIccid"),
        ((first[:-1] + str((int(first[-1]) + 1) % 10), last), {}, "CHECK_DIGIT", "firstIccid"),
        ((first, iccid("8986021234567800009")), {}, "RANGE_PREFIX", "lastIccid"),
        ((first, iccid("898600123456789999")), {}, "RANGE_PREFIX", "lastIccid"),
        ((iccid("8986991234567800000"), iccid("8986991234567800001")), {}, "UNKNOWN_PREFIX", "firstIccid"),
        ((first, iccid(str(body + 100_000))), {}, "TOO_MANY", "lastIccid"),
        ((first, last), {"package": package(world, "CT-Q-1G")}, "PACKAGE_CARRIER", "package"),
        ((first, last), {"supplier": encode_id("sup", 10**9)}, "NOT_FOUND", "supplier"),
        ((first, last), {"apn": "x" * 65}, "INVALID", "apn"),
        (("", last), {}, "ICCID_MISSING", "firstIccid"),
        (("89860012x45678000001", "89860012345678000001"), {"withCheckDigit": False}, "NOT_DIGITS", "firstIccid"),
        (("898600123456780000", "898600123456780001"), {"withCheckDigit": False}, "TOO_SHORT", "firstIccid"),
        (("89869912345678000001", "89869912345678000002"), {"withCheckDigit": False}, "UNKNOWN_PREFIX", "firstIccid"),
        (("89860012345678000000", "89860012345678100000"), {"withCheckDigit": False}, "TOO_MANY", "lastIccid"),
    ):
        input = range_input(world, *ends, **more)
        payload = (await world.data("operations", RANGE, {"input": input}))["createSimCardRange"]
        assert payload == {"task": None, "errors": [{"code": code, "field": field}]}, (ends, more)
    for caller in ("sales", "finance", "north", "acme"):
        assert await world.codes(caller, RANGE, {"input": range_input(world, first, last)}) == ["FORBIDDEN"], caller
    assert await inventory(world) == before


@pytest.mark.feature("S0-03")
async def test_a_hundred_thousand_cards_are_one_range(world: World) -> None:
    body = 8986001234567800000
    input = range_input(world, iccid(str(body)), iccid(str(body + 99_999)))
    task = await work_off(world, (await world.data("operations", RANGE, {"input": input}))["createSimCardRange"])
    assert (task["status"], task["done"], task["failed"]) == ("SUCCEEDED", 100_000, 0)
    [row] = await world.sql(
        "SELECT count(*) AS n, min(iccid) AS low, max(iccid) AS high FROM sim_card WHERE entry_mode = 'RANGE'"
    )
    assert tuple(row) == (100_000, iccid(str(body)), iccid(str(body + 99_999)))


@pytest.mark.feature("S0-03")
async def test_a_range_over_existing_cards_tells_which(world: World) -> None:
    body = 8986001234567800000
    known = [iccid(str(body + n)) for n in (2, 5)]
    for number in known:
        input = {"iccid": number, "simType": "M2M", "supplier": supplier(world), "remark": "first"}
        assert (await world.data("admin", CREATE, {"input": input}))["createSimCard"]["errors"] == []
    input = range_input(world, iccid(str(body)), iccid(str(body + 9)))
    task = await work_off(world, (await world.data("operations", RANGE, {"input": input}))["createSimCardRange"])
    assert (task["status"], task["done"], task["failed"], task["progress"]) == ("SUCCEEDED", 8, 2, 1.0)
    assert [(r["rowNumber"], r["column"], r["value"], r["code"]) for r in task["refusals"]["nodes"]] == [
        (3, "ICCID", known[0], "ALREADY_IN_INVENTORY"),
        (6, "ICCID", known[1], "ALREADY_IN_INVENTORY"),
    ]
    # what was there stays as it was
    rows = await world.sql("SELECT remark, sim_type FROM sim_card WHERE iccid = ANY($1)", known)
    assert [tuple(row) for row in rows] == [("first", "M2M")] * 2


@pytest.mark.feature("S0-05")
async def test_of_eight_starts_at_once_five_are_taken(world: World) -> None:
    body = 8986001234567800000

    async def start(n: int) -> list[str]:
        input = range_input(world, iccid(str(body + n)), iccid(str(body + n)))
        payload = (await world.data("operations", RANGE, {"input": input}))["createSimCardRange"]
        return [error["code"] for error in payload["errors"]]

    outcomes = await asyncio.gather(*(start(n) for n in range(8)))
    assert sorted(outcomes) == [[]] * 5 + [["TOO_MANY_OPEN_TASKS"]] * 3


@pytest.mark.feature("S0-03", "S0-05")
async def test_a_tenant_has_five_open_tasks_and_no_sixth(world: World) -> None:
    body = 8986001234567800000
    for n in range(5):
        input = range_input(world, iccid(str(body + n)), iccid(str(body + n)))
        assert (await world.data("operations", RANGE, {"input": input}))["createSimCardRange"]["errors"] == []
    before = await inventory(world)
    refused = {"task": None, "errors": [{"code": "TOO_MANY_OPEN_TASKS", "field": None}]}
    input = range_input(world, iccid(str(body + 5)), iccid(str(body + 5)))
    assert (await world.data("admin", RANGE, {"input": input}))["createSimCardRange"] == refused
    sheet = ("cards.csv", b"ICCID\n1\n")
    answer = await world.client.upload("admin", IMPORT, sheet, await world.token("operations"))
    payload = answer.json()["data"]["importSimCards"]
    assert payload["task"] is None
    assert [error["code"] for error in payload["errors"]] == ["TOO_MANY_OPEN_TASKS"]
    assert await inventory(world) == before
    await world.client.work_off()
    assert (await world.data("admin", RANGE, {"input": input}))["createSimCardRange"]["errors"] == []


# -- a spreadsheet ------------------------------------------------------------------------------------------------


@pytest.mark.feature("S0-04", "S0-05", "S0-06", "S0-43", "S0-57")
async def test_what_a_row_says_is_what_is_entered(world: World) -> None:
    numbers = [iccid(f"8986{carrier}1234567890123") for carrier in ("00", "09", "11")]
    task = await import_rows(
        world,
        f"{numbers[0]}, 46000 1234567890 ,1064100000001,CMCC,移动OneLink,机械卡,cmiot,CM-M-1G,gate 3",
        f"{numbers[1]},,,联通,联通CMP,消费卡,,,",
        f"{numbers[2]},,,中国电信,电信5GCMP,M2M,ctnb,CT-Q-1G,",
    )
    assert (task["status"], task["total"], task["done"], task["failed"]) == ("SUCCEEDED", 3, 3, 0)
    query = f"query($n: String!) {{ simCard(iccid: $n) {{ {CARD} }} }}"
    found = []
    for number in numbers:
        card = (await world.data("operations", query, {"n": number}))["simCard"]
        assert (card["entryMode"], card["status"], card["holder"]) == ("IMPORT", "STOCK", {"id": world.id("platform")})
        found.append([card[name] for name in ("imsi", "msisdn", "carrier", "simType", "apn", "package", "remark")])
    assert found == [
        ["460001234567890", "1064100000001", "CMCC", "M2M", "cmiot", {"code": "CM-M-1G"}, "gate 3"],
        [None, None, "CUCC", "CONSUMER", None, None, None],
        [None, None, "CTCC", "M2M", "ctnb", {"code": "CT-Q-1G"}, None],
    ]


@pytest.mark.feature("S0-05", "S0-06")
async def test_rows_that_are_refused_and_why(world: World) -> None:
    held = world.cards["coast"][0]
    numbers = iter(iccid(str(8986001234567800000 + n)) for n in range(100))
    first, second = next(numbers), next(numbers)
    await world.sql("UPDATE data_package SET status = 'DISABLED' WHERE id = $1", world.packages["CM-M-30M"].id)
    rest = "CMCC,移动OneLink,机械卡,,,"
    lines = [
        (f"{first},460007000000001,,{rest}", None),
        (f"{first},,,{rest}", ("ICCID", "DUPLICATE_IN_FILE")),
        (f"{next(numbers)},460007000000001,,{rest}", ("IMSI", "DUPLICATE_IN_FILE")),
        (f"{held.iccid},,,{rest}", ("ICCID", "ALREADY_IN_INVENTORY")),
        (f"{next(numbers)},{held.imsi},,{rest}", ("IMSI", "ALREADY_IN_INVENTORY")),
        (f",,,{rest}", ("ICCID", "ICCID_MISSING")),
        (f"=A1,,,{rest}", ("ICCID", "FORMULA")),
        (f"8.98600E+18,,,{rest}", ("ICCID", "NUMBER_LOST_PRECISION")),
        (f"{next(numbers)},12x,,{rest}", ("IMSI", "NOT_DIGITS")),
        (f"{next(numbers)},,=B2,{rest}", ("物联号码", "FORMULA")),
        (f"{next(numbers)},,,Vodafone,移动OneLink,机械卡,,,", ("运营商", "UNKNOWN_CARRIER")),
        (f"{next(numbers)},,,CUCC,联通CMP,机械卡,,,", ("运营商", "CARRIER_DIFFERS")),
        (f"{next(numbers)},,,CMCC,Nobody,机械卡,,,", ("供应商", "UNKNOWN_SUPPLIER")),
        (f"{next(numbers)},,,CMCC,,机械卡,,,", ("供应商", "UNKNOWN_SUPPLIER")),
        (f"{next(numbers)},,,CMCC,移动OneLink,磁卡,,,", ("卡类型", "UNKNOWN_TYPE")),
        (f"{next(numbers)},,,CMCC,移动OneLink,机械卡,,NONE,", ("套餐编码", "UNKNOWN_PACKAGE")),
        (f"{next(numbers)},,,CMCC,移动OneLink,机械卡,,CM-M-30M,", ("套餐编码", "UNKNOWN_PACKAGE")),
        (f"{next(numbers)},,,CMCC,移动OneLink,机械卡,,CT-Q-1G,", ("套餐编码", "PACKAGE_CARRIER")),
        (f"{second},,,{rest}", None),
    ]
    task = await import_rows(world, *(line for line, _ in lines))
    expected = [(number, *why) for number, (_, why) in enumerate(lines, 2) if why]
    assert [(r["rowNumber"], r["column"], r["code"]) for r in task["refusals"]["nodes"]] == expected
    assert (task["status"], task["total"], task["done"], task["failed"]) == ("SUCCEEDED", 19, 2, 17)
    rows = await world.sql("SELECT iccid FROM sim_card WHERE remark IS NULL AND entry_mode = 'IMPORT' ORDER BY id")
    assert [row["iccid"] for row in rows] == [first, second]


@pytest.mark.feature("S0-05")
async def test_who_may_import_and_see_imports(world: World) -> None:
    before = await inventory(world)
    sheet = ("cards.csv", "ICCID,运营商,供应商,卡类型\n".encode())
    # a company that manages its own tasks sees the one that it has
    seen = {"sales": 0, "finance": 0, "north": 1, "acme": 1}
    for caller, door in (("sales", "admin"), ("finance", "admin"), ("north", "agent"), ("acme", "agent")):
        answer = (await world.client.upload(door, IMPORT, sheet, await world.token(caller))).json()
        assert [error["extensions"]["code"] for error in answer["errors"]] == ["FORBIDDEN"], caller
        found = await world.data(caller, "{ tasks(first: 1) { totalCount } }")
        assert found["tasks"]["totalCount"] == seen[caller], caller
    assert await inventory(world) == before
    assert list(world.client.application.runtime.files.folder.glob("*")) == []


@pytest.mark.feature("S0-05")
async def test_the_link_to_refused_rows_is_signed(world: World) -> None:
    task = await import_rows(world, "1,,,CMCC,移动OneLink,机械卡,,,")
    url = task["refusedFileUrl"]
    assert (await world.client.http.get(url)).status_code == 200
    assert (await world.client.http.get(url.replace("signature=", "signature=0"))).status_code in (403, 404)
    assert (await world.client.http.get(url.partition("?")[0])).status_code in (403, 404)
    assert (await world.client.http.get(re.sub(r"expires=\d+", "expires=9999999999", url))).status_code in (403, 404)
