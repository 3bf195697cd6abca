"""Exports as a frontend asks for them, and what is in their files."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import openpyxl

from tests.support.world import ACTORS, World

START = """mutation($input: StartExportInput!) { startExport(input: $input) {
    task { id } errors { code field message } } }"""
TASK = """query($id: ID!) { task(id: $id) {
    kind name status total done failed progress errorCode errorMessage finishedAt resultFileUrl } }"""


async def start(
    world: World,
    caller: str,
    operation: str,
    *,
    variables: Any = None,
    format: str = "CSV",
    name: str = "List",
    language: str = "en",
    **more: Any,
) -> dict[str, Any]:
    """The payload of a mutation that starts an export. Variables that are a text are sent as they are."""
    input: dict[str, Any] = {"operation": operation, "format": format, "name": name, **more}
    if variables is not None:
        input["variables"] = variables if isinstance(variables, str) else json.dumps(variables)
    answer = await world.run(caller, START, {"input": input}, language=language)
    assert "errors" not in answer, answer
    found: dict[str, Any] = answer["data"]["startExport"]
    return found


async def started(world: World, caller: str, operation: str, **more: Any) -> str:
    payload = await start(world, caller, operation, **more)
    assert payload["errors"] == []
    id: str = payload["task"]["id"]
    return id


async def task_of(world: World, caller: str, id: str) -> Any:
    return (await world.data(caller, TASK, {"id": id}))["task"]


async def fetched(world: World, link: str) -> bytes:
    answer = await world.client.http.get(link)
    assert answer.status_code == 200
    return answer.content


async def exported(world: World, caller: str, operation: str, **more: Any) -> tuple[dict[str, Any], bytes]:
    """The task of an export that has been written, and its file."""
    assert caller in ACTORS
    id = await started(world, caller, operation, **more)
    await world.client.work_off()
    task = await task_of(world, caller, id)
    assert task["status"] == "SUCCEEDED", task
    return task, await fetched(world, task["resultFileUrl"])


def rows_of(content: bytes, format: str) -> list[list[str]]:
    """The cells of all sheets as texts, as a program shows them that opens the file."""
    if format == "CSV":
        rows = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""))
        return [[cell.removesuffix("\t") for cell in row] for row in rows]
    return [
        ["" if cell.value is None else str(cell.value) for cell in row]
        for sheet in openpyxl.load_workbook(io.BytesIO(content)).worksheets
        for row in sheet
    ]


async def more_cards(world: World, tenant: str, count: int) -> None:
    """So many cards more in a tenant's hands."""
    owner = world.tenants[tenant]
    await world.sql(
        """INSERT INTO sim_card (tenant_id, tenant_path, iccid, carrier, sim_type, entry_mode, status, supplier_id,
                                 activated_at)
           SELECT $1, $2, '898601' || lpad((known.id + n)::text, 14, '0'), 'CMCC', 'M2M', 'RANGE', 'ACTIVE', $3,
                  '2026-02-01'::timestamptz + (n % 400) * interval '1 hour'
           FROM generate_series(1, $4::int) AS n, (SELECT max(id) AS id FROM sim_card) AS known""",
        owner.id,
        owner.path,
        next(iter(world.suppliers.values())).id,
        count,
    )


async def cards_of(world: World, tenant: str) -> list[str]:
    """The display ICCIDs of a tenant's cards and of those below it."""
    rows = await world.sql(
        "SELECT display_iccid FROM sim_card WHERE starts_with(tenant_path, $1)", world.tenants[tenant].path
    )
    return [row["display_iccid"] for row in rows]
