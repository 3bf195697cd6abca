"""The modules of a tenant's back office, and the variant of its pages (S4-76)."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from authz.principal import Principal
from models.permissions import MenuItem, PermissionTemplate, TenantModule
from services.conflicts import told_apart
from services.identity import tenant_for
from services.permissions.templates import plain_key
from services.refusal import Refusal, not_found
from services.runtime import Work


async def set_module(
    work: Work, tenant_id: int, *, module: str, enabled: bool, page_variant: str | None = None
) -> TenantModule:
    """Switches a module on or off for a tenant and everybody below it, from their next request on, and chooses the
    variant of its pages (S4-76). Only for tenants below the caller's own: NOT_FOUND otherwise. MODULE_ABOVE where a
    tenant above the caller has decided."""
    tenant = await tenant_for(work, tenant_id)
    if tenant.id == work.principal.tenant_id:
        raise not_found("tenant")
    level = (await tenant_for(work, None)).level
    module = plain_key(module, "module")
    known = select(MenuItem.id).where(MenuItem.module == module).limit(1)
    if await work.session.scalar(known) is None:
        raise Refusal("UNKNOWN_MODULE", "module", value=module)
    found = await work.session.scalar(
        select(TenantModule).where(TenantModule.tenant_id == tenant.id, TenantModule.module == module).with_for_update()
    )
    if found is None:
        found = TenantModule(tenant_id=tenant.id, tenant_path=tenant.path, module=module)
        work.session.add(found)
    elif found.decided_level < level:
        raise Refusal("MODULE_ABOVE", "module", value=module)
    found.enabled = enabled
    found.decided_level = level
    found.page_variant = None if page_variant is None else plain_key(page_variant, "pageVariant")
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
    """The modules at the caller's door that no tenant from the platform down to the caller's own has switched off
    (S4-76)."""
    keys = await session.scalars(
        select(MenuItem.module)
        .join(MenuItem.template)
        .where(MenuItem.module.is_not(None), PermissionTemplate.key == principal.door)
        .distinct()
    )
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
