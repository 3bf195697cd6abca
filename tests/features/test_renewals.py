"""Renewals on the WeChat door: an end user recharges its own card, pays inside WeChat, and each agent has its share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest

from gateways import wechat as gateway
from gateways.carrier import Used
from gateways.http import Partner
from gateways.payment.sandbox import is_signed
from planner.ids import encode_id
from services.usage import pulling
from tests.support.channels import Collecting, collecting
from tests.support.commerce import PRICE, balances, package_id, rates, said
from tests.support.people import payload, who
from tests.support.serving import serving
from tests.support.wechat import WechatSandbox
from tests.support.world import World

SECRET = "0123456789abcdef0123456789abcdef"
SET_APP = "mutation($input: SetLoginAppInput!) { setLoginApp(input: $input) { errors { code field } } }"
BIND = "mutation($input: BindSimEndUserInput!) { bindSimEndUser(input: $input) { errors { code field } } }"
RENEWALS = """{ renewals { nodes { orderNo status amount payType phone boundAt endUser { id } simCard { displayIccid }
    package { code } payments { nodes { id status amount transactionNo } } } } }"""
ENTRIES = "{ commissionEntries { nodes { agent { name } amount } } }"


@dataclass
class Subscriber:
    """An end user of ``coast``, the third level of agents, with a card that coast holds."""

    shop: Collecting
    token: str
    id: str
    card: str

    @property
    def world(self) -> World:
        return self.shop.world

    async def call(self, operation: str, variables: dict[str, Any] | None = None) -> Any:
        return await payload(self.world, "wechat", operation, variables or {}, token=self.token)

    async def renew(self, **more: Any) -> dict[str, Any]:
        input = {
            "card": self.card,
            "package": package_id(self.world, "CM-M-1G"),
            "idempotencyKey": "once",
            **more,
        }
        found: dict[str, Any] = await self.call("RenewSimCard", {"input": input})
        return found


@pytest.fixture
async def ada(world: World, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Subscriber]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    sandbox = WechatSandbox()
    async with collecting(world, monkeypatch) as shop, serving(sandbox.app) as url:
        app = shop.wechat.app_id
        sandbox.secrets[app] = SECRET
        input = {"provider": "WECHAT_MINI_PROGRAM", "appId": app, "secret": SECRET}
        assert (await world.data("coast", SET_APP, {"input": input}))["setLoginApp"]["errors"] == []
        monkeypatch.setenv("TRELLIS_WECHAT_API_URL", url)
        impatient = gateway.Wechat(url, Partner("WECHAT", "WeChat", timeout_seconds=0.5))
        monkeypatch.setitem(gateway._known, url, impatient)
        code = sandbox.issue(app, "oAda")
        logged = await payload(world, "wechat", "WechatLogin", {"appId": app, "loginCode": code})
        token = logged["session"]["accessToken"]
        id = await who(world, "wechat", token)
        await world.sql("UPDATE end_user SET phone = '13800138000' WHERE wechat_openid = 'oAda'")
        card = world.card_ids("coast")[0]
        await world.sql("UPDATE sim_card SET end_user_id = NULL")
        bound = await world.data("coast", BIND, {"input": {"card": card, "endUser": id}})
        assert bound["bindSimEndUser"]["errors"] == []
        yield Subscriber(shop, token, id, card)
        await impatient.close()


@pytest.mark.feature("S0-33", "S0-47", "S0-55")
async def test_an_end_user_renews_its_card_and_every_level_sees_its_own_share(ada: Subscriber) -> None:
    world, wechat = ada.world, ada.shop.wechat
    await rates(world, "20", "12", "5")
    made = await ada.renew()
    assert made["errors"] == []
    assert (made["order"]["status"], Decimal(made["order"]["amount"])) == ("AWAITING_PAYMENT", PRICE)
    with_which = made["payment"]["miniProgram"]
    trade = wechat.trades[made["payment"]["paymentNo"]]
    assert (with_which["appId"], trade.payer) == (wechat.app_id, "oAda")
    assert with_which["package"] == f"prepay_id=wx{trade.payment_no}"
    text = "\n".join([with_which[name] for name in ("appId", "timeStamp", "nonceStr", "package")]) + "\n"
    assert is_signed(wechat.merchant_key.public_key(), text, with_which["paySign"])
    assert made["payment"]["codeUrl"] is None
    await wechat.pay(trade.payment_no)

    (renewal,) = (await world.data("coast", RENEWALS))["renewals"]["nodes"]
    (paid,) = renewal.pop("payments")["nodes"]
    assert renewal.pop("boundAt") is not None
    assert Decimal(renewal.pop("amount")) == PRICE
    card = world.cards["coast"][0]
    assert renewal == {
        "orderNo": made["order"]["orderNo"],
        "status": "PAID",
        "payType": "WECHAT_PAY",
        "phone": "138****8000",
        "endUser": {"id": ada.id},
        "simCard": {"displayIccid": card.display_iccid},
        "package": {"code": "CM-M-1G"},
    }
    assert (paid["status"], paid["transactionNo"]) == ("SUCCEEDED", trade.transaction_no)
    assert Decimal(paid["amount"]) == PRICE
    (mine,) = (await ada.call("MyRenewals"))["nodes"]
    assert (mine["phone"], mine["payments"]["nodes"][0]["id"]) == ("13800138000", paid["id"])
    (payment,) = (await ada.call("MyPayments"))["nodes"]
    assert (payment["transactionNo"], payment["status"]) == (trade.transaction_no, "SUCCEEDED")
    for stranger in ("south", "acme"):
        assert (await world.data(stranger, RENEWALS))["renewals"]["nodes"] == []

    shares = {"north": "1.6384", "north-east": "1.4336", "coast": "1.024"}
    for agent, amount in shares.items():
        (entry,) = (await world.data(agent, ENTRIES))["commissionEntries"]["nodes"]
        assert (entry["agent"]["name"], Decimal(entry["amount"])) == (world.tenants[agent].name, Decimal(amount))
    after = await balances(world)
    assert after["platform", "SALES"] == PRICE - sum(Decimal(one) for one in shares.values())
    assert sum(after.values()) == 0
    (subscription,) = await world.sql("SELECT tenant_id, status FROM package_subscription")
    assert (subscription["tenant_id"], subscription["status"]) == (world.tenants["coast"].id, "ACTIVE")


@pytest.mark.feature("S0-33")
async def test_a_card_of_an_enterprise_is_not_renewed(ada: Subscriber) -> None:
    await _to_acme(ada)
    assert said(await ada.renew()) == [("ENTERPRISE_CARD", "card")]
    assert await ada.world.sql("SELECT FROM sales_order") == []


@pytest.mark.feature("S0-33")
async def test_a_card_that_an_enterprise_got_before_the_money_came_is_not_renewed_either(ada: Subscriber) -> None:
    world, wechat = ada.world, ada.shop.wechat
    await rates(world, "20", "12", "5")
    made = await ada.renew()
    await _to_acme(ada)
    (told,) = await wechat.pay(made["payment"]["paymentNo"])
    assert told.status_code == 200
    assert await world.sql("SELECT FROM package_subscription") == []
    assert await world.sql("SELECT FROM commission_entry") == []
    await world.client.work_off()
    assert [one.amount for one in wechat.refunds.values()] == [PRICE]
    (payment,) = (await ada.call("MyPayments"))["nodes"]
    assert [(one["cause"], one["status"]) for one in payment["refunds"]["nodes"]] == [("ENTERPRISE_CARD", "SUCCEEDED")]
    assert await balances(world) == {}


async def test_only_a_card_of_ones_own_is_renewed(ada: Subscriber) -> None:
    world = ada.world
    for stranger in (world.card_ids("coast")[1], world.card_ids("south")[0], encode_id("sim", 10**9)):
        assert said(await ada.renew(card=stranger, idempotencyKey=stranger)) == [("NOT_FOUND", "card")]
    assert said(await ada.renew(package=encode_id("pkg", 10**9), idempotencyKey="2")) == [("NOT_FOUND", "package")]
    await world.sql("UPDATE data_package SET status = 'DISABLED'")
    assert said(await ada.renew(idempotencyKey="3")) == [("NOT_ACTIVE", "package")]


async def test_a_person_who_lost_the_card_before_the_money_came_has_it_back(ada: Subscriber) -> None:
    made = await ada.renew()
    await ada.world.data("coast", BIND, {"input": {"card": ada.card, "endUser": None}})
    await ada.shop.wechat.pay(made["payment"]["paymentNo"])
    await ada.world.client.work_off()
    (payment,) = (await ada.call("MyPayments"))["nodes"]
    assert [one["cause"] for one in payment["refunds"]["nodes"]] == ["CARDS_CHANGED"]


async def test_the_holder_cannot_pay_its_customers_renewal_from_its_balance(ada: Subscriber) -> None:
    made = await ada.renew()
    pay = "mutation($input: PayOrderInput!) { payOrder(input: $input) { errors { code field } } }"
    input = {"id": made["order"]["id"], "idempotencyKey": "k"}
    assert said((await ada.world.data("coast", pay, {"input": input}))["payOrder"]) == [("NOT_FOUND", "id")]


@pytest.mark.feature("S0-32")
async def test_an_end_user_sees_what_is_left_and_what_it_used(ada: Subscriber) -> None:
    world = ada.world
    (before,) = (await ada.call("MyDataBalances"))["nodes"]
    assert (before["id"], before["dataBalance"]) == (ada.card, None)
    made = await ada.renew()
    await ada.shop.wechat.pay(made["payment"]["paymentNo"])
    today = datetime.now(pulling.CHINA).date()
    database = world.client.application.runtime.database
    mine, other = (card.id for card in world.cards["coast"][:2])
    await pulling.record(database, today, {mine: Used(2048, since=today), other: Used(7, since=today)})
    (left,) = (await ada.call("MyDataBalances"))["nodes"]
    assert left["dataBalance"]["totalMb"] == 1024
    assert (left["dataBalance"]["usedKb"], left["dataBalance"]["remainingKb"]) == ("2048", str(1024 * 1024 - 2048))
    used = (await ada.call("MyDailyUsage", {"card": ada.card}))["nodes"]
    assert [(one["day"], one["usedKb"]) for one in used] == [(today.isoformat(), "2048")]
    assert (await ada.call("MyDailyUsage", {"card": world.card_ids("coast")[1]}))["nodes"] == []


async def test_a_package_on_sale_is_chosen_by_what_it_costs_the_user(ada: Subscriber) -> None:
    found = (await ada.call("PackagesOnSale", {"filter": {"status": {"eq": "ACTIVE"}}}))["nodes"]
    assert PRICE in [Decimal(one["salePrice"]) for one in found]


async def _to_acme(ada: Subscriber) -> None:
    acme = ada.world.tenants["acme"]
    await ada.world.sql(
        "UPDATE sim_card SET tenant_id = $1, tenant_path = $2 WHERE id = $3",
        acme.id,
        acme.path,
        ada.world.cards["coast"][0].id,
    )
