"""A WeChat to log in by: what its servers answer, in their wire format, without its people.

`issue` gives a code of a mini-program or an official account for a person, good once. `faults` are answered to the
next calls, one each: an errcode, or `timeout`, `http_500`, `bad_json`.
"""

from __future__ import annotations

import json
import secrets
from collections import deque

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

# Spelt out again and not taken from the adapter, so that an error in one of them shows.
MESSAGES = {
    -1: "system error",
    40013: "invalid appid",
    40029: "invalid code",
    40125: "invalid appsecret",
    40163: "code been used",
    45011: "api minute-quota reach limit  mustslower  retry next minute",
}


class WechatSandbox:
    """`secrets` are those of the apps that exist; `asked` has the query of every call."""

    def __init__(self) -> None:
        self.secrets: dict[str, str] = {}
        self.asked: list[dict[str, str]] = []
        self.faults: deque[int | str] = deque()
        self._codes: dict[tuple[str, str], tuple[str, str | None]] = {}
        self._used: set[tuple[str, str]] = set()
        self.app = Starlette(
            routes=[
                Route("/sns/jscode2session", self._session),
                Route("/sns/oauth2/access_token", self._token),
            ]
        )

    def issue(self, app_id: str, openid: str, unionid: str | None = None) -> str:
        """A code as `wx.login` gives it to a mini-program, or a redirect to an official account's page."""
        code = secrets.token_urlsafe(24)
        self._codes[app_id, code] = (openid, unionid)
        return code

    async def _session(self, request: Request) -> Response:
        return await self._answer(request, "js_code", {"session_key": "c2Vzc2lvbiBrZXkgMTYgYg=="})

    async def _token(self, request: Request) -> Response:
        tokens = {"access_token": "ACCESS", "expires_in": 7200, "refresh_token": "REFRESH", "scope": "snsapi_base"}
        return await self._answer(request, "code", tokens)

    async def _answer(self, request: Request, code: str, more: dict[str, object]) -> Response:
        asked = dict(request.query_params)
        self.asked.append(asked)
        if self.faults:
            return await self._fault(request, self.faults.popleft())
        if asked.get("grant_type") != "authorization_code":
            return _refusal(40002)
        app_id, key = asked.get("appid", ""), (asked.get("appid", ""), asked.get(code, ""))
        if app_id not in self.secrets:
            return _refusal(40013)
        if self.secrets[app_id] != asked.get("secret"):
            return _refusal(40125)
        if key in self._used:
            return _refusal(40163)
        if key not in self._codes:
            return _refusal(40029)
        self._used.add(key)
        openid, unionid = self._codes[key]
        return _json({**more, "openid": openid} | ({} if unionid is None else {"unionid": unionid}))

    async def _fault(self, request: Request, fault: int | str) -> Response:
        if isinstance(fault, int):
            return _refusal(fault)
        if fault == "http_500":
            return PlainTextResponse("Internal Server Error", status_code=500)
        if fault == "bad_json":
            return PlainTextResponse('{"openid":"o6_', media_type="text/plain")
        while (await request.receive())["type"] != "http.disconnect":
            pass
        return Response(status_code=504)


def _json(answer: dict[str, object]) -> Response:
    return PlainTextResponse(json.dumps(answer), media_type="text/plain")


def _refusal(errcode: int) -> Response:
    return _json({"errcode": errcode, "errmsg": f"{MESSAGES.get(errcode, 'error')}, rid: 6552e5a1-1b2c3d4e-5f607182"})
