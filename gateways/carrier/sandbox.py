"""A OneLink to try things out with: `uvicorn gateways.carrier.sandbox:app`, API key `<any appid>:sandbox`.

A card's last digit is its status (0, 3 and 5 stand for "00", "03" and "05" of cards opened on the platform PB). A card
that may send data is online when the digit before it is even. A number that is not 19 or 20 digits is unknown.

A card that was suspended or resumed through the interface is so from then on, whatever its digits say; its user is
known when its last digit but two is even.

`POST /_faults {"kind": ..., "times": n}` makes the next n calls fail in that way. `timeout`, `http_500` and `bad_json`
befall any call, `expired_token` and `unknown_card` befall queries, `late` a change that is made and not answered.
Refusals other than 12021 have codes of the sandbox's own.
"""

from __future__ import annotations

import re
import secrets
import time
from collections import Counter

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

# Spelt out again and not taken from the adapter, so that an error in one of them shows.
TOKEN_PATH = "/v5/ec/get/token"  # noqa: S105
STATUS_PATH = "/v5/ec/query/sim-status"
SESSION_PATH = "/v5/ec/query/sim-session"
REAL_NAME_PATH = "/v5/ec/operate/sim-real-name-reg"
USAGE_PATH = "/v5/ec/query/sim-data-usage-daily/batch"
CHANGE_PATH = "/v5/ec/change/sim-status"
REAL_NAME_STATUS_PATH = "/v5/ec/query/sim-real-name-status"
TOKEN_EXPIRED = "12021"  # noqa: S105

PASSWORD = "sandbox"  # noqa: S105
FAULTS = ("timeout", "http_500", "bad_json", "expired_token", "unknown_card", "late")
PB_STATUSES = {"0": "00", "3": "03", "5": "05"}
SENDING = frozenset({"2", "6", "00"})


