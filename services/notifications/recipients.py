"""Whom a notification is for, and where it reaches them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from models.base import table_of
from models.identity import AccountStatus, EndUser, StaffAccount
from models.notifications import NotificationChannel
from models.tenancy import Language, Tenant


@dataclass(frozen=True)
class Recipient:
    """Somebody with at most one address for each channel. ``account_id`` also reaches them in the application;
    ``end_user_id`` says whose personal data a message holds."""

    tenant_id: int
    tenant_path: str
    language: Language
    addresses: Mapping[NotificationChannel, str]
    account_id: int | None = None
    end_user_id: int | None = None

    @classmethod
    def tenant(cls, tenant: Tenant) -> Self:
        """A company at its own mail address."""
        return cls(tenant.id, tenant.path, tenant.language, _given({NotificationChannel.EMAIL: tenant.email}))

    @classmethod
    def address(
        cls, tenant: Tenant, channel: NotificationChannel, address: str, language: Language, person: EndUser | None
    ) -> Self:
        """An address at a company that serves people: a person's, in the language that the person has chosen, or one
        that is nobody's yet."""
        return cls(
            tenant.id,
            tenant.path,
            language if person is None or person.language is None else person.language,
            {channel: address},
            end_user_id=None if person is None else person.id,
        )

    @classmethod
    async def person(cls, session: AsyncSession, person: EndUser) -> Self:
        """An end user, in the language that the person has chosen, or else of the company."""
        language = await session.scalar(select(Tenant.language).where(Tenant.id == person.tenant_id))
        return cls(
            person.tenant_id,
            person.tenant_path,
            person.language or language or Language.ZH_CN,
            _given({NotificationChannel.EMAIL: person.email}),
            end_user_id=person.id,
        )

    @classmethod
    async def account(cls, session: AsyncSession, account: StaffAccount) -> Self:
        """A member of staff, in the language that it has chosen, or else of the company."""
        language = await session.scalar(select(Tenant.language).where(Tenant.id == account.tenant_id))
        return cls(
            account.tenant_id,
            account.tenant_path,
            account.language or language or Language.ZH_CN,
            _given({NotificationChannel.EMAIL: account.email}),
            account.id,
        )

    @classmethod
    async def staff_in_app(cls, session: AsyncSession, tenant: Tenant) -> list[Self]:
        """Each member of a company's staff, in the application alone."""
        # whoever causes the news need not see those who are told
        staff = table_of(StaffAccount)
        accounts = await session.execute(
            select(staff.c.id, staff.c.language).where(
                staff.c.tenant_id == tenant.id, staff.c.status == AccountStatus.ACTIVE
            )
        )
        return [cls(tenant.id, tenant.path, one.language or tenant.language, {}, one.id) for one in accounts]


def _given(addresses: Mapping[NotificationChannel, str | None]) -> dict[NotificationChannel, str]:
    return {channel: address for channel, address in addresses.items() if address}
