"""Files in the graph: sending, listing, giving out, removing; in a folder and in a bucket alike."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import json
import os
import re
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from authz.principal import system
from models.system import FilePurpose, StoredFile
from planner.ids import decode_id, encode_id
from services.files import FileStore, Stored, keeping
from services.refusal import Refusal
from services.runtime import Work
from tests.conftest import Place, _running
from tests.support import objects
from tests.support.world import ACTORS, World, sow

FILE = "id name contentType size purpose sha256 md5 url account { name }"
UPLOAD = f"""mutation($input: UploadFileInput!) {{ uploadFile(input: $input) {{
    storedFile {{ {FILE} }} errors {{ code field }} }} }}"""
DELETE = "mutation($id: ID!) { deleteStoredFile(id: $id) { done errors { code field } } }"
LIST = "{ storedFiles(first: 50, orderBy: [{field: NAME}]) { totalCount nodes { id name } } }"
IMPORT = "mutation($file: Upload!) { importSimCards(file: $file) { task { id } errors { code } } }"
PIXEL = objects.png(b"of the tests")
SHA256, MD5 = hashlib.sha256(PIXEL).hexdigest(), hashlib.md5(PIXEL).hexdigest()
LATER = timedelta(hours=1)


@pytest.fixture(params=["folder", "bucket"])
async def stored(request: pytest.FixtureRequest, place: Place) -> AsyncIterator[World]:
    """The world on either store."""
    if request.param == "folder":
        async for client in _running(place):
            yield await sow(client, place.superuser_url)
        return
    with objects.bucket() as settings:
        in_a_bucket = place.settings.model_copy(update={"files": settings})
        async for client in _running(dataclasses.replace(place, settings=in_a_bucket)):
            yield await sow(client, place.superuser_url)


def files_of(world: World) -> FileStore:
    return world.client.application.runtime.files


async def send(
    world: World, caller: str, content: bytes, name: str = "pixel.png", purpose: str = "IMAGE", declared: str = ""
) -> dict[str, Any]:
    """The whole answer to an upload."""
    answer = await world.client.http.post(
        f"/{ACTORS[caller].door}/graphql",
        data={
            "operations": json.dumps({"query": UPLOAD, "variables": {"input": {"file": None, "purpose": purpose}}}),
            "map": json.dumps({"0": ["variables.input.file"]}),
        },
        files={"0": (name, content, declared or "application/octet-stream")},
        headers={"authorization": f"Bearer {await world.token(caller)}", "accept-language": "en"},
    )
    found: dict[str, Any] = answer.json()
    return found


async def sent(world: World, caller: str, content: bytes = PIXEL, **more: str) -> dict[str, Any]:
    """The file as the answer to its upload tells of it."""
    payload = (await send(world, caller, content, **more))["data"]["uploadFile"]
    assert payload["errors"] == []
    found: dict[str, Any] = payload["storedFile"]
    return found


async def refused(world: World, caller: str, content: bytes, **more: str) -> str:
    """Why an upload is refused; the field is always the file."""
    payload = (await send(world, caller, content, **more))["data"]["uploadFile"]
    assert payload["storedFile"] is None
    [error] = payload["errors"]
    assert error["field"] == "file"
    return str(error["code"])


async def contents(world: World) -> list[str]:
    """What lies in the store, and nothing on its way."""
    files = files_of(world)
    assert list(files.folder.glob("passing-*")) == []
    return sorted([name async for page in files.placed_before(datetime.now(UTC) + LATER) for name in page])


async def sweep(world: World) -> int:
    return await keeping.sweep(world.client.application.runtime.database, files_of(world), datetime.now(UTC) + LATER)


def key(id: str) -> int:
    return (decode_id(id) or ("", 0))[1]


# -- sending and giving out ---------------------------------------------------------------------------------------


async def test_an_upload_is_kept_and_given_out_by_its_link(stored: World) -> None:
    for caller in ("operations", "north", "acme"):
        found = await sent(stored, caller, name="../a/像素.png", declared="image/png")
        path, _, signature = found.pop("url").partition("?")
        assert found == {
            "id": found["id"],
            "name": "像素.png",
            "contentType": "image/png",
            "size": len(PIXEL),
            "purpose": "IMAGE",
            "sha256": SHA256,
            "md5": MD5,
            "account": {"name": found["account"]["name"]},
        }
        assert found["account"]["name"].startswith(caller)
        assert path == f"/files/{found['id']}"
        expires = re.fullmatch(r"expires=(\d+)&signature=[0-9a-f]{64}", signature)
        assert expires is not None
        assert 590 < int(expires[1]) - time.time() <= 600
        answer = await stored.client.http.get(f"{path}?{signature}")
        assert (answer.status_code, answer.content) == (200, PIXEL)
        assert {name: answer.headers[name] for name in answer.headers if name != "x-request-id"} == {
            "content-type": "image/png",
            "content-length": str(len(PIXEL)),
            "content-disposition": "attachment; filename*=utf-8''%E5%83%8F%E7%B4%A0.png",
            "x-content-type-options": "nosniff",
            "content-security-policy": "sandbox; default-src 'none'",
            "cache-control": "private, no-store",
        }
    assert await contents(stored) == [SHA256]
    [logged, *_] = await stored.sql("SELECT arguments FROM operation_record WHERE mutation = 'upload_file'")
    assert json.loads(logged["arguments"]) == {
        "input": {"file": {"file": "../a/像素.png", "size": len(PIXEL)}, "purpose": "IMAGE"}
    }


async def test_a_link_names_one_file_for_a_while(world: World) -> None:
    one, other = [await sent(world, "north", name=name) for name in ("one.png", "other.png")]
    (path, _, query), (elsewhere, _, _) = one["url"].partition("?"), other["url"].partition("?")
    now_past = files_of(world).sign(key(one["id"]), time.time() - 601)
    for address in (path, f"{elsewhere}?{query}", f"{path}?{now_past}", f"{path}?{query}0"):
        assert (await world.client.http.get(address)).status_code in (403, 404), address
    assert (await world.client.http.get(one["url"])).status_code == 200
    # content that is lost is not found, and no error
    await files_of(world).remove(SHA256)
    assert (await world.client.http.get(one["url"])).status_code == 404


async def test_equal_content_is_stored_once_and_each_has_its_own_file(stored: World) -> None:
    norths, acmes = [await sent(stored, caller, name=f"{caller}.png") for caller in ("north", "acme")]
    assert await contents(stored) == [SHA256]
    for caller, own, foreign in (("north", norths, acmes), ("acme", acmes, norths)):
        listed = (await stored.data(caller, LIST))["storedFiles"]
        assert listed == {"totalCount": 1, "nodes": [{"id": own["id"], "name": f"{caller}.png"}]}
        by_md5 = f'{{ storedFiles(first: 5, filter: {{md5: {{eq: "{MD5}"}}}}) {{ nodes {{ id }} }} }}'
        assert (await stored.data(caller, by_md5))["storedFiles"] == {"nodes": [{"id": own["id"]}]}
        one = "query($id: ID!) { storedFile(id: $id) { url } node(id: $id) { id } }"
        assert await stored.data(caller, one, {"id": foreign["id"]}) == {"storedFile": None, "node": None}
        payload = (await stored.data(caller, DELETE, {"id": foreign["id"]}))["deleteStoredFile"]
        assert payload == {"done": False, "errors": [{"code": "NOT_FOUND", "field": "id"}]}
    # whose file is removed loses its links, and the other keeps the content
    assert (await stored.data("north", DELETE, {"id": norths["id"]}))["deleteStoredFile"] == {
        "done": True,
        "errors": [],
    }
    assert await sweep(stored) == 0
    assert (await stored.client.http.get(norths["url"])).status_code == 404
    assert (await stored.client.http.get(acmes["url"])).content == PIXEL
    assert (await stored.data("north", LIST))["storedFiles"] == {"totalCount": 0, "nodes": []}
    assert (await stored.data("acme", DELETE, {"id": acmes["id"]}))["deleteStoredFile"]["done"]
    assert await contents(stored) == [SHA256]
    assert await sweep(stored) == 1
    assert await contents(stored) == []


async def test_a_file_is_its_own_tenants_alone(world: World) -> None:
    """Neither whoever stands above has the use of it, nor the platform's operations; its administrator sees all."""
    file = await sent(world, "north-east")
    for caller in ("north", "operations"):
        assert (await world.data(caller, LIST))["storedFiles"] == {"totalCount": 0, "nodes": []}
        payload = (await world.data(caller, DELETE, {"id": file["id"]}))["deleteStoredFile"]
        assert payload == {"done": False, "errors": [{"code": "NOT_FOUND", "field": "id"}]}
    seen = (await world.data("admin", LIST))["storedFiles"]
    assert seen == {"totalCount": 1, "nodes": [{"id": file["id"], "name": "pixel.png"}]}


