"""How a field is answered: query roots, mutations, and the loaders of live fields, one file per domain."""

from resolvers import (
    catalog,
    dictionaries,
    guidance,
    identity,
    jobs,
    notifications,
    organisation,
    parameters,
    permissions,
    sim,
    system,
    tenancy,
    tracking,
    webhook,
)

__all__ = [
    "catalog",
    "dictionaries",
    "guidance",
    "identity",
    "jobs",
    "notifications",
    "organisation",
    "parameters",
    "permissions",
    "sim",
    "system",
    "tenancy",
    "tracking",
    "webhook",
]
