"""System parameters, and the values of their own that tenants give some of them."""

from __future__ import annotations

import enum

from sqlalchemy import ForeignKey, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from models.base import Base, Published, Timestamped, stored_enum
from models.tenancy import Tenant


class ParameterType(enum.Enum):
    STRING = "STRING"
    INTEGER = "INTEGER"
    DECIMAL = "DECIMAL"
    BOOLEAN = "BOOLEAN"
    JSON = "JSON"


class SystemParameter(Timestamped, Published, Base):
    """A setting of the platform, kept as text that its type has judged (S1-21)."""

    __tablename__ = "system_parameter"
    __constraints__ = (UniqueConstraint("tenant_id", "key"),)

    key: Mapped[str]
    name: Mapped[str]
    value: Mapped[str]
    value_type: Mapped[ParameterType] = mapped_column(stored_enum(ParameterType))
    built_in: Mapped[bool] = mapped_column(default=False)
    overridable: Mapped[bool] = mapped_column(default=False)
    version: Mapped[int] = mapped_column(default=1)
    remark: Mapped[str | None]


class ParameterOverride(Timestamped, Published, Base):
    """A tenant's own value of a parameter, which holds for itself and for all below it (S1-21)."""

    __tablename__ = "parameter_override"
    __constraints__ = (UniqueConstraint("parameter_id", "tenant_id"),)

    parameter_id: Mapped[int] = mapped_column(ForeignKey("system_parameter.id", ondelete="CASCADE"))
    value: Mapped[str]

    parameter: Mapped[SystemParameter] = relationship(lazy="raise")
    tenant: Mapped[Tenant] = relationship(lazy="raise", viewonly=True)
