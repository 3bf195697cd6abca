"""What the graph says: types, inputs and enumerations, one file per domain. Nouns only."""

from schema import agreements, catalog, identity, sim, system, tenancy

__all__ = ["agreements", "catalog", "identity", "sim", "system", "tenancy"]
