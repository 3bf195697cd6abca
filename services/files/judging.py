"""What an upload is: by its own bytes, with which its name and its declared type must agree.

A purpose accepts a few types and nothing else. What a browser would run (HTML, SVG) is of none of them, and a file
that two programs could read as two different things is refused, whatever it is called.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePath
from zipfile import BadZipFile, ZipFile, is_zipfile

import filetype

from models.system import FilePurpose
from services.refusal import Refusal
from services.spreadsheets import SpreadsheetError
from services.spreadsheets.workbook import ArchiveFile

FIELD = "file"
NOT_SAID = frozenset({"", "application/octet-stream"})
"""Declared types that declare nothing."""
MAX_NAME = 200
LONGEST_SUFFIX = 20
MAX_UNPACKED_BYTES = 512 << 20
HEAD_BYTES = 1_024
"""So far into a file readers of PDF look for its beginning, and browsers for a document."""
MACROS = "vbaProject.bin"
_MARKUP = re.compile(rb"<(?:script|html|!doctype|iframe|body|svg[\s>]|\?php)", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_OFFICE = "application/vnd.openxmlformats-officedocument."
_ZIPPED = frozenset(
    {
        "application/zip",
        f"{_OFFICE}spreadsheetml.sheet",
        f"{_OFFICE}wordprocessingml.document",
        f"{_OFFICE}presentationml.presentation",
    }
)


@dataclass(frozen=True)
class FileType:
    """A type that is accepted: what it is called, in names of files and by those who declare it."""

    content_type: str
    suffixes: frozenset[str]
    also_declared: frozenset[str] = frozenset()


PNG = FileType("image/png", frozenset({".png"}))
JPEG = FileType("image/jpeg", frozenset({".jpg", ".jpeg"}), frozenset({"image/jpg", "image/pjpeg"}))
GIF = FileType("image/gif", frozenset({".gif"}))
WEBP = FileType("image/webp", frozenset({".webp"}))
PDF = FileType("application/pdf", frozenset({".pdf"}))
DOCX = FileType(f"{_OFFICE}wordprocessingml.document", frozenset({".docx"}))
XLSX = FileType(f"{_OFFICE}spreadsheetml.sheet", frozenset({".xlsx"}))
CSV = FileType(
    "text/csv",
    frozenset({".csv"}),
    # the second is what Windows calls it where Excel is installed
    frozenset({"text/plain", "application/vnd.ms-excel", "application/csv"}),
)
PARTS = {"xl/workbook.xml": XLSX, "word/document.xml": DOCX}
"""The part by which a package of Office says what it is."""


@dataclass(frozen=True)
class Acceptance:
    """What a purpose accepts, and up to how many bytes."""

    types: tuple[FileType, ...]
    max_bytes: int


ACCEPTED = {
    FilePurpose.SPREADSHEET: Acceptance((XLSX, CSV), 20 << 20),
    FilePurpose.IMAGE: Acceptance((PNG, JPEG, GIF, WEBP), 10 << 20),
    FilePurpose.DOCUMENT: Acceptance((PDF, DOCX), 20 << 20),
}
KNOWN_TYPES = frozenset(one.content_type for acceptance in ACCEPTED.values() for one in acceptance.types)
"""What a download may call itself; everything else leaves as bytes."""


def name_of(given: str | None) -> str:
    """What a file is called, without folders and what cannot be printed; REQUIRED where nothing is left."""
    name = PurePath((given or "").replace("\\", "/")).name
    name = "".join(letter for letter in name if letter.isprintable()).strip()
    if not name.strip("."):
        raise Refusal("REQUIRED", FIELD)
    suffix = PurePath(name).suffix[:LONGEST_SUFFIX]
    return name if len(name) <= MAX_NAME else name[: MAX_NAME - len(suffix)] + suffix


def judged(path: Path, purpose: FilePurpose, name: str, declared: str | None) -> FileType:
    """The type of an upload for a purpose.

    FILE_TYPE_NOT_ALLOWED: the bytes are of no type that the purpose accepts. FILE_TYPE_DIFFERS: the name or the
    declared type says something else than the bytes. FILE_AMBIGUOUS: it could be read as something else as well.
    """
    accepted = ACCEPTED[purpose].types
    found = _type_of(path)
    if found not in accepted:
        allowed = ", ".join(sorted(suffix for one in accepted for suffix in one.suffixes))
        raise Refusal("FILE_TYPE_NOT_ALLOWED", FIELD, allowed=allowed)
    said = (declared or "").partition(";")[0].strip().lower()
    if PurePath(name).suffix.lower() not in found.suffixes or said not in {
        found.content_type,
        *found.also_declared,
        *NOT_SAID,
    }:
        raise Refusal("FILE_TYPE_DIFFERS", FIELD)
    if _ambiguous(path, found):
        raise Refusal("FILE_AMBIGUOUS", FIELD)
    return found


def _type_of(path: Path) -> FileType | None:
    """By the first bytes; packages of Office by their directory, text by all of it."""
    found = filetype.guess_mime(str(path))
    if found is None:
        return CSV if _is_text(path) else None
    if found in _ZIPPED:
        return _package(path)
    return next((one for one in (PNG, JPEG, GIF, WEBP, PDF) if one.content_type == found), None)


def _package(path: Path) -> FileType | None:
    try:
        with ArchiveFile(path) as file, ZipFile(file) as archive:
            entries = archive.infolist()
    except SpreadsheetError as error:
        raise Refusal(error.code, FIELD) from None
    except (BadZipFile, NotImplementedError, OSError, ValueError):
        raise Refusal("BROKEN_FILE", FIELD) from None
    if sum(entry.file_size for entry in entries) > MAX_UNPACKED_BYTES:
        raise Refusal("ZIP_BOMB", FIELD)
    names = {entry.filename for entry in entries}
    if any(name.endswith(MACROS) for name in names):
        return None
    found = [kind for part, kind in PARTS.items() if part in names]
    return found[0] if len(found) == 1 else None


def _is_text(path: Path) -> bool:
    """Whether it is text that no program takes for a document: in UTF-8, or in GB 18030 as older Excel writes it."""
    content = path.read_bytes()
    for encoding in ("utf-8-sig", "gb18030"):
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        return not _CONTROL.search(text) and not text.lstrip().startswith("<")
    return False


def _ambiguous(path: Path, found: FileType) -> bool:
    if found is CSV:
        return False
    content = path.read_bytes()
    head = content[:HEAD_BYTES]
    if found in (XLSX, DOCX):
        return b"%PDF-" in head or _MARKUP.search(head) is not None
    if is_zipfile(path):
        return True
    if found is PDF:
        return _MARKUP.search(head) is not None
    return b"%PDF-" in content or _MARKUP.search(content) is not None
