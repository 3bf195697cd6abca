"""The PID family of recharge systems: forms, answered in JSON, signed with MD5 over the sorted fields and the secret.

Every call is a POST to one of two addresses. `code` "0" means that the call was taken; `status` then tells of the
recharge: 1 under way, 2 done, 3 failed. Codes of four digits with a 1 in front mean that it was not taken, 404 that
there is no recharge of the number; any other leaves open what became of it.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Mapping

import httpx
from pydantic import BaseModel, ConfigDict, ValidationError

from gateways.http import GatewayError, Partner
from gateways.upstream.recharge import Account, Recharge, RechargeOutcome, RechargeState

SUBMIT_PATH = "/api/recharge"
FIND_PATH = "/api/query"
TAKEN, NOT_THERE = "0", "404"
NOT_TAKEN = re.compile(r"1\d{3}")
STATES = {"1": RechargeState.ACCEPTED, "2": RechargeState.SUCCEEDED, "3": RechargeState.FAILED}
SERVICES = {"AIRTIME": "HF", "DATA": "LL", "VOICE": "YY", "SMS": "DX"}


class _Answer(BaseModel):
    model_config = ConfigDict(coerce_numbers_to_str=True, hide_input_in_errors=True)

    code: str
    status: str = ""
    orderid: str | None = None


class Pid:
    def __init__(self, base_url: str, partner: Partner) -> None:
        self._base_url = base_url.rstrip("/")
        self._partner = partner

    async def submit(self, account: Account, recharge: Recharge) -> RechargeOutcome:
        answer = await self._ask(
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
        if NOT_TAKEN.fullmatch(answer.code):
            return RechargeOutcome(RechargeState.FAILED, answer=answer.code)
        return _outcome(answer)

    async def find(self, account: Account, request_no: str) -> RechargeOutcome:
        answer = await self._ask(account, FIND_PATH, {"orderno": request_no})
        if answer.code == NOT_THERE:
            return RechargeOutcome(RechargeState.NOT_THERE, answer=answer.code)
        return _outcome(answer)

    async def close(self) -> None:
        await self._partner.close()

    async def _ask(self, account: Account, path: str, fields: Mapping[str, str]) -> _Answer:
        def build(client: httpx.AsyncClient) -> httpx.Request:
            told = {**fields, "userid": account.number, "timestamp": str(int(time.time()))}
            return client.build_request(
                "POST", self._base_url + path, data={**told, "sign": signature(told, account.secret)}
            )

        response = await self._partner.send(build)
        if response.status_code != httpx.codes.OK:
            raise _unusable()
        try:
            return _Answer.model_validate_json(response.content)
        except ValidationError:
            raise _unusable() from None


def _outcome(answer: _Answer) -> RechargeOutcome:
    """What became of a recharge that was taken. Its own words are left out: they may repeat what was sent."""
    if answer.code != TAKEN or answer.status not in STATES:
        raise GatewayError("UPSTREAM_UNAVAILABLE", f"The upstream answered with code {answer.code[:16]}.")
    return RechargeOutcome(STATES[answer.status], answer.orderid, f"{answer.code} {answer.status}")


def signature(fields: Mapping[str, str], secret: str) -> str:
    """MD5 over the fields by name and the secret, in hexadecimal capitals."""
    text = "&".join(f"{name}={fields[name]}" for name in sorted(fields)) + f"&key={secret}"
    return hashlib.md5(text.encode()).hexdigest().upper()  # noqa: S324 - what the family asks for


def _unusable() -> GatewayError:
    return GatewayError("UPSTREAM_UNAVAILABLE", "The upstream gave an answer that cannot be understood.")
