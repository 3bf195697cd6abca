"""Which adapter speaks to which carrier."""

from __future__ import annotations

from datetime import date

from pydantic_settings import BaseSettings, SettingsConfigDict

from gateways.carrier.cards import CardState, Carrier, CarrierQuery, RealName, RealNameOutcome
from gateways.carrier.onelink import OneLink
from gateways.http import GatewayError


class CarrierSettings(BaseSettings):
    """Where carriers are reached: environment variables `TRELLIS_CARRIER_<FIELD>`."""

    model_config = SettingsConfigDict(env_prefix="TRELLIS_CARRIER_", hide_input_in_errors=True)

    onelink_url: str = "https://api.iot.10086.cn"
    """China Mobile OneLink, or a sandbox of it."""


class Carriers:
    """The adapters of this process, by the interface name that a supplier carries."""

    def __init__(self) -> None:
        self._onelinks: dict[str, OneLink] = {}

    async def states(self, query: CarrierQuery) -> list[CardState | GatewayError]:
        """One answer for each card, in order; a card that could not be asked about has an error in its place.

        Codes: CARRIER_UNAVAILABLE, CARRIER_REFUSED, NOT_SUPPORTED.
        """
        carrier = self._speaking(query.interface_name)
        if carrier is None:
            unknown = GatewayError("NOT_SUPPORTED", f"No adapter speaks to the interface {query.interface_name}.")
            return [unknown for _ in query.iccids]
        return await carrier.states(query.api_key, query.iccids)

    async def usage(self, query: CarrierQuery, day: date) -> list[int | GatewayError]:
        """What each card used on a day of China's calendar, in KB, in order; an error in the place of a card of which
        the carrier does not tell. Codes as for `states`."""
        carrier = self._speaking(query.interface_name)
        if carrier is None:
            unknown = GatewayError("NOT_SUPPORTED", f"No adapter speaks to the interface {query.interface_name}.")
            return [unknown for _ in query.iccids]
        return await carrier.usage(query.api_key, query.iccids, day)

    def speaks(self, interface_name: str) -> bool:
        """Whether an adapter speaks to an interface."""
        return self._speaking(interface_name) is not None

    async def register(self, query: CarrierQuery, real_name: RealName) -> RealNameOutcome:
        """Shows the carrier of one card who uses it. Raises GatewayError, with codes as for `states`."""
        carrier = self._speaking(query.interface_name)
        if carrier is None:
            raise GatewayError("NOT_SUPPORTED", f"No adapter speaks to the interface {query.interface_name}.")
        (iccid,) = query.iccids
        return await carrier.register(query.api_key, iccid, real_name)

    async def close(self) -> None:
        """Ends the connections of the running event loop. Tokens stay, and what is known of failing carriers."""
        for carrier in self._onelinks.values():
            await carrier.close()

    def _speaking(self, interface_name: str) -> Carrier | None:
        if interface_name != "onelink":
            return None
        url = CarrierSettings().onelink_url
        if url not in self._onelinks:
            self._onelinks[url] = OneLink(url)
        return self._onelinks[url]


carriers = Carriers()
