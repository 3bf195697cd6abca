"""The feature table: its pieces on small inputs, and the committed table against the tree as it stands."""

import subprocess
import sys

import pytest

from tests.support.features import (
    ROOT,
    Feature,
    FeatureError,
    graph_places,
    load_features,
    proofs,
    render,
)

pytest_plugins = ["pytester"]

LOGIN = Feature("S0-01", "Back-office login [登录接口]", "S0", "SIM platform")
PROVISIONING = Feature("S0-02", "Single | range provisioning", "S0", "SIM platform")
OPERATOR = Feature("S1-01", "WiFi operator tenant", "S1", "WiFi platform")
FEATURES = {feature.id: feature for feature in (LOGIN, PROVISIONING, OPERATOR)}


def test_features_are_numbered_without_gap_in_every_system() -> None:
    last_numbers = {"S0": 67, "S1": 99, "S2": 29, "S3": 104, "S4": 91}
    expected = [f"{system}-{number:02d}" for system, last in last_numbers.items() for number in range(1, last + 1)]
    assert list(load_features()) == expected


def test_a_feature_carries_its_phrase_and_its_system() -> None:
    assert load_features()["S0-02"] == Feature(
        id="S0-02",
        what="Provision a single SIM card into stock [单张开卡]",
        system="S0",
        system_title="SIM platform",
    )


def test_every_described_coordinate_is_a_place() -> None:
    sdl = '''
    "The schema's description carries no coordinate (S0-99)."
    schema { query: Query }

    "Confidential (S0-44)."
    directive @confidential("Who may see it (S0-18)." to: String) on FIELD_DEFINITION

    type Query {
      "One card (S0-09)."
      simCard("Customers pass the display ICCID (S0-44)." displayIccid: String): SimCard
    }

    """
    A SIM in stock or in service
    (S0-43, S0-44).
    """
    type SimCard implements Node {
      "Internal (S0-44)."
      iccid: String
      status: String
    }

    "Anything with an id (S4-12)."
    interface Node { "Opaque (S4-13)." iccid: String }

    "S0-04"
    enum SimType { "Industrial (S0-43)." M2M CONSUMER }

    "S0-02"
    input CreateSimCardInput { "S0-44" iccid: String! }

    "Card of either kind (S4-12)."
    union Card = SimCard

    "Bytes (S0-42)."
    scalar DataVolume
    '''
    assert graph_places(sdl) == {
        "S0-02": ["CreateSimCardInput"],
        "S0-04": ["SimType"],
        "S0-09": ["Query.simCard"],
        "S0-18": ["@confidential(to:)"],
        "S0-42": ["DataVolume"],
        "S0-43": ["SimCard", "SimType.M2M"],
        "S0-44": [
            "Query.simCard(displayIccid:)",
            "@confidential",
            "CreateSimCardInput.iccid",
            "SimCard",
            "SimCard.iccid",
        ],
        "S4-12": ["Card", "Node"],
        "S4-13": ["Node.iccid"],
    }


def test_a_range_names_every_id_between_its_ends() -> None:
    sdl = '''
    type Mutation {
      """
      Provisions cards (S0-09, S0-02 to
      S0-04; S3-99 to S3-101).
      """
      createSimCards: Int
    }
    '''
    place = ["Mutation.createSimCards"]
    assert graph_places(sdl) == {
        "S0-02": place,
        "S0-03": place,
        "S0-04": place,
        "S0-09": place,
        "S3-100": place,
        "S3-101": place,
        "S3-99": place,
    }


@pytest.mark.parametrize("named", ["S0-06 to S0-02", "S0-66 to S1-02"])
def test_a_range_must_ascend_within_one_system(named: str) -> None:
    with pytest.raises(FeatureError) as refusal:
        graph_places(f'"Cards ({named})." type SimCard {{ iccid: String }}')
    assert str(refusal.value) == f"SimCard names the range {named}, which is not ascending in one system"


def test_an_empty_sdl_has_no_places() -> None:
    assert graph_places("") == {}


