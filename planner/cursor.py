"""Cursors: the key and the sort values of a row, under the name of their order.

A cursor of one order is refused by another, since its position would mean nothing there. Its parts are eight digits
for the order, sixteen for the key, and, where the order has other fields, a dot and their values in base64.
"""

from __future__ import annotations

import zlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections.abc import Sequence

import orjson

from planner.errors import bad_input
from planner.ids import DIGITS, scramble, unscramble

TAG = 8


def order_tag(type_name: str, keys: Sequence[tuple[str, bool]]) -> str:
    """A short name for an order of a type: its sort fields and their directions."""
    text = type_name + "".join(f",{name}{'-' if descending else '+'}" for name, descending in keys)
    return f"{zlib.crc32(text.encode()):08x}"


def encode_cursor(tag: str, key: int, values: Sequence[str | None] = ()) -> str:
    place = tag + scramble(key)
    if not values:
        return place
    return f"{place}.{urlsafe_b64encode(orjson.dumps(values)).decode()}"


def decode_cursor(text: str, tag: str, values: int) -> tuple[int, list[str | None]]:
    """(key, sort values as text) of a cursor of this order; anything else is BAD_USER_INPUT."""
    place, dot, _ = text.partition(".")
    key = unscramble(place[TAG:])
    if key is None or len(place) != TAG + DIGITS:
        raise _malformed()
    found = sort_values(text)
    if place[:TAG] != tag or len(found) != values or bool(dot) != bool(values):
        raise bad_input("CURSOR_OF_ANOTHER")
    return key, found


def sort_values(text: str) -> list[str | None]:
    """The sort values in a cursor of any order."""
    _, _, values = text.partition(".")
    if not values:
        return []
    try:
        found = orjson.loads(urlsafe_b64decode(values.encode()))
    except (ValueError, Base64Error):
        raise _malformed() from None
    if not isinstance(found, list) or not all(value is None or isinstance(value, str) for value in found):
        raise _malformed()
    return found


def _malformed() -> Exception:
    return bad_input("CURSOR_MALFORMED")
