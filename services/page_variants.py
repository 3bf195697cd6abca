"""Which variant of a page a company draws (S4-76): of one feature, companies of different kinds, and merchants of
different types, may have other pages.

A page declares the variants of the kinds of company (``variants`` in a front end's ``menus.toml``). The variant of a
merchant's type goes before, and before that what was chosen for the page's module, for the company or the nearest one
above it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from authz.principal import Principal
from models.merchants import Merchant, MerchantType
from models.tenancy import Tenant, TenantKind
from services.permissions.modules import modules_of


@dataclass(frozen=True)
class Page:
    """A page's module, and the variants that kinds of company draw of it, by their names."""

    module: str | None
    variants: Mapping[str, str]


async def effective(session: AsyncSession, principal: Principal, pages: Sequence[Page]) -> list[str | None]:
    """The variant of each page for the caller's company; None: the page as it is."""
    kind = await session.scalar(select(Tenant.kind).where(Tenant.id == principal.tenant_id))
    of_type = await session.scalar(
        select(MerchantType.page_variant)
        .join(Merchant, Merchant.merchant_type_id == MerchantType.id)
        .where(Merchant.id == principal.tenant_id)
    )
    chosen = {module.key: module.page_variant for module in await modules_of(session, principal)}
    own = None if kind is None else TenantKind(kind).name
    return [chosen.get(page.module or "") or of_type or page.variants.get(own or "") for page in pages]