def test_proofs_are_node_ids_without_parameters(pytester: pytest.Pytester) -> None:
    pytester.makeini(
        """
        [pytest]
        asyncio_default_fixture_loop_scope = function
        markers = feature(*ids): the features that a test proves
        """
    )
    pytester.makepyfile(
        test_rebate="""
        import pytest

        pytestmark = pytest.mark.feature("S0-46")

        @pytest.mark.feature("S0-22")
        @pytest.mark.parametrize("rate", ["[0]", "a::b"])
        def test_rate(rate): ...

        def test_cap(): ...

        class TestEarning:
            @pytest.mark.feature("S0-48", "S0-49")
            def test_settled(self): ...
        """,
        test_login="""
        import pytest

        @pytest.mark.feature("S0-22")
        def test_agent(): ...

        @pytest.mark.feature("S0-19")
        @pytest.mark.skip
        def test_skipped(): ...

        @pytest.mark.feature("S0-20")
        @pytest.mark.xfail
        def test_expected_to_fail(): ...

        def test_unmarked(): ...
        """,
    )
    items, _ = pytester.inline_genitems()
    assert proofs(items) == {
        "S0-22": ["test_login.py::test_agent", "test_rebate.py::test_rate"],
        "S0-46": [
            "test_rebate.py::TestEarning::test_settled",
            "test_rebate.py::test_cap",
            "test_rebate.py::test_rate",
        ],
        "S0-48": ["test_rebate.py::TestEarning::test_settled"],
        "S0-49": ["test_rebate.py::TestEarning::test_settled"],
    }


def test_the_table_counts_and_lists_by_system() -> None:
    table = render(
        FEATURES,
        places={"S0-02": ["Mutation.createSimCard", "A.a", "B.b", "C.c", "D.d", "E.e"], "S1-01": ["Tenant"]},
        proofs={"S0-01": ["tests/features/test_login.py::test_roles"]},
    )
    assert table == (
        "# Features\n"
        "\n"
        "Generated by `python -m tests.support.features` from `docs/features.toml`, the descriptions in "
        "`schema/schema.graphql`\n"
        "and the tests marked with `@pytest.mark.feature`. Edit those, not this file.\n"
        "\n"
        "| system | features | proved | in the graph |\n"
        "| --- | --- | --- | --- |\n"
        "| S0 SIM platform | 2 | 1 | 1 |\n"
        "| S1 WiFi platform | 1 | 0 | 1 |\n"
        "| all | 3 | 1 | 2 |\n"
        "\n"
        "## S0 SIM platform\n"
        "\n"
        "| id | what | where in the graph | proved by |\n"
        "| --- | --- | --- | --- |\n"
        "| S0-01 | Back-office login [登录接口] | | `tests/features/test_login.py::test_roles` |\n"
        "| S0-02 | Single \\| range provisioning | `Mutation.createSimCard`, `A.a`, `B.b`, `C.c` … (+2) | |\n"
        "\n"
        "## S1 WiFi platform\n"
        "\n"
        "| id | what | where in the graph | proved by |\n"
        "| --- | --- | --- | --- |\n"
        "| S1-01 | WiFi operator tenant | `Tenant` | |\n"
    )


def test_an_unknown_id_in_the_graph_is_refused_with_its_place() -> None:
    places = graph_places('type Query { "S0-2, S0-02 to S0-03" simCard: Int }')
    with pytest.raises(FeatureError) as refusal:
        render(FEATURES, places, proofs={})
    assert str(refusal.value) == (
        "no such feature in docs/features.toml: Query.simCard names S0-03; Query.simCard names S0-2"
    )


def test_an_unknown_id_in_a_mark_is_refused_with_its_test() -> None:
    with pytest.raises(FeatureError) as refusal:
        render(FEATURES, places={}, proofs={"S5-01": ["tests/test_login.py::test_roles"]})
    assert str(refusal.value) == ("no such feature in docs/features.toml: tests/test_login.py::test_roles names S5-01")


def test_the_committed_table_is_up_to_date() -> None:
    """In a process of its own, so that it sees every test however few of them this run selected."""
    check = subprocess.run(
        [sys.executable, "-m", "tests.support.features", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert check.returncode == 0, check.stderr
