"""Dictionaries: what forms offer, and how the platform manages it."""

from __future__ import annotations

import strawberry
from sqlalchemy import Select, select

import models.dictionaries as stored
from models.tenancy import Language
from planner.mapping import Connection, refer
from planner.registry import mutation, query
from resolvers.context import Context, given, key_of
from schema.dictionaries import (
    Dictionary,
    DictionaryEntry,
    DictionaryItemInput,
    DictionaryItemPayload,
    DictionaryType,
    DictionaryTypeInput,
    DictionaryTypePayload,
    UpdateDictionaryItemInput,
    UpdateDictionaryTypeInput,
)
from schema.identity import DonePayload
from services import dictionaries


@query("Dictionary | None")
async def dictionary(ctx: Context, type: str, language: Language | None = None) -> Dictionary | None:
    """The values of a dictionary that can be chosen, named in the caller's language (S1-25, S1-38)."""
    found = await dictionaries.dictionary(ctx.runtime, type)
    if found is None:
        return None
    asked = language or Language(ctx.principal.language)
    entries = [
        DictionaryEntry(
            value=entry.value,
            label=entry.label(asked),
            position=entry.position,
            css_class=entry.css_class,
            list_class=entry.list_class,
            is_default=entry.is_default,
        )
        for entry in found.entries
    ]
    return Dictionary(key=found.key, name=found.name, entries=entries)


@query(Connection[DictionaryType])
def dictionary_types() -> Select[stored.DictionaryType]:
    """The dictionaries, for those who manage them (S1-24)."""
    return select(stored.DictionaryType)


@query(DictionaryType, by=("id", "key"))
def dictionary_type() -> Select[stored.DictionaryType]:
    """One dictionary with all its items, disabled ones too (S1-24, S1-25)."""
    return select(stored.DictionaryType)


@mutation
async def create_dictionary_type(ctx: Context, input: DictionaryTypeInput) -> DictionaryTypePayload:
    """A new dictionary (S1-24)."""
    made = await dictionaries.create_type(ctx.now, key=input.key, name=input.name)
    return DictionaryTypePayload(dictionary_type=refer(made.id), errors=[])


@mutation
async def update_dictionary_type(ctx: Context, input: UpdateDictionaryTypeInput) -> DictionaryTypePayload:
    """Renames a dictionary, takes it out of use or puts it back (S1-24)."""
    changed = await dictionaries.update_type(ctx.now, key_of(input.id, "dct", "id"), given(input))
    return DictionaryTypePayload(dictionary_type=refer(changed.id), errors=[])


@mutation
async def delete_dictionary_type(ctx: Context, id: strawberry.ID) -> DonePayload:
    """Removes a dictionary that has no items (S1-24)."""
    await dictionaries.delete_type(ctx.now, key_of(id, "dct", "id"))
    return DonePayload(done=True, errors=[])


@mutation
async def create_dictionary_item(ctx: Context, input: DictionaryItemInput) -> DictionaryItemPayload:
    """A new value of a dictionary (S1-25)."""
    values = {name: value for name, value in vars(input).items() if name != "type"}
    made = await dictionaries.create_item(ctx.now, type_id=key_of(input.type, "dct", "type"), **values)
    return DictionaryItemPayload(dictionary_item=refer(made.id), errors=[])


@mutation
async def update_dictionary_item(ctx: Context, input: UpdateDictionaryItemInput) -> DictionaryItemPayload:
    """Changes a value of a dictionary (S1-25)."""
    changed = await dictionaries.update_item(ctx.now, key_of(input.id, "dci", "id"), given(input))
    return DictionaryItemPayload(dictionary_item=refer(changed.id), errors=[])


@mutation
async def delete_dictionary_item(ctx: Context, id: strawberry.ID) -> DonePayload:
    """Removes a value of a dictionary (S1-25)."""
    await dictionaries.delete_item(ctx.now, key_of(id, "dci", "id"))
    return DonePayload(done=True, errors=[])
