"""WeChat (微信): who holds a code that a mini-program, or the browser of an official account's page, was given.

An answer is JSON, sent as `text/plain`, with HTTP status 200 whatever it says; `errcode` tells of a refusal and is
absent, or 0, in a success.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import httpx
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from gateways.http import GatewayError, Partner

CODE_TO_SESSION_PATH = "/sns/jscode2session"
CODE_TO_TOKEN_PATH = "/sns/oauth2/access_token"  # noqa: S105
AUTHORIZE_PATH = "/connect/oauth2/authorize"

CODE_REFUSALS = frozenset({40029, 40163})
"""The code is none, is too old, or was used before: its holder asks the mini-program for another."""
PASSING = frozenset({-1, 45011})
"""WeChat is busy, or was asked too often: try later."""


class WechatSettings(BaseSettings):
    """Where WeChat is reached: environment variables `TRELLIS_WECHAT_<FIELD>`."""

    model_config = SettingsConfigDict(env_prefix="TRELLIS_WECHAT_", hide_input_in_errors=True)

    api_url: str = "https://api.weixin.qq.com"
    """WeChat's interface for servers, or a sandbox of it."""

    open_url: str = "https://open.weixin.qq.com"
    """Where browsers inside WeChat are sent to be asked who they are."""


@dataclass(frozen=True)
class WechatIdentity:
    """A person as one app knows them; `unionid` is the same in all apps of one owner, where those are joined."""

    openid: str
    unionid: str | None


class _Wire(BaseModel):
    model_config = ConfigDict(hide_input_in_errors=True)


class _Outcome(_Wire):
    errcode: int = 0


class _Identity(_Wire):
    openid: str
    unionid: str | None = None


Shape = TypeVar("Shape", bound=_Wire)


class CodeRefusedError(GatewayError):
    """The code is not one that can be used now."""

    def __init__(self, errcode: int) -> None:
        super().__init__("WECHAT_REFUSED", f"WeChat refused the code with {errcode}.")


class Wechat:
    """WeChat's interface for servers. Codes are used once: nothing is asked twice that WeChat has answered."""

    def __init__(self, base_url: str, partner: Partner | None = None) -> None:
        self._base_url = base_url.rstrip("/")
        self._partner = partner or Partner("WECHAT", "WeChat")

    async def code_to_session(self, app_id: str, secret: str, code: str) -> WechatIdentity:
        """Who a mini-program's login code stands for. The session key that comes with it is not kept.

        Raises CodeRefusedError; GatewayError WECHAT_UNAVAILABLE (try later), WECHAT_REFUSED (the app or its secret).
        """
        found = await self._ask(
            CODE_TO_SESSION_PATH,
            _Identity,
            appid=app_id,
            secret=secret,
            js_code=code,
            grant_type="authorization_code",
        )
        return WechatIdentity(found.openid, found.unionid)

    def authorize_url(self, app_id: str, redirect_uri: str, state: str) -> str:
        """Where the browser of an official account's page is sent, to come back with a code."""
        parameters = {
            "appid": app_id,
            "redirect_uri": redirect_uri,
            "response_type": "code",
            "scope": "snsapi_base",
            "state": state,
        }
        return f"{httpx.URL(WechatSettings().open_url.rstrip('/') + AUTHORIZE_PATH, params=parameters)}#wechat_redirect"

    async def code_to_openid(self, app_id: str, secret: str, code: str) -> WechatIdentity:
        """Who the code of an official account's page stands for. The tokens that come with it are not kept.

        Raises as `code_to_session` does.
        """
        found = await self._ask(
            CODE_TO_TOKEN_PATH, _Identity, appid=app_id, secret=secret, code=code, grant_type="authorization_code"
        )
        return WechatIdentity(found.openid, found.unionid)

    async def close(self) -> None:
        """Ends the connections of the running event loop."""
        await self._partner.close()

    async def _ask(self, path: str, shape: type[Shape], **parameters: str) -> Shape:
        def build(client: httpx.AsyncClient) -> httpx.Request:
            return client.build_request("GET", self._base_url + path, params=parameters)

        response = await self._partner.send(build)
        if response.status_code != httpx.codes.OK:
            raise GatewayError("WECHAT_REFUSED", f"WeChat answered with HTTP status {response.status_code}.")
        errcode = _parsed(response.content, _Outcome).errcode
        if errcode in CODE_REFUSALS:
            raise CodeRefusedError(errcode)
        if errcode in PASSING:
            raise GatewayError("WECHAT_UNAVAILABLE", f"WeChat cannot answer now: {errcode}.")
        if errcode:
            raise GatewayError("WECHAT_REFUSED", f"WeChat refused with {errcode}.")
        return _parsed(response.content, shape)


def _parsed(content: bytes, shape: type[Shape]) -> Shape:
    try:
        return shape.model_validate_json(content)
    except ValidationError:
        raise GatewayError("WECHAT_UNAVAILABLE", "WeChat gave an answer that cannot be understood.") from None


_known: dict[str, Wechat] = {}


def wechat() -> Wechat:
    """WeChat as this process reaches it."""
    url = WechatSettings().api_url
    if url not in _known:
        _known[url] = Wechat(url)
    return _known[url]
