"""Contracts: templates kept by those who know the law, and what merchants are given to sign."""

from __future__ import annotations

from sqlalchemy import Select, select

import models.contracts as stored
from planner.mapping import Connection, refer
from planner.registry import mutation, query
from resolvers.context import Context, key_of, optional_key
from schema.contracts import (
    Contract,
    ContractPayload,
    ContractTemplate,
    ContractTemplateInput,
    ContractTemplatePayload,
    IssueContractInput,
    LinkContractTemplateInput,
    LinkContractTemplatePayload,
    SaveContractTemplateInput,
    SignContractInput,
)
from services import contracts as service


@query(Connection[ContractTemplate])
def contract_templates() -> Select[stored.ContractTemplate]:
    """The templates of contracts, in all their versions (S4-58)."""
    return select(stored.ContractTemplate)


@query(Connection[Contract])
def contracts() -> Select[stored.Contract]:
    """Contracts within reach: a merchant's own, all for those who keep the templates (S4-04, S4-62)."""
    return select(stored.Contract)


@query(Contract, by=("id",))
def contract() -> Select[stored.Contract]:
    """One contract (S4-04)."""
    return select(stored.Contract)


@mutation
async def save_contract_template(ctx: Context, input: SaveContractTemplateInput) -> ContractTemplatePayload:
    """Writes the draft of a contract's next version (S4-58)."""
    saved = await service.save_template(ctx.now, **vars(input))
    return ContractTemplatePayload(contract_template=refer(saved.id), errors=[])


@mutation
async def publish_contract_template(ctx: Context, input: ContractTemplateInput) -> ContractTemplatePayload:
    """Issues a version from now on, in place of the one before it (S4-58, S4-74)."""
    changed = await service.publish(ctx.now, key_of(input.id, "ctt", "id"))
    return ContractTemplatePayload(contract_template=refer(changed.id), errors=[])


@mutation
async def withdraw_contract_template(ctx: Context, input: ContractTemplateInput) -> ContractTemplatePayload:
    """Issues a version no more (S4-58)."""
    changed = await service.withdraw(ctx.now, key_of(input.id, "ctt", "id"))
    return ContractTemplatePayload(contract_template=refer(changed.id), errors=[])


@mutation
async def link_contract_template(ctx: Context, input: LinkContractTemplateInput) -> LinkContractTemplatePayload:
    """Says which contract the merchants of a type sign (S4-61)."""
    changed = await service.link(
        ctx.now,
        key_of(input.merchant_type, "mty", "merchantType"),
        optional_key(input.template, "ctt", "template"),
    )
    return LinkContractTemplatePayload(merchant_type=refer(changed.id), errors=[])


@mutation(idempotent=True)
async def issue_contract(ctx: Context, input: IssueContractInput) -> ContractPayload:
    """Gives a special merchant another contract than its type's (S4-62)."""
    made = await service.issue_special(
        ctx.now, key_of(input.merchant, "ten", "merchant"), key_of(input.template, "ctt", "template")
    )
    return ContractPayload(contract=refer(made.id), errors=[])


@mutation(idempotent=True)
async def sign_contract(ctx: Context, input: SignContractInput) -> ContractPayload:
    """Signs the contract of one's own company (S4-56)."""
    signed = await service.sign(ctx.now, key_of(input.id, "ctr", "id"))
    return ContractPayload(contract=refer(signed.id), errors=[])
