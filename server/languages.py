"""The language of an answer: what a request's Accept-Language asks for, of those that people are written to in.

Language ranges with their weights (RFC 9110, 12.5.4), matched by lookup (RFC 4647, 3.4): ``zh-Hant-HK`` falls back
to ``zh-Hant``, which is written as in Taiwan. Who asks for none, or for any, is answered in simplified Chinese; who
asks for others alone, in English.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from models.tenancy import Language

RANGES = {
    "zh": Language.ZH_CN,
    "zh-cn": Language.ZH_CN,
    "zh-hans": Language.ZH_CN,
    "zh-sg": Language.ZH_CN,
    "zh-my": Language.ZH_CN,
    "zh-tw": Language.ZH_TW,
    "zh-hant": Language.ZH_TW,
    "zh-hk": Language.ZH_TW,
    "zh-mo": Language.ZH_TW,
    "en": Language.EN,
}
ANY = "*"
BY_DEFAULT = (Language.ZH_CN, Language.EN, Language.ZH_TW)
"""What any language means, unless it is refused."""
_RANGE = re.compile(
    r"\s*([a-z]{1,8}(?:-[a-z0-9]{1,8})*|\*)\s*(?:;\s*q\s*=\s*(0(?:\.\d{0,3})?|1(?:\.0{0,3})?)\s*)?", re.IGNORECASE
)


def language_of(headers: Mapping[bytes, bytes]) -> str:
    """The BCP 47 tag of the language that a request's headers ask for."""
    return negotiated(headers.get(b"accept-language", b""))


@lru_cache(maxsize=1_024)
def negotiated(accepted: bytes) -> str:
    """The tag for an Accept-Language header; a part of it that is malformed says nothing."""
    parts = [_RANGE.fullmatch(part) for part in accepted.decode("latin-1").split(",")]
    asked = [(part[1].lower(), float(part[2] or 1)) for part in parts if part is not None]
    refused = {RANGES[tag] for tag, weight in asked if weight == 0 and tag in RANGES}
    for tag, _ in sorted((one for one in asked if one[1] > 0), key=lambda one: -one[1]):
        if tag == ANY:
            return str(next((each for each in BY_DEFAULT if each not in refused), Language.EN).value)
        found = _lookup(tag)
        if found is not None and found not in refused:
            return str(found.value)
    return str((Language.EN if any(weight > 0 for _, weight in asked) else Language.ZH_CN).value)


def _lookup(tag: str) -> Language | None:
    subtags = tag.split("-")
    while subtags:
        found = RANGES.get("-".join(subtags))
        if found is not None:
            return found
        subtags.pop()
        if subtags and len(subtags[-1]) == 1:
            subtags.pop()
    return None
