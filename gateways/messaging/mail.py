"""Mail over SMTP (RFC 5321), with STARTTLS or TLS from the first byte."""

from __future__ import annotations

import enum
import ssl
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime, parseaddr
from pathlib import Path

import aiosmtplib
import structlog
from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from gateways.http import GatewayError
from gateways.messaging.messages import Message

log = structlog.get_logger()


class MailSecurity(enum.Enum):
    NONE = "none"
    STARTTLS = "starttls"
    TLS = "tls"


class MailSettings(BaseSettings):
    """The mail server that takes our mail: environment variables `TRELLIS_MAIL_<FIELD>`."""

    model_config = SettingsConfigDict(env_prefix="TRELLIS_MAIL_", hide_input_in_errors=True)

    host: str = ""
    """Without one, no mail is sent and each says so."""
    port: int = 587
    security: MailSecurity = MailSecurity.STARTTLS
    ca_file: Path | None = None
    """Certificates to trust where the server's is not signed by a public authority."""
    user: str = ""
    password: SecretStr = SecretStr("")
    sender: str = "Trellis <no-reply@localhost>"
    timeout_seconds: float = 15.0


class Mail:
    """One connection a message. The ``Message-ID`` is the same at every attempt."""

    def __init__(self, settings: MailSettings) -> None:
        self._settings = settings

    async def send(self, message: Message) -> None:
        """MAIL_UNAVAILABLE: no answer, or one that says to try later (4xx). MAIL_REFUSED: the server says no (5xx).

        What the server says is not repeated beyond its number: it may quote addresses.
        """
        settings = self._settings
        if not settings.host:
            raise GatewayError("NOT_SUPPORTED", "No mail server is set up.")
        try:
            await aiosmtplib.send(
                self._written(message),
                hostname=settings.host,
                port=settings.port,
                username=settings.user or None,
                password=settings.password.get_secret_value() or None,
                timeout=settings.timeout_seconds,
                use_tls=settings.security is MailSecurity.TLS,
                start_tls=settings.security is MailSecurity.STARTTLS,
                tls_context=self._tls(),
            )
        except (aiosmtplib.SMTPRecipientsRefused, aiosmtplib.SMTPResponseException) as error:
            number = _number(error)
            log.warning("the mail server refused a message", number=number)
            # a login that the server does not take is ours to put right: the message is as good as before
            ours = isinstance(error, aiosmtplib.SMTPAuthenticationError)
            code = "MAIL_REFUSED" if number >= 500 and not ours else "MAIL_UNAVAILABLE"
            raise GatewayError(code, f"The mail server answered {number}.") from None
        except (aiosmtplib.SMTPException, OSError, TimeoutError) as error:
            log.warning("the mail server failed", reason=type(error).__name__)
            late = isinstance(error, aiosmtplib.SMTPTimeoutError | TimeoutError)
            reason = "did not answer in time" if late else "could not be reached"
            raise GatewayError("MAIL_UNAVAILABLE", f"The mail server {reason}.") from None

    async def close(self) -> None:
        """Nothing is kept open."""

    def _written(self, message: Message) -> EmailMessage:
        written = EmailMessage()
        written["From"] = self._settings.sender
        written["To"] = message.address
        written["Subject"] = " ".join(message.subject.split())
        written["Date"] = format_datetime(datetime.now(UTC))
        domain = parseaddr(self._settings.sender)[1].rpartition("@")[2]
        written["Message-ID"] = f"<{message.reference}@{domain}>"
        written["Auto-Submitted"] = "auto-generated"
        written.set_content(message.body)
        written["Content-Language"] = message.language
        return written

    def _tls(self) -> ssl.SSLContext | None:
        if self._settings.security is MailSecurity.NONE:
            return None
        return ssl.create_default_context(cafile=self._settings.ca_file)


def _number(error: aiosmtplib.SMTPRecipientsRefused | aiosmtplib.SMTPResponseException) -> int:
    if isinstance(error, aiosmtplib.SMTPRecipientsRefused):
        return max(refused.code for refused in error.recipients)
    return error.code
