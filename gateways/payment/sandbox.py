"""WeChat Pay and Alipay to try things out with: each application of Starlette speaks its channel's wire format.

They sign what they say, for one merchant with keys of their own making. `pay` lets somebody pay, which is told to the
notify address, as often and as wrongly as `faults` say; over HTTP it is `POST /_pay {"payment_no": ...}`, and
`POST /_faults {"kind": ..., "times": n}` orders what befalls the next calls: `timeout` (the call is carried out and not
answered), `http_500` (it is not carried out), `bad_json` and `bad_signature`; and the next notices: `no_notice`,
`twice`, `forged`, `wrong_amount`, `old`. `refund_pending` leaves refunds under way until `POST /_refunds`;
`refund_fails` lets the next one fail.

What the wire format demands is spelt out again here and not taken from the adapters, so that an error in one of them
shows.
"""

from __future__ import annotations

import asyncio
import base64
import csv
import gzip
import hashlib
import io
import json
import secrets
import time
import zipfile
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl, urlencode
from zoneinfo import ZoneInfo

import httpx
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.x509.oid import NameOID
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

CHINA = ZoneInfo("Asia/Shanghai")
FAULTS = (
    "timeout", "http_500", "bad_json", "bad_signature", "no_notice", "twice", "forged", "wrong_amount", "old",
    "refund_pending", "refund_fails",
)  # fmt: skip
NEW, PAID, CLOSED = "NEW", "PAID", "CLOSED"
UNDER_WAY, DONE, FAILED = "UNDER_WAY", "DONE", "FAILED"


def new_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def private_pem(key: rsa.RSAPrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def public_pem(key: rsa.RSAPrivateKey) -> str:
    return (
        key.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )


def sign(key: rsa.RSAPrivateKey, text: str) -> str:
    return base64.b64encode(key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())).decode()


def is_signed(key: rsa.RSAPublicKey, text: str, signature: str) -> bool:
    try:
        key.verify(base64.b64decode(signature), text.encode(), padding.PKCS1v15(), hashes.SHA256())
    except (InvalidSignature, ValueError):
        return False
    return True


@dataclass
class Trade:
    """What a merchant asked for, and what became of it. Money is in yuan."""

    payment_no: str
    amount: Decimal
    notify_url: str
    payer: str | None = None
    state: str = NEW
    transaction_no: str = field(default_factory=lambda: "42" + "".join(secrets.choice("0123456789") for _ in range(26)))
    paid_at: datetime | None = None


@dataclass
class Refund:
    payment_no: str
    refund_no: str
    amount: Decimal
    state: str = DONE
    channel_refund_no: str = field(default_factory=lambda: "50" + secrets.token_hex(12))
    at: datetime = field(default_factory=lambda: datetime.now(UTC))