async def test_bytes_of_unknown_type_leave_as_bytes(world: World) -> None:
    """An import takes a spreadsheet as whatever its sender calls it, and tells the rows that are wrong."""
    answer = await world.client.http.post(
        "/admin/graphql",
        data={
            "operations": json.dumps({"query": IMPORT, "variables": {"file": None}}),
            "map": json.dumps({"0": ["variables.file"]}),
        },
        files={"0": ("a.html", b"<script>alert(1)</script>", "text/html")},
        headers={"authorization": f"Bearer {await world.token('operations')}"},
    )
    assert answer.json()["data"]["importSimCards"]["errors"] == []
    files = "{ storedFiles(first: 2) { nodes { contentType url } } }"
    [file] = (await world.data("operations", files))["storedFiles"]["nodes"]
    assert file["contentType"] == "text/html"
    given = await world.client.http.get(file["url"])
    assert given.headers["content-type"] == "application/octet-stream"
    assert given.headers["content-disposition"] == "attachment; filename*=utf-8''a.html"
    assert given.headers["content-security-policy"] == "sandbox; default-src 'none'"


# -- refusals -----------------------------------------------------------------------------------------------------


async def test_refused_uploads_leave_nothing(stored: World) -> None:
    html = b"<!doctype html><script>alert(1)</script>"
    for content, name, purpose, declared, code in (
        (b"", "a.png", "IMAGE", "image/png", "EMPTY_FILE"),
        (html, "a.png", "IMAGE", "image/png", "FILE_TYPE_NOT_ALLOWED"),
        (html, "a.html", "DOCUMENT", "text/html", "FILE_TYPE_NOT_ALLOWED"),
        (PIXEL, "a.html", "IMAGE", "image/png", "FILE_TYPE_DIFFERS"),
        (PIXEL, "a.png", "IMAGE", "text/html", "FILE_TYPE_DIFFERS"),
        (PIXEL, "a.png", "DOCUMENT", "image/png", "FILE_TYPE_NOT_ALLOWED"),
        (PIXEL + b"<script>", "a.png", "IMAGE", "image/png", "FILE_AMBIGUOUS"),
        (PIXEL, "..", "IMAGE", "image/png", "REQUIRED"),
        (PIXEL + bytes(10 << 20), "a.png", "IMAGE", "image/png", "FILE_TOO_LARGE"),
    ):
        assert await refused(stored, "north", content, name=name, purpose=purpose, declared=declared) == code, code
    variables = {"input": {"file": "/etc/passwd", "purpose": "DOCUMENT"}}
    payload = (await stored.data("north", UPLOAD, variables))["uploadFile"]
    assert payload == {"storedFile": None, "errors": [{"code": "FILE_REQUIRED", "field": "file"}]}
    assert await stored.sql("SELECT id FROM stored_file") == []
    assert await contents(stored) == []


