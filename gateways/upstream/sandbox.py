"""A PID and a SMART to try things out with: `uvicorn gateways.upstream.sandbox:app`, API key `any number:sandbox`.

A recharge is done at once, except for cards whose number ends in 7, which stay under way until `finish`, and in 4,
which fail. `POST /_faults {"kind": ..., "times": n}` orders what befalls the next calls: `timeout` and `http_500` after
the recharge was taken, `lost` before it was, and `bad_json`. `recharges` has what was taken, once for each number;
`submits` counts the calls.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import Counter
from collections.abc import Callable
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

SECRET = "sandbox"  # noqa: S105
FAULTS = ("timeout", "http_500", "lost", "bad_json")


class Sandbox:
    def __init__(self) -> None:
        self.recharges: dict[str, dict[str, Any]] = {}
        self.submits: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.app = Starlette(
            routes=[
                Route("/api/recharge", self._pid, methods=["POST"]),
                Route("/api/query", self._pid, methods=["POST"]),
                Route("/v1/recharges/{number}", self._smart, methods=["GET", "PUT"]),
                Route("/_faults", self._order_fault, methods=["POST"]),
            ]
        )

    def finish(self) -> None:
        """What is under way is done."""
        for recharge in self.recharges.values():
            if recharge["state"] == "processing":
                recharge["state"] = "success"

    async def _order_fault(self, request: Request) -> Response:
        order = await request.json()
        if order["kind"] not in FAULTS:
            return JSONResponse({"kinds": FAULTS}, 400)
        self.faults[order["kind"]] = int(order["times"])
        return Response(status_code=204)

    def _due(self, fault: str) -> bool:
        due = self.faults[fault] > 0
        self.faults[fault] -= due
        return due

    def _take(self, number: str, told: dict[str, Any]) -> dict[str, Any]:
        self.submits[number] += 1
        last = str(told["card"])[-1:]
        state = {"7": "processing", "4": "failed"}.get(last, "success")
        return self.recharges.setdefault(number, {**told, "state": state, "id": f"U{len(self.recharges):06d}"})

    async def _answer(self, request: Request, act: Callable[[], Response]) -> Response:
        if self._due("lost"):
            return await _silence(request)
        answer = act()
        if self._due("timeout"):
            return await _silence(request)
        if self._due("http_500"):
            return PlainTextResponse("Internal Server Error", status_code=500)
        if self._due("bad_json"):
            return PlainTextResponse('{"code":"0","sta', media_type="application/json")
        return answer

    async def _pid(self, request: Request) -> Response:
        fields = {name: str(value) for name, value in (await request.form()).items()}
        sign = fields.pop("sign", "")
        text = "&".join(f"{name}={fields[name]}" for name in sorted(fields)) + f"&key={SECRET}"
        if sign != hashlib.md5(text.encode()).hexdigest().upper():  # noqa: S324
            return JSONResponse({"code": "1001", "msg": "签名错误"})
        number = fields["orderno"]

        def act() -> Response:
            if request.url.path == "/api/recharge":
                self._take(
                    number,
                    {"card": fields["mobile"], "product": fields["pid"], "service": fields["type"], "n": fields["num"]},
                )
            found = self.recharges.get(number)
            if found is None:
                return JSONResponse({"code": 404, "msg": "订单不存在"})
            status = {"processing": 1, "success": 2, "failed": 3}[found["state"]]
            return JSONResponse({"code": 0, "msg": "OK", "status": status, "orderid": found["id"]})

        return await self._answer(request, act)

    async def _smart(self, request: Request) -> Response:
        body = await request.body()
        stamp = request.headers.get("x-timestamp", "")
        text = b"\n".join([request.method.encode(), request.url.path.encode(), stamp.encode(), body])
        if request.headers.get("x-signature") != hmac.new(SECRET.encode(), text, hashlib.sha256).hexdigest():
            return JSONResponse({"reason": "signature"}, 401)
        number = request.path_params["number"]
        told = await request.json() if body else {}

        def act() -> Response:
            if request.method == "PUT":
                self._take(
                    number,
                    {
                        "card": told["account"],
                        "product": told["product"],
                        "service": told["service"],
                        "n": told["quantity"],
                    },
                )
            found = self.recharges.get(number)
            if found is None:
                return JSONResponse({"reason": "not found"}, 404)
            return JSONResponse({"id": found["id"], "state": found["state"], "reason": None}, 202)

        return await self._answer(request, act)


async def _silence(request: Request) -> Response:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    return Response(status_code=504)


app = Sandbox().app
