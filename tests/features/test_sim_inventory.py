"""The SIM inventory, as operations staff and agents use it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.world import World

DATA = Path(__file__).resolve().parent.parent / "data"
IMPORT = """mutation($file: Upload!) { importSimCards(file: $file) { task { id status } errors { code field message } } }"""
PROGRESS = """query($id: ID!, $after: String) { importTask(id: $id) { status total done failed progress errorCode
    refusedFileUrl refusals(first: 200, after: $after) { totalCount
        nodes { rowNumber column value code message } } } }"""
KINDS = {
    "check_digit": "CHECK_DIGIT", "duplicate_in_file": "DUPLICATE_IN_FILE",
    "number_lost_precision": "NUMBER_LOST_PRECISION", "too_short": "TOO_SHORT", "iccid_missing": "ICCID_MISSING",
    "unknown_plan": "UNKNOWN_PACKAGE", "unknown_type": "UNKNOWN_TYPE",
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

    task = (await world.data("operations", PROGRESS, {"id": payload["task"]["id"]}))["importTask"]
    assert (task["status"], task["total"], task["done"], task["failed"], task["progress"]) == (
        "SUCCEEDED", expected["rows"], expected["accepted"], expected["rejected"], 1.0,
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
        "importTask"
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
        task = (await world.data("operations", PROGRESS, {"id": id}))["importTask"]
        results.append((task["done"], [r["code"] for r in task["refusals"]["nodes"]]))
    assert results[1] == (0, ["ALREADY_IN_INVENTORY"])
    assert results[0] in ((1, []), (0, ["CHECK_DIGIT"]))
