"""How a field is answered: query roots, mutations, and the loaders of live fields, one file per domain."""

from resolvers import agreements, catalog, end_users, identity, oauth, second_factor, sim, system, tenancy

__all__ = ["agreements", "catalog", "end_users", "identity", "oauth", "second_factor", "sim", "system", "tenancy"]
