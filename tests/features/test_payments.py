"""Payments through WeChat Pay and Alipay: asked for, told of in every way that can be thought of, booked once, given
back, and held against the channels' statements."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from planner.ids import decode_id, encode_id
from services import orders
from services.payments import checking, reconciling, refunding
from services.payments.booking import CHINA
from tests.support.channels import CREATE_CHANNEL, Collecting, alipay_input, collecting, wechat_input
from tests.support.commerce import PAY, PRICE, REFUND, balances, funded, ordered, rates, said, step
from tests.support.world import World

BOTH = pytest.mark.parametrize("channel", ["WECHAT_PAY", "ALIPAY"])
CHANNELS = "{ paymentChannels { nodes { id kind name appId merchantId certificateSerialNo status } } }"
UPDATE_CHANNEL = """mutation($input: UpdatePaymentChannelInput!) { updatePaymentChannel(input: $input) {
    paymentChannel { name status } errors { code field } } }"""
REFUNDS = """{ paymentRefunds { nodes { id status cause amount attempts reference payment { paymentNo } } } }"""
RETRY = """mutation($input: RetryPaymentRefundInput!) { retryPaymentRefund(input: $input) {
    refund { status attempts } errors { code field } } }"""
BY_HAND = """mutation($input: MarkRefundPaidInput!) { markRefundPaid(input: $input) {
    refund { status reference settledBy { id } } errors { code field } } }"""
DIFFERENCES = """{ paymentDifferences { nodes {
    id kind paymentNo refundNo amountHere amountAtChannel resolvedAt remark } } }"""
RECONCILE = """mutation($input: ReconcilePaymentsInput!) { reconcilePayments(input: $input) {
    started errors { code field } } }"""
RECONCILIATIONS = "{ paymentReconciliations { nodes { day entries matched differing channel { kind } } } }"
RESOLVE = """mutation($input: ResolvePaymentDifferenceInput!) { resolvePaymentDifference(input: $input) {
    difference { resolvedAt remark } errors { code field } } }"""


EC_KEY = (
    ec.generate_private_key(ec.SECP256R1())
    .private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    .decode()
)  # fmt: skip


@pytest.fixture
async def shop(world: World, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Collecting]:
    async with collecting(world, monkeypatch) as found:
        yield found


async def check(shop: Collecting, later: timedelta = timedelta(minutes=2)) -> None:
    runtime = shop.world.client.application.runtime
    await checking.check(runtime.database, runtime.keys, datetime.now(UTC) + later)


async def give_back(shop: Collecting, later: timedelta = timedelta()) -> None:
    runtime = shop.world.client.application.runtime
    await refunding.carry_out(runtime.database, runtime.keys, datetime.now(UTC) + later)


async def refunds(world: World) -> list[dict[str, Any]]:
    nodes: list[dict[str, Any]] = (await world.data("finance", REFUNDS))["paymentRefunds"]["nodes"]
    return nodes


async def primed(shop: Collecting, channel: str) -> None:
    """The channel's certificates are at hand: what befalls the next call befalls what it is about."""
    assert (await shop.prepay("south", "1", channel))["payment"]["codeUrl"] is not None


def told_of(difference: dict[str, Any]) -> tuple[str, str, Decimal | None, Decimal | None]:
    """A difference as it is compared here."""
    here, there = (
        None if amount is None else Decimal(amount)
        for amount in (difference["amountHere"], difference["amountAtChannel"])
    )
    return difference["kind"], difference["paymentNo"], here, there


async def an_order(world: World, caller: str = "north") -> dict[str, Any]:
    made = await ordered(world, caller)
    assert made["errors"] == []
    found: dict[str, Any] = made["order"]
    return found


# -- accounts with channels -----------------------------------------------------------------------------------------


@pytest.mark.feature("S2-27")
async def test_keys_of_a_channel_are_written_and_never_read(shop: Collecting) -> None:
    world = shop.world
    found = (await world.data("finance", CHANNELS))["paymentChannels"]["nodes"]
    assert [(one["kind"], one["status"]) for one in found] == [("WECHAT_PAY", "ACTIVE"), ("ALIPAY", "ACTIVE")]
    stored = await world.sql("SELECT * FROM payment_channel")
    for row in stored:
        assert shop.wechat.key.encode() not in row["keys_encrypted"]
        assert b"PRIVATE KEY" not in row["keys_encrypted"]
    (logged,) = await world.sql(
        "SELECT arguments::text AS told FROM operation_record WHERE mutation = 'create_payment_channel' LIMIT 1"
    )
    assert "PRIVATE KEY" not in logged["told"]
    assert shop.wechat.key not in logged["told"]
    for caller in ("operations", "north", "acme"):
        assert await world.codes(caller, CHANNELS) == ["FORBIDDEN"]
        assert await world.codes(caller, CREATE_CHANNEL, {"input": alipay_input(shop.alipay)}) == ["FORBIDDEN"]


