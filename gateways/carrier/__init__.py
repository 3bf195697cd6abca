"""The carriers whose cards are sold: what they say about a card now."""

from gateways.carrier.cards import (
    CardChange,
    CardState,
    CardStatus,
    CarrierQuery,
    ChangeRequest,
    RealName,
    RealNameOutcome,
    Used,
)
from gateways.carrier.registry import Carriers, carriers

__all__ = [
    "CardChange",
    "CardState",
    "CardStatus",
    "CarrierQuery",
    "Carriers",
    "ChangeRequest",
    "RealName",
    "RealNameOutcome",
    "Used",
    "carriers",
]
