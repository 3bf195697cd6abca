"""The permission platform: templates, menus, roles that tenants make of them, and the modules of a tenant.

What a role may do is the sum of the menus and buttons that are ticked for it. Each needs some coordinates of the
graph; ticking writes them as lines of policy in the tenant's own domain, on the rows that the data scope names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from authz.coordinates import ANY, Coordinate
from authz.principal import ROOT_PATH, Principal
from authz.scopes import RELATIVE, Reach, Scope, named_by, within
from authz.standing import TENANT_MADE
from models.base import Published
from models.identity import (
    AccountStatus,
    DataScope,
    Department,
    LoginRecord,
    LoginSession,
    Role,
    RoleAssignment,
    RolePolicy,
    StaffAccount,
)
from models.permissions import (
    MenuItem,
    MenuKind,
    MenuPermission,
    PermissionTemplate,
    RoleDepartment,
    RoleMenu,
    TenantModule,
)
from models.system import OperationRecord
from models.tenancy import Tenant
from services import validation
from services.conflicts import told_apart
from services.identity import implied, tenant_for
from services.refusal import Refusal, not_found
from services.runtime import Runtime, Work

_KEY = re.compile(r"[a-z][a-z0-9]*([.:_-][a-z0-9]+)*")
_COORDINATE = re.compile(r"[A-Za-z]\w*\.(\*|[A-Za-z]\w*\*?)", re.ASCII)
MAX_MENU_DEPTH = 5
OF_STAFF = (Department, StaffAccount, RoleAssignment, LoginSession, LoginRecord, OperationRecord)
"""What belongs to a department: on these rows a role's data scope is felt."""
_ROWS = {
    DataScope.ALL: Scope.SUBTREE,
    DataScope.CUSTOM: Scope.DEPARTMENTS,
    DataScope.DEPARTMENT: Scope.DEPARTMENT,
    DataScope.DEPARTMENT_AND_BELOW: Scope.DEPARTMENT_TREE,
    DataScope.SELF: Scope.SELF,
}


@dataclass(frozen=True)
class MenuContent:
    """What a menu item says; ``coordinates`` are the fields and mutations that it needs."""

    kind: MenuKind
    key: str
    name: str
    parent_id: int | None
    position: int
    path: str | None
    component: str | None
    icon: str | None
    module: str | None
    visible: bool
    coordinates: Sequence[str]


def _key(value: str, field: str) -> str:
    found = validation.text(value, field, limit=100)
    if not _KEY.fullmatch(found):
        raise Refusal("INVALID", field, value=found)
    return found


def _position(value: int, field: str = "position") -> int:
    if not 0 <= value <= 32_767:
        raise Refusal("INVALID", field)
    return value


# -- templates and their menus ------------------------------------------------------------------------------------


async def create_template(work: Work, *, key: str, name: str) -> PermissionTemplate:
    """A template for one more kind of back office (S4-71, S4-77). TAKEN where the key is in use."""
    tenant = await tenant_for(work, None)
    key = _key(key, "key")
    made = PermissionTemplate(tenant_id=tenant.id, tenant_path=tenant.path, key=key, name=validation.text(name, "name"))
    work.session.add(made)
    async with told_apart(work.session, {"uq_permission_template_key": ("key", key)}):
        await work.session.flush()
    return made


async def _template(work: Work, template_id: int) -> PermissionTemplate:
    found = await work.session.scalar(select(PermissionTemplate).where(PermissionTemplate.id == template_id))
    if found is None:
        raise not_found("template")
    return found


async def _menu(work: Work, menu_id: int, field: str = "id") -> MenuItem:
    found = await work.session.scalar(select(MenuItem).where(MenuItem.id == menu_id).with_for_update())
    if found is None:
        raise not_found(field)
    return found


async def create_menu_item(work: Work, template_id: int, content: MenuContent) -> MenuItem:
    """A directory, page or button of a template (S1-29). TAKEN, NOT_FOUND (parent), UNKNOWN_COORDINATE."""
    template = await _template(work, template_id)
    made = MenuItem(tenant_id=template.tenant_id, tenant_path=template.tenant_path, template_id=template.id)
    await _write(work, made, content)
    return made


