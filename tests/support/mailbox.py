"""A mail server on the loopback that keeps what it is given, and fails when it is told to."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword


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
