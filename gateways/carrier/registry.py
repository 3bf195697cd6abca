"""Which adapter speaks to which carrier."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date

from pydantic_settings import BaseSettings, SettingsConfigDict

from gateways.carrier.cards import (
    REACHED,
    CardState,
    Carrier,
    CarrierQuery,
    ChangeRequest,
    RealName,
    RealNameOutcome,
    Used,
)
from gateways.carrier.connection_management import ConnectionManagement
from gateways.carrier.control_center import ControlCenter
from gateways.carrier.onelink import OneLink
from gateways.http import GatewayError


class CarrierSettings(BaseSettings):
    """Where carriers are reached: environment variables `TRELLIS_CARRIER_<FIELD>`."""

    model_config = SettingsConfigDict(env_prefix="TRELLIS_CARRIER_", hide_input_in_errors=True)

    onelink_url: str = "https://api.iot.10086.cn"
    """China Mobile OneLink, or a sandbox of it."""
    connection_management_url: str = "http://api.ct10649.com:9001"
    """China Telecom's connection management, or a sandbox of it."""
    control_center_url: str = "https://api.10646.cn"
    """China Unicom's Control Center, or a sandbox of it."""


INTERFACES: dict[str, Callable[[str], Carrier]] = {
    "onelink": OneLink,
    "connection_management": ConnectionManagement,
    "control_center": ControlCenter,
}
"""The adapters, by the interface name that a supplier carries."""


class Carriers:
    """The adapters of this process. Codes of errors: CARRIER_UNAVAILABLE, CARRIER_REFUSED, NOT_SUPPORTED."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], Carrier] = {}

    def registers(self, interface_name: str) -> bool:
        """Whether a carrier can be shown through its interface who uses a card."""
        carrier = self._speaking(CarrierQuery(interface_name, None, ()))
        return not isinstance(carrier, GatewayError) and carrier.registers

    async def states(self, query: CarrierQuery) -> list[CardState | GatewayError]:
        """One answer for each card, in order; a card that could not be asked about has an error in its place."""
        carrier = self._speaking(query)
        if isinstance(carrier, GatewayError):
            return [carrier for _ in query.iccids]
        return await carrier.states(query.api_key, query.iccids)

    async def usage(self, query: CarrierQuery, day: date) -> list[Used | GatewayError]:
        """What each card used until the end of a day of China's calendar, in order; an error in the place of a card of
        which the carrier does not tell."""
        carrier = self._speaking(query)
        if isinstance(carrier, GatewayError):
            return [carrier for _ in query.iccids]
        return await carrier.usage(query.api_key, query.iccids, day)

    async def real_names(self, query: CarrierQuery) -> list[bool | GatewayError]:
        """Whether the carrier knows who uses each card, in order."""
        carrier = self._speaking(query)
        if isinstance(carrier, GatewayError):
            return [carrier for _ in query.iccids]
        return await carrier.real_names(query.api_key, query.iccids)

    async def register(self, query: CarrierQuery, real_name: RealName) -> RealNameOutcome:
        """Shows the carrier of one card who uses it. Raises GatewayError."""
        return await self._certain(query).register(query.api_key, _one(query.iccids), real_name)

    async def change(self, query: CarrierQuery, request: ChangeRequest) -> str | None:
        """Asks the carrier of one card for a change, and never twice; the carrier's number of it. Raises GatewayError:
        with CARRIER_UNAVAILABLE nobody knows whether it was taken."""
        return await self._certain(query).change(query.api_key, _one(query.iccids), request)

    async def changed(self, query: CarrierQuery, request: ChangeRequest) -> bool:
        """Whether a card is as was asked for. Raises GatewayError."""
        carrier, iccid = self._certain(query), _one(query.iccids)
        if request.change not in REACHED:
            return await carrier.plan(query.api_key, iccid) == request.plan
        (state,) = await carrier.states(query.api_key, [iccid])
        if isinstance(state, GatewayError):
            raise state
        return state.status is REACHED[request.change]

    async def close(self) -> None:
        """Ends the connections of the running event loop. Tokens stay, and what is known of failing carriers."""
        for carrier in self._known.values():
            await carrier.close()

    def _speaking(self, query: CarrierQuery) -> Carrier | GatewayError:
        make = INTERFACES.get(query.interface_name)
        if make is None:
            return GatewayError("NOT_SUPPORTED", f"No adapter speaks to the interface {query.interface_name}.")
        url: str = getattr(CarrierSettings(), f"{query.interface_name}_url")
        known = self._known.get((query.interface_name, url))
        if known is None:
            known = self._known[query.interface_name, url] = make(url)
        return known

    def _certain(self, query: CarrierQuery) -> Carrier:
        carrier = self._speaking(query)
        if isinstance(carrier, GatewayError):
            raise carrier
        return carrier


def _one(iccids: Sequence[str]) -> str:
    (iccid,) = iccids
    return iccid


carriers = Carriers()
