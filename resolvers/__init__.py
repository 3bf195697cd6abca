"""How a field is answered: query roots, mutations, and the loaders of live fields, one file per domain."""

from resolvers import catalog, identity, notifications, sim, system, tenancy

__all__ = ["catalog", "identity", "notifications", "sim", "system", "tenancy"]
