"""Giving cards to customers, taking them back, and binding them to packages and end users."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import BigInteger, bindparam, func, select, text, update
from sqlalchemy.dialects.postgresql import ARRAY

from models.catalog import CatalogStatus, DataPackage
from models.identity import EndUser
from models.sim import SimAllocation, SimEndUserBinding, SimHolding, SimStatus
from models.tenancy import Tenant, TenantKind, TenantStatus
from services.notifications.events import cards_allocated
from services.refusal import Refusal, not_found
from services.runtime import Work
from services.sim import lifecycle
from services.sim.binding import rebind
from services.sim.selection import Selection, locked_cards
from services.webhook.events import ALLOCATED, cards_changed


async def allocate(work: Work, to_id: int, selection: Selection, holding: SimHolding) -> list[int]:
    """Hands cards that the caller holds down to a customer directly below (S0-14, S0-30).

    All cards or none. NOT_DIRECTLY_BELOW where the target is not the caller's direct child, CARDS_NOT_FOUND where
    a card is not the caller's own to give.
    """
    target = await work.found(Tenant, to_id, field="to")
    if target.status is not TenantStatus.ACTIVE:
        raise Refusal("NOT_ACTIVE", "to", value=target.name)
    if target.parent_id != work.principal.tenant_id:
        raise Refusal("NOT_DIRECTLY_BELOW", "to")
    if target.kind is TenantKind.ENTERPRISE:
        holding = SimHolding.OWNED
    cards = await locked_cards(work, selection)
    elsewhere = sum(card.tenant_id != work.principal.tenant_id for card in cards)
    if elsewhere:
        raise Refusal("CARDS_NOT_FOUND", "cards", count=elsewhere)
    transition = lifecycle.TRANSITIONS["ALLOCATE"]
    lifecycle.check(transition, [card.status for card in cards])
    keys = [card.id for card in cards]
    await lifecycle.record(work, keys, transition.action, transition.target, None)
    for card in cards:
        work.session.add(
            SimAllocation(
                tenant_id=target.id,
                tenant_path=target.path,
                sim_card_id=card.id,
                from_tenant_id=card.tenant_id,
                level=target.level,
                holding=holding,
                account_id=work.principal.account_id,
            )
        )
        card.tenant_id, card.tenant_path, card.status = target.id, target.path, transition.target
    await _go_along(work, keys)
    cards_changed(work, ALLOCATED, cards)
    giver = await work.session.scalar(select(Tenant.name).where(Tenant.id == work.principal.tenant_id))
    await cards_allocated(work, giver or "", target, len(keys))
    return keys


async def recall(work: Work, selection: Selection) -> list[int]:
    """Takes cards back from wherever below they are, as long as they have not been activated (S0-30)."""
    own = await work.found(Tenant, work.principal.tenant_id, field="cards")
    cards = await locked_cards(work, selection)
    activated = sum(card.activated_at is not None for card in cards)
    if activated:
        raise Refusal("ALREADY_ACTIVATED", "cards", count=activated)
    transition = lifecycle.TRANSITIONS["RECALL"]
    lifecycle.check(transition, [card.status for card in cards])
    held = sum(card.tenant_id == own.id for card in cards)
    if held:
        raise Refusal("WRONG_STATUS", "cards", count=held, status="HELD", action=transition.action)
    keys = [card.id for card in cards]
    status = SimStatus.STOCK if own.kind is TenantKind.PLATFORM else SimStatus.ALLOCATED
    await lifecycle.record(work, keys, transition.action, status, None)
    await work.session.execute(
        update(SimAllocation)
        .where(SimAllocation.sim_card_id.in_(keys), SimAllocation.ended_at.is_(None), SimAllocation.level > own.level)
        .values(ended_at=func.now())
        .execution_options(synchronize_session=False)
    )
    for card in cards:
        card.tenant_id, card.tenant_path, card.status = own.id, own.path, status
    await _go_along(work, keys)
    return keys


OPEN = {
    "sim_package_binding": "unbound_at IS NULL",
    "sim_end_user_binding": "unbound_at IS NULL",
    "package_subscription": "status IN ('WAITING', 'ACTIVE')",
    "sim_plan_change": "status = 'PENDING'",
}
"""What hangs on a card, and as long as what: bindings, packages that were bought, a change of plan to come."""
GO_ALONG = [
    text(f"""
