"""What channels tell of by themselves: believed when it is signed, and booked before it is acknowledged."""

from __future__ import annotations

from collections.abc import Mapping

import structlog

from authz.principal import system
from gateways.http import GatewayError
from gateways.payment import Acknowledgement, ForgedError
from services.payments.booking import book
from services.payments.collecting import channel_by, speaking
from services.runtime import Runtime

MAX_BYTES = 64 * 1024

log = structlog.get_logger()


async def take(runtime: Runtime, channel_id: int, headers: Mapping[str, str], body: bytes) -> Acknowledgement | None:
    """The answer to a notice; None where there is no such account with a channel.

    What is not acknowledged comes again: a notice that cannot be verified now, or of a payment that is not known.
    """
    async with runtime.database.transaction(system("payment notice")) as session:
        channel = await channel_by(session, channel_id)
    if channel is None:
        return None
    try:
        speaks = speaking(runtime.keys, channel)
    except GatewayError as error:
        log.warning("a payment notice for keys that cannot be used", channel=channel_id, reason=str(error))
        return Acknowledgement(503, "", "text/plain")
    try:
        told = await speaks.notice(headers, body)
    except ForgedError:
        log.warning("a payment notice that the channel has not signed", channel=channel_id)
        return speaks.acknowledge(taken=False)
    except GatewayError as error:
        log.warning("a payment notice could not be verified", channel=channel_id, reason=str(error))
        return speaks.acknowledge(taken=False)
    known = told is None or await book(runtime.database, channel.id, told)
    if not known:
        log.warning("a payment notice of a payment that is not known", channel=channel_id)
    return speaks.acknowledge(taken=known)
