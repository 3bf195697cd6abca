"""What the graph says: types, inputs and enumerations, one file per domain. Nouns only."""

from schema import (
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
