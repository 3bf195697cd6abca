"""ICCIDs: their form, their check digit, and the carrier that their prefix names."""

from __future__ import annotations

from collections.abc import Iterator

from stdnum import luhn

from models.catalog import Carrier
from services.refusal import Refusal

PREFIXES: dict[str, Carrier] = {
    **dict.fromkeys(("898600", "898602", "898604", "898607", "898608", "898613"), Carrier.CMCC),
    **dict.fromkeys(("898601", "898606", "898609"), Carrier.CUCC),
    **dict.fromkeys(("898603", "898611", "898612"), Carrier.CTCC),
}
MAX_RANGE = 100_000


def fault(iccid: str) -> str | None:
    """The code of what is wrong with an ICCID, or None: 19 or 20 digits, a Luhn check digit at the end, a known
    carrier's prefix."""
    if not iccid.isascii() or not iccid.isdigit():
        return "NOT_DIGITS"
    if not 19 <= len(iccid) <= 20:
        return "TOO_SHORT"
    if not luhn.is_valid(iccid):
        return "CHECK_DIGIT"
    if iccid[:6] not in PREFIXES:
        return "UNKNOWN_PREFIX"
    return None


def checked(iccid: str, field: str) -> tuple[str, Carrier]:
    """An ICCID without white space, and its carrier; refused with what is wrong with it."""
    found = "".join(iccid.split())
    if not found:
        raise Refusal("ICCID_MISSING", field)
    wrong = fault(found)
    if wrong is not None:
        raise Refusal(wrong, field)
    return found, PREFIXES[found[:6]]


def between(first: str, last: str, *, with_check_digit: bool) -> Iterator[str]:
    """All ICCIDs from the first to the last. With check digits, the digits before them count up and each number
    gets its own; without, the whole number counts up."""
    body = slice(None, -1) if with_check_digit else slice(None)
    low, high = int(first[body]), int(last[body])
    for number in range(low, high + 1):
        digits = str(number).zfill(len(first[body]))
        yield digits + luhn.calc_check_digit(digits) if with_check_digit else digits


def check_range(first: str, last: str, *, with_check_digit: bool) -> tuple[str, str, Carrier, int]:
    """Both ends of a range, its carrier and its size. RANGE_PREFIX, RANGE_ORDER, TOO_MANY, or what is wrong with
    an end."""
    if with_check_digit:
        first, carrier = checked(first, "firstIccid")
        last, _ = checked(last, "lastIccid")
    else:
        first, last = "".join(first.split()), "".join(last.split())
        for field, number in (("firstIccid", first), ("lastIccid", last)):
            if not number.isascii() or not number.isdigit():
                raise Refusal("NOT_DIGITS", field)
            if not 19 <= len(number) <= 20:
                raise Refusal("TOO_SHORT", field)
        found = PREFIXES.get(first[:6])
        if found is None:
            raise Refusal("UNKNOWN_PREFIX", "firstIccid")
        carrier = found
    if len(first) != len(last) or first[:6] != last[:6]:
        raise Refusal("RANGE_PREFIX", "lastIccid")
    body = slice(None, -1) if with_check_digit else slice(None)
    size = int(last[body]) - int(first[body]) + 1
    if size < 1:
        raise Refusal("RANGE_ORDER", "lastIccid")
    if size > MAX_RANGE:
        raise Refusal("TOO_MANY", "lastIccid", limit=MAX_RANGE)
    return first, last, carrier, size
