"""Messages to people, by code and language: a file for each language, all with the same codes and placeholders.

A code without a message is a bug that a test finds.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from models.tenancy import Language

MESSAGES: Mapping[str, Mapping[str, str]] = {
    language.value: tomllib.loads((Path(__file__).parent / f"{language.value}.toml").read_text("utf-8"))
    for language in Language
}
"""The texts of each language, named by its tag."""
CODES = frozenset(MESSAGES[Language.EN.value])


class _Blank(dict[str, Any]):
    def __missing__(self, key: str) -> str:
        return ""


def render(code: str, language: str, params: Mapping[str, Any]) -> str:
    """The message for a code in a language, which is one of those that people are written to in."""
    return MESSAGES[language][code].format_map(_Blank(params))


def saying(language: str) -> Callable[[str, Mapping[str, Any]], str]:
    """How refusals are said in a language; what is no message's code, as graphql-core's own texts, is said as it is."""
    return lambda text, params: render(text, language, params) if text in CODES else text
