"""A message as every gateway takes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True)
class Message:
    """``reference`` names the message at every attempt to send it, so that whoever gets it twice can tell.

    ``provider_template`` and ``parameters`` are for providers that keep the text themselves.
    """

    reference: str
    address: str
    language: str
    subject: str
    body: str = field(repr=False)
    provider_template: str | None = None
    parameters: Mapping[str, str] = field(default_factory=dict, repr=False)


class Messenger(Protocol):
    """One way out. Errors are ``GatewayError``: ``..._UNAVAILABLE`` may pass, any other code will not."""

    async def send(self, message: Message) -> None: ...

    async def close(self) -> None:
        """Ends the connections of the running event loop."""
