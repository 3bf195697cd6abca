"""Grants: policies compiled for one set of roles in one tenant, so that a request asks a dictionary."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from types import MappingProxyType

from authz.coordinates import Act, Catalog, Coordinate
from authz.policies import Effect, Policies, named_well_enough
from authz.scopes import Reach, Rows, normalise


@dataclass(frozen=True, slots=True)
class Grants:
    """All that a caller may do, and on which rows. What is absent is denied."""

    reach: Mapping[tuple[str, str, Act], Reach]
    """By type, field and act."""
    key: str
    """The same for the same content, in every process: plans are cached by it."""

    def allows(self, type: str, field: str, act: Act) -> bool:
        return (type, field, act) in self.reach

    def reach_of(self, type: str, field: str, act: Act) -> Reach | None:
        """The rows on which it is allowed; None where it is denied."""
        return self.reach.get((type, field, act))


def compile_grants(policies: Policies, catalog: Catalog, roles: Iterable[str], domain: str) -> Grants:
    """What these roles together may do in the tenant at path `domain`: all they allow less all they deny.

    Says of each coordinate what `authz.policies.enforcer` says. Costs nothing for lines of other roles or
    other branches. Raises ValueError where `domain` is no tenant path, PolicyError where inheritance is too
    deep to be followed.
    """
    allowed: defaultdict[Coordinate, set[Rows]] = defaultdict(set)
    denied: set[Coordinate] = set()
    for line in policies.index.lines_of(roles, domain):
        for coordinate in catalog.expand(line.obj, line.act):
            if not named_well_enough(coordinate, line.obj, line.eft):
                continue
            if line.eft is Effect.DENY:
                denied.add(coordinate)
            else:
                allowed[coordinate].add(line.rows)
    reach = {
        (coordinate.type, coordinate.field, coordinate.act): normalise(scopes)
        for coordinate, scopes in allowed.items()
        if coordinate not in denied
    }
    return Grants(MappingProxyType(reach), _digest(reach))


def narrowed(grants: Grants, patterns: Iterable[str], kept: Grants) -> Grants:
    """Of these grants only what the patterns name (`Type.field`, `Type.prefix*`, `Type.*`), and what `kept` grants.

    Never more than the grants themselves: a pattern opens nothing. Who is left any field of a type is left its `id`,
    by which rows are reached at all.
    """
    asked = tuple(patterns)
    named = {place for place in grants.reach if _named(f"{place[0]}.{place[1]}", asked)}
    named |= {(type, "id", Act.READ) for type, _, act in named if act is Act.READ}
    reach = {
        place: rows if place in named else kept.reach[place]
        for place, rows in grants.reach.items()
        if place in named or place in kept.reach
    }
    return Grants(MappingProxyType(reach), _digest(reach))


def _named(coordinate: str, patterns: Iterable[str]) -> bool:
    return any(
        coordinate.startswith(pattern[:-1]) if pattern.endswith("*") else coordinate == pattern for pattern in patterns
    )


def _digest(reach: Mapping[tuple[str, str, Act], Reach]) -> str:
    content = sorted(f"{type}.{field} {act} {' '.join(sorted(scopes))}" for (type, field, act), scopes in reach.items())
    return sha256("\n".join(content).encode()).hexdigest()


class GrantsCache:
    """Grants by role set and tenant, until policies change.

    Tenants whose grants are the same share one object: thousands of agents with one built-in role cost the
    memory of one.
    """

    def __init__(self, policies: Policies, catalog: Catalog) -> None:
        self._catalog = catalog
        self.replace(policies)

    def replace(self, policies: Policies) -> None:
        """From now on these policies hold; nothing compiled before is given out again."""
        self._policies = policies
        self._held: dict[tuple[frozenset[str], str], Grants] = {}
        self._by_key: dict[str, Grants] = {}
        self._narrowed: dict[tuple[str, frozenset[str]], Grants] = {}

    def grants_of(self, roles: Iterable[str], domain: str) -> Grants:
        """What these roles together may do in the tenant at path `domain`, as `compile_grants` says it."""
        holder = (frozenset(roles), domain)
        if (held := self._held.get(holder)) is None:
            compiled = compile_grants(self._policies, self._catalog, *holder)
            held = self._held[holder] = self._by_key.setdefault(compiled.key, compiled)
        return held

    def narrowed(self, grants: Grants, patterns: frozenset[str], kept: Grants) -> Grants:
        """These grants as `narrowed` leaves them, compiled once for each set of patterns."""
        limit = (grants.key, patterns)
        if (found := self._narrowed.get(limit)) is None:
            compiled = narrowed(grants, patterns, kept)
            found = self._narrowed[limit] = self._by_key.setdefault(compiled.key, compiled)
        return found
