"""The permission platform in the graph: templates, menus, roles, modules."""

from __future__ import annotations

import strawberry

import models.identity as stored_identity
import models.permissions as stored
from models.identity import AccountStatus, DataScope
from models.permissions import MenuKind
from planner.mapping import Connection, Node, column, entity, enum_type, input_type, live, to_many, to_one, value
from schema.common import UserError
from schema.identity import Department
from schema.tenancy import Tenant

enum_type(MenuKind, "What a menu item is: a directory, a page, or a button on a page.")
enum_type(DataScope, "Which rows of departments and their staff a role reaches; nothing else has a department.")


@entity(stored.PermissionTemplate, prefix="tpl", filters=("key", "status"), sorts=("key",))
class PermissionTemplate(Node):
    """All that one kind of back office can offer, as a tree of menus and buttons (S4-71, S4-77)."""

    key: str = column("The door that draws itself by it, or another platform's own name.")
    name: str
    status: AccountStatus
    menus: Connection[MenuItem] = to_many("Its menus and buttons, all levels.", by=stored.MenuItem.template_id)


@entity(stored.MenuItem, prefix="mnu", filters=("key", "kind", "module", "status", "template"), sorts=("position",))
class MenuItem(Node):
    """A directory, a page or a button (S1-29)."""

    kind: MenuKind
    key: str = column("Unique in its template, such as sim:card:allocate.")
    name: str = column("The key of its name in the front end's translations.")
    position: int = column("Its place among its siblings.")
    path: str | None = column("Where the front end shows it.")
    component: str | None
    icon: str | None
    module: str | None = column("The module that it belongs to; it goes where the module is switched off.")
    visible: bool = column("Whether it stands in the menu; a hidden page can still be opened.")
    variant: str | None = live(
        "Which variant of the page the caller's company draws: what was chosen for the company's module, or else what "
        "a company of its kind draws; null: the page as it is (S4-76).",
        needs=("module", "variants"),
    )
    status: AccountStatus
    parent: MenuItem | None = to_one("What it stands below.")
    template: PermissionTemplate | None = to_one("Whose menu it is.")
    permissions: Connection[MenuPermission] = to_many("What it needs.", by=stored.MenuPermission.menu_id)


@entity(stored.MenuPermission, prefix="mnp")
class MenuPermission(Node):
    """A field or mutation of the graph that a menu item needs."""

    coordinate: str


@entity(stored_identity.Role, prefix="rol", filters=("name", "status"), sorts=("position", "name"))
class Role(Node):
    """A role that a tenant made for its own staff (S1-35)."""

    name: str
    position: int = column("Its place in lists.")
    data_scope: DataScope
    status: AccountStatus
    remark: str | None
    template: PermissionTemplate | None = to_one("What its permissions are ticked in.")
    menus: Connection[RoleMenu] = to_many("What is ticked for it (S1-37).", by=stored.RoleMenu.role_id)
    departments: Connection[RoleDepartment] = to_many(
        "The departments of a custom data scope (S1-36).", by=stored.RoleDepartment.role_id
    )


@entity(stored.RoleMenu, prefix="rmn")
class RoleMenu(Node):
    """A menu item that is ticked for a role (S1-37)."""

    menu: MenuItem | None = to_one("What is ticked.")


@entity(stored.RoleDepartment, prefix="rdp")
class RoleDepartment(Node):
    """A department that a role with a custom data scope reaches (S1-36)."""

    department: Department | None = to_one("The department.")


@entity(stored.TenantModule, prefix="mod", filters=("module", "enabled", "tenant"), sorts=("module",))
class TenantModule(Node):
    """A module as it was switched for a tenant and everybody below it (S4-76)."""

    module: str
    enabled: bool
    page_variant: str | None
    tenant: Tenant | None = to_one("For whom it was switched.")


@value
class ModuleAccess:
    """A module that the caller's company may use, and the variant of its pages (S4-76)."""

    key: str
    page_variant: str | None


@value
class HeldRole:
    """A role that the caller holds at this door (S1-34), and on which rows of departments and staff (S1-36). A built-in
    role has no name of its own, and reaches all of them."""

    key: str
    name: str | None
    data_scope: DataScope
    departments: list[Department]


@value
class RolePermission:
    """A menu item of a role's template: whether it is ticked, and whether the caller may tick it (S4-73)."""

    menu: MenuItem | None
    granted: bool
    grantable: bool


@input_type
class CreatePermissionTemplateInput:
    """A template for one more kind of back office (S4-71)."""

    key: str
    name: str


@value
class PermissionTemplatePayload:
    """The template, or why it was not made."""

    template: PermissionTemplate | None
    errors: list[UserError]


@input_type
class MenuItemInput:
    """A menu item and the coordinates that it needs: `Type.field`, `Type.*` or `Mutation.name` (S1-29)."""

    kind: MenuKind
    key: str
    name: str
    coordinates: list[str]
    parent: strawberry.ID | None = None
    position: int = 0
    path: str | None = None
    component: str | None = None
    icon: str | None = None
    module: str | None = None
    visible: bool = True


@value
class MenuItemPayload:
    """The menu item as it now is, or why nothing was changed."""

    menu: MenuItem | None
    errors: list[UserError]


@input_type
class CreateRoleInput:
    """A role of the caller's own tenant, with nothing ticked yet (S1-35, S4-72)."""

    name: str
    template: strawberry.ID
    position: int = 0
    remark: str | None = None


@input_type
class UpdateRoleInput:
    """A role's name, place in lists and remark; what is left out stays."""

    id: strawberry.ID
    name: str | None = None
    position: int | None = None
    remark: str | None = None


@input_type
class SetRolePermissionsInput:
    """What a role may do from now on: the ticked menus, on the rows of the data scope (S1-36, S1-37, S4-73)."""

    role: strawberry.ID
    menus: list[strawberry.ID]
    data_scope: DataScope = DataScope.ALL
    departments: list[strawberry.ID] = strawberry.field(default_factory=list)


@value
class RolePayload:
    """The role as it now is, or why nothing was changed."""

    role: Role | None
    errors: list[UserError]


@input_type
class SetTenantModuleInput:
    """A module of a tenant below the caller's own, on or off, and the variant of its pages (S4-76)."""

    tenant: strawberry.ID
    module: str
    enabled: bool
    page_variant: str | None = None


@value
class TenantModulePayload:
    """The module as it now is, or why nothing was changed."""

    module: TenantModule | None
    errors: list[UserError]
