"""How merchants are taken on: the types that there are, what each asks for, the merchant's application, and what those
who keep the merchants' information say to it.

A merchant saves its application as often as it likes, and is told what is missing when it submits it. Whoever decides
holds the merchant first, then the application.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import delete, select

from models.catalog import CatalogStatus
from models.merchants import Merchant, MerchantType, OnboardingApplication, OnboardingDocument, OnboardingStatus
from models.system import StoredFile
from models.tenancy import TenantStatus
from services import contracts, tenancy, validation
from services.conflicts import told_apart
from services.identity import tenant_for
from services.refusal import Refusal, not_found
from services.runtime import Work
from services.transitions import StateMachine

TRANSITIONS = StateMachine(
    "ONBOARDING_STATUS",
    ("SAVE", (OnboardingStatus.DRAFT,), OnboardingStatus.DRAFT),
    ("SUBMIT", (OnboardingStatus.DRAFT,), OnboardingStatus.SUBMITTED),
    ("WITHDRAW", (OnboardingStatus.DRAFT, OnboardingStatus.SUBMITTED), OnboardingStatus.WITHDRAWN),
    ("APPROVE", (OnboardingStatus.SUBMITTED,), OnboardingStatus.APPROVED),
    ("REJECT", (OnboardingStatus.SUBMITTED,), OnboardingStatus.REJECTED),
)
OPEN = (OnboardingStatus.DRAFT, OnboardingStatus.SUBMITTED)
TYPE_CONSTRAINT, APP_CONSTRAINT = "uq_merchant_type_tenant_id_code", "uq_tenant_wechat_app_id"
MAX_PARTS = 50
MAX_ANSWER = 2_000
_APP_ID = re.compile(r"wx[0-9a-f]{16}")


@dataclass(frozen=True)
class FormField:
    """Something that a merchant of a type is asked."""

    key: str
    label: str
    required: bool


async def create_type(
    work: Work,
    *,
    code: str,
    name: str,
    form_fields: Sequence[FormField],
    required_documents: Sequence[str],
    page_variant: str | None,
) -> MerchantType:
    """A new sort of merchant (S4-59). TAKEN where the code is in use."""
    owner = await tenant_for(work, None)
    kind = MerchantType(
        tenant_id=owner.id,
        tenant_path=owner.path,
        code=validation.key(code, "code"),
        name=validation.text(name, "name"),
        form_fields=_form(form_fields),
        required_documents=_documents(required_documents),
        page_variant=None if page_variant is None else validation.key(page_variant, "pageVariant"),
    )
    work.session.add(kind)
    async with told_apart(work.session, {TYPE_CONSTRAINT: ("code", kind.code)}):
        await work.session.flush()
    return kind


async def update_type(work: Work, key: int, changes: Mapping[str, Any]) -> MerchantType:
    """Changes what is given; what has been submitted already is judged by what is asked when it is decided on."""
    kind = await work.held(MerchantType, key)
    checks: dict[str, Callable[[Any], Any]] = {
        "name": lambda v: validation.text(v, "name"),
        "form_fields": _form,
        "required_documents": _documents,
        "page_variant": lambda v: validation.key(v, "pageVariant"),
        "status": lambda v: v,
    }
    for name, value in changes.items():
        setattr(kind, name, checks[name](value))
    await work.session.flush()
    return kind


def _form(fields: Sequence[FormField]) -> list[dict[str, Any]]:
    if len(fields) > MAX_PARTS:
        raise Refusal("TOO_MANY", "formFields", limit=MAX_PARTS)
    checked = [
        FormField(
            validation.key(one.key, "formFields.key"), validation.text(one.label, "formFields.label"), one.required
        )
        for one in fields
    ]
    _told_apart([one.key for one in checked], "formFields.key")
    return [asdict(one) for one in checked]


def _documents(names: Sequence[str]) -> list[str]:
    if len(names) > MAX_PARTS:
        raise Refusal("TOO_MANY", "requiredDocuments", limit=MAX_PARTS)
    return _told_apart([validation.key(name, "requiredDocuments") for name in names], "requiredDocuments")


def _told_apart(names: list[str], field: str) -> list[str]:
    for number, name in enumerate(names):
        if name in names[:number]:
            raise Refusal("TAKEN", field, value=name)
    return names


async def save_application(
    work: Work,
    *,
    type_id: int,
    wechat_app_id: str | None,
    answers: Sequence[tuple[str, str]],
    documents: Sequence[tuple[str, int]],
) -> OnboardingApplication:
    """What the calling merchant has filled in so far: the application that it has begun, or a new one (S4-02).

    NOT_FOUND for a type or a file out of reach, NOT_ACTIVE for a type that is not offered any more, UNKNOWN_ANSWER,
    UNKNOWN_DOCUMENT for what the type does not ask, ONBOARDING_STATUS while one is being decided on.
    """
    merchant = await calling(work, held=True)
    kind = await _offered(work, type_id)
    found = await work.session.scalar(
        select(OnboardingApplication)
        .where(OnboardingApplication.tenant_id == merchant.id, OnboardingApplication.status.in_(OPEN))
        .with_for_update()
    )
    if found is None:
        found = OnboardingApplication(
            tenant_id=merchant.id, tenant_path=merchant.path, status=OnboardingStatus.DRAFT, merchant_type_id=kind.id
        )
        work.session.add(found)
    found.status = TRANSITIONS.lead(found.status, "SAVE")
    found.merchant_type_id, found.wechat_app_id = kind.id, _app_id(wechat_app_id)
    found.answers = _answers(kind, answers)
    await work.session.flush()
    await _attach(work, found, kind, documents)
    return found


def _app_id(value: str | None) -> str | None:
    found = validation.optional(value, "wechatAppId")
    if found is not None and not _APP_ID.fullmatch(found):
        raise Refusal("INVALID", "wechatAppId")
    return found


def _answers(kind: MerchantType, answers: Sequence[tuple[str, str]]) -> dict[str, str]:
    asked = {one["key"] for one in kind.form_fields}
    for key, _ in answers:
        if key not in asked:
            raise Refusal("UNKNOWN_ANSWER", "answers.key", value=key[:60])
    _told_apart([key for key, _ in answers], "answers.key")
    told = {key: validation.text(value, f"answers.{key}", required=False, limit=MAX_ANSWER) for key, value in answers}
    return {key: value for key, value in told.items() if value}


async def _attach(
    work: Work, application: OnboardingApplication, kind: MerchantType, documents: Sequence[tuple[str, int]]
) -> None:
    for document, _ in documents:
        if document not in kind.required_documents:
            raise Refusal("UNKNOWN_DOCUMENT", "documents.document", value=document[:60])
    _told_apart([document for document, _ in documents], "documents.document")
    files = {
        file.id: file
        for file in await work.session.scalars(
            select(StoredFile).where(
                StoredFile.id.in_([file for _, file in documents]), StoredFile.tenant_id == application.tenant_id
            )
        )
    }
    await work.session.execute(delete(OnboardingDocument).where(OnboardingDocument.application_id == application.id))
    for document, file_id in documents:
        if file_id not in files:
            raise not_found(f"documents.{document}")
        work.session.add(
            OnboardingDocument(
                tenant_id=application.tenant_id,
                tenant_path=application.tenant_path,
                application_id=application.id,
                document=document,
                file_id=file_id,
                name=files[file_id].name,
            )
        )
    await work.session.flush()


async def submit(work: Work, key: int) -> OnboardingApplication:
    """The merchant has told everything. REQUIRED, by field, for what is missing: the mini-program's app id always
    (S4-03), and what its type asks for (S4-60); NOT_ACTIVE where its type is not offered any more."""
    application = await _own(work, key)
    status = TRANSITIONS.lead(application.status, "SUBMIT")
    _check_whole(application, await _offered(work, application.merchant_type_id), await _shown(work, application))
    application.status = status
    application.submitted_at = datetime.now(UTC)
    await work.session.flush()
    return application


def _check_whole(application: OnboardingApplication, kind: MerchantType, shown: Collection[str]) -> None:
    if application.wechat_app_id is None:
        raise Refusal("REQUIRED", "wechatAppId")
    for one in kind.form_fields:
        if one["required"] and one["key"] not in application.answers:
            raise Refusal("REQUIRED", f"answers.{one['key']}")
    for document in kind.required_documents:
        if document not in shown:
            raise Refusal("REQUIRED", f"documents.{document}")


async def _shown(work: Work, application: OnboardingApplication) -> set[str]:
    documents = select(OnboardingDocument.document).where(OnboardingDocument.application_id == application.id)
    return set(await work.session.scalars(documents))


async def withdraw(work: Work, key: int) -> OnboardingApplication:
    """The merchant takes its application back, as long as nobody has decided."""
    application = await _own(work, key)
    application.status = TRANSITIONS.lead(application.status, "WITHDRAW")
    await work.session.flush()
    return application


async def approve(work: Work, key: int) -> OnboardingApplication:
    """The merchant is taken on, or changes its type: it may sell, and has the contract of its type to sign (S4-02,
    S4-04, S4-57). What was submitted while its type was offered is still decided on. TAKEN where another merchant has
    the mini-program (S4-03)."""
    merchant, application = await _to_decide(work, key)
    status = TRANSITIONS.lead(application.status, "APPROVE")
    kind = await work.held(MerchantType, application.merchant_type_id, field="merchantType", read=True)
    _check_whole(application, kind, await _shown(work, application))
    application.status = status
    application.review(work.principal.account_id, datetime.now(UTC))
    merchant.merchant_type_id, merchant.wechat_app_id = kind.id, application.wechat_app_id
    merchant.onboarded_at = merchant.onboarded_at or application.reviewed_at
    async with told_apart(work.session, {APP_CONSTRAINT: ("wechatAppId", application.wechat_app_id or "")}):
        await work.session.flush()
    if kind.contract_template_id is not None:
        await contracts.issue(work, merchant, kind.contract_template_id)
    return application


async def reject(work: Work, key: int, reason: str) -> OnboardingApplication:
    """The merchant is told why not; it may apply again."""
    _, application = await _to_decide(work, key)
    application.status = TRANSITIONS.lead(application.status, "REJECT")
    told = validation.text(reason, "reason", limit=MAX_ANSWER)
    application.review(work.principal.account_id, datetime.now(UTC), told)
    await work.session.flush()
    return application


async def update(work: Work, merchant_id: int, changes: dict[str, Any]) -> Merchant:
    """Changes what is known of a merchant within reach, as far as it is given (S4-57)."""
    merchant = await work.found(Merchant, merchant_id)
    await tenancy.update_profile(work, merchant_id, changes)
    return merchant


async def set_status(work: Work, merchant_id: int, status: TenantStatus) -> Merchant:
    """Suspends a merchant from its staff's next request on, or lets it do business again (S4-57)."""
    merchant = await work.found(Merchant, merchant_id)
    await tenancy.set_status(work, merchant_id, status)
    return merchant


