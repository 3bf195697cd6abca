"""Contracts and their templates in the graph."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import strawberry

import models.contracts as stored
from models.contracts import ContractStatus, ContractTemplateStatus
from planner.mapping import Node, column, entity, enum_type, input_type, to_one, value
from schema.common import UserError

if TYPE_CHECKING:
    from schema.identity import StaffAccount
    from schema.merchants import MerchantType
    from schema.tenancy import Tenant

enum_type(ContractTemplateStatus, "Whether a version of a template is written, issued, or not issued any more.")
enum_type(ContractStatus, "Whether a contract waits for its signature, is in force, or has been followed by another.")


@entity(
    stored.ContractTemplate,
    prefix="ctt",
    filters=("code", "scenario", "status"),
    sorts=("code", "version", "published_at"),
)
class ContractTemplate(Node):
    """One version of a contract for one business scenario (S4-58). What is published stays as it is."""

    code: str = column("Which contract it is a version of.")
    version: int
    name: str
    scenario: str = column("For which sort of business it is written.")
    body: str = column(
        "Its text. ``{merchant}``, ``{merchantType}``, ``{wechatAppId}`` and ``{day}`` are filled in when it is issued."
    )
    status: ContractTemplateStatus
    created_at: datetime
    published_at: datetime | None


@entity(
    stored.Contract,
    prefix="ctr",
    filters=("merchant", "template", "status", "special", "created_at", "signed_at"),
    sorts=("created_at", "signed_at"),
)
class Contract(Node):
    """A merchant's contract, worded as it was issued (S4-04, S4-62)."""

    name: str
    body: str
    special: bool = column("Whether it differs from what merchants of its type sign.")
    status: ContractStatus
    created_at: datetime = column("When it was issued.")
    signed_at: datetime | None
    merchant: Tenant | None = to_one("Whose contract it is.", via="tenant")
    template: ContractTemplate | None = to_one("What it was made from; for those who keep the templates.")
    issued_by: StaffAccount | None = to_one("Who issued it; null where that is out of reach.")
    signed_by: StaffAccount | None = to_one("Who signed it for the merchant.")


@input_type
class SaveContractTemplateInput:
    """The draft of a contract's next version (S4-58)."""

    code: str
    name: str
    scenario: str
    body: str


@input_type
class ContractTemplateInput:
    """A version of a template that is to be published or withdrawn."""

    id: strawberry.ID


@input_type
class LinkContractTemplateInput:
    """Which contract the merchants of a type sign; null: none (S4-61)."""

    merchant_type: strawberry.ID
    template: strawberry.ID | None = None


@input_type
class IssueContractInput:
    """Another contract than its type's, for a special merchant (S4-62)."""

    merchant: strawberry.ID
    template: strawberry.ID
    idempotency_key: str


@input_type
class SignContractInput:
    """A contract of one's own company that is to be in force (S4-56)."""

    id: strawberry.ID
    idempotency_key: str


@value
class ContractTemplatePayload:
    """The version as it now is, or why nothing was changed."""

    contract_template: ContractTemplate | None
    errors: list[UserError]


@value
class LinkContractTemplatePayload:
    """The type as it now is, or why nothing was changed."""

    merchant_type: MerchantType | None
    errors: list[UserError]


@value
class ContractPayload:
    """The contract as it now is, or why nothing was changed."""

    contract: Contract | None
    errors: list[UserError]
