"""Policies: who may do what at which coordinate, in which branch of the tenant tree, on which rows.

Built-in roles are text (`authz/policies/*.csv`), tenants' own roles are rows of the database; both become
`PolicyLine` and `RoleLine`. Casbin decides by `model.conf` and the matcher functions of this module.

    p, agent_admin, .0001.*, SimCard.*, read, subtree, allow
    g, platform_admin, platform_operations, *
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Self, TypeVar

import casbin
from casbin.rbac.default_role_manager import DomainManager

from authz.coordinates import ANY, Act, ActPattern, Catalog, Coordinate
from authz.scopes import Rows, Scope, covers, named_by, named_rows

INHERITANCE_LIMIT = 8
"""Roles a role may stand above, one over the other. Casbin's graph silently stops looking two steps later."""

_MODEL = Path(__file__).with_name("model.conf")
_PATH = re.compile(r"(\.[0-9A-V]{4})+\.")
_DOMAIN_PATTERN = re.compile(r"\*|(\.[0-9A-V]{4})+\.\*?")
_COORDINATE_PATTERN = re.compile(r"\*|[_A-Za-z]\w*\.(\*|[_A-Za-z]\w*\*?)", re.ASCII)


class PolicyError(ValueError):
    """Policies that cannot be meant; the message says which line and why."""


class Effect(StrEnum):
    ALLOW = "allow"
    DENY = "deny"


@dataclass(frozen=True, slots=True)
class PolicyLine:
    """What one role may do, or may not do, in one branch of the tenant tree. Raises PolicyError."""

    sub: str
    dom: str
    obj: str
    act: ActPattern
    scope: Scope
    eft: Effect
    source: str = field(default="", compare=False)
    """Where the line stands, for messages: file and line, or the role's row."""

    def __post_init__(self) -> None:
        _check_role(self.sub)
        _check_domain(self.dom)
        if not _COORDINATE_PATTERN.fullmatch(self.obj):
            raise PolicyError(f"{self.obj!r} is no coordinate: Type.field, Type.prefix*, Type.* or *")
        if self.eft is Effect.DENY and self.scope is not Scope.ALL:
            raise PolicyError(f"a deny has scope all, not {self.scope.value}")

    @property
    def rows(self) -> Rows:
        """The rows that the line opens to whoever holds its role."""
        return named_by(self.sub) if self.scope is Scope.DEPARTMENTS else self.scope

    @classmethod
    def parse(cls, columns: Sequence[str], source: str = "") -> Self:
        if len(columns) != 6:
            raise PolicyError(f"p has 6 columns (sub, dom, obj, act, scope, eft), here {len(columns)}")
        sub, dom, obj, act, scope, eft = columns
        return cls(
            sub,
            dom,
            obj,
            ANY if act == ANY else _member(Act, act, or_else=(ANY,)),
            _member(Scope, scope),
            _member(Effect, eft),
            source,
        )


@dataclass(frozen=True, slots=True)
class RoleLine:
    """Whoever holds `member` holds `role` as well, in that branch of the tenant tree. Raises PolicyError."""

    member: str
    role: str
    domain: str
    source: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        _check_role(self.member)
        _check_role(self.role)
        _check_domain(self.domain)

    @classmethod
    def parse(cls, columns: Sequence[str], source: str = "") -> Self:
        if len(columns) != 3:
            raise PolicyError(f"g has 3 columns (member, role, domain), here {len(columns)}")
        member, role, domain = columns
        return cls(member, role, domain, source)


@dataclass(frozen=True)
class Policies:
    """Everything that is allowed and denied, and which role includes which."""

    lines: tuple[PolicyLine, ...]
    roles: tuple[RoleLine, ...]

    @cached_property
    def index(self) -> "PolicyIndex":
        return PolicyIndex(self)


