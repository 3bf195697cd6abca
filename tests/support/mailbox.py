"""A mail server on the loopback that keeps what it is given, and fails when it is told to."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword

from gateways.messaging import Mail, MailSecurity, MailSettings
from models.notifications import NotificationChannel
from tests.support.world import World

SENDER = "Trellis <no-reply@trellis.test>"


@dataclass
class Mailbox:
    """``faults`` are answers to the next recipients (``550 no such user``); ``silent`` swallows a message and never
    answers."""

    port: int = 0
    mails: list[EmailMessage] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    silent: bool = False
    login: tuple[str, str] | None = None
    tried: int = 0

    async def handle_RCPT(self, _server: Any, _session: Any, envelope: Envelope, address: str, _: Any) -> str:  # noqa: N802
        self.tried += 1
        if self.faults:
            return self.faults.pop(0)
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Envelope) -> str:  # noqa: N802
        content = envelope.content
        assert isinstance(content, bytes)
        mail = message_from_bytes(content, policy=policy.default)
        assert isinstance(mail, EmailMessage)
        assert envelope.rcpt_tos == [mail["To"]]
        self.mails.append(mail)
        if self.silent:
            await asyncio.sleep(60)
        return "250 OK"

    def authenticate(self, _server: Any, _session: Any, _envelope: Any, _mechanism: str, given: Any) -> AuthResult:
        assert isinstance(given, LoginPassword)
        right = self.login == (given.login.decode(), given.password.decode())
        return AuthResult(success=right, handled=False)

    def text(self, number: int = -1) -> str:
        content = self.mails[number].get_content()
        assert isinstance(content, str)
        return content.replace("\r\n", "\n")


@asynccontextmanager
async def mailbox(
    login: tuple[str, str] | None = None, starttls: ssl.SSLContext | None = None
) -> AsyncIterator[Mailbox]:
    made = Mailbox(login=login)

    def connection() -> SMTP:
        return SMTP(
            made,
            hostname="mail.sandbox",
            tls_context=starttls,
            require_starttls=starttls is not None,
            auth_required=login is not None,
            auth_require_tls=starttls is not None,
            authenticator=made.authenticate if login else None,
        )

    server = await asyncio.get_running_loop().create_server(connection, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()


@asynccontextmanager
async def delivering(world: World) -> AsyncIterator[Mailbox]:
    """A mailbox, into which the world's worker sends."""
    async with mailbox() as made:
        settings = MailSettings(
            host="127.0.0.1", port=made.port, security=MailSecurity.NONE, sender=SENDER, timeout_seconds=0.5
        )
        world.client.way_out = replace(world.client.way_out, messengers={NotificationChannel.EMAIL: Mail(settings)})
        yield made


async def relay(world: World) -> int:
    """Works off the outbox, and what comes of it, each event once; gives how many there were."""
    done = 0
    while newest := (await world.sql("SELECT max(id) AS id FROM outbox_event WHERE sent_at IS NULL"))[0]["id"]:
        done += await world.client.work_off()
        await world.sql("UPDATE outbox_event SET sent_at = now() WHERE sent_at IS NULL AND id <= $1", newest)
    return done


def code_in(box: Mailbox) -> str:
    """The verification code in the last mail."""
    found = re.search(r"\b[0-9]{6}\b", box.text())
    assert found is not None
    return found[0]
