"""Rows of an xlsx workbook.

openpyxl opens the package (content types, sheets, styles, dates). The sheet itself is read by expat directly:
openpyxl keeps every row element and every shared text in memory, holds a cell whole however long it is, and
takes more than twice as long.
"""

import io
import re
import struct
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import IO, Final, NamedTuple
from xml.etree.ElementTree import ParseError
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile

from openpyxl.packaging.relationship import get_rels_path
from openpyxl.reader.excel import ExcelReader, _find_workbook_part
from openpyxl.styles.stylesheet import apply_stylesheet
from openpyxl.utils.datetime import from_excel
from openpyxl.xml.constants import (
    ARC_CONTENT_TYPES,
    ARC_STYLE,
    SHARED_STRINGS,
)

from services.spreadsheets.errors import SpreadsheetError
from services.spreadsheets.shared_strings import SharedStrings
from services.spreadsheets.table import Limits, RawRow
from services.spreadsheets.xml_stream import CHUNK_BYTES, XmlStream, broken, unescaped

# openpyxl reads these parts whole; honest ones are far smaller.
MAX_WHOLE_PART_BYTES: Final = 8 << 20
# The zip's directory and every packed part that is read whole come in one piece.
MAX_READ_BYTES: Final = 2 << 20
# Merged ranges stand behind the rows, and the operator should hear of them before the first row.
MERGED_RANGE: Final = re.compile(rb"<(?:[\w.-]+:)?mergeCell\s[^<>]{0,200}?ref\s*=\s*[\"']([A-Z0-9:$]{1,40})[\"']")
NUMBER: Final = re.compile(r"-?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")
FAULTS: Final = (
    AttributeError,
    IndexError,
    KeyError,
    NotImplementedError,
    OSError,
    OverflowError,
    ParseError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
)


class Dates(NamedTuple):
    """Which cell styles show a number as a date, and the workbook's day 0."""

    styles: set[int]
    durations: set[int]
    epoch: datetime


def read_workbook(path: Path, limits: Limits) -> Iterator[RawRow]:
    """The rows of the first visible sheet. The whole package is judged before the first one."""
    with ArchiveFile(path) as file:
        try:
            reader = ExcelReader(file, read_only=True, keep_links=False)
            _judge(reader.archive, path.stat().st_size, limits)
            sheet, dates = _open(reader)
        except BadZipFile as error:
            raise broken(str(error)) from error
        except FAULTS as error:
            raise broken(f"{type(error).__name__} in the package") from error
        _scan(reader.archive, sheet)
        strings = reader.package.find(SHARED_STRINGS)
        with SharedStrings(limits.max_cell_characters) as shared:
            if strings is not None:
                with _part(reader.archive, strings.PartName.lstrip("/")) as stream:
                    shared.load(stream)
            rows = _SheetRows(shared, dates, limits)
            with _part(reader.archive, sheet) as stream:
                for _ in rows.parse(stream):
                    yield from rows.taken()


class ArchiveFile(io.FileIO):
    """The upload, for zipfile: refuses to read a lying size in one piece."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > MAX_READ_BYTES:
            raise SpreadsheetError("ZIP_BOMB")
        return super().read(MAX_READ_BYTES if size is None or size < 0 else size) or b""


def _judge(archive: ZipFile, size: int, limits: Limits) -> None:
    """By what the zip's directory claims; zipfile never unpacks a part beyond its claim."""
    entries = archive.infolist()
    if any(entry.flag_bits & 1 for entry in entries):
        raise SpreadsheetError("ENCRYPTED_WORKBOOK")
    if any(entry.compress_type not in (ZIP_STORED, ZIP_DEFLATED) for entry in entries):
        raise broken("unknown compression")
    unpacked = sum(entry.file_size for entry in entries)
    if unpacked > min(limits.max_unpacked_bytes, limits.max_ratio * size):
        raise SpreadsheetError("ZIP_BOMB")


def _open(reader: ExcelReader) -> tuple[str, Dates]:
    """The part that holds the first visible sheet, and how the workbook writes dates."""
    names = set(reader.archive.namelist())
    if ARC_CONTENT_TYPES not in names:
        raise SpreadsheetError("NOT_A_SPREADSHEET")
    _refuse_large(reader.archive, ARC_CONTENT_TYPES)
    reader.read_manifest()
    try:
        workbook = _find_workbook_part(reader.package).PartName[1:]
    except OSError:
        raise SpreadsheetError("NOT_A_SPREADSHEET") from None
    for part in {workbook, get_rels_path(workbook), ARC_STYLE} & names:
        _refuse_large(reader.archive, part)
    reader.read_workbook()
    apply_stylesheet(reader.archive, reader.wb)
    dates = Dates(reader.wb._date_formats, reader.wb._timedelta_formats, reader.wb.epoch)
    for sheet, relationship in reader.parser.find_sheets():
        if relationship.Type.endswith("/worksheet") and sheet.state == "visible":
            return relationship.target, dates
    raise SpreadsheetError("NOT_A_SPREADSHEET")


def _refuse_large(archive: ZipFile, name: str) -> None:
    size = archive.getinfo(name).file_size
    if size > MAX_WHOLE_PART_BYTES:
        raise SpreadsheetError("TOO_LARGE", bytes=size, limit=MAX_WHOLE_PART_BYTES)


