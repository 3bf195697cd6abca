"""The file store, in a folder and in a bucket: content by its digest, streams, local paths, and what may come in."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError

from models.system import FilePurpose
from services.files import FileSettings, FileStore, Stored, TooLargeError, open_store
from services.files.judging import CSV, DOCX, GIF, JPEG, PDF, PNG, WEBP, XLSX, FileType, judged, name_of
from services.keys import Keys
from services.refusal import Refusal
from services.spreadsheets import write_rows
from tests.support import objects

KEYS = Keys("the secret of the tests, long enough")
CONTENT = b"what is kept"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
STORED = Stored(SHA256, len(CONTENT), hashlib.md5(CONTENT).hexdigest())
MEGABYTE = 1 << 20


@pytest.fixture(params=["folder", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FileStore]:
    if request.param == "folder":
        yield open_store(tmp_path / "files", KEYS, FileSettings())
    else:
        with objects.bucket() as settings:
            yield open_store(tmp_path / "files", KEYS, settings)


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def whole(store: FileStore, sha256: str) -> bytes | None:
    content = await store.content(sha256)
    if content is None:
        return None
    found = b"".join([bytes(piece) async for piece in content.pieces])
    assert len(found) == content.size
    return found


async def everything(store: FileStore) -> list[str]:
    return [name async for page in store.placed_before(datetime.now(UTC) + timedelta(days=1)) for name in page]


def passing(store: FileStore) -> list[str]:
    return [path.name for path in store.folder.glob("passing-*")]


# -- keeping ------------------------------------------------------------------------------------------------------


async def test_content_is_kept_once_under_its_digest(store: FileStore) -> None:
    assert await whole(store, SHA256) is None
    assert await store.placed_at(SHA256) is None
    for parts in ((CONTENT,), (CONTENT[:3], CONTENT[3:])):
        assert await store.keep(pieces(*parts), 100) == STORED
        assert await everything(store) == [SHA256]
        assert await whole(store, SHA256) == CONTENT
    placed_at = await store.placed_at(SHA256)
    assert placed_at is not None
    assert abs(placed_at - datetime.now(UTC)) < timedelta(minutes=1)
    assert passing(store) == []
    await store.remove(SHA256)
    assert await whole(store, SHA256) is None
    assert await everything(store) == []


async def test_large_content_is_streamed_in_parts(store: FileStore) -> None:
    parts = [bytes([n]) * MEGABYTE for n in range(12)]
    kept = await store.keep(pieces(*parts), 12 * MEGABYTE)
    assert kept.size == 12 * MEGABYTE
    content = await store.content(kept.sha256)
    assert content is not None
    found = hashlib.sha256()
    most = 0
    async for piece in content.pieces:
        found.update(piece)
        most = max(most, len(piece))
    assert found.hexdigest() == kept.sha256
    assert most <= 2 * MEGABYTE


async def test_what_exceeds_its_limit_leaves_nothing(store: FileStore) -> None:
    with pytest.raises(TooLargeError):
        await store.keep(pieces(CONTENT, b"!"), len(CONTENT))
    assert await everything(store) == []
    assert passing(store) == []


async def test_what_is_not_placed_leaves_nothing(store: FileStore) -> None:
    async with store.received(pieces(CONTENT), 100) as incoming:
        assert incoming.stored == STORED
        assert incoming.path.read_bytes() == CONTENT
    assert await everything(store) == []
    assert passing(store) == []


async def test_a_file_of_our_own_is_moved_into_the_store(store: FileStore, tmp_path: Path) -> None:
    made = tmp_path / "made"
    made.write_bytes(CONTENT)
    assert store.keep_file(made) == STORED
    assert not made.exists()
    assert await whole(store, SHA256) == CONTENT


async def test_content_can_be_read_by_a_path(store: FileStore) -> None:
    await store.keep(pieces(CONTENT), 100)
    async with store.local(SHA256) as path:
        assert path.read_bytes() == CONTENT
    assert passing(store) == []
    assert await whole(store, SHA256) == CONTENT


async def test_in_a_bucket_a_path_lasts_as_long_as_it_is_read(tmp_path: Path) -> None:
    with objects.bucket() as settings:
        store = open_store(tmp_path / "files", KEYS, settings)
        await store.keep(pieces(CONTENT), 100)
        async with store.local(SHA256) as path:
            assert path.parent == store.folder
        assert not path.exists()
        with pytest.raises(FileNotFoundError):
            async with store.local("0" * 64):
                pass
        assert passing(store) == []
        with pytest.raises(RuntimeError, match="has no path"):
            store.path(SHA256)


async def test_an_upload_to_a_bucket_that_is_not_there_fails(tmp_path: Path) -> None:
    with objects.bucket() as settings:
        gone = settings.model_copy(update={"url": "s3://another-bucket"})
        store = open_store(tmp_path / "files", KEYS, gone)
        with pytest.raises(FileNotFoundError):
            await store.keep(pieces(CONTENT), 100)
        assert passing(store) == []


async def test_what_a_dead_process_left_on_its_way_is_removed(store: FileStore) -> None:
    now = datetime.now(UTC)
    store.folder.mkdir(parents=True, exist_ok=True)
    for name, age in (("passing-old", 25), ("passing-new", 23), ("mine", 99)):
        (store.folder / name).write_bytes(b"x")
        at = (now - timedelta(hours=age)).timestamp()
        os.utime(store.folder / name, (at, at))
    assert store.remove_passing(now - timedelta(days=1)) == 1
    assert sorted(path.name for path in store.folder.iterdir() if path.is_file()) == ["mine", "passing-new"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"url": "ftp://files"}, "must begin with s3://"),
        ({"url": "s3://"}, "must name a bucket"),
        ({"url": "s3://files", "access_key_id": "key"}, "go together"),
        ({"url": "s3://files", "secret_access_key": "secret"}, "go together"),
    ],
)
def test_settings_that_name_no_store_are_refused(given: dict[str, str], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        FileSettings.model_validate(given)


def test_the_settings_do_not_show_the_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (
        ("URL", "s3://files/a/b"),
        ("ACCESS_KEY_ID", "key"),
        ("SECRET_ACCESS_KEY", "never shown"),
        ("REGION", "cn-north-1"),
    ):
        monkeypatch.setenv(f"TRELLIS_FILES_{name}", value)
    settings = FileSettings()
    assert (settings.url, settings.access_key_id, settings.region) == ("s3://files/a/b", "key", "cn-north-1")
    assert "never shown" not in f"{settings!r} {settings} {settings.model_dump()}"
    assert settings.secret_access_key.get_secret_value() == "never shown"
    bucket = settings.bucket()
    assert bucket is not None
    assert bucket.prefix == "a/b"


# -- what may come in ---------------------------------------------------------------------------------------------

GOOD = [
    (FilePurpose.IMAGE, "a.png", objects.png(), PNG),
    (FilePurpose.IMAGE, "A.JPEG", objects.JPEG, JPEG),
    (FilePurpose.IMAGE, "a.jpg", objects.JPEG, JPEG),
    (FilePurpose.IMAGE, "a.gif", objects.GIF, GIF),
    (FilePurpose.IMAGE, "a.webp", objects.WEBP, WEBP),
    (FilePurpose.DOCUMENT, "a.b.pdf", objects.PDF, PDF),
    (FilePurpose.DOCUMENT, "a.docx", objects.DOCX, DOCX),
    (FilePurpose.SPREADSHEET, "a.xlsx", objects.XLSX, XLSX),
    (FilePurpose.SPREADSHEET, "a.csv", objects.CSV, CSV),
    (FilePurpose.SPREADSHEET, "a.csv", "卡号\n".encode("gb18030"), CSV),
]


@pytest.mark.parametrize(("purpose", "name", "content", "type"), GOOD)
def test_what_agrees_with_itself_is_accepted(
    tmp_path: Path, purpose: FilePurpose, name: str, content: bytes, type: FileType
) -> None:
    path = tmp_path / "upload"
    path.write_bytes(content)
    for declared in (type.content_type, f"{type.content_type.upper()}; x=y", "application/octet-stream", "", None):
        assert judged(path, purpose, name, declared) is type
    for other in FilePurpose:
        if other is not purpose:
            assert refusal(path, other, name, type.content_type) == "FILE_TYPE_NOT_ALLOWED"
    for wrong in (f"{name}.exe", "a", "a.html", "png"):
        assert refusal(path, purpose, wrong, type.content_type) == "FILE_TYPE_DIFFERS", wrong
    for declared in ("text/html", "image/svg+xml", "image/bmp", "nonsense"):
        assert refusal(path, purpose, name, declared) == "FILE_TYPE_DIFFERS", declared


def refusal(path: Path, purpose: FilePurpose, name: str, declared: str | None = None) -> str:
    with pytest.raises(Refusal) as caught:
        judged(path, purpose, name, declared)
    assert caught.value.field == "file"
    return caught.value.code


SVG = b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
HTML = b"\n <!DOCTYPE html><html><script>alert(1)</script></html>"
ARCHIVE = objects.package({"a.txt": b"text"})
REFUSED = [
    (FilePurpose.IMAGE, "a.svg", SVG, "FILE_TYPE_NOT_ALLOWED"),
    (FilePurpose.IMAGE, "a.png", SVG, "FILE_TYPE_NOT_ALLOWED"),
    (FilePurpose.IMAGE, "a.png", HTML, "FILE_TYPE_NOT_ALLOWED"),
    (FilePurpose.IMAGE, "a.png", b"\x89PN", "FILE_TYPE_NOT_ALLOWED"),
    (FilePurpose.IMAGE, "a.png", b"MZ" + bytes(100), "FILE_TYPE_NOT_ALLOWED"),
    (FilePurpose.IMAGE, "a.bmp", b"BM" + bytes(100), "FILE_TYPE_NOT_ALLOWED"),
    (FilePurpose.IMAGE, "a.png", objects.GIF, "FILE_TYPE_DIFFERS"),
    (FilePurpose.IMAGE, "a.png", objects.png(b"<script>alert(1)</script>"), "FILE_AMBIGUOUS"),
    (FilePurpose.IMAGE, "a.png", objects.png(b"<SVG onload=alert(1)>"), "FILE_AMBIGUOUS"),
    (FilePurpose.IMAGE, "a.png", objects.png(b"<?php echo 1;"), "FILE_AMBIGUOUS"),
    (FilePurpose.IMAGE, "a.png", objects.png() + objects.PDF, "FILE_AMBIGUOUS"),
    (FilePurpose.IMAGE, "a.jpg", objects.JPEG + ARCHIVE, "FILE_AMBIGUOUS"),
    (FilePurpose.IMAGE, "a.gif", objects.GIF + b"<html>", "FILE_AMBIGUOUS"),
    (FilePurpose.DOCUMENT, "a.pdf", b"junk" + objects.PDF, "FILE_TYPE_NOT_ALLOWED"),
    (FilePurpose.DOCUMENT, "a.pdf", objects.PDF + ARCHIVE, "FILE_AMBIGUOUS"),
    (FilePurpose.DOCUMENT, "a.pdf", b"%PDF-1.7\n%<script>alert(1)</script>\n", "FILE_AMBIGUOUS"),
    (FilePurpose.DOCUMENT, "a.docx", objects.XLSX, "FILE_TYPE_NOT_ALLOWED"),
    (FilePurpose.DOCUMENT, "a.docx", ARCHIVE, "FILE_TYPE_NOT_ALLOWED"),
    (FilePurpose.DOCUMENT, "a.docx", objects.DOCX[:-30], "BROKEN_FILE"),
    (
        FilePurpose.DOCUMENT,
        "a.docx",
        objects.package({"word/document.xml": b"", "word/vbaProject.bin": b""}),
        "FILE_TYPE_NOT_ALLOWED",
    ),
    (
        FilePurpose.SPREADSHEET,
        "a.xlsx",
        objects.package({"word/document.xml": b"", "xl/workbook.xml": b""}),
        "FILE_TYPE_NOT_ALLOWED",
    ),
    (FilePurpose.SPREADSHEET, "a.csv", HTML, "FILE_TYPE_NOT_ALLOWED"),
    (FilePurpose.SPREADSHEET, "a.csv", b"a,b\n\x00\x01", "FILE_TYPE_NOT_ALLOWED"),
    (FilePurpose.SPREADSHEET, "a.csv", objects.PDF, "FILE_TYPE_NOT_ALLOWED"),
    (FilePurpose.SPREADSHEET, "a.xls", bytes.fromhex("d0cf11e0a1b11ae1") + bytes(600), "FILE_TYPE_NOT_ALLOWED"),
]


@pytest.mark.parametrize(
    ("purpose", "name", "content", "code"), REFUSED, ids=[f"{n}-{name}" for n, (_, name, _, _) in enumerate(REFUSED)]
)
def test_what_is_something_else_is_refused(
    tmp_path: Path, purpose: FilePurpose, name: str, content: bytes, code: str
) -> None:
    path = tmp_path / "upload"
    path.write_bytes(content)
    assert refusal(path, purpose, name) == code


def test_a_package_that_unpacks_to_far_more_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "upload"
    path.write_bytes(objects.package({"xl/workbook.xml": bytes(2_000)}))
    monkeypatch.setattr("services.files.judging.MAX_UNPACKED_BYTES", 1_999)
    assert refusal(path, FilePurpose.SPREADSHEET, "a.xlsx") == "ZIP_BOMB"


def test_workbooks_as_they_are_written_are_accepted(tmp_path: Path) -> None:
    path = tmp_path / "upload"
    write_rows(path, "xlsx", ["ICCID"], [["1"]])
    assert judged(path, FilePurpose.SPREADSHEET, "a.xlsx", None) is XLSX
    sample = Path(__file__).parents[1] / "data" / "sim_import_20k.xlsx"
    assert judged(sample, FilePurpose.SPREADSHEET, sample.name, None) is XLSX


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("a.png", "a.png"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\me\\卡.csv", "卡.csv"),
        ("a\u202egnp.exe\r\n", "agnp.exe"),
        (f"{'x' * 300}.docx", f"{'x' * 195}.docx"),
    ],
)
def test_names_are_names_of_files_and_nothing_more(given: str, expected: str) -> None:
    assert name_of(given) == expected


@pytest.mark.parametrize("given", [None, "", " ", "\x00", "/", ".."])
def test_a_file_without_a_name_is_refused(given: str | None) -> None:
    with pytest.raises(Refusal) as caught:
        name_of(given)
    assert (caught.value.code, caught.value.field) == ("REQUIRED", "file")
