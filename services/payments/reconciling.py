"""A day of a channel's statement against the books: every line there has its payment or refund here, of the same
amount, and the other way round."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import structlog
from sqlalchemy import ColumnElement, Text, any_, cast, func, select, update
from sqlalchemy.dialects.postgresql import ARRAY, insert

from authz.principal import system
from authz.session import Database
from gateways.http import GatewayError
from gateways.payment import Entry
from models.base import table_of
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
from services.payments import refunding
from services.payments.booking import CHINA
from services.payments.checking import look
from services.payments.collecting import channel_by, speaking
from services.refusal import Refusal, not_found
from services.runtime import Unit

READY_HOUR = 10
"""From then on, of China's day, channels have the statement of the day before."""
LATE_DAYS = 7
"""So long a day is tried again."""
CHUNK = 1_000
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
    now = datetime.now(CHINA)
    ready = now.date() - timedelta(days=0 if now.hour >= READY_HOUR else 1)
    if not now.date() - timedelta(days=DAYS_BACK) <= day < ready:
        raise Refusal("NO_STATEMENT", "day", days=DAYS_BACK)
    work.later("payments.reconcile", {"channel": channel.id, "day": day.isoformat()})


async def resolve(work: Unit, key: int, remark: str) -> PaymentDifference:
    """Somebody has looked into a difference, and says what it was."""
    found = await work.held(PaymentDifference, key)
    if found.resolved_at is not None:
        raise Refusal("RESOLVED_ALREADY", "id")
    found.remark = validation.text(remark, "remark")
    found.resolved_at, found.resolved_by_id = datetime.now(UTC), work.principal.account_id
    await work.session.flush()
    return found


async def reconcile_due(database: Database, keys: Keys, now: datetime) -> int:
    """Holds the last days against each account's statements, once they are there and unless it was done; how many
    statements. An account that is out of use is gone through as long as something of it may come."""
    here = now.astimezone(CHINA)
    last = here.date() - timedelta(days=1 if here.hour >= READY_HOUR else 2)
    days = [last - timedelta(days=back) for back in range(LATE_DAYS)]
    async with database.transaction(system("reconciliation")) as session:
        accounts = (await session.execute(select(PaymentChannel.id, PaymentChannel.created_at))).all()
        rows = select(PaymentReconciliation.channel_id, PaymentReconciliation.day)
        kept = await session.execute(rows.where(PaymentReconciliation.day.in_(days)))
        known = {(row.channel_id, row.day) for row in kept}
    done = 0
    for channel, since in accounts:
        for day in sorted(days):
            if (channel, day) in known or day < since.astimezone(CHINA).date() - timedelta(days=1):
                continue
            try:
                await reconcile(database, keys, channel, day)
                done += 1
            except GatewayError as error:
                log.warning("a statement could not be had; trying again", channel=channel, reason=str(error))
            except Exception:
                # one account must not keep the others waiting
                log.exception("a statement could not be compared", channel=channel, day=str(day))
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
    await _catch_up(database, keys, channel, entries)
    principal = system("reconciliation")
    async with database.transaction(principal) as session:
        known = await _known(Unit(principal, session), channel.id, entries, day)
        differences = list(_differences(known, entries))
        owner = {"tenant_id": channel.tenant_id, "tenant_path": channel.tenant_path, "channel_id": channel.id}
        rows = [{**owner, "day": day, **one} for one in differences]
        for start in range(0, len(rows), CHUNK):
            some = rows[start : start + CHUNK]
            await session.execute(insert(table_of(PaymentDifference)).values(some).on_conflict_do_nothing())
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


async def _catch_up(database: Database, keys: Keys, channel: PaymentChannel, entries: Sequence[Entry]) -> None:
    """What the books are still waiting for is asked after now."""
    numbers = [entry.payment_no for entry in entries if entry.refund_no is None]
    refunds = [entry.refund_no for entry in entries if entry.refund_no is not None]
    async with database.transaction(system("reconciliation")) as session:
        await session.execute(
            update(PaymentRefund)
            .where(PaymentRefund.refund_no == any_(_texts(refunds)), PaymentRefund.status == RefundStatus.PENDING)
            .values(next_attempt_at=func.now())
            .execution_options(synchronize_session=False)
        )
        waiting = list(
            await session.scalars(
                select(Payment.payment_no).where(
                    Payment.payment_no == any_(_texts(numbers)),
                    Payment.channel_id == channel.id,
                    Payment.status != PaymentStatus.SUCCEEDED,
                )
            )
        )
    for number in waiting:
        with contextlib.suppress(GatewayError):
            await look(database, keys, channel, number, over=False)
    if refunds:
        await refunding.carry_out(database, keys, datetime.now(UTC))


def _texts(values: Sequence[str]) -> ColumnElement[Any]:
    """Any number of texts as one parameter."""
    return cast(list(values), ARRAY(Text))


async def _known(work: Unit, channel_id: int, entries: Sequence[Entry], day: date) -> Known:
    """What the books have of the day, and of whatever else the statement speaks of."""
    start, end = (datetime.combine(one, time(), CHINA) for one in (day, day + timedelta(days=1)))
    paid = Payment.status == PaymentStatus.SUCCEEDED
    payments = await work.session.execute(
        select(Payment.payment_no, Payment.id, Payment.amount).where(
            Payment.channel_id == channel_id,
            paid,
            ((Payment.paid_at >= start) & (Payment.paid_at < end))
            | (Payment.payment_no == any_(_texts([one.payment_no for one in entries if one.refund_no is None]))),
        )
    )
    # what finance paid back by hand did not go through the channel
    back = (PaymentRefund.status == RefundStatus.SUCCEEDED) & PaymentRefund.reference.is_(None)
    refunds = await work.session.execute(
        select(Payment.payment_no, PaymentRefund.refund_no, Payment.id, PaymentRefund.amount)
        .join(Payment, Payment.id == PaymentRefund.payment_id)
        .where(
            Payment.channel_id == channel_id,
            back,
            ((PaymentRefund.settled_at >= start) & (PaymentRefund.settled_at < end))
            | (PaymentRefund.refund_no == any_(_texts([one.refund_no for one in entries if one.refund_no]))),
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
