"""The permission platform: templates and menus by the platform, roles by every tenant, modules by those above."""

from __future__ import annotations

from collections.abc import Sequence

import strawberry
from sqlalchemy import Select, select

import models.identity as stored_identity
import models.permissions as stored
from models.identity import AccountStatus
from planner.errors import FieldFailure
from planner.mapping import Connection, refer
from planner.registry import loads, mutation, query
from resolvers.context import Context, key_of, optional_key, reading
from schema.identity import DonePayload, Viewer
from schema.permissions import (
    CreatePermissionTemplateInput,
    CreateRoleInput,
    HeldRole,
    MenuItem,
    MenuItemInput,
    MenuItemPayload,
    ModuleAccess,
    PermissionTemplate,
    PermissionTemplatePayload,
    Role,
    RolePayload,
    RolePermission,
    SetRolePermissionsInput,
    SetTenantModuleInput,
    TenantModule,
    TenantModulePayload,
    UpdateRoleInput,
)
from services.permissions import modules, shown, templates
from services.permissions import roles as role_keeping
from services.permissions.templates import MenuContent
from services.refusal import Refusal


@query(Connection[PermissionTemplate])
def permission_templates() -> Select[stored.PermissionTemplate]:
    """The templates that roles are made of (S4-71)."""
    return select(stored.PermissionTemplate)


@query(Connection[MenuItem])
def menu_items() -> Select[stored.MenuItem]:
    """Menus and buttons of all templates (S1-29)."""
    return select(stored.MenuItem)


@query(Connection[Role])
def roles() -> Select[stored_identity.Role]:
    """Tenant-made roles within reach (S1-35)."""
    return select(stored_identity.Role)


@query(Connection[TenantModule])
def tenant_modules() -> Select[stored.TenantModule]:
    """Modules that were switched for tenants within reach (S4-76)."""
    return select(stored.TenantModule)


@query("list[RolePermission] | None")
async def role_permissions(ctx: Context, role: strawberry.ID) -> list[RolePermission] | FieldFailure:
    """The whole template of a role: what is ticked, and what the caller may tick (S4-73)."""
    try:
        key = key_of(role, "rol", "role")
        async with reading(ctx) as session:
            found = await shown.tickable(session, ctx.runtime, ctx.principal, key)
    except Refusal as refusal:
        return FieldFailure(refusal.code, refusal.code, **refusal.params)
    return [RolePermission(menu=refer(each.menu_id), granted=each.granted, grantable=each.grantable) for each in found]


@loads(Viewer, "held_roles")
async def held_roles(ctx: Context, viewers: Sequence[Viewer]) -> list[list[HeldRole]]:
    async with reading(ctx) as session:
        found = await shown.roles_of(session, ctx.principal)
    held = [
        HeldRole(
            key=each.key,
            name=each.name,
            data_scope=each.data_scope,
            departments=[refer(key) for key in each.departments],
        )
        for each in found
    ]
    return [held for _ in viewers]


@loads(Viewer, "menus")
async def drawn_menus(ctx: Context, viewers: Sequence[Viewer]) -> list[list[MenuItem]]:
    async with reading(ctx) as session:
        found = await shown.menus_of(session, ctx.runtime, ctx.principal)
    drawn = [refer(key) for key in found]
    return [drawn for _ in viewers]


@loads(Viewer, "modules")
async def usable_modules(ctx: Context, viewers: Sequence[Viewer]) -> list[list[ModuleAccess]]:
    async with reading(ctx) as session:
        found = await modules.modules_of(session, ctx.principal)
    usable = [ModuleAccess(key=each.key, page_variant=each.page_variant) for each in found]
    return [usable for _ in viewers]


def _content(input: MenuItemInput) -> MenuContent:
    return MenuContent(
        kind=input.kind,
        key=input.key,
        name=input.name,
        parent_id=optional_key(input.parent, "mnu", "parent"),
        position=input.position,
        path=input.path,
        component=input.component,
        icon=input.icon,
        module=input.module,
        visible=input.visible,
        coordinates=input.coordinates,
    )


