"""Dictionaries: select values that are open, kept by every process and published by the platform (S1-24, S1-25, S1-38).

Whoever changes a dictionary or one of its items holds the dictionary's row, so that two changes come one after the
other, and a change writes what it was given and leaves the rest.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from authz.principal import ROOT_PATH, system
from models.dictionaries import DictionaryItem, DictionaryStatus, DictionaryType
from models.tenancy import Language
from services import validation
from services.conflicts import told_apart
from services.identity import tenant_for
from services.refusal import Refusal, not_found
from services.runtime import Runtime, Work

TYPE_CONSTRAINT = "uq_dictionary_type_tenant_id_key"
ITEM_CONSTRAINT = "uq_dictionary_item_type_id_value"
LAST_POSITION = 32_767
_CLASSES = re.compile(r"[A-Za-z0-9_-]+(?: [A-Za-z0-9_-]+)*")


@dataclass(frozen=True)
class Entry:
    value: str
    label_zh_cn: str
    label_zh_tw: str | None
    label_en: str | None
    position: int
    css_class: str | None
    list_class: str | None
    is_default: bool

    def label(self, language: Language) -> str:
        """What the value is called; in simplified Chinese where the language has no name of its own for it."""
        own = {Language.ZH_TW: self.label_zh_tw, Language.EN: self.label_en}.get(language)
        return own or self.label_zh_cn


@dataclass(frozen=True)
class Dictionary:
    key: str
    name: str
    entries: tuple[Entry, ...]


async def dictionary(runtime: Runtime, key: str, session: AsyncSession | None = None) -> Dictionary | None:
    """The active items of the platform's dictionary, in their order; None where it does not exist or is disabled.

    Read in ``session`` where it is not kept: one that has changed no dictionary itself.
    """

    async def read() -> Dictionary | None:
        if session is not None:
            return await _read(session, key)
        async with runtime.database.transaction(system("dictionary")) as own:
            return await _read(own, key)

    return await runtime.kept.get(("dictionary", key), read)


async def _read(session: AsyncSession, key: str) -> Dictionary | None:
    found = await session.scalar(
        select(DictionaryType).where(
            DictionaryType.tenant_path == ROOT_PATH,
            DictionaryType.key == key,
            DictionaryType.status == DictionaryStatus.ACTIVE,
        )
    )
    if found is None:
        return None
    items = await session.scalars(
        select(DictionaryItem)
        .where(DictionaryItem.type_id == found.id, DictionaryItem.status == DictionaryStatus.ACTIVE)
        .order_by(DictionaryItem.position, DictionaryItem.id)
    )
    entries = tuple(
        Entry(
            item.value,
            item.label_zh_cn,
            item.label_zh_tw,
            item.label_en,
            item.position,
            item.css_class,
            item.list_class,
            item.is_default,
        )
        for item in items
    )
    return Dictionary(found.key, found.name, entries)


async def check(work: Work, key: str, value: str, field: str) -> str:
    """The value where the dictionary has it, or where no such dictionary is in use, so that anything goes (S1-38)."""
    found = await dictionary(work.runtime, key, work.session)
    if found is not None and all(entry.value != value for entry in found.entries):
        raise Refusal("NOT_IN_DICTIONARY", field, value=value, dictionary=found.name)
    return value


# -- managing them ------------------------------------------------------------------------------------------------


async def _held_item(work: Work, key: int) -> DictionaryItem:
    type_id = await work.session.scalar(select(DictionaryItem.type_id).where(DictionaryItem.id == key))
    if type_id is None:
        raise not_found("id")
    await work.held(DictionaryType, type_id)
    return await work.held(DictionaryItem, key)


async def create_type(work: Work, *, key: str, name: str) -> DictionaryType:
    """A dictionary without items. TAKEN where the key is in use (S1-24)."""
    tenant = await tenant_for(work, None)
    made = DictionaryType(
        tenant_id=tenant.id,
        tenant_path=tenant.path,
        key=validation.key(key, "key"),
        name=validation.text(name, "name"),
    )
    work.session.add(made)
    async with told_apart(work.session, {TYPE_CONSTRAINT: ("key", made.key)}):
        await work.session.flush()
    work.published_changed = True
    return made


async def update_type(work: Work, key: int, changes: dict[str, Any]) -> DictionaryType:
    """Changes the name or the status; the key stays, since programs name it (S1-24)."""
    found = await work.held(DictionaryType, key)
    if "name" in changes:
        changes["name"] = validation.text(changes["name"], "name")
    for name, value in changes.items():
        setattr(found, name, value)
    work.published_changed = True
    return found


async def delete_type(work: Work, key: int) -> None:
    """Removes a dictionary; NOT_EMPTY while it has items (S1-24)."""
    found = await work.held(DictionaryType, key)
    if await work.session.scalar(select(DictionaryItem.id).where(DictionaryItem.type_id == found.id).limit(1)):
        raise Refusal("NOT_EMPTY", "id")
    await work.session.delete(found)
    work.published_changed = True


async def create_item(work: Work, *, type_id: int, **values: Any) -> DictionaryItem:
    """A value of a dictionary; as its default it takes the place of the one before. TAKEN where it has it (S1-25)."""
    type = await work.held(DictionaryType, type_id, field="type")
    made = DictionaryItem(tenant_id=type.tenant_id, tenant_path=type.tenant_path, type_id=type.id, **_item(values))
    if made.is_default:
        await _no_default(work, type.id)
    work.session.add(made)
    async with told_apart(work.session, {ITEM_CONSTRAINT: ("value", made.value)}):
        await work.session.flush()
    work.published_changed = True
    return made


async def update_item(work: Work, key: int, changes: dict[str, Any]) -> DictionaryItem:
    """Changes what is given. A disabled item is nobody's default: NOT_ACTIVE where it is to become it (S1-25)."""
    item = await _held_item(work, key)
    checked = _item(changes)
    if checked.get("status", item.status) is DictionaryStatus.DISABLED:
        if checked.get("is_default"):
            raise Refusal("NOT_ACTIVE", "isDefault", value=item.value)
        checked["is_default"] = False
    if checked.get("is_default"):
        await _no_default(work, item.type_id)
    for name, value in checked.items():
        setattr(item, name, value)
    async with told_apart(work.session, {ITEM_CONSTRAINT: ("value", item.value)}):
        await work.session.flush()
    work.published_changed = True
    return item


