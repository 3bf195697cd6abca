"""A process that moves money: the whole application, asked over HTTP as a frontend asks, and the ledger's service.

What became of an operation is written down, and on disk, before the next one begins. A process that takes the place of
a dead one begins with the first operation of which nothing is written: it may have happened, wholly or in part.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import httpx
from pydantic import SecretStr
from sqlalchemy import select
from sqlalchemy.exc import DBAPIError, IntegrityError

from authz.principal import system
from models.ledger import LedgerAccountKind, LedgerTransfer, TransferKind
from models.tenancy import Tenant
from planner.ids import encode_id
from server.app import Application, build
from server.settings import Settings
from services import ledger
from services.refusal import Refusal
from services.runtime import Unit
from tests.support.client import Client
from tests.support.commerce import CONFIRM, ORDER, PAY, RECORD, REFUND
from tests.support.world import ACTORS, PASSWORD
from tests.torture.plan import Kind, Operation, Scene, operation

T = TypeVar("T")
SECRET = "the secret of the torture, long enough"
PATIENCE = 120.0
"""Seconds for which an operation is tried again before the process gives up."""
PAUSE = 0.2
WITHDRAWAL = "mutation($input: %s!) { %s(input: $input) { withdrawal { id status } errors { code } } }"
ASK = WITHDRAWAL % ("RequestWithdrawalInput", "requestWithdrawal")
APPROVE = WITHDRAWAL % ("WithdrawalInput", "approveWithdrawal")
CANCEL = WITHDRAWAL % ("WithdrawalInput", "cancelWithdrawal")
REJECT = WITHDRAWAL % ("RejectWithdrawalInput", "rejectWithdrawal")
PAID = WITHDRAWAL % ("MarkWithdrawalPaidInput", "markWithdrawalPaid")
BANK = {"payee": "An agent", "bank": "A bank", "bankAccount": "6222021234567890"}
DAY = "2026-03-02"
ENDINGS = (
    ((APPROVE, "finance", {}), (PAID, "finance", {"paidOn": DAY, "reference": "a reference"})),
    ((APPROVE, "finance", {}), (REJECT, "finance", {"reason": "a reason"})),
    ((CANCEL, None, {}),),
    ((REJECT, "finance", {"reason": "a reason"}),),
)  # fmt: skip


def settings(scene: Scene, name: str) -> Settings:
    return Settings(
        state_dir=Path(scene.folder) / name,
        database_url=scene.database_url,
        redis_url=scene.redis_url,
        secret_key=SecretStr(SECRET),
        pool_size=1,
    )


def run(scene: Scene, seed: int, worker: int, operations: int) -> None:
    asyncio.run(_run(scene, seed, worker, operations))


async def _run(scene: Scene, seed: int, worker: int, operations: int) -> None:
    application = await while_away(partial(_started, scene, worker))
    moving = Moving(scene, application)
    with journal(scene, worker).open("a+", encoding="utf-8") as kept:
        kept.seek(0)
        for number in range(len(kept.readlines()), operations):
            done = operation(seed, worker, number)
            line = {"key": done.key, "kind": done.kind.name, **await while_away(partial(moving.carry_out, done))}
            kept.write(json.dumps(line) + "\n")
            kept.flush()
            os.fsync(kept.fileno())
    await application.stop()


async def _started(scene: Scene, worker: int) -> Application:
    application = Application(settings(scene, f"worker-{worker}"))
    for name, door in application.doors.items():
        application.doors[name] = replace(door, limits=replace(door.limits, requests_per_minute=10**9))
    await application.start()
    return application


async def while_away(work: Callable[[], Awaitable[T]]) -> T:
    """Tries again for as long as the database is away."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            return await work()
        except (OSError, DBAPIError, asyncpg.PostgresError, httpx.HTTPError, AwayError):
            if time.monotonic() > until:
                raise
            await asyncio.sleep(PAUSE)


def journal(scene: Scene, worker: int) -> Path:
    return Path(scene.folder) / f"worker-{worker}.jsonl"


