"""The SIM inventory: finding cards, entering them, handing them down, and their life."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from sqlalchemy import Select, select
from strawberry.file_uploads import Upload

import models.sim as stored
from authz.principal import ROOT_PATH, system
from gateways.carrier import CarrierQuery, carriers
from gateways.http import GatewayError
from models.catalog import Supplier
from planner.mapping import Connection, refer
from planner.registry import loads, mutation, query
from resolvers.context import Context, key_of, optional_key
from schema.sim import (
    AllocateSimCardsInput,
    BindSimEndUserInput,
    BindSimPackageInput,
    CarrierState,
    ChangeSimStatusInput,
    CreateSimCardInput,
    CreateSimCardRangeInput,
    RecallSimCardsInput,
    SimCard,
    SimCardPayload,
    SimCardsPayload,
    SimSelectionInput,
)
from schema.system import TaskPayload
from services.catalog import api_key_binding
from services.files import TooLargeError, pieces_of
from services.messages import render
from services.refusal import Refusal
from services.sim import allocation, inventory, lifecycle
from services.sim.selection import Selection

MAX_IMPORT_BYTES = 200 * 1024**2
SHOWN = 100
Told = TypeVar("Told")


@query(Connection[SimCard])
def sim_cards() -> Select[stored.SimCard]:
    """Cards within reach (S0-09, S0-43)."""
    return select(stored.SimCard)


@query(SimCard, by=("id", "display_iccid", "iccid", "imsi"))
def sim_card() -> Select[stored.SimCard]:
    """One card, by exactly one of its numbers (S0-09); the real ICCID for platform staff only (S0-44)."""
    return select(stored.SimCard)


@loads(SimCard, "carrier_state")
async def carrier_states(ctx: Context, rows: Sequence[Any]) -> list[CarrierState | Exception]:
    """Asks each card's supplier through its interface, many cards in one call where it can."""
    return [
        found if isinstance(found, Exception) else CarrierState(status=found.status, online=found.online)
        for found in await _asked(ctx, rows, carriers.states)
    ]


@loads(SimCard, "real_name_registered")
async def real_names_registered(ctx: Context, rows: Sequence[Any]) -> list[bool | Exception]:
    """Asks each card's supplier, as for its state."""
    found: list[bool | GatewayError] = await _asked(ctx, rows, carriers.real_names)
    return [*found]


async def _asked(
    ctx: Context, rows: Sequence[Any], ask: Callable[[CarrierQuery], Awaitable[list[Told | GatewayError]]]
) -> list[Told | GatewayError]:
    """What the suppliers of cards say about them, in order."""
    wanted = {row.supplier_id for row in rows}
    async with ctx.runtime.database.transaction(system("carrier state")) as session:
        suppliers = {s.id: s for s in await session.scalars(select(Supplier).where(Supplier.id.in_(wanted)))}
    answers: dict[int, Told | GatewayError] = {}
    for supplier in suppliers.values():
        mine = [row for row in rows if row.supplier_id == supplier.id]
        key = None
        if supplier.api_key_encrypted is not None:
            key = ctx.runtime.keys.decrypt(supplier.api_key_encrypted, api_key_binding(supplier.id))
        found = await ask(CarrierQuery(supplier.interface_name, key, [row.iccid for row in mine]))
        answers |= {row.id: _for_caller(ctx, answer) for row, answer in zip(mine, found, strict=True)}
    return [answers[row.id] for row in rows]


def _for_caller(ctx: Context, answer: Told | GatewayError) -> Told | GatewayError:
    """Whom the platform buys from, and what they say, is told to its own staff."""
    if not isinstance(answer, GatewayError) or ctx.principal.path == ROOT_PATH:
        return answer
    return GatewayError(answer.code, render(answer.code, ctx.principal.language, {}))


def _entry(input: CreateSimCardInput | CreateSimCardRangeInput) -> inventory.Entry:
    return inventory.Entry(
        sim_type=input.sim_type,
        supplier_id=key_of(input.supplier, "sup", "supplier"),
        package_id=optional_key(input.package, "pkg", "package"),
        apn=input.apn,
    )


def selection_of(input: SimSelectionInput) -> Selection:
    return Selection(
        ids=None if input.ids is None else [key_of(id, "sim", "cards.ids") for id in input.ids],
        display_iccids=input.display_iccids,
        first_display_iccid=input.first_display_iccid,
        last_display_iccid=input.last_display_iccid,
    )


