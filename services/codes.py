"""Verification codes: six digits that prove that somebody reads what is sent to an address (S1-73).

A code is bound to a purpose and an address (or an account that has one), works once, for ten minutes, and survives
five wrong tries. Redis keeps a keyed digest of it and nothing else. Use::

    await codes.limit(runtime.redis, runtime.keys, PURPOSE, address, origin.ip)
    code = await codes.issue(runtime.redis, runtime.keys, PURPOSE, address)
    ...
    await codes.redeem(runtime.redis, runtime.keys, PURPOSE, address, given, origin.ip)
"""

from __future__ import annotations

import hmac
import ipaddress
import secrets
from typing import Any

import redis.asyncio as redis

from services.keys import Keys
from services.refusal import Refusal

DIGITS = 6
MINUTES = 10
TRIES = 5
CODES_PER_ADDRESS = 5
CODES_PER_IP = 30
CODES_PER_PERSON = 10
TRIES_PER_IP = 60
LIMIT_SECONDS = 3600

TRY = """
local kept = redis.call('HGET', KEYS[1], 'digest')
if not kept then return false end
if redis.call('HINCRBY', KEYS[1], 'tries', 1) > tonumber(ARGV[1]) then
    redis.call('DEL', KEYS[1])
    return false
end
return kept
"""
"""What is kept of a code, with one more try counted; nothing once there have been too many."""

TAKE = """
if redis.call('HGET', KEYS[1], 'digest') ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
"""
"""Uses a code up. Of two callers with the right code one is told 1."""


async def limit(
    server: redis.Redis, keys: Keys, purpose: str, address: str, ip: str | None, *, by: str | None = None
) -> None:
    """Counts a request for a code: five an hour for an address, thirty from an IP, ten ``by`` one person who is known.
    TOO_MANY_ATTEMPTS beyond.

    To be called before it is known whether anybody has the address, so that the answer does not tell.
    """
    # first whoever asks: what is refused there must not use up what the address may be sent
    await _count(server, f"trellis:codes-from:{network(ip)}", CODES_PER_IP)
    if by is not None:
        await _count(server, f"trellis:codes-by:{by}", CODES_PER_PERSON)
    await _count(server, f"trellis:codes-to:{_place(keys, purpose, address)}", CODES_PER_ADDRESS)


async def issue(server: redis.Redis, keys: Keys, purpose: str, address: str) -> str:
    """A new code; an earlier one for the same purpose and address stops working."""
    code = f"{secrets.randbelow(10**DIGITS):0{DIGITS}d}"
    name = _name(keys, purpose, address)
    async with server.pipeline(transaction=True) as batch:
        batch.delete(name)
        batch.hset(name, "digest", _digest(keys, purpose, address, code))
        batch.expire(name, MINUTES * 60)
        await batch.execute()
    return code


async def redeem(server: redis.Redis, keys: Keys, purpose: str, address: str, given: str, ip: str | None) -> None:
    """Uses a code up. WRONG_CODE for a wrong, used, expired or never issued one alike; TOO_MANY_ATTEMPTS after sixty
    tries in an hour from an IP."""
    await _count(server, f"trellis:codes-tried-from:{network(ip)}", TRIES_PER_IP)
    name = _name(keys, purpose, address)
    digest = _digest(keys, purpose, address, given.strip())
    kept: Any = await server.eval(TRY, 1, name, str(TRIES))
    found = kept.decode() if isinstance(kept, bytes) else str(kept or "")
    right = hmac.compare_digest(found, digest)
    if not right or not await server.eval(TAKE, 1, name, digest):
        raise Refusal("WRONG_CODE", "verificationCode")


def network(ip: str | None) -> str:
    """Whom an IP counts for: itself, or of version 6 the sixty-four bits that one subscriber has."""
    try:
        found = ipaddress.ip_address(ip or "")
    except ValueError:
        return str(ip)
    return str(ipaddress.ip_network((found, 64), strict=False)) if found.version == 6 else str(found)


async def _count(server: redis.Redis, name: str, most: int) -> None:
    async with server.pipeline(transaction=True) as batch:
        batch.incr(name)
        batch.expire(name, LIMIT_SECONDS, nx=True)
        count, _ = await batch.execute()
    if count > most:
        raise Refusal("TOO_MANY_ATTEMPTS")


def _place(keys: Keys, purpose: str, address: str) -> str:
    return keys.digest(f"{purpose}\n{address}").hex()


def _name(keys: Keys, purpose: str, address: str) -> str:
    return f"trellis:code:{_place(keys, purpose, address)}"


def _digest(keys: Keys, purpose: str, address: str, code: str) -> str:
    return keys.digest(f"{purpose}\n{address}\n{code}").hex()