class Sandbox:
    """What both channels have in common: trades, refunds, faults, and the telling of what was paid."""

    def __init__(self) -> None:
        self.deliver: Callable[[str, dict[str, str], bytes], Awaitable[httpx.Response]] = _post
        """How a notice reaches its address."""
        self.trades: dict[str, Trade] = {}
        self.refunds: dict[str, Refund] = {}
        self.faults: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self.booked: list[tuple[str, str, Decimal, str | None]] = []
        """Lines of the statement that stand there besides the trades: payment, transaction, amount, refund."""

    def routes(self) -> list[Route]:
        return [
            Route("/_pay", self._pay, methods=["POST"]),
            Route("/_faults", self._order_fault, methods=["POST"]),
            Route("/_refunds", self._finish_refunds, methods=["POST"]),
        ]

    def due(self, fault: str) -> bool:
        due = self.faults[fault] > 0
        self.faults[fault] -= due
        return due

    async def answer(self, request: Request, name: str, act: Callable[[], Awaitable[Response]]) -> Response:
        """What a call gets, or what befalls it."""
        self.calls[name] += 1
        if self.due("http_500"):
            return PlainTextResponse("Internal Server Error", status_code=500)
        answer = await act()
        if self.due("timeout"):
            while (await request.receive())["type"] != "http.disconnect":
                pass
            return Response(status_code=504)
        if self.due("bad_json"):
            return PlainTextResponse('{"out_trade_no":"', media_type="application/json")
        return answer

    def open(self, payment_no: str, amount: Decimal, notify_url: str, payer: str | None = None) -> Trade | None:
        """The trade of this number: a new one, the same again, or none where it is another."""
        found = self.trades.setdefault(payment_no, Trade(payment_no, amount, notify_url, payer))
        return found if found.amount == amount and found.state == NEW else None

    def give_back(self, payment_no: str, refund_no: str, amount: Decimal) -> Refund | None:
        """The refund of this number, where so much is left to give back."""
        if refund_no in self.refunds:
            again = self.refunds[refund_no]
            if again.state == FAILED and not self.due("refund_fails"):
                again.state = DONE
            return again
        trade = self.trades.get(payment_no)
        given = sum(one.amount for one in self.refunds.values() if one.payment_no == payment_no)
        if trade is None or trade.state != PAID or given + amount > trade.amount:
            return None
        state = FAILED if self.due("refund_fails") else UNDER_WAY if self.due("refund_pending") else DONE
        self.refunds[refund_no] = Refund(payment_no, refund_no, amount, state)
        return self.refunds[refund_no]

    def finish_refunds(self) -> None:
        for refund in self.refunds.values():
            if refund.state == UNDER_WAY:
                refund.state = DONE

    async def pay(self, payment_no: str) -> list[httpx.Response]:
        """Somebody pays; what the merchant answers to the notices."""
        trade = self.trades[payment_no]
        if trade.state != NEW:
            raise ValueError(f"{payment_no} is {trade.state}")
        trade.state, trade.paid_at = PAID, datetime.now(UTC)
        return [] if self.due("no_notice") else await self.tell(payment_no)

    async def tell(self, payment_no: str) -> list[httpx.Response]:
        """Tells the merchant of a payment, again."""
        times = 2 if self.due("twice") else 1
        return list(await asyncio.gather(*(self._send(self.trades[payment_no]) for _ in range(times))))

    async def _send(self, trade: Trade) -> httpx.Response:
        headers, content = self.notice(trade)
        return await self.deliver(trade.notify_url, headers, content)

    def notice(self, trade: Trade) -> tuple[dict[str, str], bytes]:
        """The notice of a payment, as it goes over the wire."""
        raise NotImplementedError

    def lines(self, day: date) -> list[tuple[str, str, Decimal, str | None]]:
        """What the statement of a day says."""
        paid = [
            (trade.payment_no, trade.transaction_no, trade.amount, None)
            for trade in self.trades.values()
            if trade.paid_at is not None and trade.paid_at.astimezone(CHINA).date() == day
        ]
        given = [
            (one.payment_no, self.trades[one.payment_no].transaction_no, one.amount, one.refund_no)
            for one in self.refunds.values()
            if one.state == DONE and one.at.astimezone(CHINA).date() == day
        ]
        return [*paid, *given, *self.booked]

    async def _pay(self, request: Request) -> Response:
        try:
            told = await self.pay((await request.json())["payment_no"])
        except (KeyError, ValueError) as error:
            return JSONResponse({"error": str(error)}, 400)
        return JSONResponse({"notices": [one.status_code for one in told]})

    async def _order_fault(self, request: Request) -> Response:
        order = await request.json()
        if order["kind"] not in FAULTS:
            return JSONResponse({"kinds": FAULTS}, 400)
        self.faults[order["kind"]] = int(order["times"])
        return Response(status_code=204)

    async def _finish_refunds(self, _: Request) -> Response:
        self.finish_refunds()
        return Response(status_code=204)


