"""What is stored: SQLAlchemy 2 declarative models, one file per domain. Imports nothing else of ours."""

from models import catalog, dictionaries, guidance, identity, parameters, sim, system, tenancy, tracking

__all__ = [
    "catalog",
    "dictionaries",
    "guidance",
    "identity",
    "parameters",
    "sim",
    "system",
    "tenancy",
    "tracking",
]
