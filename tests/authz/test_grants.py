"""Grants are what Casbin decides, found by a look-up."""

from itertools import product

import pytest
from graphql import build_schema
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from authz.coordinates import Act, Catalog, Coordinate
from authz.grants import Grants, GrantsCache, compile_grants
from authz.policies import Effect, Policies, PolicyLine, RoleLine, enforcer
from authz.scopes import Scope, covers
from tests.support.conformance import assert_conformance

PLATFORM = ".0001."
ENTERPRISE = ".0001.0AB2."
AGENT = ".0001.0AB2.0001."
OTHER_ENTERPRISE = ".0001.0AB3."

CATALOG = Catalog.from_schema(
    build_schema(
        """
        type Query { simCards: [SimCard] orders: [Order] tenants: [Tenant] endUsers: [EndUser] }
        type Mutation { allocate: SimCard activate: SimCard refundOrder: SimOrder mergeTenant: Tenant }
        type Subscription { orderPaid: SimOrder }
        interface Order { id: ID amount: String cost: String }
        type SimOrder implements Order { id: ID amount: String cost: String simCard: SimCard }
        type SimCard {
          id: ID iccid: String status: String purchasePrice: String purchaseDate: String ki: String
        }
        type Tenant { id: ID name: String secret: String children: [Tenant] parent: Tenant }
        type EndUser { id: ID nickname: String idNumber: String }
        input SimCardFilter { status: String holder: ID }
        input OrderInput { price: String plan: ID }
        input TenantInput { name: String parent: ID }
        """
    ),
    confidential={"SimCard.ki", "Tenant.secret", "EndUser.idNumber", "Order.cost"},
)


def p(text: str) -> PolicyLine:
    return PolicyLine.parse([column.strip() for column in text.split(",")])


def g(text: str) -> RoleLine:
    return RoleLine.parse([column.strip() for column in text.split(",")])


POLICIES = Policies(
    (
        p("platform_admin, .0001., *, *, all, allow"),
        p("platform_admin, .0001., Tenant.secret, read, all, allow"),
        p("platform_operations, .0001., SimCard.ki, read, all, allow"),
        p("platform_operations, *, SimCardFilter.*, write, all, allow"),
        p("enterprise_admin, .0001.*, SimCard.*, read, subtree, allow"),
        p("enterprise_admin, .0001.*, Query.*, read, subtree, allow"),
        p("enterprise_admin, .0001.*, Mutation.*, call, subtree, allow"),
        p("enterprise_admin, .0001.0AB2.*, SimOrder.*, *, subtree, allow"),
        p("enterprise_admin, .0001.*, Mutation.merge*, call, all, deny"),
        p("agent_admin, .0001.*, SimCard.purchase*, *, all, deny"),
        p("agent_admin, .0001.*, Tenant.*, read, tenant, allow"),
        p("agent_admin, .0001.*, Tenant.name, read, ancestors, allow"),
        p("agent_admin, *, *, write, tenant, allow"),
        p("agent_admin, *, OrderInput.price, write, all, deny"),
        p("clerk, .0001.0AB2.0001., SimCard.iccid, read, tenant, allow"),
        p("clerk, .0001.0AB2.0001., EndUser.idNumber, read, self, allow"),
        p("clerk, *, EndUser.*, read, departments, allow"),
        p("auditor, *, *, read, subtree, allow"),
        p("auditor, .0001.0AB2.*, SimOrder.cost, read, tenant, allow"),
        p("auditor, *, SimCard.*, *, all, deny"),
    ),
    (
        g("platform_admin, platform_operations, *"),
        g("platform_admin, enterprise_admin, .0001."),
        g("agent_admin, enterprise_admin, .0001.0AB2.*"),
        g("agent_admin, clerk, *"),
        g("shift_leader, clerk, .0001.0AB2.0001."),
        g("clerk, visitor, *"),
    ),
)
ROLES = ("platform_admin", "agent_admin", "clerk", "shift_leader", "auditor", "nobody")


def reached(grants: Grants) -> dict[str, set[str]]:
    return {f"{type}.{field}": {*map(str, scopes)} for (type, field, _), scopes in grants.reach.items()}


def compiled(roles: set[str], domain: str, *lines: str) -> dict[str, set[str]]:
    return reached(compile_grants(Policies(tuple(map(p, lines)), ()), CATALOG, roles, domain))


