"""Which adapter speaks to which payment channel."""

from __future__ import annotations

from pydantic_settings import BaseSettings, SettingsConfigDict

from gateways.http import GatewayError, Partner
from gateways.payment.alipay import Alipay
from gateways.payment.channel import Channel, Merchant
from gateways.payment.wechat_pay import WechatPay

KEPT_CHANNELS = 1_000


class PaymentSettings(BaseSettings):
    """Where payment channels are reached: environment variables `TRELLIS_PAYMENT_<FIELD>`."""

    model_config = SettingsConfigDict(env_prefix="TRELLIS_PAYMENT_", hide_input_in_errors=True)

    wechat_pay_url: str = "https://api.mch.weixin.qq.com"
    """WeChat Pay, or a sandbox of it."""

    alipay_url: str = "https://openapi.alipay.com"
    """Alipay's gateway, or a sandbox of it."""


class Channels:
    """The payment channels of this process: one adapter for each merchant, one line to each partner."""

    def __init__(self) -> None:
        self._partners: dict[str, Partner] = {}
        self._channels: dict[tuple[str, str, Merchant], Channel] = {}

    def of(self, kind: str, merchant: Merchant) -> Channel:
        """The channel of a merchant. GatewayError PAYMENT_REFUSED where its keys are none."""
        settings = PaymentSettings()
        makers: dict[str, tuple[str, str, type[WechatPay] | type[Alipay]]] = {
            "WECHAT_PAY": ("WeChat Pay", settings.wechat_pay_url, WechatPay),
            "ALIPAY": ("Alipay", settings.alipay_url, Alipay),
        }
        name, url, make = makers[kind]
        key = (kind, url, merchant)
        if key not in self._channels:
            if len(self._channels) >= KEPT_CHANNELS:
                self._channels.clear()
            partner = self._partners.setdefault(url, Partner("PAYMENT", name))
            try:
                self._channels[key] = make(url, merchant, partner)
            except Exception:  # noqa: BLE001 - libraries' many words for a key that is none
                raise GatewayError("PAYMENT_REFUSED", f"The keys of the merchant at {name} cannot be read.") from None
        return self._channels[key]

    async def close(self) -> None:
        """Ends the connections of the running event loop."""
        for partner in self._partners.values():
            await partner.close()


channels = Channels()
"""The payment channels of this process."""
