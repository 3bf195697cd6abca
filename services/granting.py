"""Nobody can hand on what they do not hold: which roles a caller may give or take, and whose it may manage."""

from __future__ import annotations

import re
from collections.abc import Sequence

from sqlalchemy import select

from authz.access import STAFF
from authz.coordinates import Coordinate
from authz.principal import ROOT_PATH, Principal
from authz.scopes import RELATIVE, Reach, Rows, Scope, named_by, within
from authz.standing import TENANT_MADE
from models.identity import AccountStatus, Role, RoleAssignment, RolePolicy
from models.tenancy import Tenant
from services.refusal import Refusal
from services.runtime import Runtime, Work

_MADE = re.compile(rf"{TENANT_MADE}([1-9][0-9]{{0,17}})")


def implied(reach: Reach) -> Reach:
    """A subtree holds what its people reach of their own."""
    return frozenset({Scope.SELF}) if Scope.SUBTREE in reach else frozenset()


def everybodys(runtime: Runtime, coordinate: Coordinate, path: str) -> Reach:
    """The rows that every member of a tenant's staff reaches, whatever its role."""
    found = runtime.access.grants_of([STAFF], path).reach_of(coordinate.type, coordinate.field, coordinate.act)
    return found or frozenset()


async def check_grantable(work: Work, roles: Sequence[str], tenant: Tenant) -> list[str]:
    """Nobody can grant what they do not hold, nor a role that is not made for that kind of tenant, nor one that opens
    nothing yet. ROLE_NOT_GRANTABLE otherwise."""
    built_in = work.runtime.grantable.get(tenant.kind.name, frozenset())
    for role in sorted(set(roles)):
        known = role in built_in or await _opens_something(work, role, tenant.path)
        if not known or not await covers(work, role, tenant.path):
            raise Refusal("ROLE_NOT_GRANTABLE", "roles", value=role)
    return sorted(set(roles))


async def check_takeable(work: Work, roles: Sequence[str], tenant: Tenant) -> None:
    """What is taken away must be the caller's to give as well. ROLE_NOT_GRANTABLE otherwise."""
    for role in sorted(set(roles)):
        if not await covers(work, role, tenant.path):
            raise Refusal("ROLE_NOT_GRANTABLE", "roles", value=role)


async def covers_all(work: Work, account_ids: Sequence[int], path: str) -> bool:
    """Whether none of these accounts of a tenant may do what the caller may not."""
    held = select(RoleAssignment.role).where(RoleAssignment.account_id.in_(account_ids)).distinct()
    for role in sorted(await work.session.scalars(held)):
        if not await covers(work, role, path):
            return False
    return True


async def covers(work: Work, role: str, path: str) -> bool:
    """Whether a role opens nothing in a tenant that is not open to the caller too. Of a role that is disabled, what it
    would open counts; until the end of the work nobody changes it."""
    if not role.startswith(TENANT_MADE):
        return _covers_built_in(work.principal, work.runtime, role, path)
    found = await _made(work, role, path)
    return found is None or await covers_lines(work, found)


async def covers_lines(work: Work, role: Role) -> bool:
    """The same for a tenant-made role that is held already."""
    withheld = work.runtime.access.withheld(role.tenant_path)
    for line in await work.session.scalars(select(RolePolicy).where(RolePolicy.role_id == role.id)):
        coordinate = work.runtime.access.catalog.find(line.obj)
        if coordinate is None or coordinate in withheld:
            continue
        if not _covers_line(work, coordinate, line, role):
            return False
    return True


def _covers_line(work: Work, coordinate: Coordinate, line: RolePolicy, role: Role) -> bool:
    opened: Rows = Scope(line.scope)
    if opened == Scope.DEPARTMENTS:
        opened = named_by(f"{TENANT_MADE}{role.id}")
    elif opened == Scope.ALL and role.tenant_path != ROOT_PATH:
        opened = Scope.SUBTREE
    rows = frozenset({opened})
    own = work.principal.grants.reach_of(coordinate.type, coordinate.field, coordinate.act) or frozenset()
    # rows that are others for each holder are not the caller's to give, except where everybody has them
    firm = frozenset(own - RELATIVE) | implied(own)
    return within(rows, firm) or within(rows, everybodys(work.runtime, coordinate, role.tenant_path))


def _covers_built_in(principal: Principal, runtime: Runtime, role: str, path: str) -> bool:
    for coordinate, reach in runtime.access.grants_of([role], path).reach.items():
        own = principal.grants.reach_of(*coordinate)
        if own is None or not within(reach, own | implied(own)):
            return False
    return True


async def _opens_something(work: Work, role: str, path: str) -> bool:
    found = await _made(work, role, path)
    if found is None or found.status is not AccountStatus.ACTIVE:
        return False
    return await work.session.scalar(select(RolePolicy.id).where(RolePolicy.role_id == found.id).limit(1)) is not None


async def _made(work: Work, role: str, path: str) -> Role | None:
    """A tenant's own role by the name under which it is held; what it opens is held as it is until the work ends."""
    named = _MADE.fullmatch(role)
    if named is None:
        return None
    return await work.session.scalar(
        select(Role)
        .where(Role.id == int(named[1]), Role.tenant_path == path)
        .with_for_update(read=True)
        .execution_options(populate_existing=True)
    )
