"""How the demo's companies are organised: departments, positions, a role of their own, and somebody who holds it."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from authz.access import STAFF
from authz.principal import Principal, PrincipalKind
from authz.standing import TENANT_MADE
from models.identity import DataScope, StaffAccount
from models.permissions import MenuItem, PermissionTemplate
from models.tenancy import Tenant
from services import identity, organisation
from services.organisation import DepartmentContent
from services.permissions import roles
from services.runtime import Runtime, Work

POSITIONS = (("administrator", "Administrator"), ("manager", "Manager"), ("hr", "Human resources"), ("user", "Clerk"))
DEPARTMENTS = (
    ("Head office", None),
    ("Sales", "Head office"),
    ("Key accounts", "Sales"),
    ("Operations", "Head office"),
)


@dataclass(frozen=True)
class Lead:
    """Somebody who leads a department by a role of the company's own, made by its administrator."""

    administrator: str
    built_in: str
    door: str
    tenant: str
    account: str
    clerk: str
    role: str
    menus: tuple[str, ...]


LEADS = (
    Lead(
        administrator="admin",
        built_in="platform_admin",
        door="admin",
        tenant="Trellis",
        account="sales-lead",
        clerk="sales-clerk",
        role="Sales lead",
        menus=("customer", "sim:card", "system:staff", "system:staff:edit", "system:department"),
    ),
    Lead(
        administrator="north",
        built_in="agent_admin",
        door="agent",
        tenant="North Agency",
        account="north-lead",
        clerk="north-clerk",
        role="Sales lead",
        menus=("sim:card", "sim:card:suspend", "system:staff", "system:staff:edit", "system:department"),
    ),
)


async def organise(session: AsyncSession, runtime: Runtime, tenant: Tenant, lead: Lead) -> str:
    """Organises a company as its administrator would; gives the password of who leads its sales."""
    administrator = await session.scalar(select(StaffAccount).where(StaffAccount.login == lead.administrator))
    assert administrator is not None
    principal = principal_of(runtime, tenant, administrator, lead.built_in, lead.door)
    work = Work(principal, session, runtime=runtime)
    departments: dict[str, int] = {}
    for number, (name, above) in enumerate(DEPARTMENTS):
        parent = None if above is None else departments[above]
        content = DepartmentContent(name, parent, number, leader=None, phone=None, email=None)
        departments[name] = (await organisation.create_department(work, content)).id
    positions = {
        code: (await organisation.create_position(work, code=code, name=name, position=number)).id
        for number, (code, name) in enumerate(POSITIONS)
    }
    role = await _role(work, lead)
    password = secrets.token_urlsafe(9) + "1a"
    for login, department, position in (
        (lead.account, "Sales", "manager"),
        (lead.clerk, "Key accounts", "user"),
    ):
        made = await identity.create_account(
            work,
            tenant,
            login=login,
            password=password if login == lead.account else secrets.token_urlsafe(24) + "1a",
            name=login,
            roles=[f"{TENANT_MADE}{role}"] if login == lead.account else [],
            department_id=departments[department],
        )
        await organisation.set_positions(work, made.id, [positions[position]])
    return password


def principal_of(runtime: Runtime, tenant: Tenant, account: StaffAccount, role: str, door: str) -> Principal:
    """Somebody of a company's staff with a built-in role, as if logged in."""
    return Principal(
        PrincipalKind.STAFF,
        door,
        runtime.access.grants_of([STAFF, role], tenant.path),
        tenant_id=tenant.id,
        tenant_kind=tenant.kind.name,
        path=tenant.path,
        account_id=account.id,
        roles=(role,),
    )


async def _role(work: Work, lead: Lead) -> int:
    """The company's own role, which reaches the staff of its holder's department and of those below it."""
    template = await work.session.scalar(select(PermissionTemplate).where(PermissionTemplate.key == lead.door))
    assert template is not None
    menus = await work.session.scalars(
        select(MenuItem.id).where(MenuItem.template_id == template.id, MenuItem.key.in_(lead.menus))
    )
    role = await roles.create_role(work, name=lead.role, template_id=template.id)
    await roles.set_role_permissions(work, role.id, menu_ids=list(menus), data_scope=DataScope.DEPARTMENT_AND_BELOW)
    return role.id
