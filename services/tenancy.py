"""The tenant tree: who stands where, who may stand below whom, and moving a branch (S3-01)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import delete, func, insert, literal, select, text, true, update

from authz.principal import ROOT_PATH
from models.base import table_of
from models.ledger import LedgerAccountKind
from models.merchants import Merchant, MerchantOperator
from models.tenancy import Agent, Enterprise, Platform, Tenant, TenantClosure, TenantKind, TenantStatus
from services import commission, identity, ledger, validation
from services.refusal import Refusal
from services.runtime import Work
from services.sim import allocation

MAX_AGENT_LEVEL = 3
MAX_REQUESTS_PER_MINUTE = 1_000_000
INHERITED = ("time_zone", "currency", "language")
"""What a new tenant has like its parent where it is given nothing else."""
TREE_LOCK = 0x54524545
DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUV"
CHILDREN_PER_TENANT = len(DIGITS) ** 4
FIRST_ROLE = {
    TenantKind.ENTERPRISE: "enterprise_admin",
    TenantKind.AGENT: "agent_admin",
    TenantKind.MERCHANT_OPERATOR: "merchant_operator",
    TenantKind.MERCHANT: "merchant_admin",
}
OPERATES_MERCHANTS = (TenantKind.PLATFORM, TenantKind.MERCHANT_OPERATOR)


def path_code(number: int) -> str:
    """Four base-32 digits that sort bytewise as their numbers do."""
    code = ""
    for _ in range(4):
        number, digit = divmod(number, 32)
        code = DIGITS[digit] + code
    return code


async def _hold_tree(work: Work, *, moving: bool = False) -> None:
    """New tenants are placed side by side; a move has the tree to itself, so that it neither crosses another nor
    misses a tenant that is being placed in its branch."""
    lock = func.pg_advisory_xact_lock if moving else func.pg_advisory_xact_lock_shared
    await work.session.execute(select(lock(TREE_LOCK)))


def _next_path(parent: Tenant) -> str:
    if parent.next_child >= CHILDREN_PER_TENANT:
        raise Refusal("TOO_MANY", "parent", limit=CHILDREN_PER_TENANT)
    parent.next_child += 1
    return f"{parent.path}{path_code(parent.next_child - 1)}."


async def place(work: Work, tenant: Tenant, parent: Tenant | None) -> Tenant:
    """Puts a new tenant into the tree: its path, level and closure, and what it takes over from its parent."""
    if parent is None:
        tenant.path, tenant.level = ROOT_PATH, 0
    else:
        tenant.path, tenant.level, tenant.parent_id = _next_path(parent), parent.level + 1, parent.id
        for name in INHERITED:
            if getattr(tenant, name) is None:
                setattr(tenant, name, getattr(parent, name))
    work.session.add(tenant)
    await work.session.flush()
    above = (
        []
        if parent is None
        else list(
            await work.session.execute(
                select(TenantClosure.ancestor_id, TenantClosure.depth).where(TenantClosure.tenant_id == parent.id)
            )
        )
    )
    work.session.add_all(
        TenantClosure(tenant_id=tenant.id, tenant_path=tenant.path, ancestor_id=ancestor, depth=depth)
        for ancestor, depth in [(tenant.id, 0), *((a, d + 1) for a, d in above)]
    )
    await work.session.flush()
    work.access_changed = True
    return tenant


async def create_platform(work: Work, name: str) -> Tenant:
    """The root of a new installation."""
    return await place(work, Platform(name=name), None)


def _profile(tenant: Tenant, profile: object) -> Tenant:
    given = vars(profile)
    tenant.name = validation.text(given["name"], "profile.name")
    tenant.contact_name = validation.optional(given["contact_name"], "profile.contactName")
    tenant.phone = validation.phone(given["phone"], "profile.phone")
    tenant.email = validation.email(given["email"], "profile.email")
    tenant.remark = validation.optional(given["remark"], "profile.remark", limit=2_000)
    if given["currency"] is not None:
        tenant.currency = validation.currency(given["currency"], "profile.currency")
    zone = validation.time_zone(given["time_zone"], "profile.timeZone")
    if zone is not None:
        tenant.time_zone = zone
    if given["language"] is not None:
        tenant.language = given["language"]
    return tenant


async def _first_account(work: Work, tenant: Tenant, account: object | None) -> None:
    if account is not None:
        given = vars(account)
        await identity.create_account(
            work,
            tenant,
            login=given["login"],
            password=given["password"],
            name=given["name"],
            roles=[FIRST_ROLE[tenant.kind]],
            onboarding=True,
        )


async def _above(work: Work) -> Tenant:
    """The caller's own company, held, below which somebody new is to stand."""
    await _hold_tree(work)
    return await work.held(Tenant, _own(work), field="tenant")


