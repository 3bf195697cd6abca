"""Messages on their way out: real SMTP and HTTP to sandboxes on the loopback."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydantic import SecretStr

from gateways.http import GatewayError, Partner
from gateways.messaging import (
    DingTalk,
    DingTalkSettings,
    Mail,
    MailSecurity,
    MailSettings,
    Message,
    Messenger,
    Robot,
    Sms,
    SmsSettings,
    WeChat,
    WeChatSettings,
)
from tests.support.mailbox import mailbox
from tests.support.messengers import (
    ROBOT_SECRET,
    ROBOT_TOKEN,
    SMS_KEY,
    SMS_SECRET,
    WECHAT_APP,
    WECHAT_SECRET,
    Messengers,
)
from tests.support.serving import serving

SENDER = "Trellis 平台 <no-reply@trellis.test>"


def message(address: str, **changes: str | None) -> Message:
    values = {
        "reference": "notification-7",
        "address": address,
        "language": "zh-CN",
        "subject": "您收到 3 张 SIM 卡",
        "body": "您好：\n\n北方代理 & Co. 已下发 3 张卡。\n",
        "provider_template": "SMS_154950909",
        **changes,
    }
    return Message(**values, parameters={"count": "3", "giver": "北方代理 & Co.*~"})  # type: ignore[arg-type]


def mail_settings(port: int, **more: object) -> MailSettings:
    given = {"host": "127.0.0.1", "port": port, "security": MailSecurity.NONE, "sender": SENDER, **more}
    return MailSettings.model_validate({"timeout_seconds": 0.5, **given})


async def refused(messenger: Messenger, sent: Message) -> tuple[str, str]:
    with pytest.raises(GatewayError) as error:
        await messenger.send(sent)
    return error.value.code, str(error.value)


# -- mail -----------------------------------------------------------------------------------------------------------


async def test_a_mail_as_the_recipient_gets_it() -> None:
    async with mailbox() as box:
        await Mail(mail_settings(box.port)).send(message("li@example.com", subject="您收到 3 张\r\nBcc: x@y.z 卡"))
    [mail] = box.mails
    assert mail["From"] == SENDER
    assert mail["To"] == "li@example.com"
    assert mail["Subject"] == "您收到 3 张 Bcc: x@y.z 卡"
    assert mail["Bcc"] is None
    assert mail["Message-ID"] == "<notification-7@trellis.test>"
    assert mail["Content-Language"] == "zh-CN"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert abs(parsedate_to_datetime(mail["Date"]) - datetime.now(UTC)) < timedelta(minutes=1)
    assert mail.get_content_type() == "text/plain"
    assert box.text() == "您好：\n\n北方代理 & Co. 已下发 3 张卡。\n"


@pytest.mark.parametrize(
    ("answer", "code"),
    [("550 no such user li@example.com", "MAIL_REFUSED"), ("451 try later", "MAIL_UNAVAILABLE")],
)
async def test_what_the_mail_server_says_is_told_by_its_number_alone(answer: str, code: str) -> None:
    async with mailbox() as box:
        box.faults = [answer]
        told = await refused(Mail(mail_settings(box.port)), message("li@example.com"))
    assert told == (code, f"The mail server answered {answer[:3]}.")
    assert box.mails == []


async def test_a_mail_server_that_is_silent_or_away() -> None:
    async with mailbox() as box:
        box.silent = True
        told = await refused(Mail(mail_settings(box.port)), message("li@example.com"))
    assert told == ("MAIL_UNAVAILABLE", "The mail server did not answer in time.")
    told = await refused(Mail(mail_settings(box.port)), message("li@example.com"))
    assert told == ("MAIL_UNAVAILABLE", "The mail server could not be reached.")
    told = await refused(Mail(MailSettings(host="")), message("li@example.com"))
    assert told == ("NOT_SUPPORTED", "No mail server is set up.")


async def test_mail_over_tls_with_a_login(tmp_path: Path) -> None:
    certificate, context = _certified(tmp_path)
    async with mailbox(login=("trellis", "s3cret"), starttls=context) as box:
        secured = {"security": "starttls", "user": "trellis", "ca_file": certificate}
        await Mail(mail_settings(box.port, **secured, password="s3cret")).send(message("li@example.com"))
        assert len(box.mails) == 1
        # a wrong password is put right by the operator, and the mail can still go
        told = await refused(Mail(mail_settings(box.port, **secured, password="wrong")), message("li@example.com"))
        assert told == ("MAIL_UNAVAILABLE", "The mail server answered 535.")
        # nobody's word is taken for who the server is
        told = await refused(
            Mail(mail_settings(box.port, **secured | {"ca_file": None}, password="s3cret")), message("li@example.com")
        )
        assert told == ("MAIL_UNAVAILABLE", "The mail server could not be reached.")
        assert len(box.mails) == 1


def _certified(folder: Path) -> tuple[Path, ssl.SSLContext]:
    """A certificate of 127.0.0.1 that it has signed itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mail.sandbox")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    certificate, private = folder / "certificate.pem", folder / "key.pem"
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, private)
    return certificate, context


# -- DingTalk, SMS, WeChat --------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def sandbox() -> Messengers:
    return Messengers()


@pytest.fixture
async def url(sandbox: Messengers) -> AsyncIterator[str]:
    async with serving(sandbox.app) as url:
        yield url