@pytest.mark.parametrize(
    ("more", "refusal"),
    [
        ({"privateKey": "no key"}, ("INVALID_KEY", "privateKey")),
        ({"privateKey": EC_KEY}, ("INVALID_KEY", "privateKey")),
        ({"apiV3Key": "too short"}, ("INVALID_KEY", "apiV3Key")),
        ({"apiV3Key": None}, ("REQUIRED", "apiV3Key")),
        ({"certificateSerialNo": None}, ("REQUIRED", "certificateSerialNo")),
        ({"channelPublicKeyId": "PUB_KEY_ID_1"}, ("REQUIRED", "channelPublicKey")),
        ({"merchantId": " "}, ("REQUIRED", "merchantId")),
        ({}, ("TAKEN", "merchantId")),
    ],
)
async def test_an_account_is_refused_by_the_field_at_fault(
    shop: Collecting, more: dict[str, Any], refusal: tuple[str, str]
) -> None:
    made = await shop.world.data("finance", CREATE_CHANNEL, {"input": wechat_input(shop.wechat, **more)})
    assert said(made["createPaymentChannel"]) == [refusal]


async def test_keys_are_taken_in_any_form_and_wechats_public_key_too(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other_form(input: dict[str, Any]) -> dict[str, Any]:
        key = load_pem_private_key(input["privateKey"].encode(), None)
        old = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()).decode()
        return {**input, "privateKey": old.replace("\n", "\r\n")}

    async with collecting(world, monkeypatch, entered=other_form, public_key=True) as shop:
        for channel in ("WECHAT_PAY", "ALIPAY"):
            number = (await shop.prepay("north", "5", channel))["payment"]["paymentNo"]
            await shop.behind(channel).pay(number)
        assert shop.wechat.calls["certificates"] == 0
    assert (await balances(world))["north", "PREPAYMENT"] == Decimal(10)


async def test_an_account_is_changed_without_its_keys(shop: Collecting) -> None:
    world = shop.world
    id = (await world.data("finance", CHANNELS))["paymentChannels"]["nodes"][0]["id"]
    changed = await world.data("finance", UPDATE_CHANNEL, {"input": {"id": id, "name": "Renamed"}})
    assert changed["updatePaymentChannel"]["paymentChannel"] == {"name": "Renamed", "status": "ACTIVE"}
    assert (await shop.prepay("north", "5"))["payment"]["codeUrl"].startswith("weixin://")
    await world.data("finance", UPDATE_CHANNEL, {"input": {"id": id, "status": "DISABLED"}})
    assert said(await shop.prepay("north", "5")) == [("NO_CHANNEL", "channel")]


# -- money in advance -----------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.feature("S2-27")
async def test_a_customer_pays_in_by_scanning_a_code(shop: Collecting, channel: str) -> None:
    world = shop.world
    asked = await shop.prepay("north", "88.80", channel)
    assert asked["errors"] == []
    payment = asked["payment"]
    assert payment["codeUrl"].startswith("weixin://" if channel == "WECHAT_PAY" else "https://qr.alipay.com/")
    assert (payment["status"], payment["purpose"], Decimal(payment["amount"])) == (
        "PENDING",
        "PREPAYMENT",
        Decimal("88.8"),
    )
    assert await balances(world) == {}
    (told,) = await shop.behind(channel).pay(payment["paymentNo"])
    assert (told.status_code, told.text) == (200, "" if channel == "WECHAT_PAY" else "success")
    paid = await shop.payment("north", payment["id"], code=True)
    assert (paid["status"], paid["codeUrl"]) == ("SUCCEEDED", None)
    assert paid["transactionNo"] == shop.behind(channel).trades[payment["paymentNo"]].transaction_no
    assert await balances(world) == {
        ("platform", "RECEIPTS"): Decimal("-88.80"),
        ("north", "PREPAYMENT"): Decimal("88.80"),
    }


@pytest.mark.parametrize(
    ("amount", "refusal"),
    [("0", ("NOT_POSITIVE", "amount")), ("-1", ("NEGATIVE", "amount")), ("1.005", ("SMALLER_THAN_CENT", "amount"))],
)
async def test_an_amount_that_no_channel_takes_is_refused(
    shop: Collecting, amount: str, refusal: tuple[str, str]
) -> None:
    assert said(await shop.prepay("north", amount)) == [refusal]