async def update_menu_item(work: Work, menu_id: int, content: MenuContent) -> MenuItem:
    """A menu item as it is from now on; roles that have it ticked follow at once."""
    menu = await _menu(work, menu_id)
    await _write(work, menu, content)
    await _prune(work, await _roles_with(work.session, menu.id))
    return menu


async def set_menu_status(work: Work, menu_id: int, status: AccountStatus) -> MenuItem:
    """Takes a menu item out of use, with what it grants, or back into it."""
    menu = await _menu(work, menu_id)
    menu.status = status
    await work.session.flush()
    await _prune(work, await _roles_with(work.session, menu.id))
    return menu


async def delete_menu_item(work: Work, menu_id: int) -> None:
    """Removes a menu item that has none below it; roles lose what it granted. HAS_CHILDREN."""
    menu = await _menu(work, menu_id)
    if await work.session.scalar(select(MenuItem.id).where(MenuItem.parent_id == menu.id).limit(1)):
        raise Refusal("HAS_CHILDREN", "id")
    roles = await _roles_with(work.session, menu.id)
    await work.session.delete(menu)
    await work.session.flush()
    await _prune(work, roles)


async def _write(work: Work, menu: MenuItem, content: MenuContent) -> None:
    key = _key(content.key, "key")
    wanted = sorted(set(content.coordinates))
    for coordinate in wanted:
        if not _COORDINATE.fullmatch(coordinate) or not any(work.runtime.access.catalog.expand(coordinate, ANY)):
            raise Refusal("UNKNOWN_COORDINATE", "coordinates", value=coordinate[:100])
    if content.kind is MenuKind.BUTTON and content.parent_id is None:
        raise Refusal("REQUIRED", "parent")
    if content.parent_id is not None:
        await _check_parent(work, menu, content.parent_id)
    menu.kind, menu.key, menu.parent_id = content.kind, key, content.parent_id
    menu.name, menu.position = validation.text(content.name, "name"), _position(content.position)
    menu.path = validation.optional(content.path, "path")
    menu.component = validation.optional(content.component, "component")
    menu.icon = validation.optional(content.icon, "icon")
    menu.module = None if content.module is None else _key(content.module, "module")
    menu.visible = content.visible
    work.session.add(menu)
    async with told_apart(work.session, {"uq_menu_item_template_id_key": ("key", key)}):
        await work.session.flush()
    await work.session.execute(delete(MenuPermission).where(MenuPermission.menu_id == menu.id))
    work.session.add_all(
        MenuPermission(tenant_id=menu.tenant_id, tenant_path=menu.tenant_path, menu_id=menu.id, coordinate=coordinate)
        for coordinate in wanted
    )
    await work.session.flush()
    work.access_changed = work.policies_changed = True


async def _check_parent(work: Work, menu: MenuItem, parent_id: int) -> None:
    """The parent is a directory or page of the same template, and not below the item itself."""
    above: int | None = parent_id
    for _ in range(MAX_MENU_DEPTH):
        if above is None:
            return
        parent = await work.session.scalar(select(MenuItem).where(MenuItem.id == above))
        if parent is None or parent.template_id != menu.template_id or parent.kind is MenuKind.BUTTON:
            raise not_found("parent")
        if menu.id is not None and parent.id == menu.id:
            raise Refusal("INVALID", "parent")
        above = parent.parent_id
    raise Refusal("TOO_DEEP", "parent", limit=MAX_MENU_DEPTH)


async def install_template(session: AsyncSession, platform: Tenant, key: str, shipped: Mapping[str, Any]) -> None:
    """The template that ships with a front end, with its menus in the order of the file; once a platform."""
    owner = {"tenant_id": platform.id, "tenant_path": platform.path}
    template = PermissionTemplate(**owner, key=key, name=shipped["name"])
    session.add(template)
    await session.flush()
    made: dict[str, MenuItem] = {}
    for number, item in enumerate(shipped["menus"], start=1):
        parent = made[item["parent"]].id if "parent" in item else None
        menu = MenuItem(
            **owner,
            template_id=template.id,
            parent_id=parent,
            kind=MenuKind[item["kind"]],
            key=item["key"],
            name=item["name"],
            position=number,
            path=item.get("path"),
            component=item.get("component"),
            icon=item.get("icon"),
            module=item.get("module"),
        )
        session.add(menu)
        await session.flush()
        made[menu.key] = menu
        session.add_all(MenuPermission(**owner, menu_id=menu.id, coordinate=needed) for needed in item.get("needs", ()))