class WechatPaySandbox(Sandbox):
    """One merchant's WeChat Pay. `merchant_key` is the merchant's to sign with, `key` the API v3 key."""

    def __init__(self, merchant_id: str = "1900000109", app_id: str = "wx8888888888888888") -> None:
        super().__init__()
        self.merchant_id, self.app_id = merchant_id, app_id
        self.key = secrets.token_hex(16)
        self.merchant_key, self.own_key = new_key(), new_key()
        self.merchant_serial = secrets.token_hex(20).upper()
        self.certificate = self._certificate()
        self.serial = f"{self.certificate.serial_number:X}"
        self.bills: dict[str, bytes] = {}
        self.app = Starlette(
            routes=[
                *self.routes(),
                Route("/v3/certificates", self._take),
                Route("/v3/pay/transactions/native", self._take, methods=["POST"]),
                Route("/v3/pay/transactions/jsapi", self._take, methods=["POST"]),
                Route("/v3/pay/transactions/out-trade-no/{payment_no}", self._take),
                Route("/v3/pay/transactions/out-trade-no/{payment_no}/close", self._take, methods=["POST"]),
                Route("/v3/refund/domestic/refunds", self._take, methods=["POST"]),
                Route("/v3/refund/domestic/refunds/{refund_no}", self._take),
                Route("/v3/bill/tradebill", self._take),
                Route("/v3/billdownload/file", self._take),
            ]
        )

    def _certificate(self) -> x509.Certificate:
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sandbox")])
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self.own_key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=365))
            .sign(self.own_key, hashes.SHA256())
        )

    async def _take(self, request: Request) -> Response:
        body = (await request.body()).decode()
        if not self._is_merchant(request, body):
            return JSONResponse({"code": "SIGN_ERROR", "message": "签名错误"}, 401)
        routes: dict[str, Callable[[Request, dict[str, Any]], Response]] = {
            "certificates": self._certificates,
            "native": self._native,
            "jsapi": self._jsapi,
            "close": self._close,
            "refunds": self._refund,
            "tradebill": self._bill,
            "file": self._file,
        }
        last = request.url.path.rsplit("/", 1)[1]
        find = self._find_refund if "refund_no" in request.path_params else self._find

        async def act() -> Response:
            return routes.get(last, find)(request, json.loads(body) if body else {})

        return self._sealed(await self.answer(request, last if last in routes else find.__name__, act))

    def _is_merchant(self, request: Request, body: str) -> bool:
        scheme, _, rest = request.headers.get("authorization", "").partition(" ")
        said = {name: value.strip('"') for name, _, value in (part.partition("=") for part in rest.split(","))}
        target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        text = f"{request.method}\n{target}\n{said.get('timestamp')}\n{said.get('nonce_str')}\n{body}\n"
        return (
            scheme == "WECHATPAY2-SHA256-RSA2048"
            and said.get("mchid") == self.merchant_id
            and said.get("serial_no") == self.merchant_serial
            and abs(time.time() - int(said.get("timestamp", 0))) < 300
            and is_signed(self.merchant_key.public_key(), text, said.get("signature", ""))
        )

    def _sealed(self, answer: Response) -> Response:
        answer.headers.update(self._seal(bytes(answer.body).decode("utf-8", errors="replace")))
        return answer

    def _seal(self, body: str) -> dict[str, str]:
        stamp, nonce = str(int(time.time()) - (3600 if self.due("old") else 0)), secrets.token_hex(16)
        signature = sign(self.own_key, f"{stamp}\n{nonce}\n{body}\n")
        if self.due("bad_signature"):
            signature = sign(new_key(), f"{stamp}\n{nonce}\n{body}\n")
        return {
            "wechatpay-timestamp": stamp,
            "wechatpay-nonce": nonce,
            "wechatpay-serial": self.serial,
            "wechatpay-signature": signature,
            "wechatpay-signature-type": "WECHATPAY2-SHA256-RSA2048",
        }

    def _sealed_resource(self, plain: str) -> dict[str, str]:
        nonce = secrets.token_hex(6)
        sealed = AESGCM(self.key.encode()).encrypt(nonce.encode(), plain.encode(), b"transaction")
        return {
            "algorithm": "AEAD_AES_256_GCM",
            "ciphertext": base64.b64encode(sealed).decode(),
            "associated_data": "transaction",
            "nonce": nonce,
        }

    def _certificates(self, _: Request, __: dict[str, Any]) -> Response:
        pem = self.certificate.public_bytes(serialization.Encoding.PEM).decode()
        one = {
            "serial_no": self.serial,
            "effective_time": self.certificate.not_valid_before_utc.isoformat(),
            "expire_time": self.certificate.not_valid_after_utc.isoformat(),
            "encrypt_certificate": self._sealed_resource(pem),
        }
        return JSONResponse({"data": [one]})

    def _native(self, _: Request, asked: dict[str, Any]) -> Response:
        trade = self._opened(asked)
        if trade is None:
            return _problem("OUT_TRADE_NO_USED", 403)
        return JSONResponse({"code_url": f"weixin://wxpay/bizpayurl?pr={trade.payment_no[-12:]}"})

    def _jsapi(self, _: Request, asked: dict[str, Any]) -> Response:
        trade = self._opened(asked, asked["payer"]["openid"])
        if trade is None:
            return _problem("OUT_TRADE_NO_USED", 403)
        return JSONResponse({"prepay_id": f"wx{trade.payment_no}"})

    def _opened(self, asked: dict[str, Any], payer: str | None = None) -> Trade | None:
        if asked["mchid"] != self.merchant_id or asked["appid"] != self.app_id or not asked["description"]:
            return None
        datetime.fromisoformat(asked["time_expire"])
        assert isinstance(asked["amount"]["total"], int)
        return self.open(asked["out_trade_no"], Decimal(asked["amount"]["total"]) / 100, asked["notify_url"], payer)

    def _find(self, request: Request, _: dict[str, Any]) -> Response:
        trade = self.trades.get(request.path_params["payment_no"])
        return _problem("ORDER_NOT_EXIST", 404) if trade is None else JSONResponse(self._told(trade, trade.amount))

    def _told(self, trade: Trade, amount: Decimal) -> dict[str, Any]:
        given = any(one.payment_no == trade.payment_no for one in self.refunds.values())
        state = {NEW: "NOTPAY", PAID: "REFUND" if given else "SUCCESS", CLOSED: "CLOSED"}[trade.state]
        told: dict[str, Any] = {
            "appid": self.app_id,
            "mchid": self.merchant_id,
            "out_trade_no": trade.payment_no,
            "trade_state": state,
            "trade_type": "NATIVE" if trade.payer is None else "JSAPI",
            "amount": {"total": int(amount * 100), "payer_total": int(amount * 100), "currency": "CNY"},
        }
        if trade.paid_at is not None:
            told |= {
                "transaction_id": trade.transaction_no,
                "success_time": trade.paid_at.astimezone(CHINA).isoformat(timespec="seconds"),
                "payer": {"openid": trade.payer or "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o"},
            }
        return told

    def _close(self, request: Request, _: dict[str, Any]) -> Response:
        trade = self.trades.get(request.path_params["payment_no"])
        if trade is None:
            return _problem("ORDER_NOT_EXIST", 404)
        if trade.state == PAID:
            return _problem("ORDER_PAID", 400)
        trade.state = CLOSED
        return Response(status_code=204)

    def _refund(self, _: Request, asked: dict[str, Any]) -> Response:
        given = self.give_back(asked["out_trade_no"], asked["out_refund_no"], Decimal(asked["amount"]["refund"]) / 100)
        return _problem("NOT_ENOUGH", 403) if given is None else JSONResponse(self._refund_told(given))

    def _find_refund(self, request: Request, _: dict[str, Any]) -> Response:
        given = self.refunds.get(request.path_params["refund_no"])
        return _problem("RESOURCE_NOT_EXISTS", 404) if given is None else JSONResponse(self._refund_told(given))

    def _refund_told(self, given: Refund) -> dict[str, Any]:
        return {
            "refund_id": given.channel_refund_no,
            "out_refund_no": given.refund_no,
            "out_trade_no": given.payment_no,
            "status": {DONE: "SUCCESS", UNDER_WAY: "PROCESSING", FAILED: "ABNORMAL"}[given.state],
            "amount": {"refund": int(given.amount * 100), "currency": "CNY"},
            **(
                {"success_time": given.at.astimezone(CHINA).isoformat(timespec="seconds")}
                if given.state == DONE
                else {}
            ),
        }

    def _bill(self, request: Request, _: dict[str, Any]) -> Response:
        day = date.fromisoformat(request.query_params["bill_date"])
        lines = self.lines(day)
        if not lines:
            return _problem("NO_STATEMENT_EXIST", 400)
        head = "交易时间,公众账号ID,商户号,微信订单号,商户订单号,交易状态,订单金额,商户退款单号,退款金额"
        rows = [
            ",".join(
                f"`{cell}"
                for cell in (
                    f"{day} 12:00:00", self.app_id, self.merchant_id, transaction, payment,
                    "SUCCESS" if refund is None else "REFUND",
                    "0.00" if refund else f"{amount:.2f}", refund or "0", f"{amount:.2f}" if refund else "0.00",
                )
            )
            for payment, transaction, amount, refund in lines
        ]  # fmt: skip
        text = "\ufeff" + "\n".join([head, *rows, "总交易单数,应结订单总金额", f"`{len(rows)},`0.00"]) + "\n"
        token, content = secrets.token_hex(8), text.encode()
        self.bills[token] = gzip.compress(content)
        address = f"{request.url.scheme}://{request.url.netloc}/v3/billdownload/file?token={token}"
        return JSONResponse(
            {"download_url": address, "hash_type": "SHA1", "hash_value": hashlib.sha1(content).hexdigest()}  # noqa: S324
        )

    def _file(self, request: Request, _: dict[str, Any]) -> Response:
        return Response(self.bills[request.query_params["token"]], media_type="application/octet-stream")

    def notice(self, trade: Trade) -> tuple[dict[str, str], bytes]:
        amount = trade.amount - Decimal("0.01") if self.due("wrong_amount") else trade.amount
        body = json.dumps(
            {
                "id": secrets.token_hex(16),
                "create_time": datetime.now(CHINA).isoformat(timespec="seconds"),
                "event_type": "TRANSACTION.SUCCESS",
                "resource_type": "encrypt-resource",
                "summary": "支付成功",
                "resource": {
                    "original_type": "transaction",
                    **self._sealed_resource(json.dumps(self._told(trade, amount))),
                },
            },
            ensure_ascii=False,
        )
        headers = self._seal(body)
        if self.due("forged"):
            headers["wechatpay-signature"] = sign(new_key(), body)
        return {**headers, "content-type": "application/json"}, body.encode()


