"""Checks that every domain makes of what people type."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from ipaddress import ip_address as parsed_address
from zoneinfo import available_timezones

from stdnum import mac
from stdnum.exceptions import ValidationError

from services.refusal import Refusal

_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
_PHONE = re.compile(r"\+?[0-9][0-9 \-]{4,24}")
_CURRENCY = re.compile(r"[A-Z]{3}")
_KEY = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[._:/-][A-Za-z0-9]+)*")
MIN_PASSWORD = 10
MAX_TEXT = 200
MONEY_DECIMALS = 4


def text(value: str | None, field: str, *, required: bool = True, limit: int = MAX_TEXT) -> str:
    """The text without surrounding white space; REQUIRED when empty, INVALID when too long or unprintable."""
    found = (value or "").strip()
    if not found and required:
        raise Refusal("REQUIRED", field)
    if len(found) > limit or "\x00" in found:
        raise Refusal("INVALID", field)
    return found


def optional(value: str | None, field: str, *, limit: int = MAX_TEXT) -> str | None:
    return None if value is None else text(value, field, required=False, limit=limit) or None


def key(value: str | None, field: str) -> str:
    """A name that programs use: letters and digits, parts joined by one of ``._:/-``; at most 100 characters."""
    found = text(value, field, limit=100)
    if not _KEY.fullmatch(found):
        raise Refusal("INVALID", field)
    return found


def email(value: str | None, field: str) -> str | None:
    found = optional(value, field)
    if found is not None and not _EMAIL.fullmatch(found):
        raise Refusal("INVALID_EMAIL", field)
    return found


def phone(value: str | None, field: str) -> str | None:
    found = optional(value, field)
    if found is not None and not _PHONE.fullmatch(found):
        raise Refusal("INVALID_PHONE", field)
    return found


CHINA = ("+86", "0086", "86")
_CHINESE = re.compile(r"(?:\+86|(?:00)?86(?=1\d{10}$))")


def bare_number(phone: str) -> str:
    """A phone number without blanks, hyphens and the country's number."""
    return _CHINESE.sub("", re.sub("[ -]", "", phone), count=1)


def spellings(phone: str) -> set[str]:
    """How a phone number may stand in the books: with the country's number and without."""
    number = bare_number(phone)
    return {number, *(f"{country}{number}" for country in CHINA)}


def compact_phone(value: str | None, field: str) -> str | None:
    """A phone number without blanks and hyphens, so that one number is written in one way."""
    found = phone(value, field)
    return None if found is None else re.sub("[ -]", "", found)


OF_THIS_MACHINE = frozenset({"localtime", "posixrules", "Factory"})
"""What stands among the time zones and is none that the database knows, or that means the same everywhere."""


def time_zone(value: str | None, field: str) -> str | None:
    found = optional(value, field)
    if found is not None and (found not in available_timezones() or found in OF_THIS_MACHINE):
        raise Refusal("INVALID_TIME_ZONE", field, value=found)
    return found


def mac_address(value: str, field: str) -> str:
    """One device's address as ``d0:50:99:84:a2:a0``, however its bytes are parted; INVALID_MAC_ADDRESS otherwise."""
    try:
        found: str = mac.validate(text(value, field), validate_manufacturer=False)
    except ValidationError:
        raise Refusal("INVALID_MAC_ADDRESS", field) from None
    if mac.is_multicast(found):
        raise Refusal("INVALID_MAC_ADDRESS", field)
    return found


def ip_address(value: str, field: str, *, version: int | None = None) -> str:
    """An address in its shortest spelling; INVALID_ADDRESS for what is none, or is not of the version."""
    try:
        found = parsed_address(text(value, field))
    except ValueError:
        raise Refusal("INVALID_ADDRESS", field) from None
    if version is not None and found.version != version:
        raise Refusal("INVALID_ADDRESS", field)
    return str(found)


def currency(value: str, field: str) -> str:
    """A currency by its three letters (ISO 4217)."""
    found = text(value, field)
    if not _CURRENCY.fullmatch(found):
        raise Refusal("INVALID", field)
    return found


def money(value: Decimal, field: str, *, positive: bool = False) -> Decimal:
    """An amount of money, to the ten-thousandth; what is finer is refused, not rounded."""
    if not value.is_finite() or abs(value) >= Decimal(10) ** 14 or value != round(value, MONEY_DECIMALS):
        raise Refusal("INVALID", field)
    if value < 0:
        raise Refusal("NEGATIVE", field)
    if positive and value == 0:
        raise Refusal("NOT_POSITIVE", field)
    return value


CENT = Decimal("0.01")
"""What payment channels count in."""


def price(value: Decimal, field: str, *, positive: bool = False) -> Decimal:
    """An amount that somebody can pay: to the cent. SMALLER_THAN_CENT for what is finer."""
    if money(value, field, positive=positive) != value.quantize(CENT):
        raise Refusal("SMALLER_THAN_CENT", field)
    return value


EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9998, 1, 1, tzinfo=UTC)


def moment(value: datetime, field: str) -> datetime:
    """A time with its zone, of this age; INVALID otherwise."""
    if value.tzinfo is None or not EARLIEST <= value <= LATEST:
        raise Refusal("INVALID", field)
    return value


def percentage(value: Decimal, field: str) -> Decimal:
    """A share in percent, from 0 to 100, to the ten-thousandth."""
    if money(value, field) > 100:
        raise Refusal("INVALID", field)
    return value


def password(value: str, field: str) -> str:
    """At least ten characters with letters and digits; INVALID beyond what the hash should be fed."""
    if len(value) > 1_000:
        raise Refusal("INVALID", field)
    if len(value) < MIN_PASSWORD or value.isalpha() or value.isdigit():
        raise Refusal("WEAK_PASSWORD", field)
    return value


def bank_account(value: str, field: str) -> str:
    """An account's number as it is written: letters and digits, without white space; INVALID otherwise."""
    found = "".join(text(value, field).split())
    if not (found.isascii() and found.isalnum() and 6 <= len(found) <= 34):
        raise Refusal("INVALID", field)
    return found.upper()


def position(value: int, field: str = "position") -> int:
    """A place in a list; INVALID below zero and beyond what is stored."""
    if not 0 <= value <= 32_767:
        raise Refusal("INVALID", field)
    return value
