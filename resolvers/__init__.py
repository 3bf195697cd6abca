"""How a field is answered: query roots, mutations, and the loaders of live fields, one file per domain."""

from resolvers import catalog, identity, jobs, notifications, organisation, permissions, sim, system, tenancy, webhook

__all__ = [
    "catalog",
    "identity",
    "jobs",
    "notifications",
    "organisation",
    "permissions",
    "sim",
    "system",
    "tenancy",
    "webhook",
]
