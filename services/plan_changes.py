"""Plan changes: asked for today, in force from the first of next month, the old plan untouched until then (S0-16).

A card that lives on prepaid packages changes by buying another one; its plan is whatever is in use. Whoever applies a
change holds its card, as does whoever asks for one.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

from sqlalchemy import BigInteger, DateTime, bindparam, func, select, text
from sqlalchemy.dialects.postgresql import ARRAY

from authz.principal import system
from authz.session import Database
from models.carrier_requests import CarrierAction
from models.catalog import CatalogStatus, DataPackage, PlanKind
from models.orders import PackageSubscription
from models.plan_changes import PlanChangeStatus, SimPlanChange
from models.sim import SimCard, SimStatus
from models.tenancy import Tenant
from services import carrier_requests
from services.refusal import Refusal, not_found
from services.retention import month_of
from services.runtime import Work
from services.sim.binding import rebind
from services.sim.selection import Selection, locked_cards
from services.subscriptions import OPEN, advance
from services.transitions import StateMachine

TRANSITIONS = StateMachine("PLAN_CHANGE_STATUS", ("CANCEL", (PlanChangeStatus.PENDING,), PlanChangeStatus.CANCELLED))
BATCH = 500
_CARDS = bindparam("cards", type_=ARRAY(BigInteger))
_NOW = bindparam("now", type_=DateTime(timezone=True))
_DUE = "p.status = 'PENDING' AND p.effective_on <= (:now AT TIME ZONE p.time_zone)::date"

DUE = text(f"""
SELECT c.id FROM sim_card c WHERE c.id IN (SELECT p.sim_card_id FROM sim_plan_change p WHERE {_DUE})
ORDER BY c.id LIMIT {BATCH} FOR UPDATE SKIP LOCKED
""").bindparams(_NOW)  # noqa: S608 - constants

FAIL = text(f"""
UPDATE sim_plan_change p SET status = 'FAILED', closed_at = :now, updated_at = now(),
  failure = CASE WHEN c.status = 'TERMINATED' THEN 'CARD_TERMINATED' WHEN d.status <> 'ACTIVE' THEN 'PACKAGE_DISABLED'
            ELSE 'PREPAID_PACKAGE' END
FROM sim_card c, data_package d
WHERE c.id = p.sim_card_id AND d.id = p.to_package_id AND c.id = ANY (:cards) AND {_DUE}
  AND (c.status = 'TERMINATED' OR d.status <> 'ACTIVE' OR EXISTS (
    SELECT FROM package_subscription s WHERE s.sim_card_id = c.id AND s.plan_kind = 'DATA'
      AND s.status IN ('WAITING', 'ACTIVE')))
RETURNING p.sim_card_id
""").bindparams(_CARDS, _NOW)  # noqa: S608 - constants

APPLY = text(f"""
WITH applied AS (
  UPDATE sim_plan_change p SET status = 'APPLIED', closed_at = :now, updated_at = now()
  WHERE p.sim_card_id = ANY (:cards) AND {_DUE}
  RETURNING p.sim_card_id, p.to_package_id
)
UPDATE sim_card c SET package_id = applied.to_package_id, updated_at = now() FROM applied
WHERE c.id = applied.sim_card_id RETURNING c.id
""").bindparams(_CARDS, _NOW)  # noqa: S608 - constants


async def request(work: Work, selection: Selection, package_id: int) -> list[int]:
    """Another plan for cards from the first of next month, for all of them or none; the keys of the changes.

    NOT_ACTIVE, WRONG_CARRIER and WRONG_STATUS as for a binding; SAME_PACKAGE where a card has the plan already,
    PREPAID_PACKAGE where it lives on packages that were bought, PLAN_CHANGE_PENDING where one is pending.
    """
    cards = await locked_cards(work, selection)
    package = await work.found(DataPackage, package_id, field="package")
    if package.status is not CatalogStatus.ACTIVE:
        raise Refusal("NOT_ACTIVE", "package", value=package.code)
    keys = [card.id for card in cards]
    terminated = sum(card.status is SimStatus.TERMINATED for card in cards)
    if terminated:
        raise Refusal("WRONG_STATUS", "cards", count=terminated, status=SimStatus.TERMINATED.name, action="CHANGE")
    for code, count in (
        ("WRONG_CARRIER", sum(card.carrier is not package.carrier for card in cards)),
        ("SAME_PACKAGE", sum(card.package_id == package.id for card in cards)),
        ("PREPAID_PACKAGE", await _with_packages(work, keys)),
        ("PLAN_CHANGE_PENDING", await _pending(work, keys)),
    ):
        if count:
            raise Refusal(code, "cards", count=count)
    holders = await work.session.scalars(select(Tenant).where(Tenant.id.in_({card.tenant_id for card in cards})))
    zones = {holder.id: holder.time_zone for holder in holders}
    now = datetime.now(UTC)
    changes = [
        SimPlanChange(
            tenant_id=card.tenant_id,
            tenant_path=card.tenant_path,
            sim_card_id=card.id,
            from_package_id=card.package_id,
            to_package_id=package.id,
            effective_on=first_of_next_month(now, zones[card.tenant_id]),
            time_zone=zones[card.tenant_id],
            requested_by_id=work.principal.account_id,
        )
        for card in cards
    ]
    work.session.add_all(changes)
    await work.session.flush()
    return [change.id for change in changes]


def first_of_next_month(now: datetime, time_zone: str) -> date:
    """By the calendar of the time zone."""
    return month_of(now.astimezone(ZoneInfo(time_zone)).date(), 1)


async def cancel(work: Work, key: int) -> SimPlanChange:
    """Takes back a change that is not in force yet. PLAN_CHANGE_STATUS afterwards."""
    card = select(SimPlanChange.sim_card_id).where(SimPlanChange.id == key)
    held = await work.session.scalar(select(SimCard.id).where(SimCard.id.in_(card)).with_for_update())
    found = await work.session.scalar(select(SimPlanChange).where(SimPlanChange.id == key))
    if found is None or held is None:
        raise not_found("id")
    found.status, found.closed_at = TRANSITIONS.lead(found.status, "CANCEL"), datetime.now(UTC)
    await work.session.flush()
    return found


async def apply_due(database: Database, now: datetime) -> int:
    """Puts in force what is due, or says why it cannot be; how many changes.

    A repeat finds nothing to do; two at once share the cards out, and a death half-way leaves whole batches.
    """
    done = 0
    while True:
        async with database.transaction(system("plan changes")) as session:
            cards = list(await session.scalars(DUE, {"now": now}))
            if not cards:
                return done
            await advance(session, cards, now)
            failed = list(await session.scalars(FAIL, {"cards": cards, "now": now}))
            applied = list(await session.scalars(APPLY, {"cards": cards, "now": now}))
            await rebind(session, applied)
            await carrier_requests.wish(session, applied, CarrierAction.CHANGE_PLAN)
            done += len(failed) + len(applied)


async def _with_packages(work: Work, cards: list[int]) -> int:
    found = await work.session.scalar(
        select(func.count(PackageSubscription.sim_card_id.distinct())).where(
            PackageSubscription.sim_card_id.in_(cards),
            PackageSubscription.plan_kind == PlanKind.DATA,
            PackageSubscription.status.in_(OPEN),
        )
    )
    return found or 0


async def _pending(work: Work, cards: list[int]) -> int:
    found = await work.session.scalar(
        select(func.count(SimPlanChange.id)).where(
            SimPlanChange.sim_card_id.in_(cards), SimPlanChange.status == PlanChangeStatus.PENDING
        )
    )
    return found or 0
