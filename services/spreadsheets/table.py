"""What an import asks of a spreadsheet and what it gets: columns, limits, rows."""

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final, NamedTuple

from services.spreadsheets.errors import SpreadsheetError

# All white space of Unicode, and the characters that look like nothing at all.
WHITE_SPACE: Final = (
    "\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009"
    "\u200a\u2028\u2029\u202f\u205f\u3000\u180e\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"
)
WITHOUT_WHITE_SPACE: Final = {ord(character): None for character in WHITE_SPACE}


@dataclass(frozen=True, slots=True)
class Column:
    """A column that an import knows, found by any of its `headings`.

    Headings are compared trimmed, without regard to case or full width. `compact` columns hold identifiers
    (ICCID, IMSI, numbers): white space inside them means nothing and is taken out too.
    """

    name: str
    headings: tuple[str, ...]
    required: bool = False
    compact: bool = False


@dataclass(slots=True)
class Row:
    """One row that is not wholly empty."""

    number: int
    """The row number that the operator sees in the spreadsheet; the headings stand in row 1."""
    values: dict[str, str | None]
    """Text by column name, trimmed; None where the cell is empty or the file has no such column."""
    numeric: frozenset[str]
    """Columns stored as a number, not as text: an identifier of more than 15 digits is damaged by that."""
    formulas: frozenset[str]
    """Columns that hold a formula; their value is None, since what was shown cannot be trusted."""
    trimmed: bool
    """Whether any value lost white space."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a file may cost.

    `max_rows` is the last row number allowed, headings included; `max_ratio` is unpacked bytes per byte of
    the file.
    """

    max_rows: int = 1_048_576
    max_bytes: int = 200 * 1024**2
    max_unpacked_bytes: int = 2 * 1024**3
    max_ratio: int = 200
    max_cell_characters: int = 32_767
    max_columns: int = 256


class RawRow(NamedTuple):
    """A row as its format stores it; cells are keyed by their column's place, from 0."""

    number: int
    texts: Mapping[int, str]
    numeric: AbstractSet[int]
    formulas: AbstractSet[int]


def normalised(heading: str) -> str:
    return unicodedata.normalize("NFKC", heading).strip(WHITE_SPACE).casefold()


def recognised(cells: Mapping[int, str], columns: Sequence[Column]) -> list[tuple[int, Column]]:
    """The known columns among the cells of a heading row, with their places."""
    by_heading = {normalised(heading): column for column in columns for heading in column.headings}
    return [(place, by_heading[key]) for place, text in cells.items() if (key := normalised(text)) in by_heading]


def locate(header: RawRow | None, columns: Sequence[Column]) -> list[tuple[int, Column]]:
    """Where the columns stand. Raises EMPTY_FILE, MISSING_COLUMNS, DUPLICATE_COLUMNS."""
    if header is None:
        raise SpreadsheetError("EMPTY_FILE")
    found = recognised(header.texts, columns) if header.number == 1 else []
    present = [column.name for _, column in found]
    missing = [column for column in columns if column.required and column.name not in present]
    if not found:
        missing = missing or list(columns)
    if missing:
        raise SpreadsheetError("MISSING_COLUMNS", columns=tuple(column.headings[0] for column in missing))
    repeated = [column for column in columns if present.count(column.name) > 1]
    if repeated:
        raise SpreadsheetError("DUPLICATE_COLUMNS", columns=tuple(column.headings[0] for column in repeated))
    return found


def is_empty(row: RawRow) -> bool:
    return not row.formulas and not any(text.strip(WHITE_SPACE) for text in row.texts.values())


def filled(rows: Iterator[RawRow], limits: Limits) -> Iterator[RawRow]:
    """The rows that are not wholly empty. Raises TOO_MANY_ROWS, by the empty ones too."""
    for row in rows:
        if row.number > limits.max_rows:
            raise SpreadsheetError("TOO_MANY_ROWS", limit=limits.max_rows)
        if not is_empty(row):
            yield row


def shaped(rows: Iterator[RawRow], found: Sequence[tuple[int, Column]], columns: Sequence[Column]) -> Iterator[Row]:
    """Rows in the import's own terms."""
    absent: dict[str, str | None] = dict.fromkeys(column.name for column in columns)
    wanted = [(place, column.name, column.compact) for place, column in found]
    nothing: frozenset[str] = frozenset()
    for number, texts, numeric, formulas in rows:
        values = absent.copy()
        trimmed = False
        for place, name, compact in wanted:
            text = texts.get(place)
            if not text:
                continue
            value = text.strip(WHITE_SPACE)
            if compact and not value.isalnum():
                value = value.translate(WITHOUT_WHITE_SPACE)
            if value:
                values[name] = value
                trimmed = trimmed or len(value) != len(text)
        yield Row(
            number,
            values,
            frozenset(name for place, name, _ in wanted if place in numeric) if numeric else nothing,
            frozenset(name for place, name, _ in wanted if place in formulas) if formulas else nothing,
            trimmed,
        )