def _changed(keys: Sequence[int]) -> SimCardsPayload:
    return SimCardsPayload(count=len(keys), sim_cards=[refer(key) for key in keys[:SHOWN]], errors=[])


@mutation
async def create_sim_card(ctx: Context, input: CreateSimCardInput) -> SimCardPayload:
    """Enters one card (S0-02, S0-04, S0-06)."""
    made = await inventory.create_card(
        ctx.now, _entry(input), iccid=input.iccid, imsi=input.imsi, msisdn=input.msisdn, remark=input.remark
    )
    return SimCardPayload(sim_card=refer(made.id), errors=[])


@mutation
async def create_sim_card_range(ctx: Context, input: CreateSimCardRangeInput) -> TaskPayload:
    """Enters the cards of an ICCID range as a task with progress (S0-03)."""
    task = await inventory.start_range(
        ctx.now,
        _entry(input),
        first=input.first_iccid,
        last=input.last_iccid,
        with_check_digit=input.with_check_digit,
    )
    return TaskPayload(task=refer(task.id), errors=[])


@mutation
async def import_sim_cards(ctx: Context, file: Upload) -> TaskPayload:
    """Imports a spreadsheet of cards (xlsx or CSV) as a task with progress and per-row results (S0-05).

    Headings: ICCID, IMSI, 物联号码, 运营商, 供应商, 卡类型, APN, 套餐编码, 备注.
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
    task = await inventory.start_import(
        ctx.now, kept, upload.filename or "upload", upload.content_type or "application/octet-stream"
    )
    return TaskPayload(task=refer(task.id), errors=[])


@mutation(idempotent=True)
async def allocate_sim_cards(ctx: Context, input: AllocateSimCardsInput) -> SimCardsPayload:
    """Hands cards down to a customer directly below (S0-14, S0-30, S0-45)."""
    to = key_of(input.to, "ten", "to")
    return _changed(await allocation.allocate(ctx.now, to, selection_of(input.cards), input.holding))


@mutation(idempotent=True)
async def recall_sim_cards(ctx: Context, input: RecallSimCardsInput) -> SimCardsPayload:
    """Takes back cards that have not been activated (S0-30)."""
    return _changed(await allocation.recall(ctx.now, selection_of(input.cards)))


@mutation(idempotent=True)
async def activate_sim_cards(ctx: Context, input: ChangeSimStatusInput) -> SimCardsPayload:
    """Puts cards into service."""
    return await _step(ctx, input, "ACTIVATE")


@mutation(idempotent=True)
async def suspend_sim_cards(ctx: Context, input: ChangeSimStatusInput) -> SimCardsPayload:
    """Takes cards out of service for a while (停机)."""
    return await _step(ctx, input, "SUSPEND")


@mutation(idempotent=True)
async def resume_sim_cards(ctx: Context, input: ChangeSimStatusInput) -> SimCardsPayload:
    """Puts suspended cards back into service (复机)."""
    return await _step(ctx, input, "RESUME")


@mutation(idempotent=True)
async def terminate_sim_cards(ctx: Context, input: ChangeSimStatusInput) -> SimCardsPayload:
    """Ends cards for good (销卡)."""
    return await _step(ctx, input, "TERMINATE")


async def _step(ctx: Context, input: ChangeSimStatusInput, action: str) -> SimCardsPayload:
    return _changed(await lifecycle.change_status(ctx.now, selection_of(input.cards), action, input.reason))


@mutation
async def bind_sim_package(ctx: Context, input: BindSimPackageInput) -> SimCardsPayload:
    """Binds cards to a data package, or unbinds them; the history stays (S0-06, S0-57)."""
    package = optional_key(input.package, "pkg", "package")
    return _changed(await allocation.bind_package(ctx.now, selection_of(input.cards), package))


@mutation
async def bind_sim_end_user(ctx: Context, input: BindSimEndUserInput) -> SimCardPayload:
    """Gives a card to the person who uses it, or takes it away; the history stays (S0-40, S0-57)."""
    card = key_of(input.card, "sim", "card")
    end_user = optional_key(input.end_user, "eus", "endUser")
    return SimCardPayload(sim_card=refer(await allocation.bind_end_user(ctx.now, card, end_user)), errors=[])
