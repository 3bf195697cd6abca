"""What people do in the frontends, in the graph."""

from __future__ import annotations

from datetime import date, datetime

import strawberry

from planner.mapping import input_type, value
from schema.common import UserError


@input_type
class EventPropertyInput:
    """A detail of an event; never a person's data."""

    name: str
    value: str


@input_type
class TrackedEventInput:
    """One thing that somebody did on a page, and when by the frontend's own clock (S4-70)."""

    event: str
    page_key: str
    at: datetime
    properties: list[EventPropertyInput] = strawberry.field(default_factory=list)


@input_type
class TrackEventsInput:
    """Events that a frontend has gathered, and when it sends them by its own clock (S4-70)."""

    sent_at: datetime
    events: list[TrackedEventInput]


@value
class TrackEventsPayload:
    """How many events were stored; those of more than seven days ago are left out."""

    stored: int
    errors: list[UserError]


@value
class BehaviourCount:
    """How often an event happened on a page on one day (S4-70)."""

    day: date
    event: str
    page_key: str
    events: int
    callers: int = strawberry.field(description="By how many different callers; visitors are not told apart.")


@value
class BehaviourStats:
    """What was done in the frontends, by day of the time zone, event and page; or why it is not told (S4-70)."""

    time_zone: str | None
    counts: list[BehaviourCount]
    errors: list[UserError]
