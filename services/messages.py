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
    "WRONG_CODE": {
        "en": "The code is wrong or no longer valid. Ask for a new one.",
        "zh": "验证码错误或已失效，请重新获取。",
    },
    "NOT_POSSIBLE_HERE": {"en": "This is not possible here.", "zh": "此入口不支持该操作。"},
    "UNKNOWN_NOTIFICATION": {"en": "{value} is not a kind of notification.", "zh": "{value} 不是通知类型。"},
    "UNKNOWN_PLACEHOLDER": {
        "en": "{value} is not a placeholder here. There are: {known}.",
        "zh": "{value} 不是可用的占位符，可用：{known}。",
    },
    "MISSING_PLACEHOLDER": {"en": "The text must hold {{{value}}}.", "zh": "正文必须包含 {{{value}}}。"},
    "SECURITY_NOTIFICATION": {
        "en": "This notification keeps accounts safe and cannot be declined or reworded here.",
        "zh": "该通知关系账号安全，不能在此退订或修改。",
    },
    "SESSION_ENDED": {"en": "The session has ended. Log in again.", "zh": "会话已失效，请重新登录。"},
    "NOT_GRANTED": {"en": "You are not granted this.", "zh": "您未被授予该权限。"},
    "OWN_STAFF": {
        "en": "Nobody acts as the platform's own staff.",
        "zh": "不能以平台自身员工的身份操作。",
    },
    "NOT_IMPERSONATED": {"en": "Nobody else is acting here.", "zh": "当前并非代他人操作。"},
    "IMPERSONATION_READS_ONLY": {
        "en": "Acting as somebody else, you may read and change nothing.",
        "zh": "代他人操作时只能查看，不能修改。",
    },
    "IMPERSONATION_KEEPS_SECRETS": {
        "en": "Acting as somebody else, you may do nothing that takes or gives a secret.",
        "zh": "代他人操作时不能执行涉及密钥或密码的操作。",
    },
    "WEAK_PASSWORD": {
        "en": "A password has at least 10 characters, with letters and digits.",
        "zh": "密码至少 10 位，且须包含字母和数字。",
    },
    "ROLE_NOT_GRANTABLE": {"en": "You may not grant the role {value}.", "zh": "您无权授予角色 {value}。"},
    "UNKNOWN_SCOPE": {"en": "{value} is nothing that the key's roles grant.", "zh": "密钥的角色未授予 {value}。"},
    "INVALID_NETWORK": {
        "en": "{value} is not an address or network, such as 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32.",
        "zh": "{value} 不是有效的地址或网段，例如 192.0.2.7、192.0.2.0/24 或 2001:db8::/32。",
    },
    "INVALID_URL": {"en": "An address that begins with https:// is required.", "zh": "请提供以 https:// 开头的地址。"},
    "HOST_NOT_FOUND": {"en": "The host {value} was not found.", "zh": "未找到主机 {value}。"},
    "ADDRESS_NOT_ALLOWED": {
        "en": "{value} does not lie in the public Internet.",
        "zh": "{value} 不在公共互联网中。",
    },
    "EVENT_NOT_READABLE": {"en": "You may not read what {value} tells of.", "zh": "您无权读取 {value} 涉及的数据。"},
    "STILL_PENDING": {"en": "The delivery is still under way.", "zh": "该推送尚在进行中。"},
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
    "WRONG_ONE_TIME_CODE": {
        "en": "The one-time code is wrong, or was used before.",
        "zh": "动态验证码错误或已被使用。",
    },
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
    "FILE_TYPE_NOT_ALLOWED": {
        "en": "A file of this type is not accepted here. Accepted: {allowed}.",
        "zh": "此处不接受该类型的文件，可接受：{allowed}。",
    },
    "FILE_TYPE_DIFFERS": {
        "en": "The name or the type of the file does not fit its content.",
        "zh": "文件名或类型与文件内容不符。",
    },
    "FILE_AMBIGUOUS": {
        "en": "The file also holds content of another type.",
        "zh": "文件中还包含其他类型的内容。",
    },
    "TOO_MANY_OPEN_TASKS": {
        "en": "Wait until one of your tasks is done.",
        "zh": "请等待已有任务完成。",
    },
    "TASK_ENDED": {"en": "The task has come to its end already.", "zh": "任务已结束。"},
    # what cannot be exported
    "NOT_A_QUERY": {"en": "Only a query can be exported.", "zh": "只能导出查询。"},
    "NOT_ONE_LIST": {
        "en": "An export selects exactly one list, its columns under nodes. {reason}",
        "zh": "导出须且只能选择一个列表，列写在 nodes 之下。{reason}",
    },
    "NESTED_LIST": {"en": "A list within a row cannot be exported: {reason}.", "zh": "不能导出行内列表：{reason}。"},
    "LIVE_FIELD": {
        "en": "What is asked live cannot be exported: {reason}.",
        "zh": "不能导出实时查询的字段：{reason}。",
    },
    "FORBIDDEN": {"en": "You may not export this. {reason}", "zh": "您无权导出。{reason}"},
    "LIMIT_EXCEEDED": {"en": "This is too much at once. {reason}", "zh": "超出限制。{reason}"},
    "BAD_USER_INPUT": {"en": "An argument or a variable is not valid. {reason}", "zh": "参数或变量无效。{reason}"},
    "GRAPHQL_PARSE_FAILED": {"en": "The operation cannot be read. {reason}", "zh": "无法解析操作。{reason}"},
    "GRAPHQL_VALIDATION_FAILED": {"en": "The graph knows no such thing. {reason}", "zh": "操作不符合数据图。{reason}"},
    "OPERATION_RESOLUTION_FAILURE": {"en": "Send exactly one operation.", "zh": "请只提交一个操作。"},
    "PERSISTED_QUERY_NOT_FOUND": {"en": "This door ships no such document.", "zh": "此入口没有该文档。"},
    "ACCESS_LOST": {
        "en": "The account or key that started the task is not in use any more.",
        "zh": "发起任务的账号或密钥已停用。",
    },
    "INVALID_CRON": {
        "en": "{value} is not a cron expression of five fields.",
        "zh": "{value} 不是有效的五段 cron 表达式。",
    },
    "CRON_NEVER": {"en": "The time {value} never comes.", "zh": "{value} 所示的时间永远不会到来。"},
    "INVALID_MAC_ADDRESS": {
        "en": "The MAC address of a device has six pairs of hexadecimal digits, such as d0:50:99:84:a2:a0.",
        "zh": "设备的 MAC 地址应为六组十六进制数字，例如 d0:50:99:84:a2:a0。",
    },
    "INVALID_ADDRESS": {"en": "The IP address is not valid.", "zh": "IP 地址无效。"},
    "PAST_REPORT": {"en": "The device has been seen later than that.", "zh": "设备已有更晚的上报记录。"},
    "UNKNOWN_TARGET": {"en": "{value} is not something that a job may do.", "zh": "{value} 不是允许的调用目标。"},
    "OUT_OF_RANGE": {
        "en": "{value} must be from {least} to {most}.",
        "zh": "{value} 必须在 {least} 到 {most} 之间。",
    },
    # what a job may do
    "TARGET_CLEAR_JOB_RUNS": {
        "en": "Removes ended runs from the log of jobs.",
        "zh": "清除已结束的任务日志。",
    },
    "TARGET_CLEAR_IDEMPOTENT_RESULTS": {
        "en": "Removes the kept results of mutations, which a repeat would be given.",
        "zh": "清除为重复请求保存的结果。",
    },
    "TARGET_KEEP_PARTITIONS": {
        "en": "Makes the coming months of the logs, and drops those past their time.",
        "zh": "创建日志的后续月份分区，并清除已过保留期的分区。",
    },
    "TARGET_CLEAR_SENT_EVENTS": {
        "en": "Removes events that have been sent to the workers.",
        "zh": "清除已发送的事件。",
    },
    "TARGET_CLEAR_ENDED_SESSIONS": {
        "en": "Removes logins that have expired or were ended.",
        "zh": "清除已过期或已结束的登录会话。",
    },
    "TARGET_CLEAR_UNUSED_CONTENT": {
        "en": "Removes content of the file store that no file has.",
        "zh": "清除文件存储中无文件引用的内容。",
    },
    "NOT_IN_DICTIONARY": {
        "en": "{value} is not one of the values of {dictionary}.",
        "zh": "{value} 不在字典“{dictionary}”中。",
    },
    "NOT_EMPTY": {"en": "Remove what is in it first.", "zh": "请先删除其中的内容。"},
    "BUILT_IN": {"en": "Of a built-in parameter only the value can be changed.", "zh": "内置参数只能修改参数值。"},
    "STALE": {
        "en": "It has been changed meanwhile. Read it again.",
        "zh": "数据已被他人修改，请刷新后重试。",
    },
    "MEMBERSHIP_REQUIRED": {
        "en": "Guides and documentation need a membership.",
        "zh": "引导与文档需会员方可使用。",
    },
    "UNSAFE_LINK": {"en": "The link {value} is not allowed.", "zh": "不允许使用链接 {value}。"},
    "PAST": {"en": "The day has passed.", "zh": "日期已过。"},
    "NOT_LATER": {
        "en": "The membership lasts until {until}; it can only be extended.",
        "zh": "会员有效期至 {until}，只能延长。",
    },
    "BATCH_TOO_LARGE": {"en": "A batch may have {limit} bytes.", "zh": "一批数据不能超过 {limit} 字节。"},
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
    "ACCOUNT_ABOVE": {
        "en": "The account may do more than you; somebody above has to do this.",
        "zh": "该账户的权限高于您，请由上级处理。",
    },
    "ROLE_ABOVE": {
        "en": "The role may do more than you; somebody above has to do this.",
        "zh": "该角色的权限高于您，请由上级处理。",
    },
    "MODULE_ABOVE": {
        "en": "Somebody above you has decided about the module {value}.",
        "zh": "模块 {value} 已由上级设定，不能更改。",
    },
    "DEPARTMENT_ABOVE": {
        "en": "Somebody would reach more than you may give; somebody above has to do this.",
        "zh": "调整后的数据权限超出您可授予的范围，请由上级处理。",
    },
    "PERMISSION_NOT_HELD": {
        "en": "{value} needs more than you may do yourself.",
        "zh": "{value} 需要的权限超出您自己的权限。",
    },
    "UNKNOWN_COORDINATE": {"en": "The graph has no {value}.", "zh": "数据图中没有 {value}。"},
    "UNKNOWN_MODULE": {"en": "There is no module {value}.", "zh": "没有模块 {value}。"},
    "HAS_CHILDREN": {"en": "Something still stands below it.", "zh": "下面还有内容，不能删除。"},
    "IN_USE": {"en": "It is still in use.", "zh": "仍在使用中，不能删除。"},
    "TOO_DEEP": {"en": "At most {limit} levels are allowed.", "zh": "最多允许 {limit} 层。"},
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
