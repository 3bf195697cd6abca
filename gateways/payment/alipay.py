"""Alipay (支付宝): its open platform's gateway for merchants, through the library ``python-alipay-sdk``.

One address takes all calls, each signed with the application's key; answers and notices are signed with Alipay's. Times
are China's. An answer carries ``code``, "10000" for success, and what went wrong in ``sub_code``.
"""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any
from urllib.parse import parse_qsl
from zoneinfo import ZoneInfo

import httpx
from alipay import AliPay
from alipay.exceptions import AliPayException, AliPayValidationError

from gateways.http import GatewayError, Partner
from gateways.payment.channel import (
    Acknowledgement,
    ChannelPayment,
    ChannelRefund,
    Charge,
    Entry,
    ForgedError,
    Merchant,
    MiniProgramParameters,
    PaymentState,
    RefusedError,
    Repayment,
)

NAME = "Alipay"
CHINA = ZoneInfo("Asia/Shanghai")
TIME = "%Y-%m-%d %H:%M:%S"
CURRENCY = "CNY"
SUCCESS = "10000"
BUSY = frozenset({"20000"})
"""Alipay did not get to it: what became of the call is unknown."""
UNKNOWN_TO_IT = frozenset({"ACQ.SYSTEM_ERROR", "aop.ACQ.SYSTEM_ERROR"})
NOT_THERE = frozenset({"ACQ.TRADE_NOT_EXIST"})
NO_STATEMENT = frozenset({"isp.bill_not_exist", "isv.bill_not_exist"})
MAX_STATEMENT_BYTES = 512 * 1024**2

STATES = {
    "WAIT_BUYER_PAY": PaymentState.PENDING,
    "TRADE_SUCCESS": PaymentState.SUCCEEDED,
    "TRADE_FINISHED": PaymentState.SUCCEEDED,
    "TRADE_CLOSED": PaymentState.CLOSED,
}


class Alipay:
    def __init__(self, base_url: str, merchant: Merchant, partner: Partner) -> None:
        self._address = base_url.rstrip("/") + "/gateway.do"
        self._merchant = merchant
        self._partner = partner
        self._library = AliPay(
            appid=merchant.app_id,
            app_private_key_string=merchant.private_key,
            alipay_public_key_string=merchant.channel_key,
        )

    async def qr_code(self, charge: Charge) -> str:
        _check_currency(charge.currency)
        told = await self._ask(
            "alipay.trade.precreate",
            {
                "out_trade_no": charge.payment_no,
                "total_amount": _yuan(charge.amount),
                "subject": charge.description[:128],
                "time_expire": charge.expires_at.astimezone(CHINA).strftime(TIME),
            },
            notify_url=charge.notify_url,
        )
        return _text(told, "qr_code")

    async def mini_program(self, charge: Charge, payer: str) -> MiniProgramParameters:  # noqa: ARG002
        raise RefusedError(NAME, "NOT_SUPPORTED")

    async def payment(self, payment_no: str) -> ChannelPayment:
        try:
            told = await self._ask("alipay.trade.query", {"out_trade_no": payment_no})
        except RefusedError as error:
            if error.word in NOT_THERE:
                return ChannelPayment(payment_no, PaymentState.UNKNOWN)
            raise
        if _text(told, "out_trade_no") != payment_no:
            raise _unusable()
        return _payment(told, "send_pay_date")

    async def close(self, payment_no: str) -> None:
        try:
            await self._ask("alipay.trade.close", {"out_trade_no": payment_no})
        except RefusedError as error:
            if error.word not in NOT_THERE:
                raise
            # nobody has read the code yet, and so there is no trade to close: the code itself is given up
            await self._ask("alipay.trade.cancel", {"out_trade_no": payment_no})

    async def refund(self, repayment: Repayment) -> ChannelRefund:
        told = await self._ask(
            "alipay.trade.refund",
            {
                "out_trade_no": repayment.payment_no,
                "out_request_no": repayment.refund_no,
                "refund_amount": _yuan(repayment.amount),
                "refund_reason": repayment.reason[:256],
            },
        )
        # whether the money has moved is asked for, where the answer does not say that it has
        done = told.get("fund_change") == "Y"
        state = PaymentState.SUCCEEDED if done else PaymentState.PENDING
        word = f"fund_change {told.get('fund_change')}"
        return ChannelRefund(repayment.refund_no, state, told.get("trade_no"), word, _when(told, "gmt_refund_pay"))

    async def refunded(self, repayment: Repayment) -> ChannelRefund:
        asked = {
            "out_trade_no": repayment.payment_no,
            "out_request_no": repayment.refund_no,
            "query_options": ["gmt_refund_pay"],
        }
        try:
            told = await self._ask("alipay.trade.fastpay.refund.query", asked)
        except RefusedError as error:
            if error.word in NOT_THERE:
                return ChannelRefund(repayment.refund_no, PaymentState.UNKNOWN, word=error.word)
            raise
        status = told.get("refund_status")
        if status is None:
            return ChannelRefund(repayment.refund_no, PaymentState.UNKNOWN, word="no refund")
        done = status == "REFUND_SUCCESS"
        state = PaymentState.SUCCEEDED if done else PaymentState.PENDING
        return ChannelRefund(
            repayment.refund_no, state, told.get("trade_no"), str(status), _when(told, "gmt_refund_pay")
        )

    async def notice(self, headers: Mapping[str, str], body: bytes) -> ChannelPayment | None:  # noqa: ARG002
        try:
            told = dict(parse_qsl(body.decode(), keep_blank_values=True, strict_parsing=True))
            signature = told.pop("sign")
            genuine = self._library.verify(dict(told), signature)
        except (ValueError, KeyError, AliPayException):
            raise ForgedError from None
        if not genuine or told.get("app_id") != self._merchant.app_id:
            raise ForgedError
        if told.get("seller_id", self._merchant.merchant_id) != self._merchant.merchant_id:
            raise ForgedError
        if "trade_status" not in told:
            return None
        try:
            return _payment(told, "gmt_payment")
        except GatewayError:
            raise ForgedError from None

    def acknowledge(self, taken: bool) -> Acknowledgement:
        return Acknowledgement(200, "success" if taken else "fail", "text/plain")

    async def statement(self, day: date) -> Sequence[Entry]:
        asked = {"bill_type": "trade", "bill_date": day.isoformat()}
        try:
            told = await self._ask("alipay.data.dataservice.bill.downloadurl.query", asked)
        except RefusedError as error:
            if error.word in NO_STATEMENT:
                return []
            raise
        address = _text(told, "bill_download_url")
        response = await self._partner.send(lambda client: client.build_request("GET", address))
        if response.status_code != httpx.codes.OK:
            raise _unusable()
        return _entries(response.content)

    async def _ask(self, method: str, content: dict[str, Any], **more: str) -> dict[str, Any]:
        def build(client: httpx.AsyncClient) -> httpx.Request:
            stamp = datetime.now(UTC).astimezone(CHINA).strftime(TIME)
            signed = self._library.client_api(method, biz_content=dict(content), timestamp=stamp, **more)
            return client.build_request(
                "POST",
                self._address,
                content=signed,
                headers={"content-type": "application/x-www-form-urlencoded;charset=utf-8"},
            )

        response = await self._partner.send(build)
        if response.status_code != httpx.codes.OK:
            raise RefusedError(NAME, f"HTTP status {response.status_code}")
        try:
            told: dict[str, Any] = self._library._verify_and_return_sync_response(
                response.content.decode(), method.replace(".", "_") + "_response"
            )
            code = told["code"]
        except AliPayException:
            # said without a signature, as where Alipay does not know the application: nothing to rely on
            raise GatewayError("PAYMENT_UNAVAILABLE", f"{NAME} did not take the call.") from None
        except (AliPayValidationError, ValueError, KeyError, AttributeError, TypeError):
            raise _unusable() from None
        if code == SUCCESS:
            return told
        word = str(told.get("sub_code") or code)
        if code in BUSY or word in UNKNOWN_TO_IT:
            raise GatewayError("PAYMENT_UNAVAILABLE", f"{NAME} cannot say what became of the call.")
        raise RefusedError(NAME, word)