async def delete_item(work: Work, key: int) -> None:
    """Removes a value; what was saved with it keeps it (S1-25)."""
    await work.session.delete(await _held_item(work, key))
    work.published_changed = True


async def _no_default(work: Work, type_id: int) -> None:
    await work.session.execute(
        update(DictionaryItem)
        .where(DictionaryItem.type_id == type_id, DictionaryItem.is_default)
        .values(is_default=False)
        .execution_options(synchronize_session="fetch")
    )


def _item(values: dict[str, Any]) -> dict[str, Any]:
    checks: dict[str, Callable[[Any], Any]] = {
        "value": lambda v: validation.text(v, "value", limit=100),
        "label_zh_cn": lambda v: validation.text(v, "labelZhCn", limit=100),
        "label_zh_tw": lambda v: validation.optional(v, "labelZhTw", limit=100),
        "label_en": lambda v: validation.optional(v, "labelEn", limit=100),
        "position": _position,
        "css_class": lambda v: _classes(v, "cssClass"),
        "list_class": lambda v: _classes(v, "listClass"),
    }
    return {name: checks[name](value) if name in checks else value for name, value in values.items()}


def _position(value: int) -> int:
    if not 0 <= value <= LAST_POSITION:
        raise Refusal("INVALID", "position")
    return value


def _classes(value: str | None, field: str) -> str | None:
    """Names of style classes, which a page writes into its markup: nothing else may come with them."""
    found = validation.optional(value, field, limit=100)
    if found is not None and not _CLASSES.fullmatch(found):
        raise Refusal("INVALID", field)
    return found
