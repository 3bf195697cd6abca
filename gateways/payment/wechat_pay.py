"""WeChat Pay (微信支付), version 3 of its interface for merchants, through the library ``wechatpayv3``.

Calls are signed with the merchant's key; answers and notices with WeChat's, by its public key or by certificates that
it hands out encrypted. Money is counted in fen.
"""

from __future__ import annotations

import gzip
import hashlib
import secrets
import time
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any, TypeVar

import httpx
import structlog
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from wechatpayv3.async_ import AsyncWeChatPay
from wechatpayv3.async_.type import WeChatPayType

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

log = structlog.get_logger()

NAME = "WeChat Pay"
NOTICE_SECONDS = 300
"""A notice that was signed longer ago is not taken: it is sent again with a new signature."""
STAMP_DIGITS = 12
CERTIFICATE_SECONDS = 12 * 3600
"""So long certificates are believed before they are fetched again; WeChat asks for no more than that."""
FEN = Decimal(100)
SUMMARY = "总交易单数"

STATES = {
    "SUCCESS": PaymentState.SUCCEEDED,
    "REFUND": PaymentState.REFUNDED,
    "NOTPAY": PaymentState.PENDING,
    "USERPAYING": PaymentState.PENDING,
    "CLOSED": PaymentState.CLOSED,
    "REVOKED": PaymentState.CLOSED,
    "PAYERROR": PaymentState.CLOSED,
}
REFUND_STATES = {
    "SUCCESS": PaymentState.SUCCEEDED,
    "PROCESSING": PaymentState.PENDING,
    "CLOSED": PaymentState.CLOSED,
    "ABNORMAL": PaymentState.CLOSED,
}
NOT_THERE = frozenset({"ORDER_NOT_EXIST", "ORDERNOTEXIST", "RESOURCE_NOT_EXISTS"})
NO_STATEMENT = "NO_STATEMENT_EXIST"


class _Wire(BaseModel):
    model_config = ConfigDict(hide_input_in_errors=True)


class _Code(_Wire):
    code_url: str


class _Prepared(_Wire):
    prepay_id: str


class _Amount(_Wire):
    total: int
    currency: str = "CNY"


class _Payer(_Wire):
    openid: str | None = None


class _Transaction(_Wire):
    appid: str
    mchid: str
    out_trade_no: str
    trade_state: str
    transaction_id: str | None = None
    success_time: datetime | None = None
    amount: _Amount | None = None
    payer: _Payer | None = None


class _Refund(_Wire):
    out_refund_no: str
    refund_id: str | None = None
    status: str
    success_time: datetime | None = None


class _Bill(_Wire):
    download_url: str
    hash_type: str = Field(pattern="^SHA1$")
    hash_value: str


class _Problem(_Wire):
    code: str = ""


Shape = TypeVar("Shape", bound=_Wire)


class _Through:
    """The library's HTTP client: each call goes through the partner, with its time limit and circuit breaker."""

    def __init__(self, partner: Partner) -> None:
        self._partner = partner

    async def get(self, *, url: str, headers: dict[str, str]) -> httpx.Response:
        return await self._partner.send(lambda client: client.build_request("GET", url, headers=headers))

    async def post(self, *, url: str, headers: dict[str, str], content: str) -> httpx.Response:
        return await self._partner.send(
            lambda client: client.build_request("POST", url, headers=headers, content=content)
        )


