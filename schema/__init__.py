"""What the graph says: types, inputs and enumerations, one file per domain. Nouns only."""

from schema import catalog, dictionaries, guidance, identity, parameters, sim, system, tenancy, tracking

__all__ = [
    "catalog",
    "dictionaries",
    "guidance",
    "identity",
    "parameters",
    "sim",
    "system",
    "tenancy",
    "tracking",
]