class AlipaySandbox(Sandbox):
    """One application's Alipay. `merchant_key` is the application's to sign with, `own_key` Alipay's."""

    def __init__(self, merchant_id: str = "2088102146225135", app_id: str = "2016072900117068") -> None:
        super().__init__()
        self.merchant_id, self.app_id = merchant_id, app_id
        self.merchant_key, self.own_key = new_key(), new_key()
        self.bills: dict[str, bytes] = {}
        self.app = Starlette(
            routes=[
                *self.routes(),
                Route("/gateway.do", self._take, methods=["POST"]),
                Route("/bill.zip", self._file),
            ]
        )

    async def _take(self, request: Request) -> Response:
        asked = dict(parse_qsl((await request.body()).decode(), keep_blank_values=True))
        signature = asked.pop("sign", "")
        text = "&".join(f"{name}={asked[name]}" for name in sorted(asked))
        if asked.get("app_id") != self.app_id or not is_signed(self.merchant_key.public_key(), text, signature):
            return JSONResponse({"error_response": {"code": "40002", "sub_code": "isv.invalid-signature"}})
        time.strptime(asked["timestamp"], "%Y-%m-%d %H:%M:%S")
        method = asked["method"]
        routes: dict[str, Callable[[dict[str, Any], dict[str, str]], dict[str, Any]]] = {
            "alipay.trade.precreate": self._precreate,
            "alipay.trade.query": self._query,
            "alipay.trade.close": self._close,
            "alipay.trade.cancel": self._cancel,
            "alipay.trade.refund": self._refund,
            "alipay.trade.fastpay.refund.query": self._find_refund,
        }
        content = json.loads(asked["biz_content"])

        async def act() -> Response:
            if method == "alipay.data.dataservice.bill.downloadurl.query":
                told = self._bill(content, f"{request.url.scheme}://{request.url.netloc}")
            else:
                told = routes[method](content, asked)
            answer = json.dumps(told, ensure_ascii=False)
            sealed = sign(new_key() if self.due("bad_signature") else self.own_key, answer)
            body = f'{{"{method.replace(".", "_")}_response":{answer},"sign":"{sealed}"}}'
            return Response(body, media_type="application/json")

        return await self.answer(request, method, act)

    def _precreate(self, content: dict[str, Any], asked: dict[str, str]) -> dict[str, Any]:
        time.strptime(content["time_expire"], "%Y-%m-%d %H:%M:%S")
        trade = self.open(content["out_trade_no"], Decimal(content["total_amount"]), asked["notify_url"])
        if trade is None or not content["subject"]:
            return _failure("ACQ.CONTEXT_INCONSISTENT")
        return _success(out_trade_no=trade.payment_no, qr_code=f"https://qr.alipay.com/bax{trade.payment_no[-12:]}")

    def _query(self, content: dict[str, Any], _: dict[str, str]) -> dict[str, Any]:
        trade = self.trades.get(content["out_trade_no"])
        return _failure("ACQ.TRADE_NOT_EXIST") if trade is None else _success(**self._told(trade, "send_pay_date"))

    def _told(self, trade: Trade, paid_at: str) -> dict[str, str]:
        state = {NEW: "WAIT_BUYER_PAY", PAID: "TRADE_SUCCESS", CLOSED: "TRADE_CLOSED"}[trade.state]
        told = {
            "out_trade_no": trade.payment_no,
            "trade_no": trade.transaction_no,
            "trade_status": state,
            "total_amount": f"{trade.amount:.2f}",
        }
        if trade.paid_at is not None:
            told[paid_at] = trade.paid_at.astimezone(CHINA).strftime("%Y-%m-%d %H:%M:%S")
            told["buyer_id"] = "2088102175953034"
        return told

    def _close(self, content: dict[str, Any], _: dict[str, str]) -> dict[str, Any]:
        trade = self.trades.get(content["out_trade_no"])
        if trade is None:
            return _failure("ACQ.TRADE_NOT_EXIST")
        if trade.state == PAID:
            return _failure("ACQ.TRADE_STATUS_ERROR")
        trade.state = CLOSED
        return _success(out_trade_no=trade.payment_no)

    def _cancel(self, content: dict[str, Any], _: dict[str, str]) -> dict[str, Any]:
        return _success(out_trade_no=content["out_trade_no"], action="close")

    def _refund(self, content: dict[str, Any], _: dict[str, str]) -> dict[str, Any]:
        given = self.give_back(content["out_trade_no"], content["out_request_no"], Decimal(content["refund_amount"]))
        if given is None:
            return _failure("ACQ.SELLER_BALANCE_NOT_ENOUGH")
        return _success(
            out_trade_no=given.payment_no,
            trade_no=self.trades[given.payment_no].transaction_no,
            fund_change="Y" if given.state == DONE else "N",
            refund_fee=f"{given.amount:.2f}",
            gmt_refund_pay=given.at.astimezone(CHINA).strftime("%Y-%m-%d %H:%M:%S"),
        )

    def _find_refund(self, content: dict[str, Any], _: dict[str, str]) -> dict[str, Any]:
        given = self.refunds.get(content["out_request_no"])
        if given is None or given.state == FAILED:
            return _success(out_trade_no=content["out_trade_no"])
        return _success(
            out_trade_no=given.payment_no,
            out_request_no=given.refund_no,
            refund_status={DONE: "REFUND_SUCCESS", UNDER_WAY: "REFUND_PROCESSING"}[given.state],
            gmt_refund_pay=given.at.astimezone(CHINA).strftime("%Y-%m-%d %H:%M:%S"),
        )

    def _bill(self, content: dict[str, Any], address: str) -> dict[str, Any]:
        lines = self.lines(date.fromisoformat(content["bill_date"]))
        if not lines:
            return _failure("isp.bill_not_exist")
        text = io.StringIO()
        text.write("#支付宝业务明细查询\r\n")
        writer = csv.writer(text)
        writer.writerow(["支付宝交易号", "商户订单号", "业务类型", "商品名称", "订单金额（元）", "退款批次号/请求号"])
        for payment, transaction, amount, refund in lines:
            kind, signed = ("交易", amount) if refund is None else ("退款", -amount)
            writer.writerow([f"{transaction}\t", f"{payment}\t", kind, "", f"{signed:.2f}", refund or ""])
        text.write("#业务明细列表结束\r\n")
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("20880_业务明细.csv", text.getvalue().encode("gb18030"))
            archive.writestr("20880_业务明细(汇总).csv", "#汇总\r\n门店编号,交易订单总笔数\r\n".encode("gb18030"))
        token = secrets.token_hex(8)
        self.bills[token] = packed.getvalue()
        return _success(bill_download_url=f"{address}/bill.zip?token={token}")

    async def _file(self, request: Request) -> Response:
        return Response(self.bills[request.query_params["token"]], media_type="application/zip")

    def notice(self, trade: Trade) -> tuple[dict[str, str], bytes]:
        told = {
            **self._told(trade, "gmt_payment"),
            "app_id": self.app_id,
            "seller_id": self.merchant_id,
            "notify_id": secrets.token_hex(16),
            "notify_type": "trade_status_sync",
            "subject": "充值 & 续费",
        }
        if self.due("wrong_amount"):
            told["total_amount"] = f"{trade.amount - Decimal('0.01'):.2f}"
        text = "&".join(f"{name}={told[name]}" for name in sorted(told))
        key = new_key() if self.due("forged") else self.own_key
        body = urlencode({**told, "sign": sign(key, text), "sign_type": "RSA2"})
        return {"content-type": "application/x-www-form-urlencoded;charset=utf-8"}, body.encode()


async def _post(url: str, headers: dict[str, str], content: bytes) -> httpx.Response:
    async with httpx.AsyncClient(timeout=30) as client:
        return await client.post(url, content=content, headers=headers)


def _problem(code: str, status: int) -> Response:
    return JSONResponse({"code": code, "message": code}, status)


def _success(**told: Any) -> dict[str, Any]:
    return {"code": "10000", "msg": "Success", **told}


def _failure(sub_code: str) -> dict[str, Any]:
    return {"code": "40004", "msg": "Business Failed", "sub_code": sub_code, "sub_msg": sub_code}
