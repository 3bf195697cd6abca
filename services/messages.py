"""Messages to people, by code and language. A code without a message is a bug that a test finds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MESSAGES: dict[str, dict[str, str]] = {
    "NOT_FOUND": {"en": "Not found.", "zh": "未找到。"},
    "REQUIRED": {"en": "A value is required.", "zh": "必填。"},
    "INVALID": {"en": "The value is not valid.", "zh": "值无效。"},
    "TAKEN": {"en": "{value} is already in use.", "zh": "{value} 已被使用。"},
    "NOT_POSITIVE": {"en": "The value must be greater than zero.", "zh": "值必须大于零。"},
    "NEGATIVE": {"en": "The value must not be negative.", "zh": "值不能为负。"},
    "INVALID_ID": {"en": "{value} is not a valid id here.", "zh": "{value} 不是有效的标识。"},
    "INVALID_EMAIL": {"en": "The e-mail address is not valid.", "zh": "邮箱地址无效。"},
    "INVALID_PHONE": {"en": "The phone number is not valid.", "zh": "手机号码无效。"},
    "INVALID_TIME_ZONE": {"en": "{value} is not a time zone.", "zh": "{value} 不是有效时区。"},
    "WRONG_CREDENTIALS": {"en": "The account or the password is wrong.", "zh": "账号或密码错误。"},
    "ACCOUNT_LOCKED": {
        "en": "Too many wrong passwords. Try again after {until}.",
        "zh": "密码错误次数过多，请于 {until} 后重试。",
    },
    "TOO_MANY_ATTEMPTS": {"en": "Too many attempts. Try again later.", "zh": "尝试次数过多，请稍后再试。"},
    "SESSION_ENDED": {"en": "The session has ended. Log in again.", "zh": "会话已失效，请重新登录。"},
    "WEAK_PASSWORD": {
        "en": "A password has at least 10 characters, with letters and digits.",
        "zh": "密码至少 10 位，且须包含字母和数字。",
    },
    "ROLE_NOT_GRANTABLE": {"en": "You may not grant the role {value}.", "zh": "您无权授予角色 {value}。"},
    "LAST_LEVEL": {"en": "Agents have at most three levels.", "zh": "代理最多三级。"},
    "WRONG_PARENT": {
        "en": "A tenant of this kind cannot stand below that one.",
        "zh": "该类型的客户不能放在此上级之下。",
    },
    "PARENT_WITHIN": {"en": "A branch cannot be moved below itself.", "zh": "不能将分支移动到其自身之下。"},
    "ACCOUNT_DISABLED": {"en": "This account is disabled.", "zh": "账号已停用。"},
    "LOGIN_NOT_OFFERED": {"en": "This way to log in is not offered here.", "zh": "此处不支持该登录方式。"},
    "LOGIN_UNAVAILABLE": {
        "en": "The login service cannot be reached now. Try again later.",
        "zh": "登录服务暂不可用，请稍后再试。",
    },
    "INVALID_CODE": {
        "en": "The code is wrong, too old, or was used before.",
        "zh": "授权码错误、已过期或已被使用。",
    },
    "INVALID_STATE": {"en": "This login was not begun here. Begin again.", "zh": "登录状态无效，请重新发起登录。"},
    "NOT_BOUND": {"en": "No account here is bound to this login.", "zh": "该登录方式未绑定账号。"},
    "SECOND_FACTOR_REQUIRED": {"en": "Enter the one-time code as well.", "zh": "请输入动态验证码。"},
    "WRONG_CODE": {"en": "The one-time code is wrong, or was used before.", "zh": "动态验证码错误或已被使用。"},
    "ALREADY_ENROLLED": {"en": "A second factor is already in use.", "zh": "已启用双重验证。"},
    "NOT_ENROLLED": {"en": "Begin to enrol a second factor first.", "zh": "请先发起双重验证绑定。"},
    "REGISTRATION_CLOSED": {"en": "Nobody can register here now.", "zh": "当前不开放注册。"},
    "KEY_REUSED": {
        "en": "This idempotency key was used for another request.",
        "zh": "该幂等键已用于其他请求。",
    },
    "SELECT_ONE": {"en": "Select cards in exactly one way.", "zh": "请以且仅以一种方式选择卡片。"},
    "TOO_MANY": {"en": "At most {limit} are allowed at once.", "zh": "一次最多 {limit} 个。"},
    "CARDS_NOT_FOUND": {"en": "{count} of the cards were not found.", "zh": "{count} 张卡未找到。"},
    "NOT_DIRECTLY_BELOW": {
        "en": "Cards can be given to a tenant directly below their holder.",
        "zh": "只能下发给持卡方的直属下级。",
    },
    "ALREADY_ACTIVATED": {
        "en": "{count} of the cards have been activated and cannot be taken back.",
        "zh": "{count} 张卡已激活，不能收回。",
    },
    "WRONG_STATUS": {
        "en": "{count} of the cards are {status}: {action} is not possible.",
        "zh": "{count} 张卡状态为 {status}，无法执行 {action}。",
    },
    "WRONG_CARRIER": {
        "en": "{count} of the cards are of another carrier than the package.",
        "zh": "{count} 张卡与套餐的运营商不一致。",
    },
    "NOT_ACTIVE": {"en": "{value} is disabled.", "zh": "{value} 已停用。"},
    "RANGE_ORDER": {"en": "The first number must not be after the last.", "zh": "起始号不能大于结束号。"},
    "RANGE_PREFIX": {
        "en": "Both numbers must have the same length, carrier and prefix.",
        "zh": "起止号码的长度、运营商和前缀必须一致。",
    },
    "FILE_REQUIRED": {"en": "A file is required.", "zh": "请上传文件。"},
    "FILE_TOO_LARGE": {"en": "The file is larger than {limit} bytes.", "zh": "文件超过 {limit} 字节。"},
    "TOO_MANY_OPEN_TASKS": {
        "en": "Wait until one of your tasks is done.",
        "zh": "请等待已有任务完成。",
    },
    # rows of an import
    "ICCID_MISSING": {"en": "The ICCID is missing.", "zh": "缺少 ICCID。"},
    "NUMBER_LOST_PRECISION": {
        "en": "The cell holds a number, which has lost digits; format it as text.",
        "zh": "单元格为数值格式，已丢失精度，请改为文本格式。",
    },
    "FORMULA": {"en": "The cell holds a formula; paste its value.", "zh": "单元格为公式，请粘贴为值。"},
    "TOO_SHORT": {"en": "An ICCID has 19 or 20 digits.", "zh": "ICCID 应为 19 或 20 位数字。"},
    "NOT_DIGITS": {"en": "Only digits are allowed.", "zh": "只允许数字。"},
    "CHECK_DIGIT": {"en": "The check digit is wrong.", "zh": "校验位错误。"},
    "UNKNOWN_PREFIX": {"en": "No carrier is known for this prefix.", "zh": "无法识别该号段的运营商。"},
    "CARRIER_DIFFERS": {
        "en": "The carrier differs from the one that the ICCID's prefix names.",
        "zh": "运营商与 ICCID 号段不一致。",
    },
    "UNKNOWN_CARRIER": {"en": "{value} is not a carrier.", "zh": "未知运营商 {value}。"},
    "UNKNOWN_TYPE": {"en": "{value} is not a card type.", "zh": "未知卡类型 {value}。"},
    "UNKNOWN_SUPPLIER": {"en": "{value} is not a supplier.", "zh": "未知供应商 {value}。"},
    "UNKNOWN_PACKAGE": {"en": "{value} is not a data package.", "zh": "未知套餐 {value}。"},
    "SUPPLIER_CARRIER": {
        "en": "The supplier is of another carrier.",
        "zh": "供应商与卡的运营商不一致。",
    },
    "PACKAGE_CARRIER": {
        "en": "The package is for another carrier.",
        "zh": "套餐与卡的运营商不一致。",
    },
    "DUPLICATE_IN_FILE": {"en": "The same number stands above in this file.", "zh": "文件内号码重复。"},
    "ALREADY_IN_INVENTORY": {"en": "The number is already in the inventory.", "zh": "号码已在库存中。"},
    # whole files
    "EMPTY_FILE": {"en": "The file is empty.", "zh": "文件为空。"},
    "NOT_A_SPREADSHEET": {"en": "The file is not a spreadsheet (xlsx or CSV).", "zh": "文件不是表格（xlsx 或 CSV）。"},
    "LEGACY_XLS": {"en": "Save the old .xls file as .xlsx.", "zh": "请将旧版 .xls 另存为 .xlsx。"},
    "ENCRYPTED_WORKBOOK": {"en": "The workbook is protected by a password.", "zh": "工作簿已加密。"},
    "TOO_LARGE": {"en": "The file is too large.", "zh": "文件过大。"},
    "ZIP_BOMB": {"en": "The file unpacks to far more than its size.", "zh": "文件解压后体积异常。"},
    "MISSING_COLUMNS": {"en": "These columns are missing: {columns}.", "zh": "缺少列：{columns}。"},
    "DUPLICATE_COLUMNS": {"en": "These columns occur twice: {columns}.", "zh": "列重复：{columns}。"},
    "MERGED_CELLS": {"en": "The sheet has merged cells: {range}.", "zh": "表格含合并单元格：{range}。"},
    "TOO_MANY_ROWS": {"en": "The sheet has too many rows.", "zh": "行数过多。"},
    "TOO_WIDE": {"en": "The sheet has too many columns.", "zh": "列数过多。"},
    "CELL_TOO_LONG": {"en": "A cell in row {row} is too long.", "zh": "第 {row} 行的单元格内容过长。"},
    "UNKNOWN_ENCODING": {"en": "The text encoding is not known; use UTF-8.", "zh": "无法识别编码，请使用 UTF-8。"},
    "BROKEN_FILE": {"en": "The file is broken.", "zh": "文件已损坏。"},
    "INTERRUPTED": {"en": "The work failed and was undone. Start it again.", "zh": "任务失败并已回滚，请重试。"},
}


class _Blank(dict[str, Any]):
    def __missing__(self, key: str) -> str:
        return ""


def render(code: str, language: str, params: Mapping[str, Any]) -> str:
    """The message for a code. Languages beginning with ``zh`` are answered in Chinese, all others in English."""
    texts = MESSAGES[code]
    return texts["zh" if language.lower().startswith("zh") else "en"].format_map(_Blank(params))
