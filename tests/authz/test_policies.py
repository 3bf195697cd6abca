"""Coordinates, scopes, the text of policies and what is refused or reported in it."""

from itertools import product
from pathlib import Path

import pytest
from graphql import build_schema

from authz.coordinates import Act, Catalog, Coordinate
from authz.policies import (
    Effect,
    Policies,
    PolicyError,
    PolicyLine,
    RoleLine,
    domain_match,
    domain_patterns,
    enforcer,
    load_policies,
    scope_match,
    validate,
)
from authz.scopes import Scope, covers, describe, named_by, narrower, normalise, within

SCHEMA = build_schema(
    """
    type Query { simCards: [SimCard] owner: Person }
    type Mutation { activate(input: ActivateInput): SimCard }
    type Subscription { simCardChanged: SimCard }
    interface Person { name: String idNumber: String }
    type EndUser implements Person { name: String idNumber: String nickname: String }
    type SimCard { iccid: String purchasePrice: String purchaseDate: String }
    input ActivateInput { iccid: String }
    enum SimStatus { ACTIVE }
    union Holder = EndUser | SimCard
    """
)
CATALOG = Catalog.from_schema(SCHEMA, confidential={"Person.idNumber", "SimCard.purchasePrice"})


def names(pattern: str, act: Act | None = None) -> list[str]:
    return [coordinate.name for coordinate in CATALOG.expand(pattern, act or "*")]


def allow(sub: str, dom: str, obj: str, act: Act, scope: Scope) -> PolicyLine:
    return PolicyLine(sub, dom, obj, act, scope, Effect.ALLOW)


def test_the_catalog_lists_each_field_of_the_schema_with_its_act() -> None:
    assert {coordinate.name: coordinate.act.value for coordinate in CATALOG} == {
        "Query.simCards": "read",
        "Query.owner": "read",
        "Mutation.activate": "call",
        "Subscription.simCardChanged": "call",
        "Person.name": "read",
        "Person.idNumber": "read",
        "EndUser.name": "read",
        "EndUser.idNumber": "read",
        "EndUser.nickname": "read",
        "SimCard.iccid": "read",
        "SimCard.purchasePrice": "read",
        "SimCard.purchaseDate": "read",
        "ActivateInput.iccid": "write",
    }
    assert len(CATALOG) == 13


def test_what_an_interface_calls_confidential_is_so_in_its_types() -> None:
    assert [coordinate.name for coordinate in CATALOG if coordinate.confidential] == [
        "Person.idNumber",
        "EndUser.idNumber",
        "SimCard.purchasePrice",
    ]


def test_renamed_root_types_keep_their_act() -> None:
    schema = build_schema(
        """
        schema { query: Reading mutation: Writing }
        type Reading { now: String }
        type Writing { stop: String }
        """
    )
    assert [(found.name, found.act) for found in Catalog.from_schema(schema, confidential=())] == [
        ("Reading.now", Act.READ),
        ("Writing.stop", Act.CALL),
    ]


def test_the_catalog_refuses_a_coordinate_twice() -> None:
    iccid = Coordinate("SimCard", "iccid", Act.READ)
    with pytest.raises(ValueError, match=r"^SimCard\.iccid stands twice in the catalog$"):
        Catalog([iccid, iccid])


@pytest.mark.parametrize(
    ("pattern", "act", "expected"),
    [
        ("SimCard.iccid", None, ["SimCard.iccid"]),
        ("SimCard.purchase*", None, ["SimCard.purchasePrice", "SimCard.purchaseDate"]),
        ("SimCard.iccid*", None, ["SimCard.iccid"]),
        ("SimCard.*", Act.READ, ["SimCard.iccid", "SimCard.purchasePrice", "SimCard.purchaseDate"]),
        ("SimCard.*", Act.WRITE, []),
        ("Sim.*", None, []),
        ("*", Act.WRITE, ["ActivateInput.iccid"]),
        ("*", Act.CALL, ["Mutation.activate", "Subscription.simCardChanged"]),
    ],
)
def test_a_pattern_expands_to_the_fields_it_names(pattern: str, act: Act | None, expected: list[str]) -> None:
    assert names(pattern, act) == expected


