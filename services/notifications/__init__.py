"""Telling people what happened: ``await notifications.send(work, kind=..., to=..., parameters=...)`` writes the
messages with the change that causes them; the worker sends them (S0-35)."""

from services.notifications.kinds import KINDS, Kind
from services.notifications.recipients import Recipient
from services.notifications.writing import send

__all__ = ["KINDS", "Kind", "Recipient", "send"]
