"""The life of a card, as data: which action leads from which status to which."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy import BigInteger, Text, case, cast, func, insert, literal, select, update

from models.base import table_of
from models.sim import SimCard, SimStatus, SimStatusChange
from services import carrier_requests
from services.refusal import Refusal
from services.runtime import Unit, Work
from services.sim.selection import Selection, locked_cards
from services.transitions import StateMachine, Transition
from services.webhook.events import STATUS_CHANGED, cards_changed

IN_SERVICE = (SimStatus.ACTIVE, SimStatus.SUSPENDED)
USED_UP = "used up"
"""Why the system suspends a card: with data again, it is resumed."""

TRANSITIONS = StateMachine(
    "WRONG_STATUS",
    ("ALLOCATE", (SimStatus.STOCK, SimStatus.ALLOCATED), SimStatus.ALLOCATED),
    ("RECALL", (SimStatus.ALLOCATED,), SimStatus.STOCK),
    ("ACTIVATE", (SimStatus.STOCK, SimStatus.ALLOCATED), SimStatus.ACTIVE),
    ("SUSPEND", (SimStatus.ACTIVE,), SimStatus.SUSPENDED),
    ("RESUME", (SimStatus.SUSPENDED,), SimStatus.ACTIVE),
    (
        "TERMINATE",
        (SimStatus.STOCK, SimStatus.ALLOCATED, SimStatus.ACTIVE, SimStatus.SUSPENDED),
        SimStatus.TERMINATED,
    ),
)


async def change_status(work: Work, selection: Selection, action: str, reason: str | None) -> list[int]:
    """Takes all of the cards one step, or none: WRONG_STATUS names how many stand elsewhere."""
    cards = await locked_cards(work, selection)
    return await step(work, cards, action, reason)


async def step(work: Unit, cards: Sequence[SimCard], action: str, reason: str | None) -> list[int]:
    """The same, for cards that the caller holds."""
    transition = TRANSITIONS[action]
    check(transition, [card.status for card in cards])
    keys = [card.id for card in cards]
    await record(work, keys, transition.action, transition.target, reason)
    values: dict[str, object] = {"status": transition.target, "updated_at": func.now()}
    if transition.target is SimStatus.ACTIVE and action == "ACTIVATE":
        now = datetime.now(UTC)
        values["activated_at"] = case((SimCard.activated_at.is_(None), now), else_=SimCard.activated_at)
    await work.session.execute(
        update(SimCard).where(SimCard.id.in_(keys)).values(**values).execution_options(synchronize_session=False)
    )
    cards_changed(work, STATUS_CHANGED, cards, action=action, status=transition.target.name)
    followed = carrier_requests.FOLLOWED.get(action)
    if followed is not None:
        async with work.as_the_system("carriers follow"):
            in_service = [card.id for card in cards if card.status in IN_SERVICE]
            await carrier_requests.wish(work.session, in_service, followed)
    return keys


def check(transition: Transition[SimStatus], statuses: list[SimStatus]) -> None:
    wrong = [status for status in statuses if status not in transition.sources]
    if wrong:
        raise Refusal("WRONG_STATUS", "cards", count=len(wrong), status=wrong[0].name, action=transition.action)


async def record(work: Unit, keys: list[int], action: str, target: SimStatus, reason: str | None) -> None:
    """Writes the step into each card's history, before the cards themselves change."""
    card = SimCard.__table__
    await work.session.execute(
        insert(table_of(SimStatusChange)).from_select(
            ["tenant_id", "tenant_path", "sim_card_id", "action", "from_status", "to_status", "reason", "account_id"],
            select(
                card.c.tenant_id,
                card.c.tenant_path,
                card.c.id,
                cast(literal(action), Text),
                card.c.status,
                cast(literal(target.name), Text),
                cast(literal(reason, Text()), Text),
                cast(literal(work.principal.account_id, BigInteger()), BigInteger),
            ).where(card.c.id.in_(keys)),
        )
    )
