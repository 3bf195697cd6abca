"""How a partner's system asks: signed with its key, from an address of its own."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
import uuid
from typing import Any

import httpx

from tests.support.world import PARTNER_SECRET, World


async def signed(
    world: World,
    query: str,
    *,
    key: str,
    secret: str = PARTNER_SECRET,
    variables: dict[str, Any] | None = None,
    address: str = "127.0.0.9",
    nonce: str | None = None,
) -> httpx.Response:
    """A request as its sender signs it: five lines, HMAC-SHA256, in hexadecimal."""
    body = json.dumps({"query": query, "variables": variables or {}}).encode()
    timestamp, nonce = str(int(time.time())), nonce or uuid.uuid4().hex
    text = "\n".join(["POST", "/partner/graphql", timestamp, nonce, hashlib.sha256(body).hexdigest()])
    signature = hmac.new(secret.encode(), text.encode(), "sha256").hexdigest()
    credentials = f"Credential={key}, Timestamp={timestamp}, Nonce={nonce}, Signature={signature}"
    transport = httpx.ASGITransport(app=world.client.app, client=(address, 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://trellis.test") as client:
        return await client.post(
            "/partner/graphql",
            content=body,
            headers={
                "content-type": "application/json",
                "accept-language": "en",
                "authorization": f"TRELLIS-HMAC-SHA256 {credentials}",
            },
        )
