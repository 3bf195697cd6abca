"""End users at their doors, which run nothing but the documents that they ship."""

from __future__ import annotations

from typing import Any

from planner.ids import encode_id
from server.doors import FRONTENDS, documents
from tests.support.world import World

SECRET_WORD = "battery staple 7"


def shipped(door: str, name: str) -> str:
    return documents(FRONTENDS / door)[name]


async def run(
    world: World, door: str, name: str, variables: dict[str, Any] | None = None, token: str | None = None
) -> dict[str, Any]:
    """The whole answer to a shipped operation."""
    found: dict[str, Any] = (await world.client.post(door, shipped(door, name), variables, token=token)).json()
    return found


async def payload(
    world: World, door: str, name: str, variables: dict[str, Any] | None = None, token: str | None = None
) -> dict[str, Any]:
    """What the one root of a shipped operation answers."""
    answer = await run(world, door, name, variables, token)
    assert "errors" not in answer, answer
    (found,) = answer["data"].values()
    assert isinstance(found, dict)
    return found


def said(found: dict[str, Any]) -> list[tuple[str, str | None]]:
    """The refusals of a payload: code and field."""
    return [(error["code"], error.get("field")) for error in found["errors"]]


async def who(world: World, door: str, token: str) -> str | None:
    """The end user behind a token at a door; None where it is not valid."""
    answer = await world.client.post(door, shipped(door, "Me"), token=token)
    if answer.status_code == 401:
        return None
    found: str = answer.json()["data"]["viewer"]["endUser"]["id"]
    return found


def person_id(key: int) -> str:
    return encode_id("eus", key)