class WechatPay:
    def __init__(self, base_url: str, merchant: Merchant, partner: Partner) -> None:
        self._merchant = merchant
        self._library = AsyncWeChatPay(
            wechatpay_type=WeChatPayType.NATIVE,
            mchid=merchant.merchant_id,
            private_key=merchant.private_key,
            cert_serial_no=merchant.serial_no,
            appid=merchant.app_id,
            apiv3_key=merchant.key,
            public_key=merchant.channel_key,
            public_key_id=merchant.channel_key_id,
        )
        # the library knows one address and one client of its own making
        self._core = self._library._core
        self._core._gate_way = base_url.rstrip("/")
        self._core._client = _Through(partner)
        self._certificates_at = 0.0

    async def qr_code(self, charge: Charge) -> str:
        asked = self._asked(charge)
        return _read(await self._call(self._library.pay(**asked, pay_type=WeChatPayType.NATIVE)), _Code).code_url

    async def mini_program(self, charge: Charge, payer: str) -> MiniProgramParameters:
        asked = {**self._asked(charge), "payer": {"openid": payer}}
        answer = await self._call(self._library.pay(**asked, pay_type=WeChatPayType.MINIPROG))
        package = f"prepay_id={_read(answer, _Prepared).prepay_id}"
        stamp, nonce = str(int(time.time())), secrets.token_hex(16)
        signature = self._library.sign([self._merchant.app_id, stamp, nonce, package])
        return MiniProgramParameters(self._merchant.app_id, stamp, nonce, package, "RSA", signature)

    async def payment(self, payment_no: str) -> ChannelPayment:
        try:
            answer = await self._call(self._library.query(out_trade_no=payment_no))
        except RefusedError as error:
            if error.word in NOT_THERE:
                return ChannelPayment(payment_no, PaymentState.UNKNOWN)
            raise
        found = self._told(_read(answer, _Transaction))
        if found.payment_no != payment_no:
            raise _unusable()
        return found

    async def close(self, payment_no: str) -> None:
        try:
            await self._call(self._library.close(out_trade_no=payment_no))
        except RefusedError as error:
            if error.word not in NOT_THERE:
                raise

    async def refund(self, repayment: Repayment) -> ChannelRefund:
        answer = await self._call(
            self._library.refund(
                out_trade_no=repayment.payment_no,
                out_refund_no=repayment.refund_no,
                reason=repayment.reason[:80],
                amount={
                    "refund": _fen(repayment.amount),
                    "total": _fen(repayment.total),
                    "currency": repayment.currency,
                },
            )
        )
        return _refund_told(_read(answer, _Refund))

    async def refunded(self, repayment: Repayment) -> ChannelRefund:
        try:
            answer = await self._call(self._library.query_refund(out_refund_no=repayment.refund_no))
        except RefusedError as error:
            if error.word in NOT_THERE:
                return ChannelRefund(repayment.refund_no, PaymentState.UNKNOWN, word=error.word)
            raise
        return _refund_told(_read(answer, _Refund))

    async def notice(self, headers: Mapping[str, str], body: bytes) -> ChannelPayment | None:
        stamp = headers.get("wechatpay-timestamp", "")
        if not (stamp.isascii() and stamp.isdigit() and len(stamp) <= STAMP_DIGITS):
            raise ForgedError
        if abs(time.time() - int(stamp)) > NOTICE_SECONDS:
            raise ForgedError
        await self._ready()
        try:
            told = self._library.callback(dict(headers), body)
        except Exception:  # noqa: BLE001 - the library fails in as many ways as forgers think of
            raise ForgedError from None
        if not told:
            raise ForgedError
        if not str(told.get("event_type", "")).startswith("TRANSACTION."):
            return None
        try:
            found = _Transaction.model_validate(told["resource"])
        except ValidationError:
            raise ForgedError from None
        if found.mchid != self._merchant.merchant_id or found.appid != self._merchant.app_id:
            raise ForgedError
        return self._told(found)

    def acknowledge(self, taken: bool) -> Acknowledgement:
        if taken:
            return Acknowledgement(200, "", "application/json")
        return Acknowledgement(500, '{"code":"FAIL","message":"not taken"}', "application/json")

    async def statement(self, day: date) -> Sequence[Entry]:
        try:
            answer = await self._call(self._library.trade_bill(bill_date=day.isoformat(), tar_type="GZIP"))
        except RefusedError as error:
            if error.word == NO_STATEMENT:
                return []
            raise
        bill = _read(answer, _Bill)
        packed = await self._call(self._library.download_bill(bill.download_url))
        content = packed if isinstance(packed, bytes) else packed.encode()
        try:
            if content[:2] == b"\x1f\x8b":
                content = gzip.decompress(content)
        except (OSError, EOFError):
            raise _unusable() from None
        if hashlib.sha1(content).hexdigest() != bill.hash_value.lower():  # noqa: S324 - what WeChat gives
            raise _unusable()
        return _entries(content.decode("utf-8-sig", errors="replace"), self._merchant.app_id)

    def _asked(self, charge: Charge) -> dict[str, Any]:
        return {
            "description": charge.description[:127],
            "out_trade_no": charge.payment_no,
            "amount": {"total": _fen(charge.amount), "currency": charge.currency},
            "time_expire": charge.expires_at.isoformat(timespec="seconds"),
            "notify_url": charge.notify_url,
        }

    def _told(self, found: _Transaction) -> ChannelPayment:
        return ChannelPayment(
            found.out_trade_no,
            STATES.get(found.trade_state, PaymentState.PENDING),
            found.transaction_id,
            None if found.amount is None else found.amount.total / FEN,
            None if found.amount is None else found.amount.currency,
            found.success_time,
            None if found.payer is None else found.payer.openid,
        )

    async def _ready(self) -> None:
        """WeChat's certificates are at hand, where its public key is not."""
        if self._merchant.channel_key is not None:
            return
        if not self._core._certificates or time.monotonic() - self._certificates_at > CERTIFICATE_SECONDS:
            kept = list(self._core._certificates)
            try:
                await self._core._update_certificates()
            except (GatewayError, ValueError, TypeError, AttributeError) as error:
                log.warning("WeChat Pay's certificates could not be had", reason=str(error))
            self._core._certificates = self._core._certificates or kept
            if not self._core._certificates:
                raise GatewayError("PAYMENT_UNAVAILABLE", f"{NAME} gave no certificate that can be used.")
            self._certificates_at = time.monotonic()

    async def _call(self, calling: Any) -> str | bytes:
        try:
            await self._ready()
        except BaseException:
            calling.close()
            raise
        try:
            status, answer = await calling
        except GatewayError:
            raise
        except Exception as error:  # noqa: BLE001
            # the library's word for a signature that is not WeChat's, and for whatever else it does not like
            log.warning("a call of WeChat Pay failed", reason=str(error))
            raise _unusable() from None
        if status >= httpx.codes.BAD_REQUEST:
            raise RefusedError(NAME, _problem(answer))
        found: str | bytes = answer
        return found