class Sandbox:
    """Tokens are good for `token_seconds`; `tokens` has those sold. `calls` counts all calls to each path. `used`
    has what cards used on days, in KB, by ICCID and day such as "20261129"."""

    def __init__(self, token_seconds: int = 3600) -> None:
        self.calls: Counter[str] = Counter()
        self._token_seconds = token_seconds
        self.tokens: dict[str, float] = {}
        self._faults: Counter[str] = Counter()
        self.real_names: dict[str, str] = {}
        self.shown: list[dict[str, str]] = []
        self.used: dict[tuple[str, str], int | str] = {}
        self.changed: dict[str, str] = {}
        self.app = Starlette(
            routes=[
                Route(TOKEN_PATH, self._answer),
                Route(STATUS_PATH, self._answer),
                Route(SESSION_PATH, self._answer),
                Route(USAGE_PATH, self._answer),
                Route(REAL_NAME_PATH, self._answer, methods=["POST"]),
                Route(REAL_NAME_STATUS_PATH, self._answer),
                Route(CHANGE_PATH, self._answer, methods=["POST"]),
                Route("/_faults", self._order_fault, methods=["POST"]),
            ]
        )

    async def _order_fault(self, request: Request) -> Response:
        order = await request.json()
        if order["kind"] not in FAULTS:
            return JSONResponse({"kinds": FAULTS}, status_code=400)
        self._faults[order["kind"]] = int(order["times"])
        return Response(status_code=204)

    def _due(self, fault: str) -> bool:
        due = self._faults[fault] > 0
        self._faults[fault] -= due
        return due

    async def _answer(self, request: Request) -> Response:
        self.calls[request.url.path] += 1
        if self._due("timeout"):
            return await _silence(request)
        if self._due("http_500"):
            return PlainTextResponse("Internal Server Error", status_code=500)
        if self._due("bad_json"):
            return PlainTextResponse('{"status":"0","resu', media_type="application/json")
        if request.url.path == TOKEN_PATH:
            return self._sell_token(request)
        return await self._tell(request)

    async def _register(self, request: Request) -> Response:
        """Decides on who wants a card, once for each number: names that begin with 拒 are refused, those that begin
        with 待 wait until their entry in `real_names` says "0" or "2"."""
        form = {name: str(value) for name, value in (await request.form()).items()}
        if not all(form.get(name) for name in ("iccid", "orderId", "custName", "certNo", "frontPic", "backPic")):
            return _refusal("12005", "参数错误")
        first = form["custName"][0]
        status = self.real_names.setdefault(form["orderId"], {"拒": "2", "待": "1"}.get(first, "0"))
        self.shown.append(form)
        reason = "证件信息不一致" if status == "2" else None
        return _success({"regStatus": status, "busiSeq": f"B{form['orderId']}", "reason": reason})

    async def _change(self, request: Request) -> Response:
        form = await request.form()
        iccid, operation = str(form.get("iccid", "")), form.get("operType")
        if not re.fullmatch(r"\d{19,20}", iccid) or operation not in ("0", "1"):
            return _refusal("12005", "参数错误")
        wanted = "4" if operation == "0" else "2"
        if self.changed.get(iccid) == wanted:
            return _refusal("12090", "卡状态不允许办理")
        self.changed[iccid] = wanted
        if self._due("late"):
            return await _silence(request)
        return _success({"orderNum": f"N{self.calls[CHANGE_PATH]:010d}"})

    def _tell_usage(self, request: Request) -> Response:
        """What cards used on a day, in KB; those that nobody has ordered otherwise have used nothing, and unknown ones
        are left out."""
        iccids, day = request.query_params.get("iccids", "").split("_"), request.query_params.get("queryDate", "")
        if len(iccids) > 100 or not re.fullmatch(r"\d{8}", day):
            return _refusal("12005", "参数错误")
        told = [
            {"iccid": iccid, "dataAmount": str(self.used.get((iccid, day), 0))}
            for iccid in iccids
            if re.fullmatch(r"\d{19,20}", iccid) and not self._due("unknown_card")
        ]
        return _success({"dataAmountList": told})

    def _sell_token(self, request: Request) -> Response:
        appid = request.query_params.get("appid", "")
        if not re.fullmatch(re.escape(appid) + r"\d{22}", request.query_params.get("transid", "")):
            return _refusal("12002", "TRANSID格式错误")
        if not appid or request.query_params.get("password") != PASSWORD:
            return _refusal("12003", "APPID或PASSWORD错误")
        token = secrets.token_hex(16)
        self.tokens[token] = time.monotonic() + self._token_seconds
        return _success({"token": token, "ttl": str(self._token_seconds)})

    async def _tell(self, request: Request) -> Response:
        token, iccid = request.query_params.get("token", ""), request.query_params.get("iccid", "")
        if self._due("expired_token"):
            self.tokens.pop(token, None)
        if time.monotonic() >= self.tokens.get(token, 0.0):
            return _refusal(TOKEN_EXPIRED, "TOKEN不存在或已过期")
        if not re.fullmatch(r".+\d{22}", request.query_params.get("transid", "")):
            return _refusal("12002", "TRANSID格式错误")
        if request.url.path == REAL_NAME_PATH:
            return await self._register(request)
        if request.url.path == USAGE_PATH:
            return self._tell_usage(request)
        if request.url.path == CHANGE_PATH:
            return await self._change(request)
        if self._due("unknown_card") or not re.fullmatch(r"\d{19,20}", iccid):
            return _refusal("12004", "卡号不存在")
        if request.url.path == REAL_NAME_STATUS_PATH:
            return _success({"realNameStatus": "1" if int(iccid[-3]) % 2 == 0 else "0"})
        status = self.changed.get(iccid) or PB_STATUSES.get(iccid[-1], iccid[-1])
        if request.url.path == STATUS_PATH:
            return _success({"cardStatus": status, "lastChangeDate": "2024-01-01 00:00:00"})
        online = status in SENDING and int(iccid[-2]) % 2 == 0
        session = {"apnId": "CMIOT", "status": "01" if online else "00", "ip": "", "createDate": "", "rat": "6"}
        return _success({"simSessionList": [session]})


def _success(item: object) -> Response:
    return JSONResponse({"status": "0", "message": "正确", "result": [item]})


def _refusal(status: str, message: str) -> Response:
    return JSONResponse({"status": status, "message": message, "result": []})


async def _silence(request: Request) -> Response:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    return Response(status_code=504)


app = Sandbox().app