async def test_a_repeat_with_a_key_is_the_same_payment(shop: Collecting) -> None:
    first = await shop.prepay("north", "5", idempotencyKey="once")
    second = await shop.prepay("north", "5", idempotencyKey="once")
    assert first["payment"]["id"] == second["payment"]["id"]
    assert len(await shop.world.sql("SELECT FROM payment")) == 1


async def test_nobody_sees_or_watches_a_strangers_payment(shop: Collecting) -> None:
    world = shop.world
    id = (await shop.prepay("north", "5"))["payment"]["id"]
    for stranger in ("south", "acme", "north-east"):
        assert (await world.data(stranger, "query($id: ID!) { payment(id: $id) { id } }", {"id": id}))[
            "payment"
        ] is None
        assert (await world.data(stranger, "{ payments { nodes { id } } }"))["payments"]["nodes"] == []
    found = await world.data("admin", "{ payments { nodes { id customer { name } } } }")
    assert [one["id"] for one in found["payments"]["nodes"]] == [id]


# -- what channels tell ---------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.feature("S0-55")
async def test_a_notice_counts_once_however_often_and_together_it_comes(shop: Collecting, channel: str) -> None:
    world, sandbox = shop.world, shop.behind(channel)
    number = (await shop.prepay("north", "10", channel))["payment"]["paymentNo"]
    await sandbox.pay(number)
    again = await asyncio.gather(*(sandbox.tell(number) for _ in range(8)))
    assert {told.status_code for batch in again for told in batch} == {200}
    assert (await balances(world))["north", "PREPAYMENT"] == Decimal(10)
    assert len(await world.sql("SELECT FROM ledger_transfer")) == 1
    assert await world.sql("SELECT FROM payment_difference") == []


@BOTH
@pytest.mark.feature("S0-55")
@pytest.mark.parametrize("fault", ["forged", "wrong_amount", "old"])
async def test_what_is_forged_wrong_or_old_books_nothing(shop: Collecting, channel: str, fault: str) -> None:
    world, sandbox = shop.world, shop.behind(channel)
    if (channel, fault) == ("ALIPAY", "old"):
        pytest.skip("Alipay's notices carry no time to judge them by; a replay changes nothing")
    payment = (await shop.prepay("north", "10", channel))["payment"]
    sandbox.faults[fault] = 1
    (told,) = await sandbox.pay(payment["paymentNo"])
    assert await balances(world) == {}
    found = (await world.data("finance", DIFFERENCES))["paymentDifferences"]["nodes"]
    if fault == "wrong_amount":
        assert [told_of(one) for one in found] == [("AMOUNT", payment["paymentNo"], Decimal(10), Decimal("9.99"))]
    else:
        assert (found, told.text in ("fail", '{"code":"FAIL","message":"not taken"}')) == ([], True)
    if fault == "wrong_amount":
        assert (await shop.payment("north", payment["id"]))["status"] == "CLOSED"
    # the truth comes all the same
    await sandbox.tell(payment["paymentNo"])
    assert (await shop.payment("north", payment["id"]))["status"] == "SUCCEEDED"
    assert (await balances(world))["north", "PREPAYMENT"] == Decimal(10)


@BOTH
async def test_notices_that_are_none_are_refused(shop: Collecting, channel: str) -> None:
    world, http = shop.world, shop.world.client.http
    id = next(
        one["id"]
        for one in (await world.data("finance", CHANNELS))["paymentChannels"]["nodes"]
        if one["kind"] == channel
    )
    payment = (await shop.prepay("north", "10", channel))["payment"]
    sandbox = shop.behind(channel)
    headers, body = sandbox.notice(sandbox.trades[payment["paymentNo"]])
    wrong_stamp = {**headers, "wechatpay-timestamp": "1" + "0" * 400}
    bodies: list[tuple[dict[str, str], bytes]] = [
        ({}, b""), ({}, b"{}"), (headers, body[:-9]), (headers, body + b" "), (headers, b"\xff\xfe"),
        (wrong_stamp, body + b" "), ({**headers, "wechatpay-serial": "xyz"}, b"["),
        ({**headers, "wechatpay-timestamp": "soon"}, b"a=b&sign=%00"),
    ]  # fmt: skip
    for wrong_headers, wrong in bodies:
        answer = await http.post(f"/payments/{id}/notice", content=wrong, headers=wrong_headers)
        assert answer.text in ("fail", '{"code":"FAIL","message":"not taken"}'), wrong
    assert (await http.post(f"/payments/{id}/notice", content=b"x" * 70_000)).status_code == 413
    for stranger in (encode_id("pch", 999), encode_id("ord", 1), "pch_", "x"):
        assert (await http.post(f"/payments/{stranger}/notice", content=body, headers=headers)).status_code == 404
    assert (await http.get(f"/payments/{id}/notice")).status_code == 405
    assert await balances(world) == {}