async def _take_on(work: Work, tenant: Tenant, parent: Tenant, profile: object, account: object | None) -> Tenant:
    await place(work, _profile(tenant, profile), parent)
    await _first_account(work, tenant, account)
    return tenant


async def create_enterprise(
    work: Work, profile: object, *, business_licence: str | None, landline: str | None, account: object | None
) -> Tenant:
    """An enterprise directly below the platform (S0-11)."""
    parent = await _above(work)
    if parent.kind is not TenantKind.PLATFORM:
        raise Refusal("WRONG_PARENT", "tenant")
    tenant = Enterprise(
        kind=TenantKind.ENTERPRISE,
        business_licence=validation.optional(business_licence, "businessLicence"),
        landline=validation.phone(landline, "landline"),
    )
    await _take_on(work, tenant, parent, profile, account)
    await ledger.account_of(work, tenant, LedgerAccountKind.PREPAYMENT, tenant.currency)
    return tenant


async def create_agent(work: Work, profile: object, account: object | None) -> Tenant:
    """An agent directly below the caller: level 1 by the platform, 2 and 3 by their parent (S0-11, S0-21)."""
    parent = await _above(work)
    agent = Agent(kind=TenantKind.AGENT, agent_level=_agent_level_below(parent))
    return await _take_on(work, agent, parent, profile, account)


async def create_merchant_operator(work: Work, profile: object, account: object | None) -> Tenant:
    """A company that operates merchants, directly below the platform (S4-75)."""
    parent = await _above(work)
    if parent.kind is not TenantKind.PLATFORM:
        raise Refusal("WRONG_PARENT", "tenant")
    return await _take_on(work, MerchantOperator(kind=TenantKind.MERCHANT_OPERATOR), parent, profile, account)


async def create_merchant(work: Work, profile: object, account: object | None) -> Tenant:
    """A merchant directly below the caller, which is the platform or operates merchants; it sells once it has been
    taken on (S4-57)."""
    parent = await _above(work)
    if parent.kind not in OPERATES_MERCHANTS:
        raise Refusal("WRONG_PARENT", "tenant")
    return await _take_on(work, Merchant(kind=TenantKind.MERCHANT), parent, profile, account)


def _own(work: Work) -> int:
    assert work.principal.tenant_id is not None
    return work.principal.tenant_id


def _agent_level_below(parent: Tenant) -> int:
    if parent.kind is TenantKind.PLATFORM:
        return 1
    if not isinstance(parent, Agent):
        raise Refusal("WRONG_PARENT", "tenant")
    if (parent.agent_level or 0) >= MAX_AGENT_LEVEL:
        raise Refusal("LAST_LEVEL", "tenant")
    return (parent.agent_level or 0) + 1


async def update_profile(work: Work, tenant_id: int, changes: dict[str, Any]) -> Tenant:
    """Changes what is given and leaves the rest (S0-24, S0-58). NOT_AN_ENTERPRISE for what only enterprises have."""
    tenant = await work.held(Tenant, tenant_id)
    checks: dict[str, Callable[[Any], Any]] = {
        "name": lambda v: validation.text(v, "name"),
        "contact_name": lambda v: validation.optional(v, "contactName"),
        "phone": lambda v: validation.phone(v, "phone"),
        "email": lambda v: validation.email(v, "email"),
        "time_zone": lambda v: validation.time_zone(validation.text(v, "timeZone"), "timeZone"),
        "language": lambda v: v,
        "remark": lambda v: validation.optional(v, "remark", limit=2_000),
    }
    of_enterprises: dict[str, Callable[[Any], Any]] = {
        "business_licence": lambda v: validation.optional(v, "businessLicence"),
        "landline": lambda v: validation.phone(v, "landline"),
    }
    if isinstance(tenant, Enterprise):
        checks |= of_enterprises
    for name, value in changes.items():
        if name not in checks:
            raise Refusal("NOT_AN_ENTERPRISE", "businessLicence" if name == "business_licence" else name)
        setattr(tenant, name, checks[name](value))
    return tenant


