"""Contracts: templates in versions, the types of merchant that sign them, and what each merchant has to sign.

What is published is never changed, and a contract keeps the words that it was issued with. A merchant's type names a
template and a contract names the one that it came from, so that a special merchant has another one without any tie
between merchants and templates (S4-62).
"""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from sqlalchemy import func, select, update

from models.contracts import Contract, ContractStatus, ContractTemplate, ContractTemplateStatus
from models.merchants import Merchant, MerchantType
from models.tenancy import Tenant
from services import placeholders, validation
from services.identity import tenant_for
from services.refusal import Refusal
from services.runtime import Work
from services.transitions import StateMachine

TEMPLATE_TRANSITIONS = StateMachine(
    "CONTRACT_TEMPLATE_STATUS",
    ("PUBLISH", (ContractTemplateStatus.DRAFT,), ContractTemplateStatus.PUBLISHED),
    ("WITHDRAW", (ContractTemplateStatus.PUBLISHED,), ContractTemplateStatus.WITHDRAWN),
)
TRANSITIONS = StateMachine("CONTRACT_STATUS", ("SIGN", (ContractStatus.ISSUED,), ContractStatus.SIGNED))
PLACEHOLDERS = frozenset({"merchant", "merchantType", "wechatAppId", "day"})
MAX_BODY = 100_000


async def save_template(work: Work, *, code: str, name: str, scenario: str, body: str) -> ContractTemplate:
    """The draft of a template's next version, begun or changed (S4-58). UNKNOWN_PLACEHOLDER for what no contract can
    fill in."""
    values = {
        "name": validation.text(name, "name"),
        "scenario": validation.text(scenario, "scenario"),
        "body": validation.text(body, "body", limit=MAX_BODY),
    }
    placeholders.check(values["body"], PLACEHOLDERS, "body")
    owner, code = await _holding_all(work), validation.key(code, "code")
    versions = (
        await work.session.scalars(
            select(ContractTemplate)
            .where(ContractTemplate.tenant_id == owner.id, ContractTemplate.code == code)
            .order_by(ContractTemplate.version.desc())
        )
    ).all()
    draft = versions[0] if versions and versions[0].status is ContractTemplateStatus.DRAFT else None
    if draft is None:
        draft = ContractTemplate(
            tenant_id=owner.id,
            tenant_path=owner.path,
            code=code,
            version=versions[0].version + 1 if versions else 1,
        )
        work.session.add(draft)
    for field, value in values.items():
        setattr(draft, field, value)
    await work.session.flush()
    return draft


async def publish(work: Work, key: int) -> ContractTemplate:
    """From now on this version is the one that is issued, to the types of merchant that signed an earlier one, too."""
    await _holding_all(work)
    template = await work.held(ContractTemplate, key)
    template.status = TEMPLATE_TRANSITIONS.lead(template.status, "PUBLISH")
    template.published_at = datetime.now(UTC)
    earlier = select(ContractTemplate.id).where(
        ContractTemplate.tenant_id == template.tenant_id,
        ContractTemplate.code == template.code,
        ContractTemplate.id != template.id,
    )
    await work.session.execute(
        update(MerchantType).where(MerchantType.contract_template_id.in_(earlier)).values(contract_template_id=key)
    )
    await work.session.execute(
        update(ContractTemplate)
        .where(ContractTemplate.id.in_(earlier), ContractTemplate.status == ContractTemplateStatus.PUBLISHED)
        .values(status=TEMPLATE_TRANSITIONS["WITHDRAW"].target)
    )
    await work.session.flush()
    return template


async def withdraw(work: Work, key: int) -> ContractTemplate:
    """A version is not issued any more. IN_USE while a type of merchant signs it."""
    await _holding_all(work)
    template = await work.held(ContractTemplate, key)
    template.status = TEMPLATE_TRANSITIONS.lead(template.status, "WITHDRAW")
    signed_by = select(func.count(MerchantType.id)).where(MerchantType.contract_template_id == key)
    if await work.session.scalar(signed_by):
        raise Refusal("IN_USE", "id")
    await work.session.flush()
    return template


async def link(work: Work, type_id: int, template_id: int | None) -> MerchantType:
    """Which contract merchants of a type sign; one template may serve several types (S4-61)."""
    await _holding_all(work)
    kind = await work.held(MerchantType, type_id, field="merchantType")
    if template_id is not None:
        await _in_use(work, template_id)
    kind.contract_template_id = template_id
    await work.session.flush()
    return kind


async def issue_special(work: Work, merchant_id: int, template_id: int) -> Contract:
    """Another contract than its type's, for a special merchant (S4-62). NOT_ONBOARDED before it has been taken on."""
    merchant = await work.held(Merchant, merchant_id, field="merchant")
    if merchant.onboarded_at is None:
        raise Refusal("NOT_ONBOARDED", "merchant")
    return await issue(work, merchant, template_id, special=True)


async def issue(work: Work, merchant: Merchant, template_id: int, *, special: bool = False) -> Contract:
    """A contract for a merchant, which the caller holds, in today's words; it takes the place of one that has not been
    signed (S4-04)."""
    template = await _in_use(work, template_id)
    kind = await work.session.get(MerchantType, merchant.merchant_type_id)
    told = {
        "merchant": merchant.name,
        "merchantType": kind.name if kind else "",
        "wechatAppId": merchant.wechat_app_id or "",
        "day": datetime.now(ZoneInfo(merchant.time_zone)).date().isoformat(),
    }
    await _supersede(work, merchant.id, ContractStatus.ISSUED)
    contract = Contract(
        tenant_id=merchant.id,
        tenant_path=merchant.path,
        template_id=template.id,
        name=template.name,
        body=placeholders.filled(template.body, told),
        special=special,
        issued_by_id=work.principal.account_id,
    )
    work.session.add(contract)
    await work.session.flush()
    return contract


async def sign(work: Work, key: int) -> Contract:
    """The calling merchant agrees to its contract; the one before it is over (S4-56)."""
    contract = await work.held(Contract, key, Contract.tenant_id == work.principal.tenant_id)
    contract.status = TRANSITIONS.lead(contract.status, "SIGN")
    with work.session.no_autoflush:
        await _supersede(work, contract.tenant_id, ContractStatus.SIGNED)
    contract.signed_by_id, contract.signed_at = work.principal.account_id, datetime.now(UTC)
    await work.session.flush()
    return contract


async def _supersede(work: Work, merchant_id: int, status: ContractStatus) -> None:
    await work.session.execute(
        update(Contract)
        .where(Contract.tenant_id == merchant_id, Contract.status == status)
        .values(status=ContractStatus.SUPERSEDED)
        .execution_options(synchronize_session=False)
    )


async def _holding_all(work: Work) -> Tenant:
    """Whoever keeps templates waits for whoever else does: a version is numbered, published and linked alone."""
    owner = await tenant_for(work, None)
    await work.session.execute(select(Tenant.id).where(Tenant.id == owner.id).with_for_update(key_share=True))
    return owner


async def _in_use(work: Work, key: int) -> ContractTemplate:
    template = await work.held(ContractTemplate, key, field="template")
    if template.status is not ContractTemplateStatus.PUBLISHED:
        raise Refusal("CONTRACT_TEMPLATE_STATUS", "template", status=template.status.name)
    return template
