"""System parameters: typed settings, and tenants' own values where a parameter allows them (S1-21).

Two people who change one parameter are told apart by its version, compared while its row is held: the later one is
refused as STALE and reads again. A tenant's own value is one row, written in one statement.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import orjson
from sqlalchemy import Select, delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from authz.principal import ROOT_PATH, system
from authz.session import Database
from models.base import table_of
from models.parameters import ParameterOverride, ParameterType, SystemParameter
from models.tenancy import Tenant
from services import validation
from services.conflicts import told_apart
from services.identity import tenant_for
from services.refusal import Refusal, not_found
from services.runtime import Runtime, Work

PRESENTATION = "product.presentationUrl"
KEY_CONSTRAINT = "uq_system_parameter_tenant_id_key"
MAX_VALUE = 10_000
_INTEGER = re.compile(r"-?[0-9]{1,18}")
_DECIMAL = re.compile(r"-?[0-9]{1,14}(?:\.[0-9]{1,10})?")

Value = str | int | Decimal | bool | dict[str, Any] | list[Any] | float | None


@dataclass(frozen=True)
class BuiltIn:
    """A parameter that programs rest on: it exists in every installation."""

    key: str
    name: str
    value: str
    value_type: ParameterType
    overridable: bool = False


BUILT_IN = {
    one.key: one
    for one in (
        BuiltIn(
            "tracking.eventsPerMinute",
            "Events that one caller may report in a minute",
            "600",
            ParameterType.INTEGER,
        ),
        BuiltIn(
            "tracking.visitorEventsPerMinute",
            "Events that may be reported from one address in a minute before a login",
            "60",
            ParameterType.INTEGER,
        ),
        BuiltIn(
            "orders.paymentMinutes",
            "Minutes for which an order waits for its payment",
            "30",
            ParameterType.INTEGER,
        ),
        BuiltIn(
            PRESENTATION,
            "Address of the product presentation",
            "",
            ParameterType.STRING,
            overridable=True,
        ),
        BuiltIn(
            "usage.amplification",
            "By how much usage is shown greater than it is, where no ratio of its own is set",
            "1",
            ParameterType.DECIMAL,
        ),
        BuiltIn(
            "usage.suspendWhenUsedUp",
            "Whether a card is suspended once all data that was bought for it is used",
            "true",
            ParameterType.BOOLEAN,
            overridable=True,
        ),
        BuiltIn("usage.dailyMonths", "Months for which the daily usage of cards is kept", "24", ParameterType.INTEGER),
        BuiltIn("logs.operationMonths", "Months for which the operation log is kept", "24", ParameterType.INTEGER),
        BuiltIn("logs.loginMonths", "Months for which the login log is kept", "12", ParameterType.INTEGER),
    )
}


@dataclass(frozen=True)
class Effective:
    """What a parameter is for one tenant."""

    key: str
    name: str
    text: str
    value_type: ParameterType
    overridable: bool
    owner_path: str
    """Whose value it is: the tenant's own path, an ancestor's, or the platform's."""

    @property
    def value(self) -> Value:
        return _READERS[self.value_type](self.text)


_READERS: dict[ParameterType, Callable[[str], Value]] = {
    ParameterType.STRING: str,
    ParameterType.INTEGER: int,
    ParameterType.DECIMAL: Decimal,
    ParameterType.BOOLEAN: lambda text: text == "true",
    ParameterType.JSON: orjson.loads,
}


# -- reading ------------------------------------------------------------------------------------------------------


async def effective(
    runtime: Runtime, key: str, path: str = ROOT_PATH, session: AsyncSession | None = None
) -> Effective:
    """What a parameter is for the tenant at ``path``: its own value, else the nearest ancestor's, else the platform's.

    Kept by the process, and at most a second old. Read in ``session`` where it is not kept: one that has changed no
    parameter itself. NOT_FOUND for a key that no parameter has.
    """

    async def read() -> Effective | None:
        if session is not None:
            return await read_effective(session, key, path)
        async with runtime.database.transaction(system("parameter")) as own:
            return await read_effective(own, key, path)

    found = await runtime.kept.get(("parameter", key, path), read)
    if found is None:
        raise not_found("key")
    return found


