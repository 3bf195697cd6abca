"""Usage as it is shown to whom it concerns: multiplied by the ratio of who holds the card (S0-27, S0-32, S0-56)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

from sqlalchemy import func, select

from authz.principal import Principal, system
from models.catalog import PlanKind
from models.orders import PackageSubscription, SubscriptionStatus
from models.sim import SimCard
from models.usage import DailyUsage
from services.refusal import Refusal, not_found
from services.runtime import Runtime
from services.usage import ratios

LONGEST = 366
KB = 1024


@dataclass(frozen=True)
class Balance:
    """What is left on a card of the package in use, as it is shown."""

    total_mb: int
    used_kb: int
    remaining_kb: int
    expires_at: datetime | None


@dataclass(frozen=True)
class Day:
    day: date
    used_kb: int


@dataclass(frozen=True)
class Usage:
    """What was used over some days, as it is shown."""

    used_kb: int
    days: list[Day]


async def amplified(runtime: Runtime, used: Sequence[tuple[int, int]]) -> list[int]:
    """What is shown of each usage: whose it is, and how many KB."""
    by = await ratios.effective(runtime, (tenant for tenant, _ in used))
    return [ratios.shown(kb, by[tenant]) for tenant, kb in used]


async def balances(runtime: Runtime, cards: Sequence[tuple[int, int]]) -> list[Balance | None]:
    """What is left on each card, by its key and its holder's; None where no package of data is in use (S0-32)."""
    async with runtime.database.transaction(system("data balance")) as session:
        rows = await session.scalars(
            select(PackageSubscription).where(
                PackageSubscription.sim_card_id.in_([card for card, _ in cards]),
                PackageSubscription.status == SubscriptionStatus.ACTIVE,
                PackageSubscription.plan_kind == PlanKind.DATA,
            )
        )
        in_use = {one.sim_card_id: one for one in rows}
    by = await ratios.effective(runtime, (holder for _, holder in cards))
    return [_balance(in_use.get(card), by[holder]) for card, holder in cards]


def _balance(package: PackageSubscription | None, ratio: Decimal) -> Balance | None:
    if package is None:
        return None
    total = package.data_volume_mb * KB
    used = min(ratios.shown(package.used_kb, ratio), total)
    return Balance(package.data_volume_mb, used, total - used, package.ends_at)


async def over(
    runtime: Runtime, principal: Principal, *, card_id: int | None, end_user_id: int | None, first: date, last: date
) -> Usage:
    """What a card, or all cards of an end user, used on some days, both included (S0-27).

    REQUIRED unless exactly one is named, NOT_FOUND out of reach, INVALID for days that are out of order or too many.
    """
    if (card_id is None) == (end_user_id is None):
        raise Refusal("REQUIRED", "simCard")
    if not timedelta() <= last - first < timedelta(days=LONGEST):
        raise Refusal("INVALID", "lastDay")
    async with runtime.database.transaction(principal) as session:
        if card_id is not None and await session.scalar(select(SimCard.id).where(SimCard.id == card_id)) is None:
            raise not_found("simCard")
        whose = DailyUsage.sim_card_id == card_id if card_id is not None else DailyUsage.end_user_id == end_user_id
        rows = await session.execute(
            select(DailyUsage.day, DailyUsage.tenant_id, func.sum(DailyUsage.used_kb))
            .where(
                whose,
                DailyUsage.at >= datetime.combine(first, time(), UTC),
                DailyUsage.at <= datetime.combine(last, time(), UTC),
            )
            .group_by(DailyUsage.day, DailyUsage.tenant_id)
            .order_by(DailyUsage.day)
        )
        told = [(day, tenant, int(used)) for day, tenant, used in rows]
    days: dict[date, int] = {}
    for (day, _, _), used in zip(
        told, await amplified(runtime, [(tenant, used) for _, tenant, used in told]), strict=True
    ):
        days[day] = days.get(day, 0) + used
    return Usage(sum(days.values()), [Day(day, used) for day, used in days.items()])
