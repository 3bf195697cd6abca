"""Agreements: publishing them, reading them, signing them."""

from __future__ import annotations

import strawberry
from sqlalchemy import Select, select

import models.agreements as stored
from planner.errors import bad_input
from planner.ids import decode_id
from planner.mapping import Connection, refer
from planner.registry import mutation, query
from resolvers.context import Context
from schema.agreements import (
    Agreement,
    AgreementPayload,
    AgreementText,
    PublishAgreementInput,
    SignAgreementsInput,
    SignatureInput,
)
from schema.identity import EndUserPayload
from services import agreements
from services.agreements import Signature
from services.identity import tenant_for


@query(Connection[Agreement])
def agreement_versions() -> Select[stored.Agreement]:
    """All versions of the documents that were ever laid before end users (S1-72)."""
    return select(stored.Agreement)


@query("list[AgreementText]")
async def agreements_to_sign(ctx: Context, tenant: strawberry.ID) -> list[AgreementText]:
    """What somebody must sign to become an end user of a tenant (S1-72)."""
    found = decode_id(tenant)
    if found is None or found[0] != "ten":
        raise bad_input("WRONG_ID", value=repr(tenant[:40]), type="Tenant")
    return [
        AgreementText(document=one.document, version=one.version, title=one.title, text=one.text)
        for one in await agreements.to_sign(ctx.runtime, found[1])
    ]


@mutation
async def publish_agreement(ctx: Context, input: PublishAgreementInput) -> AgreementPayload:
    """A new version of a document, in force from now on for those who register (S1-72)."""
    made = await agreements.publish(
        ctx.now,
        await tenant_for(ctx.now, None),
        document=input.document,
        version=input.version,
        title=input.title,
        content=input.text,
    )
    return AgreementPayload(agreement=refer(made.id), errors=[])


def signatures(given: list[SignatureInput]) -> list[Signature]:
    return [Signature(one.document, one.version) for one in given]


@mutation
async def sign_agreements(ctx: Context, input: SignAgreementsInput) -> EndUserPayload:
    """The calling end user's consent to versions that are in force (S1-72)."""
    await agreements.sign_as_caller(ctx.now, signatures(input.agreements))
    return EndUserPayload(end_user=refer(ctx.principal.end_user_id), errors=[])
