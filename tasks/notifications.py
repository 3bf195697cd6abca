"""Notifications, later: sending them, trying again, and the events that people are told of."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import redis.asyncio as redis

from authz.session import Database
from gateways.messaging import (
    DingTalk,
    DingTalkSettings,
    Mail,
    MailSettings,
    Sms,
    SmsSettings,
    WeChat,
    WeChatSettings,
)
from models.notifications import NotificationChannel
from services import password_reset as resetting
from services import verification_codes
from services.keys import Keys
from services.notifications import events
from services.notifications.sending import Post, deliver, due
from tasks.app import app, run, settings


def post() -> Post:
    """The ways out as the environment names them."""
    return Post(
        keys(),
        {
            NotificationChannel.EMAIL: Mail(MailSettings()),
            NotificationChannel.SMS: Sms(SmsSettings()),
            NotificationChannel.DINGTALK_ROBOT: DingTalk(DingTalkSettings()),
            NotificationChannel.WECHAT_TEMPLATE: WeChat(WeChatSettings()),
        },
    )


def keys() -> Keys:
    return Keys(settings.secret_key.get_secret_value())


@asynccontextmanager
async def _database() -> AsyncIterator[Database]:
    database = Database(settings.database_url, pooled=False)
    try:
        yield database
    finally:
        await database.close()


def _with_database(work: Callable[[Database], Awaitable[None]]) -> None:
    async def whole() -> None:
        async with _database() as database:
            await work(database)

    run(whole)


def _with_codes(work: Callable[[Database, redis.Redis], Awaitable[None]]) -> None:
    """With the database, and the server that keeps codes."""

    async def whole(database: Database) -> None:
        server = redis.Redis.from_url(settings.redis_url)
        try:
            await work(database, server)
        finally:
            await server.aclose()

    _with_database(whole)


@app.task(name="tasks.notifications.send", ignore_result=True)  # type: ignore[untyped-decorator]
def send(notification: int) -> None:
    """Sends one message. A repeat finds it sent, or not yet due (S0-35)."""

    async def work(database: Database) -> None:
        way_out = post()
        try:
            await deliver(database, way_out, notification)
        finally:
            await way_out.close()

    _with_database(work)


@app.task(name="tasks.notifications.sweep", ignore_result=True)  # type: ignore[untyped-decorator]
def sweep() -> None:
    """Gives messages that are due to workers; one that is given twice is sent once."""

    async def work(database: Database) -> None:
        for notification in await due(database):
            app.send_task("tasks.notifications.send", kwargs={"notification": notification})

    _with_database(work)


@app.task(name="tasks.notifications.task_finished", ignore_result=True)  # type: ignore[untyped-decorator]
def task_finished(task: int, **_: str) -> None:
    """Tells who started a task how it ended. A repeat tells nobody again (S0-35)."""
    _with_database(lambda database: events.task_finished(database, task))


@app.task(name="tasks.notifications.api_keys_expiring", ignore_result=True)  # type: ignore[untyped-decorator]
def api_keys_expiring() -> None:
    """Tells the owners of keys that are about to expire. A repeat tells nobody again (S0-35)."""
    _with_database(events.api_keys_expiring)


@app.task(name="tasks.notifications.webhook_disabled", ignore_result=True)  # type: ignore[untyped-decorator]
def webhook_disabled(endpoint: int) -> None:
    """Tells a company that one of its webhooks was switched off. A repeat tells nobody again."""
    _with_database(lambda database: events.webhook_disabled(database, endpoint))


@app.task(name="tasks.notifications.password_reset", ignore_result=True)  # type: ignore[untyped-decorator]
def password_reset(account: str, roles: list[str], tenant_kinds: list[str]) -> None:
    """Mails a code for a forgotten password. A repeat mails another, which alone works then (S1-75)."""
    _with_codes(
        lambda database, server: resetting.send_code(
            database, server, keys(), account=account, roles=roles, tenant_kinds=tenant_kinds
        )
    )


@app.task(name="tasks.notifications.verification_code", ignore_result=True)  # type: ignore[untyped-decorator]
def verification_code(channel: str, tenant: int, purpose: str, language: str, encrypted: str) -> None:
    """Sends a code to an end user. A repeat sends another, which alone works then (S1-73)."""
    _with_codes(
        lambda database, server: verification_codes.send(
            database,
            server,
            keys(),
            channel=channel,
            tenant=tenant,
            purpose=purpose,
            language=language,
            encrypted=encrypted,
        )
    )
