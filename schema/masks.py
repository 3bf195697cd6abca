"""How personal data is shown to those who may know of it but not read it in full."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, case, func


def masked_email(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """``a****@example.com``: the first character and the domain."""
    return func.regexp_replace(column, r"^(.)[^@]*(@.*)$", r"\1****\2")


def masked_phone(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """``138****5678``: the last four digits, and the first three of a long number."""
    return func.regexp_replace(column, r"^(\d{0,3}).*?(\d{0,4})$", r"\1****\2")


def masked_address(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """``a***@example.com`` for a mail address; anything else as a phone number."""
    return case(
        (func.strpos(column, "@") > 0, func.regexp_replace(column, "^(.?)[^@]*@", r"\1***@")),
        else_=masked_phone(column),
    )
