"""Tenants in the graph: one interface, one type per kind."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import strawberry
from sqlalchemy import ColumnElement, cast, func, select

import models.identity
import models.sim
import models.tenancy as stored
from models.base import MONEY
from models.commission import CommissionEntry, CommissionEntryStatus, CommissionSettlement
from models.ledger import LedgerAccount, LedgerAccountKind
from models.tenancy import Language, TenantKind, TenantStatus
from planner.mapping import Connection, Node, column, computed, entity, enum_type, input_type, to_many, to_one, value
from schema.common import UserError

if TYPE_CHECKING:
    from schema.identity import StaffAccount
    from schema.sim import SimCard

enum_type(TenantKind, "What sort of company a tenant is.")
enum_type(TenantStatus, "Whether a tenant does business.")

SEARCHABLE = ("kind", "level", "name", "phone", "status", "parent", "created_at")


@entity(stored.Tenant, prefix="ten", interface=True, filters=SEARCHABLE, sorts=("name", "created_at"))
class Tenant(Node):
    """A company in the tree: the platform, its enterprises and agents, and their agents (S0-10, S0-34, S3-01)."""

    kind: TenantKind
    name: str
    level: int = column("How far below the platform, which is 0.")
    status: TenantStatus
    contact_name: str | None
    phone: str | None
    email: str | None = column("Where notices go.")
    time_zone: str = column("An IANA name.")
    currency: str = column("An ISO 4217 code.")
    language: Language = column("In which it and its staff are written to (S0-35).")
    remark: str | None = column("What those above note about it; not for the tenant itself.", confidential=True)
    requests_per_minute: int | None = column(
        "How many requests its staff and keys may send together; null: no limit above each caller's own."
    )
    created_at: datetime
    parent: Tenant | None = to_one("Who created it and stands above it; null where that is out of reach.")
    children: Connection[Tenant] = to_many("The tenants directly below.", by=stored.Tenant.parent_id)
    staff: Connection[StaffAccount] = to_many("Its staff.", by=models.identity.StaffAccount.tenant_id)
    sim_cards: Connection[SimCard] = to_many("The cards that it holds itself.", by=models.sim.SimCard.tenant_id)


@entity(stored.Platform, prefix="ten", filters=SEARCHABLE, sorts=("name", "created_at"))
class Platform(Tenant):
    """The operator itself, the root of the tree."""


def _prepaid(enterprise: Any, of: ColumnElement[Any]) -> ColumnElement[Any]:
    """Something of the account that an enterprise buys from; zero where it has none yet."""
    found = select(of).where(
        LedgerAccount.tenant_id == enterprise.id,
        LedgerAccount.kind == LedgerAccountKind.PREPAYMENT,
        LedgerAccount.currency == enterprise.currency,
    )
    return func.coalesce(found.scalar_subquery(), cast(0, MONEY))


@entity(stored.Enterprise, prefix="ten", filters=SEARCHABLE, sorts=("name", "created_at"))
class Enterprise(Tenant):
    """A company that buys cards for its own use (S0-36)."""

    business_licence: str | None
    landline: str | None
    credit_limit: Decimal = computed(
        "What it may owe, in its currency (S0-37).", lambda e: _prepaid(e, -LedgerAccount.floor)
    )
    available_amount: Decimal = computed(
        "What it may spend now, in its currency: what it has paid in advance, and its credit (S0-37).",
        lambda e: _prepaid(e, LedgerAccount.balance - LedgerAccount.floor),
    )


def _earned(agent: Any) -> ColumnElement[Any]:
    found = select(func.sum(CommissionEntry.amount)).where(
        CommissionEntry.tenant_id == agent.id,
        CommissionEntry.currency == agent.currency,
        CommissionEntry.status != CommissionEntryStatus.REVERSED,
    )
    return func.coalesce(found.scalar_subquery(), cast(0, MONEY))


INCOME = (LedgerAccountKind.COMMISSION, LedgerAccountKind.INCOME, LedgerAccountKind.WITHHELD)
"""What an agent has earned and not been paid: not settled yet, settled, and asked for."""


def _held(agent: Any, *kinds: LedgerAccountKind) -> ColumnElement[Any]:
    found = select(func.sum(LedgerAccount.balance)).where(
        LedgerAccount.tenant_id == agent.id,
        LedgerAccount.kind.in_(kinds),
        LedgerAccount.currency == agent.currency,
    )
    return func.coalesce(found.scalar_subquery(), cast(0, MONEY))


def _owed(agent: Any) -> ColumnElement[Any]:
    """What refunds have taken back of settled income, and no settlement has made up for yet."""
    taken = select(func.sum(CommissionEntry.amount)).where(
        CommissionEntry.tenant_id == agent.id,
        CommissionEntry.currency == agent.currency,
        CommissionEntry.status == CommissionEntryStatus.REVERSED,
        CommissionEntry.settlement_id.is_not(None),
    )
    made_up = select(func.sum(CommissionSettlement.deducted)).where(
        CommissionSettlement.tenant_id == agent.id,
        CommissionSettlement.currency == agent.currency,
        CommissionSettlement.deducted > 0,
    )
    zero = cast(0, MONEY)
    return func.coalesce(taken.scalar_subquery(), zero) - func.coalesce(made_up.scalar_subquery(), zero)


@entity(stored.Agent, prefix="ten", filters=(*SEARCHABLE, "agent_level"), sorts=("name", "created_at"))
class Agent(Tenant):
    """A sales agent of level 1, 2 or 3 (S0-38)."""

    agent_level: int | None = column("1, 2 or 3.")
    total_income: Decimal | None = computed(
        "All it has earned, in its currency; for itself and the platform (S0-38).", _earned, confidential=True
    )
    income_balance: Decimal | None = computed(
        "What of it has not been withdrawn, in its currency; for itself and the platform (S0-38).",
        lambda a: _held(a, *INCOME),
        confidential=True,
    )
    withdrawable_income: Decimal | None = computed(
        "What of it is settled, not asked for yet and not taken back by refunds, in its currency; below zero, what it "
        "owes; for itself and the platform (S0-50).",
        lambda a: _held(a, LedgerAccountKind.INCOME) - _owed(a),
        confidential=True,
    )


@input_type
class TenantProfileInput:
    """How to reach a tenant, and what it is called. Time zone, currency (ISO 4217, which stays) and language are its
    parent's where they are left out."""

    name: str
    contact_name: str | None = None
    phone: str | None = None
    email: str | None = None
    time_zone: str | None = None
    currency: str | None = None
    language: Language | None = None
    remark: str | None = None


