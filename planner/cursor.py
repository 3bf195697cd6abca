"""Cursors: the sort values and the key of a row, under the name of their order.

A cursor of one order is refused by another, since its position would mean nothing there.
"""

from __future__ import annotations

import zlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from binascii import b2a_base64
from collections.abc import Sequence

from planner.errors import bad_input

SEPARATOR = "\x1f"
NULL = "\x00"


def order_tag(type_name: str, keys: Sequence[tuple[str, bool]]) -> str:
    """A short name for an order of a type: its sort fields and their directions."""
    text = type_name + "".join(f",{name}{'-' if descending else '+'}" for name, descending in keys)
    return f"{zlib.crc32(text.encode()):08x}"


def encode_cursor(tag: str, key: int, values: Sequence[str | None] = ()) -> str:
    if not values:
        # what every edge of a page has; in base64, text of these characters has no letter that a URL minds
        return b2a_base64(f"{tag}{SEPARATOR}{key:x}".encode(), newline=False).decode()
    parts = [tag, f"{key:x}", *(NULL if v is None else v for v in values)]
    return urlsafe_b64encode(SEPARATOR.join(parts).encode()).decode()


def decode_cursor(text: str, tag: str, values: int) -> tuple[int, list[str | None]]:
    """(key, sort values as text) of a cursor of this order; anything else is BAD_USER_INPUT."""
    try:
        found, key, *rest = urlsafe_b64decode(text.encode()).decode().split(SEPARATOR)
        number = int(key, 16)
    except (ValueError, Base64Error):
        raise bad_input("The cursor is malformed.") from None
    if found != tag or len(rest) != values:
        raise bad_input("The cursor belongs to another list or another order.")
    if not 0 < number < 1 << 63:
        raise bad_input("The cursor is malformed.")
    return number, [None if v == NULL else v for v in rest]
