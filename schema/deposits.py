"""Merchants' security deposits in the graph."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import strawberry

import models.deposits as stored
from models.deposits import DepositMovementKind
from planner.mapping import Node, column, entity, enum_type, input_type, to_one, value
from schema.common import UserError

if TYPE_CHECKING:
    from schema.identity import StaffAccount
    from schema.tenancy import Tenant

enum_type(DepositMovementKind, "Whether money became a deposit or was released from it.")


@entity(stored.DepositTerms, prefix="dpt", filters=("merchant", "required_amount"))
class DepositTerms(Node):
    """How much a merchant has to leave as a security; zero for one that trades without (S4-67)."""

    required_amount: Decimal = column("In ``currency``.")
    currency: str = column("An ISO 4217 code.")
    reason: str | None = column("Why as much as that.")
    updated_at: datetime = column("Since when.")
    merchant: Tenant | None = to_one("Who has to leave it.", via="tenant")
    set_by: StaffAccount | None = to_one("Who set it; null where that is out of reach.")


@entity(
    stored.DepositMovement, prefix="dpm", filters=("merchant", "kind", "amount", "created_at"), sorts=("created_at",)
)
class DepositMovement(Node):
    """Some of a merchant's money that became its deposit, or was released from it (S4-67)."""

    kind: DepositMovementKind
    amount: Decimal = column("In ``currency``.")
    currency: str = column("An ISO 4217 code.")
    reason: str | None = column("Why it was released.")
    created_at: datetime
    merchant: Tenant | None = to_one("Whose deposit it is.", via="tenant")
    account: StaffAccount | None = to_one("Who did it; null where that is out of reach.")


@input_type
class SetDepositTermsInput:
    """How much a merchant has to leave, in its currency (S4-67)."""

    merchant: strawberry.ID
    required_amount: Decimal
    reason: str | None = None


@input_type
class PayDepositInput:
    """Some of what one has paid in, to be left as a security, at first or when more is asked (S4-67)."""

    amount: Decimal
    idempotency_key: str


@input_type
class ReleaseDepositInput:
    """Some of a merchant's deposit that it may withdraw, and why (S4-67)."""

    merchant: strawberry.ID
    amount: Decimal
    reason: str
    idempotency_key: str


@value
class DepositTermsPayload:
    """What the merchant has to leave now, or why nothing was changed."""

    deposit_terms: DepositTerms | None
    errors: list[UserError]


@value
class DepositMovementPayload:
    """The money that moved, or why none did."""

    deposit_movement: DepositMovement | None
    errors: list[UserError]
