"""A Gitee to log in by: its OAuth 2 and its user, in their wire format.

`faults` are answered to the next calls, one each: `http_500`, `bad_json`, `no_token` (the token is not known).
"""

from __future__ import annotations

import secrets
from collections import deque
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route


class GiteeSandbox:
    """`secrets` are those of the apps that exist."""

    def __init__(self) -> None:
        self.secrets: dict[str, str] = {}
        self.faults: deque[str] = deque()
        self._codes: dict[str, tuple[str, str, int]] = {}
        self._tokens: dict[str, int] = {}
        self.app = Starlette(
            routes=[
                Route("/oauth/token", self._token, methods=["POST"]),
                Route("/api/v5/user", self._user),
            ]
        )

    def issue(self, app_id: str, redirect_uri: str, user: int) -> str:
        """A code as the redirect to a page carries it, once the user has agreed."""
        code = secrets.token_hex(32)
        self._codes[code] = (app_id, redirect_uri, user)
        return code

    def _fault(self) -> Response | None:
        if not self.faults or self.faults[0] == "no_token":
            return None
        if self.faults.popleft() == "http_500":
            return PlainTextResponse("<html>500</html>", status_code=500)
        return PlainTextResponse('{"access_tok', media_type="application/json")

    async def _token(self, request: Request) -> Response:
        fault = self._fault()
        if fault is not None:
            return fault
        form = {name: values[0] for name, values in parse_qs((await request.body()).decode()).items()}
        if form.get("grant_type") != "authorization_code":
            return _refusal("unsupported_grant_type", "授权服务器不支持该授权类型。")
        app_id = form.get("client_id", "")
        if self.secrets.get(app_id) != form.get("client_secret"):
            return _refusal("invalid_client", "由于未知、不支持或没有客户端，认证失败。")
        issued = self._codes.pop(form.get("code", ""), None)
        if issued is None or issued[:2] != (app_id, form.get("redirect_uri")):
            return _refusal("invalid_grant", "授权方式无效，或者登录回调地址无效、过期或已被撤销")
        token = secrets.token_hex(16)
        self._tokens[token] = issued[2]
        return JSONResponse(
            {
                "access_token": token,
                "token_type": "bearer",
                "expires_in": 86400,
                "refresh_token": secrets.token_hex(32),
                "scope": "user_info",
                "created_at": 1767225600,
            }
        )

    async def _user(self, request: Request) -> Response:
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if self.faults and self.faults.popleft() == "no_token":
            token = ""
        if kind != "token" or token not in self._tokens:
            return JSONResponse({"message": "401 Unauthorized: Access token does not exist"}, status_code=401)
        user = self._tokens[token]
        return JSONResponse({"id": user, "login": f"user{user}", "name": "码云用户", "type": "User", "email": None})


def _refusal(error: str, description: str) -> Response:
    return JSONResponse({"error": error, "error_description": description}, status_code=401)
