"""Settlement: what agents earned in a month that is over is theirs to draw on (S0-49), and what they earned as their
margin at once (S2-18).

Everything of a month is done to sets, by statements that do not depend on how many entries there are. A month is one of
the agent's own calendar. Refunds that took back what had been settled are made up for first, as far as the month's
earnings reach; the rest waits for the next one. A margin is settled order by order, each of which is held meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import structlog
from sqlalchemy import BigInteger, DateTime, TextClause, bindparam, select, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from authz.principal import system
from authz.session import Database
from models.commission import CommissionEntry, CommissionEntryStatus
from models.orders import Order

log = structlog.get_logger()

GRACE = timedelta(hours=1)
"""How long after its end a month is left alone, for payments that began before it."""
_MOMENT = bindparam("moment", type_=DateTime(timezone=True))
_MADE = bindparam("made", type_=ARRAY(BigInteger))

_WAITING = """
SELECT t.id, t.path, e.currency, greatest(min(date_trunc('month', e.created_at AT TIME ZONE t.time_zone)::date),
         (SELECT (max(s.month) + interval '1 month')::date FROM commission_settlement s
          WHERE s.tenant_id = t.id AND s.currency = e.currency AND s.order_id IS NULL)) AS month,
  date_trunc('month', CAST(:moment AS timestamptz) AT TIME ZONE t.time_zone)::date AS this_month
FROM commission_entry e JOIN tenant t ON t.id = e.tenant_id
WHERE e.status = 'PENDING' AND e.percent IS NOT NULL AND e.created_at < :moment
GROUP BY t.id, t.path, t.time_zone, e.currency
"""
"""For each agent and currency, the first month to be settled: that of its oldest entry, or of an entry that came too
late for its own the one after the last."""

OLDEST = text(f"SELECT min(month) FROM ({_WAITING}) w WHERE month < this_month").bindparams(_MOMENT)  # noqa: S608
"""The first month that is over and to be settled for somebody."""

OPEN = text(f"""
INSERT INTO commission_settlement (tenant_id, tenant_path, month, currency)
SELECT id, path, month, currency FROM ({_WAITING}) w
WHERE month = CAST(:month AS date) AND month < this_month ORDER BY id, currency
ON CONFLICT DO NOTHING RETURNING id
""").bindparams(_MOMENT)  # noqa: S608 - constants
"""One for each agent and currency that is to be settled for the month."""

OPEN_FOR_ORDER = text("""
INSERT INTO commission_settlement (tenant_id, tenant_path, month, order_id, currency)
SELECT DISTINCT t.id, t.path, date_trunc('month', e.created_at AT TIME ZONE t.time_zone)::date, e.order_id, e.currency
FROM commission_entry e JOIN tenant t ON t.id = e.tenant_id
WHERE e.order_id = :order AND e.status = 'PENDING' AND e.percent IS NULL ORDER BY t.id
ON CONFLICT DO NOTHING RETURNING id
""").bindparams(bindparam("order", type_=BigInteger))
"""One for each agent that earned a margin by the order."""

_CREDIT = """
WITH credited AS (
  UPDATE commission_entry e SET status = 'CREDITED', settlement_id = s.id
  FROM commission_settlement s JOIN tenant t ON t.id = s.tenant_id
  WHERE s.id = ANY (:made) AND e.tenant_id = s.tenant_id AND e.currency = s.currency AND e.status = 'PENDING'
    AND {which}
  RETURNING e.settlement_id, e.amount
)
UPDATE commission_settlement s SET entry_count = c.entries, earned = c.earned, amount = c.earned
FROM (SELECT settlement_id, count(*) AS entries, sum(amount) AS earned FROM credited GROUP BY settlement_id) c
WHERE s.id = c.settlement_id
"""
"""The entries of a settlement are marked and summed by one statement, so that what is refunded meanwhile is in neither
or in both."""

CREDIT_MONTH = text(
    _CREDIT.format(
        which="e.percent IS NOT NULL AND e.created_at < (s.month + interval '1 month') AT TIME ZONE t.time_zone"
    )
).bindparams(_MADE)
"""An entry that came too late for its month goes with the next."""

CREDIT_MARGIN = text(_CREDIT.format(which="e.percent IS NULL AND e.order_id = s.order_id")).bindparams(_MADE)

HOLD = text("""
SELECT a.id FROM ledger_account a
JOIN commission_settlement s ON s.tenant_id = a.tenant_id AND s.currency = a.currency AND s.id = ANY (:made)
WHERE a.kind IN ('COMMISSION', 'INCOME') ORDER BY a.id FOR UPDATE OF a
""").bindparams(_MADE)
"""The accounts, in the order in which all that moves money holds them, so that of two settlements of one agent only one
makes up for what it owes."""

DEDUCT = text("""
UPDATE commission_settlement s SET deducted = o.owed, amount = s.earned - o.owed
FROM (
  SELECT s.id, least(s.earned,
    coalesce((SELECT sum(e.amount) FROM commission_entry e WHERE e.tenant_id = s.tenant_id AND e.currency = s.currency
              AND e.status = 'REVERSED' AND e.settlement_id IS NOT NULL), 0)
    - coalesce((SELECT sum(p.deducted) FROM commission_settlement p
                WHERE p.tenant_id = s.tenant_id AND p.currency = s.currency AND p.deducted > 0), 0)) AS owed
  FROM commission_settlement s WHERE s.id = ANY (:made)
) o WHERE o.id = s.id AND o.owed > 0
""").bindparams(_MADE)
"""What refunds took back of earlier settlements, and no settlement has made up for yet."""

ACCOUNTS = text("""
INSERT INTO ledger_account (tenant_id, tenant_path, kind, currency, floor)
SELECT s.tenant_id, s.tenant_path, 'INCOME', s.currency, 0 FROM commission_settlement s
WHERE s.id = ANY (:made) AND s.amount > 0 ORDER BY s.tenant_id, s.currency
ON CONFLICT DO NOTHING
""").bindparams(_MADE)

TRANSFERS = text("""
WITH moved AS (
  INSERT INTO ledger_transfer (tenant_id, tenant_path, kind, idempotency_key, memo)
  SELECT s.tenant_id, s.tenant_path, 'SETTLEMENT', 'settlement:' || s.id,
    coalesce(o.order_no, to_char(s.month, 'YYYY-MM'))
  FROM commission_settlement s LEFT JOIN sales_order o ON o.id = s.order_id
  WHERE s.id = ANY (:made) AND s.amount > 0
  RETURNING id, idempotency_key
)
UPDATE commission_settlement s SET transfer_id = moved.id FROM moved
WHERE moved.idempotency_key = 'settlement:' || s.id AND s.id = ANY (:made)
""").bindparams(_MADE)

ENTRIES = text("""
INSERT INTO ledger_entry (tenant_id, tenant_path, transfer_id, ledger_account_id, amount)
SELECT a.tenant_id, a.tenant_path, s.transfer_id, a.id, CASE a.kind WHEN 'INCOME' THEN s.amount ELSE -s.amount END
FROM commission_settlement s
JOIN ledger_account a ON a.tenant_id = s.tenant_id AND a.currency = s.currency AND a.kind IN ('COMMISSION', 'INCOME')
WHERE s.id = ANY (:made) AND s.transfer_id IS NOT NULL ORDER BY a.id
""").bindparams(_MADE)
"""In the order of the accounts' keys, as all that moves money."""


