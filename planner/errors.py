"""What a request can be refused for. Codes are the graph's own, in ``extensions.code``.

What is said of a refusal is named by a code too, with its parameters, and put into the caller's language where the
answer is written. A text that is no such code, such as graphql-core's, is said as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

Say = Callable[[str, Mapping[str, Any]], str]
"""Gives the text for a code and its parameters in the caller's language."""


class GraphRefusal(Exception):
    """The operation is refused as a whole: nothing has run."""

    def __init__(
        self,
        code: str,
        text: str,
        *,
        path: Sequence[str | int] | None = None,
        locations: Sequence[Mapping[str, int]] | None = None,
        extensions: Mapping[str, Any] | None = None,
        **params: Any,
    ) -> None:
        super().__init__(f"{text} {params}" if params else text)
        self.code = code
        self.text = text
        self.params = params
        self.path = list(path) if path else None
        self.locations = locations
        self.extensions = extensions or {}

    def formatted(self, say: Say) -> dict[str, Any]:
        error: dict[str, Any] = {"message": say(self.text, self.params)}
        if self.locations:
            error["locations"] = self.locations
        if self.path:
            error["path"] = self.path
        error["extensions"] = {"code": self.code, **self.extensions}
        return error


class GraphRefusals(Exception):
    """Several refusals of one operation, told at once."""

    def __init__(self, refusals: Sequence[GraphRefusal]) -> None:
        super().__init__("; ".join(str(r) for r in refusals))
        self.refusals = list(refusals)


def bad_input(text: str, *, path: Sequence[str | int] | None = None, **params: Any) -> GraphRefusal:
    return GraphRefusal("BAD_USER_INPUT", text, path=path, **params)


class FieldFailure(Exception):
    """What a live field gives, or raises, where it has no answer; it becomes null, with an error at its path."""

    def __init__(self, code: str, text: str, **params: Any) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.params = params
