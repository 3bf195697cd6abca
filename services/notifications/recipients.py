"""Whom a notification is for, and where it reaches them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from models.base import table_of
from models.identity import AccountStatus, StaffAccount
from models.notifications import NotificationChannel
from models.tenancy import Language, Tenant


@dataclass(frozen=True)
class Recipient:
    """Somebody with at most one address for each channel. ``account_id`` also reaches them in the application."""

    tenant_id: int
    tenant_path: str
    language: Language
    addresses: Mapping[NotificationChannel, str]
    account_id: int | None = None

    @classmethod
    def tenant(cls, tenant: Tenant) -> Self:
        """A company at its own mail address."""
        return cls(tenant.id, tenant.path, tenant.language, _given({NotificationChannel.EMAIL: tenant.email}))

    @classmethod
    async def account(cls, session: AsyncSession, account: StaffAccount) -> Self:
        """A member of staff, in the language of the company."""
        language = await session.scalar(select(Tenant.language).where(Tenant.id == account.tenant_id))
        return cls(
            account.tenant_id,
            account.tenant_path,
            language or Language.ZH_CN,
            _given({NotificationChannel.EMAIL: account.email}),
            account.id,
        )

    @classmethod
    async def staff_in_app(cls, session: AsyncSession, tenant: Tenant) -> list[Self]:
        """Each member of a company's staff, in the application alone."""
        # whoever causes the news need not see those who are told
        staff = table_of(StaffAccount)
        accounts = await session.scalars(
            select(staff.c.id).where(staff.c.tenant_id == tenant.id, staff.c.status == AccountStatus.ACTIVE)
        )
        return [cls(tenant.id, tenant.path, tenant.language, {}, account) for account in accounts]


def _given(addresses: Mapping[NotificationChannel, str | None]) -> dict[NotificationChannel, str]:
    return {channel: address for channel, address in addresses.items() if address}
