"""A day of a channel's statement against the books: every line there has its payment or refund here, of the same
amount, and the other way round."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import structlog
from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert

from authz.principal import system
from authz.session import Database
from gateways.http import GatewayError
from gateways.payment import Entry
from models.base import table_of
from models.catalog import CatalogStatus
from models.payments import (
    DifferenceKind,
    Payment,
    PaymentChannel,
    PaymentDifference,
    PaymentReconciliation,
    PaymentRefund,
    PaymentStatus,
    RefundStatus,
)
from services import validation
from services.keys import Keys
from services.payments.booking import CHINA
from services.payments.checking import look
from services.payments.collecting import channel_by, speaking
from services.refusal import Refusal, not_found
from services.runtime import Unit

READY_HOUR = 10
"""From then on, of China's day, channels have the statement of the day before."""
DAYS_BACK = 90
"""So far back channels keep statements."""

log = structlog.get_logger()

Known = Mapping[tuple[str, str | None], tuple[int, Decimal]]
"""Payments, and refunds by their numbers too: key of the payment, amount."""


async def start(work: Unit, channel_id: int, day: date) -> None:
    """Has a day held against the channel's statement again, by the worker (at most ninety days back)."""
    channel = await channel_by(work.session, channel_id)
    if channel is None:
        raise not_found("channel")
    today = datetime.now(CHINA).date()
    if not today - timedelta(days=DAYS_BACK) <= day < today:
        raise Refusal("NO_STATEMENT", "day", days=DAYS_BACK)
    work.later("payments.reconcile", {"channel": channel.id, "day": day.isoformat()})


async def resolve(work: Unit, key: int, remark: str) -> PaymentDifference:
    """Somebody has looked into a difference, and says what it was."""
    found = await work.session.scalar(select(PaymentDifference).where(PaymentDifference.id == key).with_for_update())
    if found is None:
        raise not_found("id")
    if found.resolved_at is not None:
        raise Refusal("RESOLVED_ALREADY", "id")
    found.remark = validation.text(remark, "remark")
    found.resolved_at, found.resolved_by_id = datetime.now(UTC), work.principal.account_id
    await work.session.flush()
    return found


async def reconcile_due(database: Database, keys: Keys, now: datetime) -> int:
    """Holds yesterday against each channel's statement, once it is there and unless it was; how many channels."""
    here = now.astimezone(CHINA)
    if here.hour < READY_HOUR:
        return 0
    day = here.date() - timedelta(days=1)
    async with database.transaction(system("reconciliation")) as session:
        done_for = select(PaymentReconciliation.channel_id).where(PaymentReconciliation.day == day)
        due = list(
            await session.scalars(
                select(PaymentChannel.id).where(
                    PaymentChannel.status == CatalogStatus.ACTIVE, PaymentChannel.id.not_in(done_for)
                )
            )
        )
    done = 0
    for channel in due:
        try:
            await reconcile(database, keys, channel, day)
            done += 1
        except GatewayError as error:
            log.warning("a statement could not be had; trying again", channel=channel, reason=str(error))
    return done


async def reconcile(database: Database, keys: Keys, channel_id: int, day: date) -> PaymentReconciliation:
    """Compares a day's statement with the books and keeps what differs. Safe to repeat: differences that were found
    before stay as they are, resolved or not.

    What the statement has and the books are still waiting for is asked after and booked first. Raises GatewayError.
    """
    async with database.transaction(system("reconciliation")) as session:
        channel = await channel_by(session, channel_id)
        assert channel is not None
    entries = await speaking(keys, channel).statement(day)
    await _catch_up(database, keys, channel, [entry.payment_no for entry in entries if entry.refund_no is None])
    principal = system("reconciliation")
    async with database.transaction(principal) as session:
        known = await _known(Unit(principal, session), channel.id, entries, day)
        differences = list(_differences(known, entries))
        owner = {"tenant_id": channel.tenant_id, "tenant_path": channel.tenant_path, "channel_id": channel.id}
        if differences:
            rows = [{**owner, "day": day, **one} for one in differences]
            await session.execute(insert(table_of(PaymentDifference)).values(rows).on_conflict_do_nothing())
        counts = {
            "entries": len(entries),
            "matched": len(entries) - sum(one["kind"] is not DifferenceKind.MISSING_AT_CHANNEL for one in differences),
            "differing": len(differences),
        }
        written = insert(table_of(PaymentReconciliation)).values({**owner, "day": day, **counts})
        key = await session.scalar(
            written.on_conflict_do_update(
                index_elements=["channel_id", "day"], set_={**counts, "updated_at": func.now()}
            ).returning(table_of(PaymentReconciliation).c.id)
        )
        return (await session.scalars(select(PaymentReconciliation).where(PaymentReconciliation.id == key))).one()


