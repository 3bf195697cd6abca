"""China Telecom's connection management (连接管理), as `m2m_ec` speaks it.

A call carries the account, its password and a signature, both enciphered under the nine characters of a secret. There
is no token, and the same call is always signed alike. Answers are JSON or XML by method, and errors may be bare text.
That an order was taken does not say that it was carried out: how the carrier sees the card does.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Any, Self

import httpx
import orjson
from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from defusedxml import ElementTree
from defusedxml.common import DefusedXmlException

from gateways.carrier.cards import (
    CardChange,
    CardState,
    CardStatus,
    ChangeRequest,
    RealName,
    RealNameOutcome,
    Used,
    each,
)
from gateways.http import GatewayError, Partner

QUERY_PATH = "/m2m_ec/query.do"
ORDER_TYPES = {CardChange.SUSPEND: "19", CardChange.RESUME: "20"}
GOOD = frozenset({"0", "0000"})
ICCID_LENGTH = 19
"""The printed number without its check digit."""
NOT_REGISTERED = "-5"
CARD_STATUSES = {
    "1": CardStatus.READY,
    "2": CardStatus.TESTABLE,
    "3": CardStatus.TESTABLE,
    "4": CardStatus.ACTIVE,
    "5": CardStatus.SUSPENDED,
    "7": CardStatus.TERMINATED,
}
"""productMainStatusCd: 可激活, 测试激活, 测试去激活, 在用, 停机, 拆机; 6 is 运营商管理状态."""


@dataclass(frozen=True)
class _Account:
    user: str
    password: str = field(repr=False)
    secret: str = field(repr=False)

    @classmethod
    def of(cls, api_key: str | None) -> Self:
        user, _, rest = (api_key or "").partition(":")
        password, _, secret = rest.rpartition(":")
        if not user or not password or len(secret) != 9:
            raise GatewayError("CARRIER_REFUSED", "The supplier's API key must be user:password:secret.")
        return cls(user, password, secret)


class ConnectionManagement:
    """`api_key` is `user:password:secret`, as the carrier's portal shows them."""

    registers = False

    def __init__(self, base_url: str, partner: Partner | None = None) -> None:
        self._base_url = base_url.rstrip("/")
        self._partner = partner or Partner("CARRIER", "Connection management")

    async def states(self, api_key: str | None, iccids: Sequence[str]) -> list[CardState | GatewayError]:
        return await each(iccids, lambda iccid: self._state(api_key, iccid))

    async def usage(self, api_key: str | None, iccids: Sequence[str], day: date) -> list[Used | GatewayError]:
        return await each(iccids, lambda iccid: self._used(api_key, iccid, day))

    async def real_names(self, api_key: str | None, iccids: Sequence[str]) -> list[bool | GatewayError]:
        return await each(iccids, lambda iccid: self._registered(api_key, iccid))

    async def register(
        self,
        api_key: str | None,  # noqa: ARG002
        iccid: str,  # noqa: ARG002
        real_name: RealName,  # noqa: ARG002
    ) -> RealNameOutcome:
        raise GatewayError("NOT_SUPPORTED", "The carrier registers people on a page of its own.")

    async def change(self, api_key: str | None, iccid: str, request: ChangeRequest) -> str | None:
        order = ORDER_TYPES.get(request.change)
        if order is None:
            raise _no_plans()
        account = _Account.of(api_key)
        number = await self._number(account, iccid)
        told = await self._ask(
            account, "disabledNumber", {"access_number": number, "acctCd": "", "orderTypeId": order}, repeat=False
        )
        _check(told)
        return told.get("GROUP_TRANSACTIONID")

    async def plan(self, api_key: str | None, iccid: str) -> str | None:  # noqa: ARG002
        raise _no_plans()

    async def close(self) -> None:
        await self._partner.close()

    async def _state(self, api_key: str | None, iccid: str) -> CardState:
        account, card = _Account.of(api_key), {"iccid": iccid[:ICCID_LENGTH]}
        told, online = await asyncio.gather(
            self._ask(account, "queryCardMainStatus", card), self._ask(account, "getOnlineStatus", card)
        )
        _check(told)
        _check(online)
        status, session = told.get("productMainStatusCd", ""), online.get("acctStatusType")
        return CardState(CARD_STATUSES.get(status, CardStatus.UNKNOWN), online=session == "start")

    async def _used(self, api_key: str | None, iccid: str, day: date) -> Used:
        account, on = _Account.of(api_key), f"{day:%Y%m%d}"
        told = await self._ask(
            account,
            "queryTrafficByDate",
            {"iccid": iccid[:ICCID_LENGTH]},
            unsigned={"startDate": on, "endDate": on, "needDtl": "0"},
        )
        _check(told)
        try:
            megabytes = Decimal(told.get("TOTAL_BYTES_CNT", "").removesuffix("MB"))
        except InvalidOperation:
            raise _unusable() from None
        if not megabytes.is_finite() or megabytes < 0:
            raise _unusable()
        return Used(round(megabytes * 1024), since=day)

    async def _registered(self, api_key: str | None, iccid: str) -> bool:
        account = _Account.of(api_key)
        told = await self._ask(account, "realNameQueryIot", {"access_number": await self._number(account, iccid)})
        if _code(told) == NOT_REGISTERED:
            return False
        _check(told)
        return True

    async def _number(self, account: _Account, iccid: str) -> str:
        """The number in the network, by which orders name a card."""
        told = await self._ask(account, "getTelephone", {"iccid": iccid[:ICCID_LENGTH]})
        _check(told)
        number = told.get("SMSG", "")
        if not re.fullmatch(r"\d{11,15}", number):
            raise _unusable()
        return number

    async def _ask(
        self,
        account: _Account,
        method: str,
        signed: Mapping[str, str],
        *,
        unsigned: Mapping[str, str] | None = None,
        repeat: bool = True,
    ) -> dict[str, str]:
        """What the carrier says, as names and texts, however deep they stand."""
        values = [account.user, account.password, method, *signed.values()]
        params = {
            "method": method,
            "user_id": account.user,
            "passWord": enciphered(account.password, account.secret),
            "sign": enciphered(",".join(sorted(values)), account.secret),
            **signed,
            **(unsigned or {}),
        }

        def build(client: httpx.AsyncClient) -> httpx.Request:
            return client.build_request("GET", self._base_url + QUERY_PATH, params=params)

        response = await self._partner.send(build, repeat=repeat)
        if response.status_code != httpx.codes.OK:
            raise GatewayError(
                "CARRIER_UNAVAILABLE", f"Connection management answered with HTTP status {response.status_code}."
            )
        return _parsed(response.text.strip())


