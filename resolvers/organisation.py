"""Departments, positions and staff: how those who organise them change them."""

from __future__ import annotations

import strawberry
from sqlalchemy import Select, select

import models.permissions as stored
from models.identity import AccountStatus
from planner.mapping import Connection, refer
from planner.registry import mutation, query
from resolvers.context import Context, key_of, optional_key
from schema.identity import Department, DonePayload, StaffAccount, StaffAccountPayload
from schema.organisation import (
    CreatePositionInput,
    DepartmentInput,
    DepartmentPayload,
    Position,
    PositionPayload,
    ResetStaffPasswordInput,
    UpdatePositionInput,
    UpdateStaffAccountInput,
)
from services import organisation
from services.organisation import DepartmentContent


@query(Connection[Position])
def positions() -> Select[stored.Position]:
    """Job titles within reach (S1-31)."""
    return select(stored.Position)


def _content(input: DepartmentInput) -> DepartmentContent:
    return DepartmentContent(
        name=input.name,
        parent_id=optional_key(input.parent, "dep", "parent"),
        position=input.position,
        leader=input.leader,
        phone=input.phone,
        email=input.email,
    )


@mutation(on=Department)
async def create_department(ctx: Context, input: DepartmentInput) -> DepartmentPayload:
    """A department of the caller's tenant (S1-22)."""
    made = await organisation.create_department(ctx.now, _content(input))
    return DepartmentPayload(department=refer(made.id), errors=[])


@mutation(on=Department)
async def update_department(ctx: Context, id: strawberry.ID, input: DepartmentInput) -> DepartmentPayload:
    """A department as it is from now on; another parent moves it with all below it (S1-22)."""
    changed = await organisation.update_department(ctx.now, key_of(id, "dep", "id"), _content(input))
    return DepartmentPayload(department=refer(changed.id), errors=[])


@mutation(on=Department)
async def set_department_status(ctx: Context, id: strawberry.ID, status: AccountStatus) -> DepartmentPayload:
    """Stops a department, whose members are out from their next request on, or takes it up again (S1-22)."""
    changed = await organisation.set_department_status(ctx.now, key_of(id, "dep", "id"), status)
    return DepartmentPayload(department=refer(changed.id), errors=[])


@mutation(on=Department)
async def delete_department(ctx: Context, id: strawberry.ID) -> DonePayload:
    """Removes a department without members and departments below (S1-22)."""
    await organisation.delete_department(ctx.now, key_of(id, "dep", "id"))
    return DonePayload(done=True, errors=[])


@mutation
async def create_position(ctx: Context, input: CreatePositionInput) -> PositionPayload:
    """A job title of the caller's tenant (S1-31)."""
    made = await organisation.create_position(ctx.now, code=input.code, name=input.name, position=input.position)
    return PositionPayload(position=refer(made.id), errors=[])


@mutation
async def update_position(ctx: Context, input: UpdatePositionInput) -> PositionPayload:
    """A position's name and place in lists (S1-31)."""
    changed = await organisation.update_position(
        ctx.now, key_of(input.id, "pos", "id"), name=input.name, position=input.position
    )
    return PositionPayload(position=refer(changed.id), errors=[])


@mutation
async def set_position_status(ctx: Context, id: strawberry.ID, status: AccountStatus) -> PositionPayload:
    """Takes a position out of use, or back into it (S1-31)."""
    changed = await organisation.set_position_status(ctx.now, key_of(id, "pos", "id"), status)
    return PositionPayload(position=refer(changed.id), errors=[])


@mutation
async def delete_position(ctx: Context, id: strawberry.ID) -> DonePayload:
    """Removes a position that nobody holds (S1-31)."""
    await organisation.delete_position(ctx.now, key_of(id, "pos", "id"))
    return DonePayload(done=True, errors=[])


@mutation(on=StaffAccount)
async def set_staff_positions(
    ctx: Context, account: strawberry.ID, positions: list[strawberry.ID]
) -> StaffAccountPayload:
    """The positions that an account holds from now on (S1-33)."""
    keys = [key_of(each, "pos", "positions") for each in positions]
    changed = await organisation.set_positions(ctx.now, key_of(account, "acc", "account"), keys)
    return StaffAccountPayload(account=refer(changed.id), errors=[])


@mutation(on=StaffAccount)
async def update_staff_account(ctx: Context, input: UpdateStaffAccountInput) -> StaffAccountPayload:
    """An account's name, addresses and department (S1-32)."""
    changed = await organisation.update_account(
        ctx.now,
        key_of(input.id, "acc", "id"),
        name=input.name,
        email=input.email,
        phone=input.phone,
        department_id=optional_key(input.department, "dep", "department"),
    )
    return StaffAccountPayload(account=refer(changed.id), errors=[])


@mutation(on=StaffAccount)
async def reset_staff_password(ctx: Context, input: ResetStaffPasswordInput) -> StaffAccountPayload:
    """A new password for somebody else's account, which is logged out everywhere (S1-32)."""
    changed = await organisation.reset_password(ctx.now, key_of(input.account, "acc", "account"), input.password)
    return StaffAccountPayload(account=refer(changed.id), errors=[])


@mutation(on=StaffAccount)
async def unlock_staff_account(ctx: Context, account: strawberry.ID) -> StaffAccountPayload:
    """Lets an account in again that too many wrong passwords keep out (S1-32)."""
    changed = await organisation.unlock(ctx.now, key_of(account, "acc", "account"))
    return StaffAccountPayload(account=refer(changed.id), errors=[])
