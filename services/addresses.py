"""Network addresses that people write down: single ones and networks, of both versions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from services.refusal import Refusal

MAX_NETWORKS = 100

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


def networks(given: Sequence[str], field: str) -> list[str]:
    """The networks in their one way of writing; ``10.1.2.3`` alone is ``10.1.2.3/32``.

    INVALID_NETWORK names the first that is none, or that has bits set beyond its prefix.
    """
    if len(given) > MAX_NETWORKS:
        raise Refusal("TOO_MANY", field, limit=MAX_NETWORKS)
    found = []
    for text in given:
        try:
            found.append(str(ip_network(text.strip())))
        except ValueError:
            raise Refusal("INVALID_NETWORK", field, value=text[:60]) from None
    return sorted(set(found))


def within(address: str | None, allowed: Iterable[str]) -> bool:
    """Whether the address lies in one of the networks. An IPv4 address that came in IPv6's clothes counts as itself."""
    found = parsed(address)
    return found is not None and any(found in _network(network) for network in allowed)


def parsed(address: str | None) -> Address | None:
    """The address behind a text; None where it is none."""
    try:
        found = ip_address(address or "")
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return mapped or found


@lru_cache(maxsize=4096)
def _network(text: str) -> Network:
    return ip_network(text)