class PolicyIndex:
    """Finds the lines that concern a set of roles in a tenant without looking at anyone else's."""

    def __init__(self, policies: Policies) -> None:
        self._lines: defaultdict[tuple[str, str], list[PolicyLine]] = defaultdict(list)
        self._roles: defaultdict[tuple[str, str], list[RoleLine]] = defaultdict(list)
        for line in policies.lines:
            self._lines[line.sub, line.dom].append(line)
        for link in policies.roles:
            self._roles[link.member, link.domain].append(link)

    def lines_of(self, roles: Iterable[str], domain: str) -> Iterator[PolicyLine]:
        """The lines of these roles, and of all they inherit, that hold in the tenant. Raises PolicyError."""
        for role in sorted(self.inherited(roles, domain)):
            for pattern in domain_patterns(domain):
                yield from self._lines.get((role, pattern), ())

    def inherited(self, roles: Iterable[str], domain: str) -> frozenset[str]:
        """These roles and every role that Casbin's role graph puts below them in the tenant.

        Raises PolicyError where the chain is so long that Casbin would stop following it: a deny at its end
        would be lost without a word.
        """
        reached = frozenset(roles)
        graph = self._graph(reached, domain)
        newest = reached
        for _ in range(INHERITANCE_LIMIT + 1):
            newest = frozenset(role for member in newest for role in graph.get_roles(member, domain)) - reached
            if not newest:
                return reached
            reached |= newest
        raise PolicyError(f"{min(newest)} is inherited through more than {INHERITANCE_LIMIT} roles")

    def _graph(self, roles: frozenset[str], domain: str) -> DomainManager:
        """Casbin's role graph of the links that start from these roles; the whole one is slow to build."""
        graph = DomainManager()
        graph.add_domain_matching_func(domain_match)
        seen, waiting = set(roles), list(roles)
        while waiting:
            member = waiting.pop()
            for pattern in domain_patterns(domain):
                for link in self._roles.get((member, pattern), ()):
                    graph.add_link(link.member, link.role, link.domain)
                    if link.role not in seen:
                        seen.add(link.role)
                        waiting.append(link.role)
        return graph


def domain_match(domain: str, pattern: str) -> bool:
    """Whether a line for `pattern` holds in the tenant at path `domain`."""
    return pattern in domain_patterns(domain)


@lru_cache(maxsize=4096)
def domain_patterns(domain: str) -> frozenset[str]:
    """Every pattern that holds in a tenant: `*`, the branch of each tenant from the root to it, and itself.

    For `.0001.0AB2.`: `*`, `.0001.*`, `.0001.0AB2.*`, `.0001.0AB2.`. Raises ValueError where it is no path.
    """
    if not _PATH.fullmatch(domain):
        raise ValueError(f"{domain!r} is no tenant path")
    branches = (f"{domain[:end]}*" for end in range(len(".0000."), len(domain) + 1, len("0000.")))
    return frozenset((ANY, domain, *branches))


def named_well_enough(coordinate: Coordinate, obj: str, eft: str) -> bool:
    """Whether a line that matches the coordinate may speak of it: no wildcard grants a confidential one.

    A wildcard may deny it.
    """
    return not coordinate.confidential or eft == Effect.DENY or obj == coordinate.name


def scope_match(asked: str, granted: str) -> bool:
    """Whether a line for the rows of `granted` speaks of all rows of `asked`."""
    return covers(named_rows(granted), named_rows(asked))