@BOTH
async def test_a_notice_may_come_before_our_own_call_has_returned(shop: Collecting, channel: str) -> None:
    world, sandbox = shop.world, shop.behind(channel)
    await primed(shop, channel)
    sandbox.faults["timeout"] = 1  # the channel has the payment; we never hear that it has
    input = {"amount": "10", "channel": channel, "idempotencyKey": "k"}
    answer = await world.run(
        "north",
        "mutation($input: CreatePrepaymentInput!) { createPrepayment(input: $input) { payment { id codeUrl } } }",
        {"input": input},
    )
    assert answer["data"]["createPrepayment"]["payment"]["codeUrl"] is None
    assert [error["extensions"]["code"] for error in answer["errors"]] == ["PAYMENT_UNAVAILABLE"]
    await sandbox.pay(list(sandbox.trades)[-1])
    id = answer["data"]["createPrepayment"]["payment"]["id"]
    assert (await shop.payment("north", id))["status"] == "SUCCEEDED"


@BOTH
@pytest.mark.parametrize("fault", ["http_500", "bad_json", "bad_signature"])
async def test_an_answer_that_cannot_be_believed_is_asked_for_again(shop: Collecting, channel: str, fault: str) -> None:
    world = shop.world
    await primed(shop, channel)
    shop.behind(channel).faults[fault] = 1
    input = {"amount": "10", "channel": channel, "idempotencyKey": "k"}
    answer = await world.run(
        "north",
        "mutation($input: CreatePrepaymentInput!) { createPrepayment(input: $input) { payment { id codeUrl } } }",
        {"input": input},
    )
    assert [error["extensions"]["code"] for error in answer["errors"]] == ["PAYMENT_UNAVAILABLE"]
    id = answer["data"]["createPrepayment"]["payment"]["id"]
    assert (await shop.payment("north", id, code=True))["codeUrl"] is not None


@BOTH
async def test_what_no_notice_tells_of_is_asked_after(shop: Collecting, channel: str) -> None:
    world, sandbox = shop.world, shop.behind(channel)
    payment = (await shop.prepay("north", "10", channel))["payment"]
    sandbox.faults["no_notice"] = 1
    await sandbox.pay(payment["paymentNo"])
    await check(shop, timedelta())
    assert (await shop.payment("north", payment["id"]))["status"] == "PENDING"  # not yet due
    await check(shop)
    assert (await shop.payment("north", payment["id"]))["status"] == "SUCCEEDED"
    await sandbox.tell(payment["paymentNo"])
    assert (await balances(world))["north", "PREPAYMENT"] == Decimal(10)


@BOTH
async def test_what_nobody_pays_is_closed_at_the_channel_first(shop: Collecting, channel: str) -> None:
    world, sandbox = shop.world, shop.behind(channel)
    order = await an_order(world)
    asked = (await shop.ask("north", order["id"], channel))["payment"]
    later = datetime.now(UTC) + timedelta(hours=1)
    database = world.client.application.runtime.database
    assert await orders.expire(database, later) == 0  # money may still come for it
    sandbox.faults["http_500"] = 1
    await check(shop, timedelta(hours=1))
    assert (await shop.payment("north", asked["id"]))["status"] == "PENDING"
    await world.sql("UPDATE payment SET next_check_at = now()")
    await check(shop, timedelta(hours=1))
    assert (await shop.payment("north", asked["id"]))["status"] == "CLOSED"
    assert sandbox.trades[asked["paymentNo"]].state == "CLOSED"
    assert await orders.expire(database, later) == 1


async def test_paid_as_it_was_to_be_closed(shop: Collecting) -> None:
    world = shop.world
    order = await an_order(world)
    asked = (await shop.ask("north", order["id"]))["payment"]
    shop.wechat.faults["no_notice"] = 1
    await shop.wechat.pay(asked["paymentNo"])
    await check(shop, timedelta(hours=1))
    assert (await shop.payment("north", asked["id"]))["status"] == "SUCCEEDED"
    (stored,) = await world.sql("SELECT status FROM sales_order")
    assert stored["status"] == "PAID"


