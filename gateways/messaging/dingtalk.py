"""Custom robots of DingTalk groups (自定义机器人), with the signature that DingTalk calls 加签.

The address carries the time in milliseconds and its HMAC-SHA256 under the robot's secret; an answer is
`{"errcode", "errmsg"}`, and 0 is success. A robot may speak twenty times a minute.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import time

import httpx
from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from gateways.http import GatewayError, Partner
from gateways.messaging.messages import Message

SEND_PATH = "/robot/send"
PASSING = frozenset({-1, 130101, 130102})
"""The system is busy; the robot speaks too often."""


class Robot(BaseModel):
    """What DingTalk shows when a robot is made: the token of its address, and its secret (``SEC...``)."""

    access_token: SecretStr
    secret: SecretStr


class DingTalkSettings(BaseSettings):
    """The robots of this installation by name: environment variables `TRELLIS_DINGTALK_<FIELD>`."""

    model_config = SettingsConfigDict(env_prefix="TRELLIS_DINGTALK_", hide_input_in_errors=True)

    url: str = "https://oapi.dingtalk.com"
    robots: dict[str, Robot] = {}
    """As JSON: ``{"operations": {"access_token": "...", "secret": "SEC..."}}``."""


class _Outcome(BaseModel):
    errcode: int


def sign(secret: str, timestamp: str) -> str:
    digest = hmac.digest(secret.encode(), f"{timestamp}\n{secret}".encode(), hashlib.sha256)
    return base64.b64encode(digest).decode()


class DingTalk:
    """A message's address is the name of a robot."""

    def __init__(self, settings: DingTalkSettings, partner: Partner | None = None) -> None:
        self._settings = settings
        self._partner = partner or Partner("DINGTALK", "DingTalk")

    async def send(self, message: Message) -> None:
        """DINGTALK_UNAVAILABLE, DINGTALK_REFUSED; NOT_SUPPORTED for a robot that is not set up."""
        robot = self._settings.robots.get(message.address)
        if robot is None:
            raise GatewayError("NOT_SUPPORTED", "No such robot is set up.")

        def build(client: httpx.AsyncClient) -> httpx.Request:
            timestamp = str(int(time.time() * 1000))
            return client.build_request(
                "POST",
                self._settings.url.rstrip("/") + SEND_PATH,
                params={
                    "access_token": robot.access_token.get_secret_value(),
                    "timestamp": timestamp,
                    "sign": sign(robot.secret.get_secret_value(), timestamp),
                },
                json={"msgtype": "markdown", "markdown": {"title": message.subject, "text": message.body}},
            )

        response = await self._partner.send(build)
        try:
            errcode = _Outcome.model_validate_json(response.content).errcode
        except ValidationError:
            raise GatewayError("DINGTALK_UNAVAILABLE", "DingTalk gave an answer that cannot be understood.") from None
        if errcode in PASSING:
            raise GatewayError("DINGTALK_UNAVAILABLE", f"DingTalk asks to try later, with code {errcode}.")
        if errcode != 0:
            raise GatewayError("DINGTALK_REFUSED", f"DingTalk refused with code {errcode}.")

    async def close(self) -> None:
        await self._partner.close()
