"""Real-name activation: an end user shows who it is, the card's carrier decides, and the card goes into service
(S0-31).

What is shown is kept encrypted until the carrier has decided, and erased then. An answer that does not come is asked
for again: the record's number makes a repeat at the carrier the same request.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import filetype
import structlog
from sqlalchemy import select
from stdnum.cn import ric
from stdnum.exceptions import ValidationError

from authz.principal import system
from authz.session import Database
from gateways.carrier import CarrierQuery, RealName, RealNameOutcome, carriers
from gateways.http import GatewayError
from models.catalog import Supplier
from models.identity import EndUser
from models.real_name import RealNameRecord, RealNameStatus
from models.sim import SimCard, SimStatus
from services import validation
from services.catalog import api_key_binding
from services.keys import Keys
from services.refusal import Refusal
from services.runtime import Unit, Work
from services.sim import lifecycle

MAX_PICTURE = 2 * 1024**2
PICTURES = frozenset({"image/jpeg", "image/png"})
TAIL = 4
BATCH = 5
REFUSALS = 10
"""So often a carrier may not take a request before it is given up."""
CLAIM = timedelta(minutes=2)
FIRST_PAUSE = timedelta(seconds=30)
LONGEST_PAUSE = timedelta(hours=1)
WAITING = (SimStatus.STOCK, SimStatus.ALLOCATED)
CARD_MOVED, REFUSED = "CARD_MOVED", "REFUSED_BY_CARRIER"

log = structlog.get_logger()


@dataclass(frozen=True)
class _Due:
    key: int
    query: CarrierQuery
    real_name: RealName


def _binding(card_id: int, part: str) -> str:
    return f"real_name:{card_id}:{part}"


async def submit(work: Work, card_id: int, *, name: str, id_number: str, front: bytes, back: bytes) -> RealNameRecord:
    """What the calling end user shows for a card of its own that is not in service yet.

    INVALID_ID_NUMBER, NOT_A_PICTURE, TOO_LARGE_PICTURE by field; WRONG_STATUS for a card that is in service already,
    REAL_NAME_PENDING where the carrier has not decided on an earlier one.
    """
    person = await work.session.scalar(select(EndUser).where(EndUser.id == work.principal.end_user_id))
    if person is None:
        raise Refusal("NOT_POSSIBLE_HERE")
    name = validation.text(name, "name", limit=50)
    try:
        number = ric.validate(id_number)
    except ValidationError:
        raise Refusal("INVALID_ID_NUMBER", "idNumber") from None
    for picture, field in ((front, "front"), (back, "back")):
        if len(picture) > MAX_PICTURE:
            raise Refusal("TOO_LARGE_PICTURE", field, limit=MAX_PICTURE)
        kind = filetype.guess(picture)
        if kind is None or kind.mime not in PICTURES:
            raise Refusal("NOT_A_PICTURE", field)
    async with work.as_the_system("real-name activation"):
        card = await work.held(SimCard, card_id, SimCard.end_user_id == person.id, field="card")
        if card.status not in WAITING:
            raise Refusal("WRONG_STATUS", "card", count=1, status=card.status.name, action="ACTIVATE")
        interface = await work.session.scalar(select(Supplier.interface_name).where(Supplier.id == card.supplier_id))
        if not carriers.registers(interface or ""):
            raise Refusal("NOT_POSSIBLE_HERE", "card")
        pending = select(RealNameRecord.id).where(
            RealNameRecord.sim_card_id == card.id, RealNameRecord.status == RealNameStatus.PENDING
        )
        if await work.session.scalar(pending) is not None:
            raise Refusal("REAL_NAME_PENDING", "card")
        encrypt = work.runtime.keys.encrypt
        record = RealNameRecord(
            tenant_id=card.tenant_id,
            tenant_path=card.tenant_path,
            end_user_id=person.id,
            sim_card_id=card.id,
            name=name,
            id_number_tail=number[-TAIL:],
            id_number_encrypted=encrypt(number, _binding(card.id, "number")),
            front_encrypted=encrypt(base64.b64encode(front).decode(), _binding(card.id, "front")),
            back_encrypted=encrypt(base64.b64encode(back).decode(), _binding(card.id, "back")),
        )
        work.session.add(record)
        await work.session.flush()
        work.later("real_name.submit", {}, of=record)
    return record


async def carry_out(database: Database, keys: Keys, now: datetime) -> int:
    """Shows carriers what is due, and puts cards into service; how many were asked about. Two at once share them."""
    done = 0
    while due := await _claim(database, keys, now):
        for one in due:
            try:
                outcome: RealNameOutcome | GatewayError = await carriers.register(one.query, one.real_name)
            except GatewayError as error:
                outcome = error
            try:
                await _decide(database, one.key, outcome)
            except Exception:
                # one card must not keep the others waiting
                log.exception("a real name could not be decided on", record=one.key)
        done += len(due)
    return done


async def _claim(database: Database, keys: Keys, now: datetime) -> list[_Due]:
    async with database.transaction(system("real-name activation")) as session:
        rows = await session.execute(
            select(RealNameRecord, SimCard, Supplier)
            .join(SimCard, SimCard.id == RealNameRecord.sim_card_id)
            .join(Supplier, Supplier.id == SimCard.supplier_id)
            .where(RealNameRecord.status == RealNameStatus.PENDING, RealNameRecord.next_attempt_at <= now)
            .order_by(RealNameRecord.next_attempt_at)
            .limit(BATCH)
            .with_for_update(skip_locked=True, of=RealNameRecord)
        )
        found = []
        for record, card, supplier in rows:
            record.attempts += 1
            pause = min(FIRST_PAUSE * int(2 ** min(record.attempts, 10)), LONGEST_PAUSE)
            record.next_attempt_at = now + max(CLAIM, pause)
            if card.end_user_id != record.end_user_id:
                _close(record, RealNameStatus.REJECTED, CARD_MOVED)
                continue
            try:
                found.append(_due(keys, record, card, supplier))
            except ValueError:
                # the person has been erased meanwhile, or what was kept cannot be read any more
                _close(record, RealNameStatus.REJECTED, "ERASED")
        return found


def _due(keys: Keys, record: RealNameRecord, card: SimCard, supplier: Supplier) -> _Due:
    key = None
    if supplier.api_key_encrypted is not None:
        key = keys.decrypt(supplier.api_key_encrypted, api_key_binding(supplier.id))
    shown = {"number": record.id_number_encrypted, "front": record.front_encrypted, "back": record.back_encrypted}
    parts = [keys.decrypt(stored or b"", _binding(card.id, part)) for part, stored in shown.items()]
    return _Due(
        record.id,
        CarrierQuery(supplier.interface_name, key, [card.iccid]),
        RealName(f"rn{record.id}", record.name or "", *parts),
    )


def _close(record: RealNameRecord, status: RealNameStatus, reason: str | None) -> None:
    """It is decided: what was shown is not needed any more."""
    record.status, record.decided_at, record.reason = status, datetime.now(UTC), reason
    record.id_number_encrypted = record.front_encrypted = record.back_encrypted = None


async def _decide(database: Database, key: int, outcome: RealNameOutcome | GatewayError) -> None:
    principal = system("real-name activation")
    async with database.transaction(principal) as session:
        work = Unit(principal, session)
        card_id = await session.scalar(select(RealNameRecord.sim_card_id).where(RealNameRecord.id == key))
        # whoever changes a card holds it first
        card = (await session.scalars(select(SimCard).where(SimCard.id == card_id).with_for_update())).one()
        record = (await session.scalars(select(RealNameRecord).where(RealNameRecord.id == key).with_for_update())).one()
        if record.status is not RealNameStatus.PENDING:
            return
        if card.end_user_id != record.end_user_id:
            _close(record, RealNameStatus.REJECTED, CARD_MOVED)
        elif isinstance(outcome, GatewayError):
            record.reason = outcome.code
            if outcome.code != "CARRIER_UNAVAILABLE" and record.attempts >= REFUSALS:
                _close(record, RealNameStatus.REJECTED, outcome.code)
        elif outcome.verified is not None:
            record.carrier_reference = outcome.reference
            status = RealNameStatus.VERIFIED if outcome.verified else RealNameStatus.REJECTED
            _close(record, status, None if outcome.verified else REFUSED)
            await session.flush()
            if outcome.verified and card.status in WAITING:
                await lifecycle.step(work, [card], "ACTIVATE", "real name verified")