@pytest.mark.parametrize("domain", [PLATFORM, AGENT, OTHER_ENTERPRISE])
def test_grants_equal_enforce_for_every_role_coordinate_and_scope(domain: str) -> None:
    judge = enforcer(POLICIES, CATALOG)
    grants = {role: compile_grants(POLICIES, CATALOG, [role], domain) for role in ROLES}
    decided = {
        (role, coordinate.name, scope): judge.enforce(role, domain, coordinate.name, coordinate.act.value, scope.value)
        for role, coordinate, scope in product(ROLES, CATALOG, Scope)
    }
    answered = {
        (role, coordinate.name, scope): any(
            covers(wide, scope)
            for wide in grants[role].reach_of(coordinate.type, coordinate.field, coordinate.act) or ()
        )
        for role, coordinate, scope in product(ROLES, CATALOG, Scope)
    }
    assert answered == decided
    assert {*decided.values()} == {True, False}


@pytest.mark.parametrize("domain", [PLATFORM, ENTERPRISE, AGENT, OTHER_ENTERPRISE])
def test_grants_equal_enforce_for_several_roles_together(domain: str) -> None:
    questions_per_coordinate = len(Scope) + len(Act)
    subjects = len(ROLES) + 1
    assert assert_conformance(POLICIES, CATALOG, ROLES, domain) == (len(CATALOG) * questions_per_coordinate * subjects)


def test_conformance_sees_a_grant_that_casbin_would_not_give(monkeypatch: pytest.MonkeyPatch) -> None:
    def generous(coordinate: Coordinate, obj: str, eft: str) -> bool:
        return True

    monkeypatch.setattr("authz.grants.named_well_enough", generous)
    with pytest.raises(AssertionError, match=r"SimCard\.ki read tenant: Casbin False, grants True"):
        assert_conformance(POLICIES, CATALOG, ["auditor", "agent_admin"], ENTERPRISE)


DOMAINS = (PLATFORM, ENTERPRISE, AGENT)
ROLE_NAMES = st.sampled_from(["a", "b", "c"])
DOMAIN_PATTERNS = st.sampled_from(["*", ".0001.*", ".0001.", ".0001.0AB2.*", AGENT])
SMALL_CATALOG = Catalog(
    [
        Coordinate("SimCard", "iccid", Act.READ),
        Coordinate("SimCard", "imsi", Act.READ),
        Coordinate("SimCard", "ki", Act.READ, confidential=True),
        Coordinate("SimCardFilter", "iccid", Act.WRITE),
        Coordinate("Mutation", "activate", Act.CALL),
    ]
)
OBJECTS = st.sampled_from(
    ["*", "SimCard.*", "SimCard.i*", "SimCard.k*", "SimCard.ki", "SimCard.iccid", "Mutation.activate"]
)
ACTS = st.sampled_from([*Act, "*"])
ALLOWS = st.builds(
    PolicyLine, ROLE_NAMES, DOMAIN_PATTERNS, OBJECTS, ACTS, st.sampled_from(Scope), st.just(Effect.ALLOW)
)
DENIES = st.builds(PolicyLine, ROLE_NAMES, DOMAIN_PATTERNS, OBJECTS, ACTS, st.just(Scope.ALL), st.just(Effect.DENY))
POLICY_SETS = st.builds(
    Policies,
    st.lists(ALLOWS | ALLOWS | DENIES, max_size=7).map(tuple),
    st.lists(st.builds(RoleLine, ROLE_NAMES, ROLE_NAMES, DOMAIN_PATTERNS), max_size=4).map(tuple),
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    policies=POLICY_SETS,
    roles=st.sets(ROLE_NAMES, min_size=1, max_size=2),
    domain=st.sampled_from(DOMAINS),
)
def test_grants_equal_enforce_for_any_policies(policies: Policies, roles: set[str], domain: str) -> None:
    subjects = len(roles) + 1
    assert (
        assert_conformance(policies, SMALL_CATALOG, roles, domain)
        == len(SMALL_CATALOG) * (len(Scope) + len(Act)) * subjects
    )


def test_a_wildcard_never_grants_what_is_confidential() -> None:
    assert compiled(
        {"clerk"},
        AGENT,
        "clerk, *, *, *, all, allow",
        "clerk, *, Tenant.*, read, all, allow",
        "clerk, *, EndUser.idNumber*, read, all, allow",
    ).keys() == {coordinate.name for coordinate in CATALOG if not coordinate.confidential}


def test_its_full_name_grants_what_is_confidential_and_a_wildcard_denies_it() -> None:
    named = "clerk, *, SimCard.ki, read, tenant, allow"
    assert compiled({"clerk"}, AGENT, named) == {"SimCard.ki": {"tenant"}}
    assert compiled({"clerk"}, AGENT, named, "clerk, *, SimCard.k*, read, all, deny") == {}


