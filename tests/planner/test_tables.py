"""Which operations a door takes to be read as tables."""

from __future__ import annotations

import hashlib

import pytest

from planner.errors import GraphRefusal
from planner.operation import DocumentLimits
from planner.tables import Accepts, Tables
from server.app import the_graph

OWN = "query Cards { simCards { nodes { displayIccid } } }"
DIGEST = hashlib.sha256(OWN.encode()).hexdigest()


def tables(*, ad_hoc: bool) -> Tables:
    return Tables(the_graph(), {"door": Accepts(DocumentLimits(), ad_hoc, {DIGEST: OWN})})


@pytest.mark.parametrize("given", [OWN, DIGEST, f"sha256:{DIGEST.upper()}", f" {DIGEST}\n"])
def test_a_closed_door_takes_what_it_ships(given: str) -> None:
    text = tables(ad_hoc=False).text("door", given)
    assert text == OWN
    assert tables(ad_hoc=False).read("door", text, {}).headings == ["displayIccid"]


def test_a_closed_door_takes_no_other_text() -> None:
    other = OWN.replace("displayIccid", "id")
    with pytest.raises(GraphRefusal) as refused:
        tables(ad_hoc=False).text("door", other)
    assert refused.value.code == "FORBIDDEN"
    assert tables(ad_hoc=True).text("door", other) == other


@pytest.mark.parametrize("ad_hoc", [True, False])
def test_a_document_that_is_not_shipped_is_unknown(ad_hoc: bool) -> None:
    with pytest.raises(GraphRefusal) as refused:
        tables(ad_hoc=ad_hoc).text("door", "0" * 64)
    assert refused.value.code == "PERSISTED_QUERY_NOT_FOUND"


def test_columns_that_multiply_are_bounded() -> None:
    """Three times as many at each step; what the types of a row share is one column of all of them."""
    steps = "".join(
        f" fragment F{n} on Tenant {{ a{n}: parent {{ ...F{n + 1} }} b{n}: parent {{ ...F{n + 1} }}"
        f" c{n}: parent {{ ...F{n + 1} }} }}"
        for n in range(8)
    )
    many = f"{{ tenants {{ nodes {{ ...F0 }} }} }}{steps} fragment F8 on Tenant {{ name }}"
    with pytest.raises(GraphRefusal) as refused:
        tables(ad_hoc=True).read("door", many, {})
    assert (refused.value.code, refused.value.text) == ("LIMIT_EXCEEDED", "TOO_MANY_COLUMNS")
    few = "{ tenants { nodes { name parent { name parent { name } } } } }"
    assert tables(ad_hoc=True).read("door", few, {}).headings == ["name", "parent.name", "parent.parent.name"]
