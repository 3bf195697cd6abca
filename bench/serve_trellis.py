"""The application as it is served, but for its rate limit, which a benchmark is there to exceed."""

from __future__ import annotations

from dataclasses import replace

from starlette.types import ASGIApp

from server.app import Application, build
from server.settings import get_settings

UNLIMITED = 10**9


def create_app() -> ASGIApp:
    application = Application(get_settings())
    for name, door in application.doors.items():
        application.doors[name] = replace(door, limits=replace(door.limits, requests_per_minute=UNLIMITED))
    return build(application)
