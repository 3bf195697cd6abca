"""What the ticks of a role open: lines of policy in the tenant's own domain, on the rows of its data scope."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from authz.coordinates import ANY, Coordinate
from authz.principal import ROOT_PATH, Principal
from authz.scopes import RELATIVE, Scope, named_by, of_departments, within
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
from models.permissions import MenuItem, MenuPermission, RoleMenu
from models.system import OperationRecord
from services.granting import everybodys, implied
from services.refusal import Refusal
from services.runtime import Runtime, Work

OF_STAFF = (Department, StaffAccount, RoleAssignment, LoginSession, LoginRecord, OperationRecord)
"""What belongs to a department: on these rows, and by what changes them, a role's data scope is felt."""
_ROWS = {
    DataScope.CUSTOM: Scope.DEPARTMENTS,
    DataScope.DEPARTMENT: Scope.DEPARTMENT,
    DataScope.DEPARTMENT_AND_BELOW: Scope.DEPARTMENT_TREE,
    DataScope.SELF: Scope.SELF,
}
Opened = dict[Coordinate, frozenset[Scope]]
"""Coordinates, and the rows on which a role opens them."""


@dataclass(frozen=True)
class Granter:
    """Who ticks, for a role of its own tenant with a data scope."""

    runtime: Runtime
    principal: Principal
    data_scope: DataScope

    def opens(self, pattern: str) -> Opened | None:
        """What of a menu's need the granter can put into the role; None where that does not do.

        Of what a wildcard names, that which the granter holds. What everybody on the staff has need not be granted.
        """
        named = list(self.runtime.access.catalog.expand(pattern, ANY))
        opened = {coordinate: rows for coordinate in named if (rows := self.rows(coordinate))}
        missing = [c for c in named if c not in opened and not self._is_everybodys(c)]
        if not named or (missing and not (opened and pattern.endswith("*"))):
            return None
        return opened

    def rows(self, coordinate: Coordinate) -> frozenset[Scope]:
        """The rows on which the granter can open a coordinate: all on which it holds it, or, where the data scope is
        felt, those of the data scope. Rows that are others for each holder are nobody's to hand on."""
        own = self.principal.grants.reach_of(coordinate.type, coordinate.field, coordinate.act) or frozenset()
        firm = frozenset(own - RELATIVE)
        row_types = self.runtime.row_types
        model = row_types.get(coordinate.type) or row_types.get(coordinate.name)
        if model is None or not issubclass(model, OF_STAFF):
            return frozenset(Scope(rows) for rows in firm if not of_departments(rows))
        wanted = _ROWS.get(self.data_scope, Scope.ALL if self.principal.path == ROOT_PATH else Scope.SUBTREE)
        asked = named_by("") if wanted is Scope.DEPARTMENTS else wanted
        return frozenset({wanted}) if within(frozenset({asked}), firm | implied(own)) else frozenset()

    def _is_everybodys(self, coordinate: Coordinate) -> bool:
        own = self.principal.grants.reach_of(coordinate.type, coordinate.field, coordinate.act)
        return own is not None and within(own, everybodys(self.runtime, coordinate, self.principal.path))


async def write(work: Work, role: Role) -> None:
    """Writes what the ticked menus need, one line for each coordinate: what the graph gains later under a wildcard is
    not granted by a tick of today. PERMISSION_NOT_HELD names the menu that needs what the caller does not hold."""
    granter = Granter(work.runtime, work.principal, role.data_scope)
    opened: Opened = {}
    for menu, patterns in (await _ticked(work.session, role)).items():
        for pattern in patterns:
            found = granter.opens(pattern)
            if found is None:
                raise Refusal("PERMISSION_NOT_HELD", "menus", value=menu)
            opened |= found
    await work.session.execute(delete(RolePolicy).where(RolePolicy.role_id == role.id))
    work.session.add_all(
        RolePolicy(
            tenant_id=role.tenant_id,
            tenant_path=role.tenant_path,
            role_id=role.id,
            obj=coordinate.name,
            act=coordinate.act.value,
            scope=scope.value,
        )
        for coordinate, rows in opened.items()
        for scope in sorted(rows)
    )
    await work.session.flush()
    work.access_changed = work.policies_changed = True


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


async def prune(work: Work, role_ids: Iterable[int]) -> None:
    """After a change of the template: roles lose what no ticked menu needs any more. What a menu needs newly they
    gain when they are saved again, by somebody who holds it."""
    catalog = work.runtime.access.catalog
    for role_id in sorted(set(role_ids)):
        role = await work.session.get_one(Role, role_id)
        patterns = {p for needed in (await _ticked(work.session, role)).values() for p in needed}
        kept = {coordinate.name for pattern in patterns for coordinate in catalog.expand(pattern, ANY)}
        await work.session.execute(delete(RolePolicy).where(RolePolicy.role_id == role_id, RolePolicy.obj.not_in(kept)))
    work.access_changed = work.policies_changed = True


async def roles_with(session: AsyncSession, menu_id: int) -> list[int]:
    """The roles for which a menu is ticked."""
    return list(await session.scalars(select(RoleMenu.role_id).where(RoleMenu.menu_id == menu_id)))
