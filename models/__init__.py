"""What is stored: SQLAlchemy 2 declarative models, one file per domain. Imports nothing else of ours."""

from models import agreements, catalog, identity, sim, system, tenancy

__all__ = ["agreements", "catalog", "identity", "sim", "system", "tenancy"]
