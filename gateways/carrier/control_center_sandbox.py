"""A Control Center to try things out with: `uvicorn gateways.carrier.control_center_sandbox:app`, API key
`<any name>:sandbox`.

A card exists when it is first asked about: ACTIVATED, on the plan BASIC, online when its last digit but one is even.
`POST /_faults {"kind": ..., "times": n}` orders what befalls the next calls: `timeout` and `http_500` after a change
was made, `lost` before it, `bad_json`, and `ignored`: a change is taken and not made.
"""

from __future__ import annotations

import asyncio
import base64
import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

KEY = "sandbox"
FAULTS = ("timeout", "http_500", "lost", "bad_json", "ignored")
STATUSES = ("TEST_READY", "INVENTORY", "ACTIVATION_READY", "ACTIVATED", "DEACTIVATED", "RETIRED", "PURGED")
CHINA_HOURS = timedelta(hours=8)


class Sandbox:
    """`devices` has the cards by ICCID; `used` what they used in cycles, in bytes, by ICCID and the cycle's first day;
    `edits` counts the changes that were asked for."""

    def __init__(self) -> None:
        self.devices: dict[str, dict[str, Any]] = {}
        self.used: dict[tuple[str, str], int] = {}
        self.edits: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        path = "/rws/api/v1/devices/{iccid}"
        self.app = Starlette(
            routes=[
                Route(path, self._device, methods=["GET", "PUT"]),
                Route(f"{path}/sessionInfo", self._session),
                Route(f"{path}/usageInZone", self._usage),
                Route("/_faults", self._order_fault, methods=["POST"]),
            ]
        )

    async def _order_fault(self, request: Request) -> Response:
        order = await request.json()
        if order["kind"] not in FAULTS:
            return JSONResponse({"kinds": FAULTS}, 400)
        self.faults[order["kind"]] = int(order["times"])
        return Response(status_code=204)

    def due(self, fault: str) -> bool:
        due = self.faults[fault] > 0
        self.faults[fault] -= due
        return due

    def card(self, iccid: str) -> dict[str, Any]:
        return self.devices.setdefault(iccid, {"iccid": iccid, "status": "ACTIVATED", "ratePlan": "BASIC"})

    def _stranger(self, request: Request) -> Response | None:
        kind, _, given = request.headers.get("authorization", "").partition(" ")
        try:
            user, _, key = base64.b64decode(given).decode().partition(":")
        except ValueError:
            user = key = ""
        if kind != "Basic" or not user or key != KEY:
            return _refusal(401, "10000001")
        if not re.fullmatch(r"\d{19,20}", request.path_params["iccid"]):
            return _refusal(404, "20000001")
        return None

    async def _device(self, request: Request) -> Response:
        refused = self._stranger(request)
        if refused is not None:
            return refused
        card = self.card(request.path_params["iccid"])
        if request.method == "GET":
            return PlainTextResponse('{"iccid": "89') if self.due("bad_json") else JSONResponse(card)
        if self.due("lost"):
            return PlainTextResponse("", 503)
        told = await request.json()
        self.edits[card["iccid"]] += 1
        if not told or set(told) - {"status", "ratePlan"} or told.get("status", "ACTIVATED") not in STATUSES:
            return _refusal(400, "10000003")
        if told.get("status") == "ACTIVATED" and card["status"] in ("RETIRED", "PURGED"):
            return _refusal(400, "10000024")
        if not self.due("ignored"):
            card.update(told)
        if self.due("timeout"):
            await asyncio.sleep(3600)
        if self.due("http_500"):
            return PlainTextResponse("", 500)
        return JSONResponse({"iccid": card["iccid"]})

    async def _session(self, request: Request) -> Response:
        refused = self._stranger(request)
        if refused is not None:
            return refused
        card = self.card(request.path_params["iccid"])
        online = card["status"] == "ACTIVATED" and int(card["iccid"][-2]) % 2 == 0
        began = "2026-01-01 00:00:00.000+0000"
        return JSONResponse(
            {
                "iccid": card["iccid"],
                "ipAddress": "10.0.0.1" if online else None,
                "dateSessionStarted": began,
                "dateSessionEnded": None if online else began,
            }
        )

    async def _usage(self, request: Request) -> Response:
        refused = self._stranger(request)
        if refused is not None:
            return refused
        asked = request.query_params.get("cycleStartDate", "")
        if not re.fullmatch(r"\d{4}-\d{2}-27Z", asked):
            return _refusal(400, "10000003")
        card, begins = self.card(request.path_params["iccid"]), datetime.fromisoformat(asked[:-1]).replace(tzinfo=UTC)
        used = self.used.get((card["iccid"], asked[:-1]), 0)
        zone = {"ratePlan": card["ratePlan"], "ratePlanVersion": "1", "zone": "china", "dataUsage": used}
        return JSONResponse(
            {
                "iccid": card["iccid"],
                "timeStamp": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.000Z}",
                "cycleStartDate": f"{begins - CHINA_HOURS:%Y-%m-%dT%H:%M:%S.000Z}",
                "cycleEndDate": f"{begins + timedelta(days=30) - CHINA_HOURS:%Y-%m-%dT%H:%M:%S.000Z}",
                "deviceCycleUsageInZones": {"BASIC, 1": [{**zone, "dataUsageUnit": "bytes", "voiceMTUsage": None}]},
            }
        )


def _refusal(status: int, code: str) -> Response:
    return JSONResponse({"errorMessage": "refused by the sandbox", "errorCode": code}, status)


app = Sandbox().app
