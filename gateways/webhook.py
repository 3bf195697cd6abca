"""Calling the addresses that partners register: only where their hosts lie in the public Internet.

What a partner registers must not become a way into the network that Trellis runs in. A host's addresses are looked up
and checked anew for each call, and the call goes to the address that was checked: a name that answers differently the
second time gains nothing. Redirects are not followed.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit

import httpx

SECONDS = 10.0
LOOK_UP_SECONDS = 3.0
ANSWER_BYTES = 2048
MAX_URL = 2000
TRANSLATED = IPv6Network("64:ff9b::/96")
"""IPv4 addresses as a translator for IPv6 networks writes them."""

Address = IPv4Address | IPv6Address


class AddressError(Exception):
    """An address that is not called. Codes: INVALID_URL, HOST_NOT_FOUND, ADDRESS_NOT_ALLOWED."""

    def __init__(self, code: str, host: str) -> None:
        super().__init__(f"{code}: {host}")
        self.code = code
        self.host = host


@dataclass(frozen=True)
class Answer:
    """What became of one call."""

    status_code: int | None
    duration_ms: int
    text: str | None
    """The first 2 kB of what the endpoint said."""
    error: str | None
    """Why there is no answer: a code."""

    @property
    def accepted(self) -> bool:
        return self.status_code is not None and 200 <= self.status_code < 300


def is_public(address: Address) -> bool:
    """Whether an address lies in the public Internet, also inside what carries it through another network."""
    if isinstance(address, IPv6Address):
        carried = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
        if address in TRANSLATED:
            carried.append(IPv4Address(int(address) & 0xFFFF_FFFF))
        if any(inner is not None and not is_public(inner) for inner in carried):
            return False
        if address.ipv4_mapped is not None:
            return True
    return address.is_global and not address.is_multicast


async def checked(url: str, *, inside: bool) -> Address:
    """The address that a call to ``url`` goes to. Raises AddressError.

    ``inside``: the installation's own network may be called, over http on loopback only.
    """
    host, port, scheme = _parts(url)
    addresses = await _addresses(host, port)
    loopback = all(address.is_loopback for address in addresses)
    if scheme == "http" and not (inside and loopback):
        raise AddressError("INVALID_URL", host)
    if not inside and not all(is_public(address) for address in addresses):
        raise AddressError("ADDRESS_NOT_ALLOWED", host)
    return addresses[0]


def _parts(url: str) -> tuple[str, int, str]:
    try:
        parts = urlsplit(url)
        host, port = httpx.URL(url).raw_host.decode(), parts.port
    except (ValueError, httpx.InvalidURL):
        raise AddressError("INVALID_URL", url[:100]) from None
    wrong = parts.username is not None or parts.password is not None or parts.fragment != "" or not url.isprintable()
    if parts.scheme not in ("http", "https") or not host or wrong or len(url) > MAX_URL or " " in url:
        raise AddressError("INVALID_URL", url[:100])
    return host, port or (443 if parts.scheme == "https" else 80), parts.scheme


async def _addresses(host: str, port: int) -> list[Address]:
    try:
        async with asyncio.timeout(LOOK_UP_SECONDS):
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, TimeoutError):
        raise AddressError("HOST_NOT_FOUND", host) from None
    return [ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]


async def post(url: str, body: str, headers: Mapping[str, str], *, inside: bool) -> Answer:
    """Sends a body to an address, and tells what came back. Never raises for what the other side does."""
    started = time.monotonic()

    def told(status: int | None, text: str | None, error: str | None) -> Answer:
        return Answer(status, int((time.monotonic() - started) * 1000), text, error)

    try:
        async with asyncio.timeout(SECONDS):
            address = await checked(url, inside=inside)
            # an environment's proxy would look the host up for itself
            async with httpx.AsyncClient(trust_env=False, timeout=SECONDS) as client:
                request = _request(client, url, address, body, headers)
                response = await client.send(request, stream=True)
                try:
                    return told(response.status_code, await _beginning(response), None)
                finally:
                    await response.aclose()
    except AddressError as error:
        return told(None, None, error.code)
    except (TimeoutError, httpx.TimeoutException):
        return told(None, None, "TIMEOUT")
    except (httpx.HTTPError, OSError):
        return told(None, None, "UNREACHABLE")


def _request(
    client: httpx.AsyncClient, url: str, address: Address, body: str, headers: Mapping[str, str]
) -> httpx.Request:
    named = httpx.URL(url)
    return client.build_request(
        "POST",
        named.copy_with(host=str(address)),
        content=body.encode(),
        headers={**headers, "host": named.netloc.decode(), "accept-encoding": "identity"},
        # the certificate is checked against the name, not against the address that is called
        extensions={"sni_hostname": named.raw_host.decode()},
    )


async def _beginning(response: httpx.Response) -> str:
    read = b""
    async for chunk in response.aiter_raw():
        read += chunk
        if len(read) >= ANSWER_BYTES:
            break
    return read[:ANSWER_BYTES].decode("utf-8", "replace").replace("\x00", "\ufffd")
