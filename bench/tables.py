"""Tables for people."""

from __future__ import annotations

from collections.abc import Sequence


def show(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a table: text to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(heading, *rows, strict=True)]
    print()
    for row in (heading, ["-" * width for width in widths], *rows):
        cells = (
            cell.rjust(width) if _is_number(cell) or (row is heading and n > 1) else cell.ljust(width)
            for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        print("  ".join(cells).rstrip())
    print(flush=True)


def _is_number(cell: str) -> bool:
    return cell[:1].isdigit()
