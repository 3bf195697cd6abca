"""Placeholders: names in braces, in a text that people write and the platform fills in."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from services.refusal import Refusal

PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


def check(text: str, known: Collection[str], field: str) -> None:
    """UNKNOWN_PLACEHOLDER for the first that is not among those that can be filled in."""
    for name in PLACEHOLDER.findall(text):
        if name not in known:
            raise Refusal("UNKNOWN_PLACEHOLDER", field, value=name[:60], known=", ".join(sorted(known)))


def filled(text: str, values: Mapping[str, str]) -> str:
    """A text that was checked, with a value for each of its placeholders."""
    return PLACEHOLDER.sub(lambda found: values[found[1]], text)
