"""Rows of a csv file, whichever program and locale wrote it."""

import codecs
import csv
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from services.spreadsheets.errors import SpreadsheetError
from services.spreadsheets.table import WHITE_SPACE, Column, Limits, RawRow, recognised

CHUNK_BYTES: Final = 1 << 20
# A line is held in memory whole; this is a hundred times what an honest one needs.
MAX_LINE_CHARACTERS: Final = 1 << 20
DELIMITERS: Final = (",", ";", "\t")
# Excel's own way of writing a number that no longer fits its cell: 8.98603E+19.
SCIENTIFIC: Final = re.compile(r"\s*-?[0-9](\.[0-9]+)?E\+[0-9]{2,3}\s*", re.IGNORECASE)
# ="8986…" keeps a long number text in Excel.
QUOTED_FORMULA: Final = re.compile(r'\s*="((?:[^"]|"")*)"\s*')
# Excel would run what follows the apostrophe; `write_rows` puts it there.
DANGEROUS: Final = re.compile(r"'*[=+\-@\t\r\n＝＋－＠]")


def read_delimited(path: Path, columns: Sequence[Column], limits: Limits) -> Iterator[RawRow]:
    """Every record, numbered as a spreadsheet program numbers it on opening the file."""
    encoding = _encoding(path)
    with path.open("r", encoding=encoding, newline="") as stream:
        delimiter = max(DELIMITERS, key=lambda tried: _headings_found(stream, tried, columns, limits))
        stream.seek(0)
        for number, record in _records(stream, delimiter, limits):
            yield _raw_row(number, record)


def _encoding(path: Path) -> str:
    """The encoding in which the whole file can be read. Raises NOT_A_SPREADSHEET, UNKNOWN_ENCODING."""
    with path.open("rb") as stream:
        start = stream.read(4)
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        candidates: tuple[str, ...] = ("utf-16",)
    elif start.startswith(codecs.BOM_UTF8):
        candidates = ("utf-8-sig",)
    else:
        candidates = ("utf-8", "gb18030")
    for encoding in candidates:
        if _decodes(path, encoding):
            return encoding
    raise SpreadsheetError("UNKNOWN_ENCODING")


def _decodes(path: Path, encoding: str) -> bool:
    decoder = codecs.getincrementaldecoder(encoding)()
    with path.open("rb") as stream:
        try:
            while chunk := stream.read(CHUNK_BYTES):
                if "\0" in decoder.decode(chunk):
                    raise SpreadsheetError("NOT_A_SPREADSHEET")
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return False
    return True


def _headings_found(stream: io.TextIOBase, delimiter: str, columns: Sequence[Column], limits: Limits) -> int:
    stream.seek(0)
    try:
        _, record = next(_records(stream, delimiter, limits), (1, []))
    except SpreadsheetError:
        return 0
    if record and record[0].lstrip(WHITE_SPACE).startswith("<"):
        # A web page or old XML table under the name of a spreadsheet.
        raise SpreadsheetError("NOT_A_SPREADSHEET")
    return len(recognised(_raw_row(1, record).texts, columns))


def _records(stream: io.TextIOBase, delimiter: str, limits: Limits) -> Iterator[tuple[int, list[str]]]:
    number = 0
    # A quote that is never closed would swallow all rows behind it without a word: strict refuses it.
    records = csv.reader(_lines(stream), delimiter=delimiter, strict=True)
    while True:
        number += 1
        try:
            record = next(records, None)
        except csv.Error as error:
            if "field limit" in str(error):
                raise _too_long(number, limits) from None
            raise SpreadsheetError("BROKEN_FILE", reason=f"row {number}: {error}") from error
        except _LineTooLongError:
            raise _too_long(number, limits) from None
        if record is None:
            return
        if len(record) > limits.max_columns and any(map(str.strip, record[limits.max_columns :])):
            raise SpreadsheetError("TOO_WIDE", row=number, limit=limits.max_columns)
        if any(len(cell) > limits.max_cell_characters for cell in record):
            raise _too_long(number, limits)
        yield number, record[: limits.max_columns]


def _too_long(number: int, limits: Limits) -> SpreadsheetError:
    return SpreadsheetError("CELL_TOO_LONG", row=number, limit=limits.max_cell_characters)


class _LineTooLongError(Exception):
    pass


def _lines(stream: io.TextIOBase) -> Iterator[str]:
    while line := stream.readline(MAX_LINE_CHARACTERS):
        if len(line) == MAX_LINE_CHARACTERS:
            raise _LineTooLongError
        yield line


def _raw_row(number: int, record: list[str]) -> RawRow:
    texts = dict(enumerate(record))
    numeric: set[int] = set()
    formulas: set[int] = set()
    for place, cell in enumerate(record):
        if not cell or cell.isalnum():
            continue
        if SCIENTIFIC.fullmatch(cell):
            numeric.add(place)
        elif quoted := QUOTED_FORMULA.fullmatch(cell):
            texts[place] = quoted[1].replace('""', '"')
        elif cell.startswith("="):
            formulas.add(place)
            del texts[place]
        elif cell.startswith("'") and DANGEROUS.match(cell):
            texts[place] = cell[1:]
    return RawRow(number, texts, numeric, formulas)
