"""Global ids: a readable prefix and the key, scrambled so that nobody builds on its order.

The scrambling is an affine permutation of 64-bit integers. It hides nothing that must be hidden: what a caller
may reach is decided by scope, whatever id is asked for.
"""

from __future__ import annotations

MASK = (1 << 64) - 1
FACTOR = 0x9E3779B97F4A7C15
OFFSET = 0x7465726C6C6973AA
_INVERSE = pow(FACTOR, -1, 1 << 64)
DIGITS = 16


def scramble(key: int) -> str:
    """A key as sixteen hexadecimal digits."""
    return f"{(key * FACTOR + OFFSET) & MASK:016x}"


def scramble_source(prefix: str, key: str) -> str:
    """The Python source of ``prefix`` and a scrambled key, written out since a page does nothing more often."""
    return f'f"{prefix}{{({key}*{FACTOR}+{OFFSET})&{MASK}:016x}}"'


def unscramble(digits: str) -> int | None:
    """The key behind sixteen digits; None when they are none of ours."""
    if len(digits) != DIGITS:
        return None
    try:
        scrambled = int(digits, 16)
    except ValueError:
        return None
    key = ((scrambled - OFFSET) * _INVERSE) & MASK
    # written in one way only: without capitals, signs and underscores
    return key if 0 < key < 1 << 63 and f"{scrambled:016x}" == digits else None


def encode_id(prefix: str, key: int) -> str:
    return f"{prefix}_{scramble(key)}"


def decode_id(text: str) -> tuple[str, int] | None:
    """(prefix, key), or None when the text is no id of ours."""
    prefix, _, digits = text.rpartition("_")
    key = unscramble(digits)
    return None if key is None or not prefix else (prefix, key)
