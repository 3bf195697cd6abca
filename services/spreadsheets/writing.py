"""Spreadsheets to hand back to the operator: refused rows, ready to be corrected and imported again."""

import csv
import re
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Final, Literal

import xlsxwriter

from services.spreadsheets.delimited import DANGEROUS

# Excel shows such a number in scientific notation when it opens a csv file, and saves what it shows.
LONG_NUMBER: Final = re.compile(r"[0-9]{12,}|0[0-9]+")
# XML cannot hold these two, and xlsxwriter lets them through.
NOT_IN_XML: Final = {0xFFFE: "\ufffd", 0xFFFF: "\ufffd"}


def write_rows(
    path: Path,
    format: Literal["xlsx", "csv"],
    headings: Sequence[str],
    rows: Iterable[Sequence[str | None]],
) -> None:
    """Write one sheet of text cells, headings in row 1; memory does not grow with the rows.

    No cell can be run as a formula. `read` gives the same values back.
    """
    if format == "xlsx":
        _write_workbook(path, headings, rows)
    else:
        _write_delimited(path, headings, rows)


def _write_workbook(path: Path, headings: Sequence[str], rows: Iterable[Sequence[str | None]]) -> None:
    with xlsxwriter.Workbook(str(path), {"constant_memory": True}) as workbook:
        text = workbook.add_format({"num_format": "@"})
        sheet = workbook.add_worksheet()
        # Cells that are empty now must stay text when the operator fills them.
        sheet.set_column(0, max(len(headings) - 1, 0), 22, text)
        sheet.freeze_panes(1, 0)
        for number, row in enumerate(chain([headings], rows)):
            for place, value in enumerate(row):
                if value and sheet.write_string(number, place, value.translate(NOT_IN_XML), text) != 0:
                    raise ValueError(f"row {number + 1}, column {place + 1} does not fit into an xlsx sheet")


def _write_delimited(path: Path, headings: Sequence[str], rows: Iterable[Sequence[str | None]]) -> None:
    with path.open("w", encoding="utf-8-sig", newline="") as stream:
        writer = csv.writer(stream)
        for row in chain([headings], rows):
            writer.writerow([_harmless(value or "") for value in row])


def _harmless(value: str) -> str:
    if DANGEROUS.match(value):
        return f"'{value}"
    # A tab behind the digits makes Excel take them as text; `read` trims it.
    return f"{value}\t" if LONG_NUMBER.fullmatch(value) else value
