"""Usage of data: sessions and what is counted from them, what cards used, ratios, and how long things are kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import date
from decimal import Decimal
from typing import Any

import strawberry
from sqlalchemy import Select, select
from strawberry.file_uploads import Upload

import models.usage as stored
from models.tenancy import Tenant
from planner.mapping import Connection, refer
from planner.registry import loads, mutation, query, subscription
from resolvers.context import Context, key_of, optional_key, reading, user_error
from schema.sim import SimCard
from schema.system import TaskPayload
from schema.usage import (
    DailyStatistic,
    DailyUsage,
    DataBalance,
    DataUsage,
    IntervalStatistic,
    MonthlyStatistic,
    MonthlyUsage,
    RetentionPolicy,
    RetentionPolicyPayload,
    SessionRecord,
    SetRetentionInput,
    SetUsageRatioInput,
    UsageOnDay,
    UsageRatio,
    UsageRatioPayload,
)
from services import retention
from services.files import TooLargeError, pieces_of
from services.refusal import Refusal
from services.usage import ratios, showing, taking_in

MAX_IMPORT_BYTES = 2 * 1024**3
WATCH_SECONDS = 5.0


@query(Connection[SessionRecord])
def session_records() -> Select[stored.SessionRecord]:
    """Data sessions within reach, by time: for staff, and an enterprise's own (S0-61)."""
    return select(stored.SessionRecord)


@query(Connection[IntervalStatistic])
def interval_statistics() -> Select[stored.IntervalStatistic]:
    """Live connections and new users in steps of five minutes (S0-63)."""
    return select(stored.IntervalStatistic)


@query(Connection[DailyStatistic])
def daily_statistics() -> Select[stored.DailyStatistic]:
    """Connections and their growth by day (S0-64)."""
    return select(stored.DailyStatistic)


@query(Connection[MonthlyStatistic])
def monthly_statistics() -> Select[stored.MonthlyStatistic]:
    """The days rolled up by month (S0-65)."""
    return select(stored.MonthlyStatistic)


@query(Connection[DailyUsage])
def daily_usages() -> Select[stored.DailyUsage]:
    """What cards used by day (S0-27, S0-51)."""
    return select(stored.DailyUsage)


@query(Connection[MonthlyUsage])
def monthly_usages() -> Select[stored.MonthlyUsage]:
    """What cards used by month (S0-27, S0-52)."""
    return select(stored.MonthlyUsage)


@query(Connection[UsageRatio])
def usage_ratios() -> Select[stored.UsageRatio]:
    """Customers with a ratio of their own (S0-56)."""
    return select(stored.UsageRatio)


@query("Decimal | None")
async def effective_usage_ratio(ctx: Context, customer: strawberry.ID) -> Decimal | None:
    """By what a customer's usage is multiplied where it is shown to it: its own ratio, that of the nearest above it, or
    the platform's (S0-56). Null out of reach."""
    key = key_of(customer, "ten", "customer")
    async with reading(ctx) as session:
        if await session.scalar(select(Tenant.id).where(Tenant.id == key)) is None:
            return None
    return (await ratios.effective(ctx.runtime, [key])).get(key)


@query(Connection[RetentionPolicy])
def retention_policies() -> Select[stored.RetentionPolicy]:
    """For how long sessions and what is counted from them are kept (S0-62)."""
    return select(stored.RetentionPolicy)


@query(DataUsage, report=True)
async def data_usage(
    ctx: Context,
    first_day: date,
    last_day: date,
    sim_card: strawberry.ID | None = None,
    end_user: strawberry.ID | None = None,
) -> DataUsage:
    """What a card, or all cards of an end user, used on some days, both included, as it is shown (S0-27)."""
    try:
        found = await showing.over(
            ctx.runtime,
            ctx.principal,
            card_id=optional_key(sim_card, "sim", "simCard"),
            end_user_id=optional_key(end_user, "eus", "endUser"),
            first=first_day,
            last=last_day,
        )
    except Refusal as refusal:
        return DataUsage(used_kb=None, days=[], errors=[user_error(refusal, ctx)])
    days = [UsageOnDay(day=one.day, used_kb=Decimal(one.used_kb)) for one in found.days]
    return DataUsage(used_kb=Decimal(found.used_kb), days=days, errors=[])