def _part(archive: ZipFile, name: str) -> IO[bytes]:
    try:
        return archive.open(name)
    except KeyError:
        raise broken(f"{name} is missing") from None
    except FAULTS as error:
        raise broken(f"{name} cannot be opened") from error


def _scan(archive: ZipFile, sheet: str) -> None:
    """Unpack the sheet once: damage (zipfile checks the sum) and merged cells are found before any row."""
    tail = b""
    with _part(archive, sheet) as stream:
        while chunk := stream.read(CHUNK_BYTES):
            window = tail + chunk
            if b"mergeCell" in window and (merged := MERGED_RANGE.search(window)):
                raise SpreadsheetError("MERGED_CELLS", range=merged[1].decode("ascii"))
            tail = window[-300:]


class _SheetRows(XmlStream):
    """Collects the rows of a worksheet part while it is parsed."""

    def __init__(self, shared: SharedStrings, dates: Dates, limits: Limits) -> None:
        super().__init__(limits.max_cell_characters)
        self._shared = shared
        self._dates = dates
        self._limits = limits
        self._places: dict[str, int] = {}
        self._rows: list[RawRow] = []
        self._number = 0
        self._in_row = False
        self._place = -1
        self._in_cell = False
        self._kind = "n"
        self._style = "0"
        self._formula = False

    def taken(self) -> list[RawRow]:
        """The rows completed since the last call."""
        rows, self._rows = self._rows, []
        return rows

    def begin(self, prefix: str) -> None:
        self._cell, self._row = f"{prefix}c", f"{prefix}row"
        self._value, self._text = f"{prefix}v", f"{prefix}t"
        self._formula_name, self._phonetic = f"{prefix}f", f"{prefix}rPh"

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if name == self._cell:
            if self._in_cell or not self._in_row:
                raise broken(f"a cell out of place near row {self._number}")
            self._in_cell = True
            reference = attributes.get("r")
            self._place = self._place + 1 if reference is None else self._place_of(reference)
            self._kind = attributes.get("t", "n")
            self._style = attributes.get("s", "0")
            self._formula = False
            self.clear()
        elif name == self._value or name == self._text:
            self.open_text(wanted=self._in_cell)
        elif name == self._row:
            self._start_row(attributes.get("r"))
        else:
            self._formula = self._formula or name == self._formula_name
            self.descend(phonetic=name == self._phonetic)

    def end(self, name: str) -> None:
        if name == self._cell:
            self._in_cell = False
            self._end_cell()
        elif name == self._value or name == self._text:
            self.close_text()
        elif name == self._row:
            self._in_row = False
            self._rows.append(RawRow(self._number, self._texts, self._numeric, self._formulas))
        else:
            self.ascend(phonetic=name == self._phonetic)

    def _start_row(self, reference: str | None) -> None:
        number = self._number + 1 if reference is None else int(reference)
        if self._in_row or number <= self._number:
            raise broken(f"row {number} after row {self._number}")
        self._in_row = True
        self._number = number
        self._place = -1
        self._texts: dict[int, str] = {}
        self._numeric: set[int] = set()
        self._formulas: set[int] = set()

    def _place_of(self, reference: str) -> int:
        letters = reference.rstrip("0123456789")
        place = self._places.get(letters)
        if place is None:
            if not (letters.isascii() and letters.isupper() and len(letters) <= 3):
                raise broken(f"cell {reference[:20]}")
            place = 0
            for letter in letters:
                place = place * 26 + ord(letter) - 64
            place -= 1
            self._places[letters] = place
        return place

    def _end_cell(self) -> None:
        text = self.text()
        if not (text or self._formula):
            return
        place = self._place
        if place >= self._limits.max_columns:
            raise SpreadsheetError("TOO_WIDE", row=self._number, limit=self._limits.max_columns)
        kind = self._kind
        if self._formula:
            self._formulas.add(place)
            return
        if kind == "n":
            self._numeric.add(place)
            text = self._number_or_date(text)
        elif kind == "s":
            text = self._shared[int(text)]
        elif kind == "b":
            text = "TRUE" if text == "1" else "FALSE"
        elif "_x" in text:
            text = unescaped(text)
        if len(text) > self._limits.max_cell_characters:
            raise SpreadsheetError("CELL_TOO_LONG", row=self._number, limit=self._limits.max_cell_characters)
        self._texts[place] = text

    def _number_or_date(self, text: str) -> str:
        if not NUMBER.fullmatch(text):
            raise broken(f"row {self._number} has a number that is none")
        style = int(self._style)
        if style in self._dates.styles:
            try:
                moment = from_excel(float(text), self._dates.epoch, style in self._dates.durations)
            except (ValueError, OverflowError):
                return plain(text)
            return str(moment).removesuffix(" 00:00:00")
        return plain(text)


def plain(number: str) -> str:
    """As Excel shows it: no exponent, no ".0", 15 digits where it is not whole."""
    if number.isdigit():
        return number
    exact = Decimal(number)
    if exact != exact.to_integral_value():
        exact = Decimal(f"{exact:.15g}")
    shown = f"{exact:f}"
    return shown.rstrip("0").rstrip(".") if "." in shown else shown
