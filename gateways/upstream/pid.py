"""The PID family of recharge systems: forms, answered in JSON, signed with MD5 over the sorted fields and the secret.

Every call is a POST to one of two addresses. `code` "0" means that the call was taken; `status` then tells of the
recharge: 1 under way, 2 done, 3 failed. Code 404 means that there is none of the number.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping

import httpx
from pydantic import BaseModel, ConfigDict, ValidationError

from gateways.http import GatewayError, Partner
from gateways.upstream.recharge import Account, Recharge, RechargeOutcome, RechargeState

SUBMIT_PATH = "/api/recharge"
FIND_PATH = "/api/query"
TAKEN, NOT_THERE = "0", "404"
STATES = {"1": RechargeState.ACCEPTED, "2": RechargeState.SUCCEEDED, "3": RechargeState.FAILED}
SERVICES = {"AIRTIME": "HF", "DATA": "LL", "VOICE": "YY", "SMS": "DX"}


class _Answer(BaseModel):
    model_config = ConfigDict(coerce_numbers_to_str=True, hide_input_in_errors=True)

    code: str
    msg: str = ""
    status: str = ""
    orderid: str | None = None


class Pid:
    def __init__(self, base_url: str, partner: Partner) -> None:
        self._base_url = base_url.rstrip("/")
        self._partner = partner

    async def submit(self, account: Account, recharge: Recharge) -> RechargeOutcome:
        return await self._ask(
            account,
            SUBMIT_PATH,
            {
                "orderno": recharge.request_no,
                "type": SERVICES[recharge.service],
                "pid": recharge.article,
                "mobile": recharge.card_no,
                "num": str(recharge.quantity),
            },
        )

    async def find(self, account: Account, request_no: str) -> RechargeOutcome:
        return await self._ask(account, FIND_PATH, {"orderno": request_no})

    async def close(self) -> None:
        await self._partner.close()

    async def _ask(self, account: Account, path: str, fields: Mapping[str, str]) -> RechargeOutcome:
        def build(client: httpx.AsyncClient) -> httpx.Request:
            told = {**fields, "userid": account.number, "timestamp": str(int(time.time()))}
            return client.build_request(
                "POST", self._base_url + path, data={**told, "sign": signature(told, account.secret)}
            )

        response = await self._partner.send(build)
        if response.status_code != httpx.codes.OK:
            raise GatewayError("UPSTREAM_REFUSED", f"The upstream answered with HTTP status {response.status_code}.")
        try:
            answer = _Answer.model_validate_json(response.content)
        except ValidationError:
            raise _unusable() from None
        words = f"{answer.code} {answer.status} {answer.msg}".strip()[:200]
        if answer.code == NOT_THERE:
            return RechargeOutcome(RechargeState.NOT_THERE, answer=words)
        if answer.code != TAKEN:
            return RechargeOutcome(RechargeState.FAILED, answer.orderid, words)
        if answer.status not in STATES:
            raise _unusable()
        return RechargeOutcome(STATES[answer.status], answer.orderid, words)


def signature(fields: Mapping[str, str], secret: str) -> str:
    """MD5 over the fields by name and the secret, in hexadecimal capitals."""
    text = "&".join(f"{name}={fields[name]}" for name in sorted(fields)) + f"&key={secret}"
    return hashlib.md5(text.encode()).hexdigest().upper()  # noqa: S324 - what the family asks for


def _unusable() -> GatewayError:
    return GatewayError("UPSTREAM_UNAVAILABLE", "The upstream gave an answer that cannot be understood.")