# -- what it says ---------------------------------------------------------------------------------------------


def _parsed(text: str) -> dict[str, str]:
    """The leaves of an answer by their names, the first of each name."""
    found: dict[str, str] = {}
    if text.startswith("<"):
        try:
            for element in ElementTree.fromstring(text).iter():
                if len(element) == 0:
                    found.setdefault(element.tag.rpartition("}")[2], (element.text or "").strip())
        except (ElementTree.ParseError, DefusedXmlException, ValueError):
            raise _unusable() from None
        return found
    if text.startswith("{"):
        try:
            _collect(orjson.loads(text), "", found)
        except orjson.JSONDecodeError:
            raise _unusable() from None
        return found
    bare = re.match(r"-?\d+", text)
    if bare is None:
        raise _unusable()
    return {"resultCode": bare.group()}


def _collect(value: Any, name: str, found: dict[str, str]) -> None:
    if isinstance(value, dict):
        for key, inside in value.items():
            _collect(inside, key, found)
    elif isinstance(value, list):
        for inside in value:
            _collect(inside, name, found)
    elif value is not None:
        found.setdefault(name, str(value))


def _code(told: Mapping[str, str]) -> str | None:
    """The code of an answer, which stands under a name of its own in each kind of them."""
    names = ("resultCode", "RESULT", "IRESULT", "RspCode", "result")
    return next((told[name] for name in names if told.get(name)), None)


def _check(told: Mapping[str, str]) -> None:
    """CARRIER_REFUSED with the carrier's code; its words are left out, they may repeat what was sent."""
    code = _code(told)
    if code is None:
        raise _unusable()
    if code not in GOOD:
        raise GatewayError("CARRIER_REFUSED", f"Connection management refused with code {code[:8]}.")


def _unusable() -> GatewayError:
    return GatewayError("CARRIER_UNAVAILABLE", "Connection management gave an answer that cannot be understood.")


def _no_plans() -> GatewayError:
    return GatewayError("NOT_SUPPORTED", "Connection management has no published interface for plans.")


# -- how it is enciphered -------------------------------------------------------------------------------------

_SQUARE = [8 * row + column for column in range(7) for row in range(7, -1, -1)]
"""The bits of a key as the carrier's cipher takes them."""
_STANDARD = [
    *_SQUARE[:28], *(8 * row + column for column in (6, 5, 4) for row in range(7, -1, -1)), 27, 19, 11, 3,
]  # fmt: skip
"""The same as DES takes them: the carrier's is DES but for the order of the second half."""


def enciphered(text: str, secret: str) -> str:
    """A text under the nine characters of a secret: DES three times, block by block of four characters."""
    data = _units(text)
    for third in (secret[:3], secret[3:6], secret[6:]):
        encryptor = Cipher(TripleDES(_key(_units(third)) * 3), modes.ECB()).encryptor()  # noqa: S305 - the carrier's
        data = encryptor.update(data) + encryptor.finalize()
    return data.hex().upper()


def _units(text: str) -> bytes:
    data = text.encode("utf-16-be")
    return data.ljust(-(-len(data) // 8) * 8, b"\0")


def _key(key: bytes) -> bytes:
    """The key under which DES does what the carrier's cipher does under another."""
    bits = int.from_bytes(key)
    moved = 0
    for standard, theirs in zip(_STANDARD, _SQUARE, strict=True):
        moved |= (bits >> (63 - theirs) & 1) << (63 - standard)
    return moved.to_bytes(8)
