"""Merchants in the graph: who they are, of which type, who operates them, and how they are taken on."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import strawberry
from sqlalchemy import ColumnElement, cast, func, select

import models.contracts
import models.deposits
import models.merchants as stored
from models.base import MONEY
from models.catalog import CatalogStatus
from models.ledger import LedgerAccount, LedgerAccountKind
from models.merchants import OnboardingStatus
from models.tenancy import Language, TenantStatus
from planner.mapping import Connection, Node, column, computed, entity, enum_type, input_type, live, to_many, to_one
from planner.mapping import value as value_type
from schema.common import UserError
from schema.tenancy import SEARCHABLE, FirstAccountInput, Tenant, TenantProfileInput

if TYPE_CHECKING:
    from schema.contracts import Contract, ContractTemplate
    from schema.identity import StaffAccount

enum_type(OnboardingStatus, "How far a merchant's application is.")


@value_type
class MerchantFormField:
    """Something that merchants of a type are asked (S4-60)."""

    key: str
    label: str
    required: bool


def _terms(type: Any) -> ColumnElement[Any]:
    template = models.contracts.ContractTemplate
    return select(template.body).where(template.id == type.contract_template_id).scalar_subquery()


@entity(stored.MerchantType, prefix="mty", filters=("code", "status", "contract_template"), sorts=("code",))
class MerchantType(Node):
    """A sort of merchant: what it tells of itself, and which documents it shows (S4-59, S4-60)."""

    code: str
    name: str
    form_fields: list[MerchantFormField] = live("What a merchant is asked.", needs=("form_fields",))
    required_documents: list[str] = column("Which documents a merchant has to show.")
    page_variant: str | None = column("Which variant of their pages its merchants draw (S4-76).")
    status: CatalogStatus
    contract_terms: str | None = computed(
        "The words that its merchants sign, with their placeholders; null where they sign nothing (S4-04).", _terms
    )
    contract_template: ContractTemplate | None = to_one("What its merchants sign; for those who keep the templates.")


@entity(stored.MerchantOperator, prefix="ten", filters=SEARCHABLE, sorts=("name", "created_at"))
class MerchantOperator(Tenant):
    """A company that operates merchants, which stand below it (S4-75)."""


def _account(merchant: Any, *kinds: LedgerAccountKind) -> ColumnElement[Any]:
    found = select(func.sum(LedgerAccount.balance)).where(
        LedgerAccount.tenant_id == merchant.id,
        LedgerAccount.kind.in_(kinds),
        LedgerAccount.currency == merchant.currency,
    )
    return func.coalesce(found.scalar_subquery(), cast(0, MONEY))


def _required(merchant: Any) -> ColumnElement[Any]:
    terms = models.deposits.DepositTerms
    found = select(terms.required_amount).where(terms.tenant_id == merchant.id)
    return func.coalesce(found.scalar_subquery(), cast(0, MONEY))


@entity(
    stored.Merchant,
    prefix="ten",
    filters=(*SEARCHABLE, "merchant_type", "onboarded_at"),
    sorts=("name", "created_at", "onboarded_at"),
)
class Merchant(Tenant):
    """A company that sells to the public; it may once it has been taken on (S4-57)."""

    wechat_app_id: str | None = column("Of its mini-program (S4-03).")
    onboarded_at: datetime | None = column("Since when it may sell.")
    available_amount: Decimal = computed(
        "What it has paid in and not spent, in its currency; for itself and those who keep its money.",
        lambda m: _account(m, LedgerAccountKind.PREPAYMENT),
        confidential=True,
    )
    funds: Decimal = computed(
        "What its customers have paid for it through the platform's channels, in its currency; for itself and those "
        "who keep its money.",
        lambda m: _account(m, LedgerAccountKind.FUNDS),
        confidential=True,
    )
    deposit_required: Decimal = computed(
        "What it has to leave as a security, in its currency (S4-67).", _required, confidential=True
    )
    deposit_held: Decimal = computed(
        "What it has left as a security, in its currency (S4-67).",
        lambda m: _account(m, LedgerAccountKind.DEPOSIT),
        confidential=True,
    )
    deposit_missing: Decimal = computed(
        "How much more it has to leave, in its currency (S4-67).",
        lambda m: func.greatest(_required(m) - _account(m, LedgerAccountKind.DEPOSIT), cast(0, MONEY), type_=MONEY),
        confidential=True,
    )
    merchant_type: MerchantType | None = to_one("Of which type it is; null until it has been taken on.")
    onboarding_applications: Connection[OnboardingApplication] = to_many(
        "What it told of itself.", by=stored.OnboardingApplication.tenant_id
    )
    contracts: Connection[Contract] = to_many("What it was given to sign.", by=models.contracts.Contract.tenant_id)


@value_type
class OnboardingAnswer:
    """What a merchant answered to something that it was asked."""

    key: str
    value: str


@entity(
    stored.OnboardingApplication,
    prefix="onb",
    filters=("merchant", "merchant_type", "status", "created_at", "submitted_at"),
    sorts=("created_at", "submitted_at"),
)
class OnboardingApplication(Node):
    """What a merchant tells of itself to be taken on, or when it changes its type (S4-02)."""

    wechat_app_id: str | None = column("Of its mini-program; must be there when it is submitted (S4-03).")
    answers: list[OnboardingAnswer] = live("What it was asked, by key.", needs=("answers",))
    status: OnboardingStatus
    created_at: datetime
    submitted_at: datetime | None
    reviewed_at: datetime | None = column("When it was decided on.")
    reason: str | None = column("Why it was rejected.")
    merchant: Tenant | None = to_one("Who applies.", via="tenant")
    merchant_type: MerchantType | None = to_one("As what it applies.")
    reviewed_by: StaffAccount | None = to_one("Who decided; null where that is out of reach.")
    documents: Connection[OnboardingDocument] = to_many("What it shows.", by=stored.OnboardingDocument.application_id)


@entity(stored.OnboardingDocument, prefix="ond", filters=("document",))
class OnboardingDocument(Node):
    """A document that a merchant shows (S4-60)."""

    document: str = column("Which of those that its type asks for.")
    name: str = column("What the file is called.")
    url: str = live("A link to the file, valid for ten minutes.", needs=("file_id",))


@input_type
class CreateMerchantInput:
    """A new merchant directly below the caller, which applies to be taken on by itself (S4-57)."""

    profile: TenantProfileInput
    account: FirstAccountInput | None = None
    idempotency_key: str | None = None


@input_type
class CreateMerchantOperatorInput:
    """A company that operates merchants, directly below the platform (S4-75)."""

    profile: TenantProfileInput
    account: FirstAccountInput | None = None
    idempotency_key: str | None = None


@input_type
class UpdateMerchantInput:
    """Changes to a merchant's profile; a field left out stays as it is (S4-57)."""

    id: strawberry.ID
    name: str | None = None
    contact_name: str | None = None
    phone: str | None = None
    email: str | None = None
    time_zone: str | None = None
    language: Language | None = None


