"""How personal data is shown to those who may know of it but not read it in full."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Text, case, func

ADDRESS = "[@＠]|([0-9０-９][^0-9０-９A-Za-z]{0,3}){7,}"
"""What stands in a mail address, or seven digits as they stand in a telephone number."""
LONG = 10
"""Characters of a telephone number of which seven may be shown."""


def masked_email(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """``a****@example.com``: the first character and the domain."""
    return func.regexp_replace(column, r"^(.)[^@]*(@.*)$", r"\1****\2")


def masked_phone(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """``138****5678``: the first three and the last four of a long number, the last two of a short one."""
    return case(
        (func.length(column) >= LONG, func.left(column, 3, type_=Text) + "****" + func.right(column, 4, type_=Text)),
        else_="****" + func.right(column, 2, type_=Text),
    )


def masked_name(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """``王**``: the first character."""
    return func.left(column, 1, type_=Text) + "**"


def masked_account(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """``****5678``: the last four."""
    return "****" + func.right(column, 4, type_=Text)


def masked_login(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """An account name as it is; what may be a mail address or a phone number masked, however it is written."""
    return case((column.regexp_match(ADDRESS), masked_address(column)), else_=column)


def masked_address(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """``a***@example.com`` for a mail address; anything else as a phone number."""
    return case(
        (column.regexp_match("[@＠]"), func.regexp_replace(column, "^(.?)[^@＠]*[@＠]", r"\1***@")),
        else_=masked_phone(column),
    )
