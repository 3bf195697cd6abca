"""How a service says no: a code, the field at fault, and a message in the caller's language."""

from __future__ import annotations

from typing import Any

from services.messages import render


class Refusal(Exception):
    """A business rule forbids what was asked. The transaction is rolled back; nothing has changed."""

    def __init__(self, code: str, field: str | None = None, **params: Any) -> None:
        super().__init__(render(code, "en", params))
        self.code = code
        self.field = field
        self.params = params

    def message(self, language: str) -> str:
        return render(self.code, language, self.params)


def not_found(field: str) -> Refusal:
    """Out of scope and not existing look the same."""
    return Refusal("NOT_FOUND", field)
