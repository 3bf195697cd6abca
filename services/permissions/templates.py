"""Templates of back offices and their menus, which the platform keeps (S4-71, S4-77, S1-29)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from authz.coordinates import ANY
from models.identity import AccountStatus
from models.permissions import MenuItem, MenuKind, MenuPermission, PermissionTemplate
from models.tenancy import Tenant, TenantKind
from services import validation
from services.conflicts import told_apart
from services.identity import tenant_for
from services.permissions import lines
from services.refusal import Refusal, not_found
from services.runtime import Work

_KEY = re.compile(r"[a-z][a-z0-9]*([.:_-][a-z0-9]+)*")
_COORDINATE = re.compile(r"[A-Za-z]\w*\.(\*|[A-Za-z]\w*\*?)", re.ASCII)
MAX_MENU_DEPTH = 5


@dataclass(frozen=True)
class MenuContent:
    """What a menu item says; ``coordinates`` are the fields and mutations that it needs."""

    kind: MenuKind
    key: str
    name: str
    parent_id: int | None
    position: int
    path: str | None
    component: str | None
    icon: str | None
    module: str | None
    visible: bool
    coordinates: Sequence[str]


def plain_key(value: str, field: str) -> str:
    """The key of a template, menu, module or variant: lower-case words, joined by one of ``.:_-``."""
    found = validation.text(value, field, limit=100)
    if not _KEY.fullmatch(found):
        raise Refusal("INVALID", field, value=found)
    return found


async def create_template(work: Work, *, key: str, name: str) -> PermissionTemplate:
    """A template for one more kind of back office (S4-71, S4-77). TAKEN where the key is in use."""
    tenant = await tenant_for(work, None)
    key = plain_key(key, "key")
    made = PermissionTemplate(tenant_id=tenant.id, tenant_path=tenant.path, key=key, name=validation.text(name, "name"))
    work.session.add(made)
    async with told_apart(work.session, {"uq_permission_template_key": ("key", key)}):
        await work.session.flush()
    return made


async def template_of(work: Work, template_id: int) -> PermissionTemplate:
    return await work.found(PermissionTemplate, template_id, field="template")


async def create_menu_item(work: Work, template_id: int, content: MenuContent) -> MenuItem:
    """A directory, page or button of a template (S1-29). TAKEN, NOT_FOUND (parent), UNKNOWN_COORDINATE."""
    template = await template_of(work, template_id)
    made = MenuItem(tenant_id=template.tenant_id, tenant_path=template.tenant_path, template_id=template.id)
    await _write(work, made, content)
    return made


async def update_menu_item(work: Work, menu_id: int, content: MenuContent) -> MenuItem:
    """A menu item as it is from now on; roles that have it ticked follow at once."""
    menu = await work.held(MenuItem, menu_id)
    await _write(work, menu, content)
    await lines.prune(work, await lines.roles_with(work.session, menu.id))
    return menu


async def set_menu_status(work: Work, menu_id: int, status: AccountStatus) -> MenuItem:
    """Takes a menu item out of use, with what it grants, or back into it."""
    menu = await work.held(MenuItem, menu_id)
    menu.status = status
    await work.session.flush()
    await lines.prune(work, await lines.roles_with(work.session, menu.id))
    return menu


async def delete_menu_item(work: Work, menu_id: int) -> None:
    """Removes a menu item that has none below it; roles lose what it granted. HAS_CHILDREN."""
    menu = await work.held(MenuItem, menu_id)
    if await work.session.scalar(select(MenuItem.id).where(MenuItem.parent_id == menu.id).limit(1)):
        raise Refusal("HAS_CHILDREN", "id")
    roles = await lines.roles_with(work.session, menu.id)
    await work.session.delete(menu)
    await work.session.flush()
    await lines.prune(work, roles)


async def _write(work: Work, menu: MenuItem, content: MenuContent) -> None:
    key = plain_key(content.key, "key")
    wanted = sorted(set(content.coordinates))
    for coordinate in wanted:
        if not _COORDINATE.fullmatch(coordinate) or not any(work.runtime.access.catalog.expand(coordinate, ANY)):
            raise Refusal("UNKNOWN_COORDINATE", "coordinates", value=coordinate[:100])
    if content.kind is MenuKind.BUTTON and content.parent_id is None:
        raise Refusal("REQUIRED", "parent")
    if content.parent_id is not None:
        await _check_parent(work, menu, content.parent_id)
    menu.kind, menu.key, menu.parent_id = content.kind, key, content.parent_id
    menu.name, menu.position = validation.text(content.name, "name"), validation.position(content.position)
    menu.path = validation.optional(content.path, "path")
    menu.component = validation.optional(content.component, "component")
    menu.icon = validation.optional(content.icon, "icon")
    menu.module = None if content.module is None else plain_key(content.module, "module")
    menu.visible = content.visible
    work.session.add(menu)
    async with told_apart(work.session, {"uq_menu_item_template_id_key": ("key", key)}):
        await work.session.flush()
    await work.session.execute(delete(MenuPermission).where(MenuPermission.menu_id == menu.id))
    work.session.add_all(
        MenuPermission(tenant_id=menu.tenant_id, tenant_path=menu.tenant_path, menu_id=menu.id, coordinate=coordinate)
        for coordinate in wanted
    )
    await work.session.flush()
    work.access_changed = work.policies_changed = True


async def _check_parent(work: Work, menu: MenuItem, parent_id: int) -> None:
    """The parent is a directory or page of the same template, and not below the item itself."""
    above: int | None = parent_id
    for _ in range(MAX_MENU_DEPTH):
        if above is None:
            return
        parent = await work.session.scalar(select(MenuItem).where(MenuItem.id == above))
        if parent is None or parent.template_id != menu.template_id or parent.kind is MenuKind.BUTTON:
            raise not_found("parent")
        if menu.id is not None and parent.id == menu.id:
            raise Refusal("INVALID", "parent")
        above = parent.parent_id
    raise Refusal("TOO_DEEP", "parent", limit=MAX_MENU_DEPTH)


async def install_template(session: AsyncSession, platform: Tenant, key: str, shipped: Mapping[str, Any]) -> None:
    """The template that ships with a front end, with its menus in the order of the file; once a platform."""
    owner = {"tenant_id": platform.id, "tenant_path": platform.path}
    template = PermissionTemplate(**owner, key=key, name=shipped["name"])
    session.add(template)
    await session.flush()
    made: dict[str, MenuItem] = {}
    waiting = list(enumerate(shipped["menus"], start=1))
    while waiting:
        # level by level, so that a template takes as many statements as it is deep
        here = [(number, item) for number, item in waiting if "parent" not in item or item["parent"] in made]
        waiting = [one for one in waiting if one not in here]
        level = [
            MenuItem(
                **owner,
                template_id=template.id,
                parent_id=made[item["parent"]].id if "parent" in item else None,
                kind=MenuKind[item["kind"]],
                key=item["key"],
                name=item["name"],
                position=number,
                path=item.get("path"),
                component=item.get("component"),
                icon=item.get("icon"),
                module=item.get("module"),
                variants={TenantKind[kind].name: variant for kind, variant in item.get("variants", {}).items()},
            )
            for number, item in here
        ]
        if not level:
            raise ValueError(f"menus without a parent: {[item['key'] for _, item in waiting]}")
        session.add_all(level)
        await session.flush()
        made |= {menu.key: menu for menu in level}
    session.add_all(
        MenuPermission(**owner, menu_id=made[item["key"]].id, coordinate=needed)
        for item in shipped["menus"]
        for needed in item.get("needs", ())
    )
    await session.flush()
