"""Packages that come to their end: the holder of the card, and the person who uses it, are told at eighty percent and
when there is nothing left, once for each package."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select

from models.identity import EndUser
from models.orders import PackageSubscription, SubscriptionStatus
from models.sim import SimCard
from models.tenancy import Tenant
from services.notifications.kinds import DATA_NEARLY_USED, DATA_USED_UP
from services.notifications.recipients import Recipient
from services.notifications.writing import send
from services.runtime import Unit

NEARLY = 80
"""Percent."""


async def tell(work: Unit, cards: Sequence[int]) -> None:
    """Tells of the packages in use on these cards that have passed eighty percent, or have nothing left."""
    size = PackageSubscription.data_volume_mb * 1024
    rows = await work.session.execute(
        select(PackageSubscription.id, PackageSubscription.used_kb >= size, SimCard, Tenant)
        .join(SimCard, SimCard.id == PackageSubscription.sim_card_id)
        .join(Tenant, Tenant.id == SimCard.tenant_id)
        .where(
            PackageSubscription.sim_card_id.in_(cards),
            PackageSubscription.status == SubscriptionStatus.ACTIVE,
            PackageSubscription.data_volume_mb > 0,
            PackageSubscription.used_kb * 100 >= size * NEARLY,
        )
        .order_by(PackageSubscription.id)
    )
    for key, used_up, card, holder in rows.all():
        kind = DATA_USED_UP if used_up else DATA_NEARLY_USED
        told = {"card": card.display_iccid} | ({} if used_up else {"percent": str(NEARLY)})
        recipients = [Recipient.tenant(holder)]
        person = await work.session.scalar(select(EndUser).where(EndUser.id == card.end_user_id))
        if person is not None:
            recipients.append(await Recipient.person(work.session, person))
        for number, to in enumerate(recipients):
            once = f"package:{key}:{kind.key}:{number}"
            await send(work.session, kind=kind.key, to=to, parameters=told, dedupe_key=once)
