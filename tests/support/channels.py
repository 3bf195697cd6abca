"""Payment channels of the platform in front of their sandboxes, and people who pay through them."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from gateways.http import Partner
from gateways.payment import channels
from gateways.payment.sandbox import AlipaySandbox, Sandbox, WechatPaySandbox, private_pem, public_pem
from tests.support.serving import serving
from tests.support.world import World

CREATE_CHANNEL = """mutation($input: CreatePaymentChannelInput!) { createPaymentChannel(input: $input) {
    paymentChannel { id kind status merchantId } errors { code field } } }"""
PAYMENT = "id paymentNo status purpose amount currency transactionNo paidAt closedAt codeUrl"
CREATE_PAYMENT = f"""mutation($input: CreatePaymentInput!) {{ createPayment(input: $input) {{
    payment {{ {PAYMENT} }} errors {{ code field }} }} }}"""
CREATE_PREPAYMENT = f"""mutation($input: CreatePrepaymentInput!) {{ createPrepayment(input: $input) {{
    payment {{ {PAYMENT} }} errors {{ code field }} }} }}"""
FIND_PAYMENT = f"""query($id: ID!, $code: Boolean!) {{ payment(id: $id) {{
    {PAYMENT.replace("codeUrl", "codeUrl @include(if: $code)")} }} }}"""
SECONDS = 0.5
"""So long a channel may take to answer in tests."""


@dataclass
class Collecting:
    """The platform's accounts with both channels, and the sandboxes behind them."""

    world: World
    wechat: WechatPaySandbox
    alipay: AlipaySandbox

    def behind(self, channel: str) -> Sandbox:
        return self.wechat if channel == "WECHAT_PAY" else self.alipay

    async def prepay(self, caller: str, amount: str, channel: str = "WECHAT_PAY", **more: Any) -> dict[str, Any]:
        input = {"amount": amount, "channel": channel, "idempotencyKey": str(uuid.uuid4()), **more}
        data = await self.world.data(caller, CREATE_PREPAYMENT, {"input": input})
        found: dict[str, Any] = data["createPrepayment"]
        return found

    async def ask(self, caller: str, order: str, channel: str = "WECHAT_PAY", **more: Any) -> dict[str, Any]:
        input = {"order": order, "channel": channel, "idempotencyKey": str(uuid.uuid4()), **more}
        data = await self.world.data(caller, CREATE_PAYMENT, {"input": input})
        found: dict[str, Any] = data["createPayment"]
        return found

    async def payment(self, caller: str, id: str, *, code: bool = False) -> dict[str, Any]:
        found: dict[str, Any] = (await self.world.data(caller, FIND_PAYMENT, {"id": id, "code": code}))["payment"]
        return found


def wechat_input(sandbox: WechatPaySandbox, **more: Any) -> dict[str, Any]:
    """What finance enters for WeChat Pay."""
    return {
        "kind": "WECHAT_PAY",
        "name": "WeChat",
        "appId": sandbox.app_id,
        "merchantId": sandbox.merchant_id,
        "certificateSerialNo": sandbox.merchant_serial,
        "privateKey": private_pem(sandbox.merchant_key),
        "apiV3Key": sandbox.key,
        **more,
    }


def alipay_input(sandbox: AlipaySandbox, **more: Any) -> dict[str, Any]:
    """What finance enters for Alipay."""
    return {
        "kind": "ALIPAY",
        "name": "Alipay",
        "appId": sandbox.app_id,
        "merchantId": sandbox.merchant_id,
        "privateKey": private_pem(sandbox.merchant_key),
        "channelPublicKey": public_pem(sandbox.own_key),
        **more,
    }


@asynccontextmanager
async def collecting(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    entered: Callable[[dict[str, Any]], dict[str, Any]] = dict,
    *,
    public_key: bool = False,
) -> AsyncIterator[Collecting]:
    """Both channels, set up by finance, with impatient lines to their sandboxes."""

    async def deliver(url: str, headers: dict[str, str], content: bytes) -> httpx.Response:
        return await world.client.http.post(urlsplit(url).path, content=content, headers=headers)

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    wechat, alipay = WechatPaySandbox(), AlipaySandbox()
    wechat.deliver = alipay.deliver = deliver
    by_key: dict[str, Any] = {}
    if public_key:
        wechat.serial = "PUB_KEY_ID_0119000001092026"
        by_key = {"channelPublicKey": public_pem(wechat.own_key), "channelPublicKeyId": wechat.serial}
    for input in (wechat_input(wechat, **by_key), alipay_input(alipay)):
        made = (await world.data("finance", CREATE_CHANNEL, {"input": entered(input)}))["createPaymentChannel"]
        assert made["errors"] == []
    async with serving(wechat.app) as wechat_url, serving(alipay.app) as alipay_url:
        for name, url in (("WECHAT_PAY", wechat_url), ("ALIPAY", alipay_url)):
            monkeypatch.setenv(f"TRELLIS_PAYMENT_{name}_URL", url)
            channels._partners[url] = Partner("PAYMENT", name, timeout_seconds=SECONDS)
        yield Collecting(world, wechat, alipay)
        await channels.close()
