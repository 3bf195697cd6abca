"""Global ids: a readable prefix and the key, scrambled so that nobody builds on its order.

The scrambling is an affine permutation of 64-bit integers. It hides nothing that must be hidden: what a caller
may reach is decided by scope, whatever id is asked for.
"""

from __future__ import annotations

MASK = (1 << 64) - 1
FACTOR = 0x9E3779B97F4A7C15
OFFSET = 0x7465726C6C6973AA
_INVERSE = pow(FACTOR, -1, 1 << 64)


def encode_id(prefix: str, key: int) -> str:
    return f"{prefix}_{(key * FACTOR + OFFSET) & MASK:016x}"


def decode_id(text: str) -> tuple[str, int] | None:
    """(prefix, key), or None when the text is no id of ours."""
    prefix, _, digits = text.rpartition("_")
    if not prefix or len(digits) != 16:
        return None
    try:
        scrambled = int(digits, 16)
    except ValueError:
        return None
    key = ((scrambled - OFFSET) * _INVERSE) & MASK
    if not 0 < key < 1 << 63 or encode_id(prefix, key) != text:
        return None
    return prefix, key
