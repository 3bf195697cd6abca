"""What people are told of: each kind with its channels, its placeholders and its built-in text in every language."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from models.notifications import NotificationChannel
from models.tenancy import Language
from services import codes

EMAIL, IN_APP = NotificationChannel.EMAIL, NotificationChannel.IN_APP


@dataclass(frozen=True)
class Text:
    subject: str
    body: str


@dataclass(frozen=True)
class Kind:
    """``channels``: by which ways it is sent, as far as the recipient has an address there.

    ``secrets``: placeholders that are kept encrypted and must stand in every text. ``security``: cannot be declined,
    and only the platform may word it. ``window``: for how long the same dedupe key is not sent again.
    ``useful_for``: after which it is not sent any more.
    """

    key: str
    placeholders: frozenset[str]
    texts: Mapping[Language, Text]
    channels: tuple[NotificationChannel, ...] = (EMAIL, IN_APP)
    secrets: frozenset[str] = frozenset()
    security: bool = False
    window: timedelta = timedelta(days=1)
    useful_for: timedelta = timedelta(days=3)


SIM_ALLOCATED = Kind(
    "sim.allocated",
    frozenset({"tenant", "giver", "count"}),
    {
        Language.ZH_CN: Text(
            "您收到 {count} 张 SIM 卡", "{tenant}，您好：\n\n{giver} 已向您下发 {count} 张 SIM 卡。\n"
        ),
        Language.ZH_TW: Text(
            "您收到 {count} 張 SIM 卡", "{tenant}，您好：\n\n{giver} 已向您下發 {count} 張 SIM 卡。\n"
        ),
        Language.EN: Text(
            "You have received {count} SIM cards",
            "Dear {tenant},\n\n{giver} has handed {count} SIM cards down to you.\n",
        ),
    },
)
IMPORT_FINISHED = Kind(
    "import.finished",
    frozenset({"name", "done", "failed"}),
    {
        Language.ZH_CN: Text(
            "SIM 卡录入已完成", "{name}，您好：\n\n录入任务已完成：成功 {done} 张，失败 {failed} 张。\n"
        ),
        Language.ZH_TW: Text(
            "SIM 卡錄入已完成", "{name}，您好：\n\n錄入任務已完成：成功 {done} 張，失敗 {failed} 張。\n"
        ),
        Language.EN: Text(
            "Your SIM cards have been entered",
            "Dear {name},\n\nThe cards have been entered: {done} accepted, {failed} refused.\n",
        ),
    },
    window=timedelta(days=30),
)
IMPORT_FAILED = Kind(
    "import.failed",
    frozenset({"name", "reason"}),
    {
        Language.ZH_CN: Text("SIM 卡录入失败", "{name}，您好：\n\n录入任务失败，没有录入任何卡：{reason}\n"),
        Language.ZH_TW: Text("SIM 卡錄入失敗", "{name}，您好：\n\n錄入任務失敗，沒有錄入任何卡：{reason}\n"),
        Language.EN: Text(
            "Your SIM cards could not be entered",
            "Dear {name},\n\nNone of the cards has been entered: {reason}\n",
        ),
    },
    window=timedelta(days=30),
)
TASK_FINISHED = Kind(
    "task.finished",
    frozenset({"name", "title", "done", "failed"}),
    {
        Language.ZH_CN: Text(
            "任务已完成：{title}", "{name}，您好：\n\n任务“{title}”已完成：成功 {done}，失败 {failed}。\n"
        ),
        Language.ZH_TW: Text(
            "任務已完成：{title}", "{name}，您好：\n\n任務「{title}」已完成：成功 {done}，失敗 {failed}。\n"
        ),
        Language.EN: Text(
            "Your task is done: {title}",
            "Dear {name},\n\nThe task {title} is done: {done} succeeded, {failed} failed.\n",
        ),
    },
    window=timedelta(days=30),
)
TASK_FAILED = Kind(
    "task.failed",
    frozenset({"name", "title", "reason"}),
    {
        Language.ZH_CN: Text("任务失败：{title}", "{name}，您好：\n\n任务“{title}”失败：{reason}\n"),
        Language.ZH_TW: Text("任務失敗：{title}", "{name}，您好：\n\n任務「{title}」失敗：{reason}\n"),
        Language.EN: Text("Your task failed: {title}", "Dear {name},\n\nThe task {title} failed: {reason}\n"),
    },
    window=timedelta(days=30),
)
EXPORT_FINISHED = Kind(
    "export.finished",
    frozenset({"name", "title", "rows"}),
    {
        Language.ZH_CN: Text(
            "导出已完成：{title}", "{name}，您好：\n\n“{title}”已导出，共 {rows} 行，请在任务列表中下载。\n"
        ),
        Language.ZH_TW: Text(
            "匯出已完成：{title}", "{name}，您好：\n\n「{title}」已匯出，共 {rows} 列，請在任務清單中下載。\n"
        ),
        Language.EN: Text(
            "Your export is ready: {title}",
            "Dear {name},\n\n{title} has been written with {rows} rows. Fetch it from the list of tasks.\n",
        ),
    },
    window=timedelta(days=30),
)
EXPORT_FAILED = Kind(
    "export.failed",
    frozenset({"name", "title", "reason"}),
    {
        Language.ZH_CN: Text("导出失败：{title}", "{name}，您好：\n\n“{title}”导出失败：{reason}\n"),
        Language.ZH_TW: Text("匯出失敗：{title}", "{name}，您好：\n\n「{title}」匯出失敗：{reason}\n"),
        Language.EN: Text("Your export has failed: {title}", "Dear {name},\n\n{title} was not written: {reason}\n"),
    },
    window=timedelta(days=30),
)
API_KEY_EXPIRING = Kind(
    "api_key.expiring",
    frozenset({"tenant", "name", "key", "date"}),
    {
        Language.ZH_CN: Text(
            "API 密钥即将到期", "{tenant}，您好：\n\nAPI 密钥“{name}”（{key}）将于 {date} 到期，请及时续期。\n"
        ),
        Language.ZH_TW: Text(
            "API 金鑰即將到期", "{tenant}，您好：\n\nAPI 金鑰「{name}」（{key}）將於 {date} 到期，請及時續期。\n"
        ),
        Language.EN: Text(
            "An API key is about to expire",
            "Dear {tenant},\n\nThe API key {name} ({key}) expires on {date}. Have it extended in time.\n",
        ),
    },
    window=timedelta(days=30),
)
WEBHOOK_DISABLED = Kind(
    "webhook.disabled",
    frozenset({"tenant", "host"}),
    {
        Language.ZH_CN: Text(
            "Webhook 已停用", "{tenant}，您好：\n\n{host} 上的 Webhook 长时间未能送达，已自动停用。修复后请重新启用。\n"
        ),
        Language.ZH_TW: Text(
            "Webhook 已被停用",
            "{tenant}，您好：\n\n{host} 上的 Webhook 長時間未能送達，已自動停用。修復後請重新啟用。\n",
        ),
        Language.EN: Text(
            "A webhook has been switched off",
            "Dear {tenant},\n\nThe webhook at {host} has not taken what was sent for a long time, and has been "
            "switched off. Switch it on again once it works.\n",
        ),
    },
    window=timedelta(days=30),
)
PASSWORD_RESET = Kind(
    "account.password_reset",
    frozenset({"name", "code", "minutes"}),
    {
        Language.ZH_CN: Text(
            "重置密码验证码",
            "{name}，您好：\n\n您的验证码是 {code}，{minutes} 分钟内有效，只能使用一次。\n"
            "如非本人操作，请忽略本邮件。\n",
        ),
        Language.ZH_TW: Text(
            "重設密碼驗證碼",
            "{name}，您好：\n\n您的驗證碼是 {code}，{minutes} 分鐘內有效，只能使用一次。\n"
            "如非本人操作，請忽略本郵件。\n",
        ),
        Language.EN: Text(
            "Your code to reset the password",
            "Dear {name},\n\nYour code is {code}. It is valid for {minutes} minutes and works once.\n"
            "If you did not ask for it, ignore this mail.\n",
        ),
    },
    channels=(EMAIL,),
    secrets=frozenset({"code"}),
    security=True,
    useful_for=timedelta(minutes=codes.MINUTES),
)
PASSWORD_CHANGED = Kind(
    "account.password_changed",
    frozenset({"name"}),
    {
        Language.ZH_CN: Text(
            "您的密码已重置",
            "{name}，您好：\n\n您的密码刚刚已重置，所有登录均已退出。如非本人操作，请立即联系管理员。\n",
        ),
        Language.ZH_TW: Text(
            "您的密碼已重設",
            "{name}，您好：\n\n您的密碼剛剛已重設，所有登入均已登出。如非本人操作，請立即聯絡管理員。\n",
        ),
        Language.EN: Text(
            "Your password has been reset",
            "Dear {name},\n\nYour password has just been reset, and all your sessions have ended. "
            "If that was not you, tell your administrator at once.\n",
        ),
    },
    security=True,
)
PHONE_CHANGED = Kind(
    "end_user.phone_changed",
    frozenset({"tenant", "phone"}),
    {
        Language.ZH_CN: Text(
            "您的手机号已变更",
            "您好：\n\n您在 {tenant} 的手机号刚刚已变更为 {phone}，今后可用它登录。如非本人操作，请立即联系客服。\n",
        ),
        Language.ZH_TW: Text(
            "您的手機號碼已變更",
            "您好：\n\n您在 {tenant} 的手機號碼剛剛已變更為 {phone}，今後可用它登入。如非本人操作，請立即聯絡客服。\n",
        ),
        Language.EN: Text(
            "Your phone number has been changed",
            "Hello,\n\nYour phone number at {tenant} has just become {phone}, by which you can log in from now on. "
            "If that was not you, tell us at once.\n",
        ),
    },
    channels=(EMAIL,),
    security=True,
)

EMAIL_CODE = Kind(
    "end_user.email_code",
    frozenset({"tenant", "code", "minutes"}),
    {
        Language.ZH_CN: Text(
            "您的验证码",
            "您好：\n\n您在 {tenant} 的验证码是 {code}，{minutes} 分钟内有效，只能使用一次。\n"
            "如非本人操作，请忽略本邮件。\n",
        ),
        Language.ZH_TW: Text(
            "您的驗證碼",
            "您好：\n\n您在 {tenant} 的驗證碼是 {code}，{minutes} 分鐘內有效，只能使用一次。\n"
            "如非本人操作，請忽略本郵件。\n",
        ),
        Language.EN: Text(
            "Your verification code",
            "Hello,\n\nYour code at {tenant} is {code}. It is valid for {minutes} minutes and works once.\n"
            "If you did not ask for it, ignore this mail.\n",
        ),
    },
    channels=(EMAIL,),
    secrets=frozenset({"code"}),
    security=True,
    useful_for=timedelta(minutes=codes.MINUTES),
)
SMS_CODE = Kind(
    "end_user.sms_code",
    frozenset({"tenant", "code", "minutes"}),
    {
        Language.ZH_CN: Text("您的验证码", "您在 {tenant} 的验证码是 {code}，{minutes} 分钟内有效，只能使用一次。"),
        Language.ZH_TW: Text("您的驗證碼", "您在 {tenant} 的驗證碼是 {code}，{minutes} 分鐘內有效，只能使用一次。"),
        Language.EN: Text(
            "Your verification code", "Your code at {tenant} is {code}. It is valid for {minutes} minutes, once."
        ),
    },
    channels=(NotificationChannel.SMS,),
    secrets=frozenset({"code"}),
    security=True,
    useful_for=timedelta(minutes=codes.MINUTES),
)
DATA_NEARLY_USED = Kind(
    "data.nearly_used",
    frozenset({"card", "percent"}),
    {
        Language.ZH_CN: Text("流量即将用完", "您好：\n\n卡 {card} 的套餐流量已使用超过 {percent}%。\n"),
        Language.ZH_TW: Text("流量即將用完", "您好：\n\n卡 {card} 的套餐流量已使用超過 {percent}%。\n"),
        Language.EN: Text(
            "Data is nearly used up", "Hello,\n\nmore than {percent}% of the data on card {card} has been used.\n"
        ),
    },
    window=timedelta(days=400),
)
DATA_USED_UP = Kind(
    "data.used_up",
    frozenset({"card"}),
    {
        Language.ZH_CN: Text("流量已用完", "您好：\n\n卡 {card} 的套餐流量已用完。\n"),
        Language.ZH_TW: Text("數據流量已用完", "您好：\n\n卡 {card} 的套餐流量已用完。\n"),
        Language.EN: Text("Data is used up", "Hello,\n\nthe data on card {card} has been used up.\n"),
    },
    window=timedelta(days=400),
)

KINDS = {
    kind.key: kind
    for kind in (
        SIM_ALLOCATED,
        IMPORT_FINISHED,
        IMPORT_FAILED,
        TASK_FINISHED,
        TASK_FAILED,
        EXPORT_FINISHED,
        EXPORT_FAILED,
        API_KEY_EXPIRING,
        WEBHOOK_DISABLED,
        PASSWORD_RESET,
        PASSWORD_CHANGED,
        PHONE_CHANGED,
        EMAIL_CODE,
        SMS_CODE,
        DATA_NEARLY_USED,
        DATA_USED_UP,
    )
}