def _problem(answer: str | bytes) -> str:
    try:
        return _Problem.model_validate_json(answer).code or "no code"
    except ValidationError:
        return "no code"


def _read(answer: str | bytes, shape: type[Shape]) -> Shape:
    try:
        return shape.model_validate_json(answer)
    except ValidationError:
        raise _unusable() from None


def _unusable() -> GatewayError:
    return GatewayError("PAYMENT_UNAVAILABLE", f"{NAME} gave an answer that cannot be believed.")


def _refund_told(found: _Refund) -> ChannelRefund:
    state = REFUND_STATES.get(found.status, PaymentState.PENDING)
    return ChannelRefund(found.out_refund_no, state, found.refund_id, found.status, found.success_time)


def _fen(amount: Decimal) -> int:
    fen = amount * FEN
    if fen != int(fen):
        raise GatewayError("PAYMENT_REFUSED", f"{NAME} takes no parts of a fen.")
    return int(fen)


def _entries(text: str, app_id: str) -> list[Entry]:
    """The lines of one application in a merchant's trade bill: headings first, every value behind a backtick, a summary
    at the end."""
    heading, *rows = [line for line in text.splitlines() if line.strip()] or [""]
    names = [name.strip() for name in heading.split(",")]
    found = []
    for row in rows:
        if row.startswith(SUMMARY):
            break
        if not row.startswith("`"):
            raise _unusable()
        values = dict(zip(names, (cell.strip() for cell in row.removeprefix("`").split(",`")), strict=False))
        try:
            if values["公众账号ID"] == app_id:
                found.append(_entry(values))
        except (KeyError, ArithmeticError):
            raise _unusable() from None
    return found


def _entry(values: Mapping[str, str]) -> Entry:
    refunded = values["交易状态"] == "REFUND"
    return Entry(
        values["商户订单号"],
        values["微信订单号"],
        Decimal(values["退款金额" if refunded else "订单金额"]),
        values["商户退款单号"] if refunded else None,
    )