async def _catch_up(database: Database, keys: Keys, channel: PaymentChannel, numbers: Sequence[str]) -> None:
    async with database.transaction(system("reconciliation")) as session:
        waiting = list(
            await session.scalars(
                select(Payment.payment_no).where(
                    Payment.payment_no.in_(numbers),
                    Payment.channel_id == channel.id,
                    Payment.status != PaymentStatus.SUCCEEDED,
                )
            )
        )
    for number in waiting:
        with contextlib.suppress(GatewayError):
            await look(database, keys, channel, number, over=False)


async def _known(work: Unit, channel_id: int, entries: Sequence[Entry], day: date) -> Known:
    """What the books have of the day, and of whatever else the statement speaks of."""
    start, end = (datetime.combine(one, time(), CHINA) for one in (day, day + timedelta(days=1)))
    paid = Payment.status == PaymentStatus.SUCCEEDED
    payments = await work.session.execute(
        select(Payment.payment_no, Payment.id, Payment.amount).where(
            Payment.channel_id == channel_id,
            paid,
            ((Payment.paid_at >= start) & (Payment.paid_at < end))
            | Payment.payment_no.in_([entry.payment_no for entry in entries if entry.refund_no is None]),
        )
    )
    back = PaymentRefund.status == RefundStatus.SUCCEEDED
    refunds = await work.session.execute(
        select(Payment.payment_no, PaymentRefund.refund_no, Payment.id, PaymentRefund.amount)
        .join(Payment, Payment.id == PaymentRefund.payment_id)
        .where(
            Payment.channel_id == channel_id,
            (
                back
                & PaymentRefund.reference.is_(None)
                & (PaymentRefund.settled_at >= start)
                & (PaymentRefund.settled_at < end)
            )
            | PaymentRefund.refund_no.in_([entry.refund_no for entry in entries if entry.refund_no is not None]),
        )
    )
    return {
        **{(number, None): (key, amount) for number, key, amount in payments},
        **{(number, refund): (key, amount) for number, refund, key, amount in refunds},
    }


def _differences(known: Known, entries: Sequence[Entry]) -> list[dict[str, Any]]:
    found: dict[tuple[str, str | None, DifferenceKind], dict[str, Any]] = {}
    listed = set()
    for entry in entries:
        place = (entry.payment_no, entry.refund_no)
        key, amount = known.get(place, (None, None))
        twice = place in listed
        listed.add(place)
        if not twice and amount == entry.amount:
            continue
        kind = DifferenceKind.MISSING_HERE if amount is None or twice else DifferenceKind.AMOUNT
        found[(*place, kind)] = {
            "kind": kind,
            "payment_id": key,
            "payment_no": entry.payment_no,
            "transaction_no": entry.transaction_no,
            "refund_no": entry.refund_no,
            "amount_here": amount,
            "amount_at_channel": entry.amount,
        }
    for place, (key, amount) in known.items():
        if place not in listed:
            kind = DifferenceKind.MISSING_AT_CHANNEL
            found[(*place, kind)] = {
                "kind": kind,
                "payment_id": key,
                "payment_no": place[0],
                "transaction_no": None,
                "refund_no": place[1],
                "amount_here": amount,
                "amount_at_channel": None,
            }
    return list(found.values())
