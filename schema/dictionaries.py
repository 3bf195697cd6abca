"""Dictionaries in the graph."""

from __future__ import annotations

from datetime import datetime

import strawberry

import models.dictionaries as stored
from models.dictionaries import DictionaryStatus
from planner.mapping import Connection, Node, column, entity, enum_type, input_type, to_many, to_one, value
from schema.common import UserError

enum_type(DictionaryStatus, "Whether it can be chosen.")


@entity(stored.DictionaryType, prefix="dct", filters=("key", "name", "status"), sorts=("key",))
class DictionaryType(Node):
    """A list of select values, as it is managed (S1-24)."""

    key: str = column("What programs call it.")
    name: str
    status: DictionaryStatus
    created_at: datetime
    updated_at: datetime
    items: Connection[DictionaryItem] = to_many("Its values.", by=stored.DictionaryItem.type_id)


@entity(stored.DictionaryItem, prefix="dci", filters=("value", "status"), sorts=("position",))
class DictionaryItem(Node):
    """A value of a dictionary, as it is managed (S1-25)."""

    value: str = column("What is saved.")
    label_zh_cn: str
    label_zh_tw: str | None
    label_en: str | None
    position: int = column("Its place in the list, from 0.")
    css_class: str | None
    list_class: str | None
    is_default: bool
    status: DictionaryStatus
    type: DictionaryType | None = to_one("The dictionary that it belongs to.")


@value
class DictionaryEntry:
    """A value that can be chosen, with its name in the language that was asked for (S1-25)."""

    value: str
    label: str
    position: int
    css_class: str | None
    list_class: str | None
    is_default: bool


@value
class Dictionary:
    """The values that a form offers for a field, in their order (S1-38)."""

    key: str
    name: str
    entries: list[DictionaryEntry]


@input_type
class DictionaryTypeInput:
    """A new dictionary under a key that no other has (S1-24)."""

    key: str
    name: str


@input_type
class UpdateDictionaryTypeInput:
    """Changes to a dictionary; a field left out stays as it is, and so does its key (S1-24)."""

    id: strawberry.ID
    name: str | None = None
    status: DictionaryStatus | None = None


@value
class DictionaryTypePayload:
    """The dictionary as it now is, or why nothing was changed."""

    dictionary_type: DictionaryType | None
    errors: list[UserError]


@input_type
class DictionaryItemInput:
    """A new value of a dictionary; as its default it takes the place of the one before (S1-25)."""

    type: strawberry.ID
    value: str
    label_zh_cn: str
    label_zh_tw: str | None = None
    label_en: str | None = None
    position: int = 0
    css_class: str | None = None
    list_class: str | None = None
    is_default: bool = False


@input_type
class UpdateDictionaryItemInput:
    """Changes to a value; a field left out stays as it is (S1-25)."""

    id: strawberry.ID
    value: str | None = None
    label_zh_cn: str | None = None
    label_zh_tw: str | None = None
    label_en: str | None = None
    position: int | None = None
    css_class: str | None = None
    list_class: str | None = None
    is_default: bool | None = None
    status: DictionaryStatus | None = None


@value
class DictionaryItemPayload:
    """The value as it now is, or why nothing was changed."""

    dictionary_item: DictionaryItem | None
    errors: list[UserError]
