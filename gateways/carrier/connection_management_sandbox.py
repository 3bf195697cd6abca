"""A connection management to try things out with: `uvicorn gateways.carrier.connection_management_sandbox:app`, API key
`sandbox:sandbox:abcdefghi`.

A card exists when it is first asked about, in use (4), and online when its last digit but one is even. Orders are
carried out at once. `POST /_faults {"kind": ..., "times": n}` orders what befalls the next calls: `timeout` and
`http_500` after an order was taken, `lost` before it, `bad_xml`, and `ignored`: an order is taken and not carried out.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from gateways.carrier.connection_management import enciphered

USER, PASSWORD, SECRET = "sandbox", "sandbox", "abcdefghi"
FAULTS = ("timeout", "http_500", "lost", "bad_xml", "ignored")
UNSIGNED = frozenset({"method", "user_id", "passWord", "sign", "startDate", "endDate", "needDtl"})


class Sandbox:
    """`cards` has the cards by ICCID of 19 digits; `used` what they used on days, in MB, by ICCID and day such as
    "20261129"; `orders` counts the orders of each."""

    def __init__(self) -> None:
        self.cards: dict[str, dict[str, Any]] = {}
        self.used: dict[tuple[str, str], str] = {}
        self.orders: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.app = Starlette(
            routes=[
                Route("/m2m_ec/query.do", self._answer, methods=["GET", "POST"]),
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
        number = f"149{int(iccid[-10:]):010d}"
        return self.cards.setdefault(iccid, {"number": number, "status": "4", "registered": False})

    async def _answer(self, request: Request) -> Response:
        told = dict(request.query_params)
        signed = [USER, PASSWORD, told.get("method", ""), *(v for k, v in told.items() if k not in UNSIGNED)]
        if told.get("user_id") != USER or told.get("passWord") != enciphered(PASSWORD, SECRET):
            return PlainTextResponse("-1：用户名或密码错误")
        if told.get("sign") != enciphered(",".join(sorted(signed)), SECRET):
            return PlainTextResponse("-3")
        if self.due("bad_xml"):
            return PlainTextResponse("<root><web:NEW")
        iccid = told.get("iccid", "")
        if "access_number" in told:
            iccid = next((i for i, card in self.cards.items() if card["number"] == told["access_number"]), "")
        if not re.fullmatch(r"\d{19}", iccid):
            return PlainTextResponse("-4：iccid错误")
        return await {
            "queryCardMainStatus": self._status,
            "getOnlineStatus": self._online,
            "queryTrafficByDate": self._traffic,
            "getTelephone": self._telephone,
            "realNameQueryIot": self._real_name,
            "disabledNumber": self._disable,
        }[told["method"]](iccid, told)

    async def _status(self, iccid: str, _: dict[str, str]) -> Response:
        status = {"productMainStatusCd": self.card(iccid)["status"], "productMainStatusName": "在用"}
        return JSONResponse({"resultCode": "0", "resultMsg": "处理成功！", "productInfo": [status]})

    async def _online(self, iccid: str, _: dict[str, str]) -> Response:
        online = self.card(iccid)["status"] == "4" and int(iccid[-2]) % 2 == 0
        session = {"result": "0" if online else "-1", "acctStatusType": "start" if online else "stop", "duration": "9"}
        return JSONResponse({"resultCode": "0", "resultMsg": "处理成功！", "description": session})

    async def _traffic(self, iccid: str, told: dict[str, str]) -> Response:
        if told["startDate"][:6] != told["endDate"][:6]:
            return PlainTextResponse("-2")
        used = self.used.get((iccid, told["startDate"]), "0.00")
        return PlainTextResponse(
            '<root><web:NEW_DATA_TICKET_QRsp xmlns:web="http://www.example.org/webservice">'
            f"<CHARGE_CNT_CH>0元</CHARGE_CNT_CH><IRESULT>0</IRESULT><TOTAL_BYTES_CNT>{used}MB</TOTAL_BYTES_CNT>"
            f"<number>{self.card(iccid)['number']}</number></web:NEW_DATA_TICKET_QRsp></root>"
        )

    async def _telephone(self, iccid: str, _: dict[str, str]) -> Response:
        return JSONResponse({"RESULT": "0", "SMSG": self.card(iccid)["number"]})

    async def _real_name(self, iccid: str, _: dict[str, str]) -> Response:
        code = "0" if self.card(iccid)["registered"] else "-5"
        return PlainTextResponse(
            f'<SvcCont xmlns=""><RESULT><prodStatusName>在用</prodStatusName></RESULT><resultCode>{code}</resultCode>'
            "</SvcCont>"
        )

    async def _disable(self, iccid: str, told: dict[str, str]) -> Response:
        if self.due("lost"):
            return PlainTextResponse("", 503)
        card = self.card(iccid)
        self.orders[iccid] += 1
        wanted = {"19": "5", "20": "4"}.get(told["orderTypeId"])
        if wanted is None or card["status"] == "7":
            return PlainTextResponse("100008：不允许办理")
        if card["status"] == wanted:
            return PlainTextResponse("1999：已存在停机记录")
        if not self.due("ignored"):
            card["status"] = wanted
        if self.due("timeout"):
            await asyncio.sleep(3600)
        if self.due("http_500"):
            return PlainTextResponse("", 500)
        return PlainTextResponse(
            "<businessServiceResponse><RspType>0</RspType><result>0</result><resultMsg>成功接收消息</resultMsg>"
            f"<GROUP_TRANSACTIONID>1000000252{self.orders[iccid]:018d}</GROUP_TRANSACTIONID></businessServiceResponse>"
        )


app = Sandbox().app
