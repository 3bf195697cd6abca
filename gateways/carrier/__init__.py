"""The carriers whose cards are sold: what they say about a card now."""

from gateways.carrier.cards import CardState, CardStatus, CarrierQuery
from gateways.carrier.registry import Carriers, carriers

__all__ = ["CardState", "CardStatus", "CarrierQuery", "Carriers", "carriers"]