def test_find_and_of_type() -> None:
    assert CATALOG.find("SimCard.iccid") == Coordinate("SimCard", "iccid", Act.READ)
    assert CATALOG.find("SimCard.imsi") is None
    assert CATALOG.of_type("ActivateInput") == (Coordinate("ActivateInput", "iccid", Act.WRITE),)
    assert CATALOG.of_type("SimStatus") == ()


def test_a_wider_scope_absorbs_what_it_covers() -> None:
    assert normalise(Scope) == {Scope.ALL}
    assert normalise([named_by("role:1"), named_by("role:2")]) == {"departments:role:1", "departments:role:2"}
    assert normalise([named_by("role:1"), Scope.DEPARTMENT, Scope.TENANT]) == {Scope.TENANT}
    assert normalise([Scope.TENANT, Scope.SUBTREE, Scope.SELF]) == {Scope.SUBTREE, Scope.SELF}
    assert normalise([Scope.TENANT, Scope.ANCESTORS]) == {Scope.TENANT, Scope.ANCESTORS}
    assert normalise([]) == frozenset()


def test_covers_is_the_order_of_scopes() -> None:
    beyond_itself = {
        (wide.value, scope.value)
        for wide, scope in product(Scope, repeat=2)
        if wide is not scope and covers(wide, scope)
    }
    assert beyond_itself == {
        ("all", "subtree"),
        ("all", "tenant"),
        ("all", "ancestors"),
        ("all", "self"),
        ("all", "department"),
        ("all", "department_tree"),
        ("all", "departments"),
        ("subtree", "tenant"),
        ("subtree", "department"),
        ("subtree", "department_tree"),
        ("tenant", "department"),
        ("tenant", "department_tree"),
        ("department_tree", "department"),
    }
    assert all(covers(scope, scope) for scope in Scope)


@pytest.mark.parametrize(
    ("inner", "outer", "is_within", "is_narrower"),
    [
        ({Scope.TENANT}, {Scope.SUBTREE}, True, True),
        ({Scope.SUBTREE}, {Scope.SUBTREE}, True, False),
        ({Scope.SUBTREE}, {Scope.TENANT}, False, False),
        ({Scope.SELF}, {Scope.SUBTREE}, False, False),
        ({Scope.SELF}, {Scope.SELF, Scope.ANCESTORS}, True, True),
        ({Scope.SELF, Scope.SUBTREE}, {Scope.ALL}, True, True),
        ({named_by("role:1")}, {Scope.SUBTREE}, True, True),
        ({named_by("role:1")}, {named_by("role:2")}, False, False),
        ({Scope.SUBTREE}, {named_by("role:1")}, False, False),
    ],
)
def test_narrower_is_strictly_within(inner: set[str], outer: set[str], is_within: bool, is_narrower: bool) -> None:
    assert within(frozenset(inner), frozenset(outer)) is is_within
    assert narrower(frozenset(inner), frozenset(outer)) is is_narrower


def test_a_reach_in_words() -> None:
    assert describe(frozenset({Scope.SELF, Scope.SUBTREE})) == "own tenant and all below + own records"
    assert describe(frozenset()) == "nothing"


def test_a_domain_pattern_covers_its_branch_and_all_below() -> None:
    assert domain_patterns(".0001.0AB2.") == {"*", ".0001.*", ".0001.0AB2.*", ".0001.0AB2."}
    assert domain_match(".0001.", ".0001.*")
    assert domain_match(".0001.0AB2.", ".0001.*")
    assert domain_match(".0001.0AB2.", "*")
    assert not domain_match(".0001.0AB2.", ".0001.")
    assert not domain_match(".0001.", ".0001.0AB2.*")
    assert not domain_match(".0001.0AB3.", ".0001.0AB2.*")


@pytest.mark.parametrize("path", ["", "*", ".0001", "0001.", ".001.", ".000W.", ".0001.*", ".0001.\n"])
def test_what_is_no_path_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match=r"is no tenant path$"):
        domain_match(path, "*")


