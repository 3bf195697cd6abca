"""What the graph says: types, inputs and enumerations, one file per domain. Nouns only."""

from schema import catalog, identity, jobs, notifications, organisation, permissions, sim, system, tenancy, webhook

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
