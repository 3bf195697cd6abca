"""End users of ``north`` who register and act by codes from the mail."""

from __future__ import annotations

from typing import Any

from tests.support.mailbox import Mailbox, code_in, relay
from tests.support.people import SECRET_WORD, payload
from tests.support.world import World

ADDRESS = "ada@example.com"
SIGNED = [{"document": "terms", "version": "1"}]
PUBLISH = """mutation($input: PublishAgreementInput!) { publishAgreement(input: $input) { errors { code } } }"""


async def publish_terms(world: World) -> None:
    """Without terms nobody can register."""
    input = {"document": "terms", "version": "1", "title": "Terms", "text": "What is agreed."}
    assert (await world.data("operations", PUBLISH, {"input": input}))["publishAgreement"]["errors"] == []


async def ask(
    world: World, purpose: str, email: str = ADDRESS, tenant: str = "north", door: str = "consumer"
) -> dict[str, Any]:
    """What the graph answers to who asks for a code."""
    return await payload(world, door, "SendEmailCode", {"tenant": world.id(tenant), "email": email, "purpose": purpose})


async def code_for(world: World, box: Mailbox, purpose: str, email: str = ADDRESS, tenant: str = "north") -> str:
    """The code that was mailed to who asked for one."""
    before = len(box.mails)
    assert await ask(world, purpose, email, tenant) == {"done": True, "errors": []}
    await relay(world)
    assert len(box.mails) == before + 1
    return code_in(box)


def registration(world: World, code: str | None, **more: Any) -> dict[str, Any]:
    return {
        "input": {
            "tenant": world.id("north"),
            "account": "Ada",
            "password": SECRET_WORD,
            "email": ADDRESS,
            "name": "Ada Lovelace",
            "verificationCode": code,
            "agreements": SIGNED,
            **more,
        }
    }


async def register(world: World, box: Mailbox, email: str = ADDRESS, **more: Any) -> str:
    """The access token of somebody who has just registered with a code from the mail."""
    code = await code_for(world, box, "REGISTRATION", email)
    made = await payload(world, "consumer", "RegisterEndUser", registration(world, code, email=email, **more))
    assert made["errors"] == []
    token: str = made["session"]["accessToken"]
    return token
