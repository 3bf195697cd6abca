"""How a tenant's staff is organised: departments, positions, and what is changed about an account by others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import delete, func, select, update

from authz.session import reached_rows
from authz.standing import TENANT_MADE
from models.base import table_of
from models.identity import AccountStatus, DataScope, Department, Role, RoleAssignment, StaffAccount
from models.permissions import Position, StaffPosition
from services import granting, validation
from services.conflicts import told_apart
from services.identity import account_to_manage, end_sessions, hash_password, tenant_for
from services.refusal import Refusal, not_found
from services.runtime import Work

MAX_DEPTH = 12
DEPARTMENTS, STAFF = table_of(Department), table_of(StaffAccount)
"""The tables themselves, for what holds whether the caller sees the rows or not."""


@dataclass(frozen=True)
class DepartmentContent:
    """What a department is called and who leads it."""

    name: str
    parent_id: int | None
    position: int
    leader: str | None
    phone: str | None
    email: str | None


# -- departments --------------------------------------------------------------------------------------------------


async def create_department(work: Work, content: DepartmentContent) -> Department:
    """A department of the caller's own tenant (S1-22). TAKEN where a sibling has the name; REQUIRED (parent) of who
    reaches some departments only."""
    tenant = await tenant_for(work, None)
    made = Department(tenant_id=tenant.id, tenant_path=tenant.path)
    if content.parent_id is not None:
        await _above(work, (await _department(work, content.parent_id, "parent")).id)
    elif reached_rows(work.session, Department) is not None:
        raise Refusal("REQUIRED", "parent")
    made.parent_id = content.parent_id
    await _write(work, made, content)
    return made


async def update_department(work: Work, department_id: int, content: DepartmentContent) -> Department:
    """A department as it is from now on; another parent moves it with all below it (S1-22). INVALID below itself,
    DEPARTMENT_ABOVE where who reaches all below the new parent may do more than the caller."""
    department = await _department(work, department_id)
    await _move(work, department, content.parent_id)
    await _write(work, department, content)
    work.access_changed = True
    return department


async def set_department_status(work: Work, department_id: int, status: AccountStatus) -> Department:
    """Stops a department: its members are out from their next request on; or takes it up again (S1-22). INVALID for
    one's own, ACCOUNT_ABOVE where a member may do more than the caller."""
    department = await _department(work, department_id)
    members = list(await work.session.scalars(select(STAFF.c.id).where(STAFF.c.department_id == department.id)))
    if work.principal.account_id in members:
        raise Refusal("INVALID", "id")
    if not await granting.covers_all(work, members, department.tenant_path):
        raise Refusal("ACCOUNT_ABOVE", "id")
    department.status = status
    work.access_changed = True
    return department


async def delete_department(work: Work, department_id: int) -> None:
    """Removes a department that has neither members nor departments below. IN_USE otherwise."""
    department = await _department(work, department_id)
    member = select(STAFF.c.id).where(STAFF.c.department_id == department.id).limit(1)
    below = select(DEPARTMENTS.c.id).where(DEPARTMENTS.c.parent_id == department.id).limit(1)
    if await work.session.scalar(member) or await work.session.scalar(below):
        raise Refusal("IN_USE", "id")
    await work.session.delete(department)
    work.access_changed = True


async def _department(work: Work, department_id: int, field: str = "id") -> Department:
    return await work.held(Department, department_id, Department.tenant_id == work.principal.tenant_id, field=field)


async def _write(work: Work, department: Department, content: DepartmentContent) -> None:
    name = validation.text(content.name, "name")
    department.name, department.position = name, validation.position(content.position)
    department.leader = validation.optional(content.leader, "leader")
    department.phone = validation.phone(content.phone, "phone")
    department.email = validation.email(content.email, "email")
    work.session.add(department)
    async with told_apart(work.session, {"uq_department_tenant_id_parent_id_name": ("name", name)}):
        await work.session.flush()


async def _move(work: Work, department: Department, parent_id: int | None) -> None:
    """Puts a department below another parent, or leaves it: where the caller does not see the present parent, none
    means that one. Both places must be within reach."""
    present = department.parent_id
    if parent_id == present:
        return
    everywhere = reached_rows(work.session, Department) is None
    if present is not None and not everywhere and not await _sees(work, present):
        if parent_id is None:
            return
        raise not_found("parent")
    if not everywhere and (present is None or parent_id is None):
        raise not_found("parent")
    above: list[int] = []
    if parent_id is not None:
        above = await _above(work, (await _department(work, parent_id, "parent")).id)
        if department.id in above:
            raise Refusal("INVALID", "parent")
    before = [] if present is None else await _above(work, present)
    await _check_who_reaches_below(work, set(above) - set(before))
    department.parent_id = parent_id


async def _sees(work: Work, department_id: int) -> bool:
    return await work.session.scalar(select(Department.id).where(Department.id == department_id)) is not None


async def _above(work: Work, department_id: int) -> list[int]:
    """A department and all above it; each is locked, so that two moves at once cannot make a circle."""
    found: list[int] = []
    above: int | None = department_id
    while above is not None:
        if len(found) == MAX_DEPTH - 1:
            raise Refusal("TOO_DEEP", "parent", limit=MAX_DEPTH)
        found.append(above)
        above = await work.session.scalar(
            select(DEPARTMENTS.c.parent_id).where(DEPARTMENTS.c.id == above).with_for_update()
        )
    return found