async def settle_due(database: Database, now: datetime) -> int:
    """Settles each month that is over and was not settled, the oldest first; how many settlements were made.

    A repeat finds nothing to do; of two at once, one does the work. A death half-way leaves whole months.
    """
    moment = now.astimezone(UTC) - GRACE
    made = 0
    while True:
        async with database.transaction(system("settlement of commission")) as session:
            here = await _settle_oldest(session, moment)
        if not here:
            return made
        made += here


async def _settle_oldest(session: AsyncSession, moment: datetime) -> int:
    month = await session.scalar(OLDEST, {"moment": moment})
    if month is None:
        return 0
    made = list(await session.scalars(OPEN, {"month": month, "moment": moment}))
    await _credit(session, CREDIT_MONTH, made)
    return len(made)


async def _credit(session: AsyncSession, which: TextClause, made: Sequence[int]) -> None:
    for statement in (which, ACCOUNTS, HOLD, DEDUCT, TRANSFERS, ENTRIES) if made else ():
        await session.execute(statement, {"made": made})


async def credit_margins(database: Database, order: int | None = None) -> int:
    """Credits what agents earned as their margin by an order, or by all whose turn has not come yet; how many
    settlements were made. A repeat finds nothing to do."""
    if order is not None:
        return await _credit_margin(database, order)
    pending = (CommissionEntry.status == CommissionEntryStatus.PENDING, CommissionEntry.percent.is_(None))
    waiting = select(CommissionEntry.order_id).where(*pending).distinct().order_by(CommissionEntry.order_id)
    async with database.transaction(system("margins to be credited")) as session:
        orders = list(await session.scalars(waiting))
    made = 0
    for one in orders:
        try:
            made += await _credit_margin(database, one)
        except SQLAlchemyError:
            log.exception("a margin cannot be credited", order=one)
    return made


async def _credit_margin(database: Database, order: int) -> int:
    async with database.transaction(system("credit of margins")) as session:
        # held, as by everybody who takes a step with an order: nobody gives it back meanwhile
        await session.scalar(select(Order.id).where(Order.id == order).with_for_update())
        made = list(await session.scalars(OPEN_FOR_ORDER, {"order": order}))
        await _credit(session, CREDIT_MARGIN, made)
    return len(made)