def test_a_line_speaks_of_the_scopes_it_covers() -> None:
    assert scope_match("tenant", "subtree")
    assert not scope_match("subtree", "tenant")
    with pytest.raises(ValueError, match="'world' is not a valid Scope"):
        scope_match("world", "all")


def test_policies_are_read_from_every_file(tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_text("g, platform_admin, platform_operations, *\n")
    (tmp_path / "a.csv").write_text(
        """\
# agents

  p, agent_admin ,.0001.*, SimCard.*, read, subtree, allow   # cost is not theirs
p, agent_admin, *, SimCard.purchase*, *, all, deny
"""
    )
    (tmp_path / "notes.txt").write_text("p, not, a, policy\n")

    policies = load_policies(tmp_path)

    assert policies == Policies(
        (
            PolicyLine("agent_admin", ".0001.*", "SimCard.*", Act.READ, Scope.SUBTREE, Effect.ALLOW),
            PolicyLine("agent_admin", "*", "SimCard.purchase*", "*", Scope.ALL, Effect.DENY),
        ),
        (RoleLine("platform_admin", "platform_operations", "*"),),
    )
    assert [line.source for line in policies.lines] == ["a.csv:3", "a.csv:4"]
    assert policies.roles[0].source == "b.csv:1"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("p, clerk, *, *, see, all, allow", "unknown act 'see': read, write, call, *"),
        (
            "p, clerk, *, *, read, world, allow",
            "unknown scope 'world': all, subtree, tenant, ancestors, self, department, department_tree, departments",
        ),
        ("p, clerk, *, *, read, all, permit", "unknown effect 'permit': allow, deny"),
        ("p, clerk, *, *, read, all", "p has 6 columns (sub, dom, obj, act, scope, eft), here 5"),
        ("p, clerk, *, *, read, all, allow,", "p has 6 columns (sub, dom, obj, act, scope, eft), here 7"),
        ("g, clerk, staff", "g has 3 columns (member, role, domain), here 2"),
        ("p, clerk, *, SimCard.*, read, tenant, deny", "a deny has scope all, not tenant"),
        ("p, clerk, *, *.iccid, read, all, allow", "'*.iccid' is no coordinate: "),
        ("p, clerk, *, SimCard, read, all, allow", "'SimCard' is no coordinate: "),
        ("p, clerk, *, Sim*.iccid, read, all, allow", "'Sim*.iccid' is no coordinate: "),
        ("p, clerk, .00*, *, read, all, allow", "'.00*' is no domain: a tenant path, a path and *, or *"),
        ("g, clerk, staff, 0001", "'0001' is no domain: a tenant path, a path and *, or *"),
        ("p, *, *, *, read, all, deny", "'*' is no role: a role is named in full"),
        ("g, clerk, , *", "'' is no role: a role is named in full"),
        ("q, clerk, staff", "a line starts with p or g, not 'q'"),
    ],
)
def test_a_line_that_cannot_be_meant_is_refused_by_file_and_line(tmp_path: Path, line: str, reason: str) -> None:
    (tmp_path / "clerk.csv").write_text(f"# clerks\n{line}\n")
    if reason.endswith("coordinate: "):
        reason += "Type.field, Type.prefix*, Type.* or *"

    with pytest.raises(PolicyError) as refusal:
        load_policies(tmp_path)

    assert str(refusal.value) == f"clerk.csv:2: {reason}"


def test_every_wrong_line_is_named_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("p, clerk\n")
    (tmp_path / "b.csv").write_text("g, clerk, staff, *\ng, clerk\n")
    with pytest.raises(PolicyError) as refusal:
        load_policies(tmp_path)
    assert str(refusal.value).splitlines() == [
        "a.csv:1: p has 6 columns (sub, dom, obj, act, scope, eft), here 1",
        "b.csv:2: g has 3 columns (member, role, domain), here 1",
    ]


def test_a_folder_without_policies_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PolicyError) as refusal:
        load_policies(tmp_path)
    assert str(refusal.value) == f"no *.csv in {tmp_path}"


