"""Template messages of a WeChat official account (公众号模板消息).

Every call carries a token, which the account's appid and secret buy for two hours; an answer is
`{"errcode", "errmsg"}`, and 0 is success. The text stands with WeChat: a message names its template and gives the
parameters. `client_msg_id` keeps WeChat from sending one message twice.
"""

from __future__ import annotations

import time
from typing import TypeVar

import httpx
from pydantic import BaseModel, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from gateways.http import GatewayError, Partner
from gateways.messaging.messages import Message

TOKEN_PATH = "/cgi-bin/token"  # noqa: S105
SEND_PATH = "/cgi-bin/message/template/send"
TOKEN_EXPIRED = frozenset({40001, 40014, 42001})
PASSING = frozenset({-1, 45009, 45011})
"""The system is busy; called too often."""
MARGIN_SECONDS = 60

Shape = TypeVar("Shape", bound=BaseModel)


class WeChatSettings(BaseSettings):
    """The official account: environment variables `TRELLIS_WECHAT_<FIELD>`."""

    model_config = SettingsConfigDict(env_prefix="TRELLIS_WECHAT_", hide_input_in_errors=True)

    url: str = "https://api.weixin.qq.com"
    app_id: str = ""
    secret: SecretStr = SecretStr("")


class _Token(BaseModel):
    access_token: str = Field(repr=False)
    expires_in: int


class _Outcome(BaseModel):
    errcode: int


class WeChat:
    """A message's address is the openid of somebody who follows the account."""

    def __init__(self, settings: WeChatSettings, partner: Partner | None = None) -> None:
        self._settings = settings
        self._partner = partner or Partner("WECHAT", "WeChat")
        self._token: tuple[str, float] | None = None

    async def send(self, message: Message) -> None:
        """WECHAT_UNAVAILABLE, WECHAT_REFUSED; NOT_SUPPORTED without an account or a registered template."""
        if not self._settings.app_id:
            raise GatewayError("NOT_SUPPORTED", "No WeChat official account is set up.")
        if message.provider_template is None:
            raise GatewayError("NOT_SUPPORTED", "The text is not registered with WeChat.")
        errcode = await self._sent(message)
        if errcode in TOKEN_EXPIRED:
            self._token = None
            errcode = await self._sent(message)
        if errcode in PASSING:
            raise GatewayError("WECHAT_UNAVAILABLE", f"WeChat asks to try later, with code {errcode}.")
        if errcode != 0:
            raise GatewayError("WECHAT_REFUSED", f"WeChat refused with code {errcode}.")

    async def close(self) -> None:
        await self._partner.close()

    async def _sent(self, message: Message) -> int:
        token = await self._bought()

        def build(client: httpx.AsyncClient) -> httpx.Request:
            return client.build_request(
                "POST",
                self._settings.url.rstrip("/") + SEND_PATH,
                params={"access_token": token},
                json={
                    "touser": message.address,
                    "template_id": message.provider_template,
                    "client_msg_id": message.reference,
                    "data": {name: {"value": value} for name, value in message.parameters.items()},
                },
            )

        return _read((await self._partner.send(build)).content, _Outcome).errcode

    async def _bought(self) -> str:
        if self._token is not None and time.monotonic() < self._token[1]:
            return self._token[0]

        def build(client: httpx.AsyncClient) -> httpx.Request:
            return client.build_request(
                "GET",
                self._settings.url.rstrip("/") + TOKEN_PATH,
                params={
                    "grant_type": "client_credential",
                    "appid": self._settings.app_id,
                    "secret": self._settings.secret.get_secret_value(),
                },
            )

        content = (await self._partner.send(build)).content
        if b'"errcode"' in content:
            raise GatewayError("WECHAT_REFUSED", f"WeChat gave no token, with code {_read(content, _Outcome).errcode}.")
        bought = _read(content, _Token)
        self._token = bought.access_token, time.monotonic() + bought.expires_in - MARGIN_SECONDS
        return bought.access_token


def _read(content: bytes, shape: type[Shape]) -> Shape:
    try:
        return shape.model_validate_json(content)
    except ValidationError:
        raise GatewayError("WECHAT_UNAVAILABLE", "WeChat gave an answer that cannot be understood.") from None