def test_a_deny_wins_over_every_allow_whatever_its_scope_role_and_place() -> None:
    assert compiled(
        {"clerk", "auditor"},
        AGENT,
        "auditor, .0001.0AB2.*, SimCard.iccid, *, all, deny",
        "clerk, *, SimCard.iccid, read, all, allow",
        "clerk, *, SimCard.status, read, self, allow",
    ) == {"SimCard.status": {"self"}}


def test_several_roles_reach_the_rows_of_any_of_them() -> None:
    lines = (
        "clerk, *, SimCard.iccid, read, tenant, allow",
        "leader, *, SimCard.iccid, read, subtree, allow",
        "leader, *, SimCard.iccid, read, self, allow",
    )
    assert compiled({"clerk"}, AGENT, *lines) == {"SimCard.iccid": {"tenant"}}
    assert compiled({"clerk", "leader"}, AGENT, *lines) == {"SimCard.iccid": {"subtree", "self"}}


def test_a_line_holds_in_its_branch_only() -> None:
    line = "clerk, .0001.0AB2.*, SimCard.iccid, read, tenant, allow"
    assert compiled({"clerk"}, ENTERPRISE, line) == {"SimCard.iccid": {"tenant"}}
    assert compiled({"clerk"}, AGENT, line) == {"SimCard.iccid": {"tenant"}}
    assert compiled({"clerk"}, PLATFORM, line) == {}
    assert compiled({"clerk"}, OTHER_ENTERPRISE, line) == {}


def test_inheritance_holds_in_its_branch_only() -> None:
    assert reached(compile_grants(POLICIES, CATALOG, ["shift_leader"], AGENT)) == {
        "SimCard.iccid": {"tenant"},
        "EndUser.id": {"departments:clerk"},
        "EndUser.nickname": {"departments:clerk"},
        "EndUser.idNumber": {"self"},
    }
    assert reached(compile_grants(POLICIES, CATALOG, ["shift_leader"], ENTERPRISE)) == {}


def test_what_a_request_asks() -> None:
    grants = compile_grants(POLICIES, CATALOG, ["clerk"], AGENT)
    assert grants.allows("SimCard", "iccid", Act.READ)
    assert not grants.allows("SimCard", "iccid", Act.WRITE)
    assert not grants.allows("SimCard", "status", Act.READ)
    assert grants.reach_of("EndUser", "idNumber", Act.READ) == frozenset({Scope.SELF})
    assert grants.reach_of("SimCard", "status", Act.READ) is None


def test_the_key_tells_content() -> None:
    one = p("clerk, *, SimCard.*, read, tenant, allow")
    same = [p(f"leader, .0001.*, SimCard.{f}, *, tenant, allow") for f in ("p*", "status", "iccid", "id")]
    wider = p("owner, *, SimCard.*, read, subtree, allow")
    policies = Policies((one, *same, wider), ())
    keys = {role: compile_grants(policies, CATALOG, [role], AGENT).key for role in ("clerk", "leader", "owner")}
    assert keys["clerk"] == keys["leader"]
    assert keys["clerk"] != keys["owner"]
    iccid = Policies((p("clerk, *, SimCard.iccid, read, all, allow"),), ())
    assert compile_grants(iccid, CATALOG, ["clerk"], AGENT).key == (
        "03c6f1f44eaee996ea8b5ec4bea6f72dbffe76a954e35ea04d5b69ecb36125d3"
    )


def test_grants_cannot_be_changed_by_who_holds_them() -> None:
    grants = compile_grants(POLICIES, CATALOG, ["clerk"], AGENT)
    with pytest.raises(TypeError, match="does not support item assignment"):
        grants.reach["Tenant", "secret", Act.READ] = frozenset({Scope.ALL})  # type: ignore[index]


def test_what_is_no_path_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^'0001' is no tenant path$"):
        compile_grants(POLICIES, CATALOG, ["clerk"], "0001")


def test_the_cache_compiles_once_and_shares_equal_grants() -> None:
    cache = GrantsCache(POLICIES, CATALOG)
    first = cache.grants_of(["auditor", "clerk"], PLATFORM)
    assert cache.grants_of(("clerk", "auditor", "clerk"), PLATFORM) is first
    assert cache.grants_of(["auditor", "clerk"], OTHER_ENTERPRISE) is first
    assert cache.grants_of(["auditor", "clerk"], ENTERPRISE) is not first


def test_new_policies_hold_at_once() -> None:
    cache = GrantsCache(POLICIES, CATALOG)
    assert cache.grants_of(["clerk"], AGENT).allows("SimCard", "iccid", Act.READ)
    cache.replace(Policies((p("clerk, *, SimCard.status, read, self, allow"),), ()))
    assert reached(cache.grants_of(["clerk"], AGENT)) == {"SimCard.status": {"self"}}
