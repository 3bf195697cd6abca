"""Who still counts: accounts in service, tenants in business, and whom a door lets in."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, exists, select
from sqlalchemy.orm import aliased

from models.identity import AccountStatus, Department, EndUser, StaffAccount
from models.tenancy import Tenant, TenantClosure, TenantStatus

TENANT_MADE = "role:"
"""How the roles that tenants make are named: with their key behind it."""


@dataclass(frozen=True)
class Admission:
    """Whom a door lets in: these built-in roles, and tenant-made roles of these kinds of tenant."""

    roles: frozenset[str]
    tenant_kinds: frozenset[str]

    def of(self, roles: Iterable[str], kind: str) -> tuple[str, ...]:
        """Of the roles that somebody holds, those that count at this door."""
        return tuple(
            sorted(
                role
                for role in roles
                if role in self.roles or (role.startswith(TENANT_MADE) and kind in self.tenant_kinds)
            )
        )


def in_business(tenant_id: Any) -> ColumnElement[bool]:
    """Neither the tenant nor any tenant above it is suspended or closed."""
    above = aliased(Tenant)
    return ~exists(
        select(TenantClosure.id)
        .join(above, above.id == TenantClosure.ancestor_id)
        .where(TenantClosure.tenant_id == tenant_id, above.status != TenantStatus.ACTIVE)
    )


def served() -> ColumnElement[bool]:
    """The end user may act: the person is not kept out, and the company that serves it is in order."""
    return and_(EndUser.status == AccountStatus.ACTIVE, in_business(EndUser.tenant_id))


def in_service() -> ColumnElement[bool]:
    """The staff account may act: it, its department and its company are in order."""
    return and_(
        StaffAccount.status == AccountStatus.ACTIVE,
        in_business(StaffAccount.tenant_id),
        ~exists(
            select(Department.id).where(
                Department.id == StaffAccount.department_id, Department.status != AccountStatus.ACTIVE
            )
        ),
    )
