"""What is stored: SQLAlchemy 2 declarative models, one file per domain. Imports nothing else of ours."""

from models import catalog, identity, notifications, sim, system, tenancy

__all__ = ["catalog", "identity", "notifications", "sim", "system", "tenancy"]
