"""Departments, positions and staff as those who organise them see them."""

from __future__ import annotations

import strawberry

import models.permissions as stored
from models.identity import AccountStatus
from planner.mapping import Connection, Node, column, entity, input_type, to_many, to_one, value
from schema.common import UserError
from schema.identity import Department, StaffAccount


@entity(stored.Position, prefix="pos", filters=("code", "name", "status"), sorts=("position", "code"))
class Position(Node):
    """A job title of a tenant's staff (S1-31)."""

    code: str
    name: str
    position: int = column("Its place in lists.")
    status: AccountStatus
    holders: Connection[StaffPosition] = to_many("Who holds it.", by=stored.StaffPosition.position_id)


@entity(stored.StaffPosition, prefix="spo")
class StaffPosition(Node):
    """A position that a member of staff holds (S1-33)."""

    account: StaffAccount | None = to_one("Who holds it.")
    position: Position | None = to_one("What is held.")


@input_type
class DepartmentInput:
    """What a department is called, where it stands and who leads it (S1-22)."""

    name: str
    parent: strawberry.ID | None = None
    position: int = 0
    leader: str | None = None
    phone: str | None = None
    email: str | None = None


@value
class DepartmentPayload:
    """The department as it now is, or why nothing was changed."""

    department: Department | None
    errors: list[UserError]


@input_type
class CreatePositionInput:
    """A job title: its code, unique in the tenant, its name and its place in lists (S1-31)."""

    code: str
    name: str
    position: int = 0


@input_type
class UpdatePositionInput:
    """A position's name and place in lists; what is left out stays."""

    id: strawberry.ID
    name: str | None = None
    position: int | None = None


@value
class PositionPayload:
    """The position as it now is, or why nothing was changed."""

    position: Position | None
    errors: list[UserError]


@input_type
class UpdateStaffAccountInput:
    """An account's name, addresses and department; what is left out stays (S1-32)."""

    id: strawberry.ID
    name: str | None = None
    email: str | None = None
    phone: str | None = None
    department: strawberry.ID | None = None


@input_type
class ResetStaffPasswordInput:
    """A new password for somebody else's account (S1-32)."""

    account: strawberry.ID
    password: str
