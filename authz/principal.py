"""Who asks: staff of a tenant, an end user, an API key, or the system itself."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from authz.grants import Grants
from authz.scopes import Rows

ROOT_PATH = ".0001."
BRANCH_LENGTH = len(".0001.0001.")
NARROW_TENANTS = 64
"""Up to so many tenants below, a page is merged from one index scan per tenant; measured in ``bench``."""


class PrincipalKind(enum.Enum):
    STAFF = "STAFF"
    END_USER = "END_USER"
    API_KEY = "API_KEY"
    SYSTEM = "SYSTEM"
    ANONYMOUS = "ANONYMOUS"


class Shape(enum.Enum):
    """The caller's place in the tree as a query planner sees it; part of a plan's cache key."""

    ROOT = "ROOT"
    """The platform: every row."""
    BRANCH = "BRANCH"
    """Just below the platform: one equality."""
    WIDE = "WIDE"
    """Deeper, with many tenants below: a range inside a branch."""
    NARROW = "NARROW"
    """Deeper, with few tenants below: one scan per tenant, merged."""
    OUTSIDE = "OUTSIDE"
    """No place in the tree: an end user or a visitor."""


@dataclass(frozen=True)
class Impersonation:
    """Who of the platform's staff really acts where an account seems to, and why; reads only, unless ``may_write``."""

    account_id: int
    name: str
    reason: str
    may_write: bool


@dataclass(frozen=True)
class Principal:
    kind: PrincipalKind
    door: str
    grants: Grants
    tenant_id: int | None = None
    tenant_kind: str | None = None
    """What sort of company the tenant is."""
    path: str = ""
    home: str = ""
    """The path of the tenant that serves an end user: opens what the tenants down to it publish, and nothing else."""
    tenants_below: int = 0
    tenant_requests_per_minute: int | None = None
    """What all callers of the tenant may ask together; None: no limit above their own."""
    account_id: int | None = None
    end_user_id: int | None = None
    api_key_id: int | None = None
    roles: tuple[str, ...] = ()
    departments: Mapping[Rows, tuple[int, ...]] = field(default_factory=dict)
    """The departments that each scope of departments means for this caller."""
    session_key: str | None = None
    impersonation: Impersonation | None = None
    expires_at: float | None = None
    language: str = "zh-CN"

    @cached_property
    def path_end(self) -> str:
        """The first path after the subtree: ``/`` follows ``.`` bytewise."""
        return self.path.rstrip(".") + "/" if self.path else ""

    @cached_property
    def branch(self) -> str:
        return self.path[:BRANCH_LENGTH]

    @cached_property
    def ancestors(self) -> tuple[str, ...]:
        """The paths from the platform down to the caller's own tenant, or to the one that serves an end user."""
        place = self.path or self.home
        steps = place.strip(".").split(".") if place else []
        return tuple("." + ".".join(steps[: n + 1]) + "." for n in range(len(steps)))

    @cached_property
    def shape(self) -> Shape:
        if not self.path:
            return Shape.OUTSIDE
        if self.path == ROOT_PATH:
            return Shape.ROOT
        if len(self.path) == BRANCH_LENGTH:
            return Shape.BRANCH
        return Shape.NARROW if self.tenants_below <= NARROW_TENANTS else Shape.WIDE

    @cached_property
    def row_context(self) -> tuple[str, str, str]:
        """What row-level security reads: path, published paths, end user."""
        end_user = "" if self.end_user_id is None else str(self.end_user_id)
        return self.path, ",".join(self.ancestors), end_user

    def departments_in(self, rows: Rows) -> tuple[int, ...]:
        return self.departments.get(rows, ())

    @cached_property
    def plan_key(self) -> tuple[str, str, Shape]:
        return self.door, self.grants.key, self.shape

    @cached_property
    def caller(self) -> str:
        """A stable name for logs, rate limits and repeats."""
        for kind, key in (("account", self.account_id), ("key", self.api_key_id), ("user", self.end_user_id)):
            if key is not None:
                return f"{kind}:{key}"
        return self.kind.value.lower()


NOTHING = Grants({}, "nothing")


def system(reason: str, path: str = ROOT_PATH, tenant_id: int | None = None) -> Principal:
    """The system at work, in the scope of the tenant that caused it; the platform's scope needs its reason."""
    return Principal(PrincipalKind.SYSTEM, f"system:{reason}", NOTHING, tenant_id=tenant_id, path=path)


def visitor(door: str, grants: Grants = NOTHING, language: str = "zh-CN") -> Principal:
    """Somebody who has not logged in."""
    return Principal(PrincipalKind.ANONYMOUS, door, grants, language=language)
