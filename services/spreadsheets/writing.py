"""Spreadsheets to hand back to the operator: refused rows, ready to be corrected and imported again, and lists."""

import csv
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal

import xlsxwriter

from services.spreadsheets.delimited import DANGEROUS

Format = Literal["xlsx", "csv"]
Cell = str | int | float | None
WriteRow = Callable[[Sequence[Cell]], None]

CONTENT_TYPES: Final[dict[Format, str]] = {
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "csv": "text/csv; charset=utf-8",
}
# What a sheet of an xlsx workbook holds, headings included.
SHEET_ROWS: Final = 1_048_576
# Excel shows such a number in scientific notation when it opens a csv file, and saves what it shows.
LONG_NUMBER: Final = re.compile(r"[0-9]{12,}|0[0-9]+")
# XML cannot hold these two, and xlsxwriter lets them through.
NOT_IN_XML: Final = {0xFFFE: "\ufffd", 0xFFFF: "\ufffd"}


def write_rows(path: Path, format: Format, headings: Sequence[str], rows: Iterable[Sequence[str | None]]) -> None:
    """Write text cells, headings in row 1; memory does not grow with the rows. `read` gives the same values back."""
    with row_writer(path, format, headings) as write:
        for row in rows:
            write(row)


@contextmanager
def row_writer(
    path: Path, format: Format, headings: Sequence[str], *, sheet_rows: int = SHEET_ROWS
) -> Iterator[WriteRow]:
    """Gives what writes a row, below the headings. Texts stay texts, and no cell can be run as a formula.

    A workbook goes on in another sheet, under the same headings, where one is full. Its parts are gathered beside
    it until it is closed. Raises ValueError for a text that no cell of a workbook holds.
    """
    if format == "xlsx":
        with xlsxwriter.Workbook(str(path), {"constant_memory": True, "tmpdir": str(path.parent)}) as workbook:
            yield _Sheets(workbook, headings, sheet_rows).write
    else:
        with path.open("w", encoding="utf-8-sig", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow([_harmless(heading) for heading in headings])
            yield lambda row: writer.writerow([_harmless(cell) for cell in row])


class _Sheets:
    """The sheets of a workbook, one after the other."""

    def __init__(self, workbook: xlsxwriter.Workbook, headings: Sequence[str], sheet_rows: int) -> None:
        self._workbook = workbook
        self._headings = headings
        self._sheet_rows = sheet_rows
        self._text = workbook.add_format({"num_format": "@"})
        self._general = workbook.add_format({"num_format": "General"})
        self._begin()

    def _begin(self) -> None:
        self._sheet = self._workbook.add_worksheet()
        self._number = 0
        # Cells that are empty now must stay text when the operator fills them.
        self._sheet.set_column(0, max(len(self._headings) - 1, 0), 22, self._text)
        self._sheet.freeze_panes(1, 0)
        self.write(self._headings)

    def write(self, row: Sequence[Cell]) -> None:
        if self._number == self._sheet_rows:
            self._begin()
        for place, value in enumerate(row):
            if isinstance(value, str):
                text = value.translate(NOT_IN_XML)
                if value and self._sheet.write_string(self._number, place, text, self._text) != 0:
                    raise ValueError(f"row {self._number + 1}, column {place + 1} does not fit into an xlsx sheet")
            elif value is not None:
                self._sheet.write_number(self._number, place, value, self._general)
        self._number += 1


def _harmless(value: Cell) -> Cell:
    if not isinstance(value, str):
        return value
    if DANGEROUS.match(value):
        return f"'{value}"
    # A tab behind the digits makes Excel take them as text; `read` trims it.
    return f"{value}\t" if LONG_NUMBER.fullmatch(value) else value
