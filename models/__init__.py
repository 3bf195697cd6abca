"""What is stored: SQLAlchemy 2 declarative models, one file per domain. Imports nothing else of ours."""

from models import (
    catalog,
    dictionaries,
    guidance,
    identity,
    jobs,
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
    "catalog",
    "dictionaries",
    "guidance",
    "identity",
    "jobs",
    "notifications",
    "parameters",
    "permissions",
    "sim",
    "system",
    "tenancy",
    "tracking",
    "webhook",
]
