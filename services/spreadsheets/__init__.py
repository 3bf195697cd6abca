"""Spreadsheets that operators upload and get back: xlsx and csv, read as streams in bounded memory.

An upload is somebody else's file. What cannot be read with certainty is refused with a `SpreadsheetError`,
before the first row wherever that can be known, and no file can make the reader take more than its limits.
"""

import csv
import os
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from xml.parsers.expat import ExpatError
from zipfile import BadZipFile

from services.spreadsheets.delimited import read_delimited
from services.spreadsheets.errors import ErrorCode, SpreadsheetError
from services.spreadsheets.table import Column, Limits, RawRow, Row, filled, locate, shaped
from services.spreadsheets.workbook import read_workbook
from services.spreadsheets.writing import CONTENT_TYPES, Format, row_writer, write_rows

__all__ = [
    "CONTENT_TYPES",
    "Column",
    "ErrorCode",
    "Format",
    "Limits",
    "Row",
    "SpreadsheetError",
    "read",
    "row_writer",
    "write_rows",
]

ZIP_MAGIC: Final = b"PK\x03\x04"
EMPTY_ZIP_MAGIC: Final = b"PK\x05\x06"
OLE_MAGIC: Final = bytes.fromhex("d0cf11e0a1b11ae1")
# The name of the stream that holds an encrypted xlsx inside an OLE container.
ENCRYPTED_STREAM: Final = "EncryptedPackage".encode("utf-16-le")
CHUNK_BYTES: Final = 1 << 20


def read(path: Path, filename: str, columns: Sequence[Column], limits: Limits | None = None) -> Iterator[Row]:
    """The rows of the first sheet; the file itself is judged at once, its rows as they are taken.

    Its content decides what it is; `filename` is what the operator calls it, for the error's params. Raises
    `SpreadsheetError`; later rows may still raise TOO_MANY_ROWS, TOO_WIDE, CELL_TOO_LONG or BROKEN_FILE.
    """
    limits = limits or Limits()
    with _refusing(filename):
        rows = filled(_raw_rows(path, columns, limits), limits)
        found = locate(next(rows, None), columns)
    return _guarded(shaped(rows, found, columns), filename)


def _guarded(rows: Iterator[Row], filename: str) -> Iterator[Row]:
    with _refusing(filename):
        yield from rows


@contextmanager
def _refusing(filename: str) -> Iterator[None]:
    """Whatever a library says about a damaged file becomes a refusal that names the file."""
    try:
        yield
    except SpreadsheetError as error:
        error.params["filename"] = filename
        raise
    except (BadZipFile, ExpatError, zlib.error, csv.Error, EOFError, UnicodeDecodeError) as error:
        raise SpreadsheetError("BROKEN_FILE", reason=str(error), filename=filename) from error


def _raw_rows(path: Path, columns: Sequence[Column], limits: Limits) -> Iterator[RawRow]:
    size = os.path.getsize(path)
    if size == 0:
        raise SpreadsheetError("EMPTY_FILE")
    if size > limits.max_bytes:
        raise SpreadsheetError("TOO_LARGE", bytes=size, limit=limits.max_bytes)
    with path.open("rb") as stream:
        magic = stream.read(8)
    if magic.startswith(OLE_MAGIC):
        raise SpreadsheetError("ENCRYPTED_WORKBOOK" if _contains(path, ENCRYPTED_STREAM) else "LEGACY_XLS")
    if magic.startswith((ZIP_MAGIC, EMPTY_ZIP_MAGIC)):
        return read_workbook(path, limits)
    return read_delimited(path, columns, limits)


def _contains(path: Path, wanted: bytes) -> bool:
    tail = b""
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            if wanted in tail + chunk:
                return True
            tail = chunk[-len(wanted) :]
    return False