# -- orders ---------------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.feature("S2-27", "S0-15")
async def test_an_order_is_paid_through_a_channel_and_shared_out(shop: Collecting, channel: str) -> None:
    world = shop.world
    await rates(world, "20", "12", "5")
    order = await an_order(world, "coast")
    asked = (await shop.ask("coast", order["id"], channel))["payment"]
    assert Decimal(asked["amount"]) == PRICE * 2
    await shop.behind(channel).pay(asked["paymentNo"])
    found = (
        await world.data(
            "coast",
            """query($id: ID!) { order(id: $id) { status payType thirdPartyOrderNo balanceAfter commissionStatus
                payments { nodes { id status } } } }""",
            {"id": order["id"]},
        )
    )["order"]
    trade = shop.behind(channel).trades[asked["paymentNo"]]
    assert found == {
        "status": "PAID",
        "payType": channel,
        "thirdPartyOrderNo": trade.transaction_no,
        "balanceAfter": None,
        "commissionStatus": "SHARED",
        "payments": {"nodes": [{"id": asked["id"], "status": "SUCCEEDED"}]},
    }
    total = PRICE * 2
    after = await balances(world)
    assert after["platform", "RECEIPTS"] == -total
    assert after["platform", "SALES"] == total - total / 5
    assert sum(after.values()) == 0


@pytest.mark.feature("S0-15")
async def test_an_agent_is_shown_its_customers_payments_by_agent_and_time(shop: Collecting) -> None:
    world = shop.world
    made = {name: (await shop.prepay(name, "10"))["payment"] for name in ("north", "north-east", "coast", "south")}
    for payment in made.values():
        await shop.wechat.pay(payment["paymentNo"])
    query = "query($filter: PaymentFilter) { payments(filter: $filter) { totalCount nodes { id } } }"

    async def shown(caller: str, **filter: Any) -> set[str]:
        nodes = (await world.data(caller, query, {"filter": filter}))["payments"]["nodes"]
        return {name for name, payment in made.items() if payment["id"] in {node["id"] for node in nodes}}

    assert await shown("north") == {"north", "north-east", "coast"}
    assert await shown("north", customer={"under": world.id("north-east")}) == {"north-east", "coast"}
    assert await shown("north", customer={"eq": world.id("north-east")}) == {"north-east"}
    assert await shown("north", customer={"under": world.id("south")}) == set()
    assert await shown("finance", customer={"under": world.id("north")}) == {"north", "north-east", "coast"}
    now = datetime.now(UTC)
    past, future = (now - timedelta(hours=1)).isoformat(), (now + timedelta(hours=1)).isoformat()
    assert await shown("north", paidAt={"gte": past, "lt": future}) == {"north", "north-east", "coast"}
    assert await shown("north", paidAt={"lt": past}) == set()


async def test_only_what_waits_for_payment_of_ones_own_can_be_paid(shop: Collecting) -> None:
    world = shop.world
    order = await an_order(world, "north-east")
    assert said(await shop.ask("north", order["id"])) == [("NOT_FOUND", "order")]
    assert said(await shop.ask("south", order["id"])) == [("NOT_FOUND", "order")]
    assert said(await shop.ask("north-east", order["id"], method="MINI_PROGRAM")) == [("NO_WECHAT_LOGIN", "method")]
    await world.sql("UPDATE sales_order SET expires_at = now()")
    assert said(await shop.ask("north-east", order["id"])) == [("ORDER_EXPIRED", "order")]
    cancel = "mutation($input: CancelOrderInput!) { cancelOrder(input: $input) { errors { code field } } }"
    assert (await step(world, "north-east", cancel, order["id"]))["errors"] == []
    assert said(await shop.ask("north-east", order["id"])) == [("ORDER_STATUS", "order")]


@BOTH
async def test_money_for_a_cancelled_order_goes_back(shop: Collecting, channel: str) -> None:
    world, sandbox = shop.world, shop.behind(channel)
    order = await an_order(world)
    asked = (await shop.ask("north", order["id"], channel))["payment"]
    cancel = "mutation($input: CancelOrderInput!) { cancelOrder(input: $input) { errors { code field } } }"
    assert (await step(world, "north", cancel, order["id"]))["errors"] == []
    await sandbox.pay(asked["paymentNo"])
    (refund,) = await refunds(world)
    assert (refund["status"], refund["cause"], Decimal(refund["amount"])) == ("PENDING", "ORDER_CLOSED", PRICE * 2)
    assert (await balances(world))["platform", "REFUNDS_DUE"] == PRICE * 2
    await world.client.work_off()
    (refund,) = await refunds(world)
    assert (refund["status"], refund["attempts"]) == ("SUCCEEDED", 1)
    assert [one.amount for one in sandbox.refunds.values()] == [PRICE * 2]
    assert await balances(world) == {}