async def read_effective(session: AsyncSession, key: str, path: str) -> Effective | None:
    """The same as it stands in the database, for work outside of a request."""
    found = await session.scalar(_platforms().where(SystemParameter.key == key))
    if found is None:
        declared = BUILT_IN.get(key)
        return None if declared is None else _declared(declared)
    own = None
    if found.overridable:
        own = await session.scalar(_own_values(path).where(ParameterOverride.parameter_id == found.id).limit(1))
    return _effective(found, own)


async def overridable(session: AsyncSession, path: str) -> list[Effective]:
    """All parameters that tenants may have values of their own of, as they are for the tenant at ``path``."""
    found = await session.scalars(_platforms().where(SystemParameter.overridable).order_by(SystemParameter.key))
    nearest: dict[int, ParameterOverride] = {}
    for own in await session.scalars(_own_values(path)):
        nearest.setdefault(own.parameter_id, own)
    return [_effective(one, nearest.get(one.id)) for one in found]


def _platforms() -> Select[SystemParameter]:
    return select(SystemParameter).where(SystemParameter.tenant_path == ROOT_PATH)


def _own_values(path: str) -> Select[ParameterOverride]:
    """The values of the tenant at ``path`` and of those above it, the nearest first."""
    return (
        select(ParameterOverride)
        .where(ParameterOverride.tenant_path.in_(system("parameter", path).ancestors))
        .order_by(func.length(ParameterOverride.tenant_path).desc())
    )


def _effective(found: SystemParameter, own: ParameterOverride | None) -> Effective:
    return Effective(
        found.key,
        found.name,
        found.value if own is None else own.value,
        found.value_type,
        found.overridable,
        found.tenant_path if own is None else own.tenant_path,
    )


def _declared(one: BuiltIn) -> Effective:
    return Effective(one.key, one.name, one.value, one.value_type, one.overridable, ROOT_PATH)


# -- the platform's parameters ------------------------------------------------------------------------------------


async def install(database: Database) -> None:
    """Gives the platform the built-in parameters that it does not have yet; what it has stays as it is."""
    async with database.transaction(system("built-in parameters")) as session:
        platform = await session.scalar(select(Tenant).where(Tenant.path == ROOT_PATH))
        if platform is None:
            return
        await session.execute(
            insert(table_of(SystemParameter))
            .values(
                [
                    {
                        "tenant_id": platform.id,
                        "tenant_path": platform.path,
                        "key": one.key,
                        "name": one.name,
                        "value": one.value,
                        "value_type": one.value_type,
                        "built_in": True,
                        "overridable": one.overridable,
                        "version": 1,
                    }
                    for one in BUILT_IN.values()
                ]
            )
            .on_conflict_do_nothing(constraint=KEY_CONSTRAINT)
        )


async def create(
    work: Work,
    *,
    key: str,
    name: str,
    value: str,
    value_type: ParameterType,
    overridable: bool,
    remark: str | None,
) -> SystemParameter:
    """A parameter of the platform. TAKEN where the key is in use, also by one that is built in."""
    tenant = await tenant_for(work, None)
    made = SystemParameter(
        tenant_id=tenant.id,
        tenant_path=tenant.path,
        key=validation.key(key, "key"),
        name=validation.text(name, "name"),
        value=checked(value, value_type),
        value_type=value_type,
        overridable=overridable,
        remark=validation.optional(remark, "remark", limit=2_000),
    )
    if made.key in BUILT_IN:
        raise Refusal("TAKEN", "key", value=made.key)
    work.session.add(made)
    async with told_apart(work.session, {KEY_CONSTRAINT: ("key", made.key)}):
        await work.session.flush()
    work.published_changed = True
    return made


