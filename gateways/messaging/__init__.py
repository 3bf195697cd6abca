"""How a message leaves for somebody: mail, SMS, DingTalk robots, WeChat template messages."""

from gateways.messaging.dingtalk import DingTalk, DingTalkSettings, Robot
from gateways.messaging.mail import Mail, MailSecurity, MailSettings
from gateways.messaging.messages import Message, Messenger
from gateways.messaging.sms import Sms, SmsSettings
from gateways.messaging.wechat import WeChat, WeChatSettings

__all__ = [
    "DingTalk",
    "DingTalkSettings",
    "Mail",
    "MailSecurity",
    "MailSettings",
    "Message",
    "Messenger",
    "Robot",
    "Sms",
    "SmsSettings",
    "WeChat",
    "WeChatSettings",
]
