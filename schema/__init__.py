"""What the graph says: types, inputs and enumerations, one file per domain. Nouns only."""

from schema import catalog, identity, notifications, sim, system, tenancy

__all__ = ["catalog", "identity", "notifications", "sim", "system", "tenancy"]
