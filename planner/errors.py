"""What a request can be refused for. Codes are the graph's own, in ``extensions.code``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class GraphRefusal(Exception):
    """The operation is refused as a whole: nothing has run."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        path: Sequence[str | int] | None = None,
        locations: Sequence[Mapping[str, int]] | None = None,
        **extensions: Any,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.path = list(path) if path else None
        self.locations = locations
        self.extensions = extensions

    def formatted(self) -> dict[str, Any]:
        error: dict[str, Any] = {"message": self.message}
        if self.locations:
            error["locations"] = self.locations
        if self.path:
            error["path"] = self.path
        error["extensions"] = {"code": self.code, **self.extensions}
        return error


class GraphRefusals(Exception):
    """Several refusals of one operation, told at once."""

    def __init__(self, refusals: Sequence[GraphRefusal]) -> None:
        super().__init__("; ".join(r.message for r in refusals))
        self.refusals = list(refusals)


def bad_input(message: str, **extensions: Any) -> GraphRefusal:
    return GraphRefusal("BAD_USER_INPUT", message, **extensions)


class FieldFailure(Exception):
    """What a live field gives, or raises, where it has no answer; it becomes null, with an error at its path."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