def dingtalk(url: str, secret: str = ROBOT_SECRET) -> DingTalk:
    robot = Robot(access_token=SecretStr(ROBOT_TOKEN), secret=SecretStr(secret))
    return DingTalk(DingTalkSettings(url=url, robots={"operations": robot}), Partner("DINGTALK", "DingTalk"))


def sms(url: str, secret: str = SMS_SECRET) -> Sms:
    return Sms(SmsSettings(url=url, access_key_id=SMS_KEY, access_key_secret=SecretStr(secret), sign_name="格架平台"))


def wechat(url: str, secret: str = WECHAT_SECRET) -> WeChat:
    return WeChat(WeChatSettings(url=url, app_id=WECHAT_APP, secret=SecretStr(secret)))


ADDRESSES = {"dingtalk": "operations", "sms": "13812345678", "wechat": "oOpenId"}
MAKERS = {"dingtalk": dingtalk, "sms": sms, "wechat": wechat}


async def test_a_robot_speaks_in_its_group(sandbox: Messengers, url: str) -> None:
    robot = dingtalk(url)
    await robot.send(message("operations"))
    assert sandbox.sent == [
        {
            "msgtype": "markdown",
            "markdown": {"title": "您收到 3 张 SIM 卡", "text": "您好：\n\n北方代理 & Co. 已下发 3 张卡。\n"},
        }
    ]
    assert await refused(robot, message("unknown")) == ("NOT_SUPPORTED", "No such robot is set up.")
    told = await refused(dingtalk(url, "SECwrong"), message("operations"))
    assert told == ("DINGTALK_REFUSED", "DingTalk refused with code 310000.")
    sandbox.faults = ['{"errcode": 130101, "errmsg": "send too fast"}']
    told = await refused(robot, message("operations"))
    assert told == ("DINGTALK_UNAVAILABLE", "DingTalk asks to try later, with code 130101.")
    await robot.close()


async def test_an_sms_by_its_registered_text(sandbox: Messengers, url: str) -> None:
    provider = sms(url)
    for _ in range(2):
        await provider.send(message("13812345678"))
    expected = {
        "Action": "SendSms",
        "Version": "2017-05-25",
        "PhoneNumbers": "13812345678",
        "SignName": "格架平台",
        "TemplateCode": "SMS_154950909",
        "TemplateParam": {"count": "3", "giver": "北方代理 & Co.*~"},
        "OutId": "notification-7",
    }
    assert sandbox.sent == [expected, expected]
    assert await refused(provider, message("13812345678", provider_template=None)) == (
        "NOT_SUPPORTED",
        "The text is not registered with the SMS provider.",
    )
    told = await refused(sms(url, "wrong"), message("13812345678"))
    assert told == ("SMS_REFUSED", "The SMS provider refused with code SignatureDoesNotMatch.")
    sandbox.faults = ['{"Code": "isv.BUSINESS_LIMIT_CONTROL", "Message": "触发分钟级流控"}']
    told = await refused(provider, message("13812345678"))
    assert told == ("SMS_UNAVAILABLE", "The SMS provider asks to try later, with code isv.BUSINESS_LIMIT_CONTROL.")
    assert await refused(Sms(SmsSettings(url=url)), message("1")) == ("NOT_SUPPORTED", "No SMS provider is set up.")
    await provider.close()


async def test_a_wechat_template_message_and_its_token(sandbox: Messengers, url: str) -> None:
    account = wechat(url)
    for _ in range(2):
        await account.send(message("oOpenId"))
    assert (
        sandbox.sent
        == [
            {
                "touser": "oOpenId",
                "template_id": "SMS_154950909",
                "client_msg_id": "notification-7",
                "data": {"count": {"value": "3"}, "giver": {"value": "北方代理 & Co.*~"}},
            }
        ]
        * 2
    )
    assert sandbox.tokens == ["token 0"]
    # a token that was bought elsewhere since takes ours out of force: another is bought, and the message goes
    sandbox.tokens.append("bought elsewhere")
    await account.send(message("oOpenId"))
    assert (len(sandbox.sent), len(sandbox.tokens)) == (3, 3)
    sandbox.faults = ['{"errcode": 43004, "errmsg": "require subscribe"}']
    assert await refused(account, message("oOpenId")) == ("WECHAT_REFUSED", "WeChat refused with code 43004.")
    told = await refused(wechat(url, "wrong"), message("oOpenId"))
    assert told == ("WECHAT_REFUSED", "WeChat gave no token, with code 40125.")
    assert (await refused(account, message("o", provider_template=None)))[0] == "NOT_SUPPORTED"
    assert (await refused(WeChat(WeChatSettings(url=url)), message("o")))[0] == "NOT_SUPPORTED"
    await account.close()


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize(
    ("fault", "ending"),
    [(500, "answered with HTTP status 500."), ("<html>", "gave an answer that cannot be understood.")],
)
async def test_a_partner_that_fails_may_be_tried_again(
    sandbox: Messengers, url: str, name: str, fault: int | str, ending: str
) -> None:
    messenger = MAKERS[name](url)
    sandbox.faults = [fault]
    code, told = await refused(messenger, message(ADDRESSES[name]))
    assert code == f"{name.upper()}_UNAVAILABLE"
    assert told.endswith(ending)
    await messenger.send(message(ADDRESSES[name]))
    assert len(sandbox.sent) == 1
    await messenger.close()
