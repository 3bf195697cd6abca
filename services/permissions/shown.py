"""What a role and a caller are shown of the permission platform."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from authz.coordinates import ANY
from authz.principal import Principal
from authz.scopes import Rows, Scope, named_by
from authz.standing import TENANT_MADE
from models.identity import AccountStatus, DataScope, Role
from models.permissions import MenuItem, MenuPermission, PermissionTemplate, RoleMenu
from services.permissions.lines import Granter
from services.refusal import not_found
from services.runtime import Runtime


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
    granter = Granter(runtime, principal, role.data_scope)
    return [
        Tickable(
            menu.id,
            granted=menu.id in ticked,
            grantable=all(granter.opens(pattern) is not None for pattern in needed.get(menu.id, ())),
        )
        for menu in menus
    ]


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


def _made(principal: Principal) -> list[int]:
    """The tenant-made roles that a caller holds at its door."""
    return [int(role.removeprefix(TENANT_MADE)) for role in principal.roles if role.startswith(TENANT_MADE)]


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
    made = _made(principal)
    ticked = set(
        await session.scalars(
            select(RoleMenu.menu_id)
            .join(Role, Role.id == RoleMenu.role_id)
            .where(Role.id.in_(made), Role.status == AccountStatus.ACTIVE)
        )
    )
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


@dataclass(frozen=True)
class HeldRole:
    """A role that the caller holds, and on which rows of departments and staff it holds what the role grants."""

    key: str
    name: str | None
    data_scope: DataScope
    departments: Sequence[int]


async def roles_of(session: AsyncSession, principal: Principal) -> list[HeldRole]:
    """The roles that count at the caller's door (S1-34), with their data scopes (S1-36). Built-in ones have no name of
    their own and no departments."""
    made = {
        f"{TENANT_MADE}{role.id}": role
        for role in await session.scalars(
            select(Role).where(Role.id.in_(_made(principal)), Role.status == AccountStatus.ACTIVE)
        )
    }
    return [
        HeldRole(key, made[key].name, made[key].data_scope, _departments(principal, key, made[key].data_scope))
        if key in made
        else HeldRole(key, None, DataScope.ALL, ())
        for key in principal.roles
        if key in made or not key.startswith(TENANT_MADE)
    ]


def _departments(principal: Principal, role: str, data_scope: DataScope) -> Sequence[int]:
    meant: dict[DataScope, Rows] = {
        DataScope.CUSTOM: named_by(role),
        DataScope.DEPARTMENT: Scope.DEPARTMENT,
        DataScope.DEPARTMENT_AND_BELOW: Scope.DEPARTMENT_TREE,
    }
    return principal.departments_in(meant[data_scope]) if data_scope in meant else ()