async def update(work: Work, key: int, version: int, changes: dict[str, Any]) -> SystemParameter:
    """Changes what is given of the version that the caller has read.

    STALE where it has been changed since; BUILT_IN for anything but the value of a built-in parameter.
    """
    found = await work.held(SystemParameter, key)
    if found.version != version:
        raise Refusal("STALE", "version")
    if found.built_in:
        for name in changes:
            if name != "value":
                raise Refusal("BUILT_IN", name)
    checks: dict[str, Callable[[Any], Any]] = {
        "key": lambda v: validation.key(v, "key"),
        "name": lambda v: validation.text(v, "name"),
        "value": lambda v: checked(v, found.value_type),
        "remark": lambda v: validation.optional(v, "remark", limit=2_000),
    }
    if changes.get("key") in BUILT_IN:
        raise Refusal("TAKEN", "key", value=changes["key"])
    for name, value in changes.items():
        setattr(found, name, checks[name](value) if name in checks else value)
    found.version += 1
    async with told_apart(work.session, {KEY_CONSTRAINT: ("key", found.key)}):
        await work.session.flush()
    work.published_changed = True
    return found


async def remove(work: Work, key: int) -> None:
    """Removes a parameter with all tenants' own values of it; BUILT_IN where programs rest on it."""
    found = await work.held(SystemParameter, key)
    if found.built_in:
        raise Refusal("BUILT_IN", "id")
    await work.session.delete(found)
    work.published_changed = True


def checked(value: str, kind: ParameterType) -> str:
    """A value as it is stored, once its type has judged it: INVALID where it is not of the type."""
    if kind is ParameterType.STRING:
        return validation.text(value, "value", required=False, limit=MAX_VALUE)
    found = validation.text(value, "value", limit=MAX_VALUE)
    forms = {ParameterType.INTEGER: _INTEGER, ParameterType.DECIMAL: _DECIMAL}
    if kind is ParameterType.JSON:
        try:
            return orjson.dumps(orjson.loads(found)).decode()
        except (orjson.JSONDecodeError, orjson.JSONEncodeError):
            raise Refusal("INVALID", "value") from None
    if kind is ParameterType.BOOLEAN:
        if found not in ("true", "false"):
            raise Refusal("INVALID", "value")
    elif not forms[kind].fullmatch(found):
        raise Refusal("INVALID", "value")
    return found


# -- tenants' own values ------------------------------------------------------------------------------------------


async def override(work: Work, key: str, value: str) -> Effective:
    """The caller's tenant's own value from now on, for itself and all below it that have none of their own.

    NOT_FOUND for a parameter that tenants may not have values of: they need not know that it exists.
    """
    tenant, parameter = await _overridable(work, key)
    now = func.now()
    table = table_of(ParameterOverride)
    text = checked(value, parameter.value_type)
    await work.session.execute(
        insert(table)
        .values(tenant_id=tenant.id, tenant_path=tenant.path, parameter_id=parameter.id, value=text)
        .on_conflict_do_update(
            constraint="uq_parameter_override_parameter_id_tenant_id", set_={"value": text, "updated_at": now}
        )
    )
    work.published_changed = True
    return await _now(work, key)


async def remove_override(work: Work, key: str) -> Effective:
    """Takes the caller's tenant's own value away: what those above it say holds again. NOT_FOUND without one."""
    tenant, parameter = await _overridable(work, key)
    gone: Any = await work.session.execute(
        delete(ParameterOverride).where(
            ParameterOverride.parameter_id == parameter.id, ParameterOverride.tenant_id == tenant.id
        )
    )
    if not gone.rowcount:
        raise not_found("key")
    work.published_changed = True
    return await _now(work, key)


async def _overridable(work: Work, key: str) -> tuple[Tenant, SystemParameter]:
    tenant = await tenant_for(work, None)
    if tenant.path == ROOT_PATH:
        # the platform's own value is the parameter's
        raise Refusal("INVALID", "key")
    found = await work.session.scalar(_platforms().where(SystemParameter.key == key, SystemParameter.overridable))
    if found is None:
        raise not_found("key")
    return tenant, found


async def _now(work: Work, key: str) -> Effective:
    found = await read_effective(work.session, key, work.principal.path)
    assert found is not None
    return found
