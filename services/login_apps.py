"""Applications registered with third parties, through which people log in (S0-40)."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from authz.standing import in_business
from models.identity import AccountStatus, LoginApp, LoginProvider
from models.tenancy import Tenant
from services import validation
from services.conflicts import told_apart
from services.refusal import Refusal
from services.runtime import Runtime, Work

MAX_SECRET = 200


@dataclass(frozen=True)
class AppCredentials:
    """An application in use: whose it is, and what proves to the third party that we are it."""

    tenant: Tenant
    app_id: str
    secret: str


def secret_binding(tenant_id: int, provider: LoginProvider) -> str:
    return f"login_app:{tenant_id}:{provider.name}"


async def set_app(
    work: Work, tenant: Tenant, provider: LoginProvider, *, app_id: str, secret: str | None, status: AccountStatus
) -> LoginApp:
    """The application through which a tenant's people log in from now on; its secret is kept encrypted.

    A secret left out stays as it is. REQUIRED where there is none yet; TAKEN where the app is another tenant's.
    """
    app_id = validation.text(app_id, "appId", limit=64)
    found = await work.session.scalar(
        select(LoginApp).where(LoginApp.tenant_id == tenant.id, LoginApp.provider == provider).with_for_update()
    )
    if secret is None and (found is None or found.app_id != app_id):
        raise Refusal("REQUIRED", "secret")
    if found is None:
        found = LoginApp(tenant_id=tenant.id, tenant_path=tenant.path, provider=provider)
        work.session.add(found)
    found.app_id, found.status = app_id, status
    if secret is not None:
        secret = validation.text(secret, "secret", limit=MAX_SECRET)
        found.secret_encrypted = work.runtime.keys.encrypt(secret, secret_binding(tenant.id, provider))
    constraints = {
        "uq_login_app_provider_app_id": ("appId", app_id),
        "uq_login_app_tenant_id_provider": ("provider", provider.name),
    }
    async with told_apart(work.session, constraints):
        await work.session.flush()
    return found


async def app_in_use(
    runtime: Runtime, session: AsyncSession, provider: LoginProvider, app_id: str
) -> AppCredentials | None:
    """The application with this id, while it and its tenant are in order."""
    found = (
        await session.execute(
            select(LoginApp, Tenant)
            .join(Tenant, Tenant.id == LoginApp.tenant_id)
            .where(
                LoginApp.provider == provider,
                LoginApp.app_id == app_id,
                LoginApp.status == AccountStatus.ACTIVE,
                in_business(LoginApp.tenant_id),
            )
        )
    ).one_or_none()
    if found is None:
        return None
    app, tenant = found
    secret = runtime.keys.decrypt(app.secret_encrypted, secret_binding(tenant.id, provider))
    return AppCredentials(tenant, app.app_id, secret)
