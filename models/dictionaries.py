"""Dictionaries: the shared source of select values that are open, by language."""

from __future__ import annotations

import enum

from sqlalchemy import ForeignKey, Index, SmallInteger, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from models.base import Base, Published, Timestamped, stored_enum


class DictionaryStatus(enum.Enum):
    ACTIVE = "ACTIVE"
    DISABLED = "DISABLED"


class DictionaryType(Timestamped, Published, Base):
    """A list of select values under a key that programs name (S1-24)."""

    __tablename__ = "dictionary_type"
    __constraints__ = (UniqueConstraint("tenant_id", "key"),)

    key: Mapped[str]
    name: Mapped[str]
    status: Mapped[DictionaryStatus] = mapped_column(stored_enum(DictionaryStatus), default=DictionaryStatus.ACTIVE)


class DictionaryItem(Timestamped, Published, Base):
    """One value of a dictionary, what it is called, and how it is shown (S1-25)."""

    __tablename__ = "dictionary_item"
    __constraints__ = (
        UniqueConstraint("type_id", "value"),
        Index("uq_dictionary_item_default", "type_id", unique=True, postgresql_where=text("is_default")),
    )

    type_id: Mapped[int] = mapped_column(ForeignKey("dictionary_type.id"))
    value: Mapped[str]
    label_zh_cn: Mapped[str]
    label_zh_tw: Mapped[str | None]
    label_en: Mapped[str | None]
    position: Mapped[int] = mapped_column(SmallInteger, default=0)
    css_class: Mapped[str | None]
    list_class: Mapped[str | None]
    is_default: Mapped[bool] = mapped_column(default=False)
    status: Mapped[DictionaryStatus] = mapped_column(stored_enum(DictionaryStatus), default=DictionaryStatus.ACTIVE)

    type: Mapped[DictionaryType] = relationship(lazy="raise")
