"""The carriers whose cards are sold: what they say about a card now."""

from gateways.carrier.cards import CardState, CardStatus, CarrierQuery, RealName, RealNameOutcome
from gateways.carrier.registry import Carriers, carriers

__all__ = ["CardState", "CardStatus", "CarrierQuery", "Carriers", "RealName", "RealNameOutcome", "carriers"]