class Moving:
    """The operations of one process."""

    def __init__(self, scene: Scene, application: Application) -> None:
        self.scene = scene
        self.database = application.runtime.database
        self.client = Client(application, build(application))

    async def carry_out(self, done: Operation) -> dict[str, Any]:
        """What became of an operation: tried again under the same keys, it is done once."""
        work = {
            Kind.TRANSFER: self.transfer,
            Kind.TOP_UP: self.top_up,
            Kind.ORDER: self.order,
            Kind.WITHDRAWAL: self.withdrawal,
        }[done.kind]
        return await work(done)

    async def transfer(self, done: Operation) -> dict[str, Any]:
        principal = system("torture")
        try:
            async with self.database.transaction(principal) as session:
                there = select(LedgerTransfer.id).where(LedgerTransfer.idempotency_key == done.key)
                if await session.scalar(there) is not None:
                    return {"moved": str(done.amount)}
                work = Unit(principal, session)
                keys = [self.scene.tenants[name] for name in (done.source, done.target)]
                owners = {t.id: t for t in await session.scalars(select(Tenant).where(Tenant.id.in_(keys)))}
                source, target = (owners[key] for key in keys)
                kind = LedgerAccountKind.PREPAYMENT
                accounts = await ledger.accounts_of(work, [(source, kind), (target, kind)], "CNY")
                amounts = {accounts[source.id, kind]: -done.amount, accounts[target.id, kind]: done.amount}
                await ledger.transfer(work, source, TransferKind.OPENING, done.key, amounts)
            return {"moved": str(done.amount)}
        except Refusal as refused:
            return {"refused": refused.code}
        except IntegrityError as error:
            if "uq_ledger_transfer_idempotency_key" not in str(error.orig):
                raise
            return {"moved": str(done.amount)}

    async def top_up(self, done: Operation) -> dict[str, Any]:
        input = {"customer": self.tenant(done.source), "amount": str(done.amount), "receivedOn": DAY}
        made = await self.ask("finance", RECORD, input, f"{done.key}:record")
        id = made["topUp"]["id"]
        await self.ask("finance", CONFIRM, {"id": id}, f"{done.key}:confirm")
        return {"id": id}

    async def order(self, done: Operation) -> dict[str, Any]:
        cards = [self.scene.cards[done.source][number] for number in done.cards]
        input = {"package": self.scene.package, "cards": {"ids": cards}}
        made = await self.ask(done.source, ORDER, input, f"{done.key}:order")
        if made["errors"]:
            return {"refused": made["errors"][0]["code"]}
        id = made["order"]["id"]
        paid = await self.ask(done.source, PAY, {"id": id}, f"{done.key}:pay")
        if paid["errors"]:
            return {"id": id, "paid": False}
        if done.ending % 2:
            return {"id": id, "paid": True, "refunded": False}
        back = await self.ask("admin", REFUND, {"id": id, "reason": "a reason"}, f"{done.key}:refund")
        return {"id": id, "paid": True, "refunded": not back["errors"]}

    async def withdrawal(self, done: Operation) -> dict[str, Any]:
        made = await self.ask(done.source, ASK, {"amount": str(done.amount), **BANK}, f"{done.key}:ask")
        if made["errors"]:
            return {"refused": made["errors"][0]["code"]}
        id, status = made["withdrawal"]["id"], ""
        for number, (query, caller, more) in enumerate(ENDINGS[done.ending]):
            told = await self.ask(caller or done.source, query, {"id": id, **more}, f"{done.key}:{number}")
            status = told["withdrawal"]["status"]
        return {"id": id, "amount": str(done.amount), "status": status}

    def tenant(self, name: str) -> str:
        return encode_id("ten", self.scene.tenants[name])

    async def ask(self, caller: str, query: str, input: dict[str, Any], key: str) -> dict[str, Any]:
        """The payload of a mutation. AwayError where there is none, so that nobody knows what became of it."""
        door = ACTORS[caller].door
        try:
            token = await self.client.token(door, caller, PASSWORD)
        except (KeyError, TypeError) as error:
            raise AwayError("no answer to a log-in") from error
        answer = await self.client.post(door, query, {"input": {**input, "idempotencyKey": key}}, token=token)
        found = answer.json()
        if "errors" in found:
            code = found["errors"][0]["extensions"]["code"]
            if code not in ("INTERNAL", "UNAVAILABLE", "TIMEOUT", "CONFLICT"):
                raise RuntimeError(f"{caller} may not: {found}")
            raise AwayError(code)
        payload: dict[str, Any] = next(iter(found["data"].values()))
        return payload


class AwayError(Exception):
    """An answer that says nothing of what became of what was asked."""


def amount_of(line: dict[str, Any]) -> Decimal:
    return Decimal(line.get("moved") or line.get("amount") or 0)