async def test_who_may_not_deal_with_files(world: World) -> None:
    file = await sent(world, "operations")
    for caller in ("finance", "sales"):
        answer = await send(world, caller, objects.png(b"another"))
        assert [error["extensions"]["code"] for error in answer["errors"]] == ["FORBIDDEN"], caller
        assert await world.codes(caller, LIST) == ["FORBIDDEN"], caller
        assert await world.codes(caller, DELETE, {"id": file["id"]}) == ["FORBIDDEN"], caller
        assert await world.data(caller, f'{{ node(id: "{file["id"]}") {{ id }} }}') == {"node": None}
    assert await contents(world) == [SHA256]
    assert len(await world.sql("SELECT id FROM stored_file")) == 1


async def test_a_file_in_use_stays(world: World) -> None:
    sheet = ("cards.csv", objects.CSV)
    made = (await world.client.upload("admin", IMPORT, sheet, await world.token("operations"))).json()
    assert made["data"]["importSimCards"]["errors"] == []
    before = await world.sql("SELECT * FROM stored_file")
    file = encode_id("fil", before[0]["id"])
    payload = (await world.data("operations", DELETE, {"id": file}))["deleteStoredFile"]
    assert payload == {"done": False, "errors": [{"code": "IN_USE", "field": "id"}]}
    for id, code in ((encode_id("fil", 10**9), "NOT_FOUND"), (world.id("acme"), "INVALID_ID")):
        payload = (await world.data("operations", DELETE, {"id": id}))["deleteStoredFile"]
        assert payload == {"done": False, "errors": [{"code": code, "field": "id"}]}
    assert await world.sql("SELECT * FROM stored_file") == before


