"""The permission platform: templates with their menus, what a role ticks of them, and the modules of a tenant."""

from __future__ import annotations

import enum

from sqlalchemy import CheckConstraint, ForeignKey, Index, SmallInteger, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column, relationship

from models.base import Base, Published, TenantOwned, Timestamped, stored_enum
from models.identity import AccountStatus, Department, Role, StaffAccount
from models.tenancy import Tenant


class MenuKind(enum.Enum):
    DIRECTORY = "DIRECTORY"
    MENU = "MENU"
    BUTTON = "BUTTON"


class PermissionTemplate(Timestamped, Published, Base):
    """All that one kind of back office can offer, as a tree of menus and buttons (S4-71, S4-77)."""

    __tablename__ = "permission_template"
    __constraints__ = (UniqueConstraint("key"),)

    key: Mapped[str]
    name: Mapped[str]
    status: Mapped[AccountStatus] = mapped_column(stored_enum(AccountStatus), default=AccountStatus.ACTIVE)


class MenuItem(Timestamped, Published, Base):
    """A directory, a page or a button of a template (S1-29).

    ``variants``: which variant of the page a company of a kind (the name of a ``TenantKind``) draws (S4-76).
    """

    __tablename__ = "menu_item"
    __constraints__ = (
        UniqueConstraint("template_id", "key"),
        CheckConstraint("kind <> 'BUTTON' OR parent_id IS NOT NULL", name="button_stands_on_a_page"),
    )

    template_id: Mapped[int] = mapped_column(ForeignKey("permission_template.id", ondelete="CASCADE"), index=True)
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("menu_item.id"), index=True)
    kind: Mapped[MenuKind] = mapped_column(stored_enum(MenuKind))
    key: Mapped[str]
    name: Mapped[str]
    position: Mapped[int] = mapped_column(SmallInteger, default=0)
    path: Mapped[str | None]
    component: Mapped[str | None]
    icon: Mapped[str | None]
    module: Mapped[str | None]
    variants: Mapped[dict[str, str]] = mapped_column(JSONB, default=dict, server_default=text("'{}'"))
    visible: Mapped[bool] = mapped_column(default=True)
    status: Mapped[AccountStatus] = mapped_column(stored_enum(AccountStatus), default=AccountStatus.ACTIVE)

    template: Mapped[PermissionTemplate] = relationship(lazy="raise")
    parent: Mapped[MenuItem | None] = relationship(remote_side="MenuItem.id", lazy="raise")


class MenuPermission(Published, Base):
    """A coordinate of the graph that a menu or button needs."""

    __tablename__ = "menu_permission"
    __constraints__ = (UniqueConstraint("menu_id", "coordinate"),)

    menu_id: Mapped[int] = mapped_column(ForeignKey("menu_item.id", ondelete="CASCADE"))
    coordinate: Mapped[str]


class RoleMenu(TenantOwned, Base):
    """A menu or button that is ticked for a role (S1-37)."""

    __tablename__ = "role_menu"
    __constraints__ = (UniqueConstraint("role_id", "menu_id"),)

    role_id: Mapped[int] = mapped_column(ForeignKey("role.id", ondelete="CASCADE"))
    menu_id: Mapped[int] = mapped_column(ForeignKey("menu_item.id", ondelete="CASCADE"), index=True)

    role: Mapped[Role] = relationship(lazy="raise")
    menu: Mapped[MenuItem] = relationship(lazy="raise")


class RoleDepartment(TenantOwned, Base):
    """A department whose rows a role with a custom data scope reaches (S1-36)."""

    __tablename__ = "role_department"
    __constraints__ = (UniqueConstraint("role_id", "department_id"),)

    role_id: Mapped[int] = mapped_column(ForeignKey("role.id", ondelete="CASCADE"))
    department_id: Mapped[int] = mapped_column(ForeignKey("department.id", ondelete="CASCADE"), index=True)

    department: Mapped[Department] = relationship(lazy="raise")


class TenantModule(Timestamped, Published, Base):
    """Whether a tenant, and everybody below it, has a module, and which variant of its pages (S4-76)."""

    __tablename__ = "tenant_module"
    __constraints__ = (
        UniqueConstraint("tenant_id", "module"),
        Index("ix_tenant_module_off", "module", postgresql_where=text("NOT enabled")),
    )

    module: Mapped[str]
    enabled: Mapped[bool]
    page_variant: Mapped[str | None]
    decided_level: Mapped[int] = mapped_column(SmallInteger, default=0, server_default="0")
    """How far below the platform whoever decided stands: nobody further down decides otherwise."""

    tenant: Mapped[Tenant] = relationship(lazy="raise", viewonly=True)


class Position(Timestamped, TenantOwned, Base):
    """A job title of a tenant's staff (S1-31)."""

    __tablename__ = "job_position"
    __constraints__ = (UniqueConstraint("tenant_id", "code"),)

    code: Mapped[str]
    name: Mapped[str]
    position: Mapped[int] = mapped_column(SmallInteger, default=0)
    status: Mapped[AccountStatus] = mapped_column(stored_enum(AccountStatus), default=AccountStatus.ACTIVE)


class StaffPosition(TenantOwned, Base):
    """A position that a member of staff holds (S1-33)."""

    __tablename__ = "staff_position"
    __constraints__ = (UniqueConstraint("account_id", "position_id"),)

    account_id: Mapped[int] = mapped_column(ForeignKey("staff_account.id", ondelete="CASCADE"))
    position_id: Mapped[int] = mapped_column(ForeignKey("job_position.id", ondelete="CASCADE"), index=True)

    account: Mapped[StaffAccount] = relationship(lazy="raise")
    position: Mapped[Position] = relationship(lazy="raise")
