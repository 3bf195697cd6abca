"""Renewals: a data package that an end user buys for a card of its own, and pays through a channel (S0-33, S0-47).

The order belongs to the card's holder, whose agents earn by it, and to the person. A card that an enterprise holds is
the enterprise's to recharge.
"""

from __future__ import annotations

from sqlalchemy import select

from models.identity import EndUser
from models.orders import RenewalOrder
from models.payments import Payment, PaymentChannelKind, PaymentMethod
from models.sim import SimCard, SimEndUserBinding
from models.tenancy import Tenant, TenantKind
from services import orders
from services.payments import asking
from services.refusal import Refusal
from services.runtime import Unit


async def renew(
    work: Unit, card_id: int, package_id: int, kind: PaymentChannelKind, method: PaymentMethod, *, source: str
) -> tuple[RenewalOrder, Payment]:
    """An order of a package for a card of the calling end user, and the payment that it waits for.

    ENTERPRISE_CARD for a card that an enterprise holds; what ``orders.place`` and ``asking.open_payment`` refuse.
    """
    person = await work.session.scalar(select(EndUser).where(EndUser.id == work.principal.end_user_id))
    if person is None:
        raise Refusal("NOT_POSSIBLE_HERE")
    package = await orders.on_offer(work, package_id)
    async with work.as_the_system("renewal of a card"):
        card = await work.held(SimCard, card_id, SimCard.end_user_id == person.id, field="card")
        if await bound_to_enterprise(work, card):
            raise Refusal("ENTERPRISE_CARD", "card")
        holder = await work.owner_of(card)
        order = RenewalOrder(
            tenant_id=holder.id,
            tenant_path=holder.path,
            end_user_id=person.id,
            sim_card_id=card.id,
            data_package_id=package.id,
            phone=person.phone,
            bound_at=await work.session.scalar(
                select(SimEndUserBinding.bound_at).where(
                    SimEndUserBinding.sim_card_id == card.id, SimEndUserBinding.unbound_at.is_(None)
                )
            ),
            source=source,
        )
        await orders.place(work, order, holder, package, [card])
    return order, await asking.open_payment(work, order, kind, method)


async def bound_to_enterprise(work: Unit, card: SimCard) -> bool:
    """Whether an enterprise holds the card, so that its user cannot recharge it."""
    kind = await work.session.scalar(select(Tenant.kind).where(Tenant.id == card.tenant_id))
    return kind is TenantKind.ENTERPRISE
