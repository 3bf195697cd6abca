"""What the graph says: types, inputs and enumerations, one file per domain. Nouns only."""

from schema import catalog, identity, jobs, sim, system, tenancy

__all__ = ["catalog", "identity", "jobs", "sim", "system", "tenancy"]