async def test_an_order_paid_from_two_sides_is_paid_once(shop: Collecting) -> None:
    world = shop.world
    await funded(world, "north")
    order = await an_order(world)
    by_wechat = (await shop.ask("north", order["id"]))["payment"]
    by_alipay = (await shop.ask("north", order["id"], "ALIPAY"))["payment"]
    results = await asyncio.gather(
        step(world, "north", PAY, order["id"]),
        shop.wechat.pay(by_wechat["paymentNo"]),
        shop.alipay.pay(by_alipay["paymentNo"]),
    )
    await world.client.work_off()
    causes = [one["cause"] for one in await refunds(world)]
    paid_from_balance = results[0]["errors"] == []
    assert causes == ["PAID_TWICE"] * (2 if paid_from_balance else 1)
    after = await balances(world)
    assert after["platform", "SALES"] == PRICE * 2
    assert ("platform", "REFUNDS_DUE") not in after
    assert sum(after.values()) == 0
    assert len(await world.sql("SELECT FROM package_subscription")) == 2


async def test_cards_that_have_gone_meanwhile_are_not_paid_for(shop: Collecting) -> None:
    world = shop.world
    order = await an_order(world)
    asked = (await shop.ask("north", order["id"]))["payment"]
    key = decode_id(order["id"])[1]  # type: ignore[index]
    south = world.tenants["south"]
    await world.sql(
        """UPDATE sim_card SET tenant_id = $2, tenant_path = $3
           WHERE id = (SELECT min(sim_card_id) FROM order_line WHERE order_id = $1)""",
        key,
        south.id,
        south.path,
    )
    await shop.wechat.pay(asked["paymentNo"])
    assert [one["cause"] for one in await refunds(world)] == ["CARDS_CHANGED"]
    assert await world.sql("SELECT FROM package_subscription") == []


async def test_a_card_that_ended_meanwhile_is_not_paid_for(shop: Collecting) -> None:
    world = shop.world
    order = await an_order(world)
    asked = (await shop.ask("north", order["id"]))["payment"]
    await world.sql("UPDATE sim_card SET status = 'TERMINATED'")
    (told,) = await shop.wechat.pay(asked["paymentNo"])
    assert told.status_code == 200
    assert [one["cause"] for one in await refunds(world)] == ["CARDS_CHANGED"]
    (stored,) = await world.sql("SELECT status, third_party_order_no FROM sales_order")
    assert (stored["status"], stored["third_party_order_no"]) == ("AWAITING_PAYMENT", None)


# -- giving back ----------------------------------------------------------------------------------------------------


async def paid_order(shop: Collecting, channel: str = "WECHAT_PAY") -> str:
    order = await an_order(shop.world)
    asked = (await shop.ask("north", order["id"], channel))["payment"]
    await shop.behind(channel).pay(asked["paymentNo"])
    id: str = order["id"]
    return id


@BOTH
async def test_a_refunded_order_goes_back_through_its_channel(shop: Collecting, channel: str) -> None:
    world, sandbox = shop.world, shop.behind(channel)
    await rates(world, "20", "12", "5")
    id = await paid_order(shop, channel)
    assert (await step(world, "admin", REFUND, id, reason="a mistake"))["errors"] == []
    assert (await balances(world)) == {
        ("platform", "RECEIPTS"): -PRICE * 2,
        ("platform", "REFUNDS_DUE"): PRICE * 2,
    }
    await world.client.work_off()
    assert await balances(world) == {}
    assert len(sandbox.refunds) == 1
    await give_back(shop, timedelta(hours=2))
    assert sandbox.calls["refunds"] + sandbox.calls["alipay.trade.refund"] == 1


@BOTH
async def test_a_refund_of_unknown_outcome_is_asked_after_and_not_made_twice(shop: Collecting, channel: str) -> None:
    world, sandbox = shop.world, shop.behind(channel)
    id = await paid_order(shop, channel)
    sandbox.faults["timeout"] = 1
    await step(world, "admin", REFUND, id, reason="a mistake")
    await world.client.work_off()
    (refund,) = await refunds(world)
    assert (refund["status"], len(sandbox.refunds)) == ("PENDING", 1)
    await give_back(shop, timedelta(hours=2))
    (refund,) = await refunds(world)
    assert refund["status"] == "SUCCEEDED"
    assert sandbox.calls["refunds"] + sandbox.calls["alipay.trade.refund"] == 1
    assert await balances(world) == {}


