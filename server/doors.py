"""The doors: who comes in where, by which logins, with which operations and within which limits."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from authz.standing import Admission
from planner.operation import DocumentLimits
from planner.tables import Accepts
from services.runtime import DoorRules

FRONTENDS = Path(__file__).resolve().parent.parent / "frontends"
SHARED = "shared"
"""The folder of documents that several doors ship."""


@dataclass(frozen=True)
class Limits:
    """What one request at a door may ask for."""

    document: DocumentLimits
    body_bytes: int
    upload_bytes: int
    seconds: float
    requests_per_minute: int


@dataclass(frozen=True)
class Door:
    rules: DoorRules
    origins: frozenset[str]
    ad_hoc: bool
    """Whether operations may be sent as text; otherwise only the shipped ones, by their sha256."""
    limits: Limits
    operations: Mapping[str, str]
    """The shipped documents by the sha256 of their text."""

    @property
    def name(self) -> str:
        return self.rules.name

    @property
    def accepts(self) -> Accepts:
        """What may be asked for as a table here."""
        return Accepts(self.limits.document, self.ad_hoc, self.operations)


def load_doors(folder: Path = FRONTENDS) -> dict[str, Door]:
    """Reads each ``<door>/frontend.toml`` with the operations that it ships."""
    return {path.parent.name: _door(path) for path in sorted(folder.glob("*/frontend.toml"))}


def load_menus(folder: Path = FRONTENDS) -> dict[str, dict[str, Any]]:
    """What each door's front end can offer, for roles to be made of: its ``menus.toml``, by the door's name."""
    return {path.parent.name: tomllib.loads(path.read_text("utf-8")) for path in sorted(folder.glob("*/menus.toml"))}


def documents(folder: Path) -> dict[str, str]:
    """The operations that a door ships, by name: its own, and those of ``frontends/shared`` that it names."""
    declared = tomllib.loads((folder / "frontend.toml").read_text("utf-8"))
    shared = [folder.parent / SHARED / f"{name}.graphql" for name in declared.get("shared", ())]
    files = sorted([*folder.glob("operations/*.graphql"), *shared], key=lambda file: file.stem)
    found = {file.stem: file.read_text("utf-8") for file in files}
    if len(found) < len(files):
        raise ValueError(f"{folder.name} ships an operation twice")
    return found


def _door(path: Path) -> Door:
    declared = tomllib.loads(path.read_text("utf-8"))
    limits = declared["limits"]
    return Door(
        rules=DoorRules(
            name=path.parent.name,
            audience=declared["audience"],
            admission=Admission(frozenset(declared["roles"]), frozenset(declared["tenant_kinds"])),
            login_methods=frozenset(declared["login_methods"]),
        ),
        origins=frozenset(declared["origins"]),
        ad_hoc=declared["ad_hoc"],
        limits=Limits(
            document=DocumentLimits(
                max_tokens=limits["tokens"],
                max_depth=limits["depth"],
                max_aliases=limits["aliases"],
                max_cost=limits["cost"],
                max_page=limits["page"],
            ),
            body_bytes=limits["body_bytes"],
            upload_bytes=limits["upload_bytes"],
            seconds=limits["seconds"],
            requests_per_minute=limits["requests_per_minute"],
        ),
        operations={hashlib.sha256(text.encode()).hexdigest(): text for text in documents(path.parent).values()},
    )
