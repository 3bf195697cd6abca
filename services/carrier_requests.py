"""What follows at the carrier from what is done to a card here: it is suspended and resumed there, and has the plan
there that it has here.

Carriers are told once. Before, it stands in the books that the outcome is unknown; afterwards the carrier is asked how
it sees the card, and only what it has not done minutes later is told again. A later wish takes the place of an earlier
one that waits; of one that is under way it waits for the end, so that a card ends as it was wished last. What a carrier
refuses is told again some times, since it may only be too soon.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog
from sqlalchemy import BigInteger, Boolean, Text, bindparam, exists, func, select, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from authz.principal import system
from authz.session import Database
from gateways.carrier import CardChange, CarrierQuery, ChangeRequest, carriers
from gateways.carrier.registry import INTERFACES
from gateways.http import GatewayError, hearing
from models.carrier_requests import CarrierAction, CarrierRequest
from models.catalog import DataPackage, Supplier
from models.sim import SimCard, SimStatus
from models.telling import OPEN, RequestStatus
from services.catalog import api_key_binding
from services.keys import Keys
from services.refusal import Refusal, not_found
from services.runtime import Unit
from services.transitions import StateMachine

TRANSITIONS = StateMachine("CARRIER_REQUEST_STATUS", ("RETRY", (RequestStatus.FAILED,), RequestStatus.PENDING))
FOLLOWED = {
    "SUSPEND": CarrierAction.SUSPEND,
    "RESUME": CarrierAction.RESUME,
    "TERMINATE": CarrierAction.SUSPEND,
}
"""What carriers are told of actions on cards; a card that is given up for good is cut off."""
BATCH = 8
CLAIM = timedelta(minutes=2)
FIRST_PAUSE = timedelta(seconds=15)
LONGEST_PAUSE = timedelta(minutes=30)
SURE = timedelta(minutes=5)
"""What a carrier has not done so long after it was told, it will not do."""
TIMES = 5
"""So often a carrier is told before it is given up."""
PATIENCE = timedelta(days=3)
"""For so long a carrier is asked after what it was told, if it never says how it sees the card."""
SECONDS = 20.0
"""After so long a run leaves the rest to the next one."""
SUPERSEDED, NOT_DONE, NOT_KNOWN = "SUPERSEDED", "NOT_DONE", "NOT_KNOWN"
UNDER_WAY = (RequestStatus.UNKNOWN, RequestStatus.ACCEPTED)

_CARDS = bindparam("cards", type_=ARRAY(BigInteger))
_NAMES = bindparam("interfaces", type_=ARRAY(Text))
_PLANS = bindparam("plans", type_=Boolean)

SUPERSEDE = text("""
UPDATE carrier_request r SET status = 'FAILED', last_response = 'SUPERSEDED', finished_at = now(), updated_at = now()
WHERE r.sim_card_id = ANY (:cards) AND r.status = 'PENDING'
  AND (r.action = 'CHANGE_PLAN') = :plans
""").bindparams(_CARDS, _PLANS)

WISH = text("""
INSERT INTO carrier_request (tenant_id, tenant_path, sim_card_id, action, plan, status, request_no)
SELECT c.tenant_id, c.tenant_path, c.id, CAST(:action AS text), CASE WHEN :plans THEN p.carrier_plan END, 'PENDING',
  'C' || c.id || '-' || to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYMMDDHH24MISSUS')
