"""DingTalk, the SMS provider and WeChat as they answer over HTTP: signatures are checked, messages are kept.

What they have documented is spelt out again here and not taken from the adapters, so that an error in one shows.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import Any
from urllib.parse import parse_qsl, quote

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

ROBOT_TOKEN, ROBOT_SECRET = "robot-token", "SECrobot"
SMS_KEY, SMS_SECRET = "LTAIsandbox", "sms secret"
WECHAT_APP, WECHAT_SECRET = "wx0123456789", "wechat secret"


class Messengers:
    """``faults`` befall the next messages: a number is an HTTP status, a text is the whole answer."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.faults: list[int | str] = []
        self.tokens: list[str] = []
        self.nonces: set[str] = set()
        self.app = Starlette(
            routes=[
                Route("/robot/send", self.robot, methods=["POST"]),
                Route("/", self.sms, methods=["POST"]),
                Route("/cgi-bin/token", self.token),
                Route("/cgi-bin/message/template/send", self.template, methods=["POST"]),
            ]
        )

    def fault(self) -> Response | None:
        if not self.faults:
            return None
        due = self.faults.pop(0)
        return PlainTextResponse("broken", due) if isinstance(due, int) else Response(due)

    async def robot(self, request: Request) -> Response:
        if (fault := self.fault()) is not None:
            return fault
        query = request.query_params
        if query.get("access_token") != ROBOT_TOKEN:
            return JSONResponse({"errcode": 300001, "errmsg": "token is not exist"})
        text = f"{query['timestamp']}\n{ROBOT_SECRET}"
        expected = base64.b64encode(hmac.new(ROBOT_SECRET.encode(), text.encode(), hashlib.sha256).digest()).decode()
        late = abs(time.time() * 1000 - int(query["timestamp"])) > 3_600_000
        if late or query["sign"] != expected:
            return JSONResponse({"errcode": 310000, "errmsg": "sign not match"})
        self.sent.append(await request.json())
        return JSONResponse({"errcode": 0, "errmsg": "ok"})

    async def sms(self, request: Request) -> Response:
        if (fault := self.fault()) is not None:
            return fault
        fields = dict(parse_qsl((await request.body()).decode(), keep_blank_values=True))
        given = fields.pop("Signature")
        pairs = sorted((quote(k, safe="~"), quote(v, safe="~")) for k, v in fields.items())
        text = "POST&%2F&" + quote("&".join(f"{k}={v}" for k, v in pairs), safe="~")
        key = (SMS_SECRET + "&").encode()
        expected = base64.b64encode(hmac.new(key, text.encode(), hashlib.sha1).digest()).decode()
        if fields["AccessKeyId"] != SMS_KEY or given != expected:
            return JSONResponse({"Code": "SignatureDoesNotMatch", "Message": "no"}, 400)
        if fields["SignatureNonce"] in self.nonces:
            return JSONResponse({"Code": "SignatureNonceUsed", "Message": "no"}, 400)
        self.nonces.add(fields["SignatureNonce"])
        names = ("Action", "Version", "PhoneNumbers", "SignName", "TemplateCode", "OutId")
        self.sent.append({**{n: fields[n] for n in names}, "TemplateParam": json.loads(fields["TemplateParam"])})
        return JSONResponse({"Code": "OK", "Message": "OK", "BizId": "1", "RequestId": "1"})

    async def token(self, request: Request) -> Response:
        query = dict(request.query_params)
        if query != {"grant_type": "client_credential", "appid": WECHAT_APP, "secret": WECHAT_SECRET}:
            return JSONResponse({"errcode": 40125, "errmsg": "invalid appsecret"})
        self.tokens.append(f"token {len(self.tokens)}")
        return JSONResponse({"access_token": self.tokens[-1], "expires_in": 7200})

    async def template(self, request: Request) -> Response:
        if (fault := self.fault()) is not None:
            return fault
        if not self.tokens or request.query_params.get("access_token") != self.tokens[-1]:
            return JSONResponse({"errcode": 40001, "errmsg": "invalid credential"})
        self.sent.append(await request.json())
        return JSONResponse({"errcode": 0, "errmsg": "ok", "msgid": 1})