def _payment(told: Mapping[str, Any], paid_at: str) -> ChannelPayment:
    try:
        return ChannelPayment(
            _text(told, "out_trade_no"),
            STATES.get(_text(told, "trade_status"), PaymentState.PENDING),
            told.get("trade_no"),
            Decimal(_text(told, "total_amount")) if told.get("total_amount") else None,
            CURRENCY,
            _when(told, paid_at),
            told.get("buyer_open_id") or told.get("buyer_id") or told.get("buyer_user_id"),
        )
    except (ValueError, InvalidOperation):
        raise _unusable() from None


def _when(told: Mapping[str, Any], name: str) -> datetime | None:
    try:
        return datetime.strptime(told[name], TIME).replace(tzinfo=CHINA) if told.get(name) else None
    except (ValueError, TypeError):
        raise _unusable() from None


def _text(told: Mapping[str, Any], name: str) -> str:
    found = told.get(name)
    if not isinstance(found, str) or not found:
        raise _unusable()
    return found


def _unusable() -> GatewayError:
    return GatewayError("PAYMENT_UNAVAILABLE", f"{NAME} gave an answer that cannot be believed.")


def _check_currency(currency: str) -> None:
    if currency != CURRENCY:
        raise GatewayError("PAYMENT_REFUSED", f"{NAME} takes {CURRENCY} only.")


def _yuan(amount: Decimal) -> str:
    cents = amount.quantize(Decimal("0.01"))
    if cents != amount:
        raise GatewayError("PAYMENT_REFUSED", f"{NAME} takes no parts of a fen.")
    return str(cents)


def _entries(content: bytes) -> list[Entry]:
    """The lines of the statement's details: a zip of CSV files in GBK, with remarks behind a hash sign."""
    found: list[Entry] = []
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for member in archive.infolist():
                if member.file_size > MAX_STATEMENT_BYTES:
                    raise _unusable()
                text = archive.read(member).decode("gb18030")
                lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
                if lines and "商户订单号" in lines[0]:
                    found += [_entry(row) for row in csv.DictReader(lines)]
    except (zipfile.BadZipFile, UnicodeDecodeError, KeyError, InvalidOperation, AttributeError):
        raise _unusable() from None
    return found


def _entry(row: Mapping[str, str]) -> Entry:
    cells = {name.strip(): value.strip() for name, value in row.items()}
    refund = cells["业务类型"] == "退款"
    return Entry(
        cells["商户订单号"],
        cells["支付宝交易号"],
        abs(Decimal(cells["订单金额（元）"])),
        cells["退款批次号/请求号"] if refund else None,
    )