@input_type
class FirstAccountInput:
    """The first account of a new tenant; its owner changes the password at will."""

    login: str
    password: str
    name: str


@input_type
class CreateEnterpriseInput:
    """A new enterprise customer of the platform (S0-11)."""

    profile: TenantProfileInput
    business_licence: str | None = None
    landline: str | None = None
    account: FirstAccountInput | None = None
    idempotency_key: str | None = None


@input_type
class CreateAgentInput:
    """A new agent directly below the caller: level 1 by the platform, deeper by its parent agent (S0-11, S0-21)."""

    profile: TenantProfileInput
    account: FirstAccountInput | None = None
    idempotency_key: str | None = None


@input_type
class UpdateTenantInput:
    """Changes to a tenant's profile; a field left out stays as it is (S0-24). Licence and landline are an enterprise's
    (S0-58)."""

    id: strawberry.ID
    name: str | None = None
    contact_name: str | None = None
    phone: str | None = None
    email: str | None = None
    time_zone: str | None = None
    language: Language | None = None
    remark: str | None = None
    business_licence: str | None = None
    landline: str | None = None


@input_type
class SetTenantStatusInput:
    """Whether a tenant does business."""

    id: strawberry.ID
    status: TenantStatus


@input_type
class SetTenantRateLimitInput:
    """How many requests a minute a tenant's staff and keys may send together, from 1 to 1,000,000; null: no limit."""

    id: strawberry.ID
    requests_per_minute: int | None = None


@input_type
class MoveTenantInput:
    """A branch on its way to another parent, with everything below it (S3-01)."""

    id: strawberry.ID
    parent: strawberry.ID
    idempotency_key: str | None = None


@value
class TenantPayload:
    """The tenant as it now is, or why nothing was changed."""

    tenant: Tenant | None
    errors: list[UserError]