async def test_a_refund_under_way_is_waited_for(shop: Collecting) -> None:
    id = await paid_order(shop)
    shop.wechat.faults["refund_pending"] = 1
    await step(shop.world, "admin", REFUND, id, reason="a mistake")
    await shop.world.client.work_off()
    await give_back(shop, timedelta(hours=2))
    assert (await balances(shop.world))["platform", "REFUNDS_DUE"] == PRICE * 2
    shop.wechat.finish_refunds()
    await give_back(shop, timedelta(hours=4))
    assert await balances(shop.world) == {}


async def test_a_refund_that_fails_is_tried_again_or_paid_by_hand(shop: Collecting) -> None:
    world = shop.world
    id = await paid_order(shop)
    shop.wechat.faults["refund_fails"] = 1
    await step(world, "admin", REFUND, id, reason="a mistake")
    await world.client.work_off()
    (refund,) = await refunds(world)
    assert refund["status"] == "FAILED"
    assert await world.codes("operations", RETRY, {"input": {"id": refund["id"], "idempotencyKey": "k"}}) == [
        "FORBIDDEN"
    ]
    assert await world.codes(
        "north", BY_HAND, {"input": {"id": refund["id"], "reference": "r", "idempotencyKey": "k"}}
    ) == ["FORBIDDEN"]
    again = await step(world, "finance", RETRY, refund["id"])
    assert again == {"refund": {"status": "PENDING", "attempts": 1}, "errors": []}
    await give_back(shop)
    # the channel says that this refund has failed: it is not told of it again by itself
    assert [(one["status"], shop.wechat.calls["refunds"]) for one in await refunds(world)] == [("FAILED", 1)]
    done = await step(world, "finance", BY_HAND, refund["id"], reference="B-7")
    assert (done["refund"]["status"], done["refund"]["reference"]) == ("SUCCEEDED", "B-7")
    assert said(await step(world, "finance", BY_HAND, refund["id"], reference="B-8")) == [("REFUND_STATUS", "id")]
    assert said(await step(world, "finance", RETRY, refund["id"])) == [("REFUND_STATUS", "id")]
    assert await balances(world) == {}


async def test_a_channel_that_refuses_to_tell_fails_no_refund(shop: Collecting) -> None:
    world = shop.world
    id = await paid_order(shop)
    shop.wechat.faults["refund_pending"] = 1
    await step(world, "admin", REFUND, id, reason="a mistake")
    await world.client.work_off()
    await world.sql("UPDATE payment_refund SET attempts = 20")
    shop.wechat.merchant_serial = "rotated"  # every call is answered with SIGN_ERROR from now on
    await give_back(shop, timedelta(hours=2))
    assert [one["status"] for one in await refunds(world)] == ["PENDING"]


async def test_two_workers_give_money_back_once(shop: Collecting) -> None:
    id = await paid_order(shop)
    await step(shop.world, "admin", REFUND, id, reason="a mistake")
    await asyncio.gather(*(give_back(shop) for _ in range(4)))
    assert shop.wechat.calls["refunds"] == 1
    assert await balances(shop.world) == {}


# -- reconciliation -------------------------------------------------------------------------------------------------


