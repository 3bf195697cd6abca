"""China Unicom's Control Center, version 1 of its REST interface (Cisco IoT Control Center).

Calls carry user name and API key (Basic). What goes wrong is told by an HTTP status and
`{"errorMessage", "errorCode"}`.
Data are counted by billing cycle, from the 27th of a month on in China, and not by day.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import TypeVar

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
from gateways.http import GatewayError, Partner

DEVICES = "/rws/api/v1/devices"
CYCLE_BEGINS = 27
UNITS = {"bytes": Decimal(1) / 1024, "KB": Decimal(1), "MB": Decimal(1024), "GB": Decimal(1024**2)}
NOT_TAKEN = frozenset({400, 401, 403, 404, 405, 409})
"""HTTP statuses that say that a change was not made."""

CARD_STATUSES = {
    "TEST_READY": CardStatus.TESTABLE,
    "INVENTORY": CardStatus.STOCK,
    "ACTIVATION_READY": CardStatus.READY,
    "ACTIVATED": CardStatus.ACTIVE,
    "DEACTIVATED": CardStatus.SUSPENDED,
    "RETIRED": CardStatus.TERMINATED,
    "PURGED": CardStatus.TERMINATED,
}
STATUS_OF = {CardChange.SUSPEND: "DEACTIVATED", CardChange.RESUME: "ACTIVATED"}


class _Wire(BaseModel):
    model_config = ConfigDict(coerce_numbers_to_str=True, hide_input_in_errors=True)


class _Device(_Wire):
    status: str
    plan: str | None = Field(default=None, alias="ratePlan")


class _Session(_Wire):
    began: str | None = Field(default=None, alias="dateSessionStarted")
    ended: str | None = Field(default=None, alias="dateSessionEnded")


class _InZone(_Wire):
    amount: Decimal | None = Field(default=None, alias="dataUsage", ge=0)
    unit: str | None = Field(default=None, alias="dataUsageUnit")


class _Cycle(_Wire):
    begins: datetime = Field(alias="cycleStartDate")
    zones: dict[str, list[_InZone]] = Field(alias="deviceCycleUsageInZones")


class _Edited(_Wire):
    iccid: str


Shape = TypeVar("Shape", bound=_Wire)


class ControlCenter:
    """`api_key` is `username:key`, as the carrier's portal shows them."""

    registers = False

    def __init__(self, base_url: str, partner: Partner | None = None) -> None:
        self._base_url = base_url.rstrip("/")
        # the carrier wants few calls at a time
        self._partner = partner or Partner("CARRIER", "Control Center", concurrency=2)

    async def states(self, api_key: str | None, iccids: Sequence[str]) -> list[CardState | GatewayError]:
        return await each(iccids, lambda iccid: self._state(api_key, iccid))

    async def usage(self, api_key: str | None, iccids: Sequence[str], day: date) -> list[Used | GatewayError]:
        last_of_cycle = cycle_of(day + timedelta(days=1)) > day
        if day < datetime.now(CHINA).date() - timedelta(days=1) and not last_of_cycle:
            # a cycle that goes on counts what has been used since
            late = GatewayError("NOT_SUPPORTED", "Control Center tells of cycles and not of days that are past.")
            return [late for _ in iccids]
        return await each(iccids, lambda iccid: self._used(api_key, iccid, day))

    async def real_names(self, api_key: str | None, iccids: Sequence[str]) -> list[bool | GatewayError]:  # noqa: ARG002
        unknown = GatewayError("NOT_SUPPORTED", "Control Center does not tell of real names.")
        return [unknown for _ in iccids]

    async def register(
        self,
        api_key: str | None,  # noqa: ARG002
        iccid: str,  # noqa: ARG002
        real_name: RealName,  # noqa: ARG002
    ) -> RealNameOutcome:
        raise GatewayError("NOT_SUPPORTED", "Control Center takes no real names.")

    async def change(self, api_key: str | None, iccid: str, request: ChangeRequest) -> str | None:
        wanted = {"ratePlan": request.plan or ""}
        if request.change in STATUS_OF:
            wanted = {"status": STATUS_OF[request.change]}
        await self._ask(api_key, "PUT", iccid, _Edited, json=wanted)
        return None

    async def plan(self, api_key: str | None, iccid: str) -> str | None:
        return (await self._ask(api_key, "GET", iccid, _Device)).plan

    async def close(self) -> None:
        await self._partner.close()

    async def _state(self, api_key: str | None, iccid: str) -> CardState:
        device = await self._ask(api_key, "GET", iccid, _Device)
        session = await self._ask(api_key, "GET", f"{iccid}/sessionInfo", _Session)
        return CardState(
            CARD_STATUSES.get(device.status, CardStatus.UNKNOWN),
            online=session.began is not None and session.ended is None,
        )

    async def _used(self, api_key: str | None, iccid: str, day: date) -> Used:
        begins = cycle_of(day)
        cycle = await self._ask(
            api_key, "GET", f"{iccid}/usageInZone", _Cycle, params={"cycleStartDate": f"{begins:%Y-%m-%d}Z"}
        )
        if cycle.begins.astimezone(CHINA).date() != begins:
            raise GatewayError("CARRIER_UNAVAILABLE", "Control Center tells of another cycle.")
        used = Decimal(0)
        for one in itertools.chain.from_iterable(cycle.zones.values()):
            if one.amount is not None and one.unit not in UNITS:
                raise _unusable()
            used += (one.amount or 0) * UNITS.get(one.unit or "", Decimal(0))
        return Used(round(used), since=begins)

    async def _ask(
        self,
        api_key: str | None,
        method: str,
        path: str,
        shape: type[Shape],
        *,
        json: dict[str, str] | None = None,
        params: dict[str, str] | None = None,
    ) -> Shape:
        user, _, key = (api_key or "").partition(":")
        if not user or not key:
            raise GatewayError("CARRIER_REFUSED", "The supplier's API key must be username:key.")

        def build(client: httpx.AsyncClient) -> httpx.Request:
            url = f"{self._base_url}{DEVICES}/{path}"
            request = client.build_request(method, url, json=json, params=params)
            return next(httpx.BasicAuth(user, key).auth_flow(request))

        response = await self._partner.send(build, repeat=method == "GET")
        if response.status_code in NOT_TAKEN:
            # its own words are left out: they may repeat what was sent
            raise GatewayError("CARRIER_REFUSED", f"Control Center refused with HTTP status {response.status_code}.")
        if response.status_code not in (httpx.codes.OK, httpx.codes.ACCEPTED):
            raise GatewayError(
                "CARRIER_UNAVAILABLE", f"Control Center answered with HTTP status {response.status_code}."
            )
        try:
            return shape.model_validate_json(response.content)
        except ValidationError:
            raise _unusable() from None


def cycle_of(day: date) -> date:
    """The first day of the billing cycle that a day lies in."""
    before = day if day.day >= CYCLE_BEGINS else day.replace(day=1) - timedelta(days=1)
    return before.replace(day=CYCLE_BEGINS)


def _unusable() -> GatewayError:
    return GatewayError("CARRIER_UNAVAILABLE", "Control Center gave an answer that cannot be understood.")
