"""Which adapter speaks to which family of upstream systems."""

from __future__ import annotations

from collections.abc import Callable

from pydantic_settings import BaseSettings, SettingsConfigDict

from gateways.http import Partner
from gateways.upstream.pid import Pid
from gateways.upstream.recharge import Upstream
from gateways.upstream.smart import Smart


class UpstreamSettings(BaseSettings):
    """Where upstreams are reached: environment variables `TRELLIS_UPSTREAM_<FIELD>`. A family without an address is
    not spoken to."""

    model_config = SettingsConfigDict(env_prefix="TRELLIS_UPSTREAM_", hide_input_in_errors=True)

    pid_url: str = ""
    smart_url: str = ""


FAMILIES: dict[str, Callable[[str, Partner], Upstream]] = {"PID": Pid, "SMART": Smart}


class Upstreams:
    """The adapters of this process, by the interface name that a supplier carries: `pid` or `smart`."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], Upstream] = {}

    @staticmethod
    def family(interface_name: str | None) -> str | None:
        """The family that an interface belongs to; None where no adapter speaks to it, or nobody has said where it is
        reached."""
        family = (interface_name or "").upper()
        return family if family in FAMILIES and _url(family) else None

    def of(self, family: str) -> Upstream:
        """The adapter of a family."""
        key = (family, _url(family))
        if key not in self._known:
            self._known[key] = FAMILIES[family](key[1], Partner("UPSTREAM", family))
        return self._known[key]

    async def close(self) -> None:
        """Ends the connections of the running event loop."""
        for upstream in self._known.values():
            await upstream.close()


def _url(family: str) -> str:
    found: str = getattr(UpstreamSettings(), f"{family.lower()}_url")
    return found


upstreams = Upstreams()
"""The upstreams of this process."""
