"""Documents that people agree to, and their consent (S1-72)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.ext.asyncio import AsyncSession

from authz.principal import system
from authz.standing import in_business
from models.agreements import Agreement, AgreementConsent
from models.identity import EndUser
from models.tenancy import Tenant
from services import validation
from services.conflicts import told_apart
from services.refusal import Refusal, not_found
from services.runtime import Runtime, Work

MAX_AGREEMENT = 100_000


@dataclass(frozen=True)
class Signature:
    """A version of a document that somebody says to have read and to agree to."""

    document: str
    version: str


async def publish(work: Work, tenant: Tenant, *, document: str, version: str, title: str, content: str) -> Agreement:
    """A new version of a document, in force from now on. TAKEN where the version exists: it stays as it was."""
    made = Agreement(
        tenant_id=tenant.id,
        tenant_path=tenant.path,
        document=validation.text(document, "document", limit=64),
        version=validation.text(version, "version", limit=64),
        title=validation.text(title, "title"),
        text=validation.text(content, "text", limit=MAX_AGREEMENT),
    )
    work.session.add(made)
    async with told_apart(work.session, {"uq_agreement_tenant_id_document_version": ("version", made.version)}):
        await work.session.flush()
    return made


async def in_force(session: AsyncSession, tenant_path: str) -> list[Agreement]:
    """What an end user of a tenant is asked to sign: of each document the nearest tenant's newest version."""
    above = [tenant_path[: end + 1] for end, sign in enumerate(tenant_path) if sign == "." and end]
    found = await session.scalars(
        select(Agreement)
        .where(Agreement.tenant_path.in_(above))
        .ext(distinct_on(Agreement.document))
        .order_by(Agreement.document, func.length(Agreement.tenant_path).desc(), Agreement.id.desc())
    )
    return list(found)


async def to_sign(runtime: Runtime, tenant_id: int) -> list[Agreement]:
    """What somebody is asked to sign who wants to be a tenant's end user; nothing of a tenant that serves nobody."""
    async with runtime.database.transaction(system("agreements")) as session:
        path = await session.scalar(select(Tenant.path).where(Tenant.id == tenant_id, in_business(Tenant.id)))
        return [] if path is None else await in_force(session, path)


async def sign(session: AsyncSession, person: EndUser, agreements: Sequence[Agreement]) -> None:
    """Keeps the consent to these versions; one that was signed before stays as it is."""
    signed = set(
        await session.scalars(select(AgreementConsent.agreement_id).where(AgreementConsent.end_user_id == person.id))
    )
    session.add_all(
        AgreementConsent(
            tenant_id=person.tenant_id,
            tenant_path=person.tenant_path,
            end_user_id=person.id,
            agreement_id=agreement.id,
            document=agreement.document,
            version=agreement.version,
        )
        for agreement in agreements
        if agreement.id not in signed
    )
    await session.flush()


async def sign_as_caller(work: Work, signatures: Sequence[Signature]) -> None:
    """The calling end user's consent to versions that are in force. NOT_FOUND for any other."""
    person = await work.held(EndUser, work.principal.end_user_id, field="agreements")
    await sign(work.session, person, chosen(await in_force(work.session, person.tenant_path), signatures))


def chosen(current: Sequence[Agreement], signatures: Sequence[Signature]) -> list[Agreement]:
    """The agreements that are signed. NOT_FOUND for a version that is not in force."""
    if not signatures:
        raise Refusal("REQUIRED", "agreements")
    by_version = {(one.document, one.version): one for one in current}
    found = [by_version.get((one.document, one.version)) for one in signatures]
    agreed = [one for one in found if one is not None]
    if len(agreed) < len(found):
        raise not_found("agreements")
    return agreed
