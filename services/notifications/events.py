"""The events that people are told of, each in words for whom it concerns (S0-35)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from sqlalchemy import select

from authz.principal import system
from authz.session import Database
from authz.standing import in_business, in_service
from models.identity import ApiKey, ApiKeyStatus, StaffAccount
from models.system import Task, TaskKind, TaskStatus
from models.tenancy import Tenant
from models.webhook import WebhookEndpoint, WebhookStatus
from services.messages import render
from services.notifications.kinds import (
    API_KEY_EXPIRING,
    EXPORT_FAILED,
    EXPORT_FINISHED,
    IMPORT_FAILED,
    IMPORT_FINISHED,
    SIM_ALLOCATED,
    TASK_FAILED,
    TASK_FINISHED,
    WEBHOOK_DISABLED,
    Kind,
)
from services.notifications.recipients import Recipient
from services.notifications.writing import send
from services.runtime import Work

EXPIRY_NOTICE = timedelta(days=14)
KINDS_OF_TASKS = {
    TaskKind.SIM_IMPORT: (IMPORT_FINISHED, IMPORT_FAILED),
    TaskKind.SIM_RANGE: (IMPORT_FINISHED, IMPORT_FAILED),
    TaskKind.EXPORT: (EXPORT_FINISHED, EXPORT_FAILED),
    TaskKind.BATCH_RECHARGE: (TASK_FINISHED, TASK_FAILED),
    TaskKind.SESSION_IMPORT: (TASK_FINISHED, TASK_FAILED),
}
"""What is told of each kind of task when it has succeeded, and when it has not."""


async def cards_allocated(work: Work, giver: str, receiver: Tenant, count: int) -> None:
    """A customer has received cards: its mail address and its staff are told."""
    parameters = {"tenant": receiver.name, "giver": giver, "count": count}
    for to in (Recipient.tenant(receiver), *await Recipient.staff_in_app(work.session, receiver)):
        await send(work, kind=SIM_ALLOCATED.key, to=to, parameters=parameters)


async def task_finished(database: Database, task_id: int) -> None:
    """Who started a task is told how it ended, unless it was called off; a repeat tells nobody again."""
    async with database.transaction(system("tell of a finished task")) as session:
        task = await session.scalar(select(Task).where(Task.id == task_id))
        if task is None or task.account_id is None or task.status is TaskStatus.CANCELLED:
            return
        account = await session.scalar(select(StaffAccount).where(StaffAccount.id == task.account_id, in_service()))
        if account is None:
            return
        to = await Recipient.account(session, account)
        kind, told = _ending(task, to.language.value)
        await send(
            session, kind=kind.key, to=to, parameters={"name": account.name, **told}, dedupe_key=f"task:{task.id}"
        )


def _ending(task: Task, language: str) -> tuple[Kind, dict[str, str]]:
    """What is told of a task that has ended, and what it says."""
    finished, failed = KINDS_OF_TASKS[task.kind]
    told: dict[str, str] = {"done": str(task.done), "failed": str(task.failed), "rows": str(task.done)}
    told["title"] = task.name or task.kind.name
    told["reason"] = task.error_message or render("INTERRUPTED", language, {})
    kind = finished if task.status is TaskStatus.SUCCEEDED else failed
    return kind, {name: told[name] for name in kind.placeholders - {"name"}}


async def api_keys_expiring(database: Database) -> None:
    """Two weeks before a key ends, its owner is told, once; of a later end it is told anew (S0-18)."""
    async with database.transaction(system("tell of expiring keys")) as session:
        now = datetime.now(UTC)
        found = await session.execute(
            select(ApiKey, Tenant)
            .join(Tenant, Tenant.id == ApiKey.tenant_id)
            .where(
                ApiKey.status == ApiKeyStatus.ACTIVE,
                ApiKey.expires_at > now,
                ApiKey.expires_at <= now + EXPIRY_NOTICE,
                in_business(ApiKey.tenant_id),
            )
            .order_by(ApiKey.id)
        )
        for key, tenant in found:
            date = f"{key.expires_at.astimezone(ZoneInfo(tenant.time_zone)):%Y-%m-%d}"
            await send(
                session,
                kind=API_KEY_EXPIRING.key,
                to=Recipient.tenant(tenant),
                parameters={"tenant": tenant.name, "name": key.name, "key": key.key, "date": date},
                dedupe_key=f"api-key:{key.id}:{date}",
            )


async def webhook_disabled(database: Database, endpoint_id: int) -> None:
    """A company whose endpoint was switched off, since it did not take what it was told, is told so, and so is its
    staff, which need not know more of the address than the host; a repeat tells nobody again."""
    async with database.transaction(system("tell of a webhook that was switched off")) as session:
        found = await session.scalar(
            select(WebhookEndpoint).where(
                WebhookEndpoint.id == endpoint_id,
                WebhookEndpoint.status == WebhookStatus.FAILING,
                in_business(WebhookEndpoint.tenant_id),
            )
        )
        if found is None:
            return
        tenant = (await session.scalars(select(Tenant).where(Tenant.id == found.tenant_id))).one()
        for to in (Recipient.tenant(tenant), *await Recipient.staff_in_app(session, tenant)):
            await send(
                session,
                kind=WEBHOOK_DISABLED.key,
                to=to,
                parameters={"tenant": tenant.name, "host": urlsplit(found.url).hostname or ""},
                dedupe_key=f"webhook:{found.id}:{found.disabled_at:%Y%m%d%H%M%S}",
            )
