"""What is stored: SQLAlchemy 2 declarative models, one file per domain. Imports nothing else of ours."""

from models import catalog, identity, jobs, notifications, permissions, sim, system, tenancy, webhook

__all__ = ["catalog", "identity", "jobs", "notifications", "permissions", "sim", "system", "tenancy", "webhook"]
