"""How tests talk to the application: over HTTP, as a frontend does."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import select
from starlette.types import ASGIApp

from authz.principal import system
from gateways.messaging import Mail, MailSettings
from models.notifications import NotificationChannel
from models.system import OutboxEvent
from server.app import Application
from services import bills, direct_orders, exports, real_name, settlement, verification_codes
from services.identity import ACCESS_MINUTES
from services.jobs.running import (
    carry_out,
)
from services.notifications.events import (
    task_finished,
    webhook_disabled,
)
from services.notifications.sending import (
    Post,
    deliver,
)
from services.password_reset import (
    send_code,
)
from services.payments import reconciling, refunding
from services.recharge import recharge
from services.sim.entering import enter
from services.usage import taking_in
from tasks.outbox import CONSUMERS

TOKEN_SECONDS = 60 * (ACCESS_MINUTES - 5)


class Client:
    def __init__(self, application: Application, app: ASGIApp) -> None:
        self.application = application
        self.app = app
        self.http = httpx.AsyncClient(
            transport=httpx.ASGITransport(app=app, client=("127.0.0.9", 1)), base_url="http://trellis.test", timeout=60
        )
        self._tokens: dict[tuple[str, str], tuple[str, float]] = {}
        self.way_out = Post(application.runtime.keys, {NotificationChannel.EMAIL: Mail(MailSettings(host=""))})

    async def post(
        self,
        door: str,
        query: str,
        variables: dict[str, Any] | None = None,
        *,
        token: str | None = None,
        language: str = "en",
        **more: Any,
    ) -> httpx.Response:
        headers = {"accept-language": language}
        if token is not None:
            headers["authorization"] = f"Bearer {token}"
        return await self.http.post(
            f"/{door}/graphql", json={"query": query, "variables": variables or {}, **more}, headers=headers
        )

    async def log_in(self, door: str, account: str, password: str) -> dict[str, Any]:
        answer = await self.post(
            door,
            """mutation($account: String!, $password: String!) {
                logIn(input: {account: $account, password: $password}) {
                    session { accessToken refreshToken expiresAt } errors { code field message } } }""",
            {"account": account, "password": password},
        )
        payload: dict[str, Any] = answer.json()["data"]["logIn"]
        return payload

    async def token(self, door: str, account: str, password: str) -> str:
        """The access token of an account, logged in once, and again before it expires: a world may live for long."""
        token, until = self._tokens.get((door, account), ("", 0.0))
        if time.monotonic() > until:
            token = (await self.log_in(door, account, password))["session"]["accessToken"]
            self.keep_token(door, account, token)
        return token

    def keep_token(self, door: str, account: str, token: str) -> None:
        self._tokens[door, account] = token, time.monotonic() + TOKEN_SECONDS

    async def upload(self, door: str, query: str, file: Path | tuple[str, bytes], token: str) -> httpx.Response:
        """A mutation with one file, ``$file``, as the GraphQL multipart request has it."""
        name, content = (file.name, file.read_bytes()) if isinstance(file, Path) else file
        return await self.http.post(
            f"/{door}/graphql",
            data={
                "operations": json.dumps({"query": query, "variables": {"file": None}}),
                "map": json.dumps({"0": ["variables.file"]}),
            },
            files={"0": (name, content, "application/octet-stream")},
            headers={"authorization": f"Bearer {token}", "accept-language": "en"},
        )

    async def work_off(self) -> int:
        """Does what the outbox says is to be done later, as the worker would; gives how many events there were.

        What webhooks alone are told of is left.
        """
        runtime = self.application.runtime
        consumers: dict[str, Callable[..., Awaitable[object]]] = {
            "sim.enter": lambda task: enter(runtime.database, runtime.files, task),
            "export.run": lambda task: exports.carry_out(runtime, task),
            "commission.credit": lambda order: settlement.credit_margins(runtime.database, order),
            "orders.recharge": lambda task: recharge(runtime.database, task),
            "usage.take_in": lambda task: taking_in.take_in(runtime.database, runtime.files, task),
            "direct_orders.submit": lambda: direct_orders.carry_out(runtime.database, runtime.keys, datetime.now(UTC)),
            "bills.document": lambda statement: bills.document_statement(runtime.database, runtime.files, statement),
            "real_name.submit": lambda: real_name.carry_out(runtime.database, runtime.keys, datetime.now(UTC)),
            "payments.refund": lambda: refunding.carry_out(runtime.database, runtime.keys, datetime.now(UTC)),
            "payments.reconcile": lambda channel, day: reconciling.reconcile(
                runtime.database, runtime.keys, channel, date.fromisoformat(day)
            ),
            "job.run": lambda runs: carry_out(runtime.database, runtime.files, runs),
            "task.finished": lambda task, **_: task_finished(runtime.database, task),
            "webhook.disabled": lambda endpoint: webhook_disabled(runtime.database, endpoint),
            "notification.send": lambda notification: deliver(runtime.database, self.way_out, notification),
            "account.password_reset": partial(send_code, runtime.database, runtime.redis, runtime.keys),
            "end_user.verification_code": partial(
                verification_codes.send, runtime.database, runtime.redis, runtime.keys
            ),
        }
        assert set(consumers) == set(CONSUMERS)
        async with runtime.database.transaction(system("test")) as session:
            events = list(
                await session.scalars(
                    select(OutboxEvent)
                    .where(OutboxEvent.sent_at.is_(None), OutboxEvent.topic.in_(consumers))
                    .order_by(OutboxEvent.id)
                )
            )
        for event in events:
            await consumers[event.topic](**event.payload)
        return len(events)