# -- imports, from either store -----------------------------------------------------------------------------------


async def test_an_import_reads_its_file_and_leaves_the_refused_rows(stored: World) -> None:
    sheet = ("cards.csv", "ICCID,运营商,供应商,卡类型\n12,CMCC,移动OneLink,机械卡\n".encode())
    made = (await stored.client.upload("admin", IMPORT, sheet, await stored.token("operations"))).json()
    await stored.client.work_off()
    query = "query($id: ID!) { task(id: $id) { status done failed refusedFileUrl } }"
    task = (await stored.data("operations", query, {"id": made["data"]["importSimCards"]["task"]["id"]}))["task"]
    assert (task["status"], task["done"], task["failed"]) == ("SUCCEEDED", 0, 1)
    answer = await stored.client.http.get(task["refusedFileUrl"])
    assert answer.status_code == 200
    assert answer.content[:4] == b"PK\x03\x04"
    rows = await stored.sql("SELECT sha256, md5, purpose FROM stored_file ORDER BY id")
    assert [(row["sha256"], row["md5"], row["purpose"]) for row in rows] == [
        (hashlib.sha256(content).hexdigest(), hashlib.md5(content).hexdigest(), "SPREADSHEET")
        for content in (sheet[1], answer.content)
    ]
    assert await contents(stored) == sorted(row["sha256"] for row in rows)


# -- content that nobody has --------------------------------------------------------------------------------------


async def orphan(world: World, content: bytes = PIXEL) -> Stored:
    """Content without a row."""

    async def once() -> AsyncIterator[bytes]:
        yield content

    return await files_of(world).keep(once(), len(content))


async def test_content_that_an_upload_is_about_to_have_is_not_removed(stored: World) -> None:
    kept = await orphan(stored)
    tenant = stored.tenants["north"]
    database = stored.client.application.runtime.database
    async with database.transaction(system("upload", tenant.path, tenant.id)) as session:
        work = Work(system("upload", tenant.path, tenant.id), session, runtime=stored.client.application.runtime)
        await keeping.record(work, kept, "pixel.png", "image/png", FilePurpose.IMAGE)
        sweeping = asyncio.create_task(sweep(stored))
        done, _ = await asyncio.wait({sweeping}, timeout=0.5)
        assert not done
    assert await sweeping == 0
    assert await contents(stored) == [SHA256]