async def set_status(work: Work, tenant_id: int, status: TenantStatus) -> Tenant:
    """Suspends a tenant, from its staff's next request on, or lets it do business again."""
    tenant = await work.held(Tenant, tenant_id)
    if tenant.id == work.principal.tenant_id:
        raise Refusal("INVALID", "id")
    tenant.status = status
    work.access_changed = True
    return tenant


async def set_rate_limit(work: Work, tenant_id: int, per_minute: int | None) -> Tenant:
    """How many requests a minute all of a tenant's callers may send together, in each process; None: no limit."""
    if per_minute is not None and not 1 <= per_minute <= MAX_REQUESTS_PER_MINUTE:
        raise Refusal("INVALID", "requestsPerMinute")
    tenant = await work.held(Tenant, tenant_id)
    tenant.requests_per_minute = per_minute
    work.access_changed = True
    return tenant


async def move(work: Work, tenant_id: int, parent_id: int) -> Tenant:
    """Moves a branch below another parent, in one transaction: paths, levels, closure and, by cascade, every row.

    WRONG_PARENT where the kinds do not fit or agents would stand deeper than three levels, PARENT_WITHIN where the
    new parent stands inside the branch.
    """
    await _hold_tree(work, moving=True)
    tenant = await work.held(Tenant, tenant_id)
    parent = await work.held(Tenant, parent_id, field="parent")
    if parent.path.startswith(tenant.path):
        raise Refusal("PARENT_WITHIN", "parent")
    if isinstance(tenant, Agent):
        await _check_depth(work, tenant, _agent_level_below(parent))
    elif isinstance(tenant, Merchant):
        if parent.kind not in OPERATES_MERCHANTS:
            raise Refusal("WRONG_PARENT", "parent")
    elif parent.kind is not TenantKind.PLATFORM or tenant.parent_id is None:
        raise Refusal("WRONG_PARENT", "parent")
    old, levels = tenant.path, parent.level + 1 - tenant.level
    new = _next_path(parent)
    await work.session.flush()
    await _rewrite_closure(work, tenant, parent)
    end = old.rstrip(".") + "/"
    await work.session.execute(
        update(Tenant)
        .where(Tenant.path >= old, Tenant.path < end)
        .values(
            path=literal(new) + func.substr(Tenant.path, len(old) + 1),
            level=Tenant.level + levels,
            agent_level=text("agent_level + :levels").bindparams(levels=levels),
        )
        .execution_options(synchronize_session=False)
    )
    await work.session.execute(
        update(Tenant)
        .where(Tenant.id == tenant.id)
        .values(parent_id=parent.id)
        .execution_options(synchronize_session=False)
    )
    await work.session.refresh(tenant)
    await allocation.branch_moved(work, tenant)
    await commission.branch_moved(work, tenant)
    work.access_changed = True
    return tenant


async def _check_depth(work: Work, tenant: Agent, level: int) -> None:
    end = tenant.path.rstrip(".") + "/"
    deepest = await work.session.scalar(
        select(func.max(Tenant.level)).where(Tenant.path >= tenant.path, Tenant.path < end)
    )
    if level + (deepest or 0) - tenant.level > MAX_AGENT_LEVEL:
        raise Refusal("LAST_LEVEL", "parent")


async def _rewrite_closure(work: Work, tenant: Tenant, parent: Tenant) -> None:
    members = select(TenantClosure.tenant_id).where(TenantClosure.ancestor_id == tenant.id)
    ids = list(await work.session.scalars(members))
    await work.session.execute(
        delete(TenantClosure)
        .where(TenantClosure.tenant_id.in_(ids), TenantClosure.ancestor_id.not_in(ids))
        .execution_options(synchronize_session=False)
    )
    above, below = TenantClosure.__table__.alias("above"), TenantClosure.__table__.alias("below")
    await work.session.execute(
        insert(table_of(TenantClosure)).from_select(
            ["tenant_id", "tenant_path", "ancestor_id", "depth"],
            select(below.c.tenant_id, below.c.tenant_path, above.c.ancestor_id, above.c.depth + below.c.depth + 1)
            .select_from(below.join(above, true()))
            .where(above.c.tenant_id == parent.id, below.c.ancestor_id == tenant.id),
        )
    )
