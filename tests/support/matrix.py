"""Who may do what, as text: a row for each coordinate, a column for each holder, a letter for each scope."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from authz.coordinates import Coordinate
from authz.grants import Grants
from authz.scopes import Scope

LETTERS = {
    Scope.ALL: "A",
    Scope.SUBTREE: "B",
    Scope.TENANT: "T",
    Scope.ANCESTORS: "P",
    Scope.SELF: "o",
    Scope.DEPARTMENT_TREE: "D",
    Scope.DEPARTMENT: "d",
}


def printed(head: str, coordinates: Iterable[Coordinate], held: Mapping[str, Grants]) -> str:
    """The matrix of holders by what stands above their columns."""
    rows = []
    for coordinate in coordinates:
        cells = []
        for grants in held.values():
            reach = grants.reach_of(coordinate.type, coordinate.field, coordinate.act) or frozenset()
            cells.append("".join(letter for scope, letter in LETTERS.items() if scope in reach) or ".")
        rows.append((coordinate.name + "!" * coordinate.confidential, cells))
    width = max(len(name) for name, _ in rows)
    lines = [head, " " * width + "  " + " ".join(held)]
    for name, cells in rows:
        aligned = " ".join(cell.ljust(len(title)) for cell, title in zip(cells, held, strict=True))
        lines.append(f"{name.ljust(width)}  {aligned}".rstrip())
    return "\n".join(lines) + "\n"