def enforcer(policies: Policies, catalog: Catalog) -> casbin.Enforcer:
    """Casbin over these policies: the judge of what grants must say, at milliseconds per question.

    Ask `enforce(role, tenant path, "Type.field", act, scope)`.
    """

    def coordinate_match(name: str, act: str, obj: str, line_act: str, eft: str) -> bool:
        coordinate = catalog.find(name)
        return (
            coordinate is not None
            and coordinate.act == act
            and coordinate.matches(obj, line_act)
            and named_well_enough(coordinate, obj, eft)
        )

    judge = casbin.Enforcer(str(_MODEL))
    judge.add_function("coordinate_match", coordinate_match)
    judge.add_function("scope_match", scope_match)
    judge.add_function("domain_match", domain_match)
    judge.add_named_domain_matching_func("g", domain_match)
    # Casbin's add_policies compares each line with all others, and drops the whole batch for a repeated one.
    judge.model["p"]["p"].policy = [
        [line.sub, line.dom, line.obj, str(line.act), str(line.rows), line.eft.value]
        for line in dict.fromkeys(policies.lines)
    ]
    judge.model["g"]["g"].policy = [[link.member, link.role, link.domain] for link in dict.fromkeys(policies.roles)]
    judge.build_role_links()
    return judge


def load_policies(folder: Path) -> Policies:
    """The policies in the folder's `*.csv` files.

    `#` starts a comment, blank lines are skipped, spaces around a value do not count. Raises PolicyError with
    one line, `file:line: reason`, for each line that cannot be meant.
    """
    files = sorted(folder.glob("*.csv"))
    if not files:
        raise PolicyError(f"no *.csv in {folder}")
    lines: list[PolicyLine] = []
    roles: list[RoleLine] = []
    problems: list[str] = []
    for file in files:
        for number, text in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
            meant = text.partition("#")[0].strip()
            if not meant:
                continue
            kind, *columns = (column.strip() for column in meant.split(","))
            source = f"{file.name}:{number}"
            try:
                match kind:
                    case "p":
                        lines.append(PolicyLine.parse(columns, source))
                    case "g":
                        roles.append(RoleLine.parse(columns, source))
                    case _:
                        raise PolicyError(f"a line starts with p or g, not {kind!r}")
            except PolicyError as error:
                problems.append(f"{source}: {error}")
    if problems:
        raise PolicyError("\n".join(problems))
    return Policies(tuple(lines), tuple(roles))


def validate(policies: Policies, catalog: Catalog) -> list[str]:
    """What the policies say in vain: lines that speak of no coordinate, roles that are granted nothing."""
    problems: list[str] = []
    granted: set[str] = set()
    for line in policies.lines:
        if not any(
            named_well_enough(coordinate, line.obj, line.eft) for coordinate in catalog.expand(line.obj, line.act)
        ):
            problems.append(f"{_where(line.source)}{line.obj} ({line.act}) matches no coordinate")
        elif line.eft is Effect.ALLOW:
            granted.add(line.sub)
    problems += [f"role {role} is granted nothing" for role in sorted(_idle_roles(policies, granted))]
    return problems


def _idle_roles(policies: Policies, granted: set[str]) -> set[str]:
    """The roles that neither have a grant nor inherit from one that has."""
    members: defaultdict[str, set[str]] = defaultdict(set)
    for link in policies.roles:
        members[link.role].add(link.member)
    served, waiting = set(granted), list(granted)
    while waiting:
        newly = members[waiting.pop()] - served
        served |= newly
        waiting += newly
    named = {line.sub for line in policies.lines}
    named.update(name for link in policies.roles for name in (link.member, link.role))
    return named - served


def _where(source: str) -> str:
    return f"{source}: " if source else ""


def _check_role(name: str) -> None:
    if not name or ANY in name:
        raise PolicyError(f"{name!r} is no role: a role is named in full")


def _check_domain(pattern: str) -> None:
    if not _DOMAIN_PATTERN.fullmatch(pattern):
        raise PolicyError(f"{pattern!r} is no domain: a tenant path, a path and *, or *")


_Value = TypeVar("_Value", bound=StrEnum)


def _member(values: type[_Value], text: str, or_else: Sequence[str] = ()) -> _Value:
    try:
        return values(text)
    except ValueError:
        known = ", ".join((*values, *or_else))
        raise PolicyError(f"unknown {values.__name__.lower()} {text!r}: {known}") from None