# -- roles --------------------------------------------------------------------------------------------------------


async def _role(work: Work, role_id: int) -> Role:
    found = await work.session.scalar(select(Role).where(Role.id == role_id).with_for_update())
    if found is None or found.tenant_id != work.principal.tenant_id:
        raise not_found("role")
    return found


async def create_role(work: Work, *, name: str, template_id: int, position: int = 0, remark: str | None = None) -> Role:
    """A role of the caller's own tenant, with nothing ticked yet (S1-35, S4-72). TAKEN where the name is in use."""
    tenant = await tenant_for(work, None)
    template = await _template(work, template_id)
    name = validation.text(name, "name", limit=64)
    made = Role(
        tenant_id=tenant.id,
        tenant_path=tenant.path,
        name=name,
        template_id=template.id,
        position=_position(position),
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
    role = await _role(work, role_id)
    if name is not None:
        role.name = validation.text(name, "name", limit=64)
    if position is not None:
        role.position = _position(position)
    if remark is not None:
        role.remark = validation.optional(remark, "remark")
    async with told_apart(work.session, {"uq_role_tenant_id_name": ("name", role.name)}):
        await work.session.flush()
    return role


async def set_role_status(work: Work, role_id: int, status: AccountStatus) -> Role:
    """Takes a role from everybody who holds it, from their next request on, or gives it back."""
    role = await _role(work, role_id)
    if status is AccountStatus.ACTIVE:
        await _held(work, role)
    role.status = status
    work.access_changed = work.policies_changed = True
    return role


async def delete_role(work: Work, role_id: int) -> None:
    """Removes a role that nobody holds. IN_USE otherwise."""
    role = await _role(work, role_id)
    held = select(RoleAssignment.id).where(RoleAssignment.role == f"{TENANT_MADE}{role.id}").limit(1)
    if await work.session.scalar(held):
        raise Refusal("IN_USE", "role")
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
    role = await _role(work, role_id)
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
    await _write_lines(work, role, await _held(work, role))
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


async def _held(work: Work, role: Role) -> list[Coordinate]:
    """What the ticked menus need. Nobody can put into a role what they do not hold, on the rows of its data scope:
    PERMISSION_NOT_HELD names the menu. Of what a wildcard names, that which the caller holds."""
    found: dict[str, Coordinate] = {}
    for menu, patterns in (await _ticked(work.session, role)).items():
        for pattern in patterns:
            named = list(work.runtime.access.catalog.expand(pattern, ANY))
            held = [c for c in named if _may_give(work.principal, c, _rows(work.runtime, c, role))]
            if not held or (len(held) < len(named) and not pattern.endswith("*")):
                raise Refusal("PERMISSION_NOT_HELD", "menus", value=menu)
            found |= {coordinate.name: coordinate for coordinate in held}
    return list(found.values())


async def _ticked(session: AsyncSession, role: Role) -> dict[str, list[str]]:
    """The coordinates that a role's menus need, by the key of the menu; what is out of use needs none."""
    rows = await session.execute(
        select(MenuItem.key, MenuPermission.coordinate)
        .join(RoleMenu, RoleMenu.menu_id == MenuItem.id)
        .join(MenuPermission, MenuPermission.menu_id == MenuItem.id)
        .where(RoleMenu.role_id == role.id, MenuItem.status == AccountStatus.ACTIVE)
    )
    found: dict[str, list[str]] = {}
    for key, coordinate in rows:
        found.setdefault(key, []).append(coordinate)
    return found


def _rows(runtime: Runtime, coordinate: Coordinate, role: Role) -> Scope:
    """The rows of a coordinate that a role opens: the data scope is felt where there are departments."""
    model = runtime.row_types.get(coordinate.type)
    if model is not None and issubclass(model, OF_STAFF) and role.data_scope is not DataScope.ALL:
        return _ROWS[role.data_scope]
    if role.tenant_path == ROOT_PATH:
        return Scope.ALL
    return Scope.ANCESTORS if model is not None and issubclass(model, Published) else Scope.SUBTREE


def _may_give(principal: Principal, coordinate: Coordinate, rows: Scope) -> bool:
    """Whether a principal holds a coordinate on rows that it may hand on, whoever will hold them."""
    own = principal.grants.reach_of(coordinate.type, coordinate.field, coordinate.act)
    if own is None:
        return False
    firm: Reach = frozenset(own - RELATIVE) | (implied(own) if Scope.SUBTREE in own else frozenset())
    asked: Reach = frozenset({named_by("")}) if rows is Scope.DEPARTMENTS else frozenset({rows})
    return within(asked, firm)


async def _write_lines(work: Work, role: Role, coordinates: Iterable[Coordinate]) -> None:
    """The lines of policy of a role, one for each coordinate: what the graph gains later under a wildcard is not
    granted by a tick of today."""
    await work.session.execute(delete(RolePolicy).where(RolePolicy.role_id == role.id))
    work.session.add_all(
        RolePolicy(
            tenant_id=role.tenant_id,
            tenant_path=role.tenant_path,
            role_id=role.id,
            obj=coordinate.name,
            act=coordinate.act.value,
            scope=_rows(work.runtime, coordinate, role).value,
        )
        for coordinate in coordinates
    )
    await work.session.flush()
    work.access_changed = work.policies_changed = True


async def _prune(work: Work, role_ids: Iterable[int]) -> None:
    """After a change of the template: roles lose what no ticked menu needs any more. What a menu needs newly they
    gain when they are saved again, by somebody who holds it."""
    catalog = work.runtime.access.catalog
    for role_id in sorted(set(role_ids)):
        role = await work.session.get_one(Role, role_id)
        patterns = {p for needed in (await _ticked(work.session, role)).values() for p in needed}
        kept = {coordinate.name for pattern in patterns for coordinate in catalog.expand(pattern, ANY)}
        await work.session.execute(delete(RolePolicy).where(RolePolicy.role_id == role_id, RolePolicy.obj.not_in(kept)))
    work.access_changed = work.policies_changed = True


async def _roles_with(session: AsyncSession, menu_id: int) -> list[int]:
    return list(await session.scalars(select(RoleMenu.role_id).where(RoleMenu.menu_id == menu_id)))


# -- what a role and a caller are shown ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Tickable:
    """A menu of a role's template: whether it is ticked, and whether the caller may tick it."""

    menu_id: int
    granted: bool
    grantable: bool


async def tickable(session: AsyncSession, runtime: Runtime, principal: Principal, role_id: int) -> list[Tickable]:
    """The whole template of a role, in the order of its tree's rows (S4-73). NOT_FOUND."""
    role = await session.scalar(select(Role).where(Role.id == role_id))
    if role is None:
        raise not_found("role")
    ticked = set(await session.scalars(select(RoleMenu.menu_id).where(RoleMenu.role_id == role.id)))
    needed = await _needed(session, [role.template_id])
    menus = await session.scalars(
        select(MenuItem)
        .where(MenuItem.template_id == role.template_id, MenuItem.status == AccountStatus.ACTIVE)
        .order_by(MenuItem.position, MenuItem.id)
    )

    def grantable(menu_id: int) -> bool:
        return all(
            any(
                _may_give(principal, coordinate, _rows(runtime, coordinate, role))
                for coordinate in runtime.access.catalog.expand(pattern, ANY)
            )
            for pattern in needed.get(menu_id, ())
        )

    return [Tickable(menu.id, menu.id in ticked, grantable(menu.id)) for menu in menus]


async def _needed(session: AsyncSession, template_ids: Iterable[int | None]) -> dict[int, list[str]]:
    """The coordinates that each menu of some templates needs."""
    rows = await session.execute(
        select(MenuPermission.menu_id, MenuPermission.coordinate)
        .join(MenuItem, MenuItem.id == MenuPermission.menu_id)
        .where(MenuItem.template_id.in_([key for key in template_ids if key is not None]))
    )
    found: dict[int, list[str]] = {}
    for menu_id, coordinate in rows:
        found.setdefault(menu_id, []).append(coordinate)
    return found


async def menus_of(session: AsyncSession, runtime: Runtime, principal: Principal) -> list[int]:
    """What a front end draws for the caller at its door: of the door's template, the menus and buttons that its
    tenant-made roles have ticked, and those that its built-in roles hold everything for; and the directories above
    them (S1-29)."""
    template = await session.scalar(
        select(PermissionTemplate.id).where(
            PermissionTemplate.key == principal.door, PermissionTemplate.status == AccountStatus.ACTIVE
        )
    )
    if template is None:
        return []
    menus = {
        menu.id: menu
        for menu in await session.scalars(
            select(MenuItem)
            .where(MenuItem.template_id == template, MenuItem.status == AccountStatus.ACTIVE)
            .order_by(MenuItem.position, MenuItem.id)
        )
    }
    needed = await _needed(session, [template])
    made = [int(r.removeprefix(TENANT_MADE)) for r in principal.roles if r.startswith(TENANT_MADE)]
    ticked = set(await session.scalars(select(RoleMenu.menu_id).where(RoleMenu.role_id.in_(made))))
    built_in = len(made) < len(principal.roles)

    def held(menu_id: int) -> bool:
        return all(
            any(principal.grants.allows(c.type, c.field, c.act) for c in runtime.access.catalog.expand(pattern, ANY))
            for pattern in needed[menu_id]
        )

    shown: set[int] = set()
    for menu_id in menus:
        if menu_id in needed and held(menu_id) and (built_in or menu_id in ticked):
            above: int | None = menu_id
            while above is not None and above in menus and above not in shown:
                shown.add(above)
                above = menus[above].parent_id
    return [menu_id for menu_id in menus if menu_id in shown]


# -- modules ------------------------------------------------------------------------------------------------------


async def set_module(
    work: Work, tenant_id: int, *, module: str, enabled: bool, page_variant: str | None = None
) -> TenantModule:
    """Switches a module on or off for a tenant and everybody below it, from their next request on, and chooses the
    variant of its pages (S4-76). Only for tenants below the caller's own: NOT_FOUND otherwise."""
    tenant = await tenant_for(work, tenant_id)
    if tenant.id == work.principal.tenant_id:
        raise not_found("tenant")
    module = _key(module, "module")
    known = select(MenuItem.id).where(MenuItem.module == module).limit(1)
    if await work.session.scalar(known) is None:
        raise Refusal("UNKNOWN_MODULE", "module", value=module)
    found = await work.session.scalar(
        select(TenantModule).where(TenantModule.tenant_id == tenant.id, TenantModule.module == module).with_for_update()
    )
    if found is None:
        found = TenantModule(tenant_id=tenant.id, tenant_path=tenant.path, module=module)
        work.session.add(found)
    found.enabled = enabled
    found.page_variant = None if page_variant is None else _key(page_variant, "pageVariant")
    async with told_apart(work.session, {"uq_tenant_module_tenant_id_module": ("module", module)}):
        await work.session.flush()
    work.access_changed = work.policies_changed = True
    return found


@dataclass(frozen=True)
class Module:
    """A module that the caller's company may use, and the variant of its pages."""

    key: str
    page_variant: str | None


async def modules_of(session: AsyncSession, principal: Principal) -> list[Module]:
    """The modules that no tenant from the platform down to the caller's own has switched off (S4-76)."""
    keys = await session.scalars(select(MenuItem.module).where(MenuItem.module.is_not(None)).distinct())
    chosen = await session.execute(
        select(TenantModule.module, TenantModule.enabled, TenantModule.page_variant)
        .where(TenantModule.tenant_path.in_(principal.ancestors))
        .order_by(func.length(TenantModule.tenant_path))
    )
    variants: dict[str, str | None] = {}
    off: set[str] = set()
    for key, enabled, variant in chosen:
        variants[key] = variant or variants.get(key)
        if not enabled:
            off.add(key)
    return [Module(key, variants.get(key)) for key in sorted(k for k in keys if k is not None and k not in off)]
