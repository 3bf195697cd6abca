"""SMS over Alibaba Cloud (阿里云短信服务), version 2017-05-25 of its interface, signature version 1.0.

A request is a form, signed by HMAC-SHA1 over its sorted and percent-encoded fields; an answer is
`{"Code", "Message", "BizId", "RequestId"}`, and "OK" is success. The text stands with the provider: a message names
its template and gives the parameters.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import quote

import httpx
from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from gateways.http import GatewayError, Partner
from gateways.messaging.messages import Message

PASSING = frozenset({"isv.BUSINESS_LIMIT_CONTROL", "isp.SYSTEM_ERROR", "Throttling.User"})


class SmsSettings(BaseSettings):
    """The account at the provider: environment variables `TRELLIS_SMS_<FIELD>`."""

    model_config = SettingsConfigDict(env_prefix="TRELLIS_SMS_", hide_input_in_errors=True)

    url: str = "https://dysmsapi.aliyuncs.com"
    access_key_id: str = ""
    access_key_secret: SecretStr = SecretStr("")
    sign_name: str = ""
    """The signature (短信签名) that the provider has approved; it stands before every text."""


class _Outcome(BaseModel):
    Code: str


def _encoded(text: str) -> str:
    return quote(text, safe="-_.~")


def sign(secret: str, method: str, fields: Mapping[str, str]) -> str:
    query = "&".join(f"{_encoded(name)}={_encoded(fields[name])}" for name in sorted(fields))
    text = f"{method}&{_encoded('/')}&{_encoded(query)}"
    return base64.b64encode(hmac.digest(f"{secret}&".encode(), text.encode(), hashlib.sha1)).decode()


class Sms:
    """A message's address is a phone number; ``reference`` comes back in the provider's receipts as ``OutId``."""

    def __init__(self, settings: SmsSettings, partner: Partner | None = None) -> None:
        self._settings = settings
        self._partner = partner or Partner("SMS", "The SMS provider")

    async def send(self, message: Message) -> None:
        """SMS_UNAVAILABLE, SMS_REFUSED; NOT_SUPPORTED without an account or a registered template."""
        if not self._settings.access_key_id:
            raise GatewayError("NOT_SUPPORTED", "No SMS provider is set up.")
        if message.provider_template is None:
            raise GatewayError("NOT_SUPPORTED", "The text is not registered with the SMS provider.")
        fields = {
            "Action": "SendSms",
            "Version": "2017-05-25",
            "Format": "JSON",
            "AccessKeyId": self._settings.access_key_id,
            "SignatureMethod": "HMAC-SHA1",
            "SignatureVersion": "1.0",
            "PhoneNumbers": message.address,
            "SignName": self._settings.sign_name,
            "TemplateCode": message.provider_template,
            "TemplateParam": json.dumps(dict(message.parameters), ensure_ascii=False, sort_keys=True),
            "OutId": message.reference,
        }

        def build(client: httpx.AsyncClient) -> httpx.Request:
            signed = fields | {
                "SignatureNonce": uuid.uuid4().hex,
                "Timestamp": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
            }
            signed["Signature"] = sign(self._settings.access_key_secret.get_secret_value(), "POST", signed)
            return client.build_request("POST", self._settings.url.rstrip("/") + "/", data=signed)

        response = await self._partner.send(build)
        try:
            code = _Outcome.model_validate_json(response.content).Code
        except ValidationError:
            raise GatewayError(
                "SMS_UNAVAILABLE", "The SMS provider gave an answer that cannot be understood."
            ) from None
        if code in PASSING:
            raise GatewayError("SMS_UNAVAILABLE", f"The SMS provider asks to try later, with code {code}.")
        if code != "OK":
            raise GatewayError("SMS_REFUSED", f"The SMS provider refused with code {code[:60]}.")

    async def close(self) -> None:
        await self._partner.close()
