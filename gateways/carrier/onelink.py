"""China Mobile OneLink (中移物联), version 5 of its interface for enterprise customers.

Every query carries a token, which an appid and its password buy for about an hour, and a call number of its own. An
answer is `{"status", "message", "result": [...]}`; status "0" is success.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Annotated, Generic, Literal, Self, TypeVar

import httpx
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gateways.carrier.cards import (
    CHINA,
    CardChange,
    CardState,
    CardStatus,
    ChangeRequest,
    RealName,
    RealNameOutcome,
    Used,
    each,
)
from gateways.http import GatewayError, Partner, PerLoop

TOKEN_PATH = "/v5/ec/get/token"  # noqa: S105
STATUS_PATH = "/v5/ec/query/sim-status"
SESSION_PATH = "/v5/ec/query/sim-session"

USAGE_PATH = "/v5/ec/query/sim-data-usage-daily/batch"
REAL_NAME_PATH = "/v5/ec/operate/sim-real-name-reg"
REAL_NAME_STATUS_PATH = "/v5/ec/query/sim-real-name-status"
CHANGE_PATH = "/v5/ec/change/sim-status"
OPERATIONS = {CardChange.SUSPEND: "0", CardChange.RESUME: "1"}
"""申请停机 and 申请复机. The carrier takes one of a card in three minutes."""
BATCH = 100
"""So many cards may be asked about at once."""

SUCCESS = "0"
TOKEN_EXPIRED = "12021"  # noqa: S105
NO_SUCH_NUMBER = "99"
ONLINE = "01"

CARD_STATUSES = {
    # cards opened on the platform CT
    "1": CardStatus.READY,
    "2": CardStatus.ACTIVE,
    "4": CardStatus.SUSPENDED,
    "6": CardStatus.TESTABLE,
    "7": CardStatus.STOCK,
    "8": CardStatus.TERMINATED,
    "9": CardStatus.TERMINATED,
    # cards opened on the older platform PB
    "00": CardStatus.ACTIVE,
    "01": CardStatus.SUSPENDED,
    "02": CardStatus.SUSPENDED,
    "03": CardStatus.TERMINATED,
    "04": CardStatus.TERMINATED,
    "07": CardStatus.READY,
}

_call_numbers = itertools.count(secrets.randbelow(10**8))


class _Wire(BaseModel):
    model_config = ConfigDict(coerce_numbers_to_str=True, hide_input_in_errors=True)


class _Token(_Wire):
    token: str
    ttl: int


class _Status(_Wire):
    card_status: str = Field(alias="cardStatus")


class _Session(_Wire):
    status: str


class _Sessions(_Wire):
    sessions: list[_Session] = Field(alias="simSessionList")


class _Usage(_Wire):
    iccid: str
    amount: Decimal = Field(alias="dataAmount", ge=0)


class _Usages(_Wire):
    usages: list[_Usage] = Field(alias="dataAmountList")


class _RealName(_Wire):
    result: str = Field(alias="regStatus")
    reference: str | None = Field(default=None, alias="busiSeq")


class _RealNameStatus(_Wire):
    status: Literal["0", "1"] = Field(alias="realNameStatus")


class _Changed(_Wire):
    number: str | None = Field(default=None, alias="orderNum")


class _Outcome(_Wire):
    status: str


Item = TypeVar("Item", bound=_Wire)


class _Answer(_Wire, Generic[Item]):
    result: Annotated[list[Item], Field(min_length=1)]


class _TokenExpired(GatewayError):
    def __init__(self) -> None:
        super().__init__("CARRIER_REFUSED", "OneLink does not take the token that it gave.")


@dataclass(frozen=True)
class _Account:
    appid: str
    password: str = field(repr=False)

    @classmethod
    def of(cls, api_key: str | None) -> Self:
        appid, _, password = (api_key or "").partition(":")
        if not appid or not password:
            raise GatewayError("CARRIER_REFUSED", "The supplier's API key must be appid:password.")
        return cls(appid, password)


@dataclass(frozen=True)
class _KeptToken:
    value: str = field(repr=False)
    expires_at: float


class OneLink:
    """`api_key` is `appid:password`, as the carrier's portal shows them."""

    registers = True

    def __init__(self, base_url: str, partner: Partner | None = None) -> None:
        self._base_url = base_url.rstrip("/")
        self._partner = partner or Partner("CARRIER", "OneLink")
        # The password is part of the key: whoever only knows an appid gets no token that others bought.
        self._tokens: dict[_Account, _KeptToken] = {}
        self._buying: PerLoop[defaultdict[_Account, asyncio.Lock]] = PerLoop(lambda: defaultdict(asyncio.Lock))

    async def states(self, api_key: str | None, iccids: Sequence[str]) -> list[CardState | GatewayError]:
        answers = await self._states(api_key, iccids)
        late = [position for position, answer in enumerate(answers) if isinstance(answer, _TokenExpired)]
        again = await self._states(api_key, [iccids[position] for position in late])
        for position, answer in zip(late, again, strict=True):
            answers[position] = answer
        return answers

    async def usage(self, api_key: str | None, iccids: Sequence[str], day: date) -> list[Used | GatewayError]:
        found: list[Used | GatewayError] = []
        for start in range(0, len(iccids), BATCH):
            some = iccids[start : start + BATCH]
            answer = await self._usage(api_key, some, day)
            if isinstance(answer, _TokenExpired):
                answer = await self._usage(api_key, some, day)
            if isinstance(answer, GatewayError):
                # a wrong password is tried once, and not once for each hundred cards
                return [*found, *(answer for _ in iccids[start:])]
            unknown = GatewayError("CARRIER_REFUSED", "OneLink does not tell of the card.")
            found += [answer.get(iccid, unknown) for iccid in some]
        return found

    async def real_names(self, api_key: str | None, iccids: Sequence[str]) -> list[bool | GatewayError]:
        async def known(iccid: str) -> bool:
            account = _Account.of(api_key)
            told = await self._with_token(
                account,
                lambda token: self._ask(account, REAL_NAME_STATUS_PATH, _RealNameStatus, token=token, iccid=iccid),
            )
            return told.status == "1"

        return await each(iccids, known)

    async def register(self, api_key: str | None, iccid: str, real_name: RealName) -> RealNameOutcome:
        account = _Account.of(api_key)
        told = {
            "iccid": iccid,
            "orderId": real_name.request_no,
            "custName": real_name.name,
            "certNo": real_name.id_number,
            "certType": "0",
            "frontPic": real_name.front,
            "backPic": real_name.back,
        }
        found = await self._with_token(
            account, lambda token: self._ask(account, REAL_NAME_PATH, _RealName, form=told, token=token)
        )
        verified = {"0": True, "2": False}.get(found.result)
        return RealNameOutcome(verified, found.reference)

    async def change(self, api_key: str | None, iccid: str, request: ChangeRequest) -> str | None:
        operation = OPERATIONS.get(request.change)
        if operation is None:
            raise _no_plans()
        account = _Account.of(api_key)
        told = {"iccid": iccid, "operType": operation}
        # by POST, which is not repeated: one that was taken would be refused
        found = await self._with_token(
            account, lambda token: self._ask(account, CHANGE_PATH, _Changed, form=told, token=token)
        )
        return found.number

    async def plan(self, api_key: str | None, iccid: str) -> str | None:  # noqa: ARG002
        raise _no_plans()

    async def _with_token(self, account: _Account, ask: Callable[[str], Awaitable[Item]]) -> Item:
        """The answer to a call; once more with a new token, where the one at hand is not taken any more."""
        token = await self._token(account)
        try:
            return await ask(token)
        except _TokenExpired:
            self._forget(account, token)
            return await ask(await self._token(account))

    async def close(self) -> None:
        self._buying.pop()
        await self._partner.close()

    async def _states(self, api_key: str | None, iccids: Sequence[str]) -> list[CardState | GatewayError]:
        if not iccids:
            return []
        # One token for all cards, so that a wrong password is tried once and not once for each card.
        try:
            account = _Account.of(api_key)
            token = await self._token(account)
        except GatewayError as error:
            return [error for _ in iccids]
        return await asyncio.gather(*(self._state(account, token, iccid) for iccid in iccids))

    async def _usage(self, api_key: str | None, iccids: Sequence[str], day: date) -> dict[str, Used] | GatewayError:
        token = ""
        try:
            account = _Account.of(api_key)
            token = await self._token(account)
            told = await self._ask(
                account, USAGE_PATH, _Usages, token=token, iccids="_".join(iccids), queryDate=f"{day:%Y%m%d}"
            )
        except _TokenExpired as error:
            self._forget(account, token)
            return error
        except GatewayError as error:
            return error
        return {one.iccid: Used(int(one.amount.to_integral_value(ROUND_HALF_UP)), since=day) for one in told.usages}

    async def _state(self, account: _Account, token: str, iccid: str) -> CardState | GatewayError:
        try:
            status = await self._ask(account, STATUS_PATH, _Status, token=token, iccid=iccid)
            if status.card_status == NO_SUCH_NUMBER:
                return GatewayError("CARRIER_REFUSED", "OneLink does not know the card.")
            found = await self._ask(account, SESSION_PATH, _Sessions, token=token, iccid=iccid)
        except _TokenExpired as error:
            self._forget(account, token)
            return error
        except GatewayError as error:
            return error
        return CardState(
            CARD_STATUSES.get(status.card_status, CardStatus.UNKNOWN),
            online=any(session.status == ONLINE for session in found.sessions),
        )

    def _forget(self, account: _Account, token: str) -> None:
        kept = self._tokens.get(account)
        if kept is not None and kept.value == token:
            del self._tokens[account]

    async def _token(self, account: _Account) -> str:
        async with self._buying.get()[account]:
            kept = self._tokens.get(account)
            if kept is None or time.monotonic() >= kept.expires_at:
                asked_at = time.monotonic()
                bought = await self._ask(account, TOKEN_PATH, _Token, appid=account.appid, password=account.password)
                kept = self._tokens[account] = _KeptToken(bought.token, asked_at + bought.ttl)
            return kept.value

    async def _ask(
        self, account: _Account, path: str, item: type[Item], form: Mapping[str, str] | None = None, **parameters: str
    ) -> Item:
        def build(client: httpx.AsyncClient) -> httpx.Request:
            params = {"transid": _transid(account.appid), **parameters}
            url = self._base_url + path
            if form is None:
                return client.build_request("GET", url, params=params)
            return client.build_request("POST", url, params=params, data=dict(form))

        response = await self._partner.send(build, secret=item is _Token)
        if response.status_code != httpx.codes.OK:
            raise GatewayError("CARRIER_UNAVAILABLE", f"OneLink answered with HTTP status {response.status_code}.")
        return _result(response.content, item)


def _no_plans() -> GatewayError:
    return GatewayError("NOT_SUPPORTED", "OneLink has no published interface for plans.")


def _result(content: bytes, item: type[Item]) -> Item:
    """What a successful answer says; carriers' own words are left out, they may repeat what was sent."""
    outcome = _parsed(content, _Outcome)
    if outcome.status == TOKEN_EXPIRED:
        raise _TokenExpired
    if outcome.status != SUCCESS:
        raise GatewayError("CARRIER_REFUSED", f"OneLink refused with status {outcome.status[:8]}.")
    return _parsed(content, _Answer[item]).result[0]  # type: ignore[valid-type]


def _parsed(content: bytes, shape: type[Item]) -> Item:
    try:
        return shape.model_validate_json(content)
    except ValidationError:
        raise GatewayError("CARRIER_UNAVAILABLE", "OneLink gave an answer that cannot be understood.") from None


def _transid(appid: str) -> str:
    """A call number: the appid, the time in China to the second, and eight digits that do not recur within it."""
    now = datetime.now(UTC).astimezone(CHINA)
    return f"{appid}{now:%Y%m%d%H%M%S}{next(_call_numbers) % 10**8:08d}"
