"""The SMART family of recharge systems: JSON over REST, signed with HMAC-SHA256 in a header.

A recharge is PUT under its number, so that a repeat is the same one, and read at the same address. The header
`X-Signature` covers method, path, time and body. `state` is `processing`, `success` or `failed`.
"""

from __future__ import annotations

import hashlib
import hmac
import time

import httpx
import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from gateways.http import GatewayError, Partner
from gateways.upstream.recharge import Account, Recharge, RechargeOutcome, RechargeState

PATH = "/v1/recharges/"
STATES = {
    "processing": RechargeState.ACCEPTED,
    "success": RechargeState.SUCCEEDED,
    "failed": RechargeState.FAILED,
}
TAKEN = frozenset({httpx.codes.OK, httpx.codes.CREATED, httpx.codes.ACCEPTED})
NOT_TAKEN = frozenset(
    {httpx.codes.BAD_REQUEST, httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN, httpx.codes.UNPROCESSABLE_ENTITY}
)


class _Answer(BaseModel):
    model_config = ConfigDict(hide_input_in_errors=True)

    state: str
    id: str | None = None


class Smart:
    def __init__(self, base_url: str, partner: Partner) -> None:
        self._base_url = base_url.rstrip("/")
        self._partner = partner

    async def submit(self, account: Account, recharge: Recharge) -> RechargeOutcome:
        body = orjson.dumps(
            {
                "service": recharge.service.lower(),
                "product": recharge.article,
                "account": recharge.card_no,
                "quantity": recharge.quantity,
            }
        )
        response = await self._ask(account, "PUT", recharge.request_no, body)
        if response.status_code in NOT_TAKEN:
            return RechargeOutcome(RechargeState.FAILED, answer=str(response.status_code))
        return _outcome(response)

    async def find(self, account: Account, request_no: str) -> RechargeOutcome:
        response = await self._ask(account, "GET", request_no, b"")
        if response.status_code == httpx.codes.NOT_FOUND:
            return RechargeOutcome(RechargeState.NOT_THERE, answer=str(response.status_code))
        return _outcome(response)

    async def close(self) -> None:
        await self._partner.close()

    async def _ask(self, account: Account, method: str, request_no: str, body: bytes) -> httpx.Response:
        path = PATH + request_no

        def build(client: httpx.AsyncClient) -> httpx.Request:
            stamp = str(int(time.time()))
            headers = {
                "X-Account": account.number,
                "X-Timestamp": stamp,
                "X-Signature": signature(account.secret, method, path, stamp, body),
                "Content-Type": "application/json",
            }
            return client.build_request(method, self._base_url + path, content=body, headers=headers)

        # what may have been taken is asked after, and not told again
        return await self._partner.send(build, repeat=method == "GET")


def _outcome(response: httpx.Response) -> RechargeOutcome:
    """What became of a recharge that was taken. Its own words are left out: they may repeat what was sent."""
    if response.status_code not in TAKEN:
        raise GatewayError("UPSTREAM_UNAVAILABLE", f"The upstream answered with HTTP status {response.status_code}.")
    try:
        answer = _Answer.model_validate_json(response.content)
        return RechargeOutcome(STATES[answer.state], answer.id, answer.state)
    except (ValidationError, KeyError):
        raise GatewayError("UPSTREAM_UNAVAILABLE", "The upstream gave an answer that cannot be understood.") from None


def signature(secret: str, method: str, path: str, stamp: str, body: bytes) -> str:
    """HMAC-SHA256 over the lines of a call, in hexadecimal."""
    text = b"\n".join([method.encode(), path.encode(), stamp.encode(), body])
    return hmac.new(secret.encode(), text, hashlib.sha256).hexdigest()
