"""How a field is answered: query roots, mutations, and the loaders of live fields, one file per domain."""

from resolvers import catalog, dictionaries, guidance, identity, parameters, sim, system, tenancy, tracking

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
