"""The roles that a tenant makes for its own staff (S1-35 to S1-37, S4-72, S4-73)."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import delete, select

from authz.standing import TENANT_MADE
from models.identity import AccountStatus, DataScope, Department, Role, RoleAssignment
from models.permissions import MenuItem, RoleDepartment, RoleMenu
from services import validation
from services.conflicts import told_apart
from services.granting import covers_lines
from services.identity import tenant_for
from services.permissions import lines
from services.permissions.templates import template_of
from services.refusal import Refusal, not_found
from services.runtime import Work


async def role_to_manage(work: Work, role_id: int, field: str) -> Role:
    """A role of the caller's own tenant, locked, that may do nothing that the caller may not: who could take a greater
    role's permissions away, or give them back, would rule over those who hold it. ROLE_ABOVE otherwise."""
    found = await work.held(Role, role_id, Role.tenant_id == work.principal.tenant_id, field=field)
    if not await covers_lines(work, found):
        raise Refusal("ROLE_ABOVE", field)
    return found


async def create_role(work: Work, *, name: str, template_id: int, position: int = 0, remark: str | None = None) -> Role:
    """A role of the caller's own tenant, with nothing ticked yet (S1-35, S4-72). TAKEN where the name is in use."""
    tenant = await tenant_for(work, None)
    template = await template_of(work, template_id)
    name = validation.text(name, "name", limit=64)
    made = Role(
        tenant_id=tenant.id,
        tenant_path=tenant.path,
        name=name,
        template_id=template.id,
        position=validation.position(position),
        remark=validation.optional(remark, "remark"),
    )
    work.session.add(made)
    async with told_apart(work.session, {"uq_role_tenant_id_name": ("name", name)}):
        await work.session.flush()
    return made


async def update_role(
    work: Work, role_id: int, *, name: str | None = None, position: int | None = None, remark: str | None = None
) -> Role:
    """A role's name, place in lists and remark; what it may do is ticked apart."""
    role = await role_to_manage(work, role_id, "id")
    if name is not None:
        role.name = validation.text(name, "name", limit=64)
    if position is not None:
        role.position = validation.position(position)
    if remark is not None:
        role.remark = validation.optional(remark, "remark")
    async with told_apart(work.session, {"uq_role_tenant_id_name": ("name", role.name)}):
        await work.session.flush()
    return role


async def set_role_status(work: Work, role_id: int, status: AccountStatus) -> Role:
    """Takes a role from everybody who holds it, from their next request on, or gives it back."""
    role = await role_to_manage(work, role_id, "id")
    role.status = status
    work.access_changed = work.policies_changed = True
    return role


async def delete_role(work: Work, role_id: int) -> None:
    """Removes a role that nobody holds. IN_USE otherwise."""
    role = await role_to_manage(work, role_id, "id")
    held = select(RoleAssignment.id).where(RoleAssignment.role == f"{TENANT_MADE}{role.id}").limit(1)
    if await work.session.scalar(held):
        raise Refusal("IN_USE", "id")
    await work.session.delete(role)
    work.access_changed = work.policies_changed = True


async def set_role_permissions(
    work: Work, role_id: int, *, menu_ids: Sequence[int], data_scope: DataScope, department_ids: Sequence[int] = ()
) -> Role:
    """What a role may do from the next request of its holders on: the ticked menus, on the rows of the data scope
    (S1-36, S1-37, S4-72, S4-73).

    NOT_FOUND for a menu of another template or a department of another tenant, PERMISSION_NOT_HELD for a menu that
    needs what the caller does not hold on those rows, REQUIRED for a custom scope without departments.
    """
    role = await role_to_manage(work, role_id, "role")
    menus = list(
        await work.session.scalars(
            select(MenuItem).where(MenuItem.id.in_(menu_ids), MenuItem.template_id == role.template_id)
        )
    )
    if {menu.id for menu in menus} != set(menu_ids):
        raise not_found("menus")
    departments = await _departments(work, role, data_scope, department_ids)
    for table in (RoleMenu, RoleDepartment):
        await work.session.execute(delete(table).where(table.role_id == role.id))
    owner = {"tenant_id": role.tenant_id, "tenant_path": role.tenant_path, "role_id": role.id}
    work.session.add_all(RoleMenu(**owner, menu_id=menu.id) for menu in menus)
    work.session.add_all(RoleDepartment(**owner, department_id=key) for key in departments)
    role.data_scope = data_scope
    await work.session.flush()
    await lines.write(work, role)
    return role


async def _departments(work: Work, role: Role, data_scope: DataScope, ids: Sequence[int]) -> list[int]:
    if data_scope is not DataScope.CUSTOM:
        if ids:
            raise Refusal("INVALID", "departments")
        return []
    if not ids:
        raise Refusal("REQUIRED", "departments")
    found = list(
        await work.session.scalars(
            select(Department.id).where(Department.id.in_(ids), Department.tenant_id == role.tenant_id)
        )
    )
    if set(found) != set(ids):
        raise not_found("departments")
    return found