@BOTH
async def test_planted_differences_are_found_and_nothing_else(shop: Collecting, channel: str) -> None:
    world, sandbox = shop.world, shop.behind(channel)
    runtime = world.client.application.runtime
    numbers = [
        (await shop.prepay("north", amount, channel))["payment"]["paymentNo"] for amount in ("10", "20", "30", "40")
    ]
    for number in numbers[:3]:
        await sandbox.pay(number)
    sandbox.faults["no_notice"] = 1
    await sandbox.pay(numbers[3])  # nobody told of it: it is booked by the comparison
    refunded = await paid_order(shop, channel)
    await step(world, "admin", REFUND, refunded, reason="a mistake")
    await world.client.work_off()
    sandbox.trades[numbers[1]].amount = Decimal("19.50")
    missing_there = sandbox.trades.pop(numbers[2])
    sandbox.booked.append(("20261129aaaaaaaaaaaaaaaaaaaa", "42999", Decimal("7.77"), None))
    first = next(iter(sandbox.trades.values()))
    sandbox.booked.append((first.payment_no, first.transaction_no, Decimal(3), "R-nobody-knows"))
    today = datetime.now(CHINA).date()
    (row,) = await world.sql("SELECT id FROM payment_channel WHERE kind = $1", channel)
    done = await reconciling.reconcile(runtime.database, runtime.keys, row["id"], today)
    # four payments, an order's payment and its refund, less one, and two that are only there
    assert (done.entries, done.matched, done.differing) == (7, 4, 4)
    found = (await world.data("finance", DIFFERENCES))["paymentDifferences"]["nodes"]
    assert set(map(told_of, found)) == {
        ("AMOUNT", numbers[1], Decimal(20), Decimal("19.5")),
        ("MISSING_AT_CHANNEL", missing_there.payment_no, Decimal(30), None),
        ("MISSING_HERE", "20261129aaaaaaaaaaaaaaaaaaaa", None, Decimal("7.77")),
        ("MISSING_HERE", first.payment_no, None, Decimal(3)),
    }
    assert (await balances(world))["north", "PREPAYMENT"] == Decimal(100)
    resolved = await world.data("finance", RESOLVE, {"input": {"id": found[0]["id"], "remark": "a typing error"}})
    assert resolved["resolvePaymentDifference"]["difference"]["remark"] == "a typing error"
    twice = await world.data("finance", RESOLVE, {"input": {"id": found[0]["id"], "remark": "again"}})
    assert said(twice["resolvePaymentDifference"]) == [("RESOLVED_ALREADY", "id")]
    await reconciling.reconcile(runtime.database, runtime.keys, row["id"], today)
    again = (await world.data("finance", DIFFERENCES))["paymentDifferences"]["nodes"]
    assert len(again) == 4
    assert again[0]["remark"] == "a typing error"


async def test_yesterday_is_compared_once_it_is_told(shop: Collecting) -> None:
    world = shop.world
    runtime = world.client.application.runtime
    day = datetime.now(CHINA).replace(hour=9)

    async def due(hour: int) -> int:
        return await reconciling.reconcile_due(runtime.database, runtime.keys, day.replace(hour=hour))

    assert await due(9) == 0
    shop.wechat.faults["http_500"] = 1
    assert await due(10) == 1
    assert await due(10) == 1
    assert await due(11) == 0
    found = (await world.data("finance", RECONCILIATIONS))["paymentReconciliations"]["nodes"]
    assert sorted(one["channel"]["kind"] for one in found) == ["ALIPAY", "WECHAT_PAY"]
    assert {(one["entries"], one["differing"]) for one in found} == {(0, 0)}
    # what was missed for some days is made up for
    await world.sql("UPDATE payment_channel SET created_at = now() - interval '30 days', status = 'DISABLED'")
    assert await due(11) == 2 * (reconciling.LATE_DAYS - 1)


async def test_a_refund_that_is_not_settled_here_is_no_match(shop: Collecting) -> None:
    world = shop.world
    runtime = world.client.application.runtime
    id = await paid_order(shop)
    await step(world, "admin", REFUND, id, reason="a mistake")
    await world.client.work_off()
    await world.sql("UPDATE payment_refund SET reference = 'B-1'")  # paid by hand as well
    (row,) = await world.sql("SELECT id FROM payment_channel WHERE kind = 'WECHAT_PAY'")
    done = await reconciling.reconcile(runtime.database, runtime.keys, row["id"], datetime.now(CHINA).date())
    assert (done.entries, done.matched, done.differing) == (2, 1, 1)
    (found,) = (await world.data("finance", DIFFERENCES))["paymentDifferences"]["nodes"]
    assert (found["kind"], found["refundNo"] is not None) == ("MISSING_HERE", True)


async def test_finance_has_a_day_compared_again(shop: Collecting) -> None:
    world = shop.world
    id = (await world.data("finance", CHANNELS))["paymentChannels"]["nodes"][0]["id"]
    today = datetime.now(CHINA).date()
    for day in (today, today - timedelta(days=91)):
        asked = await world.data("finance", RECONCILE, {"input": {"channel": id, "day": day.isoformat()}})
        assert said(asked["reconcilePayments"]) == [("NO_STATEMENT", "day")]
    yesterday = (today - timedelta(days=2)).isoformat()
    asked = await world.data("finance", RECONCILE, {"input": {"channel": id, "day": yesterday}})
    assert asked["reconcilePayments"] == {"started": True, "errors": []}
    await world.client.work_off()
    found = (await world.data("finance", RECONCILIATIONS))["paymentReconciliations"]["nodes"]
    assert [one["day"] for one in found] == [yesterday]
    assert await world.codes("north", RECONCILE, {"input": {"channel": id, "day": yesterday}}) == ["FORBIDDEN"]