@loads(DailyUsage, "used_kb")
async def daily_used(ctx: Context, rows: Sequence[Any]) -> list[Decimal]:
    return await _shown(ctx, rows)


@loads(MonthlyUsage, "used_kb")
async def monthly_used(ctx: Context, rows: Sequence[Any]) -> list[Decimal]:
    return await _shown(ctx, rows)


@loads(SessionRecord, "used_kb")
async def session_used(ctx: Context, rows: Sequence[Any]) -> list[Decimal]:
    kilobytes = [(row.upload_bytes + row.download_bytes + 1023) // 1024 for row in rows]
    found = await showing.amplified(
        ctx.runtime, [(row.tenant_id, used) for row, used in zip(rows, kilobytes, strict=True)]
    )
    return [Decimal(one) for one in found]


async def _shown(ctx: Context, rows: Sequence[Any]) -> list[Decimal]:
    found = await showing.amplified(ctx.runtime, [(row.tenant_id, row.used_kb) for row in rows])
    return [Decimal(one) for one in found]


@loads(SimCard, "data_balance")
async def data_balances(ctx: Context, rows: Sequence[Any]) -> list[DataBalance | None]:
    """What is left on each card, two statements for all of them (S0-32)."""
    found = await showing.balances(ctx.runtime, [(row.id, row.tenant_id) for row in rows])
    return [
        None
        if one is None
        else DataBalance(
            total_mb=one.total_mb,
            used_kb=Decimal(one.used_kb),
            remaining_kb=Decimal(one.remaining_kb),
            expires_at=one.expires_at,
        )
        for one in found
    ]


@mutation
async def import_session_records(ctx: Context, file: Upload) -> TaskPayload:
    """Takes a CSV file of session records in, as a task with progress and per-row results (S0-61).

    Headings: 网关编码, 会话编号, ICCID, IMSI, 开始时间, 结束时间, 上行字节, 下行字节. Times are ISO 8601, with an
    offset.
    """
    upload: Any = file
    if not hasattr(upload, "read"):
        raise Refusal("FILE_REQUIRED", "file")
    try:
        kept = await ctx.runtime.files.keep(pieces_of(upload), MAX_IMPORT_BYTES)
    except TooLargeError:
        raise Refusal("FILE_TOO_LARGE", "file", limit=MAX_IMPORT_BYTES) from None
    if kept.size == 0:
        raise Refusal("EMPTY_FILE", "file")
    task = await taking_in.start(ctx.now, kept, upload.filename or "upload")
    return TaskPayload(task=refer(task.id), errors=[])


@mutation
async def set_usage_ratio(ctx: Context, input: SetUsageRatioInput) -> UsageRatioPayload:
    """Gives a customer a ratio of its own, or takes it away (S0-56)."""
    customer = key_of(input.customer, "ten", "customer")
    changed = await ratios.set_ratio(ctx.now, customer, input.ratio)
    effective = input.ratio if changed is not None else await ratios.inherited(ctx.now, customer)
    return UsageRatioPayload(
        usage_ratio=None if changed is None else refer(changed.id), effective_ratio=effective, errors=[]
    )


@mutation
async def set_retention(ctx: Context, input: SetRetentionInput) -> RetentionPolicyPayload:
    """Says for how many days rows are kept, and whether they are written into files before they go (S0-62)."""
    changed = await retention.set_policy(ctx.now, input.table, input.days, input.mode)
    return RetentionPolicyPayload(retention_policy=refer(changed.id), errors=[])


@subscription(IntervalStatistic)
async def live_connections(ctx: Context) -> AsyncIterator[int]:
    """The newest five minutes of one's own tenant, each time that they have been counted (S0-63)."""
    last: tuple[int, int, int] | None = None
    while True:
        async with reading(ctx) as session:
            found = await session.scalar(
                select(stored.IntervalStatistic)
                .where(stored.IntervalStatistic.tenant_id == ctx.principal.tenant_id)
                .order_by(stored.IntervalStatistic.at.desc())
                .limit(1)
            )
            state = None if found is None else (found.id, found.connections, found.new_users)
        if state is not None and state != last:
            last = state
            yield state[0]
        await asyncio.sleep(WATCH_SECONDS)
