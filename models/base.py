"""The declarative base, common columns, and the two kinds of ownership a row may declare."""

from __future__ import annotations

import enum
from datetime import datetime
from decimal import Decimal
from typing import Any, ClassVar

from sqlalchemy import (
    BigInteger,
    Computed,
    DateTime,
    Enum,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    MetaData,
    Numeric,
    Table,
    Text,
    func,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, declared_attr, mapped_column

MONEY = Numeric(18, 4)
PATH = Text(collation="C")
"""A tenant's place in the tree, such as ``.0001.0AB2.``: four base-32 digits a level, compared bytewise."""

BRANCH_LENGTH = len(".0001.0AB2.")


def stored_enum(kind: type[enum.Enum], column: str = "") -> Enum:
    """An enumeration stored as its member names under a CHECK, so that adding a member is a cheap migration.

    ``column`` tells apart two columns of one kind in one table.
    """
    return Enum(kind, native_enum=False, create_constraint=True, length=40, name=column or kind.__name__.lower())


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        str: Text(),
        datetime: DateTime(timezone=True),
        Decimal: MONEY,
        int: BigInteger(),
    }

    __guards__: ClassVar[tuple[str, ...]] = ()
    """SQL by which the database itself keeps the rules of the table; safe to repeat."""

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)


ERASED = "erased"
IMPERSONAL = "impersonal"
UNTOLD = "untold"


def personal(erased: Any = None, *, secret: bool = False) -> dict[str, Any]:
    """Declares that a column of a person's row holds personal data, and what stands there once it has been erased.

    What is ``secret`` is told to nobody, the person included.
    """
    return {ERASED: erased, UNTOLD: True} if secret else {ERASED: erased}


def impersonal(because: str) -> dict[str, Any]:
    """Declares that a text in a person's row tells nothing of the person, or must be kept with its key; and why."""
    return {IMPERSONAL: because}


class Timestamped:
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now(), onupdate=func.now())


class TenantOwned:
    """A row of one tenant. It carries the tenant's path, so that a subtree is a range of an index and
    row-level security is two comparisons; moving a branch cascades to it."""

    __constraints__: ClassVar[tuple[Any, ...]] = ()
    __beside_keys__: ClassVar[tuple[str, ...]] = ()
    """Columns that the index of a tenant's rows in the order of entry holds beside the keys."""

    tenant_id: Mapped[int] = mapped_column(BigInteger)
    tenant_path: Mapped[str] = mapped_column(PATH, info=impersonal("The place of the tenant."))

    @declared_attr.directive
    def __table_args__(cls) -> tuple[Any, ...]:
        table = cls.__tablename__  # type: ignore[attr-defined]
        if LogEntry in type.mro(cls):  # type: ignore[arg-type]
            owner = ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=f"fk_{table}_tenant")
        else:
            owner = ForeignKeyConstraint(
                ["tenant_id", "tenant_path"],
                ["tenant.id", "tenant.path"],
                onupdate="CASCADE",
                name=f"fk_{table}_tenant",
            )
        options = {"postgresql_partition_by": "RANGE (at)"} if Partitioned in type.mro(cls) else {}  # type: ignore[arg-type]
        in_order = Index(f"ix_{table}_tenant_id_id", "tenant_id", "id", postgresql_include=cls.__beside_keys__)
        return (
            owner,
            in_order,
            Index(f"ix_{table}_tenant_path", "tenant_path"),
            *cls.__constraints__,
            options,
        )


class Widespread(TenantOwned):
    """Mass data: also carries the level-1 branch of its tenant, so that a page for a caller just below the
    platform is one index scan in sort order; and what row-level security looks at lies in the index of a tenant's
    rows, so that those of a few tenants are merged without being read."""

    __beside_keys__: ClassVar[tuple[str, ...]] = ("tenant_path",)

    tenant_branch: Mapped[str] = mapped_column(
        PATH,
        Computed(f"left(tenant_path, {BRANCH_LENGTH})", persisted=True),
        info=impersonal("The place of the tenant."),
    )


class Published(TenantOwned):
    """What a tenant publishes to everybody below it: the catalogue, help, dictionaries."""


class Personal:
    """A row that may belong to an end user, who reaches it whatever tenant serves them."""

    @declared_attr
    def end_user_id(cls) -> Mapped[int | None]:
        return mapped_column(BigInteger, ForeignKey("end_user.id"), index=True)


class AppendOnly:
    """History: the application may insert and read, never change or remove; personal data in it can be erased."""

    __changeable__: ClassVar[tuple[str, ...]] = ()
    """Columns that may be changed nevertheless."""


class Entrusted:
    """What a caller leaves with the system: whoever may write for the owner writes it, an end user for the tenant
    that serves the person, and only the platform's own work reads it."""


class LogEntry(AppendOnly, TenantOwned):
    """What happened at a time and place: it keeps the path that its tenant had then, and stays behind when a
    branch moves, with those who were responsible."""


class Partitioned:
    """Logs and mass data by the time when they happened: one partition a month, or a day (UTC), all behind one wall.

    What is older than so many months as the parameter ``__retention__`` says is dropped with its partition; where
    there is none, a retention policy says for how many days rows are kept.
    """

    __retention__: ClassVar[str | None] = None
    __period__: ClassVar[str] = "month"

    at: Mapped[datetime] = mapped_column(server_default=func.now(), primary_key=True, index=True)


def table_of(model: type[Base]) -> Table:
    """The table of a model, for statements that work on sets and not on objects."""
    table = model.__table__
    assert isinstance(table, Table)
    return table