async def test_an_upload_whose_content_was_just_removed_is_told_so(stored: World) -> None:
    kept = await orphan(stored)
    assert await sweep(stored) == 1
    tenant = stored.tenants["north"]
    runtime = stored.client.application.runtime
    principal = system("upload", tenant.path, tenant.id)
    async with runtime.database.transaction(principal) as session:
        with pytest.raises(Refusal, match="Start it again"):
            await keeping.record(
                Work(principal, session, runtime=runtime), kept, "a.png", "image/png", FilePurpose.IMAGE
            )
    assert await stored.sql("SELECT id FROM stored_file") == []


async def test_many_uploads_of_the_same_beside_the_sweep_all_keep_their_content(world: World) -> None:
    await world.token("north")
    for _ in range(3):
        await orphan(world)
        answers = await asyncio.gather(
            *(send(world, "north", PIXEL) for _ in range(4)), *(sweep(world) for _ in range(2))
        )
        payloads = [answer["data"]["uploadFile"] for answer in answers if isinstance(answer, dict)]
        for payload in payloads:
            refusals = [error["code"] for error in payload["errors"]]
            assert refusals in ([], ["INTERRUPTED"])
        if any(not payload["errors"] for payload in payloads):
            assert await contents(world) == [SHA256]
        await world.sql("DELETE FROM stored_file")
        await sweep(world)


async def test_a_job_removes_what_nobody_has_and_is_not_new(world: World) -> None:
    kept = await sent(world, "north")
    old, new = await orphan(world, b"old"), await orphan(world, b"new")
    long_ago = time.time() - 3 * 86_400
    for sha256 in (kept["sha256"], old.sha256):
        os.utime(files_of(world).path(sha256), (long_ago, long_ago))
    create = """mutation($input: ScheduledJobInput!) { createScheduledJob(input: $input) {
        scheduledJob { id } errors { code field } } }"""
    input = {
        "name": "Clear content",
        "invokeTarget": "clearUnusedContent",
        "arguments": [{"name": "olderThanDays", "value": 2}],
        "cronExpression": "0 3 * * *",
    }
    made = (await world.data("operations", create, {"input": input}))["createScheduledJob"]
    assert made["errors"] == []
    run = "mutation($input: RunScheduledJobInput!) { runScheduledJob(input: $input) { errors { code } } }"
    await world.data("operations", run, {"input": {"id": made["scheduledJob"]["id"]}})
    await world.client.work_off()
    runs = "{ jobRuns(first: 50) { nodes { invokeTarget status message } } }"
    log = (await world.data("operations", runs))["jobRuns"]["nodes"]
    [told] = [one for one in log if one["invokeTarget"] == "clearUnusedContent"]
    assert told == {"invokeTarget": "clearUnusedContent", "status": "SUCCEEDED", "message": "Removed: 1"}
    assert await contents(world) == sorted([kept["sha256"], new.sha256])


async def test_rows_of_old_installations_have_a_purpose(world: World) -> None:
    """What was stored before files had a purpose came as spreadsheets."""
    tenant = world.tenants["platform"]
    await world.sql(
        "INSERT INTO stored_file (tenant_id, tenant_path, sha256, name, content_type, size) "
        "VALUES ($1, $2, $3, 'old.csv', 'text/csv', 3)",
        tenant.id,
        tenant.path,
        "f" * 64,
    )
    database = world.client.application.runtime.database
    async with database.transaction(system("test")) as session:
        found = await session.get(StoredFile, (await world.sql("SELECT id FROM stored_file"))[0]["id"])
    assert found is not None
    assert (found.purpose, found.md5, found.account_id) == (FilePurpose.SPREADSHEET, None, None)
