"""What is stored: SQLAlchemy 2 declarative models, one file per domain. Imports nothing else of ours."""

from models import (
    agreements,
    catalog,
    dictionaries,
    guidance,
    identity,
    jobs,
    ledger,
    network_devices,
    notifications,
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
    "ledger",
    "network_devices",
    "notifications",
    "parameters",
    "permissions",
    "sim",
    "system",
    "tenancy",
    "tracking",
    "webhook",
]