@mutation
async def create_permission_template(ctx: Context, input: CreatePermissionTemplateInput) -> PermissionTemplatePayload:
    """A template for one more kind of back office (S4-71, S4-77)."""
    made = await templates.create_template(ctx.now, key=input.key, name=input.name)
    return PermissionTemplatePayload(template=refer(made.id), errors=[])


@mutation
async def create_menu_item(ctx: Context, template: strawberry.ID, input: MenuItemInput) -> MenuItemPayload:
    """A directory, page or button of a template (S1-29, S4-72)."""
    made = await templates.create_menu_item(ctx.now, key_of(template, "tpl", "template"), _content(input))
    return MenuItemPayload(menu=refer(made.id), errors=[])


@mutation
async def update_menu_item(ctx: Context, id: strawberry.ID, input: MenuItemInput) -> MenuItemPayload:
    """A menu item as it is from now on; roles lose what no ticked menu needs any more (S1-29)."""
    changed = await templates.update_menu_item(ctx.now, key_of(id, "mnu", "id"), _content(input))
    return MenuItemPayload(menu=refer(changed.id), errors=[])


@mutation
async def set_menu_item_status(ctx: Context, id: strawberry.ID, status: AccountStatus) -> MenuItemPayload:
    """Takes a menu item out of use, with what it grants, or back into it (S1-29)."""
    changed = await templates.set_menu_status(ctx.now, key_of(id, "mnu", "id"), status)
    return MenuItemPayload(menu=refer(changed.id), errors=[])


@mutation
async def delete_menu_item(ctx: Context, id: strawberry.ID) -> DonePayload:
    """Removes a menu item that has none below it (S1-29)."""
    await templates.delete_menu_item(ctx.now, key_of(id, "mnu", "id"))
    return DonePayload(done=True, errors=[])


@mutation
async def create_role(ctx: Context, input: CreateRoleInput) -> RolePayload:
    """A role of the caller's own tenant, with nothing ticked yet (S1-35, S4-72)."""
    made = await role_keeping.create_role(
        ctx.now,
        name=input.name,
        template_id=key_of(input.template, "tpl", "template"),
        position=input.position,
        remark=input.remark,
    )
    return RolePayload(role=refer(made.id), errors=[])


@mutation
async def update_role(ctx: Context, input: UpdateRoleInput) -> RolePayload:
    """A role's name, place in lists and remark (S1-35)."""
    changed = await role_keeping.update_role(
        ctx.now, key_of(input.id, "rol", "id"), name=input.name, position=input.position, remark=input.remark
    )
    return RolePayload(role=refer(changed.id), errors=[])


@mutation
async def set_role_permissions(ctx: Context, input: SetRolePermissionsInput) -> RolePayload:
    """What a role may do from the next request of its holders on (S1-36, S1-37, S4-73)."""
    changed = await role_keeping.set_role_permissions(
        ctx.now,
        key_of(input.role, "rol", "role"),
        menu_ids=[key_of(each, "mnu", "menus") for each in input.menus],
        data_scope=input.data_scope,
        department_ids=[key_of(each, "dep", "departments") for each in input.departments],
    )
    return RolePayload(role=refer(changed.id), errors=[])


@mutation
async def set_role_status(ctx: Context, id: strawberry.ID, status: AccountStatus) -> RolePayload:
    """Takes a role from everybody who holds it, from their next request on, or gives it back (S1-35)."""
    changed = await role_keeping.set_role_status(ctx.now, key_of(id, "rol", "id"), status)
    return RolePayload(role=refer(changed.id), errors=[])


@mutation
async def delete_role(ctx: Context, id: strawberry.ID) -> DonePayload:
    """Removes a role that nobody holds (S1-35)."""
    await role_keeping.delete_role(ctx.now, key_of(id, "rol", "id"))
    return DonePayload(done=True, errors=[])


@mutation
async def set_tenant_module(ctx: Context, input: SetTenantModuleInput) -> TenantModulePayload:
    """Switches a module on or off for a tenant and everybody below it (S4-76)."""
    changed = await modules.set_module(
        ctx.now,
        key_of(input.tenant, "ten", "tenant"),
        module=input.module,
        enabled=input.enabled,
        page_variant=input.page_variant,
    )
    return TenantModulePayload(module=refer(changed.id), errors=[])
