"""Cron expressions of five fields, read in a time zone. All arithmetic is croniter's."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from croniter import CroniterBadDateError, CroniterError, croniter

from services import validation
from services.refusal import Refusal

FIELDS = 5
YEARS = 50
"""How far ahead and back a time is looked for; a first Monday that is a 29th of February comes rarely."""


def checked(expression: str, field: str) -> str:
    """The expression, its white space normalised; INVALID_CRON, or CRON_NEVER where no such day ever comes."""
    found = " ".join(validation.text(expression, field).split())
    parts = found.split(" ")
    # croniter also knows names such as @daily, a sixth field, and h and r for hashed and random times
    if len(parts) != FIELDS or any(part[0] in "hHrR" for part in parts):
        raise Refusal("INVALID_CRON", field, value=found)
    try:
        comes = next_after(found, "UTC", datetime.now(UTC))
    except CroniterError:
        raise Refusal("INVALID_CRON", field, value=found) from None
    if comes is None:
        raise Refusal("CRON_NEVER", field, value=found)
    return found


def next_after(expression: str, time_zone: str, moment: datetime) -> datetime | None:
    """The first time after the moment; None where none comes within ``YEARS``."""
    try:
        found: datetime = _times(expression, time_zone, moment).get_next(datetime)
    except CroniterBadDateError:
        return None
    return found.astimezone(UTC)


def last_until(expression: str, time_zone: str, after: datetime, until: datetime, limit: int) -> list[datetime]:
    """The times after one moment up to another, in order; of very many the last ``limit``."""
    times = _times(expression, time_zone, until + timedelta(seconds=1))
    found: list[datetime] = []
    while len(found) < limit:
        try:
            time = times.get_prev(datetime).astimezone(UTC)
        except CroniterBadDateError:
            break
        if time <= after:
            break
        if time <= until:
            found.append(time)
    return found[::-1]


def _times(expression: str, time_zone: str, moment: datetime) -> croniter:
    return croniter(expression, moment.astimezone(ZoneInfo(time_zone)), max_years_between_matches=YEARS)
