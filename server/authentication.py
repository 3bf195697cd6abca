"""From the headers of a request to a principal: bearer tokens of logins, signed requests of API keys."""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from collections.abc import Mapping

from authz.access import Access
from authz.principal import Principal
from planner.errors import GraphRefusal
from server.doors import Door
from services.addresses import within
from services.api_keys import api_key_binding, came_from_elsewhere
from services.identity import read_access_token
from services.runtime import Runtime

SCHEME = "TRELLIS-HMAC-SHA256"
REPLAY_SECONDS = 300
KEPT_TOKENS = 20_000
REMEMBERED_SECONDS = 60.0
"""How long a token is believed without asking, should the word of a change be lost with the process that knew it."""
_PART = re.compile(r"(\w+)=([^,\s]+)")


def unauthenticated(text: str = "LOG_IN_FIRST") -> GraphRefusal:
    return GraphRefusal("UNAUTHENTICATED", text)


def string_to_sign(method: str, path: str, timestamp: str, nonce: str, body: bytes) -> bytes:
    """What an API key's holder signs: five lines."""
    return "\n".join([method, path, timestamp, nonce, hashlib.sha256(body).hexdigest()]).encode()


def sign(secret: str, method: str, path: str, timestamp: str, nonce: str, body: bytes) -> str:
    return hmac.new(secret.encode(), string_to_sign(method, path, timestamp, nonce, body), hashlib.sha256).hexdigest()


class Authentication:
    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._tokens: dict[tuple[str, str, str], tuple[int, float, Principal]] = {}

    @property
    def _access(self) -> Access:
        return self._runtime.access

    def remembered(self, authorization: str, door: str, language: str) -> Principal | None:
        """The principal of a token seen before, as long as nothing about access has changed since."""
        found = self._tokens.get((authorization, door, language))
        if found is None or found[0] != self._access.generation or found[1] < time.time():
            return None
        return found[2]

    async def principal(
        self,
        authorization: str | None,
        door: Door,
        language: str,
        *,
        method: str,
        path: str,
        body: bytes | None,
        address: str | None,
    ) -> Principal:
        """Raises GraphRefusal UNAUTHENTICATED for a token or signature that is not valid here and now.

        ``path`` with its query string. A body that is None was not read yet, so that no signature can cover it.
        ``address``: where the request comes from.
        """
        if not authorization:
            return self._access.visitor(door.name, language)
        known = self.remembered(authorization, door.name, language)
        if known is not None:
            return known
        scheme, _, rest = authorization.partition(" ")
        if scheme == "Bearer":
            return await self._bearer(authorization, rest.strip(), door, language)
        if scheme == SCHEME:
            if body is None:
                raise unauthenticated("UPLOADS_UNSIGNED")
            return await self._signed(dict(_PART.findall(rest)), door, language, method, path, body, address)
        raise unauthenticated("UNKNOWN_AUTHENTICATION")

    async def _bearer(self, authorization: str, token: str, door: Door, language: str) -> Principal:
        claims = read_access_token(self._runtime, token, door.name)
        if claims is None:
            raise unauthenticated("TOKEN_INVALID")
        generation = self._access.generation
        principal = await self._access.principal_of_session(
            claims.session_key, claims.holder, door.name, claims.expires_at, door.rules.admission, language
        )
        if principal is None:
            raise unauthenticated("SESSION_OVER")
        if self._access.listening:
            if len(self._tokens) >= KEPT_TOKENS:
                self._tokens.clear()
            self._tokens[authorization, door.name, language] = (
                generation,
                min(claims.expires_at, time.time() + REMEMBERED_SECONDS),
                principal,
            )
        return principal

    async def _signed(
        self,
        parts: Mapping[str, str],
        door: Door,
        language: str,
        method: str,
        path: str,
        body: bytes,
        address: str | None,
    ) -> Principal:
        try:
            key, timestamp, nonce, signature = (parts[p] for p in ("Credential", "Timestamp", "Nonce", "Signature"))
            age = abs(time.time() - int(timestamp))
        except (KeyError, ValueError, OverflowError):
            raise unauthenticated("SIGNATURE_PARTS") from None
        if "API_KEY" not in door.rules.login_methods or age > REPLAY_SECONDS or not 8 <= len(nonce) <= 64:
            raise unauthenticated("SIGNATURE_INVALID")
        found = await self._access.principal_of_key(key, door.name, door.rules.admission, language)
        if found is None:
            raise unauthenticated("SIGNATURE_INVALID")
        valid = False
        for encrypted in found.secrets:
            secret = self._runtime.keys.decrypt(encrypted, api_key_binding(key))
            expected = sign(secret, method, path, timestamp, nonce, body)
            valid |= hmac.compare_digest(expected.encode(), signature.encode())
        if not valid:
            raise unauthenticated("SIGNATURE_INVALID")
        if found.networks and not within(address, found.networks):
            await came_from_elsewhere(self._runtime, found.principal, key, address)
            raise unauthenticated("SIGNATURE_INVALID")
        fresh = await self._runtime.redis.set(f"trellis:nonce:{key}:{nonce}", 1, nx=True, ex=2 * REPLAY_SECONDS)
        if not fresh:
            raise unauthenticated("REQUEST_REPEATED")
        await self._runtime.redis.hset("trellis:api-key-used", key, str(time.time()))
        return found.principal
