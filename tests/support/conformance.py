"""The conformance of grants: what was compiled must be what Casbin decides."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from authz.coordinates import ANY, Act, Catalog, Coordinate
from authz.grants import Grants, compile_grants
from authz.policies import Policies, RoleLine, enforcer
from authz.scopes import Rows, Scope, covers, named_by

HOLDER = "holder of all the roles"


def assert_conformance(policies: Policies, catalog: Catalog, roles: Iterable[str], domain: str) -> int:
    """Assert that grants equal `enforce` for each role alone and for all together, and count the answers.

    Asked is every coordinate of the catalog with its own act and every scope, and once with each other act,
    which is always denied. Casbin evaluates every line for every question, so each type is put to an enforcer
    without the lines that name another type; all else is left to Casbin.
    """
    named = sorted(set(roles))
    held = Policies(policies.lines, policies.roles + tuple(RoleLine(HOLDER, role, ANY) for role in named))
    granted = {role: compile_grants(policies, catalog, [role], domain) for role in named}
    granted[HOLDER] = compile_grants(policies, catalog, named, domain)

    by_type: defaultdict[str, list[Coordinate]] = defaultdict(list)
    for coordinate in catalog:
        by_type[coordinate.type].append(coordinate)
    answers = 0
    disagreements: list[str] = []
    for type, coordinates in by_type.items():
        judge = enforcer(_about(type, held), catalog)
        for coordinate in coordinates:
            for act, rows in _questions(coordinate, named[0]):
                for subject, grants in granted.items():
                    decided = judge.enforce(subject, domain, coordinate.name, act.value, str(rows))
                    compiled = _reaches(grants, coordinate, act, rows)
                    answers += 1
                    if decided != compiled:
                        disagreements.append(
                            f"{subject} in {domain}: {coordinate.name} {act.value} {rows}: "
                            f"Casbin {decided}, grants {compiled}"
                        )
    assert not disagreements, "\n".join(disagreements)
    return answers


def _about(type: str, policies: Policies) -> Policies:
    lines = tuple(line for line in policies.lines if line.obj == ANY or line.obj.partition(".")[0] == type)
    return Policies(lines, policies.roles)


def _questions(coordinate: Coordinate, role: str) -> Sequence[tuple[Act, Rows]]:
    own: list[tuple[Act, Rows]] = [(coordinate.act, rows) for rows in (*Scope, named_by(role))]
    return own + [(act, Scope.SELF) for act in Act if act is not coordinate.act]


def _reaches(grants: Grants, coordinate: Coordinate, act: Act, rows: Rows) -> bool:
    reach = grants.reach_of(coordinate.type, coordinate.field, act)
    return reach is not None and any(covers(wide, rows) for wide in reach)
