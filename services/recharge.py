"""Batch recharge: a package for very many cards, as a task with progress (S2-16).

The cards are ordered and paid in parts, each in one transaction: a part has an order, or refusals, or both, or has not
been done. A worker that takes up what a dead one left goes on behind the parts that are done, and pays nothing twice.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.exc import DBAPIError

from authz.session import Database
from authz.standing import in_business, in_service
from models.catalog import DataPackage
from models.identity import StaffAccount
from models.ledger import LedgerAccountKind
from models.orders import Order, OrderLine
from models.sim import SimCard, SimStatus
from models.system import Task, TaskKind, TaskRefusal
from models.tenancy import Tenant, TenantKind
from services import ledger, orders, pricing, validation
from services.conflicts import given_up
from services.refusal import Refusal
from services.runtime import Unit, Work
from services.sim.selection import Selection, locked_cards
from services.tasks.opening import open_task
from services.tasks.running import Cancelled, Run, TaskFailure, carry_out, succeed

PART = 200
"""Cards in one order of a batch."""
TRIES = 3
COLUMN = "card"


@dataclass(frozen=True)
class Told:
    """How a part went: cards recharged, and cards refused."""

    done: int
    failed: int


async def start(work: Work, package_id: int, selection: Selection, *, source: str, remark: str | None) -> Task:
    """A task that recharges cards within reach, at most ten thousand, from the caller's balance, at today's price
    (S2-16).

    What is wrong with single cards is told by the task; what is wrong with all of it is refused at once.
    """
    buyer = await work.session.scalar(select(Tenant).where(Tenant.id == work.principal.tenant_id))
    if buyer is None or buyer.kind is TenantKind.PLATFORM:
        raise Refusal("NOT_POSSIBLE_HERE")
    package = await work.found(DataPackage, package_id, field="package")
    if not orders.on_sale(package):
        raise Refusal("NOT_ACTIVE", "package", value=package.code)
    cards = await locked_cards(work, selection)
    price = (await pricing.quote(work, package, buyer)).price
    task = await open_task(
        work,
        TaskKind.BATCH_RECHARGE,
        {
            "package": package.id,
            "price": str(price),
            "cards": [[card.id, card.display_iccid] for card in cards],
            "source": source,
            "remark": validation.optional(remark, "remark"),
        },
        name=package.code,
    )
    task.total = len(cards)
    return task


async def recharge(database: Database, task_id: int) -> None:
    """Does a batch. Safe to repeat, at once or after a death."""
    await carry_out(database, task_id, "batch recharge", lambda run: _recharge(database, run))


async def _recharge(database: Database, run: Run) -> None:
    cards: list[tuple[int, str]] = [(key, number) for key, number in run.task.parameters["cards"]]
    done = failed = 0
    for part, first in enumerate(range(0, len(cards), PART)):
        told = await _part_once(database, run, part, first, cards[first : first + PART])
        done, failed = done + told.done, failed + told.failed
        await run.progress.tell(done, failed, total=len(cards))
    async with run.connection.transaction():
        await succeed(run.connection, run.task, done=done, failed=failed, total=len(cards))


async def _part_once(database: Database, run: Run, part: int, first: int, cards: Sequence[tuple[int, str]]) -> Told:
    """One part, in one transaction; again where PostgreSQL gave it up in favour of another. Raises Cancelled where
    whoever started the batch may not go on."""
    owner = replace(run.owner, account_id=run.task.account_id)
    for attempt in range(1, TRIES + 1):
        try:
            async with database.transaction(owner) as session:
                work = Unit(owner, session)
                before = await _done_before(work, run.task.id, part, first, len(cards))
                if before is None and not await _may_go_on(work, run.task):
                    raise Cancelled
                return before or await _part(work, run.task, part, first, cards)
        except Refusal as refusal:
            raise TaskFailure(refusal.code, refusal.message("en")) from None
        except DBAPIError as error:
            if not given_up(error) or attempt == TRIES:
                raise
            await asyncio.sleep(random.uniform(0.05, 0.2) * attempt)  # noqa: S311 - nothing secret
    raise AssertionError


async def _may_go_on(work: Unit, task: Task) -> bool:
    """Whether the tenant does business still, and the account that started the task is in service."""
    async with work.as_the_system("standing of who started a batch"):
        if task.account_id is not None:
            account = select(StaffAccount.id).where(StaffAccount.id == task.account_id, in_service())
            return await work.session.scalar(account) is not None
        tenant = select(Tenant.id).where(Tenant.id == task.tenant_id, in_business(Tenant.id))
        return await work.session.scalar(tenant) is not None


async def _done_before(work: Unit, task_id: int, part: int, first: int, size: int) -> Told | None:
    ordered = await work.session.scalar(
        select(func.count(OrderLine.id))
        .join(Order, Order.id == OrderLine.order_id)
        .where(Order.task_id == task_id, Order.task_part == part)
    )
    refused = await work.session.scalar(
        select(func.count(TaskRefusal.id)).where(
            TaskRefusal.task_id == task_id, TaskRefusal.row_number > first, TaskRefusal.row_number <= first + size
        )
    )
    return Told(ordered or 0, refused or 0) if ordered or refused else None


async def _part(work: Unit, task: Task, part: int, first: int, cards: Sequence[tuple[int, str]]) -> Told:
    given: dict[str, Any] = task.parameters
    package = (await work.session.scalars(select(DataPackage).where(DataPackage.id == given["package"]))).one()
    keys = [key for key, _ in cards]
    held = {
        card.id: card
        for card in await work.session.scalars(
            select(SimCard).where(SimCard.id.in_(keys)).order_by(SimCard.id).with_for_update()
        )
    }
    quoted: pricing.Quote | None = None
    wrong = {key: code for key in keys if (code := _wrong(held.get(key), package)) is not None}
    right = [key for key in keys if key not in wrong]
    if right and not orders.on_sale(package):
        wrong |= dict.fromkeys(right, "PACKAGE_NOT_ON_SALE")
    elif right:
        buyer = await work.owner_of(task)
        quoted = await pricing.quote(work, package, buyer)
        if quoted.price != Decimal(given["price"]):
            wrong |= dict.fromkeys(right, "PRICE_CHANGED")
        else:
            covered = await _covered(work, package, quoted.price, len(right))
            wrong |= dict.fromkeys(right[covered:], "INSUFFICIENT_FUNDS")
    right = [key for key in right if key not in wrong]
    if right:
        order = await orders.order_packages(
            work,
            package.id,
            Selection(ids=right),
            source=given["source"],
            remark=given["remark"],
            batch=(task.id, part),
            quoted=quoted,
        )
        await orders.pay_from_balance(work, order.id)
    for place, (key, number) in enumerate(cards, first + 1):
        if key in wrong:
            refusal = {"row_number": place, "column": COLUMN, "value": number, "code": wrong[key]}
            owner = {"tenant_id": task.tenant_id, "tenant_path": task.tenant_path}
            work.session.add(TaskRefusal(**owner, task_id=task.id, **refusal))
    await work.session.flush()
    return Told(len(right), len(wrong))


def _wrong(card: SimCard | None, package: DataPackage) -> str | None:
    """Why a card cannot be recharged; None where it can."""
    if card is None:
        return "CARD_GONE"
    if card.status is SimStatus.TERMINATED:
        return "CARD_TERMINATED"
    return None if card.carrier is package.carrier else "CARD_OF_OTHER_CARRIER"


async def _covered(work: Unit, package: DataPackage, price: Decimal, cards: int) -> int:
    """For how many cards the buyer's balance and credit suffice; its account is held."""
    if not price:
        return cards
    buyer = (await work.session.scalars(select(Tenant).where(Tenant.id == work.principal.tenant_id))).one()
    account = await ledger.account_of(work, buyer, LedgerAccountKind.PREPAYMENT, package.currency)
    await work.session.refresh(account, with_for_update=True)
    return min(cards, int((account.balance - (account.floor or 0)) / price))