async def calling(work: Work, *, onboarded: bool = False, held: bool = False) -> Merchant:
    """The merchant whose staff calls. NOT_POSSIBLE_HERE for anybody else; NOT_ONBOARDED where it has to have been taken
    on and has not."""
    query = select(Merchant).where(Merchant.id == work.principal.tenant_id)
    found = await work.session.scalar(query.with_for_update(key_share=True) if held else query)
    if found is None:
        raise Refusal("NOT_POSSIBLE_HERE")
    if onboarded and found.onboarded_at is None:
        raise Refusal("NOT_ONBOARDED")
    return found


async def _own(work: Work, key: int) -> OnboardingApplication:
    merchant = await calling(work, held=True)
    return await work.held(OnboardingApplication, key, OnboardingApplication.tenant_id == merchant.id)


async def _to_decide(work: Work, key: int) -> tuple[Merchant, OnboardingApplication]:
    found = await work.found(OnboardingApplication, key)
    merchant = await work.held(Merchant, found.tenant_id)
    return merchant, await work.held(OnboardingApplication, key)


async def _offered(work: Work, key: int) -> MerchantType:
    kind = await work.found(MerchantType, key, field="merchantType")
    if kind.status is not CatalogStatus.ACTIVE:
        raise Refusal("NOT_ACTIVE", "merchantType", value=kind.code)
    return kind