async def _check_who_reaches_below(work: Work, departments: Iterable[int]) -> None:
    """Whoever reaches all below these departments will reach what moves there: that is the caller's to give only if it
    may do all that they may. DEPARTMENT_ABOVE otherwise."""
    held = (
        select(RoleAssignment.role)
        .join(STAFF, STAFF.c.id == RoleAssignment.account_id)
        .where(STAFF.c.department_id.in_(sorted(departments)))
    )
    roles = await work.session.scalars(
        select(Role)
        .where(
            Role.data_scope == DataScope.DEPARTMENT_AND_BELOW,
            func.concat(TENANT_MADE, Role.id).in_(held),
        )
        .order_by(Role.id)
        .with_for_update(read=True)
    )
    for role in roles:
        if not await granting.covers_lines(work, role):
            raise Refusal("DEPARTMENT_ABOVE", "parent")


# -- positions ----------------------------------------------------------------------------------------------------


async def create_position(work: Work, *, code: str, name: str, position: int = 0) -> Position:
    """A job title of the caller's own tenant (S1-31). TAKEN where the code is in use."""
    tenant = await tenant_for(work, None)
    code = validation.text(code, "code", limit=64)
    made = Position(
        tenant_id=tenant.id,
        tenant_path=tenant.path,
        code=code,
        name=validation.text(name, "name"),
        position=validation.position(position),
    )
    work.session.add(made)
    async with told_apart(work.session, {"uq_job_position_tenant_id_code": ("code", code)}):
        await work.session.flush()
    return made


async def update_position(
    work: Work, position_id: int, *, name: str | None = None, position: int | None = None
) -> Position:
    """A position's name and place in lists."""
    found = await _position(work, position_id)
    if name is not None:
        found.name = validation.text(name, "name")
    if position is not None:
        found.position = validation.position(position)
    return found


async def set_position_status(work: Work, position_id: int, status: AccountStatus) -> Position:
    """Takes a position out of use, or back into it; who holds it keeps it."""
    found = await _position(work, position_id)
    found.status = status
    return found


async def delete_position(work: Work, position_id: int) -> None:
    """Removes a position that nobody holds. IN_USE otherwise."""
    found = await _position(work, position_id)
    if await work.session.scalar(select(StaffPosition.id).where(StaffPosition.position_id == found.id).limit(1)):
        raise Refusal("IN_USE", "id")
    await work.session.delete(found)


async def _position(work: Work, position_id: int) -> Position:
    return await work.held(Position, position_id, Position.tenant_id == work.principal.tenant_id)


async def set_positions(work: Work, account_id: int, position_ids: Sequence[int]) -> StaffAccount:
    """The positions that an account holds from now on (S1-33). NOT_FOUND for one of another tenant,
    NOT_ACTIVE for one out of use that it does not hold already."""
    account = await account_to_manage(work, account_id)
    held = set(
        await work.session.scalars(select(StaffPosition.position_id).where(StaffPosition.account_id == account.id))
    )
    wanted = set(position_ids)
    found = list(
        await work.session.scalars(
            select(Position).where(Position.id.in_(wanted), Position.tenant_id == account.tenant_id)
        )
    )
    if {position.id for position in found} != wanted:
        raise not_found("positions")
    for position in found:
        if position.status is not AccountStatus.ACTIVE and position.id not in held:
            raise Refusal("NOT_ACTIVE", "positions", value=position.code)
    await work.session.execute(
        delete(StaffPosition).where(StaffPosition.account_id == account.id, StaffPosition.position_id.not_in(wanted))
    )
    work.session.add_all(
        StaffPosition(
            tenant_id=account.tenant_id, tenant_path=account.tenant_path, account_id=account.id, position_id=key
        )
        for key in sorted(wanted - held)
    )
    await work.session.flush()
    return account


# -- accounts, by others ------------------------------------------------------------------------------------------


async def update_account(
    work: Work,
    account_id: int,
    *,
    name: str | None = None,
    email: str | None = None,
    phone: str | None = None,
    department_id: int | None = None,
) -> StaffAccount:
    """An account's name, addresses and department (S1-32). NOT_FOUND for a department of another tenant,
    DEPARTMENT_ABOVE where the caller would reach more by moving itself."""
    account = await account_to_manage(work, account_id)
    if name is not None:
        account.name = validation.text(name, "name")
    if email is not None:
        account.email = validation.email(email, "email")
    if phone is not None:
        account.phone = validation.phone(phone, "phone")
    if department_id is not None:
        found = await work.session.scalar(
            select(Department.id).where(Department.id == department_id, Department.tenant_id == account.tenant_id)
        )
        if found is None:
            raise not_found("department")
        await _transfer(work, account, department_id)
        work.access_changed = True
    return account


async def _transfer(work: Work, account: StaffAccount, department_id: int) -> None:
    """Another department is other rows for a role that reaches its holder's own: nobody gives those to oneself."""
    own = account.id == work.principal.account_id
    moves = account.department_id != department_id
    if own and moves and not await granting.covers_all(work, [account.id], account.tenant_path):
        raise Refusal("DEPARTMENT_ABOVE", "department")
    account.department_id = department_id


async def reset_password(work: Work, account_id: int, password: str) -> StaffAccount:
    """A new password for somebody else's account; it is logged out everywhere (S1-32)."""
    account = await account_to_manage(work, account_id)
    if account.id == work.principal.account_id:
        raise Refusal("INVALID", "account")
    account.password_hash = await hash_password(validation.password(password, "password"))
    account.password_changed_at = datetime.now(UTC)
    account.failed_logins, account.locked_until = 0, None
    await end_sessions(work, account)
    return account


async def unlock(work: Work, account_id: int) -> StaffAccount:
    """Lets an account in again that too many wrong passwords keep out (S1-32)."""
    account = await account_to_manage(work, account_id)
    await work.session.execute(
        update(StaffAccount).where(StaffAccount.id == account.id).values(failed_logins=0, locked_until=None)
    )
    await work.session.refresh(account)
    return account
