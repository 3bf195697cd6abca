"""Why an uploaded spreadsheet is refused as a whole."""

from typing import Final, Literal

ErrorCode = Literal[
    "EMPTY_FILE",
    "NOT_A_SPREADSHEET",
    "LEGACY_XLS",
    "ENCRYPTED_WORKBOOK",
    "TOO_LARGE",
    "ZIP_BOMB",
    "MISSING_COLUMNS",
    "DUPLICATE_COLUMNS",
    "MERGED_CELLS",
    "TOO_MANY_ROWS",
    "TOO_WIDE",
    "CELL_TOO_LONG",
    "UNKNOWN_ENCODING",
    "BROKEN_FILE",
]

ENGLISH: Final[dict[ErrorCode, str]] = {
    "EMPTY_FILE": "The file is empty.",
    "NOT_A_SPREADSHEET": "The file is neither an xlsx workbook nor a csv table.",
    "LEGACY_XLS": "The file is an old xls workbook; save it as xlsx.",
    "ENCRYPTED_WORKBOOK": "The workbook is protected by a password; save it without one.",
    "TOO_LARGE": "The file or a part of it has {bytes} bytes; {limit} are allowed.",
    "ZIP_BOMB": "The workbook unpacks to far more than an honest one does.",
    "MISSING_COLUMNS": "Row 1 lacks these headings: {columns}.",
    "DUPLICATE_COLUMNS": "Row 1 has these headings more than once: {columns}.",
    "MERGED_CELLS": "The sheet has merged cells ({range}); unmerge them.",
    "TOO_MANY_ROWS": "The sheet goes beyond row {limit}.",
    "TOO_WIDE": "Row {row} goes beyond column {limit}.",
    "CELL_TOO_LONG": "Row {row} has a cell of more than {limit} characters.",
    "UNKNOWN_ENCODING": "The text is neither UTF-8, GB 18030 nor UTF-16; save it as UTF-8.",
    "BROKEN_FILE": "The file is damaged: {reason}.",
}


class SpreadsheetError(Exception):
    """The file cannot be imported: `code` says why, `params` says where.

    Callers word the message for the operator by `code`; the English text is for logs.
    """

    def __init__(self, code: ErrorCode, **params: object) -> None:
        super().__init__(code)
        self.code: ErrorCode = code
        self.params: dict[str, object] = params

    def __str__(self) -> str:
        shown = {
            name: ", ".join(map(str, value)) if isinstance(value, tuple) else value
            for name, value in self.params.items()
        }
        return ENGLISH[self.code].format_map(shown)
