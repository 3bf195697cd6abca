"""System parameters and tenants' own values of them in the graph."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import strawberry

import models.parameters as stored
from models.parameters import ParameterType
from planner.mapping import Connection, Node, column, entity, enum_type, input_type, to_many, to_one, value
from schema.common import UserError

if TYPE_CHECKING:
    from schema.tenancy import Tenant

enum_type(ParameterType, "What a parameter's value is; it is checked when it is written.")


@entity(stored.SystemParameter, prefix="par", filters=("key", "name", "built_in", "overridable"), sorts=("key",))
class SystemParameter(Node):
    """A setting of the platform (S1-21)."""

    key: str = column("What programs call it.")
    name: str
    value: str
    value_type: ParameterType
    built_in: bool = column("Whether programs rest on it: then it stays, and only its value can be changed.")
    overridable: bool = column("Whether tenants may have values of their own.")
    version: int = column("Grows with every change; a change names the version that it was made from.")
    remark: str | None
    created_at: datetime
    updated_at: datetime
    overrides: Connection[ParameterOverride] = to_many("Tenants' own values.", by=stored.ParameterOverride.parameter_id)


@entity(stored.ParameterOverride, prefix="pao", sorts=("updated_at",))
class ParameterOverride(Node):
    """A tenant's own value of a parameter, which holds for it and for those below it (S1-21)."""

    value: str
    updated_at: datetime
    tenant: Tenant | None = to_one("Whose value it is.")


@value
class EffectiveParameter:
    """What a parameter is for the caller's tenant: its own value, else the nearest one above (S1-21)."""

    key: str
    name: str
    value: str
    value_type: ParameterType
    overridable: bool
    is_own: bool


@input_type
class ParameterInput:
    """A new parameter of the platform (S1-21)."""

    key: str
    name: str
    value: str
    value_type: ParameterType
    overridable: bool = False
    remark: str | None = None


@input_type
class UpdateParameterInput:
    """Changes to the version of a parameter that the caller has read; a field left out stays as it is (S1-21)."""

    id: strawberry.ID
    version: int
    key: str | None = None
    name: str | None = None
    value: str | None = None
    overridable: bool | None = None
    remark: str | None = None


@value
class ParameterPayload:
    """The parameter as it now is, or why nothing was changed."""

    parameter: SystemParameter | None
    errors: list[UserError]


@input_type
class OverrideParameterInput:
    """The caller's tenant's own value of a parameter (S1-21)."""

    key: str
    value: str


@value
class EffectiveParameterPayload:
    """The parameter as it now is for the caller's tenant, or why nothing was changed."""

    parameter: EffectiveParameter | None
    errors: list[UserError]
