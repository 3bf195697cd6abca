"""Structured logs: one JSON object a line, without the values of local variables, which may be secrets."""

from __future__ import annotations

import structlog

from authz.principal import Principal


def configure() -> None:
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ]
    )


NAMED = ("account", "real_account")


def name_impersonator(principal: Principal) -> None:
    """From here on, each line of this task names who seems to act and who really does."""
    if principal.impersonation is not None:
        structlog.contextvars.bind_contextvars(
            account=principal.account_id, real_account=principal.impersonation.account_id
        )


def forget_impersonator() -> None:
    structlog.contextvars.unbind_contextvars(*NAMED)
