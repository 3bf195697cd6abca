"""Gitee (码云): who gave us leave to ask who they are, by OAuth 2."""

from __future__ import annotations

from typing import TypeVar

import httpx
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from gateways.http import GatewayError, Partner

AUTHORIZE_PATH = "/oauth/authorize"
TOKEN_PATH = "/oauth/token"  # noqa: S105
USER_PATH = "/api/v5/user"
INVALID_GRANT = "invalid_grant"


class GiteeSettings(BaseSettings):
    """Where Gitee is reached: environment variables `TRELLIS_GITEE_<FIELD>`."""

    model_config = SettingsConfigDict(env_prefix="TRELLIS_GITEE_", hide_input_in_errors=True)

    url: str = "https://gitee.com"
    """Gitee, or a sandbox of it."""


class _Wire(BaseModel):
    model_config = ConfigDict(hide_input_in_errors=True)


class _Token(_Wire):
    access_token: str


class _Refusal(_Wire):
    error: str = ""


class _User(_Wire):
    id: int


Shape = TypeVar("Shape", bound=_Wire)


class GrantRefusedError(GatewayError):
    """The code is wrong, too old, or was used before."""

    def __init__(self) -> None:
        super().__init__("GITEE_REFUSED", "Gitee refused the code.")


class Gitee:
    """Gitee's OAuth 2 and the one question that is asked with it. What it gives is used once and not kept."""

    def __init__(self, base_url: str, partner: Partner | None = None) -> None:
        self._base_url = base_url.rstrip("/")
        self._partner = partner or Partner("GITEE", "Gitee")

    def authorize_url(self, app_id: str, redirect_uri: str, state: str) -> str:
        """Where a browser is sent, to come back with a code."""
        parameters = {
            "client_id": app_id,
            "redirect_uri": redirect_uri,
            "response_type": "code",
            "scope": "user_info",
            "state": state,
        }
        return str(httpx.URL(self._base_url + AUTHORIZE_PATH, params=parameters))

    async def user_of(self, app_id: str, secret: str, code: str, redirect_uri: str) -> str:
        """The key of the Gitee user whom a code stands for.

        Raises GrantRefusedError; GatewayError GITEE_UNAVAILABLE (try later), GITEE_REFUSED (the app or its secret).
        """
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "client_id": app_id,
            "redirect_uri": redirect_uri,
            "client_secret": secret,
        }
        bought = await self._partner.send(
            lambda client: client.build_request("POST", self._base_url + TOKEN_PATH, data=form)
        )
        if bought.status_code != httpx.codes.OK:
            if _parsed(bought.content, _Refusal).error == INVALID_GRANT:
                raise GrantRefusedError
            raise GatewayError("GITEE_REFUSED", f"Gitee answered with HTTP status {bought.status_code}.")
        token = _parsed(bought.content, _Token).access_token
        found = await self._partner.send(
            lambda client: client.build_request(
                "GET", self._base_url + USER_PATH, headers={"authorization": f"token {token}"}
            )
        )
        if found.status_code != httpx.codes.OK:
            raise GatewayError("GITEE_REFUSED", f"Gitee answered with HTTP status {found.status_code}.")
        return str(_parsed(found.content, _User).id)

    async def close(self) -> None:
        """Ends the connections of the running event loop."""
        await self._partner.close()


def _parsed(content: bytes, shape: type[Shape]) -> Shape:
    try:
        return shape.model_validate_json(content)
    except ValidationError:
        raise GatewayError("GITEE_UNAVAILABLE", "Gitee gave an answer that cannot be understood.") from None


_known: dict[str, Gitee] = {}


def gitee() -> Gitee:
    """Gitee as this process reaches it."""
    url = GiteeSettings().url
    if url not in _known:
        _known[url] = Gitee(url)
    return _known[url]