FROM sim_card c JOIN supplier s ON s.id = c.supplier_id
LEFT JOIN data_package p ON p.id = c.package_id AND p.supplier_id = c.supplier_id
WHERE c.id = ANY (:cards) AND s.interface_name = ANY (:interfaces) AND (NOT :plans OR p.carrier_plan IS NOT NULL)
ORDER BY c.id
""").bindparams(_CARDS, _NAMES, _PLANS)

log = structlog.get_logger()


@dataclass(frozen=True)
class _Due:
    key: int
    status: RequestStatus
    attempts: int
    query: CarrierQuery
    request: ChangeRequest


async def wish(session: AsyncSession, cards: Sequence[int], action: CarrierAction) -> None:
    """Carriers are to make of cards what was made of them here; the cards are held. Only the system may.

    Cards of suppliers that no adapter speaks to are left alone, and plans that the supplier has no name for.
    """
    if not cards:
        return
    values = {"cards": list(cards), "plans": action is CarrierAction.CHANGE_PLAN}
    await session.execute(SUPERSEDE, values)
    await session.execute(WISH, {**values, "action": action.name, "interfaces": sorted(INTERFACES)})


async def retry(work: Unit, key: int) -> CarrierRequest:
    """A request that has failed is told anew (S0-24). CARRIER_REQUEST_STATUS for one that has not; NEWER_REQUEST where
    something else was asked for meanwhile, or the card stands elsewhere."""
    of = select(CarrierRequest.sim_card_id).where(CarrierRequest.id == key)
    card = await work.session.scalar(select(SimCard).where(SimCard.id.in_(of)).with_for_update())
    found = await work.session.scalar(select(CarrierRequest).where(CarrierRequest.id == key).with_for_update())
    if found is None or card is None:
        raise not_found("id")
    plans = CarrierRequest.action == CarrierAction.CHANGE_PLAN
    newest = await work.session.scalar(
        select(func.max(CarrierRequest.id)).where(
            CarrierRequest.sim_card_id == found.sim_card_id, plans.is_(found.action is CarrierAction.CHANGE_PLAN)
        )
    )
    if newest != found.id or not await _is_wanted(work.session, card, found):
        raise Refusal("NEWER_REQUEST", "id")
    found.status = TRANSITIONS.lead(found.status, "RETRY")
    found.finished_at, found.next_attempt_at = None, datetime.now(UTC)
    await work.session.flush()
    return found


async def _is_wanted(session: AsyncSession, card: SimCard, request: CarrierRequest) -> bool:
    """Whether a card is here as a request wants it to be at the carrier."""
    if request.action is CarrierAction.RESUME:
        return card.status is SimStatus.ACTIVE
    if request.action is CarrierAction.SUSPEND:
        return card.status in (SimStatus.SUSPENDED, SimStatus.TERMINATED)
    if card.status is SimStatus.TERMINATED:
        return False
    plan = await session.scalar(select(DataPackage.carrier_plan).where(DataPackage.id == card.package_id))
    return plan == request.plan


async def carry_out(database: Database, keys: Keys, now: datetime) -> int:
    """Tells carriers of what is due, and asks them how they see what they were told of, for some seconds; how many.
    Two at once share them."""
    done, ahead, until = 0, now - datetime.now(UTC), time.monotonic() + SECONDS
    while time.monotonic() < until and (due := await _claim(database, keys, datetime.now(UTC) + ahead)):
        for one, (outcome, answer) in zip(due, await asyncio.gather(*map(_ask, due)), strict=True):
            try:
                await _settle(database, one, outcome, answer, datetime.now(UTC) + ahead)
            except Exception:
                # one card must not keep the others waiting
                log.exception("a request to a carrier could not be carried out", carrier_request=one.key)
        done += len(due)
    return done


async def _claim(database: Database, keys: Keys, now: datetime) -> list[_Due]:
    before = aliased(CarrierRequest)
    waits_for = exists().where(
        before.sim_card_id == CarrierRequest.sim_card_id,
        before.id < CarrierRequest.id,
        before.status.in_(UNDER_WAY),
        (before.action == CarrierAction.CHANGE_PLAN) == (CarrierRequest.action == CarrierAction.CHANGE_PLAN),
    )
    async with database.transaction(system("carrier requests")) as session:
        rows = await session.execute(
            select(CarrierRequest, SimCard, Supplier)
            .join(SimCard, SimCard.id == CarrierRequest.sim_card_id)
            .join(Supplier, Supplier.id == SimCard.supplier_id)
            .where(CarrierRequest.status.in_(OPEN), CarrierRequest.next_attempt_at <= now, ~waits_for)
            .order_by(CarrierRequest.next_attempt_at, CarrierRequest.id)
            .limit(BATCH)
            .with_for_update(skip_locked=True, of=CarrierRequest)
        )
        found = []
        for request, card, supplier in rows:
            if request.status is RequestStatus.PENDING and not await _is_wanted(session, card, request):
                request.last_response = SUPERSEDED
                _finish(request, RequestStatus.FAILED, now)
                continue
            request.next_attempt_at = now + CLAIM
            stands = request.status
            if stands is RequestStatus.PENDING:
                request.status, request.submitted_at = RequestStatus.UNKNOWN, now
                request.attempts += 1
            found.append(
                _Due(
                    request.id,
                    stands,
                    request.attempts,
                    CarrierQuery(supplier.interface_name, _api_key(keys, supplier), [card.iccid]),
                    ChangeRequest(request.request_no, CardChange(request.action.name), request.plan),
                )
            )
        return found


def _api_key(keys: Keys, supplier: Supplier) -> str | None:
    stored = supplier.api_key_encrypted
    try:
        return None if stored is None else keys.decrypt(stored, api_key_binding(supplier.id))
    except ValueError:
        return None


Outcome = bool | str | GatewayError | None
"""What a carrier says: of what it is told, its number or nothing; of what it was told, whether it is done."""


async def _ask(due: _Due) -> tuple[Outcome, str | None]:
    """What the carrier says, and its answer as it came, or else why there is none."""
    with hearing() as heard:
        try:
            return await _say(due, heard)
        except Exception:
            # one answer must not take those of the others with it
            log.exception("an answer of a carrier cannot be read", carrier_request=due.key)
            unread = GatewayError("CARRIER_UNAVAILABLE", "The carrier gave an answer that cannot be read.")
            return unread, heard[-1] if heard else str(unread)


async def _say(due: _Due, heard: list[str]) -> tuple[Outcome, str | None]:
    told = due.status is RequestStatus.PENDING
    try:
        found: Outcome = await (carriers.change if told else carriers.changed)(due.query, due.request)
    except GatewayError as error:
        answer = heard[-1] if heard else str(error)
        return (await _as_wanted(due, error) if told else error), answer
    return found, heard[-1] if heard else None


async def _as_wanted(due: _Due, refused: GatewayError) -> bool | GatewayError:
    """A carrier may refuse because the card is as it should be already."""
    try:
        if refused.code == "CARRIER_REFUSED" and await carriers.changed(due.query, due.request):
            return True
    except GatewayError:
        pass
    return refused


async def _settle(database: Database, due: _Due, outcome: Outcome, answer: str | None, now: datetime) -> None:
    async with database.transaction(system("carrier requests")) as session:
        request = (
            await session.scalars(select(CarrierRequest).where(CarrierRequest.id == due.key).with_for_update())
        ).one()
        if request.status not in OPEN or request.attempts != due.attempts:
            return  # something else has been asked for meanwhile
        request.next_attempt_at = now + min(FIRST_PAUSE * int(2 ** min(request.attempts, 8)), LONGEST_PAUSE)
        request.answer = answer
        if isinstance(outcome, GatewayError):
            await _not_done(session, request, due, outcome.code, now)
        elif due.status is RequestStatus.PENDING and outcome is not True:
            request.status, request.last_response = RequestStatus.ACCEPTED, RequestStatus.ACCEPTED.name
            request.carrier_no = outcome if isinstance(outcome, str) else None
            request.next_attempt_at = now + FIRST_PAUSE
        elif outcome:
            request.last_response = "DONE"
            _finish(request, RequestStatus.SUCCEEDED, now)
        elif request.submitted_at is not None and now - request.submitted_at >= SURE:
            request.last_response, request.next_attempt_at = NOT_DONE, now
            await _again(session, request, now)


async def _not_done(session: AsyncSession, request: CarrierRequest, due: _Due, code: str, now: datetime) -> None:
    request.last_response = code
    told = due.status is RequestStatus.PENDING
    if told and code == "CARRIER_REFUSED":
        await _again(session, request, now)
    elif told and code == "NOT_SUPPORTED":
        _finish(request, RequestStatus.FAILED, now)
    elif not told and request.submitted_at is not None and now - request.submitted_at >= PATIENCE:
        request.last_response = NOT_KNOWN
        _finish(request, RequestStatus.FAILED, now)


async def _again(session: AsyncSession, request: CarrierRequest, now: datetime) -> None:
    """What was not done is told again, unless something else is wished by now, or it was told often enough."""
    plans = CarrierRequest.action == CarrierAction.CHANGE_PLAN
    later = select(CarrierRequest.id).where(
        CarrierRequest.sim_card_id == request.sim_card_id,
        CarrierRequest.id > request.id,
        plans.is_(request.action is CarrierAction.CHANGE_PLAN),
    )
    if await session.scalar(later.limit(1)) is not None:
        request.last_response = SUPERSEDED
        _finish(request, RequestStatus.FAILED, now)
    elif request.attempts >= TIMES:
        _finish(request, RequestStatus.FAILED, now)
    else:
        request.status = RequestStatus.PENDING


def _finish(request: CarrierRequest, status: RequestStatus, now: datetime) -> None:
    request.status, request.finished_at = status, now
