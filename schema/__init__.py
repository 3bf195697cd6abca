"""What the graph says: types, inputs and enumerations, one file per domain. Nouns only."""

from schema import (
    agreements,
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
    "agreements",
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