@input_type
class SetMerchantStatusInput:
    """Whether a merchant does business (S4-57)."""

    id: strawberry.ID
    status: TenantStatus


@input_type
class MerchantFormFieldInput:
    """Something that merchants of a type are asked."""

    key: str
    label: str
    required: bool = True


@input_type
class CreateMerchantTypeInput:
    """A sort of merchant: what it is asked, and which documents it shows (S4-59, S4-60)."""

    code: str
    name: str
    form_fields: list[MerchantFormFieldInput] = strawberry.field(default_factory=list)
    required_documents: list[str] = strawberry.field(default_factory=list)
    page_variant: str | None = None


@input_type
class UpdateMerchantTypeInput:
    """Changes to a sort of merchant; a field left out stays as it is."""

    id: strawberry.ID
    name: str | None = None
    form_fields: list[MerchantFormFieldInput] | None = None
    required_documents: list[str] | None = None
    page_variant: str | None = None
    status: CatalogStatus | None = None


@input_type
class OnboardingAnswerInput:
    """An answer to something that one's type is asked."""

    key: str
    value: str


@input_type
class OnboardingDocumentInput:
    """A file of one's own that is one of the documents of one's type."""

    document: str
    file: strawberry.ID


@input_type
class SaveOnboardingInput:
    """All that one's company has filled in so far; what is left out is not filled in any more (S4-02)."""

    merchant_type: strawberry.ID
    wechat_app_id: str | None = None
    answers: list[OnboardingAnswerInput] = strawberry.field(default_factory=list)
    documents: list[OnboardingDocumentInput] = strawberry.field(default_factory=list)


@input_type
class OnboardingInput:
    """An application that is to be submitted, taken back, or agreed to."""

    id: strawberry.ID


@input_type
class RejectOnboardingInput:
    """An application that is not agreed to, and why."""

    id: strawberry.ID
    reason: str


@value_type
class MerchantPayload:
    """The merchant as it now is, or why nothing was changed."""

    merchant: Merchant | None
    errors: list[UserError]


@value_type
class MerchantOperatorPayload:
    """The operator as it now is, or why nothing was changed."""

    merchant_operator: MerchantOperator | None
    errors: list[UserError]


@value_type
class MerchantTypePayload:
    """The type as it now is, or why nothing was changed."""

    merchant_type: MerchantType | None
    errors: list[UserError]


@value_type
class OnboardingPayload:
    """The application as it now is, or why nothing was changed."""

    application: OnboardingApplication | None
    errors: list[UserError]