UPDATE {table} o SET tenant_id = c.tenant_id, tenant_path = c.tenant_path FROM sim_card c
WHERE c.id = o.sim_card_id AND c.id = ANY (:cards) AND o.{condition}
""").bindparams(bindparam("cards", type_=ARRAY(BigInteger)))  # noqa: S608 - constants
    for table, condition in OPEN.items()
]


async def _go_along(work: Work, keys: list[int]) -> None:
    """What is open on cards goes with them, so that their holder can see and end it; what is over stays behind."""
    await work.session.flush()
    for statement in GO_ALONG:
        await work.session.execute(statement, {"cards": keys})


ENDED_ABOVE = text("""
UPDATE sim_allocation a SET ended_at = now() FROM sim_card c
WHERE a.ended_at IS NULL AND a.sim_card_id = c.id AND c.tenant_path >= :path AND c.tenant_path < :end
  AND NOT (a.tenant_path >= :path AND a.tenant_path < :end)
  AND a.tenant_id NOT IN (SELECT ancestor_id FROM tenant_closure WHERE tenant_id = :tenant)
""")
LEVELLED = text("""
UPDATE sim_allocation a SET level = -t.level FROM tenant t
WHERE a.ended_at IS NULL AND a.tenant_id = t.id AND t.path >= :path AND t.path < :end
""")
UNSIGNED = text("""
UPDATE sim_allocation SET level = -level WHERE level < 0 AND tenant_path >= :path AND tenant_path < :end
""")
BEGUN_ABOVE = text("""
INSERT INTO sim_allocation (tenant_id, tenant_path, sim_card_id, from_tenant_id, level, holding)
SELECT t.id, t.path, c.id, t.parent_id, t.level, 'AGENCY'
FROM tenant_closure up JOIN tenant t ON t.id = up.ancestor_id
CROSS JOIN sim_card c
WHERE up.tenant_id = :tenant AND up.depth > 0 AND t.parent_id IS NOT NULL
  AND c.tenant_path >= :path AND c.tenant_path < :end
  AND NOT EXISTS (SELECT FROM sim_allocation a
                  WHERE a.sim_card_id = c.id AND a.tenant_id = t.id AND a.ended_at IS NULL)
""")


async def branch_moved(work: Work, branch: Tenant) -> None:
    """A branch stands elsewhere: those who stood above it no longer have its cards, those above it now do, and
    every holder's level is the one that it stands on."""
    where = {"path": branch.path, "end": branch.path.rstrip(".") + "/", "tenant": branch.id}
    place = {"path": where["path"], "end": where["end"]}
    await work.session.execute(ENDED_ABOVE, where)
    # by way of negative numbers, so that no two levels of a card meet on the way
    await work.session.execute(LEVELLED, place)
    await work.session.execute(UNSIGNED, place)
    await work.session.execute(BEGUN_ABOVE, where)


async def bind_package(work: Work, selection: Selection, package_id: int | None) -> list[int]:
    """Binds cards to a data package, or unbinds them (S0-06, S0-57). The old binding stays as history.

    WRONG_CARRIER where a card is of another carrier than the package, NOT_ACTIVE for a disabled package.
    """
    cards = await locked_cards(work, selection)
    package = None
    if package_id is not None:
        package = await work.found(DataPackage, package_id, field="package")
        if package.status is not CatalogStatus.ACTIVE:
            raise Refusal("NOT_ACTIVE", "package", value=package.code)
        other = sum(card.carrier is not package.carrier for card in cards)
        if other:
            raise Refusal("WRONG_CARRIER", "cards", count=other)
    changed = [card for card in cards if card.package_id != package_id]
    for card in changed:
        card.package_id = package_id
    await work.session.flush()
    await rebind(work.session, [card.id for card in changed])
    return [card.id for card in cards]


async def bind_end_user(work: Work, card_id: int, end_user_id: int | None) -> int:
    """Gives a card to the person who uses it, or takes it from them (S0-40, S0-57)."""
    card = (await locked_cards(work, Selection(ids=[card_id])))[0]
    if end_user_id is not None:
        found = await work.session.scalar(select(EndUser.id).where(EndUser.id == end_user_id))
        if found is None:
            raise not_found("endUser")
    if card.status is SimStatus.TERMINATED:
        raise Refusal("WRONG_STATUS", "card", count=1, status=card.status.name, action="BIND")
    if card.end_user_id == end_user_id:
        return card.id
    current = await work.session.scalar(
        select(SimEndUserBinding).where(
            SimEndUserBinding.sim_card_id == card.id, SimEndUserBinding.unbound_at.is_(None)
        )
    )
    if current is not None:
        current.unbound_at = datetime.now(UTC)
        await work.session.flush()
    card.end_user_id = end_user_id
    if end_user_id is not None:
        work.session.add(
            SimEndUserBinding(
                tenant_id=card.tenant_id,
                tenant_path=card.tenant_path,
                sim_card_id=card.id,
                end_user_id=end_user_id,
            )
        )
    await work.session.flush()
    return card.id