def test_validate_names_dead_patterns_and_idle_roles(tmp_path: Path) -> None:
    (tmp_path / "roles.csv").write_text(
        """\
p, staff, *, SimCard.*, read, tenant, allow
p, staff, *, SimCard.imsi, read, tenant, allow
p, staff, *, SimCard.*, write, tenant, allow
p, staff, *, SimCard.purchaseP*, read, tenant, allow
p, staff, *, SimCard.purchaseP*, read, all, deny
p, ghost, *, Simcard.*, read, tenant, allow
p, silent, *, SimCard.*, read, all, deny
g, clerk, staff, *
g, junior, clerk, *
g, guest, visitor, *
"""
    )
    assert validate(load_policies(tmp_path), CATALOG) == [
        "roles.csv:2: SimCard.imsi (read) matches no coordinate",
        "roles.csv:3: SimCard.* (write) matches no coordinate",
        "roles.csv:4: SimCard.purchaseP* (read) matches no coordinate",
        "roles.csv:6: Simcard.* (read) matches no coordinate",
        "role ghost is granted nothing",
        "role guest is granted nothing",
        "role silent is granted nothing",
        "role visitor is granted nothing",
    ]


def test_the_index_finds_only_the_lines_that_concern_the_roles_and_the_tenant() -> None:
    mine = allow("clerk", ".0001.0AB2.", "SimCard.*", Act.READ, Scope.TENANT)
    inherited = allow("staff", ".0001.*", "Query.*", Act.READ, Scope.TENANT)
    elsewhere = allow("clerk", ".0001.0AB3.", "SimCard.*", Act.READ, Scope.SUBTREE)
    someone_else = allow("owner", "*", "*", Act.READ, Scope.ALL)
    policies = Policies(
        (mine, inherited, elsewhere, someone_else),
        (RoleLine("clerk", "staff", ".0001.*"), RoleLine("clerk", "owner", ".0001.0AB3.")),
    )
    assert list(policies.index.lines_of(["clerk"], ".0001.0AB2.")) == [mine, inherited]
    assert list(policies.index.lines_of(["clerk"], ".0001.")) == [inherited]
    assert policies.index.inherited(["clerk"], ".0001.0AB3.") == {"clerk", "staff", "owner"}


def test_roles_that_include_each_other_are_one_circle() -> None:
    circle = Policies((), (RoleLine("a", "b", "*"), RoleLine("b", "c", "*"), RoleLine("c", "a", "*")))
    assert circle.index.inherited(["b"], ".0001.") == {"a", "b", "c"}


def test_a_chain_of_roles_is_followed_as_far_as_casbin_does_and_refused_beyond() -> None:
    chain = Policies(
        (allow("r8", "*", "SimCard.iccid", Act.READ, Scope.TENANT),),
        tuple(RoleLine(f"r{n}", f"r{n + 1}", "*") for n in range(9)),
    )
    judge = enforcer(Policies(chain.lines, (*chain.roles, RoleLine("holder", "r0", "*"))), CATALOG)

    assert judge.enforce("holder", ".0001.", "SimCard.iccid", "read", "tenant")
    assert chain.index.inherited(["r1"], ".0001.") == {f"r{n}" for n in range(1, 10)}
    with pytest.raises(PolicyError, match=r"^r9 is inherited through more than 8 roles$"):
        chain.index.inherited(["r0"], ".0001.")


def test_a_repeated_line_is_one_line_to_casbin() -> None:
    line = allow("clerk", "*", "SimCard.iccid", Act.READ, Scope.TENANT)
    link = RoleLine("junior", "clerk", "*")
    judge = enforcer(Policies((line, line), (link, link)), CATALOG)
    assert judge.get_policy() == [["clerk", "*", "SimCard.iccid", "read", "tenant", "allow"]]
    assert judge.enforce("junior", ".0001.", "SimCard.iccid", "read", "tenant")


def test_without_policies_everything_is_denied() -> None:
    judge = enforcer(Policies((), ()), CATALOG)
    assert not judge.enforce("clerk", ".0001.", "SimCard.iccid", "read", "tenant")
